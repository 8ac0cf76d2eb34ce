//! Standard output: written whole, coloured only for eyes, redrawn in place on a terminal. And the
//! last words on standard error.
//!
//! What is written comes from `show.rs`. Words of strangers lose their power over the terminal here
//! at the latest: of what it is given to print, only lines and our own colours are passed on.

use std::io::{self, IsTerminal, Write};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use serde::Serialize;

use super::table::{CODES, Paint};
use crate::text::{legible, legible_lines};

/// How long the last words of a process may take to be written: nobody need be there to read them,
/// and systemd and people wait for the end.
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
    /// Looks at where standard output goes and what the user wants.
    pub(super) fn new() -> Self {
        let out = io::stdout();
        let is_terminal = out.is_terminal();
        let var = |name| std::env::var_os(name).unwrap_or_default();
        // no-color.org: any value but the empty one.
        let paint = Paint(is_terminal && var("NO_COLOR").is_empty() && var("TERM") != "dumb");
        Self { out, is_terminal, paint }
    }

    /// Prints text that has its line ends.
    ///
    /// # Errors
    /// When nobody reads any more, for one.
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
    /// As [`Screen::print`].
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
    /// As [`Screen::print`].
    pub(super) fn json(&mut self, view: &(impl Serialize + ?Sized)) -> io::Result<()> {
        let text = serde_json::to_string_pretty(view).expect("views have text keys");
        self.write(&(harmless_json(&text) + "\n"))
    }

    /// Prints `frame` in place of the last one.
    ///
    /// # Errors
    /// As [`Screen::print`].
    pub(super) fn redraw(&mut self, frame: &str) -> io::Result<()> {
        if !self.is_terminal {
            return self.print(&format!("{frame}\n"));
        }
        let width = match rustix::termios::tcgetwinsize(&self.out) {
            // A line that fills the last column would lose it to the clearing behind its end.
            Ok(size) if size.ws_col > 1 => usize::from(size.ws_col) - 1,
            _ => usize::MAX,
        };
        let frame = cut(&harmless(frame), width);
        // To the top, each line cleared behind its end and the rest below: no flicker.
        let lines = frame.replace('\n', "\x1b[K\n");
        self.write(&format!("\x1b[H{lines}\x1b[J"))
    }
}

/// `text` without anything that acts on a terminal but line ends and our own colours.
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

/// JSON with the escapes of its own for what serde leaves as it is, such as a change of the
/// direction of writing. Such characters are found within texts only.
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

/// Lines of at most `width` characters, because one that wraps moves all below it. What colours
/// them is kept.
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

/// Writes why the process ends. Nobody may be there to read it, and then a write to a full pipe or
/// a stopped terminal would keep the process for ever; the exit code says it too.
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
