//! The encoding of Sparkplug B payloads: the parts that an edge node needs.
//!
//! The field numbers and type numbers are those of the Sparkplug 3.0 specification, chapter 6.
//! Templates, data sets and metadata are not supported. The decoder skips fields that it does not
//! know. If the only value of a metric is in such a field, the metric has no value for this client.
//! `sparkplug.rs` decides what is sent.

use std::fmt;

use prost::Message;

use crate::process::image::{Point, PointKind, Quality, Value};

/// The data type of a metric. The numbers are those of the specification.
#[derive(Debug, Clone, Copy, PartialEq, Eq, prost::Enumeration)]
#[repr(i32)]
pub(super) enum DataType {
    Unknown = 0,
    Int8 = 1,
    Int16 = 2,
    Int32 = 3,
    Int64 = 4,
    UInt8 = 5,
    UInt16 = 6,
    UInt32 = 7,
    UInt64 = 8,
    Float = 9,
    Double = 10,
    Boolean = 11,
}

/// A payload of Sparkplug: the contents of one message.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Payload {
    /// The time at which the message was sent, in milliseconds since 1970.
    #[prost(uint64, optional, tag = "1")]
    pub(super) timestamp: Option<u64>,
    #[prost(message, repeated, tag = "2")]
    pub(super) metrics: Vec<Metric>,
    /// The seq number of the message, 0 to 255. An NDEATH and a command have no seq number.
    #[prost(uint64, optional, tag = "3")]
    pub(super) seq: Option<u64>,
}

/// One metric in a message.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Metric {
    /// The name of the metric. It is set in a birth, and in a metric without an alias.
    #[prost(string, optional, tag = "1")]
    pub(super) name: Option<String>,
    /// The alias of the metric: a number. A birth has the name and the alias. Later messages have
    /// only the alias.
    #[prost(uint64, optional, tag = "2")]
    pub(super) alias: Option<u64>,
    /// The time at which the value was read or, in a command, sent, in milliseconds since 1970.
    #[prost(uint64, optional, tag = "3")]
    pub(super) timestamp: Option<u64>,
    /// The number of the data type. It is set in a birth. Later messages of this client do not
    /// contain it, because the receiver knows it from the birth.
    #[prost(uint32, optional, tag = "4")]
    pub(super) datatype: Option<u32>,
    /// Whether the metric has no value. This client sends null for an input that was never read.
    #[prost(bool, optional, tag = "7")]
    pub(super) is_null: Option<bool>,
    /// The properties. This client sends the quality of the value.
    #[prost(message, optional, tag = "9")]
    pub(super) properties: Option<PropertySet>,
    /// The value. `None` if the metric is null, or if its value has a type that is not supported.
    #[prost(oneof = "Held", tags = "10, 11, 12, 13, 14")]
    pub(super) value: Option<Held>,
}

/// The encoded value of a metric.
#[derive(Clone, Copy, PartialEq, prost::Oneof)]
pub(super) enum Held {
    #[prost(uint32, tag = "10")]
    Int(u32),
    #[prost(uint64, tag = "11")]
    Long(u64),
    #[prost(float, tag = "12")]
    Float(f32),
    #[prost(double, tag = "13")]
    Double(f64),
    #[prost(bool, tag = "14")]
    Boolean(bool),
}

impl fmt::Display for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Int(raw) => write!(f, "{raw}"),
            Self::Long(raw) => write!(f, "{raw}"),
            Self::Float(real) => write!(f, "{real:?}"),
            Self::Double(real) => write!(f, "{real:?}"),
            Self::Boolean(on) => write!(f, "{on}"),
        }
    }
}

/// The properties of a metric. The names are in `keys`, and the values are in `values`, in the same
/// order.
#[derive(Clone, PartialEq, Message)]
pub(super) struct PropertySet {
    #[prost(string, repeated, tag = "1")]
    pub(super) keys: Vec<String>,
    #[prost(message, repeated, tag = "2")]
    pub(super) values: Vec<PropertyValue>,
}

/// The value of a property. Only the fields for the property `Quality` are defined here.
#[derive(Clone, PartialEq, Message)]
pub(super) struct PropertyValue {
    #[prost(uint32, optional, tag = "1")]
    pub(super) datatype: Option<u32>,
    #[prost(uint32, optional, tag = "3")]
    pub(super) int_value: Option<u32>,
}

impl DataType {
    /// Returns the data type for the values of a point. A point with a scale or an offset has the
    /// type `Double`.
    ///
    /// Integers have only types that all known decoders read alike. The decoder sparkplug-payload
    /// 1.0.3 (npm) reads an `Int8` of -3 as 253, because it does not extend the sign. It expects
    /// the value of a `UInt32` in the field for 64 bits, and finds no value in the field for 32
    /// bits. Therefore integers of 8 and 16 bits are `Int32`, and a u32 is `Int64`.
    pub(super) fn of(point: &Point) -> Self {
        if point.kind != PointKind::Bool && (point.scale != 1.0 || point.offset != 0.0) {
            return Self::Double;
        }
        match point.kind {
            PointKind::Bool => Self::Boolean,
            PointKind::U8 | PointKind::I8 | PointKind::U16 | PointKind::I16 | PointKind::I32 => {
                Self::Int32
            }
            PointKind::U32 | PointKind::I64 => Self::Int64,
            PointKind::U64 => Self::UInt64,
            PointKind::F32 => Self::Float,
            PointKind::F64 => Self::Double,
        }
    }

    /// Returns the width of an integer type, in bits.
    const fn bits(self) -> u32 {
        match self {
            Self::Int8 | Self::UInt8 => 8,
            Self::Int16 | Self::UInt16 => 16,
            Self::Int32 | Self::UInt32 => 32,
            _ => 64,
        }
    }

    /// Encodes a value as this type. Returns `None` if the value does not have this type. A
    /// negative integer becomes a two's complement with the width of the type, because every
    /// decoder accepts this width.
    pub(super) fn hold(self, value: Value) -> Option<Held> {
        Some(match (self, value) {
            (Self::Boolean, Value::Bool(on)) => Held::Boolean(on),
            (Self::Double, Value::Real(real)) => Held::Double(real),
            (Self::Float, Value::Real(real)) => Held::Float(real as f32),
            (Self::Int64 | Self::UInt64, Value::Int(int)) => Held::Long(int as u64),
            (Self::Boolean | Self::Double | Self::Float | Self::Unknown, _) => return None,
            (_, Value::Int(int)) => {
                Held::Int((int as u64 & (u64::MAX >> (64 - self.bits()))) as u32)
            }
            _ => return None,
        })
    }

    /// Decodes a metric value of this type. Returns `None` if the encoded value has another type or
    /// is too large for the type. A value that does not fit is refused and not truncated.
    pub(super) fn value(self, held: Held) -> Option<Value> {
        let (raw, wire_bits) = match (self, held) {
            (Self::Boolean, Held::Boolean(on)) => return Some(Value::Bool(on)),
            (Self::Double, Held::Double(real)) => return Some(Value::Real(real)),
            (Self::Float, Held::Float(real)) => return Some(Value::Real(real.into())),
            (Self::Boolean | Self::Double | Self::Float | Self::Unknown, _) => return None,
            (_, Held::Int(raw)) => (u64::from(raw), 32),
            (_, Held::Long(raw)) => (raw, 64),
            _ => return None,
        };
        let bits = self.bits();
        let is_within = raw.checked_shr(bits).unwrap_or(0) == 0;
        let value = match self {
            // Some senders extend the sign to the full width of the field, and others do not.
            Self::Int8 | Self::Int16 | Self::Int32 | Self::Int64 => {
                let value = signed(raw, bits);
                (is_within || signed(raw, wire_bits) == value).then_some(value.into())
            }
            _ => is_within.then_some(raw.into()),
        };
        value.map(Value::Int)
    }
}

/// Reads the lowest `bits` bits as a two's complement number.
const fn signed(raw: u64, bits: u32) -> i64 {
    let unused = 64 - bits;
    (raw << unused) as i64 >> unused
}

impl PropertySet {
    /// Makes the property `Quality`. Its value is 192 for good, 500 for uncertain and 0 for bad.
    pub(super) fn quality(quality: Quality) -> Self {
        use crate::process::image::Class;
        let code = match quality.class() {
            Class::Good => 192,
            Class::Uncertain => 500,
            Class::Bad => 0,
        };
        let datatype = Some(DataType::Int32 as u32);
        let value = PropertyValue { datatype, int_value: Some(code) };
        Self { keys: vec!["Quality".into()], values: vec![value] }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::image::Direction;

    /// Only types that all known decoders read alike are sent.
    #[test]
    fn integers_have_types_that_every_decoder_reads_alike() {
        fn check(kind: PointKind, scale: f64, expected: DataType) {
            let point = Point { scale, ..Point::new("p", Direction::In, kind) };
            assert_eq!(DataType::of(&point), expected, "{kind:?}");
        }
        check(PointKind::I8, 1.0, DataType::Int32);
        check(PointKind::U8, 1.0, DataType::Int32);
        check(PointKind::I16, 1.0, DataType::Int32);
        check(PointKind::U16, 1.0, DataType::Int32);
        check(PointKind::I32, 1.0, DataType::Int32);
        check(PointKind::U32, 1.0, DataType::Int64);
        check(PointKind::I64, 1.0, DataType::Int64);
        check(PointKind::U64, 1.0, DataType::UInt64);
        check(PointKind::F32, 1.0, DataType::Float);
        check(PointKind::Bool, 1.0, DataType::Boolean);
        check(PointKind::I16, 0.1, DataType::Double);
    }

    #[test]
    fn values_survive_the_wire() {
        fn check(datatype: DataType, value: Value, held: Option<Held>) {
            assert_eq!(datatype.hold(value), held, "{datatype:?} {value}");
            if let Some(held) = held {
                assert_eq!(datatype.value(held), Some(value), "{datatype:?} {held:?}");
            }
        }
        check(DataType::Boolean, Value::Bool(true), Some(Held::Boolean(true)));
        check(DataType::Int8, Value::Int(-2), Some(Held::Int(0xfe)));
        check(DataType::UInt8, Value::Int(254), Some(Held::Int(0xfe)));
        check(DataType::Int16, Value::Int(-2), Some(Held::Int(0xfffe)));
        check(DataType::Int32, Value::Int(-2), Some(Held::Int(0xffff_fffe)));
        check(DataType::UInt32, Value::Int(u32::MAX.into()), Some(Held::Int(u32::MAX)));
        check(DataType::Int64, Value::Int(-2), Some(Held::Long(u64::MAX - 1)));
        check(DataType::UInt64, Value::Int(u64::MAX.into()), Some(Held::Long(u64::MAX)));
        check(DataType::Double, Value::Real(0.1), Some(Held::Double(0.1)));
        check(DataType::Float, Value::Real(0.5), Some(Held::Float(0.5)));
        check(DataType::Double, Value::Int(1), None);
        check(DataType::Int8, Value::Bool(true), None);
        assert_eq!(DataType::Int32.value(Held::Double(1.0)), None);
    }

    #[test]
    fn integers_are_whole_or_none() {
        fn check(datatype: DataType, held: Held, expected: Option<i128>) {
            let found = datatype.value(held);
            assert_eq!(found, expected.map(Value::Int), "{datatype:?} {held:?}");
        }
        check(DataType::UInt8, Held::Int(255), Some(255));
        check(DataType::UInt8, Held::Int(300), None);
        check(DataType::UInt8, Held::Int(u32::MAX), None);
        check(DataType::UInt16, Held::Long(65_536), None);
        check(DataType::UInt32, Held::Long(u64::from(u32::MAX)), Some(u32::MAX.into()));
        check(DataType::UInt64, Held::Long(u64::MAX), Some(u64::MAX.into()));
        // A negative number may have its sign extended to the full width of the field.
        check(DataType::Int8, Held::Int(0xfe), Some(-2));
        check(DataType::Int8, Held::Int(0xffff_fffe), Some(-2));
        check(DataType::Int8, Held::Int(0xfffe), None);
        check(DataType::Int8, Held::Int(-200_i32 as u32), None);
        check(DataType::Int16, Held::Int(70_000), None);
        check(DataType::Int16, Held::Long(-2_i64 as u64), Some(-2));
        check(DataType::Int16, Held::Long(0xffff_fffe), None);
        check(DataType::Int16, Held::Long(1_700_000_000_000), None);
        check(DataType::Int32, Held::Long(-40_000_i64 as u64), Some(-40_000));
        check(DataType::Int32, Held::Long(1 << 32), None);
        check(DataType::Int64, Held::Int(7), Some(7));
        check(DataType::Int64, Held::Long(u64::MAX), Some(-1));
    }

    /// The test compares with bytes that were written by hand from the table of the specification.
    #[test]
    fn the_numbers_of_the_fields_are_those_of_the_specification() {
        let metric = Metric {
            name: Some("a".into()),
            alias: Some(1),
            timestamp: Some(2),
            datatype: Some(DataType::Int8 as u32),
            is_null: None,
            properties: Some(PropertySet::quality(Quality::Good)),
            value: Some(Held::Int(5)),
        };
        let payload = Payload { timestamp: Some(3), metrics: vec![metric], seq: Some(4) };
        let quality = b"\x0a\x07Quality\x12\x05\x08\x03\x18\xc0\x01";
        let mut metric = b"\x0a\x01a\x10\x01\x18\x02\x20\x01\x4a".to_vec();
        metric.push(quality.len() as u8);
        metric.extend(quality);
        metric.extend(b"\x50\x05");
        let mut expected = b"\x08\x03\x12".to_vec();
        expected.push(metric.len() as u8);
        expected.extend(metric);
        expected.extend(b"\x18\x04");
        assert_eq!(payload.encode_to_vec(), expected);
        assert_eq!(Payload::decode(&*expected), Ok(payload));
    }
}
