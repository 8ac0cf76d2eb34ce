//! The stamp of a file: numbers and timestamps of the file system that change when the file
//! changes.
//!
//! A caller compares the present stamp with an earlier stamp to find out whether the file may have
//! changed. The caller decides when to compare stamps, and what to do if they are different. Equal
//! stamps do not prove equal contents. So no caller treats two contents as equal only because their
//! stamps are equal.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

/// The stamp of a file. The stamp changes when the file is written or replaced. For a file that
/// does not exist or cannot be examined, a caller may use the default.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stamp {
    /// The kernel's number for the file system that contains the file (`st_dev`).
    pub device: u64,
    /// The number that identifies the file in its file system (`st_ino`).
    pub inode: u64,
    /// Length of the file in bytes.
    pub bytes: u64,
    /// Time of the last change of the content, as seconds and nanoseconds since 1970.
    pub modified: (i64, i64),
    /// Time of the last change of the content or the attributes, as seconds and nanoseconds since
    /// 1970.
    pub changed: (i64, i64),
}

impl Stamp {
    /// Returns the stamp of the file at `path`; `None` if the file does not exist or cannot be
    /// examined.
    pub fn of(path: &Path) -> Option<Self> {
        std::fs::metadata(path).ok().map(|file| Self::from(&file))
    }

    /// Returns the time from the last change of the file, or of its attributes, to `now`. Returns
    /// zero if the change is later than `now`, for example because the clock was set back.
    pub fn unchanged_for(&self, now: SystemTime) -> Duration {
        let (seconds, nanos) = self.modified.max(self.changed);
        let Ok(seconds) = u64::try_from(seconds) else { return Duration::ZERO };
        let change = SystemTime::UNIX_EPOCH + Duration::new(seconds, nanos as u32);
        now.duration_since(change).unwrap_or_default()
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
