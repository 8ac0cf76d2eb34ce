//! Forces: the order to force a point, and the view of a force.
//!
//! A force sets a point to a fixed value. While the force is active, the scan ignores the value
//! from the device or the program. Forces are for commissioning and for emergencies. A forgotten
//! force is dangerous, so three rules apply. A force normally ends after a time. Each force names a
//! responsible owner. Every `camshaft status` shows the number of forces. The file
//! `process/overlay.rs` puts forced values over points. The file `daemon/field/force.rs` checks the
//! orders and records the owner of each force.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::process::image::{Value, exact};

/// The default duration of a force: 15 minutes. In this time an operator can walk to the machine
/// and back. A force that the operator forgets ends after this time.
pub const DEFAULT_FORCE: Duration = Duration::from_secs(15 * 60);

/// The longest duration that an order can set: 7 days. If a force must last longer, the operator
/// must order a force without an end.
pub const MAX_FORCE: Duration = Duration::from_secs(7 * 24 * 3600);

/// The longest name of a force's owner, in bytes.
pub const MAX_OWNER_BYTES: usize = 64;

/// The longest reason for a force, in bytes. A reason of this length fits on one line of a wide
/// terminal.
pub const MAX_REASON_BYTES: usize = 160;

/// An order to force a point: the body of `PUT /v1/forces/NAME`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ForceOrder {
    /// The forced value, in the unit of the point.
    #[serde(deserialize_with = "exact")]
    pub value: Value,
    /// The duration of the force in milliseconds. If the field is absent and `forever` is false,
    /// the duration is [`DEFAULT_FORCE`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub for_ms: Option<u64>,
    /// Whether the force stays until an operator ends it. The daemon refuses an order with both
    /// `forever` and `for_ms`.
    #[serde(default)]
    pub forever: bool,
    /// The name of the person who is responsible for the force.
    pub owner: String,
    /// The reason for the force; the text may be empty.
    #[serde(default)]
    pub reason: String,
}

impl ForceOrder {
    /// Returns the duration of the force. `None` means that only an operator ends the force.
    pub fn lasting(&self) -> Option<Duration> {
        let time = self.for_ms.map_or(DEFAULT_FORCE, Duration::from_millis);
        (!self.forever).then_some(time)
    }

    /// Returns the owner, the duration and the reason as text, such as `by ann for 15m: valve
    /// test`.
    pub fn terms(&self) -> String {
        let how_long = match self.lasting() {
            Some(time) => format!("for {}", humantime::format_duration(time)),
            None => "until an operator ends the force".to_owned(),
        };
        let why = if self.reason.is_empty() { String::new() } else { format!(": {}", self.reason) };
        format!("by {} {how_long}{why}", self.owner)
    }
}

/// A force that is in the scan now. The texts `owner`, `reason` and `since` are empty if the daemon
/// has no record of this force.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ForceView {
    /// The name of the point.
    pub point: String,
    /// The forced value, in the unit of the point.
    pub value: Value,
    /// Whether the forced value is the present value of the point. A force has no effect on an
    /// output that is safe. An output is safe if no program owns it, or if a required input of its
    /// program is bad for longer than `requires_timeout`. While the scan is stalled, this field is
    /// `false` for every force.
    pub active: bool,
    /// Milliseconds until the force ends; `null` if only an operator ends the force.
    pub left_ms: Option<u64>,
    /// The name of the person who is responsible for the force.
    pub owner: String,
    /// The reason for the force; the text may be empty.
    pub reason: String,
    /// The time when the force was ordered, in RFC 3339 format.
    pub since: String,
}
