//! The section `[plugins.swap]`: how a new version of a plugin is tested, replaces the old version,
//! and is then observed.
//!
//! ```text
//! new file ─▶ shadow run (`shadow` polls) ─▶ swap (`budget`) ─▶ probation (`probation`, `polls`)
//! ```
//!
//! This file only reads and checks the keys. The defaults are those of [`SwapPolicy`]. The shadow
//! run is in `plugin/shadow.rs`. The swap and the rollback are in `scan/swap.rs`.
//!
//! The section in a file, with its defaults for a period of 10 ms:
//!
//! ```toml
//! [plugins.swap]
//! budget = "5ms"                # half of the period
//! probation = "5s"
//! polls = 100
//! rollback_state = "current"    # variables keep their values; or "snapshot": values at the swap
//! shadow = 0                    # no shadow run
//! admit_ratio = 0.7
//! require_equal = false
//! ```

use std::ops::RangeInclusive;
use std::time::Duration;

use super::check::{budget, ranged, show_duration, show_number};
use super::file::SwapFile;
use super::problem::ProblemReport;
use crate::plugin::SwapPolicy;

/// Range of `plugins.swap.probation`, up to one hour. A version that has run for an hour without a
/// trap does not need a longer probation. During probation, the old version stays in memory.
const PROBATION: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(3600);

/// Range of `plugins.swap.polls`: all numbers of 32 bits.
const PROBATION_POLLS: RangeInclusive<u64> = 0..=u32::MAX as u64;

/// Range of `plugins.swap.shadow` in polls. 100 000 polls take about a quarter of an hour at a
/// period of 10 ms. A longer trial should be done on another machine.
const SHADOW: RangeInclusive<u64> = 0..=100_000;

/// Returns the settings of `[plugins.swap]`. The budget cannot exceed `period`, the scan period.
pub(super) fn swap(file: &SwapFile, period: Duration, report: &ProblemReport<'_>) -> SwapPolicy {
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

/// Returns the share of the poll budget that a new version may use in the shadow run, such as 0.7.
/// In the shadow run, 99 of 100 polls must end within this share (p99).
fn admit_ratio(file: &SwapFile, default: f64, report: &ProblemReport<'_>) -> f64 {
    let Some(said) = &file.admit_ratio else { return default };
    if said.value > 0.0 && said.value <= 1.0 {
        return said.value;
    }
    report.wrong_at(said, show_number(said.value), "above 0 and at most 1, such as 0.7");
    default
}
