//! The quality of a value: whether the value can be used, and the reason if not.
//!
//! A program usually needs only the [`Class`]: good, uncertain or bad. Operators and other systems
//! get the reason and its status code of OPC UA. The [`Freshness`] of a point defines the ages at
//! which a value becomes stale and bad. `overlay.rs` sets `Forced` and `Substitute`, and drivers
//! set the other qualities. This file changes no value in the image.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Whether a value can be used, in three classes. A guest gets the number of the class from
/// `wasm_point_read_*`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[repr(u8)]
pub enum Class {
    /// The value comes from the device and is new enough, or an operator has forced the value.
    Good = 0,
    /// The value was good but is now stale, or the value is a substitute from the setting `on_bad`.
    Uncertain = 1,
    /// The value must not be used for control.
    Bad = 2,
}

/// The quality of a value with the reason. If two reasons are true at the same time, the value gets
/// the quality that is later in this list. Exceptions: a substitute replaces a bad value, and a
/// force replaces any value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum Quality {
    /// The value comes from the device and is new enough.
    Good,
    /// An operator has set the value with a force.
    Forced,
    /// The value was good, but its age has reached [`Freshness::stale_after`] or the driver's
    /// limit.
    Stale,
    /// The value comes from the setting `on_bad` in the configuration, because the input is bad.
    Substitute,
    /// The input has not been read since the start.
    Waiting,
    /// The device reports that the value is not a valid measurement, or the value is not a finite
    /// number. Also a value that the key `nan` of the point lists, or that is outside of its
    /// `range`.
    Sensor,
    /// The device reports a failure of the device itself.
    Device,
    /// The value cannot be read or written because of a mistake in the configuration. For example,
    /// the device reports that the address of the point does not exist.
    Config,
    /// The device does not answer.
    NoComm,
}

impl Quality {
    /// Returns the class of this quality.
    pub const fn class(self) -> Class {
        match self {
            Self::Good | Self::Forced => Class::Good,
            Self::Stale | Self::Substitute => Class::Uncertain,
            Self::Waiting | Self::Sensor | Self::Device | Self::Config | Self::NoComm => Class::Bad,
        }
    }

    /// Returns the status code of OPC UA. The codes are from OPC 10000-8 (data access); the code
    /// for `Waiting` is from OPC 10000-4.
    pub const fn opc_ua(self) -> u32 {
        match self {
            Self::Good => 0x0000_0000,
            Self::Forced => 0x0096_0000,
            Self::Stale => 0x4090_0000,
            Self::Substitute => 0x4091_0000,
            Self::Waiting => 0x8032_0000,
            Self::Sensor => 0x808C_0000,
            Self::Device => 0x808B_0000,
            Self::Config => 0x8089_0000,
            Self::NoComm => 0x8031_0000,
        }
    }

    /// Returns the word for this quality in JSON.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Forced => "forced",
            Self::Stale => "stale",
            Self::Substitute => "substitute",
            Self::Waiting => "waiting",
            Self::Sensor => "sensor",
            Self::Device => "device",
            Self::Config => "config",
            Self::NoComm => "no_comm",
        }
    }
}

/// The ages at which a good value becomes stale and bad.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Freshness {
    /// Age at which the value becomes [`Quality::Stale`]. With `None`, the driver's limit applies,
    /// if it has one.
    pub stale_after: Option<Duration>,
    /// Age at which the value becomes [`Quality::NoComm`]. With `None`, the driver's limit applies,
    /// if it has one.
    pub bad_after: Option<Duration>,
}

impl Freshness {
    /// Returns these ages. If an age is `None`, the result contains the argument of the same name.
    pub fn or(self, stale_after: Option<Duration>, bad_after: Option<Duration>) -> Self {
        Self {
            stale_after: self.stale_after.or(stale_after),
            bad_after: self.bad_after.or(bad_after),
        }
    }

    /// Returns the quality of a value at this age. `quality` is the quality that the value had when
    /// it was read. The result is never better than `quality`.
    pub fn judge(self, quality: Quality, age: Duration) -> Quality {
        if self.bad_after.is_some_and(|limit| age >= limit) {
            quality.max(Quality::NoComm)
        } else if self.stale_after.is_some_and(|limit| age >= limit) {
            quality.max(Quality::Stale)
        } else {
            quality
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_age() {
        fn check(quality: Quality, age_ms: u64, expected: Quality) {
            let limit = |ms| Some(Duration::from_millis(ms));
            let fresh = Freshness { stale_after: limit(300), ..Freshness::default() };
            let judged = fresh.or(limit(1), limit(2000)).judge(quality, limit(age_ms).unwrap());
            assert_eq!(judged, expected, "{quality:?} after {age_ms} ms");
        }
        check(Quality::Good, 299, Quality::Good);
        check(Quality::Good, 300, Quality::Stale);
        check(Quality::Good, 2000, Quality::NoComm);
        check(Quality::Sensor, 1000, Quality::Sensor);
        check(Quality::Sensor, 2000, Quality::NoComm);
        let never = Freshness::default();
        assert_eq!(never.judge(Quality::Good, Duration::MAX), Quality::Good);
    }

    #[test]
    fn codes_are_of_their_class() {
        use Quality::{Config, Device, Forced, Good, NoComm, Sensor, Stale, Substitute, Waiting};
        for quality in [Good, Forced, Stale, Substitute, Waiting, Sensor, Device, Config, NoComm] {
            // The two highest bits of the status code are the severity (OPC 10000-4, 7.39).
            assert_eq!(quality.opc_ua() >> 30, quality.class() as u32, "{quality:?}");
            let json = serde_json::to_string(&quality).unwrap();
            assert_eq!(json, format!("{:?}", quality.word()));
        }
    }
}
