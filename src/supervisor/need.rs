//! The modules that the supervisor may ask for again. The daemon keeps their bytes in memory for
//! that.
//!
//! A module that was refused and never ran is not among them, because another try reads it from its
//! file. `daemon/plugins/roster.rs` drops all other modules.

use super::Supervisor;
use super::plugin::Plugin;
use crate::plugin::ModuleHash;

impl Supervisor {
    /// The modules in files, the modules that run, stand by or are on their way into the scan, and
    /// the modules that ran last. A module may be named twice.
    pub fn needed(&self) -> impl Iterator<Item = ModuleHash> {
        let wanted = |plugin: &Plugin| plugin.file_hash().into_iter().chain(plugin.next_hash());
        self.plugins.values().flat_map(move |plugin| wanted(plugin).chain(plugin.have_run()))
    }

    /// Whether this module runs, stands by or ran last, in any plugin. The module's file may be
    /// gone by now or hold other bytes; the supervisor may start the module again all the same.
    pub fn has_run(&self, hash: ModuleHash) -> bool {
        self.plugins.values().any(|plugin| plugin.have_run().any(|ran| ran == hash))
    }
}
