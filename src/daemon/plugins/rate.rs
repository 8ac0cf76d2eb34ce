//! The rate limit of lines in the history: a store of lines that refills slowly.
//!
//! `record.rs` limits refusals and orders about a plugin by it, `audit/rows.rs` all other orders.

use std::time::Duration;

/// How many lines a full store has, and how long one more line takes.
#[derive(Debug, Clone, Copy)]
pub(in crate::daemon) struct Lines {
    /// The number of lines in a full store.
    pub(in crate::daemon) full: u32,
    /// The time in which one more line comes.
    pub(in crate::daemon) refill: Duration,
}

/// A store of lines (a token bucket).
#[derive(Debug, Default)]
pub(in crate::daemon) struct LineStore {
    /// When it is full again.
    pub(in crate::daemon) full_at: Duration,
}

impl LineStore {
    /// Whether the store has a line now.
    pub(in crate::daemon) fn has(&self, lines: Lines, now: Duration) -> bool {
        self.full_at.max(now) + lines.refill <= now + lines.full * lines.refill
    }

    /// Takes a line if there is one; returns whether there was.
    pub(in crate::daemon) fn take(&mut self, lines: Lines, now: Duration) -> bool {
        let has = self.has(lines, now);
        if has {
            self.full_at = self.full_at.max(now) + lines.refill;
        }
        has
    }
}
