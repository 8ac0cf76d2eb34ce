//! Durations in the configuration and in requests. A duration is text with a unit of time, such as
//! `"200ms"`. A number without a unit is refused, except `"0"`.
//!
//! A field of a `Config` uses this Rust module with `#[serde(with = "duration")]`. The crate
//! humantime parses the text. This file sets no ranges; each driver checks its own ranges.

use std::fmt;
use std::time::Duration;

use serde::de::{Deserializer, Error, Visitor};
use serde::ser::Serializer;

/// Writes a duration as text with its unit.
pub(super) fn serialize<S: Serializer>(duration: &Duration, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(&humantime::format_duration(*duration))
}

/// Reads a duration from text with its unit.
pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
    struct DurationVisitor;
    impl Visitor<'_> for DurationVisitor {
        type Value = Duration;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a duration with its unit, such as \"200ms\"")
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<Duration, E> {
            humantime::parse_duration(text).map_err(|why| {
                E::custom(format!("{text:?} is not a duration such as \"200ms\": {why}"))
            })
        }
    }
    from.deserialize_str(DurationVisitor)
}

/// Reads an optional duration from text with its unit. A field uses this function with
/// `#[serde(default, deserialize_with = "duration::some")]`. Because of `default`, the key may be
/// absent.
pub(super) fn some<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Duration>, D::Error> {
    deserialize(from).map(Some)
}
