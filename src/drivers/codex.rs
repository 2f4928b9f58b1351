//! The `codex` driver: `codex exec --json`, judged by its own events.

use serde_json::Value;

use super::events::{Told, text, tool};
use super::{Input, Program, argv};
use crate::model::agent::AgentSpec;

/// The program.
pub const PROGRAM: &str = "codex";

/// What lets it work without a person, and say what it does. The user's own arguments come later, and so win.
const ARGUMENTS: [&str; 5] = ["exec", "--json", "--skip-git-repo-check", "--sandbox", "workspace-write"];

/// Starts Codex with the prompt as its input. Everything after the program in the agent's `command` is handed to it as well.
#[must_use]
pub fn start(agent: &AgentSpec) -> Program {
    let mut argv = argv(agent, PROGRAM, &ARGUMENTS);
    // Last, so that nothing can take its place: the prompt comes as input.
    argv.push("-".into());
    Program { argv, env: Vec::new(), files: Vec::new(), input: Input::Prompt }
}

/// Reads one event of the stream.
pub(super) fn of_event(event: &Value) -> Told {
    match text(event, "type") {
        Some("thread.started") => Told::shown(format!("thread {}", text(event, "thread_id").unwrap_or("?"))),
        Some("item.started" | "item.updated" | "item.completed") => {
            let is_new = text(event, "type") != Some("item.updated");
            event.get("item").filter(|_| is_new).map_or_else(Told::busy, |item| of_item(event, item))
        }
        Some("turn.completed") => Told::over(None),
        Some("turn.failed") => {
            let why = event.pointer("/error/message").and_then(Value::as_str).unwrap_or("the turn failed");
            Told::failed(why, false)
        }
        // Also said when it only connects again, so it decides nothing.
        Some("error") => Told::shown(text(event, "message").unwrap_or("an error")),
        Some(_) | None => Told::busy(),
    }
}

fn of_item(event: &Value, item: &Value) -> Told {
    let is_completed = text(event, "type") == Some("item.completed");
    match text(item, "type") {
        Some("agent_message") if is_completed => Told::saying(text(item, "text").unwrap_or_default()),
        Some("command_execution") if !is_completed => Told::shown(tool("command", item.get("command"))),
        Some("file_change") if is_completed => Told::shown(tool("file change", item.get("changes"))),
        Some("mcp_tool_call") if !is_completed => {
            Told::shown(tool(text(item, "tool").unwrap_or("tool"), item.get("arguments")))
        }
        Some("error") => Told::shown(text(item, "message").unwrap_or("an error")),
        Some(_) | None => Told::busy(),
    }
}
