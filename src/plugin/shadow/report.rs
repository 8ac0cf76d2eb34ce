//! The report of a shadow run. The daemon adds the report to receipts of orders (entries in the
//! history) and to the log, and the command line prints it.
//!
//! The report is plain data, and this file contains no decisions. `shadow/run.rs` fills the report
//! and decides whether the new version may take over.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::text::counted;

/// Largest number of differences in a report. The first differences are enough to show the fault.
pub const MAX_DIFFERENCES: usize = 8;

/// The measured values and differences of one shadow run.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ShadowReport {
    /// Number of polls of the new version that ended without a trap.
    pub polls: u64,
    /// Number of polls whose outputs were compared. After the first skipped poll, no more outputs
    /// are compared.
    pub compared: u64,
    /// Number of polls of the running version that the shadow run skipped, because the machine was
    /// too busy.
    pub dropped: u64,
    /// Number of compared cycles in which at least one output differed. If the new version never
    /// wrote an output of its seat, and the value of this output is not the safe value, the last
    /// compared cycle counts as one of these cycles.
    pub differing: u64,
    /// The CPU time within which 99 % of the polls ended, in nanoseconds.
    pub p99_ns: u64,
    /// Size of the saved state that the new version got for its `restore` at the beginning, in
    /// bytes; `null` if the new version began without a state.
    pub state_bytes: Option<u64>,
    /// The first differences, at most [`MAX_DIFFERENCES`].
    pub differences: Vec<Difference>,
    /// Reason why the run ended early; `null` if the run did not end early, or if it ended because
    /// `save`, `restore` or a poll trapped.
    pub cut_short: Option<String>,
}

/// An output point for which the two versions have different values.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Difference {
    /// The point's name.
    pub point: String,
    /// The number of the cycle in which the outputs differed.
    pub cycle: u64,
    /// The value after the poll of the running version, as text.
    pub running: String,
    /// The value after the poll of the new version, as text. If the new version has never written
    /// the output, the text says so and names the safe value.
    pub shadow: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { point, cycle, running, shadow } = self;
        write!(f, "{point} in cycle {cycle}: running version {running}, new version {shadow}")
    }
}

impl fmt::Display for ShadowReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let p99 = Duration::from_nanos(self.p99_ns);
        write!(f, "shadow run of {}, p99 {p99:.1?}, ", counted(self.polls, "poll"))?;
        match (self.differing, self.differences.first()) {
            (n, Some(first)) => {
                write!(f, "outputs differ in {}, first difference {first}", counted(n, "cycle"))?;
            }
            _ => write!(f, "outputs equal in {}", counted(self.compared, "cycle"))?,
        }
        if self.dropped > 0 {
            write!(f, ", {} skipped", counted(self.dropped, "poll"))?;
        }
        if let Some(why) = &self.cut_short {
            write!(f, ", ended early: {why}")?;
        }
        Ok(())
    }
}
