//! The section `[crash]`: reports of programs that trap.
//!
//! What a report has, and how many are kept, is in `crash.rs` of the crate. The key is read in
//! `file.rs`.

use super::file::CrashFile;

/// The section `[crash]`: reports of programs that trap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CrashSettings {
    /// Whether programs record what such a report needs.
    pub record: bool,
}

/// The settings of `[crash]`. Programs record by default: a trap that cannot be explained costs
/// more than the recording.
pub(super) fn crash(file: &CrashFile) -> CrashSettings {
    CrashSettings { record: file.record.as_ref().is_none_or(|said| said.value) }
}
