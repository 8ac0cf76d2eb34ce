//! Hints that the plugin folder has changed: events of the operating system, and requests of the
//! daemon.
//!
//! Hints are kept as flags until the folder's thread takes them. So any number of hints takes the
//! same room, and no sender waits for the thread. This file does not look at the folder:
//! `folder/settle.rs` decides what a hint means for a file. This is the only file that uses the
//! crate notify.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::errno::Errno;
use notify::event::{AccessKind, AccessMode, Event, EventKind, ModifyKind, RenameMode};
use notify::{ErrorKind, RecommendedWatcher, RecursiveMode, Watcher as _};

use super::settle::Hint;
use super::{FileName, disk};
use crate::clock::{Clock, MonotonicClock};
use crate::name::PluginName;

/// The kernel's watch on a folder. Dropping it ends the watch.
pub(super) type Watcher = RecommendedWatcher;

/// Most files whose hints are kept between two looks: as many as a look examines. A further file
/// settles as if it had no events: a little later, or by its sample alone.
const MAX_HINTS: usize = disk::MAX_CANDIDATES;

/// The place where hints are kept. Events set flags, so any number of events takes the same room.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    /// The hints. notify's thread and `Watch` write them; the folder's thread takes them.
    mail: Mutex<Mail>,
    /// Wakes the folder's thread, which waits for it, when another thread has set a flag.
    arrived: Condvar,
}

/// All hints and requests that the folder's thread has not taken yet.
#[derive(Debug, Default)]
pub(super) struct Mail {
    /// A request to end the thread.
    pub(super) stop: bool,
    /// A request to look at once.
    pub(super) poked: bool,
    /// An event came: the thread looks when the gap after the last look is over.
    dirty: bool,
    /// The watched folder itself was moved or deleted, so the kernel's watch on it is useless.
    pub(super) uprooted: bool,
    /// The hint of the last event about each file, by plugin.
    pub(super) hints: BTreeMap<PluginName, Hint>,
    /// A request to accept the folder as it is, even if it is another one and empty.
    pub(super) accepted: bool,
    /// Plugins whose file the operator has removed.
    pub(super) forgotten: BTreeSet<String>,
    /// Plugins whose bytes were refused.
    pub(super) refused: BTreeSet<String>,
}

impl Inbox {
    /// Sets flags, and wakes the folder's thread.
    pub(super) fn put(&self, write: impl FnOnce(&mut Mail)) {
        write(&mut self.lock());
        self.arrived.notify_one();
    }

    /// Sleeps until there is a reason to look: a request, an event after `not_before`, or `until`.
    pub(super) fn wait(&self, not_before: Duration, until: Duration) -> Mail {
        let mut mail = self.lock();
        loop {
            let now = MonotonicClock.now();
            let deadline = if mail.dirty { not_before.min(until) } else { until };
            if mail.stop || mail.poked || now >= deadline {
                return std::mem::take(&mut mail);
            }
            let waited = self.arrived.wait_timeout(mail, deadline - now);
            mail = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Mail> {
        // A poisoned lock is no damage, because no thread leaves the flags half set.
        self.mail.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Mail {
    /// Takes in one event.
    fn hear(&mut self, event: &Event, dir: &Path) {
        if !is_hint(event) {
            return;
        }
        self.dirty = true;
        self.uprooted |= event.paths.iter().any(|path| path == dir);
        if let Some((name, hint)) = hint(event)
            && (self.hints.len() < MAX_HINTS || self.hints.contains_key(&name))
        {
            // A writer that writes under another name and renames may close the file after the
            // renaming.
            let was_renamed = self.hints.get(&name) == Some(&Hint::Renamed);
            if !(was_renamed && hint == Hint::Closed) {
                self.hints.insert(name, hint);
            }
        }
    }
}

/// Whether the event can mean a change. The thread's own reading raises `Access(Open)`, which is no
/// hint, because the thread would then look without end.
fn is_hint(event: &Event) -> bool {
    event.need_rescan()
        || match event.kind {
            EventKind::Access(access) => access == AccessKind::Close(AccessMode::Write),
            _ => true,
        }
}

/// The hint that the event gives about a plugin's file, with the plugin's name.
fn hint(event: &Event) -> Option<(PluginName, Hint)> {
    let hint = match event.kind {
        EventKind::Modify(ModifyKind::Name(RenameMode::To | RenameMode::Both)) => Hint::Renamed,
        EventKind::Modify(ModifyKind::Data(_)) => Hint::Written,
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => Hint::Closed,
        _ => return None,
    };
    match disk::file_name(event.paths.last()?.file_name()?)? {
        FileName::Plugin(name) => Some((name, hint)),
        FileName::Misnamed(_) => None,
    }
}

/// Sends the kernel's events about the folder to the inbox, until the watcher is dropped.
///
/// # Errors
/// The kernel's message, with the name of the limit if a limit is the reason.
pub(super) fn start_watcher(dir: &Path, inbox: &Arc<Inbox>) -> Result<Watcher, String> {
    watch(dir, inbox).map_err(|error| match &error.kind {
        // From inotify_init1(2) and inotify_add_watch(2).
        ErrorKind::Io(io) if io.raw_os_error() == Some(Errno::EMFILE as i32) => {
            format!("{io}; fs.inotify.max_user_instances is the limit, or that of open files")
        }
        ErrorKind::MaxFilesWatch => {
            "too many watches; fs.inotify.max_user_watches is the limit".into()
        }
        _ => error.to_string(),
    })
}

fn watch(dir: &Path, inbox: &Arc<Inbox>) -> notify::Result<Watcher> {
    let (inbox, watched) = (Arc::clone(inbox), dir.to_owned());
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
        inbox.put(|mail| match &event {
            Ok(event) => mail.hear(event, &watched),
            Err(_) => mail.dirty = true, // the events are in doubt, the folder is not
        });
    })?;
    watcher.watch(dir, RecursiveMode::NonRecursive)?;
    Ok(watcher)
}

#[cfg(test)]
mod tests;
