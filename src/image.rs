//! The process image: what a point is, where it lies, and how its value is read and written.
//!
//! Inputs and outputs are two little-endian byte spaces (IEC 61131-3 calls them %I and %Q). A point
//! names a typed place in one of them. This file knows no device and no plugin; who may write what
//! is decided in `plugin`, and when values move is decided in `scan`.

use std::collections::HashMap;
use std::fmt;
use std::ops::Range;

use serde::de::{Deserializer, Visitor};
use serde::{Deserialize, Serialize};

/// The largest image in either direction: 64 KiB, so that a byte address fits 16 bits everywhere.
pub const MAX_IMAGE_BYTES: u32 = 64 * 1024;

/// The most points in one configuration: a snapshot copies a quality byte for each, every cycle.
pub const MAX_POINTS: usize = 8192;

/// Which way a point's value travels, seen from the controller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// From the field into the input image.
    In,
    /// From the output image to the field.
    Out,
}

/// The type of a point as it lies in the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs, reason = "the names are the types")]
pub enum Kind {
    Bool,
    U8,
    I8,
    U16,
    I16,
    U32,
    I32,
    U64,
    I64,
    F32,
    F64,
}

impl Kind {
    /// Bytes that a value of this type occupies; a bool occupies one bit of one byte.
    pub const fn size(self) -> u32 {
        match self {
            Self::Bool | Self::U8 | Self::I8 => 1,
            Self::U16 | Self::I16 => 2,
            Self::U32 | Self::I32 | Self::F32 => 4,
            Self::U64 | Self::I64 | Self::F64 => 8,
        }
    }

    /// The range of an integer type; `None` for bool and the floats.
    const fn range(self) -> Option<(i128, i128)> {
        Some(match self {
            Self::U8 => (0, u8::MAX as i128),
            Self::I8 => (i8::MIN as i128, i8::MAX as i128),
            Self::U16 => (0, u16::MAX as i128),
            Self::I16 => (i16::MIN as i128, i16::MAX as i128),
            Self::U32 => (0, u32::MAX as i128),
            Self::I32 => (i32::MIN as i128, i32::MAX as i128),
            Self::U64 => (0, u64::MAX as i128),
            Self::I64 => (i64::MIN as i128, i64::MAX as i128),
            Self::Bool | Self::F32 | Self::F64 => return None,
        })
    }

    const fn is_signed(self) -> bool {
        matches!(self, Self::I8 | Self::I16 | Self::I32 | Self::I64)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bool => "bool",
            Self::U8 => "u8",
            Self::I8 => "i8",
            Self::U16 => "u16",
            Self::I16 => "i16",
            Self::U32 => "u32",
            Self::I32 => "i32",
            Self::U64 => "u64",
            Self::I64 => "i64",
            Self::F32 => "f32",
            Self::F64 => "f64",
        })
    }
}

/// A value as people and programs see it: scaled, without its place in the image.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Value {
    /// Of a bool point.
    Bool(bool),
    /// Of an integer point without scaling.
    Int(i128),
    /// Of a float point, or of any number with scaling.
    Real(f64),
}

impl<'de> Deserialize<'de> for Value {
    /// By hand, because serde's untagged enums do not take 128-bit integers.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl Visitor<'_> for Any {
            type Value = Value;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("true, false or a number")
            }

            fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
                Ok(Value::Bool(value))
            }

            fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
                Ok(Value::Int(value.into()))
            }

            fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
                Ok(Value::Int(value.into()))
            }

            fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
                Ok(Value::Real(value))
            }
        }
        deserializer.deserialize_any(Any)
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bool(value) => value.fmt(f),
            Self::Int(value) => value.fmt(f),
            Self::Real(value) => value.fmt(f),
        }
    }
}

/// Why a value cannot be put into a point.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Unfit {
    /// A number for a bool, or a bool for a number.
    WrongType(Kind),
    /// Outside the range of the type after the scaling is undone, or not a number.
    OutOfRange(Kind),
}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::WrongType(Kind::Bool) => f.write_str("a bool is wanted: true or false"),
            Self::WrongType(kind) => write!(f, "a number is wanted, for type {kind}"),
            Self::OutOfRange(kind) => write!(f, "the value does not fit type {kind}"),
        }
    }
}

impl std::error::Error for Unfit {}

/// What an output becomes when nobody good owns it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Safe {
    /// The last committed value stays.
    Hold,
    /// This value, in the unit of the point.
    Value(Value),
}

/// How far a value can be believed; the codes are those of `wasm_point_read_*`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[repr(u8)]
pub enum Quality {
    /// Fresh from the device.
    Good = 0,
    /// The last usable value, no longer fresh.
    Uncertain = 1,
    /// Not to be used: never read, device lost, or not a number.
    Bad = 2,
}

/// One input or output value, named in the configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct Point {
    /// Its name, unique among all points.
    pub name: String,
    /// Which image it lies in.
    pub direction: Direction,
    /// Its type in the image.
    pub kind: Kind,
    /// First byte in that image.
    pub byte: u32,
    /// Bit within the byte, 0 to 7; 0 for everything but a bool.
    pub bit: u8,
    /// Factor from the raw number to the value; never 0.
    pub scale: f64,
    /// Added after scaling.
    pub offset: f64,
    /// Unit for people, such as `l/min`; may be empty.
    pub unit: String,
    /// What an output becomes when nobody good owns it; `Hold` for inputs, where it means nothing.
    pub safe: Safe,
    /// Index of its device in the configuration.
    pub device: usize,
}

impl Point {
    /// The bytes of the image that this point touches.
    pub fn bytes(&self) -> Range<usize> {
        let start = self.byte as usize;
        start..start + self.kind.size() as usize
    }

    /// The bits of its byte that a bool occupies; all bits for every other type.
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

    /// The value that `image` holds for this point.
    pub fn read(&self, image: &[u8]) -> Value {
        let bytes = &image[self.bytes()];
        match self.kind {
            Kind::Bool => Value::Bool(bytes[0] & self.mask() != 0),
            Kind::F32 => {
                let raw = f32::from_le_bytes(bytes.try_into().expect("an f32 has four bytes"));
                Value::Real(self.scaled(f64::from(raw)))
            }
            Kind::F64 => {
                let raw = f64::from_le_bytes(bytes.try_into().expect("an f64 has eight bytes"));
                Value::Real(self.scaled(raw))
            }
            _ if self.is_plain() => Value::Int(self.raw_int(bytes)),
            _ => Value::Real(self.scaled(self.raw_int(bytes) as f64)),
        }
    }

    fn scaled(&self, raw: f64) -> f64 {
        raw * self.scale + self.offset
    }

    fn raw_int(&self, bytes: &[u8]) -> i128 {
        let mut wide = [0u8; 16];
        if self.kind.is_signed() && bytes[bytes.len() - 1] & 0x80 != 0 {
            wide = [0xff; 16];
        }
        wide[..bytes.len()].copy_from_slice(bytes);
        i128::from_le_bytes(wide)
    }

    /// The raw bytes for `value`: as many as the type has, from the front. A bool gives its bit in place.
    ///
    /// Integers are rounded half to even after the scaling is undone.
    ///
    /// # Errors
    /// When the value is of the wrong sort, not a number, or outside the range of the type.
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
        // Two's complement: the low eight bytes carry every type up to 64 bits.
        Ok((raw as u64).to_le_bytes())
    }

    /// Puts `value` into `image`; nothing else in the image changes.
    ///
    /// # Errors
    /// As [`Point::encode`]; then the image is untouched.
    pub fn write(&self, image: &mut [u8], value: Value) -> Result<(), Unfit> {
        let raw = self.encode(value)?;
        let mask = self.mask();
        for (byte, raw) in image[self.bytes()].iter_mut().zip(raw) {
            *byte = *byte & !mask | raw & mask;
        }
        Ok(())
    }
}

/// A point's place in [`Points`]; small and copyable, for queues and the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PointId(pub u16);

impl PointId {
    /// The id as an index into lists that have one entry for each point.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// All points of a configuration; fixed from then on and shared by everybody.
#[derive(Debug, Default)]
pub struct Points {
    all: Vec<Point>,
    by_name: HashMap<String, PointId>,
    input_bytes: usize,
    output_bytes: usize,
    /// For each byte of the output image, the points that touch it.
    output_owners: Vec<Vec<PointId>>,
    /// For each byte of the input image, the points that touch it.
    input_owners: Vec<Vec<PointId>>,
}

impl Points {
    /// Collects `all`; the images have the given sizes in bytes.
    ///
    /// # Panics
    /// When a point lies outside the image, a name occurs twice, or there are more than
    /// [`MAX_POINTS`]: the configuration has refused all that before.
    pub fn new(all: Vec<Point>, input_bytes: usize, output_bytes: usize) -> Self {
        assert!(all.len() <= MAX_POINTS, "the configuration limits points");
        let mut points = Self {
            by_name: HashMap::with_capacity(all.len()),
            input_bytes,
            output_bytes,
            input_owners: vec![Vec::new(); input_bytes],
            output_owners: vec![Vec::new(); output_bytes],
            all: Vec::new(),
        };
        for (index, point) in all.iter().enumerate() {
            let id = PointId(index as u16);
            let twice = points.by_name.insert(point.name.clone(), id);
            assert!(twice.is_none(), "the configuration refuses double names");
            let owners = match point.direction {
                Direction::In => &mut points.input_owners,
                Direction::Out => &mut points.output_owners,
            };
            for byte in point.bytes() {
                owners[byte].push(id);
            }
        }
        points.all = all;
        points
    }

    /// Every point with its id, in configuration order.
    pub fn iter(&self) -> impl Iterator<Item = (PointId, &Point)> {
        (0u16..).map(PointId).zip(&self.all)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// The point with this id, if there is one.
    pub fn get(&self, id: PointId) -> Option<&Point> {
        self.all.get(id.index())
    }

    /// The id of the point with this name.
    pub fn find(&self, name: &str) -> Option<PointId> {
        self.by_name.get(name).copied()
    }

    /// The points that touch one byte of an image.
    pub fn at(&self, direction: Direction, byte: usize) -> &[PointId] {
        match direction {
            Direction::In => &self.input_owners[byte],
            Direction::Out => &self.output_owners[byte],
        }
    }

    /// Size of an image in bytes.
    pub fn image_bytes(&self, direction: Direction) -> usize {
        match direction {
            Direction::In => self.input_bytes,
            Direction::Out => self.output_bytes,
        }
    }
}

impl std::ops::Index<PointId> for Points {
    type Output = Point;

    fn index(&self, id: PointId) -> &Point {
        &self.all[id.index()]
    }
}

/// The input image with the quality of each point; drivers write it, programs read it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inputs {
    /// The byte space.
    pub bytes: Vec<u8>,
    /// One entry for each point, by [`PointId`]; entries of outputs stay `Good`.
    pub quality: Vec<Quality>,
}

impl Inputs {
    /// All zero, and every input `Bad`: nothing has been read yet.
    pub fn unread(points: &Points) -> Self {
        let quality = |(_, point): (_, &Point)| match point.direction {
            Direction::In => Quality::Bad,
            Direction::Out => Quality::Good,
        };
        Self {
            bytes: vec![0; points.image_bytes(Direction::In)],
            quality: points.iter().map(quality).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(kind: Kind, scale: f64, offset: f64) -> Point {
        Point {
            name: "p".into(),
            direction: Direction::Out,
            kind,
            byte: 1,
            bit: if kind == Kind::Bool { 3 } else { 0 },
            scale,
            offset,
            unit: String::new(),
            safe: Safe::Hold,
            device: 0,
        }
    }

    /// Writes `value` into a point and reads it back.
    fn check(kind: Kind, scale: f64, offset: f64, value: Value, expected: Result<Value, Unfit>) {
        let point = point(kind, scale, offset);
        let mut image = [0u8; 10];
        let written = point.write(&mut image, value);
        assert_eq!(written.map(|()| point.read(&image)), expected, "{kind} {value}");
        assert_eq!((image[0], image[9]), (0, 0), "{kind} {value}: wrote beside the point");
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
