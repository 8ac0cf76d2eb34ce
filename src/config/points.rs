//! The entries `[[device.point]]`: checks the type, the scaling and the safe value of each point.
//!
//! The function `understand` returns each point without its address. The addresses are chosen in
//! `layout.rs`. `grant.rs` decides which plugin may write a point. The position in the device
//! (`at`) is a key of the driver and is read in `driver.rs`. `bounds.rs` reads the keys `nan`,
//! `range`, `on_overflow`, `invert`, `deadband` and `description`.
//!
//! Two entries in a file:
//!
//! ```toml
//! [[device.point]]
//! name = "tank.level"
//! direction = "in"
//! type = "f64"
//! stale_after = "2s"
//! bad_after = "10s"
//! on_bad = 0.0                  # programs read 0 while the input is bad; default: "keep"
//!
//! [[device.point]]
//! name = "tank.inflow"
//! direction = "out"
//! type = "f64"
//! safe = 0.0                    # the valve is shut; or "hold"
//! hold_for = "500ms"            # the output becomes safe after 500 ms; default: at once
//! ```

use std::collections::HashMap;
use std::ops::RangeInclusive;
use std::time::Duration;

use serde::Deserialize;
use toml::de::ValueDeserializer;

use super::bounds::bound;
use super::check::{once, ranged, show_duration, unwanted};
use super::file::{ConfigFile, Maybe, PointFile};
use super::problem::{ProblemReport, Said};
use super::word::{HoldWord, KeepWord, OnBadWord, SafeWord};
use crate::process::image::{
    Direction, Freshness, MAX_POINTS, OnBad, Point, PointId, PointKind, Points, Safe, Unfit, Value,
};

/// The id and the direction of a point. `grant.rs` needs only these two, so it can check its lists
/// even if another key of the point is wrong.
pub(super) struct Named {
    pub(super) id: PointId,
    /// `None` if the file gives no valid direction.
    pub(super) direction: Option<Direction>,
}

/// All points by their names.
pub(super) type Names<'f> = HashMap<&'f str, Named>;

/// Collects the names of all points and gives each point an id. Reports names that occur twice, and
/// too many points. A point that is in `before`, or that an earlier reload has removed, gets its
/// old id, because programs may use that id.
pub(super) fn names<'f>(
    file: &'f ConfigFile<'_>,
    before: &Points,
    report: &ProblemReport<'_>,
) -> Names<'f> {
    let mut names = Names::new();
    let mut lines = HashMap::new();
    let mut next = before.ids();
    let all = file.devices.iter().flat_map(|device| &device.points);
    for (index, point) in all.enumerate() {
        let line = point.place.line;
        if index == MAX_POINTS {
            let right = format!("at most {MAX_POINTS} points");
            report.wrong(line, "device.point", format!("point {}", index + 1), right);
            break;
        }
        let Some(name) = &point.name else { continue };
        if once(name, &mut lines, "point", report) {
            let direction = point.direction.as_ref().map(|said| said.value);
            let id = match before.known(&name.value) {
                Some((id, _)) => id,
                None if next == MAX_POINTS => {
                    let found = format!("more than {MAX_POINTS} points, including removed points");
                    let right = "no new point before a restart of the daemon, which deletes the \
                                 removed points";
                    report.wrong(line, "device.point", found, right);
                    break;
                }
                None => {
                    next += 1;
                    // The cast is safe: MAX_POINTS is below u16::MAX.
                    PointId((next - 1) as u16)
                }
            };
            names.insert(&name.value, Named { id, direction });
        }
    }
    names
}

/// Returns the point that `file` describes, without an address. Returns `None` if the direction or
/// the type is missing or not valid. A point without a name is checked like any other point, and is
/// returned with an empty name.
pub(super) fn understand(
    file: &PointFile<'_>,
    device: usize,
    report: &ProblemReport<'_>,
) -> Option<Point> {
    let (direction, kind) = (file.direction.as_ref(), file.kind.as_ref());
    let name = file.name.as_ref().map_or("", |name| &*name.value);
    let mut point = Point {
        scale: scale(file, kind?.value, report),
        offset: offset(file, kind?.value, report),
        unit: file.unit.as_ref().map(|said| said.value.clone()).unwrap_or_default(),
        device,
        ..Point::new(name, direction?.value, kind?.value)
    };
    bound(file, &mut point, report);
    match point.direction {
        Direction::Out => {
            point.safe = safe(file, &point, report);
            point.hold_for = hold_for(file, &point, report);
            unwanted(&file.stale_after, "`stale_after` on an output", "on an input", report);
            unwanted(&file.bad_after, "`bad_after` on an output", "on an input", report);
            unwanted(&file.on_bad, "`on_bad` on an output", "on an input", report);
        }
        Direction::In => {
            unwanted(&file.safe, "`safe` on an input", "on an output", report);
            unwanted(&file.hold_for, "`hold_for` on an input", "on an output", report);
            point.freshness = freshness(file, report);
            point.on_bad = on_bad(file, &point, report);
        }
    }
    initial(file, &point, report);
    Some(point)
}

/// Returns the scale of a point: a finite number other than 0 that is not too small for a normal
/// `f64`. The default is 1. A scale of 0 would make every value the same.
fn scale(file: &PointFile<'_>, kind: PointKind, report: &ProblemReport<'_>) -> f64 {
    let expected = "a finite number other than 0";
    factor(&file.scale, kind, f64::is_normal, expected, report).unwrap_or(1.0)
}

/// Returns the offset of a point: a finite number. The default is 0.
fn offset(file: &PointFile<'_>, kind: PointKind, report: &ProblemReport<'_>) -> f64 {
    factor(&file.offset, kind, f64::is_finite, "a finite number", report).unwrap_or(0.0)
}

/// Returns the scale or the offset that the file gives. Returns `None` if the key is absent. Also
/// returns `None` after it has reported the key, because the number fails the test `is_right`, or
/// because the point is a bool. The text `expected` describes the correct numbers.
fn factor(
    said: &Maybe<f64>,
    kind: PointKind,
    is_right: fn(f64) -> bool,
    expected: &str,
    report: &ProblemReport<'_>,
) -> Option<f64> {
    let said = said.as_ref()?;
    let expected = match kind {
        PointKind::Bool => "no `scale` and no `offset`, because the point is a bool",
        _ if is_right(said.value) => return Some(said.value),
        _ => expected,
    };
    report.wrong_at(said, said.value.to_string(), expected);
    None
}

/// Returns the safe value of an output. For a numeric type, a missing key `safe` is reported. For
/// the type bool, the default is false.
fn safe(file: &PointFile<'_>, point: &Point, report: &ProblemReport<'_>) -> Safe {
    match &file.safe {
        // An output of type bool has the default false, because false usually switches a motor, a
        // lamp or a heater off. For a number, the code cannot know a safe value.
        None if point.kind == PointKind::Bool => Safe::Value(Value::Bool(false)),
        None => {
            let key = format!("{}.safe", file.place.key);
            let right = "safe = a value or \"hold\", because a numeric output has no default";
            report.wrong(file.place.line, &key, "nothing", right);
            Safe::Hold
        }
        Some(Said { value: SafeWord::Hold(HoldWord::Hold), .. }) => Safe::Hold,
        Some(said @ Said { value: SafeWord::Value(value), .. }) => {
            fits(said, point, *value, report);
            if let (Ok(raw), Some(range)) = (point.raw_of(*value), point.range)
                && !point.is_in_range(&raw)
            {
                let right = format!("from {range}, which is the `range` of the point");
                report.wrong_at(said, value.to_string(), right);
            }
            Safe::Value(*value)
        }
    }
}

/// The longest `hold_for`, one hour. An output that becomes safe later than this does not protect
/// the plant.
const MOST_HOLD_FOR: Duration = Duration::from_secs(3600);

/// Range of `stale_after` and `bad_after`: from the shortest scan period to one day.
const AGE: RangeInclusive<Duration> = Duration::from_micros(100)..=Duration::from_secs(24 * 3600);

/// Returns the time for which an output keeps its value before it becomes safe. Reports the key
/// `hold_for` if `safe` is `hold`.
fn hold_for(file: &PointFile<'_>, point: &Point, report: &ProblemReport<'_>) -> Duration {
    if point.safe == Safe::Hold {
        let right = "with a value in `safe`, because with \"hold\" the output is never made safe";
        unwanted(&file.hold_for, "`hold_for` with safe = \"hold\"", right, report);
    }
    let range = Duration::ZERO..=MOST_HOLD_FOR;
    ranged(&file.hold_for, range, Duration::ZERO, show_duration, report)
}

/// Returns the ages at which an input becomes stale and then bad. `bad_after` must not be shorter
/// than `stale_after`.
fn freshness(file: &PointFile<'_>, report: &ProblemReport<'_>) -> Freshness {
    let age = |said: &Maybe<Duration>| {
        said.as_ref().map(|_| ranged(said, AGE, *AGE.end(), show_duration, report))
    };
    let (stale_after, bad_after) = (age(&file.stale_after), age(&file.bad_after));
    if let (Some(said), Some(stale), Some(bad)) = (&file.bad_after, stale_after, bad_after)
        && bad < stale
    {
        let right = format!("at least `stale_after`, which is {}", show_duration(stale));
        report.wrong_at(said, show_duration(bad), right);
    }
    Freshness { stale_after, bad_after }
}

/// Returns the value that programs read while the input is bad: the last good value, or a
/// configured value.
fn on_bad(file: &PointFile<'_>, point: &Point, report: &ProblemReport<'_>) -> OnBad {
    match &file.on_bad {
        None | Some(Said { value: OnBadWord::Keep(KeepWord::Keep), .. }) => OnBad::Keep,
        Some(said @ Said { value: OnBadWord::Value(value), .. }) => {
            fits(said, point, *value, report);
            OnBad::Value(*value)
        }
    }
}

/// Checks the first value of an input. The value is not stored here, because `driver.rs` passes it
/// to the driver.
fn initial(file: &PointFile<'_>, point: &Point, report: &ProblemReport<'_>) {
    let Some(said) = &file.initial else { return };
    if point.direction == Direction::Out {
        return unwanted(&file.initial, "`initial` on an output", "on an input", report);
    }
    match Value::deserialize(ValueDeserializer::from(said.value.clone())) {
        Ok(value) => fits(said, point, value, report),
        Err(_) => {
            let found = report.quote(said.value.span());
            report.wrong_at(said, found, "true, false or a number");
        }
    }
}

/// Reports a value that the type of the point cannot represent.
fn fits<T>(said: &Said<T>, point: &Point, value: Value, report: &ProblemReport<'_>) {
    let right = match point.encode(value) {
        Ok(_) => return,
        Err(Unfit::WrongType(PointKind::Bool)) => "true or false, for type bool".to_owned(),
        Err(Unfit::WrongType(kind)) => format!("a number, for type {kind}"),
        // `encode` does not compare the value with the range of the point.
        Err(Unfit::OutsideRange(range)) => format!("a number from {range}"),
        Err(Unfit::OutOfRange(kind)) if point.is_plain() => {
            format!("a number in the range of type {kind}")
        }
        Err(Unfit::OutOfRange(kind)) => {
            format!("a number whose raw value (without scale and offset) fits type {kind}")
        }
    };
    report.wrong_at(said, value.to_string(), right);
}
