//! Tables for people: aligned by what a terminal shows, so that Japanese names line up.

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use super::output::{Color, Tone, one_line};

/// The space between columns.
const GAP: usize = 2;

/// What stands for text that does not fit.
const CUT: &str = "…";

/// One cell: its text and what it means.
#[derive(Debug, Clone)]
pub struct Cell {
    text: String,
    tone: Tone,
}

impl Cell {
    /// Builds a cell with a meaning.
    #[must_use]
    pub fn new(tone: Tone, text: &str) -> Self {
        Self { text: one_line(text), tone }
    }

    /// Builds a cell without a special meaning.
    #[must_use]
    pub fn plain(text: &str) -> Self {
        Self::new(Tone::Plain, text)
    }

    /// Builds a cell for something that may be absent.
    #[must_use]
    pub fn maybe(text: Option<&str>) -> Self {
        match text {
            Some(text) => Self::plain(text),
            None => Self::new(Tone::Faint, "-"),
        }
    }
}

/// Rows under headings.
#[derive(Debug, Clone)]
pub struct Table {
    headings: Vec<&'static str>,
    rows: Vec<Vec<Cell>>,
}

impl Table {
    /// Begins a table.
    #[must_use]
    pub fn new(headings: &[&'static str]) -> Self {
        Self { headings: headings.to_vec(), rows: Vec::new() }
    }

    /// Adds a row.
    pub fn row(&mut self, cells: Vec<Cell>) {
        assert_eq!(cells.len(), self.headings.len(), "a row has a cell under every heading");
        self.rows.push(cells);
    }

    /// Writes the table; lines longer than `width` are cut.
    #[must_use]
    pub fn render(&self, color: Color, width: Option<usize>) -> String {
        let headings: Vec<Cell> = self.headings.iter().map(|text| Cell::new(Tone::Faint, text)).collect();
        let mut widths: Vec<usize> = headings.iter().map(|cell| cell.text.width()).collect();
        for row in &self.rows {
            for (column, cell) in widths.iter_mut().zip(row) {
                *column = (*column).max(cell.text.width());
            }
        }
        std::iter::once(&headings).chain(&self.rows).map(|row| render_row(row, &widths, color, width)).collect()
    }
}

fn render_row(row: &[Cell], widths: &[usize], color: Color, width: Option<usize>) -> String {
    let mut line = String::new();
    let mut at = 0;
    let last = row.iter().rposition(|cell| !cell.text.is_empty()).unwrap_or(0);
    for (index, (cell, column)) in row.iter().zip(widths).enumerate().take(last + 1) {
        let room = width.map_or(usize::MAX, |width| width.saturating_sub(at));
        let text = cut(&cell.text, room);
        let shown = text.width();
        line.push_str(&color.paint(cell.tone, &text));
        if index < last {
            let pad = (column - cell.text.width().min(*column) + GAP).min(room.saturating_sub(shown));
            line.push_str(&" ".repeat(pad));
            at += shown + pad;
        }
    }
    line.push('\n');
    line
}

/// Cuts a text so that it takes at most `room` columns.
#[must_use]
pub fn cut(text: &str, room: usize) -> String {
    if text.width() <= room {
        return text.to_owned();
    }
    let mut kept = String::new();
    let mut used = CUT.width();
    for c in text.chars() {
        used += c.width().unwrap_or(0);
        if used > room {
            break;
        }
        kept.push(c);
    }
    if room >= CUT.width() {
        kept.push_str(CUT);
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn japanese_names_line_up_with_ascii_ones() {
        let mut table = Table::new(&["NAME", "STATE"]);
        table.row(vec![Cell::plain("カエデ"), Cell::plain("idle")]);
        table.row(vec![Cell::plain("conductor"), Cell::plain("busy")]);
        assert_eq!(table.render(Color::Plain, None), "NAME       STATE\nカエデ     idle\nconductor  busy\n");
    }

    #[test]
    fn colours_do_not_disturb_the_columns() {
        let mut table = Table::new(&["A", "B"]);
        table.row(vec![Cell::new(Tone::Good, "x"), Cell::plain("y")]);
        assert_eq!(table.render(Color::Ansi, None).lines().nth(1), Some("\x1b[32mx\x1b[0m  y"));
    }

    #[test]
    fn long_lines_are_cut_at_the_terminals_edge_even_inside_wide_characters() {
        assert_eq!(cut("カエデさん", 6), "カエ…");
        assert_eq!(cut("abc", 3), "abc");
        assert_eq!(cut("abc", 0), "");
        let mut table = Table::new(&["A", "B"]);
        table.row(vec![Cell::plain("xxxx"), Cell::plain("yyyyyyyy")]);
        assert_eq!(table.render(Color::Plain, Some(8)).lines().nth(1), Some("xxxx  y…"));
    }
}
