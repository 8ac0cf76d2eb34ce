//! How long the folder's thread has been waiting for the file system.
//!
//! A call on a file system whose server is gone (NFS, FUSE, a stick that was pulled out) may never
//! return, and nothing can be done about that from outside. So the thread notes when each such call
//! begins, and the daemon's loop looks how long ago that was.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::clock::{Clock, MonotonicClock};

/// The call that the folder's thread is in.
#[derive(Debug, Default)]
pub(super) struct Wait {
    /// When it began, in nanoseconds of `CLOCK_MONOTONIC`; 0 between two calls. Written by the
    /// folder's thread, read by whoever has the `Watch`.
    since: AtomicU64,
}

impl Wait {
    /// Makes one call that may wait for the file system.
    pub(super) fn during<T>(&self, call: impl FnOnce() -> T) -> T {
        let now = u64::try_from(MonotonicClock.now().as_nanos()).unwrap_or(u64::MAX);
        self.since.store(now.max(1), Ordering::Relaxed);
        let result = call();
        self.since.store(0, Ordering::Relaxed);
        result
    }

    /// How long the present call has lasted; zero if there is none.
    pub(super) fn lasts(&self) -> Duration {
        match self.since.load(Ordering::Relaxed) {
            0 => Duration::ZERO,
            since => MonotonicClock.now().saturating_sub(Duration::from_nanos(since)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_call_lasts() {
        let wait = Wait::default();
        assert_eq!(wait.lasts(), Duration::ZERO);
        let limit = MonotonicClock.now() + Duration::from_secs(5);
        let is_noted = wait.during(|| {
            let mut noted = false;
            while !noted && MonotonicClock.now() < limit {
                noted = wait.lasts() >= Duration::from_millis(2);
            }
            noted
        });
        assert!(is_noted, "the call lasts");
        assert_eq!(wait.lasts(), Duration::ZERO);
    }
}
