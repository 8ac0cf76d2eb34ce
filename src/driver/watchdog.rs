//! A watchdog on the scan, in the thread of each device: its outputs become safe when the scan
//! stands.
//!
//! ```text
//!            the scan writes once a cycle                no cycle for `stall`
//!   Unused ------------------------------> Fed --------------------------------> Tripped
//!                                           ^                                       |
//!                                           +---------------------------------------+
//!                                             the first cycle that began after it
//! ```
//! Only atomics lie between the two threads, so nobody waits for anybody. What is safe is decided
//! in `link/side.rs`, in which all drivers ask what is wanted; what the daemon makes of it is in
//! `daemon/stall.rs`. Times are those of [`MonotonicClock`] on both sides.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::time::sleep;

use crate::clock::{Clock, MonotonicClock, nanos};

/// Between two looks while there is no limit, or no cycle was written: nothing is to be watched.
const IDLE: Duration = Duration::from_millis(50);

/// The longest sleep: a reload may have made the limit shorter meanwhile.
const LONGEST: Duration = Duration::from_secs(1);

/// Between two looks while it is tripped, for outputs that hold for a while and for a late cycle: a
/// tenth of the shortest limit.
const LOOK: Duration = Duration::from_millis(10);

/// A thread that wakes so much later than it asked for was stopped itself, most likely with the
/// whole machine: ten times what a timer is late on a busy one.
const OVERSLEPT: Duration = Duration::from_millis(20);

/// What the scan shows of its life to one device, and what follows from its silence.
#[derive(Debug, Default)]
pub struct Watchdog {
    /// How often the scan has written; 0 before the first time. The scan writes.
    beats: AtomicU64,
    /// When the cycle began that it wrote in last, in nanoseconds. The scan writes, before `beats`.
    cycle_ns: AtomicU64,
    /// From one cycle to the next, in nanoseconds; 0 until that is known. The scan writes.
    period_ns: AtomicU64,
    /// How long it may be silent, in nanoseconds; 0 for as long as it likes. The scan writes.
    stall_ns: AtomicU64,
    /// When it was noticed last that it was silent for too long, in nanoseconds; 0 if never. It is
    /// tripped until a cycle has written that began later. The device's thread writes.
    tripped_ns: AtomicU64,
    /// How often it has tripped. The device's thread writes, the daemon reads.
    trips: AtomicU64,
    /// Whether no output holds any longer, because the process ends. The daemon writes.
    holds_nothing: AtomicBool,
    /// Outputs that have a safe value. Written once, before there are two threads.
    outputs: AtomicUsize,
    /// Outputs that the device was not known to have. The device's thread writes.
    missing: AtomicUsize,
}

impl Watchdog {
    /// For a device with `all` outputs, of which `safe` have a safe value.
    pub(super) fn new(all: usize, safe: usize) -> Self {
        Self { outputs: safe.into(), missing: all.into(), ..Self::default() }
    }

    /// How often it has tripped.
    pub fn trips(&self) -> u64 {
        self.trips.load(Ordering::Acquire)
    }

    /// How many outputs it makes safe: those that have a safe value.
    pub fn outputs(&self) -> usize {
        self.outputs.load(Ordering::Relaxed)
    }

    /// Of how many outputs the device is not known to have what they are to be: what the scan
    /// wants, or the safe value while it stands, also of those that keep theirs for a while first.
    pub fn missing(&self) -> usize {
        self.missing.load(Ordering::Relaxed)
    }

    /// Of how many outputs it is not known that they are safe while the scan stands. As long as the
    /// device's thread has not noticed that it does, as one that waits in a call, what the device
    /// has confirmed is what the scan wanted, and nothing that counts now.
    pub fn unsafe_outputs(&self) -> usize {
        match self.is_tripped() {
            true => self.missing(),
            false => self.missing().max(self.outputs()),
        }
    }

    /// Notes how many these are.
    pub(super) fn note_missing(&self, outputs: usize) {
        self.missing.store(outputs, Ordering::Relaxed);
    }

    /// Whether the scan stands, so that outputs are safe or will be.
    pub fn is_tripped(&self) -> bool {
        self.is_overtaken(self.last_cycle())
    }

    /// For how long it has been tripped; for ever, when nothing is to hold any longer.
    pub fn tripped_for(&self) -> Option<Duration> {
        if !self.is_tripped() {
            return None;
        }
        if self.holds_nothing.load(Ordering::Relaxed) {
            return Some(Duration::MAX);
        }
        let since = Duration::from_nanos(self.tripped_ns.load(Ordering::SeqCst));
        Some(MonotonicClock.now().saturating_sub(since))
    }

    /// From now on no output holds any longer while it is tripped: the process ends.
    pub fn make_safe_now(&self) {
        self.holds_nothing.store(true, Ordering::Relaxed);
    }

    /// How often the scan has written.
    pub(super) fn beats(&self) -> u64 {
        self.beats.load(Ordering::SeqCst)
    }

    /// The time from one cycle to the next.
    pub(super) fn pace(&self, period: Duration) {
        self.period_ns.store(nanos(period), Ordering::Relaxed);
    }

    /// How long the scan may be silent from now on; zero for as long as it likes.
    pub(super) fn limit(&self, stall: Duration) {
        self.stall_ns.store(nanos(stall), Ordering::Relaxed);
    }

    fn stall(&self) -> Duration {
        Duration::from_nanos(self.stall_ns.load(Ordering::Relaxed))
    }

    fn last_cycle(&self) -> Duration {
        Duration::from_nanos(self.cycle_ns.load(Ordering::SeqCst))
    }

    /// How long it is until the scan reads its inputs again, and from one such time to the next;
    /// `None` while that is not known.
    pub(super) fn next_cycle(&self) -> Option<(Duration, Duration)> {
        let period_ns = self.period_ns.load(Ordering::Relaxed);
        let passed = MonotonicClock.now().saturating_sub(self.last_cycle());
        // It has missed some if that is longer than a period, and keeps to the grid.
        let into_ns = passed.as_nanos().checked_rem(period_ns.into())? as u64;
        let period = Duration::from_nanos(period_ns);
        Some((period - Duration::from_nanos(into_ns), period))
    }

    /// Whether a cycle that began at `now` was overtaken by a stall: what it has worked out is
    /// older than the safe values, and the next cycle is the first to count. Called by the scan.
    pub(super) fn is_overtaken(&self, now: Duration) -> bool {
        nanos(now) < self.tripped_ns.load(Ordering::SeqCst)
    }

    /// The scan has written in the cycle that began at `now`. Says whether that has ended a stall,
    /// so that the device's thread must be woken. A cycle that is overtaken while it writes ends
    /// none: the next one does.
    pub(super) fn beat(&self, now: Duration) -> bool {
        // In this order on one line of time with `trip`: either this sees that it has tripped, or
        // the device's thread finds it not tripped from the first look on.
        let before = self.cycle_ns.swap(nanos(now), Ordering::SeqCst);
        let tripped = self.tripped_ns.load(Ordering::SeqCst);
        self.beats.fetch_add(1, Ordering::SeqCst);
        before < tripped && tripped <= nanos(now)
    }

    /// It is tripped from now on, unless it is already: a driver that begins anew in a stall begins
    /// no other, and no output holds for longer.
    fn trip(&self) {
        if self.is_tripped() {
            return;
        }
        // Until the device's thread has counted anew, nothing is known of the safe ones.
        self.missing.fetch_max(self.outputs(), Ordering::Relaxed);
        self.tripped_ns.store(nanos(MonotonicClock.now()), Ordering::SeqCst);
        self.trips.fetch_add(1, Ordering::Release);
    }

    /// Watches the scan for ever, on the device's thread. `changed` is called whenever outputs are
    /// to be safe that were not before; `holds` says how long each of them keeps its value first.
    pub(super) async fn watch(&self, holds: &[Duration], changed: impl Fn()) {
        loop {
            self.silence().await;
            self.trip();
            let is_over = |passed: Duration| holds.iter().filter(|hold| **hold <= passed).count();
            let mut over = None;
            while let Some(passed) = self.tripped_for() {
                if over.replace(is_over(passed)) != Some(is_over(passed)) {
                    changed();
                }
                sleep(LOOK).await;
            }
        }
    }

    /// Waits until the scan has been silent for too long.
    ///
    /// Who was stopped with the whole machine (a SIGSTOP, a virtual machine that is moved) may wake
    /// before the scan does, and the scan is not to blame. So a thread that wakes late itself gives
    /// it some cycles more, once; if it is later still, outputs are safe for these moments.
    async fn silence(&self) {
        let (mut asked_for, mut is_patient) = (None, true);
        loop {
            // Before the time of the cycle: what belongs to a newer beat makes it younger only.
            let (beats, stall) = (self.beats(), self.stall());
            let (now, due) = (MonotonicClock.now(), self.last_cycle() + stall);
            let is_watched = beats > 0 && !stall.is_zero();
            let overslept = asked_for.is_some_and(|at| now > at + OVERSLEPT);
            let wait = match is_watched {
                false => IDLE,
                true if now < due => {
                    is_patient = true;
                    due - now
                }
                true if overslept && is_patient => {
                    is_patient = false;
                    self.patience().min(stall)
                }
                true => return,
            };
            let wait = wait.min(LONGEST);
            asked_for = Some(now + wait);
            sleep(wait).await;
        }
    }

    /// What a scan needs to come again after the machine stood still: two cycles, and the time of a
    /// busy machine to wake a thread.
    fn patience(&self) -> Duration {
        Duration::from_nanos(2 * self.period_ns.load(Ordering::Relaxed)) + OVERSLEPT
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STALL: Duration = Duration::from_millis(60);

    fn fed() -> Watchdog {
        let watchdog = Watchdog::new(2, 1);
        watchdog.pace(Duration::from_millis(1));
        watchdog.limit(STALL);
        assert!(!watchdog.beat(MonotonicClock.now()));
        watchdog
    }

    #[test]
    fn a_late_cycle_is_overtaken_and_the_next_one_ends_the_stall() {
        let watchdog = fed();
        let late = MonotonicClock.now();
        assert!(!watchdog.is_tripped() && !watchdog.is_overtaken(late));
        std::thread::sleep(STALL + Duration::from_millis(1));
        assert!(!watchdog.is_overtaken(late), "nobody has noticed");
        watchdog.note_missing(0);
        assert_eq!(watchdog.unsafe_outputs(), 1, "what was confirmed is no safe value");
        watchdog.trip();
        assert!(watchdog.is_tripped() && watchdog.is_overtaken(late));
        assert_eq!(watchdog.missing(), 1, "nothing is known of what is safe");
        watchdog.note_missing(0);
        assert_eq!(watchdog.unsafe_outputs(), 0);
        watchdog.trip();
        assert_eq!(watchdog.trips(), 1, "it is the same stall");
        assert!(watchdog.tripped_for().is_some_and(|passed| passed < Duration::from_secs(60)));
        watchdog.make_safe_now();
        assert_eq!(watchdog.tripped_for(), Some(Duration::MAX));
        let now = MonotonicClock.now();
        assert!(!watchdog.is_overtaken(now) && watchdog.beat(now));
        assert_eq!((watchdog.tripped_for(), watchdog.trips()), (None, 1));
        assert!(!watchdog.beat(now), "it was said once");
    }

    #[test]
    fn a_cycle_that_was_overtaken_while_it_wrote_ends_no_stall() {
        let watchdog = fed();
        let late = MonotonicClock.now();
        assert!(!watchdog.is_overtaken(late), "it begins to write");
        watchdog.trip();
        assert!(!watchdog.beat(late) && watchdog.is_tripped());
        assert!(watchdog.beat(MonotonicClock.now()) && !watchdog.is_tripped());

        // The same, if the device's thread is later than the beat.
        let late = MonotonicClock.now();
        assert!(!watchdog.beat(late));
        watchdog.trip();
        assert!(watchdog.is_tripped());
        assert!(watchdog.beat(MonotonicClock.now()) && !watchdog.is_tripped());
    }

    #[test]
    fn whoever_has_seen_a_stall_hears_of_its_end() {
        const ROUNDS: usize = 20_000;
        let watchdog = fed();
        let round = std::sync::Barrier::new(2);
        let has_seen = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for _ in 0..ROUNDS {
                    round.wait();
                    watchdog.trip();
                    has_seen.store(watchdog.is_tripped(), Ordering::SeqCst);
                    round.wait();
                }
            });
            let (mut silent, mut seen) = (0, 0);
            for _ in 0..ROUNDS {
                round.wait();
                // As if the other thread had taken a millisecond to write down when it tripped.
                let began = MonotonicClock.now() + Duration::from_millis(1);
                let is_told = watchdog.beat(began);
                round.wait();
                // Nobody touches it until the next round.
                let has_seen = has_seen.load(Ordering::SeqCst);
                seen += usize::from(has_seen);
                silent += usize::from(has_seen && !is_told && !watchdog.is_tripped());
                watchdog.beat(MonotonicClock.now());
            }
            assert_eq!(silent, 0, "of {seen} stalls");
        });
    }

    #[tokio::test]
    async fn it_trips_in_time_and_tells_of_each_output_once() {
        let (watchdog, started) = (fed(), std::time::Instant::now());
        let changes = std::cell::RefCell::new(Vec::new());
        let hold = Duration::from_millis(80);
        let holds = [hold, Duration::ZERO];
        let watch = watchdog.watch(&holds, || {
            changes.borrow_mut().push(started.elapsed());
        });
        let _ = tokio::time::timeout(Duration::from_millis(400), watch).await;
        let changes = changes.into_inner();
        let [safe, held] = changes[..] else { panic!("{changes:?}") };
        assert!(safe >= STALL && held >= safe + hold, "{changes:?}");
    }

    #[tokio::test]
    async fn a_scan_that_stood_with_the_whole_machine_is_given_time() {
        let watchdog = fed();
        let holds = [Duration::ZERO];
        let machine = async {
            tokio::time::sleep(Duration::from_millis(5)).await;
            // Nothing else gets on in this thread either.
            std::thread::sleep(STALL + 2 * OVERSLEPT);
            for _ in 0..10 {
                tokio::task::yield_now().await;
            }
            assert_eq!(watchdog.trips(), 0);
            // The scan does not come back, which no machine excuses for longer.
            tokio::time::sleep(2 * STALL).await;
            assert_eq!(watchdog.trips(), 1);
        };
        tokio::select! {
            () = machine => {}
            () = watchdog.watch(&holds, || {}) => {}
        }
    }

    #[tokio::test]
    async fn without_a_limit_or_a_cycle_nothing_trips() {
        let check = async |watchdog: Watchdog| {
            let watch = watchdog.watch(&[Duration::ZERO], || panic!("it has tripped"));
            let _ = tokio::time::timeout(3 * STALL, watch).await;
            assert!(!watchdog.is_tripped());
        };
        let unlimited = fed();
        unlimited.limit(Duration::ZERO);
        check(unlimited).await;
        let unused = Watchdog::new(1, 1);
        unused.limit(STALL);
        check(unused).await;
    }
}
