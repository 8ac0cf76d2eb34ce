//! What a value of a device means for a point: whether it is a measurement, whether it is inverted,
//! and whether it is a change.
//!
//! ```text
//! device ─▶ invert ─▶ finite? available? in the range? ─▶ more than the deadband? ─▶ input image
//! device ◀─ invert ◀───────────────────────────────────────────────────────────── output image
//! ```
//!
//! All drivers use these functions, `driver/link/side.rs` for the drivers with a thread and
//! `driver/sim/wire.rs` for the simulated plant. In the images, all values have the sense that
//! programs see. Drivers have the sense of the device. The deadband of outputs is in
//! `process/deadband.rs`, because it does not apply to forced and safe values.

use super::{Point, PointKind, Raw, Value};

impl Point {
    /// Returns the value for the input image when the device has sent `raw`, or `None` if the
    /// device has sent no measurement. `last` is the last value that the input had from its device.
    pub fn from_device(&self, raw: &Raw, last: Option<&Raw>) -> Option<Raw> {
        let raw = self.for_device(*raw);
        if !self.is_measurement(&raw) {
            return None;
        }
        Some(last.filter(|last| self.is_within_deadband(last, &raw)).copied().unwrap_or(raw))
    }

    /// Returns the value for the device when the output image has `raw`. The function returns the
    /// opposite of a bool that is inverted, so it also converts back.
    pub fn for_device(&self, mut raw: Raw) -> Raw {
        if self.is_inverted && self.kind == PointKind::Bool {
            raw[0] ^= 1;
        }
        raw
    }

    /// Returns the value that the device has when the value of the point is `value`. The two differ
    /// only for a bool that is inverted.
    pub fn value_for_device(&self, value: Value) -> Value {
        match value {
            Value::Bool(on) => Value::Bool(on ^ self.is_inverted),
            number => number,
        }
    }

    /// Whether a value that the device sends for this input is a measurement. A float that is
    /// infinite or not a number, a raw number that means "not available", and a value outside the
    /// range are no measurement.
    pub fn is_measurement(&self, raw: &Raw) -> bool {
        self.is_finite(raw)
            && (self.not_available.is_empty()
                || !self.not_available.contains(&self.raw_number(raw)))
            && self.is_in_range(raw)
    }

    /// Whether the point has a deadband and the value has changed by no more than the deadband.
    pub fn is_within_deadband(&self, last: &Raw, raw: &Raw) -> bool {
        self.deadband > 0.0
            && !self.value_of(last).differs_by_more(self.value_of(raw), self.deadband)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::image::{Direction, Value, ValueRange};
    use Value::{Int, Real};

    fn point(kind: PointKind) -> Point {
        Point::new("p", Direction::In, kind)
    }

    #[test]
    fn what_is_not_available_is_no_measurement() {
        fn check(kind: PointKind, scale: f64, absent: Value, raw: &[u8], expected: bool) {
            let point = Point { scale, not_available: vec![absent], ..point(kind) };
            let mut bytes = [0; 8];
            bytes[..raw.len()].copy_from_slice(raw);
            assert_eq!(point.is_measurement(&bytes), expected, "{kind} {raw:?}");
        }
        check(PointKind::I16, 0.1, Int(-32768), &[0x00, 0x80], false);
        check(PointKind::I16, 0.1, Int(-32768), &[0x01, 0x80], true);
        check(PointKind::U16, 0.1, Int(0xffff), &[0xff, 0xff], false);
        check(PointKind::U64, 1.0, Int(u64::MAX.into()), &[0xff; 8], false);
        check(PointKind::F32, 2.0, Real(-9999.0), &(-9999f32).to_le_bytes(), false);
        check(PointKind::F32, 2.0, Real(-9999.0), &(-4999.5f32).to_le_bytes(), true);
        check(PointKind::F32, 1.0, Real(0.0), &0x7fc0_0000u32.to_le_bytes(), false);
    }

    #[test]
    fn what_is_outside_the_range_is_no_measurement() {
        let point = Point { scale: 0.1, ..point(PointKind::I16) };
        let range = ValueRange::new(&point, Int(0), Int(100));
        let point = Point { range, ..point };
        let is_good = |raw: i16| {
            let mut bytes = [0; 8];
            bytes[..2].copy_from_slice(&raw.to_le_bytes());
            point.from_device(&bytes, None) == Some(bytes)
        };
        assert_eq!([-1, 0, 1000, 1001].map(is_good), [false, true, true, false]);
    }

    #[test]
    fn a_small_change_is_no_change() {
        let check = |scale: f64, deadband: f64, last: i16, raw: i16, expected: i16| {
            let point = Point { scale, deadband, ..point(PointKind::I16) };
            let bytes = |raw: i16| point.raw_of(Real(f64::from(raw) * scale)).unwrap();
            let taken = point.from_device(&bytes(raw), Some(&bytes(last)));
            assert_eq!(taken, Some(bytes(expected)), "{last} {raw}");
        };
        check(0.1, 0.5, 3, 8, 3);
        check(0.1, 0.5, 3, 9, 9);
        check(0.1, 0.5, -3, -8, -3);
        check(1.0, 1.0, 3, 4, 3);
        check(1.0, 1.0, 3, 5, 5);
        check(1.0, 0.0, 3, 4, 4);
    }

    #[test]
    fn the_device_has_the_opposite() {
        let point = Point { is_inverted: true, ..point(PointKind::Bool) };
        let [on, off] = [[1, 0, 0, 0, 0, 0, 0, 0], [0; 8]];
        assert_eq!((point.from_device(&on, None), point.for_device(off)), (Some(off), on));
        assert_eq!((point.from_device(&off, Some(&off)), point.for_device(on)), (Some(on), off));
    }
}
