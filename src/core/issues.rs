//! Issues that dependency files list, and when an issue no longer holds up those who need it.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::model::github::IssueRef;
use crate::model::id::TaskId;
use crate::model::task::{IssueNode, IssueSpec, ResolvedWhen, TaskFile};

use super::Core;
use super::fact::{Fact, Origin};
use super::scheduler::graph;
use super::state::{Durable, Phase};

/// An issue that a dependency file in force lists.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FileIssue {
    /// The file's stem.
    pub stem: String,
    /// The file's path as shown to people.
    pub path: String,
    /// The issue.
    pub issue: IssueRef,
    /// What the file says of it.
    pub spec: IssueSpec,
}

impl FileIssue {
    /// Says whether the issue itself, and not the work on it, tells when it is resolved.
    #[must_use]
    pub const fn is_resolved_by_itself(&self) -> bool {
        let by_rule = match self.spec.resolved_when {
            Some(ResolvedWhen::Closed | ResolvedWhen::Label(_)) => true,
            Some(ResolvedWhen::Merged) | None => false,
        };
        self.spec.external || by_rule
    }

    const fn rule(&self) -> (bool, Option<&ResolvedWhen>) {
        (self.spec.external, self.spec.resolved_when.as_ref())
    }
}

impl Durable {
    /// Takes over what a file says of an issue, or that none does any more.
    pub(super) fn list_issue(&mut self, task: &TaskId, listed: Option<&FileIssue>) {
        let rule = |listed: Option<&FileIssue>| {
            let (external, when) = listed.map_or((false, None), FileIssue::rule);
            (external, when.cloned())
        };
        if rule(self.issues.get(task)) != rule(listed) {
            // What is known was an answer to another question.
            self.github.resolved.remove(task);
        }
        match listed {
            Some(listed) => self.issues.insert(task.clone(), listed.clone()),
            None => self.issues.remove(task),
        };
    }

    /// Says whether those who need a task or an issue need not wait for it any more.
    #[must_use]
    pub fn is_met(&self, task: &TaskId) -> bool {
        let is_resolved = || self.github.resolved.contains_key(task);
        let listed = self.issues.get(task);
        if listed.is_some_and(FileIssue::is_resolved_by_itself) {
            return is_resolved();
        }
        match self.tasks.get(task) {
            None => is_resolved(),
            Some(record) if graph::is_met(record) => true,
            Some(record) => {
                // An issue that somebody has closed without our work holds nobody up, unless its merge is waited for.
                let is_given_up = matches!(record.phase, Phase::Cancelled { .. } | Phase::Failed { .. });
                let is_issue = matches!(record.origin, Origin::Issue { .. });
                let by_merge = listed.is_some_and(|listed| listed.spec.resolved_when == Some(ResolvedWhen::Merged));
                is_issue && is_given_up && !by_merge && is_resolved()
            }
        }
    }

    /// Returns the stem of the file that a task is in, or its issue.
    pub(super) fn stem_of(&self, task: &TaskId) -> Option<&str> {
        match &self.tasks.get(task)?.origin {
            Origin::File { stem, .. } => Some(stem),
            Origin::Issue { .. } => self.issues.get(task).map(|listed| listed.stem.as_str()),
            Origin::Submitted | Origin::Healer { .. } => None,
        }
    }
}

impl Core {
    /// Makes what is known of listed issues agree with the files that are in force.
    pub(super) fn adopt_issues(&mut self, files: &[TaskFile]) {
        let mut listed: BTreeMap<&TaskId, FileIssue> = BTreeMap::new();
        for file in files {
            for IssueNode { id, issue, spec, .. } in &file.issues {
                let (stem, path) = (file.stem.clone(), file.path.clone());
                listed.insert(id, FileIssue { stem, path, issue: issue.clone(), spec: spec.clone() });
            }
        }
        let known: BTreeSet<&TaskId> = self.durable.issues.keys().chain(listed.keys().copied()).collect();
        let changed: Vec<(TaskId, Option<Box<FileIssue>>)> = known
            .into_iter()
            .filter(|task| self.durable.issues.get(*task) != listed.get(*task))
            .map(|task| (task.clone(), listed.get(task).cloned().map(Box::new)))
            .collect();
        for (task, listed) in changed {
            self.record(Fact::IssueListed { task: task.clone(), listed });
            self.reconsider(&task);
        }
    }

    /// Says where it is written that a task needs another one: places of files, and what GitHub says.
    #[must_use]
    pub fn origins_of(&self, task: &TaskId, need: &TaskId) -> Vec<String> {
        let Some(record) = self.durable.tasks.get(task) else { return Vec::new() };
        let mut origins = Vec::new();
        let file = self.durable.stem_of(task).and_then(|stem| self.files.get(stem));
        let place = self.needs_places.get(task).and_then(|needs| needs.iter().find(|(other, _)| other == need));
        if let (Some(file), Some((_, place))) = (file, place)
            && place.file == file.path
        {
            origins.push(place.to_string());
        }
        origins.extend(record.spec.said.get(need).into_iter().flatten().map(|source| source.text().to_owned()));
        if origins.is_empty() {
            origins.push(match &record.origin {
                Origin::File { path, .. } => path.clone(),
                Origin::Submitted | Origin::Healer { .. } => "its submission".to_owned(),
                Origin::Issue { .. } => match self.durable.issues.get(task) {
                    Some(listed) if listed.spec.needs.contains(need) => listed.path.clone(),
                    Some(_) | None => "GitHub".to_owned(),
                },
            });
        }
        origins
    }
}
