//! The section `[retain]`: the variables whose values outlive the daemon, and how they are stored.
//!
//! This file reads no values from the disk. The variables are declared in `variable.rs`. Their
//! values are written and restored in `daemon/field/retain.rs`, and the files are defined in
//! `retain.rs` of the crate.
//!
//! The section in a file, with its defaults:
//!
//! ```toml
//! [retain]
//! flush = "5s"                  # a changed value is written after 5 s at the latest
//! on_corrupt = "cold"           # start with first values; or "refuse": do not start
//! on_readonly = "start"         # start without writing; or "refuse": do not start
//! ```

use std::ops::RangeInclusive;
use std::time::Duration;

use super::check::{ranged, show_duration};
use super::file::{RetainFile, VariableFile};
use super::problem::ProblemReport;
use crate::process::variable::Variable;
use crate::retain::{OnCorrupt, OnReadonly};

/// The section `[retain]`.
#[derive(Debug, Clone, PartialEq)]
pub struct RetainSettings {
    /// The variables marked `retain = true` with their first values, in the order of the file.
    pub variables: Vec<(String, Variable)>,
    /// The longest time from the change of a value to the start of its write to disk.
    pub flush: Duration,
    /// Whether the daemon starts with first values or refuses to start, if retain files exist but
    /// none of them is intact.
    pub on_corrupt: OnCorrupt,
    /// Whether the daemon starts or refuses to start, if the state directory cannot be written.
    pub on_readonly: OnReadonly,
}

/// Range of `retain.flush`. A disk needs at least 5 ms for a flush. With more than one hour between
/// two writes, a power cut would lose too many changes.
const FLUSH: RangeInclusive<Duration> = Duration::from_millis(5)..=Duration::from_secs(3600);

/// Default of `retain.flush`. A write every 5 s makes about 6 million writes a year. After a power
/// cut, an operator remembers the values that were set in the last 5 s.
const DEFAULT_FLUSH: Duration = Duration::from_secs(5);

/// Returns the settings of `[retain]`. `declared` are the variables of the file with their first
/// values.
pub(super) fn retain(
    file: &RetainFile,
    variables: &[VariableFile],
    declared: &[(String, Variable)],
    report: &ProblemReport<'_>,
) -> RetainSettings {
    let is_retained = |name: &str| {
        let is_it = |variable: &&VariableFile| {
            variable.name.as_ref().is_some_and(|said| said.value == name)
        };
        let found = variables.iter().find(is_it).and_then(|variable| variable.retain.as_ref());
        found.is_some_and(|said| said.value)
    };
    RetainSettings {
        variables: declared.iter().filter(|(name, _)| is_retained(name)).cloned().collect(),
        flush: ranged(&file.flush, FLUSH, DEFAULT_FLUSH, show_duration, report),
        on_corrupt: file.on_corrupt.as_ref().map(|said| said.value).unwrap_or_default(),
        on_readonly: file.on_readonly.as_ref().map(|said| said.value).unwrap_or_default(),
    }
}
