//! What makes a task the same task across edits of its file.

use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::core::digest::hex;
use crate::model::request::Submission;
use crate::model::task::{Assignee, NoChange, RepositoryChoice, TaskSpec, Work};

/// How many hexadecimal digits a fingerprint has.
const DIGITS: usize = 32;

/// What is executed. When and how often (needs, priority, retry, every, sla, pools, touches), how it is watched (stall) and what its failure means is not part of it: such an edit must not undo work.
#[derive(Serialize)]
struct Executed<'t> {
    version: u32,
    work: &'t Work,
    checks: &'t [String],
    no_change: NoChange,
    assignee: &'t Assignee,
    repository: &'t RepositoryChoice,
    timeout_ms: Option<u128>,
}

/// Returns a hash of what a task executes.
#[must_use]
pub fn fingerprint(spec: &TaskSpec) -> String {
    let executed = Executed {
        version: 1,
        work: &spec.work,
        checks: &spec.checks,
        no_change: spec.no_change,
        assignee: &spec.assignee,
        repository: &spec.repository,
        timeout_ms: spec.timeout.map(|timeout| timeout.as_millis()),
    };
    let bytes = serde_json::to_vec(&executed).expect("strings, numbers and enums without data always become JSON");
    hex(&Sha256::digest(bytes)[..DIGITS / 2])
}

/// Returns a hash of everything that a submitted order says but its key: by it the same order is told from another one.
#[must_use]
pub fn submission_print(submission: &Submission) -> String {
    let said = Submission { key: None, ..submission.clone() };
    let bytes = serde_json::to_vec(&said).expect("strings, numbers and enums without data always become JSON");
    hex(&Sha256::digest(bytes)[..DIGITS / 2])
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::model::id::{AgentId, RepositoryName, Role, TaskId};
    use crate::model::task::{Every, Missed, OnFailure, Priority};
    use crate::model::touch::Touch;

    fn spec() -> TaskSpec {
        let role = Assignee::Role(Role::new("codegen").unwrap());
        TaskSpec {
            checks: vec!["make test".to_owned()],
            ..TaskSpec::plain(role, Work::Run("make".to_owned()), RepositoryChoice::None)
        }
    }

    #[test]
    fn the_fingerprint_never_changes_between_versions() {
        // Finished tasks of older journals are recognised by it.
        assert_eq!(fingerprint(&spec()), "636585d415eb03a189128b37658e6510");
    }

    #[test]
    fn an_edit_of_when_a_task_runs_keeps_it_the_same_task() {
        let mut other = spec();
        other.needs = vec![TaskId::new("a/b").unwrap()];
        other.priority = Priority::try_from(1).unwrap();
        other.retry.limit = 9;
        other.every = Some(Every { cron: "0 3 * * *".to_owned(), zone: "UTC".to_owned(), missed: Missed::Once });
        other.stall = Some(Duration::from_secs(1));
        other.sla = Some(Duration::from_secs(1));
        other.pools = vec!["anthropic".parse().unwrap()];
        other.touches = vec![Touch::new("src").unwrap()];
        other.on_failure = OnFailure::Pause;
        assert_eq!(fingerprint(&other), fingerprint(&spec()));
    }

    #[test]
    fn an_edit_of_what_a_task_does_makes_it_another_task() {
        type Edit = fn(&mut TaskSpec);
        let edits: [Edit; 7] = [
            |spec| spec.work = Work::Run("make all".to_owned()),
            |spec| spec.work = Work::Prompt("make".to_owned()),
            |spec| spec.checks.clear(),
            |spec| spec.no_change = NoChange::Ok,
            |spec| spec.assignee = Assignee::Agent(AgentId::new("codegen").unwrap()),
            |spec| spec.repository = RepositoryChoice::Named(RepositoryName::new("app").unwrap()),
            |spec| spec.timeout = Some(Duration::from_secs(1)),
        ];
        for (number, edit) in edits.into_iter().enumerate() {
            let mut other = spec();
            edit(&mut other);
            assert_ne!(fingerprint(&other), fingerprint(&spec()), "edit {number}");
        }
    }
}
