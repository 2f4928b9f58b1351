//! What an agent's program says that it has used: read from its output, and never computed.

use serde_json::Value;

use super::aider;
use crate::model::agent::DriverKind;
use crate::model::spent::Spent;

/// The longest line that is looked at.
const LINE_BYTES_MAX: usize = 1024 * 1024;

/// Reads the output of one program as it comes.
#[derive(Debug)]
pub struct Meter {
    driver: DriverKind,
    line: Vec<u8>,
    /// Whether the line was too long, and what comes of it is thrown away.
    is_cut: bool,
    spent: Option<Spent>,
}

impl Meter {
    /// Begins to read; nothing if the driver's program never says what it has used.
    #[must_use]
    pub fn new(driver: DriverKind) -> Option<Self> {
        let says = match driver {
            DriverKind::Aider | DriverKind::Claude | DriverKind::Codex | DriverKind::Gemini | DriverKind::Opencode => {
                true
            }
            DriverKind::Command | DriverKind::Echo | DriverKind::Dashboard => false,
        };
        says.then_some(Self { driver, line: Vec::new(), is_cut: false, spent: None })
    }

    /// Takes a piece of output.
    pub fn take(&mut self, bytes: &[u8]) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            if !self.is_cut {
                self.line.extend_from_slice(piece);
            }
            if self.line.len() > LINE_BYTES_MAX {
                self.line.clear();
                self.is_cut = true;
            }
            if piece.ends_with(b"\n") {
                self.end_line();
            }
        }
    }

    /// Returns what it has used in all, the line that did not end included.
    #[must_use]
    pub fn finish(mut self) -> Option<Spent> {
        self.end_line();
        self.spent
    }

    fn end_line(&mut self) {
        let line = std::mem::take(&mut self.line);
        if std::mem::take(&mut self.is_cut) {
            return;
        }
        if let Some(more) = of_line(self.driver, line.trim_ascii()).and_then(Spent::if_any) {
            self.spent = Some(self.spent.map_or(more, |spent| spent.plus(more)));
        }
    }
}

/// Reads what one line says was used.
fn of_line(driver: DriverKind, line: &[u8]) -> Option<Spent> {
    let event = || serde_json::from_slice::<Value>(line).ok().filter(|_| line.starts_with(b"{"));
    match driver {
        DriverKind::Aider => aider::spent(std::str::from_utf8(line).ok()?),
        DriverKind::Claude => of_claude(&event()?),
        DriverKind::Codex => of_codex(&event()?),
        DriverKind::Gemini => of_gemini(&event()?),
        DriverKind::Opencode => of_opencode(&event()?),
        DriverKind::Command | DriverKind::Echo | DriverKind::Dashboard => None,
    }
}

fn is(event: &Value, kind: &str) -> bool {
    event.get("type").and_then(Value::as_str) == Some(kind)
}

/// Adds up those of some numbers that are there.
fn sum(object: Option<&Value>, names: &[&str]) -> Option<u64> {
    let object = object?;
    let numbers = names.iter().filter_map(|name| object.pointer(name)?.as_u64());
    numbers.fold(None, |sum, number| Some(sum.unwrap_or(0).saturating_add(number)))
}

fn dollars(value: Option<&Value>) -> Option<u64> {
    value.and_then(Value::as_f64).and_then(Spent::micro_usd)
}

/// Its last event counts the whole session.
fn of_claude(event: &Value) -> Option<Spent> {
    let usage = event.get("usage");
    let read = ["/input_tokens", "/cache_creation_input_tokens", "/cache_read_input_tokens"];
    is(event, "result").then(|| Spent {
        tokens_in: sum(usage, &read),
        tokens_out: sum(usage, &["/output_tokens"]),
        micro_usd: dollars(event.get("total_cost_usd")),
    })
}

/// What was kept is counted among what was read.
fn of_codex(event: &Value) -> Option<Spent> {
    let usage = event.get("usage");
    is(event, "turn.completed").then(|| Spent {
        tokens_in: sum(usage, &["/input_tokens"]),
        tokens_out: sum(usage, &["/output_tokens"]),
        micro_usd: None,
    })
}

fn of_gemini(event: &Value) -> Option<Spent> {
    let stats = event.get("stats");
    is(event, "result").then(|| Spent {
        tokens_in: sum(stats, &["/input_tokens"]),
        tokens_out: sum(stats, &["/output_tokens"]),
        micro_usd: None,
    })
}

/// Every step counts for itself.
fn of_opencode(event: &Value) -> Option<Spent> {
    let part = event.get("part")?;
    let tokens = part.get("tokens");
    is(event, "step_finish").then(|| Spent {
        tokens_in: sum(tokens, &["/input", "/cache/read", "/cache/write"]),
        tokens_out: sum(tokens, &["/output", "/reasoning"]),
        micro_usd: dollars(part.get("cost")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(driver: DriverKind, output: &str) -> Option<Spent> {
        let mut meter = Meter::new(driver)?;
        // However it is cut.
        output.as_bytes().chunks(7).for_each(|bytes| meter.take(bytes));
        meter.finish()
    }

    fn spent(tokens_in: u64, tokens_out: u64, micro_usd: Option<u64>) -> Option<Spent> {
        Some(Spent { tokens_in: Some(tokens_in), tokens_out: Some(tokens_out), micro_usd })
    }

    #[test]
    fn what_aider_prints_after_each_message_adds_up() {
        let output = "Tokens: 2.3k sent, 34 received.\nApplied edit to a.py\n\
            Tokens: 12k sent, 1.1k cache write, 900 cache hit, 1.2k received. Cost: $0.05 message, $0.07 session.\n\
            Tokens: 1M sent, 1 received.\nCost: $0.0012 message, $0.07 session.";
        assert_eq!(all(DriverKind::Aider, output), spent(1_014_300, 1_235, Some(51_200)));
        assert_eq!(all(DriverKind::Aider, "He said: Tokens: 5 sent\nTokens: many\nCost: $1"), None);
    }

    #[test]
    fn what_clis_say_in_their_events_is_read_and_nothing_else() {
        let claude = r#"{"type":"assistant","message":{"usage":{"input_tokens":99,"output_tokens":99}}}
{"type":"result","total_cost_usd":0.1234567,"usage":{"input_tokens":10,"cache_creation_input_tokens":200,"cache_read_input_tokens":3000,"output_tokens":40}}"#;
        assert_eq!(all(DriverKind::Claude, claude), spent(3_210, 40, Some(123_457)));
        let codex =
            r#"{"type":"turn.completed","usage":{"input_tokens":500,"cached_input_tokens":400,"output_tokens":7}}"#;
        assert_eq!(all(DriverKind::Codex, codex), spent(500, 7, None));
        let gemini =
            r#"{"type":"result","status":"success","stats":{"total_tokens":12,"input_tokens":10,"output_tokens":2}}"#;
        assert_eq!(all(DriverKind::Gemini, gemini), spent(10, 2, None));
        let step = r#"{"type":"step_finish","part":{"tokens":{"input":10,"output":2,"reasoning":1,"cache":{"write":0,"read":5}},"cost":0.01}}"#;
        assert_eq!(all(DriverKind::Opencode, &format!("{step}\n{step}\n")), spent(30, 6, Some(20_000)));
        assert_eq!(all(DriverKind::Claude, r#"{"type":"result","result":"done"}"#), None, "nothing is invented");
        assert_eq!(all(DriverKind::Codex, "Tokens: 5 sent, 6 received."), None);
        assert_eq!(all(DriverKind::Command, "Tokens: 5 sent, 6 received."), None);
        let long = format!("{{\"type\":\"result\",\"x\":\"{}\"}}\n{codex}", "x".repeat(LINE_BYTES_MAX));
        assert_eq!(all(DriverKind::Codex, &long), spent(500, 7, None), "a line that is too long is passed over");
    }

    #[test]
    fn the_recorded_sessions_say_what_they_used() {
        let recorded = |name: &str| {
            let path = format!("{}/tests/it/data/events/{name}.jsonl", env!("CARGO_MANIFEST_DIR"));
            std::fs::read_to_string(path).unwrap()
        };
        assert_eq!(all(DriverKind::Claude, &recorded("claude-2.1.197")), spent(0, 0, Some(0)));
        assert_eq!(all(DriverKind::Codex, &recorded("codex-0.171.0")), spent(0, 0, None));
        assert_eq!(all(DriverKind::Gemini, &recorded("gemini-0.61.0")), spent(0, 0, None));
        let Some(opencode) = all(DriverKind::Opencode, &recorded("opencode-1.18.33")) else { panic!("nothing") };
        assert!(opencode.tokens_in.unwrap() >= 2_390 && opencode.micro_usd == Some(0), "{opencode:?}");
    }
}
