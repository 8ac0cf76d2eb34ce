//! The rate limit of a guest's log: first a burst, and then a number of lines per second.
//!
//! This file holds no lines. `guest.rs` logs or drops a line, and decides when dropped lines are
//! reported.

use std::time::Duration;

/// The log allowance: a burst of one second's lines, then that many per second.
#[derive(Debug)]
pub(super) struct Pace {
    /// Lines per second that the guest may log.
    per_second: u32,
    /// The time that the guest has saved up for lines; one line costs `1s / per_second`.
    credit: Duration,
    /// The moment up to which `credit` has been counted.
    seen: Duration,
    /// Lines that were not allowed and are not reported yet.
    pub(super) dropped: u32,
}

impl Pace {
    /// The burst: the most time that can be saved up.
    const FULL: Duration = Duration::from_secs(1);

    pub(super) fn new(per_second: u32) -> Self {
        Self { per_second, credit: Self::FULL, seen: Duration::ZERO, dropped: 0 }
    }

    /// Whether a line would be allowed at `now`.
    pub(super) fn has_allowance(&mut self, now: Duration) -> bool {
        let passed = now.saturating_sub(self.seen);
        self.credit = (self.credit.saturating_add(passed)).min(Self::FULL);
        self.seen = now;
        self.per_second > 0 && self.credit >= Self::FULL / self.per_second
    }

    /// Takes a line from the allowance, or counts it as dropped.
    pub(super) fn allows(&mut self, now: Duration) -> bool {
        let allowed = self.has_allowance(now);
        if allowed {
            self.credit -= Self::FULL / self.per_second;
        } else {
            self.dropped = self.dropped.saturating_add(1);
        }
        allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pace_allows_a_burst_and_then_a_rate() {
        let mut pace = Pace::new(10);
        let allowed = |pace: &mut Pace, at_ms| {
            (0..20).filter(|_| pace.allows(Duration::from_millis(at_ms))).count()
        };
        assert_eq!(allowed(&mut pace, 0), 10);
        assert_eq!(allowed(&mut pace, 300), 3);
        assert_eq!(allowed(&mut pace, 5000), 10);
        assert_eq!(pace.dropped, 37);
        assert!(!Pace::new(0).allows(Duration::ZERO));
    }
}
