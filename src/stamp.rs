//! The state of a file on the disk, which changes with the file.
//!
//! The callers decide when to look at a file, and what a change means. No caller takes two contents
//! for equal because of a stamp alone.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// The state of a file. It changes when the file is written or replaced. Code that cannot look at a
/// file uses the default.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stamp {
    /// Number of the file system.
    pub device: u64,
    /// Number of the file in its file system.
    pub inode: u64,
    /// Length of the file in bytes.
    pub bytes: u64,
    /// When its contents changed, in seconds and nanoseconds.
    pub modified: (i64, i64),
    /// When its contents or its attributes changed, in seconds and nanoseconds.
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
