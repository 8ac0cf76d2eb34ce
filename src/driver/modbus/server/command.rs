//! Commands: the input points of a `modbus_server` device. Clients write the commands, and programs
//! read them.
//!
//! A command is valid for the time `expires`, counted from its last write. With `expires =
//! "never"`, the command is valid until the server ends or panics. Every valid write restarts the
//! time `expires`, whether the value is new or equal to the old value. Therefore a client must
//! repeat a command as long as it wants the command to be valid. After the time `expires`, the
//! quality of the input is bad. Both this driver and the scan check the age of the value, so a
//! command expires even if this driver hangs. If a write contains a value out of range, the server
//! refuses the whole write, and no command changes.

use std::fmt;
use std::time::Duration;

use serde::Deserialize;
use serde::de::{Deserializer, Error, Visitor};

use super::map::Form;
use super::seen::{Instead, Seen};
use super::shown::form;
use crate::driver::OpenError;
use crate::driver::modbus::wire::register::{Byte, WordOrder};
use crate::driver::modbus::wire::table::Table;
use crate::process::image::{Direction, Freshness, Point, PointId, PointKind, Quality, Raw, Value};

/// The range of `expires`. No client can repeat a command over a network faster than every 10 ms. A
/// command that is valid for more than a day practically never expires.
const EXPIRES: std::ops::RangeInclusive<Duration> =
    Duration::from_millis(10)..=Duration::from_secs(24 * 3600);

/// The tolerance of the limits `min` and `max`, as a fraction of the step between two raw integers.
/// Floats have no tolerance. The tolerance is larger than the rounding error of doubles. It is
/// smaller than every intended difference between a value and a limit.
const STEP: f64 = 1e-6;

/// The key `at` of a point: where clients write the point, and which values are accepted.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CommandAddress {
    /// The table of the point: `coil` or `holding`.
    pub table: Table,
    /// The address of the point's coil or first register, counted from 0.
    pub address: u16,
    /// The order of the bytes in the registers. The default is the most significant byte first.
    pub order: Option<WordOrder>,
    /// The half of its register that the point occupies.
    pub byte: Option<Byte>,
    /// The bit of its register that the point occupies.
    pub bit: Option<u8>,
    /// The smallest value that is accepted, after scale and offset.
    pub min: Option<Value>,
    /// The greatest value that is accepted, after scale and offset.
    pub max: Option<Value>,
    /// The time for which a written value is valid. The plan refuses a point without this key.
    pub expires: Option<Expires>,
    /// The address of the quality in the same table. A client reads there whether the command is
    /// valid.
    pub quality: Option<u16>,
}

/// The value of the key `expires` of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expires {
    /// The written value is valid until the server ends or panics.
    Never,
    /// The written value is valid for this time after its last write.
    After(Duration),
}

impl<'de> Deserialize<'de> for Expires {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct ExpiresVisitor;
        impl Visitor<'_> for ExpiresVisitor {
            type Value = Expires;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("\"never\" or a duration such as \"10s\"")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Expires, E> {
                match humantime::parse_duration(text) {
                    _ if text == "never" => Ok(Expires::Never),
                    Ok(after) => Ok(Expires::After(after)),
                    Err(_) => Err(E::invalid_value(serde::de::Unexpected::Str(text), &self)),
                }
            }
        }
        from.deserialize_str(ExpiresVisitor)
    }
}

/// One command: an input that clients write.
#[derive(Debug)]
pub(super) struct Command {
    pub(super) id: PointId,
    /// The point with its scale and offset. The limits apply to the value after scale and offset.
    point: Point,
    min: Option<Value>,
    max: Option<Value>,
    expires: Option<Duration>,
    /// Whether the command has a quality that clients can read.
    pub(super) has_companion: bool,
    /// The last accepted value, and the time of its write. `None` before the first accepted write,
    /// and after a panic of the server until the next accepted write.
    written: Option<(Raw, Duration)>,
}

impl Command {
    /// Plans one command: checks its keys and returns the command with the [`Form`] of its value.
    ///
    /// # Errors
    /// When clients cannot write the point as the keys describe it.
    pub(super) fn plan(
        id: PointId,
        point: &Point,
        at: &CommandAddress,
    ) -> Result<(Self, Form), OpenError> {
        let wrong =
            |key: &str, found: &str, wanted: &str| OpenError::at(&point.name, key, found, wanted);
        if point.direction == Direction::Out {
            let wanted = "direction = \"in\", because clients write the point; \
                          `show` lists the values that clients read";
            return Err(wrong("", "an output", wanted));
        }
        if !matches!(at.table, Table::Coil | Table::Holding) {
            let found = format!("{:?}, which cannot be written", at.table.word());
            return Err(wrong("table", &found, "\"coil\" or \"holding\""));
        }
        let form = form(at.table, point.kind, (at.order, at.byte, at.bit), &wrong)?;
        let expires = expires(point, at, &wrong)?;
        for (key, limit) in [("min", at.min), ("max", at.max)] {
            let Some(limit) = limit else { continue };
            if point.kind == PointKind::Bool || point.raw_of(limit).is_err() {
                let wanted = format!("a number that fits type {}", point.kind);
                return Err(wrong(key, &limit.to_string(), &wanted));
            }
        }
        let (min, max) = (at.min.map(number), at.max.map(number));
        if let (Some(least), Some(most)) = (min, max)
            && least > most
        {
            return Err(wrong(
                "min",
                &least.to_string(),
                &format!("at most {most}, the value of `max`"),
            ));
        }
        let has_companion = at.quality.is_some();
        let (min, max) = (at.min, at.max);
        let point = point.clone();
        Ok((Self { id, point, min, max, expires, has_companion, written: None }, form))
    }

    pub(super) fn name(&self) -> &str {
        &self.point.name
    }

    /// Returns how long the scan trusts the command after its last write.
    pub(super) fn freshness(&self) -> Freshness {
        Freshness { stale_after: None, bad_after: self.expires }
    }

    /// Whether the command accepts this value. The value must be a measurement
    /// (`process/image/wire.rs`), and within the limits `min` and `max`. A value at a limit is
    /// accepted despite rounding: 1023 * 0.1 is a little more than 102.3.
    pub(super) fn is_in_range(&self, raw: &Raw) -> bool {
        let value = number(self.point.value_of(raw));
        let is_float = matches!(self.point.kind, PointKind::F32 | PointKind::F64);
        let slack = if is_float { 0.0 } else { self.point.scale.abs() * STEP };
        self.point.is_measurement(raw)
            && self.min.is_none_or(|min| value >= number(min) - slack)
            && self.max.is_none_or(|max| value <= number(max) + slack)
    }

    /// Records a value that a client has written at the time `now`.
    pub(super) fn take(&mut self, raw: Raw, now: Duration) {
        self.written = Some((raw, now));
    }

    /// Deletes the value that was written last.
    pub(super) fn forget(&mut self) {
        self.written = None;
    }

    /// Returns the value and the quality of the command at the time `now`.
    pub(super) fn seen(&self, now: Duration) -> Seen {
        let Some((raw, at)) = self.written else { return Seen::nothing(Quality::Waiting) };
        let quality = self.freshness().judge(Quality::Good, now.saturating_sub(at));
        Seen { raw: Some(raw), quality }
    }

    /// Returns the answer of the server if a client reads this command and the command is not
    /// valid. If the command has a quality, the answer is the last written value, or exception 4
    /// before the first write. If it has none, the answer is exception 4.
    pub(super) fn instead(&self) -> Instead {
        if self.has_companion { Instead::Keep } else { Instead::Exception }
    }
}

/// Converts the value to a double for comparisons. An integer above 2^53 or below -2^53 may be
/// rounded, because a double cannot represent every integer of this size.
fn number(value: Value) -> f64 {
    match value {
        Value::Bool(on) => f64::from(u8::from(on)),
        Value::Int(value) => value as f64,
        Value::Real(value) => value,
    }
}

/// Checks the key `expires` of a point, and refuses a point that has the key `bad_after`. Returns
/// `None` if the command never expires.
fn expires(
    point: &Point,
    at: &CommandAddress,
    wrong: &impl Fn(&str, &str, &str) -> OpenError,
) -> Result<Option<Duration>, OpenError> {
    if point.freshness.bad_after.is_some() {
        let wanted = "a point without `bad_after`: with `expires` alone, a client can also see \
                      that the command has expired";
        return Err(wrong("expires", "a point with `bad_after`", wanted));
    }
    match at.expires {
        Some(Expires::Never) => Ok(None),
        Some(Expires::After(after)) if EXPIRES.contains(&after) => Ok(Some(after)),
        Some(Expires::After(after)) => {
            let found = humantime::format_duration(after).to_string();
            Err(wrong("expires", &found, "from 10ms to 1day, or \"never\""))
        }
        // The key has no default, because only the engineer of the plant knows how long a client
        // may be silent.
        None => Err(wrong("expires", "nothing", "a duration such as \"10s\", or \"never\"")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_in_the_unit_of_the_point() {
        let point =
            Point { scale: 0.1, offset: -10.0, ..Point::new("c", Direction::In, PointKind::U16) };
        let at = CommandAddress {
            table: Table::Holding,
            address: 0,
            order: None,
            byte: None,
            bit: None,
            min: Some(Value::Int(0)),
            max: Some(Value::Real(20.5)),
            expires: Some(Expires::Never),
            quality: None,
        };
        let (command, _) = Command::plan(PointId(0), &point, &at).unwrap();
        let check = |raw: u16, expected| {
            let [low, high] = raw.to_le_bytes();
            assert_eq!(command.is_in_range(&[low, high, 0, 0, 0, 0, 0, 0]), expected, "{raw}");
        };
        check(0, false);
        check(99, false);
        check(100, true);
        check(305, true);
        check(306, false);
        check(0xffff, false);
        let point = Point { scale: 0.1, ..Point::new("c", Direction::In, PointKind::U16) };
        let at = CommandAddress { max: Some(Value::Real(102.3)), min: None, ..at };
        let (command, _) = Command::plan(PointId(0), &point, &at).unwrap();
        assert!(command.is_in_range(&[0xff, 3, 0, 0, 0, 0, 0, 0]), "1023");
        assert!(!command.is_in_range(&[0, 4, 0, 0, 0, 0, 0, 0]), "1024");
        // Without a limit, the command accepts every number that is finite after scale and offset.
        let point = Point { scale: 1e10, ..Point::new("c", Direction::In, PointKind::F64) };
        let at = CommandAddress { max: None, ..at };
        let (command, _) = Command::plan(PointId(0), &point, &at).unwrap();
        for (raw, expected) in [(1e290, true), (1e300, false), (f64::NAN, false)] {
            assert_eq!(command.is_in_range(&raw.to_le_bytes()), expected, "{raw}");
        }
    }

    #[test]
    fn a_command_is_believed_for_a_while() {
        let mut command = Command {
            id: PointId(0),
            point: Point::new("c", Direction::In, PointKind::Bool),
            min: None,
            max: None,
            expires: Some(Duration::from_secs(10)),
            has_companion: false,
            written: None,
        };
        let at = Duration::from_secs;
        assert_eq!(command.seen(at(1)), Seen::nothing(Quality::Waiting));
        command.take([1; 8], at(5));
        assert_eq!(command.seen(at(14)), Seen { raw: Some([1; 8]), quality: Quality::Good });
        assert_eq!(command.seen(at(15)).quality, Quality::NoComm);
        command.take([1; 8], at(16));
        assert_eq!(command.seen(at(16)).quality, Quality::Good);
    }
}
