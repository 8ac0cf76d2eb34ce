//! Watches the plugin folder and reports the settled bytes in it.
//!
//! A thread of its own compares the folder with what it has reported, at least every two seconds.
//! Events of the operating system are hints: an event only makes the next look come sooner. Some
//! ways to change a file raise no event, and a full event queue loses some.
//!
//! This deliberately does not examine a module's contents, and does not decide what runs. As long
//! as the folder itself is lost, no plugin is reported gone: a lost mount stops no machine.
//!
//! Next: `folder/keeper.rs` is the thread. `folder/hint.rs` gathers what makes it look, and
//! `folder/settle.rs` decides (pure). `folder/disk.rs` lists and reads, `folder/link.rs` follows
//! links, and `folder/publish.rs` writes. `folder/wait.rs` finds a file system that does not
//! answer. `folder/names.rs` has the names of the present files, and `folder/home.rs` the folder's
//! identity.

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

/// The time after which a folder without an answer of its file system is lost. It is the limit of
/// all other waits too, so an operator who waits for the answer to a deploy waits no longer.
pub const SILENCE: Duration = PATIENCE;

/// The time of one step of a look from which the folder is slow. A step lists the folder or reads
/// one file. A look takes a millisecond or two, and 16 MB from the slowest card on the market take
/// 4 s. With less than this, a change is seen late, but its author still waits for it.
pub const SLOWNESS: Duration = Duration::from_secs(10);

/// How long the end of a watch waits for its thread, which reads its orders between two looks. A
/// thread that waits longer for the file system is left behind.
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
    /// The folder has something under that name that cannot be used.
    Refused {
        /// The plugin, or the name that makes the file none.
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
        /// The plugin, or the name that made the file none.
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
/// As texts the two kinds have the order that they have here, because a quote comes before every
/// character that a name may begin with. So a map of them can be asked with a text.
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
    /// It cannot be read, for the operating system's reason.
    Unreadable(String),
    /// Another folder has its name, and has none of the plugins. That is what the name shows when a
    /// file system is not mounted any more.
    Exchanged,
    /// Its file system has not answered for [`SILENCE`].
    Silent,
    /// Its file system answers each call, but so late that a step of a look takes [`SLOWNESS`].
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
    /// The newest of them, as far as that is known.
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

/// Reads the name of a plugin, where a refusal must say what is wrong.
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

/// A watched folder. Dropping it ends the thread and waits for that, which takes milliseconds. A
/// thread that waits for the file system, or for the receiver of its reports, is left behind.
#[derive(Debug)]
pub struct Watch {
    /// Hints and requests. The owner of this writes, the folder's thread takes them.
    inbox: Arc<Inbox>,
    /// The present call on the file system. The folder's thread writes, the owner of this reads.
    wait: Arc<Wait>,
    /// The names of the present files. The folder's thread writes, the owner of this reads.
    names: Arc<Names>,
    /// The identity of the folder. The folder's thread writes, publishers read.
    home: Arc<Home>,
    /// A channel that closes when the thread has ended.
    ended: Receiver<()>,
}

/// Watches `dir`, which is made if it is missing. It calls `report` on a thread named `folder`,
/// first with everything that is there. Files over `max_bytes` are refused unread. `report` should
/// not block for long: meanwhile the folder is not looked at, but no change is lost.
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
        // If the answer took too long, this thread waits for it no more. Then any answer is a
        // beginning.
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

    /// Why the folder is late, if it is. Either its file system has not answered for [`SILENCE`],
    /// so the thread cannot look at it; or it answers so late that a step of a look takes
    /// [`SLOWNESS`].
    pub fn lateness(&self) -> Option<Loss> {
        if self.wait.lasts() >= SILENCE {
            return Some(Loss::Silent);
        }
        (self.wait.slowest_step() >= SLOWNESS).then_some(Loss::Slow)
    }

    /// The plugins that had a file at the last look. `None` while that is unknown: before the first
    /// look, while the folder is lost, or while some of its files are overlooked.
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

    /// Reports this plugin gone, because the operator has removed its file. This works also while
    /// the folder is lost because another one has its name.
    pub fn forget(&self, name: &str) {
        self.inbox.put(|mail| {
            mail.forgotten.insert(name.to_owned());
            mail.poked = true;
        });
    }

    /// Notes that the bytes under this name were refused. If the file then grows, the bytes were
    /// half a file, and the next reading comes later.
    pub fn refused(&self, name: &str) {
        self.inbox.put(|mail| {
            mail.refused.insert(name.to_owned());
        });
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.inbox.put(|mail| mail.stop = true);
        // The thread panics only if `report` does; then the message is on stderr already.
        let _ = self.ended.recv_timeout(PARTING);
    }
}
