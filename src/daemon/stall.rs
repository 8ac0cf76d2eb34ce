//! What the daemon does while the scan stands: it logs that and where, answers people, and ends in
//! time so that it is started again.
//!
//! ```text
//!              no cycle for `scan.stall`              none for `scan.stall_exit`
//!   it moves ---------------------------> it stands ------------------------------> exit code 70
//!       ^                                     |
//!       +-------------------------------------+  a late cycle
//! ```
//! Outputs are not made safe here: each device's thread does that by itself (`driver/watchdog.rs`).
//! The end is not an orderly one, so the next start counts it (`recovery.rs`). The version that was
//! being called is put in quarantine first. Nothing here waits without a limit, least of all for
//! the scan's thread.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::record::Record;
use super::{Daemon, TICK};
use crate::control::StallView;
use crate::journal::Journal;
use crate::plugin::{Generation, ModuleHash};
use crate::process::seat::Seat;
use crate::scan::position::{Doing, Position};
use crate::scan::thread::EXIT_PANIC;

mod force;
mod place;

use force::ForcedExit;

/// How long the end waits for devices to confirm their safe outputs. They have had `stall_exit` for
/// that already, so this time is for devices that were to hold their value for longer.
const CONFIRM: Duration = Duration::from_millis(500);

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
pub(super) struct Stall {
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
    pub(super) fn new(position: &Arc<Position>) -> Self {
        let (stillness, position) = (Stillness::new(), Arc::clone(position));
        let forced_exit = ForcedExit::start(&position);
        Self { stillness, doing: None, found: Doing::Own, forced_exit, position }
    }

    /// Whether the scan stands.
    pub(super) fn is_on(&self) -> bool {
        self.doing.is_some()
    }

    /// What the scan was doing when it was found to stand.
    pub(super) fn doing(&self) -> Option<&str> {
        self.doing.as_deref()
    }

    /// Whether the process is to end, because the scan has stood for `stall_exit`.
    pub(super) fn is_over(&self, stall_exit: Duration) -> bool {
        self.is_on() && self.stillness.still >= stall_exit
    }

    /// The view for people, with what is known of the outputs.
    pub(super) fn view(
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
    pub(super) fn begin_exit(&self) {
        self.forced_exit.begin();
    }

    /// Notes that the process ends in another way, with a deadline of its own.
    pub(super) fn disarm(&self) {
        self.forced_exit.disarm();
    }
}

impl Daemon {
    /// Checks whether the scan has moved, and logs when that changes.
    pub(super) fn watch_the_scan(&mut self) {
        let cycle = self.handle.latest.read().cycle;
        self.stall.stillness.look(cycle, Instant::now());
        self.stall.forced_exit.allow(self.config.live.scan.stall_exit);
        let still = self.stall.stillness.still;
        let stands = still >= self.config.live.scan.stall;
        if stands && !self.stall.is_on() {
            let doing = self.what_stands();
            place::say(&self.stall.position, cycle, &doing, self.config.live.scan.stall_exit);
            self.stall.doing = Some(doing);
            self.stall.found = self.stall.position.doing();
        } else if !stands && let Some(doing) = self.stall.doing.take() {
            tracing::warn!(cycle, "the scan moves again; it had stood, {doing}");
        }
        self.devices.tell_of_stalls();
    }

    /// What the scan is doing, as text.
    fn what_stands(&self) -> String {
        let who = |seat, generation| match self.version_at(seat, generation) {
            (name, Some(hash)) => format!("{name} ({hash})"),
            (name, None) => name,
        };
        match self.stall.position.doing() {
            Doing::Own => "in its own work".into(),
            Doing::Poll(seat, generation) => format!("polling {}", who(seat, generation)),
            Doing::Save(seat, generation) => format!("in `save` of {}", who(seat, generation)),
            Doing::HandOver(seat, generation) => {
                format!("handing over to {}", who(seat, generation))
            }
            Doing::Driver(place) => {
                let devices = self.config.live.points.devices();
                let device = devices.get(usize::from(place)).map_or("that is gone", |name| name);
                format!("in the driver of device {device}")
            }
        }
    }

    /// The name and the version of an instance.
    fn version_at(&self, seat: Seat, generation: Generation) -> (String, Option<ModuleHash>) {
        let Some(name) = self.roster.name(seat) else {
            return ("a plugin that is gone".into(), None);
        };
        let ordered = self.roster.get(name).and_then(|entry| entry.on_its_way(generation));
        let view = self.supervisor.plugin(name);
        let known = view.into_iter().flat_map(|view| [view.running, view.next]).flatten();
        let known = known.filter(|version| version.generation == generation);
        (name.to_string(), known.map(|version| version.hash).next().or(ordered))
    }

    /// The version that the scan had called when it came to stand, and still calls. In a hand-over
    /// it is the new version, because the old one has run until then.
    fn guilty(&self) -> Option<(String, ModuleHash)> {
        let found = Some(self.stall.found).filter(|found| *found == self.stall.position.doing());
        match found.unwrap_or(Doing::Own) {
            Doing::Own | Doing::Driver(_) => None,
            Doing::Poll(seat, generation)
            | Doing::Save(seat, generation)
            | Doing::HandOver(seat, generation) => {
                let (name, hash) = self.version_at(seat, generation);
                Some((name, hash?))
            }
        }
    }

    /// Ends the process if the scan has stood for too long, though its thread does not end. The
    /// exit code is 70, so that systemd starts it again.
    pub(super) async fn leave_the_scan(&mut self) {
        if !self.stall.is_over(self.config.live.scan.stall_exit) {
            return;
        }
        self.stall.forced_exit.begin();
        self.devices.make_safe_now();
        let doing = self.what_stands();
        if let Some((name, hash)) = self.guilty() {
            let reason =
                format!("the scan stood for {:?}, {doing}", self.config.live.scan.stall_exit);
            let file = self.supervisor.plugin(&name).and_then(|view| view.file);
            let what = if file == Some(hash) { ".wasm:" } else { ": version" };
            tracing::error!(plugin = name, "{name}{what} {hash} is in quarantine: {reason}");
            self.record.quarantined(&name, hash, reason);
        }
        self.notifier.stopping("the scan stands; outputs are made safe, the process ends with 70");
        let deadline = Instant::now() + CONFIRM;
        while !self.devices.are_safe() && Instant::now() < deadline {
            sleep(Duration::from_millis(5)).await;
        }
        let outputs = self.devices.safety();
        let stood = self.stall.stillness.still;
        tracing::error!("the scan has stood for {stood:?}, {doing}; {outputs}; the process ends");
        self.close_audit();
        self.end_forces();
        // What became of versions is in no other file if the history could not be opened.
        self.record.save_last().await;
        // Dropping the journal writes what it has, within its own limit.
        let gone = Record::new(Journal::in_memory("the process ends"), None);
        drop(std::mem::replace(&mut self.record, gone));
        crate::log::last_words();
        std::process::exit(EXIT_PANIC)
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
