//! The shortest decimal number for the value of a point, for texts that people and other systems
//! read.
//!
//! Scale and offset are calculated with binary numbers. So the raw number 3671 with scale 0.001
//! gives 3.6710000000000003, although the point can only have the values 3.670, 3.671, 3.672. This
//! file finds 3.671: the value with as many digits as the resolution of the point has.
//!
//! | type | digits |
//! |---|---|
//! | integer with scale or offset | as many decimals as `scale` and `offset` have |
//! | f32 | the fewest digits that read back to the same raw number |
//! | f64 with scale or offset | 15, which are exact except for the last bits of the raw number |
//!
//! Programs, safe values and forces use the value of `point.rs` without this rounding. They compare
//! and store numbers, and a conversion to text would be too slow in a cycle.

use super::{Point, PointKind, Raw, Value};

/// The number of digits that every f64 has without loss.
const F64_DIGITS: usize = 15;

/// The number of digits that are enough for every f32 after scaling.
const MAX_DIGITS: usize = 17;

/// The greatest relative error of an f64 that is read back: the last three of its 53 bits.
const F64_ERROR: f64 = 8.0 * f64::EPSILON;

impl Point {
    /// Returns the value of these raw bytes, after scaling, as the number with the shortest text.
    /// The number reads back to the same raw bytes; an f64 with scale or offset may differ in its
    /// last bits. If there is no shorter text, the value is that of [`Point::value_of`].
    pub fn shortest(&self, raw: &Raw) -> Value {
        let value = self.value_of(raw);
        let Value::Real(exact) = value else { return value };
        if !exact.is_finite() || (self.kind == PointKind::F64 && self.is_plain()) {
            return value;
        }
        let number = |text: String| text.parse().ok().filter(|short| self.is_back(*short, raw));
        let digits = |count: usize| number(format!("{exact:.*e}", count - 1));
        let short: Option<f64> = match self.kind {
            PointKind::F32 => (1..=MAX_DIGITS).find_map(digits),
            PointKind::F64 => digits(F64_DIGITS),
            _ => {
                let decimals = decimals(self.scale).max(decimals(self.offset));
                number(format!("{exact:.decimals$}"))
            }
        };
        short.map_or(value, Value::Real)
    }

    /// Whether a value reads back to these raw bytes.
    fn is_back(&self, value: f64, raw: &Raw) -> bool {
        let Ok(back) = self.raw_of(Value::Real(value)) else { return false };
        let (back_f64, raw_f64) = (f64::from_le_bytes(back), f64::from_le_bytes(*raw));
        let error = (back_f64 - raw_f64).abs();
        back == *raw || self.kind == PointKind::F64 && error <= F64_ERROR * raw_f64.abs()
    }
}

/// Returns the number of decimals of a number: 3 for 0.001.
fn decimals(number: f64) -> usize {
    let text = number.to_string();
    text.split_once('.').map_or(0, |(_, decimals)| decimals.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::image::Direction;

    fn point(kind: PointKind, scale: f64, offset: f64) -> Point {
        Point { scale, offset, ..Point::new("p", Direction::In, kind) }
    }

    /// Returns the raw bytes of an integer.
    fn int(number: i64) -> Raw {
        number.to_le_bytes()
    }

    #[test]
    fn numbers_have_the_resolution_of_their_point() {
        let check = |kind: PointKind, scale, offset, mut raw: Raw, expected: &str| {
            raw[kind.size() as usize..].fill(0);
            let point = point(kind, scale, offset);
            let short = point.shortest(&raw);
            assert_eq!(short.to_string(), expected, "{kind} {scale} {offset}");
            assert_eq!(point.raw_of(short), Ok(raw), "{kind} {scale} {offset} {short}");
        };
        check(PointKind::U16, 0.001, 0.0, int(3671), "3.671");
        check(PointKind::I16, 0.1, 0.0, int(-3), "-0.3");
        check(PointKind::I16, 0.1, -273.15, int(3), "-272.85");
        check(PointKind::U16, 0.25, 0.0, int(3), "0.75");
        check(PointKind::U16, 100.0, 0.0, int(7), "700");
        check(PointKind::U16, 1.0, 0.5, int(7), "7.5");
        check(PointKind::U32, 1e-9, 0.0, int(4_000_000_001), "4.000000001");
        check(PointKind::U64, 0.1, 0.0, int(12_345_678_901_234), "1234567890123.4");
        check(PointKind::I32, 1.0 / 3.0, 0.0, int(2), "0.6666666666666666");
        let f32 = |number: f32| (u64::from(number.to_bits())).to_le_bytes();
        check(PointKind::F32, 1.0, 0.0, f32(3.671), "3.671");
        check(PointKind::F32, 1.0, 0.0, f32(16_777_216.0), "16777216");
        check(PointKind::F32, 1.0, 0.0, f32(0.1), "0.1");
        check(PointKind::F32, 0.1, 5.0, f32(36.71), "8.671");
        check(PointKind::F64, 1.0, 0.0, (0.1f64 + 0.2).to_le_bytes(), "0.30000000000000004");
    }

    #[test]
    fn a_double_may_differ_in_its_last_bits() {
        let scaled = point(PointKind::F64, 0.001, 0.0);
        assert_eq!(scaled.value_of(&3671f64.to_le_bytes()), Value::Real(3671.0 * 0.001));
        assert_eq!(scaled.shortest(&3671f64.to_le_bytes()), Value::Real(3.671));
        let none = scaled.shortest(&f64::NAN.to_le_bytes());
        assert!(matches!(none, Value::Real(real) if real.is_nan()));
        // A small raw number beside a large offset: the text must not lose the raw number.
        let offset = point(PointKind::F64, 1e-9, 1e6);
        let raw = 123.0f64.to_le_bytes();
        assert_eq!(offset.shortest(&raw), offset.value_of(&raw));
    }

    #[test]
    fn every_raw_number_reads_back() {
        for (scale, offset) in [(0.001, 0.0), (0.1, 4.0), (0.01, -40.0), (1.0 / 3.0, 0.7)] {
            let point = point(PointKind::U16, scale, offset);
            for raw in 0..=u16::MAX {
                let raw = int(raw.into());
                assert_eq!(point.raw_of(point.shortest(&raw)), Ok(raw), "{scale} {offset}");
            }
        }
    }
}
