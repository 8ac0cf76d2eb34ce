//! A point: a typed place in an image, and how its value is read from bytes and written to bytes.
//!
//! A point does not know its owner: ownership and grants are in `plugin`, and addresses come from
//! the configuration. All points together are `Points`, in `image.rs`.

use std::ops::Range;
use std::time::Duration;

use super::{Direction, Freshness, Kind, OnBad, Safe, Unfit, Value};

/// One input or output value, named in the configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct Point {
    /// Name of the point, unique among all points.
    pub name: String,
    /// The image that the point lies in.
    pub direction: Direction,
    /// Type of the value in the image.
    pub kind: Kind,
    /// Address of the first byte in that image.
    pub byte: u32,
    /// Bit within the byte, 0 to 7; 0 for every type but bool.
    pub bit: u8,
    /// Factor from the raw number to the value; never 0.
    pub scale: f64,
    /// Number that is added after scaling.
    pub offset: f64,
    /// Unit for people, such as `l/min`; may be empty.
    pub unit: String,
    /// The value of an output while no healthy program owns it. Inputs have `Hold`, which has no
    /// meaning for them.
    pub safe: Safe,
    /// How long an output keeps its value before it becomes safe; zero means at once.
    pub hold_for: Duration,
    /// The ages at which an input is stale and then bad.
    pub freshness: Freshness,
    /// The value that programs read in place of a bad input.
    pub on_bad: OnBad,
    /// Index of the point's device in [`Points::devices`](super::Points::devices).
    pub device: usize,
}

/// The bytes of one value, independent of the address of the point. The bytes of the value are
/// little endian and come first; the rest are zeroes. A bool is 0 or 1.
pub type Raw = [u8; 8];

impl Point {
    /// A plain point at the start of an image, of device 0. The point has no scaling, and an output
    /// has the safe setting hold.
    pub fn new(name: impl Into<String>, direction: Direction, kind: Kind) -> Self {
        Self {
            name: name.into(),
            direction,
            kind,
            byte: 0,
            bit: 0,
            scale: 1.0,
            offset: 0.0,
            unit: String::new(),
            safe: Safe::Hold,
            hold_for: Duration::ZERO,
            freshness: Freshness::default(),
            on_bad: OnBad::Keep,
            device: 0,
        }
    }

    /// The bytes of the image that this point touches.
    pub fn bytes(&self) -> Range<usize> {
        let start = self.byte as usize;
        start..start + self.kind.size() as usize
    }

    /// The bits of its byte that a bool takes; all bits for every other type.
    pub fn mask(&self) -> u8 {
        match self.kind {
            Kind::Bool => 1 << self.bit,
            _ => 0xff,
        }
    }

    /// Whether the raw number is the value itself.
    fn is_plain(&self) -> bool {
        self.scale == 1.0 && self.offset == 0.0
    }

    /// The value of this point in `image`.
    pub fn read(&self, image: &[u8]) -> Value {
        self.value_of(&self.raw(image))
    }

    /// The value of these raw bytes.
    pub fn value_of(&self, raw: &Raw) -> Value {
        let bytes = &raw[..self.kind.size() as usize];
        match self.kind {
            Kind::Bool => Value::Bool(raw[0] != 0),
            Kind::F32 => {
                let raw = f32::from_le_bytes(bytes.try_into().expect("an f32 has four bytes"));
                Value::Real(self.scaled(f64::from(raw)))
            }
            Kind::F64 => Value::Real(self.scaled(f64::from_le_bytes(*raw))),
            _ if self.is_plain() => Value::Int(self.raw_int(bytes)),
            _ => Value::Real(self.scaled(self.raw_int(bytes) as f64)),
        }
    }

    fn scaled(&self, raw: f64) -> f64 {
        raw * self.scale + self.offset
    }

    /// The integer in these bytes; a negative one is extended to all 16 bytes.
    fn raw_int(&self, bytes: &[u8]) -> i128 {
        let mut wide = [0u8; 16];
        if self.kind.is_signed() && bytes[bytes.len() - 1] & 0x80 != 0 {
            wide = [0xff; 16];
        }
        wide[..bytes.len()].copy_from_slice(bytes);
        i128::from_le_bytes(wide)
    }

    /// The bytes for `value`, to be put into the image: as many as the type has, from the front.
    /// The bit of a bool is at its place in the byte.
    ///
    /// Integers are rounded half to even after the scaling is undone.
    ///
    /// # Errors
    /// The value is a bool for a number or a number for a bool, is not a number, or is outside the
    /// range of the type.
    pub fn encode(&self, value: Value) -> Result<[u8; 8], Unfit> {
        let mut bytes = [0u8; 8];
        match (self.kind, value) {
            (Kind::Bool, Value::Bool(on)) => bytes[0] = u8::from(on) << self.bit,
            (Kind::Bool, _) | (_, Value::Bool(_)) => return Err(Unfit::WrongType(self.kind)),
            (_, Value::Int(raw)) if self.is_plain() && self.kind.range().is_some() => {
                bytes = self.encode_int(raw)?;
            }
            (_, Value::Int(value)) => return self.encode(Value::Real(value as f64)),
            (kind, Value::Real(value)) => {
                let raw = (value - self.offset) / self.scale;
                if !raw.is_finite() {
                    return Err(Unfit::OutOfRange(kind));
                }
                match kind {
                    Kind::F64 => bytes = raw.to_le_bytes(),
                    Kind::F32 if (raw as f32).is_finite() => {
                        bytes[..4].copy_from_slice(&(raw as f32).to_le_bytes());
                    }
                    Kind::F32 => return Err(Unfit::OutOfRange(kind)),
                    _ => bytes = self.encode_int(raw.round_ties_even() as i128)?,
                }
            }
        }
        Ok(bytes)
    }

    fn encode_int(&self, raw: i128) -> Result<[u8; 8], Unfit> {
        let (low, high) = self.kind.range().ok_or(Unfit::WrongType(self.kind))?;
        if raw < low || raw > high {
            return Err(Unfit::OutOfRange(self.kind));
        }
        // In two's complement the low eight bytes carry every type up to 64 bits.
        Ok((raw as u64).to_le_bytes())
    }

    /// Whether the value of these bytes is a bool, an integer or a finite float. An infinite float,
    /// or one that is not a number, cannot drive a device and cannot have been measured.
    pub fn is_finite(&self, raw: &Raw) -> bool {
        !matches!(self.value_of(raw), Value::Real(number) if !number.is_finite())
    }

    /// The raw bytes of the point's value. `byte` returns each byte of the image by its address.
    /// Not for bools.
    pub(crate) fn raw_from(&self, byte: impl Fn(usize) -> u8) -> Raw {
        let mut raw = [0; 8];
        raw.iter_mut().zip(self.bytes()).for_each(|(raw, at)| *raw = byte(at));
        raw
    }

    /// The raw bytes of the point's value in `image`.
    pub fn raw(&self, image: &[u8]) -> Raw {
        let mut raw = [0; 8];
        let bytes = &image[self.bytes()];
        match self.kind {
            Kind::Bool => raw[0] = u8::from(bytes[0] & self.mask() != 0),
            _ => raw[..bytes.len()].copy_from_slice(bytes),
        }
        raw
    }

    /// Puts raw bytes into `image`; nothing else in the image changes.
    pub fn put_raw(&self, image: &mut [u8], raw: &Raw) {
        let at = self.bytes();
        match self.kind {
            Kind::Bool => {
                let bit = if raw[0] == 0 { 0 } else { self.mask() };
                image[at.start] = image[at.start] & !self.mask() | bit;
            }
            _ => {
                let len = at.len();
                image[at].copy_from_slice(&raw[..len]);
            }
        }
    }

    /// The raw bytes for `value`.
    ///
    /// # Errors
    /// The errors of [`Point::encode`].
    pub fn raw_of(&self, value: Value) -> Result<Raw, Unfit> {
        let mut raw = self.encode(value)?;
        if self.kind == Kind::Bool {
            raw[0] >>= self.bit;
        }
        // The rest is zeroed, so that two values are equal exactly if their raw bytes are equal.
        raw[self.kind.size() as usize..].fill(0);
        Ok(raw)
    }

    /// Sets the point's bits in `image` to zero; nothing else in the image changes.
    pub fn clear(&self, image: &mut [u8]) {
        let mask = self.mask();
        image[self.bytes()].iter_mut().for_each(|byte| *byte &= !mask);
    }

    /// Whether the point has the same address and type as `other`. A program that uses the address
    /// does not notice the difference.
    pub fn is_in_place_of(&self, other: &Self) -> bool {
        let place = |point: &Self| (point.direction, point.kind, point.byte, point.bit);
        place(self) == place(other)
    }

    /// Puts `value` into `image`; nothing else in the image changes.
    ///
    /// # Errors
    /// The errors of [`Point::encode`]; then the image is unchanged.
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

    fn point(kind: Kind, scale: f64, offset: f64) -> Point {
        let bit = if kind == Kind::Bool { 3 } else { 0 };
        Point { byte: 1, bit, scale, offset, ..Point::new("p", Direction::Out, kind) }
    }

    /// Writes `value` into a point and reads it back.
    fn check(kind: Kind, scale: f64, offset: f64, value: Value, expected: Result<Value, Unfit>) {
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
        check(Kind::Bool, 1.0, 0.0, Bool(true), Ok(Bool(true)));
        check(Kind::Bool, 1.0, 0.0, Int(1), Err(Unfit::WrongType(Kind::Bool)));
        check(Kind::U8, 1.0, 0.0, Bool(true), Err(Unfit::WrongType(Kind::U8)));
        check(Kind::U8, 1.0, 0.0, Int(255), Ok(Int(255)));
        check(Kind::U8, 1.0, 0.0, Int(256), Err(Unfit::OutOfRange(Kind::U8)));
        check(Kind::U8, 1.0, 0.0, Int(-1), Err(Unfit::OutOfRange(Kind::U8)));
        check(Kind::I16, 1.0, 0.0, Int(-2), Ok(Int(-2)));
        check(Kind::I16, 0.1, 0.0, Real(-12.3), Ok(Real(-12.3)));
        check(Kind::U16, 0.5, 10.0, Real(10.75), Ok(Real(11.0)));
        check(Kind::U16, 0.5, 10.0, Real(9.0), Err(Unfit::OutOfRange(Kind::U16)));
        check(Kind::U64, 1.0, 0.0, Int(u64::MAX.into()), Ok(Int(u64::MAX.into())));
        check(Kind::I64, 1.0, 0.0, Int(i64::MIN.into()), Ok(Int(i64::MIN.into())));
        check(Kind::F32, 1.0, 0.0, Real(1e300), Err(Unfit::OutOfRange(Kind::F32)));
        check(Kind::F64, 1.0, 0.0, Real(f64::NAN), Err(Unfit::OutOfRange(Kind::F64)));
        check(Kind::F64, 1.0, 0.0, Int(3), Ok(Real(3.0)));
        check(Kind::I32, 1.0, 0.0, Real(2.5), Ok(Int(2)));
    }

    #[test]
    fn a_bool_leaves_its_neighbours_alone() {
        let mut image = [0, 0b1111_0111, 0];
        point(Kind::Bool, 1.0, 0.0).write(&mut image, Value::Bool(true)).unwrap();
        assert_eq!(image, [0, 0xff, 0]);
    }
}
