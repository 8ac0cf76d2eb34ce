//! What values may look like in the file: words, sizes, durations and addresses.
//!
//! Each is a type that only valid text becomes. Whether a value makes sense for its key is decided
//! in the file of its section. Which key takes which type is in `file.rs`.

use std::time::Duration;

use serde::Deserialize;
use serde::de::{Deserializer, Error, Visitor};

use crate::process::image::Value;

/// Value of `plugins.grant`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum GrantWord {
    All,
    None,
}

/// Value of `control.mode`.
#[derive(Debug, Clone, Copy, Deserialize)]
pub(super) enum ModeWord {
    #[serde(rename = "0600")]
    Owner,
    #[serde(rename = "0660")]
    Group,
}

/// Value of `scan.cpu`.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub(super) enum Cpus {
    One(u32),
    Many(Vec<u32>),
}

/// Value of `safe` of a point.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(untagged)]
pub(super) enum SafeWord {
    Hold(HoldWord),
    Value(Value),
}

/// The word `hold`, which may stand instead of a value.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum HoldWord {
    Hold,
}

/// Value of `on_bad` of a point.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(untagged)]
pub(super) enum OnBadWord {
    Keep(KeepWord),
    Value(Value),
}

/// The word `keep`, which may stand instead of a value.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum KeepWord {
    Keep,
}

/// A size in bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bytes(pub(super) u64);

/// An address in the image: byte, and bit if the address has one.
#[derive(Debug, Clone, Copy)]
pub(super) struct Address {
    pub(super) byte: u64,
    pub(super) bit: Option<u8>,
}

/// A duration, written as text such as `10ms`.
pub(super) struct Text(pub(super) Duration);

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        humantime::parse_duration(&text).map(Self).map_err(D::Error::custom)
    }
}

impl<'de> Deserialize<'de> for Bytes {
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

/// A serde visitor for a whole number, or for a text that the first function understands.
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
