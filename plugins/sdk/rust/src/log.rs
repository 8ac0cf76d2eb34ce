//! Log lines without memory allocation: a buffer on the stack receives the formatted text.
//!
//! The host cuts a line at 1 KiB, escapes control characters and limits the lines per second.
//! Therefore log only changes of a state, not the state in every cycle.

use core::fmt::{self, Write};

use crate::raw;

/// Size of the buffer for one formatted line, in bytes. This is enough for a sentence with values,
/// and small compared with the stack of a plugin.
const LINE_BYTES: usize = 256;

/// The level of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i32)]
pub enum Level {
    /// A failure that a person must correct.
    Error = 0,
    /// An unusual event that the program has handled.
    Warn = 1,
    /// A normal event.
    Info = 2,
    /// Details for the author of the plugin.
    Debug = 3,
    /// The finest details for the author of the plugin.
    Trace = 4,
}

/// Logs `text` without formatting. The macros [`error!`](crate::error), [`warn!`](crate::warn),
/// [`info!`](crate::info), [`debug!`](crate::debug) and [`trace!`](crate::trace) add file and line.
pub fn log(level: Level, file: &str, line: u32, text: &str) {
    // SAFETY: the host reads both texts and writes nothing. A refused log line is ignored here.
    unsafe {
        raw::wasm_log(level as i32, file.as_ptr(), file.len(), line, text.as_ptr(), text.len());
    }
}

/// Logs a formatted text, cut at 256 bytes. The log macros call this function.
#[inline]
pub fn log_args(level: Level, file: &str, line: u32, text: fmt::Arguments<'_>) {
    match text.as_str() {
        // The compiler knows a text without values, so such a plugin contains no formatting code.
        Some(text) => log(level, file, line, text),
        None => log_formatted(level, file, line, text),
    }
}

#[inline(never)]
fn log_formatted(level: Level, file: &str, line: u32, text: fmt::Arguments<'_>) {
    let mut buffer = Line { bytes: [0; LINE_BYTES], len: 0 };
    // An error means that the line is full. The part of the text that fits is logged.
    let _ = buffer.write_fmt(text);
    log(level, file, line, buffer.text());
}

/// A buffer for one line. Text that does not fit is dropped.
struct Line {
    bytes: [u8; LINE_BYTES],
    len: usize,
}

impl Line {
    fn text(&self) -> &str {
        let bytes = self.bytes.get(..self.len).unwrap_or_default();
        core::str::from_utf8(bytes).unwrap_or("text that is not UTF-8")
    }
}

impl Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = LINE_BYTES - self.len;
        let mut end = text.len().min(room);
        // The cut must not be in the middle of a character.
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        let target = self.bytes.iter_mut().skip(self.len);
        for (byte, new) in target.zip(text.bytes().take(end)) {
            *byte = new;
        }
        self.len += end;
        if end < text.len() {
            return Err(fmt::Error);
        }
        Ok(())
    }
}

/// Logs with the given level, file and line: `log!(Level::Warn, "valve at {} %", position)`.
#[macro_export]
macro_rules! log {
    ($level:expr, $($text:tt)+) => {
        $crate::log_args($level, ::core::file!(), ::core::line!(), ::core::format_args!($($text)+))
    };
}

/// Logs a failure that a person must correct. The arguments are those of `format_args!`.
#[macro_export]
macro_rules! error {
    ($($text:tt)+) => { $crate::log!($crate::Level::Error, $($text)+) };
}

/// Logs an unusual event that the program has handled. The arguments are those of `format_args!`.
#[macro_export]
macro_rules! warn {
    ($($text:tt)+) => { $crate::log!($crate::Level::Warn, $($text)+) };
}

/// Logs a normal event. The arguments are those of `format_args!`.
#[macro_export]
macro_rules! info {
    ($($text:tt)+) => { $crate::log!($crate::Level::Info, $($text)+) };
}

/// Logs details for the author of the plugin. The arguments are those of `format_args!`.
#[macro_export]
macro_rules! debug {
    ($($text:tt)+) => { $crate::log!($crate::Level::Debug, $($text)+) };
}

/// Logs the finest details for the author of the plugin. The arguments are those of `format_args!`.
#[macro_export]
macro_rules! trace {
    ($($text:tt)+) => { $crate::log!($crate::Level::Trace, $($text)+) };
}
