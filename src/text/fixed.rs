//! A text of fixed capacity, for places where the code may not allocate.
//!
//! Bytes that do not fit are dropped. `text.rs` makes texts legible.

use std::fmt;

/// A short text that needs no allocation, because log lines are made inside a cycle.
#[derive(Clone, Copy)]
pub struct Text<const N: usize> {
    bytes: [u8; N],
    len: usize,
}

impl<const N: usize> Default for Text<N> {
    fn default() -> Self {
        Self { bytes: [0; N], len: 0 }
    }
}

impl<const N: usize> Text<N> {
    /// The text. If the text was cut in the middle of a character, that character is left out.
    pub fn as_str(&self) -> &str {
        let bytes = &self.bytes[..self.len];
        match std::str::from_utf8(bytes) {
            Ok(text) => text,
            Err(error) => std::str::from_utf8(&bytes[..error.valid_up_to()])
                .expect("valid up to there by what the error says"),
        }
    }

    /// Adds as many bytes of `more` as there is room for.
    pub fn push(&mut self, more: &[u8]) {
        let taken = more.len().min(N - self.len);
        self.bytes[self.len..][..taken].copy_from_slice(&more[..taken]);
        self.len += taken;
    }

    /// Whether the text has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether there is no more room.
    pub fn is_full(&self) -> bool {
        self.len == N
    }
}

impl<const N: usize> fmt::Debug for Text<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_str().fmt(f)
    }
}
