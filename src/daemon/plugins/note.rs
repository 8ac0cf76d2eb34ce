//! The warnings about unusual properties of a module. The warnings are logged after the first
//! preparation of the module.
//!
//! `plugin/module/note.rs` finds these properties and has the texts of the warnings; `log_notes`
//! only logs the warnings. `camshaft status` shows them as long as the roster has them.

use super::Plugins;
use super::loader::Loaded;

impl Plugins {
    /// Logs the warnings of a module one time. The warnings are also logged if the module does not
    /// run, because a warning may explain the reason.
    pub(in crate::daemon) fn log_notes(&mut self, loaded: &Loaded) {
        let (name, hash) = (&*loaded.name, loaded.hash);
        if !self.roster.learn(hash, &loaded.notes) {
            return;
        }
        for note in &loaded.notes {
            tracing::warn!(plugin = name, hash = format!("{hash:#}"), "{name}: {note}");
        }
    }
}
