//! The notes about unusual properties of a module. They are logged when the module is loaded for
//! the first time.
//!
//! `plugin/module/note.rs` finds these properties and puts them into words; this file only logs
//! them. `camshaft status` shows the notes as long as the module exists.

use super::Plugins;
use super::loader::Loaded;

impl Plugins {
    /// Logs the notes of a module once, also if the module does not run, because a note may say
    /// why.
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
