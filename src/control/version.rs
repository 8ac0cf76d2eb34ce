//! Versions of a plugin, as people see them: plain data, the same for the JSON and the command
//! line.
//!
//! What it is made of is in `daemon/version.rs` and `daemon/keep.rs`.

use serde::{Deserialize, Serialize};

/// Whether a version may be gone back to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Soundness {
    /// It has survived its probation and did not trap since.
    Good,
    /// So it has, but it does not write an output that a good version before it wrote.
    Doubtful,
    /// It trapped after its probation, or is in quarantine.
    Bad,
    /// Its probation is not over, or never was.
    Unproven,
}

/// One version of a plugin: one that is kept, or of which something is known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionView {
    /// BLAKE3 of its bytes, 64 hexadecimal digits.
    pub hash: String,
    /// Whether its bytes are kept, so that it can be gone back to.
    pub kept: bool,
    /// Whether it is in the file.
    pub in_file: bool,
    /// Whether it is polled.
    pub runs: bool,
    /// When it started for the first time, in UTC: RFC 3339; `null` when that is not known.
    pub started: Option<String>,
    /// Whole seconds in the scan, all its times together.
    pub ran_s: u64,
    /// When it left the scan last, in UTC; `null` while it is there, and when that is not known.
    pub ended: Option<String>,
    /// Why it left the scan last.
    pub end: Option<String>,
    /// Whether it may be gone back to.
    pub soundness: Soundness,
    /// Why it is bad or doubtful.
    pub reason: Option<String>,
    /// Whether it is in quarantine: not run until a release.
    pub quarantined: bool,
}

/// What a program must still do to prove itself: both.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbationView {
    /// Milliseconds until its time is over; 0 when it is.
    pub ms: u64,
    /// Polls that must still return well.
    pub polls: u64,
}
