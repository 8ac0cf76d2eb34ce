//! The reason why a new configuration file is not taken over.
//!
//! If the file has an error, the daemon refuses the file until the file changes. If the file system
//! gave no answer, or if the scan was stalled, the daemon reads the file again after the pause
//! `AGAIN` in `reload.rs`.

/// The reason why the file cannot be read or used now.
#[derive(Debug)]
pub(super) struct Unread {
    /// The problem and its remedy.
    pub(super) why: String,
    /// Whether a later try may succeed although the file has not changed. The value is true if a
    /// file system gave no answer in time, or if the scan was stalled.
    pub(super) is_late: bool,
}

impl From<String> for Unread {
    fn from(why: String) -> Self {
        Self { why, is_late: false }
    }
}
