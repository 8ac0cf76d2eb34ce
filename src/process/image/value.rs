//! The value of a point as operators and programs see it: after scaling, and independent of the
//! address in the image. This file also defines the form of a value in JSON.
//!
//! `Value::from_str` and [`exact`] read a whole number of up to 128 bits without loss. JSON has no
//! form for a float that is infinite or not a number. Therefore these floats are written as the
//! strings `"nan"`, `"inf"` and `"-inf"`. JSON's `null` would not distinguish these three values.
//! `point.rs` converts a value to the bytes of a point.

use std::fmt;
use std::str::FromStr;

use serde::de::{Deserializer, Error, Unexpected, Visitor};
use serde::{Deserialize, Serialize, Serializer};
use serde_json::value::RawValue;

/// A value as operators and programs see it: after scaling, and independent of the address in the
/// image.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Value {
    /// The value of a bool point.
    Bool(bool),
    /// The value of an integer point without scaling.
    Int(i128),
    /// The value of a float point, or of an integer point with scaling.
    Real(f64),
}

impl Value {
    /// Returns the string for a float that is infinite or not a number; `None` for any other value.
    fn word(self) -> Option<&'static str> {
        match self {
            Self::Real(real) if real.is_nan() => Some("nan"),
            Self::Real(f64::INFINITY) => Some("inf"),
            Self::Real(f64::NEG_INFINITY) => Some("-inf"),
            _ => None,
        }
    }

    /// Returns the number as a double, which may be rounded; `None` for a bool.
    pub fn number(self) -> Option<f64> {
        match self {
            Self::Bool(_) => None,
            Self::Int(number) => Some(number as f64),
            Self::Real(number) => Some(number),
        }
    }

    /// Whether two numbers differ by more than `deadband`. All other values differ if they are not
    /// equal; NaN is equal to NaN here.
    pub fn differs_by_more(self, other: Self, deadband: f64) -> bool {
        let (Some(one), Some(two)) = (self.number(), other.number()) else { return self != other };
        match (self, other) {
            (Self::Int(one), Self::Int(two)) => one.abs_diff(two) as f64 > deadband,
            _ if one.is_finite() && two.is_finite() => {
                // Scaled numbers are rounded, so that the difference of 0.8 and 0.3 is not exactly
                // 0.5. The rounding must not make a difference greater than the deadband.
                let rounding = 4.0 * f64::EPSILON * one.abs().max(two.abs());
                (one - two).abs() > if deadband == 0.0 { 0.0 } else { deadband + rounding }
            }
            _ => one != two && !(one.is_nan() && two.is_nan()),
        }
    }

    /// Whether the value is a bool, a whole number or a finite float.
    pub fn is_finite(self) -> bool {
        self.word().is_none()
    }
}

impl fmt::Display for Value {
    /// Writes a float with as many digits as are needed to read the same number again.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self, self.word()) {
            (_, Some(word)) => f.write_str(word),
            (Self::Bool(value), _) => value.fmt(f),
            (Self::Int(value), _) => value.fmt(f),
            (Self::Real(value), _) => value.fmt(f),
        }
    }
}

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match (self, self.word()) {
            (_, Some(word)) => serializer.serialize_str(word),
            (Self::Bool(value), _) => serializer.serialize_bool(*value),
            (Self::Int(value), _) => serializer.serialize_i128(*value),
            (Self::Real(value), _) => serializer.serialize_f64(*value),
        }
    }
}

impl<'de> Deserialize<'de> for Value {
    /// This code is not derived, because untagged enums of the library serde do not accept 128-bit
    /// integers. The JSON library turns a whole number of more than 64 bits into a float. A field
    /// that may contain a longer whole number uses the function [`exact`].
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl Visitor<'_> for Any {
            type Value = Value;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("true, false or a number")
            }

            fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
                Ok(Value::Bool(value))
            }

            fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
                Ok(Value::Int(value.into()))
            }

            fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
                Ok(Value::Int(value.into()))
            }

            fn visit_i128<E>(self, value: i128) -> Result<Value, E> {
                Ok(Value::Int(value))
            }

            fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
                Ok(Value::Real(value))
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Value, E> {
                match text {
                    "nan" => Ok(Value::Real(f64::NAN)),
                    "inf" => Ok(Value::Real(f64::INFINITY)),
                    "-inf" => Ok(Value::Real(f64::NEG_INFINITY)),
                    other => Err(E::invalid_type(Unexpected::Str(other), &self)),
                }
            }
        }
        deserializer.deserialize_any(Any)
    }
}

/// The reason why a text cannot be read as a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoValue {
    /// The text is a whole number of more than 128 bits. No point type has this many bits.
    TooLong,
    /// The text is not the JSON form of a value. The field is the error message of the JSON
    /// library.
    Json(String),
}

impl fmt::Display for NoValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong => f.write_str("a whole number of more than 128 bits fits no type"),
            Self::Json(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for NoValue {}

impl FromStr for Value {
    type Err = NoValue;

    /// Reads a value in its JSON form: `true`, `false`, a number, or a string for a float that is
    /// not finite. A whole number is exact.
    fn from_str(text: &str) -> Result<Self, NoValue> {
        let digits = text.strip_prefix('-').unwrap_or(text);
        let is_whole = !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_digit());
        // JSON does not allow leading zeroes, so the JSON library gets a text such as `007` and
        // reports an error.
        if is_whole && (digits == "0" || !digits.starts_with('0')) {
            return text.parse().map(Self::Int).map_err(|_| NoValue::TooLong);
        }
        serde_json::from_str(text).map_err(|error| {
            // The message of the JSON library ends with a line number and a column number. The code
            // removes the two numbers, because they are positions in this short text. The operator
            // would look for them in the complete file or request.
            let why = error.to_string();
            NoValue::Json(why.split(" at line ").next().unwrap_or_default().to_owned())
        })
    }
}

/// Reads a JSON field that contains a value, with exact whole numbers. Fields use this function
/// with serde's `deserialize_with`.
///
/// # Errors
/// The field does not contain a value.
pub fn exact<'de, D: Deserializer<'de>>(json: D) -> Result<Value, D::Error> {
    let raw = Box::<RawValue>::deserialize(json)?;
    raw.get().parse().map_err(D::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes a value as JSON and reads it again.
    fn check(value: Value, json: &str) {
        assert_eq!(serde_json::to_string(&value).unwrap(), json);
        let again: Value = serde_json::from_str(json).unwrap();
        assert_eq!(format!("{again:?}"), format!("{value:?}"), "{json}");
    }

    #[test]
    fn values_survive_json() {
        check(Value::Bool(true), "true");
        check(Value::Int(-7), "-7");
        check(Value::Int(u64::MAX.into()), "18446744073709551615");
        check(Value::Int(i64::MIN.into()), "-9223372036854775808");
        check(Value::Real(0.1), "0.1");
        check(Value::Real(3.0), "3.0");
        check(Value::Real(f64::NAN), "\"nan\"");
        check(Value::Real(f64::INFINITY), "\"inf\"");
        check(Value::Real(f64::NEG_INFINITY), "\"-inf\"");
        for json in ["\"NaN\"", "\"infinity\"", "\"1\"", "null", "[]"] {
            assert!(serde_json::from_str::<Value>(json).is_err(), "{json}");
        }
    }

    #[test]
    fn each_value_has_a_text_of_its_own() {
        let texts = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1.5, 3.0]
            .map(|real| Value::Real(real).to_string());
        assert_eq!(texts, ["nan", "inf", "-inf", "1.5", "3"]);
    }

    #[test]
    fn whole_numbers_are_exact() {
        fn check(text: &str, expected: Result<Value, NoValue>) {
            assert_eq!(text.parse(), expected, "{text}");
        }
        check("-9223372036854775809", Ok(Value::Int(i128::from(i64::MIN) - 1)));
        check("18446744073709551616", Ok(Value::Int(1 << 64)));
        check("-0", Ok(Value::Int(0)));
        check("1e3", Ok(Value::Real(1000.0)));
        check("-9223372036854775809.0", Ok(Value::Real(-9_223_372_036_854_775_808.0)));
        check(&"9".repeat(40), Err(NoValue::TooLong));
        for text in ["", "-", "007", "1.", "nan", "x", "1 2"] {
            assert!(matches!(text.parse::<Value>(), Err(NoValue::Json(_))), "{text}");
        }
    }
}
