//! Carrying out merges: local ones, and the steps of a merge queue.

use std::path::PathBuf;

use crate::core::effect::{Merge, Terms};
use crate::core::event::MergeResult;
use crate::core::state::Rebased;
use crate::io::git::GitError;
use crate::io::git::merge::{self, MergeRequest};
use crate::io::git::publish::Remote;
use crate::io::git::queue::{self, Proven, StepRequest, StepResult};
use crate::model::fault::with_causes;
use crate::model::plan::{MergeMode, RepositorySpec};

use super::github::Way;

/// Carries out a merge; `way` leads to where the truth is, if that is not here.
pub(super) async fn merge(repository: &RepositorySpec, way: Option<(PathBuf, Way)>, merge: Merge) -> MergeResult {
    let remote = match &way {
        Some((clone, way)) => match way.remote().await {
            Ok(remote) => Some((clone.clone(), remote)),
            Err(trouble) => return MergeResult::NotNow { reason: trouble.to_string() },
        },
        None => None,
    };
    match carry_out(repository, remote.clone(), merge).await {
        Ok(StepResult::Merge(result)) => told(result),
        Ok(StepResult::Rebased { commit, onto }) => MergeResult::Rebased(Rebased { commit, onto }),
        Err(error) => MergeResult::NotNow {
            reason: match (&way, &remote) {
                (Some((_, way)), Some((_, remote))) => way.failed(remote, &error).await,
                (Some(_) | None, _) => with_causes(&error),
            },
        },
    }
}

async fn carry_out(
    repository: &RepositorySpec,
    remote: Option<(PathBuf, Remote)>,
    merge: Merge,
) -> Result<StepResult, GitError> {
    let name = merge.run.to_string();
    let request = MergeRequest {
        repository: repository.path.clone(),
        target: merge.target,
        commit: merge.commit,
        base: merge.base,
        trailer: merge.trailer,
    };
    let proven = match (repository.merge, merge.terms) {
        (MergeMode::Queue, Terms::Fits) => Proven::Anything,
        (_, Terms::Proven { rebased: None }) => Proven::Commit,
        (_, Terms::Proven { rebased: Some(Rebased { commit, onto }) }) => Proven::Rebased { commit, onto },
        (MergeMode::Local | MergeMode::PullRequest | MergeMode::None, Terms::Fits) => {
            return merge::merge(request).await.map(StepResult::Merge);
        }
    };
    queue::step(StepRequest { merge: request, proven, name, remote }).await
}

fn told(result: merge::MergeResult) -> MergeResult {
    match result {
        merge::MergeResult::Merged { commit } | merge::MergeResult::Already { commit } => {
            MergeResult::Merged { commit }
        }
        merge::MergeResult::Conflict { paths, detail } => {
            MergeResult::Conflict { detail: format!("{}\n{detail}", paths.join(", ")) }
        }
        merge::MergeResult::Gone { detail } => MergeResult::Gone { detail },
        merge::MergeResult::Parked { reason } => MergeResult::NotNow { reason },
    }
}
