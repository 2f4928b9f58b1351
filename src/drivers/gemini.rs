//! The `gemini` driver: the Gemini CLI without a screen, judged by its own events.

use serde_json::Value;

use super::events::{Told, text, tool};
use super::{Input, Program, argv};
use crate::model::agent::AgentSpec;

/// The program.
pub const PROGRAM: &str = "gemini";

/// What lets it work without a person, and say what it does. The user's own arguments come later, and so win.
const ARGUMENTS: [&str; 4] = ["--output-format", "stream-json", "--approval-mode", "auto_edit"];

/// Starts Gemini with the prompt as its input. Everything after the program in the agent's `command` is handed to it as well.
#[must_use]
pub fn start(agent: &AgentSpec) -> Program {
    let argv = argv(agent, PROGRAM, &ARGUMENTS);
    // A worktree is a new folder each time; without this it would ask whether to trust it.
    let env = vec![("GEMINI_CLI_TRUST_WORKSPACE".to_owned(), "true".into())];
    Program { argv, env, files: Vec::new(), input: Input::Prompt }
}

/// Reads one event of the stream.
pub(super) fn of_event(event: &Value) -> Told {
    match text(event, "type") {
        Some("init") => Told::shown(format!("session {}", text(event, "session_id").unwrap_or("?"))),
        Some("message") if text(event, "role") == Some("assistant") => {
            let content = text(event, "content").unwrap_or_default();
            let is_piece = event.get("delta").and_then(Value::as_bool) == Some(true);
            if is_piece { Told::piece(content) } else { Told::saying(content) }
        }
        Some("tool_use") => Told::shown(tool(text(event, "tool_name").unwrap_or("?"), event.get("parameters"))),
        // Warnings come like this too, so it decides nothing.
        Some("error") => Told::shown(text(event, "message").unwrap_or("an error")),
        Some("result") if text(event, "status") == Some("success") => Told::over(None),
        Some("result") => {
            let why = event.pointer("/error/message").and_then(Value::as_str).unwrap_or("the turn failed");
            Told::failed(why, false)
        }
        Some(_) | None => Told::busy(),
    }
}
