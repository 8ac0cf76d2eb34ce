//! The stamp of a file on the disk: numbers and times that change when the file changes.
//!
//! The callers decide when to look at a file, and what a change means. No caller takes two contents
//! for equal because of a stamp alone.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// The stamp of a file. It changes when the file is written or replaced. For a file that cannot be
/// looked at, callers use the default.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stamp {
    /// Number of the file system.
    pub device: u64,
    /// Number of the file in its file system.
    pub inode: u64,
    /// Length of the file in bytes.
    pub bytes: u64,
    /// Time when the contents changed, in seconds and nanoseconds.
    pub modified: (i64, i64),
    /// Time when the contents or the attributes changed, in seconds and nanoseconds.
    pub changed: (i64, i64),
}

impl Stamp {
    /// The stamp of the file at `path`; `None` if there is no file, or if it cannot be looked at.
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
