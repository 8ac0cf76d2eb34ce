//! The driver for files whose text is a number: sysfs, iio, hwmon, PWM, any file that a program
//! writes.
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
//! Inputs are read once in a period, each by a thread that may wait. A value is published as soon
//! as its read has ended. A sensor that hangs costs only its own point, whose value ages.
//!
//! Outputs are written when they change, and confirmed when the kernel has taken them. A failed
//! write is tried again after a period, or at once if another value is wanted. In the same rhythm
//! the driver checks that the file is still the one that was written. The file of a device that has
//! come back has the kernel's default, so a new file is written again. Other writers of the same
//! file are not noticed.
//!
//! The number in the file is raw; scale and offset belong to the point. It is the first line of the
//! file: see `file/number.rs`. One name in a path may have one `*`, because hwmon numbers its chips
//! anew at each start: `/sys/devices/platform/coretemp.0/hwmon/hwmon*/temp1_input`. The driver
//! looks for the match each time it opens the file. Two files that match are an error. This driver
//! does not use file events.

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

use super::export::Exports;
use super::link::{Link, Serve, Side};
use super::location::word;
use super::{Fault, Location, OpenError, Part, Plan, Settings, duration};
use crate::logged::OnChange;
use crate::process::image::{Direction, Freshness, Point, PointId, Points, Quality, Raw};

/// The range of `period`. A shorter period leaves the threads no time for anything else; a longer
/// one is no measurement.
const PERIOD: std::ops::RangeInclusive<Duration> =
    Duration::from_millis(1)..=Duration::from_secs(3600);

/// The limits of the time between two checks of the outputs, which is otherwise the period. Below
/// the first, a failed write would be tried too often. Above the second, a device that has come
/// back would wait too long for its outputs, if inputs are read rarely.
const LOOKED_AFTER: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(1)];

/// The shortest age at which a value is stale. On a busy machine a thread may get its CPU this
/// late.
const STALE: Duration = Duration::from_millis(100);

/// A call that takes longer than this hangs. A sensor on a slow bus may need a second.
const HANGS: Duration = Duration::from_secs(2);

/// A `[[device]]` of this driver.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The time between two reads of a file.
    #[serde(default = "second", with = "duration")]
    pub period: Duration,
    /// The key `at` of each point, by the point's name.
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
    /// The absolute path of the file. It may have one `*`.
    pub path: PathBuf,
}

/// All files of one device.
#[derive(Debug)]
struct Files {
    period: Duration,
    inputs: Vec<Spot>,
    outputs: Vec<Spot>,
    /// The calls that are under way: at most one for each spot.
    work: JoinSet<io::Result<Outcome>>,
    /// Whether a spot has changed since the status was set last.
    is_news: bool,
}

/// A point and its file.
#[derive(Debug)]
struct Spot {
    id: PointId,
    point: Point,
    path: Arc<Path>,
    /// The call that is under way, if there is one. `begun_at` is when it began.
    work: Option<Id>,
    begun_at: Instant,
    /// Why the last call failed, if it did.
    trouble: OnChange<Option<String>>,
    /// The value that was tried last since the last check of the output, whether or not it was
    /// written.
    tried: Option<Raw>,
    /// The identity of the file into which the confirmed value was written; `None` if no value is
    /// confirmed.
    written: Option<Identity>,
}

/// The result of a call that has ended.
#[derive(Debug)]
enum Outcome {
    /// The value that was read.
    Read(Raw),
    /// The value that was written, and the file that took it.
    Written(Raw, Identity),
    /// The file that is there now.
    Seen(Identity),
}

impl Settings for Config {
    fn plan(&self, points: &Arc<Points>, device: usize, _: &Exports) -> Result<Plan, OpenError> {
        let files = Files::plan(self, points, device)?;
        let points = Arc::clone(points);
        Ok(Plan::new(move || Link::start(&points, device, files.freshness(), files)))
    }

    /// The files of the points. An input may read the file that an output writes, so the two are in
    /// different places.
    fn locations(&self, points: &Points, device: usize) -> Vec<(PointId, Location)> {
        let ours = points.iter().filter(|(_, point)| point.device == device);
        let place = |(id, point): (PointId, &Point)| {
            let words = self.at.get(&point.name)?.path.display().to_string();
            let within = format!("{words} {}", word(point.direction));
            Some((id, Location { within, cells: 0..1, words }))
        };
        ours.filter_map(place).collect()
    }
}

impl Files {
    /// Finds the file of each point of device number `device`.
    ///
    /// # Errors
    /// When a point has no file, its path cannot be used, or the period is out of range.
    fn plan(config: &Config, points: &Points, device: usize) -> Result<Self, OpenError> {
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

    /// How long a value is trusted: three periods until it is stale, ten until it is bad.
    fn freshness(&self) -> Freshness {
        let bad = (10 * self.period).max(Duration::from_secs(2));
        let stale = (3 * self.period).max(STALE);
        Freshness { stale_after: Some(stale), bad_after: Some(bad) }
    }

    /// Marks the spots whose call has been under way for too long. No thread can end such a call.
    fn find_hanging(&mut self) {
        for spot in self.inputs.iter_mut().chain(&mut self.outputs) {
            if spot.work.is_some() && spot.begun_at.elapsed() >= HANGS {
                let trouble = Some(format!("{}: does not return", spot.path.display()));
                self.is_news |= spot.trouble.changes_to(trouble);
            }
        }
    }

    /// Starts to read the inputs whose last read has ended.
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
            // From now on the file may have this value.
            side.doubt(spot.id);
            let kind = spot.point.kind;
            spot.start(&mut self.work, move |path| {
                let file = number::write(path, kind, wanted)?;
                Ok(Outcome::Written(wanted, file))
            });
        }
    }

    /// Lets failed outputs be tried again, and starts to look for the files of the written ones.
    fn look_after(&mut self) {
        self.find_hanging();
        for spot in &mut self.outputs {
            spot.tried = None;
            if spot.work.is_none() && spot.written.is_some() {
                spot.start(&mut self.work, |path| number::look(path).map(Outcome::Seen));
            }
        }
    }

    /// Takes the result of a call that has ended or panicked.
    fn take(&mut self, ended: Result<(Id, io::Result<Outcome>), JoinError>, side: &mut Side) {
        let (work, outcome) =
            ended.unwrap_or_else(|panic| (panic.id(), Err(io::Error::other(panic))));
        let mut spots = self.inputs.iter_mut().chain(&mut self.outputs);
        let Some(spot) = spots.find(|spot| spot.work == Some(work)) else { return };
        spot.work = None;
        let why = |error: &io::Error| format!("{}: {error}", spot.path.display());
        let trouble = outcome.as_ref().err().map(why);
        self.is_news |= spot.trouble.changes_to(trouble);
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

    /// Publishes the values to the scan and, if they have changed, the parts to the status.
    fn publish(&mut self, side: &mut Side) {
        let spots = || self.inputs.iter().chain(&self.outputs);
        // A missing file of an output is noticed only at the next check, so inputs decide if there
        // are any.
        let asked = if self.inputs.is_empty() { &self.outputs } else { &self.inputs };
        let is_dead = asked.iter().all(|spot| spot.trouble.last().is_some());
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
        Self {
            id,
            point,
            path,
            work: None,
            begun_at,
            trouble: OnChange::default(),
            tried: None,
            written: None,
        }
    }

    /// Starts a call on a thread that may wait.
    fn start(
        &mut self,
        all: &mut JoinSet<io::Result<Outcome>>,
        work: impl FnOnce(&Path) -> io::Result<Outcome> + Send + 'static,
    ) {
        let path = Arc::clone(&self.path);
        self.work = Some(all.spawn_blocking(move || work(&path)).id());
        self.begun_at = Instant::now();
    }

    /// The spot as the status shows it.
    fn part(&self) -> Part {
        Part {
            name: self.point.name.clone(),
            ok: self.trouble.last().is_none(),
            state: self.trouble.last().clone().unwrap_or_else(|| self.path.display().to_string()),
            facts: Vec::new(),
        }
    }
}

/// The quality of an input whose read has failed with this error.
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
    use crate::process::image::Kind;

    /// A driver that reports twice for each write: whether the file counts as having the value
    /// before, and then whether it counts as having its own value.
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

    /// During a write, the file may have the new value already. When a stall began then, the value
    /// before, which was the safe one, still counted as confirmed.
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
