//! The configuration file on the disk: its text, and its state before that was read.
//!
//! What the text says is read elsewhere, and so is when to look again.

use std::io::{self, Read};
use std::path::Path;

use crate::file;
use crate::patience::{self, PATIENCE};
use crate::stamp::Stamp;

/// The largest configuration file: the most points there can be, at 512 bytes each.
const MAX_BYTES: u64 = 4 << 20;

/// Reads the file, with its state before. This takes [`PATIENCE`] at most.
///
/// # Errors
/// When it cannot be read in that time, is no regular file, is too large or is no text.
pub(super) fn text(path: &Path) -> io::Result<(String, Stamp)> {
    let path = path.to_path_buf();
    patience::wait(PATIENCE, move || read(&path))
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
