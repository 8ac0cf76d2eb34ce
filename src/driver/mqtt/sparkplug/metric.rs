//! The conversion of points and variables to Sparkplug metrics, and of command metrics to values.
//!
//! `payload.rs` defines the encoding of a metric. `sparkplug.rs` decides when a metric is sent.

use std::time::{Duration, SystemTime};

use super::payload::{DataType, Held, Metric, PropertySet};
use crate::driver::export::{Export, Shown};
use crate::process::image::{Quality, Value};

/// Returns the data type of a point or variable. Returns `None` if no point and no variable has
/// this name.
pub(super) fn datatype(export: &Export, name: &str) -> Option<DataType> {
    if let Some(id) = export.points.find(name) {
        return Some(DataType::of(&export.points[id]));
    }
    Some(match export.find(name)?.value {
        Value::Bool(_) => DataType::Boolean,
        Value::Int(_) => DataType::Int32,
        Value::Real(_) => DataType::Double,
    })
}

/// Makes a metric that is identified by its alias. For an input that was never read, the metric is
/// null, because a 0 would look like a measured value.
pub(super) fn metric(alias: usize, shown: &Shown, datatype: DataType) -> Metric {
    let value = datatype.hold(shown.value).filter(|_| shown.quality != Quality::Waiting);
    Metric {
        alias: Some(alias as u64),
        timestamp: Some(millis(shown.at)),
        is_null: value.is_none().then_some(true),
        properties: Some(PropertySet::quality(shown.quality)),
        value,
        ..Metric::default()
    }
}

/// Makes a metric that describes the node and not a point, such as bdSeq. Such a metric has a name
/// and no alias.
pub(super) fn named(name: &str, datatype: DataType, value: Held) -> Metric {
    Metric {
        name: Some(name.to_owned()),
        timestamp: Some(millis(SystemTime::now())),
        datatype: Some(datatype as u32),
        value: Some(value),
        ..Metric::default()
    }
}

/// Returns the value of a received metric. If the metric does not name its type, `expected` is
/// used.
pub(super) fn value(metric: &Metric, expected: DataType) -> Result<Value, String> {
    if metric.is_null == Some(true) {
        return Err("the value is null".into());
    }
    let held = metric.value.ok_or("the metric has no value of a supported type")?;
    let datatype = match metric.datatype.unwrap_or_default() {
        0 => expected,
        number => i32::try_from(number)
            .ok()
            .and_then(|number| DataType::try_from(number).ok())
            .ok_or_else(|| {
                format!("the metric has type number {number}, which is neither numeric nor boolean")
            })?,
    };
    datatype.value(held).ok_or_else(|| format!("{held} is not a value of type {datatype:?}"))
}

/// Converts a time to milliseconds since 1970. A time before 1970 becomes 0.
pub(super) fn millis(at: SystemTime) -> u64 {
    let since = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Converts milliseconds since 1970 to a time.
pub(super) fn instant(millis: u64) -> SystemTime {
    // If the number is too large for a time, this function returns the present time. `command.rs`
    // treats every time in the future like the present time.
    let since = Duration::from_millis(millis);
    SystemTime::UNIX_EPOCH.checked_add(since).unwrap_or_else(SystemTime::now)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_no_command() {
        fn check(metric: Metric, expected: DataType, found: Result<Value, &str>) {
            let value = value(&metric, expected);
            assert_eq!(value.as_ref().map_err(String::as_str), found.as_ref().map_err(|why| *why));
        }
        let of = |value| Metric { value: Some(value), ..Metric::default() };
        let typed = |datatype, value| Metric { datatype: Some(datatype), ..of(value) };
        let (u8, i16) = (DataType::UInt8, DataType::Int16);
        // A command usually does not name its type.
        check(of(Held::Int(44)), u8, Ok(Value::Int(44)));
        check(of(Held::Int(300)), u8, Err("300 is not a value of type UInt8"));
        check(of(Held::Int(70_000)), i16, Err("70000 is not a value of type Int16"));
        check(
            of(Held::Long(1_764_000_000_000)),
            i16,
            Err("1764000000000 is not a value of type Int16"),
        );
        check(typed(0, Held::Int(300)), u8, Err("300 is not a value of type UInt8"));
        check(typed(3, Held::Int(300)), u8, Ok(Value::Int(300)));
        // Type 13 is DateTime, which is not supported. The specification does not define the other
        // type number of this test.
        let datetime = typed(13, Held::Long(5));
        check(
            datetime,
            i16,
            Err("the metric has type number 13, which is neither numeric nor boolean"),
        );
        let other = typed(u32::MAX, Held::Int(5));
        check(
            other,
            i16,
            Err("the metric has type number 4294967295, which is neither numeric nor boolean"),
        );
        let null = Metric { is_null: Some(true), ..of(Held::Int(0)) };
        check(null, u8, Err("the value is null"));
        check(Metric::default(), u8, Err("the metric has no value of a supported type"));
        check(of(Held::Double(1.0)), u8, Err("1.0 is not a value of type UInt8"));
    }
}
