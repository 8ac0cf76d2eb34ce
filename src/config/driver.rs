//! The keys of a device that belong to its driver: handed over as a table, with its place in the
//! file.
//!
//! Which keys there are is the driver's affair. This is the one place that knows the drivers by
//! name.

use std::borrow::Cow;
use std::path::Path;

use serde::Deserialize;
use toml::Spanned;
use toml::de::{DeTable, DeValue, Deserializer, Error};

use super::file::DeviceFile;
use super::problem::Report;
use super::read::split;
use crate::driver::{Config, file, gpio, modbus, modbus_server, mqtt, sim};
use crate::text::nearest;

/// The drivers that can be named.
const DRIVERS: [&str; 6] = ["sim", "file", "gpio", "modbus", "modbus_server", "mqtt"];

/// Turns the keys of a driver into its settings; relative paths in them count from `folder`.
fn driver_config(
    driver: &str,
    table: Spanned<DeTable<'_>>,
    folder: &Path,
) -> Result<Option<Config>, Error> {
    match driver {
        "sim" => {
            let mut config = sim::Config::deserialize(Deserializer::from(table))?;
            if let Some(script) = &mut config.script {
                script.file = folder.join(&script.file);
            }
            Ok(Some(Config::Sim(config)))
        }
        "file" => {
            file::Config::deserialize(Deserializer::from(table)).map(|c| Some(Config::File(c)))
        }
        "gpio" => {
            gpio::Config::deserialize(Deserializer::from(table)).map(|c| Some(Config::Gpio(c)))
        }
        "modbus" => {
            modbus::Config::deserialize(Deserializer::from(table)).map(|c| Some(Config::Modbus(c)))
        }
        "modbus_server" => modbus_server::Config::deserialize(Deserializer::from(table))
            .map(|c| Some(Config::ModbusServer(c))),
        "mqtt" => {
            let mut config = mqtt::Config::deserialize(Deserializer::from(table))?;
            config.settle(folder);
            Ok(Some(Config::Mqtt(Box::new(config))))
        }
        _ => Ok(None),
    }
}

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
        // What is no value was reported with the point.
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
        match driver_config(&driver.value, Spanned::new(0..0, table.clone()), folder) {
            Ok(Some(config)) => return Some(config),
            Ok(None) => {
                let right = match nearest(&driver.value, DRIVERS) {
                    Some(near) => format!("{near:?}"),
                    None => format!("one of {}", DRIVERS.join(", ")),
                };
                report.wrong_at(driver, format!("{:?}", driver.value), right);
                return None;
            }
            // Serde stops at the first mistake: without that key it can go on to the next. But then
            // a missing one may be the one that was dropped.
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

fn is_value(value: &DeValue<'_>) -> bool {
    matches!(value, DeValue::Boolean(_) | DeValue::Float(_) | DeValue::Integer(_))
}

/// The keys `initial` and `at` of a point are a short way to write an entry in the driver's table
/// of that name; says whether that entry was there already.
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
        // Left for the driver to refuse.
        _ => false,
    }
}

/// Where in the file the value at `place` of a driver's table begins, such as `group[slow].period`,
/// or the part of it that is there. Entries of a list go by their name or their number.
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

/// The whole name of a key of the driver. What is below `at` was said with a point.
fn whole_key(device: &DeviceFile<'_>, path: &str) -> String {
    let of_point = |point: &super::file::PointFile<'_>| {
        let below = path.strip_prefix("at.")?.strip_prefix(&*point.name.as_ref()?.value)?;
        let is_it = below.is_empty() || below.starts_with('.');
        is_it.then(|| format!("{}.at{below}", point.place.key))
    };
    let found = device.points.iter().find_map(of_point);
    found.unwrap_or_else(|| format!("{}.{path}", device.rest.key))
}

/// Reports what the driver says about its keys; gives the key of the device that it blames.
fn explain(device: &DeviceFile<'_>, error: &Error, report: &Report<'_>) -> Option<String> {
    let line = match error.span() {
        Some(span) if span.start > 0 => report.line(span.start),
        _ => device.rest.line,
    };
    // The path is not to be had but from the printed form, as its last line: in `tank.level`.
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
        // Serde's words for these two are not TOML's.
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
