//! When the next cycle begins: absolute deadlines on a grid, and the rule for a missed deadline.
//!
//! A cycle that ends after the next deadline is an overrun. The scan then skips to the next
//! deadline that is not yet past, and counts the skipped cycles. It never runs two cycles back to
//! back to catch up, because programs would then see time stand still. This file reads no clock;
//! the caller, `thread.rs`, does.
//!
//! ```text
//! deadlines   |    |    |    |    |
//! cycles      [--] [---------][--]     one overrun, one cycle skipped
//! ```

use std::time::Duration;

/// The grid of deadlines. It is pure: the caller reads the clock and passes the time.
#[derive(Debug, Clone, Copy)]
pub struct Pacer {
    /// The time from one deadline to the next.
    period: Duration,
    /// Deadline of the current cycle, on the caller's clock.
    deadline: Duration,
    /// Number of cycles that ended after the deadline of the next cycle.
    overruns: u64,
    /// Number of cycles that were skipped because of overruns.
    missed: u64,
}

impl Pacer {
    /// A grid whose first deadline is `start`.
    pub fn new(start: Duration, period: Duration) -> Self {
        Self { period, deadline: start, overruns: 0, missed: 0 }
    }

    /// Sets the time between deadlines. The change counts from the current deadline on.
    pub fn set_period(&mut self, period: Duration) {
        self.period = period;
    }

    /// The deadline of the current cycle. After [`Pacer::advance`] it is the deadline of the next
    /// cycle.
    pub fn deadline(&self) -> Duration {
        self.deadline
    }

    /// Moves on to the next deadline that is not in the past. `end` is the instant at which the
    /// current cycle ended.
    pub fn advance(&mut self, end: Duration) {
        self.deadline += self.period;
        if end > self.deadline {
            self.overruns += 1;
            let behind = (end - self.deadline).as_nanos();
            let skipped = behind.div_ceil(self.period.as_nanos());
            let skipped = u32::try_from(skipped).unwrap_or(u32::MAX);
            self.missed += u64::from(skipped);
            self.deadline += self.period * skipped;
        }
    }

    /// The number of cycles that ended after the deadline of the next cycle.
    pub fn overruns(&self) -> u64 {
        self.overruns
    }

    /// The number of cycles that were skipped because of overruns.
    pub fn missed(&self) -> u64 {
        self.missed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Checks a cycle of a 10 ms grid that was due at 100 ms and ends at `end_ms`.
    fn check(end_ms: u64, next_ms: u64, overruns: u64, missed: u64) {
        let mut pacer = Pacer::new(Duration::from_millis(100), Duration::from_millis(10));
        pacer.advance(Duration::from_millis(end_ms));
        assert_eq!(pacer.deadline(), Duration::from_millis(next_ms), "end {end_ms}");
        assert_eq!((pacer.overruns(), pacer.missed()), (overruns, missed), "end {end_ms}");
    }

    #[test]
    fn a_new_period_counts_from_the_current_deadline_on() {
        let ms = Duration::from_millis;
        let mut pacer = Pacer::new(ms(100), ms(10));
        pacer.set_period(ms(25));
        pacer.advance(ms(101));
        assert_eq!((pacer.deadline(), pacer.missed()), (ms(125), 0));
        pacer.set_period(ms(1));
        pacer.advance(ms(130));
        assert_eq!((pacer.deadline(), pacer.missed()), (ms(130), 4));
    }

    #[test]
    fn an_overrun_skips_to_the_grid() {
        check(101, 110, 0, 0);
        check(110, 110, 0, 0);
        check(111, 120, 1, 1);
        check(120, 120, 1, 1);
        check(155, 160, 1, 5);
    }
}
