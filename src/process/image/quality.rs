//! The quality of a value: how far it can be trusted, and why.
//!
//! A program mostly asks only for the [`Class`]. People and other systems get the reason and its
//! code of OPC UA. The point's [`Freshness`] says at which age its value becomes stale; the driver
//! sets the other qualities. This file changes no value: a bad input keeps its last value.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How far a value can be trusted, in three steps; the numbers are those of `wasm_point_read_*`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[repr(u8)]
pub enum Class {
    /// The value is fresh from the device.
    Good = 0,
    /// The value is the last usable one and no longer fresh, or it is a substitute.
    Uncertain = 1,
    /// The value must not be used.
    Bad = 2,
}

/// The quality of a value with its reason. If two reasons are true at once, the value gets the
/// quality that comes later in this list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum Quality {
    /// The value is fresh from the device.
    Good,
    /// An operator forces the value.
    Forced,
    /// The value is the last usable one, and older than [`Freshness::stale_after`] or the driver
    /// allows.
    Stale,
    /// The value is that of `on_bad` in the configuration, because the device gives nothing good.
    Substitute,
    /// The value was never read since the start.
    Waiting,
    /// The device says that the value is no measurement, or the value is not a finite number.
    Sensor,
    /// The device says that it has failed.
    Device,
    /// The device does not know the address that the driver asked for, because of a mistake in the
    /// configuration.
    Config,
    /// The device does not answer.
    NoComm,
}

impl Quality {
    /// The class of this quality.
    pub const fn class(self) -> Class {
        match self {
            Self::Good | Self::Forced => Class::Good,
            Self::Stale | Self::Substitute => Class::Uncertain,
            Self::Waiting | Self::Sensor | Self::Device | Self::Config | Self::NoComm => Class::Bad,
        }
    }

    /// The status code of OPC UA (OPC 10000-8, data access, and OPC 10000-4 for `Waiting`).
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

    /// The word for this quality in JSON.
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

/// The ages at which a good value is no longer good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Freshness {
    /// Age at which the value is [`Quality::Stale`]; `None` leaves that to the driver.
    pub stale_after: Option<Duration>,
    /// Age at which the value is [`Quality::NoComm`]; `None` leaves that to the driver.
    pub bad_after: Option<Duration>,
}

impl Freshness {
    /// These limits, with the arguments in place of the limits that are `None`.
    pub fn or(self, stale_after: Option<Duration>, bad_after: Option<Duration>) -> Self {
        Self {
            stale_after: self.stale_after.or(stale_after),
            bad_after: self.bad_after.or(bad_after),
        }
    }

    /// The quality of a value of this age, if it had `quality` when it was read.
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
            // The two highest bits are the severity (OPC 10000-4, 7.39).
            assert_eq!(quality.opc_ua() >> 30, quality.class() as u32, "{quality:?}");
            let json = serde_json::to_string(&quality).unwrap();
            assert_eq!(json, format!("{:?}", quality.word()));
        }
    }
}
