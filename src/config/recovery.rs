//! The section `[recovery]`: after how many abnormal ends the daemon starts without plugins.
//!
//! In recovery the scan and the devices run, but no plugin runs and all outputs are safe. An
//! operator ends recovery with `camshaft recover`. There are two counts:
//! - abnormal ends: the daemon was killed, panicked or stalled, and the machine has not rebooted
//!   since,
//! - power cuts: the machine went down while the daemon ran.
//!
//! This file only reads and checks the limits. The ends are counted in
//! `daemon/plugins/recovery.rs`. The keys are read in `file.rs`.
//!
//! The section in a file, with its defaults:
//!
//! ```toml
//! [recovery]
//! ends = 3                      # the third abnormal end leads to recovery
//! power_cuts = 0                # power cuts never lead to recovery
//! within = "10m"                # older abnormal ends of this boot are not counted
//! ```

use std::ops::RangeInclusive;
use std::time::Duration;

use super::check::{ranged, show_duration, show_number};
use super::file::RecoveryFile;
use super::problem::ProblemReport;

/// The settings of `[recovery]`: the limits after which plugins wait for an operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecoverySettings {
    /// Number of abnormal ends after which recovery begins; 0 means never.
    pub ends: u32,
    /// Number of power cuts after which recovery begins; 0 means never.
    pub power_cuts: u32,
    /// An abnormal end in the present boot is counted for this time. An abnormal end in an earlier
    /// boot is counted until a daemon has run for this time. A daemon that has run for this time
    /// clears the count of power cuts.
    pub within: Duration,
}

impl Default for RecoverySettings {
    /// The limit is three abnormal ends within ten minutes, because one or two ends can be a
    /// coincidence. If a daemon runs for longer than ten minutes between two ends, it controls its
    /// machine most of the time. In recovery this machine would not run at all, which is worse than
    /// some short interruptions.
    ///
    /// By default, power cuts do not lead to recovery. A power cut says little about the quality of
    /// the programs. With a limit for power cuts, a few failures of the mains would stop the
    /// machine until an operator ends recovery.
    fn default() -> Self {
        Self { ends: 3, power_cuts: 0, within: Duration::from_secs(600) }
    }
}

/// Range of `recovery.ends` and `recovery.power_cuts`. A count above 100 is practically never
/// reached. So a limit above 100 would have the same effect as 0, which means never.
const ENDS: RangeInclusive<u64> = 0..=100;

/// Range of `recovery.within`. A daemon clears its counts when it has run for this time. With a
/// time below 1 s, a daemon that fails soon after its start would clear its counts before it fails,
/// and recovery would never begin.
const WITHIN: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(86_400);

/// Returns the settings of `[recovery]`.
pub(super) fn recovery(file: &RecoveryFile, report: &ProblemReport<'_>) -> RecoverySettings {
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
