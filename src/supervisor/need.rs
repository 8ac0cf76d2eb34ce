//! The modules that the supervisor may order again. The daemon must have the bytes of these modules
//! in memory.
//!
//! A stored version is in this list only if one of the conditions of [`Supervisor::needed`] is true
//! for it. For an attempt with any other stored version, the loader reads the bytes from the folder
//! of stored versions. `daemon/plugins/roster.rs` drops the bytes of all modules that are not in
//! this list.

use super::Supervisor;
use super::plugin::Plugin;
use crate::plugin::ModuleHash;

impl Supervisor {
    /// Returns the modules of all plugin files, and of all instances that are being created. Also
    /// returns the modules in the scan, on standby or in the queue to the scan, and the modules
    /// that ran last. The iterator may return a module twice.
    pub fn needed(&self) -> impl Iterator<Item = ModuleHash> {
        let wanted = |plugin: &Plugin| plugin.file_hash().into_iter().chain(plugin.next_hash());
        self.plugins.values().flat_map(move |plugin| wanted(plugin).chain(plugin.have_run()))
    }

    /// Whether this module is in the scan, in the queue to the scan or on standby, or ran last, in
    /// any plugin. The file of this module may be removed or changed, but the supervisor may still
    /// start the module again.
    pub fn has_run(&self, hash: ModuleHash) -> bool {
        self.plugins.values().any(|plugin| plugin.have_run().any(|ran| ran == hash))
    }
}
