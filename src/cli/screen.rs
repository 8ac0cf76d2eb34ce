//! Standard output: written whole, coloured only on a terminal, redrawn in place there. And the
//! last message on standard error.
//!
//! The text comes from the verbs. Text from outside loses its power over the terminal here at the
//! latest: only line ends and this program's own colours pass.

use std::io::{self, IsTerminal, Write};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use serde::Serialize;

use super::table::{CODES, Paint};
use crate::text::{legible, legible_lines};

/// Time limit for the last message of a process. There may be no reader, and systemd and people
/// wait for the end of the process.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Standard output.
#[derive(Debug)]
pub(super) struct Screen {
    out: io::Stdout,
    is_terminal: bool,
    /// Whether to use colour.
    pub(super) paint: Paint,
}

impl Screen {
    /// Finds out where standard output goes and what the user wants.
    pub(super) fn new() -> Self {
        let out = io::stdout();
        let is_terminal = out.is_terminal();
        let var = |name| std::env::var_os(name).unwrap_or_default();
        // By no-color.org any value but the empty one means no colour.
        let paint = Paint(is_terminal && var("NO_COLOR").is_empty() && var("TERM") != "dumb");
        Self { out, is_terminal, paint }
    }

    /// Prints text that has its line ends.
    ///
    /// # Errors
    /// The output fails, for example because its reader has left.
    pub(super) fn print(&mut self, text: &str) -> io::Result<()> {
        self.write(&harmless(text))
    }

    fn write(&mut self, text: &str) -> io::Result<()> {
        self.out.write_all(text.as_bytes())?;
        self.out.flush()
    }

    /// Prints a view as JSON or as text.
    ///
    /// # Errors
    /// The errors of [`Screen::print`].
    pub(super) fn show<T: Serialize + ?Sized>(
        &mut self,
        view: &T,
        json: bool,
        text: fn(&T, Paint) -> String,
    ) -> io::Result<()> {
        if json { self.json(view) } else { self.print(&text(view, self.paint)) }
    }

    /// Prints a view as JSON.
    ///
    /// # Errors
    /// The errors of [`Screen::print`].
    pub(super) fn json(&mut self, view: &(impl Serialize + ?Sized)) -> io::Result<()> {
        let text = serde_json::to_string_pretty(view).expect("views have text keys");
        self.write(&(harmless_json(&text) + "\n"))
    }

    /// Prints `frame` in place of the last one.
    ///
    /// # Errors
    /// The errors of [`Screen::print`].
    pub(super) fn redraw(&mut self, frame: &str) -> io::Result<()> {
        if !self.is_terminal {
            return self.print(&format!("{frame}\n"));
        }
        let width = match rustix::termios::tcgetwinsize(&self.out) {
            // A line that fills the last column would lose that column when its end is cleared.
            Ok(size) if size.ws_col > 1 => usize::from(size.ws_col) - 1,
            _ => usize::MAX,
        };
        let frame = cut(&harmless(frame), width);
        // The cursor goes to the top, and each line is cleared only behind its end, so the picture
        // does not flicker.
        let lines = frame.replace('\n', "\x1b[K\n");
        self.write(&format!("\x1b[H{lines}\x1b[J"))
    }
}

/// `text` without anything that acts on a terminal, except line ends and this program's own
/// colours.
fn harmless(text: &str) -> String {
    let mut pieces = text.split('\x1b');
    let mut harmless = legible_lines(pieces.next().unwrap_or_default());
    for piece in pieces {
        let color = CODES.iter().find(|color| piece.starts_with(**color)).copied();
        harmless += if color.is_some() { "\x1b" } else { "\\u{1b}" };
        harmless += &legible_lines(piece);
    }
    harmless
}

/// JSON in which the characters that serde leaves, and that act on a terminal, are escaped: for
/// example a change of the direction of writing. Such characters occur inside texts only.
fn harmless_json(text: &str) -> String {
    let mut harmless = String::with_capacity(text.len());
    for c in text.chars() {
        let mut units = [0; 2];
        match c {
            '\n' => harmless.push(c),
            _ if legible(c.encode_utf8(&mut [0; 4])).starts_with("\\u") => {
                for unit in c.encode_utf16(&mut units) {
                    harmless += &format!("\\u{unit:04x}");
                }
            }
            _ => harmless.push(c),
        }
    }
    harmless
}

/// Lines of at most `width` characters, because a line that wraps moves all lines below it. Colour
/// codes are kept.
fn cut(frame: &str, width: usize) -> String {
    let (mut column, mut is_code) = (0, false);
    let is_kept = |c: &char| match c {
        '\n' => {
            column = 0;
            true
        }
        '\x1b' => {
            is_code = true;
            true
        }
        'm' if is_code => {
            is_code = false;
            true
        }
        _ if is_code => true,
        _ => {
            column += 1;
            column <= width
        }
    };
    frame.chars().filter(is_kept).collect()
}

/// Writes the error that ends the process. Without a reader, a write to a full pipe or a stopped
/// terminal would keep the process for ever, so a thread writes it within a time limit. The exit
/// code also reports the failure.
pub(super) fn say_last(message: String) {
    let (written, done) = mpsc::channel();
    let write = move || {
        let _ = writeln!(io::stderr(), "error: {message}");
        let _ = written.send(());
    };
    if thread::Builder::new().spawn(write).is_ok() {
        let _ = done.recv_timeout(LAST_WORDS);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_lines_and_our_own_colours_reach_the_terminal() {
        let bad = Paint(true).with(super::super::table::Style::Bad, "bad");
        assert_eq!(harmless(&format!("a {bad}\nb\n")), format!("a {bad}\nb\n"));
        assert_eq!(
            harmless("\x1b[2Ja\r\x07\x1b]0;t\x1b"),
            "\\u{1b}[2Ja\\r\\u{7}\\u{1b}]0;t\\u{1b}"
        );
        assert_eq!(harmless("\u{202e}\u{9b}2J"), "\\u{202e}\\u{9b}2J");
        let json = serde_json::to_string(&["\u{202e}\u{9b}\x1b\"\\ü\u{e0001}"]).unwrap();
        let shown = harmless_json(&json);
        assert_eq!(shown, r#"["\u202e\u009b\u001b\"\\ü\udb40\udc01"]"#);
        assert_eq!(serde_json::from_str::<Vec<String>>(&shown).unwrap().len(), 1);
    }

    #[test]
    fn lines_are_cut_and_colours_end() {
        fn check(frame: &str, expected: &str) {
            assert_eq!(cut(frame, 4), expected, "{frame:?}");
        }
        check("1234\n12345\n\n123456\n", "1234\n1234\n\n1234\n");
        check("12\x1b[31m345\x1b[0m6\n°°°°°\n", "12\x1b[31m34\x1b[0m\n°°°°\n");
        assert_eq!(cut("1234567\n", usize::MAX), "1234567\n");
    }
}
