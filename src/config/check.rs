//! The checks that all sections share: of ranges, of budgets, and of names that occur twice. The
//! functions `show_duration` and `show_number` write values for messages.
//!
//! The range and the default of a key are not in this file. Ranges and defaults are in the file of
//! the section, such as `scan.rs` or `plugins.rs`. Problems are collected in `problem.rs`.

use std::collections::HashMap;
use std::fmt::Display;
use std::ops::{Deref, RangeInclusive};
use std::time::Duration;

use super::file::Maybe;
use super::problem::{ProblemReport, Said};

/// The shortest budget. Below 10 us, the work to stop a program costs as much as the program.
pub(super) const LEAST_BUDGET: Duration = Duration::from_micros(10);

/// Returns the value of a key if it is in `range`. Otherwise reports a problem and returns the
/// default.
pub(super) fn ranged<T: PartialOrd + Copy>(
    said: &Maybe<T>,
    range: RangeInclusive<T>,
    default: T,
    show: impl Fn(T) -> String,
    report: &ProblemReport<'_>,
) -> T {
    let Some(said) = said else { return default };
    if range.contains(&said.value) {
        return said.value;
    }
    let right = format!("from {} to {}", show(*range.start()), show(*range.end()));
    report.wrong_at(said, show(said.value), right);
    default
}

/// Returns a duration as text, as a user writes it in the file, such as `10ms`.
pub(super) fn show_duration(duration: Duration) -> String {
    humantime::format_duration(duration).to_string()
}

/// Returns a number as text, as a user writes it in the file.
pub(super) fn show_number(number: impl Display) -> String {
    number.to_string()
}

/// Whether a name occurs for the first time. `lines` contains the line number of each earlier name;
/// a new name is added to it. A name that occurs a second time is reported.
pub(super) fn once<'f>(
    name: &'f Said<impl Deref<Target = str>>,
    lines: &mut HashMap<&'f str, usize>,
    what: &str,
    report: &ProblemReport<'_>,
) -> bool {
    if let Some(first) = lines.get(&*name.value) {
        let found = format!("a second {what} {:?}, the first is on line {first}", &*name.value);
        report.wrong_at(name, found, "another name");
        return false;
    }
    lines.insert(&name.value, name.line);
    true
}

/// Reports the key `said` if the file has it, because a point of this kind must not have it.
pub(super) fn unwanted<T>(said: &Maybe<T>, found: &str, right: &str, report: &ProblemReport<'_>) {
    if let Some(said) = said {
        report.wrong_at(said, found, format!("this key only {right}"));
    }
}

/// Returns a budget, or `default` if the key is absent. Reports a budget that is longer than the
/// scan period or shorter than [`LEAST_BUDGET`], and then returns `default`.
pub(super) fn budget(
    said: &Maybe<Duration>,
    period: Duration,
    default: Duration,
    report: &ProblemReport<'_>,
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
