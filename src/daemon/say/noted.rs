//! What is odd about a module: said when it is loaded for the first time.
//!
//! What that may be is found in `plugin/note.rs`, where it is put into words too; the status shows
//! the same for as long as the module is there.

use super::Daemon;
use crate::daemon::loader::Loaded;

impl Daemon {
    /// Says it once for each module, whether it runs or not: it may be why it does not.
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
