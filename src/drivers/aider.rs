//! The `aider` driver.
//!
//! aider ends with exit code 0 even when its model could not be reached, so it is judged by what it changed; its own
//! commits are squashed like those of any agent, and its history and cache files stay out of the commit.

use std::ffi::OsString;

use super::{Files, Program, Verdict};
use crate::model::agent::AgentSpec;
use crate::model::spent::Spent;

/// The program.
pub const PROGRAM: &str = "aider";

/// The untracked files that aider leaves in a worktree.
pub const LITTER: &str = ".aider*";

/// What makes aider work through one message without a person: no question, no browser, no update, no news, no escape
/// codes, no change of `.gitignore`. The user's own arguments come later on the command line, and so win.
const ARGUMENTS: [&str; 12] = [
    "--yes-always",
    "--no-check-update",
    "--analytics-disable",
    "--no-show-model-warnings",
    "--no-show-release-notes",
    "--no-gitignore",
    "--no-pretty",
    "--no-fancy-input",
    "--no-detect-urls",
    "--no-suggest-shell-commands",
    "--no-stream",
    "--no-restore-chat-history",
];

/// How aider begins a line that says why nothing came of it.
const COMPLAINTS: [&str; 6] =
    ["litellm.", "Error:", "The API provider", "Retrying in", "Model ", "Only 3 reflections allowed"];

/// The longest complaint that is quoted, in characters.
const QUOTE_CHARS_MAX: usize = 200;

/// Starts aider on the prompt's file. Everything after the program in the agent's `command` is handed to aider as well.
#[must_use]
pub fn start(agent: &AgentSpec, files: Files<'_>) -> Program {
    let mut own = agent.command.iter().map(OsString::from);
    let program = own.next().unwrap_or_else(|| PROGRAM.into());
    let mut argv = vec![program];
    argv.extend(ARGUMENTS.map(OsString::from));
    for (option, file) in
        [("--chat-history-file", "aider.chat.history.md"), ("--input-history-file", "aider.input.history")]
    {
        argv.extend([option.into(), files.folder.join(file).into_os_string()]);
    }
    argv.extend(own);
    // Last, so that nothing can take its place.
    argv.extend(["--message-file".into(), files.prompt.as_os_str().to_owned()]);
    Program::plain(argv)
}

/// Never fails by the exit code; remembers what was complained about for the case that nothing was changed.
#[must_use]
pub fn judge(exit_code: i32, output: &str) -> Verdict {
    let said = output.lines().rev().map(str::trim).find(|line| COMPLAINTS.iter().any(|start| line.starts_with(start)));
    let complaint = match (said, exit_code) {
        (Some(line), _) => Some(line.chars().take(QUOTE_CHARS_MAX).collect()),
        (None, 0) => None,
        (None, code) => Some(format!("aider ended with exit code {code}")),
    };
    Verdict::Succeeded { complaint }
}

/// Reads what a line says that one message has used: `Tokens: 2.3k sent, 34 received. Cost: $0.01 message, $0.02 session.`
pub(super) fn spent(line: &str) -> Option<Spent> {
    let (tokens, cost) = match line.strip_prefix("Tokens: ") {
        Some(rest) => rest.split_once(". Cost: ").map_or((rest, None), |(tokens, cost)| (tokens, Some(cost))),
        // Where prompts are cached, the cost has a line of its own.
        None => ("", Some(line.strip_prefix("Cost: ").filter(|cost| cost.ends_with(" session."))?)),
    };
    let count = |of: &str| {
        let found = tokens.trim_end_matches('.').split(", ").find_map(|part| part.strip_suffix(of));
        found.and_then(|number| number_of(number.trim()))
    };
    let message = cost.and_then(|cost| cost.strip_prefix('$')?.split_once(" message"));
    let micro_usd = message.and_then(|(dollars, _)| dollars.parse().ok()).and_then(Spent::micro_usd);
    Spent { tokens_in: count("sent"), tokens_out: count("received"), micro_usd }.if_any()
}

/// Reads a number of tokens as aider writes it: `34`, `2.3k`, `12k`, `1.5M`.
fn number_of(text: &str) -> Option<u64> {
    let (number, times) = match text.as_bytes().last()? {
        b'k' => (&text[..text.len() - 1], 1_000),
        b'M' => (&text[..text.len() - 1], 1_000_000),
        _ => (text, 1),
    };
    let (whole, rest) = number.split_once('.').unwrap_or((number, "0"));
    let (whole, tenths): (u64, u64) = (whole.parse().ok()?, rest.get(..1)?.parse().ok()?);
    Some(whole.saturating_mul(times).saturating_add(tenths * times / 10))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unreachable_model_is_told_although_aider_calls_it_success() {
        let output = "Aider v0.86.2\nlitellm.APIConnectionError: Ollama_chatException - cannot connect\n\nTokens: 1k\n";
        let Verdict::Succeeded { complaint: Some(complaint) } = judge(0, output) else { panic!("no complaint") };
        assert!(complaint.starts_with("litellm.APIConnectionError"));
        assert_eq!(judge(0, "Applied edit to fizzbuzz.py"), Verdict::Succeeded { complaint: None });
    }
}
