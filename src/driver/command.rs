//! The commands that an operator can send to a device, and the failures that an operator can
//! practise with a simulated device.
//!
//! The path of a command: the program `camshaft` sends it to the daemon, the daemon passes it to
//! the scan, and the scan calls `Driver::command` of `mod.rs`. The simulated device in `sim.rs`
//! executes the command. Real devices refuse every command. This file does not check whether an
//! operator has the right to send a command.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::duration;
use crate::process::image::{PointId, Value};

/// A command that an operator can send to a running device.
#[derive(Debug, Clone, PartialEq)]
pub enum Command {
    /// Sets a simulated input to this value. An input that no model drives keeps the value. If the
    /// input is the level of a tank, the tank continues from this value. If a signal, a script or a
    /// loopback drives the input, the device refuses the command.
    Set(PointId, Value),
    /// Makes the device fail in this way until `Clear` or the next `Inject`. The new failure
    /// replaces a failure that is active or planned. Only `Hang` differs: it blocks the scan once,
    /// and replaces no other failure.
    Inject(Injection),
    /// Ends the active failure, and cancels the failure that the configuration has planned for
    /// later.
    Clear,
}

/// A failure for practice. In TOML and JSON, the key `kind` contains the name of the variant in
/// lower case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
pub enum Injection {
    /// All reads and writes of the device fail. The inputs keep their last values, and their
    /// quality is bad (`NoComm`).
    Disconnect,
    /// The inputs keep their last values, and their quality is uncertain (`Stale`) or worse. The
    /// outputs arrive at the plant as without a failure.
    Freeze,
    /// Inputs and outputs are late by `delay`: the image gets old inputs, and outputs take effect
    /// later. Until the first delayed inputs arrive, the quality of the inputs is uncertain
    /// (`Stale`) or worse.
    Slow {
        /// The delay of the inputs and of the outputs.
        #[serde(with = "duration")]
        delay: Duration,
    },
    /// Inputs have random values of their type, and their quality is `Good`. For a random float
    /// that is NaN or infinite, the input keeps its last value, and its quality is bad (`Sensor`).
    Garbage {
        /// The seed of the random values. With the same seed, the same sequence of reads gives the
        /// same values.
        #[serde(default)]
        seed: u64,
    },
    /// The driver blocks the scan thread once, for this time. Real drivers never block the scan
    /// thread. With this failure, operators can see how the devices and the daemon react to a
    /// stalled scan.
    Hang {
        /// The time for which the driver blocks: at most a minute.
        #[serde(rename = "for", with = "duration")]
        lasting: Duration,
    },
}

impl Injection {
    /// Parses the JSON with which an operator has described a failure.
    ///
    /// # Errors
    /// A text that says what is wrong in the JSON. If the kind of failure is known, the text also
    /// says which keys this kind expects.
    pub fn from_json(json: serde_json::Value) -> Result<Self, String> {
        let kind = json.get("kind").and_then(|kind| kind.as_str()).unwrap_or_default().to_owned();
        // Serde ignores unknown fields at an enum variant without fields. Therefore this function
        // checks these variants for unknown fields.
        let fields = json.as_object().into_iter().flat_map(|object| object.keys());
        let field = fields.into_iter().find(|field| *field != "kind").cloned();
        if let ("disconnect" | "freeze", Some(field)) = (&*kind, field) {
            return Err(format!("unknown field `{field}`; {kind} has no parameters"));
        }
        serde_json::from_value(json).map_err(|error| match &*kind {
            "slow" => format!("{error}; slow expects delay=TIME, such as delay=200ms"),
            "garbage" => format!("{error}; garbage has only the parameter seed=NUMBER"),
            "hang" => format!("{error}; hang expects for=TIME, at most a minute, such as for=1s"),
            "disconnect" | "freeze" => format!("{error}; {kind} has no parameters"),
            _ => error.to_string(),
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_failure_that_lacks_something_says_what_it_expects() {
        let check = |json: serde_json::Value, expected: Result<Injection, &str>| {
            assert_eq!(Injection::from_json(json), expected.map_err(str::to_owned));
        };
        check(
            json!({ "kind": "hang" }),
            Err("missing field `for`; hang expects for=TIME, at most a minute, such as for=1s"),
        );
        let lasting = Duration::from_secs(4);
        check(json!({ "kind": "hang", "for": "4s" }), Ok(Injection::Hang { lasting }));
        check(
            json!({ "kind": "slow" }),
            Err("missing field `delay`; slow expects delay=TIME, such as delay=200ms"),
        );
        check(
            json!({ "kind": "freeze", "for": "1s" }),
            Err("unknown field `for`; freeze has no parameters"),
        );
        let kinds = "unknown variant `burn`, expected one of `disconnect`, `freeze`, `slow`, \
                     `garbage`, `hang`";
        check(json!({ "kind": "burn" }), Err(kinds));
    }
}
