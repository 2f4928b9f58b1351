//! What the CLIs say of themselves in their streams of JSON and in their hooks, and what to make of it.
//!
//! Nothing is guessed from a screen. An event that is not known is still a sign of life; a line that is no event is shown as it is.

use serde_json::Value;

use super::{claude, codex, gemini, opencode};
use crate::model::agent::DriverKind;
use crate::model::signal::Signal;
use crate::model::time::Timestamp;

/// The longest event that is looked into; of a longer one only its coming counts.
const EVENT_BYTES_MAX: usize = 4 * 1024 * 1024;

/// The longest reason that is passed on, in characters.
const REASON_CHARS_MAX: usize = 300;

/// The longest piece of a tool's arguments that is shown, in characters.
const ARGUMENTS_CHARS_MAX: usize = 160;

/// How the CLIs say that a usage limit is in force, one a line: as few words as tell it from everything else.
const LIMITS: &str = include_str!("limits.txt");

/// What one event says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Told {
    /// Its state.
    pub signal: Option<Signal>,
    /// What a person wants to see of it.
    pub show: Option<String>,
    /// What it says to the user; the last is the summary of the turn.
    pub said: Option<String>,
    /// A piece of what it says, which the next piece goes on with.
    pub piece: Option<String>,
    /// How its turn ended.
    pub turn: Option<Turn>,
}

/// How a CLI's turn ended, as it says itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Turn {
    /// Its last word to the user.
    pub summary: Option<String>,
    /// Why it failed; `None`: it did not.
    pub failure: Option<TurnFailure>,
}

/// Why a turn failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TurnFailure {
    /// It did not do.
    Failed(String),
    /// A usage limit is in force.
    Limited {
        /// When it will end, if known.
        until: Option<Timestamp>,
        /// What was said.
        reason: String,
    },
}

impl Told {
    /// It works.
    pub(super) fn busy() -> Self {
        Self { signal: Some(Signal::Busy), ..Self::default() }
    }

    /// It works, and this is what of.
    pub(super) fn shown(text: impl Into<String>) -> Self {
        Self { show: Some(text.into()), ..Self::busy() }
    }

    /// It says a piece of something to the user.
    pub(super) fn piece(text: &str) -> Self {
        Self { piece: Some(text.to_owned()), ..Self::busy() }
    }

    /// It says something to the user.
    pub(super) fn saying(text: &str) -> Self {
        Self { said: Some(text.to_owned()), ..Self::shown(text) }
    }

    /// Its turn has ended well.
    pub(super) fn over(summary: Option<String>) -> Self {
        let turn = Turn { summary, failure: None };
        Self { signal: Some(Signal::Over), turn: Some(turn), ..Self::default() }
    }

    /// Its turn has failed; a text that speaks of a usage limit is one.
    pub(super) fn failed(text: &str, is_limit: bool) -> Self {
        let reason = brief(text);
        let failure = match limit(text) {
            Some(until) => TurnFailure::Limited { until, reason: reason.clone() },
            None if is_limit => TurnFailure::Limited { until: None, reason: reason.clone() },
            None => TurnFailure::Failed(reason.clone()),
        };
        let turn = Turn { summary: None, failure: Some(failure) };
        Self { signal: Some(Signal::Over), show: Some(reason), turn: Some(turn), ..Self::default() }
    }

    /// A usage limit is in force.
    pub(super) fn limited(until: Option<Timestamp>, text: &str) -> Self {
        let reason = brief(text);
        Self { signal: Some(Signal::Limited { until, reason: reason.clone() }), show: Some(reason), ..Self::default() }
    }

    /// It waits for a human.
    pub(super) fn waiting(text: &str) -> Self {
        let reason = brief(text);
        Self { signal: Some(Signal::Waiting { reason: reason.clone() }), show: Some(reason), ..Self::default() }
    }
}

/// Says whether a driver's program prints its events as lines of JSON.
#[must_use]
pub const fn are_printed(driver: DriverKind) -> bool {
    match driver {
        DriverKind::Claude | DriverKind::Codex | DriverKind::Gemini | DriverKind::Opencode => true,
        DriverKind::Command | DriverKind::Echo | DriverKind::Aider | DriverKind::Dashboard => false,
    }
}

/// Reads one line of a program's output; `None`: it is no event, but text.
#[must_use]
pub fn of_line(driver: DriverKind, line: &[u8]) -> Option<Told> {
    let line = line.trim_ascii();
    if !line.starts_with(b"{") {
        return None;
    }
    if line.len() > EVENT_BYTES_MAX {
        return Some(Told::busy());
    }
    let event: Value = serde_json::from_slice(line).ok()?;
    match driver {
        DriverKind::Claude => Some(claude::of_event(&event)),
        DriverKind::Codex => Some(codex::of_event(&event)),
        DriverKind::Gemini => Some(gemini::of_event(&event)),
        DriverKind::Opencode => Some(opencode::of_event(&event)),
        DriverKind::Command | DriverKind::Echo | DriverKind::Aider | DriverKind::Dashboard => None,
    }
}

/// Reads one file of `MIYABI_EVENTS`, which a hook or the program itself has put there. Whatever it is, it is a sign of life.
#[must_use]
pub fn of_file(text: &[u8]) -> Told {
    let Ok(event) = serde_json::from_slice::<Value>(text) else { return Told::busy() };
    if event.get("hook_event_name").is_some() { claude::of_hook(&event) } else { of_protocol(&event) }
}

/// Reads an event in our own words, from any program.
fn of_protocol(event: &Value) -> Told {
    let reason = text(event, "reason").unwrap_or_default();
    match text(event, "state") {
        Some("waiting") => Told::waiting(if reason.is_empty() { "waits for a human" } else { reason }),
        Some("limited") => {
            let until = text(event, "until").and_then(|until| until.parse().ok());
            Told::limited(until, if reason.is_empty() { "a usage limit is in force" } else { reason })
        }
        Some("over") => Told { signal: Some(Signal::Over), ..Told::default() },
        Some(_) | None => Told::busy(),
    }
}

/// Looks for words of a usage limit; inside, when it ends, if that is said in a way that needs no calendar.
#[must_use]
pub fn limit(text: &str) -> Option<Option<Timestamp>> {
    let small = text.to_lowercase();
    let mut words = LIMITS.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    words.any(|words| small.contains(words)).then(|| {
        // `Claude AI usage limit reached|1795834392`
        let seconds = text.split('|').nth(1)?.trim().split(|letter: char| !letter.is_ascii_digit()).next()?;
        at_seconds(seconds.parse().ok()?)
    })
}

/// Turns seconds since 1970, as events count them, into a time; nonsense is none.
pub(super) fn at_seconds(seconds: i64) -> Option<Timestamp> {
    (seconds > 0).then(|| Timestamp::from_millis(seconds.saturating_mul(1_000)))
}

/// Returns a text field.
pub(super) fn text<'v>(value: &'v Value, key: &str) -> Option<&'v str> {
    value.get(key).and_then(Value::as_str)
}

/// Shows the use of a tool in one line.
pub(super) fn tool(name: &str, arguments: Option<&Value>) -> String {
    let arguments = arguments.map(Value::to_string).unwrap_or_default();
    let short: String = arguments.chars().take(ARGUMENTS_CHARS_MAX).collect();
    format!("> {name} {short}").trim_end().to_owned()
}

/// Cuts a reason to one short line without control characters.
fn brief(text: &str) -> String {
    let line = text.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
    line.trim().chars().filter(|letter| !letter.is_control()).take(REASON_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_a_limit_are_known_and_other_failures_are_not_taken_for_one() {
        let at = |seconds| at_seconds(seconds);
        assert_eq!(limit("Claude AI usage limit reached|1795834392"), Some(at(1_795_834_392)));
        assert_eq!(limit("You've hit your session limit · resets 9pm (Asia/Bangkok)"), Some(None));
        assert_eq!(limit("You've hit your usage limit. Try again at 5:42 PM."), Some(None));
        assert_eq!(limit("exceeded retry limit, last status: 429 Too Many Requests"), Some(None));
        assert_eq!(limit("the file is larger than the limit of the parser"), None);
        assert_eq!(limit("Connection refused"), None);
    }

    #[test]
    fn a_program_can_say_in_our_own_words_what_it_waits_for() {
        let waiting = of_file(br#"{"state": "waiting", "reason": "may I push?\n"}"#);
        assert_eq!(waiting.signal, Some(Signal::Waiting { reason: "may I push?".to_owned() }));
        let limited = of_file(br#"{"state": "limited", "until": "2026-11-20T12:00:00Z"}"#);
        let until = "2026-11-20T12:00:00Z".parse().ok();
        assert_eq!(limited.signal, Some(Signal::Limited { until, reason: "a usage limit is in force".to_owned() }));
        assert_eq!(of_file(br#"{"state": "busy"}"#), Told::busy());
        assert_eq!(of_file(b"torn {"), Told::busy(), "whatever comes is a sign of life");
    }

    #[test]
    fn what_is_no_event_is_text_and_what_is_too_long_is_a_sign_of_life() {
        assert_eq!(of_line(DriverKind::Claude, b"Warning: no network"), None);
        assert_eq!(of_line(DriverKind::Claude, b"{broken"), None);
        assert_eq!(of_line(DriverKind::Command, b"{\"type\":\"result\"}"), None);
        let long = format!("{{\"type\":\"user\",\"text\":\"{}\"}}", "x".repeat(EVENT_BYTES_MAX));
        assert_eq!(of_line(DriverKind::Claude, long.as_bytes()), Some(Told::busy()));
    }
}
