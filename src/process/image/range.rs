//! The range of a point: the smallest and the largest value that the configuration allows.
//!
//! ```text
//! range = [0, 100], u16 with scale 0.1:   raw numbers 0 to 1000
//! ```
//!
//! A range is compared in raw numbers. A scaled value is rounded: the raw number 3 with scale 0.1
//! is the value 0.30000000000000004, which is above 0.3 although the device means 0.3.
//!
//! This file decides what happens to a value that is written to an output. `wire.rs` decides what
//! an input outside of its range means. The keys are read in `config/bounds.rs`.

use std::fmt;

use super::{Point, PointKind, Raw, Unfit, Value};

/// What the host does with a value that is outside the range of an output, or outside the range of
/// its type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnOverflow {
    /// The write is refused, and the output keeps its value.
    #[default]
    Refuse,
    /// The output gets the nearest value within the limits. A value that is infinite or not a
    /// number is refused, because it has no nearest value.
    Clamp,
}

/// The limits of a range as the configuration has them, after scaling. They may be infinite.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limits {
    low: Value,
    high: Value,
}

impl fmt::Display for Limits {
    /// Writes the limits for messages, such as `0 to 100`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} to {}", self.low, self.high)
    }
}

/// The smallest and the largest value of a point.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ValueRange {
    limits: Limits,
    /// The limits as raw numbers, the smaller number first. Both are a [`Value::Int`] for an
    /// integer type and a [`Value::Real`] for a float type.
    raw: [Value; 2],
}

impl fmt::Display for ValueRange {
    /// Writes the limits for messages, such as `0 to 100`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.limits.fmt(f)
    }
}

impl ValueRange {
    /// Makes the range of a numeric point with the type and scaling of `point`. `low` must be below
    /// `high`, and neither is NaN. Returns `None` if the point is a bool, or if the point can have
    /// no value in this range.
    pub fn new(point: &Point, low: Value, high: Value) -> Option<Self> {
        let ends = if point.scale < 0.0 { [high, low] } else { [low, high] };
        let [first, last] = ends.map(|end| Some(point.unscaled(end.number()?)));
        let (first, last) = (first?, last?);
        let raw = match point.kind {
            PointKind::Bool => return None,
            PointKind::F32 => [first, last].map(|end| Value::Real(f64::from(end as f32))),
            PointKind::F64 => [Value::Real(first), Value::Real(last)],
            kind => {
                let (lowest, highest) = kind.range()?;
                // Without scaling, a limit that is a whole number is exact.
                let [first, last] = match ends {
                    [Value::Int(first), Value::Int(last)] if point.is_plain() => [first, last],
                    _ => [whole(first, f64::ceil), whole(last, f64::floor)],
                };
                let (first, last) = (first.max(lowest), last.min(highest));
                if first > last {
                    return None;
                }
                [Value::Int(first), Value::Int(last)]
            }
        };
        Some(Self { limits: Limits { low, high }, raw })
    }

    /// Whether a raw number is within the range.
    fn contains(&self, raw: Value) -> bool {
        match (raw, self.raw) {
            (Value::Int(raw), [Value::Int(low), Value::Int(high)]) => low <= raw && raw <= high,
            (Value::Real(raw), [Value::Real(low), Value::Real(high)]) => low <= raw && raw <= high,
            _ => false,
        }
    }

    /// Whether a value after scaling is within the limits as the configuration has them.
    fn holds(&self, value: Value) -> bool {
        let (low, high) = (self.limits.low.number(), self.limits.high.number());
        value.number().is_some_and(|number| low <= Some(number) && Some(number) <= high)
    }
}

/// Returns the raw number of a limit. `inward` rounds a fraction towards the inside of the range. A
/// number that is whole except for the rounding of the scale is not moved inward.
fn whole(limit: f64, inward: fn(f64) -> f64) -> i128 {
    let nearest = limit.round();
    let rounding = 1e-9 + 8.0 * f64::EPSILON * limit.abs();
    // The cast gives the nearest number of 128 bits for a limit that is infinite.
    (if (limit - nearest).abs() <= rounding { nearest } else { inward(limit) }) as i128
}

impl Point {
    /// Whether these raw bytes are in the range of the point. True if the point has no range.
    pub fn is_in_range(&self, raw: &Raw) -> bool {
        self.range.is_none_or(|range| range.contains(self.raw_number(raw)))
    }

    /// Returns the bytes of a value that is written to this output, in the form of
    /// [`Point::encode`]. The settings `range` and `on_overflow` apply.
    ///
    /// # Errors
    /// The errors of [`Point::encode`], and [`Unfit::OutsideRange`] if the value is outside the
    /// range. With [`OnOverflow::Clamp`], only a value of the wrong type and a value that is not
    /// finite are refused.
    pub fn admit(&self, value: Value) -> Result<[u8; 8], Unfit> {
        match (self.range, self.on_overflow) {
            (None, OnOverflow::Refuse) => self.encode(value),
            (_, on_overflow) => self.admit_with(value, on_overflow),
        }
    }

    /// Returns the raw bytes of a value that an operator forces. The value must be in the range,
    /// also if a value of a program is clamped: the operator asks for exactly this value.
    ///
    /// # Errors
    /// The errors of [`Point::encode`], and [`Unfit::OutsideRange`].
    pub fn raw_in_range(&self, value: Value) -> Result<Raw, Unfit> {
        self.admit_with(value, OnOverflow::Refuse).map(|bytes| self.raw_from_image(bytes))
    }

    fn admit_with(&self, value: Value, on_overflow: OnOverflow) -> Result<[u8; 8], Unfit> {
        let encoded = self.encode(value);
        match (encoded, self.range) {
            (Err(Unfit::WrongType(_)), _) => return encoded,
            (Ok(bytes), None) => return Ok(bytes),
            (Ok(bytes), Some(range)) => {
                let raw = self.raw_from_image(bytes);
                // A value at a limit may be rounded to a raw number that is just outside. Then the
                // raw number inside of the range is the right one.
                if self.kind == PointKind::Bool || range.contains(self.raw_number(&raw)) {
                    return Ok(bytes);
                }
                if on_overflow == OnOverflow::Refuse && !range.holds(value) {
                    return Err(Unfit::OutsideRange(range.limits));
                }
            }
            (Err(_), range) if on_overflow == OnOverflow::Refuse => {
                let range = range.filter(|range| value.is_finite() && !range.holds(value));
                return range.map_or(encoded, |range| Err(Unfit::OutsideRange(range.limits)));
            }
            (Err(_), _) => {}
        }
        let number = match value {
            Value::Int(_) if self.is_whole() => value,
            _ if value.is_finite() => {
                Value::Real(self.unscaled(value.number().unwrap_or_default()))
            }
            _ => return encoded,
        };
        Ok(self.nearest(number))
    }

    /// Returns the raw bytes that this output gets when a program writes the raw bytes `raw` into
    /// the output image: `raw`, or the bytes of the nearest value in the range.
    ///
    /// # Errors
    /// [`Unfit::OutOfRange`] if the value is infinite or not a number. [`Unfit::OutsideRange`] if
    /// the value is outside the range and `on_overflow` is [`OnOverflow::Refuse`].
    pub fn confine(&self, raw: &Raw) -> Result<Raw, Unfit> {
        match self.range {
            _ if !self.is_finite(raw) => Err(Unfit::OutOfRange(self.kind)),
            Some(range) if !range.contains(self.raw_number(raw)) => match self.on_overflow {
                OnOverflow::Refuse => Err(Unfit::OutsideRange(range.limits)),
                OnOverflow::Clamp => Ok(self.nearest(self.raw_number(raw))),
            },
            _ => Ok(*raw),
        }
    }

    /// Returns the raw bytes of the number that is nearest to the raw number `number` and within
    /// the range and the type. `number` is not NaN.
    fn nearest(&self, number: Value) -> Raw {
        let bounds = self.range.map(|range| range.raw);
        if let Some((lowest, highest)) = self.kind.range() {
            let (low, high) = match bounds {
                Some([Value::Int(low), Value::Int(high)]) => (low, high),
                _ => (lowest, highest),
            };
            let number = match number {
                Value::Int(number) => number,
                // The cast gives the nearest number of 128 bits for a number that is too large.
                other => other.number().unwrap_or_default().round_ties_even() as i128,
            };
            return self
                .raw_from_image(self.encode_int(number.clamp(low, high)).unwrap_or_default());
        }
        let most = if self.kind == PointKind::F32 { f64::from(f32::MAX) } else { f64::MAX };
        let (low, high) = match bounds {
            Some([Value::Real(low), Value::Real(high)]) => (low.max(-most), high.min(most)),
            _ => (-most, most),
        };
        let number = number.number().unwrap_or_default().max(low).min(high);
        match self.kind {
            PointKind::F32 => u64::from((number as f32).to_bits()).to_le_bytes(),
            _ => number.to_le_bytes(),
        }
    }

    /// Moves the value of this output in `image` to the nearest value in the range, if the value is
    /// outside of the range.
    pub fn move_into_range(&self, image: &mut [u8]) {
        let raw = self.raw(image);
        if self.range.is_some() && !self.is_in_range(&raw) {
            let number = self.raw_number(&raw);
            self.put_raw(image, &self.nearest(number));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::image::Direction;
    use Value::{Int, Real};

    fn point(kind: PointKind, [scale, offset]: [f64; 2], ends: [Value; 2]) -> Point {
        let point = Point { scale, offset, ..Point::new("p", Direction::Out, kind) };
        let range = ValueRange::new(&point, ends[0], ends[1]);
        Point { range: Some(range.expect("the range has a value")), ..point }
    }

    #[test]
    fn a_range_is_the_raw_numbers_that_are_meant() {
        fn check(kind: PointKind, scaling: [f64; 2], ends: [Value; 2], expected: [Value; 2]) {
            let range = point(kind, scaling, ends).range.unwrap();
            assert_eq!(range.raw, expected, "{kind} {scaling:?} {ends:?}");
        }
        let plain = [1.0, 0.0];
        check(PointKind::U16, plain, [Int(0), Int(100)], [Int(0), Int(100)]);
        check(PointKind::U16, [0.1, 0.0], [Int(0), Real(0.3)], [Int(0), Int(3)]);
        check(PointKind::I16, [0.1, -40.0], [Int(-40), Int(60)], [Int(0), Int(1000)]);
        check(PointKind::I16, [-1.0, 0.0], [Int(-5), Int(10)], [Int(-10), Int(5)]);
        check(PointKind::U8, [0.3, 0.0], [Real(0.1), Int(1)], [Int(1), Int(3)]);
        check(PointKind::U8, plain, [Int(-5), Real(f64::INFINITY)], [Int(0), Int(255)]);
        let big = Int(i128::from(u64::MAX) - 1);
        check(PointKind::U64, plain, [Int(1), big], [Int(1), big]);
        let f32 = |number: f32| Real(f64::from(number));
        check(PointKind::F32, plain, [Real(0.1), Real(0.3)], [f32(0.1), f32(0.3)]);
        let none = |kind, low, high| {
            let point = Point::new("p", Direction::Out, kind);
            assert_eq!(ValueRange::new(&point, low, high), None, "{low} to {high}");
        };
        none(PointKind::U8, Int(300), Int(400));
        none(PointKind::U8, Real(0.2), Real(0.7));
        none(PointKind::Bool, Int(0), Int(1));
    }

    /// Writes `value` to an output with a range, with each setting of `on_overflow`.
    fn check(point: &Point, value: Value, refuse: Result<Value, &str>, clamp: Result<Value, &str>) {
        for (on_overflow, expected) in [(OnOverflow::Refuse, refuse), (OnOverflow::Clamp, clamp)] {
            let point = Point { on_overflow, ..point.clone() };
            let admitted = point.admit(value).map(|bytes| point.value_of(&bytes));
            let admitted = admitted.map_err(|unfit| unfit.to_string());
            let expected = expected.map_err(str::to_owned);
            assert_eq!(admitted, expected, "{value} {on_overflow:?}");
        }
    }

    #[test]
    fn an_output_stays_in_its_range() {
        let percent = point(PointKind::F64, [1.0, 0.0], [Int(0), Int(100)]);
        let outside = "expected a value from 0 to 100, which is the `range` of the point";
        check(&percent, Real(100.0), Ok(Real(100.0)), Ok(Real(100.0)));
        check(&percent, Real(100.1), Err(outside), Ok(Real(100.0)));
        check(&percent, Int(-7), Err(outside), Ok(Real(0.0)));
        let no = "the value does not fit type f64";
        check(&percent, Real(f64::NAN), Err(no), Err(no));
        check(&percent, Real(f64::INFINITY), Err(no), Err(no));
        check(
            &percent,
            Value::Bool(true),
            Err("expected a number for type f64"),
            Err("expected a number for type f64"),
        );
        let scaled = point(PointKind::I16, [0.1, 0.0], [Real(-5.0), Real(99.99)]);
        check(&scaled, Real(99.99), Ok(Real(99.9)), Ok(Real(99.9)));
        let outside = "expected a value from -5 to 99.99, which is the `range` of the point";
        check(&scaled, Real(1e9), Err(outside), Ok(Real(99.9)));
        check(&scaled, Real(-5.2), Err(outside), Ok(Real(-5.0)));
    }

    #[test]
    fn without_a_range_the_type_is_the_limit() {
        let point = |kind, scale| Point { scale, ..Point::new("p", Direction::Out, kind) };
        let no = |kind| format!("the value does not fit type {kind}");
        check(&point(PointKind::U8, 1.0), Int(256), Err(&no("u8")), Ok(Int(255)));
        check(&point(PointKind::I16, 0.5), Int(-99_999), Err(&no("i16")), Ok(Real(-16384.0)));
        let most = f64::from(f32::MAX);
        check(&point(PointKind::F32, 1.0), Real(1e300), Err(&no("f32")), Ok(Real(most)));
        check(&point(PointKind::U8, 1.0), Real(f64::NAN), Err(&no("u8")), Err(&no("u8")));
    }

    #[test]
    fn raw_bytes_stay_in_the_range() {
        let point = point(PointKind::I16, [0.1, 0.0], [Int(0), Int(10)]);
        let bytes = |raw: i16| point.raw_of(Real(f64::from(raw) * 0.1)).unwrap();
        assert_eq!(point.confine(&bytes(100)), Ok(bytes(100)));
        assert!(matches!(point.confine(&bytes(101)), Err(Unfit::OutsideRange(_))));
        let clamping = Point { on_overflow: OnOverflow::Clamp, ..point.clone() };
        assert_eq!(clamping.confine(&bytes(-1)), Ok(bytes(0)));
        let mut image = [0; 2];
        point.put_raw(&mut image, &bytes(2000));
        point.move_into_range(&mut image);
        assert_eq!(point.read(&image), Real(10.0));
    }

    #[test]
    fn a_force_is_in_the_range_or_refused() {
        let point = point(PointKind::U16, [0.1, 0.0], [Int(0), Int(10)]);
        let point = Point { on_overflow: OnOverflow::Clamp, ..point };
        assert_eq!(point.raw_in_range(Int(10)), point.raw_of(Int(10)));
        let refused = point.raw_in_range(Int(11)).unwrap_err().to_string();
        assert_eq!(refused, "expected a value from 0 to 10, which is the `range` of the point");
    }
}
