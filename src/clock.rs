//! Time for the scan: the machine's monotonic clock, and a simulated one for tests and recipes.
//!
//! A moment is a `Duration` since an arbitrary start, and it never moves backwards. The scan reads
//! the clock once a cycle and passes the moment on as the argument `now`. Nothing below the scan
//! reads a clock itself, so a cycle can be replayed. Wall-clock time does not appear here: log
//! lines and reports read the wall clock where they are written.

use std::cell::Cell;
use std::time::Duration;

use rustix::io::Errno;
use rustix::thread::clock_nanosleep_absolute;
use rustix::time::{ClockId, Timespec, clock_gettime};

/// A source of time for the scan, on which the scan can also wait.
pub trait Clock {
    /// The present moment.
    fn now(&self) -> Duration;

    /// Waits until `deadline`. The call returns at `deadline` or as soon after it as the system
    /// allows, and at once if `deadline` has passed.
    fn sleep_until(&self, deadline: Duration);
}

/// The clock `CLOCK_MONOTONIC`, with sleeps to an absolute deadline. Because of that, a late
/// wake-up does not delay the next one.
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
        // A signal ends the sleep early. The deadline is absolute, so another sleep to it is exact.
        while clock_nanosleep_absolute(ClockId::Monotonic, &deadline) == Err(Errno::INTR) {}
    }
}

/// A duration or a moment in nanoseconds. The number saturates after 584 years.
pub fn nanos(duration: Duration) -> u64 {
    let seconds = duration.as_secs().saturating_mul(1_000_000_000);
    seconds.saturating_add(duration.subsec_nanos().into())
}

/// A clock that moves only when a test moves it, or when a caller sleeps on it.
#[derive(Debug, Default)]
pub struct SimClock(Cell<Duration>);

impl SimClock {
    /// A clock that stands at `now`.
    pub fn at(now: Duration) -> Self {
        Self(Cell::new(now))
    }

    /// Moves the clock on by `step`.
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
