//! Whether the scan stands, and what is known of it then.
//!
//! What the daemon does about that is in `daemon/stall.rs`. The thread that ends the process if the
//! loop cannot is in `stall/force.rs`, and where the scan's thread stands is looked up in
//! `stall/place.rs`.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::control::StallView;
use crate::daemon::TICK;
use crate::scan::position::{Doing, Position};

mod force;
mod place;

use force::ForcedExit;

/// The longest time that counts between two looks. In a longer pause this process itself stood
/// still, which says nothing of the scan.
const MOST_BETWEEN_LOOKS: Duration = TICK.saturating_mul(2);

/// How long a count has not moved, counting only time in which the daemon looked at it.
#[derive(Debug)]
struct Stillness {
    /// The count at the last look.
    count: u64,
    /// How long it has not moved.
    still: Duration,
    /// When the last look was.
    looked_at: Instant,
}

impl Stillness {
    fn new() -> Self {
        Self { count: 0, still: Duration::ZERO, looked_at: Instant::now() }
    }

    /// Takes in the present count. A scan that has never begun does not stand.
    fn look(&mut self, count: u64, now: Instant) {
        let passed = now.saturating_duration_since(self.looked_at).min(MOST_BETWEEN_LOOKS);
        self.looked_at = now;
        self.still =
            if count == self.count && count > 0 { self.still + passed } else { Duration::ZERO };
        self.count = count;
    }
}

/// Whether the scan stands, and what is known of it then.
#[derive(Debug)]
pub(in crate::daemon) struct Stall {
    stillness: Stillness,
    /// What it was doing when it was found to stand, as text; `None` while it moves.
    doing: Option<String>,
    /// What it was doing then, for the quarantine: if it does another thing later, this was not the
    /// cause.
    found: Doing,
    /// What the scan is doing; the scan writes, the loop reads.
    position: Arc<Position>,
    /// The thread that ends the process if the loop cannot.
    forced_exit: ForcedExit,
}

impl Stall {
    /// The state for the scan that writes this position.
    pub(in crate::daemon) fn new(position: &Arc<Position>) -> Self {
        let (stillness, position) = (Stillness::new(), Arc::clone(position));
        let forced_exit = ForcedExit::start(&position);
        Self { stillness, doing: None, found: Doing::Own, forced_exit, position }
    }

    /// Checks whether the scan has moved, and logs when that changes. `limits` are `scan.stall` and
    /// `scan.stall_exit`; `words` says what the scan is doing.
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

    /// What the scan was doing when it came to stand, if it is doing that still: then that is why
    /// it stands.
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

    /// What the scan was doing when it was found to stand.
    pub(in crate::daemon) fn doing(&self) -> Option<&str> {
        self.doing.as_deref()
    }

    /// Whether the process is to end, because the scan has stood for `stall_exit`.
    pub(in crate::daemon) fn is_over(&self, stall_exit: Duration) -> bool {
        self.is_on() && self.stillness.still >= stall_exit
    }

    /// The view for people, with what is known of the outputs.
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

    /// Notes that the process is ending: it is killed if the end takes too long.
    pub(in crate::daemon) fn begin_exit(&self) {
        self.forced_exit.begin();
    }

    /// Notes that the process ends in another way, with a deadline of its own.
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
