//! Log lines without allocation: text is put together in a buffer on the stack.
//!
//! The host cuts a line at 1 KiB, escapes control characters and limits lines per second; log what
//! changes, not what is.

use core::fmt::{self, Write};

use crate::raw;

/// Room for one formatted line, in bytes: ample for a sentence with values, small for a guest's
/// stack.
const LINE_BYTES: usize = 256;

/// How important a line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i32)]
pub enum Level {
    /// Something is broken and someone must look.
    Error = 0,
    /// Something is odd, and was coped with.
    Warn = 1,
    /// What happens in normal work.
    Info = 2,
    /// For the plugin's author.
    Debug = 3,
    /// For the plugin's author on a bad day.
    Trace = 4,
}

/// Logs `text` as it is. The macros [`error!`](crate::error), [`warn!`](crate::warn),
/// [`info!`](crate::info), [`debug!`](crate::debug) and [`trace!`](crate::trace) add file and line.
pub fn log(level: Level, file: &str, line: u32, text: &str) {
    // SAFETY: the host reads both texts and writes nothing. A refusal has nowhere to be reported.
    unsafe {
        raw::wasm_log(level as i32, file.as_ptr(), file.len(), line, text.as_ptr(), text.len());
    }
}

/// Logs a formatted text, cut at 256 bytes. What the macros call.
#[inline]
pub fn log_args(level: Level, file: &str, line: u32, text: fmt::Arguments<'_>) {
    match text.as_str() {
        // Known when compiling for a text without values, so such a plugin has no formatting code.
        Some(text) => log(level, file, line, text),
        None => log_formatted(level, file, line, text),
    }
}

#[inline(never)]
fn log_formatted(level: Level, file: &str, line: u32, text: fmt::Arguments<'_>) {
    let mut buffer = Line { bytes: [0; LINE_BYTES], len: 0 };
    // An error means that the line is full; what fits is logged.
    let _ = buffer.write_fmt(text);
    log(level, file, line, buffer.text());
}

/// A line being put together; what does not fit is dropped.
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
        // Never through the middle of a character.
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

/// Logs at the given level, with file and line: `log!(Level::Warn, "valve at {} %", position)`.
#[macro_export]
macro_rules! log {
    ($level:expr, $($text:tt)+) => {
        $crate::log_args($level, ::core::file!(), ::core::line!(), ::core::format_args!($($text)+))
    };
}

/// Logs something broken that someone must look at; text as for `format_args!`.
#[macro_export]
macro_rules! error {
    ($($text:tt)+) => { $crate::log!($crate::Level::Error, $($text)+) };
}

/// Logs something odd that was coped with; text as for `format_args!`.
#[macro_export]
macro_rules! warn {
    ($($text:tt)+) => { $crate::log!($crate::Level::Warn, $($text)+) };
}

/// Logs what happens in normal work; text as for `format_args!`.
#[macro_export]
macro_rules! info {
    ($($text:tt)+) => { $crate::log!($crate::Level::Info, $($text)+) };
}

/// Logs for the plugin's author; text as for `format_args!`.
#[macro_export]
macro_rules! debug {
    ($($text:tt)+) => { $crate::log!($crate::Level::Debug, $($text)+) };
}

/// Logs for the plugin's author on a bad day; text as for `format_args!`.
#[macro_export]
macro_rules! trace {
    ($($text:tt)+) => { $crate::log!($crate::Level::Trace, $($text)+) };
}
