//! The `opencode` driver: `opencode run --format json`, judged by its own events.

use serde_json::Value;

use super::events::{Told, text, tool};
use super::{Input, Program, argv};
use crate::model::agent::AgentSpec;

/// The program.
pub const PROGRAM: &str = "opencode";

/// What lets it say what it does. The user's own arguments come later, and so win.
const ARGUMENTS: [&str; 3] = ["run", "--format", "json"];

/// Starts OpenCode with the prompt as its input. Everything after the program in the agent's `command` is handed to it as well.
#[must_use]
pub fn start(agent: &AgentSpec) -> Program {
    let argv = argv(agent, PROGRAM, &ARGUMENTS);
    Program { argv, env: Vec::new(), files: Vec::new(), input: Input::Prompt }
}

/// Reads one event of the stream.
pub(super) fn of_event(event: &Value) -> Told {
    let part = event.get("part").unwrap_or(event);
    match text(event, "type") {
        Some("text") => Told::saying(text(part, "text").unwrap_or_default()),
        Some("tool_use") => {
            Told::shown(tool(text(part, "tool").unwrap_or("?"), part.get("state").and_then(|state| state.get("input"))))
        }
        // The other reason is that it wants to use tools.
        Some("step_finish") if text(part, "reason") == Some("stop") => Told::over(None),
        Some("error") => {
            let error = event.get("error").unwrap_or(event);
            let said = error.pointer("/data/message").and_then(Value::as_str).or_else(|| text(error, "message"));
            let is_limit = error.pointer("/data/statusCode").and_then(Value::as_i64) == Some(429);
            Told::failed(said.or_else(|| text(error, "name")).unwrap_or("the turn failed"), is_limit)
        }
        Some(_) | None => Told::busy(),
    }
}
