//! Hints that the plugin folder changed: events of the operating system, and wishes of the daemon.
//!
//! They gather as flags until the folder's thread takes them, so any number of them takes the same
//! room and nobody waits for anybody. What they mean for a file is decided in `settle.rs`. This is
//! the only file that names notify.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::errno::Errno;
use notify::event::{AccessKind, AccessMode, Event, EventKind, ModifyKind, RenameMode};
use notify::{ErrorKind, RecommendedWatcher, RecursiveMode, Watcher as _};

use super::disk;
use super::settle::Hint;
use crate::clock::{Clock, MonotonicClock};

/// The kernel's watch on a folder; its drop ends it.
pub(super) type Watcher = RecommendedWatcher;

/// Files whose hints are remembered between two looks: all that are looked at. One more is settled
/// as if there were no events, a little later or by its sample alone.
const MAX_HINTS: usize = disk::MAX_CANDIDATES;

/// Where hints gather. Events set flags, so any number of them takes the same room.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    /// Written by notify's thread and by `Watch`, emptied by the folder thread.
    mail: Mutex<Mail>,
    arrived: Condvar,
}

#[derive(Debug, Default)]
pub(super) struct Mail {
    pub(super) stop: bool,
    /// Somebody asked: look at once.
    pub(super) poked: bool,
    /// An event came: look when the gap is over.
    dirty: bool,
    /// The watched folder itself was moved or deleted: the kernel's watch on it is worth nothing.
    pub(super) uprooted: bool,
    /// What the events say of files, by plugin; the last word of each.
    pub(super) hints: BTreeMap<String, Hint>,
    /// The folder is to be taken as it is, also if it is another and an empty one.
    pub(super) accepted: bool,
    /// Plugins whose file the operator has taken away.
    pub(super) forgotten: BTreeSet<String>,
    /// Plugins whose bytes were refused.
    pub(super) refused: BTreeSet<String>,
}

impl Inbox {
    pub(super) fn put(&self, write: impl FnOnce(&mut Mail)) {
        write(&mut self.lock());
        self.arrived.notify_one();
    }

    /// Sleeps until there is a reason to look: a poke, an event after `not_before`, or `until`.
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
        // Nobody leaves the flags half set, so a panic elsewhere does not spoil them.
        self.mail.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Mail {
    /// Takes one event in.
    fn hear(&mut self, event: &Event, dir: &Path) {
        if !is_hint(event) {
            return;
        }
        self.dirty = true;
        self.uprooted |= event.paths.iter().any(|path| path == dir);
        if let Some((name, hint)) = hint(event)
            && (self.hints.len() < MAX_HINTS || self.hints.contains_key(&name))
        {
            // Who writes beside and renames may close the file after the renaming.
            let was_renamed = self.hints.get(&name) == Some(&Hint::Renamed);
            if !(was_renamed && hint == Hint::Closed) {
                self.hints.insert(name, hint);
            }
        }
    }
}

/// Whether the event can mean a change. Our own reading raises `Access(Open)`: taken for a hint
/// it would make the thread chase itself.
fn is_hint(event: &Event) -> bool {
    event.need_rescan()
        || match event.kind {
            EventKind::Access(access) => access == AccessKind::Close(AccessMode::Write),
            _ => true,
        }
}

/// What the event says of a plugin's file.
fn hint(event: &Event) -> Option<(String, Hint)> {
    let hint = match event.kind {
        EventKind::Modify(ModifyKind::Name(RenameMode::To | RenameMode::Both)) => Hint::Renamed,
        EventKind::Modify(ModifyKind::Data(_)) => Hint::Written,
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => Hint::Closed,
        _ => return None,
    };
    let name = disk::plugin_name(event.paths.last()?.file_name()?)?.ok()?;
    Some((name, hint))
}

/// Lets the kernel's events about the folder come to the inbox, until the watcher is dropped.
///
/// # Errors
/// What the kernel says, with the limit that it names if it is one.
pub(super) fn start_watcher(dir: &Path, inbox: &Arc<Inbox>) -> Result<Watcher, String> {
    watch(dir, inbox).map_err(|error| match &error.kind {
        // inotify_init1(2) and inotify_add_watch(2).
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
