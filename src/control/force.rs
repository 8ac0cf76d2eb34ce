//! Forces, as people order them and see them.
//!
//! A force gives a point a value whatever its device or program says. It is for commissioning and
//! for emergencies, so it ends by itself, somebody answers for it, and every status shows how many
//! there are. What it does to a point is in `plugin/overlay.rs`.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::image::{Value, exact};

/// How long a force lasts when nobody says so: a look at the machine and back, and not the night.
pub const DEFAULT_FORCE: Duration = Duration::from_secs(15 * 60);

/// The longest that a force with an end lasts; who wants more says that it has none.
pub const MAX_FORCE: Duration = Duration::from_secs(7 * 24 * 3600);

/// Longest name of whoever orders a force, in bytes.
pub const MAX_OWNER_BYTES: usize = 64;

/// Longest reason, in bytes: a line of a terminal.
pub const MAX_REASON_BYTES: usize = 160;

/// An order to force a point: the body of `PUT /v1/forces/NAME`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ForceOrder {
    /// In the unit of the point.
    #[serde(deserialize_with = "exact")]
    pub value: Value,
    /// For how long, in milliseconds; without it for 15 minutes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub for_ms: Option<u64>,
    /// Until somebody ends it, in place of that.
    #[serde(default)]
    pub forever: bool,
    /// Who answers for it.
    pub owner: String,
    /// Why.
    #[serde(default)]
    pub reason: String,
}

impl ForceOrder {
    /// For how long; `None` until somebody ends it.
    pub fn lasting(&self) -> Option<Duration> {
        let time = self.for_ms.map_or(DEFAULT_FORCE, Duration::from_millis);
        (!self.forever).then_some(time)
    }

    /// By whom, for how long and why, in words.
    pub fn terms(&self) -> String {
        let how_long = match self.lasting() {
            Some(time) => format!("for {}", humantime::format_duration(time)),
            None => "until it is ended".to_owned(),
        };
        let why = if self.reason.is_empty() { String::new() } else { format!(": {}", self.reason) };
        format!("by {} {how_long}{why}", self.owner)
    }
}

/// A force in force.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ForceView {
    /// Name of the point.
    pub point: String,
    /// In its unit.
    pub value: Value,
    /// Whether the point has it: an output that no program owns, or whose program lacks something
    /// that it requires, is safe instead. None has while the scan stands.
    pub active: bool,
    /// Milliseconds until it ends; `null` if it does not by itself.
    pub left_ms: Option<u64>,
    /// Who answers for it.
    pub owner: String,
    /// Why; may be empty.
    pub reason: String,
    /// When it was ordered, by RFC 3339.
    pub since: String,
}
