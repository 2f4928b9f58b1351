//! `[[agent]]`.

use std::collections::{BTreeMap, BTreeSet};

use super::super::keys;
use super::super::read;
use super::super::report::{Note, Report};
use super::super::section::{Field, Section};
use super::super::source::Span;
use super::super::tree::{Node, Value};
use super::limits;
use super::timing::Timing;
use super::{AGENTS_MAX, Defaults, display_name, tables, text_node};
use crate::model::agent::{AgentSpec, DriverKind};
use crate::model::fault_code::Mistake;
use crate::model::id::{AgentId, Role};

/// Names that mailboxes and messages use for others than agents.
const RESERVED: [&str; 3] = ["supervisor", "operator", "role"];

/// The longest label, in bytes.
const LABEL_BYTES_MAX: usize = 64;

/// Reads all agents.
pub(super) fn read_all(file: &Section<'_>, defaults: &Defaults, report: &mut Report<'_>) -> Option<Vec<AgentSpec>> {
    let nodes = tables(file, "agent", AGENTS_MAX, report)?;
    if nodes.is_empty() && !file.is_told("agent") {
        let note = Note::new(Mistake::Empty, Span::FILE, "the team has no agent");
        report.add(note.help("add `[[agent]]` with `id`, `role` and `driver`"));
    }
    let mut seen: BTreeMap<AgentId, Span> = BTreeMap::new();
    let mut agents = Vec::with_capacity(nodes.len());
    for node in nodes {
        agents.push(read_one(node, defaults, &mut seen, report));
    }
    agents.into_iter().collect()
}

fn read_one(
    node: &Node,
    defaults: &Defaults,
    seen: &mut BTreeMap<AgentId, Span>,
    report: &mut Report<'_>,
) -> Option<AgentSpec> {
    let section = Section::open("agent", node, node.span, keys::agents::AGENT.keys, report);
    let id = read_id(&section, seen, report);
    let name = section.field("name", report, display_name);
    let driver = section.field("driver", report, |key, node, report| {
        read::choice(key, &DriverKind::ALL.map(|driver| (driver.as_str(), driver)), node, report)
    });
    let role = read_role(&section, &driver, report);
    let labels = section.field("labels", report, |key, node, report| read::words(key, node, report, label));
    let command = read_command(&section, &driver, report);
    let env = section.field("env", report, |key, node, report| read::words(key, node, report, variable));
    let timing = Timing::read(&section, &defaults.timing, report);
    let id = id?;
    Some(AgentSpec {
        name: name.value().unwrap_or_else(|| id.to_string()),
        id,
        role: role?,
        labels: set(labels),
        driver: driver.value().unwrap_or(DriverKind::Command),
        command: command.value().unwrap_or_default(),
        env: set(env),
        heartbeat: timing.heartbeat.value,
        heartbeat_timeout: timing.heartbeat_timeout.value,
        start_timeout: timing.start_timeout.value,
        stop_timeout: timing.stop_timeout.value,
        timeout: timing.timeout.value,
        stall: timing.stall.value,
        on_stall: timing.on_stall.value,
        limits: limits::read(&section, &defaults.limits, report),
        restart: timing.restart(),
    })
}

fn set(items: Field<Vec<read::Item>>) -> BTreeSet<String> {
    items.value().unwrap_or_default().into_iter().map(|item| item.text).collect()
}

fn read_id(section: &Section<'_>, seen: &mut BTreeMap<AgentId, Span>, report: &mut Report<'_>) -> Option<AgentId> {
    match section.field("id", report, read::name::<AgentId>) {
        Field::Absent => {
            section.missing("the agent", "id", "write `id = \"kaede\"`, with a-z, 0-9 and `-`", report);
            None
        }
        Field::Broken => None,
        Field::Given(id, span) if RESERVED.contains(&id.as_str()) => {
            let message = format!("the id `{id}` is taken by the orchestra itself");
            report.add(
                Note::new(Mistake::NameTaken, span, message).help(format!("{} cannot be used", RESERVED.join(", "))),
            );
            None
        }
        Field::Given(id, span) => {
            if let Some(first) = seen.get(&id) {
                let note = Note::new(Mistake::NameTaken, span, format!("two agents have the id `{id}`"));
                report.add(note.related(*first, "first used here"));
                return None;
            }
            seen.insert(id.clone(), span);
            Some(id)
        }
    }
}

fn read_role(section: &Section<'_>, driver: &Field<DriverKind>, report: &mut Report<'_>) -> Option<Role> {
    match section.field("role", report, read::name::<Role>) {
        Field::Given(role, _) => Some(role),
        Field::Absent if matches!(driver, Field::Given(DriverKind::Dashboard, _)) => Role::new("conductor").ok(),
        Field::Absent => {
            section.missing("the agent", "role", "write `role = \"codegen\"`: tasks ask for roles", report);
            None
        }
        Field::Broken => None,
    }
}

fn read_command(section: &Section<'_>, driver: &Field<DriverKind>, report: &mut Report<'_>) -> Field<Vec<String>> {
    let command = section.field("command", report, words_of_command);
    let kind = match driver {
        Field::Given(kind, _) => *kind,
        Field::Absent => DriverKind::Command,
        Field::Broken => return command,
    };
    match (kind, &command) {
        (DriverKind::Command, Field::Absent) => {
            let help = "write `command = [\"my-agent\"]`, or choose another `driver`";
            section.missing("the agent with the driver `command`", "command", help, report);
        }
        (DriverKind::Echo | DriverKind::Dashboard, Field::Given(_, span)) => {
            let message = format!("the driver `{}` runs no program", kind.as_str());
            report.add(
                Note::new(Mistake::Exclusive, *span, message).help("remove `command`, or write `driver = \"command\"`"),
            );
        }
        (DriverKind::Command, Field::Given(..) | Field::Broken)
        | (
            DriverKind::Aider | DriverKind::Claude | DriverKind::Codex | DriverKind::Gemini | DriverKind::Opencode,
            Field::Given(..) | Field::Absent | Field::Broken,
        )
        | (DriverKind::Echo | DriverKind::Dashboard, Field::Absent | Field::Broken) => {}
    }
    command
}

/// Reads the words of a command. A string is split like a shell's, because that is what people paste from their
/// terminal; no shell runs it, so a `$` or a `|` in it would not do what it does there.
pub(super) fn words_of_command(key: &str, node: &Node, report: &mut Report<'_>) -> Option<Vec<String>> {
    let Value::List(list) = &*node.value else {
        let text = read::text(key, node, report)?;
        let words = shlex::split(&text);
        if words.is_none() {
            report.add(Note::new(
                Mistake::BadText,
                node.span,
                format!("`{key}` has an open quote or a lonely `\\` at its end"),
            ));
        }
        let words = words?;
        // A text of blanks and comments only has no words.
        let program = text_node(words.first().map_or("", String::as_str), node.span);
        return read::text(key, &program, report).map(|_| words);
    };
    let Some(program) = list.first() else {
        report.add(Note::new(Mistake::Empty, node.span, format!("`{key}` must name a program")));
        return None;
    };
    read::text(key, program, report)?;
    let words: Vec<Option<String>> = list
        .iter()
        .map(|word| match &*word.value {
            // An argument may be empty; the program may not.
            Value::Text(text) if text.is_empty() => Some(String::new()),
            Value::Text(_)
            | Value::Plain(_)
            | Value::Integer(_)
            | Value::Float(_)
            | Value::Bool(_)
            | Value::Other(_)
            | Value::Null
            | Value::List(_)
            | Value::Map(_)
            | Value::Broken => read::text(key, word, report),
        })
        .collect();
    words.into_iter().collect()
}

fn label(text: &str) -> Result<(), String> {
    if text.len() > LABEL_BYTES_MAX || text.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err(format!("the label `{}` must be one word of at most {LABEL_BYTES_MAX} bytes", text.escape_debug()));
    }
    Ok(())
}

fn variable(text: &str) -> Result<(), String> {
    let is_name = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    match text.split_once('=') {
        _ if is_name => Ok(()),
        Some((name, _)) => Err(format!("`env` lists names only; write `{name}` and set its value for the supervisor")),
        None => Err(format!("`{}` is not the name of an environment variable", text.escape_debug())),
    }
}
