//! A watchdog on the scan, in the thread of each device. It makes the device's outputs safe when
//! the scan stands.
//!
//! ```text
//!            the scan writes once a cycle                no cycle for `stall`
//!   Unused ------------------------------> Fed --------------------------------> Tripped
//!                                           ^                                       |
//!                                           +---------------------------------------+
//!                                             the first cycle that began after it
//! ```
//! The two threads share only atomics, so neither waits for the other. `link/side.rs` decides what
//! is safe: all drivers ask there which outputs are wanted. What the daemon does about a stall is
//! in `daemon/stall.rs`. Times on both sides are those of [`MonotonicClock`].

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::time::sleep;

use crate::clock::{Clock, MonotonicClock, nanos};

/// The time between two looks while there is nothing to watch: there is no limit, or the scan has
/// not written yet.
const IDLE: Duration = Duration::from_millis(50);

/// The longest sleep. A reload may have shortened the limit in the meantime.
const LONGEST: Duration = Duration::from_secs(1);

/// The time between two looks while the watchdog is tripped, for the end of a hold and for a late
/// cycle: a tenth of the shortest limit.
const LOOK: Duration = Duration::from_millis(10);

/// A thread that wakes this much later than it asked for was stopped itself, most likely together
/// with the whole machine. The value is ten times the lateness of a timer on a busy machine.
const OVERSLEPT: Duration = Duration::from_millis(20);

/// The signs of life that the scan gives to one device, and the consequences of its silence.
#[derive(Debug, Default)]
pub struct Watchdog {
    /// How often the scan has written; 0 before the first time. The scan writes, the device's
    /// thread reads.
    beats: AtomicU64,
    /// When the cycle began in which the scan wrote last, in nanoseconds. The scan writes it before
    /// `beats`, the device's thread reads.
    cycle_ns: AtomicU64,
    /// The time from one cycle to the next, in nanoseconds; 0 until it is known. The scan writes,
    /// the device's thread reads.
    period_ns: AtomicU64,
    /// How long the scan may be silent, in nanoseconds; 0 means without limit. The scan writes,
    /// and the thread that drops the link; the device's thread reads.
    stall_ns: AtomicU64,
    /// When the device's thread last noticed too long a silence, in nanoseconds; 0 means never. The
    /// watchdog is tripped until the scan has written in a cycle that began later. The device's
    /// thread writes, the scan and the daemon read.
    tripped_ns: AtomicU64,
    /// How often the watchdog has tripped. The device's thread writes, the daemon reads.
    trips: AtomicU64,
    /// Whether no output may keep its value any longer, because the process ends. The daemon
    /// writes, the device's thread reads.
    holds_nothing: AtomicBool,
    /// The number of outputs that have a safe value. It is written once, before the second
    /// thread exists; the daemon reads.
    outputs: AtomicUsize,
    /// The number of outputs that the device is not known to have. The device's thread writes, the
    /// daemon reads.
    missing: AtomicUsize,
}

impl Watchdog {
    /// A watchdog for a device with `all` outputs, of which `safe` have a safe value.
    pub(super) fn new(all: usize, safe: usize) -> Self {
        Self { outputs: safe.into(), missing: all.into(), ..Self::default() }
    }

    /// How often the watchdog has tripped.
    pub fn trips(&self) -> u64 {
        self.trips.load(Ordering::Acquire)
    }

    /// The number of outputs that the watchdog makes safe: those that have a safe value.
    pub fn outputs(&self) -> usize {
        self.outputs.load(Ordering::Relaxed)
    }

    /// The number of outputs for which the device is not known to have what is wanted. Wanted is
    /// the value of the scan or, while the scan stands, the safe value. The safe value counts from
    /// the trip on, also for an output that keeps its value for a while first.
    pub fn missing(&self) -> usize {
        self.missing.load(Ordering::Relaxed)
    }

    /// The number of outputs that are not known to be safe while the scan stands. The device's
    /// thread may not have noticed the stall yet, for example because it waits in a call. Until
    /// then the device has confirmed only what the scan wanted, which no longer counts.
    pub fn unsafe_outputs(&self) -> usize {
        match self.is_tripped() {
            true => self.missing(),
            false => self.missing().max(self.outputs()),
        }
    }

    /// Sets the number of missing outputs. The device's thread calls this.
    pub(super) fn note_missing(&self, outputs: usize) {
        self.missing.store(outputs, Ordering::Relaxed);
    }

    /// Whether the device's thread has noticed that the scan stands, so that outputs are safe or
    /// will be.
    pub fn is_tripped(&self) -> bool {
        self.is_overtaken(self.last_cycle())
    }

    /// How long the watchdog has been tripped; `None` if it is not. [`Duration::MAX`] when no
    /// output may keep its value any longer.
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

    /// Ends all holds: from now on each output with a safe value becomes safe as soon as the
    /// watchdog is tripped. The daemon calls this when the process ends.
    pub fn make_safe_now(&self) {
        self.holds_nothing.store(true, Ordering::Relaxed);
    }

    /// How often the scan has written.
    pub(super) fn beats(&self) -> u64 {
        self.beats.load(Ordering::SeqCst)
    }

    /// Sets the time from one cycle to the next. The scan calls this.
    pub(super) fn pace(&self, period: Duration) {
        self.period_ns.store(nanos(period), Ordering::Relaxed);
    }

    /// Sets how long the scan may be silent from now on; zero means without limit. The scan calls
    /// this.
    pub(super) fn limit(&self, stall: Duration) {
        self.stall_ns.store(nanos(stall), Ordering::Relaxed);
    }

    /// How long the scan may be silent; zero means without limit.
    fn stall(&self) -> Duration {
        Duration::from_nanos(self.stall_ns.load(Ordering::Relaxed))
    }

    /// When the cycle began in which the scan wrote last.
    fn last_cycle(&self) -> Duration {
        Duration::from_nanos(self.cycle_ns.load(Ordering::SeqCst))
    }

    /// The time until the scan reads its inputs again, and the time from one such read to the next;
    /// `None` while these are not known.
    pub(super) fn next_cycle(&self) -> Option<(Duration, Duration)> {
        let period_ns = self.period_ns.load(Ordering::Relaxed);
        let passed = MonotonicClock.now().saturating_sub(self.last_cycle());
        // If more than a period has passed, the scan has missed cycles; it keeps to the grid.
        let into_ns = passed.as_nanos().checked_rem(period_ns.into())? as u64;
        let period = Duration::from_nanos(period_ns);
        Some((period - Duration::from_nanos(into_ns), period))
    }

    /// Whether a stall has overtaken the cycle that began at `now`. The results of such a cycle are
    /// older than the safe values, so the next cycle is the first that counts. The scan calls this.
    pub(super) fn is_overtaken(&self, now: Duration) -> bool {
        nanos(now) < self.tripped_ns.load(Ordering::SeqCst)
    }

    /// Notes that the scan has written in the cycle that began at `now`. Returns whether this has
    /// ended a stall; the scan must then wake the device's thread. A cycle that is overtaken while
    /// it writes ends no stall: the next cycle does.
    pub(super) fn beat(&self, now: Duration) -> bool {
        // The order matters, together with `trip`, in the single total order of `SeqCst`. Either
        // this function sees that the watchdog has tripped, or the device's thread finds it not
        // tripped from its first look on.
        let before = self.cycle_ns.swap(nanos(now), Ordering::SeqCst);
        let tripped = self.tripped_ns.load(Ordering::SeqCst);
        self.beats.fetch_add(1, Ordering::SeqCst);
        before < tripped && tripped <= nanos(now)
    }

    /// Trips the watchdog, unless it is tripped already. A driver that starts again during a stall
    /// must not start a second stall, because its outputs would then keep their values for longer.
    fn trip(&self) {
        if self.is_tripped() {
            return;
        }
        // Until the device's thread counts again, nothing is known about the safe values.
        self.missing.fetch_max(self.outputs(), Ordering::Relaxed);
        self.tripped_ns.store(nanos(MonotonicClock.now()), Ordering::SeqCst);
        self.trips.fetch_add(1, Ordering::Release);
    }

    /// Watches the scan for ever, on the device's thread. Calls `changed` whenever more outputs are
    /// to be safe than before. `holds` says how long each output keeps its value first.
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
    /// A device's thread that was stopped with the whole machine may wake before the scan does.
    /// Causes are a SIGSTOP or a virtual machine that is moved. The scan has then done nothing
    /// wrong. Therefore a thread that wakes late itself gives the scan a few cycles more, once. If
    /// the scan is later still, outputs are safe for these moments.
    async fn silence(&self) {
        let (mut asked_for, mut is_patient) = (None, true);
        loop {
            // The beats and the limit are read before the time of the cycle. A newer beat can then
            // only make the cycle look younger.
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

    /// The time that a scan needs to come back after the machine stood still: two cycles, and the
    /// time in which a busy machine wakes a thread.
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

        // The watchdog trips after the beat of that cycle.
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
                // The other thread behaves as if it needed a millisecond to write down when it
                // tripped.
                let began = MonotonicClock.now() + Duration::from_millis(1);
                let is_told = watchdog.beat(began);
                round.wait();
                // Neither thread touches the watchdog until the next round.
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
            // The blocking sleep also stops the watchdog's own task in this thread.
            std::thread::sleep(STALL + 2 * OVERSLEPT);
            for _ in 0..10 {
                tokio::task::yield_now().await;
            }
            assert_eq!(watchdog.trips(), 0);
            // The scan does not come back. A machine that stood still does not excuse that for
            // longer.
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
