//! `miyabi init --github`: the repository on GitHub, and its checkout.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::str::FromStr;

use super::super::failure::{Failure, Kind, Result};
use super::git::{self, Surroundings};
use crate::model::id::RepositorySlug;

/// The public GitHub.
const PUBLIC: &str = "github.com";

/// A repository on GitHub as somebody names it: `OWNER/REPO`, or the address of its page or clone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OnGithub {
    /// The machine: `github.com`, or that of a GitHub Enterprise.
    host: String,
    /// The repository.
    slug: RepositorySlug,
}

impl FromStr for OnGithub {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let (host, path) = match text.split_once("://") {
            Some(("https", rest)) => rest.split_once('/').ok_or("the address names no repository")?,
            Some((scheme, _)) => return Err(format!("write OWNER/REPO or an https address, not {scheme}://")),
            None => (PUBLIC, text),
        };
        if host.is_empty() || host.contains(['@', ' ']) {
            return Err("the address has no plain host name; a token does not belong into it".to_owned());
        }
        let path = path.trim_end_matches('/');
        let slug = RepositorySlug::new(path.strip_suffix(".git").unwrap_or(path)).map_err(|error| error.to_string())?;
        Ok(Self { host: host.to_ascii_lowercase(), slug })
    }
}

impl OnGithub {
    /// Returns `OWNER/REPO`.
    pub(super) fn slug(&self) -> &str {
        self.slug.as_str()
    }

    /// Returns the name without its owner.
    pub(super) fn name(&self) -> &str {
        self.slug().rsplit('/').next().unwrap_or_default()
    }

    /// Returns the address that commits are pushed to.
    pub(super) fn remote(&self) -> String {
        format!("https://{}/{}.git", self.host, self.slug())
    }

    /// Returns the address of the API, unless it is the public one.
    pub(super) fn api_url(&self) -> Option<String> {
        (self.host != PUBLIC).then(|| format!("https://{}/api/v3", self.host))
    }

    /// Says whether a remote of a checkout is this repository, however it is written.
    fn is_remote(&self, url: &str) -> bool {
        let url = url.trim().trim_end_matches('/').to_ascii_lowercase();
        let path = format!("{}/{}", self.host, self.slug().to_ascii_lowercase());
        let url = url.strip_suffix(".git").unwrap_or(&url).replacen(':', "/", usize::from(!url.contains("://")));
        url.strip_suffix(&path).is_some_and(|before| before.is_empty() || before.ends_with(['/', '@']))
    }
}

/// Where the checkout is, or comes to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Checkout {
    /// Its path as agents.toml says it: from the root.
    pub(super) path: String,
    /// The folder that the repository is cloned into first; absent: it is there.
    pub(super) clone_into: Option<PathBuf>,
}

/// Finds the checkout of a repository: the one around the root, the one below it, or one that is still to be cloned.
///
/// # Errors
/// Names a folder that is something else.
pub(super) fn find_checkout(hub: &OnGithub, root: &Path, around: Option<&Surroundings>) -> Result<Checkout> {
    if let Some(around) = around {
        if git::remotes(root).iter().any(|url| hub.is_remote(url)) {
            return Ok(Checkout { path: around.way_up.clone(), clone_into: None });
        }
        return Err(Failure::say(
            Kind::Refused,
            format!("this folder is in a git checkout that has no remote {}", hub.slug()),
        )
        .hint(format!(
            "run it in an empty folder, which gets a clone of its own, or first `git remote add github {}`",
            hub.remote()
        )));
    }
    let folder = root.join(hub.name());
    if !folder.exists() {
        return Ok(Checkout { path: hub.name().to_owned(), clone_into: Some(folder) });
    }
    if git::look(&folder).is_some_and(|found| found.way_up == ".")
        && git::remotes(&folder).iter().any(|url| hub.is_remote(url))
    {
        return Ok(Checkout { path: hub.name().to_owned(), clone_into: None });
    }
    Err(Failure::say(Kind::Refused, format!("{} is there and is no checkout of {}", folder.display(), hub.slug()))
        .hint("move it away, or run it in another folder"))
}

/// Clones the repository; git shows its progress and asks for what it needs.
///
/// # Errors
/// Says that git failed; git itself has said why.
pub(super) fn clone(hub: &OnGithub, into: &Path) -> Result<()> {
    let status = Command::new("git").arg("clone").arg("--").arg(hub.remote()).arg(into).status();
    let failed = |why: String| {
        Failure::say(Kind::Failed, format!("cannot clone {}: {why}", hub.remote())).hint(format!(
            "nothing else was made; when `git clone {}` works, so does this (a private repository needs a credential helper)",
            hub.remote()
        ))
    };
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(failed(format!("git ended with {status}"))),
        Err(error) => Err(failed(format!("git cannot be started: {error}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repository_is_named_by_its_slug_or_its_address() {
        let public: OnGithub = "octo-org/app".parse().unwrap();
        assert_eq!(public.remote(), "https://github.com/octo-org/app.git");
        assert_eq!((public.name(), public.api_url()), ("app", None));
        for same in [
            "https://github.com/octo-org/app",
            "https://GitHub.com/octo-org/app.git",
            "https://github.com/octo-org/app/",
        ] {
            assert_eq!(same.parse::<OnGithub>().unwrap(), public, "{same}");
        }
        let own: OnGithub = "https://git.example.org/team/app".parse().unwrap();
        assert_eq!(own.api_url().as_deref(), Some("https://git.example.org/api/v3"));
        for wrong in [
            "app",
            "git@github.com:octo-org/app",
            "http://github.com/a/b",
            "https://user:token@github.com/a/b",
            "https://github.com",
            "a/b/c",
        ] {
            wrong.parse::<OnGithub>().unwrap_err();
        }
    }

    #[test]
    fn a_remote_is_known_however_it_is_written() {
        let hub: OnGithub = "octo-org/app".parse().unwrap();
        for same in [
            "https://github.com/octo-org/app.git",
            "https://github.com/Octo-Org/App",
            "git@github.com:octo-org/app.git",
            "ssh://git@github.com/octo-org/app.git",
            "https://user@github.com/octo-org/app/",
        ] {
            assert!(hub.is_remote(same), "{same}");
        }
        for other in [
            "https://github.com/octo-org/app2.git",
            "https://notgithub.com/octo-org/app",
            "../app",
            "https://github.com/evil/octo-org/app",
        ] {
            assert!(!hub.is_remote(other), "{other}");
        }
    }
}
