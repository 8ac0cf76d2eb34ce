//! The detection of a stall: whether the scan is stalled, for how long, and in which step.
//!
//! ```text
//!   cycles ──▶ Stillness ── still >= scan.stall ──▶ is_on ── still >= scan.stall_exit ──▶ is_over
//!                  ▲                                   │
//!                  └────────── the scan moves ─────────┘
//! ```
//! A stall means that the scan has not moved to a new cycle for `scan.stall` or longer. Log lines
//! call this state "stalled". A step of the scan is for example the poll of a program, or a call of
//! a driver. This file only measures. The daemon's reaction to a stall is in `daemon/stall.rs`.
//! `stall/force.rs` has the thread that kills the process if the main loop cannot end the process.
//! `stall/place.rs` finds out where in the kernel the scan's thread waits.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::control::StallView;
use crate::daemon::TICK;
use crate::scan::position::{Doing, Position};

mod force;
mod place;

use force::ForcedExit;

/// The longest time that the measurement counts for the pause between two checks. If a pause is
/// longer, the whole process was stopped during the pause, so the longer time proves nothing about
/// the scan.
const MOST_BETWEEN_LOOKS: Duration = TICK.saturating_mul(2);

/// Measures for how long a count has not changed. The measurement includes only time in which the
/// daemon checks the count regularly.
#[derive(Debug)]
struct Stillness {
    /// The count at the last check.
    count: u64,
    /// The time for which the count has not changed.
    still: Duration,
    /// The time of the last check.
    looked_at: Instant,
}

impl Stillness {
    /// Returns the state before the first check.
    fn new() -> Self {
        Self { count: 0, still: Duration::ZERO, looked_at: Instant::now() }
    }

    /// Compares the present count with the count of the last check. If the count is 0, the scan has
    /// not begun yet, and the measured time is 0.
    fn update(&mut self, count: u64, now: Instant) {
        let passed = now.saturating_duration_since(self.looked_at).min(MOST_BETWEEN_LOOKS);
        self.looked_at = now;
        self.still =
            if count == self.count && count > 0 { self.still + passed } else { Duration::ZERO };
        self.count = count;
    }
}

/// The state of the scan: moving or stalled, with the facts about the stall.
#[derive(Debug)]
pub(in crate::daemon) struct Stall {
    /// The time for which the number of cycles has not changed.
    stillness: Stillness,
    /// The step in which the scan was when the stall was detected, as text; `None` while the scan
    /// moves.
    doing: Option<String>,
    /// The step in which the scan was when the stall was detected. If the scan is in another step
    /// later, the step in this field was not the cause of the stall. The quarantine of the guilty
    /// version depends on this field.
    found: Doing,
    /// The present step of the scan. The scan writes it, and the main loop reads it.
    position: Arc<Position>,
    /// The handle to the thread that kills the process if the main loop cannot end the process.
    forced_exit: ForcedExit,
}

impl Stall {
    /// Returns the state for the scan that writes `position`.
    pub(in crate::daemon) fn new(position: &Arc<Position>) -> Self {
        let (stillness, position) = (Stillness::new(), Arc::clone(position));
        let forced_exit = ForcedExit::start(&position);
        Self { stillness, doing: None, found: Doing::Own, forced_exit, position }
    }

    /// Checks whether the scan has moved, and logs the begin and the end of a stall. The second
    /// argument has the limits `scan.stall` and `scan.stall_exit`. `words` converts a step of the
    /// scan to text.
    pub(in crate::daemon) fn update(
        &mut self,
        cycle: u64,
        (stall, stall_exit): (Duration, Duration),
        words: impl Fn(Doing) -> String,
    ) {
        self.stillness.update(cycle, Instant::now());
        self.forced_exit.allow(stall_exit);
        let is_stalled = self.stillness.still >= stall;
        if is_stalled && !self.is_on() {
            let doing = words(self.at());
            place::log_stall(&self.position, cycle, &doing, stall_exit);
            self.doing = Some(doing);
            self.found = self.at();
        } else if !is_stalled && let Some(doing) = self.doing.take() {
            tracing::warn!(cycle, "the scan moves again; it was stalled, {doing}");
        }
    }

    /// Returns the present step of the scan.
    pub(in crate::daemon) fn at(&self) -> Doing {
        self.position.doing()
    }

    /// Returns the cause of the stall. If the scan is still in the step in which the stall was
    /// detected, this step is the cause. Otherwise the result is [`Doing::Own`]: no version is
    /// guilty.
    pub(in crate::daemon) fn cause(&self) -> Doing {
        if self.found == self.at() { self.found } else { Doing::Own }
    }

    /// Returns the time for which the scan has not moved.
    pub(in crate::daemon) fn still(&self) -> Duration {
        self.stillness.still
    }

    /// Whether the scan is stalled.
    pub(in crate::daemon) fn is_on(&self) -> bool {
        self.doing.is_some()
    }

    /// Returns the step in which the stall was detected, as text; `None` while the scan moves.
    pub(in crate::daemon) fn doing(&self) -> Option<&str> {
        self.doing.as_deref()
    }

    /// Whether the stall has lasted for `stall_exit`. The process must end then.
    pub(in crate::daemon) fn is_over(&self, stall_exit: Duration) -> bool {
        self.is_on() && self.stillness.still >= stall_exit
    }

    /// Returns the facts of the stall for `camshaft status`; `None` while the scan moves. `safety`
    /// returns the text that says whether the devices have confirmed their safe outputs.
    pub(in crate::daemon) fn view(
        &self,
        stall_exit: Duration,
        safety: impl FnOnce() -> String,
    ) -> Option<StallView> {
        let still = self.stillness.still;
        let ms = |time: Duration| time.as_millis() as u64;
        let exit_in_ms = ms(stall_exit.saturating_sub(still));
        let doing = self.doing.clone()?;
        Some(StallView { since_ms: ms(still), exit_in_ms, doing, safety: safety() })
    }

    /// Informs the thread in `stall/force.rs` that the process is ending. If the end takes longer
    /// than `GRACE` in that file, the thread kills the process.
    pub(in crate::daemon) fn begin_exit(&self) {
        self.forced_exit.begin();
    }

    /// Informs the thread in `stall/force.rs` that an orderly stop has begun. The stop has its own
    /// deadline, so a stall no longer ends the process.
    pub(in crate::daemon) fn disarm(&self) {
        self.forced_exit.disarm();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_time_in_which_somebody_looked_counts() {
        let start = Instant::now();
        let mut stillness = Stillness::new();
        let mut check = |count, at_ms: u64, still_ms| {
            stillness.update(count, start + Duration::from_millis(at_ms));
            // `new` has read the clock a moment before or after `start`, so a small difference is
            // allowed.
            let still = stillness.still.as_millis().abs_diff(still_ms);
            assert!(still <= 1, "{count} at {at_ms}: {:?}", stillness.still);
        };
        check(0, 0, 0);
        check(0, 90, 0);
        check(1, 120, 0);
        check(1, 140, 20);
        check(1, 170, 50);
        // Before this check, the whole process was stopped for an hour.
        check(1, 3_600_170, 90);
        check(1, 3_600_190, 110);
        check(2, 3_600_210, 0);
    }
}
