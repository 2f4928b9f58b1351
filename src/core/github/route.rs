//! Who does an issue, and whether it is taken at all; both with their reason.

use std::time::Duration;

use crate::model::github::{Association, GithubSpec, Issue, RepositoryOnGithub};
use crate::model::id::Role;
use crate::model::span;
use crate::model::task::{Assignee, Priority};

/// Where an issue goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Routed {
    /// Who does it.
    pub assignee: Assignee,
    /// How urgent it is.
    pub priority: Priority,
    /// How long a run may take before somebody is told.
    pub sla: Option<Duration>,
    /// How that came about, a line each.
    pub because: Vec<String>,
}

/// Why an issue is taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trust {
    /// Its author is trusted.
    Author(Association),
    /// Somebody who may write the repository has set the label.
    Label(String),
    /// Nobody vouches for it.
    None,
}

/// Returns the label that makes an issue work.
#[must_use]
pub fn trigger<'r>(issue: &Issue, repository: &'r RepositoryOnGithub) -> Option<&'r str> {
    repository.labels.iter().find(|label| has(issue, label)).map(String::as_str)
}

pub(super) fn has(issue: &Issue, label: &str) -> bool {
    // GitHub does not tell apart labels by case.
    issue.labels.iter().any(|found| found.to_lowercase() == label.to_lowercase())
}

/// Decides whether an issue may be taken.
#[must_use]
pub fn trust(issue: &Issue, spec: &GithubSpec) -> Trust {
    if spec.trust.contains(&issue.association) {
        return Trust::Author(issue.association);
    }
    match &issue.labelled_by {
        Some(actor) if actor.collaborates => Trust::Label(actor.login.clone()),
        Some(_) | None => Trust::None,
    }
}

/// Decides who does an issue. The first rule that fits decides; a label `priority:N` counts where that says nothing.
#[must_use]
pub fn route(issue: &Issue, spec: &GithubSpec, first_role: &Role) -> Routed {
    let rule = spec.routes.iter().enumerate().find(|(_, route)| has(issue, &route.label));
    let mut because = explain_rules(issue, spec, rule.map(|(index, _)| index));
    let assignee = rule.and_then(|(_, rule)| rule.assignee.clone()).unwrap_or_else(|| {
        because.push(format!("nobody is named: the role {first_role} of the first stage does it"));
        Assignee::Role(first_role.clone())
    });
    let labelled = issue.labels.iter().find_map(|label| {
        let number = label.to_lowercase().strip_prefix("priority:")?.trim().parse::<u8>().ok()?;
        Priority::try_from(number).ok()
    });
    let priority = match (rule.and_then(|(_, rule)| rule.priority), labelled) {
        (Some(priority), _) => {
            because.push(format!("priority {} by that rule", priority.get()));
            priority
        }
        (None, Some(priority)) => {
            because.push(format!("priority {0} by the label `priority:{0}`", priority.get()));
            priority
        }
        (None, None) => Priority::DEFAULT,
    };
    let sla = rule.and_then(|(_, rule)| rule.sla);
    because.extend(sla.map(|sla| format!("must be done within {} by that rule", span::format(sla))));
    Routed { assignee, priority, sla, because }
}

/// Says of every rule whether it fits; the first one that does decides.
fn explain_rules(issue: &Issue, spec: &GithubSpec, decided: Option<usize>) -> Vec<String> {
    let mut because = Vec::new();
    for (index, rule) in spec.routes.iter().enumerate() {
        let (number, label) = (index + 1, &rule.label);
        because.push(match decided {
            Some(first) if first == index => format!("rule {number} fits: the label `{label}`"),
            Some(first) if first < index && has(issue, label) => {
                format!("rule {number} would fit too, and rule {} stands before it: the label `{label}`", first + 1)
            }
            Some(_) | None => format!("rule {number} does not fit: the issue lacks the label `{label}`"),
        });
    }
    if spec.routes.is_empty() {
        because.push("there are no rules".to_owned());
    }
    because
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::github::{Actor, Route};
    use crate::model::id::AgentId;

    fn issue(labels: &[&str], association: Association, labelled_by: Option<(&str, bool)>) -> Issue {
        Issue {
            number: 1,
            title: "t".to_owned(),
            body: String::new(),
            open: true,
            labels: labels.iter().map(|label| (*label).to_owned()).collect(),
            author: "a".to_owned(),
            association,
            labelled_by: labelled_by.map(|(login, collaborates)| Actor { login: login.to_owned(), collaborates }),
            blocked_by: Vec::new(),
            sub_issues: Vec::new(),
            merged: false,
            updated_at: String::new(),
        }
    }

    #[test]
    fn the_first_rule_that_fits_decides() {
        let rule = |label: &str, agent: &str, priority| Route {
            label: label.to_owned(),
            assignee: Some(Assignee::Agent(AgentId::new(agent).unwrap())),
            priority,
            sla: priority.map(|_| Duration::from_secs(14_400)),
        };
        let spec = GithubSpec {
            routes: vec![rule("docs", "sakura", Priority::try_from(1).ok()), rule("bug", "kaede", None)],
            ..GithubSpec::default()
        };
        let role = Role::new("codegen").unwrap();
        let routed = |labels: &[&str]| route(&issue(labels, Association::Owner, None), &spec, &role);
        let both = routed(&["Bug", "docs", "priority:5"]);
        assert_eq!(both.assignee, Assignee::Agent(AgentId::new("sakura").unwrap()));
        assert_eq!((both.priority.get(), both.sla), (1, Some(Duration::from_secs(14_400))));
        assert_eq!(
            both.because,
            [
                "rule 1 fits: the label `docs`",
                "rule 2 would fit too, and rule 1 stands before it: the label `bug`",
                "priority 1 by that rule",
                "must be done within 4h by that rule",
            ]
        );
        let bug = routed(&["bug", "Priority:2"]);
        assert_eq!(bug.because[0], "rule 1 does not fit: the issue lacks the label `docs`");
        assert_eq!((bug.assignee, bug.priority.get()), (Assignee::Agent(AgentId::new("kaede").unwrap()), 2));
        assert_eq!(bug.sla, None);
        assert_eq!(routed(&["priority:9"]).assignee, Assignee::Role(role.clone()));
    }

    #[test]
    fn a_label_counts_only_when_a_collaborator_has_set_it() {
        let spec = GithubSpec::default();
        let trust = |association, by| trust(&issue(&["auto-code"], association, by), &spec);
        assert_eq!(trust(Association::Member, None), Trust::Author(Association::Member));
        assert_eq!(trust(Association::None, None), Trust::None);
        assert_eq!(trust(Association::Contributor, Some(("mallory", false))), Trust::None);
        assert_eq!(trust(Association::None, Some(("alice", true))), Trust::Label("alice".to_owned()));
    }
}
