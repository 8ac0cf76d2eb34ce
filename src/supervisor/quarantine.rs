//! The modules that trapped too often, each under the name that it had, with the reason.
//!
//! The same bytes under another name have other settings, and a chance of their own.

use std::collections::VecDeque;

use crate::plugin::ModuleHash;
use crate::plugin::folder::MAX_PLUGINS;

/// Modules that are remembered; the oldest is forgotten first. One for each plugin.
pub(super) const MAX_QUARANTINED: usize = MAX_PLUGINS;

/// One module.
#[derive(Debug)]
struct Entry {
    name: String,
    hash: ModuleHash,
    why: String,
}

/// Oldest first. It outlives the file, so bringing it back does not help.
#[derive(Debug, Default)]
pub(super) struct Quarantine(VecDeque<Entry>);

impl Quarantine {
    pub(super) fn contains(&self, name: &str, hash: ModuleHash) -> bool {
        self.why(name, hash).is_some()
    }

    /// Why this module is in quarantine, if it is.
    pub(super) fn why(&self, name: &str, hash: ModuleHash) -> Option<&str> {
        let found = self.0.iter().find(|entry| entry.hash == hash && entry.name == name);
        found.map(|entry| &*entry.why)
    }

    /// The modules of that name, and why.
    pub(super) fn of(&self, name: &str) -> impl Iterator<Item = (ModuleHash, &str)> {
        let all = self.0.iter().filter(move |entry| entry.name == name);
        all.map(|entry| (entry.hash, &*entry.why))
    }

    pub(super) fn add(&mut self, name: &str, hash: ModuleHash, why: String) {
        if self.contains(name, hash) {
            return;
        }
        if self.0.len() == MAX_QUARANTINED {
            self.0.pop_front();
        }
        self.0.push_back(Entry { name: name.to_owned(), hash, why });
    }

    /// Lets every module of that name run again.
    pub(super) fn release(&mut self, name: &str) {
        self.0.retain(|entry| entry.name != name);
    }

    /// Lets this module of that name run again.
    pub(super) fn release_one(&mut self, name: &str, hash: ModuleHash) {
        self.0.retain(|entry| entry.name != name || entry.hash != hash);
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}
