//! `[recovery]`: after how many ends that were not orderly no plugin is run.
//!
//! How ends are counted is in `daemon/recovery.rs`.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::check::{ranged, show_duration, show_number};
use super::file::RecoveryFile;
use super::problem::Report;

/// When plugins must wait for an operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecoverySettings {
    /// So many abnormal ends lead to recovery; 0: no number does.
    pub ends: u32,
    /// So many power cuts do; 0: no number does.
    pub power_cuts: u32,
    /// Abnormal ends of one boot count for so long, and a life of this length clears all counts.
    pub within: Duration,
}

impl Default for RecoverySettings {
    /// One abnormal end is bad luck and two are a coincidence. A daemon that lives longer than ten
    /// minutes between two of them controls its machine most of the time, and a machine that stands
    /// still would be worse; so would one that stands still because the mains failed.
    fn default() -> Self {
        Self { ends: 3, power_cuts: 0, within: Duration::from_secs(600) }
    }
}

/// Whoever wants more than 100 wants 0.
const ENDS: RangeInclusive<u64> = 0..=100;

/// Below 1 s a daemon that falls over in its start would clear its own count.
const WITHIN: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(86_400);

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
