//! Why a configuration file is not taken over.
//!
//! A file that is wrong is refused until it changes. One that gave no answer is read again: see
//! `reload.rs`.

/// Why the file cannot be read or used.
#[derive(Debug)]
pub(super) struct Unread {
    pub(super) why: String,
    /// Whether a file gave no answer in time, or the scan stands, so that another try may find
    /// nothing wrong.
    pub(super) is_late: bool,
}

impl From<String> for Unread {
    fn from(why: String) -> Self {
        Self { why, is_late: false }
    }
}
