//! What an operator can order a device to do, and the failures that a simulated device has for
//! practice.
//!
//! `mod.rs` has the function that takes a command. `sim.rs` obeys; real devices refuse. Which
//! operator may give an order is not decided here.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::duration;
use crate::process::image::{PointId, Value};

/// What an operator can order a device to do while it runs.
#[derive(Debug, Clone, PartialEq)]
pub enum Command {
    /// Gives a simulated input this value. The input keeps the value, or the model goes on from it.
    Set(PointId, Value),
    /// Makes the device fail in this way until `Clear`. This replaces a failure that is present or
    /// planned.
    Inject(Injection),
    /// Ends the failure. A failure that the configuration has planned is cancelled too.
    Clear,
}

/// A failure for practice. In TOML and JSON the key `kind` names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
pub enum Injection {
    /// Reads and writes fail. The inputs keep their values and are `Bad`.
    Disconnect,
    /// The inputs keep their values and are `Uncertain`. Outputs still arrive.
    Freeze,
    /// Inputs are seen late and outputs take effect late, both by `delay`.
    Slow {
        /// The delay of inputs and outputs.
        #[serde(with = "duration")]
        delay: Duration,
    },
    /// Inputs are random values of their type and are still `Good`. A float that is not a number is
    /// `Bad`.
    Garbage {
        /// The seed of the random values. The same seed gives the same values, read by read.
        #[serde(default)]
        seed: u64,
    },
    /// The driver does not return for this long, once, so the whole scan stands. Real drivers
    /// cannot do that. Operators practise with it how the devices and the daemon react.
    Hang {
        /// How long the driver does not return: at most a minute.
        #[serde(rename = "for", with = "duration")]
        lasting: Duration,
    },
}

impl Injection {
    /// Parses the failure that an operator has named.
    ///
    /// # Errors
    /// What is wrong with the JSON, and what this kind of failure expects.
    pub fn from_json(json: serde_json::Value) -> Result<Self, String> {
        let kind = json.get("kind").and_then(|kind| kind.as_str()).unwrap_or_default().to_owned();
        // Serde accepts any field beside a kind that has no fields.
        let fields = json.as_object().into_iter().flat_map(|object| object.keys());
        let field = fields.into_iter().find(|field| *field != "kind").cloned();
        if let ("disconnect" | "freeze", Some(field)) = (&*kind, field) {
            return Err(format!("unknown field `{field}`; {kind} expects nothing"));
        }
        serde_json::from_value(json).map_err(|error| match &*kind {
            "slow" => format!("{error}; slow expects delay=TIME, such as delay=200ms"),
            "garbage" => format!("{error}; garbage expects nothing, or seed=NUMBER"),
            "hang" => format!("{error}; hang expects for=TIME, at most a minute, such as for=1s"),
            "disconnect" | "freeze" => format!("{error}; {kind} expects nothing"),
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
            Err("unknown field `for`; freeze expects nothing"),
        );
        let kinds = "unknown variant `burn`, expected one of `disconnect`, `freeze`, `slow`, \
                     `garbage`, `hang`";
        check(json!({ "kind": "burn" }), Err(kinds));
    }
}
