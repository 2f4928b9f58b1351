//! `[github]`.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use super::super::keys;
use super::super::read;
use super::super::report::{Note, Report};
use super::super::section::{Field, Section};
use super::super::source::Span;
use super::super::tree::{Node, Value};
use crate::model::agent::AgentSpec;
use crate::model::fault_code::Mistake;
use crate::model::github::{
    AppId, AppSpec, Association, ClaimKind, GithubSpec, Pace, Route, TRIGGER_LABEL, WEBHOOK_SECRET_ENV, WebhookSpec,
};
use crate::model::id::{AgentId, Role};
use crate::model::plan::RepositorySpec;
use crate::model::span::DAY;
use crate::model::task::{Assignee, LABEL_CHARS_MAX, Priority, is_label};

/// How many rules of routing there may be.
const ROUTES_MAX: usize = 100;

/// How an issue can be claimed.
const CLAIMS: [(&str, ClaimKind); 2] = [("comment", ClaimKind::Comment), ("none", ClaimKind::None)];

/// The shortest lease of a claim: it is renewed at half of it, and a write may take a minute.
const LEASE_MIN: Duration = Duration::from_secs(120);

/// The longest lease of a claim: so long others wait for an orchestra that is gone.
const LEASE_MAX: Duration = DAY;

/// The shortest time between two questions.
const POLL_MIN: Duration = Duration::from_millis(100);

/// What `[github]` says, and where.
#[derive(Debug)]
pub(super) struct Github {
    pub(super) spec: GithubSpec,
    pub(super) trigger_label: String,
    token_span: Span,
    /// Where `claim_label` is written.
    label_span: Span,
}

/// Reads `[github]`; nothing if something in it is wrong.
pub(super) fn read(file: &Section<'_>, root: &Path, report: &mut Report<'_>) -> Option<Github> {
    let built_in = GithubSpec::default();
    let Some(entry) = file.entry("github") else {
        return Some(Github {
            spec: built_in,
            trigger_label: TRIGGER_LABEL.to_owned(),
            token_span: Span::FILE,
            label_span: Span::FILE,
        });
    };
    let section = Section::open(&entry.key, &entry.node, entry.key_span, keys::github::GITHUB.keys, report);
    let api_url = section.field("api_url", report, address);
    let token_env = section.field("token_env", report, variable);
    let app = read_app(&section, &token_env, root, report);
    let poll = section.field("poll", report, |key, node, report| read::duration(key, POLL_MIN, node, report));
    let reconcile = section.field("reconcile", report, |key, node, report| read::duration(key, POLL_MIN, node, report));
    let trigger_label = section.field("trigger_label", report, label);
    let trust = section.field("trust", report, trust);
    let interval = section.field("write_interval", report, |key, node, report| {
        read::duration(key, Duration::from_millis(1), node, report)
    });
    let writes =
        |key: &str, node: &Node, report: &mut Report<'_>| read::count(key, 1..=keys::github::WRITES_MAX, node, report);
    let per_minute = section.field("writes_per_minute", report, writes);
    let per_hour = section.field("writes_per_hour", report, writes);
    let body_depends = section.field("body_depends", report, read::flag);
    let claim = section.field("claim", report, |key, node, report| read::choice(key, &CLAIMS, node, report));
    let claim_lease = section.field("claim_lease", report, lease);
    let claim_label = section.field("claim_label", report, label);
    let routes = read_routes(&section, report);
    let webhook = read_webhook(&section, report);
    if let (Field::Given(reconcile, span), poll) = (&reconcile, poll.or(built_in.poll)?)
        && *reconcile < poll
    {
        let note = Note::new(Mistake::Contradiction, *span, "`reconcile` must not be shorter than `poll`");
        report.add(note.help("everything is read anew instead of only what has changed"));
    }
    let pace = Pace {
        interval: interval.or(built_in.pace.interval)?,
        per_minute: per_minute.or(built_in.pace.per_minute)?,
        per_hour: per_hour.or(built_in.pace.per_hour)?,
    };
    Some(Github {
        token_span: token_env.span().unwrap_or(section.span),
        label_span: claim_label.span().unwrap_or(section.span),
        trigger_label: trigger_label.or(TRIGGER_LABEL.to_owned())?,
        spec: GithubSpec {
            api_url: api_url.or(built_in.api_url)?,
            token_env: token_env.or(built_in.token_env)?,
            app: app?,
            poll: poll.or(built_in.poll)?,
            reconcile: reconcile.or(built_in.reconcile.max(poll.or(built_in.poll)?))?,
            trust: trust.or(built_in.trust)?,
            routes: routes?,
            pace,
            webhook: webhook?,
            body_depends: body_depends.or(built_in.body_depends)?,
            claim: claim.or(built_in.claim)?,
            claim_lease: claim_lease.or(built_in.claim_lease)?,
            claim_label: claim_label.value(),
        },
    })
}

/// Tells of a `claim_label` that means something else as well: what the supervisor sets must never change what is done.
pub(super) fn keep_label_apart(repositories: &[RepositorySpec], github: &Github, report: &mut Report<'_>) {
    let Some(label) = &github.spec.claim_label else { return };
    let is_it = |other: &str| other.to_lowercase() == label.to_lowercase();
    let triggers = repositories.iter().filter_map(|repository| repository.github.as_ref());
    let other = if triggers.flat_map(|on| &on.labels).any(|other| is_it(other)) || is_it(&github.trigger_label) {
        "makes issues work"
    } else if github.spec.routes.iter().any(|route| is_it(&route.label)) {
        "belongs to a [[github.route]]"
    } else if label.to_lowercase().starts_with("priority:") {
        "says how urgent an issue is"
    } else if label.trim() != label {
        // GitHub leaves spaces away: what is taken away at the end could be another label.
        "begins or ends with a space"
    } else if matches!(label.as_str(), "." | "..") {
        // In the address of a call, these would mean another place.
        "is no name that can be taken away again"
    } else {
        return;
    };
    let message = format!("the `claim_label` `{}` {other}", label.escape_debug());
    let note = Note::new(Mistake::Contradiction, github.label_span, message);
    report.add(note.help("name a label that only says that an issue is worked on, such as \"in-progress\""));
}

/// Tells of agents that would be given the token.
pub(super) fn keep_token_from(agents: &[AgentSpec], github: &Github, report: &mut Report<'_>) {
    let webhook = github.spec.webhook.as_ref().map(|webhook| &webhook.secret_env);
    for agent in agents {
        if let Some(name) = webhook.filter(|name| agent.env.contains(*name)) {
            let message = format!("`{name}` holds the webhook's secret and must not be in the `env` of {}", agent.id);
            let note = Note::new(Mistake::Contradiction, github.token_span, message);
            report.add(note.help("whoever knows it can pretend to be GitHub"));
        }
    }
    if github.spec.app.is_some() {
        // No variable holds anything of ours then.
        return;
    }
    let name = &github.spec.token_env;
    for agent in agents.iter().filter(|agent| agent.env.contains(name)) {
        let message = format!("`{name}` holds the supervisor's token and must not be in the `env` of {}", agent.id);
        let help = "give the agent a token of its own under another name, or name another `token_env`";
        report.add(Note::new(Mistake::Contradiction, github.token_span, message).help(help));
    }
}

/// Reads `app_id` and `private_key_file`; `Some(None)` when there are none.
fn read_app(
    section: &Section<'_>,
    token_env: &Field<String>,
    root: &Path,
    report: &mut Report<'_>,
) -> Option<Option<AppSpec>> {
    let id = section.field("app_id", report, |key, node, report| read::count(key, 1..=u32::MAX, node, report));
    let file = section
        .field("private_key_file", report, |key, node, report| super::repository::read_path(key, node, root, report));
    if let (Some(app), Some(_)) = (id.span().or(file.span()), token_env.span()) {
        let note = Note::new(Mistake::Exclusive, app, "GitHub is shown a token or an app, not both");
        report.add(note.help("take out `token_env`, or `app_id` and `private_key_file`"));
        return None;
    }
    match (id, file) {
        (Field::Absent, Field::Absent) => Some(None),
        (Field::Given(id, _), Field::Given(private_key_file, _)) => {
            Some(Some(AppSpec { id: AppId(id), private_key_file }))
        }
        (Field::Given(..), Field::Absent) => {
            let help = "an app proves itself with its key; write `private_key_file = \"app.pem\"`";
            section.missing("the app", "private_key_file", help, report);
            None
        }
        (Field::Absent, Field::Given(..)) => {
            section.missing("the app", "app_id", "the app's page on GitHub shows it; write `app_id = 12345`", report);
            None
        }
        (Field::Broken, _) | (_, Field::Broken) => None,
    }
}

/// Reads labels, each once.
pub(super) fn labels(key: &str, node: &Node, report: &mut Report<'_>) -> Option<Vec<String>> {
    let items = read::words(key, node, report, label_rule)?;
    if items.is_empty() {
        report.add(Note::new(Mistake::Empty, node.span, format!("`{key}` must name at least one label")));
        return None;
    }
    Some(items.into_iter().map(|item| item.text).collect())
}

fn label(key: &str, node: &Node, report: &mut Report<'_>) -> Option<String> {
    let text = read::text(key, node, report)?;
    match label_rule(&text) {
        Ok(()) => Some(text),
        Err(message) => {
            report.add(Note::new(Mistake::BadText, node.span, message));
            None
        }
    }
}

fn label_rule(text: &str) -> Result<(), String> {
    if !is_label(text) {
        return Err(format!(
            "the label `{}` must have at most {LABEL_CHARS_MAX} characters and no comma",
            text.escape_debug()
        ));
    }
    Ok(())
}

/// Reads the address of an API, without a slash at its end.
fn address(key: &str, node: &Node, report: &mut Report<'_>) -> Option<String> {
    let text = read::text(key, node, report)?;
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    let good = rest.is_some_and(|rest| {
        !rest.is_empty()
            && !rest.starts_with('/')
            && !rest.contains(['@', '?', '#'])
            && !rest.contains(char::is_whitespace)
    });
    if !good {
        let message = format!("`{key}` must be an address such as \"https://github.example.org/api/v3\"");
        report.add(Note::new(Mistake::BadText, node.span, message));
        return None;
    }
    Some(text.trim_end_matches('/').to_owned())
}

fn lease(key: &str, node: &Node, report: &mut Report<'_>) -> Option<Duration> {
    let lease = read::duration(key, LEASE_MIN, node, report)?;
    if lease > LEASE_MAX {
        let note = Note::new(Mistake::OutOfRange, node.span, format!("`{key}` must be at most 1d"));
        report.add(note.help("so long others wait for an orchestra that is gone"));
        return None;
    }
    Some(lease)
}

fn variable(key: &str, node: &Node, report: &mut Report<'_>) -> Option<String> {
    let text = read::text(key, node, report)?;
    let is_name = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if !is_name {
        let note = Note::new(Mistake::BadText, node.span, format!("`{key}` must be the name of a variable"));
        report.add(note.help("never write the token itself into a file"));
        return None;
    }
    Some(text)
}

fn trust(key: &str, node: &Node, report: &mut Report<'_>) -> Option<BTreeSet<Association>> {
    let words = read::words(key, node, report, |word| match association(word) {
        Some(_) => Ok(()),
        None => Err(format!(
            "`{key}` cannot name `{}`; known: OWNER, MEMBER, COLLABORATOR, CONTRIBUTOR, NONE",
            word.escape_debug()
        )),
    })?;
    Some(words.iter().filter_map(|word| association(&word.text)).collect())
}

fn association(word: &str) -> Option<Association> {
    [Association::Owner, Association::Member, Association::Collaborator, Association::Contributor, Association::None]
        .into_iter()
        .find(|known| known.as_str() == word)
}

fn read_routes(github: &Section<'_>, report: &mut Report<'_>) -> Option<Vec<Route>> {
    let Some(entry) = github.entry("route") else { return Some(Vec::new()) };
    let Value::List(list) = &*entry.node.value else {
        let note = Note::new(Mistake::WrongType, entry.node.span, "`route` is a list of tables");
        report.add(note.help("write `[[github.route]]` with two brackets"));
        return None;
    };
    if list.len() > ROUTES_MAX {
        let message = format!("{} times `[[github.route]]`; at most {ROUTES_MAX} are possible", list.len());
        report.add(Note::new(Mistake::TooMuch, entry.key_span, message));
        return None;
    }
    let routes: Vec<Option<Route>> = list.iter().map(|node| read_route(node, report)).collect();
    routes.into_iter().collect()
}

/// Reads `[github.webhook]`; `Some(None)` when there is none.
fn read_webhook(github: &Section<'_>, report: &mut Report<'_>) -> Option<Option<WebhookSpec>> {
    let Some(entry) = github.entry("webhook") else { return Some(None) };
    let section = Section::open("webhook", &entry.node, entry.key_span, keys::github::WEBHOOK.keys, report);
    let listen = section.field("listen", report, loopback);
    if listen == Field::Absent {
        section.missing("the webhook", "listen", "write `listen = \"127.0.0.1:8787\"`", report);
    }
    let secret_env = section.field("secret_env", report, variable);
    Some(Some(WebhookSpec { listen: listen.value()?, secret_env: secret_env.or(WEBHOOK_SECRET_ENV.to_owned())? }))
}

/// Reads an address that only this machine can reach.
fn loopback(key: &str, node: &Node, report: &mut Report<'_>) -> Option<String> {
    let text = read::text(key, node, report)?;
    let port = ["127.0.0.1:", "[::1]:", "localhost:"].into_iter().find_map(|host| text.strip_prefix(host));
    if port.and_then(|port| port.parse::<u16>().ok()).is_none_or(|port| port == 0) {
        let note = Note::new(
            Mistake::BadText,
            node.span,
            format!("`{key}` must be an address on loopback with a port, such as \"127.0.0.1:8787\""),
        );
        report.add(note.help("let a proxy with TLS, or a tunnel, take what comes from outside and hand it on"));
        return None;
    }
    Some(text)
}

fn read_route(node: &Node, report: &mut Report<'_>) -> Option<Route> {
    let section = Section::open("route", node, node.span, keys::github::ROUTE.keys, report);
    let found = section.field("label", report, label);
    if found == Field::Absent {
        section.missing("the route", "label", "write `label = \"docs\"`", report);
    }
    let role = section.field("role", report, read::name::<Role>);
    let agent = section.field("agent", report, read::name::<AgentId>);
    let priority = section.field("priority", report, |key, node, report| {
        read::count(key, 1..=5, node, report).and_then(|number| Priority::try_from(u8::try_from(number).ok()?).ok())
    });
    let assignee = match (role, agent) {
        (Field::Given(..), Field::Given(_, span)) => {
            report.add(Note::new(Mistake::Exclusive, span, "a route names an agent or a role, not both"));
            return None;
        }
        (Field::Broken, _) | (_, Field::Broken) => return None,
        (Field::Given(role, _), Field::Absent) => Some(Assignee::Role(role)),
        (Field::Absent, Field::Given(agent, _)) => Some(Assignee::Agent(agent)),
        (Field::Absent, Field::Absent) => None,
    };
    let sla =
        section.field("sla", report, |key, node, report| read::duration(key, Duration::from_millis(1), node, report));
    if priority == Field::Broken || sla == Field::Broken {
        return None;
    }
    Some(Route { label: found.value()?, assignee, priority: priority.value(), sla: sla.value() })
}
