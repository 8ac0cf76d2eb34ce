//! The choice of the version that runs if the file is no good. The rule is the same while the
//! daemon runs and after a start.
//!
//! Over a start, the daemon remembers which modules were in quarantine and which version ran. The
//! version that ran goes on if the file is refused, as it would have without the start. If that
//! version is in quarantine, a good version takes its place. A hold is not remembered, because
//! it is an order; the configuration has a key for plugins that are held from the start.
//!
//! The supervisor chooses the version (`supervisor/plugin/target.rs`), `version.rs` knows which
//! versions are good, and `keep.rs` which versions are on the disk.

use std::time::Duration;

use super::Plugins;
use super::loader::{Module, Place};
use crate::config::Config;
use crate::control::{Code, Failure, Soundness};
use crate::plugin::ModuleHash;
use crate::text::first_of;

/// How long after the start a missing file may still come, because an editor that replaces a file
/// removes it for a moment. After this time the file counts as removed while the daemon was down.
/// The version that ran under its name then does not come back with the next file.
const START: Duration = Duration::from_secs(10);

impl Plugins {
    /// Tells the supervisor which versions may run instead of the file's, if these versions have
    /// changed.
    pub(in crate::daemon) fn offer_kept(&mut self, config: &Config) {
        self.forget_the_removed(config);
        let is_stale = self.store.is_stale || self.store.offered != self.record.versions.changes;
        if !is_stale || self.store.listed.is_none() {
            return;
        }
        let names: Vec<_> = self.supervisor.plugins().map(|(name, _)| name.to_owned()).collect();
        let versions = &self.record.versions;
        for name in names {
            let kept = self.store.of(&name);
            let of = |wanted| {
                let is_it = |hash: &&ModuleHash| versions.soundness(&name, **hash) == wanted;
                kept.iter().filter(is_it).copied().collect::<Vec<_>>()
            };
            let good = [of(Soundness::Good), of(Soundness::Doubtful)].concat();
            self.supervisor.keep(&name, good, versions.ran(&name));
        }
        (self.store.is_stale, self.store.offered) = (false, versions.changes);
    }

    /// Forgets the versions that ran before the start and whose files were removed while the daemon
    /// was down.
    fn forget_the_removed(&mut self, config: &Config) {
        if self.folder.since.elapsed() <= START {
            return;
        }
        // `names` also has a file that is being written or cannot be read, which is no plugin yet.
        let Some(files) = self.folder.watch.names() else { return };
        if self.folder.is_in_doubt(&files) {
            return self.tell_of_an_empty_folder(config);
        }
        let is_there = |name: &str| files.contains(name) || self.supervisor.plugin(name).is_some();
        for name in self.record.versions.forget_what_ran(is_there) {
            tracing::warn!(
                plugin = name,
                "{name}: its file was removed while the daemon was down; what ran before does not \
                 run any more"
            );
            self.record.removed(&name);
        }
    }

    /// Why a plugin folder without any plugin is suspicious: some plugins ran when the daemon
    /// ended. The folder may be an empty mount point, from which no file was removed.
    fn emptiness(&self) -> Option<String> {
        /// The largest number of names, because a log line has no room for more.
        const NAMED: usize = 5;
        let ran: Vec<_> = self.record.versions.have_run().collect();
        if ran.is_empty() || !self.folder.is_in_doubt(&*self.folder.watch.names()?) {
            return None;
        }
        let ran = first_of(&ran, NAMED);
        Some(format!(
            "holds no plugin, and {ran} ran before the start: is it mounted? If it is, confirm \
             that with `camshaft reload`"
        ))
    }

    /// What is wrong with the plugin folder, as text that follows the name of the folder.
    pub(in crate::daemon) fn folder_trouble(&self) -> Option<String> {
        self.folder.loss().map(ToString::to_string).or_else(|| self.emptiness())
    }

    /// Refuses at once an order to put a file into the folder, if the folder may not be the right
    /// one. If a file lay below a mount point, the plugins in the file system that belongs there
    /// would count as removed.
    pub(in crate::daemon) fn takes_files(&self) -> Result<(), Failure> {
        self.folder.takes_files()?;
        self.emptiness().map_or(Ok(()), |why| {
            Err(Failure::new(Code::Refused, format!("the plugin folder {why}")))
        })
    }

    /// Logs once that the plugin folder may be an empty mount point.
    fn tell_of_an_empty_folder(&mut self, config: &Config) {
        if self.folder.is_told_empty {
            return;
        }
        if let Some(why) = self.emptiness() {
            self.folder.is_told_empty = true;
            let folder = config.fixed.plugins.dir.display();
            tracing::error!(%folder, "{folder} {why}");
        }
    }

    /// The module with its bytes, or the places where its bytes may be.
    pub(in crate::daemon) fn module(
        &self,
        name: &str,
        hash: ModuleHash,
        config: &Config,
    ) -> Module {
        if let Some(module) = self.roster.modules.get(&hash) {
            return module.clone();
        }
        let is_file = self.supervisor.plugin(name).is_some_and(|view| view.file == Some(hash));
        // If it is not known which versions are kept, the loader asks the disk.
        let is_kept = self.store.of(name).contains(&hash) || self.store.doubt(name).is_some();
        let versions = self.store.versions.as_ref().filter(|_| is_kept);
        let kept = versions.map(|versions| Place::Kept(versions.clone(), name.to_owned()));
        let file = is_file.then(|| config.fixed.plugins.dir.join(format!("{name}.wasm")));
        Module::Away(kept.into_iter().chain(file.map(Place::File)).collect())
    }
}
