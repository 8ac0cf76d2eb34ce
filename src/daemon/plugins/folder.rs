//! The plugin folder as the daemon sees it: what changes in it, whether it is lost, and what
//! operators order in it.
//!
//! ```text
//!   the watch's thread ── Change ──▶ folder_changed() ──┬──▶ supervisor: which file is there
//!                                                       ├──▶ roster: the bytes
//!   an operator ── remove() ──▶ call.rs ──▶ the file    └──▶ record: the history
//! ```
//! A lost folder stops no machine: the running programs go on, one log line tells of the loss, and
//! `camshaft status` shows it. How the folder is watched, and when it counts as lost, is in
//! `plugin/module/folder.rs`. The calls that wait for its files are in `call.rs`; a deploy is in
//! `deploy.rs`.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Weak};

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::Plugins;
use super::call::{self, Ended};
use super::line::refused;
use super::loader::Module;
use crate::clock::{Clock, MonotonicClock};
use crate::config::Config;
use crate::control::{Code, Failure, Reply, Response};
use crate::daemon::link::ScanLink;
use crate::name::PluginName;
use crate::plugin::Refusal;
use crate::plugin::module::check;
use crate::plugin::module::folder::{Change, FileName, Loss, Overlooked, Watch};

/// The watched folder, and what is wrong with it.
#[derive(Debug)]
pub(in crate::daemon) struct PluginFolder {
    /// The handle of the watch, whose thread reads the folder.
    pub(in crate::daemon) watch: Watch,
    /// When the daemon began to watch the folder.
    pub(in crate::daemon) since: Instant,
    /// Why the folder is lost, as the watch has reported it.
    lost: Option<Loss>,
    /// Set while the folder's file system does not answer, or answers too late.
    late: Option<Loss>,
    /// How many files in the folder are not looked at, and why.
    overlooked: Overlooked,
    /// Files that are no plugin because of their names, each with the reason.
    ignored: BTreeMap<String, String>,
    /// Whether an empty folder is believed. It is if the folder has held a plugin since the start
    /// of the daemon, or if the operator has confirmed that the folder holds none.
    is_believed: bool,
    /// Whether the log already says that the folder is empty.
    pub(in crate::daemon) is_told_empty: bool,
    /// Names of plugins that are being deployed, at most one for each request. A deploy goes on
    /// after its sender has left. It holds the other end of its `Weak` until it has ended.
    deploys: Vec<(String, Weak<()>)>,
}

impl PluginFolder {
    /// The folder of this watch, before the watch has reported anything.
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

    /// Notes that a plugin of this name is being deployed, until the caller drops the result.
    pub(in crate::daemon) fn begin_deploy(&mut self, name: &str) -> Arc<()> {
        self.deploys.retain(|(_, deploy)| deploy.strong_count() > 0);
        let deploy = Arc::new(());
        self.deploys.push((name.to_owned(), Arc::downgrade(&deploy)));
        deploy
    }

    /// Refuses an order about a plugin that is being deployed, because the deploy may change the
    /// file at any moment.
    fn is_free(&self, name: &str) -> Result<(), Failure> {
        let is_it = |(of, deploy): &(String, Weak<()>)| of == name && deploy.strong_count() > 0;
        match self.deploys.iter().any(is_it) {
            true => {
                let message = format!("a deploy of {name} is under way; try again when it is over");
                Err(Failure::new(Code::Busy, message))
            }
            false => Ok(()),
        }
    }

    /// Why the folder is lost, if it is.
    pub(in crate::daemon) fn loss(&self) -> Option<&Loss> {
        self.late.as_ref().or(self.lost.as_ref())
    }

    /// The files that are ignored because of their names, each with the reason.
    pub(in crate::daemon) fn ignored(&self) -> Vec<String> {
        self.ignored.iter().map(|(name, why)| format!("{name} is ignored: {why}")).collect()
    }

    /// How many files in the folder are not looked at, as text; `None` if all are.
    pub(in crate::daemon) fn overlooked(&self) -> Option<String> {
        (self.overlooked.files > 0).then(|| self.overlooked.to_string())
    }

    /// Whether the folder may be an empty mount point, rather than a folder whose files were
    /// removed.
    pub(in crate::daemon) fn is_in_doubt(&self, files: &BTreeSet<String>) -> bool {
        files.is_empty() && !self.is_believed
    }

    /// Accepts the folder as it is, because the operator says so: also if it is empty, or if
    /// another folder has taken its place.
    pub(in crate::daemon) fn accept(&mut self) {
        // A folder that was never read is not accepted.
        self.is_believed |= self.watch.names().is_some() || self.is_exchanged();
        if self.is_exchanged() {
            self.watch.accept();
        }
    }

    /// Whether the folder is lost because another folder has taken its place.
    fn is_exchanged(&self) -> bool {
        self.lost == Some(Loss::Exchanged)
    }

    /// Refuses an order at once if the folder does not answer, because the order would only wait.
    /// If the folder is only slow, the order is tried.
    pub(in crate::daemon) fn answers(&self) -> Result<(), Failure> {
        match &self.late {
            Some(silent @ Loss::Silent) => {
                Err(Failure::new(Code::Busy, format!("the plugin folder {silent}")))
            }
            _ => Ok(()),
        }
    }

    /// Refuses at once an order to put a file into the folder, if another folder has taken its
    /// place. The file would make the watch stop all other plugins.
    pub(in crate::daemon) fn takes_files(&self) -> Result<(), Failure> {
        self.answers()?;
        match self.is_exchanged() {
            true => {
                let message = format!(
                    "the plugin folder {}; a file put there by this order would stop all plugins \
                     that run on from the folder before",
                    Loss::Exchanged
                );
                Err(Failure::new(Code::Refused, message))
            }
            false => Ok(()),
        }
    }
}

impl Plugins {
    /// Takes in what has changed in the folder.
    pub(in crate::daemon) fn folder_changed(
        &mut self,
        change: Change,
        is_emptying: bool,
        config: &Config,
        link: &mut ScanLink,
    ) {
        match without_strangers(change) {
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
                // The refused file may be half written, so the watch looks at it again.
                self.folder.watch.refused(&name);
                self.record.refused(&name, None, &refusal);
                self.meet(&name, is_emptying, config);
                self.ignore(&name, refusal, is_rival);
            }
            Change::Gone { name } => self.file_is_gone(&name, link),
            Change::Overlooked(overlooked) => {
                let folder = config.fixed.plugins.dir.display();
                if overlooked.files > 0 {
                    tracing::warn!(%folder, "{folder} holds {overlooked}");
                }
                self.folder.overlooked = overlooked;
            }
            Change::FolderLost(loss) => {
                self.tell_of_loss(&loss, config);
                self.folder.lost = Some(loss);
            }
            Change::FolderBack => {
                let folder = config.fixed.plugins.dir.display();
                tracing::info!(%folder, "{folder} is looked at again");
                self.folder.lost = None;
            }
        }
    }

    /// Tells the supervisor of a file that was refused. If its name is against the rules, the file
    /// cannot become a plugin and is ignored.
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

    /// Takes in that the file of a plugin is gone.
    fn file_is_gone(&mut self, name: &str, link: &mut ScanLink) {
        self.folder.ignored.remove(name);
        // The supervisor may not know the name; then no plugin goes either.
        let _ = self.supervisor.folder(name, None);
        // A swap that took place before the removal is recorded before it.
        self.settle_swaps(link);
        self.record.removed(name);
        tracing::info!(plugin = name, "{name}: its file is gone");
    }

    /// Checks whether the folder's file system answers in time, and logs when that changes.
    pub(in crate::daemon) fn watch_the_folder(&mut self, config: &Config) {
        let late = self.folder.watch.lateness();
        let before = std::mem::replace(&mut self.folder.late, late.clone());
        match (before, late) {
            (None, Some(loss)) => self.tell_of_loss(&loss, config),
            (Some(_), None) => {
                let folder = config.fixed.plugins.dir.display();
                tracing::info!(%folder, "{folder} answers again");
            }
            (None, None) | (Some(_), Some(_)) => {}
        }
    }

    /// The plugins that have an entry in the configuration but no file.
    pub(in crate::daemon) fn missing_plugins(&self, config: &Config) -> Vec<String> {
        let Some(held) = self.folder.watch.names() else { return Vec::new() };
        let declared = config.live.programs.iter().map(|(name, _)| name);
        declared.filter(|name| !held.contains(&***name)).map(ToString::to_string).collect()
    }

    /// Logs that the folder is lost, and what that means for the plugins.
    fn tell_of_loss(&self, loss: &Loss, config: &Config) {
        let folder = config.fixed.plugins.dir.display();
        let runs = match self.supervisor.plugins().any(|(_, view)| view.running.is_some()) {
            true => "what runs goes on",
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

    /// Removes the file of a plugin, also a file that the watch has not seen yet. If another folder
    /// has taken the place of the watched one, the daemon also stops waiting for the plugin to come
    /// back.
    pub(in crate::daemon) fn remove(
        &self,
        name: &PluginName,
        reply: oneshot::Sender<Reply>,
        config: &Config,
    ) {
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

/// Refuses a file that does not begin as a module does, and drops its hash. The file may be a link
/// to a file that only the daemon may read. A user who guesses a short secret could compare hashes.
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

/// The message about an order of which it is not known whether it was carried out.
pub(in crate::daemon) fn unknown(file: &str, done: &str, error: &io::Error) -> String {
    format!("whether {file} is {done} is not known: {error}; `camshaft plugins` shows what comes")
}
