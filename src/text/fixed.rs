//! A text with a fixed capacity, for code that may not allocate memory.
//!
//! Bytes that do not fit are dropped. `text.rs` has the functions that make a text legible.

use std::fmt;

/// A short text in an array of `N` bytes, so no memory is allocated. For example, a guest logs a
/// text inside a scan cycle.
#[derive(Clone, Copy)]
pub struct FixedText<const N: usize> {
    bytes: [u8; N],
    /// The number of bytes in use.
    len: usize,
}

impl<const N: usize> Default for FixedText<N> {
    fn default() -> Self {
        Self { bytes: [0; N], len: 0 }
    }
}

impl<const N: usize> FixedText<N> {
    /// Returns the text. If the text was cut off inside a character, the result ends before that
    /// character.
    pub fn as_str(&self) -> &str {
        let bytes = &self.bytes[..self.len];
        match std::str::from_utf8(bytes) {
            Ok(text) => text,
            Err(error) => std::str::from_utf8(&bytes[..error.valid_up_to()])
                .expect("the bytes before the position of the error are valid UTF-8"),
        }
    }

    /// Adds `more` to the text. Bytes that do not fit are dropped.
    pub fn push(&mut self, more: &[u8]) {
        let taken = more.len().min(N - self.len);
        self.bytes[self.len..][..taken].copy_from_slice(&more[..taken]);
        self.len += taken;
    }

    /// Whether the text has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether the text has no room for another byte.
    pub fn is_full(&self) -> bool {
        self.len == N
    }
}

impl<const N: usize> fmt::Debug for FixedText<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_str().fmt(f)
    }
}
