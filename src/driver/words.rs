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
//! | `"21.5"` in quotes | it is a string of JSON and not a number |
//! | `nan`, `inf`, `1e999` | not a measured value |
//!
//! Around the value there may be blanks, line ends, a byte order mark before it and NUL characters
//! after it, because programs in C often write the end of a string too. A number may begin with `+`
//! or `-`. With the prefix `0x`, `0o` or `0b` it is hexadecimal, octal or binary, if the driver
//! accepts this base. A leading zero alone has no effect: `010` is 10.
//!
//! This file is the only parser of such texts, and it knows no driver and no scaling of a point.
//! Each driver says in [`Rules`] what it accepts, and decides how a value becomes the raw value of
//! the point. `words/unit.rs` has the units of measurement.

mod unit;

use crate::process::image::{PointKind, Value};

/// The maximum number of characters of a refused text that its error message shows.
const MAX_SHOWN: usize = 80;

/// The words for false and for true. Upper and lower case are equal. Files of the Linux kernel use
/// all of them except `yes` and `no`, which people write.
const WORDS: [[&str; 6]; 2] =
    [["off", "no", "n", "false", "f", "disabled"], ["on", "yes", "y", "true", "t", "enabled"]];

/// The prefixes of numbers that are not decimal, with the base of the number.
const BASES: [(&str, u32); 6] =
    [("0x", 16), ("0X", 16), ("0o", 8), ("0O", 8), ("0b", 2), ("0B", 2)];

/// What a driver accepts in the text of a point.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rules<'a> {
    /// The type of the point. A bool is a word or a number, every other type is a number.
    pub(super) kind: PointKind,
    /// Whether a number must be whole. Forms such as `42.0` and `4.2e1` are whole too.
    pub(super) is_whole: bool,
    /// The units that may follow a number. No unit may follow the number of a bool.
    pub(super) units: Units<'a>,
    /// The bases in which a number may be written.
    pub(super) bases: Bases,
    /// The numbers that are a bool.
    pub(super) bools: Bools,
}

/// The units that may follow a number. A number without a unit is always accepted.
#[derive(Debug, Clone, Copy)]
pub(super) enum Units<'a> {
    /// Any unit of `words/unit.rs`. This is for a source that never changes its unit.
    Known,
    /// Only this unit, in any of its spellings.
    Only(&'a str),
    /// No unit. This is for a sender that may change its unit, such as mbar and bar, when the unit
    /// of the point is not known.
    Never,
}

/// The bases in which a number may be written.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Bases {
    /// Base 10. A hexadecimal number could be a raw number, before scaling.
    Decimal,
    /// Base 10, and base 16 with the prefix `0x`. A sender that writes hexadecimal digits without a
    /// prefix could mean 2832 with `0b10`.
    Hexadecimal,
    /// Base 10, and the bases 16, 8 and 2 with the prefixes `0x`, `0o` and `0b`.
    All,
}

/// The numbers that are accepted as a bool. A fraction of zero is allowed: `1.0` is the same as
/// `1`.
#[derive(Debug, Clone, Copy)]
pub(super) enum Bools {
    /// 0 is false and 1 is true. This is for a sender of any kind: its other numbers may be states
    /// or error codes.
    ZeroOrOne,
    /// 0 is false and any other whole number is true, as in files of the Linux kernel.
    AnyWhole,
}

/// Reads the value of a point. The value is:
/// - for a bool, `Value::Bool`
/// - otherwise `Value::Int` for any whole number of up to 127 bits, also for `23.000` and `2.3e1`
/// - otherwise `Value::Real`, which is finite
///
/// The value may be outside the range of the type.
///
/// # Errors
/// When the text has no meaning or more than one, or the rules do not accept it. The error says
/// what was expected, and the text that was found.
pub(super) fn value(text: &str, rules: Rules<'_>) -> Result<Value, String> {
    let text = bare(text);
    read(text, rules).map_err(|wanted| {
        let quotes = if text.starts_with(['"', '\'']) { " without quotes" } else { "" };
        format!("expected {wanted}{quotes}, found {}", shown(text))
    })
}

/// Reads the value of a text without surrounding blanks.
///
/// # Errors
/// The error is what was expected.
fn read(text: &str, rules: Rules<'_>) -> Result<Value, String> {
    let kind = rules.kind;
    let truth = truth(text);
    if kind == PointKind::Bool {
        let on = truth.or_else(|| rules.bools.truth(number(text, rules.bases)?));
        return on.map(Value::Bool).ok_or_else(|| rules.bools.wanted());
    }
    if truth.is_some() {
        return Err(format!("a number of type {kind} (type = \"bool\" accepts this word)"));
    }
    let (value, rest) = number(text, rules.bases)
        .ok_or_else(|| format!("{} of type {kind}", rules.bases.wanted(text)))?;
    follows(rest, rules.units)?;
    let whole = if rules.is_whole { "whole " } else { "" };
    match value {
        Value::Real(real) if rules.is_whole || !real.is_finite() => {
            Err(format!("a {whole}number that fits type {kind}"))
        }
        value => Ok(value),
    }
}

/// Returns the text without the characters around the value that have no meaning.
pub(super) fn bare(text: &str) -> &str {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text).trim_start();
    text.trim_end_matches(|c: char| c.is_whitespace() || c == '\0')
}

/// Returns a text for an error message: in quotes, escaped and shortened.
pub(super) fn shown(text: &str) -> String {
    match text.char_indices().nth(MAX_SHOWN) {
        _ if text.is_empty() => "nothing".into(),
        None => format!("{text:?}"),
        Some((end, _)) => format!("{:?}", format!("{}…", &text[..end])),
    }
}

/// Returns the bool that a word means. Returns `None` if the text is no such word.
fn truth(text: &str) -> Option<bool> {
    let is_in = |words: &[&str]| words.iter().any(|word| word.eq_ignore_ascii_case(text));
    WORDS.iter().position(|words| is_in(words)).map(|meaning| meaning == 1)
}

/// Splits a text into the number at its beginning and the rest. Returns `None` if the text does not
/// begin with a number in one of these bases.
fn number(text: &str, bases: Bases) -> Option<(Value, &str)> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    let is_negative = text.starts_with('-');
    for (prefix, base) in BASES {
        let Some(digits) = digits.strip_prefix(prefix) else { continue };
        if !bases.has(base) {
            return None;
        }
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

/// Checks the text after a number: nothing, or a unit.
///
/// # Errors
/// The error is what was expected.
fn follows(rest: &str, units: Units<'_>) -> Result<(), String> {
    let unit = rest.trim_start();
    // A line end is not a blank: what follows it is another line and not the unit of the number.
    let has_blank = rest.starts_with(char::is_whitespace) && !rest.contains(['\n', '\r']);
    let is_sign = rest.starts_with(['%', '‰', '°', 'º', '℃', '℉']);
    let wanted = match units {
        _ if rest.is_empty() => return Ok(()),
        _ if rest.starts_with(',') => "one number with a point and not a comma before its fraction",
        _ if !has_blank && !is_sign => "one number, and a blank before its unit if it has one",
        Units::Only(expected) if unit::is_same(unit, expected) => return Ok(()),
        Units::Only(expected) => {
            return Err(format!("a number in the unit of the point, {expected}"));
        }
        Units::Known if unit::is_known(unit) => return Ok(()),
        Units::Known => "a number, and then nothing or a unit such as °C, mV or l/min",
        Units::Never => "a number and nothing after it, because no `unit` is configured",
    };
    Err(wanted.to_owned())
}

impl Bases {
    /// Whether a number may have this base, with its prefix.
    fn has(self, base: u32) -> bool {
        match self {
            Self::Decimal => false,
            Self::Hexadecimal => base == 16,
            Self::All => true,
        }
    }

    /// Says what was expected in place of a text that is not a number in one of these bases.
    fn wanted(self, text: &str) -> &'static str {
        let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
        let has_prefix = BASES.iter().any(|(prefix, _)| digits.starts_with(prefix));
        match self {
            Self::Decimal if has_prefix => "a decimal number",
            Self::Hexadecimal if has_prefix => "a decimal or hexadecimal number",
            _ => "a number",
        }
    }
}

impl Bools {
    /// Returns the bool that a number means. `rest` is the text after the number.
    fn truth(self, (number, rest): (Value, &str)) -> Option<bool> {
        match (self, number, rest) {
            (Self::ZeroOrOne, Value::Int(number @ (0 | 1)), "") => Some(number == 1),
            (Self::AnyWhole, Value::Int(number), "") => Some(number != 0),
            _ => None,
        }
    }

    /// Says what was expected in place of a text that is no bool.
    fn wanted(self) -> String {
        let number = match self {
            Self::ZeroOrOne => "1 or 0",
            Self::AnyWhole => "a whole number",
        };
        format!(
            "on or off, yes or no, true or false, enabled or disabled, or {number} for type bool"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The rules of a source that is trusted, such as a file of the kernel.
    const fn lax(kind: PointKind) -> Rules<'static> {
        let (units, bases, bools) = (Units::Known, Bases::All, Bools::AnyWhole);
        Rules { kind, is_whole: false, units, bases, bools }
    }

    /// The rules of a sender of any kind, for a point without a unit.
    const fn strict(kind: PointKind) -> Rules<'static> {
        let (units, bases, bools) = (Units::Never, Bases::Decimal, Bools::ZeroOrOne);
        Rules { kind, is_whole: false, units, bases, bools }
    }

    fn check(text: &str, kind: PointKind, expected: Result<Value, &str>) {
        let found = value(text, lax(kind));
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
        check("-.5", Value::Real(-0.5));
        check("00288.5", Value::Real(288.5));
        check("2.15E+1", Value::Real(21.5));
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
        check("45\n%", "found \"45\\n%\"");
        check("45 \n°C", "found \"45 \\n°C\"");
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
        check("infinity", "found \"infinity\"");
        check("1e999", "expected a number that fits type f64, found \"1e999\"");
        check("\"21.5\"", "of type f64 without quotes, found \"\\\"21.5\\\"\"");
        check("'21.5'", "expected a number of type f64 without quotes, found \"'21.5'\"");
        for bad in [".", "+", "-", "+-5", "e3", "\"", "\"1", "1.234,5", "0x-1", "0x+1", "٣"] {
            check(bad, "found");
        }
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
            ["f", "T"],
            ["-0", "01"],
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
        check("ΟΝ", Err("found \"ΟΝ\""));
        check("'off'", Err("for type bool without quotes, found \"'off'\""));
    }

    #[test]
    fn a_bool_may_be_only_0_or_1() {
        let read = |text| value(text, strict(PointKind::Bool));
        for [off, on] in [["0", "1"], ["0.0", "1.0"], ["-0", "+1"], ["00", "01"], ["n", "Y"]] {
            assert_eq!([read(off), read(on)], [false, true].map(|on| Ok(Value::Bool(on))), "{on}");
        }
        for bad in ["", "2", "-1", "0.5", "0x1", "1 %", "open", "nan"] {
            assert!(read(bad).is_err(), "{bad}");
        }
        let error = "expected on or off, yes or no, true or false, enabled or disabled, or 1 or 0 \
                     for type bool, found \"7\"";
        assert_eq!(read("7"), Err(error.to_owned()));
    }

    #[test]
    fn the_base_must_be_accepted() {
        let read = |text, bases| value(text, Rules { bases, ..lax(PointKind::I32) });
        for (text, number) in [("0x2A", 42), ("-0X2a", -42), ("0x1f mV", 31)] {
            assert_eq!(read(text, Bases::Hexadecimal), Ok(Value::Int(number)), "{text}");
        }
        let check = |text, bases, wanted: &str| {
            let error = format!("expected {wanted} of type i32, found {text:?}");
            assert_eq!(read(text, bases), Err(error));
        };
        check("0b10", Bases::Hexadecimal, "a decimal or hexadecimal number");
        check("0o7", Bases::Hexadecimal, "a decimal or hexadecimal number");
        check("0x2A", Bases::Decimal, "a decimal number");
        check("-0x2A", Bases::Decimal, "a decimal number");
        check("on top", Bases::Decimal, "a number");
    }

    #[test]
    fn a_number_may_have_to_be_whole() {
        let read = |text| value(text, Rules { is_whole: true, ..lax(PointKind::I32) });
        for text in ["42", "+42", "042", "42.0", "4.2e1", "42 mV"] {
            assert_eq!(read(text), Ok(Value::Int(42)), "{text}");
        }
        let beyond = Value::Int(i128::from(i64::MIN) - 1);
        assert_eq!(read("-9223372036854775809"), Ok(beyond), "the point checks the range");
        for text in ["42.5", "1e-3", "1e999"] {
            let error = format!("expected a whole number that fits type i32, found {text:?}");
            assert_eq!(read(text), Err(error));
        }
    }

    #[test]
    fn the_unit_must_be_that_of_the_point() {
        let read =
            |text, unit| value(text, Rules { units: Units::Only(unit), ..lax(PointKind::F64) });
        for (text, unit, number) in [
            ("45 C", "°C", 45.0),
            ("45", "°C", 45.0),
            ("12 apples", "apples", 12.0),
            ("20.6 °C", "°C", 20.6),
            ("20.6 \u{2103}", "°C", 20.6),
            ("20.6\u{2103}", "°C", 20.6),
            ("20.6°C", "\u{2103}", 20.6),
            ("70 F", "\u{2109}", 70.0),
            ("45.0%", "%", 45.0),
            ("1.5e3 eV", "eV", 1500.0),
            ("1.5 m3/h", "m3/h", 1.5),
            ("1.5 2", "2", 1.5),
        ] {
            let found = read(text, unit).map(|value| value.to_string());
            assert_eq!(found, Ok(number.to_string()), "{text} in {unit}");
        }
        let error = "expected a number in the unit of the point, °C, found \"45 F\"";
        assert_eq!(read("45 F", "°C"), Err(error.to_owned()));
        for (text, unit) in
            [("950 W", "kW"), ("500 mbar", "bar"), ("5 MW", "mW"), ("°C", "°C"), ("45C", "C")]
        {
            assert!(read(text, unit).is_err(), "{text} in {unit}");
        }
    }

    #[test]
    fn there_may_be_no_unit() {
        let read = |text| value(text, strict(PointKind::F64));
        assert_eq!(read("12\0\0"), Ok(Value::Int(12)));
        for text in ["5 mbar", "20.6 °C", "20.6°C", "55%", "1 2"] {
            let error = format!(
                "expected a number and nothing after it, because no `unit` is configured, found \
                 {text:?}"
            );
            assert_eq!(read(text), Err(error));
        }
    }
}
