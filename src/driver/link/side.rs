//! The device's side of a link, on the device's thread. Each driver works with it.
//!
//! A [`Side`] collects what comes from the wire and publishes all of it to the scan at once. It
//! also says which outputs the scan wants, or which are safe while the scan stands. It knows no
//! wire: the drivers do. The scan's side is in `link.rs`, the detection of a stall in
//! `watchdog.rs`.

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
use crate::process::image::{Point, PointId, Points, Quality, Raw, Safe};

/// The time between two looks whether outputs differ, where the bell does not work.
const WITHOUT_BELL: Duration = Duration::from_millis(10);

/// The device's side of a link.
#[derive(Debug)]
pub(in crate::driver) struct Side {
    points: Arc<Points>,
    /// The index of each input in the list of inputs, and of each output in the list of outputs.
    places: HashMap<PointId, usize>,
    outputs: Vec<PointId>,
    /// The safe value of each output while the scan stands, and how long the output keeps its value
    /// first. `None` for an output that holds. In the order of `outputs`.
    safe: Vec<Option<(Raw, Duration)>>,
    /// What is known by now, before it is published.
    news: News,
    /// What was published. The scan reads it.
    told: Writer<News>,
    /// The outputs that are wanted. The scan writes them.
    wishes: Reader<Wants>,
    bell: Bell,
    shared: Arc<Shared>,
    /// What the status shows. This thread writes it, the daemon reads.
    monitor: Monitor,
}

/// The thread's end of the pipe that wakes it. The runtime can register it only when it is used
/// first.
#[derive(Debug)]
enum Bell {
    /// Not registered yet.
    Unused(OwnedFd),
    /// Registered with the runtime.
    Used(pipe::Receiver),
    /// The runtime refused to register it.
    Mute,
}

impl Side {
    pub(super) fn new(
        points: &Arc<Points>,
        [inputs, outputs]: [Vec<PointId>; 2],
        news: News,
        (told, wishes, bell): (Writer<News>, Reader<Wants>, OwnedFd),
        shared: &Arc<Shared>,
        monitor: &Monitor,
    ) -> Self {
        let numbered = |ids: &[PointId]| ids.iter().copied().zip(0..).collect::<Vec<_>>();
        let safe = |id: &PointId| match points[*id].safe {
            Safe::Hold => None,
            Safe::Value(safe) => {
                let raw = points[*id].raw_of(safe);
                let raw = raw.expect("the configuration has tried every safe value");
                Some((raw, points[*id].hold_for))
            }
        };
        Self {
            safe: outputs.iter().map(safe).collect(),
            points: Arc::clone(points),
            places: numbered(&inputs).into_iter().chain(numbered(&outputs)).collect(),
            outputs,
            news,
            told,
            wishes,
            bell: Bell::Unused(bell),
            shared: Arc::clone(shared),
            monitor: monitor.clone(),
        }
    }

    /// The configured point of this id, which belongs to this device.
    pub(in crate::driver) fn point(&self, id: PointId) -> &Point {
        &self.points[id]
    }

    /// What is known about an input, to be changed.
    fn reading(&mut self, input: PointId) -> &mut Reading {
        &mut self.news.inputs[self.places[&input]]
    }

    /// Notes the value of an input that has just been read and is good.
    pub(in crate::driver) fn put(&mut self, input: PointId, raw: Raw) {
        self.put_as(input, raw, Quality::Good);
    }

    /// Notes the value of an input with its quality, for a value that can be used but is not fully
    /// trusted. A float that is not finite is no measurement, whatever the wire says. The input is
    /// then bad and keeps its value.
    pub(in crate::driver) fn put_as(&mut self, input: PointId, raw: Raw, quality: Quality) {
        if !self.points[input].is_finite(&raw) {
            return self.spoil(input, Quality::Sensor);
        }
        let good_at = Some(MonotonicClock.now());
        *self.reading(input) = Reading { raw, quality, good_at, ends_at: None };
    }

    /// Notes a good value of an input that becomes worthless at `end`, an instant of
    /// [`MonotonicClock`]. The scan checks the time itself, so this holds even if this thread
    /// hangs.
    pub(in crate::driver) fn put_until(&mut self, input: PointId, raw: Raw, end: Duration) {
        if self.points[input].is_finite(&raw) {
            self.put(input, raw);
            self.reading(input).ends_at = Some(end);
        } else {
            self.spoil(input, Quality::Sensor);
        }
    }

    /// Notes that an input is this bad. Its value stays as it was. A driver need not report mere
    /// silence, because values age.
    pub(in crate::driver) fn spoil(&mut self, input: PointId, quality: Quality) {
        self.reading(input).quality = quality;
    }

    /// Notes that the device has taken this value of an output.
    pub(in crate::driver) fn confirm(&mut self, output: PointId, raw: Raw) {
        self.news.confirmed[self.places[&output]] = Some(raw);
    }

    /// Whether the device is known to have this value of an output.
    pub(in crate::driver) fn has(&self, output: PointId, raw: Raw) -> bool {
        self.news.confirmed[self.places[&output]] == Some(raw)
    }

    /// Notes that it is not known any more which value of an output the device has.
    pub(in crate::driver) fn doubt(&mut self, output: PointId) {
        self.news.confirmed[self.places[&output]] = None;
    }

    /// Notes how the device as a whole fails; `None` if it does not.
    pub(in crate::driver) fn fault(&mut self, fault: Option<Fault>) {
        self.news.fault = fault;
    }

    /// Publishes everything that was noted to the scan, which sees all of it in the same cycle.
    pub(in crate::driver) fn publish(&mut self) {
        let Self { news, told, wishes, shared, safe, .. } = self;
        // The turn is read first. What is wanted below is then of that turn, or newer.
        let turn = shared.turn.load(Ordering::Acquire);
        // Holds count as over here: an output that still keeps its value is not safe yet.
        let stall = shared.watchdog.tripped_for().map(|_| Duration::MAX);
        let wants =
            wishes.read().0.iter().zip(&*safe).map(|(raw, safe)| in_stall(*raw, *safe, stall));
        let missing = wants.zip(&news.confirmed).filter(|(want, has)| **has != Some(*want));
        shared.watchdog.note_missing(missing.count());
        shared.heard.store(turn, Ordering::Release);
        told.publish(|old| old.clone_from(news));
    }

    /// The value that an output is to have: what the scan wants, or the safe value while the scan
    /// stands. `None` before the first cycle, when nothing is to be written.
    pub(in crate::driver) fn wanted(&mut self, output: PointId) -> Option<Raw> {
        let (place, stall) = (self.places[&output], self.shared.watchdog.tripped_for());
        (self.beats() > 0).then(|| in_stall(self.wishes.read().0[place], self.safe[place], stall))
    }

    /// The values that several outputs are to have, in the order of `outputs` and all of one cycle.
    /// Must not be called before the first cycle.
    pub(in crate::driver) fn wanted_together(
        &mut self,
        outputs: impl Iterator<Item = PointId>,
    ) -> Vec<Raw> {
        let stall = self.shared.watchdog.tripped_for();
        let (wants, places, safe) = (self.wishes.read(), &self.places, &self.safe);
        let wanted = |place: usize| in_stall(wants.0[place], safe[place], stall);
        outputs.map(|output| wanted(places[&output])).collect()
    }

    /// How often the scan has written.
    pub(in crate::driver) fn beats(&self) -> u64 {
        self.shared.watchdog.beats()
    }

    /// Whether the scan stands.
    pub(in crate::driver) fn is_stalled(&self) -> bool {
        self.shared.watchdog.is_tripped()
    }

    /// How long each output keeps its value while the scan stands, for the outputs with a safe
    /// value.
    pub(super) fn holds(&self) -> Vec<Duration> {
        self.safe.iter().flatten().map(|(_, hold)| *hold).collect()
    }

    /// The time until the scan reads its inputs again, and the time from one such read to the next;
    /// `None` while these are not known.
    pub(in crate::driver) fn next_cycle(&self) -> Option<(Duration, Duration)> {
        self.shared.watchdog.next_cycle()
    }

    /// Waits until other outputs are wanted than when this function returned last. It may return
    /// without a change. The future may be dropped at any time.
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
        // One read takes many wake-ups at once; they mean the same as one.
        let mut rings = [0; 256];
        if bell.readable().await.is_err() || matches!(bell.try_read(&mut rings), Ok(0)) {
            // The link is gone, and the thread that drops it ends this task soon.
            tokio::time::sleep(WITHOUT_BELL).await;
        }
    }

    /// Sets the device's parts that the status shows.
    pub(in crate::driver) fn show(&self, parts: Vec<Part>) {
        self.monitor.set(parts);
    }

    /// Notes that nothing is known about any point any more, and publishes that.
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

/// The value that an output is to have. The scan wanted `raw` last, `safe` is the safe value with
/// the hold before it, and the scan has stood for `stall`. The safe value outranks forces too,
/// because a scan that stands no longer shows what an operator wants.
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
    use crate::process::image::{Direction, Freshness, Kind};

    /// A driver that compares two outputs which the scan always changes together.
    struct Twins {
        outputs: [PointId; 2],
        told: std::sync::mpsc::Sender<bool>,
    }

    impl Serve for Twins {
        async fn serve(&mut self, side: &mut Side) {
            side.changed().await;
            let are_equal = (0..200_000).all(|_| {
                let both = side.wanted_together(self.outputs.into_iter());
                both[0] == both[1]
            });
            self.told.send(are_equal).unwrap();
            std::future::pending::<()>().await;
        }
    }

    /// A driver that puts these values of one input, one after the other, and publishes each.
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
            let point = Point { scale, ..Point::new("a", Direction::In, Kind::F64) };
            let points = Arc::new(Points::new(vec![point], 8, 0));
            let giver = Giver(values.to_vec());
            let mut link = Link::start(&points, 0, Freshness::default(), giver).unwrap();
            let mut inputs = crate::process::image::Inputs::unread(&points);
            let began = std::time::Instant::now();
            while inputs.quality[0] == Quality::Waiting {
                assert!(began.elapsed() < Duration::from_secs(20), "nothing has come");
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
        // The value is a number on the wire, but not in the unit of the point.
        check(1e10, &[2.0, 1e300], (Quality::Sensor, 2.0));
    }

    #[test]
    fn outputs_asked_for_together_are_of_one_cycle() {
        let point = |name, byte| Point { byte, ..Point::new(name, Direction::Out, Kind::U8) };
        let points = Arc::new(Points::new(vec![point("a", 0), point("b", 1)], 0, 2));
        let (told, heard) = std::sync::mpsc::channel();
        let twins = Twins { outputs: [PointId(0), PointId(1)], told };
        let mut link = Link::start(&points, 0, Freshness::default(), twins).unwrap();
        let verdict = (0u32..).find_map(|n| {
            link.write(Duration::ZERO, &[n as u8; 2]).unwrap();
            heard.try_recv().ok()
        });
        assert_eq!(verdict, Some(true));
    }

    /// A driver that sends the value which its output is to have, whenever it is woken.
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
        let point = Point { safe, ..Point::new("p", Direction::Out, Kind::U8) };
        let points = Arc::new(Points::new(vec![point], 0, 1));
        let (told, heard) = std::sync::mpsc::channel();
        let mut link = Link::start(&points, 0, Freshness::default(), Echo(told)).unwrap();
        link.supervise(Duration::from_millis(50));
        // The driver may be woken without a change; it then sends nothing more.
        let is_woken_for = |byte: u8| {
            let next = || heard.recv_timeout(Duration::from_secs(20)).expect("it is woken");
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
            "a cycle that was overtaken counts for nothing"
        );
        // The scan wants the value that it wanted before.
        link.write(MonotonicClock.now(), &[7]).unwrap();
        is_woken_for(7);
    }
}
