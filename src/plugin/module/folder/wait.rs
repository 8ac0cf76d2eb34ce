//! This file measures how long the folder's thread has been waiting for the file system.
//!
//! If the server of a file system no longer works, a call may never return, and no other thread can
//! end the call. This can happen with NFS, with FUSE, and with a memory stick that was pulled out.
//! So the folder's thread records the start of each call, and the daemon's main loop reads how long
//! the call has lasted. If many calls return slowly, the folder is as useless as a folder that does
//! not answer. So the thread also records how long each step of a pass takes. The code here ends no
//! wait: `folder.rs` decides when the folder counts as late.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::clock::{Clock, MonotonicClock};

/// The present call and the present step of one thread. That thread writes all fields. If it is the
/// folder's thread, the owner of the `Watch` reads the fields. If it is the link thread, the
/// folder's thread reads the fields.
#[derive(Debug, Default)]
pub(super) struct Wait {
    /// The call on the file system that the thread makes at present.
    call: Since,
    /// The present step of a pass over the folder.
    step: Since,
    /// The duration of the longest step of the present pass over the folder, in nanoseconds.
    slowest: AtomicU64,
    /// The duration of the longest step of the previous pass over the folder, in nanoseconds.
    before: AtomicU64,
}

/// The start time of a call or step on `CLOCK_MONOTONIC`, in nanoseconds. The value 0 means that
/// there is no call or step at present.
#[derive(Debug, Default)]
struct Since(AtomicU64);

impl Wait {
    /// Makes one call on the file system, and records its start and its end.
    pub(super) fn during<T>(&self, call: impl FnOnce() -> T) -> T {
        self.call.during(call)
    }

    /// Returns the duration of the present call up to now, or zero if there is no call.
    pub(super) fn lasts(&self) -> Duration {
        self.call.lasts()
    }

    /// Carries out one step of a pass over the folder: lists the folder, follows the links, or
    /// reads one file. Records the duration of the step.
    pub(super) fn step<T>(&self, calls: impl FnOnce() -> T) -> T {
        self.step.during(|| {
            let result = calls();
            self.slowest.fetch_max(nanos(self.step.lasts()), Ordering::Relaxed);
            result
        })
    }

    /// Records that a link has waited this long to be followed, or that the reading of its file has
    /// lasted this long, although each pass over the folder ended in time. The time is recorded
    /// like a step of this duration.
    pub(super) fn is_behind(&self, time: Duration) {
        self.slowest.fetch_max(nanos(time), Ordering::Relaxed);
    }

    /// Records the end of a pass over the folder. The steps after this call belong to the next
    /// pass.
    pub(super) fn pass_has_ended(&self) {
        self.before.store(self.slowest.swap(0, Ordering::Relaxed), Ordering::Relaxed);
    }

    /// The duration of the longest step of the present and the previous pass over the folder. The
    /// previous pass is included, so a folder remains slow until a whole pass was fast.
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

    /// Whether the condition becomes true within the time limit of this test.
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

    /// A past defect: each call returned in time, but no pass ended in time. The watch did not
    /// report the slow passes.
    #[test]
    fn calls_that_are_all_late_make_a_slow_step() {
        let wait = Wait::default();
        let (short, long) = (Duration::from_millis(2), Duration::from_millis(6));
        let call = || wait.during(|| becomes(|| wait.lasts() >= short));
        let is_slow = || wait.slowest_step() >= long;
        wait.step(|| {
            assert!(call() && !is_slow());
            assert!(call() && call() && is_slow(), "during the step");
        });
        wait.step(|| ());
        assert!(is_slow());
        wait.pass_has_ended();
        assert!(is_slow(), "until a whole pass was fast");
        wait.step(|| ());
        wait.pass_has_ended();
        assert!(!is_slow());
        wait.is_behind(long);
        assert!(is_slow(), "a link that waits for several passes is as slow");
    }
}
