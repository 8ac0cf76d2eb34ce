//! The identity of the plugin folder, by which it is told from another folder of the same name.
//!
//! When a mount goes away, another folder appears under its name, and no event reports this. The
//! folder's thread notes here which folder it has looked at. A publisher compares the identity
//! right before it puts a file there. Without the comparison, a new file in an empty mount point
//! would make that a folder of plugins, and all running plugins would count as gone. This file does
//! not decide when the folder is lost: `folder/keeper.rs` does.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;
use std::{fs, io};

/// The identity of a folder. The inode alone is not enough: it is reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Identity {
    /// The device number of the file system.
    dev: u64,
    /// The inode number of the folder.
    ino: u64,
    /// When the folder was made, if the file system knows that.
    born: Option<SystemTime>,
}

impl Identity {
    pub(super) fn of(dir: &Path) -> io::Result<Self> {
        let meta = fs::metadata(dir)?;
        Ok(Self { dev: meta.dev(), ino: meta.ino(), born: meta.created().ok() })
    }
}

/// The identity of the folder that was looked at last and was not lost; none before the first look.
/// The folder's thread writes it, and publishers read it.
#[derive(Debug, Default)]
pub struct Home(Mutex<Option<Identity>>);

impl Home {
    pub(super) fn get(&self) -> Option<Identity> {
        *self.lock()
    }

    pub(super) fn set(&self, identity: Identity) {
        *self.lock() = Some(identity);
    }

    /// Checks that `dir` is still the folder that was looked at. The call may wait for the file
    /// system.
    ///
    /// # Errors
    /// `dir` is another folder, or cannot be examined.
    pub(super) fn check(&self, dir: &Path) -> io::Result<()> {
        let found = Identity::of(dir)?;
        match self.get() {
            Some(home) if home != found => Err(io::Error::other(
                "it is another folder than a moment ago, perhaps because its file system is not \
                 mounted any more; a file there would stop all plugins that run on from the \
                 folder before",
            )),
            _ => Ok(()),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Identity>> {
        // A poisoned lock is no damage, because the value is copied as a whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_folder_of_the_same_name_is_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        let (here, other) = (dir.path().join("here"), dir.path().join("other"));
        fs::create_dir(&here).unwrap();
        fs::create_dir(&other).unwrap();
        let home = Home::default();
        home.check(&here).expect("any folder will do before the first look");
        home.set(Identity::of(&here).unwrap());
        home.check(&here).unwrap();
        fs::rename(&here, dir.path().join("away")).unwrap();
        assert!(home.check(&here).is_err(), "there is none");
        fs::rename(&other, &here).unwrap();
        let why = home.check(&here).unwrap_err().to_string();
        assert!(why.contains("another folder than a moment ago"), "{why}");
    }
}
