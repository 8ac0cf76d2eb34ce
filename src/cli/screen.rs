//! Standard output and the last message on standard error.
//!
//! Colours are used only on a terminal. `camshaft status --watch` redraws its text in place.
//!
//! Texts from outside, such as the name of a file, may contain control codes that change the
//! terminal. This file is the last defence against these codes: it prints only line ends and the
//! colours of this program unchanged. The contents come from the verbs, and the columns are made in
//! `table.rs`.

use std::io::{self, IsTerminal, Write};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use serde::Serialize;

use super::table::{CODES, Paint};
use crate::text::{legible, legible_lines};

/// Time limit for the last message of a process. The pipe for this message may have no reader,
/// while systemd or a user waits for the end of the process.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Standard output, with the settings for colour.
#[derive(Debug)]
pub(super) struct Screen {
    out: io::Stdout,
    is_terminal: bool,
    /// Whether text is coloured.
    pub(super) paint: Paint,
}

impl Screen {
    /// Finds out whether standard output is a terminal, and whether the user wants colour.
    pub(super) fn new() -> Self {
        let out = io::stdout();
        let is_terminal = out.is_terminal();
        let var = |name| std::env::var_os(name).unwrap_or_default();
        // By no-color.org, each value of NO_COLOR except the empty value means no colour.
        let paint = Paint(is_terminal && var("NO_COLOR").is_empty() && var("TERM") != "dumb");
        Self { out, is_terminal, paint }
    }

    /// Prints `text`. The text contains its line ends.
    ///
    /// # Errors
    /// The output fails, for example because the pipe has no reader any more.
    pub(super) fn print(&mut self, text: &str) -> io::Result<()> {
        self.write(&harmless(text))
    }

    fn write(&mut self, text: &str) -> io::Result<()> {
        self.out.write_all(text.as_bytes())?;
        self.out.flush()
    }

    /// Prints a view as JSON or as text. The function `text` formats the view.
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
        let text = serde_json::to_string_pretty(view).expect("every key of a view is a text");
        self.write(&(harmless_json(&text) + "\n"))
    }

    /// Prints `frame` in place of the previous frame. Without a terminal, prints `frame` below the
    /// previous frame.
    ///
    /// # Errors
    /// The errors of [`Screen::print`].
    pub(super) fn redraw(&mut self, frame: &str) -> io::Result<()> {
        if !self.is_terminal {
            return self.print(&format!("{frame}\n"));
        }
        let width = match rustix::termios::tcgetwinsize(&self.out) {
            // If a line fills the last column, the code that clears the rest of the line also
            // deletes this column.
            Ok(size) if size.ws_col > 1 => usize::from(size.ws_col) - 1,
            _ => usize::MAX,
        };
        let frame = cut(&harmless(frame), width);
        // The cursor moves to the top. Each line is overwritten, and then only the rest of the line
        // is cleared. The screen is never empty, so it does not flicker.
        let lines = frame.replace('\n', "\x1b[K\n");
        self.write(&format!("\x1b[H{lines}\x1b[J"))
    }
}

/// Returns `text` without control codes for the terminal. Line ends and the colours of this program
/// are not removed.
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

/// Escapes characters that act on a terminal and that serde does not escape. An example is the
/// character that reverses the direction of writing. In JSON, these characters occur only inside of
/// strings.
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

/// Shortens each line to at most `width` characters. A longer line would wrap and move all lines
/// below it. Colour codes are not counted and not removed.
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

/// Writes the error that ends the process. If the pipe is full or the terminal is stopped, a write
/// never returns. A separate thread therefore writes the message, and the process waits only for a
/// limited time. The exit code reports the failure even without the message.
pub(super) fn print_last(message: String) {
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

    /// Control codes in a text or in JSON are escaped, except for line ends and this program's
    /// colours.
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

    /// Lines are cut at the width, and colour codes are not counted.
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
