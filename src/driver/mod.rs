//! The contract between the scan and a driver. The trait [`Settings`] plans a device from its
//! configuration. The trait [`Driver`] is the running device: the scan reads its inputs, writes its
//! outputs, and asks whether the device has acknowledged its outputs.
//!
//! The life of a device, from its configuration to its end:
//!
//! ```text
//!   [[device]] --registry.rs--> Config --Settings::plan--> Plan --Plan::start--> Driver
//!                                                                                  |
//!   in each cycle of the scan:  Driver::read, then Driver::write  <----------------+
//!   at a reload or at the end:  Driver::leave, then Driver::finish, then the drop
//! ```
//! The scan calls functions of [`Driver`] on the scan thread. Therefore each function that the scan
//! calls only copies values and returns at once. A driver that must wait for a wire does its work
//! on another thread; `link.rs` connects that thread with the scan.
//!
//! This file contains no code for a particular kind of device. Each kind has its own file and
//! folder. For example, `sim.rs` and `sim/` are the simulated plant.
//!
//! To add a driver, add its file and folder, its `mod` line in this file, and one line in
//! `registry.rs`. Add an example to the `config/` folder of the repository. The new code contains a
//! `Config` that implements [`Settings`]. The new code also contains a type that implements
//! [`Driver`], or a type that implements `Serve` for a `Link`.
//!
//! Where to look next:
//! - `registry.rs` has the list of drivers; it plans, checks and starts devices.
//! - `watchdog.rs` makes outputs safe when the scan has stalled.
//! - `export.rs` has the values that a device shows to other systems.
//! - `monitor.rs` has the parts of a device that `camshaft status` shows.
//! - `command.rs` has the commands that an operator can send to a simulated device.
//! - `location.rs` describes where a point is in the field.

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
mod words;

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

/// The maximum number of devices in one configuration. The number is limited because the scan calls
/// every device twice in every cycle.
pub const MAX_DEVICES: usize = 256;

/// The settings of one device: the keys of its `[[device]]` table, as its driver parses them. Each
/// driver implements this trait for its own `Config`, and `registry.rs` lists these types. Callers
/// use `locations` and the functions below it only after `plan` has succeeded for these settings.
pub trait Settings: fmt::Debug {
    /// Plans device number `device` of the configuration: decides what the device does with each of
    /// its points. Planning does not access the field. `exports` is the channel with the values
    /// that the device may show to other systems.
    ///
    /// # Errors
    /// When the device cannot work as its settings require.
    fn plan(
        &self,
        points: &Arc<Points>,
        device: usize,
        exports: &Exports,
    ) -> Result<Plan, OpenError>;

    /// Makes relative paths in the settings absolute. A relative path starts at `folder`.
    fn settle(&mut self, _folder: &Path) {}

    /// The files that `plan` reads. If the list is empty, `plan` does not wait for a disk.
    fn files(&self) -> Vec<Named> {
        Vec::new()
    }

    /// The wire that only this device can use, as the full address: for example
    /// `tcp://10.0.0.7:502` if the value of the key `connect` is `tcp://10.0.0.7`. `None` if
    /// several devices can use the same wire.
    fn wire(&self) -> Option<String> {
        None
    }

    /// Returns the place of each point of device number `device` that has a place. The function
    /// `plan` refuses settings that can never work, such as two writers of one register. The places
    /// returned here may still overlap, because an operator may want an overlap. `config/note.rs`
    /// decides which overlaps cause a warning.
    fn locations(&self, _points: &Points, _device: usize) -> Vec<(PointId, Location)> {
        Vec::new()
    }

    /// The points and variables that this device shows to other systems. Each entry has the key in
    /// the configuration and the name of the point or variable.
    fn shown(&self) -> Vec<(String, &str)> {
        Vec::new()
    }

    /// A name or address that only one device can use at a time, such as an MQTT client id. The
    /// three parts are the key, the value of the key, and a text. The text states what happens if
    /// two devices use the same value. `None` if the driver needs no such name or address.
    fn claim(&self) -> Option<(&'static str, String, &'static str)> {
        None
    }

    /// Whether the device has work to do even if the configuration gives it no points.
    fn works_without_points(&self) -> bool {
        false
    }

    /// Returns the keys of the list entries that no point uses. An example is the key of a Modbus
    /// unit without points.
    fn unused(&self) -> Vec<String> {
        Vec::new()
    }
}

/// A device that is planned, checked and ready to start.
pub struct Plan(Box<dyn FnOnce() -> io::Result<Box<dyn Driver>> + Send>);

impl fmt::Debug for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Plan")
    }
}

impl Plan {
    /// Makes a plan. `start` makes the driver and must not wait.
    fn new<D: Driver + 'static>(start: impl FnOnce() -> io::Result<D> + Send + 'static) -> Self {
        Self(Box::new(|| Ok(Box::new(start()?) as Box<dyn Driver>)))
    }

    /// Starts the device. After this call, the device exchanges values over its wire. The scan must
    /// not call this function, because most drivers start a thread here.
    ///
    /// # Errors
    /// When the operating system cannot create a thread or a file descriptor. A device that does
    /// not answer is not an error here, because the device may answer later.
    pub fn start(self) -> Result<Box<dyn Driver>, OpenError> {
        let failed = |error| {
            OpenError::new("driver", format!("{error}"), "enough free threads and file descriptors")
        };
        (self.0)().map_err(failed)
    }
}

/// The reason why a device cannot be opened. The caller that reports the error adds the name of the
/// device and the name of the configuration file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenError {
    /// The name of the point whose key `at` is wrong. If the name is set, `place` is a key below
    /// `at`.
    pub point: Option<String>,
    /// The key in the device's TOML table, such as `tank[0].level`. If the mistake is in a file
    /// that the device reads, such as a script, `place` is the path of that file. The line number
    /// follows if it is known, as in `inputs.csv:3`.
    pub place: String,
    /// The value or state that was found at that place.
    pub found: String,
    /// The value or state that is expected at that place.
    pub wanted: String,
    /// Whether the reason is only that the device's files were not read in time, or that too many
    /// plans waited for files. If true, another attempt may succeed.
    pub is_late: bool,
}

impl OpenError {
    /// Makes an error for the key `place`, with the value found there and the value expected there.
    pub fn new(
        place: impl Into<String>,
        found: impl Into<String>,
        wanted: impl Into<String>,
    ) -> Self {
        let (place, found, wanted) = (place.into(), found.into(), wanted.into());
        Self { point: None, place, found, wanted, is_late: false }
    }

    /// Records that the I/O error `error` caused this error. If `error` was a timeout or the
    /// refusal of a call because too many calls waited, `is_late` is set, because another attempt
    /// may then succeed.
    pub(crate) fn caused_by(self, error: &io::Error) -> Self {
        Self { is_late: patience::is_late(error), ..self }
    }

    /// Makes an error about a point. `key` is a key below the point's key `at`. An empty `key`
    /// means `at` as a whole.
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

/// The way in which a device fails. The snapshot shows the fault, and the driver makes the quality
/// of the device's inputs worse. A fault never causes a trap in a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The device does not answer.
    Disconnected,
    /// The device answers, but after the time limit.
    Timeout,
    /// The device answers, but the answer is not valid.
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

/// Whether the device has acknowledged the value that the scan wants now for one output. An output
/// that changes in every cycle is `UnderWay` most of the time, because each acknowledgement arrives
/// later than the next change. That state is normal and not an alarm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Delivery {
    /// The device has acknowledged the value that the scan wants now.
    #[default]
    Confirmed,
    /// The device has not acknowledged the value that the scan wants now. But the device has
    /// acknowledged an earlier value of this output a short time ago, for example within the last
    /// second.
    UnderWay,
    /// The device has not acknowledged the value that the scan wants now. The last acknowledgement
    /// of an earlier value is too old, or there was none.
    Unconfirmed,
}

/// One running device. Only the scan thread calls these functions, with three exceptions. The
/// daemon calls `monitor` and `finish`. The daemon also calls `leave` for a device that is not in
/// the scan. A function that the scan calls must not wait, allocate memory or log.
///
/// At a reload, points of other devices are added or removed. Therefore the images may be longer or
/// shorter than at the time when this device was opened. The points of this device keep their
/// places in the images and their ids.
pub trait Driver: Send {
    /// Copies the newest inputs of this device into the image and sets the quality of the device's
    /// points. `now` is the time at which the cycle began.
    ///
    /// # Errors
    /// The fault of the device. After an error, the image has the last known values of the inputs,
    /// and the driver has set their quality.
    fn read(&mut self, now: Duration, inputs: &mut Inputs) -> Result<(), Fault>;

    /// Copies the outputs of this device from the image and starts their transfer to the device.
    ///
    /// # Errors
    /// The fault of the device. The scan calls `write` again in the next cycle.
    fn write(&mut self, now: Duration, outputs: &[u8]) -> Result<(), Fault>;

    /// Sets the cycle time, that is, the time from one cycle to the next. The scan calls this
    /// before the first cycle and whenever the cycle time changes.
    fn pace(&mut self, _period: Duration) {}

    /// Sets the stall limit. If the scan does not call `write` for this time, the device's thread
    /// makes the outputs safe. Zero means that there is no limit. The scan calls this before the
    /// first cycle and whenever the limit changes.
    fn supervise(&mut self, _stall: Duration) {}

    /// Executes an operator's command for a simulated device. Real devices refuse every command.
    ///
    /// # Errors
    /// The reason why the command is refused.
    fn command(&mut self, now: Duration, command: &Command) -> Result<(), &'static str>;

    /// Whether the device has acknowledged all outputs of the last `write`.
    fn is_confirmed(&self) -> bool;

    /// The delivery state of one output. This default uses `is_confirmed`, so all outputs have the
    /// same state.
    fn delivery(&self, _output: PointId) -> Delivery {
        if self.is_confirmed() { Delivery::Confirmed } else { Delivery::Unconfirmed }
    }

    /// Tells the device to finish its work, because the device will be dropped soon. A caller that
    /// drops several devices calls `leave` on all of them first. All devices then finish at the
    /// same time, and the caller waits only once.
    fn leave(&mut self) {}

    /// Waits until the device has acknowledged its last outputs, or until a time limit. Returns the
    /// outputs that the device has not acknowledged. The code that drops the device calls this
    /// function. The scan never calls it, because the call may wait. This default does not wait and
    /// returns no outputs.
    fn finish(&mut self) -> Vec<PointId> {
        Vec::new()
    }

    /// Returns the parts of the device that the status shows; `None` if the device has no parts.
    /// The daemon calls this once, before it passes the driver to the scan.
    fn monitor(&self) -> Option<Monitor> {
        None
    }
}
