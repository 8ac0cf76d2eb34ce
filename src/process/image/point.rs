//! A point: a typed address in an image. This file converts between the value of a point and its
//! bytes.
//!
//! ```text
//! value = raw number * scale + offset
//! example, u16 with scale 0.1: bytes [0xE8, 0x03] = raw number 1000 = value 100.0
//! ```
//!
//! A `Point` does not contain its owner. `world.rs` stores the owner of each output, and `grant.rs`
//! defines the grants. The addresses come from the configuration. `Points`, in `image.rs`, is the
//! set of all points.

use std::ops::Range;
use std::time::Duration;

use super::{Direction, Freshness, OnBad, OnOverflow, PointKind, Safe, Unfit, Value, ValueRange};

/// A point: an input or output value with a name in the configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct Point {
    /// Name of the point. No other point has this name.
    pub name: String,
    /// Whether the point is in the input image or in the output image.
    pub direction: Direction,
    /// Type of the raw value in the image.
    pub kind: PointKind,
    /// Address of the first byte in the image.
    pub byte: u32,
    /// Position of the bit in the byte, 0 to 7, for a bool; 0 for every other type.
    pub bit: u8,
    /// Factor by which the raw number is multiplied; never 0.
    pub scale: f64,
    /// Number that is added after the multiplication.
    pub offset: f64,
    /// Engineering unit of the value as shown to operators, such as `l/min`; may be empty.
    pub unit: String,
    /// Text about the point as shown to operators; may be empty.
    pub description: String,
    /// Raw numbers with which the device says that an input has no value. Each is a
    /// [`Value::Int`] for an integer type and a [`Value::Real`] for a float type.
    pub not_available: Vec<Value>,
    /// The smallest and the largest value; `None` if the type alone limits the value.
    pub range: Option<ValueRange>,
    /// The setting for a value that is outside the range, or that does not fit the type, when a
    /// program writes it to an output.
    pub on_overflow: OnOverflow,
    /// Whether the device has the opposite of the value; for a bool only.
    pub is_inverted: bool,
    /// A change of the value by this amount or less is ignored, in the unit of the value; 0 if no
    /// change is ignored.
    pub deadband: f64,
    /// The setting for the value of an output while no program owns the output, or while its
    /// program lacks a required input. An input has the setting `Hold`, which has no effect for an
    /// input.
    pub safe: Safe,
    /// Hold time: the time for which an output retains its value before it becomes safe. The hold
    /// time begins when the output loses its owner, or when the wait of its program for a required
    /// input has expired. Zero means that the output becomes safe at once.
    pub hold_for: Duration,
    /// The ages at which an input becomes stale and bad.
    pub freshness: Freshness,
    /// The setting for the value that programs read while the input is bad.
    pub on_bad: OnBad,
    /// Index of the point's device in [`Points::devices`](super::Points::devices).
    pub device: usize,
}

/// The bytes of one value, independent of the address of the point. The value is little-endian and
/// begins at the first byte. The remaining bytes are zero. For a bool, the first byte is 0 or 1.
pub type Raw = [u8; 8];

impl Point {
    /// Creates a point at byte 0 of an image, of device 0. The point has no scaling. The safe
    /// setting is `Hold`.
    pub fn new(name: impl Into<String>, direction: Direction, kind: PointKind) -> Self {
        Self {
            name: name.into(),
            direction,
            kind,
            byte: 0,
            bit: 0,
            scale: 1.0,
            offset: 0.0,
            unit: String::new(),
            description: String::new(),
            not_available: Vec::new(),
            range: None,
            on_overflow: OnOverflow::Refuse,
            is_inverted: false,
            deadband: 0.0,
            safe: Safe::Hold,
            hold_for: Duration::ZERO,
            freshness: Freshness::default(),
            on_bad: OnBad::Keep,
            device: 0,
        }
    }

    /// Returns the address range of the point in the image.
    pub fn bytes(&self) -> Range<usize> {
        let start = self.byte as usize;
        start..start + self.kind.size() as usize
    }

    /// Returns a mask of the bits that the point uses in each of its bytes: one bit for a bool, all
    /// bits for every other type.
    pub fn mask(&self) -> u8 {
        match self.kind {
            PointKind::Bool => 1 << self.bit,
            _ => 0xff,
        }
    }

    /// Whether the point has no scaling, so that the raw number is the value.
    pub fn is_plain(&self) -> bool {
        self.scale == 1.0 && self.offset == 0.0
    }

    /// Whether all values of the point are whole numbers: an integer type without scaling.
    pub fn is_whole(&self) -> bool {
        self.is_plain() && self.kind.range().is_some()
    }

    /// Returns the value of this point in `image`, after scaling.
    pub fn read(&self, image: &[u8]) -> Value {
        self.value_of(&self.raw(image))
    }

    /// Returns the value of these raw bytes, after scaling.
    pub fn value_of(&self, raw: &Raw) -> Value {
        match self.raw_number(raw) {
            Value::Int(number) if !self.is_plain() => Value::Real(self.scaled(number as f64)),
            Value::Real(number) => Value::Real(self.scaled(number)),
            value => value,
        }
    }

    /// Returns the raw number of these bytes, without scaling. A bool has no number, so its value
    /// is returned.
    pub(super) fn raw_number(&self, raw: &Raw) -> Value {
        let bytes = &raw[..self.kind.size() as usize];
        match self.kind {
            PointKind::Bool => Value::Bool(raw[0] != 0),
            PointKind::F32 => {
                let raw = f32::from_le_bytes(bytes.try_into().expect("an f32 has four bytes"));
                Value::Real(f64::from(raw))
            }
            PointKind::F64 => Value::Real(f64::from_le_bytes(*raw)),
            _ => Value::Int(self.raw_int(bytes)),
        }
    }

    fn scaled(&self, raw: f64) -> f64 {
        raw * self.scale + self.offset
    }

    pub(super) fn unscaled(&self, value: f64) -> f64 {
        (value - self.offset) / self.scale
    }

    /// Returns the integer in these bytes. For a negative number, the sign is extended to all 16
    /// bytes.
    fn raw_int(&self, bytes: &[u8]) -> i128 {
        let mut wide = [0u8; 16];
        if self.kind.is_signed() && bytes[bytes.len() - 1] & 0x80 != 0 {
            wide = [0xff; 16];
        }
        wide[..bytes.len()].copy_from_slice(bytes);
        i128::from_le_bytes(wide)
    }

    /// Returns the bytes of `value`, as the image contains them. The value is in the first
    /// [`PointKind::size`] bytes; the other bytes have no meaning. For a bool, the bit is at the
    /// position [`Point::bit`] of the first byte.
    ///
    /// For an integer type with scaling, the raw number is rounded; a half is rounded to the even
    /// number.
    ///
    /// # Errors
    /// [`Unfit::WrongType`] if only one of the point and the value is a bool. [`Unfit::OutOfRange`]
    /// if the raw number is outside the range of the type or is not a finite number.
    pub fn encode(&self, value: Value) -> Result<[u8; 8], Unfit> {
        let mut bytes = [0u8; 8];
        match (self.kind, value) {
            (PointKind::Bool, Value::Bool(on)) => bytes[0] = u8::from(on) << self.bit,
            (PointKind::Bool, _) | (_, Value::Bool(_)) => return Err(Unfit::WrongType(self.kind)),
            (_, Value::Int(raw)) if self.is_plain() && self.kind.range().is_some() => {
                bytes = self.encode_int(raw)?;
            }
            (_, Value::Int(value)) => return self.encode(Value::Real(value as f64)),
            (kind, Value::Real(value)) => {
                let raw = self.unscaled(value);
                if !raw.is_finite() {
                    return Err(Unfit::OutOfRange(kind));
                }
                match kind {
                    PointKind::F64 => bytes = raw.to_le_bytes(),
                    PointKind::F32 if (raw as f32).is_finite() => {
                        bytes[..4].copy_from_slice(&(raw as f32).to_le_bytes());
                    }
                    PointKind::F32 => return Err(Unfit::OutOfRange(kind)),
                    _ => bytes = self.encode_int(raw.round_ties_even() as i128)?,
                }
            }
        }
        Ok(bytes)
    }

    pub(super) fn encode_int(&self, raw: i128) -> Result<[u8; 8], Unfit> {
        let (low, high) = self.kind.range().ok_or(Unfit::WrongType(self.kind))?;
        if raw < low || raw > high {
            return Err(Unfit::OutOfRange(self.kind));
        }
        // In two's complement, the low eight bytes contain the complete number for every type of up
        // to 64 bits.
        Ok((raw as u64).to_le_bytes())
    }

    /// Whether the value of these bytes is a bool, an integer or a finite float. A float that is
    /// infinite or not a number cannot drive a device and cannot come from a measurement.
    pub fn is_finite(&self, raw: &Raw) -> bool {
        !matches!(self.value_of(raw), Value::Real(number) if !number.is_finite())
    }

    /// Returns the raw bytes of the point's value. `byte` returns the byte of the image at an
    /// address. This function does not work for a bool.
    pub(crate) fn raw_from(&self, byte: impl Fn(usize) -> u8) -> Raw {
        let mut raw = [0; 8];
        raw.iter_mut().zip(self.bytes()).for_each(|(raw, at)| *raw = byte(at));
        raw
    }

    /// Returns the raw bytes of the point's value in `image`.
    pub fn raw(&self, image: &[u8]) -> Raw {
        let mut raw = [0; 8];
        let bytes = &image[self.bytes()];
        match self.kind {
            PointKind::Bool => raw[0] = u8::from(bytes[0] & self.mask() != 0),
            _ => raw[..bytes.len()].copy_from_slice(bytes),
        }
        raw
    }

    /// Writes raw bytes to the address of the point in `image`. No other bits of the image change.
    pub fn put_raw(&self, image: &mut [u8], raw: &Raw) {
        let at = self.bytes();
        match self.kind {
            PointKind::Bool => {
                let bit = if raw[0] == 0 { 0 } else { self.mask() };
                image[at.start] = image[at.start] & !self.mask() | bit;
            }
            _ => {
                let len = at.len();
                image[at].copy_from_slice(&raw[..len]);
            }
        }
    }

    /// Returns the raw bytes of `value`. For a bool, the first byte is 0 or 1.
    ///
    /// # Errors
    /// The errors of [`Point::encode`].
    pub fn raw_of(&self, value: Value) -> Result<Raw, Unfit> {
        Ok(self.raw_from_image(self.encode(value)?))
    }

    /// Returns the raw bytes of the safe value; `None` if the safe setting is `hold`.
    ///
    /// # Panics
    /// When the safe value does not fit the point. The check of the configuration refuses it.
    pub fn safe_raw(&self) -> Option<Raw> {
        match self.safe {
            Safe::Hold => None,
            Safe::Value(safe) => {
                Some(self.raw_of(safe).expect("the configuration check tried each safe value"))
            }
        }
    }

    /// Returns the raw bytes for bytes that [`Point::encode`] has returned.
    pub(super) fn raw_from_image(&self, mut raw: [u8; 8]) -> Raw {
        if self.kind == PointKind::Bool {
            raw[0] >>= self.bit;
        }
        // The bytes after the value are set to zero. Then two equal values always have equal raw
        // bytes.
        raw[self.kind.size() as usize..].fill(0);
        raw
    }

    /// Sets the bits of the point in `image` to zero. No other bits of the image change.
    pub fn clear(&self, image: &mut [u8]) {
        let mask = self.mask();
        image[self.bytes()].iter_mut().for_each(|byte| *byte &= !mask);
    }

    /// Whether the point has the same direction, type and address as `other`. A program that uses
    /// the address cannot distinguish the two points.
    pub fn is_in_place_of(&self, other: &Self) -> bool {
        let place = |point: &Self| (point.direction, point.kind, point.byte, point.bit);
        place(self) == place(other)
    }

    /// Writes `value` to the address of the point in `image`. No other bits of the image change.
    ///
    /// # Errors
    /// The errors of [`Point::encode`]. On an error the image does not change.
    pub fn write(&self, image: &mut [u8], value: Value) -> Result<(), Unfit> {
        let raw = self.encode(value)?;
        let mask = self.mask();
        for (byte, raw) in image[self.bytes()].iter_mut().zip(raw) {
            *byte = *byte & !mask | raw & mask;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(kind: PointKind, scale: f64, offset: f64) -> Point {
        let bit = if kind == PointKind::Bool { 3 } else { 0 };
        Point { byte: 1, bit, scale, offset, ..Point::new("p", Direction::Out, kind) }
    }

    /// Writes `value` into a point and reads it again.
    fn check(
        kind: PointKind,
        scale: f64,
        offset: f64,
        value: Value,
        expected: Result<Value, Unfit>,
    ) {
        let point = point(kind, scale, offset);
        let mut image = [0u8; 10];
        let written = point.write(&mut image, value);
        assert_eq!(written.map(|()| point.read(&image)), expected, "{kind} {value}");
        assert_eq!((image[0], image[9]), (0, 0), "{kind} {value}: wrote beside the point");
        if let (Ok(expected), Ok(raw)) = (expected, point.raw_of(value)) {
            assert_eq!((point.raw(&image), point.value_of(&raw)), (raw, expected));
            let mut copy = [0u8; 10];
            point.put_raw(&mut copy, &raw);
            assert_eq!(copy, image, "{kind} {value}");
        }
    }

    #[test]
    fn values_survive_the_image() {
        use Value::{Bool, Int, Real};
        check(PointKind::Bool, 1.0, 0.0, Bool(true), Ok(Bool(true)));
        check(PointKind::Bool, 1.0, 0.0, Int(1), Err(Unfit::WrongType(PointKind::Bool)));
        check(PointKind::U8, 1.0, 0.0, Bool(true), Err(Unfit::WrongType(PointKind::U8)));
        check(PointKind::U8, 1.0, 0.0, Int(255), Ok(Int(255)));
        check(PointKind::U8, 1.0, 0.0, Int(256), Err(Unfit::OutOfRange(PointKind::U8)));
        check(PointKind::U8, 1.0, 0.0, Int(-1), Err(Unfit::OutOfRange(PointKind::U8)));
        check(PointKind::I16, 1.0, 0.0, Int(-2), Ok(Int(-2)));
        check(PointKind::I16, 0.1, 0.0, Real(-12.3), Ok(Real(-12.3)));
        check(PointKind::U16, 0.5, 10.0, Real(10.75), Ok(Real(11.0)));
        check(PointKind::U16, 0.5, 10.0, Real(9.0), Err(Unfit::OutOfRange(PointKind::U16)));
        check(PointKind::U64, 1.0, 0.0, Int(u64::MAX.into()), Ok(Int(u64::MAX.into())));
        check(PointKind::I64, 1.0, 0.0, Int(i64::MIN.into()), Ok(Int(i64::MIN.into())));
        check(PointKind::F32, 1.0, 0.0, Real(1e300), Err(Unfit::OutOfRange(PointKind::F32)));
        check(PointKind::F64, 1.0, 0.0, Real(f64::NAN), Err(Unfit::OutOfRange(PointKind::F64)));
        check(PointKind::F64, 1.0, 0.0, Int(3), Ok(Real(3.0)));
        check(PointKind::I32, 1.0, 0.0, Real(2.5), Ok(Int(2)));
    }

    #[test]
    fn a_bool_leaves_its_neighbours_alone() {
        let mut image = [0, 0b1111_0111, 0];
        point(PointKind::Bool, 1.0, 0.0).write(&mut image, Value::Bool(true)).unwrap();
        assert_eq!(image, [0, 0xff, 0]);
    }
}
