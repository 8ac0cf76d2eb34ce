//! A row: successive polls in which the guest did not call the host. The tape stores a row as one
//! section.
//!
//! The section's head has the cycle and the time of the first poll. Three numbers follow the head:
//! the number of polls, the cycles from one poll to the next, and the nanoseconds from the first
//! poll to the last. `tape.rs` decides when a row is written. `tape/read.rs` converts a row back to
//! single polls.

use super::{Begun, HEAD, LONGEST, nanos, number};

/// Value of the phase byte of a section that is a row.
pub(super) const ROW: u8 = 4;

/// Largest number of polls in a row. The limit exists so that a short damaged tape cannot make
/// `tape/read.rs` return billions of polls.
pub(super) const LONGEST_ROW: u32 = 100;

/// Successive polls without a call to the host. The number of cycles from each poll to the next is
/// constant in a row.
#[derive(Debug, Default)]
pub(super) struct Row {
    polls: u32,
    first: Begun,
    last: Begun,
    stride: u64,
}

impl Row {
    /// Whether `poll` can be added to this row. A full row takes no poll. If the row has at least
    /// two polls, the number of cycles from its last poll to `poll` must equal `stride`.
    pub(super) fn takes(&self, poll: &Begun) -> bool {
        let fits = self.polls <= 1 || poll.cycle.wrapping_sub(self.last.cycle) == self.stride;
        fits && self.polls < LONGEST_ROW
    }

    /// Adds a poll to the row.
    pub(super) fn add(&mut self, poll: Begun) {
        if self.polls == 0 {
            self.first = poll;
        } else {
            self.stride = poll.cycle.wrapping_sub(self.last.cycle);
        }
        self.last = poll;
        self.polls += 1;
    }

    /// Returns the bytes of the row's section and their number; `None` if the row has no poll.
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
