//! What a control-mode client says, line by line: replies between `%begin` and `%end`, notifications outside.

/// The longest reply that is kept, in bytes; what follows is dropped and the reply counts as failed.
const REPLY_BYTES_MAX: usize = 8 << 20;

/// Something that the server said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Said {
    /// The answer to one command of ours.
    Block(Block),
    /// The client ends; the reason, if one was given.
    Exit(String),
}

/// The answer to one command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Block {
    /// Whether the command succeeded.
    pub(super) ok: bool,
    /// The lines that it printed, or the error.
    pub(super) lines: Vec<String>,
}

/// Turns lines into what they mean.
#[derive(Debug, Default)]
pub(super) struct Framer {
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    /// Time, number and flags: the end of the block repeats them.
    stamp: String,
    lines: Vec<String>,
    bytes: usize,
}

impl Framer {
    /// Takes a line without its line feed.
    pub(super) fn feed(&mut self, line: &str) -> Option<Said> {
        let Some(open) = &mut self.open else { return self.outside(line) };
        let ended = match line.split_once(' ') {
            Some(("%end", stamp)) if stamp == open.stamp => Some(true),
            Some(("%error", stamp)) if stamp == open.stamp => Some(false),
            Some(_) | None => None,
        };
        let Some(ok) = ended else {
            open.bytes += line.len();
            if open.bytes <= REPLY_BYTES_MAX {
                open.lines.push(line.to_owned());
            }
            return None;
        };
        let open = self.open.take()?;
        if !is_ours(&open.stamp) {
            return None;
        }
        if open.bytes > REPLY_BYTES_MAX {
            let lines = vec![format!("the reply is longer than {REPLY_BYTES_MAX} bytes")];
            return Some(Said::Block(Block { ok: false, lines }));
        }
        Some(Said::Block(Block { ok, lines: open.lines }))
    }

    fn outside(&mut self, line: &str) -> Option<Said> {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        match word {
            "%begin" => {
                self.open = Some(Open { stamp: rest.to_owned(), lines: Vec::new(), bytes: 0 });
                None
            }
            "%exit" => Some(Said::Exit(rest.to_owned())),
            // Notifications: what they tell is learnt from pidfds and list-panes.
            _ => None,
        }
    }
}

/// The last number of the stamp says whether the command came through this client; hooks and the attach itself did not.
fn is_ours(stamp: &str) -> bool {
    stamp.ends_with(" 1")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn feed(text: &str) -> Vec<Said> {
        let mut framer = Framer::default();
        text.lines().filter_map(|line| framer.feed(line)).collect()
    }

    fn block(ok: bool, lines: &[&str]) -> Said {
        Said::Block(Block { ok, lines: lines.iter().map(ToString::to_string).collect() })
    }

    #[test]
    fn replies_of_several_lines_are_kept_whole() {
        let said = feed("%begin 1 2 1\na\n\nb\n%end 1 2 1\n%begin 1 3 1\ncan't find pane: %77\n%error 1 3 1");
        assert_eq!(said, [block(true, &["a", "", "b"]), block(false, &["can't find pane: %77"])]);
    }

    #[test]
    fn a_line_that_looks_like_an_end_is_none_without_the_same_stamp() {
        let said = feed("%begin 1 2 1\n%end 1 1 1\n%begin 1 9 1\n%exit\n%end 1 2 1");
        assert_eq!(said, [block(true, &["%end 1 1 1", "%begin 1 9 1", "%exit"])]);
    }

    #[test]
    fn what_others_caused_is_no_reply_of_ours() {
        let said = feed("%begin 1 1 0\nx\n%end 1 1 0\n%session-changed $0 main\n%output %1 hello\n%exit gone away");
        assert_eq!(said, [Said::Exit("gone away".to_owned())]);
    }

    #[test]
    fn an_endless_reply_fails_instead_of_eating_the_memory() {
        let mut framer = Framer::default();
        framer.feed("%begin 1 1 1");
        let line = "x".repeat(1 << 20);
        for _ in 0..20 {
            assert_eq!(framer.feed(&line), None);
        }
        assert!(matches!(framer.feed("%end 1 1 1"), Some(Said::Block(Block { ok: false, .. }))));
    }
}
