//! Checks that the sections share: ranges, budgets, names that occur twice, and values as the file
//! writes them.
//!
//! No range and no default of a single key stands here: they stand beside the settings of their
//! section, such as in `scan.rs` or `plugins.rs`. Problems are collected in `problem.rs`.

use std::collections::HashMap;
use std::fmt::Display;
use std::ops::{Deref, RangeInclusive};
use std::time::Duration;

use super::file::Maybe;
use super::problem::{Report, Said};

/// The shortest budget. Below 10 us the stop itself costs as much as the program.
pub(super) const LEAST_BUDGET: Duration = Duration::from_micros(10);

/// The value of a key, if it lies in `range`; otherwise the default, and a problem is reported.
pub(super) fn ranged<T: PartialOrd + Copy>(
    said: &Maybe<T>,
    range: RangeInclusive<T>,
    default: T,
    show: impl Fn(T) -> String,
    report: &Report<'_>,
) -> T {
    let Some(said) = said else { return default };
    if range.contains(&said.value) {
        return said.value;
    }
    let right = format!("from {} to {}", show(*range.start()), show(*range.end()));
    report.wrong_at(said, show(said.value), right);
    default
}

/// A duration as it is written in the file.
pub(super) fn show_duration(duration: Duration) -> String {
    humantime::format_duration(duration).to_string()
}

/// A number as it is written in the file.
pub(super) fn show_number(number: impl Display) -> String {
    number.to_string()
}

/// Whether a name occurs for the first time; `lines` holds the line of each name so far. A second
/// one is reported.
pub(super) fn once<'f>(
    name: &'f Said<impl Deref<Target = str>>,
    lines: &mut HashMap<&'f str, usize>,
    what: &str,
    report: &Report<'_>,
) -> bool {
    if let Some(first) = lines.get(&*name.value) {
        let found = format!("a second {what} {:?}, the first is on line {first}", &*name.value);
        report.wrong_at(name, found, "another name");
        return false;
    }
    lines.insert(&name.value, name.line);
    true
}

/// A poll budget; it cannot exceed the period of the scan.
pub(super) fn budget(
    said: &Maybe<Duration>,
    period: Duration,
    default: Duration,
    report: &Report<'_>,
) -> Duration {
    match said {
        Some(said) if said.value > period => {
            let found = format!("{}, longer than a cycle", show_duration(said.value));
            report.wrong_at(said, found, format!("at most {}, the period", show_duration(period)));
            default
        }
        said => ranged(said, LEAST_BUDGET..=period, default, show_duration, report),
    }
}
