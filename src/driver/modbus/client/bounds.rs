//! The checks of the configuration of a bus as a whole: its line, its units, its groups and its
//! heartbeat.
//!
//! `plan.rs` calls these checks before it plans the points. The comment at each limit states the
//! reason for its value. `place.rs` and `plan.rs` check the points.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::bus::Beat;
use super::line::{Line, Serial, Target};
use super::{Config, TransactionRule, UnitConfig};
use crate::driver::OpenError;
use crate::driver::modbus::wire::register::{MAX_REGISTERS, Misfit};
use crate::driver::modbus::wire::table::Table;
use crate::logged::OnChange;

/// The range of periods, and of the keys `refresh` and `min_interval`. No bus can serve a shorter
/// period. A period above one hour is too long for a measurement.
pub(super) const PERIOD: RangeInclusive<Duration> =
    Duration::from_millis(1)..=Duration::from_secs(3600);

/// The range of the keys `timeout` and `connect_timeout`. A reply after more than 60 s is of no
/// use.
const TIMEOUT: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(60);

/// The range of gaps and turnarounds. The slowest units need less than 10 s.
const PAUSE: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(10);

/// The range of the time between two probes. With a shorter time, the probes would disturb the
/// other units. With a longer time, the driver would notice the return of a unit too late.
const PROBE: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(3600);

/// The range of line speeds in bits per second, from the slowest modems to the fastest adapters.
const BAUD: RangeInclusive<u32> = 300..=4_000_000;

/// The maximum number of retries. With 3 retries, a request to a silent unit occupies the bus four
/// times as long as without retries.
const MAX_RETRIES: u8 = 3;

/// The maximum number of groups. 247 units with one group for each of their four tables need 988
/// groups.
const MAX_GROUPS: usize = 1000;

/// Checks that `time`, the value of a key, is in `range`. The error names the key and the range.
pub(super) fn within(
    key: impl Into<String>,
    time: Duration,
    range: &RangeInclusive<Duration>,
) -> Result<(), OpenError> {
    if range.contains(&time) {
        return Ok(());
    }
    let text = |time: &Duration| humantime::format_duration(*time).to_string();
    let wanted = format!("from {} to {}", text(range.start()), text(range.end()));
    Err(OpenError::new(key, text(&time), wanted))
}

/// Returns the names of all units of the bus.
pub(super) fn names(config: &Config) -> Vec<&str> {
    config.unit.iter().map(|unit| &*unit.name).collect()
}

/// Returns the index of `name` in `names`. If `name` is missing or unknown, the error lists all
/// valid names.
pub(super) fn find(key: &'static str, name: Option<&str>, names: &[&str]) -> Result<usize, Misfit> {
    let place = name.and_then(|name| names.iter().position(|other| *other == name));
    place.ok_or_else(|| {
        let found = name.map_or("nothing".to_owned(), |name| format!("{name:?}"));
        Misfit { key, found, wanted: format!("the name of a {key}: {}", names.join(", ")) }
    })
}

/// Checks the settings of the line and the number of retries in the configuration, and returns the
/// line.
pub(super) fn line(config: &Config) -> Result<Line, OpenError> {
    let target: Target = config.connect.parse().map_err(|wanted: &str| {
        OpenError::new("connect", format!("{:?}", config.connect), wanted)
    })?;
    let ignores_transaction = config.transaction == Some(TransactionRule::Ignore);
    if ignores_transaction && !matches!(target, Target::Tcp(..)) {
        let found = format!("`connect = {:?}`", config.connect);
        let wanted = "tcp:// in `connect`, because only Modbus TCP has transaction numbers";
        return Err(OpenError::new("transaction", found, wanted));
    }
    let usual = Line::new(target);
    let serial = serial(config, &usual)?;
    if config.retries > MAX_RETRIES {
        let wanted = format!("from 0 to {MAX_RETRIES}");
        return Err(OpenError::new("retries", config.retries.to_string(), wanted));
    }
    let times = [
        ("gap", config.gap, PAUSE),
        ("timeout", config.timeout, TIMEOUT),
        ("connect_timeout", config.connect_timeout, TIMEOUT),
        ("connect_delay", config.connect_delay, PAUSE),
    ];
    for (key, time, range) in times {
        time.map_or(Ok(()), |time| within(key, time, &range))?;
    }
    Ok(Line {
        serial,
        gap: config.gap,
        timeout: config.timeout,
        connect_timeout: config.connect_timeout.unwrap_or(usual.connect_timeout),
        connect_delay: config.connect_delay.unwrap_or_default(),
        ignores_transaction,
        other_addresses: config
            .unit
            .iter()
            .filter_map(|unit| Some((unit.id, unit.answers_as?)))
            .collect(),
        ..usual
    })
}

/// Checks the settings of a serial line, and returns them. `usual` is the line with the default
/// settings. Returns `None` if the speed of the line is not known.
fn serial(config: &Config, usual: &Line) -> Result<Option<Serial>, OpenError> {
    let said = [
        ("baud", config.baud.is_some()),
        ("parity", config.parity.is_some()),
        ("stop_bits", config.stop_bits.is_some()),
    ];
    if let Some((key, _)) = said.into_iter().find(|(_, is_said)| *is_said) {
        let connect = format!("`connect = {:?}`", config.connect);
        match usual.target {
            Target::Tcp(..) => {
                let wanted =
                    "rtu:// or rtu+tcp:// in `connect`, because this key is about a serial line";
                return Err(OpenError::new(key, connect, wanted));
            }
            Target::RtuOverTcp(..) if config.baud.is_none() => {
                let wanted = "the key `baud` too, because the speed of a line behind a TCP server \
                              has no default";
                return Err(OpenError::new(key, connect, wanted));
            }
            _ => {}
        }
    }
    let serial = Serial {
        baud: config.baud.unwrap_or(Serial::default().baud),
        parity: config.parity.unwrap_or_default(),
        stop_bits: config.stop_bits.unwrap_or(1),
    };
    if !BAUD.contains(&serial.baud) {
        let wanted = format!("from {} to {}", BAUD.start(), BAUD.end());
        return Err(OpenError::new("baud", serial.baud.to_string(), wanted));
    }
    if !matches!(serial.stop_bits, 1 | 2) {
        return Err(OpenError::new("stop_bits", serial.stop_bits.to_string(), "1 or 2"));
    }
    Ok((usual.serial.is_some() || config.baud.is_some()).then_some(serial))
}

/// Checks the units. There must be at least one unit. Each unit must have a unique name, a unique
/// id, and settings within their limits.
pub(super) fn check_units(units: &[UnitConfig], line: &Line) -> Result<(), OpenError> {
    let ids = line.ids();
    if units.is_empty() {
        return Err(OpenError::new("unit", "nothing", "[{ name = \"...\", id = 1 }]"));
    }
    for (n, unit) in units.iter().enumerate() {
        let key = |key: &str| format!("unit[{}].{key}", unit.name);
        let twice = "a value that no other unit has";
        if units[..n].iter().any(|other| other.name == unit.name) {
            return Err(OpenError::new(
                key("name"),
                format!("{:?}, which another unit also has", unit.name),
                twice,
            ));
        }
        if units[..n].iter().any(|other| other.id == unit.id) {
            return Err(OpenError::new(
                key("id"),
                format!("{}, which another unit also has", unit.id),
                twice,
            ));
        }
        if !ids.contains(&unit.id) {
            let wanted = format!("from {} to {}", ids.start(), ids.end());
            return Err(OpenError::new(key("id"), unit.id.to_string(), wanted));
        }
        if unit.offline_after == 0 {
            return Err(OpenError::new(key("offline_after"), "0", "1 or more"));
        }
        within(key("turnaround"), unit.turnaround, &PAUSE)?;
        within(key("probe"), unit.probe, &PROBE)?;
    }
    Ok(())
}

/// Checks the groups. There may be at most [`MAX_GROUPS`] groups. Each group must have a unique
/// name, a known unit, and settings within their limits.
pub(super) fn check_groups(config: &Config) -> Result<(), OpenError> {
    if config.group.len() > MAX_GROUPS {
        let (found, wanted) = (config.group.len(), format!("{MAX_GROUPS} at most"));
        return Err(OpenError::new("group", format!("{found} groups"), wanted));
    }
    for (n, group) in config.group.iter().enumerate() {
        let key = |key: &str| format!("group[{}].{key}", group.name);
        if config.group[..n].iter().any(|other| other.name == group.name) {
            let found = format!("{:?}, which another group also has", group.name);
            return Err(OpenError::new(key("name"), found, "a name that no other group has"));
        }
        find("unit", Some(&group.unit), &names(config))
            .map_err(|misfit| OpenError::new(key("unit"), misfit.found, misfit.wanted))?;
        within(key("period"), group.period, &PERIOD)?;
        // One request must be able to read the widest value of the table.
        let least = if group.table.is_bits() { 1 } else { MAX_REGISTERS as u16 };
        let sizes = least..=group.table.most();
        if let Some(max) = group.max.filter(|max| !sizes.contains(max)) {
            let wanted = format!("from {} to {}", sizes.start(), sizes.end());
            return Err(OpenError::new(key("max"), max.to_string(), wanted));
        }
        if group.merge_gap >= group.table.most() {
            let wanted = format!("less than {}", group.table.most());
            return Err(OpenError::new(key("merge_gap"), group.merge_gap.to_string(), wanted));
        }
    }
    Ok(())
}

/// Checks the heartbeat in the configuration, and returns it with its initial state. Returns `None`
/// if the configuration has no heartbeat.
pub(super) fn beat(config: &Config) -> Result<Option<Beat>, OpenError> {
    let Some(said) = &config.heartbeat else { return Ok(None) };
    let unit = find("unit", Some(&said.unit), &names(config))
        .map_err(|misfit| OpenError::new("heartbeat.unit", misfit.found, misfit.wanted))?;
    if !matches!(said.table, Table::Coil | Table::Holding) {
        let found = format!("{:?}", said.table.word());
        return Err(OpenError::new("heartbeat.table", found, "\"coil\" or \"holding\""));
    }
    within("heartbeat.period", said.period, &PERIOD)?;
    Ok(Some(Beat {
        unit,
        unit_id: config.unit[unit].id,
        table: said.table,
        address: said.address,
        period: said.period,
        due: Duration::ZERO,
        on: false,
        seen: 0,
        trouble: OnChange::default(),
    }))
}
