//! A row: polls that did not call the host, which together are one section on the tape.
//!
//! The section's head is that of the first poll. Three numbers follow the head: the number of
//! polls, the cycles from one poll to the next, and the nanoseconds from the first poll to the
//! last. `tape.rs` decides when a row is written, and `tape/read.rs` takes it apart again.

use super::{Begun, HEAD, LONGEST, nanos, number};

/// Value in the byte of the phase: the section is a row.
pub(super) const ROW: u8 = 4;

/// Most polls of a row. The limit bounds how many polls a full tape can stand for.
pub(super) const LONGEST_ROW: u32 = 100;

/// Polls that did not call the host, with the same number of cycles from each poll to the next.
#[derive(Debug, Default)]
pub(super) struct Row {
    polls: u32,
    first: Begun,
    last: Begun,
    stride: u64,
}

impl Row {
    /// Whether the next poll belongs to this row.
    pub(super) fn takes(&self, poll: &Begun) -> bool {
        let fits = self.polls <= 1 || poll.cycle.wrapping_sub(self.last.cycle) == self.stride;
        fits && self.polls < LONGEST_ROW
    }

    /// Counts a poll.
    pub(super) fn add(&mut self, poll: Begun) {
        if self.polls == 0 {
            self.first = poll;
        } else {
            self.stride = poll.cycle.wrapping_sub(self.last.cycle);
        }
        self.last = poll;
        self.polls += 1;
    }

    /// The section of the row, and its length in bytes; `None` if there is no poll in the row.
    pub(super) fn section(&self) -> Option<([u8; HEAD + 3 * LONGEST], usize)> {
        if self.polls == 0 {
            return None;
        }
        let mut section = [0; HEAD + 3 * LONGEST];
        section[..HEAD].copy_from_slice(&self.first.head(ROW));
        let time = nanos(self.last.now.saturating_sub(self.first.now));
        let mut len = HEAD;
        for value in [self.polls.into(), self.stride, time] {
            len += number(value, &mut section[len..]);
        }
        section[..4].copy_from_slice(&(len as u32).to_le_bytes());
        Some((section, len))
    }
}
