//! `disk.rs` limits how many plans may wait for a disk, and makes the error for files that cannot
//! be read. A plan (`Settings::plan` in `mod.rs`) checks the configuration of a device and makes
//! the device ready to start.
//!
//! Some devices name files in their configuration, such as certificates or a script. Such a file
//! may be on a disk that does not answer, and the plan of the device reads the file. This read must
//! not block the daemon. Therefore `registry.rs` makes the plan on a separate thread and waits for
//! a limited time. After the time limit, `registry.rs` reports an error, but the thread continues
//! to wait. `disk.rs` limits the number of these threads.
//!
//! `disk.rs` sets no limit for files that a running device reads on its own thread.

use std::io;
use std::path::PathBuf;

use super::OpenError;
use crate::patience::{self, Places, PlacesByKey};

/// A file that a device's configuration names: the key in the configuration, and the path.
pub(super) type Named = (&'static str, PathBuf);

/// The maximum number of plans that wait for the same files at the same time. Each reload starts a
/// new plan, even if earlier plans still wait. If this many plans already wait, the next plan fails
/// at once, because the disk will not answer that plan either.
const MAX_PLANS: usize = 4;

/// The maximum number of groups of files for which plans wait at the same time. A group is the list
/// of files of one device. Each new configuration may name files that no earlier configuration
/// named, so the number of groups needs a limit. Each group has its own waiting slots. Therefore
/// files on a disk that hangs cannot use the slots of files on a disk that answers.
const MAX_GROUPS: usize = 32;

/// The waiting slots of each group of files.
pub(super) static GROUPS: Groups = Groups(PlacesByKey::new(MAX_PLANS));

/// A map from the paths of the files of a group to the waiting slots of this group.
pub(super) struct Groups(PlacesByKey<Vec<PathBuf>>);

impl Groups {
    /// Returns the waiting slots for plans that need these files. Returns an error if plans already
    /// wait for [`MAX_GROUPS`] other groups.
    pub(super) fn places(&self, files: &[Named]) -> io::Result<Places> {
        let files: Vec<_> = files.iter().map(|(_, path)| path.clone()).collect();
        self.0.of_up_to(MAX_GROUPS, files).ok_or_else(|| {
            patience::late(format!(
                "not read, because the reads of {MAX_GROUPS} other devices wait for a disk"
            ))
        })
    }
}

/// Makes the error for files that could not be read. `error` is the reason: for example, the disk
/// did not answer in time, or no waiting slot was free.
pub(super) fn no_answer(files: &[Named], error: &io::Error) -> OpenError {
    let keys: Vec<_> = files.iter().map(|(key, _)| *key).collect();
    let paths: Vec<_> = files.iter().map(|(_, path)| path.display().to_string()).collect();
    let found = format!("{}: {error}", paths.join(", "));
    OpenError::new(keys.join(", "), found, "files on a disk that answers").caused_by(error)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    use super::*;

    /// In an earlier version, all groups shared their slots. The script of one device was on a disk
    /// that did not answer. After a few reloads the daemon refused every configuration with files,
    /// even files on a disk that answers.
    #[test]
    fn files_that_hang_keep_no_others_out() {
        let groups = Groups(PlacesByKey::new(MAX_PLANS));
        let of = |file: &str| groups.places(&[("script", PathBuf::from(file))]);
        let hung = of("/hung/script").unwrap();
        let (hold, held) = channel::<()>();
        let held = Arc::new(Mutex::new(held));
        for _ in 0..MAX_PLANS {
            let held = Arc::clone(&held);
            let hang = move || held.lock().unwrap().recv().map_err(io::Error::other);
            patience::wait_in(&hung, Duration::from_millis(1), hang).unwrap_err();
        }
        let limit = Duration::from_millis(10);
        let again = patience::wait_in(&of("/hung/script").unwrap(), limit, || Ok(())).unwrap_err();
        assert!(again.to_string().contains("4 earlier calls"), "{again}");
        patience::wait_in(&of("/sound/script").unwrap(), limit, || Ok(())).unwrap();
        let others: Vec<_> = (0..MAX_GROUPS).map(|n| of(&format!("/sound/{n}"))).collect();
        let (last, others) = others.split_last().unwrap();
        assert!(others.iter().all(Result::is_ok));
        assert!(
            patience::is_late(last.as_ref().unwrap_err()),
            "the number of groups is at its maximum"
        );
        of("/hung/script").expect("this group exists already");
        drop(hold);
    }
}
