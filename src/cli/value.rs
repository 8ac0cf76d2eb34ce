//! Parses the values that a user types on the command line, such as `on`, `42.5` or `delay=200ms`.
//!
//! The daemon decides whether a point or a fault accepts the value. The arguments that contain
//! values are in `args.rs` and `modbus/grammar.rs`.

use crate::process::image::{NoValue, Value};

/// Parses a value: `true`, `false`, `on`, `off` or a number.
pub(super) fn value(text: &str) -> Result<Value, String> {
    match text {
        "on" => Ok(Value::Bool(true)),
        "off" => Ok(Value::Bool(false)),
        _ => text.parse().map_err(|why| match why {
            NoValue::TooLong => why.to_string(),
            NoValue::Json(_) => "expected true, false, on, off or a number".into(),
        }),
    }
}

/// Parses `KEY=VALUE`. The value becomes a number, true or false if possible, and otherwise a text.
/// The key `kind` is refused, because the kind of a fault is a separate argument.
pub(super) fn setting(text: &str) -> Result<(String, serde_json::Value), &'static str> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() && key != "kind" => {
            Ok((key.into(), serde_json::from_str(value).unwrap_or_else(|_| value.into())))
        }
        _ => Err("expected KEY=VALUE, such as delay=200ms"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A value is a boolean, an integer or a decimal number. Other texts are refused.
    #[test]
    fn values_are_read_as_people_type_them() {
        fn check(text: &str, expected: Option<Value>) {
            assert_eq!(value(text).ok(), expected, "{text}");
        }
        check("true", Some(Value::Bool(true)));
        check("off", Some(Value::Bool(false)));
        check("-5", Some(Value::Int(-5)));
        check("42.5", Some(Value::Real(42.5)));
        check("1e3", Some(Value::Real(1000.0)));
        check("-9223372036854775809", Some(Value::Int(i128::from(i64::MIN) - 1)));
        check("nan", None);
        check("full", None);
        check("", None);
    }

    /// A setting has a key and a value. A text without a key or without `=` is refused, and so is
    /// the key `kind`.
    #[test]
    fn settings_are_pairs() {
        fn check(text: &str, expected: Option<(&str, serde_json::Value)>) {
            let expected = expected.map(|(key, value)| (key.to_string(), value));
            assert_eq!(setting(text).ok(), expected, "{text}");
        }
        check("seed=7", Some(("seed", 7.into())));
        check("delay=200ms", Some(("delay", "200ms".into())));
        check("a=b=c", Some(("a", "b=c".into())));
        check("kind=x", None);
        check("=1", None);
        check("seed", None);
    }
}
