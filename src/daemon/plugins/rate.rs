//! The rate limit of lines in the history: a store of lines that refills slowly (a token bucket).
//!
//! `record.rs` uses it for refusals and for orders about a plugin, `audit/rows.rs` for all other
//! orders. This file has no clock: the caller passes the time.

use std::time::Duration;

/// The size of a full store, and the time in which it gets one more line.
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
    /// When the store is full again, on the monotonic clock; a time in the past means that it is
    /// full now.
    pub(in crate::daemon) full_at: Duration,
}

impl LineStore {
    /// Whether the store has a line now.
    pub(in crate::daemon) fn has(&self, lines: Lines, now: Duration) -> bool {
        // One more line moves `full_at` by `refill`. An empty store is full again after
        // `full * refill`, so `full_at` must not lie further away.
        self.full_at.max(now) + lines.refill <= now + lines.full * lines.refill
    }

    /// Takes a line if the store has one; returns whether it had one.
    pub(in crate::daemon) fn take(&mut self, lines: Lines, now: Duration) -> bool {
        let has = self.has(lines, now);
        if has {
            self.full_at = self.full_at.max(now) + lines.refill;
        }
        has
    }
}
