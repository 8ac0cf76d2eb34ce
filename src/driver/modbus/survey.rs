//! Answers about a bus for the search for slips: the places of points on its units, and the groups
//! and units that nothing uses.
//!
//! `plan.rs` refuses two writers of one place. Reading a place twice, or as two types, is allowed.
//! `driver/survey.rs` asks this file.

use super::place::{Place, Use};
use super::{At, Config};
use crate::driver::survey::{self, word};
use crate::image::{Point, PointId, Points};

/// The places of the points of device number `device` that are read or written.
pub(in crate::driver) fn locations(
    config: &Config,
    points: &Points,
    device: usize,
) -> Vec<(PointId, survey::Location)> {
    let ours = points.iter().filter(|(_, point)| point.device == device);
    let found = ours.filter_map(|(id, point)| {
        let at = config.at.get(&point.name)?;
        Some((id, place(config, device, point, at)?))
    });
    found.collect()
}

/// The place of a point that is read or written; `None` for a diagnostic.
fn place(config: &Config, device: usize, point: &Point, at: &At) -> Option<survey::Location> {
    let (unit, table) = match Use::of(at, point.direction) {
        Use::Read => {
            let group = config.group.iter().find(|group| Some(&group.name) == at.group.as_ref())?;
            (&group.unit, Some(group.table))
        }
        Use::Write => (at.unit.as_ref()?, at.table),
        Use::Diagnostic => return None,
    };
    let Place { table, address, layout } = Place::new(at, table, point.kind).ok()?;
    let part = layout.and_then(|layout| layout.part());
    let first = u32::from(address);
    let end = first + layout.map_or(1, |layout| layout.registers() as u32);
    let of = part.map(|part| format!("{part} of ")).unwrap_or_default();
    let last = if end - first > 1 { format!(" to {}", end - 1) } else { String::new() };
    let table = table.word();
    Some(survey::Location {
        // A status word may be read both as a whole and bit by bit, on purpose.
        within: format!("{device}/{unit}/{table}/{of}{}", word(point.direction)),
        cells: first..end,
        words: format!("{of}{table} {first}{last} of unit {unit}"),
    })
}

impl Config {
    /// The keys of groups without an input and of units without a request.
    pub(in crate::driver) fn unused(&self) -> Vec<String> {
        let reads = |group: &str| self.at.values().any(|at| at.group.as_deref() == Some(group));
        let idle = self.group.iter().filter(|group| !reads(&group.name));
        let groups = idle.map(|group| format!("group[{}]", group.name));
        let is_asked = |unit: &str| {
            // An unused group has its own entry, so its unit counts as asked.
            self.group.iter().any(|group| group.unit == unit)
                || self.at.values().any(|at| at.unit.as_deref() == Some(unit))
                || self.heartbeat.as_ref().is_some_and(|beat| beat.unit == unit)
        };
        let alone = self.unit.iter().filter(|unit| !is_asked(&unit.name));
        groups.chain(alone.map(|unit| format!("unit[{}]", unit.name))).collect()
    }
}
