//! Modbus client: reads and writes units on a serial line or behind a TCP port.
//!
//! ```toml
//! [[device]]
//! name = "plant"
//! driver = "modbus"
//! connect = "tcp://192.168.1.10:502"   # "rtu:///dev/serial/by-id/...", "rtu+tcp://host:port"
//! unit = [ { name = "vfd1", id = 3, turnaround = "5ms" } ]
//! group = [ { name = "fast", unit = "vfd1", table = "holding", period = "100ms" } ]
//! heartbeat = { unit = "vfd1", address = 9, period = "1s" }
//! [[device.point]]
//! name = "vfd1.speed"
//! direction = "in"
//! type = "i16"
//! at = { group = "fast", address = 0x2103 }
//! [[device.point]]
//! name = "vfd1.setpoint"
//! direction = "out"
//! type = "u16"
//! safe = 0
//! at = { unit = "vfd1", address = 0x2000, refresh = "1s", single = true }
//! ```
//! All units behind one port belong into one device: they share its connection, and on it one
//! request is under way at a time. What may count as a reply is decided in `modbus/transport.rs`
//! and `modbus/request.rs`, whose turn it is in `modbus/schedule.rs`, whether a unit is believed to
//! be there in `modbus/breaker.rs`; `modbus/client.rs` is the loop that works with these. Where
//! points are, and what nothing uses, is told by `modbus/survey.rs`. A value that was not read is
//! never made up: silence and a busy unit let it age, everything else has a quality of its own. It
//! has no broadcasts, no Modbus ASCII, no files and no queues of devices, and does not write a part
//! of a register.

pub mod line;
pub mod register;
pub mod request;
pub mod transport;

mod bounds;
mod breaker;
mod client;
mod diagnostic;
mod exchange;
mod load;
mod outstanding;
mod place;
mod plan;
mod read;
mod refusal;
mod schedule;
mod survey;
mod unit;
mod write;

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;

use super::duration;
use line::Parity;
use register::{Byte, Order};
use request::Table;

pub(super) use client::Client;
pub(super) use survey::locations;

/// A `[[device]]` of this driver.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where the bus is: [`line::Target`].
    pub connect: String,
    /// Bits in a second on a serial line; 19200 if it is not said. For a line behind a server it
    /// only serves to compute its load.
    pub baud: Option<u32>,
    /// The parity bit on a serial line.
    pub parity: Option<Parity>,
    /// Stop bits on a serial line, 1 or 2.
    pub stop_bits: Option<u8>,
    /// The silence between frames; 3.5 characters on a serial line.
    #[serde(default, deserialize_with = "duration::some")]
    pub gap: Option<Duration>,
    /// How long a unit may take to answer; 500 ms over TCP, and 200 ms besides the time that the
    /// bytes take on a serial line.
    #[serde(default, deserialize_with = "duration::some")]
    pub timeout: Option<Duration>,
    /// How long a connection may take.
    #[serde(default, deserialize_with = "duration::some")]
    pub connect_timeout: Option<Duration>,
    /// How often a request without an answer is repeated at once.
    #[serde(default = "one")]
    pub retries: u8,
    /// Who is on the bus.
    pub unit: Vec<UnitConfig>,
    /// What is read, and how often.
    #[serde(default)]
    pub group: Vec<GroupConfig>,
    /// A register that changes as long as the scan moves.
    pub heartbeat: Option<HeartbeatConfig>,
    /// Where each point is.
    #[serde(default)]
    pub at: BTreeMap<String, At>,
}

impl Config {
    /// The bus, in one form of all that name the same.
    pub(super) fn wire(&self) -> Option<String> {
        self.connect.parse().ok().map(|target: line::Target| target.to_string())
    }
}

fn one() -> u8 {
    1
}

/// One unit on the bus.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UnitConfig {
    /// Its name in this device.
    pub name: String,
    /// Its address on the bus.
    pub id: u8,
    /// The silence that it needs after it has answered.
    #[serde(default, with = "duration")]
    pub turnaround: Duration,
    /// After so many silences in a row it counts as absent.
    #[serde(default = "three")]
    pub offline_after: u8,
    /// How often it is asked then whether it is back.
    #[serde(default = "ten_seconds", with = "duration")]
    pub probe: Duration,
}

fn three() -> u8 {
    3
}

fn ten_seconds() -> Duration {
    Duration::from_secs(10)
}

/// Points of one table of one unit that are read equally often.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GroupConfig {
    /// Its name in this device.
    pub name: String,
    /// The name of the unit.
    pub unit: String,
    /// Which of its tables.
    pub table: Table,
    /// Between two readings.
    #[serde(with = "duration")]
    pub period: Duration,
    /// How many places that nobody wants may be read between two points, to save a request. Many
    /// devices refuse to read what they do not have.
    #[serde(default)]
    pub merge_gap: u16,
    /// The most places in one request, if the device takes less than the protocol allows.
    pub max: Option<u16>,
}

/// What the unit can see our life by: a place that toggles between 0 and 1.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeartbeatConfig {
    /// The name of the unit.
    pub unit: String,
    /// `holding` or `coil`.
    #[serde(default = "holding")]
    pub table: Table,
    /// Where it is, counted from 0.
    pub address: u16,
    /// Between two changes.
    #[serde(with = "duration")]
    pub period: Duration,
}

fn holding() -> Table {
    Table::Holding
}

/// The key `at` of a point. Which keys go together is said by `modbus/place.rs`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct At {
    /// The group that an input is read with.
    pub group: Option<String>,
    /// The unit of an output, or of which a diagnostic tells.
    pub unit: Option<String>,
    /// The table of an output: `holding`, or `coil` for a bool.
    pub table: Option<Table>,
    /// Its first place, counted from 0 as the protocol does.
    pub address: Option<u16>,
    /// The same as manuals have it, such as `"40001"` for the first holding register.
    #[serde(rename = "ref")]
    pub reference: Option<String>,
    /// The order of its bytes on the wire.
    pub order: Option<Order>,
    /// Which half of the register an 8 bit number is.
    pub byte: Option<Byte>,
    /// Which bit of the register a bool is, 0 being the lowest.
    pub bit: Option<u8>,
    /// When an output is written.
    pub write: Option<When>,
    /// After how long an output is written again though it is the same; with `cyclic`, how often.
    #[serde(default, deserialize_with = "duration::some")]
    pub refresh: Option<Duration>,
    /// The least time between two writes of an output.
    #[serde(default, deserialize_with = "duration::some")]
    pub min_interval: Option<Duration>,
    /// Function codes 5 and 6 in place of 15 and 16.
    pub single: Option<bool>,
    /// Whether an output counts as taken only when it was read back.
    pub readback: Option<bool>,
    /// Warns when an output is written more often in a day: memory that keeps values wears out.
    pub warn_writes_per_day: Option<u32>,
    /// What an input tells of its unit, in place of a place on it.
    pub diagnostic: Option<diagnostic::Diagnostic>,
}

/// When an output is written. In any case it is after the unit has come, or come back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum When {
    /// At once when it changes.
    #[default]
    OnChange,
    /// At every `refresh`, and only then.
    Cyclic,
}
