//! The section `[recovery]`: the number of abnormal ends after which the daemon runs no plugin.
//!
//! How ends are counted is in `daemon/plugins/recovery.rs`. The keys are read in `file.rs`.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::check::{ranged, show_duration, show_number};
use super::file::RecoveryFile;
use super::problem::Report;

/// The settings of `[recovery]`: when plugins must wait for an operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecoverySettings {
    /// Number of abnormal ends that lead to recovery; 0: no number does.
    pub ends: u32,
    /// Number of power cuts that lead to recovery; 0: no number does.
    pub power_cuts: u32,
    /// How long an abnormal end counts within one boot. A daemon that lives this long clears all
    /// counts.
    pub within: Duration,
}

impl Default for RecoverySettings {
    /// Three abnormal ends within ten minutes: one is bad luck and two are a coincidence. A daemon
    /// that lives longer than ten minutes between two ends controls its machine most of the time; a
    /// machine that stands still would be worse. Power cuts do not count by default, because a
    /// machine that stands still after the mains failed would be worse as well.
    fn default() -> Self {
        Self { ends: 3, power_cuts: 0, within: Duration::from_secs(600) }
    }
}

/// Range of both counts. A number above 100 would mean what 0 means.
const ENDS: RangeInclusive<u64> = 0..=100;

/// Range of `recovery.within`. Below 1 s a daemon that fails during its start would clear its own
/// count.
const WITHIN: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(86_400);

/// The settings of `[recovery]`.
pub(super) fn recovery(file: &RecoveryFile, report: &Report<'_>) -> RecoverySettings {
    let default = RecoverySettings::default();
    let count = |said, default: u32| {
        // The cast is safe: ENDS ends far below u32::MAX.
        ranged(said, ENDS, default.into(), show_number, report) as u32
    };
    RecoverySettings {
        ends: count(&file.ends, default.ends),
        power_cuts: count(&file.power_cuts, default.power_cuts),
        within: ranged(&file.within, WITHIN, default.within, show_duration, report),
    }
}
