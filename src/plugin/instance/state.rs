//! The state that a program hands to its successor: bytes, written by `save` and read by `restore`.
//!
//! Only the plugin knows what the bytes mean. This file calls neither function: when `save` and
//! `restore` are called is decided in `program.rs`, and how they are called is in
//! `wasm/hand_over.rs`.

use crate::process::call::MAX_STATE_BYTES;

/// The state that a program hands to its successor.
#[derive(Debug, Default)]
pub(super) struct State {
    bytes: Vec<u8>,
    /// Number of bytes that the successor has read.
    read: usize,
    /// Whether `save` tried to write more than a state may have.
    pub(super) overflowed: bool,
}

impl State {
    /// The state of a predecessor, to be read from its start.
    pub(super) fn new(bytes: Vec<u8>) -> Self {
        Self { bytes, read: 0, overflowed: false }
    }

    /// Room for `len` more bytes; `None` if the state would be too long.
    pub(super) fn grow(&mut self, len: usize) -> Option<&mut [u8]> {
        let old = self.bytes.len();
        if len > MAX_STATE_BYTES - old {
            self.overflowed = true;
            return None;
        }
        self.bytes.resize(old + len, 0);
        Some(&mut self.bytes[old..])
    }

    /// Drops the last `len` bytes, because they could not be filled from the guest's memory.
    pub(super) fn shrink(&mut self, len: usize) {
        self.bytes.truncate(self.bytes.len() - len);
    }

    /// The next bytes, at most `len`.
    pub(super) fn next(&self, len: usize) -> &[u8] {
        let rest = &self.bytes[self.read..];
        &rest[..len.min(rest.len())]
    }

    /// Notes that the successor has read `len` bytes.
    pub(super) fn advance(&mut self, len: usize) {
        self.read += len;
    }

    /// Everything that was written.
    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_is_read_as_it_was_written_and_has_a_limit() {
        let mut state = State::default();
        state.grow(3).expect("there is room").copy_from_slice(b"abc");
        state.grow(5).expect("there is room");
        state.shrink(5);
        state.grow(2).expect("there is room").copy_from_slice(b"de");
        assert!(state.grow(MAX_STATE_BYTES - 4).is_none());
        assert!(state.overflowed);
        let mut state = State::new(state.into_bytes());
        assert_eq!(state.next(2), b"ab");
        state.advance(2);
        assert_eq!(state.next(100), b"cde");
        state.advance(3);
        assert_eq!(state.next(1), b"");
    }
}
