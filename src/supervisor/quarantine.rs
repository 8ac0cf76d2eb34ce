//! The modules that trapped too often, each under the name that it had, with the reason.
//!
//! The same bytes under another name have other settings, and a chance of their own.

use std::collections::VecDeque;

use crate::plugin::ModuleHash;
use crate::plugin::folder::MAX_PLUGINS;

/// Modules that are remembered of one name; its oldest is forgotten first, so that a busy plugin
/// pushes out no other's. As many as there are versions of which the daemon knows anything.
pub(super) const MAX_OF_ONE: usize = 16;

/// Names, those of plugins that are gone included, as many as there are histories of. The one whose
/// last module came first is forgotten first.
const MAX_NAMES: usize = 2 * MAX_PLUGINS;

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
        match self.of(name).count() {
            0 => self.make_room(),
            MAX_OF_ONE => {
                let oldest = self.0.iter().position(|entry| entry.name == name);
                self.0.remove(oldest.expect("they were just counted"));
            }
            _ => {}
        }
        self.0.push_back(Entry { name: name.to_owned(), hash, why });
    }

    /// Room for one more name.
    fn make_room(&mut self) {
        let mut newest_first: Vec<&str> = Vec::new();
        for Entry { name, .. } in self.0.iter().rev() {
            if !newest_first.contains(&&**name) {
                newest_first.push(name);
            }
        }
        if newest_first.len() >= MAX_NAMES
            && let Some(last) = newest_first.pop().map(str::to_owned)
        {
            self.release(&last);
        }
    }

    /// Lets every module of that name run again.
    pub(super) fn release(&mut self, name: &str) {
        self.0.retain(|entry| entry.name != name);
    }

    /// Lets this module of that name run again.
    pub(super) fn release_one(&mut self, name: &str, hash: ModuleHash) {
        self.0.retain(|entry| entry.name != name || entry.hash != hash);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(n: usize) -> ModuleHash {
        ModuleHash::of(&n.to_le_bytes())
    }

    /// One busy plugin pushed out what another had, whose bad file then ran again.
    #[test]
    fn each_name_has_a_place_of_its_own() {
        let mut quarantine = Quarantine::default();
        quarantine.add("quiet", hash(0), "it trapped".into());
        for n in 0..10 * MAX_PLUGINS {
            quarantine.add("busy", hash(n), "it trapped".into());
        }
        assert!(quarantine.contains("quiet", hash(0)));
        assert_eq!(quarantine.of("busy").count(), MAX_OF_ONE);
        assert!(quarantine.contains("busy", hash(10 * MAX_PLUGINS - 1)), "the newest stays");
        // As many names as are known after a start, in the order of the alphabet.
        for n in 0..MAX_NAMES {
            quarantine.add("busy", hash(n), "it trapped".into());
            quarantine.add(&format!("p{n}"), hash(n), "it trapped".into());
        }
        assert!(!quarantine.contains("quiet", hash(0)), "the oldest name goes");
        assert_eq!(quarantine.of("busy").count(), MAX_OF_ONE);
        assert_eq!(quarantine.0.len(), MAX_OF_ONE + MAX_NAMES - 1);
    }
}
