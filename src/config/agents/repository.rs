//! `[[repository]]`.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use super::super::keys;
use super::super::read::{self, Item};
use super::super::report::{Note, Report};
use super::super::section::{Field, Section};
use super::super::source::Span;
use super::super::tree::Node;
use super::{REPOSITORIES_MAX, github, tables};
use crate::model::fault_code::Mistake;
use crate::model::github::{PullRequestKind, RepositoryOnGithub};
use crate::model::id::{RepositoryName, RepositorySlug};
use crate::model::plan::{ATTEMPTS_AT_ONCE_MAX, MergeMode, RepositorySpec};

/// What tasks write instead of a repository's name when they need none.
const NO_REPOSITORY: &str = "none";

/// Reads all repositories.
pub(super) fn read_all(
    file: &Section<'_>,
    root: &Path,
    trigger: &str,
    report: &mut Report<'_>,
) -> Option<Vec<RepositorySpec>> {
    let nodes = tables(file, "repository", REPOSITORIES_MAX, report)?;
    let mut seen = Seen::default();
    let mut repositories = Vec::with_capacity(nodes.len());
    for node in nodes {
        repositories.push(read_one(node, root, trigger, &mut seen, report));
    }
    repositories.into_iter().collect()
}

/// Where names and paths were used first.
#[derive(Default)]
struct Seen {
    names: BTreeMap<RepositoryName, Span>,
    paths: BTreeMap<PathBuf, Span>,
    slugs: BTreeMap<RepositorySlug, Span>,
}

fn read_one(
    node: &Node,
    root: &Path,
    trigger: &str,
    seen: &mut Seen,
    report: &mut Report<'_>,
) -> Option<RepositorySpec> {
    let section = Section::open("repository", node, node.span, keys::agents::REPOSITORY.keys, report);
    let path = section.field("path", report, |key, node, report| read_path(key, node, root, report));
    if path == Field::Absent {
        section.missing("the repository", "path", "write `path = \"../my-project\"`", report);
    }
    let name = read_name(&section, &path, report);
    let remote = section.field("remote", report, read::text);
    let checks = section.field("check", report, read::texts);
    let protected = section.field("protected", report, |key, node, report| read::words(key, node, report, pattern));
    let merge = section.field("merge", report, read_merge);
    let attempts_max = section
        .field("attempts_max", report, |key, node, report| read::count(key, 1..=ATTEMPTS_AT_ONCE_MAX, node, report));
    let github = read_github(&section, trigger, seen, report);
    if let (Field::Given(MergeMode::PullRequest, span), Some(None)) = (&merge, &github) {
        let message = "`merge = \"pull-request\"` needs a repository on GitHub";
        report.add(Note::new(Mistake::MissingKey, *span, message).help("write `github = \"owner/name\"`"));
    }
    if let Some((name, span)) = &name
        && let Some(first) = seen.names.insert(name.clone(), *span)
    {
        let note = Note::new(Mistake::NameTaken, *span, format!("two repositories have the name `{name}`"));
        report.add(note.help("give each a `name` of its own").related(first, "first used here"));
    }
    if let Field::Given(path, span) = &path
        && let Some(first) = seen.paths.insert(without_parents(path), *span)
    {
        let note = Note::new(Mistake::NameTaken, *span, format!("two repositories have the path `{}`", path.display()));
        report.add(note.help("one repository can have only one merger").related(first, "first used here"));
    }
    Some(RepositorySpec {
        name: name?.0,
        path: path.value()?,
        remote: remote.value(),
        checks: checks.value().map(plain),
        protected: plain(protected.value().unwrap_or_default()),
        merge: merge.value().unwrap_or(MergeMode::Local),
        attempts_max: attempts_max.value(),
        github: github?,
    })
}

fn plain(items: Vec<Item>) -> Vec<String> {
    items.into_iter().map(|item| item.text).collect()
}

/// Says why a text is no pattern for paths of a repository.
fn pattern(text: &str) -> Result<(), String> {
    let bad = |why: &str| Err(format!("`{text}` matches no path of the repository: {why}"));
    match text {
        _ if text.starts_with('/') => bad("patterns begin at the repository's top, without `/`"),
        _ if text.starts_with("./") => bad("leave out the `./`"),
        _ if text.split('/').any(|part| part == "..") => bad("`..` leads out of it"),
        _ => Ok(()),
    }
}

/// Reads the repository's part on GitHub; the inner nothing means that it has none.
#[expect(clippy::option_option, reason = "the outer one says that a fault was told")]
fn read_github(
    section: &Section<'_>,
    trigger: &str,
    seen: &mut Seen,
    report: &mut Report<'_>,
) -> Option<Option<RepositoryOnGithub>> {
    let slug = section.field("github", report, read::name::<RepositorySlug>);
    let labels = section.field("labels", report, github::labels);
    let kinds = [("ready", PullRequestKind::Ready), ("draft", PullRequestKind::Draft)];
    let kind = section.field("pull_request", report, |key, node, report| read::choice(key, &kinds, node, report));
    if labels == Field::Broken || kind == Field::Broken {
        return None;
    }
    let (slug, span) = match slug {
        Field::Given(slug, span) => (slug, span),
        Field::Broken => return None,
        Field::Absent => {
            for span in [labels.span(), kind.span()].into_iter().flatten() {
                let note = Note::new(Mistake::MissingKey, span, "this means nothing without `github`");
                report.add(note.help("write `github = \"owner/name\"`"));
            }
            return Some(None);
        }
    };
    if let Some(first) = seen.slugs.insert(slug.clone(), span) {
        let note = Note::new(Mistake::NameTaken, span, format!("two repositories are `{slug}` on GitHub"));
        report.add(note.help("an issue can be worked on in one only").related(first, "first used here"));
    }
    let labels = labels.value().unwrap_or_else(|| vec![trigger.to_owned()]);
    let pull_request = kind.value().unwrap_or(PullRequestKind::Ready);
    Some(Some(RepositoryOnGithub { slug, labels, pull_request }))
}

/// Reads a path; a relative one begins at the folder of agents.toml.
pub(super) fn read_path(key: &str, node: &Node, root: &Path, report: &mut Report<'_>) -> Option<PathBuf> {
    let text = read::text(key, node, report)?;
    if text.starts_with('~') {
        let note = Note::new(Mistake::BadText, node.span, "`~` is not expanded: no shell reads this file");
        report.add(note.help("write the whole path, or one relative to the folder of agents.toml"));
        return None;
    }
    // Going through the components takes out `.` and doubled slashes.
    Some(root.join(text).components().collect())
}

/// Resolves `..` by the text alone, to compare and name paths. The path itself keeps it: a link could lead elsewhere.
fn without_parents(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for component in path.components() {
        if component == Component::ParentDir {
            plain.pop();
        } else {
            plain.push(component);
        }
    }
    plain
}

/// Reads the name, or takes it from the path's last folder.
fn read_name(section: &Section<'_>, path: &Field<PathBuf>, report: &mut Report<'_>) -> Option<(RepositoryName, Span)> {
    let (name, span) = match section.field("name", report, read::name::<RepositoryName>) {
        Field::Given(name, span) => (name, span),
        Field::Broken => return None,
        Field::Absent => {
            let Field::Given(path, span) = path else { return None };
            let folder =
                without_parents(path).file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            match RepositoryName::new(folder.clone()) {
                Ok(name) => (name, *span),
                Err(_) => {
                    let message = format!("the folder name `{folder}` cannot be the repository's name");
                    report.add(Note::new(Mistake::MissingKey, *span, message).help("add `name = \"...\"`"));
                    return None;
                }
            }
        }
    };
    if name.as_str() == NO_REPOSITORY {
        let note = Note::new(Mistake::NameTaken, span, "a repository cannot be named `none`");
        report.add(note.help("tasks write `repo: none` when they need no repository; add another `name`"));
        return None;
    }
    Some((name, span))
}

fn read_merge(key: &str, node: &Node, report: &mut Report<'_>) -> Option<MergeMode> {
    let modes = [
        ("local", MergeMode::Local),
        ("queue", MergeMode::Queue),
        ("pull-request", MergeMode::PullRequest),
        ("none", MergeMode::None),
    ];
    read::choice(key, &modes, node, report)
}
