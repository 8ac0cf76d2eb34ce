//! Commands: the inputs of this device, which clients write.
//!
//! A command is valid for the time `expires`, counted from its last write, also if the value was
//! the same. A client that still wants it must therefore repeat it. After that time the input is
//! bad. The scan checks this too, by the age of the value, so it does not depend on this driver. A
//! value out of range is refused and changes nothing.

use std::fmt;
use std::time::Duration;

use serde::Deserialize;
use serde::de::{Deserializer, Error, Visitor};

use super::map::Form;
use super::seen::{Instead, Seen};
use super::shown::form;
use crate::driver::OpenError;
use crate::driver::modbus::wire::register::{Byte, Order};
use crate::driver::modbus::wire::table::Table;
use crate::process::image::{Direction, Freshness, Kind, Point, PointId, Quality, Raw, Value};

/// The range of `expires`. No client can repeat a command over a network faster than the first;
/// longer than a day is for ever.
const EXPIRES: std::ops::RangeInclusive<Duration> =
    Duration::from_millis(10)..=Duration::from_secs(24 * 3600);

/// The tolerance of a limit, as a part of the step from one raw number to the next. It is more than
/// the rounding error of doubles, and less than any difference that is meant.
const STEP: f64 = 1e-6;

/// The key `at` of a point.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct At {
    /// The table of the point: `coil` or `holding`.
    pub table: Table,
    /// The first register or the coil of the point, counted from 0.
    pub address: u16,
    /// The order of the bytes.
    pub order: Option<Order>,
    /// The half of a register that holds the point.
    pub byte: Option<Byte>,
    /// The bit of a register that holds the point.
    pub bit: Option<u8>,
    /// The least value that is accepted, in the unit of the point.
    pub min: Option<Value>,
    /// The greatest value that is accepted, in the unit of the point.
    pub max: Option<Value>,
    /// How long a value is valid. It must be given.
    pub expires: Option<Expires>,
    /// The address of the quality in the same table, which shows whether the command is valid.
    pub quality: Option<u16>,
}

/// The key `expires` of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expires {
    /// A value is valid until the server ends.
    Never,
    /// A value is valid for this long after its last write.
    After(Duration),
}

impl<'de> Deserialize<'de> for Expires {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
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
        from.deserialize_str(Text)
    }
}

/// An input that clients write.
#[derive(Debug)]
pub(super) struct Command {
    pub(super) id: PointId,
    /// The point with its scale and offset; its range is given in their unit.
    point: Point,
    min: Option<Value>,
    max: Option<Value>,
    expires: Option<Duration>,
    pub(super) has_companion: bool,
    /// The last value that was accepted, and when.
    written: Option<(Raw, Duration)>,
}

impl Command {
    /// Plans where a point is written.
    ///
    /// # Errors
    /// When it cannot be written in this way.
    pub(super) fn plan(id: PointId, point: &Point, at: &At) -> Result<(Self, Form), OpenError> {
        let wrong =
            |key: &str, found: &str, wanted: &str| OpenError::at(&point.name, key, found, wanted);
        if point.direction == Direction::Out {
            let wanted = "direction = \"in\": others write it; what they read is listed in `show`";
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
            if point.kind == Kind::Bool || point.raw_of(limit).is_err() {
                let wanted = format!("a number that fits type {}", point.kind);
                return Err(wrong(key, &limit.to_string(), &wanted));
            }
        }
        let (min, max) = (at.min.map(number), at.max.map(number));
        if let (Some(least), Some(most)) = (min, max)
            && least > most
        {
            return Err(wrong("min", &least.to_string(), &format!("at most max, {most}")));
        }
        let has_companion = at.quality.is_some();
        let (min, max) = (at.min, at.max);
        let point = point.clone();
        Ok((Self { id, point, min, max, expires, has_companion, written: None }, form))
    }

    pub(super) fn name(&self) -> &str {
        &self.point.name
    }

    /// How long the scan trusts the command.
    pub(super) fn freshness(&self) -> Freshness {
        Freshness { stale_after: None, bad_after: self.expires }
    }

    /// Whether the command may have this value. The value must be finite. A value at a limit is
    /// accepted, though 1023 * 0.1 is a little more than 102.3.
    pub(super) fn is_in_range(&self, raw: &Raw) -> bool {
        let value = number(self.point.value_of(raw));
        let is_float = matches!(self.point.kind, Kind::F32 | Kind::F64);
        let slack = if is_float { 0.0 } else { self.point.scale.abs() * STEP };
        self.point.is_finite(raw)
            && self.min.is_none_or(|min| value >= number(min) - slack)
            && self.max.is_none_or(|max| value <= number(max) + slack)
    }

    /// Notes the value that was written.
    pub(super) fn take(&mut self, raw: Raw, now: Duration) {
        self.written = Some((raw, now));
    }

    /// Forgets the value that was written.
    pub(super) fn forget(&mut self) {
        self.written = None;
    }

    /// What is known about the command at `now`.
    pub(super) fn look(&self, now: Duration) -> Seen {
        let Some((raw, at)) = self.written else { return Seen::nothing(Quality::Waiting) };
        let quality = self.freshness().judge(Quality::Good, now.saturating_sub(at));
        Seen { raw: Some(raw), quality }
    }

    /// The answer to a read of a command that is no longer valid.
    pub(super) fn instead(&self) -> Instead {
        if self.has_companion { Instead::Keep } else { Instead::Exception }
    }
}

/// The value as a double, for comparing. Beyond 2^53 a limit is as exact as a double.
fn number(value: Value) -> f64 {
    match value {
        Value::Bool(on) => f64::from(u8::from(on)),
        Value::Int(value) => value as f64,
        Value::Real(value) => value,
    }
}

/// The key `expires` of a point, checked; `None` for never.
fn expires(
    point: &Point,
    at: &At,
    wrong: &impl Fn(&str, &str, &str) -> OpenError,
) -> Result<Option<Duration>, OpenError> {
    if point.freshness.bad_after.is_some() {
        let wanted = "that in `expires` only, which also tells the writer";
        return Err(wrong("expires", "a point with `bad_after`", wanted));
    }
    match at.expires {
        Some(Expires::Never) => Ok(None),
        Some(Expires::After(after)) if EXPIRES.contains(&after) => Ok(Some(after)),
        Some(Expires::After(after)) => {
            let found = humantime::format_duration(after).to_string();
            Err(wrong("expires", &found, "from 10ms to 1day, or \"never\""))
        }
        // Only the engineer of the plant knows how long silence may last, so there is no default.
        None => Err(wrong("expires", "nothing", "a duration such as \"10s\", or \"never\"")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_in_the_unit_of_the_point() {
        let point =
            Point { scale: 0.1, offset: -10.0, ..Point::new("c", Direction::In, Kind::U16) };
        let at = At {
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
        let point = Point { scale: 0.1, ..Point::new("c", Direction::In, Kind::U16) };
        let at = At { max: Some(Value::Real(102.3)), min: None, ..at };
        let (command, _) = Command::plan(PointId(0), &point, &at).unwrap();
        assert!(command.is_in_range(&[0xff, 3, 0, 0, 0, 0, 0, 0]), "1023");
        assert!(!command.is_in_range(&[0, 4, 0, 0, 0, 0, 0, 0]), "1024");
        // Without a limit any number is accepted, but it must be a number in the unit of the point.
        let point = Point { scale: 1e10, ..Point::new("c", Direction::In, Kind::F64) };
        let at = At { max: None, ..at };
        let (command, _) = Command::plan(PointId(0), &point, &at).unwrap();
        for (raw, expected) in [(1e290, true), (1e300, false), (f64::NAN, false)] {
            assert_eq!(command.is_in_range(&raw.to_le_bytes()), expected, "{raw}");
        }
    }

    #[test]
    fn a_command_is_believed_for_a_while() {
        let mut command = Command {
            id: PointId(0),
            point: Point::new("c", Direction::In, Kind::Bool),
            min: None,
            max: None,
            expires: Some(Duration::from_secs(10)),
            has_companion: false,
            written: None,
        };
        let at = Duration::from_secs;
        assert_eq!(command.look(at(1)), Seen::nothing(Quality::Waiting));
        command.take([1; 8], at(5));
        assert_eq!(command.look(at(14)), Seen { raw: Some([1; 8]), quality: Quality::Good });
        assert_eq!(command.look(at(15)).quality, Quality::NoComm);
        command.take([1; 8], at(16));
        assert_eq!(command.look(at(16)).quality, Quality::Good);
    }
}
