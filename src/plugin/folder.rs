//! Watches the plugin folder and says which settled bytes it holds.
//!
//! A thread of its own compares the folder with what was reported, at least every two
//! seconds.
//! Events of the operating system are hints: any of them only makes the next look come sooner,
//! since several ways to change a file raise none, and a full event queue loses some.
//!
//! It deliberately neither opens a module's contents nor decides what runs. As long as the folder
//! itself is lost nothing is reported gone: a lost mount stops no machine.
//!
//! Next: `folder/keeper.rs` is the thread, `folder/hint.rs` gathers what makes it look,
//! `folder/settle.rs` decides (pure), `folder/disk.rs` lists and reads, `folder/link.rs` follows
//! links, `folder/publish.rs` writes, `folder/wait.rs` shows a file system that does not answer,
//! `folder/names.rs` what has a file, `folder/home.rs` which folder it is.

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

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

/// Plugins in one folder; more are refused. A hundred is the largest plant this is measured with.
pub const MAX_PLUGINS: usize = 256;

/// Bytes in a plugin's name: it has to fit a status column and a log field.
pub const MAX_NAME: usize = 64;

/// A folder whose file system has not answered for this time is lost: as long as everything else is
/// waited for. An operator who waits for the answer to a deploy waits no longer.
pub const SILENCE: Duration = PATIENCE;

/// A folder is slow when one step of a look takes so long: to list it, or to read one file. A look
/// takes a millisecond or two, and 16 MB from the slowest card that is sold take 4 s; with less
/// than this, a change is seen late, and still while its author waits for it.
pub const SLOWNESS: Duration = Duration::from_secs(10);

/// The end of a watch waits so long for its thread, which looks at its orders between two looks at
/// the folder: one that waits for the file system longer is left to itself.
const PARTING: Duration = Duration::from_millis(500);

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
        /// Whether another plugin has its name already, but for upper and lower case.
        is_rival: bool,
    },
    /// The file is gone and did not come back within the grace.
    Gone {
        /// The plugin.
        name: String,
    },
    /// So many files are neither taken nor refused by name, because there are too many.
    Overlooked(Overlooked),
    /// The folder is lost. What it held is taken to be unchanged.
    FolderLost(Loss),
    /// The folder is not lost any more.
    FolderBack,
}

/// Why the folder is lost: nobody knows what it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Loss {
    /// It cannot be read, for the operating system's reason.
    Unreadable(String),
    /// Another folder has its name, and none of the plugins is in that: so it looks when a file
    /// system is not mounted any more.
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
                 into this one, or say `camshaft reload` to take it as it is",
            ),
            Self::Silent => {
                write!(f, "does not answer: its file system has said nothing for {SILENCE:?}")
            }
            Self::Slow => write!(
                f,
                "answers so late that to list it, or to read one file, takes more than \
                 {SLOWNESS:?}: what is copied there is seen late"
            ),
        }
    }
}

/// Files that end in `.wasm` and are neither taken nor refused by name, because there are too many.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Overlooked {
    /// How many there are at the least.
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

/// A watched folder. Dropping it ends the thread and waits for that, which takes milliseconds. A
/// thread that waits for the file system, or for the receiver of its reports, is left to itself.
#[derive(Debug)]
pub struct Watch {
    inbox: Arc<Inbox>,
    wait: Arc<Wait>,
    names: Arc<Names>,
    home: Arc<Home>,
    /// Is disconnected when the thread has ended.
    ended: Receiver<()>,
}

/// Watches `dir`, which is made if it is missing, and calls `report` on a thread named `folder`,
/// first with everything that is there. Files over `max_bytes` are refused unread. `report` should
/// not block for long: while it does, nothing is looked at, though nothing is lost either.
///
/// A folder that does not answer within [`SILENCE`] is watched nevertheless, see
/// [`Watch::lateness`].
///
/// # Errors
/// The folder cannot be read or made now, or the thread cannot be started. What happens to the
/// folder later is reported instead.
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
        // Nobody listens any more if the answer took too long: then any answer is a beginning.
        if opened.send(result).is_err() || is_open {
            keeper.run();
        }
        drop::<Sender<()>>(alive);
    };
    std::thread::Builder::new().name("folder".to_owned()).spawn(work)?;
    // No result is none in time, and then the watch says that it is silent.
    outcome.recv_timeout(SILENCE).unwrap_or(Ok(()))?;
    Ok(Watch { inbox, wait, names, home, ended })
}

impl Watch {
    /// Looks at the folder now instead of at the next event.
    pub fn poke(&self) {
        self.inbox.put(|mail| mail.poked = true);
    }

    /// Whether the file system has not answered for [`SILENCE`], so that nobody looks at the
    /// folder; or answers so late that looks take for ever.
    pub fn lateness(&self) -> Option<Loss> {
        if self.wait.lasts() >= SILENCE {
            return Some(Loss::Silent);
        }
        (self.wait.slowest_step() >= SLOWNESS).then_some(Loss::Slow)
    }

    /// The plugins of which the folder held a file at the last look; `None` while that is not
    /// known, because there was none yet, the folder is lost, or some of its files are overlooked.
    pub fn names(&self) -> Option<Arc<BTreeSet<String>>> {
        self.names.get()
    }

    /// Which folder was looked at: for [`publish_if`].
    pub fn home(&self) -> Arc<Home> {
        Arc::clone(&self.home)
    }

    /// Takes the folder as it is, also if it is another than before and an empty one.
    pub fn accept(&self) {
        self.inbox.put(|mail| (mail.accepted, mail.poked) = (true, true));
    }

    /// The operator has taken this plugin's file away: it is gone, also if the folder is lost
    /// because another has its name.
    pub fn forget(&self, name: &str) {
        self.inbox.put(|mail| {
            mail.forgotten.insert(name.to_owned());
            mail.poked = true;
        });
    }

    /// The bytes that the folder holds under that name were refused. Should the file go on growing,
    /// they were half a file, and the next look at it takes its time.
    pub fn refused(&self, name: &str) {
        self.inbox.put(|mail| {
            mail.refused.insert(name.to_owned());
        });
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.inbox.put(|mail| mail.stop = true);
        // It panics only if `report` does; then the message is on stderr already.
        let _ = self.ended.recv_timeout(PARTING);
    }
}
