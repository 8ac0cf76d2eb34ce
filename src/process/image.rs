//! The process image: what a point is, where it lies, and how its value is read and written.
//!
//! Inputs and outputs are two little-endian byte spaces (IEC 61131-3 calls them %I and %Q). A point
//! names a typed place in one of them; its value is read and written in `image/point.rs`. This file
//! knows no device and no plugin. Which program may write which point is decided in `plugin`, and
//! when values move is decided in `scan`.

mod point;
mod quality;
mod value;

use std::collections::HashMap;
use std::fmt;
use std::ops::Range;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use point::{Point, Raw};
pub use quality::{Class, Freshness, Quality};
pub use value::{NoValue, Value, exact};

/// The largest image in either direction: 64 KiB, so that a byte address fits 16 bits.
pub const MAX_IMAGE_BYTES: u32 = 64 * 1024;

/// The most points in one configuration. The number is limited because each cycle copies a quality
/// byte of every point into the snapshot.
pub const MAX_POINTS: usize = 8192;

/// The direction of a point's value, seen from the controller.
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
    /// Bytes that a value of this type takes; a bool takes one bit of one byte.
    pub const fn size(self) -> u32 {
        match self {
            Self::Bool | Self::U8 | Self::I8 => 1,
            Self::U16 | Self::I16 => 2,
            Self::U32 | Self::I32 | Self::F32 => 4,
            Self::U64 | Self::I64 | Self::F64 => 8,
        }
    }

    /// The range of an integer type; `None` for bool and the floats.
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

/// The reason why a value cannot be put into a point.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Unfit {
    /// The value is a number for a bool, or a bool for a number.
    WrongType(Kind),
    /// The value is outside the range of the type after the scaling is undone, or is not a number.
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

/// The value of an output while no healthy program owns it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Safe {
    /// The last committed value stays.
    Hold,
    /// The output gets this value, in the unit of the point.
    Value(Value),
}

/// The value that a program reads in place of a bad input.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum OnBad {
    /// The last value that was good.
    #[default]
    Keep,
    /// This value, in the unit of the point; its quality is [`Quality::Substitute`].
    Value(Value),
}

/// The number of a point in [`Points`]; small and copyable, for queues and the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PointId(pub u16);

impl PointId {
    /// The id as an index into lists with a place for each id, which are [`Points::ids`] long.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// All points of a configuration, and the names of its devices. The value never changes after it is
/// built, and all threads share it.
///
/// A point keeps its id as long as the daemon runs and the configuration names the point, because
/// programs may ask for the id only once. `Points` remembers a removed point as long as the daemon
/// runs. Only a point of the same name can get the id of a removed point, so ids can have gaps.
/// Programs may still use the address of a removed point.
#[derive(Debug, Default)]
pub struct Points {
    /// The points by id; `None` for a removed point.
    all: Vec<Option<Point>>,
    by_name: HashMap<String, PointId>,
    /// Removed points by name, each as it was before its removal.
    gone: HashMap<String, (PointId, Point)>,
    devices: Vec<String>,
    input_bytes: usize,
    output_bytes: usize,
    /// For each byte of the output image, the points that touch it.
    output_owners: Vec<Vec<PointId>>,
    /// For each byte of the input image, the points that touch it.
    input_owners: Vec<Vec<PointId>>,
    /// The outputs that are floats, in the order of their first bytes.
    float_outputs: Vec<PointId>,
}

impl Points {
    /// Collects `all` points, with ids in this order. The images have the given sizes in bytes.
    ///
    /// # Panics
    /// If a point lies outside its image, a name occurs twice, or there are more than
    /// [`MAX_POINTS`]. The configuration refuses each of these mistakes before it calls this.
    pub fn new(all: Vec<Point>, input_bytes: usize, output_bytes: usize) -> Self {
        let all = (0..).map(PointId).zip(all).collect();
        Self::numbered(all, 0, Vec::new(), [input_bytes, output_bytes])
    }

    /// Collects `all` points with ids of the caller's choice, each once. `devices` are the names
    /// that [`Point::device`] is an index into. The first `used` ids are not free, even if no point
    /// has these ids now. The images have the given sizes in bytes.
    ///
    /// # Panics
    /// If a point lies outside its image, a name occurs twice, or an id is not below
    /// [`MAX_POINTS`].
    pub fn numbered(
        all: Vec<(PointId, Point)>,
        used: usize,
        devices: Vec<String>,
        [input_bytes, output_bytes]: [usize; 2],
    ) -> Self {
        let ids = all.iter().map(|(id, _)| id.index() + 1).fold(used, usize::max);
        assert!(ids <= MAX_POINTS, "the configuration limits points");
        let mut points = Self {
            all: vec![None; ids],
            by_name: HashMap::with_capacity(all.len()),
            gone: HashMap::new(),
            devices,
            input_bytes,
            output_bytes,
            input_owners: vec![Vec::new(); input_bytes],
            output_owners: vec![Vec::new(); output_bytes],
            float_outputs: Vec::new(),
        };
        for (id, point) in all {
            let twice = points.by_name.insert(point.name.clone(), id);
            assert!(twice.is_none(), "the configuration refuses double names");
            let owners = match point.direction {
                Direction::In => &mut points.input_owners,
                Direction::Out => &mut points.output_owners,
            };
            for byte in point.bytes() {
                owners[byte].push(id);
            }
            if point.direction == Direction::Out && matches!(point.kind, Kind::F32 | Kind::F64) {
                points.float_outputs.push(id);
            }
            points.all[id.index()] = Some(point);
        }
        let all = &points.all;
        points.float_outputs.sort_by_key(|id| all[id.index()].as_ref().map(|point| point.byte));
        points
    }

    /// This set of points, which also remembers the points of `before` that it does not
    /// contain.
    #[must_use]
    pub fn after(mut self, before: &Self) -> Self {
        let left = before.iter().map(|(id, point)| (id, point.clone()));
        let gone = before.gone.values().cloned().chain(left);
        let gone = gone.filter(|(_, point)| !self.by_name.contains_key(&point.name));
        self.gone = gone.map(|(id, point)| (point.name.clone(), (id, point))).collect();
        self
    }

    /// All points with their ids.
    pub fn iter(&self) -> impl Iterator<Item = (PointId, &Point)> {
        let all = (0u16..).map(PointId).zip(&self.all);
        all.filter_map(|(id, point)| Some((id, point.as_ref()?)))
    }

    /// Number of points, without removed ones.
    pub fn len(&self) -> usize {
        self.by_name.len()
    }

    /// Whether there are no points.
    pub fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    /// Length of a list with a place for each id, including the ids of removed points.
    pub fn ids(&self) -> usize {
        self.all.len()
    }

    /// The point with this id; `None` if there is none or it was removed.
    pub fn get(&self, id: PointId) -> Option<&Point> {
        self.all.get(id.index())?.as_ref()
    }

    /// The point with this name and its id. A removed point is returned as it was before its
    /// removal.
    pub fn known(&self, name: &str) -> Option<(PointId, &Point)> {
        let gone = || self.gone.get(name).map(|(id, point)| (*id, point));
        self.find(name).map(|id| (id, &self[id])).or_else(gone)
    }

    /// The removed points, each as it was before its removal.
    pub fn gone(&self) -> impl Iterator<Item = &Point> {
        self.gone.values().map(|(_, point)| point)
    }

    /// The id of the point with this name.
    pub fn find(&self, name: &str) -> Option<PointId> {
        self.by_name.get(name).copied()
    }

    /// The names of the devices, which [`Point::device`] is an index into.
    pub fn devices(&self) -> &[String] {
        &self.devices
    }

    /// The points that touch one byte of an image.
    pub fn at(&self, direction: Direction, byte: usize) -> &[PointId] {
        match direction {
            Direction::In => &self.input_owners[byte],
            Direction::Out => &self.output_owners[byte],
        }
    }

    /// The float outputs that touch these bytes, in the order of their first bytes.
    pub fn float_outputs(&self, bytes: Range<usize>) -> impl Iterator<Item = (PointId, &Point)> {
        // A float has at most eight bytes, so a float that begins earlier cannot reach these bytes.
        let is_before = |id: &PointId| self[*id].byte as usize + 8 <= bytes.start;
        let first = self.float_outputs.partition_point(is_before);
        let floats = self.float_outputs[first..].iter().map(|id| (*id, &self[*id]));
        let touching = floats.take_while(move |(_, point)| point.bytes().start < bytes.end);
        touching.filter(move |(_, point)| point.bytes().end > bytes.start)
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
        self.get(id).expect("an id is indexed with the points that it is of")
    }
}

/// The input image with the quality of each point. Drivers write it, and programs read it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inputs {
    /// The bytes of the image.
    pub bytes: Vec<u8>,
    /// Quality by [`PointId`], for each of [`Points::ids`]. The quality of an output says whether
    /// it is forced.
    pub quality: Vec<Quality>,
    /// When each input was last good, on the scan's clock; by [`PointId`].
    pub good_at: Vec<Duration>,
}

impl Inputs {
    /// An image of zeroes in which every input is `Waiting`, because no device has been read yet.
    pub fn unread(points: &Points) -> Self {
        let mut quality = vec![Quality::Good; points.ids()];
        for (id, _) in points.iter().filter(|(_, point)| point.direction == Direction::In) {
            quality[id.index()] = Quality::Waiting;
        }
        let good_at = vec![Duration::ZERO; points.ids()];
        Self { bytes: vec![0; points.image_bytes(Direction::In)], quality, good_at }
    }

    /// Records the quality that a driver gives to an input at `now`. The driver has put a good
    /// value into the image.
    pub fn note(&mut self, id: PointId, quality: Quality, now: Duration) {
        self.quality[id.index()] = quality;
        if quality.class() == Class::Good {
            self.good_at[id.index()] = now;
        }
    }

    /// Lowers the quality of an input to `quality`, unless the input's quality is worse already.
    pub fn degrade(&mut self, id: PointId, quality: Quality) {
        let worst = self.quality[id.index()].max(quality);
        self.quality[id.index()] = worst;
    }
}
