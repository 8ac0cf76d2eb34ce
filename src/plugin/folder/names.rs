//! Which names the plugin folder held at the last look.
//!
//! Whoever wonders about a plugin asks here whether it has a file at all: what is reported of files
//! comes later, when they have settled.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The names of plugins that have a file, or whatever else bears their name.
#[derive(Debug, Default)]
pub(super) struct Names {
    /// `None` while it is not known. Written by the folder's thread, read by whoever has the
    /// `Watch`; either holds the lock for the exchange of a pointer.
    held: Mutex<Option<Arc<BTreeSet<String>>>>,
}

impl Names {
    /// Takes in what the folder held just now.
    pub(super) fn set<'n>(&self, names: impl Iterator<Item = &'n str> + Clone) {
        let is_same = self.get().is_some_and(|held| names.clone().eq(held.iter().map(|n| &**n)));
        if !is_same {
            let held = Arc::new(names.map(str::to_owned).collect());
            *self.lock() = Some(held);
        }
    }

    /// It is not known any more what the folder holds.
    pub(super) fn forget(&self) {
        *self.lock() = None;
    }

    pub(super) fn get(&self) -> Option<Arc<BTreeSet<String>>> {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Option<Arc<BTreeSet<String>>>> {
        // A pointer is never half exchanged, so a panic elsewhere does not spoil it.
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
        assert!(Arc::ptr_eq(&first, &check(&["a", "b"])), "nothing is made anew for nothing new");
        check(&["a"]);
        names.forget();
        assert_eq!(names.get(), None);
    }
}
