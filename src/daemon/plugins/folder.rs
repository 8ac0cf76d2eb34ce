//! The plugin folder from the view of the daemon: changes of its files, the loss of the folder, and
//! the orders of operators about its files.
//!
//! ```text
//!   the watch's thread ── Change ──▶ folder_changed() ──┬──▶ supervisor: the hash of the file
//!                                                       ├──▶ roster: the bytes
//!   an operator ── remove() ──▶ call.rs ──▶ the file    └──▶ record: the history
//! ```
//! If the folder is lost, the running programs continue. One log line and `camshaft status` report
//! the loss. `plugin/module/folder.rs` watches the folder and decides when the folder is lost. The
//! calls that wait for files of the folder are in `call.rs`; a deploy is in `deploy.rs`.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Weak};

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::Plugins;
use super::bytes::Module;
use super::call::{self, Ended};
use super::line::refused;
use crate::clock::{Clock, MonotonicClock};
use crate::config::Config;
use crate::control::{Code, Failure, Reply, Response};
use crate::daemon::link::ScanLink;
use crate::name::PluginName;
use crate::plugin::Refusal;
use crate::plugin::module::check;
use crate::plugin::module::folder::{Change, FileName, Loss, Overlooked, Watch};

/// The watched folder, and its present problems.
#[derive(Debug)]
pub(in crate::daemon) struct PluginFolder {
    /// The handle of the watch, whose thread reads the folder.
    pub(in crate::daemon) watch: Watch,
    /// The time when the daemon began to watch the folder.
    pub(in crate::daemon) since: Instant,
    /// Reason why the folder is lost, as the watch has reported it; `None` if it is not lost.
    lost: Option<Loss>,
    /// Reason why the folder's file system is treated as lost: it does not answer in time. `None`
    /// while it answers.
    late: Option<Loss>,
    /// The number of files in the folder that the daemon does not read, and the reason.
    overlooked: Overlooked,
    /// Files that cannot be a plugin because of their names, or because there are too many plugins;
    /// each with the reason.
    ignored: BTreeMap<String, String>,
    /// Whether the daemon accepts that the folder is empty. True if the folder has had a plugin
    /// since the start, or if the operator has confirmed the present folder.
    is_believed: bool,
    /// Whether the log has reported that the folder may be an empty mount point.
    pub(in crate::daemon) is_told_empty: bool,
    /// Names of plugins that are being deployed or rolled back, one entry for each deploy or
    /// rollback. Both continue if the sender of the order disconnects. The `Weak` is valid until
    /// the deploy or rollback ends.
    deploys: Vec<(String, Weak<()>)>,
}

impl PluginFolder {
    /// Returns the state of a folder whose watch has not reported anything yet.
    pub(in crate::daemon) fn new(watch: Watch) -> Self {
        Self {
            watch,
            since: Instant::now(),
            lost: None,
            late: None,
            overlooked: Overlooked::default(),
            ignored: BTreeMap::new(),
            is_believed: false,
            is_told_empty: false,
            deploys: Vec::new(),
        }
    }

    /// Records that a plugin of this name is being deployed or rolled back, until the caller drops
    /// the returned `Arc`.
    pub(in crate::daemon) fn begin_deploy(&mut self, name: &str) -> Arc<()> {
        self.deploys.retain(|(_, deploy)| deploy.strong_count() > 0);
        let deploy = Arc::new(());
        self.deploys.push((name.to_owned(), Arc::downgrade(&deploy)));
        deploy
    }

    /// Refuses an order about a plugin that is being deployed or rolled back, because the plugin
    /// file may change at any moment.
    fn is_free(&self, name: &str) -> Result<(), Failure> {
        let is_it = |(of, deploy): &(String, Weak<()>)| of == name && deploy.strong_count() > 0;
        match self.deploys.iter().any(is_it) {
            true => {
                let message = format!("a deploy of {name} is under way; try again after its end");
                Err(Failure::new(Code::Busy, message))
            }
            false => Ok(()),
        }
    }

    /// Returns the reason why the folder is lost; `None` if the folder is not lost.
    pub(in crate::daemon) fn loss(&self) -> Option<&Loss> {
        self.late.as_ref().or(self.lost.as_ref())
    }

    /// Returns the files that cannot be a plugin, each with the reason.
    pub(in crate::daemon) fn ignored(&self) -> Vec<String> {
        self.ignored.iter().map(|(name, why)| format!("{name} is ignored: {why}")).collect()
    }

    /// Returns a text with the number of files that the daemon does not read, and the reason;
    /// `None` if the daemon reads all files.
    pub(in crate::daemon) fn overlooked(&self) -> Option<String> {
        (self.overlooked.files > 0).then(|| self.overlooked.to_string())
    }

    /// Whether the folder may be an empty mount point. An empty mount point means that the file
    /// system with the plugin files is not mounted; no file was removed.
    pub(in crate::daemon) fn is_in_doubt(&self, files: &BTreeSet<String>) -> bool {
        files.is_empty() && !self.is_believed
    }

    /// Accepts the folder in its present state, because the operator has ordered it. The folder may
    /// be empty, or it may have replaced the watched folder.
    pub(in crate::daemon) fn accept(&mut self) {
        // A folder that was never read is accepted only if it has replaced the watched folder.
        self.is_believed |= self.watch.names().is_some() || self.is_exchanged();
        if self.is_exchanged() {
            self.watch.accept();
        }
    }

    /// Whether the folder is lost because another folder has replaced it.
    fn is_exchanged(&self) -> bool {
        self.lost == Some(Loss::Exchanged)
    }

    /// Refuses an order at once if the folder does not answer ([`Loss::Silent`]), because the order
    /// would wait without an answer. If the folder is slow ([`Loss::Slow`]), the daemon tries the
    /// order.
    pub(in crate::daemon) fn answers(&self) -> Result<(), Failure> {
        match &self.late {
            Some(silent @ Loss::Silent) => {
                Err(Failure::new(Code::Busy, format!("the plugin folder {silent}")))
            }
            _ => Ok(()),
        }
    }

    /// Refuses at once an order to write a plugin file, if the folder does not answer, or if
    /// another folder has replaced the watched folder. With a file in the new folder, the daemon
    /// would stop all plugins of the previous folder.
    pub(in crate::daemon) fn takes_files(&self) -> Result<(), Failure> {
        self.answers()?;
        match self.is_exchanged() {
            true => {
                let message = format!(
                    "the plugin folder {}; the order is refused, because with a file in the new \
                     folder the daemon would stop all plugins of the previous folder",
                    Loss::Exchanged
                );
                Err(Failure::new(Code::Refused, message))
            }
            false => Ok(()),
        }
    }
}

impl Plugins {
    /// Takes a [`Change`] of the folder from the watch, and updates the supervisor, the roster, the
    /// history and the log.
    pub(in crate::daemon) fn folder_changed(
        &mut self,
        change: Change,
        is_emptying: bool,
        config: &Config,
        link: &mut ScanLink,
    ) {
        match without_strangers(change) {
            // A readable file: the supervisor gets the file's hash, and the roster stores the
            // file's bytes for the loader.
            Change::Present { name, hash, bytes, detected, path } => {
                self.folder.ignored.remove(&*name);
                self.folder.is_believed = true;
                self.meet(&name, is_emptying, config);
                if let Err(refusal) = self.supervisor.folder(&name, Some(hash)) {
                    refused(&name, &path.display(), &refusal);
                    self.record.refused(&name, Some(hash), &refusal);
                } else if let Some(entry) = self.roster.enter(&name) {
                    entry.detect = MonotonicClock.now().saturating_sub(detected);
                    self.roster.modules.entry(hash).or_insert(Module::Bytes(bytes));
                }
            }
            Change::Refused { name, path, refusal, is_rival } => {
                refused(&name, &path.display(), &refusal);
                // The refused file may be incomplete. If it grows later, the watch waits longer
                // before it reads the file again.
                self.folder.watch.refused(&name);
                self.record.refused(&name, None, &refusal);
                self.meet(&name, is_emptying, config);
                self.ignore(&name, refusal, is_rival);
            }
            Change::Gone { name } => self.file_is_gone(&name, link),
            // The folder has more files than the daemon reads.
            Change::Overlooked(overlooked) => {
                let folder = config.fixed.plugins.dir.display();
                if overlooked.files > 0 {
                    tracing::warn!(%folder, "{folder} has {overlooked}");
                }
                self.folder.overlooked = overlooked;
            }
            Change::FolderLost(loss) => {
                self.log_loss(&loss, config);
                self.folder.lost = Some(loss);
            }
            Change::FolderBack => {
                let folder = config.fixed.plugins.dir.display();
                tracing::info!(%folder, "{folder} is watched again");
                self.folder.lost = None;
            }
        }
    }

    /// Informs the supervisor about a refused file. If the name of the file breaks the rules, or if
    /// there are too many plugins, the file cannot become a plugin and is ignored.
    fn ignore(&mut self, name: &str, refusal: Refusal, is_rival: bool) {
        let reason = refusal.reason.clone();
        let taken = match is_rival {
            false => self.supervisor.folder_refused(name, refusal),
            true => self.supervisor.folder_rival(name, refusal),
        };
        match taken {
            Ok(()) => self.folder.ignored.remove(name),
            Err(_) => self.folder.ignored.insert(name.to_owned(), reason),
        };
    }

    /// Informs the supervisor that a plugin's file was removed, and records and logs the removal.
    fn file_is_gone(&mut self, name: &str, link: &mut ScanLink) {
        self.folder.ignored.remove(name);
        // If the supervisor does not know the name, there is no plugin to remove.
        let _ = self.supervisor.folder(name, None);
        // A swap that took place before the removal is recorded first, so the history has the right
        // sequence.
        self.settle_swaps(link);
        self.record.removed(name);
        tracing::info!(plugin = name, "{name}: its file was removed");
    }

    /// Checks whether the folder's file system answers in time. Logs when the file system becomes
    /// late, and when it answers in time again.
    pub(in crate::daemon) fn watch_the_folder(&mut self, config: &Config) {
        let late = self.folder.watch.lateness();
        let before = std::mem::replace(&mut self.folder.late, late.clone());
        match (before, late) {
            (None, Some(loss)) => self.log_loss(&loss, config),
            (Some(_), None) => {
                let folder = config.fixed.plugins.dir.display();
                tracing::info!(%folder, "{folder} answers again");
            }
            (None, None) | (Some(_), Some(_)) => {}
        }
    }

    /// Returns the names of the plugins that have an entry in the configuration but no file; no
    /// names if the folder's files are not known.
    pub(in crate::daemon) fn missing_plugins(&self, config: &Config) -> Vec<String> {
        let Some(held) = self.folder.watch.names() else { return Vec::new() };
        let declared = config.live.programs.iter().map(|(name, _)| name);
        declared.filter(|name| !held.contains(&***name)).map(ToString::to_string).collect()
    }

    /// Logs that the folder is lost, and whether plugins continue to run.
    fn log_loss(&self, loss: &Loss, config: &Config) {
        let folder = config.fixed.plugins.dir.display();
        let runs = match self.supervisor.plugins().any(|(_, view)| view.running.is_some()) {
            true => "running programs continue",
            false => "no plugin runs",
        };
        tracing::error!(%folder, %loss, "{folder} {loss}; {runs}");
    }

    /// Checks that there is a plugin of this name.
    ///
    /// # Errors
    /// If there is no plugin of this name.
    pub(in crate::daemon) fn known(&self, name: &str) -> Result<(), Failure> {
        match self.supervisor.plugin(name) {
            Some(_) => Ok(()),
            None => Err(Failure::new(
                Code::Unknown,
                format!("there is no plugin {name:?}; `camshaft plugins` lists them"),
            )),
        }
    }

    /// Removes the file of a plugin. The watch need not have found this file yet. If another folder
    /// has replaced the watched folder, this function also makes the watch report the plugin as
    /// removed.
    pub(in crate::daemon) fn remove(
        &self,
        name: &PluginName,
        reply: oneshot::Sender<Reply>,
        config: &Config,
    ) {
        // An unknown plugin is not refused yet, because its file may exist although the watch has
        // not reported it.
        let known = self.known(name);
        let free = self.folder.is_free(name);
        if let Err(failure) = free.and_then(|()| self.folder.answers()) {
            let _ = reply.send(Err(failure));
            return;
        }
        let is_exchanged = self.folder.is_exchanged();
        if is_exchanged {
            self.folder.watch.forget(name);
        }
        let file = config.fixed.plugins.dir.join(format!("{name}.wasm"));
        let shown = file.display().to_string();
        tokio::spawn(async move {
            let failed = |why| Err(Failure::new(Code::Internal, why));
            let answer = match (call::remove(file).await, known) {
                (Ended::Done, _) => Ok(Response::Done),
                (Ended::NotDone(error), Err(unknown)) if is_absent(&error) => Err(unknown),
                // The new folder has no such file. The watch already reports the plugin as removed.
                (Ended::NotDone(error), _) if is_exchanged && is_absent(&error) => {
                    Ok(Response::Done)
                }
                (Ended::NotDone(error), _) => failed(format!("{shown} cannot be removed: {error}")),
                (Ended::Unknown(error), _) => failed(unknown(&shown, "removed", &error)),
            };
            let _ = reply.send(answer);
        });
    }
}

/// Whether the error says that the file does not exist.
fn is_absent(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound
}

/// Refuses a file that does not begin like a module, and drops its hash. The file may be a link to
/// a secret file that only the daemon can read. If the hash were visible, a user could guess a
/// short secret from the hash.
fn without_strangers(change: Change) -> Change {
    let refusal = match &change {
        Change::Present { bytes, .. } => check::stranger(bytes),
        _ => None,
    };
    match (change, refusal) {
        (Change::Present { name, path, .. }, Some(refusal)) => {
            Change::Refused { name: FileName::Plugin(name), path, refusal, is_rival: false }
        }
        (change, _) => change,
    }
}

/// Returns the message for an order whose result is not known.
pub(in crate::daemon) fn unknown(file: &str, done: &str, error: &io::Error) -> String {
    format!(
        "it is not known whether {file} is {done}: {error}; `camshaft plugins` shows the result"
    )
}
