//! Forces, as people order them and see them.
//!
//! A force gives a point a value, whatever its device or its program says. It is for commissioning
//! and for emergencies. So it ends by itself, it has an owner who answers for it, and every status
//! shows the number of forces. What a force does to a point is in `process/overlay.rs`.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::process::image::{Value, exact};

/// How long a force lasts by default: a look at the machine and back, but not the night.
pub const DEFAULT_FORCE: Duration = Duration::from_secs(15 * 60);

/// The longest time of a force with an end. A longer one is ordered without an end.
pub const MAX_FORCE: Duration = Duration::from_secs(7 * 24 * 3600);

/// Longest name of a force's owner, in bytes.
pub const MAX_OWNER_BYTES: usize = 64;

/// Longest reason, in bytes: a line of a terminal.
pub const MAX_REASON_BYTES: usize = 160;

/// An order to force a point: the body of `PUT /v1/forces/NAME`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ForceOrder {
    /// The value, in the unit of the point.
    #[serde(deserialize_with = "exact")]
    pub value: Value,
    /// How long the force lasts, in milliseconds; without it 15 minutes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub for_ms: Option<u64>,
    /// Whether the force lasts until an operator ends it; `for_ms` does not count then.
    #[serde(default)]
    pub forever: bool,
    /// The person who answers for the force.
    pub owner: String,
    /// The reason for the force; may be empty.
    #[serde(default)]
    pub reason: String,
}

impl ForceOrder {
    /// How long the force lasts; `None` if only an operator ends it.
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

/// A force that was ordered and is not over.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ForceView {
    /// Name of the point.
    pub point: String,
    /// The value, in the unit of the point.
    pub value: Value,
    /// Whether the point has this value. An output that no program owns, or whose program lacks a
    /// required input, is safe instead. While the scan stands, this is `false` for all.
    pub active: bool,
    /// Milliseconds until the force ends; `null` if only an operator ends it.
    pub left_ms: Option<u64>,
    /// The person who answers for the force.
    pub owner: String,
    /// The reason for the force; may be empty.
    pub reason: String,
    /// When the force was ordered, as RFC 3339 writes it.
    pub since: String,
}
