//! Tests of devices that have their own thread, with real files and real peers on the other side.
//!
//! A [`Bench`] opens the device of a configuration and calls its driver as the scan does. Each
//! driver has a file in the folder `device`. The only test in this file checks the example
//! configurations.

use std::path::Path;
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};

use camshaft::clock::{Clock, MonotonicClock};
use camshaft::config;
use camshaft::driver::export::{Export, exports};
use camshaft::driver::{self, Delivery, Driver, Fault, Monitor, Part};
use camshaft::process::image::{Direction, Inputs, Point, PointId, Points, Quality, Safe, Value};
use tokio::sync::watch;

mod by_hand;
mod file;
mod gpio;
pub mod modbus;
mod mqtt;
mod name;
pub mod peer;
mod proxy;
mod server;
mod tank;
mod weather;

/// Whether a line of a report says these words. What is expected stands between a key and what was
/// found: `KEY: found X` and `KEY: expected A, found X` leave out what follows the key or the `A`.
pub fn reports(report: &str, words: &str) -> bool {
    let Some((before, found)) = words.rsplit_once("found") else { return report.contains(words) };
    let (before, found) = (before.trim_end_matches([' ', ',', ':']), format!("found{found}"));
    let says = |line: &str| line.split_once(before).is_some_and(|(_, rest)| rest.contains(&found));
    report.lines().any(says)
}

/// The longest that anything on a bench takes, on a machine that does other things as well.
const PATIENCE: Duration = Duration::from_secs(20);

/// One device of a configuration, with somebody who does what the scan would do.
pub struct Bench {
    pub points: Arc<Points>,
    pub driver: Box<dyn Driver>,
    pub inputs: Inputs,
    pub outputs: Vec<u8>,
    pub fault: Option<Fault>,
    /// What the status shows of the device's parts.
    pub monitor: Monitor,
    /// What the device may show of the rest.
    pub shown: watch::Sender<Arc<Export>>,
}

impl Bench {
    /// Opens the only device of `toml`, with safe outputs.
    pub fn open(toml: &str) -> Self {
        let config =
            config::parse(toml, Path::new("/bench.toml")).unwrap_or_else(|e| panic!("{e}"));
        let (shown, exports) = exports();
        let points = config.live.points;
        let driver = driver::open(&config.live.devices[0].driver, &points, 0, &exports).unwrap();
        let mut outputs = vec![0; points.image_bytes(Direction::Out)];
        for (_, point) in points.iter() {
            if let (Direction::Out, Safe::Value(safe)) = (point.direction, point.safe) {
                point.write(&mut outputs, safe).unwrap();
            }
        }
        let inputs = Inputs::unread(&points);
        let monitor = driver.monitor().unwrap_or_default();
        Self { driver, inputs, outputs, fault: None, monitor, shown, points }
    }

    /// What the scan does once a cycle.
    pub fn cycle(&mut self) {
        let now = MonotonicClock.now();
        let read = self.driver.read(now, &mut self.inputs).err();
        self.fault = self.driver.write(now, &self.outputs).err().or(read);
    }

    /// Cycles until something is so.
    #[track_caller]
    pub fn until(&mut self, what: &str, is_so: impl Fn(&mut Self) -> bool) {
        let started = Instant::now();
        loop {
            self.cycle();
            if is_so(self) {
                return;
            }
            let is_late = started.elapsed() >= PATIENCE;
            assert!(!is_late, "{what}: not so; {:?} {:?}", self.all_inputs(), self.told());
            sleep(Duration::from_millis(1));
        }
    }

    /// Cycles for so long.
    pub fn pass(&mut self, time: Duration) {
        let started = Instant::now();
        while started.elapsed() < time {
            self.cycle();
            sleep(Duration::from_millis(1));
        }
    }

    fn id(&self, name: &str) -> PointId {
        self.points.find(name).unwrap_or_else(|| panic!("no point {name}"))
    }

    pub fn point(&self, name: &str) -> &Point {
        &self.points[self.id(name)]
    }

    /// Value and quality of an input.
    pub fn input(&self, name: &str) -> (Value, Quality) {
        let id = self.id(name);
        (self.points[id].read(&self.inputs.bytes), self.inputs.quality[id.index()])
    }

    fn all_inputs(&self) -> Vec<(String, Value, Quality)> {
        let inputs = self.points.iter().filter(|(_, point)| point.direction == Direction::In);
        let all = inputs.map(|(id, point)| {
            let value = point.read(&self.inputs.bytes);
            (point.name.clone(), value, self.inputs.quality[id.index()])
        });
        all.collect()
    }

    /// What the status shows.
    fn told(&self) -> (Option<Fault>, Vec<Part>) {
        (self.fault, self.monitor.parts())
    }

    /// Gives an output a value, from the next cycle on.
    pub fn output(&mut self, name: &str, value: Value) {
        let point = self.points[self.id(name)].clone();
        point.write(&mut self.outputs, value).unwrap();
    }

    /// Whether the device is known to have an output.
    pub fn is_confirmed(&self, name: &str) -> bool {
        self.driver.delivery(self.id(name)) == Delivery::Confirmed
    }
}

/// What a user copies from `config/` works as it is.
#[test]
fn every_example_is_right() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("config");
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let examples: Vec<_> = files.filter(|file| file.extension() == Some("toml".as_ref())).collect();
    assert!(examples.len() >= 4, "{examples:?}");
    for file in examples {
        let text = std::fs::read_to_string(&file).unwrap();
        if let Err(problems) = config::parse(&text, &file) {
            panic!("{problems}");
        }
    }
}
