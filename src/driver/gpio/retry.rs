//! The times of new attempts to request lines. Lines are requested again if the kernel has refused
//! them or if their chip was removed.
//!
//! The pause between attempts doubles with each attempt, from `FIRST_RETRY` to `LAST_RETRY`. This
//! file decides only the times. `claim.rs` knows which lines are missing and why.

use std::time::{Duration, Instant};

/// An old device with the same name may still use a line of a chip. The new device then waits
/// before it requests any line of this chip, but only for this time. The value is twice the time
/// that a leaving device has for its last outputs.
const PATIENCE: Duration = Duration::from_secs(2);

/// The pause before the second attempt. In a reload, the old device releases its lines after some
/// milliseconds, so the first pause is short.
const FIRST_RETRY: Duration = Duration::from_millis(20);

/// The maximum pause between attempts. When an operator plugs in an expander again, the expander
/// should work again within a few seconds.
const LAST_RETRY: Duration = Duration::from_secs(3);

/// The schedule of the attempts.
#[derive(Debug)]
pub(super) struct Retry {
    /// The time of the first attempt after lines became missing; `None` before that attempt.
    since: Option<Instant>,
    /// The time of the next attempt; `None` means that the next attempt is due now.
    due: Option<Instant>,
    /// The pause after the next attempt.
    delay: Duration,
}

impl Default for Retry {
    fn default() -> Self {
        Self { since: None, due: None, delay: FIRST_RETRY }
    }
}

impl Retry {
    /// Whether an attempt is due. The first call for a new [`Retry`] sets `since` to the present
    /// time.
    pub(super) fn is_due(&mut self) -> bool {
        self.since.get_or_insert_with(Instant::now);
        self.due.is_none_or(|due| Instant::now() >= due)
    }

    /// Whether less than [`PATIENCE`] has passed since the first attempt. During this time, the
    /// device waits for lines that an old device with the same name still holds.
    pub(super) fn is_patient(&self) -> bool {
        self.since.is_some_and(|since| since.elapsed() < PATIENCE)
    }

    /// Sets the time of the next attempt and doubles the pause. The pause varies at random by up to
    /// a quarter. Therefore devices that were started together do not repeat their attempts at the
    /// same instant.
    pub(super) fn later(&mut self) {
        self.due = Some(Instant::now() + self.delay.mul_f64(0.75 + 0.5 * fastrand::f64()));
        self.delay = (2 * self.delay).min(LAST_RETRY);
    }
}
