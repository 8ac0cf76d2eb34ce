//! Decides whether the name of a `.wasm` file may become the name of a plugin. The daemon calls
//! these functions when it finds a file in the plugin folder, and before it writes a file there.
//!
//! A bad name is refused before the file is written. The operator gets the refusal at once, and the
//! plugin folder gets no useless file. If the names of two files differ only in upper and lower
//! case, `plugin/module/folder/settle.rs` decides which file may be the plugin.

use super::plugin::File;
use super::{MAX_ENTRIES, Supervisor};
use crate::plugin::module::folder::{MAX_PLUGINS, plugin_name};
use crate::plugin::{ModuleHash, Refusal};

impl Supervisor {
    /// Returns the modules that are in quarantine under that name, each with the reason.
    pub fn quarantined(&self, name: &str) -> Vec<(ModuleHash, String)> {
        self.context.quarantine.of(name).map(|(hash, why)| (hash, why.to_owned())).collect()
    }

    /// Checks whether the supervisor would accept a file of that name.
    ///
    /// # Errors
    /// The name breaks the rules, the name differs from another plugin's name only in upper and
    /// lower case, or the limit on the number of plugins is reached.
    pub fn admits_name(&self, name: &str) -> Result<(), Refusal> {
        let own = self.plugins.get(name);
        if own.is_some_and(|plugin| plugin.file_hash().is_some()) {
            return Ok(());
        }
        // Each entry of the folder reserves its name, even if the entry is a folder, a link or a
        // file that is too large.
        let mut others = self.plugins.iter().filter(|(other, _)| *other != name);
        let rival = others
            .find(|(other, plugin)| other.eq_ignore_ascii_case(name) && plugin.keeps_its_name());
        if let Some((rival, _)) = rival {
            return Err(Refusal::new(
                format!("its name differs from {rival} only in upper and lower case"),
                format!("use the name {rival}, or choose another name"),
            ));
        }
        self.has_room_for(name)
    }

    /// Records that the folder has a file under that name, but that the name of another plugin
    /// differs from this name only in upper and lower case.
    ///
    /// # Errors
    /// The limit on the number of plugins is reached, or the name breaks the rules.
    pub fn folder_rival(&mut self, name: &str, refusal: Refusal) -> Result<(), Refusal> {
        self.entry(name)?.holds(File::Rival(refusal));
        Ok(())
    }

    /// Checks that the name follows the rules, that the limit on the number of plugins allows one
    /// more plugin, and that the supervisor has room for one more entry.
    pub(super) fn has_room_for(&self, name: &str) -> Result<(), Refusal> {
        plugin_name(name)?;
        let others = self.plugins.iter().filter(|(other, _)| *other != name);
        let taken = others.filter(|(_, plugin)| plugin.takes_a_place()).count();
        let is_new = !self.plugins.contains_key(name);
        if taken >= MAX_PLUGINS || (is_new && self.plugins.len() >= MAX_ENTRIES) {
            return Err(Refusal::new(
                format!("there are {MAX_PLUGINS} plugins already"),
                "remove the file of a plugin, or release plugins that are held and have no file",
            ));
        }
        Ok(())
    }
}
