//! The state of a stall: whether the scan stands, for how long, and what it was doing.
//!
//! ```text
//!   cycles ──▶ Stillness ── still >= scan.stall ──▶ is_on ── still >= scan.stall_exit ──▶ is_over
//!                  ▲                                   │
//!                  └────────── the scan moves ─────────┘
//! ```
//! This file only measures. What the daemon does about a stall is in `daemon/stall.rs`.
//! `stall/force.rs` has the thread that ends the process if the loop cannot. `stall/place.rs` asks
//! the kernel where the scan's thread stands.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::control::StallView;
use crate::daemon::TICK;
use crate::scan::position::{Doing, Position};

mod force;
mod place;

use force::ForcedExit;

/// The longest time that one pause between two looks adds. If the pause was longer, the whole
/// process stood still, and the pause says nothing about the scan.
const MOST_BETWEEN_LOOKS: Duration = TICK.saturating_mul(2);

/// How long a count has not moved. Only time in which the daemon looked at the count is counted.
#[derive(Debug)]
struct Stillness {
    /// The count at the last look.
    count: u64,
    /// How long the count has not moved.
    still: Duration,
    /// The time of the last look.
    looked_at: Instant,
}

impl Stillness {
    /// A count that was never looked at.
    fn new() -> Self {
        Self { count: 0, still: Duration::ZERO, looked_at: Instant::now() }
    }

    /// Takes in the present count. A count of 0 never stands still, because the scan has not begun
    /// yet.
    fn look(&mut self, count: u64, now: Instant) {
        let passed = now.saturating_duration_since(self.looked_at).min(MOST_BETWEEN_LOOKS);
        self.looked_at = now;
        self.still =
            if count == self.count && count > 0 { self.still + passed } else { Duration::ZERO };
        self.count = count;
    }
}

/// Whether the scan stands, and what is known about the stall.
#[derive(Debug)]
pub(in crate::daemon) struct Stall {
    /// How long the number of cycles has not moved.
    stillness: Stillness,
    /// What the scan was doing when the daemon found that it stands, as text; `None` while the scan
    /// moves.
    doing: Option<String>,
    /// What the scan was doing when the daemon found that it stands, for the quarantine. If the
    /// scan is doing another thing later, the thing in this field was not the cause.
    found: Doing,
    /// What the scan is doing now. The scan writes it, the loop reads it.
    position: Arc<Position>,
    /// The thread that ends the process if the loop cannot.
    forced_exit: ForcedExit,
}

impl Stall {
    /// The state for the scan that writes `position`.
    pub(in crate::daemon) fn new(position: &Arc<Position>) -> Self {
        let (stillness, position) = (Stillness::new(), Arc::clone(position));
        let forced_exit = ForcedExit::start(&position);
        Self { stillness, doing: None, found: Doing::Own, forced_exit, position }
    }

    /// Checks whether the scan has moved, and logs the begin and the end of a stall. `limits` are
    /// `scan.stall` and `scan.stall_exit`; `words` puts into text what the scan is doing.
    pub(in crate::daemon) fn look(
        &mut self,
        cycle: u64,
        (stall, stall_exit): (Duration, Duration),
        words: impl Fn(Doing) -> String,
    ) {
        self.stillness.look(cycle, Instant::now());
        self.forced_exit.allow(stall_exit);
        let stands = self.stillness.still >= stall;
        if stands && !self.is_on() {
            let doing = words(self.at());
            place::say(&self.position, cycle, &doing, stall_exit);
            self.doing = Some(doing);
            self.found = self.at();
        } else if !stands && let Some(doing) = self.doing.take() {
            tracing::warn!(cycle, "the scan moves again; it had stood, {doing}");
        }
    }

    /// What the scan is doing now.
    pub(in crate::daemon) fn at(&self) -> Doing {
        self.position.doing()
    }

    /// The cause of the stall. If the scan is still doing what it was doing when the stall was
    /// found, that is the cause. If not, the cause is [`Doing::Own`]: the scan's own work.
    pub(in crate::daemon) fn cause(&self) -> Doing {
        if self.found == self.at() { self.found } else { Doing::Own }
    }

    /// How long the scan has not moved.
    pub(in crate::daemon) fn still(&self) -> Duration {
        self.stillness.still
    }

    /// Whether the scan stands.
    pub(in crate::daemon) fn is_on(&self) -> bool {
        self.doing.is_some()
    }

    /// What the scan was doing when the daemon found that it stands, as text; `None` while the scan
    /// moves.
    pub(in crate::daemon) fn doing(&self) -> Option<&str> {
        self.doing.as_deref()
    }

    /// Whether the scan has stood for `stall_exit`; the process is to end then.
    pub(in crate::daemon) fn is_over(&self, stall_exit: Duration) -> bool {
        self.is_on() && self.stillness.still >= stall_exit
    }

    /// The stall as `camshaft status` shows it; `None` while the scan moves. `safety` says which
    /// outputs are known to be safe.
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

    /// Notes that the process is ending. If the end takes too long, the thread of `stall/force.rs`
    /// kills the process.
    pub(in crate::daemon) fn begin_exit(&self) {
        self.forced_exit.begin();
    }

    /// Notes that the process ends in another way, which has a deadline of its own.
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
            stillness.look(count, start + Duration::from_millis(at_ms));
            // `new` has looked a moment before or after `start`.
            let still = stillness.still.as_millis().abs_diff(still_ms);
            assert!(still <= 1, "{count} at {at_ms}: {:?}", stillness.still);
        };
        check(0, 0, 0);
        check(0, 90, 0);
        check(1, 120, 0);
        check(1, 140, 20);
        check(1, 170, 50);
        // The process was stopped for an hour.
        check(1, 3_600_170, 90);
        check(1, 3_600_190, 110);
        check(2, 3_600_210, 0);
    }
}
