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
//! All units behind one port belong to one device, because they share one connection. At most one
//! request is under way on this connection at a time. The driver never reports a value that it has
//! not read. If a reply is missing, damaged or doubtful, if the unit is busy, or if a gateway does
//! not reach the unit, an input keeps its value and the value ages. If the unit refuses a read for
//! another reason, the inputs of this read get a bad quality that names the kind of failure. If the
//! unit goes offline, all inputs that the driver reads from it get a bad quality.
//!
//! `client/plan.rs` checks the configuration and makes the bus with all its units. The settings and
//! the state of the bus are in `client/bus.rs`. `client/serve.rs` is the loop that works on this
//! bus. `client/schedule.rs` chooses the next job, and `client/exchange.rs` does the job.
//! `client/breaker.rs` decides whether the driver treats a unit as present. `client/transport.rs`
//! and `wire/request.rs` decide which bytes are the valid reply to a request. `client/survey.rs`
//! lists the addresses of the points, the groups that no input uses, and the units that get no
//! request. This driver does not support broadcasts, Modbus ASCII, file records, FIFO queues, or
//! writes to a part of a register.

pub mod line;
pub mod transport;

mod bounds;
mod breaker;
mod bus;
mod diagnostic;
mod ends;
mod exchange;
mod load;
mod outstanding;
mod place;
mod plan;
mod read;
mod refusal;
mod reopen;
mod schedule;
mod serve;
mod session;
mod silence;
mod split;
mod survey;
mod unit;
mod write;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;

use crate::driver::export::Exports;
use crate::driver::link::Link;
use crate::driver::modbus::wire::register::{Byte, WordOrder};
use crate::driver::modbus::wire::table::Table;
use crate::driver::{Location, OpenError, Plan, Settings, duration};
use crate::process::image::{PointId, Points};
use bus::Client;
use line::Parity;

/// The configuration of one `[[device]]` with `driver = "modbus"`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The address of the bus, such as `tcp://192.168.1.10:502`. Its parsed form is
    /// [`line::Target`].
    pub connect: String,
    /// The speed of a serial line in bits per second. The default is 19200. For a serial line
    /// behind a TCP server (`rtu+tcp://`) there is no default. If the configuration has the speed
    /// of such a line, the driver computes the load of the line, the gap and the default timeout
    /// from the speed.
    pub baud: Option<u32>,
    /// The parity bit on a serial line. The default is even parity.
    pub parity: Option<Parity>,
    /// The number of stop bits on a serial line, 1 or 2. The default is 1.
    pub stop_bits: Option<u8>,
    /// The silence between two frames. On a serial line of known speed, the default is the time of
    /// 3.5 characters, or 1.75 ms above 19200 bits per second. On every other bus, the default is
    /// 0.
    #[serde(default, deserialize_with = "duration::some")]
    pub gap: Option<Duration>,
    /// The time that a unit may take to answer. The default is 500 ms, or 200 ms on a serial line
    /// of known speed. On such a line, the driver adds to this time the time that the bytes of the
    /// request and of the reply need on the wire.
    #[serde(default, deserialize_with = "duration::some")]
    pub timeout: Option<Duration>,
    /// The maximum time to make a TCP connection. The default is 2 s.
    #[serde(default, deserialize_with = "duration::some")]
    pub connect_timeout: Option<Duration>,
    /// The pause after the connection is made, before the first request. Some devices ignore
    /// requests that come too early. The default is 0.
    #[serde(default, deserialize_with = "duration::some")]
    pub connect_delay: Option<Duration>,
    /// What the driver does with the transaction number of a Modbus TCP reply. The default is
    /// `check`.
    pub transaction: Option<TransactionRule>,
    /// If the reply to a read or a write is missing or damaged, the driver repeats the request up
    /// to this number of times before it does another job. The default is 1. The driver does not
    /// repeat a heartbeat, a probe, or a request to a unit that has gone offline.
    #[serde(default = "one")]
    pub retries: u8,
    /// The units on the bus.
    pub unit: Vec<UnitConfig>,
    /// The groups of inputs that the driver reads, each with its period.
    #[serde(default)]
    pub group: Vec<GroupConfig>,
    /// The heartbeat: a register or coil that the driver toggles as long as the scan runs.
    pub heartbeat: Option<HeartbeatConfig>,
    /// The key `at` of each point, by the name of the point: where the point is on the bus.
    #[serde(default)]
    pub at: BTreeMap<String, DataAddress>,
}

impl Settings for Config {
    fn plan(&self, points: &Arc<Points>, device: usize, _: &Exports) -> Result<Plan, OpenError> {
        let client = Client::plan(self, points, device)?;
        let (points, known) = (Arc::clone(points), client.freshness());
        let limits = move |id| known.get(&id).copied().unwrap_or_default();
        Ok(Plan::new(move || Link::start_with(&points, device, limits, client)))
    }

    /// Returns the address of the bus in its full form, for example `tcp://10.0.0.7:502` for
    /// `tcp://10.0.0.7`. A text without the default port and a text with the default port have the
    /// same full form. Returns `None` if the key `connect` is not valid.
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

/// What the driver does with the transaction number of a Modbus TCP reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TransactionRule {
    /// A reply must have the number of its request. A late reply is recognized by its number.
    #[default]
    Check,
    /// The number is not checked, for devices that put a fixed number into every reply. As on a
    /// serial line, the driver then pauses after each missing reply for as long as the timeout.
    Ignore,
}

/// The configuration of one unit on the bus.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UnitConfig {
    /// The name of the unit, which must be unique in this device.
    pub name: String,
    /// The unit's address on the bus.
    pub id: u8,
    /// The address in the replies of the unit, if it differs from `id`. Some servers put the same
    /// address into every reply. The default is `id`.
    pub answers_as: Option<u8>,
    /// The minimum pause after each request to this unit, answered or not, before the driver sends
    /// the next request on the bus. Some units need this pause after each of their answers.
    #[serde(default, with = "duration")]
    pub turnaround: Duration,
    /// After this number of consecutive failures, the driver treats the unit as absent. A failure
    /// is a missing or invalid answer, an exception of a gateway that does not reach the unit, or a
    /// failed attempt to connect. `Unit::is_missed_by` names the requests that do not count. The
    /// default is 3.
    #[serde(default = "three")]
    pub offline_after: u8,
    /// The time between two probes of an absent unit. A probe is a request that shows whether the
    /// unit answers. `client/breaker.rs` makes this time longer if the probes would take too much
    /// bus time, and varies it by up to a fifth. A present unit without reads also gets a probe if
    /// it has got no request for this time. The default is 10 s.
    #[serde(default = "ten_seconds", with = "duration")]
    pub probe: Duration,
}

fn three() -> u8 {
    3
}

fn ten_seconds() -> Duration {
    Duration::from_secs(10)
}

/// A group: input points that the driver reads with the same period. All points of a group are in
/// one table of one unit.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GroupConfig {
    /// The name of the group, which must be unique in this device.
    pub name: String,
    /// The name of the unit to read.
    pub unit: String,
    /// The table of the unit to read.
    pub table: Table,
    /// The time between two reads of the same addresses.
    #[serde(with = "duration")]
    pub period: Duration,
    /// The maximum number of unused addresses that one request may read between two points. With a
    /// larger number, the driver may need fewer requests. The default is 0, because many units
    /// refuse a read that includes addresses that do not exist.
    #[serde(default)]
    pub merge_gap: u16,
    /// The maximum number of registers or bits in one request, for a unit that accepts fewer of
    /// them than the protocol allows. The default is the maximum of the protocol.
    pub max: Option<u16>,
}

/// The heartbeat: a register or coil that the driver toggles between 0 and 1. The unit can watch
/// this value to see that the controller runs.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeartbeatConfig {
    /// The name of the unit that gets the heartbeat.
    pub unit: String,
    /// The table of the heartbeat: `holding`, which is the default, or `coil`.
    #[serde(default = "holding")]
    pub table: Table,
    /// The address of the register or coil, counted from 0.
    pub address: u16,
    /// The time between two writes of the heartbeat. Each write changes the value. While the scan
    /// makes no cycles, the driver does not write the heartbeat.
    #[serde(with = "duration")]
    pub period: Duration,
}

fn holding() -> Table {
    Table::Holding
}

/// The key `at` of a point: where the point is on the bus, and how the point is written.
/// `client/place.rs` checks which keys can be used together.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataAddress {
    /// The name of the group to which the input belongs.
    pub group: Option<String>,
    /// The name of the unit, for an output or a diagnostic input.
    pub unit: Option<String>,
    /// The table of an output. A bool needs `coil`, and every other type needs `holding`. These are
    /// the defaults.
    pub table: Option<Table>,
    /// The first address of the point, counted from 0 as in the protocol.
    pub address: Option<u16>,
    /// The first address as device manuals write it, such as `"40001"` for the first holding
    /// register.
    #[serde(rename = "ref")]
    pub reference: Option<String>,
    /// The order in which the bytes of the value are sent on the wire.
    pub order: Option<WordOrder>,
    /// Which half of the register contains the value, for a type of 8 bits.
    pub byte: Option<Byte>,
    /// Which bit of the register contains the value, for a bool. Bit 0 is the lowest bit.
    pub bit: Option<u8>,
    /// The rule that decides when an output is written.
    pub write: Option<When>,
    /// The time after which an output is written again although its value has not changed. With
    /// `write = "cyclic"`, the time between two writes.
    #[serde(default, deserialize_with = "duration::some")]
    pub refresh: Option<Duration>,
    /// The minimum time between two writes of an output. A change to the safe value does not wait
    /// for this time.
    #[serde(default, deserialize_with = "duration::some")]
    pub min_interval: Option<Duration>,
    /// Whether to write with function codes 5 and 6 instead of 15 and 16.
    pub single: Option<bool>,
    /// Whether the driver reads an output back after each write that the unit has confirmed. If so,
    /// the output counts as confirmed only if the unit returns the written value.
    pub readback: Option<bool>,
    /// The number of writes per day above which the driver logs a warning. Some units store each
    /// written value in memory that wears out after many writes.
    pub warn_writes_per_day: Option<u32>,
    /// The diagnostic value that an input shows, such as the number of timeouts of a unit. A
    /// diagnostic input has no address on the unit.
    pub diagnostic: Option<diagnostic::Diagnostic>,
}

/// The rule that decides when an output is written. With each of the two rules, the driver writes
/// the output in three more cases: after a new connection, when the unit answers again after an
/// absence, and after a failed write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum When {
    /// Write the output as soon as its value changes and `min_interval` has passed, and once in
    /// each `refresh` period if the key `refresh` is set.
    #[default]
    OnChange,
    /// Write the output once in each `refresh` period. A change of the value causes no write, with
    /// one exception: when the value changes to the safe value, the driver writes the safe value at
    /// once.
    Cyclic,
}
