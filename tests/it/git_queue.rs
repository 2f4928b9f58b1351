//! Steps of the merge queue: only what was proven is merged, and the remote branch is looked at, not believed.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use miyabi::io::git::merge::{MergeRequest, MergeResult};
use miyabi::io::git::publish::Remote;
use miyabi::io::git::queue::{Proven, StepRequest, StepResult, step};

use crate::repository::{Repository, git, try_git, write};

/// Makes an attempt's commit on a branch of its own, and asks for its step.
fn finished(repository: &Repository, name: &str, remote: Option<(PathBuf, Remote)>) -> StepRequest {
    let base = repository.head();
    repository.git(["checkout", "-q", "-b", name]);
    repository.write(name, "work\n");
    let message = format!("add {name}\n\nMiyabi-Attempt: {name}/code/1");
    repository.commit(&message);
    let commit = repository.git(["rev-parse", name]);
    repository.git(["checkout", "-q", "main"]);
    let trailer = format!("{name}/code/1");
    let merge = MergeRequest { repository: repository.path(), target: "main".to_owned(), commit, base, trailer };
    StepRequest { merge, proven: Proven::Commit, name: name.to_owned(), remote }
}

fn merged(result: &StepResult) -> &str {
    match result {
        StepResult::Merge(MergeResult::Merged { commit }) => commit,
        StepResult::Merge(_) | StepResult::Rebased { .. } => panic!("not merged: {result:?}"),
    }
}

fn parked(result: &StepResult) -> &str {
    match result {
        StepResult::Merge(MergeResult::Parked { reason }) => reason,
        StepResult::Merge(_) | StepResult::Rebased { .. } => panic!("not parked: {result:?}"),
    }
}

fn rebased(result: StepResult) -> Proven {
    match result {
        StepResult::Rebased { commit, onto } => Proven::Rebased { commit, onto },
        StepResult::Merge(_) => panic!("not rebased: {result:?}"),
    }
}

/// A bare repository that stands for the remote one, and the supervisor's clone of it.
fn remote(repository: &Repository) -> (PathBuf, Remote) {
    let bare = repository.beside("remote.git");
    git(&repository.path(), ["clone", "-q", "--bare", ".", bare.to_str().unwrap()]);
    (repository.beside("publisher"), Remote { address: bare.display().to_string(), token: None })
}

/// Somebody else pushes a file.
fn push(repository: &Repository, name: &str) -> String {
    let other = repository.beside(&format!("other-{name}"));
    let bare = repository.beside("remote.git");
    git(&repository.path(), ["clone", "-q", bare.to_str().unwrap(), other.to_str().unwrap()]);
    write(&other.join(name), "theirs\n");
    git(&other, ["add", "."]);
    git(&other, ["-c", "user.name=Else", "-c", "user.email=else@example.invalid", "commit", "-qm", name]);
    git(&other, ["push", "-q"]);
    git(&other, ["rev-parse", "HEAD"])
}

fn remote_head(repository: &Repository) -> String {
    git(&repository.beside("remote.git"), ["rev-parse", "main"])
}

fn hook(repository: &Repository, name: &str, script: &str) {
    let path = repository.beside("remote.git").join("hooks").join(name);
    write(&path, script);
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

#[tokio::test]
async fn what_was_checked_on_the_newest_commit_is_merged_at_once_and_everything_else_only_after_it_was_checked_there() {
    let repository = Repository::new();
    let (first, mut second) = (finished(&repository, "one", None), finished(&repository, "two", None));
    assert_eq!(merged(&step(first.clone()).await.unwrap()), first.merge.commit);
    let head = repository.head();

    second.proven = rebased(step(second.clone()).await.unwrap());
    assert_eq!(repository.head(), head, "nothing is merged unchecked");
    let Proven::Rebased { commit, onto } = &second.proven else { unreachable!() };
    assert_eq!(*onto, head);
    assert_eq!(repository.git(["rev-parse", &format!("{commit}^")]), head);
    repository.git(["gc", "--quiet", "--prune=now"]);
    assert_eq!(repository.git(["rev-parse", "refs/miyabi/queue/two"]), *commit, "it outlives a sweep");

    assert_eq!(merged(&step(second.clone()).await.unwrap()), commit);
    assert_eq!(repository.head(), *commit);
    assert!(!try_git(&repository.path(), ["rev-parse", "-q", "--verify", "refs/miyabi/queue/two"]).status.success());
    let again = step(second.clone()).await.unwrap();
    assert_eq!(again, StepResult::Merge(MergeResult::Already { commit: commit.clone() }), "asking twice merges once");
    repository.assert_clean();
}

#[tokio::test]
async fn a_branch_that_moved_while_the_commit_was_checked_is_checked_again() {
    let repository = Repository::new();
    let mut work = finished(&repository, "one", None);
    repository.write("more", "x\n");
    repository.commit("more");
    work.proven = rebased(step(work.clone()).await.unwrap());
    repository.write("most", "x\n");
    repository.commit("most");
    let head = repository.head();
    work.proven = rebased(step(work.clone()).await.unwrap());
    assert_eq!(repository.head(), head);
    merged(&step(work).await.unwrap());
    assert_eq!(repository.subjects()[..3], ["add one", "most", "more"]);
}

#[tokio::test]
async fn where_nothing_is_checked_it_only_has_to_fit_and_a_commit_that_is_gone_is_told() {
    let repository = Repository::new();
    let (first, mut second) = (finished(&repository, "one", None), finished(&repository, "two", None));
    step(first).await.unwrap();
    second.proven = Proven::Anything;
    merged(&step(second.clone()).await.unwrap());
    assert_eq!(repository.subjects()[..2], ["add two", "add one"]);
    second.merge.commit = "0123456789012345678901234567890123456789".to_owned();
    let result = step(second).await.unwrap();
    assert!(matches!(result, StepResult::Merge(MergeResult::Gone { .. })), "{result:?}");
}

#[tokio::test]
async fn the_remote_branch_is_the_truth_and_the_local_one_follows() {
    let repository = Repository::new();
    let remote = remote(&repository);
    let mut work = finished(&repository, "one", Some(remote));
    let theirs = push(&repository, "theirs");
    work.proven = rebased(step(work.clone()).await.unwrap());
    assert_eq!(repository.head(), theirs, "the local branch has what the remote one has");
    assert_eq!(remote_head(&repository), theirs);
    let result = step(work.clone()).await.unwrap();
    assert_eq!(remote_head(&repository), merged(&result));
    assert_eq!(repository.head(), merged(&result));
    assert_eq!(repository.read("one"), "work\n");
    let again = step(work).await.unwrap();
    assert!(matches!(again, StepResult::Merge(MergeResult::Already { .. })), "{again:?}");
}

#[tokio::test]
async fn a_push_that_is_refused_or_said_to_be_done_and_was_not_is_no_merge() {
    let repository = Repository::new();
    let remote = remote(&repository);
    let work = finished(&repository, "one", Some(remote));
    let before = remote_head(&repository);
    hook(&repository, "pre-receive", "#!/bin/sh\necho not today >&2; exit 1\n");
    let refused = step(work.clone()).await.unwrap_err();
    assert!(refused.to_string().contains("push") || format!("{refused:?}").contains("not today"), "{refused:?}");
    assert_eq!(repository.head(), before);

    hook(&repository, "pre-receive", "#!/bin/sh\nexit 0\n");
    hook(&repository, "post-receive", &format!("#!/bin/sh\ngit update-ref refs/heads/main {before}\n"));
    let result = step(work.clone()).await.unwrap();
    assert!(parked(&result).contains("does not hold the commit"), "{result:?}");
    assert_eq!(repository.head(), before, "nobody begins on what is not there");

    hook(&repository, "post-receive", "#!/bin/sh\n");
    merged(&step(work).await.unwrap());
}

#[tokio::test]
async fn a_push_that_comes_too_late_begins_anew_and_own_commits_that_the_remote_lacks_stop_it() {
    let repository = Repository::new();
    let remote = remote(&repository);
    let work = finished(&repository, "one", Some(remote));
    let theirs = push(&repository, "theirs");
    // The first push finds that somebody was quicker, as if it had happened between the look and the push.
    let (bare, once) = (repository.beside("remote.git"), repository.beside("once"));
    git(&bare, ["update-ref", "refs/heads/main", &work.merge.base]);
    let script = format!(
        "#!/bin/sh\ntest -e '{0}' && exit 0\ntouch '{0}'\nunset GIT_QUARANTINE_PATH\ngit update-ref refs/heads/main {theirs}\n",
        once.display()
    );
    hook(&repository, "pre-receive", &script);
    let result = step(work.clone()).await.unwrap();
    assert!(matches!(&result, StepResult::Rebased { onto, .. } if *onto == theirs), "{result:?}");
    assert_eq!(remote_head(&repository), theirs, "nobody's commit is overwritten");

    repository.write("mine", "x\n");
    repository.commit("mine");
    let result = step(work).await.unwrap();
    assert!(parked(&result).contains("has commits that"), "{result:?}");
    assert_eq!(remote_head(&repository), theirs);
}
