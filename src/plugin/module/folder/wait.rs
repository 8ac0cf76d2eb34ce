//! The time for which the folder's thread has been waiting for the file system.
//!
//! If the server of a file system is gone, a call may never return, and no other thread can end the
//! call. Examples are NFS, FUSE and a stick that was pulled out. So the thread notes when each call
//! begins, and the daemon's loop reads how long the call has lasted. If many calls return late, the
//! folder is useless too. So the thread also notes how long each step of a look takes. This file
//! ends no wait: what follows from a late folder is in `folder.rs`.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::clock::{Clock, MonotonicClock};

/// The present call and step of one thread: the folder's thread, or a thread that follows links.
/// The thread itself writes all fields, in nanoseconds. The owner of the `Watch` reads those of the
/// folder's thread, and the folder's thread reads those of a thread that follows links.
#[derive(Debug, Default)]
pub(super) struct Wait {
    /// The present call.
    call: Since,
    /// The present step of a look.
    step: Since,
    /// The longest step of the present look.
    slowest: AtomicU64,
    /// The longest step of the look before.
    before: AtomicU64,
}

/// When a call or step began, on `CLOCK_MONOTONIC`, in nanoseconds; 0 when none is under way.
#[derive(Debug, Default)]
struct Since(AtomicU64);

impl Wait {
    /// Makes one call that may wait for the file system.
    pub(super) fn during<T>(&self, call: impl FnOnce() -> T) -> T {
        self.call.during(call)
    }

    /// How long the present call has lasted; zero if there is none.
    pub(super) fn lasts(&self) -> Duration {
        self.call.lasts()
    }

    /// Takes one step of a look: lists the folder, or reads one file.
    pub(super) fn step<T>(&self, calls: impl FnOnce() -> T) -> T {
        self.step.during(|| {
            let result = calls();
            self.slowest.fetch_max(nanos(self.step.lasts()), Ordering::Relaxed);
            result
        })
    }

    /// Notes that a link has waited this long for its turn, although each look ended in time. The
    /// wait counts like a step of this length.
    pub(super) fn is_behind(&self, time: Duration) {
        self.slowest.fetch_max(nanos(time), Ordering::Relaxed);
    }

    /// Notes that the steps until here belong to one look.
    pub(super) fn look_has_ended(&self) {
        self.before.store(self.slowest.swap(0, Ordering::Relaxed), Ordering::Relaxed);
    }

    /// The longest step of the present look and of the one before. So a slow folder counts as slow
    /// until a whole look was quick.
    pub(super) fn slowest_step(&self) -> Duration {
        let noted = [&self.slowest, &self.before].map(|step| step.load(Ordering::Relaxed));
        let noted = noted.into_iter().max().map_or(Duration::ZERO, Duration::from_nanos);
        noted.max(self.step.lasts())
    }
}

impl Since {
    fn during<T>(&self, work: impl FnOnce() -> T) -> T {
        self.0.store(nanos(MonotonicClock.now()).max(1), Ordering::Relaxed);
        let result = work();
        self.0.store(0, Ordering::Relaxed);
        result
    }

    fn lasts(&self) -> Duration {
        match self.0.load(Ordering::Relaxed) {
            0 => Duration::ZERO,
            since => MonotonicClock.now().saturating_sub(Duration::from_nanos(since)),
        }
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether that becomes true within the time of this test.
    fn becomes(is_so: impl Fn() -> bool) -> bool {
        let limit = MonotonicClock.now() + Duration::from_secs(5);
        while MonotonicClock.now() < limit {
            if is_so() {
                return true;
            }
        }
        false
    }

    #[test]
    fn only_a_call_lasts() {
        let wait = Wait::default();
        assert_eq!(wait.lasts(), Duration::ZERO);
        assert!(wait.during(|| becomes(|| wait.lasts() >= Duration::from_millis(2))));
        assert_eq!(wait.lasts(), Duration::ZERO);
    }

    /// Each call was answered, but no look came to an end; nothing reported that.
    #[test]
    fn calls_that_are_all_late_make_a_slow_step() {
        let wait = Wait::default();
        let (short, long) = (Duration::from_millis(2), Duration::from_millis(6));
        let call = || wait.during(|| becomes(|| wait.lasts() >= short));
        let is_slow = || wait.slowest_step() >= long;
        wait.step(|| {
            assert!(call() && !is_slow());
            assert!(call() && call() && is_slow(), "while it is under way");
        });
        wait.step(|| ());
        assert!(is_slow());
        wait.look_has_ended();
        assert!(is_slow(), "until a whole look was quick");
        wait.step(|| ());
        wait.look_has_ended();
        assert!(!is_slow());
        wait.is_behind(long);
        assert!(is_slow(), "what waits over looks is as slow");
    }
}
