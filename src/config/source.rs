//! A text file and the places in it.

use crate::model::fault::Place;
use crate::model::shared::SharedText;

/// A stretch of a [`Source`]'s text, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Span {
    /// The first byte.
    pub(super) start: usize,
    /// Behind the last byte.
    pub(super) end: usize,
}

impl Span {
    /// The very beginning: for faults that belong to the file as a whole.
    pub(super) const FILE: Self = Self { start: 0, end: 0 };
}

const BYTE_ORDER_MARK: &str = "\u{feff}";

/// Every so many bytes the number of characters before is remembered, so that a column costs the same on a line of a
/// megabyte as on a short one.
const CHECKPOINT_BYTES: usize = 64;

/// A text file with an index of its lines.
#[derive(Debug)]
pub(super) struct Source<'a> {
    file: SharedText,
    text: &'a str,
    skipped_bytes: usize,
    line_starts: Vec<usize>,
    chars_before: Vec<usize>,
}

impl<'a> Source<'a> {
    /// Indexes a file. A byte order mark is not part of the text, yet counts in the offsets that people see.
    pub(super) fn new(file: &str, whole: &'a str) -> Self {
        let text = whole.strip_prefix(BYTE_ORDER_MARK).unwrap_or(whole);
        let line_starts =
            std::iter::once(0).chain(text.bytes().enumerate().filter(|(_, b)| *b == b'\n').map(|(at, _)| at + 1));
        let mut chars = 0;
        let chars_before = text
            .as_bytes()
            .chunks(CHECKPOINT_BYTES)
            .map(|chunk| {
                let before = chars;
                chars += count_chars(chunk);
                before
            })
            .collect();
        Self {
            file: file.into(),
            text,
            skipped_bytes: whole.len() - text.len(),
            line_starts: line_starts.collect(),
            chars_before,
        }
    }

    /// Returns the text without a byte order mark; spans refer to it.
    pub(super) const fn text(&self) -> &'a str {
        self.text
    }

    /// Turns a span into a place. A place never reaches over the end of its first line: the line is what is shown.
    pub(super) fn place(&self, span: Span) -> Place {
        let start = floor_boundary(self.text, span.start);
        let line = self.line_starts.partition_point(|at| *at <= start) - 1;
        let line_start = self.line_starts[line];
        let rest = &self.text[start..];
        let line_end = start + rest.find('\n').map_or(rest.len(), |at| rest[..at].trim_end_matches('\r').len());
        let end = floor_boundary(self.text, span.end).clamp(start, line_end.max(start));
        Place {
            file: self.file.clone(),
            line: number(line + 1),
            column: number(self.chars_until(start) - self.chars_until(line_start) + 1),
            start: start + self.skipped_bytes,
            end: end + self.skipped_bytes,
        }
    }

    fn chars_until(&self, at: usize) -> usize {
        let block = at / CHECKPOINT_BYTES;
        match self.chars_before.get(block) {
            Some(before) => before + count_chars(&self.text.as_bytes()[block * CHECKPOINT_BYTES..at]),
            None => self
                .chars_before
                .last()
                .map_or(0, |before| before + count_chars(&self.text.as_bytes()[(block - 1) * CHECKPOINT_BYTES..at])),
        }
    }
}

/// Counts the characters that begin in these bytes.
fn count_chars(bytes: &[u8]) -> usize {
    bytes.iter().filter(|byte| **byte & 0xC0 != 0x80).count()
}

fn floor_boundary(text: &str, at: usize) -> usize {
    let at = at.min(text.len());
    (0..=at).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0)
}

fn number(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(text: &str, start: usize, end: usize) -> (u32, u32, usize, usize) {
        let place = Source::new("f", text).place(Span { start, end });
        (place.line, place.column, place.start, place.end)
    }

    #[test]
    fn columns_count_characters_and_not_bytes() {
        let text = "a = 1\nカエデ = 2\n";
        let at = text.find('=').unwrap() + 4 + "カエデ ".len();
        assert_eq!(&text[at..=at], "=");
        assert_eq!(place(text, at, at + 1), (2, 5, at, at + 1));
    }

    #[test]
    fn columns_are_right_on_long_lines_and_at_the_very_end() {
        let text = "あ".repeat(1_000);
        for index in [0, 84, 85, 86, 170, 171, 999, 1_000] {
            assert_eq!(place(&text, index * 3, index * 3).1 as usize, index + 1, "at character {index}");
        }
        let text = "x".repeat(CHECKPOINT_BYTES * 2);
        assert_eq!(place(&text, text.len(), text.len()).1 as usize, text.len() + 1);
    }

    #[test]
    fn a_byte_order_mark_counts_in_the_offsets_and_not_in_the_columns() {
        assert_eq!(place("\u{feff}key", 0, 3), (1, 1, 3, 6));
    }

    #[test]
    fn a_place_ends_with_its_line_and_lies_inside_the_text() {
        assert_eq!(place("ab\r\ncd", 0, 6), (1, 1, 0, 2));
        assert_eq!(place("ab", 99, 120), (1, 3, 2, 2));
        assert_eq!(place("", 0, 0), (1, 1, 0, 0));
        assert_eq!(place("é", 1, 2), (1, 1, 0, 2));
    }
}
