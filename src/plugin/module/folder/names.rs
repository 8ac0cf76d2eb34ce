//! The names of the plugins that had a file at the last pass over the folder. A file that has been
//! missing for less than the grace period is included.
//!
//! The daemon uses this list to find out whether a plugin has a file at all. The list does not show
//! whether the file is settled or valid. Reports about files come later, when the files have
//! settled (`folder/settle.rs`).

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The names of the plugins that have a file, or another entry under their name. The list also has
/// the names of misnamed files, in quotes.
#[derive(Debug, Default)]
pub(super) struct Names {
    /// The names; `None` while they are unknown. The folder's thread writes them, and the owner of
    /// the `Watch` reads them. Each thread holds the lock only while it copies or replaces a
    /// pointer.
    held: Mutex<Option<Arc<BTreeSet<String>>>>,
}

impl Names {
    /// Stores the names of the present files. If the names are the same as before, nothing changes.
    pub(super) fn set<'n>(&self, names: impl Iterator<Item = &'n str> + Clone) {
        let is_same = self.get().is_some_and(|held| names.clone().eq(held.iter().map(|n| &**n)));
        if !is_same {
            let held = Arc::new(names.map(str::to_owned).collect());
            *self.lock() = Some(held);
        }
    }

    /// Records that the names are unknown now.
    pub(super) fn forget(&self) {
        *self.lock() = None;
    }

    pub(super) fn get(&self) -> Option<Arc<BTreeSet<String>>> {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Option<Arc<BTreeSet<String>>>> {
        // If a thread has panicked while it held the lock, the pointer is still valid, because it
        // is replaced in one step.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_last_look() {
        let names = Names::default();
        assert_eq!(names.get(), None);
        let check = |held: &[&str]| {
            names.set(held.iter().copied());
            let found = names.get().unwrap();
            assert_eq!(found.iter().map(|n| &**n).collect::<Vec<_>>(), held);
            found
        };
        check(&[]);
        let first = check(&["a", "b"]);
        assert!(Arc::ptr_eq(&first, &check(&["a", "b"])), "equal names make no new list");
        check(&["a"]);
        names.forget();
        assert_eq!(names.get(), None);
    }
}
