//! The notes about unusual properties of a module, logged when it is loaded for the first time.
//!
//! `plugin/module/note.rs` finds these properties and puts them into words. The status shows the
//! same for as long as the module exists.

use super::Plugins;
use super::loader::Loaded;

impl Plugins {
    /// Logs the notes once for each module, whether it runs or not: they may be why it does not.
    pub(in crate::daemon) fn say_notes(&mut self, loaded: &Loaded) {
        let (name, hash) = (&*loaded.name, loaded.hash);
        if !self.roster.learn(hash, &loaded.notes) {
            return;
        }
        for note in &loaded.notes {
            tracing::warn!(plugin = name, hash = format!("{hash:#}"), "{name}: {note}");
        }
    }
}
