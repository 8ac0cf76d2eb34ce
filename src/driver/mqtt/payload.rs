//! The payload of a command: text or JSON, as sensors and people send it.
//!
//! | key `json` | payload | value |
//! |---|---|---|
//! | not set | text such as `21.5` or `ON` | the text, see [`rules`] |
//! | not set | `{"value": 21.5, "time": "2026-11-28T08:00:00Z"}` | the member `value` |
//! | `battery.level` | `{"battery": {"level": 87}}` | the member at this path |
//! | `cells.1` | `{"cells": [3.31, 3.29]}` | the second element |
//!
//! In JSON, a value may be a number, a bool or a text. A payload without a value for the point is
//! refused, and the error says what was expected and found. Nothing is guessed: a JSON object
//! without `value` needs the key `json`.
//!
//! The member `time` of a JSON object is the time of sending. `command.rs` decides how long the
//! value is valid then. This file makes no difference between old and new payloads.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::driver::words::{self, Bases, Bools, Rules, Units, shown};
use crate::process::image::{Point, PointKind, Value};

/// The maximum length of a payload, in bytes. The JSON of a sensor with some hundred values has
/// this length.
pub(super) const MAX_TEXT: usize = 16 << 10;

/// The maximum number of keys that an error message lists.
const LISTED: usize = 5;

/// The smallest number that counts as milliseconds since 1970, not as seconds. As milliseconds it
/// is in the year 1973, as seconds in the year 5138.
const MILLISECONDS: f64 = 1e11;

/// The greatest number that counts as milliseconds since 1970: the year 5138. A greater number may
/// be microseconds or nanoseconds.
const MAX_MILLISECONDS: f64 = 1e14;

/// The earliest time that counts as a time in a payload with the key `json`: the year 2001, in
/// seconds since 1970. A smaller number may be the time since the start of the sensor.
const PLAUSIBLE: Duration = Duration::from_secs(1_000_000_000);

/// The payload of one message. The points of its topic read their values from it.
pub(super) struct Payload<'a> {
    /// The payload without surrounding blanks.
    text: &'a str,
    /// The content of the payload if it is a JSON object or array, or why it is not valid JSON.
    /// `None` for any other text.
    json: Option<Result<&'a RawValue, String>>,
}

/// The members of a JSON object, in their order, each with its JSON text.
struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'a> Payload<'a> {
    /// Makes the payload of a message.
    ///
    /// # Errors
    /// When the payload is too long or not text.
    pub(super) fn new(payload: &'a [u8]) -> Result<Self, String> {
        if payload.len() > MAX_TEXT {
            let found = payload.len();
            return Err(format!("the payload has {found} bytes; the limit is {MAX_TEXT}"));
        }
        let text = str::from_utf8(payload).map_err(|_| "the payload is not UTF-8".to_owned())?;
        let text = text.trim();
        let json = text.starts_with(['{', '[']).then(|| {
            // The library parses the whole text here, so that a cut payload gives no value.
            serde_json::from_str(text).map_err(|error| error.to_string())
        });
        Ok(Self { text, json })
    }

    /// Reads the value of a point, and the time of sending if the payload contains one. `json` is
    /// the path of the value.
    ///
    /// # Errors
    /// When the payload has no value of the point's type there.
    pub(super) fn read(
        &self,
        json: Option<&str>,
        point: &Point,
    ) -> Result<(Value, Option<SystemTime>), String> {
        let broken = |why: &String| format!("expected JSON, found {}: {why}", shown(self.text));
        match (json, &self.json) {
            (_, Some(Err(why))) => Err(broken(why)),
            (None, Some(Ok(object))) if self.text.starts_with('{') => named(object, point),
            (None, _) => Ok((words::value(self.text, rules(point))?, None)),
            (Some(path), None) => {
                let found = shown(self.text);
                Err(format!("expected JSON with a value at `{path}`, found {found}"))
            }
            (Some(path), Some(Ok(whole))) => {
                let value = value(find(whole, path, point)?, path, point)?;
                Ok((value, foreign_time(whole)))
            }
        }
    }
}

/// Reads an object without the key `json`: the members `value` and, if present, `time`.
fn named(object: &RawValue, point: &Point) -> Result<(Value, Option<SystemTime>), String> {
    let members = Members::of(object)?;
    let Some(json) = members.find("value")? else {
        let found = members.listed();
        return Err(format!(
            "expected `value` in the JSON object, found {found}: \
             set the key `json` in `at` to the path of the value"
        ));
    };
    let sent = match members.find("time")?.map(RawValue::get) {
        None | Some("null") => None,
        Some(time) => Some(instant(time)?),
    };
    Ok((value(json, "value", point)?, sent))
}

/// Reads the member `time` of a payload whose form the sender has chosen. A `time` in another form
/// is ignored, for example a local time without its offset: the value is then valid from its
/// arrival, as if it had no time.
fn foreign_time(whole: &RawValue) -> Option<SystemTime> {
    let members = Members::of(whole).ok()?;
    let sent = instant(members.find("time").ok()??.get()).ok()?;
    sent.duration_since(UNIX_EPOCH).is_ok_and(|since| since >= PLAUSIBLE).then_some(sent)
}

/// Finds the JSON text at a path. If an object has the whole rest of the path as one key, this
/// member is meant.
fn find<'a>(whole: &'a RawValue, path: &str, point: &Point) -> Result<&'a RawValue, String> {
    let wanted = || format!("expected {} at `{path}`", wanted(point));
    let (mut at, mut rest) = (whole, path);
    loop {
        let place = path[..path.len() - rest.len()].trim_end_matches('.');
        let place = if place.is_empty() { "the payload".into() } else { format!("`{place}`") };
        let (key, after) = rest.split_once('.').map_or((rest, None), |(k, r)| (k, Some(r)));
        if at.get().starts_with('[') {
            let all: Vec<&RawValue> = parse(at)?;
            let element = key.parse().ok().and_then(|key: usize| all.get(key).copied());
            at = element.ok_or_else(|| {
                format!("{}, found no element {key} of {} in {place}", wanted(), all.len())
            })?;
        } else if at.get().starts_with('{') {
            let members = Members::of(at)?;
            if let Some(member) = members.find(rest)? {
                return Ok(member);
            }
            let missing = || format!("{}, found {} in {place}", wanted(), members.listed());
            at = members.find(key)?.ok_or_else(missing)?;
        } else {
            return Err(format!("{}, found {} in place of {place}", wanted(), kind(at)));
        }
        match after {
            Some(after) => rest = after,
            None => return Ok(at),
        }
    }
}

/// Converts the JSON text of a number, a bool or a text to a value of the point.
fn value(json: &RawValue, path: &str, point: &Point) -> Result<Value, String> {
    let text = json.get();
    if text.starts_with(['{', '[', 'n']) {
        return Err(format!("expected {} at `{path}`, found {}", wanted(point), kind(json)));
    }
    let text = match text.starts_with('"') {
        true => parse(json)?,
        false => text.to_owned(),
    };
    words::value(&text, rules(point)).map_err(|why| format!("{why} at `{path}`"))
}

/// Returns the rules for a text. The value is in the engineering unit of the point. Any sender may
/// write the text, so a form with which two senders could mean different values is refused.
fn rules(point: &Point) -> Rules<'_> {
    let is_whole = point.is_whole();
    // Some senders change their unit, for example from m to km. Only `unit` says which one counts.
    let units = match &*point.unit {
        "" => Units::Never,
        unit => Units::Only(unit),
    };
    let bases = if is_whole { Bases::Hexadecimal } else { Bases::Decimal };
    Rules { kind: point.kind, is_whole, units, bases, bools: Bools::ZeroOrOne }
}

/// Names the type of value that a point needs.
fn wanted(point: &Point) -> &'static str {
    match point.kind {
        PointKind::Bool => "a bool",
        _ => "a number",
    }
}

/// Names a JSON text in an error message.
fn kind(json: &RawValue) -> String {
    match json.get().as_bytes().first() {
        Some(b'{') => "an object".to_owned(),
        Some(b'[') => "an array".to_owned(),
        _ => shown(json.get()),
    }
}

/// Parses a part of a payload that is valid JSON.
fn parse<'a, T: Deserialize<'a>>(json: &'a RawValue) -> Result<T, String> {
    serde_json::from_str(json.get()).map_err(|error| error.to_string())
}

/// Reads a time of sending: a text in the format of RFC 3339, or a number of seconds or of
/// milliseconds since 1970.
fn instant(json: &str) -> Result<SystemTime, String> {
    const WANTED: &str = "expected a time such as \"2026-11-28T08:00:00Z\", or a number of seconds \
                          or milliseconds since 1970";
    let wrong = || format!("{WANTED}, found {} at `time`", shown(json));
    if !json.starts_with('"') {
        let number: f64 = json.parse().map_err(|_| wrong())?;
        let seconds = match number {
            ..MILLISECONDS => number,
            ..MAX_MILLISECONDS => number / 1e3,
            _ => return Err(wrong()),
        };
        let since = Duration::try_from_secs_f64(seconds).map_err(|_| wrong())?;
        return UNIX_EPOCH.checked_add(since).ok_or_else(wrong);
    }
    let text: String = serde_json::from_str(json).map_err(|_| wrong())?;
    rfc3339(&text).ok_or_else(wrong)
}

/// Reads a time in the format of RFC 3339. The library reads only times in UTC, so this function
/// converts a time with an offset such as `+01:00`.
fn rfc3339(text: &str) -> Option<SystemTime> {
    if let Ok(time) = humantime::parse_rfc3339(text) {
        return Some(time);
    }
    let (local, offset) = text.split_at_checked(text.len().checked_sub(6)?)?;
    let time = humantime::parse_rfc3339(&format!("{local}Z")).ok()?;
    let (sign, offset) = offset.split_at_checked(1)?;
    let (hours, minutes) = offset.split_once(':')?;
    let number = |digits: &str, end: u64| {
        let is_number = digits.len() == 2 && digits.bytes().all(|byte| byte.is_ascii_digit());
        digits.parse::<u64>().ok().filter(|number| is_number && *number < end)
    };
    let offset = Duration::from_secs(3600 * number(hours, 24)? + 60 * number(minutes, 60)?);
    match sign {
        "+" => time.checked_sub(offset),
        "-" => time.checked_add(offset),
        _ => None,
    }
}

impl<'a> Members<'a> {
    /// Reads the members of an object.
    fn of(json: &'a RawValue) -> Result<Self, String> {
        parse(json)
    }

    /// Finds a member. A key that occurs twice is refused, because only one of its values is meant.
    fn find(&self, key: &str) -> Result<Option<&'a RawValue>, String> {
        let mut found = self.0.iter().filter(|(name, _)| name == key).map(|(_, json)| *json);
        let first = found.next();
        match found.next() {
            None => Ok(first),
            Some(_) => Err(format!("expected `{key}` once in the JSON object, found it twice")),
        }
    }

    /// Lists the keys for an error message.
    fn listed(&self) -> String {
        let keys = self.0.iter().take(LISTED).map(|(key, _)| format!("`{}`", key.escape_debug()));
        let keys: Vec<_> = keys.collect();
        match self.0.len() {
            0 => "no keys".to_owned(),
            1 => format!("only {}", keys[0]),
            count if count > LISTED => {
                format!("{} and {} more keys", keys.join(", "), count - LISTED)
            }
            _ => keys.join(", "),
        }
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    /// This code is not derived, because a map of the standard library would keep only one of two
    /// equal keys.
    fn deserialize<D: Deserializer<'de>>(json: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Members<'de>, M::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        json.deserialize_map(Object)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::image::Direction;

    /// Reads a payload as the value of a float point.
    fn read(payload: &str, json: Option<&str>) -> Result<(Value, Option<SystemTime>), String> {
        let point = Point::new("p", Direction::In, PointKind::F64);
        Payload::new(payload.as_bytes())?.read(json, &point)
    }

    fn said(payload: &str) -> Result<Value, String> {
        read(payload, None).map(|(value, _)| value)
    }

    #[test]
    fn payloads_are_values() {
        assert_eq!(said("12.5"), Ok(Value::Real(12.5)));
        assert_eq!(said(" -3\n"), Ok(Value::Int(-3)));
        let beyond = Value::Int(i128::from(i64::MIN) - 1);
        assert_eq!(said("-9223372036854775809"), Ok(beyond));
        assert_eq!(said(r#"{"value": -9223372036854775809}"#), Ok(beyond));
        assert_eq!(said(r#"{"value": 1e3, "unit": "rpm"}"#), Ok(Value::Int(1000)));
        assert_eq!(said(r#"{"value": "+21.50 "}"#), Ok(Value::Real(21.5)));
        for bad in ["", "NaN", "1e999", "twelve", "[1]", "1 2", "true", "\"21.5\""] {
            assert!(said(bad).unwrap_err().starts_with("expected a number"), "{bad}");
        }
        assert_eq!(Payload::new(&[0xff]).err().unwrap(), "the payload is not UTF-8");
        assert!(said(&"1".repeat(20_000)).unwrap_err().contains("the limit is 16384"));
        let padded = format!("{{\"value\":7.5,\"pad\":\"{}\"}}", "x".repeat(1500));
        assert_eq!(said(&padded), Ok(Value::Real(7.5)));
    }

    #[test]
    fn the_point_decides_which_texts_are_values() {
        let read = |text: &str, point: &Point| {
            let words = Payload::new(text.as_bytes()).unwrap().read(None, point);
            let json = format!("{{\"v\":{text:?}}}");
            let json = Payload::new(json.as_bytes()).unwrap().read(Some("v"), point);
            assert_eq!(words.is_ok(), json.is_ok(), "{text:?} is read alike in both forms");
            words.map(|(value, _)| value)
        };
        let point = |kind, scale, unit: &str| {
            let point = Point::new("p", Direction::In, kind);
            Point { scale, unit: unit.into(), ..point }
        };
        let whole = point(PointKind::U16, 1.0, "");
        let scaled = point(PointKind::U16, 0.1, "bar");
        assert_eq!(read("0x2A", &whole), Ok(Value::Int(42)));
        let error = "expected a decimal number of type u16, found \"0x2A\"";
        assert_eq!(read("0x2A", &scaled), Err(error.to_owned()), "it may be the raw number");
        assert!(read("0x2A", &point(PointKind::F64, 1.0, "")).is_err());
        assert!(read("0b10", &whole).is_err(), "it may be hexadecimal");
        assert_eq!(read("42.0", &whole), Ok(Value::Int(42)));
        let error = "expected a whole number that fits type u16, found \"4.2\"";
        assert_eq!(read("4.2", &whole), Err(error.to_owned()));
        assert_eq!(read("4.2", &scaled), Ok(Value::Real(4.2)));
        assert_eq!(read("4.2 bar", &scaled), Ok(Value::Real(4.2)));
        assert!(read("500 mbar", &scaled).is_err());
        assert!(read("5 bar", &whole).is_err(), "the sender may change its unit");
        let bool = point(PointKind::Bool, 1.0, "");
        assert_eq!(read("T", &bool), Ok(Value::Bool(true)));
        assert_eq!(read("1.0", &bool), Ok(Value::Bool(true)));
        assert!(read("2", &bool).is_err());
        assert!(read("0x1", &bool).is_err());
    }

    #[test]
    fn a_path_leads_to_a_value() {
        let payload = r#"{"battery": {"level": 87, "low": "OFF", "v": null}, "a.b": {"c.d": 4},
                          "cells": [3.31, {"t": "21.5"}], "f": 1, "f": 2, "ü": 0.1e2}"#;
        let check = |path: &str, expected: Result<Value, &str>| {
            let found = read(payload, Some(path)).map(|(value, _)| value);
            assert_eq!(found.as_ref().map_err(String::as_str), expected.as_ref().map_err(|e| *e));
        };
        check("battery.level", Ok(Value::Int(87)));
        check("cells.0", Ok(Value::Real(3.31)));
        check("cells.1.t", Ok(Value::Real(21.5)));
        check("a.b", Err("expected a number at `a.b`, found an object"));
        check("ü", Ok(Value::Int(10)));
        check(
            "battery.power",
            Err("expected a number at `battery.power`, found `level`, `low`, `v` in `battery`"),
        );
        check(
            "level",
            Err("expected a number at `level`, found `battery`, `a.b`, `cells`, `f`, `f` and 1 \
                 more keys in the payload"),
        );
        check(
            "battery.level.x",
            Err("expected a number at `battery.level.x`, found \"87\" in place of \
                 `battery.level`"),
        );
        check("battery.v", Err("expected a number at `battery.v`, found \"null\""));
        check(
            "battery.low",
            Err(
                "expected a number of type f64 (type = \"bool\" accepts this word), found \"OFF\" \
                 at `battery.low`",
            ),
        );
        check("cells", Err("expected a number at `cells`, found an array"));
        check("cells.2", Err("expected a number at `cells.2`, found no element 2 of 2 in `cells`"));
        check(
            "cells.-1",
            Err("expected a number at `cells.-1`, found no element -1 of 2 in `cells`"),
        );
        check("f", Err("expected `f` once in the JSON object, found it twice"));
        assert_eq!(read(r#"{"a.b": 4}"#, Some("a.b")).unwrap().0, Value::Int(4));
        assert_eq!(read("[5, 6]", Some("1")).unwrap().0, Value::Int(6));
        let found = read("21.5", Some("a")).unwrap_err();
        assert_eq!(found, "expected JSON with a value at `a`, found \"21.5\"");
        let found = read(r#"{"a": 21.5"#, Some("a")).unwrap_err();
        assert!(found.starts_with(r#"expected JSON, found "{\"a\": 21.5": EOF"#), "{found}");
    }

    #[test]
    fn an_object_without_a_value_needs_a_path() {
        let refused = |payload: &str, found: &str| {
            let expected = format!(
                "expected `value` in the JSON object, found {found}: \
                 set the key `json` in `at` to the path of the value"
            );
            assert_eq!(said(payload), Err(expected));
        };
        refused(r#"{"temperature": 22.25}"#, "only `temperature`");
        refused(r#"{"battery": 100, "temperature": 22.25}"#, "`battery`, `temperature`");
        refused("{}", "no keys");
        let found = said(r#"{"value": null}"#).unwrap_err();
        assert_eq!(found, "expected a number at `value`, found \"null\"");
        let found = said(r#"{"value": 1, "value": 2}"#).unwrap_err();
        assert_eq!(found, "expected `value` once in the JSON object, found it twice");
    }

    #[test]
    fn a_time_is_a_text_or_a_number() {
        let sent = |time: &str| {
            let (_, sent) = read(&format!("{{\"value\":1,\"time\":{time}}}"), None)?;
            Ok(sent.map(|sent| sent.duration_since(UNIX_EPOCH).unwrap().as_millis()))
        };
        let ok = |time: &str, ms| assert_eq!(sent(time), Ok::<_, String>(Some(ms)), "{time}");
        ok("1764316800000", 1_764_316_800_000);
        ok("1764316800", 1_764_316_800_000);
        ok("1764316800.5", 1_764_316_800_500);
        ok("3600", 3_600_000);
        ok("\"2025-11-28T08:00:00Z\"", 1_764_316_800_000);
        ok("\"2025-11-28T08:00:00.5Z\"", 1_764_316_800_500);
        ok("\"2025-11-28T09:00:00+01:00\"", 1_764_316_800_000);
        ok("\"2025-11-28T07:30:00.123-00:30\"", 1_764_316_800_123);
        assert_eq!(sent("null"), Ok(None));
        let bad = ["-1", "1e14", "1764316800000000", "true", "[1]", "\"now\"", "\"1764316800\""];
        let local = ["\"2025-11-28T08:00:00\"", "\"2025-11-28\"", "\"2025-11-28T08:00:00+01\""];
        let offset = ["\"+01:00\"", "\"ü+01:00\"", "\"2025-11-28T08:00:00+1:000\""];
        let far = ["\"2025-11-28T08:00:00+24:00\"", "\"2025-11-28T08:00:00 01:00\""];
        for bad in bad.iter().chain(&local).chain(&offset).chain(&far) {
            let found = sent(bad).unwrap_err();
            assert!(found.starts_with("expected a time such as \"2026-"), "{bad}: {found}");
            assert!(found.ends_with(&format!("found {bad:?} at `time`")), "{bad}: {found}");
        }
    }

    #[test]
    fn a_time_of_the_senders_own_form_is_ignored() {
        let sent = |time: &str| {
            let payload = format!("{{\"t\":1,\"time\":{time}}}");
            read(&payload, Some("t")).unwrap().1.is_some()
        };
        assert!(sent("1764316800000") && sent("\"2025-11-28T08:00:00Z\""));
        for other in ["3600", "\"12:30\"", "\"2025-11-28 08:00:00\"", "null", "{}", "1e20"] {
            assert!(!sent(other), "{other}");
        }
        assert_eq!(read("[1]", Some("0")).unwrap().1, None);
    }
}
