//! Worktrees, commits and branches of attempts on real repositories.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use miyabi::io::git::branch::{Deletion, current_branch, delete_if_elsewhere, of_attempts};
use miyabi::io::git::commit::{CommitRequest, SALVAGE_TRAILER, commit_all, diff, find_commit, message, save};
use miyabi::io::git::worktree::{Removal, prepare, prepare_detached, remove, remove_scratch};
use miyabi::io::git::{Author, GitError};
use miyabi::io::process;
use miyabi::model::order::ATTEMPT_TRAILER;
use rustix::process::Signal;

use crate::repository::{Repository, git, write};

const KEY: &str = "01KAPZ3XZ00000000000000001/code/1";

fn kaede() -> Author {
    Author { name: "カエデ".to_owned(), email: "kaede@miyabi.invalid".to_owned() }
}

struct Attempt {
    repository: Repository,
    path: PathBuf,
    base: String,
}

impl Attempt {
    async fn new() -> Self {
        let repository = Repository::new();
        let path = repository.beside("worktrees/work");
        let base = prepare(&repository.path(), "main", "miyabi/work", &path).await.unwrap();
        Self { repository, path, base }
    }

    fn write(&self, name: &str, text: &str) {
        write(&self.path.join(name), text);
    }

    fn git<const N: usize>(&self, args: [&str; N]) -> String {
        git(&self.path, args)
    }

    async fn commit(&self, litter: &[&str]) -> Result<Option<String>, GitError> {
        let request = CommitRequest {
            repository: &self.repository.path(),
            worktree: &self.path,
            branch: "miyabi/work",
            base: &self.base,
            message: &message("add: work", "task", (ATTEMPT_TRAILER, KEY)),
            author: &kaede(),
            litter,
        };
        commit_all(&request).await
    }

    async fn remove(&self) -> Removal {
        remove(&self.repository.path(), &self.path, &[]).await.unwrap()
    }

    fn files_at(&self, commit: &str) -> Vec<String> {
        self.git(["ls-tree", "-r", "--name-only", commit]).lines().map(str::to_owned).collect()
    }
}

fn kept(removal: &Removal) -> &str {
    match removal {
        Removal::Kept { reason } => reason,
        Removal::Removed => panic!("it was removed"),
    }
}

#[tokio::test]
async fn everything_the_agent_did_becomes_one_commit_of_the_agent() {
    let attempt = Attempt::new().await;
    attempt.write("committed", "1\n");
    attempt.git(["add", "--all"]);
    attempt.git(["commit", "-q", "-m", "the agent's own"]);
    attempt.write("staged", "2\n");
    attempt.git(["add", "staged"]);
    attempt.write("untracked", "3\n");
    attempt.write("ignored.o", "4\n");
    fs::remove_file(attempt.path.join("README")).unwrap();

    let commit = attempt.commit(&[]).await.unwrap().unwrap();
    assert_eq!(attempt.files_at(&commit), [".gitignore", "committed", "staged", "untracked"]);
    assert_eq!(
        attempt.git(["log", "-1", "--format=%P|%an|%ae|%s", &commit]),
        format!("{}|カエデ|kaede@miyabi.invalid|add: work", attempt.base)
    );
    assert_eq!(attempt.git(["symbolic-ref", "--short", "HEAD"]), "miyabi/work");
    assert_eq!(attempt.git(["status", "--porcelain"]), "");
    let found = find_commit(&attempt.repository.path(), "miyabi/work").await.unwrap().unwrap();
    assert_eq!((found.id, found.base, found.attempt), (commit.clone(), attempt.base.clone(), KEY.to_owned()));
    let changes = diff(&attempt.repository.path(), &attempt.base, &commit, 10_000).await.unwrap();
    assert!(changes.contains("+3") && changes.contains("-one"), "{changes}");
    assert_eq!(attempt.remove().await, Removal::Removed);
    assert!(!attempt.path.exists());
}

#[tokio::test]
async fn nothing_done_is_no_commit() {
    let attempt = Attempt::new().await;
    assert_eq!(attempt.commit(&[]).await.unwrap(), None);
    attempt.write("README", "changed\n");
    attempt.git(["commit", "-q", "-a", "-m", "there"]);
    attempt.git(["revert", "--no-edit", "HEAD"]);
    assert_eq!(attempt.commit(&[]).await.unwrap(), None, "there and back again");
}

#[tokio::test]
async fn work_on_another_branch_or_on_none_arrives_all_the_same() {
    for detach in [false, true] {
        let attempt = Attempt::new().await;
        if detach {
            attempt.git(["checkout", "-q", "--detach"]);
        } else {
            attempt.git(["checkout", "-q", "-b", "my-own-idea"]);
        }
        attempt.write("new", "1\n");
        attempt.git(["add", "--all"]);
        attempt.git(["commit", "-q", "-m", "elsewhere"]);
        let commit = attempt.commit(&[]).await.unwrap().unwrap();
        assert_eq!(attempt.repository.git(["rev-parse", "miyabi/work"]), commit);
        assert_eq!(attempt.remove().await, Removal::Removed);
    }
}

#[tokio::test]
async fn an_agents_litter_stays_out_unless_the_repository_tracks_it() {
    let attempt = Attempt::new().await;
    attempt.write(".aider.chat.history.md", "chat\n");
    attempt.write("sub/.aider.tags.cache.v4/cache.db", "cache\n");
    assert_eq!(attempt.commit(&[".aider*"]).await.unwrap(), None);
    assert!(kept(&attempt.remove().await).contains("uncommitted"));
    let path = attempt.repository.path();
    assert_eq!(remove(&path, &attempt.path, &[".aider*"]).await.unwrap(), Removal::Removed);

    attempt.repository.write(".aider.conf.yml", "a: 1\n");
    attempt.repository.commit("track it");
    let base = prepare(&path, "main", "miyabi/work", &attempt.path).await.unwrap();
    let attempt = Attempt { base, ..attempt };
    attempt.write(".aider.conf.yml", "a: 2\n");
    attempt.write(".aider.input.history", "x\n");
    let commit = attempt.commit(&[".aider*"]).await.unwrap().unwrap();
    assert_eq!(attempt.git(["show", "--format=", "--name-only", &commit]), ".aider.conf.yml");
}

#[tokio::test]
async fn the_lock_of_a_killed_git_does_not_stop_the_commit() {
    let attempt = Attempt::new().await;
    attempt.write("new", "1\n");
    let lock = attempt.git(["rev-parse", "--git-path", "index.lock"]);
    fs::write(attempt.path.join(lock), "").unwrap();
    assert!(attempt.commit(&[]).await.unwrap().is_some());
}

/// Leaves a lock as a git that was killed so long ago does.
fn leave_lock(path: &Path, age: Duration) {
    let lock = fs::File::create(path).unwrap();
    let made = lock.metadata().unwrap().modified().unwrap();
    lock.set_modified(made - age).unwrap();
}

#[tokio::test]
async fn the_lock_of_the_packed_references_that_a_killed_git_left_goes_with_the_next_worktree() {
    let attempt = Attempt::new().await;
    let repository = attempt.repository.path();
    let lock = repository.join(".git/packed-refs.lock");
    leave_lock(&lock, Duration::from_secs(59));
    prepare(&repository, "main", "miyabi/other", &attempt.repository.beside("other")).await.unwrap();
    assert!(lock.exists(), "somebody who writes with a library may hold it");
    leave_lock(&lock, Duration::from_secs(3_600));
    prepare(&repository, "main", "miyabi/third", &attempt.repository.beside("third")).await.unwrap();
    assert!(!lock.exists());
}

#[tokio::test]
async fn a_lock_of_a_git_that_lives_is_left_alone_also_when_it_is_stopped() {
    let attempt = Attempt::new().await;
    let repository = attempt.repository.path();
    // A git that takes a lock and waits for its input, as one that is frozen does.
    let mut child = Command::new("git");
    let child = child.current_dir(&repository).args(["update-ref", "--stdin"]).stdin(Stdio::piped());
    let mut child = child.stdout(Stdio::piped()).spawn().unwrap();
    let orders = format!("start\nupdate refs/heads/theirs {}\nprepare\n", attempt.base);
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(orders.as_bytes()).unwrap();
    let mut answers = BufReader::new(child.stdout.take().unwrap()).lines();
    assert_eq!(answers.next().unwrap().unwrap(), "start: ok");
    assert_eq!(answers.next().unwrap().unwrap(), "prepare: ok");
    let process = process::identify(child.id()).unwrap();
    process::signal(&process, Signal::STOP).unwrap();

    let lock = repository.join(".git/packed-refs.lock");
    leave_lock(&lock, Duration::from_secs(3_600));
    prepare(&repository, "main", "miyabi/other", &attempt.repository.beside("other")).await.unwrap();
    assert!(lock.exists(), "its git is only stopped");
    // One that works elsewhere keeps nobody.
    let elsewhere = Attempt::new().await;
    let theirs = elsewhere.repository.path().join(".git/packed-refs.lock");
    leave_lock(&theirs, Duration::from_secs(3_600));
    prepare(&elsewhere.repository.path(), "main", "miyabi/other", &elsewhere.repository.beside("other")).await.unwrap();
    assert!(!theirs.exists());

    process::signal(&process, Signal::KILL).unwrap();
    child.wait().unwrap();
    prepare(&repository, "main", "miyabi/third", &attempt.repository.beside("third")).await.unwrap();
    assert!(!lock.exists());
}

#[tokio::test]
async fn a_worktree_that_was_cut_loose_is_neither_committed_elsewhere_nor_removed() {
    for replace in [false, true] {
        let attempt = Attempt::new().await;
        fs::remove_file(attempt.path.join(".git")).unwrap();
        if replace {
            attempt.git(["init", "-q"]);
        }
        attempt.write("new", "1\n");
        let refused = attempt.commit(&[]).await.unwrap_err();
        assert!(matches!(refused, GitError::Foreign { .. }), "{refused}");
        assert!(kept(&attempt.remove().await).contains("not a worktree"));
        assert!(attempt.path.join("new").exists());
        attempt.repository.assert_clean();
    }
}

#[tokio::test]
async fn a_worktree_that_git_was_ended_over_leaves_neither_folder_nor_entry() {
    for (folder, half) in [(true, ""), (true, "gitdir: /nowhere"), (false, "")] {
        let attempt = Attempt::new().await;
        // What git writes first: an entry that is marked as locked, and the file by which the folder finds it.
        let entry = PathBuf::from(attempt.git(["rev-parse", "--absolute-git-dir"]));
        fs::write(entry.join("locked"), "initializing").unwrap();
        fs::write(entry.join("HEAD"), format!("{}\n", "0".repeat(40))).unwrap();
        fs::remove_dir_all(&attempt.path).unwrap();
        if folder {
            fs::create_dir(&attempt.path).unwrap();
            fs::write(attempt.path.join(".git"), half).unwrap();
        }
        assert_eq!(attempt.remove().await, Removal::Removed);
        assert!(!attempt.path.exists());
        assert_eq!(attempt.repository.git(["worktree", "list", "--porcelain"]).matches("worktree ").count(), 1);
        prepare(&attempt.repository.path(), "main", "miyabi/work", &attempt.path).await.unwrap();
    }
}

#[tokio::test]
async fn work_is_saved_although_a_killed_git_has_left_the_lock_of_its_branch() {
    let attempt = Attempt::new().await;
    let repository = attempt.repository.path();
    attempt.write("new", "1\n");
    let lock = repository.join(".git/refs/heads/miyabi/work.lock");
    fs::write(&lock, "").unwrap();
    save(&repository, &attempt.path, "miyabi/saved", "saved", &kaede(), &[]).await.unwrap();
    assert!(!lock.exists());
    assert_eq!(attempt.repository.git(["log", "-1", "--format=%s", "miyabi/work"]), "saved");
    assert_eq!(attempt.remove().await, Removal::Removed);
    // On a branch that is not an attempt's somebody else may hold the lock, and is not disturbed.
    prepare(&repository, "main", "miyabi/work", &attempt.path).await.unwrap();
    attempt.git(["switch", "-q", "-c", "theirs"]);
    attempt.write("newer", "2\n");
    let theirs = repository.join(".git/refs/heads/theirs.lock");
    fs::write(&theirs, "").unwrap();
    save(&repository, &attempt.path, "miyabi/saved", "saved", &kaede(), &[]).await.unwrap_err();
    assert!(theirs.exists() && attempt.path.join("newer").exists());
}

#[tokio::test]
async fn uncommitted_work_is_never_removed() {
    let attempt = Attempt::new().await;
    attempt.write("deep/er/new", "1\n");
    assert!(kept(&attempt.remove().await).contains("deep/er/new"));
    fs::remove_dir_all(attempt.path.join("deep")).unwrap();
    attempt.write("README", "changed\n");
    assert!(kept(&attempt.remove().await).contains("README"));
    attempt.git(["commit", "-q", "-a", "-m", "saved"]);
    assert_eq!(attempt.remove().await, Removal::Removed);
    assert_eq!(attempt.repository.git(["log", "-1", "--format=%s", "miyabi/work"]), "saved");
}

#[tokio::test]
async fn a_worktree_that_git_never_finished_holds_no_work() {
    for mine in [false, true] {
        let attempt = Attempt::new().await;
        let index = attempt.git(["rev-parse", "--git-path", "index"]);
        fs::remove_file(attempt.path.join(index)).unwrap();
        fs::remove_file(attempt.path.join("README")).unwrap();
        if mine {
            attempt.write("new", "1\n");
        }
        let removal = attempt.remove().await;
        assert_eq!(removal == Removal::Removed, !mine, "{removal:?}");
    }
}

#[tokio::test]
async fn commits_on_no_branch_are_never_removed() {
    let attempt = Attempt::new().await;
    attempt.git(["checkout", "-q", "--detach"]);
    assert_eq!(attempt.remove().await, Removal::Removed, "main holds that commit");
    prepare(&attempt.repository.path(), "main", "miyabi/work", &attempt.path).await.unwrap();
    attempt.git(["checkout", "-q", "--detach"]);
    attempt.write("README", "changed\n");
    attempt.git(["commit", "-q", "-a", "-m", "nowhere else"]);
    assert!(kept(&attempt.remove().await).contains("on no branch"));
}

#[tokio::test]
async fn what_a_dead_attempt_left_is_saved_and_then_removed() {
    for detach in [false, true] {
        let attempt = Attempt::new().await;
        if detach {
            attempt.git(["checkout", "-q", "--detach"]);
        }
        attempt.write("half", "done\n");
        let text = message("left behind", "task", (SALVAGE_TRAILER, KEY));
        let repository = attempt.repository.path();
        save(&repository, &attempt.path, "miyabi/saved", &text, &kaede(), &[]).await.unwrap();
        assert_eq!(attempt.remove().await, Removal::Removed);
        let branch = if detach { "miyabi/saved" } else { "miyabi/work" };
        assert_eq!(attempt.repository.git(["show", &format!("{branch}:half")]), "done");
        assert_eq!(find_commit(&repository, branch).await.unwrap(), None, "saved work is not proven work");
    }
}

#[tokio::test]
async fn a_trailer_in_the_middle_of_a_message_proves_nothing() {
    let attempt = Attempt::new().await;
    attempt.write("new", "1\n");
    attempt.git(["add", "--all"]);
    attempt.git(["commit", "-q", "-m", &format!("x\n\n{ATTEMPT_TRAILER}: {KEY}\n\nmore text\n")]);
    assert_eq!(find_commit(&attempt.repository.path(), "miyabi/work").await.unwrap(), None);
    assert_eq!(find_commit(&attempt.repository.path(), "no-such-branch").await.unwrap(), None);
}

#[tokio::test]
async fn a_branch_of_an_earlier_life_is_kept_under_another_name() {
    let attempt = Attempt::new().await;
    attempt.write("new", "1\n");
    let commit = attempt.commit(&[]).await.unwrap().unwrap();
    let repository = attempt.repository.path();
    let base = prepare(&repository, "main", "miyabi/work", &attempt.path).await.unwrap();
    assert_eq!(attempt.git(["rev-parse", "HEAD"]), base);
    assert_eq!(attempt.repository.git(["branch", "--list", "miyabi/work-kept-*", "--format=%(objectname)"]), commit);
}

#[tokio::test]
async fn a_worktree_with_work_in_it_is_not_made_anew() {
    let attempt = Attempt::new().await;
    attempt.write("new", "1\n");
    let refused = prepare(&attempt.repository.path(), "main", "miyabi/work", &attempt.path).await.unwrap_err();
    assert!(matches!(refused, GitError::InTheWay { .. }), "{refused}");
    assert!(attempt.path.join("new").exists());
}

#[tokio::test]
async fn a_commit_is_checked_in_a_clean_place_that_leaves_nothing_behind() {
    let attempt = Attempt::new().await;
    attempt.write("new", "1\n");
    let commit = attempt.commit(&[]).await.unwrap().unwrap();
    attempt.write("ignored.o", "not there\n");
    let (repository, path) = (attempt.repository.path(), attempt.repository.beside("check"));
    for _ in 0..2 {
        prepare_detached(&repository, &commit, &path).await.unwrap();
        assert!(path.join("new").exists() && !path.join("ignored.o").exists());
        write(&path.join("made-by-the-check"), "x");
    }
    remove_scratch(&repository, &path).await.unwrap();
    assert!(!path.exists());
    assert!(!attempt.repository.git(["worktree", "list"]).contains("check"));
}

#[tokio::test]
async fn many_attempts_may_begin_and_end_at_once() {
    let repository = Repository::new();
    let mut together = tokio::task::JoinSet::new();
    for number in 0..12 {
        let (main, path) = (repository.path(), repository.beside(&format!("worktrees/{number}")));
        together.spawn(async move {
            for _ in 0..3 {
                prepare(&main, "main", &format!("miyabi/{number}"), &path).await?;
                remove(&main, &path, &[]).await?;
            }
            prepare(&main, "main", &format!("miyabi/{number}"), &path).await
        });
    }
    while let Some(result) = together.join_next().await {
        result.unwrap().unwrap();
    }
    assert_eq!(repository.git(["worktree", "list"]).lines().count(), 13);
}

#[tokio::test]
async fn the_current_branch_is_told_apart_from_everything_else() {
    let repository = Repository::new();
    assert_eq!(current_branch(&repository.path()).await.unwrap(), "main");
    repository.git(["checkout", "-q", "--detach"]);
    assert!(matches!(current_branch(&repository.path()).await.unwrap_err(), GitError::Detached { .. }));
    repository.git(["checkout", "-q", "--orphan", "empty"]);
    let unborn = current_branch(&repository.path()).await.unwrap_err();
    assert!(matches!(&unborn, GitError::Unborn { branch, .. } if branch == "empty"), "{unborn}");
    let nothing = repository.beside("nothing");
    fs::create_dir(&nothing).unwrap();
    assert!(matches!(current_branch(&nothing).await.unwrap_err(), GitError::NotARepository { .. }));
    assert!(matches!(current_branch(Path::new("/no/such/folder")).await.unwrap_err(), GitError::NotARepository { .. }));
}

async fn delete(attempt: &Attempt) -> Deletion {
    let commit = attempt.repository.git(["rev-parse", "miyabi/work"]);
    delete_reference(attempt, "refs/heads/miyabi/work", &commit).await
}

async fn delete_reference(attempt: &Attempt, reference: &str, commit: &str) -> Deletion {
    delete_if_elsewhere(&attempt.repository.path(), reference, commit, "main").await.unwrap()
}

fn reason(deletion: &Deletion) -> &str {
    match deletion {
        Deletion::Kept { reason } => reason,
        Deletion::Deleted => panic!("it was deleted"),
    }
}

#[tokio::test]
async fn a_branch_ends_when_its_work_is_merged_and_not_before() {
    let attempt = Attempt::new().await;
    attempt.write("new", "1\n");
    let commit = attempt.commit(&[]).await.unwrap().unwrap();
    assert!(reason(&delete(&attempt).await).contains("checked out"));
    attempt.remove().await;
    assert!(reason(&delete(&attempt).await).contains("not on `main`"));

    // Replayed: another commit with the same trailer.
    attempt.repository.write("other", "x\n");
    attempt.repository.commit("other");
    attempt.repository.git(["cherry-pick", &commit]);
    assert_eq!(delete(&attempt).await, Deletion::Deleted);
    let gone = delete_reference(&attempt, "refs/heads/miyabi/work", &commit).await;
    assert_eq!(gone, Deletion::Deleted, "twice is harmless");

    // Reachable.
    let head = attempt.repository.head();
    attempt.repository.git(["branch", "miyabi/work", &head]);
    assert_eq!(delete(&attempt).await, Deletion::Deleted);

    // One more commit on it that nobody vouches for.
    attempt.repository.git(["branch", "miyabi/work", &commit]);
    let more = attempt.repository.git(["commit-tree", &format!("{commit}^{{tree}}"), "-p", &commit, "-m", "more"]);
    attempt.repository.git(["branch", "-f", "miyabi/work", &more]);
    assert!(reason(&delete(&attempt).await).contains("does not have"));
}

#[tokio::test]
async fn a_branch_that_is_the_only_place_of_its_work_stays() {
    let attempt = Attempt::new().await;
    attempt.write("new", "1\n");
    let commit = attempt.commit(&[]).await.unwrap().unwrap();
    attempt.remove().await;
    let repository = &attempt.repository;

    // The target has a commit that says it is of this attempt, and is another change.
    repository.write("new", "2\n");
    repository.commit(&format!("mine\n\nMiyabi-Attempt: {KEY}"));
    assert!(reason(&delete(&attempt).await).contains("not what `main` has"));
    // Other attempts' branches are no safe place: each would vouch for the other one.
    repository.git(["branch", "miyabi/other", &commit]);
    assert!(reason(&delete(&attempt).await).contains("not what `main` has"));
    // Somebody has added to it since it was looked at.
    let more = repository.git(["commit-tree", &format!("{commit}^{{tree}}"), "-p", &commit, "-m", "more"]);
    repository.git(["branch", "topic", &commit]);
    repository.git(["branch", "-f", "miyabi/work", &more]);
    let path = repository.path();
    delete_if_elsewhere(&path, "refs/heads/miyabi/work", &commit, "main").await.unwrap_err();
    assert_eq!(repository.git(["rev-parse", "miyabi/work"]), more);
    // A branch of people has it.
    repository.git(["branch", "-f", "miyabi/work", &commit]);
    assert_eq!(delete(&attempt).await, Deletion::Deleted);
}

#[tokio::test]
async fn what_a_merge_queue_has_kept_goes_while_the_attempt_has_the_change_or_the_target_has_it() {
    let attempt = Attempt::new().await;
    attempt.write("new", "1\n");
    let commit = attempt.commit(&[]).await.unwrap().unwrap();
    attempt.remove().await;
    let repository = &attempt.repository;
    let run = KEY.split('/').next().unwrap();
    let (reference, branch) = (format!("refs/miyabi/queue/{run}"), format!("miyabi/f/t/{run}/code-1"));
    // As the queue makes it: the change on a newer commit, on no branch.
    repository.write("other", "x\n");
    repository.commit("other");
    repository.git(["cherry-pick", &commit]);
    let kept = repository.head();
    repository.git(["reset", "-q", "--hard", "HEAD^"]);
    repository.git(["update-ref", &reference, &kept]);
    repository.git(["branch", "-D", "miyabi/work"]);
    assert!(reason(&delete_reference(&attempt, &reference, &kept).await).contains("not on `main`"));
    repository.git(["branch", &branch, &commit]);
    let listed = of_attempts(&repository.path()).await.unwrap();
    let mut names: Vec<&str> = listed.iter().map(|found| found.name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, [&format!("refs/heads/{branch}"), &reference]);
    assert!(listed.iter().all(|found| found.run.to_string() == run));
    assert_eq!(delete_reference(&attempt, &reference, &kept).await, Deletion::Deleted);
    // The branch itself has nobody who vouches for it.
    let stays = delete_reference(&attempt, &format!("refs/heads/{branch}"), &commit).await;
    assert!(reason(&stays).contains("not on `main`"));
}
