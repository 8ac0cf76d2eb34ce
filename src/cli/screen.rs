//! Standard output: written whole, coloured only for eyes, redrawn in place on a terminal. And the
//! last words on standard error.
//!
//! What is written comes from `show.rs`.

use std::io::{self, IsTerminal, Write};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use serde::Serialize;

use super::table::Paint;

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
        self.print(&(text + "\n"))
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
        let frame = cut(frame, width);
        // To the top, each line cleared behind its end and the rest below: no flicker.
        let lines = frame.replace('\n', "\x1b[K\n");
        self.print(&format!("\x1b[H{lines}\x1b[J"))
    }
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
    fn lines_are_cut_and_colours_end() {
        fn check(frame: &str, expected: &str) {
            assert_eq!(cut(frame, 4), expected, "{frame:?}");
        }
        check("1234\n12345\n\n123456\n", "1234\n1234\n\n1234\n");
        check("12\x1b[31m345\x1b[0m6\n°°°°°\n", "12\x1b[31m34\x1b[0m\n°°°°\n");
        assert_eq!(cut("1234567\n", usize::MAX), "1234567\n");
    }
}
