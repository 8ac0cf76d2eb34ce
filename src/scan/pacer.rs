//! The start times of cycles: absolute deadlines on a grid, and the rule for a missed deadline.
//!
//! A cycle begins at its deadline. A cycle that ends after the deadline of the next cycle is an
//! overrun. The scan then waits for the first deadline that is not yet past, and counts the skipped
//! cycles. The scan does not catch up by two cycles without a pause: the programs would see almost
//! no time between these cycles. No function here reads a clock; the caller, `thread.rs`, does.
//!
//! ```text
//! deadlines   |    |    |    |    |
//! cycles      [--] [---------][--]     one overrun, one cycle skipped
//! ```

use std::time::Duration;

/// The grid of deadlines. Its functions read no clock; the caller passes the time.
#[derive(Debug, Clone, Copy)]
pub struct Pacer {
    /// The time from one deadline to the next.
    period: Duration,
    /// The deadline of the current cycle, on the caller's clock.
    deadline: Duration,
    /// Number of cycles that ended after the deadline of the next cycle.
    overruns: u64,
    /// Number of cycles that did not run because an overrun covered their deadline.
    missed: u64,
}

impl Pacer {
    /// Makes a grid whose first deadline is `start`.
    pub fn new(start: Duration, period: Duration) -> Self {
        Self { period, deadline: start, overruns: 0, missed: 0 }
    }

    /// Sets the time between two deadlines. The next deadline is the current deadline plus the new
    /// period.
    pub fn set_period(&mut self, period: Duration) {
        self.period = period;
    }

    /// Returns the deadline of the current cycle. After a call of [`Pacer::advance`] this is the
    /// deadline of the next cycle.
    pub fn deadline(&self) -> Duration {
        self.deadline
    }

    /// Moves to the next deadline that is not before `end`, the instant at which the current cycle
    /// ended. If `end` is after the deadline of the next cycle, also counts an overrun and the
    /// skipped cycles.
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

    /// Returns the number of cycles that ended after the deadline of the next cycle.
    pub fn overruns(&self) -> u64 {
        self.overruns
    }

    /// Returns the number of cycles that did not run because an overrun covered their deadline.
    pub fn missed(&self) -> u64 {
        self.missed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Checks the next deadline and the counters after one cycle. The grid has a period of 10 ms,
    /// the deadline of the cycle is 100 ms, and the cycle ends at `end_ms`.
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
