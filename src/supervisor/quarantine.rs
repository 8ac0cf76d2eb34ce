//! The modules that run again only by an order of the operator, each with the name of its plugin
//! and the reason.
//!
//! The supervisor puts a module in quarantine after too many traps, a trap on probation, or too
//! many failed attempts to create an instance. The quarantine is valid for one name. The module may
//! run under another name, because it may have other settings there.

use std::collections::{BTreeMap, VecDeque};

use crate::plugin::ModuleHash;
use crate::plugin::module::folder::MAX_PLUGINS;

/// The largest number of modules that are stored for one name. If the list is full, the oldest
/// module of the same name is dropped. So a plugin with many bad modules cannot displace the module
/// of another plugin. `daemon/plugins/version.rs` has the same limit for each plugin.
pub(super) const MAX_OF_ONE: usize = 16;

/// The largest number of names, including the names of removed plugins. If the list is full, one
/// name is dropped: the name under which no module was added for the longest time.
/// `daemon/plugins/version.rs` has the same limit.
const MAX_NAMES: usize = 2 * MAX_PLUGINS;

/// All modules in quarantine. An entry remains when the file is removed. If the same file is copied
/// back, its module is still in quarantine.
#[derive(Debug, Default)]
pub(super) struct Quarantine {
    names: BTreeMap<String, Modules>,
    /// The number of modules that were added since the start.
    count: u64,
}

/// The modules in quarantine of one name.
#[derive(Debug, Default)]
struct Modules {
    /// Each module with the reason, oldest first.
    all: VecDeque<(ModuleHash, String)>,
    /// The value of `Quarantine::count` when the newest module was added.
    last: u64,
}

impl Quarantine {
    /// Whether this module is in quarantine under that name.
    pub(super) fn contains(&self, name: &str, hash: ModuleHash) -> bool {
        self.why(name, hash).is_some()
    }

    /// Returns the reason why this module is in quarantine; `None` if the module is not in
    /// quarantine.
    pub(super) fn why(&self, name: &str, hash: ModuleHash) -> Option<&str> {
        self.of(name).find(|(of, _)| *of == hash).map(|(_, why)| why)
    }

    /// Returns the modules in quarantine under that name, each with the reason.
    pub(super) fn of(&self, name: &str) -> impl Iterator<Item = (ModuleHash, &str)> {
        let all = self.names.get(name).into_iter().flat_map(|modules| &modules.all);
        all.map(|(hash, why)| (*hash, &**why))
    }

    /// Puts a module in quarantine under that name. If the module is already in quarantine, the
    /// first reason remains.
    pub(super) fn add(&mut self, name: &str, hash: ModuleHash, why: String) {
        if self.contains(name, hash) {
            return;
        }
        if !self.names.contains_key(name) && self.names.len() == MAX_NAMES {
            let oldest = self.names.iter().min_by_key(|(_, modules)| modules.last);
            if let Some(oldest) = oldest.map(|(name, _)| name.clone()) {
                self.release(&oldest);
            }
        }
        self.count += 1;
        let modules = self.names.entry(name.to_owned()).or_default();
        if modules.all.len() == MAX_OF_ONE {
            modules.all.pop_front();
        }
        modules.all.push_back((hash, why));
        modules.last = self.count;
    }

    /// Ends the quarantine of all modules of that name.
    pub(super) fn release(&mut self, name: &str) {
        self.names.remove(name);
    }

    /// Ends the quarantine of this module under that name.
    pub(super) fn release_one(&mut self, name: &str, hash: ModuleHash) {
        let Some(modules) = self.names.get_mut(name) else { return };
        modules.all.retain(|(of, _)| *of != hash);
        if modules.all.is_empty() {
            self.release(name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(n: usize) -> ModuleHash {
        ModuleHash::of(&n.to_le_bytes())
    }

    /// A defect of the past: a plugin with many bad modules displaced the entry of another plugin,
    /// whose bad file then ran again.
    #[test]
    fn each_name_has_a_place_of_its_own() {
        let mut quarantine = Quarantine::default();
        quarantine.add("quiet", hash(0), "it trapped".into());
        for n in 0..10 * MAX_PLUGINS {
            quarantine.add("busy", hash(n), "it trapped".into());
        }
        assert!(quarantine.contains("quiet", hash(0)));
        assert_eq!(quarantine.of("busy").count(), MAX_OF_ONE);
        assert!(
            quarantine.contains("busy", hash(10 * MAX_PLUGINS - 1)),
            "the newest module remains"
        );
        // The test adds as many names as are known after a start, in alphabetical order.
        for n in 0..MAX_NAMES {
            quarantine.add("busy", hash(n), "it trapped".into());
            quarantine.add(&format!("p{n}"), hash(n), "it trapped".into());
        }
        assert!(!quarantine.contains("quiet", hash(0)), "the oldest name is dropped");
        assert_eq!(quarantine.of("busy").count(), MAX_OF_ONE);
        let all: usize = quarantine.names.values().map(|modules| modules.all.len()).sum();
        assert_eq!(all, MAX_OF_ONE + MAX_NAMES - 1);
    }
}
