//! The views of a point and of a variable.
//!
//! This file has only data types. The rules for all views are in `status.rs`. The daemon fills in
//! the fields in `daemon/view.rs`. The view of a force is in `force.rs`.

use serde::{Deserialize, Serialize};

use crate::driver::Delivery;
use crate::process::image::{Class, Direction, PointKind, Quality, Safe, Value};
use crate::process::variable::VariableKind;

/// The view of one point.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PointView {
    /// The name of the point.
    pub name: String,
    /// The direction of the point: `in` or `out`.
    pub direction: Direction,
    /// The type of the point in the process image.
    #[serde(rename = "type")]
    pub kind: PointKind,
    /// The byte address in the input image or output image. For a bool the bit follows, such as
    /// `8.1`.
    pub address: String,
    /// The value, in the unit of the point. A value that is not finite is one of the texts `nan`,
    /// `inf` and `-inf`.
    pub value: Value,
    /// The unit of the value, for display; the text may be empty.
    pub unit: String,
    /// The text about the point from the configuration; the text may be empty.
    #[serde(default)]
    pub description: String,
    /// The quality class of the value: how far a user can trust the value.
    pub quality: Class,
    /// The detailed quality, which is the reason for the class. For an output, this field shows
    /// whether the output is forced.
    pub reason: Quality,
    /// The quality as a status code of OPC UA.
    pub opc_ua: u32,
    /// Milliseconds since the value last had good quality. `null` for an output, and for an input
    /// that never had good quality.
    pub age_ms: Option<u64>,
    /// Whether the device has this output value: `confirmed`, `under_way` or `unconfirmed`; `null`
    /// for an input.
    pub delivery: Option<Delivery>,
    /// The safe setting of the output; `null` for an input. The setting applies, for example, while
    /// no program owns the output.
    pub safe: Option<SafeView>,
    /// The name of the plugin that owns the output; `null` for an input, and if no plugin owns the
    /// output.
    pub owner: Option<String>,
    /// The name of the device that the point belongs to.
    pub device: String,
}

/// The safe setting of an output: a value, or the text `hold`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum SafeView {
    /// The output gets this value.
    Value(Value),
    /// The output stays at its last value.
    Hold(HoldWord),
}

/// A type for the text `hold` in JSON.
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

/// The view of one variable.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct VarView {
    /// The name of the variable.
    pub name: String,
    /// The type of the variable.
    #[serde(rename = "type")]
    pub kind: VariableKind,
    /// The value of the variable. A value that is not finite is one of the texts `nan`, `inf` and
    /// `-inf`.
    pub value: Value,
    /// Whether the variable is retained: its value is stored on the disk.
    pub retain: bool,
    /// The plugin that wrote the variable last. `null` if no plugin wrote it, or if an operator or
    /// a reset wrote it later.
    #[serde(default)]
    pub writer: Option<String>,
    /// Whether the plugin in `writer` runs; false if `writer` is `null`. If this plugin does not
    /// run, perhaps no program writes the variable now.
    #[serde(default)]
    pub writer_runs: bool,
    /// Whether the last write came from an operator or from a reset.
    #[serde(default)]
    pub set_by_operator: bool,
    /// Milliseconds since the last write; `null` if the variable was not written since its
    /// creation.
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
                kind: PointKind::F64,
                address: "8".into(),
                value,
                unit: "°C".into(),
                description: "flow pipe".into(),
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
