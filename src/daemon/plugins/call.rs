//! Calls on plugin files and on the state directory, made on threads that may wait for the disk.
//!
//! ```text
//!   task ── work ──▶ a thread of the purpose ──▶ file system
//!     ▲                                              │
//!     └── answer, or "late" after `PATIENCE` ◀───────┘
//! ```
//! The loader, the orders of operators and recovery make these calls, and wait a limited time for
//! the answer of the file system. The caller decides which file is read or written. `patience.rs`
//! implements the time limit of a call.

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use crate::name::PluginName;
use crate::patience::{self, Commit, Committed, PATIENCE, Places};
use crate::plugin::module::folder::{Home, publish_if};

/// The largest number of threads that wait for files of one purpose. If a file system does not
/// answer, its thread is blocked until the answer comes. If all threads have been blocked for
/// [`PATIENCE`] or longer, further calls fail at once.
const MAX_WAITING: usize = 8;

/// A purpose of file calls, with its [`MAX_WAITING`] threads. The threads are static, because a
/// blocked thread may run longer than its caller.
pub(in crate::daemon) struct Purpose(LazyLock<Places>);

impl Purpose {
    /// Returns a purpose whose threads are all free.
    const fn new() -> Self {
        Self(LazyLock::new(|| Places::new(MAX_WAITING)))
    }
}

/// The calls of orders that write files into the plugin folder or remove files from it.
static ORDERS: Purpose = Purpose::new();

/// The calls of the loader that read plugin files again. A plugin file may be a link to a file on
/// any file system.
pub(in crate::daemon) static READING: Purpose = Purpose::new();

/// The calls that read or write files in the state directory.
pub(in crate::daemon) static STATE: Purpose = Purpose::new();

/// The calls that record the end of recovery. These calls have separate threads, because blocked
/// calls of other purposes must not delay this write. Without this write, the next start would
/// begin in recovery again.
pub(in crate::daemon) static RECOVERY: Purpose = Purpose::new();

/// Runs `work`, which makes file calls of this purpose, on one of the threads of the purpose.
///
/// # Errors
/// The errors of `work`. The function also returns an error that [is late](patience::is_late), if
/// `work` takes longer than [`PATIENCE`] or earlier calls without an answer block all threads.
pub(in crate::daemon) async fn in_time<T: Send + 'static>(
    purpose: &Purpose,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    within(PATIENCE, &purpose.0, work).await
}

/// Runs `work` on a thread of `places` within `limit`. If the answer is late, the error text
/// reports that the file system does not answer.
async fn within<T: Send + 'static>(
    limit: Duration,
    places: &Places,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    patience::within(limit, places, work).await.map_err(|error| match patience::is_late(&error) {
        true => patience::late(format!("its file system does not answer ({error})")),
        false => error,
    })
}

/// The result of an order that writes or removes a plugin file.
#[derive(Debug)]
pub(in crate::daemon) enum Ended {
    /// The order is done. If a later step fails or is late, for example the write of the folder to
    /// the disk, a log line reports that a power cut may undo the order.
    Done,
    /// The order is not done, and the daemon will not do it later.
    NotDone(io::Error),
    /// The result is not known, because the file system has not answered the deciding call.
    Unknown(io::Error),
}

/// Writes a file into the plugin folder, if the folder is still the watched folder. Waits at most
/// [`PATIENCE`].
pub(in crate::daemon) async fn put(
    (dir, home): (PathBuf, Arc<Home>),
    name: PluginName,
    bytes: impl AsRef<[u8]> + Send + 'static,
) -> Ended {
    let shown = dir.join(format!("{name}.wasm")).display().to_string();
    let work = move |commit: &Commit| publish_if((&dir, &home), &name, bytes.as_ref(), commit);
    carry_out(PATIENCE, &ORDERS.0, shown, work).await
}

/// Removes a file from the plugin folder. Waits at most [`PATIENCE`].
pub(in crate::daemon) async fn remove(file: PathBuf) -> Ended {
    let shown = file.display().to_string();
    let work = move |commit: &Commit| {
        // A file system that does not answer blocks this call. At this moment the removal has not
        // begun, so the order can still be cancelled.
        std::fs::symlink_metadata(&file)?;
        commit.make(|| std::fs::remove_file(&file))
    };
    carry_out(PATIENCE, &ORDERS.0, shown, work).await
}

/// Executes an order. `work` gets the [`Commit`] and uses it for the one deciding step: the move or
/// the removal of the file. More steps may follow in `work`.
async fn carry_out(
    limit: Duration,
    places: &Places,
    file: String,
    work: impl FnOnce(&Commit) -> io::Result<()> + Send + 'static,
) -> Ended {
    let commit = Arc::new(Commit::default());
    let step = Arc::clone(&commit);
    let Err(error) = within(limit, places, move || work(&step)).await else { return Ended::Done };
    match commit.give_up() {
        Committed::No => Ended::NotDone(error),
        Committed::Unknown => Ended::Unknown(error),
        Committed::Yes => {
            tracing::warn!(
                file,
                %error,
                "the order for {file} is done, but the change of the folder may not be on the disk \
                 yet: {error}; until the disk has stored the change, a power cut may undo the order"
            );
            Ended::Done
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, channel};

    use super::*;

    /// A time limit that is shorter than any other wait in these tests.
    const SOON: Duration = Duration::from_millis(50);

    async fn ends(work: impl FnOnce(&Commit) -> io::Result<()> + Send + 'static) -> Ended {
        carry_out(SOON, &Places::new(1), "tank.wasm".into(), work).await
    }

    fn hang(held: &Receiver<()>) -> io::Result<()> {
        held.recv().map_err(io::Error::other)
    }

    /// A defect of the past: the disk had not stored the folder after 5 s, and the answer reported
    /// a failed deploy, although the version ran.
    #[tokio::test]
    async fn what_is_done_has_not_failed() {
        let (_hold, held) = channel();
        let slow_behind = ends(move |commit| {
            commit.make(|| Ok(()))?;
            hang(&held)
        });
        assert!(matches!(slow_behind.await, Ended::Done));
        let failed_behind = ends(|commit| {
            commit.make(|| Ok(()))?;
            Err(io::Error::other("no sync"))
        });
        assert!(matches!(failed_behind.await, Ended::Done));
        let refused = ends(|commit| commit.make(|| Err(io::Error::other("no room")))).await;
        assert!(matches!(&refused, Ended::NotDone(why) if why.to_string() == "no room"));
        // The kernel refuses some calls at once, for example on a mount point.
        let busy = ends(|commit| commit.make(|| Err(io::ErrorKind::ResourceBusy.into()))).await;
        assert!(matches!(&busy, Ended::NotDone(why) if why.to_string() == "resource busy"));

        let (_hold, held) = channel();
        let in_it = ends(move |commit| commit.make(|| hang(&held))).await;
        let words = "its file system does not answer (no answer for 50ms)";
        assert!(matches!(&in_it, Ended::Unknown(why) if why.to_string() == words), "{in_it:?}");
    }

    #[tokio::test]
    async fn what_was_given_up_is_not_done_later() {
        let (hold, held) = channel();
        let (sender, receiver) = channel();
        let before_it = ends(move |commit| {
            hang(&held)?;
            let result = commit.make(|| Ok(()));
            sender.send(result.is_ok()).map_err(io::Error::other)
        });
        assert!(matches!(before_it.await, Ended::NotDone(_)));
        hold.send(()).unwrap();
        assert!(!receiver.recv().unwrap(), "the order was not done");
    }
}
