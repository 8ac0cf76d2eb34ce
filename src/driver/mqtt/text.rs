//! Numbers and bools as text: one rule for all texts that a sensor or a person has written.
//!
//! | type | accepted |
//! |---|---|
//! | bool | `true`, `on`, `yes`, `1`; `false`, `off`, `no`, `0`; in any letter case |
//! | every number | `21.5`, `+21.5`, `-3`, `0021.5`, `.5`, `2.15e1`; `21.5 bar` if `unit = "bar"` |
//! | integer without scale and offset | also `42.0`, because it is whole, and `0x2A` |
//!
//! Blanks around the text, a NUL at its end, and one pair of quotes are ignored. Three forms are
//! refused, because one text could then be two values:
//! - `21,5`: a comma is never a decimal point. In `1,234` the comma may separate thousands.
//! - `500 mbar`: a unit must be the key `unit` of the point. Some senders change their unit, for
//!   example from m to km, and this file converts no units.
//! - `0x2A` for a float or with a scale: it may be the value or the raw number.
//!
//! A leading 0 means nothing: `042` is 42. `nan` and `inf` are not numbers here. This file does not
//! check the range of a type; [`Point::raw_of`] does.

use crate::process::image::{Point, PointKind, Value};

/// The maximum number of characters of a text that an error message quotes.
const QUOTED: usize = 60;

/// Reads a text as a value of this point, in the engineering unit of the point.
///
/// # Errors
/// When the text is not a value of the point's type. The error says what was expected and found.
pub(super) fn value(text: &str, point: &Point) -> Result<Value, String> {
    let bare = bare(text);
    let found = |wanted: &str| Err(format!("expected {wanted}, found {}", quoted(text)));
    let is_integer = is_integer(point.kind);
    let is_plain = point.scale == 1.0 && point.offset == 0.0;
    if point.kind == PointKind::Bool {
        let wanted = "true, on, yes or 1, or false, off, no or 0";
        return truth(bare).map_or_else(|| found(wanted), |on| Ok(Value::Bool(on)));
    }
    let number = number(bare, is_integer && is_plain);
    let number = number.or_else(|| number_of(bare, &point.unit, is_integer && is_plain));
    match number {
        Some(Value::Real(real)) if is_integer && is_plain => match real.fract() == 0.0 {
            // `Point::raw_of` checks the range. Up to 2^63 a double is exact enough for that check.
            true => Ok(Value::Int(real as i128)),
            false => found("a whole number"),
        },
        Some(value) => Ok(value),
        None => found(&wanted(bare, &point.unit, is_integer && is_plain)),
    }
}

/// Returns a text for an error message: in quotes, and cut if it is long.
pub(super) fn quoted(text: &str) -> String {
    match text.char_indices().nth(QUOTED) {
        None => format!("{text:?}"),
        Some((end, _)) => format!("{:?} and {} bytes more", &text[..end], text.len() - end),
    }
}

/// Whether the type is an integer type.
pub(super) fn is_integer(kind: PointKind) -> bool {
    !matches!(kind, PointKind::Bool | PointKind::F32 | PointKind::F64)
}

/// Returns the text without surrounding blanks, without NULs at its end, and without one pair of
/// quotes.
fn bare(text: &str) -> &str {
    let text = text.trim_end_matches('\0').trim();
    let inner = |quote| text.strip_prefix(quote)?.strip_suffix(quote);
    inner('"').or_else(|| inner('\'')).unwrap_or(text).trim()
}

/// Reads a bool. A number is a bool if it is exactly 0 or 1.
fn truth(text: &str) -> Option<bool> {
    let is = |word: &&str| text.eq_ignore_ascii_case(word);
    if ["true", "on", "yes"].iter().any(is) {
        return Some(true);
    }
    if ["false", "off", "no"].iter().any(is) {
        return Some(false);
    }
    match number(text, false)? {
        Value::Int(0) | Value::Real(0.0) => Some(false),
        Value::Int(1) | Value::Real(1.0) => Some(true),
        _ => None,
    }
}

/// Reads a finite number without a unit. A number without point and exponent is exact.
fn number(text: &str, allows_hex: bool) -> Option<Value> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    let is_negative = text.starts_with('-');
    let are_digits = |digits: &str| digits.bytes().all(|byte| byte.is_ascii_digit());
    if let Some(hex) = digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")) {
        let is_hex = allows_hex && hex.bytes().all(|byte| byte.is_ascii_hexdigit());
        let size = i128::from_str_radix(hex, 16).ok().filter(|_| is_hex)?;
        return Some(Value::Int(if is_negative { -size } else { size }));
    }
    if !digits.starts_with(|first: char| first.is_ascii_digit() || first == '.') {
        return None;
    }
    if are_digits(digits) {
        return text.parse().ok().map(Value::Int);
    }
    text.parse().ok().filter(|real: &f64| real.is_finite()).map(Value::Real)
}

/// Reads a number that is followed by this unit, with or without a blank between the two.
fn number_of(text: &str, unit: &str, allows_hex: bool) -> Option<Value> {
    let end = text.find(|c: char| !"+-.0123456789eE".contains(c))?;
    // The unit may begin with an e, as in `5 eV`. Therefore the number ends at a blank, if any.
    let end = text.find(char::is_whitespace).unwrap_or(end);
    let (digits, rest) = text.split_at(end);
    let is_unit = !unit.is_empty() && plain(rest.trim()).eq(plain(unit.trim()));
    is_unit.then(|| number(digits, allows_hex)).flatten()
}

/// The characters of a unit. Characters that Unicode defines as another spelling of a unit become
/// the usual spelling: `℃` is `°C`.
fn plain(unit: &str) -> impl Iterator<Item = char> {
    unit.chars().flat_map(|c| match c {
        '℃' => ['°', 'C'].into_iter().take(2),
        '℉' => ['°', 'F'].into_iter().take(2),
        // The micro sign and the ohm sign become Greek letters.
        '\u{b5}' => ['\u{3bc}', ' '].into_iter().take(1),
        '\u{2126}' => ['\u{3a9}', ' '].into_iter().take(1),
        c => [c, ' '].into_iter().take(1),
    })
}

/// Says what was expected in place of a text that is not a number.
fn wanted(text: &str, unit: &str, is_whole: bool) -> String {
    let number = if is_whole { "a whole number" } else { "a number" };
    let (digits, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    if digits.contains(',') && self::number(&digits.replacen(',', ".", 1), false).is_some() {
        return format!("{number} with a decimal point, not a comma");
    }
    let is_unit = !rest.is_empty() && self::number(digits, is_whole).is_some();
    match unit {
        "" if is_unit => format!("{number} without a unit, because the point has no `unit`"),
        unit if is_unit => format!("{number}, or {number} with the unit {unit:?} of the point"),
        _ => number.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::image::Direction;

    fn point(kind: PointKind, unit: &str) -> Point {
        Point { unit: unit.to_owned(), ..Point::new("p", Direction::In, kind) }
    }

    #[test]
    fn bools_are_words() {
        let check = |text: &str, expected: Option<bool>| {
            let found = value(text, &point(PointKind::Bool, ""));
            assert_eq!(found.ok(), expected.map(Value::Bool), "{text:?}");
        };
        for on in ["true", "True", "ON", "on", "Yes", "1", "1.0", " on\n", "\"ON\"", "+1", "01"] {
            check(on, Some(true));
        }
        for off in ["false", "FALSE", "Off", "no", "0", "0.0", "'off'", "false\0", "-0"] {
            check(off, Some(false));
        }
        for bad in ["", "2", "-1", "0.5", "open", "t", "y", "nan", "0x1", "on off", "1 %", "ΟΝ"] {
            check(bad, None);
        }
        assert_eq!(
            value("7", &point(PointKind::Bool, "")).unwrap_err(),
            "expected true, on, yes or 1, or false, off, no or 0, found \"7\""
        );
    }

    #[test]
    fn numbers_are_read_as_people_write_them() {
        let check = |text: &str, kind, unit: &str, expected: Option<Value>| {
            assert_eq!(value(text, &point(kind, unit)).ok(), expected, "{text:?} as {kind}");
        };
        let (real, int) = (|real| Some(Value::Real(real)), |int| Some(Value::Int(int)));
        let float = |text, expected| check(text, PointKind::F64, "", expected);
        float("21.5", real(21.5));
        float(" 6.3\r\n", real(6.3));
        float("+3.5", real(3.5));
        float("00288.5", real(288.5));
        float(".5", real(0.5));
        float("-.5", real(-0.5));
        float("5.", real(5.0));
        float("2.15E+1", real(21.5));
        float("\"21.5\"", real(21.5));
        float("'21.5'", real(21.5));
        float("12\0\0", int(12));
        for bad in ["", ".", "+", "-", "+-5", "- 5", "e3", "NaN", "inf", "infinity", "1e999"] {
            float(bad, None);
        }
        for bad in ["21,5", "1,234", "1.234,5", "1_000", "1 2", "0x2A", "\"", "\"1", "true", "1f"] {
            float(bad, None);
        }
        let whole = |text, expected| check(text, PointKind::I32, "", expected);
        whole("42", int(42));
        whole("042", int(42));
        whole("+42", int(42));
        whole("42.0", int(42));
        whole("4.2e1", int(42));
        whole("0x2A", int(42));
        whole("-0X2a", int(-42));
        for bad in ["42.5", "0x", "0x-1", "0x+1", "2A", "0b1", "0o7", "on", "٣"] {
            whole(bad, None);
        }
        let beyond = Value::Int(i128::from(i64::MIN) - 1);
        check("-9223372036854775809", PointKind::I64, "", Some(beyond));
        let scaled = Point { scale: 0.1, ..point(PointKind::U16, "") };
        assert_eq!(value("4.2", &scaled), Ok(Value::Real(4.2)));
        assert!(value("0x2A", &scaled).is_err(), "it may be the raw number");
    }

    #[test]
    fn a_unit_is_the_unit_of_the_point() {
        let check = |text: &str, unit: &str, expected: Option<f64>| {
            let found = value(text, &point(PointKind::F32, unit));
            assert_eq!(found.ok(), expected.map(Value::Real), "{text:?} in {unit:?}");
        };
        check("20.6 °C", "°C", Some(20.6));
        check("20.6 \u{2103}", "°C", Some(20.6));
        check("20.6°C", "\u{2103}", Some(20.6));
        check("45.0%", "%", Some(45.0));
        check("1.5e3 eV", "eV", Some(1500.0));
        check("1.5 m3/h", "m3/h", Some(1.5));
        check("20.6 °C", "", None);
        check("20.6 °F", "°C", None);
        check("500 mbar", "bar", None);
        check("5 MW", "mW", None);
        check("°C", "°C", None);
        check("1.5 2", "2", Some(1.5));
    }

    #[test]
    fn what_is_refused_says_what_was_expected() {
        let check = |text: &str, kind, unit: &str, expected: &str| {
            assert_eq!(value(text, &point(kind, unit)).unwrap_err(), expected);
        };
        let f64 = PointKind::F64;
        check("twelve", f64, "", "expected a number, found \"twelve\"");
        check("2.5", PointKind::U8, "", "expected a whole number, found \"2.5\"");
        let comma = "expected a number with a decimal point, not a comma, found \"21,5\"";
        check("21,5", f64, "", comma);
        let unit =
            "expected a number without a unit, because the point has no `unit`, found \"5 m\"";
        check("5 m", f64, "", unit);
        let unit =
            "expected a number, or a number with the unit \"bar\" of the point, found \"5 m\"";
        check("5 m", f64, "bar", unit);
        let long = format!("expected a number, found {:?} and 40 bytes more", "x".repeat(60));
        check(&"x".repeat(100), f64, "", &long);
    }
}
