//! The plugin folder as the daemon sees it: what changes in it, whether it is lost, and what people
//! order in it.
//!
//! A lost folder stops no machine: the running programs go on, one log line says so, and `status`
//! shows it. How the folder is watched, and when it counts as lost, is in
//! `plugin/module/folder.rs`. The calls that wait for its files are in `call.rs`.

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
    /// Since when it is watched.
    pub(in crate::daemon) since: Instant,
    /// Why it is lost, as the watch has reported it.
    lost: Option<Loss>,
    /// Set when it does not answer, or answers too late.
    late: Option<Loss>,
    /// How many files in it are not looked at, and why.
    overlooked: Overlooked,
    /// Files whose names make them no plugin, each with the reason.
    ignored: BTreeMap<String, String>,
    /// Whether it has held a plugin in this life of the daemon, or the operator has confirmed that
    /// it holds none.
    is_believed: bool,
    /// Whether the log says already that it is empty.
    pub(in crate::daemon) is_told_empty: bool,
    /// Names of plugins that are being deployed, at most one for each request. A deploy goes on
    /// when its sender has left; it holds the other end of this `Weak` until it is over.
    deploys: Vec<(String, Weak<()>)>,
}

impl PluginFolder {
    /// The folder of this watch, of which nothing is known yet.
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

    /// Notes that a plugin of this name is being deployed, as long as the caller holds the result.
    pub(in crate::daemon) fn begin_deploy(&mut self, name: &str) -> Arc<()> {
        self.deploys.retain(|(_, deploy)| deploy.strong_count() > 0);
        let deploy = Arc::new(());
        self.deploys.push((name.to_owned(), Arc::downgrade(&deploy)));
        deploy
    }

    /// Refuses an order about a plugin that is being deployed: its finding would be out of date at
    /// once.
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

    /// The files that are ignored for their names, each with the reason.
    pub(in crate::daemon) fn ignored(&self) -> Vec<String> {
        self.ignored.iter().map(|(name, why)| format!("{name} is ignored: {why}")).collect()
    }

    /// How many files in it are not looked at, in words.
    pub(in crate::daemon) fn overlooked(&self) -> Option<String> {
        (self.overlooked.files > 0).then(|| self.overlooked.to_string())
    }

    /// Whether it may be an empty mount point, and not a folder from which all files were removed.
    pub(in crate::daemon) fn is_in_doubt(&self, files: &BTreeSet<String>) -> bool {
        files.is_empty() && !self.is_believed
    }

    /// Accepts the folder as it is, as the operator wants: also if it is empty, or if another
    /// folder has taken its place.
    pub(in crate::daemon) fn accept(&mut self) {
        // A folder that was never read is not confirmed.
        self.is_believed |= self.watch.names().is_some() || self.is_exchanged();
        if self.is_exchanged() {
            self.watch.accept();
        }
    }

    /// Whether it is lost because another folder has taken its place.
    fn is_exchanged(&self) -> bool {
        self.lost == Some(Loss::Exchanged)
    }

    /// Refuses an order at once that would only wait. In a folder that is merely slow, an order may
    /// still end in time.
    pub(in crate::daemon) fn answers(&self) -> Result<(), Failure> {
        match &self.late {
            Some(silent @ Loss::Silent) => {
                Err(Failure::new(Code::Busy, format!("the plugin folder {silent}")))
            }
            _ => Ok(()),
        }
    }

    /// Refuses an order at once to put a file there. In a folder that has taken the place of the
    /// one with all the plugins, that file would make the watch stop all other plugins.
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
                // It may be half of a file, which was refused for its bytes.
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

    /// Tells the supervisor of a file that was refused. One whose name is against the rules cannot
    /// become a plugin, and is ignored.
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

    /// Takes in that a file is gone.
    fn file_is_gone(&mut self, name: &str, link: &mut ScanLink) {
        self.folder.ignored.remove(name);
        // A name that the supervisor does not know cannot go either.
        let _ = self.supervisor.folder(name, None);
        // What took over before comes before it.
        self.settle_swaps(link);
        self.record.removed(name);
        tracing::info!(plugin = name, "{name}: its file is gone");
    }

    /// Checks whether the folder's file system answers. A slow one is silent every now and then;
    /// the log does not mention each time.
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

    /// The plugins that have an entry in the configuration and no file.
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
    /// If there is none.
    pub(in crate::daemon) fn known(&self, name: &str) -> Result<(), Failure> {
        match self.supervisor.plugin(name) {
            Some(_) => Ok(()),
            None => Err(Failure::new(
                Code::Unknown,
                format!("there is no plugin {name:?}; `camshaft plugins` lists them"),
            )),
        }
    }

    /// Removes a plugin's file, also one that was put there and is not seen yet. If another folder
    /// has taken this one's place, the daemon stops waiting for the plugin to come back.
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

/// Whether the error says that there is no such file.
fn is_absent(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound
}

/// Refuses a file that does not begin as a module does, and drops its hash. The file may be a link
/// to one that only the daemon may read: a user who guesses a short secret could compare hashes.
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

/// The message about an order for which it is not known whether it was carried out.
pub(in crate::daemon) fn unknown(file: &str, done: &str, error: &io::Error) -> String {
    format!("whether {file} is {done} is not known: {error}; `camshaft plugins` shows what comes")
}
