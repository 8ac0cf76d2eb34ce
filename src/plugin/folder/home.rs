//! Which folder is the plugin folder, told from another one of the same name.
//!
//! A mount that goes away leaves another folder under its name, and no event says so. The folder's
//! thread notes here which one it has looked at; whoever puts a file there compares right before. A
//! file in a mount point would make it a folder of plugins, and the end of all that run on. What a
//! lost folder means is in `keeper.rs`.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

/// Tells a folder from its successor of the same name. The inode alone does not: it is reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Identity {
    dev: u64,
    ino: u64,
    born: Option<SystemTime>,
}

impl Identity {
    pub(super) fn of(dir: &Path) -> io::Result<Self> {
        let meta = fs::metadata(dir)?;
        Ok(Self { dev: meta.dev(), ino: meta.ino(), born: meta.created().ok() })
    }
}

/// The folder that was looked at last and was not lost; none before the first look. Written by the
/// folder's thread, read by whoever puts a file there.
#[derive(Debug, Default)]
pub struct Home(Mutex<Option<Identity>>);

impl Home {
    pub(super) fn get(&self) -> Option<Identity> {
        *self.lock()
    }

    pub(super) fn set(&self, identity: Identity) {
        *self.lock() = Some(identity);
    }

    /// Whether `dir` is still the folder that was looked at. May wait for the file system.
    ///
    /// # Errors
    /// It is another one, or cannot be looked at.
    pub(super) fn check(&self, dir: &Path) -> io::Result<()> {
        let found = Identity::of(dir)?;
        match self.get() {
            Some(home) if home != found => Err(io::Error::other(
                "it is another folder than a moment ago, perhaps because its file system is not \
                 mounted any more; a file there would stop what runs on from the folder before",
            )),
            _ => Ok(()),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Identity>> {
        // It is copied as a whole, so a panic elsewhere does not spoil it.
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
