//! The configuration file on the disk: its text, and its state just before the text was read.
//!
//! What the text means is decided in `read.rs` and its neighbours. When to look at the file again
//! is decided in `daemon/reload`.

use std::io::{self, Read};
use std::path::Path;
use std::sync::LazyLock;

use crate::file;
use crate::patience::{self, PATIENCE, Places};
use crate::stamp::Stamp;

/// The largest configuration file: the most points there can be, at 512 bytes each.
const MAX_BYTES: u64 = 4 << 20;

/// Calls on the configuration file that may wait at the same time. A reload makes one call at a
/// time. After a few calls without an answer, the next one fails at once.
const MAX_CALLS: usize = 4;

/// The places of [`MAX_CALLS`] calls. A thread that waits outlives its caller, so the places belong
/// to the process.
static CALLS: LazyLock<Places> = LazyLock::new(|| Places::new(MAX_CALLS));

/// The state of the file at `path`, as [`Stamp::of`] gives it. The call takes [`PATIENCE`] at most.
///
/// # Errors
/// There is no answer in that time.
pub fn stamp(path: &Path) -> io::Result<Option<Stamp>> {
    let path = path.to_path_buf();
    patience::wait_in(&CALLS, PATIENCE, move || Ok(Stamp::of(&path)))
}

/// The text of the file, and its state before that was read. The call takes [`PATIENCE`] at most.
///
/// # Errors
/// The file cannot be read in that time, is no regular file, is too large or is no text.
pub(super) fn text(path: &Path) -> io::Result<(String, Stamp)> {
    let path = path.to_path_buf();
    patience::wait_in(&CALLS, PATIENCE, move || read(&path))
}

/// Reads the file on the calling thread, which may have to wait.
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
