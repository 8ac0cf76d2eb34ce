//! The modules that trapped too often, each under the name that it had.
//!
//! The same bytes under another name have other settings, and a chance of their own.

use std::collections::VecDeque;

use crate::plugin::ModuleHash;
use crate::plugin::folder::MAX_PLUGINS;

/// Modules that are remembered; the oldest is forgotten first. One for each plugin.
pub(super) const MAX_QUARANTINED: usize = MAX_PLUGINS;

/// Name and module, oldest first. It outlives the file, so bringing it back does not help.
#[derive(Debug, Default)]
pub(super) struct Quarantine(pub(super) VecDeque<(String, ModuleHash)>);

impl Quarantine {
    pub(super) fn contains(&self, name: &str, hash: ModuleHash) -> bool {
        self.0.iter().any(|(of, quarantined)| *quarantined == hash && of == name)
    }

    pub(super) fn add(&mut self, name: &str, hash: ModuleHash) {
        if self.contains(name, hash) {
            return;
        }
        if self.0.len() == MAX_QUARANTINED {
            self.0.pop_front();
        }
        self.0.push_back((name.to_owned(), hash));
    }

    pub(super) fn release(&mut self, name: &str) {
        self.0.retain(|(quarantined, _)| quarantined != name);
    }
}
