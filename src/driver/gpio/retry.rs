//! When lines are requested again that the kernel has not given, or has taken back.
//!
//! The pause grows with each attempt. Only times are kept here; which lines are missing, and what
//! is wrong with them, is known in `claim.rs`.

use std::time::{Duration, Instant};

/// How long the lines of a chip wait for a line that a daemon of the same name has: twice as long
/// as a device that leaves may take for its last outputs.
const PATIENCE: Duration = Duration::from_secs(2);

/// The pause before the second attempt. In a reload the old device needs some milliseconds.
const FIRST_RETRY: Duration = Duration::from_millis(20);

/// The longest pause between attempts. An expander that is plugged in again comes back before the
/// operator begins to doubt it.
const LAST_RETRY: Duration = Duration::from_secs(3);

/// When to request lines again.
#[derive(Debug)]
pub(super) struct Retry {
    /// The time of the first attempt since lines are missing.
    since: Option<Instant>,
    /// When the next attempt is due; `None` means at once.
    due: Option<Instant>,
    /// The pause before the attempt after that.
    delay: Duration,
}

impl Default for Retry {
    fn default() -> Self {
        Self { since: None, due: None, delay: FIRST_RETRY }
    }
}

impl Retry {
    /// Whether an attempt is due. The first call starts the time of `since`.
    pub(super) fn is_due(&mut self) -> bool {
        self.since.get_or_insert_with(Instant::now);
        self.due.is_none_or(|due| Instant::now() >= due)
    }

    /// Whether the lines of a chip still wait for another daemon.
    pub(super) fn is_patient(&self) -> bool {
        self.since.is_some_and(|since| since.elapsed() < PATIENCE)
    }

    /// Sets the next attempt: twice as late as last time, plus or minus a quarter. Devices that
    /// were started at the same time then do not try at the same time again.
    pub(super) fn later(&mut self) {
        self.due = Some(Instant::now() + self.delay.mul_f64(0.75 + 0.5 * fastrand::f64()));
        self.delay = (2 * self.delay).min(LAST_RETRY);
    }
}
