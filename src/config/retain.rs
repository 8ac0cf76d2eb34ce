//! The section `[retain]`: variables that outlive the daemon.
//!
//! The variables themselves are read in `variable.rs`. How they come to the disk and back is in
//! `daemon/field/retain.rs` and in `retain.rs` of the crate.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::check::{ranged, show_duration};
use super::file::{RetainFile, VariableFile};
use super::problem::Report;
use crate::process::variable::Variable;
use crate::retain::{OnCorrupt, OnReadonly};

/// The section `[retain]`: variables that outlive the daemon.
#[derive(Debug, Clone, PartialEq)]
pub struct RetainSettings {
    /// The variables marked `retain = true` with their first values, in the order of the file.
    pub variables: Vec<(String, Variable)>,
    /// The longest time until a changed value is on disk, not counting the write itself.
    pub flush: Duration,
    /// What the daemon does when no retain file is whole.
    pub on_corrupt: OnCorrupt,
    /// What the daemon does when the state directory takes no writes.
    pub on_readonly: OnReadonly,
}

/// Range of `retain.flush`. A disk cannot flush more often than every 5 ms, and a value that is
/// written once an hour is hardly retained.
const FLUSH: RangeInclusive<Duration> = Duration::from_millis(5)..=Duration::from_secs(3600);

/// Default of `retain.flush`. 5 s make 6 million writes a year at most, and an operator still
/// remembers what was set in the last 5 s.
const DEFAULT_FLUSH: Duration = Duration::from_secs(5);

/// The settings of `[retain]`; `declared` are the `variables` of the file with their first values.
pub(super) fn retain(
    file: &RetainFile,
    variables: &[VariableFile],
    declared: &[(String, Variable)],
    report: &Report<'_>,
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
