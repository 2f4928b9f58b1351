//! A real git repository for one test.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

/// A folder with a repository in `main` and room for worktrees beside it.
pub(crate) struct Repository {
    folder: TempDir,
}

impl Repository {
    /// A checkout of `main` with one commit that holds `README` and `.gitignore` (which ignores `*.o`).
    pub(crate) fn new() -> Self {
        let repository = Self { folder: TempDir::new().unwrap() };
        fs::create_dir(repository.path()).unwrap();
        repository.git(["init", "-q", "-b", "main"]);
        repository.git(["config", "user.name", "Somebody"]);
        repository.git(["config", "user.email", "somebody@example.invalid"]);
        repository.write("README", "one\ntwo\nthree\n");
        repository.write(".gitignore", "*.o\n");
        repository.commit("begin");
        repository
    }

    /// Where the checkout is.
    pub(crate) fn path(&self) -> PathBuf {
        self.folder.path().join("main")
    }

    /// A path beside the checkout.
    pub(crate) fn beside(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Runs git in the checkout and returns what it printed.
    pub(crate) fn git<const N: usize>(&self, args: [&str; N]) -> String {
        git(&self.path(), args)
    }

    /// Writes a file of the checkout.
    pub(crate) fn write(&self, name: &str, text: &str) {
        write(&self.path().join(name), text);
    }

    /// Reads a file of the checkout.
    pub(crate) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path().join(name)).unwrap()
    }

    /// Commits everything in the checkout and returns the commit.
    pub(crate) fn commit(&self, message: &str) -> String {
        self.git(["add", "--all"]);
        self.git(["commit", "-q", "-m", message]);
        self.head()
    }

    /// The newest commit of `main`.
    pub(crate) fn head(&self) -> String {
        self.git(["rev-parse", "refs/heads/main"])
    }

    /// The first lines of the messages of `main`, newest first.
    pub(crate) fn subjects(&self) -> Vec<String> {
        self.git(["log", "--format=%s", "refs/heads/main"]).lines().map(str::to_owned).collect()
    }

    /// Asserts that nothing in the checkout differs from `main` and the store is sound.
    pub(crate) fn assert_clean(&self) {
        assert_eq!(self.git(["status", "--porcelain"]), "");
        self.git(["fsck", "--strict", "--no-dangling", "--no-progress"]);
    }
}

/// Writes a file and the folders above it.
pub(crate) fn write(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

/// Runs git and returns what it printed; it must succeed.
pub(crate) fn git<const N: usize>(dir: &Path, args: [&str; N]) -> String {
    let output = try_git(dir, args);
    assert!(output.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
}

/// Runs git and returns whatever it came to.
pub(crate) fn try_git<const N: usize>(dir: &Path, args: [&str; N]) -> Output {
    Command::new("git")
        .current_dir(dir)
        .args(args)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("LC_ALL", "C")
        .output()
        .expect("git is installed")
}
