//! The state that a program hands over in a swap: bytes that `save` of the old version writes and
//! `restore` of the new version reads.
//!
//! Only the plugin knows the meaning of the bytes. This file does not call `save` or `restore`.
//! `program.rs` decides when the two functions are called, and `wasm/hand_over.rs` calls them.

use crate::process::call::MAX_STATE_BYTES;

/// The saved state of a program. `save` writes this state and `restore` reads it.
#[derive(Debug, Default)]
pub(super) struct State {
    bytes: Vec<u8>,
    /// Number of bytes that `restore` has read.
    read: usize,
    /// Whether `save` tried to write more bytes than [`MAX_STATE_BYTES`].
    pub(super) overflowed: bool,
}

impl State {
    /// Makes a state for `restore`, from the bytes that `save` of another version has written.
    pub(super) fn new(bytes: Vec<u8>) -> Self {
        Self { bytes, read: 0, overflowed: false }
    }

    /// Appends `len` bytes to the state and returns them for writing; `None` if the state would be
    /// too long.
    pub(super) fn grow(&mut self, len: usize) -> Option<&mut [u8]> {
        let old = self.bytes.len();
        if len > MAX_STATE_BYTES - old {
            self.overflowed = true;
            return None;
        }
        self.bytes.resize(old + len, 0);
        Some(&mut self.bytes[old..])
    }

    /// Removes the last `len` bytes. The caller uses this function if it could not read these bytes
    /// from the guest's memory.
    pub(super) fn shrink(&mut self, len: usize) {
        self.bytes.truncate(self.bytes.len() - len);
    }

    /// Returns the next unread bytes, at most `len`.
    pub(super) fn next(&self, len: usize) -> &[u8] {
        let rest = &self.bytes[self.read..];
        &rest[..len.min(rest.len())]
    }

    /// Marks the next `len` unread bytes as read.
    pub(super) fn advance(&mut self, len: usize) {
        self.read += len;
    }

    /// Returns all bytes that were written.
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
