//! The process image: points and their addresses.
//!
//! Inputs and outputs are two separate byte arrays; IEC 61131-3 calls them %I and %Q. All values in
//! them are little-endian. A point is a named, typed address in one of the two images. For example,
//! an input `tank.level` of type `u16` at byte 4 takes the bytes 4 and 5 of the input image.
//!
//! `image/point.rs` reads and writes the value of a point, and `image/shortest.rs` finds the
//! shortest text of the value. `image/value.rs` defines the values, and `image/quality.rs` defines
//! the qualities. `image/inputs.rs` is the input image with the quality of each point.
//! `image/range.rs` keeps the value of a point in its range, and `image/wire.rs` decides what a
//! value of a device means. This file contains no code for devices or plugins. `plugin` decides
//! which program may write which point, and `scan` decides when values move.

mod inputs;
mod point;
mod quality;
mod range;
mod shortest;
mod value;
mod wire;

use std::collections::HashMap;
use std::fmt;
use std::ops::Range;

use serde::{Deserialize, Serialize};

pub use inputs::Inputs;
pub use point::{Point, Raw};
pub use quality::{Class, Freshness, Quality};
pub use range::{Limits, OnOverflow, ValueRange};
pub use value::{NoValue, Value, exact};

/// Largest size of an image in bytes, for each direction. With this limit a byte address fits 16
/// bits.
pub const MAX_IMAGE_BYTES: u32 = 64 * 1024;

/// Maximum number of points in one configuration. The number is limited because each cycle copies a
/// quality byte for every point into the snapshot.
pub const MAX_POINTS: usize = 8192;

/// The direction of a point, seen from the controller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// An input: the value comes from the field into the input image.
    In,
    /// An output: the value goes from the output image to the field.
    Out,
}

/// The type of a point's value in the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs, reason = "the names are the types")]
pub enum PointKind {
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

impl PointKind {
    /// Returns the number of bytes that a value of this type takes. A bool takes one bit of one
    /// byte.
    pub const fn size(self) -> u32 {
        match self {
            Self::Bool | Self::U8 | Self::I8 => 1,
            Self::U16 | Self::I16 => 2,
            Self::U32 | Self::I32 | Self::F32 => 4,
            Self::U64 | Self::I64 | Self::F64 => 8,
        }
    }

    /// Returns the lowest and the highest value of an integer type; `None` for bool and the floats.
    pub(in super::image) const fn range(self) -> Option<(i128, i128)> {
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

    pub(in super::image) const fn is_signed(self) -> bool {
        matches!(self, Self::I8 | Self::I16 | Self::I32 | Self::I64)
    }
}

impl fmt::Display for PointKind {
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

/// The reason why a value cannot be written to a point.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Unfit {
    /// The point is a bool and the value is a number, or the point is a number and the value is a
    /// bool.
    WrongType(PointKind),
    /// The raw number, computed from the value by the reverse of the scaling, is outside the range
    /// of the type or is not finite.
    OutOfRange(PointKind),
    /// The value fits the type, but it is outside the range that the configuration gives the point.
    OutsideRange(Limits),
}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::WrongType(PointKind::Bool) => f.write_str("expected a bool: true or false"),
            Self::WrongType(kind) => write!(f, "expected a number for type {kind}"),
            Self::OutOfRange(kind) => write!(f, "the value does not fit type {kind}"),
            Self::OutsideRange(range) => {
                write!(f, "expected a value from {range}, which is the `range` of the point")
            }
        }
    }
}

impl std::error::Error for Unfit {}

/// The setting for the value of an output while no program owns the output, or while the program
/// that owns the output lacks a required input.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Safe {
    /// The output retains the value that its device got last.
    Hold,
    /// The output gets this value, after scaling.
    Value(Value),
}

/// The setting for the value that a program reads while an input is bad.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum OnBad {
    /// The program reads the last good value.
    #[default]
    Keep,
    /// The program reads this value, after scaling, with the quality [`Quality::Substitute`].
    Value(Value),
}

/// The number of a point in [`Points`]. Queues and guests use this number instead of the name,
/// because the number is small and easy to copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PointId(pub u16);

impl PointId {
    /// Returns the id as an index into a list that has one entry for each id. The length of such a
    /// list is [`Points::ids`].
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// All points of a configuration, and the names of its devices. A `Points` never changes after its
/// creation, and all threads share it.
///
/// A program may ask for the id of a point in its start and then use this id in all later cycles.
/// Therefore the id of a point does not change while the daemon runs and the configuration contains
/// the point. If a new configuration removes a point, `Points` stores the removed point until the
/// daemon ends. The id of a removed point stays reserved: only a new point with the name of the
/// removed point gets this id. So there can be gaps between the ids in use. Programs may still use
/// the address of a removed point.
#[derive(Debug, Default)]
pub struct Points {
    /// The points; the index is the id. `None` for a removed point.
    all: Vec<Option<Point>>,
    by_name: HashMap<String, PointId>,
    /// The removed points by name, each with its last definition.
    gone: HashMap<String, (PointId, Point)>,
    devices: Vec<String>,
    input_bytes: usize,
    output_bytes: usize,
    /// For each byte of the output image, the points that use a part of this byte.
    output_owners: Vec<Vec<PointId>>,
    /// For each byte of the input image, the points that use a part of this byte.
    input_owners: Vec<Vec<PointId>>,
    /// The outputs with raw bytes that must not be written: floats, and outputs with a range. They
    /// are in the order of their addresses.
    checked_outputs: Vec<PointId>,
}

impl Points {
    /// Builds the set from the list `all`. The first point of the list gets id 0, the next point id
    /// 1, and so on. `input_bytes` and `output_bytes` are the sizes of the images.
    ///
    /// # Panics
    /// If an address is outside of the image, a name occurs twice, or there are more than
    /// [`MAX_POINTS`] points. The configuration refuses each of these mistakes before it calls this
    /// function.
    pub fn new(all: Vec<Point>, input_bytes: usize, output_bytes: usize) -> Self {
        let all = (0..).map(PointId).zip(all).collect();
        Self::numbered(all, 0, Vec::new(), [input_bytes, output_bytes])
    }

    /// Builds the set from the list `all`. The caller has chosen the ids in this list; each id
    /// occurs once. `devices` has the names of the devices; [`Point::device`] is an index into this
    /// list. The ids below `used` are in use or belong to removed points. The last argument is the
    /// sizes of the input image and the output image in bytes.
    ///
    /// # Panics
    /// If an address is outside of the image, a name occurs twice, or an id is [`MAX_POINTS`] or
    /// greater.
    pub fn numbered(
        all: Vec<(PointId, Point)>,
        used: usize,
        devices: Vec<String>,
        [input_bytes, output_bytes]: [usize; 2],
    ) -> Self {
        let ids = all.iter().map(|(id, _)| id.index() + 1).fold(used, usize::max);
        assert!(ids <= MAX_POINTS, "the configuration refuses too many points");
        let mut points = Self {
            all: vec![None; ids],
            by_name: HashMap::with_capacity(all.len()),
            gone: HashMap::new(),
            devices,
            input_bytes,
            output_bytes,
            input_owners: vec![Vec::new(); input_bytes],
            output_owners: vec![Vec::new(); output_bytes],
            checked_outputs: Vec::new(),
        };
        for (id, point) in all {
            let twice = points.by_name.insert(point.name.clone(), id);
            assert!(twice.is_none(), "the configuration refuses a name that occurs twice");
            let owners = match point.direction {
                Direction::In => &mut points.input_owners,
                Direction::Out => &mut points.output_owners,
            };
            for byte in point.bytes() {
                owners[byte].push(id);
            }
            let is_float = matches!(point.kind, PointKind::F32 | PointKind::F64);
            if point.direction == Direction::Out && (is_float || point.range.is_some()) {
                points.checked_outputs.push(id);
            }
            points.all[id.index()] = Some(point);
        }
        let all = &points.all;
        points.checked_outputs.sort_by_key(|id| all[id.index()].as_ref().map(|point| point.byte));
        points
    }

    /// Stores the removed points in this set, and returns the set. The removed points are all
    /// points of `before` that this set does not contain, including the points that were already
    /// removed in `before`.
    #[must_use]
    pub fn after(mut self, before: &Self) -> Self {
        let left = before.iter().map(|(id, point)| (id, point.clone()));
        let gone = before.gone.values().cloned().chain(left);
        let gone = gone.filter(|(_, point)| !self.by_name.contains_key(&point.name));
        self.gone = gone.map(|(id, point)| (point.name.clone(), (id, point))).collect();
        self
    }

    /// Returns all points with their ids, without removed points.
    pub fn iter(&self) -> impl Iterator<Item = (PointId, &Point)> {
        let all = (0u16..).map(PointId).zip(&self.all);
        all.filter_map(|(id, point)| Some((id, point.as_ref()?)))
    }

    /// Returns the number of points, without removed points.
    pub fn len(&self) -> usize {
        self.by_name.len()
    }

    /// Whether the set contains no points, apart from removed points.
    pub fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    /// Returns the length of a list that has one entry for each id, including the ids of removed
    /// points.
    pub fn ids(&self) -> usize {
        self.all.len()
    }

    /// Returns the point with this id; `None` if no point has this id, or if the point was removed.
    pub fn get(&self, id: PointId) -> Option<&Point> {
        self.all.get(id.index())?.as_ref()
    }

    /// Returns the point with this name, and its id. For a removed point, returns its last
    /// definition.
    pub fn known(&self, name: &str) -> Option<(PointId, &Point)> {
        let gone = || self.gone.get(name).map(|(id, point)| (*id, point));
        self.find(name).map(|id| (id, &self[id])).or_else(gone)
    }

    /// Returns the removed points, each with its last definition.
    pub fn gone(&self) -> impl Iterator<Item = &Point> {
        self.gone.values().map(|(_, point)| point)
    }

    /// Returns the id of the point with this name; `None` if the name is unknown or the point was
    /// removed.
    pub fn find(&self, name: &str) -> Option<PointId> {
        self.by_name.get(name).copied()
    }

    /// Returns the names of the devices. [`Point::device`] is an index into this list.
    pub fn devices(&self) -> &[String] {
        &self.devices
    }

    /// Returns the points that use a part of the byte at address `byte` of the image with this
    /// direction.
    pub fn at(&self, direction: Direction, byte: usize) -> &[PointId] {
        match direction {
            Direction::In => &self.input_owners[byte],
            Direction::Out => &self.output_owners[byte],
        }
    }

    /// Returns the outputs that use a part of these bytes and do not accept all raw bytes, in the
    /// order of their addresses: floats, and outputs with a range.
    pub fn checked_outputs(&self, bytes: Range<usize>) -> impl Iterator<Item = (PointId, &Point)> {
        // A number has at most eight bytes. So a number that begins eight or more bytes before
        // `bytes` cannot overlap `bytes`.
        let is_before = |id: &PointId| self[*id].byte as usize + 8 <= bytes.start;
        let first = self.checked_outputs.partition_point(is_before);
        let checked = self.checked_outputs[first..].iter().map(|id| (*id, &self[*id]));
        let touching = checked.take_while(move |(_, point)| point.bytes().start < bytes.end);
        touching.filter(move |(_, point)| point.bytes().end > bytes.start)
    }

    /// Returns the size of the image with this direction, in bytes.
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
        self.get(id).expect("the caller has the id from this set of points")
    }
}
