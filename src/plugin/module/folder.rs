//! The watch of the plugin folder: reports each plugin file when the file is settled. A file is
//! settled when no process writes to it any more.
//!
//! ```text
//! event, request or 2 s ─▶ pass over the folder ─▶ settled? ─▶ read ─▶ report
//! ```
//!
//! One thread, the folder's thread, passes over the folder at least every two seconds: it lists the
//! folder, and compares the list with its earlier reports. An event of the operating system is only
//! a hint that makes the next pass begin sooner. The thread does not rely on events, because some
//! changes of a file raise no event, and because a full event queue loses events.
//!
//! The watch does not examine the contents of a module, and does not decide which module runs. The
//! folder may be lost, for example because its file system is no longer mounted. In that case the
//! watch does not report the plugins of the folder as gone, so they continue to run.
//!
//! `folder/keeper.rs` has the folder's thread. `folder/hint.rs` collects the hints, and
//! `folder/settle.rs` decides when a file is settled (without input or output). `folder/disk.rs`
//! lists the folder and reads files, `folder/link.rs` follows links, and `folder/publish.rs` writes
//! files. `folder/wait.rs` detects a file system that does not answer. `folder/names.rs` has the
//! names of the present files, and `folder/home.rs` the identity of the folder.

use std::borrow::Borrow;
use std::collections::BTreeSet;
use std::ops::Deref;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;
use std::{fmt, io};

use crate::name::{PluginName, RULE};
use crate::patience::PATIENCE;
use crate::plugin::{ModuleHash, Refusal};
use crate::process::seat::MAX_PROGRAMS;
use crate::thread::named;

mod disk;
mod hint;
mod home;
mod keeper;
mod link;
mod names;
mod publish;
mod settle;
mod wait;

pub use disk::reread;
use hint::Inbox;
pub use home::Home;
use keeper::Keeper;
use names::Names;
pub(super) use publish::put;
pub use publish::{publish, publish_if};
use wait::Wait;

/// Most plugins in one folder: as many as can run together. Further files are refused. The largest
/// known plant has a hundred plugins.
pub const MAX_PLUGINS: usize = MAX_PROGRAMS;

/// The longest time that the folder's file system may take to answer a call. After this time the
/// folder is lost. The limit equals the limit of all other waits for a file system, so an operator
/// never waits longer for the answer to a deploy.
pub const SILENCE: Duration = PATIENCE;

/// The longest time for one step of a pass over the folder. After this time the folder is reported
/// as slow. A step lists the folder, follows the links, or reads one file. A whole pass usually
/// takes a millisecond or two, and the slowest memory card on the market needs 4 s to read 16 MB.
/// If each step is shorter than this limit, a change may be noticed late, but soon enough for an
/// author who waits.
pub const SLOWNESS: Duration = Duration::from_secs(10);

/// How long the owner of the watch waits, at most, until the folder's thread has ended. The thread
/// receives the order to end between two passes. If the thread is blocked by the file system, it
/// cannot end. In that case the owner of the watch continues after this time, and does not wait for
/// the thread.
const PARTING: Duration = Duration::from_millis(500);

/// A change of the folder, as the watch reports it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// The folder has a new settled file under this name, or new contents of the file.
    Present {
        /// The name of the plugin: the file's name without `.wasm`.
        name: PluginName,
        /// The path of the file.
        path: PathBuf,
        /// The hash of the contents, which identifies the module.
        hash: ModuleHash,
        /// The contents of the file.
        bytes: Arc<[u8]>,
        /// The time when the change was first noticed, on `CLOCK_MONOTONIC`.
        detected: Duration,
    },
    /// The folder has an entry under this name that cannot be a plugin.
    Refused {
        /// The name of the plugin. If the file's name breaks the rules, this is the file's name in
        /// quotes.
        name: FileName,
        /// The path of the file.
        path: PathBuf,
        /// The reason why the file is refused, and the remedy.
        refusal: Refusal,
        /// Whether another plugin already has this name, but with other upper and lower case, for
        /// example `Tank` for `tank`.
        is_rival: bool,
    },
    /// The file was removed. If the operator has removed it through the daemon ([`Watch::forget`]),
    /// the report comes at once. Otherwise the report comes if the file did not return within the
    /// grace period.
    Gone {
        /// The name of the plugin. If the file's name breaks the rules, this is the file's name in
        /// quotes.
        name: FileName,
    },
    /// The number of overlooked files has changed. Files are overlooked if the folder has too many
    /// files: they are ignored without a report about each of them. The number 0 means that no file
    /// is overlooked any more.
    Overlooked(Overlooked),
    /// The folder is lost. Until it is back, the watch treats the plugins in it as unchanged.
    FolderLost(Loss),
    /// The folder is no longer lost.
    FolderBack,
}

/// The name of a file that ends in `.wasm`. The name is parsed when the folder is listed.
///
/// A map with these names as keys can be searched with a text, because the order of the keys equals
/// the order of their texts. A misnamed file comes first in both orders: its text begins with a
/// quote, which sorts before every character that a plugin's name may begin with.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum FileName {
    /// A name that breaks the rules, so the file cannot be a plugin. The text is in quotes, and is
    /// shortened if it is long.
    Misnamed(String),
    /// A valid name of a plugin.
    Plugin(PluginName),
}

impl Deref for FileName {
    type Target = str;

    fn deref(&self) -> &str {
        match self {
            Self::Misnamed(quoted) => quoted,
            Self::Plugin(name) => name,
        }
    }
}

impl Borrow<str> for FileName {
    fn borrow(&self) -> &str {
        self
    }
}

impl fmt::Display for FileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self)
    }
}

/// The reason why the folder is lost. The contents of a lost folder are unknown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Loss {
    /// The folder cannot be read. The text is the operating system's error.
    Unreadable(String),
    /// Another folder is now at the path of the plugin folder, and this other folder contains no
    /// plugin. This happens when the file system of the plugin folder is no longer mounted.
    Exchanged,
    /// The file system of the folder has not answered for [`SILENCE`].
    Silent,
    /// The file system of the folder answers each call, but very slowly: a step of a pass over the
    /// folder takes [`SLOWNESS`] or longer, or a link waits so long to be followed or read.
    Slow,
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable(error) => write!(f, "cannot be read: {error}"),
            Self::Exchanged => f.write_str(
                "is not the folder that the daemon watched before, and has no plugin; mount the \
                 right folder, put plugins into this folder, or run `camshaft reload` to accept \
                 the folder without plugins",
            ),
            Self::Silent => {
                write!(f, "does not answer: its file system has not answered for {SILENCE:?}")
            }
            Self::Slow => write!(
                f,
                "answers slowly: to list the folder, or to read one file, takes more than \
                 {SLOWNESS:?}; the daemon notices new files late"
            ),
        }
    }
}

/// Files that end in `.wasm` and are ignored without a report about each file, because there are
/// too many files.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Overlooked {
    /// Number of these files. The real number may be higher, because a pass over the folder reads
    /// only a limited number of names.
    pub files: usize,
    /// The name of one of these files: the newest of those that the thread has examined. If the
    /// thread has examined none, it is the name that was listed last.
    pub example: String,
}

impl fmt::Display for Overlooked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { files, example } = self;
        let (files, them) = match files {
            1 => ("1 file too many: the daemon ignores".to_owned(), "the file"),
            n => (format!("{n} files too many: the daemon ignores these files,"), "for example"),
        };
        write!(f, "{files} {them} {example}")
    }
}

/// Parses the name of a plugin. The refusal of a bad name contains the rule for names.
///
/// # Errors
/// The text breaks the rule for names.
pub fn plugin_name(text: &str) -> Result<PluginName, Refusal> {
    text.parse().map_err(|_| misnamed(&disk::quoted(text)))
}

/// Makes the refusal for a file whose name breaks the rule for names of plugins.
fn misnamed(quoted: &str) -> Refusal {
    Refusal::new(format!("{quoted} is not a valid name for a plugin"), format!("use {RULE}"))
}

/// A watched folder. If this value is dropped, the folder's thread ends, and the drop waits for
/// this end, usually for some milliseconds. The file system or the function `report` of [`watch`]
/// may block the thread. In that case the drop returns after half a second, and the thread ends
/// later.
#[derive(Debug)]
pub struct Watch {
    /// Hints and requests. The owner of the watch writes them. The folder's thread reads and
    /// removes them.
    inbox: Arc<Inbox>,
    /// The call on the file system that the thread makes at present. The folder's thread writes
    /// this value, and the owner of the watch reads it.
    wait: Arc<Wait>,
    /// The names of the present files. The folder's thread writes them, and the owner of the watch
    /// reads them.
    names: Arc<Names>,
    /// The identity of the folder. The folder's thread writes it, and threads that publish files
    /// read it.
    home: Arc<Home>,
    /// A channel that closes when the folder's thread has ended.
    ended: Receiver<()>,
}

/// Watches the folder `dir`, which is created if it is missing. A thread named `folder` calls
/// `report` for each change, and first for all files that are already in the folder. Files longer
/// than `max_bytes` are refused and not read. `report` should return soon, because the thread makes
/// no pass over the folder during the call. If `report` is slow, no change is lost.
///
/// If the folder does not answer within [`SILENCE`], the call succeeds, and [`Watch::lateness`]
/// then returns [`Loss::Silent`].
///
/// # Errors
/// The folder cannot be read or created now, or the thread cannot be started. Later errors of the
/// folder are reported as [`Change::FolderLost`].
pub fn watch(
    dir: PathBuf,
    max_bytes: u64,
    report: impl FnMut(Change) + Send + 'static,
) -> io::Result<Watch> {
    let (inbox, wait) = (Arc::new(Inbox::default()), Arc::new(Wait::default()));
    let (names, home) = (Arc::new(Names::default()), Arc::new(Home::default()));
    let ((opened, outcome), (alive, ended)) = (channel(), channel());
    let calls = (Arc::clone(&inbox), Arc::clone(&wait));
    let found = (Arc::clone(&names), Arc::clone(&home));
    let keeper = Keeper::new(dir, max_bytes, calls, found, report);
    let work = move || {
        let result = keeper.open();
        let is_open = result.is_ok();
        // If `open` took too long, `watch` no longer waits for the result, and `send` fails. In
        // that case `watch` has returned a working watch, so the thread must run, even after an
        // error.
        if opened.send(result).is_err() || is_open {
            keeper.run();
        }
        drop::<Sender<()>>(alive);
    };
    named("folder").spawn(work)?;
    // If no result comes in time, the call succeeds, and the watch reports the folder as silent.
    outcome.recv_timeout(SILENCE).unwrap_or(Ok(()))?;
    Ok(Watch { inbox, wait, names, home, ended })
}

impl Watch {
    /// Makes the thread begin a pass over the folder now, without waiting for the next event.
    pub fn poke(&self) {
        self.inbox.put(|mail| mail.poked = true);
    }

    /// Returns the reason why the folder answers late, or `None` if it answers in time.
    /// [`Loss::Silent`] means that the file system has not answered for [`SILENCE`], so the thread
    /// is blocked. [`Loss::Slow`] means that the file system answers, but a step of a pass takes
    /// [`SLOWNESS`] or longer, or a link waits so long to be followed or read.
    pub fn lateness(&self) -> Option<Loss> {
        if self.wait.lasts() >= SILENCE {
            return Some(Loss::Silent);
        }
        (self.wait.slowest_step() >= SLOWNESS).then_some(Loss::Slow)
    }

    /// Returns the names of the plugins that had a file at the last pass over the folder. Returns
    /// `None` while the names are unknown: before the first pass, while the folder is lost, or
    /// while there are too many files.
    pub fn names(&self) -> Option<Arc<BTreeSet<String>>> {
        self.names.get()
    }

    /// Returns the record of the folder's identity. The folder's thread updates this record in each
    /// pass in which the folder is not lost. [`publish_if`] needs this record.
    pub fn home(&self) -> Arc<Home> {
        Arc::clone(&self.home)
    }

    /// Makes the thread accept the folder as it is, even if it is another folder than before and
    /// empty.
    pub fn accept(&self) {
        self.inbox.put(|mail| (mail.accepted, mail.poked) = (true, true));
    }

    /// The caller calls this function when the operator has removed the file of this plugin. The
    /// thread then reports the plugin as gone, without the grace period. The thread makes this
    /// report even if the folder is lost because another folder is at its path.
    pub fn forget(&self, name: &str) {
        self.inbox.put(|mail| {
            mail.forgotten.insert(name.to_owned());
            mail.poked = true;
        });
    }

    /// Records that the contents of this plugin's file were refused. If the file grows afterwards,
    /// the refused contents were probably an incomplete file. The thread then waits longer before
    /// it reads the file again.
    pub fn refused(&self, name: &str) {
        self.inbox.put(|mail| {
            mail.refused.insert(name.to_owned());
        });
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.inbox.put(|mail| mail.stop = true);
        // If the thread has panicked, the wait ends at once. Only `report` can cause a panic, and
        // the message of that panic is already on stderr.
        let _ = self.ended.recv_timeout(PARTING);
    }
}
