//! A watchdog on the scan. Each device's thread runs its own watchdog. The watchdog makes the
//! device's outputs safe when the scan has stalled, that is, when the scan has written nothing for
//! the time `scan.stall`.
//!
//! ```text
//!            the first write of the scan               no write for `scan.stall`
//!   Unused ------------------------------> Fed --------------------------------> Tripped
//!                                           ^                                       |
//!                                           +---------------------------------------+
//!                                             the first cycle that began after the trip
//! ```
//! The flow: the scan calls `beat` in each cycle. The device's thread runs `watch`, which checks
//! the time of the last beat. If that time is too old, `watch` trips the watchdog and wakes the
//! driver. The driver asks `link/side.rs` for the wanted outputs, which are now the safe values.
//!
//! The scan thread and the device's thread share only atomics. Therefore neither thread waits for
//! the other thread. This file does not know the safe values; `link/side.rs` does.
//! `daemon/stall.rs` decides what the daemon does in a stall. All times are times of
//! [`MonotonicClock`].

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::time::sleep;

use crate::clock::{Clock, MonotonicClock, nanos};

/// The time between two checks while the watchdog has nothing to supervise. There is nothing to
/// supervise if the limit is 0 or if the scan has not written yet.
const IDLE: Duration = Duration::from_millis(50);

/// The longest sleep between two checks. A reload can shorten the stall limit during a sleep, so
/// the sleep must be short.
const LONGEST: Duration = Duration::from_secs(1);

/// The time between two checks while the watchdog is tripped. Each check finds out whether a hold
/// time or the stall has ended. The value is the shortest possible `scan.stall`.
const LOOK: Duration = Duration::from_millis(10);

/// The maximum lateness of a wake-up while the machine runs. If the watchdog wakes later than that,
/// it concludes that the whole machine was stopped. The value is ten times the lateness of a timer
/// on a busy machine.
const OVERSLEPT: Duration = Duration::from_millis(20);

/// The scan's signs of life for one device, and the state of a stall.
#[derive(Debug, Default)]
pub struct Watchdog {
    /// The number of times that the scan has written the device's outputs; 0 before the first
    /// write. The scan writes this field; the device's thread reads it.
    beats: AtomicU64,
    /// The start time of the last cycle in which the scan wrote, in nanoseconds. The scan sets this
    /// field before `beats`; the device's thread reads it.
    cycle_ns: AtomicU64,
    /// The cycle time in nanoseconds; 0 until it is known. The scan writes this field; the device's
    /// thread reads it.
    period_ns: AtomicU64,
    /// The time for which the scan may be silent, in nanoseconds; 0 means that there is no limit.
    /// The scan writes this field, and so does the thread that calls `leave` on the device. The
    /// device's thread reads this field.
    stall_ns: AtomicU64,
    /// The time at which the device's thread detected the last stall, in nanoseconds; 0 means
    /// never. The watchdog stays tripped until the scan writes in a cycle that began after this
    /// time. The device's thread writes this field; the scan and the daemon read it.
    tripped_ns: AtomicU64,
    /// The number of times that the watchdog has tripped. The device's thread writes this field;
    /// the daemon reads it.
    trips: AtomicU64,
    /// Whether the daemon has ended all hold times, because the process ends. The daemon writes
    /// this field; the device's thread reads it.
    holds_nothing: AtomicBool,
    /// The number of outputs that have a safe value. `new` writes this field once, before the
    /// device's thread starts. The daemon reads this field.
    outputs: AtomicUsize,
    /// The number of outputs whose wanted value the device has not acknowledged. The device's
    /// thread writes this field; the daemon reads it.
    missing: AtomicUsize,
}

impl Watchdog {
    /// Makes a watchdog for a device with `all` outputs, of which `safe` have a safe value.
    pub(super) fn new(all: usize, safe: usize) -> Self {
        Self { outputs: safe.into(), missing: all.into(), ..Self::default() }
    }

    /// The number of times that the watchdog has tripped.
    pub fn trips(&self) -> u64 {
        self.trips.load(Ordering::Acquire)
    }

    /// The number of outputs that the watchdog makes safe. These are the outputs that have a safe
    /// value.
    pub fn outputs(&self) -> usize {
        self.outputs.load(Ordering::Relaxed)
    }

    /// The number of outputs whose wanted value the device has not acknowledged. The wanted value
    /// is the value from the scan or, in a stall, the safe value. From the trip on, the wanted
    /// value is the safe value, even while an output still keeps its last value for its hold time.
    pub fn missing(&self) -> usize {
        self.missing.load(Ordering::Relaxed)
    }

    /// The number of outputs that are not known to be safe in a stall. The device's thread may not
    /// have detected the stall yet, for example because the thread hangs in a call. Until the
    /// thread detects the stall, the device has acknowledged only values from the scan, and no safe
    /// values. Therefore this function then counts all outputs that have a safe value.
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

    /// Whether the device's thread has detected that the scan is stalled. After the detection, the
    /// outputs are safe or will become safe soon.
    pub fn is_tripped(&self) -> bool {
        self.is_overtaken(self.last_cycle())
    }

    /// The time since the watchdog tripped; `None` if it is not tripped. The time is
    /// [`Duration::MAX`] if the process ends, because the daemon then ends all hold times.
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

    /// Ends all hold times. From now on, each output with a safe value becomes safe as soon as the
    /// watchdog trips. The daemon calls this when the process ends.
    pub fn make_safe_now(&self) {
        self.holds_nothing.store(true, Ordering::Relaxed);
    }

    /// The number of times that the scan has written the device's outputs.
    pub(super) fn beats(&self) -> u64 {
        self.beats.load(Ordering::SeqCst)
    }

    /// Sets the cycle time. The scan calls this.
    pub(super) fn pace(&self, period: Duration) {
        self.period_ns.store(nanos(period), Ordering::Relaxed);
    }

    /// Sets the time for which the scan may be silent; zero means that there is no limit. The scan
    /// calls this, and so does the thread that calls `leave` on the device.
    pub(super) fn limit(&self, stall: Duration) {
        self.stall_ns.store(nanos(stall), Ordering::Relaxed);
    }

    /// The time for which the scan may be silent; zero means that there is no limit.
    fn stall(&self) -> Duration {
        Duration::from_nanos(self.stall_ns.load(Ordering::Relaxed))
    }

    /// The start time of the last cycle in which the scan wrote.
    fn last_cycle(&self) -> Duration {
        Duration::from_nanos(self.cycle_ns.load(Ordering::SeqCst))
    }

    /// The time until the planned start of the next cycle, when the scan reads its inputs, and the
    /// cycle time. `None` if the cycle time is not known yet.
    pub(super) fn next_cycle(&self) -> Option<(Duration, Duration)> {
        let period_ns = self.period_ns.load(Ordering::Relaxed);
        let passed = MonotonicClock.now().saturating_sub(self.last_cycle());
        // If more than one cycle time has passed, the scan has missed cycles. Later cycles still
        // start on the same time grid. Therefore the remainder of the division is the time since
        // the last point of this grid.
        let into_ns = passed.as_nanos().checked_rem(period_ns.into())? as u64;
        let period = Duration::from_nanos(period_ns);
        Some((period - Duration::from_nanos(into_ns), period))
    }

    /// Whether a stall was detected after the cycle at `now` had begun. The outputs of such a cycle
    /// are older than the safe values, so the device does not get these outputs. The next cycle is
    /// the first valid cycle. The scan and `is_tripped` call this.
    pub(super) fn is_overtaken(&self, now: Duration) -> bool {
        nanos(now) < self.tripped_ns.load(Ordering::SeqCst)
    }

    /// Records that the scan has written in the cycle that began at `now`. Returns whether this
    /// write has ended a stall. If the stall has ended, the scan must wake the device's thread.
    ///
    /// If the watchdog trips during the write, the cycle at `now` does not end the stall. The next
    /// cycle ends the stall.
    pub(super) fn beat(&self, now: Duration) -> bool {
        // The order of these operations matters. The device's thread writes `tripped_ns` in `trip`
        // and then reads `cycle_ns`. This function writes `cycle_ns` and then reads `tripped_ns`.
        // All operations use `SeqCst`, so all threads see them in one total order. Therefore at
        // least one side sees the other side's write. Either this function sees the trip and
        // reports the end of the stall, or the device's thread sees the new cycle at its first
        // check.
        let before = self.cycle_ns.swap(nanos(now), Ordering::SeqCst);
        let tripped = self.tripped_ns.load(Ordering::SeqCst);
        self.beats.fetch_add(1, Ordering::SeqCst);
        before < tripped && tripped <= nanos(now)
    }

    /// Trips the watchdog, unless it is tripped already. After a panic during a stall, the device's
    /// thread starts the driver and `watch` again. A second trip would then start the hold times
    /// again, and outputs would keep their last values for too long.
    fn trip(&self) {
        if self.is_tripped() {
            return;
        }
        // The device has not acknowledged any safe value yet. Until the device's thread counts the
        // missing outputs again, all outputs with a safe value count as missing.
        self.missing.fetch_max(self.outputs(), Ordering::Relaxed);
        self.tripped_ns.store(nanos(MonotonicClock.now()), Ordering::SeqCst);
        self.trips.fetch_add(1, Ordering::Release);
    }

    /// Supervises the scan in an endless loop, on the device's thread. In a stall, this function
    /// calls `changed` at the trip, and then each time the hold time of one or more outputs ends.
    /// `holds` has the hold time of each output that has a safe value.
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
    /// The whole machine may be stopped for a while, for example by a SIGSTOP or by the migration
    /// of a virtual machine. Afterwards the device's thread may wake earlier than the scan thread,
    /// although the scan has no defect. Therefore this function checks whether its own sleep took
    /// too long. If its sleep took too long, this function waits once for the time from `patience`,
    /// but at most for `scan.stall`. If the scan needs even longer, the outputs become safe until
    /// the scan runs again.
    async fn silence(&self) {
        let (mut asked_for, mut is_patient) = (None, true);
        loop {
            // The beats and the limit are read before the start time of the last cycle. If the scan
            // writes between these reads, the last cycle is newer than the beats show. Therefore
            // this order never causes a false stall.
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

    /// The time that the scan needs to run again after the machine was stopped. The time is two
    /// cycles, plus the time that a busy machine needs to wake a thread.
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
        assert!(!watchdog.is_overtaken(late), "the watchdog has not tripped yet");
        watchdog.note_missing(0);
        assert_eq!(watchdog.unsafe_outputs(), 1, "the confirmed value is not a safe value");
        watchdog.trip();
        assert!(watchdog.is_tripped() && watchdog.is_overtaken(late));
        assert_eq!(watchdog.missing(), 1, "the device has not confirmed a safe value yet");
        watchdog.note_missing(0);
        assert_eq!(watchdog.unsafe_outputs(), 0);
        watchdog.trip();
        assert_eq!(watchdog.trips(), 1, "the second trip belongs to the same stall");
        assert!(watchdog.tripped_for().is_some_and(|passed| passed < Duration::from_secs(60)));
        watchdog.make_safe_now();
        assert_eq!(watchdog.tripped_for(), Some(Duration::MAX));
        let now = MonotonicClock.now();
        assert!(!watchdog.is_overtaken(now) && watchdog.beat(now));
        assert_eq!((watchdog.tripped_for(), watchdog.trips()), (None, 1));
        assert!(!watchdog.beat(now), "only one beat reports the end of the stall");
    }

    #[test]
    fn a_cycle_that_was_overtaken_while_it_wrote_ends_no_stall() {
        let watchdog = fed();
        let late = MonotonicClock.now();
        assert!(!watchdog.is_overtaken(late), "the cycle begins to write before the trip");
        watchdog.trip();
        assert!(!watchdog.beat(late) && watchdog.is_tripped());
        assert!(watchdog.beat(MonotonicClock.now()) && !watchdog.is_tripped());

        // In this part of the test, the watchdog trips after the beat of the cycle.
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
                // The start time of this cycle is one millisecond in the future. The effect is the
                // same as if the other thread needed a millisecond to store the time of its trip.
                let began = MonotonicClock.now() + Duration::from_millis(1);
                let is_told = watchdog.beat(began);
                round.wait();
                // Neither thread accesses the watchdog until the next round starts.
                let has_seen = has_seen.load(Ordering::SeqCst);
                seen += usize::from(has_seen);
                silent += usize::from(has_seen && !is_told && !watchdog.is_tripped());
                watchdog.beat(MonotonicClock.now());
            }
            assert_eq!(silent, 0, "ends without a report, in {seen} stalls");
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
            // This sleep blocks the thread. Therefore the sleep also stops the watchdog's own task.
            std::thread::sleep(STALL + 2 * OVERSLEPT);
            for _ in 0..10 {
                tokio::task::yield_now().await;
            }
            assert_eq!(watchdog.trips(), 0);
            // The scan does not run again. The stop of the machine excuses the silence of the scan
            // only for a short time.
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
            let watch = watchdog.watch(&[Duration::ZERO], || panic!("the watchdog has tripped"));
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
