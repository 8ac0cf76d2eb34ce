//! The driver for files that contain a number as text. Examples are files of sysfs, iio, hwmon and
//! PWM, and any file that another program writes.
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
//! Inputs: the driver reads each file once in a period, on a thread that may wait. The driver
//! publishes a value as soon as its read has ended. If one sensor hangs, only the point of that
//! sensor is affected: its quality becomes stale and then bad.
//!
//! Outputs: the driver writes a file when the wanted value changes. The output is confirmed when
//! the kernel has accepted the write. After a failed write, the driver tries again at the next
//! check, or at once if another value is wanted. The outputs are checked once in a period, but at
//! least once a second and at most ten times a second.
//!
//! Each check also finds out whether the path still leads to the file that was written. If hardware
//! was unplugged and plugged in again, the path leads to a new file with the kernel's default
//! value. In this case the driver writes the output again. The driver does not detect writes of
//! other programs to the same file.
//!
//! If a call on a file does not return and another file takes the place of this file, the driver
//! gives up the call and opens the new file: see `file/spot.rs`.
//!
//! The number in the file is the raw value; `scale` and `offset` of the point convert it. It is the
//! first line that is not empty: see `file/number.rs`. `words.rs` reads units and words like `on`.
//!
//! One name in a path may contain one `*`, because hwmon may number its chips differently after
//! each start. Example: `/sys/devices/platform/coretemp.0/hwmon/hwmon*/temp1_input`. The driver
//! searches for the match each time it opens the file. Two matching files are an error. This driver
//! does not use file events (inotify).

mod identity;
mod number;
mod spot;

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use spot::{Calls, Ended, FileResult, Spot};
use tokio::task::{Id, JoinError};
use tokio::time::{MissedTickBehavior, interval};

use super::export::Exports;
use super::link::{Link, Serve, Side};
use super::location::word;
use super::{Fault, Location, OpenError, Plan, Settings, duration};
use crate::process::image::{Direction, Freshness, Point, PointId, Points, Quality};

/// The range of `period`. With a shorter period, the threads that read the files would have no time
/// for other work. With a longer period, an input would be too old to be useful.
const PERIOD: std::ops::RangeInclusive<Duration> =
    Duration::from_millis(1)..=Duration::from_secs(3600);

/// The minimum and the maximum time between two checks of the outputs. Within these limits, the
/// outputs are checked once in a period. With less than the minimum, failed writes would be
/// repeated too often. With more than the maximum, hardware that was plugged in again would get its
/// outputs too late.
const LOOKED_AFTER: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(1)];

/// The minimum age at which a value becomes stale. On a busy machine, a thread may get its CPU time
/// 100 ms late. This delay must not make the input of a working sensor stale.
const STALE: Duration = Duration::from_millis(100);

/// The `[[device]]` table of this driver.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The time between two reads of each input's file. The outputs are checked once in this time,
    /// but at least once a second and at most ten times a second.
    #[serde(default = "second", with = "duration")]
    pub period: Duration,
    /// For each point, by its name, the value of its key `at`: the path of its file.
    #[serde(default)]
    pub at: BTreeMap<String, FileAddress>,
}

fn second() -> Duration {
    Duration::from_secs(1)
}

/// The key `at` of a point.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileAddress {
    /// The absolute path of the file. The path may contain one `*`.
    pub path: PathBuf,
}

/// All files of one device, with the state of their reads and writes.
#[derive(Debug)]
struct Files {
    period: Duration,
    inputs: Vec<Spot>,
    outputs: Vec<Spot>,
    /// The calls in progress.
    work: Calls,
    /// Whether the trouble of a [`Spot`] has changed since the last update of the status. Also true
    /// before the first update.
    is_news: bool,
}

impl Settings for Config {
    fn plan(&self, points: &Arc<Points>, device: usize, _: &Exports) -> Result<Plan, OpenError> {
        let files = Files::plan(self, points, device)?;
        let points = Arc::clone(points);
        Ok(Plan::new(move || Link::start(&points, device, files.freshness(), files)))
    }

    /// Returns, for each point, the path of its file as its place in the field. An input may read
    /// the file that an output writes. Therefore the direction is part of the place, so this input
    /// and this output have different places.
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
    /// Plans the file of each point of device number `device`. The plan opens no file.
    ///
    /// # Errors
    /// When a point has no path, a path is not absolute or contains more than one `*`, or the
    /// period is out of range.
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
                return Err(OpenError::at(
                    &point.name,
                    "path",
                    found,
                    "a path with at most one `*`",
                ));
            }
            let spots = match point.direction {
                Direction::In => &mut inputs,
                Direction::Out => &mut outputs,
            };
            spots.push(Spot::new(id, point, &at.path));
        }
        Ok(Self { period: config.period, inputs, outputs, work: Calls::new(), is_news: true })
    }

    /// The default age limits of the inputs. A value is stale after three periods, but not before
    /// 100 ms. A value is bad after ten periods, but not before 2 s.
    fn freshness(&self) -> Freshness {
        let bad = (10 * self.period).max(Duration::from_secs(2));
        let stale = (3 * self.period).max(STALE);
        Freshness { stale_after: Some(stale), bad_after: Some(bad) }
    }

    /// Finds the calls that do not return. The driver cannot abort such a call, because no thread
    /// can end another thread that waits in the kernel.
    fn find_hanging(&mut self) {
        for spot in self.inputs.iter_mut().chain(&mut self.outputs) {
            self.is_news |= spot.watch(&mut self.work);
        }
    }

    /// Starts a read of each input whose last read has ended. First finds the calls that do not
    /// return.
    fn read(&mut self) {
        self.find_hanging();
        for spot in self.inputs.iter_mut().filter(|spot| spot.is_free()) {
            self.is_news |= read(spot, &mut self.work);
        }
    }

    /// Starts a write of each output whose wanted value is not confirmed. Skips an output if its
    /// last call has not ended, or if this value was tried after the last check of the outputs.
    fn write(&mut self, side: &mut Side) {
        for spot in self.outputs.iter_mut().filter(|spot| spot.is_free()) {
            let Some(wanted) = side.wanted(spot.id) else { continue };
            if side.has(spot.id, wanted) || spot.tried == Some(wanted) {
                continue;
            }
            spot.tried = Some(wanted);
            // During the write the file may already have the new value. Therefore the driver does
            // not report the old value as confirmed any more.
            side.doubt(spot.id);
            let kind = spot.point.kind;
            self.is_news |= spot.start(&mut self.work, move |path, progress| {
                let file = number::write(path, kind, wanted, progress)?;
                Ok(FileResult::Written(wanted, file))
            });
        }
    }

    /// Checks the outputs: allows another attempt after a failed write, and starts to check whether
    /// the path of each written file still leads to that file.
    fn check_outputs(&mut self) {
        self.find_hanging();
        for spot in &mut self.outputs {
            spot.tried = None;
            if spot.is_free() && spot.written.is_some() {
                let check = |path: &_, _: &_| number::identity(path).map(FileResult::Seen);
                self.is_news |= spot.start(&mut self.work, check);
            }
        }
    }

    /// Takes the result of a call that has ended or panicked. Stores in the spot the error or that
    /// there was none, and tells `side` the read value, the confirmed value, or that the value is
    /// not reliable any more. After a probe, opens the file that has replaced a file which does not
    /// answer.
    fn take(&mut self, ended: Result<(Id, io::Result<FileResult>), JoinError>, side: &mut Side) {
        let (work, outcome) =
            ended.unwrap_or_else(|panic| (panic.id(), Err(io::Error::other(panic))));
        let mut spots = self.inputs.iter_mut().chain(&mut self.outputs);
        let ended = spots.find_map(|spot| spot.ends(work).map(|ended| (ended, spot)));
        let Some((ended, spot)) = ended else { return };
        if let Ended::Probe(probed_at) = ended {
            let Ok(FileResult::Seen(file)) = outcome else { return };
            // An output is written again by the next call of `write`.
            if spot.give_up_if_replaced(probed_at, file) && spot.point.direction == Direction::In {
                self.is_news |= read(spot, &mut self.work);
            }
            return;
        }
        let why = |error: &io::Error| format!("{}: {error}", spot.path.display());
        let trouble = outcome.as_ref().err().map(why);
        self.is_news |= spot.trouble.changes_to(trouble);
        match outcome {
            Ok(FileResult::Read(raw)) => side.put(spot.id, raw),
            Ok(FileResult::Written(raw, file)) => {
                spot.written = Some(file);
                side.confirm(spot.id, raw);
            }
            Ok(FileResult::Seen(file)) if spot.written == Some(file) => {}
            Err(error) if spot.point.direction == Direction::In => {
                side.spoil(spot.id, quality(&error));
            }
            Ok(FileResult::Seen(_)) | Err(_) => {
                spot.written = None;
                side.doubt(spot.id);
            }
        }
    }

    /// Publishes the values to the scan. Updates the parts of the status if the trouble of a spot
    /// has changed.
    fn publish(&mut self, side: &mut Side) {
        let spots = || self.inputs.iter().chain(&self.outputs);
        // The device is disconnected if all inputs fail or, if it has no inputs, if all outputs
        // fail. Inputs have priority, because the driver detects a missing file of an output later,
        // at the next check.
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
                _ = looks.tick(), if !self.outputs.is_empty() => self.check_outputs(),
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

/// Starts a read of an input. Returns whether the trouble of the spot has changed.
fn read(spot: &mut Spot, work: &mut Calls) -> bool {
    let point = Arc::clone(&spot.point);
    spot.start(work, move |path, progress| {
        number::read(path, &point, progress).map(FileResult::Read)
    })
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
    use crate::process::image::{PointKind, Raw};

    /// A driver that sends two facts for each write. The first fact is whether the link shows the
    /// previous value as confirmed during the write. The second fact is whether it shows the new
    /// value as confirmed after the write.
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

    /// During a write, the file may already have the new value. An earlier version of the driver
    /// showed the previous value as confirmed during a write. If the previous value was the safe
    /// value and a stall began during the write, the driver did not write the safe value again.
    #[test]
    fn what_is_being_written_is_in_doubt() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("fan");
        std::fs::write(&path, "0").unwrap();
        let point = Point::new("fan", Direction::Out, PointKind::U8);
        let points = Arc::new(Points::new(vec![point.clone()], 0, 1));
        let files = Files {
            period: Duration::from_secs(1),
            inputs: Vec::new(),
            outputs: vec![Spot::new(PointId(0), &point, &path)],
            work: Calls::new(),
            is_news: true,
        };
        let (told, heard) = channel();
        let teller = Teller { files, before: [0; 8], told };
        let mut link = Link::start(&points, 0, Freshness::default(), teller).unwrap();
        for number in 1..4 {
            link.write(MonotonicClock.now(), &[number]).unwrap();
            let told = heard.recv_timeout(Duration::from_secs(20)).expect("the value is written");
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
