//! The way in which values are written in the configuration file: words, sizes, durations and
//! addresses.
//!
//! Each type here refuses a value that is written in another way. For example, `Bytes` accepts
//! `16MiB` and not `16 apples`. The file of each section checks whether the value is in the range
//! of its key. `file.rs` defines the type of each key.

use std::time::Duration;

use serde::Deserialize;
use serde::de::{Deserializer, Error, Visitor};

use crate::process::image::Value;

/// Value of `plugins.grant`. With `all`, a plugin without a list may write all outputs and
/// variables that no list names. With `none`, such a plugin may write no outputs and no variables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum GrantWord {
    All,
    None,
}

/// Value of `control.mode`: the file mode of the control socket.
#[derive(Debug, Clone, Copy, Deserialize)]
pub(super) enum ModeWord {
    #[serde(rename = "0600")]
    Owner,
    #[serde(rename = "0660")]
    Group,
}

/// Value of `scan.cpu`: one CPU number or a list of CPU numbers.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub(super) enum Cpus {
    One(u32),
    Many(Vec<u32>),
}

/// Value of `safe` of a point: a value, or the word `hold`.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(untagged)]
pub(super) enum SafeWord {
    Hold(HoldWord),
    Value(Value),
}

/// The word `hold`: the output keeps its last value instead of a safe value.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum HoldWord {
    Hold,
}

/// Value of `on_bad` of a point: a value, or the word `keep`.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(untagged)]
pub(super) enum OnBadWord {
    Keep(KeepWord),
    Value(Value),
}

/// The word `keep`: programs read the last good value of the input instead of a substitute value.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum KeepWord {
    Keep,
}

/// Value of `on_overflow` of a point: what happens to a value outside the limits of an output.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum OverflowWord {
    Refuse,
    Clamp,
}

/// A size in bytes, written as a number or as text such as `64KiB`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bytes(pub(super) u64);

/// An address in the image: a byte, and a bit if the text has one, such as `3.1`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Address {
    pub(super) byte: u64,
    pub(super) bit: Option<u8>,
}

/// A duration, written as text such as `10ms`.
pub(super) struct DurationText(pub(super) Duration);

impl<'de> Deserialize<'de> for DurationText {
    /// Reads a text such as `10ms` with the crate humantime.
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        humantime::parse_duration(&text).map(Self).map_err(D::Error::custom)
    }
}

impl<'de> Deserialize<'de> for Bytes {
    /// Reads a number of bytes, or a text with one of the units KiB, MiB and GiB.
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(NumberOrText(
            "a size",
            |text| {
                let (number, shift) = [("KiB", 10), ("MiB", 20), ("GiB", 30)]
                    .into_iter()
                    .find_map(|(unit, shift)| Some((text.strip_suffix(unit)?, shift)))?;
                number.trim_end().parse::<u64>().ok()?.checked_mul(1 << shift).map(Bytes)
            },
            Bytes,
        ))
    }
}

impl<'de> Deserialize<'de> for Address {
    /// Reads a number such as `3`, a text with a byte such as `"3"`, or a text with a byte and a
    /// bit such as `"3.1"`. The bit is 0 to 7.
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(NumberOrText(
            "an address",
            |text| {
                let (byte, bit) = match text.split_once('.') {
                    Some((byte, bit)) => (byte, Some(bit.parse().ok().filter(|&bit| bit < 8)?)),
                    None => (text, None),
                };
                Some(Address { byte: byte.parse().ok()?, bit })
            },
            |byte| Address { byte, bit: None },
        ))
    }
}

/// A serde visitor that accepts a whole number or a text. The fields are, in this order: a text for
/// messages that describes the value, the function that converts a text, and the function that
/// converts a number.
struct NumberOrText<T>(&'static str, fn(&str) -> Option<T>, fn(u64) -> T);

impl<T> Visitor<'_> for NumberOrText<T> {
    type Value = T;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0)
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<T, E> {
        u64::try_from(number).map(self.2).map_err(E::custom)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        self.1(text).ok_or_else(|| E::custom(self.0))
    }
}
