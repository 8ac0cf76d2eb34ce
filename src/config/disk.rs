//! The configuration file on the disk: its text, and its state before that was read.
//!
//! What the text says is read elsewhere, and so is when to look again.

use std::io::{self, Read};
use std::path::Path;
use std::sync::LazyLock;

use crate::file;
use crate::patience::{self, PATIENCE, Places};
use crate::stamp::Stamp;

/// The largest configuration file: the most points there can be, at 512 bytes each.
const MAX_BYTES: u64 = 4 << 20;

/// Calls on the configuration file that may wait at one time: a reload makes one at a time, and a
/// few are tried again before the answer is known beforehand.
const MAX_CALLS: usize = 4;

/// See [`MAX_CALLS`]. The threads outlive whoever asked, so this belongs to the process.
static CALLS: LazyLock<Places> = LazyLock::new(|| Places::new(MAX_CALLS));

/// The state of the file at `path`, as [`Stamp::of`] gives it. This takes [`PATIENCE`] at most.
///
/// # Errors
/// When there is no answer in that time.
pub fn stamp(path: &Path) -> io::Result<Option<Stamp>> {
    let path = path.to_path_buf();
    patience::wait_in(&CALLS, PATIENCE, move || Ok(Stamp::of(&path)))
}

/// Reads the file, with its state before. This takes [`PATIENCE`] at most.
///
/// # Errors
/// When it cannot be read in that time, is no regular file, is too large or is no text.
pub(super) fn text(path: &Path) -> io::Result<(String, Stamp)> {
    let path = path.to_path_buf();
    patience::wait_in(&CALLS, PATIENCE, move || read(&path))
}

fn read(path: &Path) -> io::Result<(String, Stamp)> {
    let mut text = String::new();
    let file = file::open(path)?;
    let stamp = Stamp::from(&file.metadata()?);
    let read = file.take(MAX_BYTES + 1).read_to_string(&mut text)?;
    if read as u64 > MAX_BYTES {
        let why = format!("it has more than {MAX_BYTES} bytes");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, why));
    }
    Ok((text, stamp))
}
