//! A point and a variable, as people see them.
//!
//! This is plain data, by the rules of all views, which stand in `status.rs`. The daemon fills the
//! fields in (`daemon/view.rs`). Forces on points are in `force.rs`.

use serde::{Deserialize, Serialize};

use crate::driver::Delivery;
use crate::process::image::{Class, Direction, Kind, Quality, Safe, Value};
use crate::process::variable::VariableKind;

/// One point.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PointView {
    /// Name of the point.
    pub name: String,
    /// Direction of the point: `in` or `out`.
    pub direction: Direction,
    /// Type of the point in the image.
    #[serde(rename = "type")]
    pub kind: Kind,
    /// Byte in the image of that direction; with `.bit` for a bool, such as `8.1`.
    pub address: String,
    /// The value, in the unit of the point; `nan`, `inf` or `-inf` as text if it is not finite.
    pub value: Value,
    /// Unit for people; may be empty.
    pub unit: String,
    /// How far the value can be trusted.
    pub quality: Class,
    /// The reason for this quality; for an output, whether it is forced.
    pub reason: Quality,
    /// The quality as a status code of OPC UA.
    pub opc_ua: u32,
    /// Milliseconds since the value was last good; `null` for an output, or if it never was.
    pub age_ms: Option<u64>,
    /// Whether the device has this value: `confirmed`, `under_way`, `unconfirmed`; inputs: `null`.
    pub delivery: Option<Delivery>,
    /// What the output becomes when no healthy program owns it; `null` for an input.
    pub safe: Option<SafeView>,
    /// Name of the plugin that writes the output; `null` if none does.
    pub owner: Option<String>,
    /// Name of the point's device.
    pub device: String,
}

/// What an output becomes when no healthy program owns it: a value, or the text `hold`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum SafeView {
    /// The output gets this value.
    Value(Value),
    /// The output keeps its last value.
    Hold(HoldWord),
}

/// The text `hold`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HoldWord {
    /// The only word of this type.
    Hold,
}

impl From<Safe> for SafeView {
    fn from(safe: Safe) -> Self {
        match safe {
            Safe::Hold => Self::Hold(HoldWord::Hold),
            Safe::Value(value) => Self::Value(value),
        }
    }
}

/// One variable.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct VarView {
    /// Name of the variable.
    pub name: String,
    /// Type of the variable.
    #[serde(rename = "type")]
    pub kind: VariableKind,
    /// Its value; one of the texts `nan`, `inf` and `-inf` if it is no finite number.
    pub value: Value,
    /// Whether the variable is kept on the disk.
    pub retain: bool,
    /// The plugin that wrote it last; `null` if none did, or if an operator wrote it after that.
    #[serde(default)]
    pub writer: Option<String>,
    /// Whether that plugin runs; if not, there may be no program left that writes the variable.
    #[serde(default)]
    pub writer_runs: bool,
    /// Whether an operator or a reset wrote it last.
    #[serde(default)]
    pub set_by_operator: bool,
    /// Milliseconds since it was written; `null` while it has its first value.
    #[serde(default)]
    pub age_ms: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_point_may_be_survives_json() {
        fn check(value: Value, safe: Option<SafeView>, expected: &str) {
            let point = PointView {
                name: "p".into(),
                direction: Direction::Out,
                kind: Kind::F64,
                address: "8".into(),
                value,
                unit: "°C".into(),
                quality: Class::Good,
                reason: Quality::Good,
                opc_ua: 0,
                age_ms: None,
                delivery: Some(Delivery::Confirmed),
                safe,
                owner: None,
                device: "d".into(),
            };
            let text = serde_json::to_string(&point).unwrap();
            assert!(text.contains(expected), "{text} has no {expected}");
            assert_eq!(serde_json::from_str::<PointView>(&text).unwrap(), point);
        }
        let hold = Some(Safe::Hold.into());
        check(Value::Bool(true), hold, r#""value":true"#);
        check(Value::Real(3.0), hold, r#""safe":"hold""#);
        check(Value::Int(u64::MAX.into()), None, r#""value":18446744073709551615"#);
        check(Value::Int(0), Some(Safe::Value(Value::Int(-7)).into()), r#""safe":-7"#);
        check(Value::Int(0), Some(Safe::Value(Value::Bool(false)).into()), r#""safe":false"#);
        check(Value::Real(f64::NEG_INFINITY), hold, r#""value":"-inf""#);
    }
}
