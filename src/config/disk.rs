//! The configuration file on the disk: its text, and the state by which a change shows.
//!
//! What the text says is read elsewhere, and so is when to look again.

use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// The largest configuration file: the most points there can be, at 512 bytes each.
const MAX_BYTES: u64 = 4 << 20;

/// The state of a file. A file that was written or replaced has another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    device: u64,
    inode: u64,
    bytes: u64,
    /// Its contents changed, and anything about it did: seconds and nanoseconds.
    modified: (i64, i64),
    changed: (i64, i64),
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

/// Reads the file, with its state before.
///
/// # Errors
/// When it cannot be read, is too large or is no text.
pub(super) fn text(path: &Path) -> io::Result<(String, Stamp)> {
    let mut text = String::new();
    let file = File::open(path)?;
    let stamp = Stamp::from(&file.metadata()?);
    let read = file.take(MAX_BYTES + 1).read_to_string(&mut text)?;
    if read as u64 > MAX_BYTES {
        let why = format!("it has more than {MAX_BYTES} bytes");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, why));
    }
    Ok((text, stamp))
}
