//! The reason why a new configuration file is not taken over.
//!
//! A file with an error is refused until the file changes. If a file gave no answer, the daemon
//! reads it again after a pause; `reload.rs` defines the pause.

/// The reason why the file cannot be read or used now.
#[derive(Debug)]
pub(super) struct Unread {
    /// The problem and its remedy.
    pub(super) why: String,
    /// Whether a later try may succeed although the file stays the same. The value is true if a
    /// file gave no answer in time, or if the scan was stalled.
    pub(super) is_late: bool,
}

impl From<String> for Unread {
    fn from(why: String) -> Self {
        Self { why, is_late: false }
    }
}
