//! The section `[crash]`: whether the daemon makes crash reports of programs that trap.
//!
//! The contents of a crash report are defined in `crash.rs` of the crate, and the number of stored
//! crash reports is defined in `crash/store.rs`. The key is read in `file.rs`.
//!
//! The section in a file, with its default:
//!
//! ```toml
//! [crash]
//! record = true                 # false: no recording, and so no crash reports
//! ```

use super::file::CrashFile;

/// The section `[crash]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CrashSettings {
    /// Whether the daemon records, while it runs a program, the data that a crash report needs.
    pub record: bool,
}

/// Returns the settings of `[crash]`. The daemon records by default, because a trap without an
/// explanation costs more than the recording.
pub(super) fn crash(file: &CrashFile) -> CrashSettings {
    CrashSettings { record: file.record.as_ref().is_none_or(|said| said.value) }
}
