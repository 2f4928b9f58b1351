//! The local merge on real repositories.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs;
use std::time::Duration;

use miyabi::io::git::merge::{MergeRequest, MergeResult, merge};
use miyabi::io::git::{Author, commit, worktree};
use miyabi::model::order::ATTEMPT_TRAILER;

use crate::repository::{Repository, git, try_git, write};

const KEY: &str = "01KAPZ3XZ00000000000000001/code/1";

/// Makes an attempt's commit that writes the files, on the branch `work`, and returns what asks for its merge.
async fn attempt(repository: &Repository, key: &str, branch: &str, files: &[(&str, &str)]) -> MergeRequest {
    let path = repository.beside(branch);
    let base = worktree::prepare(&repository.path(), "main", branch, &path).await.unwrap();
    for (name, text) in files {
        if text.is_empty() {
            fs::remove_file(path.join(name)).unwrap();
        } else {
            write(&path.join(name), text);
        }
    }
    let author = Author { name: "カエデ".to_owned(), email: "kaede@miyabi.invalid".to_owned() };
    let request = commit::CommitRequest {
        repository: &repository.path(),
        worktree: &path,
        branch,
        base: &base,
        message: &commit::message("add: the work", "task", (ATTEMPT_TRAILER, key)),
        author: &author,
        litter: &[],
    };
    let commit = commit::commit_all(&request).await.unwrap().expect("something was changed");
    MergeRequest { repository: repository.path(), target: "main".to_owned(), commit, base, trailer: key.to_owned() }
}

fn parked(result: &MergeResult) -> &str {
    match result {
        MergeResult::Parked { reason } => reason,
        MergeResult::Merged { .. }
        | MergeResult::Already { .. }
        | MergeResult::Gone { .. }
        | MergeResult::Conflict { .. } => {
            panic!("not parked: {result:?}")
        }
    }
}

fn merged(result: &MergeResult) -> &str {
    match result {
        MergeResult::Merged { commit } => commit,
        MergeResult::Parked { .. }
        | MergeResult::Already { .. }
        | MergeResult::Gone { .. }
        | MergeResult::Conflict { .. } => {
            panic!("not merged: {result:?}")
        }
    }
}

#[tokio::test]
async fn a_target_that_has_not_moved_is_fast_forwarded_with_its_checkout() {
    let repository = Repository::new();
    let request = attempt(&repository, KEY, "work", &[("日本/語.txt", "こんにちは\n"), ("README", "")]).await;
    let result = merge(request.clone()).await.unwrap();
    assert_eq!(merged(&result), request.commit);
    assert_eq!(repository.head(), request.commit);
    assert_eq!(repository.read("日本/語.txt"), "こんにちは\n");
    assert!(!repository.path().join("README").exists());
    repository.assert_clean();
}

#[tokio::test]
async fn a_target_that_has_moved_gets_the_same_change_on_top() {
    let repository = Repository::new();
    let request = attempt(&repository, KEY, "work", &[("new", "new\n")]).await;
    repository.write("other", "other\n");
    let other = repository.commit("somebody else");
    let result = merge(request).await.unwrap();
    assert_eq!(repository.subjects(), ["add: the work", "somebody else", "begin"]);
    assert_eq!(
        repository.git(["log", "-1", "--format=%P|%an <%ae>|%(trailers:valueonly)"]).trim(),
        format!("{other}|カエデ <kaede@miyabi.invalid>|{KEY}")
    );
    assert_eq!(repository.head(), merged(&result));
    assert_eq!(repository.read("new"), "new\n");
    repository.assert_clean();
}

#[tokio::test]
async fn a_repeated_merge_finds_the_first_one() {
    for moved in [false, true] {
        let repository = Repository::new();
        let request = attempt(&repository, KEY, "work", &[("new", "new\n")]).await;
        if moved {
            repository.write("other", "other\n");
            repository.commit("somebody else");
        }
        let commit = merged(&merge(request.clone()).await.unwrap()).to_owned();
        repository.write("later", "later\n");
        repository.commit("later");
        assert_eq!(merge(request).await.unwrap(), MergeResult::Already { commit });
        assert_eq!(repository.subjects().first().unwrap(), "later");
    }
}

#[tokio::test]
async fn a_change_that_the_target_already_has_is_not_made_again() {
    let repository = Repository::new();
    let request = attempt(&repository, KEY, "work", &[("new", "new\n")]).await;
    repository.write("new", "new\n");
    let head = repository.commit("the same, by hand");
    assert_eq!(merge(request).await.unwrap(), MergeResult::Already { commit: head });
}

#[tokio::test]
async fn a_conflict_names_its_files_and_shows_both_sides_and_changes_nothing() {
    let repository = Repository::new();
    let request = attempt(&repository, KEY, "work", &[("README", "one\nTWO\nthree\n"), ("new", "n\n")]).await;
    repository.write("README", "one\nzwei\nthree\n");
    let head = repository.commit("somebody else");
    let MergeResult::Conflict { paths, detail } = merge(request).await.unwrap() else { panic!("no conflict") };
    assert_eq!(paths, ["README"]);
    for part in ["<<<<<<<", "zwei", "TWO", ">>>>>>>"] {
        assert!(detail.contains(part), "{part} is missing in {detail}");
    }
    assert_eq!(repository.head(), head);
    repository.assert_clean();
}

#[tokio::test]
async fn a_checkout_of_another_branch_is_left_alone() {
    let repository = Repository::new();
    let request = attempt(&repository, KEY, "work", &[("new", "new\n")]).await;
    let head = repository.head();
    repository.git(["checkout", "-q", "-b", "mine"]);
    assert!(parked(&merge(request.clone()).await.unwrap()).contains("has branch `mine` checked out"));
    repository.git(["checkout", "-q", "--detach"]);
    assert!(parked(&merge(request).await.unwrap()).contains("detached HEAD"));
    assert_eq!(repository.head(), head);
}

#[tokio::test]
async fn changed_tracked_files_are_never_touched() {
    for staged in [false, true] {
        let repository = Repository::new();
        let request = attempt(&repository, KEY, "work", &[("new", "new\n")]).await;
        let head = repository.head();
        repository.write("README", "mine\n");
        if staged {
            repository.git(["add", "README"]);
        }
        let result = merge(request.clone()).await.unwrap();
        assert!(parked(&result).contains("tracked files are changed") && parked(&result).contains("README"));
        assert_eq!((repository.head(), repository.read("README")), (head, "mine\n".to_owned()));
        assert!(!repository.path().join("new").exists());
        repository.git(["reset", "-q", "--hard"]);
        merged(&merge(request).await.unwrap());
    }
}

#[tokio::test]
async fn untracked_files_count_only_when_they_would_be_overwritten() {
    let repository = Repository::new();
    repository.write("notes", "mine\n");
    let request = attempt(&repository, KEY, "work", &[("new", "theirs\n"), ("folder/file", "theirs\n")]).await;
    for (name, folder) in [("new", false), ("folder", false), ("folder/file", true)] {
        if folder {
            fs::remove_file(repository.path().join("folder")).unwrap();
        }
        repository.write(name, "mine\n");
        let result = merge(request.clone()).await.unwrap();
        assert!(parked(&result).contains("would be overwritten"), "{result:?}");
        assert_eq!(repository.read(name), "mine\n");
        if name == "new" {
            fs::remove_file(repository.path().join("new")).unwrap();
        }
    }
    fs::remove_dir_all(repository.path().join("folder")).unwrap();
    merged(&merge(request).await.unwrap());
    assert_eq!(repository.read("notes"), "mine\n");
}

#[tokio::test]
async fn an_ignored_file_is_somebodys_work_too() {
    let repository = Repository::new();
    let mut request = attempt(&repository, KEY, "work", &[("x", "x\n")]).await;
    let path = repository.beside("work");
    write(&path.join("made.o"), "theirs\n");
    git(&path, ["add", "--force", "made.o"]);
    git(&path, ["commit", "-q", "--amend", "--no-edit"]);
    request.commit = git(&path, ["rev-parse", "HEAD"]);
    repository.write("made.o", "mine\n");
    assert!(parked(&merge(request).await.unwrap()).contains("made.o"));
    assert_eq!(repository.read("made.o"), "mine\n");
}

#[tokio::test]
async fn an_untracked_folder_where_a_file_is_to_be_is_kept() {
    let repository = Repository::new();
    let request = attempt(&repository, KEY, "work", &[("thing", "theirs\n")]).await;
    repository.write("thing/mine", "mine\n");
    parked(&merge(request).await.unwrap());
    assert_eq!(repository.read("thing/mine"), "mine\n");
}

#[tokio::test]
async fn files_and_folders_may_change_places() {
    let repository = Repository::new();
    repository.write("a/x", "x\n");
    repository.write("b", "b\n");
    repository.commit("before");
    let path = repository.beside("work");
    let mut request = attempt(&repository, KEY, "work", &[("a/x", ""), ("b", "")]).await;
    drop(fs::remove_dir_all(path.join("a")));
    write(&path.join("a"), "a file now\n");
    write(&path.join("b/x"), "a folder now\n");
    git(&path, ["add", "--all"]);
    git(&path, ["commit", "-q", "--amend", "--no-edit"]);
    request.commit = git(&path, ["rev-parse", "HEAD"]);
    merged(&merge(request).await.unwrap());
    assert_eq!(
        (repository.read("a"), repository.read("b/x")),
        ("a file now\n".to_owned(), "a folder now\n".to_owned())
    );
    repository.assert_clean();
}

#[tokio::test]
async fn a_bare_repository_only_moves_its_branch() {
    let repository = Repository::new();
    let bare = repository.beside("bare.git");
    repository.git(["clone", "-q", "--bare", ".", bare.to_str().unwrap()]);
    let mut request = attempt(&repository, KEY, "work", &[("new", "new\n")]).await;
    git(&bare, ["fetch", "-q", repository.path().to_str().unwrap(), "work:work"]);
    request.repository = bare.clone();
    let result = merge(request.clone()).await.unwrap();
    assert_eq!(git(&bare, ["rev-parse", "main"]), merged(&result));

    // A worktree of it that shows the target is treated like any checkout.
    let linked = repository.beside("linked");
    git(&bare, ["update-ref", "refs/heads/main", &request.base]);
    git(&bare, ["worktree", "add", "-q", linked.to_str().unwrap(), "main"]);
    write(&linked.join("README"), "mine\n");
    assert!(parked(&merge(request.clone()).await.unwrap()).contains("README"));
    git(&linked, ["checkout", "-q", "README"]);
    merged(&merge(request).await.unwrap());
    assert_eq!(git(&linked, ["status", "--porcelain"]), "");
    assert!(linked.join("new").exists());
}

#[tokio::test]
async fn somebody_in_the_middle_of_something_is_left_alone() {
    let repository = Repository::new();
    let request = attempt(&repository, KEY, "work", &[("new", "new\n")]).await;
    repository.git(["checkout", "-q", "-b", "side"]);
    repository.write("README", "side\n");
    repository.commit("side");
    repository.git(["checkout", "-q", "main"]);
    repository.write("README", "main\n");
    repository.commit("main");
    for (begin, end, name) in [
        (vec!["merge", "side"], ["merge", "--abort"], "a merge"),
        (vec!["cherry-pick", "side"], ["cherry-pick", "--abort"], "a cherry-pick"),
        (vec!["rebase", "side"], ["rebase", "--abort"], "a rebase"),
        (vec!["bisect", "start"], ["bisect", "reset"], "a bisect"),
    ] {
        let begun = std::process::Command::new("git").current_dir(repository.path()).args(begin).output().unwrap();
        let result = merge(request.clone()).await.unwrap();
        assert!(parked(&result).contains(name), "{name}: {result:?} after {begun:?}");
        repository.git(end);
    }
    let lock = repository.path().join(".git/index.lock");
    fs::write(&lock, "").unwrap();
    assert!(parked(&merge(request.clone()).await.unwrap()).contains("somebody is using git"));
    fs::remove_file(lock).unwrap();
    merged(&merge(request).await.unwrap());
    repository.assert_clean();
}

#[tokio::test]
async fn locks_that_killed_gits_left_do_not_stop_a_merge_for_good() {
    for lock in ["index.lock", "refs/heads/main.lock"] {
        let repository = Repository::new();
        let request = attempt(&repository, KEY, "work", &[("new", "new\n")]).await;
        let lock = repository.path().join(".git").join(lock);
        let left = fs::File::create(&lock).unwrap();
        assert!(parked(&merge(request.clone()).await.unwrap()).contains("somebody is using git"));
        let made = left.metadata().unwrap().modified().unwrap();
        left.set_modified(made - Duration::from_secs(90)).unwrap();
        merged(&merge(request).await.unwrap());
        assert!(!lock.exists());
        repository.assert_clean();
    }
}

#[tokio::test]
async fn a_target_that_is_being_rebased_elsewhere_waits() {
    let repository = Repository::new();
    let request = attempt(&repository, KEY, "work", &[("new", "new\n")]).await;
    let bare = repository.beside("bare.git");
    repository.git(["clone", "-q", "--bare", ".", bare.to_str().unwrap()]);
    git(&bare, ["config", "user.name", "Somebody"]);
    git(&bare, ["config", "user.email", "somebody@example.invalid"]);
    let linked = repository.beside("linked");
    git(&bare, ["worktree", "add", "-q", linked.to_str().unwrap(), "main"]);
    git(&linked, ["checkout", "-q", "-b", "side"]);
    write(&linked.join("README"), "side\n");
    git(&linked, ["commit", "-q", "-a", "-m", "side"]);
    git(&linked, ["checkout", "-q", "main"]);
    write(&linked.join("README"), "main\n");
    git(&linked, ["commit", "-q", "-a", "-m", "main"]);
    assert!(!try_git(&linked, ["rebase", "side"]).status.success());
    let result = merge(MergeRequest { repository: bare, ..request }).await.unwrap();
    assert!(parked(&result).contains("is being rebased"), "{result:?}");
}

/// The files of an attempt that touches a checkout in every way: new, changed, removed, a link, an executable.
const MANY: [(&str, &str); 5] =
    [("new", "new\n"), ("deep/er/new", "new\n"), ("README", "changed\n"), ("old", ""), ("many", "many\n")];

async fn interrupted() -> (Repository, MergeRequest) {
    let repository = Repository::new();
    repository.write("old", "old\n");
    repository.write("untouched", "untouched\n");
    repository.commit("before");
    let request = attempt(&repository, KEY, "work", &MANY).await;
    (repository, request)
}

async fn assert_heals(repository: &Repository, request: MergeRequest) {
    let result = merge(request.clone()).await.unwrap();
    assert_eq!(merged(&result), repository.head());
    repository.assert_clean();
    assert_eq!(repository.read("README"), "changed\n");
    assert!(!repository.path().join("old").exists());
    assert_eq!(repository.subjects().iter().filter(|subject| *subject == "add: the work").count(), 1);
}

#[tokio::test]
async fn a_kill_between_the_checkout_and_the_branch_is_healed_by_the_repeat() {
    let (repository, request) = interrupted().await;
    repository.git(["read-tree", "-m", "-u", "HEAD", &request.commit]);
    assert_heals(&repository, request).await;
}

#[tokio::test]
async fn a_kill_in_the_middle_of_the_files_is_healed_by_the_repeat() {
    let (repository, request) = interrupted().await;
    // git removes files first, then writes new ones, and the index last.
    fs::remove_file(repository.path().join("old")).unwrap();
    repository.write("README", "changed\n");
    repository.write("deep/er/new", "new\n");
    assert_heals(&repository, request).await;
}

#[tokio::test]
async fn a_kill_after_the_first_new_file_is_healed_by_the_repeat() {
    let (repository, request) = interrupted().await;
    repository.write("new", "new\n");
    assert_heals(&repository, request).await;
}

#[tokio::test]
async fn a_kill_in_the_middle_of_one_file_is_healed_by_the_repeat_of_that_merge_only() {
    for (intent, heals) in [(KEY, true), ("01KAPZ3XZ00000000000000009/code/1", false)] {
        let (repository, request) = interrupted().await;
        repository.write("new", "ne");
        repository.write("many", "");
        repository.write("README", "chan");
        fs::write(repository.path().join(".git/miyabi-move"), intent).unwrap();
        if heals {
            assert_heals(&repository, request).await;
            assert!(!repository.path().join(".git/miyabi-move").exists());
        } else {
            parked(&merge(request).await.unwrap());
            assert_eq!((repository.read("new"), repository.read("README")), ("ne".to_owned(), "chan".to_owned()));
        }
    }
}

#[tokio::test]
async fn a_kill_between_the_removal_of_a_file_and_its_new_content_is_healed_by_the_repeat_of_that_merge_only() {
    for (intent, heals) in [(KEY, true), ("01KAPZ3XZ00000000000000009/code/1", false)] {
        let (repository, request) = interrupted().await;
        fs::remove_file(repository.path().join("README")).unwrap();
        fs::write(repository.path().join(".git/miyabi-move"), intent).unwrap();
        if heals {
            assert_heals(&repository, request).await;
        } else {
            assert!(parked(&merge(request).await.unwrap()).contains("README"));
            assert!(!repository.path().join("README").exists());
        }
    }
}

#[tokio::test]
async fn a_half_moved_checkout_in_which_somebody_worked_is_left_alone() {
    for name in ["untouched", "README", "new"] {
        let (repository, request) = interrupted().await;
        repository.git(["read-tree", "-m", "-u", "HEAD", &request.commit]);
        repository.write(name, "mine\n");
        assert!(parked(&merge(request).await.unwrap()).contains(name));
        assert_eq!(repository.read(name), "mine\n");
    }
}

#[tokio::test]
async fn a_half_moved_checkout_is_healed_although_the_target_has_moved_on() {
    let (repository, request) = interrupted().await;
    let bare = repository.beside("elsewhere");
    repository.git(["clone", "-q", ".", bare.to_str().unwrap()]);
    repository.git(["read-tree", "-m", "-u", "HEAD", &request.commit]);
    // Somebody commits what lies there, our half-done move included.
    repository.git(["commit", "-q", "-m", "somebody took it"]);
    let head = repository.head();
    assert_eq!(merge(request).await.unwrap(), MergeResult::Already { commit: head });
    repository.assert_clean();
}

#[tokio::test]
async fn a_merge_that_is_killed_at_any_moment_is_done_exactly_once_in_the_end() {
    for delay in 0..24 {
        let (repository, request) = interrupted().await;
        if delay % 2 == 1 {
            repository.write("other", "other\n");
            repository.commit("somebody else");
        }
        // Dropping the merge kills the git that is running.
        drop(tokio::time::timeout(Duration::from_millis(delay * 3), merge(request.clone())).await);
        let mut result = merge(request.clone()).await.unwrap();
        if matches!(result, MergeResult::Parked { .. }) {
            // A killed git leaves its lock, and only a person knows that nobody holds it.
            let locks = ["index.lock", "HEAD.lock", "refs/heads/main.lock"]
                .map(|lock| repository.path().join(".git").join(lock));
            let removed = locks.iter().filter(|lock| fs::remove_file(lock).is_ok()).count();
            assert!(removed > 0, "{result:?} without a lock");
            result = merge(request).await.unwrap();
        }
        let (MergeResult::Merged { commit } | MergeResult::Already { commit }) = &result else { panic!("{result:?}") };
        assert_eq!(&repository.head(), commit, "delay {delay}");
        repository.assert_clean();
        assert_eq!(repository.subjects().iter().filter(|subject| *subject == "add: the work").count(), 1);
    }
}

#[tokio::test]
async fn merges_that_race_with_each_other_all_arrive_once() {
    let repository = Repository::new();
    let bare = repository.beside("bare.git");
    repository.git(["clone", "-q", "--bare", ".", bare.to_str().unwrap()]);
    let mut requests = Vec::new();
    for number in 0..4 {
        let key = format!("01KAPZ3XZ0000000000000000{number}/code/1");
        let (branch, file) = (format!("work-{number}"), format!("file-{number}"));
        let mut request = attempt(&repository, &key, &branch, &[(&file, "x\n")]).await;
        git(&bare, ["fetch", "-q", repository.path().to_str().unwrap(), &format!("{branch}:{branch}")]);
        request.repository = bare.clone();
        requests.push(request);
    }
    let mut racing = tokio::task::JoinSet::new();
    for request in requests {
        racing.spawn(merge(request));
    }
    while let Some(result) = racing.join_next().await {
        merged(&result.unwrap().unwrap());
    }
    assert_eq!(git(&bare, ["rev-list", "--count", "main"]), "5");
    assert_eq!(git(&bare, ["log", "--merges", "main"]), "", "history is linear");
}
