//! The section `[plugins.restart]`: when a program that trapped is started again.
//!
//! The defaults are those of [`RestartPolicy`], with which the supervisor is tested. What the keys
//! do is in `supervisor/history.rs`.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::check::{ranged, show_duration, show_number};
use super::file::RestartFile;
use super::problem::Report;
use crate::supervisor::RestartPolicy;

/// Range of `plugins.restart.within`. Consider a program that traps at each of its starts. Below 1
/// s its traps could be further apart than the window, and each restart would be a first one, which
/// comes at once.
const WITHIN: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(3600);

/// Range of `plugins.restart.first`. Zero doubled stays zero, and a wait that never grows is no
/// backoff.
const FIRST: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(3600);

/// Range of `plugins.restart.max`. A program that always traps is never quarantined if `traps` is
/// large and `within` short. With 50 ms it is started twenty times a second at most.
const MAX: RangeInclusive<Duration> = Duration::from_millis(50)..=Duration::from_secs(3600);

/// Range of `plugins.restart.traps`. The daemon remembers every trap in the window.
const TRAPS: RangeInclusive<u64> = 1..=100;

/// The settings of `[plugins.restart]`; the longest wait cannot be shorter than the first.
pub(super) fn restart(file: &RestartFile, report: &Report<'_>) -> RestartPolicy {
    let default = RestartPolicy::default();
    let first = ranged(&file.first, FIRST, default.delay, show_duration, report);
    let max = ranged(&file.max, MAX, default.delay_max.max(first), show_duration, report);
    if let (Some(said), true) = (&file.max, max < first) {
        let right = format!("at least `first`, which is {}", show_duration(first));
        report.wrong_at(said, show_duration(max), right);
    }
    let traps = ranged(&file.traps, TRAPS, default.traps.into(), show_number, report);
    RestartPolicy {
        delay: first,
        delay_max: max,
        // The cast is safe: TRAPS ends far below u32::MAX.
        traps: traps as u32,
        window: ranged(&file.within, WITHIN, default.window, show_duration, report),
        on_quarantine: file.on_quarantine.as_ref().map(|said| said.value).unwrap_or_default(),
    }
}
