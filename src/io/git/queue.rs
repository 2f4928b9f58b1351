//! One step of the merge queue: a finished commit goes onto the newest commit of its target branch, and is merged if it was
//! checked just there.
//!
//! With a remote, the remote branch is the truth: it is fetched first, pushed to by compare-and-swap, and looked at afterwards,
//! all through the supervisor's own clone. The local branch follows. Whatever is interrupted, the step can be repeated: what
//! is on the target branch is found there by its trailer.

use std::path::{Path, PathBuf};

use super::GitError;
use super::branch::{find_attempt, tip};
use super::call::Git;
use super::merge::{Advance, MergeRequest, MergeResult, Replay, advance, full_id, only_parent, replay};
use super::publish::{self, CaughtUp, Remote};

/// How often a step begins anew because somebody else moved the branch.
const TRIES_MAX: u32 = 8;

/// Where replayed commits are kept until they are merged.
const KEPT: &str = "refs/miyabi/queue/";

/// What a step of the queue is about.
#[derive(Debug, Clone)]
pub struct StepRequest {
    /// The commit and where it belongs.
    pub merge: MergeRequest,
    /// What is merged without being checked again.
    pub proven: Proven,
    /// A name of its own for what the commit becomes, the same for each step of one run.
    pub name: String,
    /// The remote repository whose branch is the truth, and the supervisor's own clone for it; absent: the local branch is.
    pub remote: Option<(PathBuf, Remote)>,
}

/// What is merged without being checked again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Proven {
    /// Whatever fits: nothing would be checked.
    Anything,
    /// The commit as it was made.
    Commit,
    /// That, or the commit that it has become on another one.
    Rebased {
        /// The commit that it has become.
        commit: String,
        /// The commit below it.
        onto: String,
    },
}

/// What became of a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StepResult {
    /// As with any merge.
    Merge(MergeResult),
    /// The branch has moved; this is what the commit has become on its newest one, and nothing was merged.
    Rebased {
        /// The commit that it has become.
        commit: String,
        /// The newest commit of the target branch.
        onto: String,
    },
}

/// Makes a step. Safe to repeat at any time, also after a crash in its middle.
///
/// # Errors
/// Those of git and of the file system.
pub async fn step(request: StepRequest) -> Result<StepResult, GitError> {
    let result = try_step(&request).await?;
    if let StepResult::Merge(MergeResult::Merged { .. } | MergeResult::Already { .. }) = &result {
        let git = Git::at(&request.merge.repository);
        git.call(["update-ref", "-d", &request.kept()]).text().await?;
    }
    Ok(result)
}

async fn try_step(request: &StepRequest) -> Result<StepResult, GitError> {
    let merge = &request.merge;
    let git = Git::at(&merge.repository);
    let Some(commit) = full_id(&git, &merge.commit).await? else {
        return Ok(StepResult::Merge(MergeResult::Gone { detail: merge.commit.clone() }));
    };
    let parent = only_parent(&git, &commit).await?;
    for _ in 0..TRIES_MAX {
        let newest = match newest(request, &git).await? {
            Newest::Commit(newest) => newest,
            Newest::Parked(reason) => return Ok(StepResult::Merge(MergeResult::Parked { reason })),
        };
        if let Some(commit) = find_attempt(&git, &merge.base, &newest, &merge.trailer).await? {
            return Ok(StepResult::Merge(MergeResult::Already { commit }));
        }
        let next = match &request.proven {
            Proven::Rebased { commit, onto } if *onto == newest => Some(commit.clone()),
            Proven::Anything | Proven::Commit | Proven::Rebased { .. } => (parent == newest).then(|| commit.clone()),
        };
        let next = match next {
            Some(next) => next,
            None => match replay(&git, &commit, &parent, &newest).await? {
                Replay::Commit(next) => {
                    keep(&git, &request.kept(), &next).await?;
                    if request.proven != Proven::Anything {
                        return Ok(StepResult::Rebased { commit: next, onto: newest });
                    }
                    next
                }
                Replay::Nothing => return Ok(StepResult::Merge(MergeResult::Already { commit: newest })),
                Replay::Conflict { paths, detail } => {
                    return Ok(StepResult::Merge(MergeResult::Conflict { paths, detail }));
                }
            },
        };
        if let Some(result) = land(request, &git, (&newest, &next)).await? {
            return Ok(StepResult::Merge(result));
        }
    }
    let reason = format!("branch `{}` kept moving", merge.target);
    Ok(StepResult::Merge(MergeResult::Parked { reason }))
}

impl StepRequest {
    fn kept(&self) -> String {
        format!("{KEPT}{}", self.name)
    }
}

/// Keeps a commit that is on no branch from being swept away.
async fn keep(git: &Git, reference: &str, commit: &str) -> Result<(), GitError> {
    git.call(["update-ref", reference, commit]).text().await?;
    Ok(())
}

/// What the target branch ends with.
enum Newest {
    Commit(String),
    Parked(String),
}

/// Finds the newest commit of the target branch, where the truth is; the local branch then has it too, and nothing more.
async fn newest(request: &StepRequest, git: &Git) -> Result<Newest, GitError> {
    let merge = &request.merge;
    let Some((clone, remote)) = &request.remote else {
        let absent = || Newest::Parked(format!("branch `{}` does not exist", merge.target));
        return Ok(tip(git, &merge.target).await?.map_or_else(absent, Newest::Commit));
    };
    let newest = publish::remote_tip(clone, remote, &merge.target).await?;
    match publish::follow(clone, remote, &merge.repository, (&merge.target, &newest)).await? {
        CaughtUp::Yes { commit } if commit == newest => Ok(Newest::Commit(newest)),
        CaughtUp::Yes { .. } => Ok(Newest::Parked(ahead(&merge.repository, &merge.target, remote))),
        CaughtUp::Parked { reason } => Ok(Newest::Parked(reason)),
    }
}

fn ahead(repository: &Path, target: &str, remote: &Remote) -> String {
    format!(
        "branch `{target}` of {} has commits that {} lacks; push them or take them back",
        repository.display(),
        remote.address
    )
}

/// Lets the target branch go on to its next commit; nothing if somebody else was quicker.
async fn land(request: &StepRequest, git: &Git, (newest, next): (&str, &str)) -> Result<Option<MergeResult>, GitError> {
    let merge = &request.merge;
    let Some((clone, remote)) = &request.remote else {
        return Ok(match advance(git, &merge.target, (newest, next), &merge.trailer).await? {
            Advance::Done => Some(MergeResult::Merged { commit: next.to_owned() }),
            Advance::Parked(reason) => Some(MergeResult::Parked { reason }),
            Advance::Overtaken => None,
        });
    };
    // The clone fetches it from here by name.
    keep(git, &request.kept(), next).await?;
    let source = (merge.repository.as_path(), &*request.kept());
    let pushed = publish::push_on(clone, remote, source, (&merge.target, newest, next)).await;
    let held = publish::remote_tip(clone, remote, &merge.target).await?;
    if held == newest {
        // It was refused, or was said to be done and was not.
        let reason = format!("{} does not hold the commit after it was pushed", remote.address);
        return pushed.map(|()| Some(MergeResult::Parked { reason }));
    }
    let bare = Git::at(clone);
    if !publish::is_within(&bare, next, &held).await? {
        return Ok(None);
    }
    Ok(match publish::follow(clone, remote, &merge.repository, (&merge.target, &held)).await? {
        CaughtUp::Yes { .. } => Some(MergeResult::Merged { commit: next.to_owned() }),
        CaughtUp::Parked { reason } => Some(MergeResult::Parked { reason }),
    })
}
