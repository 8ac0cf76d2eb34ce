//! The choice of the version that runs if the plugin's file is bad. The rule is the same while the
//! daemon runs and after a start.
//!
//! The daemon stores which modules are in quarantine and which version runs, so that the next start
//! knows both facts. If the file is refused after a start, the version that ran before runs again.
//! If the version that ran before is in quarantine, a good stored version runs instead. A hold by
//! an operator ends when the daemon ends; the key `hold` of the configuration holds a plugin from
//! the start.
//!
//! The supervisor chooses the version (`supervisor/plugin/target.rs`). `version.rs` knows which
//! versions are good, and `store.rs` knows which versions are on the disk.

use std::time::Duration;

use super::Plugins;
use super::bytes::{Module, ModuleSource};
use crate::config::Config;
use crate::control::{Code, Failure, Soundness};
use crate::plugin::ModuleHash;
use crate::text::first_of;

/// The time after the start in which a missing file may still appear, because an editor that
/// replaces a file removes the file for a moment. After this time, the daemon assumes that the file
/// was removed before the start. Then a later file of the same name does not bring back the version
/// that ran before.
const START: Duration = Duration::from_secs(10);

impl Plugins {
    /// First calls `forget_the_removed`. Then informs the supervisor which versions may run instead
    /// of the file's version, unless these versions have not changed or the disk has not listed the
    /// stored versions yet.
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
            self.supervisor.set_stored(&name, good, versions.ran(&name));
        }
        (self.store.is_stale, self.store.offered) = (false, versions.changes);
    }

    /// Forgets which version ran before the start, for plugins whose files were removed while the
    /// daemon was down.
    fn forget_the_removed(&mut self, config: &Config) {
        if self.folder.since.elapsed() <= START {
            return;
        }
        // `names` also has files that are being written or cannot be read. Such files are no
        // plugins yet.
        let Some(files) = self.folder.watch.names() else { return };
        if self.folder.is_in_doubt(&files) {
            return self.log_empty_folder(config);
        }
        let is_there = |name: &str| files.contains(name) || self.supervisor.plugin(name).is_some();
        for name in self.record.versions.forget_what_ran(is_there) {
            tracing::warn!(
                plugin = name,
                "{name}: its file was removed while the daemon was down; the version that ran \
                 until the daemon ended does not start"
            );
            self.record.removed(&name);
        }
    }

    /// Returns the reason why an empty plugin folder is suspicious: some plugins ran when the
    /// daemon ended. The folder may be an empty mount point, and then no file was removed.
    fn emptiness(&self) -> Option<String> {
        /// The largest number of names in the text, because a log line has no room for more.
        const NAMED: usize = 5;
        let ran: Vec<_> = self.record.versions.have_run().collect();
        if ran.is_empty() || !self.folder.is_in_doubt(&*self.folder.watch.names()?) {
            return None;
        }
        let ran = first_of(&ran, NAMED);
        Some(format!(
            "has no plugin, but {ran} ran before the start: is the file system of the folder \
             mounted? If not, mount it; if yes, confirm the empty folder with `camshaft reload`"
        ))
    }

    /// Returns the problem of the plugin folder, as text that follows the name of the folder.
    pub(in crate::daemon) fn folder_trouble(&self) -> Option<String> {
        self.folder.loss().map(ToString::to_string).or_else(|| self.emptiness())
    }

    /// Refuses at once an order to write a plugin file, if the folder does not answer, if another
    /// folder has replaced it, or if it may be an empty mount point. With a new file in the mount
    /// point, the daemon would treat all plugins of the missing file system as removed.
    pub(in crate::daemon) fn takes_files(&self) -> Result<(), Failure> {
        self.folder.takes_files()?;
        self.emptiness().map_or(Ok(()), |why| {
            Err(Failure::new(Code::Refused, format!("the plugin folder {why}")))
        })
    }

    /// Logs one time that the plugin folder may be an empty mount point.
    fn log_empty_folder(&mut self, config: &Config) {
        if self.folder.is_told_empty {
            return;
        }
        if let Some(why) = self.emptiness() {
            self.folder.is_told_empty = true;
            let folder = config.fixed.plugins.dir.display();
            tracing::error!(%folder, "{folder} {why}");
        }
    }

    /// Returns the module with its bytes, or the places where its bytes may be stored.
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
        // If the list of stored versions is not known, the loader searches the disk.
        let is_kept = self.store.of(name).contains(&hash) || self.store.doubt(name).is_some();
        let versions = self.store.versions.as_ref().filter(|_| is_kept);
        let kept = versions.map(|versions| ModuleSource::Kept(versions.clone(), name.to_owned()));
        let file = is_file.then(|| config.fixed.plugins.dir.join(format!("{name}.wasm")));
        Module::Away(kept.into_iter().chain(file.map(ModuleSource::File)).collect())
    }
}
