//! The keys of a point about its values: which raw numbers are no value, the range, the deadband,
//! whether a bool is inverted, and the description.
//!
//! Entries in a file:
//!
//! ```toml
//! [[device.point]]
//! name = "meter.power"
//! direction = "in"
//! type = "i16"
//! nan = [0x8000]                # the raw number -32768 means "not available" (SunSpec)
//! range = [0, 50000]            # a value outside is bad; use inf for an open end: [0, inf]
//! deadband = 5                  # a change of 5 or less is ignored
//! description = "power of the grid connection"
//!
//! [[device.point]]
//! name = "pump.speed"
//! direction = "out"
//! type = "f64"
//! safe = 0
//! range = [0, 100]
//! on_overflow = "clamp"         # 120 becomes 100; default: "refuse", so 120 is not written
//!
//! [[device.point]]
//! name = "door.open"
//! direction = "in"
//! type = "bool"
//! invert = true                 # the contact is closed (true) while the door is shut
//! ```
//!
//! `process/image/range.rs` and `process/image/wire.rs` apply these keys. `points.rs` checks the
//! other keys of a point.

use toml::de::{DeArray, DeValue};

use super::check::unwanted;
use super::file::PointFile;
use super::problem::{ProblemReport, Said};
use super::word::OverflowWord;
use crate::process::image::{Direction, OnOverflow, Point, PointKind, Value, ValueRange};

/// Longest description of a point, in bytes. A longer text does not fit a line of a terminal.
const MAX_DESCRIPTION: usize = 256;

/// Longest list in `nan`. Each reading of the input is compared with each number of the list, and
/// no device has so many numbers for "not available".
const MAX_NAN: usize = 16;

/// Sets the keys of this file in `point`, whose type, direction and scaling are set already.
/// Reports each mistake.
pub(super) fn bound(file: &PointFile<'_>, point: &mut Point, report: &ProblemReport<'_>) {
    point.description = description(file, report);
    point.not_available = not_available(file, point, report);
    point.range = range(file, point, report);
    point.on_overflow = on_overflow(file, point, report);
    point.is_inverted = is_inverted(file, point, report);
    point.deadband = deadband(file, point, report);
}

/// Returns the description: at most [`MAX_DESCRIPTION`] bytes without control characters, which
/// could disturb a terminal.
fn description(file: &PointFile<'_>, report: &ProblemReport<'_>) -> String {
    let Some(said) = &file.description else { return String::new() };
    let text = &said.value;
    if text.len() > MAX_DESCRIPTION {
        let right = format!("at most {MAX_DESCRIPTION} bytes");
        report.wrong_at(said, format!("{} bytes", text.len()), right);
    } else if let Some(control) = text.chars().find(|c| c.is_control()) {
        let right = "a text without line breaks and other control characters";
        report.wrong_at(said, format!("the character {control:?}"), right);
    }
    text.clone()
}

/// Reports a key that a bool must not have. Returns whether the point is a bool.
fn is_bool<T>(said: &Said<T>, name: &str, point: &Point, report: &ProblemReport<'_>) -> bool {
    let is_bool = point.kind == PointKind::Bool;
    if is_bool {
        let right = format!("no `{name}`, because the point is a bool");
        report.wrong_at(said, format!("`{name}`"), right);
    }
    is_bool
}

/// Returns the raw numbers with which the device says that an input has no value.
fn not_available(file: &PointFile<'_>, point: &Point, report: &ProblemReport<'_>) -> Vec<Value> {
    let Some(said) = &file.nan else { return Vec::new() };
    if point.direction == Direction::Out {
        unwanted(&file.nan, "`nan` on an output", "on an input", report);
        return Vec::new();
    }
    if is_bool(said, "nan", point, report) {
        return Vec::new();
    }
    let right =
        format!("a list of raw numbers for type {}, such as {}", point.kind, example(point));
    let quote = || report.quote(said.value.span());
    let DeValue::Array(list) = said.value.get_ref() else {
        report.wrong_at(said, quote(), right);
        return Vec::new();
    };
    if list.len() > MAX_NAN {
        let found = format!("{} numbers", list.len());
        report.wrong_at(said, found, format!("at most {MAX_NAN} numbers"));
        return Vec::new();
    }
    numbers(list, said, point, report)
}

/// Returns the numbers of the list `nan`. Reports each number that the type of the point cannot
/// have as a raw number.
fn numbers<T>(
    list: &DeArray<'_>,
    said: &Said<T>,
    point: &Point,
    report: &ProblemReport<'_>,
) -> Vec<Value> {
    let mut all = Vec::new();
    for item in list {
        match raw_number(item.get_ref(), point) {
            // A float that is no finite number is no measurement anyway, so the list needs none.
            Some(number) if !number.is_finite() => {}
            Some(number) => all.push(number),
            None => {
                let right = format!("a raw number of type {}", point.kind);
                let right = match point.kind {
                    PointKind::F32 | PointKind::F64 => right,
                    _ => format!("{right}, or its bits in hexadecimal such as {}", example(point)),
                };
                report.wrong_at(said, report.quote(item.span()), right);
            }
        }
    }
    all
}

/// Returns the raw number that an item of the list `nan` means; `None` if the type of the point has
/// no such number. A number in hexadecimal, octal or binary notation gives the bits of the raw
/// number: 0x8000 is -32768 for type i16, and 0x7fc00000 is NaN for type f32. A decimal number is
/// the number itself.
fn raw_number(item: &DeValue<'_>, point: &Point) -> Option<Value> {
    let plain = Point::new("", Direction::In, point.kind);
    let number = match item {
        DeValue::Integer(integer) if integer.radix() != 10 => {
            let bits = u64::from_str_radix(integer.as_str(), integer.radix()).ok()?;
            let width = 8 * point.kind.size();
            let fits = width == 64 || bits >> width == 0;
            return fits.then(|| plain.value_of(&bits.to_le_bytes()));
        }
        DeValue::Integer(integer) => Value::Int(integer.as_str().parse().ok()?),
        DeValue::Float(float) => Value::Real(float.as_str().parse().ok()?),
        _ => return None,
    };
    match (point.kind, number) {
        (PointKind::F32 | PointKind::F64, Value::Real(real)) if !real.is_finite() => Some(number),
        // An integer has no fraction.
        (PointKind::F32 | PointKind::F64, _) | (_, Value::Int(_)) => {
            plain.raw_of(number).ok().map(|raw| plain.value_of(&raw))
        }
        _ => None,
    }
}

/// Returns a number for "not available" that many devices with this type have, for messages.
fn example(point: &Point) -> &'static str {
    match point.kind {
        PointKind::F32 | PointKind::F64 => "[-9999.0]",
        PointKind::U8 => "[0xff]",
        PointKind::I8 => "[0x80]",
        PointKind::U16 => "[0xffff]",
        PointKind::I16 => "[0x8000]",
        PointKind::U32 => "[0xffffffff]",
        PointKind::I32 => "[0x80000000]",
        PointKind::U64 => "[0xffffffffffffffff]",
        PointKind::I64 => "[0x8000000000000000]",
        PointKind::Bool => "[]",
    }
}

/// Returns the range of the point.
fn range(file: &PointFile<'_>, point: &Point, report: &ProblemReport<'_>) -> Option<ValueRange> {
    let said = file.range.as_ref()?;
    if is_bool(said, "range", point, report) {
        return None;
    }
    let all: Vec<_> = said.value.iter().map(Value::to_string).collect();
    let found = format!("[{}]", all.join(", "));
    let two_numbers = "two numbers, such as [0, 100]";
    let [low, high] = said.value[..] else {
        report.wrong_at(said, found, two_numbers);
        return None;
    };
    let right = match (low.number(), high.number()) {
        (Some(first), Some(last)) if first < last => match ValueRange::new(point, low, high) {
            Some(range) => return Some(range),
            None => format!("a range with a value that type {} can have after scaling", point.kind),
        },
        (Some(first), Some(last)) if !first.is_nan() && !last.is_nan() => {
            "the smaller number first".to_owned()
        }
        _ => two_numbers.to_owned(),
    };
    report.wrong_at(said, found, right);
    None
}

/// Returns what happens to a value outside the limits of an output.
fn on_overflow(file: &PointFile<'_>, point: &Point, report: &ProblemReport<'_>) -> OnOverflow {
    let Some(said) = &file.on_overflow else { return OnOverflow::Refuse };
    if point.direction == Direction::In {
        unwanted(&file.on_overflow, "`on_overflow` on an input", "on an output", report);
    } else if !is_bool(said, "on_overflow", point, report) {
        return match said.value {
            OverflowWord::Refuse => OnOverflow::Refuse,
            OverflowWord::Clamp => OnOverflow::Clamp,
        };
    }
    OnOverflow::Refuse
}

/// Returns whether the device has the opposite of the value.
fn is_inverted(file: &PointFile<'_>, point: &Point, report: &ProblemReport<'_>) -> bool {
    let Some(said) = &file.invert else { return false };
    if point.kind != PointKind::Bool {
        let found = format!("`invert` for type {}", point.kind);
        report.wrong_at(said, found, "this key only for type bool; `scale = -1` turns a number");
    }
    said.value
}

/// Returns the deadband, which is 0 if the file has none.
fn deadband(file: &PointFile<'_>, point: &Point, report: &ProblemReport<'_>) -> f64 {
    let Some(said) = &file.deadband else { return 0.0 };
    if is_bool(said, "deadband", point, report) {
        return 0.0;
    }
    if !(said.value.is_finite() && said.value >= 0.0) {
        report.wrong_at(said, said.value.to_string(), "0 or a greater number");
    }
    said.value
}
