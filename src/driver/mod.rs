//! The contract between the scan and a device in the field: read it, write it, command it, ask
//! whether it has its outputs.
//!
//! The scan calls the functions of [`Driver`] on its thread, so they copy and return. A driver that
//! has to wait for a wire does so on another thread, behind `link.rs`. This file knows no kind of
//! device. Each kind has a file of its own, such as `sim.rs` for the simulated plant, and
//! `registry.rs` plans and starts devices of all kinds.
//!
//! Where to look next: `watchdog.rs` makes outputs safe when the scan itself stands. `export.rs`
//! holds the values that a device shows to other systems. `monitor.rs` holds what the status shows
//! of a device's parts, `command.rs` what an operator can order. `survey.rs` answers questions about the devices of a configuration, for the
//! search for slips in it.

pub mod export;
pub mod file;
pub mod gpio;
pub mod modbus;
pub mod modbus_server;
pub mod mqtt;
pub mod sim;

mod command;
mod disk;
mod duration;
mod link;
mod monitor;
mod registry;
mod survey;
mod tcp;
mod watchdog;

use std::fmt;
use std::io;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::image::{Inputs, PointId};
use crate::patience;

pub use command::{Command, Injection};
use disk::{Named, no_answer};
pub use monitor::{Monitor, Part};
pub use registry::{Plan, check, open, plan};
pub use survey::{Location, locations};
pub use watchdog::Watchdog;

/// The maximum number of devices in one configuration. The scan calls each of them twice in every
/// cycle.
pub const MAX_DEVICES: usize = 256;

/// The settings of one device. The variant is the kind of device; in TOML the key `driver` names
/// it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(tag = "driver", rename_all = "snake_case")]
pub enum Config {
    /// A simulated plant.
    Sim(sim::Config),
    /// Files whose text is a number, for example files of sysfs.
    File(file::Config),
    /// GPIO lines of this machine.
    Gpio(gpio::Config),
    /// Units on a Modbus, which this device reads and writes as a client.
    Modbus(modbus::Config),
    /// A Modbus TCP server, which a SCADA system reads and writes.
    ModbusServer(modbus_server::Config),
    /// A session with an MQTT 5 broker.
    Mqtt(Box<mqtt::Config>),
}

impl Config {
    /// The name of the driver, as the key `driver` spells it.
    pub fn driver(&self) -> &'static str {
        match self {
            Self::Sim(_) => "sim",
            Self::File(_) => "file",
            Self::Gpio(_) => "gpio",
            Self::Modbus(_) => "modbus",
            Self::ModbusServer(_) => "modbus_server",
            Self::Mqtt(_) => "mqtt",
        }
    }

    /// The wire that the key `connect` names, if only one device can use that wire. Otherwise
    /// `None`.
    pub fn wire(&self) -> Option<String> {
        match self {
            Self::Modbus(config) => config.wire(),
            _ => None,
        }
    }

    /// The files that the plan of this device reads.
    fn files(&self) -> Vec<Named> {
        match self {
            Self::Sim(config) => config.files(),
            Self::Mqtt(config) => config.files(),
            Self::File(_) | Self::Gpio(_) | Self::Modbus(_) | Self::ModbusServer(_) => Vec::new(),
        }
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
