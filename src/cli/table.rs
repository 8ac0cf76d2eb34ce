//! Tables: aligned columns, and colour if it helps and is wanted.
//!
//! This file only lays out text. The content comes from the verbs, and `screen.rs` prints it.

use crate::text::legible;

/// The space between two columns.
const GAP: &str = "  ";

/// The side that a column is aligned to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Left,
    Right,
}

/// The look of a piece of text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Style {
    #[default]
    Plain,
    /// A heading or a label.
    Dim,
    /// A normal state.
    Good,
    /// A state that needs attention and may pass.
    Warn,
    /// A failure.
    Bad,
}

/// The part after the escape character of each code that [`Paint`] writes.
pub(super) const CODES: [&str; 5] = ["[0m", "[2m", "[31m", "[32m", "[33m"];

/// Whether text is coloured.
#[derive(Debug, Clone, Copy)]
pub(super) struct Paint(pub(super) bool);

impl Paint {
    /// Returns `text` in this style.
    pub(super) fn with(self, style: Style, text: &str) -> String {
        let code = match style {
            _ if !self.0 => return text.into(),
            Style::Plain => return text.into(),
            Style::Dim => 2,
            Style::Good => 32,
            Style::Warn => 33,
            Style::Bad => 31,
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }
}

/// One cell of a table.
#[derive(Debug, Default)]
pub(super) struct Cell {
    text: String,
    style: Style,
}

impl Cell {
    /// A cell in this style.
    pub(super) fn styled(style: Style, text: impl AsRef<str>) -> Self {
        Self { text: legible(text.as_ref()), style }
    }
}

impl<T: AsRef<str>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self::styled(Style::Plain, text)
    }
}

/// A table: rows below headings.
#[derive(Debug)]
pub(super) struct Table<const N: usize> {
    head: [(Side, &'static str); N],
    rows: Vec<[Cell; N]>,
}

impl<const N: usize> Table<N> {
    /// A table without rows.
    pub(super) fn new(head: [(Side, &'static str); N]) -> Self {
        Self { head, rows: Vec::new() }
    }

    /// Adds a row at the end.
    pub(super) fn row(&mut self, cells: [Cell; N]) {
        self.rows.push(cells);
    }

    /// The table as lines, each with its line end.
    pub(super) fn render(&self, paint: Paint) -> String {
        let mut widths = self.head.map(|(_, text)| text.chars().count());
        for row in &self.rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.text.chars().count());
            }
        }
        let head = self.head.map(|(_, text)| Cell::styled(Style::Dim, text));
        let mut text = String::new();
        for row in std::iter::once(&head).chain(&self.rows) {
            let mut line = String::new();
            for ((cell, width), (side, _)) in row.iter().zip(widths).zip(&self.head) {
                let space = " ".repeat(width - cell.text.chars().count());
                let painted = paint.with(cell.style, &cell.text);
                line += &match side {
                    Side::Left => painted + &space + GAP,
                    Side::Right => space + &painted + GAP,
                };
            }
            text += line.trim_end();
            text.push('\n');
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table<3> {
        let mut table = Table::new([(Side::Left, "NAME"), (Side::Right, "N"), (Side::Left, "X")]);
        table.row(["a".into(), "1000".into(), Cell::styled(Style::Bad, "no")]);
        table.row(["µs-long".into(), "7".into(), "".into()]);
        table
    }

    #[test]
    fn columns_are_aligned_and_lines_end_without_blanks() {
        let expected = "NAME        N  X\na        1000  no\nµs-long     7\n";
        assert_eq!(table().render(Paint(false)), expected);
    }

    #[test]
    fn colour_does_not_move_columns() {
        let coloured = table().render(Paint(true));
        assert!(coloured.contains("\x1b[31mno\x1b[0m"), "{coloured:?}");
        let mut bare = coloured;
        for code in ["\x1b[0m", "\x1b[2m", "\x1b[31m"] {
            bare = bare.replace(code, "");
        }
        assert_eq!(bare, table().render(Paint(false)));
    }
}
