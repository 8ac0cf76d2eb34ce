//! A survey of the configuration of a bus: the places of the points on the units, the groups that
//! no input uses, and the units that get no request.
//!
//! `config/note.rs` uses these lists to find possible mistakes in a configuration. A configuration
//! in which two points read the same register is allowed, even if the two points have different
//! types. Two writers of one register or coil are an error, which `plan.rs` refuses.

use super::place::{DataPlace, Use};
use super::{Config, DataAddress};
use crate::driver::Location;
use crate::driver::location::word;
use crate::process::image::{Point, PointId, Points};

/// Returns the places of the points that device number `device` reads or writes. A point whose key
/// `at` is wrong is left out.
pub(super) fn locations(
    config: &Config,
    points: &Points,
    device: usize,
) -> Vec<(PointId, Location)> {
    let ours = points.iter().filter(|(_, point)| point.device == device);
    let found = ours.filter_map(|(id, point)| {
        let at = config.at.get(&point.name)?;
        Some((id, place(config, device, point, at)?))
    });
    found.collect()
}

/// Returns the place of a point that is read or written. Returns `None` for a diagnostic input, or
/// if the key `at` is wrong.
fn place(config: &Config, device: usize, point: &Point, at: &DataAddress) -> Option<Location> {
    let (unit, table) = match Use::of(at, point.direction) {
        Use::Read => {
            let group = config.group.iter().find(|group| Some(&group.name) == at.group.as_ref())?;
            (&group.unit, Some(group.table))
        }
        Use::Write => (at.unit.as_ref()?, at.table),
        Use::Diagnostic => return None,
    };
    let DataPlace { table, address, layout } = DataPlace::new(at, table, point.kind).ok()?;
    let part = layout.and_then(|layout| layout.part());
    let first = u32::from(address);
    let end = first + layout.map_or(1, |layout| layout.registers() as u32);
    let of = part.map(|part| format!("{part} of ")).unwrap_or_default();
    let last = if end - first > 1 { format!(" to {}", end - 1) } else { String::new() };
    let table = table.word();
    Some(Location {
        // A status word may be read both as a whole and bit by bit, on purpose. Therefore a bit and
        // its whole register get different texts in `within`, so that the two do not collide.
        within: format!("{device}/{unit}/{table}/{of}{}", word(point.direction)),
        cells: first..end,
        words: format!("{of}{table} {first}{last} of unit {unit}"),
    })
}

/// Returns the configuration keys of the groups that no input uses, and of the units that get no
/// request.
pub(super) fn unused(config: &Config) -> Vec<String> {
    let reads = |group: &str| config.at.values().any(|at| at.group.as_deref() == Some(group));
    let idle = config.group.iter().filter(|group| !reads(&group.name));
    let groups = idle.map(|group| format!("group[{}]", group.name));
    let is_asked = |unit: &str| {
        // An unused group has its own entry in the returned list, so the unit of this group gets no
        // second entry.
        config.group.iter().any(|group| group.unit == unit)
            || config.at.values().any(|at| at.unit.as_deref() == Some(unit))
            || config.heartbeat.as_ref().is_some_and(|beat| beat.unit == unit)
    };
    let alone = config.unit.iter().filter(|unit| !is_asked(&unit.name));
    groups.chain(alone.map(|unit| format!("unit[{}]", unit.name))).collect()
}
