//! agents.toml: the team, its repositories and its workflow.

mod agent;
mod github;
mod limits;
mod repository;
mod resources;
mod scheduler;
mod spool;
mod timing;
mod workflow;

use std::path::Path;
use std::rc::Rc;

use self::timing::Timing;
use super::keys;
use super::read;
use super::report::{Note, Report};
use super::section::{Field, Section};
use super::source::Span;
use super::toml_tree;
use super::tree::{Node, Value};
use crate::model::agent::Limits;
use crate::model::fault::Fault;
use crate::model::fault_code::Mistake;
use crate::model::github::TRIGGER_LABEL;
use crate::model::plan::{Plan, SessionSpec};

/// How many agents a team may have.
pub const AGENTS_MAX: usize = 200;

/// How many repositories a team may work on.
pub const REPOSITORIES_MAX: usize = 100;

/// The tmux session, and the socket, of a team that names none.
const SESSION_DEFAULT: &str = "miyabi";

/// The longest name that people see, in characters.
const DISPLAY_NAME_CHARS_MAX: usize = 64;

/// What `[defaults]` says.
#[derive(Debug)]
struct Defaults {
    timing: Timing,
    limits: Limits,
}

/// Reads agents.toml. `file` is the path that faults show, `root` the absolute folder at which relative paths begin.
///
/// # Errors
/// Returns every fault of the file with its place, in the order of the file.
pub fn parse(file: &str, text: &str, root: &Path) -> Result<Plan, Vec<Fault>> {
    let mut report = Report::new(file, text);
    let plan = if report.is_clean() { read_plan(root, &mut report) } else { None };
    match plan {
        Some(plan) if report.is_clean() => Ok(plan),
        Some(_) | None => Err(report.into_faults()),
    }
}

/// Reads what can be read; where it gives nothing, a fault has been told.
fn read_plan(root: &Path, report: &mut Report<'_>) -> Option<Plan> {
    let tree = toml_tree::read(report)?;
    let file = Section::open("agents.toml", &tree, Span::FILE, keys::agents::AGENTS.keys, report);
    let session = read_session(&file, report);
    let defaults = match file.entry("defaults") {
        None => Defaults { timing: Timing::built_in(), limits: Limits::default() },
        Some(entry) => {
            let section = Section::open(&entry.key, &entry.node, entry.key_span, keys::agents::DEFAULTS.keys, report);
            let timing = Timing::read(&section, &Timing::built_in(), report);
            Defaults { timing, limits: limits::read(&section, &Limits::default(), report) }
        }
    };
    let agents = agent::read_all(&file, &defaults, report);
    let github = github::read(&file, root, report);
    let trigger = github.as_ref().map_or(TRIGGER_LABEL, |github| &github.trigger_label);
    let repositories = repository::read_all(&file, root, trigger, report);
    let workflow = workflow::read(&file, agents.as_deref(), report);
    let resources = resources::read(&file, report);
    let scheduler = scheduler::read(&file, agents.as_deref(), report);
    let alert_command = resources::read_alert(&file, report);
    let spool = spool::read(&file, report);
    let days = resources::read_log(&file, report);
    let drain = resources::read_service(&file, report);
    if let (Some(github), Some(agents)) = (&github, &agents) {
        github::keep_token_from(agents, github, report);
    }
    if let (Some(github), Some(repositories)) = (&github, &repositories) {
        github::keep_label_apart(repositories, github, report);
    }
    let (log_days, attempt_log_days) = days?;
    Some(Plan {
        session: session?,
        agents: agents?,
        repositories: repositories?,
        workflow: workflow?,
        resources: resources?,
        scheduler: scheduler?,
        alert_command: alert_command?,
        spool: spool?,
        log_days,
        attempt_log_days,
        drain: drain?,
        github: github?.spec,
    })
}

fn read_session(file: &Section<'_>, report: &mut Report<'_>) -> Option<SessionSpec> {
    let default = || SESSION_DEFAULT.to_owned();
    let Some(entry) = file.entry("session") else {
        return Some(SessionSpec { name: default(), socket: default() });
    };
    let section = Section::open(&entry.key, &entry.node, entry.key_span, keys::agents::SESSION.keys, report);
    let name = section.field("name", report, tmux_name);
    let socket = section.field("socket", report, tmux_name);
    Some(SessionSpec { name: or_default(name, default)?, socket: or_default(socket, default)? })
}

fn or_default<T>(field: Field<T>, default: impl FnOnce() -> T) -> Option<T> {
    match field {
        Field::Given(value, _) => Some(value),
        Field::Absent => Some(default()),
        Field::Broken => None,
    }
}

/// Reads a name for tmux, which would quietly write another one if some characters were in it.
fn tmux_name(key: &str, node: &Node, report: &mut Report<'_>) -> Option<String> {
    let text = display_name(key, node, report)?;
    let refused = |c: char| matches!(c, '.' | ':' | '/' | '#' | '$' | '@' | '%' | '=' | '*' | '?' | '[' | '\\');
    match text.chars().find(|c| refused(*c)) {
        None if !text.starts_with('-') => Some(text),
        None => {
            report.add(Note::new(Mistake::BadText, node.span, format!("`{key}` must not begin with `-`")));
            None
        }
        Some(c) => {
            let message = format!("`{key}` must not contain `{c}`");
            report.add(
                Note::new(Mistake::BadText, node.span, message).help("tmux gives this character a meaning of its own"),
            );
            None
        }
    }
}

/// Reads a name that people see.
fn display_name(key: &str, node: &Node, report: &mut Report<'_>) -> Option<String> {
    let text = read::text(key, node, report)?;
    if text.chars().any(char::is_control) {
        report.add(Note::new(Mistake::BadText, node.span, format!("`{key}` must not contain control characters")));
        return None;
    }
    if text.chars().count() > DISPLAY_NAME_CHARS_MAX {
        report.add(Note::new(
            Mistake::OutOfRange,
            node.span,
            format!("`{key}` is longer than {DISPLAY_NAME_CHARS_MAX} characters"),
        ));
        return None;
    }
    Some(text)
}

/// Returns the tables of `[[name]]` with their places; nothing if it is no list of tables.
fn tables<'n>(file: &Section<'n>, name: &'static str, max: usize, report: &mut Report<'_>) -> Option<&'n [Node]> {
    let Some(entry) = file.entry(name) else { return Some(&[]) };
    match &*entry.node.value {
        Value::List(list) if list.len() > max => {
            let message = format!("{} times `[[{name}]]`; at most {max} are possible", list.len());
            report.add(Note::new(Mistake::TooMuch, list.get(max).map_or(entry.key_span, |node| node.span), message));
            None
        }
        Value::List(list) => Some(list),
        Value::Map(_) => {
            let note = Note::new(Mistake::WrongType, entry.key_span, format!("`{name}` is a list of tables"));
            report.add(note.help(format!("write `[[{name}]]` with two brackets")));
            None
        }
        other @ (Value::Text(_)
        | Value::Plain(_)
        | Value::Integer(_)
        | Value::Float(_)
        | Value::Bool(_)
        | Value::Other(_)
        | Value::Null
        | Value::Broken) => {
            let note = Note::new(
                Mistake::WrongType,
                entry.node.span,
                format!("`{name}` must be tables, found {}", other.kind()),
            );
            report.add(note.help(format!("write `[[{name}]]` and its keys below")));
            None
        }
    }
}

/// Makes a tree for a value that a string inside of another value stands for.
fn text_node(text: &str, span: Span) -> Node {
    Node { value: Rc::new(Value::Text(text.to_owned())), span }
}
