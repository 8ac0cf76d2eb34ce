//! The struct [`Client`]: the settings, the planned requests and the current state of one bus with
//! all its units. This file makes the device status from the `Client`.
//!
//! `plan.rs` makes a [`Client`] from the configuration. `serve.rs` is the loop that works on the
//! `Client`. `exchange.rs` does one job, such as one read, and updates the `Client` after the
//! reply.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::diagnostic::Diagnostic;
use super::ends::Ends;
use super::line::Line;
use super::read::Read;
use super::refusal::RefusedRange;
use super::schedule::Schedule;
use super::silence::Silence;
use super::unit::Unit;
use super::write::Write;
use crate::driver::link::Side;
use crate::driver::modbus::wire::request::{Ask, UnitRequest};
use crate::driver::modbus::wire::table::Table;
use crate::driver::{Fault, Part};
use crate::logged::OnChange;
use crate::process::image::{Freshness, PointId};

/// The first and the longest pause between two attempts to connect. `Client::wait` varies each
/// pause by up to a fifth. A gateway that starts needs about half a second until it accepts a
/// connection. If a gateway is off for the whole night, the driver tries to connect only about
/// every 30 s.
pub(super) const BACKOFF: (Duration, Duration) =
    (Duration::from_millis(500), Duration::from_secs(30));

/// The time between two regular updates of the device status and of the diagnostic points. Some
/// events cause an update earlier.
const SHOW: Duration = Duration::from_secs(1);

/// A bus with all its units: the settings, the planned requests and the current state.
#[derive(Debug)]
pub(super) struct Client {
    /// The name of the device, for log lines.
    pub(super) name: String,
    pub(super) line: Line,
    pub(super) retries: u8,
    pub(super) units: Vec<Unit>,
    pub(super) reads: Vec<Read>,
    pub(super) writes: Vec<Write>,
    pub(super) beat: Option<Beat>,
    pub(super) diagnostics: Vec<(PointId, usize, Diagnostic)>,
    pub(super) schedule: Schedule,
    pub(super) silence: Silence,
    pub(super) ends: Ends,
    /// Whether a device may have restarted, so that all outputs must be written again after the
    /// next reply.
    pub(super) may_have_restarted: bool,
    /// The ranges of addresses that units have refused, for `split.rs`.
    pub(super) refused: Vec<RefusedRange>,
    /// Whether the log says that the line gives back each request as an echo.
    pub(super) echo_logged: OnChange<bool>,
    /// The zero point of all times of this driver. A moment, such as `show_at`, is the `Duration`
    /// from this instant to the moment.
    pub(super) epoch: Instant,
    /// The time when the device status is updated next, unless an event updates it earlier.
    pub(super) show_at: Duration,
    /// The pause before the next attempt to connect.
    pub(super) backoff: Duration,
    /// The number of connections that were made since the device was opened.
    pub(super) connections: u64,
    /// Reason why the connection was lost, or why the last attempt to connect failed. `None` while
    /// there is a connection, and until an attempt to connect has failed.
    pub(super) unconnected: Option<String>,
    /// The last logged reason why there was no connection. `None` at the start, and from the first
    /// reply over a new connection on. This reply may be invalid.
    pub(super) trouble_logged: OnChange<Option<String>>,
    /// The planned load of the serial line. 1 means that the line is always busy. `None` for Modbus
    /// TCP, and if the speed of the line is not known.
    pub(super) planned_load: Option<f64>,
}

/// The heartbeat: a register or coil that toggles as long as the scan runs.
#[derive(Debug)]
pub(super) struct Beat {
    pub(super) unit: usize,
    /// The unit's address on the bus.
    pub(super) unit_id: u8,
    pub(super) table: Table,
    pub(super) address: u16,
    pub(super) period: Duration,
    pub(super) due: Duration,
    /// The value in the last request of the heartbeat. `false` before the first request.
    pub(super) on: bool,
    /// The value of [`Side::beats`] at the last heartbeat: how many times the scan had written its
    /// outputs. If this number has not changed, the scan has made no cycle since the last
    /// heartbeat.
    pub(super) seen: u64,
    /// Reason why the last write of the heartbeat failed. `None` if the write succeeded, and before
    /// the first write.
    pub(super) trouble: OnChange<Option<String>>,
}

impl Beat {
    /// Returns the request that writes the value `on` to the register or coil.
    pub(super) fn request(&self) -> UnitRequest {
        let Self { address, on, .. } = *self;
        let ask = match self.table {
            Table::Coil => Ask::WriteCoil { address, on, single: true },
            _ => Ask::WriteRegisters { address, values: vec![on.into()], single: true },
        };
        UnitRequest { unit: self.unit_id, ask }
    }
}

impl Client {
    /// Returns how long the scan trusts the value of each input. Diagnostic inputs are not in this
    /// map: the driver computes their values, so these values do not age.
    pub(super) fn freshness(&self) -> HashMap<PointId, Freshness> {
        let of_read = |read: &Read| {
            let freshness = read.freshness(self.line.timeout(&read.request));
            read.spots.iter().map(move |spot| (spot.id, freshness)).collect::<Vec<_>>()
        };
        self.reads.iter().flat_map(of_read).collect()
    }

    /// Returns the time since `epoch`.
    pub(super) fn now(&self) -> Duration {
        self.epoch.elapsed()
    }

    /// Logs that there is a connection, if the last log line about the connection says that there
    /// is none. `exchange.rs` calls this function after each reply, valid or not. `serve.rs` does
    /// not call it for a new connection, because a connection without a reply is of no use.
    pub(super) fn log_connected(&mut self) {
        if self.trouble_logged.changes_to(None) {
            let (name, target) = (&self.name, &self.line.target);
            tracing::info!(device = name, "device {name}: connected to {target}");
        }
    }

    /// Makes all reads of a unit due. A read whose last reply came is due now. Any other read is
    /// due later, by 1 ms for each consecutive missing reply. Therefore the driver makes the reads
    /// with replies first, and these reads do not wait for a timeout. The writes of the unit follow
    /// after all reads.
    pub(super) fn start_over(&mut self, unit: usize, now: Duration) {
        for read in self.reads.iter_mut().filter(|read| read.unit == unit) {
            let last = Duration::from_millis(read.silences.into());
            (read.due, read.is_made) = (now + last, false);
        }
        for write in self.writes.iter_mut().filter(|write| write.unit == unit) {
            (write.acked, write.refused) = (None, None);
            (write.not_before, write.spaced_until) = (now, now);
        }
    }

    /// Updates and publishes the diagnostic points, and the fault and the status of the device.
    pub(super) fn show(&mut self, side: &mut Side) {
        let now = self.now();
        self.show_at = now + SHOW;
        let is_connected = self.unconnected.is_none();
        for unit in &mut self.units {
            unit.counters.measure(now);
        }
        for (id, unit, what) in &self.diagnostics {
            let (kind, unit) = (side.point(*id).kind, &self.units[*unit]);
            let is_online = is_connected && unit.breaker.is_online();
            side.put(*id, unit.counters.raw(*what, kind, is_online));
        }
        let is_silent = self.units.iter().all(|unit| unit.breaker.is_offline());
        side.fault(match is_connected {
            false => Some(Fault::Disconnected),
            true => is_silent.then_some(Fault::Timeout),
        });
        let units = self.units.iter().map(|unit| unit.part(is_connected));
        let troubled = self.reads.iter().filter_map(Read::part);
        let parts = std::iter::once(self.part()).chain(units).chain(troubled).collect();
        side.publish();
        side.show(parts);
    }

    /// Returns the connection as one part of the device status.
    fn part(&self) -> Part {
        let planned = self.planned_load.map(|load| ("planned_load_percent".into(), 100.0 * load));
        let state = match &self.unconnected {
            None if *self.echo_logged.last() => "connected, the line has an echo".to_owned(),
            None => "connected".to_owned(),
            Some(why) => format!("not connected: {why}"),
        };
        let facts = [("connections".to_owned(), self.connections as f64)];
        Part {
            name: self.line.target.to_string(),
            ok: self.unconnected.is_none(),
            state,
            facts: facts.into_iter().chain(planned).collect(),
        }
    }
}
