//! The watch of the plugin folder: reports each plugin file when it is settled, which means that no
//! process still writes it.
//!
//! The folder's thread compares the folder with its earlier reports, at least every two seconds.
//! Events of the operating system are hints: an event only makes the next look come sooner. The
//! thread does not rely on events, because some changes of a file raise no event, and because a
//! full event queue loses events.
//!
//! The watch deliberately does not examine a module's contents, and does not decide what runs. As
//! long as the folder itself is lost, the watch reports no plugin as gone, so that a lost mount
//! stops no machine.
//!
//! Next: `folder/keeper.rs` is the thread. `folder/hint.rs` gathers the hints that make the thread
//! look, and `folder/settle.rs` decides when a file is settled (pure). `folder/disk.rs` lists and
//! reads, `folder/link.rs` follows links, and `folder/publish.rs` writes. `folder/wait.rs` finds a
//! file system that does not answer. `folder/names.rs` has the names of the present files, and
//! `folder/home.rs` the folder's identity.

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

/// Most plugins in one folder; further files are refused. The largest plant measured has a hundred.
pub const MAX_PLUGINS: usize = 256;

/// The time after which a folder without an answer of its file system is lost. All other waits have
/// the same limit, so an operator waits no longer for the answer to a deploy.
pub const SILENCE: Duration = PATIENCE;

/// The folder counts as slow if one step of a look takes this long. A step lists the folder or
/// reads one file. A whole look usually takes a millisecond or two, and the slowest card on the
/// market needs 4 s to read 16 MB. If a step takes less than this limit, a change is seen late, but
/// soon enough for an author who waits.
pub const SLOWNESS: Duration = Duration::from_secs(10);

/// How long the end of a watch waits for its thread. The thread takes the order to end between two
/// looks. If the thread waits longer for the file system, the owner of the watch goes on without
/// it.
const PARTING: Duration = Duration::from_millis(500);

/// A change of the folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// The folder holds these settled bytes under that name.
    Present {
        /// The plugin: the file's name without `.wasm`.
        name: PluginName,
        /// The file.
        path: PathBuf,
        /// Identity of the bytes.
        hash: ModuleHash,
        /// The file's contents.
        bytes: Arc<[u8]>,
        /// When the change was first seen, on `CLOCK_MONOTONIC`.
        detected: Duration,
    },
    /// The folder has an entry under that name that cannot be used.
    Refused {
        /// The name of the plugin, or the bad name that makes the file no plugin.
        name: FileName,
        /// The file.
        path: PathBuf,
        /// Why it is refused, and the remedy.
        refusal: Refusal,
        /// Whether another plugin has this name already, in other upper and lower case.
        is_rival: bool,
    },
    /// The file is gone, and did not come back within the grace period.
    Gone {
        /// The name of the plugin, or the bad name that made the file no plugin.
        name: FileName,
    },
    /// So many files are neither used nor refused by name, because there are too many.
    Overlooked(Overlooked),
    /// The folder is lost. The plugins that it held count as unchanged.
    FolderLost(Loss),
    /// The folder is not lost any more.
    FolderBack,
}

/// The name of a file that ends in `.wasm`, read once: when the file is listed.
///
/// As texts the two variants have the same order as in this list, because a quote comes before
/// every character that a name may begin with. So a map with these names as keys can be searched
/// with a text.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum FileName {
    /// A name that makes the file no plugin: in quotes, and cut if it is long.
    Misnamed(String),
    /// The name of a plugin.
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

/// Why the folder is lost, so that its contents are unknown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Loss {
    /// The folder cannot be read, for the operating system's reason.
    Unreadable(String),
    /// Another folder has the name of the plugin folder, and has none of the plugins. This happens
    /// when the file system of the plugin folder is not mounted any more.
    Exchanged,
    /// The file system of the folder has not answered for [`SILENCE`].
    Silent,
    /// The file system of the folder answers each call, but so late that a step of a look takes
    /// [`SLOWNESS`].
    Slow,
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable(error) => write!(f, "cannot be read: {error}"),
            Self::Exchanged => f.write_str(
                "is another folder than before and holds no plugin; mount the right one, put files \
                 into this one, or give `camshaft reload` to take it as it is",
            ),
            Self::Silent => {
                write!(f, "does not answer: its file system has said nothing for {SILENCE:?}")
            }
            Self::Slow => write!(
                f,
                "answers slowly: to list it, or to read one file, takes more than {SLOWNESS:?}; \
                 new files are noticed late"
            ),
        }
    }
}

/// Files that end in `.wasm` and are neither used nor refused by name, because there are too many.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Overlooked {
    /// Number of these files, at least.
    pub files: usize,
    /// The name of the newest of these files, as far as the thread knows it.
    pub example: String,
}

impl fmt::Display for Overlooked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { files, example } = self;
        let (files, them) = match files {
            1 => ("1 file".to_owned(), "it is"),
            n => (format!("{n} files"), "one of them is"),
        };
        write!(f, "{files} too many, not looked at; {them} {example}")
    }
}

/// Parses the name of a plugin; the refusal of a bad name says what is wrong with it.
///
/// # Errors
/// The text breaks the rule for names.
pub fn plugin_name(text: &str) -> Result<PluginName, Refusal> {
    text.parse().map_err(|_| misnamed(&disk::quoted(text)))
}

/// The refusal of a file whose name breaks the rules for plugins.
fn misnamed(quoted: &str) -> Refusal {
    Refusal::new(format!("{quoted} is no name for a plugin"), format!("use {RULE}"))
}

/// A watched folder. Dropping it ends the folder's thread and waits for the end, which takes
/// milliseconds. If the thread waits for the file system, or for the receiver of its reports, the
/// drop goes on without it after half a second.
#[derive(Debug)]
pub struct Watch {
    /// Hints and requests. The owner of the watch writes them, the folder's thread takes them.
    inbox: Arc<Inbox>,
    /// The present call on the file system. The folder's thread writes, the owner of the watch
    /// reads.
    wait: Arc<Wait>,
    /// The names of the present files. The folder's thread writes, the owner of the watch reads.
    names: Arc<Names>,
    /// The identity of the folder. The folder's thread writes, publishers read.
    home: Arc<Home>,
    /// A channel that closes when the thread has ended.
    ended: Receiver<()>,
}

/// Watches `dir`, which is made if it is missing. A thread named `folder` calls `report`, first for
/// all files that are in the folder already. Files over `max_bytes` are refused unread. `report`
/// should not block for long, because the thread does not look at the folder meanwhile. No change
/// is lost by a block.
///
/// A folder that does not answer within [`SILENCE`] is watched nevertheless, see
/// [`Watch::lateness`].
///
/// # Errors
/// The folder cannot be read or made now, or the thread cannot be started. Later troubles of the
/// folder are reported instead.
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
        // If the answer took too long, the caller of `watch` no longer waits for it. In that case
        // the thread begins its work with any answer.
        if opened.send(result).is_err() || is_open {
            keeper.run();
        }
        drop::<Sender<()>>(alive);
    };
    std::thread::Builder::new().name("folder".to_owned()).spawn(work)?;
    // If no result comes in time, the watch reports the folder as silent.
    outcome.recv_timeout(SILENCE).unwrap_or(Ok(()))?;
    Ok(Watch { inbox, wait, names, home, ended })
}

impl Watch {
    /// Makes the thread look at the folder now instead of at the next event.
    pub fn poke(&self) {
        self.inbox.put(|mail| mail.poked = true);
    }

    /// The reason why the folder is late, if it is late. Either its file system has not answered
    /// for [`SILENCE`], so the thread cannot look at the folder. Or the file system answers so late
    /// that a step of a look takes [`SLOWNESS`].
    pub fn lateness(&self) -> Option<Loss> {
        if self.wait.lasts() >= SILENCE {
            return Some(Loss::Silent);
        }
        (self.wait.slowest_step() >= SLOWNESS).then_some(Loss::Slow)
    }

    /// The plugins that had a file at the last look. `None` while the names are unknown: before the
    /// first look, while the folder is lost, or while some of its files are overlooked.
    pub fn names(&self) -> Option<Arc<BTreeSet<String>>> {
        self.names.get()
    }

    /// The identity of the folder that was looked at, for [`publish_if`].
    pub fn home(&self) -> Arc<Home> {
        Arc::clone(&self.home)
    }

    /// Accepts the folder as it is, even if it is another folder than before and an empty one.
    pub fn accept(&self) {
        self.inbox.put(|mail| (mail.accepted, mail.poked) = (true, true));
    }

    /// Reports this plugin as gone, because the operator has removed its file. The report also
    /// comes while the folder is lost because another folder has its name.
    pub fn forget(&self, name: &str) {
        self.inbox.put(|mail| {
            mail.forgotten.insert(name.to_owned());
            mail.poked = true;
        });
    }

    /// Notes that the bytes under this name were refused. If the file grows afterwards, the bytes
    /// were half a file, and the next reading comes later.
    pub fn refused(&self, name: &str) {
        self.inbox.put(|mail| {
            mail.refused.insert(name.to_owned());
        });
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.inbox.put(|mail| mail.stop = true);
        // The thread panics only if `report` panics, and the message of that panic is on stderr
        // already.
        let _ = self.ended.recv_timeout(PARTING);
    }
}
