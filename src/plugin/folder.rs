//! Watches the plugin folder and says which settled bytes it holds.
//!
//! A thread of its own compares the folder with what was reported, at least every two
//! seconds.
//! Events of the operating system are hints: any of them only makes the next look come sooner,
//! since several ways to change a file raise none, and a full event queue loses some. This is the
//! only file that names notify.
//!
//! It deliberately neither opens a module's contents nor decides what runs. As long as the folder
//! itself cannot be read nothing is reported gone: a lost mount stops no machine.
//!
//! Next: `folder/settle.rs` decides (pure), `folder/disk.rs` lists, reads and publishes.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use notify::event::{AccessKind, AccessMode, Event, EventKind, ModifyKind, RenameMode};
use notify::{RecommendedWatcher, RecursiveMode, Watcher};

use crate::clock::{Clock, MonotonicClock};
use crate::plugin::{ModuleHash, Refusal};

mod disk;
mod settle;

pub use disk::publish;
pub(super) use disk::put;
use settle::{Order, Table};

/// Plugins in one folder; more are refused. A hundred is the largest plant this is measured with.
pub const MAX_PLUGINS: usize = 256;

/// Bytes in a plugin's name: it has to fit a status column and a log field.
pub const MAX_NAME: usize = 64;

/// The folder is compared anyway after this time, because some changes raise no event.
const RESCAN: Duration = Duration::from_secs(2);

/// The same while the folder cannot be read: it costs one failing call.
const RESCAN_LOST: Duration = Duration::from_millis(250);

/// Hints wait so long after a look. Ten thousand events a second cost fifty looks a second.
const LOOK_GAP: Duration = Duration::from_millis(20);

/// Something about the folder that was not so before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// The folder holds these bytes, settled, under that name.
    Present {
        /// The plugin: the file's name without `.wasm`.
        name: String,
        /// The file.
        path: PathBuf,
        /// Identity of the bytes.
        hash: ModuleHash,
        /// The file's contents.
        bytes: Arc<[u8]>,
        /// When the change was first seen, on `CLOCK_MONOTONIC`.
        detected: Duration,
    },
    /// There is something under that name that cannot be taken.
    Refused {
        /// The plugin. A name that breaks the rules comes in quotes, and cut if it is long.
        name: String,
        /// The file.
        path: PathBuf,
        /// Why, and what helps.
        refusal: Refusal,
    },
    /// The file is gone and did not come back within the grace.
    Gone {
        /// The plugin.
        name: String,
    },
    /// The folder itself cannot be read. What it held is taken to be unchanged.
    FolderLost {
        /// The operating system's reason.
        error: String,
    },
    /// The folder can be read again.
    FolderBack,
}

/// Checks the name of a plugin.
///
/// # Errors
/// The name is empty, too long, begins with a dot or holds anything but `[A-Za-z0-9._-]`.
pub fn check_name(name: &str) -> Result<(), Refusal> {
    let is_valid = (1..=MAX_NAME).contains(&name.len())
        && !name.starts_with('.')
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
    if is_valid { Ok(()) } else { Err(misnamed(&disk::quoted(name))) }
}

fn misnamed(quoted: &str) -> Refusal {
    Refusal::new(
        format!("{quoted} is no name for a plugin"),
        format!("use 1 to {MAX_NAME} letters a-z, digits, `.`, `_` and `-`, the first not a `.`"),
    )
}

/// A watched folder. Dropping it ends the thread and waits for that, which takes milliseconds
/// unless the receiver of the reports blocks.
#[derive(Debug)]
pub struct Watch {
    inbox: Arc<Inbox>,
    thread: Option<JoinHandle<()>>,
}

/// Watches `dir` and calls `report` on a thread named `folder`, first with everything that is
/// there. Files over `max_bytes` are refused unread. `report` should not block for long: while
/// it does, nothing is looked at, though nothing is lost either.
///
/// # Errors
/// The folder cannot be read now, or the thread cannot be started. What happens to the folder
/// later is reported instead.
pub fn watch(
    dir: PathBuf,
    max_bytes: u64,
    report: impl FnMut(Change) + Send + 'static,
) -> io::Result<Watch> {
    fs::read_dir(&dir)?;
    let inbox = Arc::new(Inbox::default());
    let keeper = Keeper {
        dir,
        table: Table::new(max_bytes),
        inbox: Arc::clone(&inbox),
        hints: Hints::Untried,
        is_lost: false,
        report,
    };
    let thread =
        std::thread::Builder::new().name("folder".to_owned()).spawn(move || keeper.run())?;
    Ok(Watch { inbox, thread: Some(thread) })
}

impl Watch {
    /// Looks at the folder now instead of at the next event.
    pub fn poke(&self) {
        self.inbox.put(|mail| mail.poked = true);
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.inbox.put(|mail| mail.stop = true);
        if let Some(thread) = self.thread.take() {
            // It panics only if `report` does; then the message is on stderr already.
            let _ = thread.join();
        }
    }
}

/// Where hints gather. Events set flags, so any number of them takes the same room.
#[derive(Debug, Default)]
struct Inbox {
    /// Written by notify's thread and by `Watch`, emptied by the folder thread.
    mail: Mutex<Mail>,
    arrived: Condvar,
}

#[derive(Debug, Default)]
struct Mail {
    stop: bool,
    /// Somebody asked: look at once.
    poked: bool,
    /// An event came: look when the gap is over.
    dirty: bool,
    /// The watched folder itself was moved or deleted: the kernel's watch on it is worth nothing.
    uprooted: bool,
    /// Plugins whose file was renamed to its name: complete, if its writer knows what he does.
    renamed: BTreeSet<String>,
}

impl Inbox {
    fn put(&self, write: impl FnOnce(&mut Mail)) {
        write(&mut self.lock());
        self.arrived.notify_one();
    }

    /// Sleeps until there is a reason to look: a poke, an event after `not_before`, or `until`.
    fn wait(&self, not_before: Duration, until: Duration) -> Mail {
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
        // Without the hint a renamed file is only settled a little later: the limit costs nothing.
        if let Some(name) = renamed_to(event)
            && self.renamed.len() < MAX_PLUGINS
        {
            self.renamed.insert(name);
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

/// The plugin whose file got its name in this event.
fn renamed_to(event: &Event) -> Option<String> {
    let EventKind::Modify(ModifyKind::Name(RenameMode::To | RenameMode::Both)) = event.kind else {
        return None;
    };
    disk::plugin_name(event.paths.last()?.file_name()?)?.ok()
}

/// The kernel's watch on the folder.
enum Hints {
    Untried,
    Watching {
        /// Kept because its drop ends the watch.
        _watcher: RecommendedWatcher,
        /// The folder it stands for.
        watched: Identity,
    },
    /// Could not be had, and the log was told.
    Unavailable,
}

/// Tells a folder from its successor of the same name. The inode alone does not: it is reused.
#[derive(PartialEq, Eq)]
struct Identity {
    dev: u64,
    ino: u64,
    born: Option<SystemTime>,
}

/// The folder thread.
struct Keeper<R> {
    dir: PathBuf,
    table: Table,
    inbox: Arc<Inbox>,
    hints: Hints,
    is_lost: bool,
    report: R,
}

impl<R: FnMut(Change)> Keeper<R> {
    fn run(mut self) {
        let mut mail = Mail::default();
        while !mail.stop {
            if mail.uprooted {
                self.hints = Hints::Untried;
            }
            self.look(&mail.renamed);
            let now = MonotonicClock.now();
            let rescan = now + if self.is_lost { RESCAN_LOST } else { RESCAN };
            let until =
                self.table.due().filter(|_| !self.is_lost).map_or(rescan, |due| rescan.min(due));
            mail = self.inbox.wait(now + LOOK_GAP, until);
        }
    }

    fn look(&mut self, renamed: &BTreeSet<String>) {
        self.keep_watching();
        let entries = match disk::list(&self.dir, self.table.paths()) {
            Ok(entries) => entries,
            Err(error) => return self.lose(&error),
        };
        if std::mem::take(&mut self.is_lost) {
            (self.report)(Change::FolderBack);
        }
        for order in self.table.look(MonotonicClock.now(), entries, renamed) {
            let change = match order {
                Order::Tell(change) => Some(change),
                Order::Read { name, path, sample } => {
                    let outcome = disk::read(&path, &sample);
                    self.table.read(MonotonicClock.now(), &name, outcome)
                }
            };
            if let Some(change) = change {
                (self.report)(change);
            }
        }
    }

    fn lose(&mut self, error: &io::Error) {
        self.table.pause();
        // The same folder may come back from a remount, and the kernel's watch would not.
        self.hints = Hints::Untried;
        if !std::mem::replace(&mut self.is_lost, true) {
            (self.report)(Change::FolderLost { error: error.to_string() });
        }
    }

    /// Sees to it that the kernel watches the folder that now has the name. Comes before the
    /// listing: what changes in between is then listed or heard of, or both.
    fn keep_watching(&mut self) {
        let Ok(identity) = identify(&self.dir) else { return }; // the listing will say why
        if matches!(&self.hints, Hints::Watching { watched, .. } if *watched == identity) {
            return;
        }
        let was_told = matches!(self.hints, Hints::Unavailable);
        self.hints = match start_watcher(&self.dir, &self.inbox) {
            Ok(watcher) => Hints::Watching { _watcher: watcher, watched: identity },
            Err(error) => {
                if !was_told {
                    tracing::warn!(
                        dir = %self.dir.display(), %error,
                        "no events for the plugin folder ({error}), changes are noticed within \
                         {RESCAN:?}"
                    );
                }
                Hints::Unavailable
            }
        };
    }
}

fn identify(dir: &Path) -> io::Result<Identity> {
    let meta = fs::metadata(dir)?;
    Ok(Identity { dev: meta.dev(), ino: meta.ino(), born: meta.created().ok() })
}

fn start_watcher(dir: &Path, inbox: &Arc<Inbox>) -> notify::Result<RecommendedWatcher> {
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
