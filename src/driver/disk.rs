//! The files that plans of devices read: where plans wait for them, and what is said if they do not
//! answer.
//!
//! The files that a configuration names may be on a disk that does not answer. Therefore a thread
//! of its own makes the plan of such a device, within a time limit, and the number of such threads
//! is limited here. `registry.rs` makes the plans. Files that a device reads later, on its own
//! thread, are not handled here.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use super::OpenError;
use crate::patience::{self, Places};

/// A file that a device's configuration names: the key that names it, and the path.
pub(super) type Named = (&'static str, PathBuf);

/// The maximum number of plans that wait for the same files at one time. A reload makes one plan
/// after the other. After this many failed tries the answer is known without another one.
const MAX_PLANS: usize = 4;

/// The maximum number of groups of files for which plans wait at one time. A group is the files of
/// one device. Each new configuration may name other files. Each group has places of its own, so
/// files on a disk that hangs take no place from files on a disk that answers.
const MAX_GROUPS: usize = 32;

/// The waiting places of each group of files. The waiting threads outlive the device, so this
/// belongs to the process.
pub(super) static GROUPS: Groups = Groups(Mutex::new(BTreeMap::new()));

/// Waiting places, by the paths of a group's files. Every thread that plans a device changes them.
pub(super) struct Groups(Mutex<BTreeMap<Vec<PathBuf>, Places>>);

impl Groups {
    /// The waiting places for plans that need these files.
    pub(super) fn places(&self, files: &[Named]) -> io::Result<Places> {
        let files: Vec<_> = files.iter().map(|(_, path)| path.clone()).collect();
        // The map is never left half changed, so a panic in another thread does not spoil it.
        let mut groups = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        groups.retain(|_, places| !places.are_idle());
        if groups.len() >= MAX_GROUPS && !groups.contains_key(&files) {
            let why = format!("the files of {MAX_GROUPS} other devices still give no answer");
            return Err(patience::late(why));
        }
        Ok(groups.entry(files).or_insert_with(|| Places::new(MAX_PLANS)).clone())
    }
}

/// The error for files that do not answer, or that may not be waited for.
pub(super) fn no_answer(files: &[Named], error: &io::Error) -> OpenError {
    let keys: Vec<_> = files.iter().map(|(key, _)| *key).collect();
    let paths: Vec<_> = files.iter().map(|(_, path)| path.display().to_string()).collect();
    let found = format!("{}: {error}", paths.join(", "));
    OpenError::new(keys.join(", "), found, "files on a disk that answers").caused_by(error)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::mpsc::channel;
    use std::time::Duration;

    use super::*;

    /// The script of a device was on a disk that did not answer. After some reloads every other
    /// configuration was refused, even one on a disk that answers.
    #[test]
    fn files_that_hang_keep_no_others_out() {
        let groups = Groups(Mutex::default());
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
        assert!(patience::is_late(last.as_ref().unwrap_err()), "there are enough");
        of("/hung/script").expect("it waits already");
        drop(hold);
    }
}
