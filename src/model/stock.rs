//! What attempts have on the disk beside the work itself: how much their worktrees take, and the logs that they have written.

use super::id::RunId;
use super::size::Size;
use super::time::Timestamp;

/// What one look at the disk has found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stock {
    /// How much all worktrees and scratch folders take, those at work and those that could not be cleared away.
    pub worktrees: Size,
    /// The logs of attempts, those first that nobody has written to for longest.
    pub logs: Vec<AttemptLog>,
}

/// The log of one attempt.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct AttemptLog {
    /// When somebody wrote to it last.
    pub written: Timestamp,
    /// The run of the attempt.
    pub run: RunId,
    /// The folder of the agent, below `logs/`.
    pub agent: String,
    /// The name of the file in it.
    pub file: String,
}

/// Returns the run that the name of an attempt's log tells: it stands between the task and the stage.
#[must_use]
pub fn run_of_log(file: &str) -> Option<RunId> {
    let mut parts = file.strip_suffix(".log")?.rsplit('-');
    let is_attempt = parts.next()?.bytes().all(|byte| byte.is_ascii_digit());
    let _stage = parts.next()?;
    parts.next()?.parse().ok().filter(|_| is_attempt)
}

/// A branch on which an attempt has left its commit, or what a merge queue has made of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttemptBranch {
    /// The whole name of the reference.
    pub name: String,
    /// The run of the attempt.
    pub run: RunId,
    /// The newest commit.
    pub commit: String,
    /// When that was made.
    pub committed: Timestamp,
}

/// Returns the run that the name of an attempt's branch tells, or of what a merge queue has made of its commit.
#[must_use]
pub fn run_of_branch(name: &str) -> Option<RunId> {
    if let Some(run) = name.strip_prefix("refs/miyabi/queue/") {
        return run.parse().ok();
    }
    let mut parts = name.strip_prefix("refs/heads/miyabi/")?.rsplit('/');
    let (last, before) = (parts.next()?, parts.next()?);
    // What was saved of an attempt whose order was lost is named after its folder.
    if before == "left" { last.split('-').next()?.parse().ok() } else { before.parse().ok() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_branch_tells_its_run_and_those_of_people_tell_none() {
        let run = "01KAPZ3XZ00000000000000001";
        for name in [
            format!("refs/heads/miyabi/plan/a/{run}/code-1"),
            format!("refs/heads/miyabi/01KAPZ3XZ00000000000000002/{run}/code-1-saved-1"),
            format!("refs/heads/miyabi/left/{run}-code-1"),
            format!("refs/miyabi/queue/{run}"),
        ] {
            assert_eq!(run_of_branch(&name), Some(run.parse().unwrap()), "{name}");
        }
        for name in ["refs/heads/main", "refs/heads/miyabi/mine", "refs/heads/miyabi/a/b/c", "refs/miyabi/queue/x"] {
            assert_eq!(run_of_branch(name), None, "{name}");
        }
        assert_eq!(run_of_branch(&format!("refs/heads/topic/{run}/code-1")), None);
    }

    #[test]
    fn a_log_tells_its_run_and_whatever_else_lies_there_is_none() {
        let run = "01KAPZ3XZ00000000000000001";
        assert_eq!(run_of_log(&format!("plan_a-b-{run}-code-12.log")), Some(run.parse().unwrap()));
        for other in [
            "notes.log".to_owned(),
            format!("plan_a-{run}-code-12.txt"),
            format!("plan_a-{run}-code.log"),
            format!("plan_a-{run}-code-x.log"),
            format!("plan_a-{}-code-1.log", &run[1..]),
        ] {
            assert_eq!(run_of_log(&other), None, "{other}");
        }
    }
}
