//! The environment of an agent's programs: a list, not an inheritance.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;

use crate::model::agent::AgentSpec;
use crate::model::id::Incarnation;
use crate::model::order::WorkOrder;

/// What every program gets of the runner's own environment, if it is there.
pub(super) const PASSED: [&str; 11] =
    ["PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LC_ALL", "LC_CTYPE", "TERM", "TZ", "TMPDIR"];

/// The variable that marks every process of an attempt; the supervisor finds what a killed runner left by it.
pub(super) const MARK: &str = "MIYABI_ATTEMPT_ID";

/// The files of an attempt that its programs are told of.
#[derive(Debug, Clone, Copy)]
pub(super) struct Files<'a> {
    pub(super) order: &'a Path,
    pub(super) prompt: &'a Path,
    pub(super) inbox: &'a Path,
    pub(super) report: &'a Path,
    pub(super) events: &'a Path,
}

/// Puts together the environment of a program that works on an order.
pub(super) fn of_attempt(
    own: &BTreeMap<String, String>,
    root: &Path,
    agent: &AgentSpec,
    incarnation: Incarnation,
    order: &WorkOrder,
    files: Files<'_>,
) -> BTreeMap<OsString, OsString> {
    let mut environment = of_pane(own, agent);
    // An agent that commits by itself must not need a configured identity; the runner squashes its commits anyway.
    let email = email(agent);
    for (name, value) in [
        ("GIT_AUTHOR_NAME", agent.name.as_str()),
        ("GIT_AUTHOR_EMAIL", &email),
        ("GIT_COMMITTER_NAME", agent.name.as_str()),
        ("GIT_COMMITTER_EMAIL", &email),
    ] {
        environment.entry(name.into()).or_insert_with(|| value.into());
    }
    let told: [(&str, OsString); 13] = [
        ("MIYABI_WORK_ORDER", files.order.into()),
        ("MIYABI_PROMPT", files.prompt.into()),
        ("MIYABI_INBOX", files.inbox.into()),
        ("MIYABI_REPORT", files.report.into()),
        ("MIYABI_EVENTS", files.events.into()),
        ("MIYABI_AGENT", agent.id.as_str().into()),
        ("MIYABI_INCARNATION", incarnation.to_string().into()),
        ("MIYABI_ROOT", root.into()),
        ("MIYABI_TASK", order.task.as_str().into()),
        ("MIYABI_STAGE", order.stage.as_str().into()),
        ("MIYABI_RUN", order.run.to_string().into()),
        ("MIYABI_ATTEMPT", order.attempt.to_string().into()),
        (MARK, order.id.to_string().into()),
    ];
    environment.extend(told.map(|(name, value)| (name.into(), value)));
    environment
}

/// Puts together the environment of a program that only shows something.
pub(super) fn of_pane(own: &BTreeMap<String, String>, agent: &AgentSpec) -> BTreeMap<OsString, OsString> {
    let named = agent.env.iter().map(String::as_str);
    PASSED
        .into_iter()
        .chain(named)
        // What belongs to the pane would let a program steer the tmux server.
        .filter(|name| !name.starts_with("TMUX"))
        .filter_map(|name| own.get(name).map(|value| (name.into(), value.into())))
        .collect()
}

/// The address in an agent's commits; `.invalid` never becomes a real one.
pub(super) fn email(agent: &AgentSpec) -> String {
    format!("{}@miyabi.invalid", agent.id)
}
