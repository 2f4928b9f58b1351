//! What a text of a dependency file refers to: a task, or an issue of GitHub.

use std::collections::{BTreeMap, BTreeSet};

use super::super::lookalike;
use super::super::read;
use super::super::report::{Note, Report};
use super::super::section::{Field, Section};
use super::super::source::Span;
use super::super::suggest;
use super::defaults::Known;
use crate::model::fault::Place;
use crate::model::fault_code::Mistake;
use crate::model::github::{IssueRef, foreign_task, task_of};
use crate::model::id::{RepositorySlug, TaskId};
use crate::model::plan::{Plan, RepositorySpec};
use crate::model::task::{Reference, RepositoryChoice};

/// How an issue can be written.
const HOW: &str = "write `12`, `owner/name#12` or `NAME#12`";

/// The entries of a `needs`, and where each stands.
pub(super) type Needs = (Vec<TaskId>, Vec<Place>);

/// Finds out what the references of one file mean.
pub(super) struct References<'p> {
    pub(super) plan: &'p Plan,
    stem: String,
    /// Where bare numbers count.
    home: Known<RepositoryChoice>,
    /// The tasks of the file: a task whose name is a number is meant by it.
    tasks: BTreeSet<String>,
    /// Whether it has been told that bare numbers mean nothing here.
    is_homeless_told: bool,
    /// The issues that anything needs.
    needed: BTreeMap<TaskId, Reference>,
}

/// An issue, and the id of its task.
pub(super) type Found = (TaskId, Reference);

impl<'p> References<'p> {
    pub(super) fn new(plan: &'p Plan, stem: &str, home: Known<RepositoryChoice>, tasks: BTreeSet<String>) -> Self {
        Self { plan, stem: stem.to_owned(), home, tasks, is_homeless_told: false, needed: BTreeMap::new() }
    }

    /// Returns the issues that were needed.
    pub(super) fn into_needed(self) -> BTreeMap<TaskId, Reference> {
        self.needed
    }

    /// Reads an issue; tells what is wrong with it.
    pub(super) fn issue(&mut self, text: &str, span: Span, report: &mut Report<'_>) -> Option<Found> {
        let bare = text.strip_prefix('#').unwrap_or(text);
        let (place, number) = match text.rsplit_once('#') {
            Some(("", _)) | None => ("", bare),
            Some((place, number)) => (place, number),
        };
        let number = read_number(number, text, span, report)?;
        if place.is_empty() {
            return self.at_home(number, text, span, report);
        }
        if !place.contains('/') {
            let found = self.plan.repositories.iter().find(|repository| repository.name.as_str() == place);
            return match found {
                Some(repository) => ours(repository, number, text, span, report),
                None => {
                    let names = self.plan.repositories.iter().map(|repository| repository.name.as_str());
                    let note = Note::new(Mistake::UnknownRepository, span, format!("unknown repository `{place}`"))
                        .help("write the name of a `[[repository]]`, or `owner/name` as on GitHub");
                    report.add(note.maybe_help(suggest::did_you_mean(place, names)));
                    None
                }
            };
        }
        let Ok(slug) = RepositorySlug::new(place) else {
            report.add(bad(text, span));
            return None;
        };
        let same = |repository: &&RepositorySpec| {
            // GitHub does not tell apart names by case.
            repository.github.as_ref().is_some_and(|on| on.slug.as_str().eq_ignore_ascii_case(slug.as_str()))
        };
        if let Some(repository) = self.plan.repositories.iter().find(same) {
            return ours(repository, number, text, span, report);
        }
        let issue = IssueRef { slug, number };
        let id = foreign_task(&issue);
        if id.is_none() {
            report.add(bad(text, span));
        }
        Some((id?, Reference { issue, ours: false }))
    }

    /// Finds the issue of a bare number.
    fn at_home(&mut self, number: u64, text: &str, span: Span, report: &mut Report<'_>) -> Option<Found> {
        let home = match &self.home {
            Known::Good(RepositoryChoice::Named(name)) => self.plan.repository(name),
            Known::Good(RepositoryChoice::None) | Known::Missing => None,
            Known::Broken => return None,
        };
        if let Some(repository) = home
            && repository.github.is_some()
        {
            return ours(repository, number, text, span, report);
        }
        if std::mem::replace(&mut self.is_homeless_told, true) {
            return None;
        }
        match home {
            Some(repository) => {
                ours(repository, number, text, span, report);
            }
            None => {
                let message = format!("`{text}` is an issue of which repository?");
                let note = Note::new(Mistake::WhichRepository, span, message);
                report.add(note.help("write `repo:` at the top of the file, or `owner/name#12` as on GitHub"));
            }
        }
        None
    }

    /// Reads `needs`; nothing if something in it is wrong.
    pub(super) fn needs(
        &mut self,
        section: &Section<'_>,
        own: Option<&TaskId>,
        report: &mut Report<'_>,
    ) -> Option<Needs> {
        let items = match section.field("needs", report, read::texts) {
            Field::Absent => return Some(Needs::default()),
            Field::Broken => return None,
            Field::Given(items, _) => items,
        };
        let mut needs = Needs::default();
        let mut first_at: BTreeMap<TaskId, Span> = BTreeMap::new();
        let mut is_good = true;
        for item in items {
            let Some(id) = self.need(&item.text, item.span, report) else {
                is_good = false;
                continue;
            };
            let note = if Some(&id) == own {
                Note::new(Mistake::NeedsItself, item.span, format!("`{}` needs itself", item.text))
            } else if let Some(first) = first_at.get(&id) {
                Note::new(Mistake::StandsTwice, item.span, format!("`{}` stands twice in `needs`", item.text))
                    .related(*first, "first here")
            } else {
                first_at.insert(id.clone(), item.span);
                needs.0.push(id);
                needs.1.push(report.source().place(item.span));
                continue;
            };
            report.add(note);
            is_good = false;
        }
        is_good.then_some(needs)
    }

    /// Finds what one entry of `needs` means.
    fn need(&mut self, text: &str, span: Span, report: &mut Report<'_>) -> Option<TaskId> {
        let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        if (is_number || text.contains('#')) && !self.tasks.contains(text) {
            let (id, reference) = self.issue(text, span, report)?;
            self.needed.insert(id.clone(), reference);
            return Some(id);
        }
        let id = if text.contains('/') { text.to_owned() } else { format!("{}/{text}", self.stem) };
        if let Ok(id) = TaskId::new(id) {
            return Some(id);
        }
        let note = Note::new(Mistake::BadName, span, format!("`{}` cannot be the name of a task", text.escape_debug()));
        let is_list = text.contains([',', ' ']);
        let list = is_list.then(|| "several are a list: write `[one, another]`".to_owned());
        let note = note.help("write NAME for a task of this file, FILE/NAME for one of another, 12 for an issue");
        report.add(note.maybe_help(lookalike::help(text).or(list)));
        None
    }
}

fn bad(text: &str, span: Span) -> Note {
    Note::new(Mistake::BadIssue, span, format!("`{}` names no issue", text.escape_debug())).help(HOW)
}

fn read_number(digits: &str, text: &str, span: Span, report: &mut Report<'_>) -> Option<u64> {
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    let trimmed = digits.trim_start_matches('0');
    if is_number && !trimmed.is_empty() && trimmed.len() < digits.len() {
        let note = Note::new(Mistake::BadIssue, span, format!("`{text}` names no issue: its number begins with 0"));
        report
            .add(note.help(format!("write `{trimmed}`; what `{digits}` is, programs that read YAML do not agree on")));
        return None;
    }
    let number = digits.parse().ok().filter(|number| is_number && *number > 0);
    if number.is_none() {
        report.add(bad(text, span));
    }
    number
}

/// Returns an issue of one of our repositories.
fn ours(repository: &RepositorySpec, number: u64, text: &str, span: Span, report: &mut Report<'_>) -> Option<Found> {
    let Some(on_github) = &repository.github else {
        let message = format!("`{text}` is an issue, and the repository `{}` is not on GitHub", repository.name);
        let note = Note::new(Mistake::NotOnGithub, span, message);
        report.add(note.help("write `github = \"owner/name\"` below its `[[repository]]` in agents.toml"));
        return None;
    };
    let issue = IssueRef { slug: on_github.slug.clone(), number };
    let id = task_of(&repository.name, number);
    if id.is_none() {
        report.add(bad(text, span));
    }
    Some((id?, Reference { issue, ours: true }))
}
