//! The device's side of a link: what whoever serves a wire works with.
//!
//! It collects what comes from the wire and makes all of it visible to the scan at once, and it
//! knows what the scan wants. It knows no wire.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::net::unix::pipe;

use super::{News, Reading, Shared, Wants};
use crate::clock::{Clock, MonotonicClock};
use crate::driver::{Fault, Monitor, Part};
use crate::image::{Point, PointId, Points, Quality, Raw, Safe};
use crate::latest::{Reader, Writer};

/// How often it looks whether outputs differ where it cannot hear of it.
const WITHOUT_BELL: Duration = Duration::from_millis(10);

/// The device's side of a link.
#[derive(Debug)]
pub(in crate::driver) struct Side {
    points: Arc<Points>,
    /// The place of each input and of each output in their lists.
    places: HashMap<PointId, usize>,
    outputs: Vec<PointId>,
    /// What each output is to be while the scan stands, and how long it keeps its value first; in
    /// the order of `outputs`.
    safe: Vec<Option<(Raw, Duration)>>,
    news: News,
    told: Writer<News>,
    wishes: Reader<Wants>,
    bell: Bell,
    shared: Arc<Shared>,
    monitor: Monitor,
}

/// The end of the pipe that rings; a runtime knows it only from the first use on.
#[derive(Debug)]
enum Bell {
    Unused(OwnedFd),
    Used(pipe::Receiver),
    /// The runtime would not have it.
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

    /// A point of this device.
    pub(in crate::driver) fn point(&self, id: PointId) -> &Point {
        &self.points[id]
    }

    fn reading(&mut self, input: PointId) -> &mut Reading {
        &mut self.news.inputs[self.places[&input]]
    }

    /// An input has just been read, and is good.
    pub(in crate::driver) fn put(&mut self, input: PointId, raw: Raw) {
        self.put_as(input, raw, Quality::Good);
    }

    /// The same for a value that can be used, though perhaps not quite. What is no finite number is
    /// no measurement, whatever the wire says of it: the input is bad and keeps its value.
    pub(in crate::driver) fn put_as(&mut self, input: PointId, raw: Raw, quality: Quality) {
        if !self.points[input].is_finite(&raw) {
            return self.spoil(input, Quality::Sensor);
        }
        let good_at = Some(MonotonicClock.now());
        *self.reading(input) = Reading { raw, quality, good_at, ends_at: None };
    }

    /// The same for a value that is worth nothing any more at an instant of
    /// [`MonotonicClock`]: the scan sees to that, whatever becomes of this thread.
    pub(in crate::driver) fn put_until(&mut self, input: PointId, raw: Raw, end: Duration) {
        if self.points[input].is_finite(&raw) {
            self.put(input, raw);
            self.reading(input).ends_at = Some(end);
        } else {
            self.spoil(input, Quality::Sensor);
        }
    }

    /// An input is known to be this bad; its value stays what it was. A mere silence need not be
    /// told: values age.
    pub(in crate::driver) fn spoil(&mut self, input: PointId, quality: Quality) {
        self.reading(input).quality = quality;
    }

    /// The device has taken this value of an output.
    pub(in crate::driver) fn confirm(&mut self, output: PointId, raw: Raw) {
        self.news.confirmed[self.places[&output]] = Some(raw);
    }

    /// Whether the device is known to have this value of an output.
    pub(in crate::driver) fn has(&self, output: PointId, raw: Raw) -> bool {
        self.news.confirmed[self.places[&output]] == Some(raw)
    }

    /// Nobody knows any more what the device has of an output.
    pub(in crate::driver) fn doubt(&mut self, output: PointId) {
        self.news.confirmed[self.places[&output]] = None;
    }

    /// How the device as a whole fails, or that it does not.
    pub(in crate::driver) fn fault(&mut self, fault: Option<Fault>) {
        self.news.fault = fault;
    }

    /// Makes everything above visible to the scan, all of it in the same cycle.
    pub(in crate::driver) fn publish(&mut self) {
        let Self { news, told, wishes, shared, safe, .. } = self;
        // In this order: what is wanted then is of that turn, or newer.
        let turn = shared.turn.load(Ordering::Acquire);
        // The end of a hold counts already: what still holds its value is not safe.
        let stall = shared.watchdog.tripped_for().map(|_| Duration::MAX);
        let wants =
            wishes.read().0.iter().zip(&*safe).map(|(raw, safe)| in_stall(*raw, *safe, stall));
        let missing = wants.zip(&news.confirmed).filter(|(want, has)| **has != Some(*want));
        shared.watchdog.note_missing(missing.count());
        shared.heard.store(turn, Ordering::Release);
        told.publish(|old| old.clone_from(news));
    }

    /// What an output is to be: what the scan wants, or its safe value while the scan stands;
    /// `None` before the first cycle, when nothing is to be written.
    pub(in crate::driver) fn wanted(&mut self, output: PointId) -> Option<Raw> {
        let (place, stall) = (self.places[&output], self.shared.watchdog.tripped_for());
        (self.beats() > 0).then(|| in_stall(self.wishes.read().0[place], self.safe[place], stall))
    }

    /// The same of several outputs, in their order and in one cycle of the scan. Not to be asked
    /// before its first.
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

    /// How long each output keeps its value while the scan stands, of those that have a safe value.
    pub(super) fn holds(&self) -> Vec<Duration> {
        self.safe.iter().flatten().map(|(_, hold)| *hold).collect()
    }

    /// How long it is until the scan reads its inputs again, and from one such time to the next;
    /// `None` while that is not known.
    pub(in crate::driver) fn next_cycle(&self) -> Option<(Duration, Duration)> {
        self.shared.watchdog.next_cycle()
    }

    /// Waits until outputs are to be something else than when this returned last. It may return
    /// once too often, and is safe to drop.
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
        // As many rings as there were are one.
        let mut rings = [0; 256];
        if bell.readable().await.is_err() || matches!(bell.try_read(&mut rings), Ok(0)) {
            // The link is gone, and whoever drops it ends this soon.
            tokio::time::sleep(WITHOUT_BELL).await;
        }
    }

    /// What the status shows of the device's parts.
    pub(in crate::driver) fn show(&self, parts: Vec<Part>) {
        self.monitor.set(parts);
    }

    /// Nothing is known any more.
    pub(super) fn lose_all(&mut self) {
        self.news.inputs.iter_mut().for_each(|reading| reading.quality = Quality::NoComm);
        self.news.confirmed.fill(None);
        self.news.fault = Some(Fault::Disconnected);
        self.publish();
        self.news.fault = None;
    }

    /// All outputs of this device.
    pub(in crate::driver) fn outputs(&self) -> &[PointId] {
        &self.outputs
    }
}

/// What an output is to be that the scan wanted to be `raw` last and that has this safe value, when
/// the scan has stood for so long. It goes before forces: what stands is nobody's will.
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
    use crate::image::{Direction, Freshness, Kind};

    /// Compares two outputs that the scan always changes together.
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

    /// Puts these values of one input, one after the other, and then tells the scan.
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
            let mut inputs = crate::image::Inputs::unread(&points);
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
        // A number on the wire, and none in the unit of the point.
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

    /// Says what its output is to be, whenever it is woken.
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
        let safe = Safe::Value(crate::image::Value::Int(9));
        let point = Point { safe, ..Point::new("p", Direction::Out, Kind::U8) };
        let points = Arc::new(Points::new(vec![point], 0, 1));
        let (told, heard) = std::sync::mpsc::channel();
        let mut link = Link::start(&points, 0, Freshness::default(), Echo(told)).unwrap();
        link.supervise(Duration::from_millis(50));
        // It may be woken once too often, and is then silent.
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
        // What is wanted is the same as before.
        link.write(MonotonicClock.now(), &[7]).unwrap();
        is_woken_for(7);
    }
}
