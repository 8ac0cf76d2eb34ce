//! The section `[plugins.swap]`: how a new version is tried, takes over and proves itself.
//!
//! The defaults are those of [`SwapPolicy`]. What the keys do is in `scan/swap.rs` and
//! `plugin/shadow.rs`.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::check::{budget, ranged, show_duration, show_number};
use super::file::SwapFile;
use super::problem::Report;
use crate::plugin::SwapPolicy;

/// Range of `plugins.swap.probation`: a version that nothing is known against after an hour is not
/// on trial any more, and the version before it takes memory all that time.
const PROBATION: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(3600);

/// Range of `plugins.swap.polls`: all numbers that its type has.
const PROBATION_POLLS: RangeInclusive<u64> = 0..=u32::MAX as u64;

/// Range of `plugins.swap.shadow`: a quarter of an hour at a period of 10 ms. A longer trial
/// belongs elsewhere.
const SHADOW: RangeInclusive<u64> = 0..=100_000;

/// The settings of `[plugins.swap]`; `period` is that of the scan, which bounds the budget.
pub(super) fn swap(file: &SwapFile, period: Duration, report: &Report<'_>) -> SwapPolicy {
    let default = SwapPolicy::default();
    let polls = ranged(&file.polls, PROBATION_POLLS, default.polls.into(), show_number, report);
    let shadow = ranged(&file.shadow, SHADOW, default.shadow.into(), show_number, report);
    SwapPolicy {
        budget: budget(&file.budget, period, period / 2, report),
        probation: ranged(&file.probation, PROBATION, default.probation, show_duration, report),
        // The casts are safe: both ranges end at u32::MAX or below.
        polls: polls as u32,
        rollback_state: file.rollback_state.as_ref().map(|said| said.value).unwrap_or_default(),
        shadow: shadow as u32,
        admit_ratio: admit_ratio(file, default.admit_ratio, report),
        require_equal: file.require_equal.as_ref().is_some_and(|said| said.value),
    }
}

/// The part of the poll budget that a new version's p99 in the shadow run must not exceed.
fn admit_ratio(file: &SwapFile, default: f64, report: &Report<'_>) -> f64 {
    let Some(said) = &file.admit_ratio else { return default };
    if said.value > 0.0 && said.value <= 1.0 {
        return said.value;
    }
    report.wrong_at(said, show_number(said.value), "above 0 and at most 1, such as 0.7");
    default
}
