//! Reads those keys of a device that its driver defines. The function `understand` returns the
//! settings of the driver, a [`Config`].
//!
//! Each driver defines its own keys, as a type that serde reads. `driver/registry.rs` lists the
//! drivers. This file contains no name of a driver. For each mistake that serde reports, this file
//! finds the line and the full key. `driver/registry.rs` checks whether a device can be opened. The
//! keys that all devices have are in `file.rs`.
//!
//! Example: `initial` in the entry of a point, and the table of the driver with the same effect:
//!
//! ```toml
//! point = [{ name = "button", direction = "in", type = "bool", initial = true }]
//! initial = { button = true }   # this line has the same effect as `initial` of the point
//! ```

use std::borrow::Cow;
use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue, Deserializer, Error};

use super::file::DeviceFile;
use super::problem::ProblemReport;
use super::read::split;
use crate::driver::Config;
use crate::text::nearest;

/// Returns the settings of a device's driver. Returns `None` after it has reported a problem.
///
/// The keys `initial` and `at` of the points are first copied into the driver's table. Serde reads
/// this table. After a mistake, this function removes the wrong key, and serde reads the table
/// again. In this way several mistakes are reported in one run.
pub(super) fn understand(
    device: &DeviceFile<'_>,
    folder: &Path,
    report: &ProblemReport<'_>,
) -> Option<Config> {
    let driver = device.driver.as_ref()?;
    let mut table = device.rest.value.clone();
    for point in &device.points {
        let Some(name) = &point.name else { continue };
        // An `initial` that is neither a bool nor a number was reported in `points.rs`, so it is
        // not passed to the driver.
        let initial = point.initial.as_ref().filter(|said| is_value(said.value.get_ref()));
        for (key, said) in [("initial", initial), ("at", point.at.as_ref())] {
            if let Some(said) = said
                && add_entry(&mut table, key, &name.value, said.value.clone())
            {
                let found = format!("a value here and in the `{key}` of the device");
                report.wrong_at(said, found, "the value in only one of the two places");
            }
        }
    }
    let mut is_shortened = false;
    loop {
        let keys = Deserializer::from(Spanned::new(0..0, table.clone()));
        match Config::read(&driver.value, keys, folder) {
            Ok(Some(config)) => return Some(config),
            Ok(None) => {
                let right = match nearest(&driver.value, Config::DRIVERS.iter().copied()) {
                    Some(near) => format!("{near:?}"),
                    None => format!("one of {}", Config::DRIVERS.join(", ")),
                };
                report.wrong_at(driver, format!("{:?}", driver.value), right);
                return None;
            }
            // Serde stops at the first mistake. The wrong key is therefore removed, and serde reads
            // again and finds the next mistake. If serde reports a "missing field" later, the field
            // may be the removed key, so this function does not report the field.
            Err(error) if is_shortened && error.message().starts_with("missing field") => {
                return None;
            }
            Err(error) => {
                let blamed = explain(device, &error, report)?;
                table.remove(blamed.as_str())?;
                is_shortened = true;
            }
        }
    }
}

/// Whether a TOML value can be the value of a point: a bool or a number.
fn is_value(value: &DeValue<'_>) -> bool {
    matches!(value, DeValue::Boolean(_) | DeValue::Float(_) | DeValue::Integer(_))
}

/// Adds the value of one point to the driver's table `key`, which is `initial` or `at`. The value
/// comes from the key of the same name in the entry of the point. Returns whether the table already
/// had a value for this point.
fn add_entry<'t>(
    table: &mut DeTable<'t>,
    key: &'static str,
    point: &str,
    value: Spanned<DeValue<'t>>,
) -> bool {
    let span = value.span();
    let key = Spanned::new(span.clone(), Cow::Borrowed(key));
    let empty = || Spanned::new(span.clone(), DeValue::Table(DeTable::new()));
    match table.entry(key).or_insert_with(empty).get_mut() {
        DeValue::Table(entries) => {
            entries.insert(Spanned::new(span, Cow::Owned(point.to_owned())), value).is_some()
        }
        // If the key is not a table, the driver refuses it later.
        _ => false,
    }
}

/// Returns the byte offset, in the configuration file, of the value at `place` in a driver's table.
/// An example of a place is `group[slow].period`. An entry of a list is found by its name or by its
/// number from 0. If only the first part of the path exists, the offset of that part is returned.
/// If not even the first part exists, returns `None`.
pub(super) fn offset_of(table: &DeTable<'_>, place: &str) -> Option<usize> {
    let (head, rest) = place.split_once('.').unwrap_or((place, ""));
    let (key, entry) = match head.strip_suffix(']').and_then(|head| head.split_once('[')) {
        Some((key, entry)) => (key, Some(entry)),
        None => (head, None),
    };
    let mut value = table.get(key)?;
    if let (Some(entry), DeValue::Array(list)) = (entry, value.get_ref()) {
        let is_it = |(n, item): &(usize, &Spanned<DeValue<'_>>)| {
            let name =
                item.get_ref().as_table().and_then(|table| table.get("name")?.get_ref().as_str());
            name == Some(entry) || n.to_string() == entry
        };
        value = list.iter().enumerate().find(is_it).map_or(value, |(_, item)| item);
    }
    let below = value.get_ref().as_table().filter(|_| !rest.is_empty());
    below.and_then(|table| offset_of(table, rest)).or(Some(value.span().start))
}

/// Returns the full key for a message, from the path of a key in the driver's table. A key below
/// `at` belongs to a point, so its full key contains the name of the point.
fn whole_key(device: &DeviceFile<'_>, path: &str) -> String {
    let of_point = |point: &super::file::PointFile<'_>| {
        let below = path.strip_prefix("at.")?.strip_prefix(&*point.name.as_ref()?.value)?;
        let is_it = below.is_empty() || below.starts_with('.');
        is_it.then(|| format!("{}.at{below}", point.place.key))
    };
    let found = device.points.iter().find_map(of_point);
    found.unwrap_or_else(|| format!("{}.{path}", device.rest.key))
}

/// Reports an error of serde in the driver's keys. Returns the key of the device that contains the
/// mistake, so that the caller can remove the key and continue. Returns `None` if no key contains
/// the mistake, for example if the device lacks a required key.
fn explain(device: &DeviceFile<'_>, error: &Error, report: &ProblemReport<'_>) -> Option<String> {
    let line = match error.span() {
        Some(span) if span.start > 0 => report.line(span.start),
        _ => device.rest.line,
    };
    // Serde gives the path of the key only in the printed form of the error. The path is in the
    // last line of the printed text. An example of this line: in `tank.level`
    let printed = error.to_string();
    let path = printed.trim_end().rsplit_once("\nin `");
    let path = path.and_then(|(_, path)| path.strip_suffix('`'));
    let table = path.map_or(device.rest.key.clone(), |path| whole_key(device, path));
    let top = path.map(|path| path.split('.').next().unwrap_or(path).to_owned());
    let (found, right) = split(error.message());
    let named = |start| Some(found.strip_prefix(start)?.strip_suffix('`')?.to_owned());
    if let Some(missing) = named("missing field `") {
        report.wrong(line, &format!("{table}.{missing}"), "nothing", "a value for this key");
        return top;
    }
    let Some(unknown) = named("unknown field `") else {
        // Serde calls these types "a map" and "a sequence". The TOML words are "table" and "list".
        let right = right.unwrap_or("a value that the driver accepts");
        let right = right.replace("a map", "a table").replace("a sequence", "a list");
        report.wrong(line, &table, found, right);
        return top;
    };
    let listed = right.unwrap_or_default().split('`').skip(1).step_by(2);
    let own = device.known.iter().copied().filter(|_| path.is_none());
    let known: Vec<_> = own.chain(listed).collect();
    report.unknown_key(line, &format!("{table}.{unknown}"), &unknown, &known);
    top.or(Some(unknown))
}
