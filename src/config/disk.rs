//! Reads the configuration file from the disk: its text, and its stamp (identity, size and
//! timestamps).
//!
//! Each call runs on a separate thread with a time limit, because a disk may not answer. The stamp
//! is taken before the text is read. If the file changes during the read, the next check of the
//! file finds a different stamp.
//!
//! The text is parsed in `read.rs`. `daemon/reload` decides when the file is read again.

use std::io::{self, Read};
use std::path::Path;
use std::sync::LazyLock;

use crate::file;
use crate::patience::{self, PATIENCE, Places};
use crate::stamp::Stamp;

/// The largest configuration file in bytes. The largest number of points, with 512 bytes for each
/// point, fits into this size.
const MAX_BYTES: u64 = 4 << 20;

/// The number of calls on the configuration file that may wait for the disk at the same time. A
/// reload makes one call at a time. If four calls hang, the next call fails at once.
const MAX_CALLS: usize = 4;

/// The counter of the calls that wait now, at most [`MAX_CALLS`]. The counter is global, because a
/// waiting thread may run for longer than its caller.
static CALLS: LazyLock<Places> = LazyLock::new(|| Places::new(MAX_CALLS));

/// Returns the stamp of the file at `path`, or `None` if the file cannot be inspected. The call
/// takes at most [`PATIENCE`].
///
/// # Errors
/// The disk does not answer within [`PATIENCE`], `MAX_CALLS` earlier calls still wait for the disk,
/// or no thread can start.
pub fn stamp(path: &Path) -> io::Result<Option<Stamp>> {
    let path = path.to_path_buf();
    patience::wait_in(&CALLS, PATIENCE, move || Ok(Stamp::of(&path)))
}

/// Returns the text of the file, and the stamp that the file had before the text was read. The call
/// takes at most [`PATIENCE`].
///
/// # Errors
/// The file cannot be read within [`PATIENCE`], is no regular file, is too large or is not valid
/// UTF-8. Or `MAX_CALLS` earlier calls still wait for the disk, or no thread can start.
pub(super) fn text(path: &Path) -> io::Result<(String, Stamp)> {
    let path = path.to_path_buf();
    patience::wait_in(&CALLS, PATIENCE, move || read(&path))
}

/// Reads the file on the calling thread, which may have to wait for the disk.
fn read(path: &Path) -> io::Result<(String, Stamp)> {
    let mut text = String::new();
    let file = file::open(path)?;
    let stamp = Stamp::from(&file.metadata()?);
    let read = file.take(MAX_BYTES + 1).read_to_string(&mut text)?;
    if read as u64 > MAX_BYTES {
        let why = format!("the file has more than {MAX_BYTES} bytes");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, why));
    }
    Ok((text, stamp))
}
