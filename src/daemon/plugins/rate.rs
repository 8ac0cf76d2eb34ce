//! The rate limit of lines in the history: a store of lines that refills slowly (a token bucket). A
//! *line* in the store is the permission to add one line to the history.
//!
//! `record.rs` uses the limit for refusals and for orders about a plugin. `audit/rows.rs` uses the
//! limit for all other orders. No function here reads a clock: the caller passes the time.

use std::time::Duration;

/// The settings of a store: its size, and the time in which it gets one more line.
#[derive(Debug, Clone, Copy)]
pub(in crate::daemon) struct Lines {
    /// The number of lines in a full store.
    pub(in crate::daemon) full: u32,
    /// The time in which the store gets one more line.
    pub(in crate::daemon) refill: Duration,
}

/// A store of lines that refills with time.
#[derive(Debug, Default)]
pub(in crate::daemon) struct LineStore {
    /// The time at which the store is full again, on the monotonic clock. A time in the past means
    /// that the store is full now.
    pub(in crate::daemon) full_at: Duration,
}

impl LineStore {
    /// Whether the store has a line now.
    pub(in crate::daemon) fn has(&self, lines: Lines, now: Duration) -> bool {
        // Each line moves `full_at` by `refill`. An empty store needs `full * refill` to be full,
        // so `full_at` must not be later than `now + full * refill`.
        self.full_at.max(now) + lines.refill <= now + lines.full * lines.refill
    }

    /// Takes a line if the store has a line. Returns whether a line was taken.
    pub(in crate::daemon) fn take(&mut self, lines: Lines, now: Duration) -> bool {
        let has = self.has(lines, now);
        if has {
            self.full_at = self.full_at.max(now) + lines.refill;
        }
        has
    }
}
