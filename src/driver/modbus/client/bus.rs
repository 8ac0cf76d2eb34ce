//! A bus with all its units: what the driver knows about it and shows of it.
//!
//! `plan.rs` makes it of the configuration. `serve.rs` is the loop that works on it, and
//! `exchange.rs` does one job and draws the consequences.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::diagnostic::Diagnostic;
use super::line::Line;
use super::read::Read;
use super::schedule::Schedule;
use super::silence::Silence;
use super::unit::Unit;
use super::write::Write;
use crate::driver::link::Side;
use crate::driver::modbus::wire::request::{Ask, Request};
use crate::driver::modbus::wire::table::Table;
use crate::driver::{Fault, Part};
use crate::logged::OnChange;
use crate::process::image::{Freshness, PointId};

/// The pause between two attempts to connect: the first one and the longest one. A device that has
/// just started needs about half a second. A device that is off for the night must not cost much.
pub(super) const BACKOFF: (Duration, Duration) =
    (Duration::from_millis(500), Duration::from_secs(30));

/// The time between two updates of the status and of the diagnostic points.
const SHOW: Duration = Duration::from_secs(1);

/// A bus with all its units.
#[derive(Debug)]
pub(super) struct Client {
    /// The name of the device, for messages.
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
    /// The origin of all times in this driver.
    pub(super) epoch: Instant,
    /// When the status is updated next.
    pub(super) show_at: Duration,
    /// How long to wait before the next attempt to connect.
    pub(super) backoff: Duration,
    /// How often a connection was made.
    pub(super) connections: u64,
    /// Why there is no connection, also before the first one; `None` while there is one.
    pub(super) unconnected: Option<String>,
    /// Why there was no connection, as it was logged last. `None` after a reply over a new
    /// connection.
    pub(super) told: OnChange<Option<String>>,
    /// The planned load of the serial line, where 1 is all of its time; `None` if it is not known.
    pub(super) planned_load: Option<f64>,
}

/// The heartbeat: a place that toggles as long as the scan moves.
#[derive(Debug)]
pub(super) struct Beat {
    pub(super) unit: usize,
    /// The unit's address on the bus.
    pub(super) unit_id: u8,
    pub(super) table: Table,
    pub(super) address: u16,
    pub(super) period: Duration,
    pub(super) due: Duration,
    /// The value that was sent last.
    pub(super) on: bool,
    /// The scan's number of beats at that time.
    pub(super) seen: u64,
    /// Why the last write failed, if it did.
    pub(super) trouble: OnChange<Option<String>>,
}

impl Beat {
    /// The request that writes the current value.
    pub(super) fn request(&self) -> Request {
        let Self { address, on, .. } = *self;
        let ask = match self.table {
            Table::Coil => Ask::WriteCoil { address, on, single: true },
            _ => Ask::WriteRegisters { address, values: vec![on.into()], single: true },
        };
        Request { unit: self.unit_id, ask }
    }
}

impl Client {
    /// How long the values of inputs are trusted. Diagnostic inputs are not in the map: the driver
    /// itself knows them, so they do not age.
    pub(super) fn freshness(&self) -> HashMap<PointId, Freshness> {
        let of_read = |read: &Read| {
            let freshness = read.freshness(self.line.timeout(&read.request));
            read.spots.iter().map(move |spot| (spot.id, freshness)).collect::<Vec<_>>()
        };
        self.reads.iter().flat_map(of_read).collect()
    }

    /// The time since `epoch`.
    pub(super) fn now(&self) -> Duration {
        self.epoch.elapsed()
    }

    /// Logs the new connection, once a unit has answered over it. Without a reply it is of no use.
    pub(super) fn tell_connected(&mut self) {
        if self.told.changes_to(None) {
            let (name, target) = (&self.name, &self.line.target);
            tracing::info!(device = name, "device {name}: connected to {target}");
        }
    }

    /// Makes all reads of a unit due as soon as possible, and its writes after them. Reads that
    /// were silent before come last, so that the others do not wait for them again.
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

    /// Updates the diagnostic points, the fault of the device, and the status.
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
        let mute = self.reads.iter().filter(|read| *read.is_mute.last()).map(Read::part);
        let parts = std::iter::once(self.part()).chain(units).chain(mute).collect();
        side.publish();
        side.show(parts);
    }

    /// The connection as the status shows it.
    fn part(&self) -> Part {
        let planned = self.planned_load.map(|load| ("planned_load_percent".into(), 100.0 * load));
        let state = match &self.unconnected {
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
