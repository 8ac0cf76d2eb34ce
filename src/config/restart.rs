//! The section `[plugins.restart]`: when the daemon starts a program again after a trap.
//!
//! The first restart is immediate. The second restart waits for `first`, and each further trap
//! doubles the wait, up to `max`. After `traps` traps within the time `within`, the module (the
//! content of the plugin's `.wasm` file) is quarantined. `on_quarantine` selects what runs during
//! quarantine: the last good version, or no version, with safe outputs.
//!
//! This file only reads and checks the keys. The defaults are those of [`RestartPolicy`], because
//! the tests of the supervisor use the same defaults. `supervisor/history.rs` implements the rule.
//!
//! The section in a file, with its defaults:
//!
//! ```toml
//! [plugins.restart]
//! first = "100ms"
//! max = "30s"
//! traps = 5
//! within = "60s"
//! on_quarantine = "last_good"   # or "safe": no version runs, and the outputs are safe
//! ```

use std::ops::RangeInclusive;
use std::time::Duration;

use super::check::{ranged, show_duration, show_number};
use super::file::RestartFile;
use super::problem::ProblemReport;
use crate::supervisor::RestartPolicy;

/// Range of `plugins.restart.within`. Consider a program that traps at each of its starts. With a
/// window below 1 s, the time between two traps could be longer than the window. Each trap would
/// then be the first trap in its window, and each restart would be immediate.
const WITHIN: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(3600);

/// Range of `plugins.restart.first`, the first wait. Each trap doubles the wait. Zero is not
/// allowed, because zero doubled is zero, so the wait would never grow.
const FIRST: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(3600);

/// Range of `plugins.restart.max`, the longest wait. If `traps` is large and `within` is short, a
/// program that always traps is never quarantined. With a longest wait of 50 ms, such a program is
/// started at most twenty times a second.
const MAX: RangeInclusive<Duration> = Duration::from_millis(50)..=Duration::from_secs(3600);

/// Range of `plugins.restart.traps`. The upper limit is 100, because the daemon stores the time of
/// every trap in the window.
const TRAPS: RangeInclusive<u64> = 1..=100;

/// Returns the settings of `[plugins.restart]`. Reports the key `max` if it is shorter than the
/// first wait.
pub(super) fn restart(file: &RestartFile, report: &ProblemReport<'_>) -> RestartPolicy {
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
