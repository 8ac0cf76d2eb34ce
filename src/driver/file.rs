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
//! Inputs are read once in a period, each by a thread that may wait: a sensor that hangs costs only
//! its own point, whose value ages. Outputs are written when they change, and confirmed when the
//! kernel has taken them. The number in the file is the raw one; scale and offset are the point's.
//! It is the first line: see `file/number.rs`.
//! One name in a path may have one `*`, because hwmon numbers its chips anew at each start:
//! `/sys/devices/platform/coretemp.0/hwmon/hwmon*/temp1_input`. It stands for whatever is there
//! whenever the file is opened; two files that match are a mistake. This watches no files.

mod number;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{MissedTickBehavior, interval};

use super::link::{Serve, Side};
use super::{Fault, OpenError, Part, duration};
use crate::image::{Direction, Freshness, Point, PointId, Points, Quality, Raw};

/// Quicker than this the threads would do nothing else; slower is no measurement.
const PERIOD: std::ops::RangeInclusive<Duration> =
    Duration::from_millis(1)..=Duration::from_secs(3600);

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
}

/// A point and its file.
#[derive(Debug)]
struct Spot {
    id: PointId,
    point: Point,
    path: Arc<Path>,
    /// What is under way: a number read, or a number written.
    work: Option<JoinHandle<io::Result<Raw>>>,
    /// Why it failed last.
    trouble: Option<String>,
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
        let mut files = Self { period: config.period, inputs: Vec::new(), outputs: Vec::new() };
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
            let path = Arc::from(&*at.path);
            let spot = Spot { id, point: point.clone(), path, work: None, trouble: None };
            match point.direction {
                Direction::In => files.inputs.push(spot),
                Direction::Out => files.outputs.push(spot),
            }
        }
        Ok(files)
    }

    /// How long a value is believed: three readings, and ten until it is bad.
    pub(super) fn freshness(&self) -> Freshness {
        let bad = (10 * self.period).max(Duration::from_secs(2));
        Freshness { stale_after: Some(3 * self.period), bad_after: Some(bad) }
    }

    /// Takes what was read and starts to read again.
    async fn read(&mut self, side: &mut Side) {
        for spot in &mut self.inputs {
            if let Some(read) = spot.finished().await {
                match read {
                    Ok(raw) => side.put(spot.id, raw),
                    Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                        side.spoil(spot.id, Quality::Sensor);
                    }
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {
                        side.spoil(spot.id, Quality::NoComm);
                    }
                    Err(error) if error.kind() == io::ErrorKind::InvalidFilename => {
                        side.spoil(spot.id, Quality::Config);
                    }
                    Err(_) => side.spoil(spot.id, Quality::Device),
                }
            }
            if spot.work.is_none() {
                let (path, kind) = (Arc::clone(&spot.path), spot.point.kind);
                spot.work = Some(spawn_blocking(move || number::read(&path, kind)));
            }
        }
    }

    /// Writes the outputs that the files do not have.
    async fn write(&mut self, side: &mut Side) {
        for spot in &mut self.outputs {
            match spot.finished().await {
                Some(Ok(raw)) => side.confirm(spot.id, raw),
                Some(Err(_)) => side.doubt(spot.id),
                None => {}
            }
            let Some(wanted) = side.wanted(spot.id) else { continue };
            if spot.work.is_none() && !side.has(spot.id, wanted) {
                let (path, kind) = (Arc::clone(&spot.path), spot.point.kind);
                spot.work = Some(spawn_blocking(move || number::write(&path, kind, wanted)));
            }
        }
    }

    /// Makes all of it known.
    fn publish(&self, side: &mut Side) {
        let spots = || self.inputs.iter().chain(&self.outputs);
        // An output that does not change finds nothing out.
        let asked = if self.inputs.is_empty() { &self.outputs } else { &self.inputs };
        let is_dead = asked.iter().all(|spot| spot.trouble.is_some());
        side.fault((is_dead && !asked.is_empty()).then_some(Fault::Disconnected));
        let part = |spot: &Spot| Part {
            name: spot.point.name.clone(),
            ok: spot.trouble.is_none(),
            state: spot.trouble.clone().unwrap_or_else(|| spot.path.display().to_string()),
            facts: Vec::new(),
        };
        side.show(spots().map(part).collect());
        side.publish();
    }
}

impl Serve for Files {
    async fn serve(&mut self, side: &mut Side) {
        // Writes are short, and are looked after as soon as they can be over.
        const WRITTEN: Duration = Duration::from_millis(1);
        let mut readings = interval(self.period);
        readings.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            self.write(side).await;
            self.publish(side);
            let is_writing = self.outputs.iter().any(|spot| spot.work.is_some());
            tokio::select! {
                _ = readings.tick() => self.read(side).await,
                () = side.changed() => {}
                () = tokio::time::sleep(WRITTEN), if is_writing => {}
            }
        }
    }
}

impl Spot {
    /// The outcome of the work under way, if that is over.
    async fn finished(&mut self) -> Option<io::Result<Raw>> {
        let work = self.work.take_if(|work| work.is_finished())?;
        let outcome = work.await.unwrap_or_else(|panic| Err(io::Error::other(panic)));
        let why = |error: &io::Error| format!("{}: {error}", self.path.display());
        self.trouble = outcome.as_ref().err().map(why);
        Some(outcome)
    }
}
