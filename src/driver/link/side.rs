//! The device's side of a link. A driver that has its own thread uses the type [`Side`] on that
//! thread.
//!
//! ```text
//!   wire --> put, spoil, confirm, doubt, fault --> news --publish--> scan
//!   wire <-- wanted, wanted_together <------------ wishes <--------- scan
//! ```
//! A driver stores each value from the wire with `put` and each acknowledged output with `confirm`.
//! These calls only collect values. `publish` then passes all collected values to the scan
//! together.
//!
//! `wanted` returns the value that an output should have. Normally, the value comes from the scan.
//! While the scan is stalled, `wanted` returns the safe value after the hold time of the output. An
//! output without a safe value keeps its last value. So the drivers need no code for a stall.
//!
//! A driver has the values of the wire. This side applies the keys `nan`, `range`, `invert` and
//! `deadband` of the points, so the drivers need no code for these keys either.
//!
//! This file accesses no wire; the drivers do. The scan's side is in `link.rs`. The detection of a
//! stall is in `watchdog.rs`.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::net::unix::pipe;

use super::{News, Reading, Shared, Wants};
use crate::clock::{Clock, MonotonicClock};
use crate::driver::{Fault, Monitor, Part};
use crate::latest::{Reader, Writer};
use crate::process::image::{Point, PointId, Points, Quality, Raw};

/// The time between two checks for new outputs if the bell (the wake-up pipe) does not work.
const WITHOUT_BELL: Duration = Duration::from_millis(10);

/// The device's side of a link.
#[derive(Debug)]
pub(in crate::driver) struct Side {
    points: Arc<Points>,
    /// The index of each input in the list of inputs, and of each output in the list of outputs.
    places: HashMap<PointId, usize>,
    outputs: Vec<PointId>,
    /// The behaviour of each output in a stall, in the order of `outputs`. An entry has the safe
    /// value, and the time for which the output first keeps its last value. `None` if the output
    /// always keeps its last value.
    safe: Vec<Option<(Raw, Duration)>>,
    /// The newest data about the device. `publish` copies these data to the scan.
    news: News,
    /// The buffer of published data. The scan reads this buffer.
    news_writer: Writer<News>,
    /// The buffer of the outputs that the scan wants. The scan writes this buffer.
    wishes: Reader<Wants>,
    bell: Bell,
    shared: Arc<Shared>,
    /// The view for the status. This thread writes into the view; the daemon reads it.
    monitor: Monitor,
}

/// The read end of the pipe that wakes this thread. The runtime can register the pipe only from
/// inside a running task. Therefore the pipe is registered at its first use.
#[derive(Debug)]
enum Bell {
    /// The pipe is not registered yet.
    Unused(OwnedFd),
    /// The pipe is registered with the runtime.
    Used(pipe::Receiver),
    /// The runtime refused to register the pipe. The thread then checks for new outputs by a timer.
    Mute,
}

impl Side {
    pub(super) fn new(
        points: &Arc<Points>,
        [inputs, outputs]: [Vec<PointId>; 2],
        news: News,
        (news_writer, wishes, bell): (Writer<News>, Reader<Wants>, OwnedFd),
        shared: &Arc<Shared>,
        monitor: &Monitor,
    ) -> Self {
        let numbered = |ids: &[PointId]| ids.iter().copied().zip(0..).collect::<Vec<_>>();
        let safe = |id: &PointId| points[*id].safe_raw().map(|raw| (raw, points[*id].hold_for));
        Self {
            safe: outputs.iter().map(safe).collect(),
            points: Arc::clone(points),
            places: numbered(&inputs).into_iter().chain(numbered(&outputs)).collect(),
            outputs,
            news,
            news_writer,
            wishes,
            bell: Bell::Unused(bell),
            shared: Arc::clone(shared),
            monitor: monitor.clone(),
        }
    }

    /// The configured point with this id. The point must belong to this device.
    pub(in crate::driver) fn point(&self, id: PointId) -> &Point {
        &self.points[id]
    }

    /// The stored data of an input. The caller changes the data through this reference.
    fn reading(&mut self, input: PointId) -> &mut Reading {
        &mut self.news.inputs[self.places[&input]]
    }

    /// Stores a value that the driver has just read, as a good value of an input. A value that is
    /// no measurement (`process/image/wire.rs`) makes the input bad, and the input keeps its last
    /// value.
    pub(in crate::driver) fn put(&mut self, input: PointId, raw: Raw) {
        self.put_as(input, raw, Quality::Good);
    }

    /// Stores a value of an input together with its quality, for a value that is usable but not
    /// fully reliable. A value that is no measurement makes the input bad, and the input keeps its
    /// last value.
    pub(in crate::driver) fn put_as(&mut self, input: PointId, raw: Raw, quality: Quality) {
        self.take(input, raw, quality, None);
    }

    /// Stores a good value of an input. The value expires at `end`, a time of [`MonotonicClock`].
    /// The scan compares the time with `end` in every cycle. Therefore the value expires even if
    /// this thread hangs. A value that is no measurement makes the input bad, and the input keeps
    /// its last value.
    pub(in crate::driver) fn put_until(&mut self, input: PointId, raw: Raw, end: Duration) {
        self.take(input, raw, Quality::Good, Some(end));
    }

    /// Stores a value that the device has sent. The keys of the point apply: `invert`, `nan`,
    /// `range` and `deadband`.
    fn take(&mut self, input: PointId, raw: Raw, quality: Quality, ends_at: Option<Duration>) {
        let reading = &mut self.news.inputs[self.places[&input]];
        let last = reading.good_at.map(|_| &reading.raw);
        match self.points[input].from_device(&raw, last) {
            Some(raw) => {
                let now = Some(MonotonicClock.now());
                *reading = Reading { raw, quality, good_at: now, heard_at: now, ends_at };
            }
            None => self.spoil(input, Quality::Sensor),
        }
    }

    /// Sets the quality of an input, usually to a bad one, and retains the value of the input. If
    /// the device is merely silent, a driver need not call this function, because the scan makes
    /// old values stale.
    pub(in crate::driver) fn spoil(&mut self, input: PointId, quality: Quality) {
        let reading = self.reading(input);
        reading.quality = quality;
        if quality == Quality::Sensor {
            // The device has answered, so it is not silent.
            reading.heard_at = Some(MonotonicClock.now());
        }
    }

    /// Records that the device has acknowledged the value `raw` of an output. As in `wanted`, `raw`
    /// is the value on the wire.
    pub(in crate::driver) fn confirm(&mut self, output: PointId, raw: Raw) {
        let raw = self.points[output].for_device(raw);
        self.news.confirmed[self.places[&output]] = Some(raw);
    }

    /// Whether the device has acknowledged `raw` as the newest value of an output, and no later
    /// call of `doubt` has made that value unknown.
    pub(in crate::driver) fn has(&self, output: PointId, raw: Raw) -> bool {
        let raw = self.points[output].for_device(raw);
        self.news.confirmed[self.places[&output]] == Some(raw)
    }

    /// Records that the value of an output in the device is now unknown.
    pub(in crate::driver) fn doubt(&mut self, output: PointId) {
        self.news.confirmed[self.places[&output]] = None;
    }

    /// Sets the fault of the device as a whole; `None` if the device works.
    pub(in crate::driver) fn fault(&mut self, fault: Option<Fault>) {
        self.news.fault = fault;
    }

    /// Publishes all collected data to the scan. The scan sees all these data in the same cycle.
    /// Also counts the outputs whose wanted value the device has not acknowledged.
    pub(in crate::driver) fn publish(&mut self) {
        let Self { news, news_writer, wishes, shared, safe, .. } = self;
        // This function reads the turn before the wanted outputs. Therefore the wanted outputs are
        // at least as new as this turn.
        let turn = shared.turn.load(Ordering::Acquire);
        // In a stall, this comparison ignores the hold times and always uses the safe values. The
        // reason: an output that still keeps its last value is not safe yet, so this function
        // counts it as missing.
        let stall = shared.watchdog.tripped_for().map(|_| Duration::MAX);
        let wants =
            wishes.read().0.iter().zip(&*safe).map(|(raw, safe)| in_stall(*raw, *safe, stall));
        let missing = wants.zip(&news.confirmed).filter(|(want, has)| **has != Some(*want));
        shared.watchdog.note_missing(missing.count());
        shared.heard.store(turn, Ordering::Release);
        news_writer.publish(|old| old.clone_from(news));
    }

    /// The value that an output should have on the wire. This is the value from the scan; for an
    /// output with `invert`, it is the opposite. In a stall, it is the safe value after the hold
    /// time of the output, if the output has a safe value. `None` before the first write of the
    /// scan, when the driver must not write anything.
    pub(in crate::driver) fn wanted(&mut self, output: PointId) -> Option<Raw> {
        let (place, stall) = (self.places[&output], self.shared.watchdog.tripped_for());
        let raw = (self.beats() > 0)
            .then(|| in_stall(self.wishes.read().0[place], self.safe[place], stall))?;
        Some(self.points[output].for_device(raw))
    }

    /// The values that several outputs should have on the wire, in the order of `outputs`. All
    /// values are from the same cycle. The caller must not call this function before the first
    /// write of the scan.
    pub(in crate::driver) fn wanted_together(
        &mut self,
        outputs: impl Iterator<Item = PointId>,
    ) -> Vec<Raw> {
        let stall = self.shared.watchdog.tripped_for();
        let Self { wishes, places, safe, points, .. } = self;
        let wants = wishes.read();
        let wanted = |place: usize| in_stall(wants.0[place], safe[place], stall);
        let on_wire = |output| points[output].for_device(wanted(places[&output]));
        outputs.map(on_wire).collect()
    }

    /// The number of times that the scan has written the outputs of this device.
    pub(in crate::driver) fn beats(&self) -> u64 {
        self.shared.watchdog.beats()
    }

    /// Whether the scan is stalled.
    pub(in crate::driver) fn is_stalled(&self) -> bool {
        self.shared.watchdog.is_tripped()
    }

    /// The hold time of each output that has a safe value. In a stall, an output keeps its last
    /// value for its hold time and then becomes safe.
    pub(super) fn holds(&self) -> Vec<Duration> {
        self.safe.iter().flatten().map(|(_, hold)| *hold).collect()
    }

    /// The time until the planned start of the next cycle, when the scan reads its inputs, and the
    /// cycle time. `None` if the cycle time is not known yet.
    pub(in crate::driver) fn next_cycle(&self) -> Option<(Duration, Duration)> {
        self.shared.watchdog.next_cycle()
    }

    /// Waits until a wanted value of an output may have changed after the last return of this
    /// function. Sometimes this function returns although no wanted value has changed. The future
    /// can be dropped at any time without loss of a wake-up.
    pub(in crate::driver) async fn changed(&mut self) {
        if let Bell::Unused(_) = self.bell
            && let Bell::Unused(bell) = std::mem::replace(&mut self.bell, Bell::Mute)
            && let Ok(receiver) = pipe::Receiver::from_owned_fd(bell)
        {
            self.bell = Bell::Used(receiver);
        }
        let Bell::Used(bell) = &self.bell else {
            return tokio::time::sleep(WITHOUT_BELL).await;
        };
        // One read removes up to 256 wake-up bytes. Several bytes mean the same as one byte.
        let mut rings = [0; 256];
        if bell.readable().await.is_err() || matches!(bell.try_read(&mut rings), Ok(0)) {
            // The scan's side of the link no longer exists. The thread that drops the link ends
            // this task soon.
            tokio::time::sleep(WITHOUT_BELL).await;
        }
    }

    /// Sets the parts of the device that the status shows.
    pub(in crate::driver) fn show(&self, parts: Vec<Part>) {
        self.monitor.set(parts);
    }

    /// Makes all inputs bad and all outputs unconfirmed, and publishes this state with the fault
    /// `Disconnected`. The thread calls this when the driver code has returned or panicked.
    pub(super) fn lose_all(&mut self) {
        self.news.inputs.iter_mut().for_each(|reading| reading.quality = Quality::NoComm);
        self.news.confirmed.fill(None);
        self.news.fault = Some(Fault::Disconnected);
        self.publish();
        self.news.fault = None;
    }

    /// The ids of all outputs of this device.
    pub(in crate::driver) fn outputs(&self) -> &[PointId] {
        &self.outputs
    }
}

/// The value that an output should have. `raw` is the value that the scan wanted last. `safe` is
/// the safe value together with its hold time. `stall` is the time since the watchdog tripped;
/// `None` if it is not tripped.
///
/// The safe value has priority even over a value that an operator has forced. The reason is that a
/// stalled scan no longer follows the operator, so the forced value may be out of date.
fn in_stall(raw: Raw, safe: Option<(Raw, Duration)>, stall: Option<Duration>) -> Raw {
    match (safe, stall) {
        (Some((safe, hold)), Some(passed)) if passed >= hold => safe,
        _ => raw,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::driver::Driver;
    use crate::driver::link::{Link, Serve};
    use crate::process::image::{Direction, Freshness, PointKind, Safe};

    /// A driver that compares two outputs. The scan always changes both outputs together.
    struct Twins {
        outputs: [PointId; 2],
        news_writer: std::sync::mpsc::Sender<bool>,
    }

    impl Serve for Twins {
        async fn serve(&mut self, side: &mut Side) {
            side.changed().await;
            let are_equal = (0..200_000).all(|_| {
                let both = side.wanted_together(self.outputs.into_iter());
                both[0] == both[1]
            });
            self.news_writer.send(are_equal).unwrap();
            std::future::pending::<()>().await;
        }
    }

    /// A driver that puts these values into one input, one after the other, and publishes the last
    /// state.
    struct Giver(Vec<f64>);

    impl Serve for Giver {
        async fn serve(&mut self, side: &mut Side) {
            for value in &self.0 {
                side.put(PointId(0), value.to_le_bytes());
            }
            side.publish();
            std::future::pending::<()>().await;
        }
    }

    #[test]
    fn what_is_no_finite_number_is_no_measurement() {
        fn check(scale: f64, values: &[f64], expected: (Quality, f64)) {
            let point = Point { scale, ..Point::new("a", Direction::In, PointKind::F64) };
            let points = Arc::new(Points::new(vec![point], 8, 0));
            let giver = Giver(values.to_vec());
            let mut link = Link::start(&points, 0, Freshness::default(), giver).unwrap();
            let mut inputs = crate::process::image::Inputs::unread(&points);
            let began = std::time::Instant::now();
            while inputs.quality[0] == Quality::Waiting {
                assert!(began.elapsed() < Duration::from_secs(20), "no value has arrived");
                link.read(MonotonicClock.now(), &mut inputs).unwrap();
                std::thread::yield_now();
            }
            let raw = f64::from_le_bytes(inputs.bytes[..].try_into().unwrap());
            assert_eq!((inputs.quality[0], raw), expected, "{values:?}");
        }
        check(1.0, &[1.5], (Quality::Good, 1.5));
        check(1.0, &[1.5, f64::NAN], (Quality::Sensor, 1.5));
        check(1.0, &[1.5, f64::NEG_INFINITY], (Quality::Sensor, 1.5));
        check(1.0, &[f64::INFINITY, 2.5], (Quality::Good, 2.5));
        // The value is finite on the wire, but it overflows in the unit of the point.
        check(1e10, &[2.0, 1e300], (Quality::Sensor, 2.0));
    }

    #[test]
    fn outputs_asked_for_together_are_of_one_cycle() {
        let point = |name, byte| Point { byte, ..Point::new(name, Direction::Out, PointKind::U8) };
        let points = Arc::new(Points::new(vec![point("a", 0), point("b", 1)], 0, 2));
        let (news_writer, heard) = std::sync::mpsc::channel();
        let twins = Twins { outputs: [PointId(0), PointId(1)], news_writer };
        let mut link = Link::start(&points, 0, Freshness::default(), twins).unwrap();
        let verdict = (0u32..).find_map(|n| {
            link.write(Duration::ZERO, &[n as u8; 2]).unwrap();
            heard.try_recv().ok()
        });
        assert_eq!(verdict, Some(true));
    }

    /// A driver that reports the wanted value of its output each time it is woken.
    struct Echo(std::sync::mpsc::Sender<Option<Raw>>);

    impl Serve for Echo {
        async fn serve(&mut self, side: &mut Side) {
            loop {
                side.changed().await;
                self.0.send(side.wanted(PointId(0))).unwrap();
            }
        }
    }

    #[test]
    fn a_stall_and_its_end_wake_the_device() {
        let safe = Safe::Value(crate::process::image::Value::Int(9));
        let point = Point { safe, ..Point::new("p", Direction::Out, PointKind::U8) };
        let points = Arc::new(Points::new(vec![point], 0, 1));
        let (news_writer, heard) = std::sync::mpsc::channel();
        let mut link = Link::start(&points, 0, Freshness::default(), Echo(news_writer)).unwrap();
        link.supervise(Duration::from_millis(50));
        // The driver may also be woken without a change, and then reports the same value again.
        let is_woken_for = |byte: u8| {
            let next = || heard.recv_timeout(Duration::from_secs(20)).expect("the driver is woken");
            while next() != Some([byte, 0, 0, 0, 0, 0, 0, 0]) {}
            while heard.recv_timeout(Duration::from_millis(100)).is_ok() {}
        };
        link.write(MonotonicClock.now(), &[7]).unwrap();
        is_woken_for(9);
        let late = MonotonicClock.now() - Duration::from_secs(1);
        link.write(late, &[7]).unwrap();
        assert_eq!(
            link.shared.watchdog.beats(),
            1,
            "a cycle that began before the stall adds no beat"
        );
        // The scan wants the same value as before the stall.
        link.write(MonotonicClock.now(), &[7]).unwrap();
        is_woken_for(7);
    }
}
