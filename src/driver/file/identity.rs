//! The identity of a file, and how far a call on a file has come. With these two, the driver finds
//! out that a path leads to another file than the one that a call waits for.
//!
//! A call on a file may never return: examples are a pipe that no program writes to, and a file of
//! a server that has gone. If another file then takes the place of this file, the driver gives up
//! the call and makes a new one. The thread of the old call goes on waiting, because no thread can
//! end another thread that waits in the kernel. If that thread continues later, it must not touch
//! the new file.
//!
//! ```text
//!   thread of the call:   find the path ── reaches(A) ── open ── reaches(A) ── read or write
//!   thread of the device: is_at(B)? no ── give_up ── new call ...
//! ```
//! `number.rs` makes the calls. `spot.rs` decides when a call is given up.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

/// The identity of a file: the device number of its file system, its inode number and its time of
/// creation. A file system may give the inode number of a deleted file to a new file. The time of
/// creation distinguishes the two, if the file system stores that time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Identity {
    device: u64,
    number: u64,
    began: Option<SystemTime>,
}

impl From<fs::Metadata> for Identity {
    fn from(known: fs::Metadata) -> Self {
        Self { device: known.dev(), number: known.ino(), began: known.created().ok() }
    }
}

/// How far a call on a file has come. The thread of the call and the thread of the device share
/// this value. Neither of them waits for a file while it has the lock.
#[derive(Debug, Default)]
pub(super) struct Progress(Mutex<State>);

/// The state of a call.
#[derive(Debug, Default)]
struct State {
    /// The file that the call opens or has opened. `None` while the call looks for the file. The
    /// thread of the call writes this field.
    reached: Option<Identity>,
    /// Whether the call must not touch a file any more. The device's thread writes this field.
    is_given_up: bool,
}

impl Progress {
    /// Records that the call has reached this file and now opens, reads or writes it.
    ///
    /// # Errors
    /// When the call was given up. The call then ends without touching the file.
    pub(super) fn reaches(&self, file: Identity) -> io::Result<()> {
        let mut state = self.state();
        if state.is_given_up {
            return Err(io::Error::other("the call was given up, because the file was replaced"));
        }
        state.reached = Some(file);
        Ok(())
    }

    /// Whether the call waits for this file.
    pub(super) fn is_at(&self, file: Identity) -> bool {
        self.state().reached == Some(file)
    }

    /// Gives up the call. If the call has not opened a file yet, it never reads or writes one.
    pub(super) fn give_up(&self) {
        self.state().is_given_up = true;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // The state is always valid, even after a panic: no code panics in the middle of a change.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_that_was_given_up_reaches_no_file() {
        let folder = tempfile::tempdir().unwrap();
        let identity = |name: &str| {
            let path = folder.path().join(name);
            fs::write(&path, "1").unwrap();
            Identity::from(fs::metadata(path).unwrap())
        };
        let (old, new) = (identity("old"), identity("new"));
        let progress = Progress::default();
        assert!(!progress.is_at(old), "it has reached no file yet");
        progress.reaches(old).unwrap();
        assert!(progress.is_at(old) && !progress.is_at(new));
        progress.give_up();
        assert!(progress.reaches(new).is_err());
        assert!(!progress.is_at(new));
    }
}
