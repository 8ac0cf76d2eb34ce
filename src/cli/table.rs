//! Tables with aligned columns, and with colour on a terminal.
//!
//! This file only arranges text. The verbs provide the contents, and `screen.rs` prints the result.
//!
//! Example of a table. The first column is aligned to the left, and the second to the right:
//!
//! ```text
//! NAME        N
//! a        1000
//! longer      7
//! ```

use crate::text::legible;

/// The space between two columns.
const GAP: &str = "  ";

/// The side to which the text of a column is aligned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Left,
    Right,
}

/// The meaning of a piece of text, which decides its colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Style {
    #[default]
    Plain,
    /// A heading or a label.
    Dim,
    /// A normal state.
    Good,
    /// A state that needs attention and may end without an action of the user.
    Warn,
    /// A failure.
    Bad,
}

/// All colour codes that [`Paint`] writes, without the escape character before each code.
pub(super) const CODES: [&str; 5] = ["[0m", "[2m", "[31m", "[32m", "[33m"];

/// Whether text is coloured.
#[derive(Debug, Clone, Copy)]
pub(super) struct Paint(pub(super) bool);

impl Paint {
    /// Returns `text` in the colour of this style.
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

/// One cell of a table: a text and its style.
#[derive(Debug, Default)]
pub(super) struct Cell {
    text: String,
    style: Style,
}

impl Cell {
    /// Makes a cell with this style.
    pub(super) fn styled(style: Style, text: impl AsRef<str>) -> Self {
        Self { text: legible(text.as_ref()), style }
    }
}

impl<T: AsRef<str>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self::styled(Style::Plain, text)
    }
}

/// A table: rows below one row of headings.
#[derive(Debug)]
pub(super) struct Table<const N: usize> {
    head: [(Side, &'static str); N],
    rows: Vec<[Cell; N]>,
    /// Whether the last column is left out if all its cells are empty.
    may_omit_last: bool,
}

impl<const N: usize> Table<N> {
    /// Makes a table without rows.
    pub(super) fn new(head: [(Side, &'static str); N]) -> Self {
        Self { head, rows: Vec::new(), may_omit_last: false }
    }

    /// Leaves out the last column if all its cells are empty.
    pub(super) fn may_omit_last(&mut self) {
        self.may_omit_last = true;
    }

    /// Adds a row at the end.
    pub(super) fn row(&mut self, cells: [Cell; N]) {
        self.rows.push(cells);
    }

    /// Returns the table as lines of text. Each column is as wide as its widest cell.
    pub(super) fn render(&self, paint: Paint) -> String {
        let mut widths = self.head.map(|(_, text)| text.chars().count());
        for row in &self.rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.text.chars().count());
            }
        }
        let head = self.head.map(|(_, text)| Cell::styled(Style::Dim, text));
        let is_empty = |row: &[Cell; N]| row.last().is_none_or(|cell| cell.text.is_empty());
        let omits_last = self.may_omit_last && self.rows.iter().all(is_empty);
        let shown = N.saturating_sub(usize::from(omits_last));
        let mut text = String::new();
        for row in std::iter::once(&head).chain(&self.rows) {
            let mut line = String::new();
            for ((cell, width), (side, _)) in row.iter().zip(widths).zip(&self.head).take(shown) {
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

    /// Columns are aligned, and no line ends with a space.
    #[test]
    fn columns_are_aligned_and_lines_end_without_blanks() {
        let expected = "NAME        N  X\na        1000  no\nµs-long     7\n";
        assert_eq!(table().render(Paint(false)), expected);
    }

    #[test]
    fn a_last_column_without_text_is_left_out() {
        let mut table = table();
        table.may_omit_last();
        assert!(table.render(Paint(false)).contains("  X\n"), "one cell has text");
        table.rows.remove(0);
        assert_eq!(table.render(Paint(false)), "NAME     N\nµs-long  7\n");
    }

    /// Colour codes do not change the width of a column.
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
