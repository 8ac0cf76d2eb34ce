//! The clock of the scan: the monotonic clock of the machine, or a simulated clock in tests.
//!
//! An instant is a `Duration` since an arbitrary start, for example since the start of the machine.
//! The instants of a clock never decrease. The scan reads the clock one time in each cycle, and
//! passes the instant to drivers and programs as the argument `now`. So all parts of a cycle use
//! one instant, and a recorded cycle can be replayed.
//!
//! This file does not provide the wall-clock time. The code that makes log lines and crash reports
//! calls `SystemTime::now` for the wall-clock time. Threads outside of the scan, and measurements
//! of run times, read other clocks.

use std::cell::Cell;
use std::time::Duration;

use rustix::io::Errno;
use rustix::thread::clock_nanosleep_absolute;
use rustix::time::{ClockId, Timespec, clock_gettime};

/// A clock for the scan. The scan calls the clock to read the time, and to wait for the next cycle.
pub trait Clock {
    /// Returns the present instant.
    fn now(&self) -> Duration;

    /// Waits until `deadline`. The call returns at `deadline`, or as soon after `deadline` as the
    /// system allows. If `deadline` has already passed, the call returns at once.
    fn sleep_until(&self, deadline: Duration);
}

/// The clock `CLOCK_MONOTONIC` of the machine. A sleep has an absolute deadline, so a late wake-up
/// in one cycle does not delay the next cycle.
#[derive(Debug, Clone, Copy, Default)]
pub struct MonotonicClock;

impl Clock for MonotonicClock {
    fn now(&self) -> Duration {
        let now = clock_gettime(ClockId::Monotonic);
        Duration::new(now.tv_sec.cast_unsigned(), now.tv_nsec as u32)
    }

    fn sleep_until(&self, deadline: Duration) {
        let deadline = Timespec {
            tv_sec: deadline.as_secs().cast_signed(),
            tv_nsec: deadline.subsec_nanos().into(),
        };
        // A signal can end the sleep early; then the call returns `EINTR`. The deadline is
        // absolute, so the sleep can simply be repeated.
        while clock_nanosleep_absolute(ClockId::Monotonic, &deadline) == Err(Errno::INTR) {}
    }
}

/// Converts a duration or an instant to nanoseconds. Returns `u64::MAX` for a duration of more than
/// 584 years.
pub fn nanos(duration: Duration) -> u64 {
    let seconds = duration.as_secs().saturating_mul(1_000_000_000);
    seconds.saturating_add(duration.subsec_nanos().into())
}

/// A simulated clock. Its time changes only when a test calls [`SimClock::advance`], or when a
/// caller sleeps with this clock.
#[derive(Debug, Default)]
pub struct SimClock(Cell<Duration>);

impl SimClock {
    /// Creates a clock whose present instant is `now`.
    pub fn at(now: Duration) -> Self {
        Self(Cell::new(now))
    }

    /// Adds `step` to the present instant.
    pub fn advance(&self, step: Duration) {
        self.0.set(self.0.get() + step);
    }
}

impl Clock for SimClock {
    fn now(&self) -> Duration {
        self.0.get()
    }

    fn sleep_until(&self, deadline: Duration) {
        self.0.set(self.0.get().max(deadline));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sleeping_on_the_simulated_clock_moves_it_and_never_back() {
        let clock = SimClock::at(Duration::from_secs(5));
        clock.sleep_until(Duration::from_secs(7));
        clock.sleep_until(Duration::from_secs(6));
        clock.advance(Duration::from_millis(1));
        assert_eq!(clock.now(), Duration::from_millis(7001));
    }

    #[test]
    fn nanoseconds_saturate() {
        assert_eq!(nanos(Duration::new(3, 7)), 3_000_000_007);
        assert_eq!(nanos(Duration::MAX), u64::MAX);
    }

    #[test]
    fn the_machine_clock_reaches_its_deadline() {
        let deadline = MonotonicClock.now() + Duration::from_millis(3);
        MonotonicClock.sleep_until(deadline);
        assert!(MonotonicClock.now() >= deadline);
    }
}
