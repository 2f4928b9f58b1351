//! What the CLIs say of themselves, as they really said it: samples that were recorded with the version in their names, against a
//! scripted model.

use std::fs;
use std::path::Path;

use miyabi::drivers::events::{self, Turn, TurnFailure};
use miyabi::drivers::listener::Listener;
use miyabi::drivers::registry;
use miyabi::drivers::{Verdict, events::Told};
use miyabi::model::agent::DriverKind;
use miyabi::model::signal::Signal;

pub(crate) fn sample(name: &str) -> Vec<u8> {
    fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/data/events").join(name)).unwrap()
}

/// Listens to a sample that comes in pieces of any size; returns what is shown, the states it went through, and its turn.
fn listen(driver: DriverKind, name: &str) -> (String, Vec<Signal>, Option<Turn>) {
    let text = sample(name);
    let whole = listen_to(driver, &text, text.len());
    for size in [1, 7, 4_096] {
        assert_eq!(listen_to(driver, &text, size), whole, "in pieces of {size} bytes");
    }
    whole
}

fn listen_to(driver: DriverKind, text: &[u8], size: usize) -> (String, Vec<Signal>, Option<Turn>) {
    let mut listener = Listener::new(driver).unwrap();
    let mut shown = Vec::new();
    let mut signals = Vec::new();
    for piece in text.chunks(size) {
        let heard = listener.take(piece);
        shown.extend(heard.shown);
        signals.extend(heard.signals);
    }
    shown.extend(listener.finish().shown);
    signals.dedup();
    (String::from_utf8(shown).unwrap(), signals, listener.turn())
}

fn over(summary: &str) -> Option<Turn> {
    Some(Turn { summary: Some(summary.to_owned()), failure: None })
}

/// Says that a turn was ended by a usage limit, and what its program is judged by.
fn assert_limited(driver: DriverKind, turn: Option<&Turn>, words: &str) {
    let Some(Turn { failure: Some(TurnFailure::Limited { until: None, reason }), .. }) = turn else {
        panic!("it is no limit: {turn:?}")
    };
    assert!(reason.contains(words), "{reason}");
    let verdict = registry::judge(driver, 1, "", turn);
    assert_eq!(verdict, Verdict::Limited { until: None, reason: reason.clone() });
}

#[test]
fn claude_code_is_understood_from_its_stream() {
    let (shown, signals, turn) = listen(DriverKind::Claude, "claude-2.1.197.jsonl");
    assert_eq!(
        shown,
        "session 0193c5a0-1111-7222-8333-444455556666, claude-opus-4-8[1m]\nI write it.\n\
         > Write {\"file_path\":\"fizz.txt\",\"content\":\"hi\"}\nDone: all is written.\n"
    );
    assert_eq!(signals, [Signal::Busy, Signal::Over]);
    assert_eq!(turn, over("Done: all is written."));
    assert_eq!(registry::judge(DriverKind::Claude, 0, "", turn.as_ref()), Verdict::Succeeded { complaint: None });
}

#[test]
fn claude_code_that_meets_a_limit_is_limited_although_it_calls_that_success() {
    let (shown, signals, turn) = listen(DriverKind::Claude, "claude-2.1.197-limited.jsonl");
    assert!(shown.contains("the service answers with rate_limit; it is asked again"), "{shown}");
    assert_eq!(signals, [Signal::Busy, Signal::Over]);
    assert_limited(DriverKind::Claude, turn.as_ref(), "Request rejected (429)");
}

#[test]
fn the_hooks_of_claude_code_tell_when_it_works_waits_is_limited_and_is_done() {
    let hooks = |name: &str| -> Vec<Option<Signal>> {
        let lines = String::from_utf8(sample(name)).unwrap();
        lines.lines().map(|line| events::of_file(line.as_bytes()).signal).collect()
    };
    let busy = || Some(Signal::Busy);
    let over = || Some(Signal::Over);
    assert_eq!(hooks("claude-2.1.197-hooks.jsonl"), [busy(), busy(), busy(), busy(), over(), over()]);
    let limited = hooks("claude-2.1.197-limited-hooks.jsonl");
    assert!(
        matches!(&limited[2], Some(Signal::Limited { until: None, reason }) if reason.contains("429")),
        "{limited:?}"
    );
    let told = |text: &str| events::of_file(text.as_bytes()).signal;
    let waiting = |reason: &str| Some(Signal::Waiting { reason: reason.to_owned() });
    // Those that a run without a person does not have, in the words of the documentation.
    assert_eq!(told(r#"{"hook_event_name":"PermissionRequest","tool_name":"Bash"}"#), waiting("may it use Bash?"));
    let notice = r#"{"hook_event_name":"Notification","notification_type":"permission_prompt","message":"Claude needs your permission to use Bash"}"#;
    assert_eq!(told(notice), waiting("Claude needs your permission to use Bash"));
    let failed = r#"{"hook_event_name":"StopFailure","error":"authentication_failed","last_assistant_message":"Please run /login"}"#;
    assert_eq!(told(failed), waiting("authentication failed: Please run /login"));
}

#[test]
fn a_limit_with_a_time_says_until_when() {
    let line = br#"{"type":"rate_limit_event","rate_limit_info":{"status":"rejected","resetsAt":1795834392}}"#;
    let Some(Told { signal: Some(Signal::Limited { until: Some(until), .. }), .. }) =
        events::of_line(DriverKind::Claude, line)
    else {
        panic!("it is no limit")
    };
    assert_eq!(until.as_millis(), 1_795_834_392_000);
    let fine = br#"{"type":"rate_limit_event","rate_limit_info":{"status":"allowed_warning","resetsAt":1795834392}}"#;
    assert_eq!(events::of_line(DriverKind::Claude, fine), Some(events::of_file(b"{}")), "a warning is none");
    let line =
        br#"{"type":"result","subtype":"success","is_error":true,"result":"Claude AI usage limit reached|1795834392"}"#;
    let turn = events::of_line(DriverKind::Claude, line).unwrap().turn.unwrap();
    assert!(matches!(turn.failure, Some(TurnFailure::Limited { until: Some(_), .. })), "{turn:?}");
}

#[test]
fn codex_is_understood_from_its_events() {
    let (shown, signals, turn) = listen(DriverKind::Codex, "codex-0.171.0.jsonl");
    assert!(shown.starts_with("thread 01a22012-") && shown.ends_with("\nDone: all is written.\n"), "{shown}");
    assert_eq!((signals, turn), (vec![Signal::Busy, Signal::Over], over("Done: all is written.")));
    let (_, signals, turn) = listen(DriverKind::Codex, "codex-0.171.0-limited.jsonl");
    assert_eq!(signals, [Signal::Busy, Signal::Over]);
    assert_limited(DriverKind::Codex, turn.as_ref(), "429 Too Many Requests");
}

#[test]
fn opencode_is_understood_from_its_events() {
    let (shown, signals, turn) = listen(DriverKind::Opencode, "opencode-1.18.33.jsonl");
    assert_eq!(shown, "Done: all is written.\n");
    assert_eq!((signals, turn), (vec![Signal::Busy, Signal::Over], over("Done: all is written.")));
    let (_, signals, turn) = listen(DriverKind::Opencode, "opencode-1.18.33-limited.jsonl");
    assert_eq!(signals, [Signal::Over]);
    assert_limited(DriverKind::Opencode, turn.as_ref(), "rate limit");
}

#[test]
fn gemini_is_understood_from_its_events() {
    let (shown, signals, turn) = listen(DriverKind::Gemini, "gemini-0.61.0.jsonl");
    assert!(shown.ends_with("\nDone: all is written.\n"), "pieces are put together: {shown}");
    assert_eq!((signals, turn), (vec![Signal::Busy, Signal::Over], over("Done: all is written.")));
    // Its client goes on asking for longer than a recording, so these are the words of its documentation.
    let line =
        br#"{"type":"result","status":"error","error":{"type":"ApiError","message":"Quota exceeded for metric"}}"#;
    let turn = events::of_line(DriverKind::Gemini, line).unwrap().turn;
    assert_limited(DriverKind::Gemini, turn.as_ref(), "Quota exceeded");
}

#[test]
fn a_program_that_says_nothing_of_its_turn_is_judged_by_its_exit() {
    let judge = |code, output| registry::judge(DriverKind::Codex, code, output, None);
    assert!(matches!(judge(0, ""), Verdict::Succeeded { complaint: Some(_) }));
    assert!(matches!(judge(1, "no such model"), Verdict::Failed { .. }));
    assert!(matches!(judge(1, "You've hit your usage limit."), Verdict::Limited { until: None, .. }));
}
