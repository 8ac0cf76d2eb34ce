//! The state of a file on the disk, by which a change shows.
//!
//! When to look, and what a change means, is for those who look. What a file says is never decided
//! by its stamp alone.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// The state of a file. A file that was written or replaced has another one; one that cannot be
/// looked at has the default.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stamp {
    /// The file system that it is on.
    pub device: u64,
    /// Its number there.
    pub inode: u64,
    /// Its length.
    pub bytes: u64,
    /// When its contents changed: seconds and nanoseconds.
    pub modified: (i64, i64),
    /// When anything about it changed, likewise.
    pub changed: (i64, i64),
}

impl Stamp {
    /// The state of the file at `path`; `None` if there is none that can be looked at.
    pub fn of(path: &Path) -> Option<Self> {
        std::fs::metadata(path).ok().map(|file| Self::from(&file))
    }
}

impl From<&Metadata> for Stamp {
    fn from(file: &Metadata) -> Self {
        Self {
            device: file.dev(),
            inode: file.ino(),
            bytes: file.size(),
            modified: (file.mtime(), file.mtime_nsec()),
            changed: (file.ctime(), file.ctime_nsec()),
        }
    }
}
