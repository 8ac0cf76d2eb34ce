//! The identity of the plugin folder. The identity shows whether another folder is now at the same
//! path.
//!
//! When a file system is no longer mounted, another folder, the empty mount point, appears at the
//! path. No event reports this. So the folder's thread records here the identity of the folder that
//! it has listed last. A thread that publishes a file compares the identity immediately before it
//! puts the file into the folder. Without this comparison, the new file could be put into the empty
//! mount point. The mount point would then count as the plugin folder, and all running plugins
//! would be reported as gone. The code here does not decide when the folder is lost:
//! `folder/keeper.rs` does.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;
use std::{fs, io};

/// The identity of a folder. The inode number alone is not enough, because the file system reuses
/// the numbers of deleted folders.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Identity {
    /// The device number of the file system.
    dev: u64,
    /// The inode number of the folder.
    ino: u64,
    /// The time when the folder was created, if the file system stores this time.
    born: Option<SystemTime>,
}

impl Identity {
    pub(super) fn of(dir: &Path) -> io::Result<Self> {
        let meta = fs::metadata(dir)?;
        Ok(Self { dev: meta.dev(), ino: meta.ino(), born: meta.created().ok() })
    }
}

/// The identity of the folder when it was last listed and not lost; `None` before the first
/// listing. The folder's thread writes the identity, and threads that publish files read it.
#[derive(Debug, Default)]
pub struct Home(Mutex<Option<Identity>>);

impl Home {
    pub(super) fn get(&self) -> Option<Identity> {
        *self.lock()
    }

    pub(super) fn set(&self, identity: Identity) {
        *self.lock() = Some(identity);
    }

    /// Checks that `dir` is still the folder that the folder's thread has listed last. Before the
    /// first listing, every folder passes the check. The call may block until the file system
    /// answers.
    ///
    /// # Errors
    /// `dir` is another folder than the folder that was listed last, or cannot be examined.
    pub(super) fn check(&self, dir: &Path) -> io::Result<()> {
        let found = Identity::of(dir)?;
        match self.get() {
            Some(home) if home != found => Err(io::Error::other(
                "it is not the folder that the daemon listed last, perhaps because a file system \
                 is not mounted any more; the file is not written, because a file in the new \
                 folder would stop all plugins of the previous folder",
            )),
            _ => Ok(()),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Identity>> {
        // If a thread has panicked while it held the lock, the value is still valid, because it is
        // written in one step.
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
        home.check(&here).expect("before the first pass every folder is accepted");
        home.set(Identity::of(&here).unwrap());
        home.check(&here).unwrap();
        fs::rename(&here, dir.path().join("away")).unwrap();
        assert!(home.check(&here).is_err(), "no folder is at the path");
        fs::rename(&other, &here).unwrap();
        let why = home.check(&here).unwrap_err().to_string();
        assert!(why.contains("not the folder that the daemon listed last"), "{why}");
    }
}
