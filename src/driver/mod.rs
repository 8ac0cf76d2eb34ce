//! A device in the field, seen by the scan: read it, write it, command it, ask whether it followed.
//!
//! Every function here runs on the scan thread, so it copies and returns: a driver that has to wait
//! for a wire does that elsewhere and hands over what it has: `link.rs`. What a device *is* lies in
//! the file of its kind, such as `sim.rs`, the simulated plant. What it does when the scan itself
//! stands is in `watchdog.rs`. What of the controller a device shows to other systems comes from
//! `export.rs`; what the status tells of a device's parts is in `monitor.rs`; what a configuration
//! makes of devices, for whoever looks for slips in it, in `survey.rs`. How a device comes to be is
//! in `registry.rs`.

pub mod export;
pub mod file;
pub mod gpio;
pub mod modbus;
pub mod modbus_server;
pub mod mqtt;
pub mod sim;

mod duration;
mod link;
mod monitor;
mod registry;
mod survey;
mod tcp;
mod watchdog;

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::image::{Inputs, PointId, Value};
use crate::patience;

pub use monitor::{Monitor, Part};
use registry::no_answer;
pub use registry::{Plan, check, open, plan};
pub use survey::{Location, locations};
pub use watchdog::Watchdog;

/// The most devices in one configuration. Each is called twice in every cycle.
pub const MAX_DEVICES: usize = 256;

/// Which kind of device, and what that kind has to know. In TOML the key `driver` names the kind.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(tag = "driver", rename_all = "snake_case")]
pub enum Config {
    /// A simulated plant.
    Sim(sim::Config),
    /// Files whose text is a number, such as those of sysfs.
    File(file::Config),
    /// GPIO lines of this machine.
    Gpio(gpio::Config),
    /// Units on a Modbus.
    Modbus(modbus::Config),
    /// Modbus TCP for SCADA, which asks.
    ModbusServer(modbus_server::Config),
    /// A broker of MQTT 5.
    Mqtt(Box<mqtt::Config>),
}

impl Config {
    /// The name of the driver, as the key `driver` has it.
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

    /// The wire that its key `connect` names, if only one device can have it.
    pub fn wire(&self) -> Option<String> {
        match self {
            Self::Modbus(config) => config.wire(),
            _ => None,
        }
    }

    /// The files that its plan reads.
    fn files(&self) -> Vec<Named> {
        match self {
            Self::Sim(config) => config.files(),
            Self::Mqtt(config) => config.files(),
            Self::File(_) | Self::Gpio(_) | Self::Modbus(_) | Self::ModbusServer(_) => Vec::new(),
        }
    }
}

/// A file that a device's configuration names: by which key, and where.
type Named = (&'static str, PathBuf);

/// Why a device cannot be opened. The name of the device and its file are added by whoever reports
/// it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenError {
    /// The name of the point whose key `at` is meant; `place` is below that key then.
    pub point: Option<String>,
    /// The key below the device such as `tank[0].level`, or a file with its line: `inputs.csv:3`.
    pub place: String,
    /// What was found there.
    pub found: String,
    /// What would be right.
    pub wanted: String,
    /// Whether its files gave no answer in time, so that another try may find nothing wrong.
    pub is_late: bool,
}

impl OpenError {
    /// An error with its remedy.
    pub fn new(
        place: impl Into<String>,
        found: impl Into<String>,
        wanted: impl Into<String>,
    ) -> Self {
        let (place, found, wanted) = (place.into(), found.into(), wanted.into());
        Self { point: None, place, found, wanted, is_late: false }
    }

    /// The same, caused by this error: if that is late, another try may find nothing wrong.
    pub(crate) fn caused_by(self, error: &io::Error) -> Self {
        Self { is_late: patience::is_late(error), ..self }
    }

    /// The same about a point: `key` is below its key `at`, or empty for that as a whole.
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

/// How a device fails. It becomes state in the snapshot and the quality of its points, never a
/// trap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nobody answers.
    Disconnected,
    /// Somebody answers, too late.
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

/// What is known of an output at its device. One that changes in every cycle is always a little
/// behind; nobody needs to be alarmed at that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Delivery {
    /// The device has acknowledged this very value.
    #[default]
    Confirmed,
    /// Not yet, but it has acknowledged one of this output a moment ago.
    UnderWay,
    /// It has acknowledged none for too long.
    Unconfirmed,
}

/// One device. Calls come from the scan thread only: none may wait, allocate or log.
///
/// The images may be of another length than when the device was opened, because others have come or
/// gone since. Its own points are where they were, with the same ids.
pub trait Driver: Send {
    /// Copies the newest inputs of this device into the image and sets the quality of its points.
    ///
    /// # Errors
    /// A fault; then the values stay as they were and the driver has set their quality.
    fn read(&mut self, now: Duration, inputs: &mut Inputs) -> Result<(), Fault>;

    /// Takes the outputs of this device from the image.
    ///
    /// # Errors
    /// A fault; the scan writes again in the next cycle.
    fn write(&mut self, now: Duration, outputs: &[u8]) -> Result<(), Fault>;

    /// How long it is from one cycle to the next: told before the first, and when it has changed.
    fn pace(&mut self, _period: Duration) {}

    /// After how long without a `write` the device is to make its outputs safe by itself, zero for
    /// never: told before the first, and when it has changed.
    fn supervise(&mut self, _stall: Duration) {}

    /// Does what an operator asks of a simulated device. Real devices refuse.
    ///
    /// # Errors
    /// Says why not.
    fn command(&mut self, now: Duration, command: &Command) -> Result<(), &'static str>;

    /// Whether the device is known to have the outputs of the last `write`.
    fn is_confirmed(&self) -> bool;

    /// The same for one of them.
    fn delivery(&self, _output: PointId) -> Delivery {
        if self.is_confirmed() { Delivery::Confirmed } else { Delivery::Unconfirmed }
    }

    /// It will be dropped soon, which may wait for the device: whoever has several tells all of
    /// them first.
    fn leave(&mut self) {}

    /// Waits until the device has the outputs that it was given last, or will not have them, and
    /// gives those that it is not known to have. For whoever drops it, and not for the scan.
    fn finish(&mut self) -> Vec<PointId> {
        Vec::new()
    }

    /// Where the device's parts can be looked at, if it has any. Called once, before the scan has
    /// the driver.
    fn monitor(&self) -> Option<Monitor> {
        None
    }
}

/// What an operator may ask of a device while it runs.
#[derive(Debug, Clone, PartialEq)]
pub enum Command {
    /// Give a simulated input this value. It holds, or becomes the state that the model goes on
    /// from.
    Set(PointId, Value),
    /// Let the device fail in this way until `Clear`; replaces whatever failure there was or will
    /// be.
    Inject(Injection),
    /// Let the device be sound again; a failure planned in the configuration is cancelled.
    Clear,
}

/// A failure to practise with. In TOML and JSON the key `kind` names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
pub enum Injection {
    /// Reads and writes fail; the inputs keep their values and are `Bad`.
    Disconnect,
    /// The inputs stand still and are `Uncertain`; outputs still arrive.
    Freeze,
    /// Inputs are seen late and outputs take effect late, both by `delay`.
    Slow {
        /// How late.
        #[serde(with = "duration")]
        delay: Duration,
    },
    /// Inputs are random within their type and pass for `Good`; a float that is not a number is
    /// `Bad`.
    Garbage {
        /// The same seed gives the same garbage, read by read.
        #[serde(default)]
        seed: u64,
    },
    /// The driver does not return for so long, once, and with it the whole scan stands: real
    /// drivers cannot do that. To practise what devices and the daemon make of it.
    Hang {
        /// How long: at most a minute.
        #[serde(rename = "for", with = "duration")]
        lasting: Duration,
    },
}

impl Injection {
    /// The failure that an operator has named.
    ///
    /// # Errors
    /// What is wrong with it, and what this kind of failure expects.
    pub fn from_json(json: serde_json::Value) -> Result<Self, String> {
        let kind = json.get("kind").and_then(|kind| kind.as_str()).unwrap_or_default().to_owned();
        // Serde lets any field pass beside a kind that has none.
        let fields = json.as_object().into_iter().flat_map(|object| object.keys());
        let field = fields.into_iter().find(|field| *field != "kind").cloned();
        if let ("disconnect" | "freeze", Some(field)) = (&*kind, field) {
            return Err(format!("unknown field `{field}`; {kind} expects nothing"));
        }
        serde_json::from_value(json).map_err(|error| match &*kind {
            "slow" => format!("{error}; slow expects delay=TIME, such as delay=200ms"),
            "garbage" => format!("{error}; garbage expects nothing, or seed=NUMBER"),
            "hang" => format!("{error}; hang expects for=TIME, at most a minute, such as for=1s"),
            "disconnect" | "freeze" => format!("{error}; {kind} expects nothing"),
            _ => error.to_string(),
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_failure_that_lacks_something_says_what_it_expects() {
        let check = |json: serde_json::Value, expected: Result<Injection, &str>| {
            assert_eq!(Injection::from_json(json), expected.map_err(str::to_owned));
        };
        check(
            json!({ "kind": "hang" }),
            Err("missing field `for`; hang expects for=TIME, at most a minute, such as for=1s"),
        );
        let lasting = Duration::from_secs(4);
        check(json!({ "kind": "hang", "for": "4s" }), Ok(Injection::Hang { lasting }));
        check(
            json!({ "kind": "slow" }),
            Err("missing field `delay`; slow expects delay=TIME, such as delay=200ms"),
        );
        check(
            json!({ "kind": "freeze", "for": "1s" }),
            Err("unknown field `for`; freeze expects nothing"),
        );
        let kinds = "unknown variant `burn`, expected one of `disconnect`, `freeze`, `slow`, \
                     `garbage`, `hang`";
        check(json!({ "kind": "burn" }), Err(kinds));
    }
}
