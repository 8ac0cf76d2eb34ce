//! Files whose text is a number: sysfs, iio, hwmon, PWM, anything that a program writes.
//!
//! ```toml
//! [[device]]
//! name = "board"
//! driver = "file"
//! period = "500ms"
//! [[device.point]]
//! name = "board.temperature"
//! direction = "in"
//! type = "i32"
//! scale = 0.001
//! unit = "°C"
//! at = { path = "/sys/class/thermal/thermal_zone0/temp" }
//! ```
//! Inputs are read once in a period, each by a thread that may wait, and are there as soon as that
//! has ended: a sensor that hangs costs only its own point, whose value ages. Outputs are written
//! when they change, and confirmed when the kernel has taken them. A write that fails is tried
//! again after a period, and at once if something else is wanted. As often it is looked whether the
//! file is still the one that was written: the file of a device that has come back has the kernel's
//! default, so another file is written again. Whoever writes into the same file stays unnoticed.
//!
//! The number in the file is the raw one; scale and offset are the point's. It is the first line:
//! see `file/number.rs`. One name in a path may have one `*`, because hwmon numbers its chips anew
//! at each start: `/sys/devices/platform/coretemp.0/hwmon/hwmon*/temp1_input`. It stands for
//! whatever is there whenever the file is opened; two files that match are a mistake. This watches
//! no files.

mod number;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use number::Identity;
use serde::Deserialize;
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::{MissedTickBehavior, interval};

use super::link::{Serve, Side};
use super::survey::word;
use super::{Fault, Location, OpenError, Part, duration};
use crate::image::{Direction, Freshness, Point, PointId, Points, Quality, Raw};

/// Quicker than this the threads would do nothing else; slower is no measurement.
const PERIOD: std::ops::RangeInclusive<Duration> =
    Duration::from_millis(1)..=Duration::from_secs(3600);

/// Outputs are looked after once in a period, within these limits: what fails is not worth more
/// attempts, and what has come back is not to stand still for longer, however rarely inputs are
/// read.
const LOOKED_AFTER: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(1)];

/// No value is stale before: on a machine that does other things, a thread may get its CPU so late.
const STALE: Duration = Duration::from_millis(100);

/// What takes longer than this hangs: a sensor on a slow bus may need a second.
const HANGS: Duration = Duration::from_secs(2);

/// A `[[device]]` of this driver.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Between two readings of a file.
    #[serde(default = "second", with = "duration")]
    pub period: Duration,
    /// Where each point is.
    #[serde(default)]
    pub at: BTreeMap<String, At>,
}

fn second() -> Duration {
    Duration::from_secs(1)
}

/// The key `at` of a point.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct At {
    /// The file, absolute, perhaps with one `*`.
    pub path: PathBuf,
}

/// All files of one device.
#[derive(Debug)]
pub(super) struct Files {
    period: Duration,
    inputs: Vec<Spot>,
    outputs: Vec<Spot>,
    /// What is under way: one piece of work for a spot at most.
    work: JoinSet<io::Result<Outcome>>,
    /// Whether the status has to be brought up to date.
    is_news: bool,
}

/// A point and its file.
#[derive(Debug)]
struct Spot {
    id: PointId,
    point: Point,
    path: Arc<Path>,
    /// What is under way, and since when.
    work: Option<Id>,
    begun_at: Instant,
    /// Why it failed last.
    trouble: Option<String>,
    /// What was written last, or was not to be written, since the output was looked after.
    tried: Option<Raw>,
    /// The file that has what is confirmed.
    written: Option<Identity>,
}

/// What has come of a piece of work.
#[derive(Debug)]
enum Outcome {
    Read(Raw),
    Written(Raw, Identity),
    /// This file is there.
    Seen(Identity),
}

/// The files of the points of device number `device`. One that reads what another writes is as it
/// should be.
pub(super) fn locations(
    config: &Config,
    points: &Points,
    device: usize,
) -> Vec<(PointId, Location)> {
    let ours = points.iter().filter(|(_, point)| point.device == device);
    let place = |(id, point): (PointId, &Point)| {
        let words = config.at.get(&point.name)?.path.display().to_string();
        let within = format!("{words} {}", word(point.direction));
        Some((id, Location { within, cells: 0..1, words }))
    };
    ours.filter_map(place).collect()
}

impl Files {
    /// Finds the file of each point of device number `device`.
    ///
    /// # Errors
    /// When a point has none, or one is of no point.
    pub(super) fn plan(config: &Config, points: &Points, device: usize) -> Result<Self, OpenError> {
        if !PERIOD.contains(&config.period) {
            let found = format!("{:?}", config.period);
            return Err(OpenError::new("period", found, "from 1ms to 1h"));
        }
        let (mut inputs, mut outputs) = (Vec::new(), Vec::new());
        for (id, point) in points.iter().filter(|(_, point)| point.device == device) {
            let wanted = "{ path = \"/sys/...\" }";
            let at = config.at.get(&point.name);
            let at = at.ok_or_else(|| OpenError::at(&point.name, "", "nothing", wanted))?;
            if !at.path.is_absolute() {
                let found = format!("{}", at.path.display());
                return Err(OpenError::at(&point.name, "path", found, "an absolute path"));
            }
            if at.path.to_string_lossy().matches('*').count() > 1 {
                let found = format!("{}", at.path.display());
                return Err(OpenError::at(&point.name, "path", found, "one `*` at most"));
            }
            let spots = match point.direction {
                Direction::In => &mut inputs,
                Direction::Out => &mut outputs,
            };
            spots.push(Spot::new(id, point, &at.path));
        }
        Ok(Self { period: config.period, inputs, outputs, work: JoinSet::new(), is_news: true })
    }

    /// How long a value is believed: three readings, and ten until it is bad.
    pub(super) fn freshness(&self) -> Freshness {
        let bad = (10 * self.period).max(Duration::from_secs(2));
        let stale = (3 * self.period).max(STALE);
        Freshness { stale_after: Some(stale), bad_after: Some(bad) }
    }

    /// Makes known what has been under way for too long. Nobody can end it from outside.
    fn find_hanging(&mut self) {
        for spot in self.inputs.iter_mut().chain(&mut self.outputs) {
            if spot.work.is_some() && spot.begun_at.elapsed() >= HANGS {
                let trouble = Some(format!("{}: does not return", spot.path.display()));
                self.is_news |= spot.trouble != trouble;
                spot.trouble = trouble;
            }
        }
    }

    /// Starts to read the inputs.
    fn read(&mut self) {
        self.find_hanging();
        for spot in self.inputs.iter_mut().filter(|spot| spot.work.is_none()) {
            let kind = spot.point.kind;
            spot.start(&mut self.work, move |path| number::read(path, kind).map(Outcome::Read));
        }
    }

    /// Starts to write the outputs that the files do not have.
    fn write(&mut self, side: &mut Side) {
        for spot in self.outputs.iter_mut().filter(|spot| spot.work.is_none()) {
            let Some(wanted) = side.wanted(spot.id) else { continue };
            if side.has(spot.id, wanted) || spot.tried == Some(wanted) {
                continue;
            }
            spot.tried = Some(wanted);
            // From now on it may have this.
            side.doubt(spot.id);
            let kind = spot.point.kind;
            spot.start(&mut self.work, move |path| {
                let file = number::write(path, kind, wanted)?;
                Ok(Outcome::Written(wanted, file))
            });
        }
    }

    /// Lets outputs that failed be tried again, and starts to look for the files of the others.
    fn look_after(&mut self) {
        self.find_hanging();
        for spot in &mut self.outputs {
            spot.tried = None;
            if spot.work.is_none() && spot.written.is_some() {
                spot.start(&mut self.work, |path| number::look(path).map(Outcome::Seen));
            }
        }
    }

    /// Takes what has come of work that has ended, or panicked.
    fn take(&mut self, ended: Result<(Id, io::Result<Outcome>), JoinError>, side: &mut Side) {
        let (work, outcome) =
            ended.unwrap_or_else(|panic| (panic.id(), Err(io::Error::other(panic))));
        let mut spots = self.inputs.iter_mut().chain(&mut self.outputs);
        let Some(spot) = spots.find(|spot| spot.work == Some(work)) else { return };
        spot.work = None;
        let why = |error: &io::Error| format!("{}: {error}", spot.path.display());
        let trouble = outcome.as_ref().err().map(why);
        self.is_news |= spot.trouble != trouble;
        spot.trouble = trouble;
        match outcome {
            Ok(Outcome::Read(raw)) => side.put(spot.id, raw),
            Ok(Outcome::Written(raw, file)) => {
                spot.written = Some(file);
                side.confirm(spot.id, raw);
            }
            Ok(Outcome::Seen(file)) if spot.written == Some(file) => {}
            Err(error) if spot.point.direction == Direction::In => {
                side.spoil(spot.id, quality(&error));
            }
            Ok(Outcome::Seen(_)) | Err(_) => {
                spot.written = None;
                side.doubt(spot.id);
            }
        }
    }

    /// Makes all of it known.
    fn publish(&mut self, side: &mut Side) {
        let spots = || self.inputs.iter().chain(&self.outputs);
        // Outputs find out only when they are looked after.
        let asked = if self.inputs.is_empty() { &self.outputs } else { &self.inputs };
        let is_dead = asked.iter().all(|spot| spot.trouble.is_some());
        side.fault((is_dead && !asked.is_empty()).then_some(Fault::Disconnected));
        side.publish();
        if self.is_news {
            side.show(spots().map(Spot::part).collect());
            self.is_news = false;
        }
    }
}

impl Serve for Files {
    async fn serve(&mut self, side: &mut Side) {
        let [least, most] = LOOKED_AFTER;
        let mut readings = interval(self.period);
        let mut looks = interval(self.period.clamp(least, most));
        readings.set_missed_tick_behavior(MissedTickBehavior::Delay);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            self.write(side);
            self.publish(side);
            tokio::select! {
                _ = readings.tick(), if !self.inputs.is_empty() => self.read(),
                _ = looks.tick(), if !self.outputs.is_empty() => self.look_after(),
                Some(ended) = self.work.join_next_with_id() => {
                    self.take(ended, side);
                    while let Some(ended) = self.work.try_join_next_with_id() {
                        self.take(ended, side);
                    }
                }
                () = side.changed() => {}
            }
        }
    }
}

impl Spot {
    fn new(id: PointId, point: &Point, path: &Path) -> Self {
        let (point, path) = (point.clone(), Arc::from(path));
        let begun_at = Instant::now();
        Self { id, point, path, work: None, begun_at, trouble: None, tried: None, written: None }
    }

    /// Lets a thread that may wait do something with the file.
    fn start(
        &mut self,
        all: &mut JoinSet<io::Result<Outcome>>,
        work: impl FnOnce(&Path) -> io::Result<Outcome> + Send + 'static,
    ) {
        let path = Arc::clone(&self.path);
        self.work = Some(all.spawn_blocking(move || work(&path)).id());
        self.begun_at = Instant::now();
    }

    /// What the status shows of it.
    fn part(&self) -> Part {
        Part {
            name: self.point.name.clone(),
            ok: self.trouble.is_none(),
            state: self.trouble.clone().unwrap_or_else(|| self.path.display().to_string()),
            facts: Vec::new(),
        }
    }
}

/// What a failure to read makes of an input.
fn quality(error: &io::Error) -> Quality {
    match error.kind() {
        io::ErrorKind::InvalidData => Quality::Sensor,
        io::ErrorKind::NotFound => Quality::NoComm,
        io::ErrorKind::InvalidFilename => Quality::Config,
        _ => Quality::Device,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Sender, channel};

    use super::*;
    use crate::clock::{Clock, MonotonicClock};
    use crate::driver::Driver;
    use crate::driver::link::Link;
    use crate::image::Kind;

    /// Says of each write whether its file counts as having the value before, and then its own.
    struct Teller {
        files: Files,
        before: Raw,
        told: Sender<[bool; 2]>,
    }

    impl Serve for Teller {
        async fn serve(&mut self, side: &mut Side) {
            loop {
                side.changed().await;
                self.files.write(side);
                let Some(wanted) = side.wanted(PointId(0)) else { continue };
                let had = side.has(PointId(0), self.before);
                let Some(ended) = self.files.work.join_next_with_id().await else { continue };
                self.files.take(ended, side);
                self.before = wanted;
                self.told.send([had, side.has(PointId(0), wanted)]).unwrap();
            }
        }
    }

    /// With a write under way whose file may have it already, a stall began in which the value
    /// before, the safe one, counted as confirmed.
    #[test]
    fn what_is_being_written_is_in_doubt() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("fan");
        std::fs::write(&path, "0").unwrap();
        let point = Point::new("fan", Direction::Out, Kind::U8);
        let points = Arc::new(Points::new(vec![point.clone()], 0, 1));
        let files = Files {
            period: Duration::from_secs(1),
            inputs: Vec::new(),
            outputs: vec![Spot::new(PointId(0), &point, &path)],
            work: JoinSet::new(),
            is_news: true,
        };
        let (told, heard) = channel();
        let teller = Teller { files, before: [0; 8], told };
        let mut link = Link::start(&points, 0, Freshness::default(), teller).unwrap();
        for number in 1..4 {
            link.write(MonotonicClock.now(), &[number]).unwrap();
            let told = heard.recv_timeout(Duration::from_secs(20)).expect("it is written");
            assert_eq!(told, [false, true], "{number}");
        }
    }

    #[test]
    fn values_are_believed_for_a_while() {
        fn check(period_ms: u64, stale_ms: u64, bad_ms: u64) {
            let config =
                Config { period: Duration::from_millis(period_ms), at: BTreeMap::default() };
            let points = Points::new(Vec::new(), 0, 0);
            let known = Files::plan(&config, &points, 0).unwrap().freshness();
            let limit = |ms| Some(Duration::from_millis(ms));
            assert_eq!((known.stale_after, known.bad_after), (limit(stale_ms), limit(bad_ms)));
        }
        check(1, 100, 2000);
        check(33, 100, 2000);
        check(34, 102, 2000);
        check(1000, 3000, 10_000);
    }
}
