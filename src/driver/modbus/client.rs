//! The Modbus client: reads and writes units on a serial line or behind a TCP port.
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
//! All units behind one port belong into one device. They share its connection, on which one
//! request is under way at a time. The driver never invents a value that was not read: after a
//! silence or a busy reply a value ages, after any other failure it has a quality of its own.
//!
//! `client/serve.rs` is the loop over `client/bus.rs`, which is the bus with all its units.
//! `client/schedule.rs` chooses the next job, and `client/breaker.rs` decides whether a unit is
//! present. `client/transport.rs` and `wire/request.rs` decide what counts as a reply.
//! `client/survey.rs` lists the points' places and what nothing uses. Not here: broadcasts, Modbus
//! ASCII, file records, FIFO queues, and writes to a part of a register.

pub mod line;
pub mod transport;

mod bounds;
mod breaker;
mod bus;
mod diagnostic;
mod exchange;
mod load;
mod outstanding;
mod place;
mod plan;
mod read;
mod refusal;
mod schedule;
mod serve;
mod session;
mod silence;
mod survey;
mod unit;
mod write;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;

use crate::driver::export::Exports;
use crate::driver::link::Link;
use crate::driver::modbus::wire::register::{Byte, Order};
use crate::driver::modbus::wire::table::Table;
use crate::driver::{Location, OpenError, Plan, Settings, duration};
use crate::process::image::{PointId, Points};
use bus::Client;
use line::Parity;

/// A `[[device]]` of this driver.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The address of the bus: [`line::Target`].
    pub connect: String,
    /// The speed of a serial line in bits per second; 19200 if it is absent. For a serial line
    /// behind a TCP server it only serves to compute the load of the line.
    pub baud: Option<u32>,
    /// The parity bit on a serial line.
    pub parity: Option<Parity>,
    /// The number of stop bits on a serial line, 1 or 2.
    pub stop_bits: Option<u8>,
    /// The silence between frames. On a serial line it is 3.5 characters if it is absent.
    #[serde(default, deserialize_with = "duration::some")]
    pub gap: Option<Duration>,
    /// How long a unit may take to answer. If absent: 500 ms over TCP; on a serial line 200 ms plus
    /// the time of the bytes on the wire.
    #[serde(default, deserialize_with = "duration::some")]
    pub timeout: Option<Duration>,
    /// How long it may take to connect.
    #[serde(default, deserialize_with = "duration::some")]
    pub connect_timeout: Option<Duration>,
    /// How often a request without an answer is repeated at once.
    #[serde(default = "one")]
    pub retries: u8,
    /// The units on the bus.
    pub unit: Vec<UnitConfig>,
    /// The groups of points that are read, each with its period.
    #[serde(default)]
    pub group: Vec<GroupConfig>,
    /// A register that changes as long as the scan moves.
    pub heartbeat: Option<HeartbeatConfig>,
    /// The key `at` of each point, by the point's name.
    #[serde(default)]
    pub at: BTreeMap<String, At>,
}

impl Settings for Config {
    fn plan(&self, points: &Arc<Points>, device: usize, _: &Exports) -> Result<Plan, OpenError> {
        let client = Client::plan(self, points, device)?;
        let (points, known) = (Arc::clone(points), client.freshness());
        let limits = move |id| known.get(&id).copied().unwrap_or_default();
        Ok(Plan::new(move || Link::start_with(&points, device, limits, client)))
    }

    /// The bus, in one spelling for all `connect` texts that name the same bus.
    fn wire(&self) -> Option<String> {
        self.connect.parse().ok().map(|target: line::Target| target.to_string())
    }

    fn locations(&self, points: &Points, device: usize) -> Vec<(PointId, Location)> {
        survey::locations(self, points, device)
    }

    fn works_without_points(&self) -> bool {
        self.heartbeat.is_some()
    }

    fn unused(&self) -> Vec<String> {
        survey::unused(self)
    }
}

fn one() -> u8 {
    1
}

/// One unit on the bus.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UnitConfig {
    /// The name of the unit in this device.
    pub name: String,
    /// The unit's address on the bus.
    pub id: u8,
    /// The silence that the unit needs after it has answered.
    #[serde(default, with = "duration")]
    pub turnaround: Duration,
    /// After this many silences in a row the unit counts as absent.
    #[serde(default = "three")]
    pub offline_after: u8,
    /// The time between two probes that ask an absent unit whether it is back.
    #[serde(default = "ten_seconds", with = "duration")]
    pub probe: Duration,
}

fn three() -> u8 {
    3
}

fn ten_seconds() -> Duration {
    Duration::from_secs(10)
}

/// Points of one table of one unit that are read with the same period.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GroupConfig {
    /// The name of the group in this device.
    pub name: String,
    /// The name of the unit.
    pub unit: String,
    /// The table of that unit.
    pub table: Table,
    /// The time between two reads.
    #[serde(with = "duration")]
    pub period: Duration,
    /// How many places without a point may be read between two points, to save a request. Many
    /// devices refuse a read of places that they do not have.
    #[serde(default)]
    pub merge_gap: u16,
    /// The maximum number of places in one request, for a device that accepts less than the
    /// protocol allows.
    pub max: Option<u16>,
}

/// A place on a unit that toggles between 0 and 1, so that the unit can see that the controller
/// lives.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeartbeatConfig {
    /// The name of the unit.
    pub unit: String,
    /// The table of the place: `holding` or `coil`.
    #[serde(default = "holding")]
    pub table: Table,
    /// The address of the place, counted from 0.
    pub address: u16,
    /// The time between two changes.
    #[serde(with = "duration")]
    pub period: Duration,
}

fn holding() -> Table {
    Table::Holding
}

/// The key `at` of a point. `client/place.rs` says which keys go together.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct At {
    /// The group that reads an input.
    pub group: Option<String>,
    /// The unit of an output or of a diagnostic.
    pub unit: Option<String>,
    /// The table of an output: `holding`, or `coil` for a bool.
    pub table: Option<Table>,
    /// The address of the first place, counted from 0 as the protocol does.
    pub address: Option<u16>,
    /// The first place as manuals write it, such as `"40001"` for the first holding register.
    #[serde(rename = "ref")]
    pub reference: Option<String>,
    /// The order of the bytes on the wire.
    pub order: Option<Order>,
    /// The half of the register that holds an 8 bit number.
    pub byte: Option<Byte>,
    /// The bit of the register that holds a bool, 0 being the lowest.
    pub bit: Option<u8>,
    /// When an output is written.
    pub write: Option<When>,
    /// The time after which an output is written again though it has not changed. With `cyclic`,
    /// the time between two writes.
    #[serde(default, deserialize_with = "duration::some")]
    pub refresh: Option<Duration>,
    /// The shortest time between two writes of an output.
    #[serde(default, deserialize_with = "duration::some")]
    pub min_interval: Option<Duration>,
    /// Whether to write with function codes 5 and 6 in place of 15 and 16.
    pub single: Option<bool>,
    /// Whether an output counts as written only after it was read back.
    pub readback: Option<bool>,
    /// The number of writes in a day above which the log warns. Memory that keeps its values wears
    /// out.
    pub warn_writes_per_day: Option<u32>,
    /// The fact about its unit that an input shows, in place of a place on the unit.
    pub diagnostic: Option<diagnostic::Diagnostic>,
}

/// When an output is written. In both cases it is also written when the unit appears or comes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum When {
    /// As soon as it changes.
    #[default]
    OnChange,
    /// Once in each `refresh`, and not when it changes.
    Cyclic,
}
