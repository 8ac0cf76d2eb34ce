//! The rate limit for the log lines of a guest: after a pause, the guest may log a burst of lines,
//! and then a fixed number of lines per second. In this file, a line is a log line.
//!
//! The code here only counts lines. `guest.rs` logs or drops a line, and decides when the number of
//! dropped lines is reported.

use std::time::Duration;

/// The rate limit of one guest. With 100 lines per second, for example, the guest may log 100 lines
/// in one burst, and then 100 lines per second. After a second without lines, the next burst may
/// have 100 lines.
#[derive(Debug)]
pub(super) struct Pace {
    /// Lines per second that the guest may log.
    per_second: u32,
    /// Unused time that the guest may spend on lines, at most one second. One line costs
    /// `1s / per_second`.
    credit: Duration,
    /// The time of the last update of `credit`.
    seen: Duration,
    /// Number of dropped lines. `guest.rs` resets it to 0 when it logs this number.
    pub(super) dropped: u32,
}

impl Pace {
    /// Largest value of `credit`, which determines the size of a burst.
    const FULL: Duration = Duration::from_secs(1);

    pub(super) fn new(per_second: u32) -> Self {
        Self { per_second, credit: Self::FULL, seen: Duration::ZERO, dropped: 0 }
    }

    /// Adds the time that has passed to the credit. Returns whether the guest may log a line at
    /// time `now`, but does not use credit for it.
    pub(super) fn has_allowance(&mut self, now: Duration) -> bool {
        let passed = now.saturating_sub(self.seen);
        self.credit = (self.credit.saturating_add(passed)).min(Self::FULL);
        self.seen = now;
        self.per_second > 0 && self.credit >= Self::FULL / self.per_second
    }

    /// Returns whether the guest may log a line at time `now`. An allowed line uses credit. If the
    /// line is not allowed, it is counted in `dropped`.
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
