//! The `claude` driver: Claude Code without a screen, judged by what it says of itself.
//!
//! Two channels say it: the lines of `stream-json`, and hooks, which also tell of permission questions and of failures that
//! the stream keeps for itself. The hooks come in a settings file of the attempt; the user's own settings stay as they are.

use std::ffi::OsString;

use serde_json::{Value, json};

use super::events::{Told, at_seconds, text, tool};
use super::{Files, Input, Program};
use crate::model::agent::AgentSpec;
use crate::model::signal::Signal;

/// The program.
pub const PROGRAM: &str = "claude";

/// What lets it work without a person, and say what it does. The user's own arguments come later, and so win.
const ARGUMENTS: [&str; 6] = ["-p", "--output-format", "stream-json", "--verbose", "--permission-mode", "acceptEdits"];

/// The hooks that are listened to.
const HOOKS: [&str; 10] = [
    "SessionStart",
    "UserPromptSubmit",
    "PreToolUse",
    "PostToolUse",
    "PermissionRequest",
    "Notification",
    "SubagentStop",
    "Stop",
    "StopFailure",
    "SessionEnd",
];

/// Puts what a hook is handed into the folder of events, whole, under a name of its own; never keeps the agent from going on.
const HOOK: &str = r#"f="$MIYABI_EVENTS/.$$"; cat >"$f" && mv "$f" "$MIYABI_EVENTS/$$.json"; exit 0"#;

/// How long a hook may take, in seconds.
const HOOK_SECONDS_MAX: u32 = 10;

/// Starts Claude Code with the prompt as its input. Everything after the program in the agent's `command` is handed to it as well.
#[must_use]
pub fn start(agent: &AgentSpec, files: Files<'_>) -> Program {
    let settings = files.folder.join("claude-settings.json");
    let mut own = agent.command.iter().map(OsString::from);
    let mut argv = vec![own.next().unwrap_or_else(|| PROGRAM.into())];
    argv.extend(ARGUMENTS.map(OsString::from));
    argv.extend(["--settings".into(), settings.clone().into_os_string()]);
    argv.extend(own);
    let files = vec![(settings, settings_text())];
    Program { argv, env: Vec::new(), files, input: Input::Prompt }
}

/// Writes the settings that let the hooks speak.
fn settings_text() -> String {
    let hook = json!([{ "hooks": [{ "type": "command", "command": HOOK, "timeout": HOOK_SECONDS_MAX }] }]);
    let hooks: serde_json::Map<String, Value> = HOOKS.into_iter().map(|name| (name.to_owned(), hook.clone())).collect();
    json!({ "hooks": hooks }).to_string()
}

/// Reads one event of the stream.
pub(super) fn of_event(event: &Value) -> Told {
    match text(event, "type") {
        Some("system") if text(event, "subtype") == Some("init") => {
            let session = text(event, "session_id").unwrap_or("?");
            Told::shown(format!("session {session}, {}", text(event, "model").unwrap_or("a model")))
        }
        Some("system") if text(event, "subtype") == Some("api_retry") => {
            let why = text(event, "error").unwrap_or("an error");
            Told::shown(format!("the service answers with {why}; it is asked again"))
        }
        Some("assistant") => of_message(event),
        Some("rate_limit_event") => of_rate_limit(event),
        Some("result") => of_result(event),
        Some(_) | None => Told::busy(),
    }
}

fn of_message(event: &Value) -> Told {
    let parts = event.pointer("/message/content").and_then(Value::as_array);
    let mut lines = Vec::new();
    let mut said = None;
    for part in parts.into_iter().flatten() {
        match text(part, "type") {
            Some("text") => {
                said = text(part, "text").map(str::to_owned);
                lines.extend(said.clone());
            }
            Some("tool_use") => lines.push(tool(text(part, "name").unwrap_or("?"), part.get("input"))),
            Some(_) | None => {}
        }
    }
    Told { said, show: (!lines.is_empty()).then(|| lines.join("\n")), ..Told::busy() }
}

fn of_rate_limit(event: &Value) -> Told {
    let info = event.get("rate_limit_info").unwrap_or(event);
    if text(info, "status") != Some("rejected") {
        return Told::busy();
    }
    let until = info.get("resetsAt").and_then(Value::as_i64).and_then(at_seconds);
    Told::limited(until, "the usage limit is reached")
}

fn of_result(event: &Value) -> Told {
    let result = text(event, "result").map(str::to_owned);
    let subtype = text(event, "subtype").unwrap_or("error");
    let is_error = event.get("is_error").and_then(Value::as_bool).unwrap_or(subtype != "success");
    if !is_error && subtype == "success" {
        return Told::over(result);
    }
    let is_limit = event.get("api_error_status").and_then(Value::as_i64) == Some(429);
    Told::failed(&result.unwrap_or_else(|| subtype.replace('_', " ")), is_limit)
}

/// Reads what a hook was handed.
pub(super) fn of_hook(event: &Value) -> Told {
    let told = |key| text(event, key);
    match told("hook_event_name") {
        Some("PermissionRequest") => Told::waiting(&format!("may it use {}?", told("tool_name").unwrap_or("a tool"))),
        Some("Notification") => match (told("notification_type"), told("message").unwrap_or_default()) {
            (Some("permission_prompt" | "elicitation_dialog"), message) => Told::waiting(message),
            (None, message) if message.contains("permission") => Told::waiting(message),
            (Some(_) | None, _) => Told::busy(),
        },
        Some("Stop" | "SessionEnd") => Told { signal: Some(Signal::Over), ..Told::default() },
        Some("StopFailure") => {
            let said = told("last_assistant_message").or(told("error_details")).unwrap_or_default();
            let kind = told("error").or(told("error_type")).unwrap_or_default();
            match kind {
                "rate_limit" | "overloaded" => Told::limited(None, if said.is_empty() { kind } else { said }),
                "authentication_failed" | "billing_error" | "oauth_org_not_allowed" => {
                    Told::waiting(&format!("{}: {said}", kind.replace('_', " ")))
                }
                _ => Told::busy(),
            }
        }
        Some(_) | None => Told::busy(),
    }
}
