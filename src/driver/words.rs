//! Values in texts, as people and other programs write them: `45.2 C`, `0x1f`, `on`, `23.000000`.
//!
//! A text is read only if it has one meaning. A value that a person might read in another way is
//! refused, because a wrong value with a good quality is worse than no value. Examples of texts
//! that are refused:
//!
//! | text | why |
//! |---|---|
//! | `1,5` | the comma may separate a fraction, thousands or two values |
//! | `1 2`, two lines | which of the values counts is not known |
//! | `12abc`, `45C` | `12abc` may be hexadecimal; a blank must separate number and unit |
//! | `12 error` | the word may say that the number is not valid; only known units are accepted |
//! | `45 F`, and the point has the unit °C | the number must be converted |
//! | `nan`, `inf` | not a measured value |
//!
//! Around the value there may be blanks, line ends, a byte order mark before it and NUL characters
//! after it, because programs in C often write the end of a string too. A number may begin with `+`
//! or `-`. With the prefix `0x`, `0o` or `0b` it is hexadecimal, octal or binary. A leading zero
//! alone has no effect: `010` is 10.
//!
//! This file knows no driver and no scaling of a point. The driver decides how a value becomes the
//! raw value of the point. `words/unit.rs` has the units of measurement.

mod unit;

use crate::process::image::{PointKind, Value};
use crate::text::legible_up_to;

/// The maximum number of bytes of a refused text that its error message shows.
const MAX_SHOWN: usize = 80;

/// The words for false and for true. Upper and lower case are equal. Files of the Linux kernel use
/// all of them except `yes` and `no`, which people write.
const WORDS: [[&str; 6]; 2] =
    [["off", "no", "n", "false", "f", "disabled"], ["on", "yes", "y", "true", "t", "enabled"]];

/// The prefixes of numbers that are not decimal, with the base of the number.
const BASES: [(&str, u32); 6] =
    [("0x", 16), ("0X", 16), ("0o", 8), ("0O", 8), ("0b", 2), ("0B", 2)];

/// Reads the value of a point of type `kind`. The value is:
/// - for a bool, `Value::Bool`: the meaning of a word, or whether a whole number differs from 0
/// - otherwise `Value::Int` for any whole number of up to 127 bits, also for `23.000` and `2.3e1`
/// - otherwise `Value::Real`, which may be too large to be finite
///
/// `expected` is the unit in which the point is measured. If it is `None`, any unit of
/// `words/unit.rs` may follow the number.
///
/// # Errors
/// When the text has no meaning or more than one. The error says what was expected, and the text
/// that was found.
pub(super) fn value(text: &str, kind: PointKind, expected: Option<&str>) -> Result<Value, String> {
    let text = bare(text);
    let refused = |wanted: String| Err(format!("expected {wanted}, found {}", shown(text)));
    let word = WORDS.map(|words| words.iter().any(|word| word.eq_ignore_ascii_case(text)));
    let is_bool = kind == PointKind::Bool;
    match word {
        [_, true] | [true, _] if !is_bool => {
            let wanted = format!("a number of type {kind} (type = \"bool\" accepts this word)");
            return refused(wanted);
        }
        [_, true] => return Ok(Value::Bool(true)),
        [true, _] => return Ok(Value::Bool(false)),
        [false, false] => {}
    }
    let (value, rest) = match number(text) {
        Some((Value::Int(number), "")) if is_bool => return Ok(Value::Bool(number != 0)),
        _ if is_bool => {
            let wanted = "on or off, yes or no, true or false, enabled or disabled, or a whole \
                          number for type bool";
            return refused(wanted.to_owned());
        }
        Some(found) => found,
        None => return refused(format!("a number of type {kind}")),
    };
    match follows(rest, expected) {
        None => Ok(value),
        Some(wanted) => refused(wanted),
    }
}

/// Returns the text without the characters around the value that have no meaning.
pub(super) fn bare(text: &str) -> &str {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text).trim_start();
    text.trim_end_matches(|c: char| c.is_whitespace() || c == '\0')
}

/// Returns a text for an error message: in quotes, escaped and shortened.
pub(super) fn shown(text: &str) -> String {
    if text.is_empty() {
        "nothing".into()
    } else {
        format!("\"{}\"", legible_up_to(MAX_SHOWN, text))
    }
}

/// Splits a text into the number at its beginning and the rest. Returns `None` if the text does not
/// begin with a number.
fn number(text: &str) -> Option<(Value, &str)> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    let is_negative = text.starts_with('-');
    for (prefix, base) in BASES {
        let Some(digits) = digits.strip_prefix(prefix) else { continue };
        let (digits, rest) = split(digits, |c| c.is_digit(base));
        let number = i128::from_str_radix(digits, base).ok()?;
        return Some((Value::Int(if is_negative { -number } else { number }), rest));
    }
    let (whole, rest) = split(digits, |c| c.is_ascii_digit());
    let (fraction, rest) = match rest.strip_prefix('.') {
        Some(rest) => split(rest, |c| c.is_ascii_digit()),
        None => ("", rest),
    };
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let (exponent, rest) = exponent(rest).unwrap_or((0, rest));
    let number = exact(whole, fraction, exponent);
    let value = match number {
        Some(number) => Value::Int(if is_negative { -number } else { number }),
        None => Value::Real(text[..text.len() - rest.len()].parse().ok()?),
    };
    Some((value, rest))
}

/// Splits the text before its first character for which `is_part` is false.
fn split(text: &str, is_part: impl Fn(char) -> bool) -> (&str, &str) {
    text.split_at(text.find(|c| !is_part(c)).unwrap_or(text.len()))
}

/// Splits the rest of a number into the exponent at its beginning, such as `e-3`, and the rest.
/// Returns `None` if the text does not begin with an exponent.
fn exponent(text: &str) -> Option<(i32, &str)> {
    let power = text.strip_prefix(['e', 'E'])?;
    let digits = power.strip_prefix(['+', '-']).unwrap_or(power);
    let (_, rest) = split(digits, |c| c.is_ascii_digit());
    let power = &power[..power.len() - rest.len()];
    Some((power.parse().ok()?, rest))
}

/// Returns the whole number with these decimal digits. Returns `None` if the number has a fraction
/// or more than 127 bits. The conversion through a float would change the last digits of a large
/// number.
fn exact(whole: &str, fraction: &str, exponent: i32) -> Option<i128> {
    let digits = format!("{whole}{fraction}");
    let trimmed = digits.trim_end_matches('0');
    if trimmed.is_empty() {
        return Some(0);
    }
    // The power of ten by which the number `trimmed` is multiplied.
    let zeros = i64::try_from(digits.len() - trimmed.len()).ok()?;
    let power = i64::from(exponent) - i64::try_from(fraction.len()).ok()? + zeros;
    let factor = 10_i128.checked_pow(u32::try_from(power).ok()?)?;
    trimmed.parse::<i128>().ok()?.checked_mul(factor)
}

/// Checks the text after a number: nothing, or a unit. Returns the expected text if it is neither.
fn follows(rest: &str, expected: Option<&str>) -> Option<String> {
    let unit = rest.trim_start();
    // A line end is not a blank: what follows it is another line and not the unit of the number.
    let has_blank = rest.starts_with(char::is_whitespace) && !rest.contains(['\n', '\r']);
    let is_sign = unit.starts_with(['%', '‰', '°', 'º']);
    match (rest, expected) {
        ("", _) => None,
        _ if rest.starts_with(',') => {
            Some("one number with a point and not a comma before its fraction".into())
        }
        _ if !has_blank && !is_sign => {
            Some("one number, and a blank before its unit if it has one".into())
        }
        (_, Some(expected)) if unit::is_same(unit, expected) => None,
        (_, Some(expected)) => Some(format!("a number in the unit of the point, {expected}")),
        (_, None) if unit::is_known(unit) => None,
        (_, None) => Some("a number, and then nothing or a unit such as °C, mV or l/min".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, kind: PointKind, expected: Result<Value, &str>) {
        let found = value(text, kind, None);
        match expected {
            Ok(expected) => assert_eq!(found, Ok(expected), "{text:?} as {kind}"),
            Err(words) => {
                let error = found.expect_err(text);
                assert!(error.contains(words), "{text:?} as {kind}: {error}\nnot: {words}");
            }
        }
    }

    #[test]
    fn numbers_are_read_as_people_write_them() {
        let check = |text, expected| check(text, PointKind::I64, Ok(expected));
        let int = Value::Int;
        check("42500\n", int(42_500));
        check(" \t+7\r\n", int(7));
        check("\u{feff}45\0\0\n\0", int(45));
        check("-3", int(-3));
        check("010", int(10));
        check("0x1f", int(31));
        check("0X1F", int(31));
        check("-0x1f", int(-31));
        check("+0x0 mV", int(0));
        check("0b101", int(5));
        check("0o17", int(15));
        check("23.000000", int(23));
        check("23.", int(23));
        check("-0.0", int(0));
        check("2.3e1", int(23));
        check("2.30E+01", int(23));
        check("2300e-2", int(23));
        check("0e999999999", int(0));
        check("9007199254740993.0", int(9_007_199_254_740_993));
        check("18446744073709551615", int(u64::MAX.into()));
        check("23.5", Value::Real(23.5));
        check(".5", Value::Real(0.5));
        check("1e-3", Value::Real(0.001));
        check("1e300", Value::Real(1e300));
        check("1e999", Value::Real(f64::INFINITY));
        check("45.2 C", Value::Real(45.2));
        check("+45.0°C", int(45));
        check("55%", int(55));
        check("55 % ", int(55));
        check("12\u{a0}l/min", int(12));
        check("1 deg C", int(1));
    }

    #[test]
    fn what_has_two_meanings_is_refused() {
        let check = |text, words| check(text, PointKind::F64, Err(words));
        check("", "expected a number of type f64, found nothing");
        check(" \0", "found nothing");
        check("hot", "expected a number of type f64, found \"hot\"");
        check("1,5", "expected one number with a point and not a comma");
        check("1,234.5", "not a comma before its fraction, found \"1,234.5\"");
        check("1 2", "expected a number, and then nothing or a unit such as °C, mV or l/min");
        check("45.2 C 46.1 C", "found \"45.2 C 46.1 C\"");
        check("45\n46", "expected one number, and a blank before its unit");
        check("45\nC", "found \"45\\nC\"");
        check("12abc", "a blank before its unit if it has one, found \"12abc\"");
        check("45C", "found \"45C\"");
        check("0x1g", "found \"0x1g\"");
        check("0x", "expected a number of type f64, found \"0x\"");
        check("- 5", "found");
        check("--5", "found");
        check("1.2.3", "found \"1.2.3\"");
        check("12:30", "found \"12:30\"");
        check("2026-11-30", "found \"2026-11-30\"");
        check("1_000", "found");
        check("1e", "found");
        check("5 e3", "found");
        check("12 error", "found \"12 error\"");
        check("12 apples", "found \"12 apples\"");
        check("12 of 20", "found");
        check("4\u{0}5\0", "found \"4\\05\"");
        check("<5", "found \"<5\"");
        check("nan", "found \"nan\"");
        check("-inf", "found \"-inf\"");
        check("[1] 2", "found \"[1] 2\"");
        check("Y", "expected a number of type f64 (type = \"bool\" accepts this word), found");
        check(&"x".repeat(500), "xxx…\"");
    }

    #[test]
    fn bools_are_words_or_whole_numbers() {
        let check = |text, expected| check(text, PointKind::Bool, expected);
        for [off, on] in [
            ["off", "on"],
            ["no", "YES"],
            ["N", "Y\n"],
            ["disabled", "Enabled"],
            ["FALSE", "true\0"],
            ["0", "1"],
            ["0.000", "-2"],
            ["0x0", "+0x01"],
        ] {
            check(off, Ok(Value::Bool(false)));
            check(on, Ok(Value::Bool(true)));
        }
        check("", Err("or a whole number for type bool, found nothing"));
        check("maybe", Err("expected on or off, yes or no, true or false, enabled or disabled"));
        check("0.5", Err("found \"0.5\""));
        check("12 V", Err("found \"12 V\""));
        check("on off", Err("found \"on off\""));
    }

    #[test]
    fn the_unit_must_be_that_of_the_point() {
        let read = |text, unit| value(text, PointKind::F64, Some(unit));
        assert_eq!(read("45 C", "°C"), Ok(Value::Int(45)));
        assert_eq!(read("45", "°C"), Ok(Value::Int(45)));
        assert_eq!(read("12 apples", "apples"), Ok(Value::Int(12)));
        let error = "expected a number in the unit of the point, °C, found \"45 F\"";
        assert_eq!(read("45 F", "°C"), Err(error.to_owned()));
        assert!(read("950 W", "kW").is_err());
    }
}
