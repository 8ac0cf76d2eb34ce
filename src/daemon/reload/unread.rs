//! The reason why a configuration file is not taken over.
//!
//! A wrong file is refused until the file changes. If a file gave no answer, the daemon reads it
//! again after a pause: `reload.rs` has the pause.

/// The reason why the file cannot be read or used.
#[derive(Debug)]
pub(super) struct Unread {
    /// The problem, with its remedy.
    pub(super) why: String,
    /// Whether a later try may succeed without a change of the file: a file gave no answer in time,
    /// or the scan stands.
    pub(super) is_late: bool,
}

impl From<String> for Unread {
    fn from(why: String) -> Self {
        Self { why, is_late: false }
    }
}
