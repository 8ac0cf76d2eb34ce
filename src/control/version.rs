//! Versions of a plugin, as people see them: plain data, the same for the JSON and for the command
//! line.
//!
//! `daemon/plugins/version.rs` and `daemon/plugins/keep.rs` collect the facts. The plugin itself is
//! in `plugin.rs`; the rules of all views stand in `status.rs`.

use serde::{Deserialize, Serialize};

/// Whether a version is fit for a rollback.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Soundness {
    /// The version survived its probation and did not trap since.
    Good,
    /// The version is good, but it does not write an output that a good version before it wrote.
    Doubtful,
    /// The version trapped after its probation, or is in quarantine.
    Bad,
    /// The version's probation is not over, or never was.
    Unproven,
}

/// One version of a plugin: its bytes are kept, or something is known of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionView {
    /// BLAKE3 of the version's bytes, 64 hexadecimal digits.
    pub hash: String,
    /// Whether the version's bytes are kept, so that a rollback to it is possible.
    pub kept: bool,
    /// Whether the plugin's file holds this version.
    pub in_file: bool,
    /// Whether this version is polled.
    pub runs: bool,
    /// When the version started for the first time, in UTC as RFC 3339 writes it; `null` if that is
    /// not known.
    pub started: Option<String>,
    /// Whole seconds in the scan, over all the times that the version ran.
    pub ran_s: u64,
    /// When the version last left the scan, in UTC; `null` while it is there, and if that is not
    /// known.
    pub ended: Option<String>,
    /// The reason why the version last left the scan.
    pub end: Option<String>,
    /// Whether the version is fit for a rollback.
    pub soundness: Soundness,
    /// The reason why the version is bad or doubtful.
    pub reason: Option<String>,
    /// Whether the version is in quarantine: it is not run until a release.
    pub quarantined: bool,
}

/// What a program must still do to end its probation; both are needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbationView {
    /// Milliseconds until the time of probation is over; 0 if it is.
    pub ms: u64,
    /// Polls that must still return well.
    pub polls: u64,
}
