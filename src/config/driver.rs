//! The keys of a device that belong to its driver: from a table of the file to [`Config`], the
//! settings of the driver.
//!
//! Each driver lists its own keys, as a type that serde reads, and `driver/registry.rs` lists the
//! drivers. This file knows none of them. It gives each mistake its line and its full key. Whether
//! a device can be opened is not checked here: `driver/registry.rs` does that. The common keys of
//! all devices are in `file.rs`.

use std::borrow::Cow;
use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue, Deserializer, Error};

use super::file::DeviceFile;
use super::problem::Report;
use super::read::split;
use crate::driver::Config;
use crate::text::nearest;

/// The settings of a device's driver; `None` once a problem was reported.
pub(super) fn understand(
    device: &DeviceFile<'_>,
    folder: &Path,
    report: &Report<'_>,
) -> Option<Config> {
    let driver = device.driver.as_ref()?;
    let mut table = device.rest.value.clone();
    for point in &device.points {
        let Some(name) = &point.name else { continue };
        // An `initial` that is no value was reported with the point.
        let initial = point.initial.as_ref().filter(|said| is_value(said.value.get_ref()));
        for (key, said) in [("initial", initial), ("at", point.at.as_ref())] {
            if let Some(said) = said
                && add_entry(&mut table, key, &name.value, said.value.clone())
            {
                let found = format!("a value here and in the `{key}` of the device");
                report.wrong_at(said, found, "one of them");
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
            // Serde stops at the first mistake. Without the wrong key it goes on to the next
            // mistake. After that, a missing field may be the key that was removed here.
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

/// Whether a TOML value can be the value of a point.
fn is_value(value: &DeValue<'_>) -> bool {
    matches!(value, DeValue::Boolean(_) | DeValue::Float(_) | DeValue::Integer(_))
}

/// Adds an entry to the driver's table `key`: `initial` and `at` of a point are a short way to
/// write one. Returns whether the table had that entry already.
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
        // The driver refuses a value that is no table.
        _ => false,
    }
}

/// The offset in the file of the value at `place` in a driver's table, such as
/// `group[slow].period`. If only a part of that path exists, the offset of that part. A list's
/// entries are found by their name or their number.
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

/// The whole name of a key of the driver. The keys below `at` belong to a point, so they get the
/// name of that point.
fn whole_key(device: &DeviceFile<'_>, path: &str) -> String {
    let of_point = |point: &super::file::PointFile<'_>| {
        let below = path.strip_prefix("at.")?.strip_prefix(&*point.name.as_ref()?.value)?;
        let is_it = below.is_empty() || below.starts_with('.');
        is_it.then(|| format!("{}.at{below}", point.place.key))
    };
    let found = device.points.iter().find_map(of_point);
    found.unwrap_or_else(|| format!("{}.{path}", device.rest.key))
}

/// Reports a serde error of the driver's keys; returns the key of the device that is wrong.
fn explain(device: &DeviceFile<'_>, error: &Error, report: &Report<'_>) -> Option<String> {
    let line = match error.span() {
        Some(span) if span.start > 0 => report.line(span.start),
        _ => device.rest.line,
    };
    // Serde gives the path only in the printed form, as its last line: in `tank.level`.
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
        // Serde calls these two types by other words than TOML.
        let right = right.unwrap_or("what the driver understands");
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
