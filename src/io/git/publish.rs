//! Publishing: commits leave this machine through a bare clone that is the supervisor's own.
//!
//! Agents can write the configuration and the hooks of the repositories that they work in, so nothing is pushed from
//! there. The clone's configuration is written anew before every use, hooks are off, and the user's own configuration,
//! which agents of the same user can write, does not count.

use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::GitError;
use super::branch::tip;
use super::call::{Call, Git};
use super::checkout::{self, Moved};
use super::locks;
use crate::model::secret::Secret;

/// The clone's whole configuration.
const CONFIG: &str = "[core]\n\trepositoryformatversion = 0\n\tfilemode = true\n\tbare = true\n";

/// Where commits come from and go to.
#[derive(Debug, Clone)]
pub struct Remote {
    /// The address.
    pub address: String,
    /// The token, if the address takes it.
    pub token: Option<Secret>,
}

/// A commit on its way to its branch.
#[derive(Debug, Clone, Copy)]
pub struct Push<'a> {
    /// The repository that was worked in.
    pub repository: &'a Path,
    /// The branch there that holds the commit.
    pub from: &'a str,
    /// The commit.
    pub commit: &'a str,
    /// The branch that will hold it.
    pub branch: &'a str,
    /// What that branch may hold before.
    pub ours: &'a [String],
}

/// What became of a [`Push`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pushed {
    /// The branch holds the commit, now or since an earlier try.
    Done,
    /// The branch holds a commit that we have not pushed; nothing was changed.
    Foreign {
        /// That commit.
        commit: String,
    },
}

/// What became of a look at the remote branch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CaughtUp {
    /// The local branch has all that the remote one has, and ends with this commit.
    Yes {
        /// The commit.
        commit: String,
    },
    /// The local branch cannot follow for now; nothing was changed.
    Parked {
        /// Why, for people.
        reason: String,
    },
}

/// Pushes a commit to its branch. Safe to repeat at any time.
///
/// # Errors
/// Those of git and of the file system.
pub async fn push(clone: &Path, remote: &Remote, push: Push<'_>) -> Result<Pushed, GitError> {
    let kept = format!("refs/miyabi/{}", push.branch);
    let git = prepare(clone, &kept).await?;
    let source = format!("+refs/heads/{}:{kept}", push.from);
    let path = push.repository.to_string_lossy();
    own(git.call(["fetch", "--quiet", "--no-tags", "--no-write-fetch-head", &*path, &source]).slow()).text().await?;
    git.call(["cat-file", "-e", &format!("{}^{{commit}}", push.commit)]).text().await?;
    let reference = format!("refs/heads/{}", push.branch);
    let listed = remote.call(&git, ["ls-remote", "--heads", &remote.address, &reference]).text().await?;
    let held = listed.split_whitespace().next().map(str::to_owned);
    match &held {
        Some(held) if held == push.commit => return Ok(Pushed::Done),
        Some(held) if !push.ours.contains(held) => return Ok(Pushed::Foreign { commit: held.clone() }),
        Some(_) | None => {}
    }
    let lease = format!("--force-with-lease={reference}:{}", held.unwrap_or_default());
    let change = format!("{}:{reference}", push.commit);
    remote.call(&git, ["push", "--quiet", "--no-verify", &lease, &remote.address, &change]).slow().text().await?;
    Ok(Pushed::Done)
}

/// Brings a local branch up to what the remote one has, if nothing is lost by that.
///
/// # Errors
/// Those of git and of the file system.
pub async fn catch_up(clone: &Path, remote: &Remote, repository: &Path, target: &str) -> Result<CaughtUp, GitError> {
    let new = remote_tip(clone, remote, target).await?;
    follow(clone, remote, repository, (target, &new)).await
}

/// Fetches the newest commit of a remote branch into the clone, and returns it.
pub(super) async fn remote_tip(clone: &Path, remote: &Remote, target: &str) -> Result<String, GitError> {
    let kept = kept(target);
    let bare = prepare(clone, &kept).await?;
    let source = format!("+refs/heads/{target}:{kept}");
    let fetch = ["fetch", "--quiet", "--no-tags", "--no-write-fetch-head", &remote.address, &source];
    remote.call(&bare, fetch).slow().text().await?;
    bare.call(["rev-parse", "--verify", &kept]).text().await
}

/// Where the clone keeps what a remote branch was last seen to hold.
fn kept(target: &str) -> String {
    format!("refs/miyabi-target/{target}")
}

/// Brings a local branch up to a commit of the clone that the remote branch holds, if nothing is lost by that.
pub(super) async fn follow(
    clone: &Path,
    remote: &Remote,
    repository: &Path,
    (target, new): (&str, &str),
) -> Result<CaughtUp, GitError> {
    let git = Git::at(repository);
    let Some(old) = tip(&git, target).await? else {
        return Ok(CaughtUp::Parked { reason: format!("branch `{target}` does not exist") });
    };
    let path = clone.to_string_lossy();
    let kept = kept(target);
    let fetch =
        ["fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "--no-recurse-submodules", &*path, kept.as_str()];
    git.call(fetch).slow().text().await?;
    if is_within(&git, new, &old).await? {
        return Ok(CaughtUp::Yes { commit: old });
    }
    if !is_within(&git, &old, new).await? {
        let reason = format!("branch `{target}` of {} has commits that {} lacks", repository.display(), remote.address);
        return Ok(CaughtUp::Parked { reason });
    }
    let intents = match checkout::move_all(&git, target, &old, new, new).await? {
        Moved::Yes(intents) => intents,
        Moved::Parked(reason) => return Ok(CaughtUp::Parked { reason }),
    };
    let reference = format!("refs/heads/{target}");
    git.call(["update-ref", "-m", "miyabi: follow the remote branch", &reference, new, &old]).text().await?;
    for intent in intents {
        // One that stays names a commit that the branch has, and so never comes again.
        std::fs::remove_file(intent).ok();
    }
    Ok(CaughtUp::Yes { commit: new.to_owned() })
}

/// Says whether a commit is another one or comes before it.
pub(super) async fn is_within(git: &Git, earlier: &str, later: &str) -> Result<bool, GitError> {
    Ok(git.call(["merge-base", "--is-ancestor", earlier, later]).answer().await?.is_some())
}

/// Lets a remote branch go on from one commit to the next, unless somebody else has moved it. What became of that is looked at
/// by whoever asks: an answer can get lost, and a server can say yes and not keep it.
pub(super) async fn push_on(
    clone: &Path,
    remote: &Remote,
    (repository, from): (&Path, &str),
    (target, old, new): (&str, &str, &str),
) -> Result<(), GitError> {
    let git = prepare(clone, from).await?;
    let source = format!("+{from}:{from}");
    let path = repository.to_string_lossy();
    own(git.call(["fetch", "--quiet", "--no-tags", "--no-write-fetch-head", &*path, &source]).slow()).text().await?;
    git.call(["cat-file", "-e", &format!("{new}^{{commit}}")]).text().await?;
    let lease = format!("--force-with-lease=refs/heads/{target}:{old}");
    let change = format!("{new}:refs/heads/{target}");
    remote.call(&git, ["push", "--quiet", "--no-verify", &lease, &remote.address, &change]).slow().text().await?;
    Ok(())
}

impl Remote {
    /// Prepares a call that speaks with the remote, with the token where it belongs.
    fn call<'a>(&self, git: &Git, args: impl IntoIterator<Item = &'a str>) -> Call {
        let call = own(git.call(args));
        match &self.token {
            None => call,
            Some(token) => {
                let basic = STANDARD.encode(format!("x-access-token:{}", token.expose()));
                call.env("GIT_CONFIG_COUNT", "1")
                    .env("GIT_CONFIG_KEY_0", format!("http.{}.extraHeader", self.address))
                    .env("GIT_CONFIG_VALUE_0", format!("Authorization: Basic {basic}"))
            }
        }
    }
}

/// Keeps the user's own configuration out of a call.
fn own(call: Call) -> Call {
    call.env("GIT_CONFIG_GLOBAL", "/dev/null")
}

/// Makes the clone if it is not there, and its configuration what it must be, so that a reference of it can be written.
async fn prepare(clone: &Path, reference: &str) -> Result<Git, GitError> {
    let file = |act: &'static str| move |source| GitError::File { act, path: clone.to_owned(), source };
    std::fs::create_dir_all(clone).map_err(file("make folder"))?;
    let git = Git::at(clone);
    if !clone.join("HEAD").exists() {
        own(git.call(["init", "--quiet", "--bare", "--template=", "."])).text().await?;
    }
    std::fs::write(clone.join("config"), CONFIG).map_err(file("write the configuration of"))?;
    locks::held(&git, reference).await?;
    Ok(git)
}
