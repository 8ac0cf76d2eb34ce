//! The plan of a bus: checks the configuration and makes a [`Client`] from it.
//!
//! The function `Client::plan` makes all checks of the configuration, without access to the bus.
//! The command `camshaft check` makes the same plan and then stops. After the plan, the code no
//! longer checks whether each named unit is configured, or whether a value fits its addresses.
//! `bounds.rs` checks the bus as a whole, and `place.rs` checks the key `at` of one point.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use super::bounds::{PERIOD, beat, check_groups, check_units, find, line, names};
use super::breaker::Breaker;
use super::bus::{BACKOFF, Client};
use super::diagnostic::Counters;
use super::ends::Ends;
use super::load::{MOST, load};
use super::place::{DataPlace, Use};
use super::read::{Read, Spot, gather};
use super::schedule::Schedule;
use super::silence::Silence;
use super::unit::Unit;
use super::write::{Policy, Write};
use super::{Config, DataAddress, GroupConfig, UnitConfig, When};
use crate::driver::OpenError;
use crate::driver::modbus::wire::register::Misfit;
use crate::driver::modbus::wire::request::{Ask, UnitRequest};
use crate::driver::modbus::wire::table::Table;
use crate::logged::OnChange;
use crate::process::image::{Point, PointId, Points, Safe};

impl Client {
    /// Plans the bus of device number `device`, with the place of each of its points.
    ///
    /// # Errors
    /// The first error in the configuration.
    pub(super) fn plan(config: &Config, points: &Points, device: usize) -> Result<Self, OpenError> {
        let line = line(config)?;
        check_units(&config.unit, &line)?;
        check_groups(config)?;
        let mut client = Self {
            name: points.devices().get(device).cloned().unwrap_or_default(),
            line,
            retries: config.retries,
            units: Vec::new(),
            reads: Vec::new(),
            writes: Vec::new(),
            beat: beat(config)?,
            diagnostics: Vec::new(),
            schedule: Schedule::new(config.unit.len()),
            silence: Silence::default(),
            ends: Ends::default(),
            may_have_restarted: false,
            refused: Vec::new(),
            echo_logged: OnChange::default(),
            epoch: Instant::now(),
            show_at: Duration::ZERO,
            backoff: BACKOFF.0,
            connections: 0,
            unconnected: None,
            trouble_logged: OnChange::default(),
            planned_load: None,
        };
        let mut inputs: Vec<Vec<(PointId, DataPlace)>> = vec![Vec::new(); config.group.len()];
        for (id, point) in points.iter().filter(|(_, point)| point.device == device) {
            let wanted = "{ group = \"...\", address = ... } or { unit = \"...\", ... }";
            let at = config.at.get(&point.name);
            let at = at.ok_or_else(|| OpenError::at(&point.name, "", "nothing", wanted))?;
            client.add(config, (id, point), at, &mut inputs).map_err(|misfit| {
                OpenError::at(&point.name, misfit.key, misfit.found, misfit.wanted)
            })?;
        }
        for (group, places) in config.group.iter().zip(inputs) {
            client.add_reads(config, group, places);
        }
        client.check_writers(points)?;
        client.add_units(config);
        client.planned_load = load(&client);
        match client.planned_load {
            Some(load) if load > MOST => {
                let found = format!("a load of {:.0} % on the serial line", 100.0 * load);
                let wanted =
                    "a load of at most 80 %: use longer periods, fewer points or a higher `baud`";
                Err(OpenError::new("group", found, wanted))
            }
            _ => Ok(client),
        }
    }

    /// Adds one point to the plan. The places of inputs are collected in `inputs`, one list for
    /// each group.
    fn add(
        &mut self,
        config: &Config,
        (id, point): (PointId, &Point),
        at: &DataAddress,
        inputs: &mut [Vec<(PointId, DataPlace)>],
    ) -> Result<(), Misfit> {
        let purpose = Use::of(at, point.direction);
        purpose.allow(at)?;
        match (purpose, at.diagnostic) {
            (Use::Read, _) => {
                let names: Vec<_> = config.group.iter().map(|group| &*group.name).collect();
                let group = find("group", at.group.as_deref(), &names)?;
                let place = DataPlace::new(at, Some(config.group[group].table), point.kind)?;
                inputs[group].push((id, place));
            }
            (Use::Write, _) => {
                let unit = find("unit", at.unit.as_deref(), &names(config))?;
                self.writes.push(write(unit, &config.unit[unit], id, point, at)?);
            }
            (Use::Diagnostic, Some(what)) if what.fits(point.kind) => {
                let unit = find("unit", at.unit.as_deref(), &names(config))?;
                self.diagnostics.push((id, unit, what));
            }
            (Use::Diagnostic, what) => {
                let wanted = what.map_or("one", |what| what.wanted()).to_owned();
                let found = format!("type {}", point.kind);
                return Err(Misfit { key: "diagnostic", found, wanted });
            }
        }
        Ok(())
    }

    /// Combines the places of a group into as few reads as possible, and adds these reads.
    fn add_reads(
        &mut self,
        config: &Config,
        group: &GroupConfig,
        places: Vec<(PointId, DataPlace)>,
    ) {
        let unit = config.unit.iter().position(|unit| unit.name == group.unit).unwrap_or_default();
        let range = |place: &DataPlace| {
            let start = u32::from(place.address);
            start..start + u32::from(place.count())
        };
        let ranges = places.iter().map(|(_, place)| range(place)).collect();
        let max = group.max.unwrap_or(group.table.most());
        for request in gather(ranges, group.merge_gap.into(), max.into()) {
            // All combined ranges are between 0 and 65536 and are no longer than `max`, so the
            // casts lose nothing.
            let (address, count) = (request.start as u16, request.len() as u16);
            let ask = Ask::Read { table: group.table, address, count };
            let ours = places.iter().filter(|(_, place)| {
                let place = range(place);
                request.start <= place.start && place.end <= request.end
            });
            let spot = |(id, place): &(PointId, DataPlace)| Spot {
                id: *id,
                address: place.address,
                layout: place.layout,
            };
            self.reads.push(Read {
                unit,
                group: group.name.clone(),
                table: group.table,
                planned: self.reads.len(),
                is_part: false,
                request: UnitRequest { unit: config.unit[unit].id, ask },
                period: group.period,
                due: Duration::ZERO,
                is_made: false,
                time: Duration::ZERO,
                silences: 0,
                spots: ours.map(spot).collect(),
                trouble: OnChange::default(),
                is_mute: OnChange::default(),
            });
        }
    }

    /// Refuses a register or coil with two writers. A writer is an output or the heartbeat.
    fn check_writers(&self, points: &Points) -> Result<(), OpenError> {
        let mut taken = HashMap::new();
        if let Some(beat) = &self.beat {
            taken.insert((beat.unit, beat.table, beat.address), "the heartbeat");
        }
        for write in &self.writes {
            for offset in 0..write.place.count() {
                let address = write.place.address + offset;
                let place = (write.unit, write.place.table, address);
                if let Some(other) = taken.insert(place, &points[write.id].name) {
                    let found = format!("{} {address}, which {other} writes", place.1.word());
                    return Err(OpenError::at(
                        &write.name,
                        "address",
                        found,
                        "an address that no other point and no heartbeat writes",
                    ));
                }
            }
        }
        Ok(())
    }

    /// Adds the units. The caller must add the reads and the writes before the units, because the
    /// probe of a unit repeats one of its reads or reads one of its outputs.
    fn add_units(&mut self, config: &Config) {
        for (unit, said) in config.unit.iter().enumerate() {
            let read = self.reads.iter().find(|read| read.unit == unit);
            let write = || self.writes.iter().find(|write| write.unit == unit);
            let probe_request = read.map(|read| read.request.clone());
            let probe_request = probe_request.or_else(|| write().map(Write::read_request));
            let probe_request = probe_request.unwrap_or(UnitRequest::presence(said.id));
            let cost = self.line.cost_of_silence(&probe_request);
            self.units.push(Unit {
                name: said.name.clone(),
                id: said.id,
                turnaround: said.turnaround,
                probe: said.probe,
                probe_request,
                breaker: Breaker::new(said.offline_after, said.probe, cost),
                counters: Counters::new(),
                asked_at: Duration::ZERO,
                is_unread: read.is_none(),
                answered: HashSet::new(),
            });
        }
    }
}

/// Plans an output: checks its keys and returns its initial state.
fn write(
    unit: usize,
    said: &UnitConfig,
    id: PointId,
    point: &Point,
    at: &DataAddress,
) -> Result<Write, Misfit> {
    let misfit =
        |key, found: String, wanted: &str| Err(Misfit { key, found, wanted: wanted.to_owned() });
    let place = DataPlace::new(at, at.table, point.kind)?;
    if !matches!(place.table, Table::Coil | Table::Holding) {
        let found = format!("table {}", place.table.word());
        return misfit("table", found, "\"coil\" or \"holding\": other tables cannot be written");
    }
    if place.layout.is_some_and(|layout| layout.is_part_of_register()) {
        let key = if at.bit.is_some() { "bit" } else { "byte" };
        let wanted = "a u16 without this key, because a write overwrites the whole register";
        return misfit(key, "a part of a register".into(), wanted);
    }
    let single = at.single.unwrap_or(false);
    if single && place.count() > 1 {
        let found = format!("`single` for {} registers", place.count());
        return misfit("single", found, "false, because `single` can write only one register");
    }
    for (key, time) in [("refresh", at.refresh), ("min_interval", at.min_interval)] {
        if let Some(time) = time.filter(|time| !PERIOD.contains(time)) {
            return misfit(key, format!("{time:?}"), "from 1ms to 1h");
        }
    }
    let on_change = at.write.unwrap_or_default() == When::OnChange;
    if !on_change && at.refresh.is_none() {
        let wanted = "a duration such as \"1s\", because `write = \"cyclic\"` needs this key";
        return misfit("refresh", "nothing".into(), wanted);
    }
    let min_interval = at.min_interval.unwrap_or_default();
    let safe = match point.safe {
        Safe::Value(value) => point.raw_of(value).ok().map(|raw| point.for_device(raw)),
        Safe::Hold => None,
    };
    Ok(Write {
        id,
        unit,
        unit_id: said.id,
        place,
        policy: Policy { on_change, refresh: at.refresh, min_interval },
        single,
        readback: at.readback.unwrap_or(false),
        acked: None,
        tried_at: Duration::ZERO,
        not_before: Duration::ZERO,
        spaced_until: Duration::ZERO,
        safe,
        refused: None,
        warn_above: at.warn_writes_per_day,
        writes: 0,
        day: Duration::ZERO,
        name: point.name.clone(),
        trouble: OnChange::default(),
    })
}
