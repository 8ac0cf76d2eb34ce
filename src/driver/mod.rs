//! The contract of a driver: [`Settings`], which plan a device, and [`Driver`], the device that
//! runs: read it, write it, command it, ask whether it has its outputs.
//!
//! The scan calls the functions of [`Driver`] on its thread, so they copy and return. A driver that
//! has to wait for a wire does so on another thread, behind `link.rs`. This file knows no kind of
//! device. Each kind has a folder of its own, such as `sim/` for the simulated plant.
//!
//! A new driver is one folder with its `mod` line here, one line in `registry.rs`, and one example
//! in the repository's `config/`. The folder has a `Config` that implements [`Settings`], and a
//! type that implements [`Driver`], or one that serves a `Link`.
//!
//! Where to look next: `registry.rs` is the list of drivers; it plans, checks and opens devices.
//! `watchdog.rs` makes outputs safe when the scan itself stands. `export.rs` holds the values that
//! a device shows to other systems, `monitor.rs` what the status shows of a device's parts,
//! `command.rs` what an operator can order, `location.rs` where points are in the field.

pub mod export;
pub mod file;
pub mod gpio;
pub mod modbus;
pub mod mqtt;
pub mod sim;

mod command;
mod disk;
mod duration;
mod link;
mod location;
mod monitor;
mod registry;
mod tcp;
mod watchdog;

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::patience;
use crate::process::image::{Inputs, PointId, Points};

pub use command::{Command, Injection};
use disk::{Named, no_answer};
use export::Exports;
pub use location::Location;
pub use monitor::{Monitor, Part};
pub use registry::{Config, check, open, plan};
pub use watchdog::Watchdog;

/// The maximum number of devices in one configuration. The scan calls each of them twice in every
/// cycle.
pub const MAX_DEVICES: usize = 256;

/// The settings of one device, as its driver reads them from the keys of `[[device]]`. A driver
/// implements this for its `Config`, and `registry.rs` lists that. The questions from `locations`
/// on are only asked about settings whose plan has succeeded.
pub trait Settings: fmt::Debug {
    /// Plans device number `device` of the configuration: finds out what it does with each of its
    /// points, and touches nothing in the field. The device reads what it shows to other systems
    /// from `exports`.
    ///
    /// # Errors
    /// When the device cannot be what its settings say.
    fn plan(
        &self,
        points: &Arc<Points>,
        device: usize,
        exports: &Exports,
    ) -> Result<Plan, OpenError>;

    /// Makes relative paths in the settings absolute; they are relative to `folder`.
    fn settle(&mut self, _folder: &Path) {}

    /// The files that the plan reads. Without any, the plan does not wait.
    fn files(&self) -> Vec<Named> {
        Vec::new()
    }

    /// The wire that the key `connect` names, if only one device can use that wire. Otherwise
    /// `None`.
    fn wire(&self) -> Option<String> {
        None
    }

    /// The places of the points of device number `device`, for those that have one. The plan
    /// refuses what can never work, such as two writers of one register. These places show what the
    /// plan allows, because an operator may want it: `config/note.rs` decides what deserves a note.
    fn locations(&self, _points: &Points, _device: usize) -> Vec<(PointId, Location)> {
        Vec::new()
    }

    /// The names of the points and variables that this device shows to other systems, each with its
    /// key.
    fn shown(&self) -> Vec<(String, &str)> {
        Vec::new()
    }

    /// A thing that only one device can have at a time: the key, the value of the key, and the
    /// consequence if two devices have it.
    fn claim(&self) -> Option<(&'static str, String, &'static str)> {
        None
    }

    /// Whether the device has something to do without any points.
    fn works_without_points(&self) -> bool {
        false
    }

    /// The keys of list entries that nothing uses.
    fn unused(&self) -> Vec<String> {
        Vec::new()
    }
}

/// A device that is ready to be started.
pub struct Plan(Box<dyn FnOnce() -> io::Result<Box<dyn Driver>> + Send>);

impl fmt::Debug for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Plan")
    }
}

impl Plan {
    /// A plan whose `start` makes the driver. `start` waits for nothing.
    fn new<D: Driver + 'static>(start: impl FnOnce() -> io::Result<D> + Send + 'static) -> Self {
        Self(Box::new(|| Ok(Box::new(start()?) as Box<dyn Driver>)))
    }

    /// Starts the device, which works on its wire from then on. The scan must not call this.
    ///
    /// # Errors
    /// When the system has no thread or no descriptor to give. A device that does not answer is no
    /// error here, because it may answer later.
    pub fn start(self) -> Result<Box<dyn Driver>, OpenError> {
        let failed =
            |error| OpenError::new("driver", format!("{error}"), "threads and descriptors");
        (self.0)().map_err(failed)
    }
}

/// Why a device cannot be opened. The caller that reports the error adds the name of the device and
/// the name of the configuration file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenError {
    /// The name of the point whose key `at` is wrong. `place` is then a key below `at`.
    pub point: Option<String>,
    /// The key below the device, such as `tank[0].level`, or a file with its line, such as
    /// `inputs.csv:3`.
    pub place: String,
    /// What was found at that place.
    pub found: String,
    /// What is expected at that place.
    pub wanted: String,
    /// Whether the device's files gave no answer in time. If so, another try may find nothing
    /// wrong.
    pub is_late: bool,
}

impl OpenError {
    /// An error at `place`: what was found there, and what is expected.
    pub fn new(
        place: impl Into<String>,
        found: impl Into<String>,
        wanted: impl Into<String>,
    ) -> Self {
        let (place, found, wanted) = (place.into(), found.into(), wanted.into());
        Self { point: None, place, found, wanted, is_late: false }
    }

    /// This error, caused by `error`. If that one is late, this one is late too: another try may
    /// find nothing wrong.
    pub(crate) fn caused_by(self, error: &io::Error) -> Self {
        Self { is_late: patience::is_late(error), ..self }
    }

    /// An error about a point. `key` is a key below the point's key `at`; it is empty if `at` as a
    /// whole is meant.
    pub fn at(
        point: impl Into<String>,
        key: impl Into<String>,
        found: impl Into<String>,
        wanted: impl Into<String>,
    ) -> Self {
        Self { point: Some(point.into()), ..Self::new(key, found, wanted) }
    }
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(point) = &self.point {
            write!(f, "point[{point}].at")?;
            if !self.place.is_empty() {
                f.write_str(".")?;
            }
        }
        write!(f, "{}: {}; {}", self.place, self.found, self.wanted)
    }
}

impl std::error::Error for OpenError {}

/// How a device fails. A fault becomes state in the snapshot and quality of the device's points. It
/// is never a trap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The device does not answer.
    Disconnected,
    /// The device answers, but too late.
    Timeout,
    /// The answer makes no sense.
    Garbage,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Disconnected => "disconnected",
            Self::Timeout => "timeout",
            Self::Garbage => "garbage",
        })
    }
}

/// What is known about one output at its device: whether the device has the value that the scan
/// wants. An output that changes in every cycle is always a little behind; that is normal and no
/// alarm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Delivery {
    /// The device has acknowledged the value that is wanted now.
    #[default]
    Confirmed,
    /// The device has not acknowledged this value yet, but it has acknowledged another value of
    /// this output a moment ago.
    UnderWay,
    /// The device has acknowledged no value of this output for too long.
    Unconfirmed,
}

/// One device. The scan thread alone calls its functions, except `monitor` and `finish`, and
/// `leave` of a device that is not in the scan. No function that the scan calls may wait,
/// allocate or log.
///
/// The images may be longer or shorter than when the device was opened, because the points of other
/// devices come and go. This device's own points keep their places and their ids.
pub trait Driver: Send {
    /// Copies the newest inputs of this device into the image and sets the quality of its points.
    ///
    /// # Errors
    /// A fault. The values then stay as they were, and the driver has set their quality.
    fn read(&mut self, now: Duration, inputs: &mut Inputs) -> Result<(), Fault>;

    /// Takes the outputs of this device from the image.
    ///
    /// # Errors
    /// A fault. The scan writes again in the next cycle.
    fn write(&mut self, now: Duration, outputs: &[u8]) -> Result<(), Fault>;

    /// Takes over the time from one cycle to the next. The scan calls this before the first cycle
    /// and whenever the period changes.
    fn pace(&mut self, _period: Duration) {}

    /// Takes over the time without a `write` after which the device makes its outputs safe by
    /// itself. Zero means never. The scan calls this before the first cycle and whenever the time
    /// changes.
    fn supervise(&mut self, _stall: Duration) {}

    /// Does what an operator orders a simulated device to do. Real devices refuse.
    ///
    /// # Errors
    /// The reason for the refusal.
    fn command(&mut self, now: Duration, command: &Command) -> Result<(), &'static str>;

    /// Whether the device is known to have the outputs of the last `write`.
    fn is_confirmed(&self) -> bool;

    /// Whether the device is known to have the value of this one output.
    fn delivery(&self, _output: PointId) -> Delivery {
        if self.is_confirmed() { Delivery::Confirmed } else { Delivery::Unconfirmed }
    }

    /// Prepares the device for the drop, which may wait for the device. A caller that drops several
    /// devices calls this on all of them first, so that they finish at the same time.
    fn leave(&mut self) {}

    /// Waits until the device has the outputs that it was given last, or will never have them.
    /// Returns the outputs that the device is not known to have. The caller that drops the device
    /// calls this; the scan does not.
    fn finish(&mut self) -> Vec<PointId> {
        Vec::new()
    }

    /// The view of the device's parts, if the device has any. Called once, before the scan gets the
    /// driver.
    fn monitor(&self) -> Option<Monitor> {
        None
    }
}
