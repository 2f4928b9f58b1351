//! From an issue to its pull request, once: the real program, real git, a stateful GitHub.

mod app;
mod claims;
mod graph;
mod road;
mod server;

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::root::Root;
use server::Server;

/// What every agent does with an issue: a file of its own.
const WORK: &str = r#"driver = "command"
command = ["sh", "-c", "n=${MIYABI_TASK##*issue-}; env > ../../env-of-$n; cat $MIYABI_PROMPT > issue-$n.txt"]"#;

/// A root whose repository is on GitHub, with a bare repository on the disk as its remote.
struct Hub {
    root: Root,
    server: Server,
}

impl Hub {
    /// Makes one; nothing when the emulator is not installed.
    fn new(agents: usize) -> Option<Self> {
        Server::start().map(|server| Self::around(server, agents))
    }

    fn around(server: Server, agents: usize) -> Self {
        let names = ["kaede", "sakura", "tsubaki", "botan", "momiji"];
        let team: Vec<(&str, &str, &str)> = names.iter().take(agents).map(|name| (*name, "codegen", WORK)).collect();
        Self::of_team(server, &team)
    }

    fn of_team(server: Server, team: &[(&str, &str, &str)]) -> Self {
        let root = Root::new(team);
        let remote = root.path("remote.git");
        root.git(&["clone", "-q", "--bare", ".", remote.to_str().unwrap()]);
        let root = Self::joined(root, &server, &remote);
        Self { root, server }
    }

    /// Makes another root that watches the same repository.
    fn another(&self, agents: usize) -> Root {
        let names = ["kaede", "sakura", "tsubaki", "botan", "momiji"];
        let team: Vec<(&str, &str, &str)> = names.iter().take(agents).map(|name| (*name, "codegen", WORK)).collect();
        let root = Root::new(&team);
        root.git(&["fetch", "-q", self.remote().to_str().unwrap(), "main"]);
        root.git(&["reset", "-q", "--hard", "FETCH_HEAD"]);
        Self::joined(root, &self.server, &self.remote())
    }

    /// Has a root take the issues of the server's repository.
    fn joined(mut root: Root, server: &Server, remote: &Path) -> Root {
        let config = fs::read_to_string(root.path("agents.toml")).unwrap();
        let more = format!(
            "path = \"repo\"\nremote = \"{}\"\nmerge = \"pull-request\"\ngithub = \"alice/app\"\n",
            remote.display()
        );
        let github = format!(
            "\n[github]\napi_url = \"{}\"\npoll = \"300ms\"\nreconcile = \"2s\"\nwrite_interval = \"10ms\"\nwrites_per_minute = 10000\nwrites_per_hour = 10000\n",
            server.address
        );
        fs::write(root.path("agents.toml"), config.replace("path = \"repo\"\n", &more) + &github).unwrap();
        root.set_variable("GITHUB_TOKEN", "token-of-the-bot");
        root
    }

    fn remote(&self) -> PathBuf {
        self.root.path("remote.git")
    }

    /// Returns the branches of the remote and their commits.
    fn branches(&self) -> Vec<String> {
        let remote = self.remote();
        let text = self.root.git(&[
            "--git-dir",
            remote.to_str().unwrap(),
            "for-each-ref",
            "--format=%(refname:short)",
            "refs/heads",
        ]);
        text.lines().map(str::to_owned).collect()
    }

    /// Plays the human: merges a pull request in the remote and on GitHub, and closes its issue.
    fn merge(&self, issue: u64) {
        let human = self.root.path("human");
        let (remote, human) = (self.remote().display().to_string(), human.display().to_string());
        if !PathBuf::from(&human).exists() {
            self.root.git(&["clone", "-q", &remote, &human]);
        }
        let git = |args: &[&str]| {
            let mut all = vec!["-C", &human, "-c", "user.name=Alice", "-c", "user.email=alice@example.invalid"];
            all.extend(args);
            self.root.git(&all)
        };
        git(&["pull", "-q", "origin", "main"]);
        git(&["fetch", "-q", "origin"]);
        git(&[
            "merge",
            "-q",
            "--no-ff",
            "-m",
            &format!("Merge issue {issue}"),
            &format!("origin/auto-code/issue-{issue}"),
        ]);
        git(&["push", "-q", "origin", "HEAD:main"]);
        let pull = self.pull_of(issue).expect("there is a pull request");
        self.server.json("alice", "PUT", &format!("/repos/alice/app/pulls/{}/merge", pull["number"]), &json!({}));
        self.server.json("alice", "PATCH", &format!("/repos/alice/app/issues/{issue}"), &json!({"state": "closed"}));
    }

    fn pull_of(&self, issue: u64) -> Option<Value> {
        let branch = format!("auto-code/issue-{issue}");
        let mut found = self.server.pulls().into_iter().filter(|pull| pull["head"]["ref"] == branch.as_str());
        let first = found.next();
        assert!(found.next().is_none(), "issue {issue} has two pull requests");
        first
    }

    /// Waits until a task's pull request waits to be merged and its comment says so.
    fn wait_published(&self, issue: u64) {
        let task = format!("repo/issue-{issue}");
        self.root.wait_event("published", &task);
        self.root.until("the comment names the pull request", || {
            self.server.comments(issue).iter().any(|comment| comment.contains("waits to be merged"))
        });
    }

    /// Asks whether there is exactly one branch, one pull request and one comment for an issue.
    fn assert_once(&self, issue: u64) {
        self.assert_one_pull(issue);
        let comments = self.server.comments(issue);
        assert_eq!(comments.len(), 1, "issue {issue}: {comments:#?}");
    }

    fn assert_one_pull(&self, issue: u64) {
        let branch = format!("auto-code/issue-{issue}");
        assert_eq!(self.branches().iter().filter(|found| **found == branch).count(), 1);
        assert!(self.pull_of(issue).is_some(), "issue {issue} has no pull request");
    }
}
