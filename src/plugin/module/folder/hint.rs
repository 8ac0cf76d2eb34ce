//! Hints that the plugin folder has changed: events of the operating system, and requests of the
//! daemon.
//!
//! ```text
//! kernel ── events ──▶ ┌───────┐
//!                      │ Inbox │ ── all hints together ──▶ folder's thread
//! daemon ─ requests ─▶ └───────┘
//! ```
//!
//! The inbox stores hints as flags until the folder's thread reads and removes them. So the memory
//! for hints is limited, and no sender waits for the thread. `folder/settle.rs` decides what a hint
//! means for a plugin file. Only `folder/hint.rs` uses the library notify.

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

/// The kernel's watch on a folder. If this value is dropped, the watch ends.
pub(super) type Watcher = RecommendedWatcher;

/// Most files whose hints are stored between two passes: as many as a pass over the folder
/// examines. Events about further files are lost. A file without events settles by its samples
/// alone, which may take a little longer.
const MAX_HINTS: usize = disk::MAX_CANDIDATES;

/// The store of hints. Events set flags, so the memory does not grow with the number of events.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    /// The hints. The thread of the library notify and the `Watch` write them. The folder's thread
    /// reads and removes them.
    mail: Mutex<Mail>,
    /// Wakes the folder's thread after another thread has set a flag.
    arrived: Condvar,
}

/// All hints and requests that the folder's thread has not read yet.
#[derive(Debug, Default)]
pub(super) struct Mail {
    /// The request to end the folder's thread.
    pub(super) stop: bool,
    /// The request to begin a pass over the folder at once.
    pub(super) poked: bool,
    /// Whether an event that can mean a change, or an error of the library notify, came. The thread
    /// then begins a pass over the folder after the shortest pause between two passes.
    dirty: bool,
    /// Whether the watched folder was moved or deleted. The kernel's watch is useless then.
    pub(super) uprooted: bool,
    /// The hint of the last event about each file, by plugin name.
    pub(super) hints: BTreeMap<PluginName, Hint>,
    /// The request to accept the folder as it is, even if it is another folder than before and
    /// empty.
    pub(super) accepted: bool,
    /// The plugins whose files the operator has removed.
    pub(super) forgotten: BTreeSet<String>,
    /// The plugins whose reported bytes were refused.
    pub(super) refused: BTreeSet<String>,
}

impl Inbox {
    /// Calls `write`, which sets flags, and wakes the folder's thread.
    pub(super) fn put(&self, write: impl FnOnce(&mut Mail)) {
        write(&mut self.lock());
        self.arrived.notify_one();
    }

    /// Waits for a reason to begin a pass over the folder, and then removes and returns all hints.
    /// The reasons are: a request to stop or to begin a pass now, the time `until`, or an event. An
    /// event is a reason only after the time `not_before`.
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
        // If a thread has panicked while it held the lock, the flags are still valid, because each
        // flag is set in one step.
        self.mail.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Mail {
    /// Stores the hint of one event.
    fn hear(&mut self, event: &Event, dir: &Path) {
        if !is_hint(event) {
            return;
        }
        self.dirty = true;
        self.uprooted |= event.paths.iter().any(|path| path == dir);
        if let Some((name, hint)) = hint(event)
            && (self.hints.len() < MAX_HINTS || self.hints.contains_key(&name))
        {
            // A program may write a file under another name, rename it, and close it after the
            // renaming. In that case the closing does not replace the hint of the renaming.
            let was_renamed = self.hints.get(&name) == Some(&Hint::Renamed);
            if !(was_renamed && hint == Hint::Closed) {
                self.hints.insert(name, hint);
            }
        }
    }
}

/// Whether the event can mean a change of a file. The folder's thread opens files to read them,
/// which raises `Access(Open)`. If this event were a hint, each pass over the folder would start
/// the next pass.
fn is_hint(event: &Event) -> bool {
    event.need_rescan()
        || match event.kind {
            EventKind::Access(access) => access == AccessKind::Close(AccessMode::Write),
            _ => true,
        }
}

/// Returns the name of the plugin and the hint that the event gives about the plugin's file.
/// Returns `None` if the event gives no hint.
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

/// Starts the kernel's watch on the folder. The events of the watch go to the inbox. The watch ends
/// when the returned value is dropped.
///
/// # Errors
/// The kernel's message. If a limit of the system is the reason, the message names the limit.
pub(super) fn start_watcher(dir: &Path, inbox: &Arc<Inbox>) -> Result<Watcher, String> {
    watch(dir, inbox).map_err(|error| match &error.kind {
        // The meaning of the errors is from inotify_init1(2) and inotify_add_watch(2).
        ErrorKind::Io(io) if io.raw_os_error() == Some(Errno::EMFILE as i32) => {
            format!(
                "{io}; increase the sysctl fs.inotify.max_user_instances, or the limit of open \
                 files"
            )
        }
        ErrorKind::MaxFilesWatch => {
            "too many watches; increase the sysctl fs.inotify.max_user_watches".into()
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
