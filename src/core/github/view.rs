//! How everything about GitHub is shown.

use std::time::Duration;

use crate::core::Core;
use crate::model::github::IssueRef;
use crate::model::github_view::{GithubView, NotTakenView, RepositoryView, RouteView, TaskOnGithubView, WritesView};
use crate::model::id::TaskId;
use crate::model::task::Assignee;
use crate::model::time::Timestamp;

use super::NotTaken;
use super::outbox::HOUR;
use super::route::{self, Trust};

impl Core {
    /// Shows everything about GitHub.
    #[must_use]
    pub fn github_view(&self, now: Timestamp) -> GithubView {
        let repositories = self.plan.repositories.iter().filter_map(|repository| {
            let round = self.github.rounds.get(&repository.name);
            Some(RepositoryView {
                name: repository.name.clone(),
                slug: repository.github.as_ref()?.slug.clone(),
                last_poll: round.and_then(|round| round.last),
                next_poll: round.filter(|round| round.under_way.is_none()).map(|round| round.next),
                trouble: round.and_then(|round| round.trouble.clone()),
            })
        });
        let begun = &self.durable.github.begun;
        let within = |window: Duration| begun.iter().filter(|at| now.since(**at) <= window).count();
        let trouble = |what: &str, task: &TaskId, reason: &str| format!("{what} of {task}: {reason}");
        let again = self.github.again.iter().map(|((task, kind), again)| trouble(kind.as_str(), task, &again.reason));
        let catching = self.github.catching.iter().filter(|(_, again)| !again.reason.is_empty());
        let catching = catching.map(|(task, again)| trouble("the merge", task, &again.reason));
        GithubView {
            api_url: self.plan.github.api_url.clone(),
            quota: self.scarcest_quota(),
            paused_until: self.github.paused.as_ref().map(|(until, _)| *until),
            paused_reason: self.github.paused.as_ref().map(|(_, reason)| reason.clone()),
            repositories: repositories.collect(),
            writes: WritesView {
                waiting: self.writes_waiting(),
                next_at: self.github.write_at,
                last_minute: within(Duration::from_secs(60)),
                last_hour: within(HOUR),
                troubles: again.chain(catching).collect(),
            },
            orchestra: self.orchestra().to_string(),
            claims: self.claim_views(),
            // Whoever listens knows.
            webhook: None,
            not_trusted: self.github.untrusted.values().map(shown).collect(),
            conflicts: self.github.conflicts.values().map(shown).chain(self.blocked_in_circles()).collect(),
            tasks: self
                .durable
                .github
                .tasks
                .iter()
                .map(|(task, on)| {
                    let run = self.durable.tasks.get(task).map(|record| record.run);
                    TaskOnGithubView {
                        task: task.clone(),
                        issue: on.issue.as_ref().map(IssueRef::to_string),
                        pull: on.pull.clone(),
                        comment: on.comment.as_ref().filter(|(of, ..)| Some(*of) == run).map(|(_, id, _)| *id),
                    }
                })
                .collect(),
        }
    }

    /// Names issues that wait for each other.
    fn blocked_in_circles(&self) -> Vec<NotTakenView> {
        let told = |circle: &Vec<TaskId>| {
            let task = circle.iter().find(|task| self.github.seen.contains_key(*task))?;
            let issue = self.github.seen.get(task)?;
            Some(NotTakenView {
                issue: task.to_string(),
                title: super::fence::title(&issue.title),
                author: issue.author.clone(),
                reason: self.circle_text(circle),
            })
        };
        self.circles.iter().filter_map(told).collect()
    }

    /// Explains where an issue goes. The issue is written as `owner/name#12`, `repository#12`, or as its task.
    #[must_use]
    pub fn explain_route(&self, text: &str) -> Option<RouteView> {
        let (place, number) = text.split_once('#').or_else(|| text.rsplit_once("/issue-"))?;
        let number: u64 = number.parse().ok()?;
        let repository = self.plan.repositories.iter().find(|repository| {
            repository.github.as_ref().is_some_and(|on| on.slug.as_str() == place || repository.name.as_str() == place)
        })?;
        let slug = repository.github.as_ref()?.slug.clone();
        let task = crate::model::github::task_of(&repository.name, number)?;
        let issue = self.github.seen.get(&task)?;
        let routed = route::route(issue, &self.plan.github, &self.first_role());
        let record = self.durable.tasks.get(&task);
        let mut because = Vec::new();
        if let Some(label) = route::trigger(issue, repository.github.as_ref()?) {
            because.push(format!("it has the label `{label}`"));
        }
        if let Some(listed) = self.durable.issues.get(&task) {
            because.push(format!("{} lists it, and what it says counts more than labels", listed.path));
        }
        because.push(match route::trust(issue, &self.plan.github) {
            Trust::Author(association) => format!("{} is trusted as {}", issue.author, association.as_str()),
            Trust::Label(login) => format!("{login}, who may write the repository, has set the label"),
            Trust::None => match self.github.untrusted.get(&task) {
                Some(not) => format!("not trusted: {}", not.reason),
                None => "a collaborator has approved it".to_owned(),
            },
        });
        because.extend(routed.because);
        let spec = record.map(|record| &record.spec);
        if let Some(spec) = spec.filter(|spec| spec.assignee != routed.assignee || spec.priority != routed.priority) {
            because.push(format!(
                "a comment or the file has changed that: {}, priority {}",
                who(&spec.assignee),
                spec.priority.get()
            ));
        }
        let needs = spec.map(|spec| spec.needs.clone()).unwrap_or_default();
        because.extend(needs.iter().map(|need| format!("needs {need} ({})", self.origins_of(&task, need).join("; "))));
        let is_open = record.is_some_and(|record| !record.is_settled());
        because.extend(self.why_unclaimed(&task).filter(|_| is_open));
        Some(RouteView {
            issue: IssueRef { slug, number }.to_string(),
            taken: record.is_some() && !self.github.untrusted.contains_key(&task),
            task,
            assignee: who(spec.map_or(&routed.assignee, |spec| &spec.assignee)),
            priority: spec.map_or(routed.priority, |spec| spec.priority).get(),
            needs,
            because,
        })
    }
}

fn who(assignee: &Assignee) -> String {
    match assignee {
        Assignee::Agent(agent) => format!("agent {agent}"),
        Assignee::Role(role) => format!("role {role}"),
    }
}

fn shown(not: &NotTaken) -> NotTakenView {
    NotTakenView {
        issue: not.issue.to_string(),
        title: not.title.clone(),
        author: not.author.clone(),
        reason: not.reason.clone(),
    }
}
