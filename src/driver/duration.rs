//! Durations in configuration and requests: text with a unit, such as `"200ms"`, never a bare
//! number.
//!
//! Fields use this module with `#[serde(with = ...)]`. The crate humantime does the parsing. This
//! file sets no ranges; each driver checks its own.

use std::fmt;
use std::time::Duration;

use serde::de::{Deserializer, Error, Visitor};
use serde::ser::Serializer;

/// Writes a duration with its unit.
pub(super) fn serialize<S: Serializer>(duration: &Duration, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(&humantime::format_duration(*duration))
}

/// Reads a duration with its unit.
pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
    struct Text;
    impl Visitor<'_> for Text {
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
    from.deserialize_str(Text)
}

/// Reads a duration with its unit, for a field that may be absent.
pub(super) fn some<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Duration>, D::Error> {
    deserialize(from).map(Some)
}
