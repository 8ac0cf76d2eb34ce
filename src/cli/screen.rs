//! Standard output: written whole, coloured only for eyes, redrawn in place on a terminal.
//!
//! What is written comes from `show.rs`.

use std::io::{self, IsTerminal, Write};

use serde::Serialize;

use super::table::Paint;

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
        // To the top, each line cleared behind its end and the rest below: no flicker.
        let lines = frame.replace('\n', "\x1b[K\n");
        self.print(&format!("\x1b[H{lines}\x1b[J"))
    }
}
