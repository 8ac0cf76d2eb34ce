//! Numbers as short texts for people: mostly three digits, and a unit such as `ms` or `KiB`. A hash
//! is shortened to its first digits.
//!
//! The exact numbers are in the JSON (`--json`). A script should use the JSON.

use crate::process::image::Value;
use crate::scan::stats::Summary;

/// The number of digits of a hash in a table. 12 digits are enough to recognise a version.
const HASH_DIGITS: usize = 12;

/// Returns a duration in nanoseconds as text, such as `1.23 us`.
fn time_ns(ns: u64) -> String {
    match ns {
        0..1_000 => format!("{ns} ns"),
        1_000..1_000_000 => three_digits(ns as f64 / 1e3, "us"),
        1_000_000..1_000_000_000 => three_digits(ns as f64 / 1e6, "ms"),
        _ => three_digits(ns as f64 / 1e9, "s"),
    }
}

/// Returns a duration in microseconds as text, such as `1.23 ms`.
pub(super) fn time_us(us: u64) -> String {
    time_ns(us.saturating_mul(1_000))
}

/// Returns a size in bytes as text, such as `64.0 KiB`.
pub(super) fn bytes(bytes: u64) -> String {
    match bytes {
        0..0x400 => format!("{bytes} B"),
        0x400..0x10_0000 => three_digits(bytes as f64 / 1_024.0, "KiB"),
        0x10_0000..0x4000_0000 => three_digits(bytes as f64 / 1_048_576.0, "MiB"),
        _ => three_digits(bytes as f64 / 1_073_741_824.0, "GiB"),
    }
}

/// Returns a duration in seconds as text, such as `2h 5m`.
pub(super) fn age_s(s: u64) -> String {
    let (days, hours, minutes) = (s / 86_400, s / 3_600 % 24, s / 60 % 60);
    match s {
        0..60 => format!("{s}s"),
        60..3_600 => format!("{minutes}m {}s", s % 60),
        3_600..86_400 => format!("{hours}h {minutes}m"),
        _ => format!("{days}d {hours}h"),
    }
}

/// Returns an age in milliseconds as text. Below one minute the text has three digits, such as
/// `1.23 s`.
pub(super) fn age_ms(ms: u64) -> String {
    if ms < 60_000 { time_us(ms.saturating_mul(1_000)) } else { age_s(ms / 1_000) }
}

/// Returns a value of a point or variable as text. The text has at most three decimal places, so
/// that the width of a column changes little.
pub(super) fn value(value: Value) -> String {
    match value {
        Value::Real(real) if !real.is_finite() => value.to_string(),
        Value::Real(real) if real != 0.0 && !(1e-3..1e9).contains(&real.abs()) => {
            format!("{real:.3e}")
        }
        Value::Real(real) => {
            let text = format!("{real:.3}");
            let text = text.trim_end_matches('0').trim_end_matches('.');
            // Rounding of a small negative number gives `-0`.
            if text == "-0" { "0".into() } else { text.into() }
        }
        other => other.to_string(),
    }
}

/// Returns p50, p99, p99.9 and the maximum as texts. Without a sample, each text is a dash.
pub(super) fn percentiles(summary: &Summary) -> [String; 4] {
    let Summary { count, p50_ns, p99_ns, p999_ns, max_ns } = *summary;
    [p50_ns, p99_ns, p999_ns, max_ns].map(|ns| if count == 0 { "-".into() } else { time_ns(ns) })
}

/// Returns the first digits of a hash.
pub(super) fn short(hash: &str) -> &str {
    hash.get(..HASH_DIGITS).unwrap_or(hash)
}

/// Returns a number with its unit. A number below 1000 has three digits.
fn three_digits(number: f64, unit: &str) -> String {
    let places = if number < 9.995 {
        2
    } else if number < 99.95 {
        1
    } else {
        0
    };
    format!("{number:.places$} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Times have three digits and the best unit.
    #[test]
    fn times_have_three_digits() {
        fn check(ns: u64, expected: &str) {
            assert_eq!(time_ns(ns), expected, "{ns}");
        }
        check(0, "0 ns");
        check(999, "999 ns");
        check(1_000, "1.00 us");
        check(9_996, "10.0 us");
        check(12_345, "12.3 us");
        check(123_456, "123 us");
        check(2_500_000, "2.50 ms");
        check(61_000_000_000, "61.0 s");
        assert_eq!(time_us(10_000), "10.0 ms");
        assert_eq!(time_us(u64::MAX), "18446744074 s");
    }

    /// Sizes and ages have a unit.
    #[test]
    fn sizes_and_ages() {
        assert_eq!(bytes(1_023), "1023 B");
        assert_eq!(bytes(65_536), "64.0 KiB");
        assert_eq!(bytes(17 << 20), "17.0 MiB");
        assert_eq!(bytes(3 << 30), "3.00 GiB");
        assert_eq!(age_s(59), "59s");
        assert_eq!(age_s(61), "1m 1s");
        assert_eq!(age_s(7_500), "2h 5m");
        assert_eq!(age_s(90_000), "1d 1h");
    }

    /// Values have at most three decimal places.
    #[test]
    fn values_are_short() {
        fn check(given: Value, expected: &str) {
            assert_eq!(value(given), expected, "{given:?}");
        }
        check(Value::Bool(true), "true");
        check(Value::Int(-7), "-7");
        check(Value::Real(0.0), "0");
        check(Value::Real(50.0), "50");
        check(Value::Real(49.999_999_1), "50");
        check(Value::Real(-0.25), "-0.25");
        check(Value::Real(0.000_12), "1.200e-4");
        check(Value::Real(1e12), "1.000e12");
        check(Value::Real(100.0), "100");
        check(Value::Real(f64::NAN), "nan");
        check(Value::Real(f64::INFINITY), "inf");
        check(Value::Real(f64::NEG_INFINITY), "-inf");
    }
}
