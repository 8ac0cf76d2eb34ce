//! The view of a plugin's versions, for `camshaft versions` and the JSON answers.
//!
//! `daemon/plugins/version.rs` and `daemon/plugins/store.rs` collect the facts. The view of the
//! plugin itself is in `plugin.rs`. The rules for all views are in `status.rs`.

use serde::{Deserialize, Serialize};

/// Whether a version may be used for a rollback.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Soundness {
    /// The version has completed its probation and has not trapped since. If an operator releases a
    /// bad version and the version then completes its probation, it is good again. A stored version
    /// without a record also counts as good.
    Good,
    /// The version has completed its probation, but no plugin owns an output that an older good
    /// version owned. A version that has run for one day in total is not doubtful.
    Doubtful,
    /// The version has trapped, or the daemon has put it in quarantine. A trap before the end of
    /// the first probation counts only until the version completes this probation.
    Bad,
    /// The version has not completed its probation.
    Unproven,
}

/// The view of one version. The daemon stores the bytes of the version, or has a record about the
/// version, or has both.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionView {
    /// The BLAKE3 hash of the version's bytes, 64 hexadecimal digits.
    pub hash: String,
    /// Whether the daemon has the version's bytes on its disk. Only a stored version can be used
    /// for a rollback.
    pub kept: bool,
    /// Whether this version is the content of the plugin's `.wasm` file.
    pub in_file: bool,
    /// Whether this version runs now.
    pub runs: bool,
    /// The time of the first start of the version, in UTC and RFC 3339 format; `null` if the time
    /// is not known.
    pub started: Option<String>,
    /// The total time that the version ran in the scan, in whole seconds.
    pub ran_s: u64,
    /// The time when the version last left the scan, in UTC and RFC 3339 format. `null` while the
    /// version runs, and if the time is not known.
    pub ended: Option<String>,
    /// The reason why the version last left the scan. `null` while the version runs, and if the
    /// reason is not known.
    pub end: Option<String>,
    /// Whether the version may be used for a rollback.
    pub soundness: Soundness,
    /// The reason why the version is bad or doubtful; `null` if it is neither.
    pub reason: Option<String>,
    /// Whether the version is in quarantine. The daemon does not run it until a release.
    pub quarantined: bool,
}

/// The remaining probation of a program. The probation ends when both numbers are 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbationView {
    /// Milliseconds until the minimum time of the probation is over; 0 after that.
    pub ms: u64,
    /// The number of polls that must still return without a trap.
    pub polls: u64,
}
