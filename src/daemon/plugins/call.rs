//! Calls on plugin files and on the state directory, made on threads that may wait for the disk.
//!
//! The loader and the orders of operators make these calls and wait for the answer, for a limited
//! time. The caller decides what is read and what is written.

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use crate::name::PluginName;
use crate::patience::{self, Commit, Committed, PATIENCE, Places};
use crate::plugin::module::folder::{Home, publish_if};

/// The largest number of threads that wait at once for files of one purpose. A thread that meets a
/// file system which does not answer is lost until that answers. When all are lost, further calls
/// fail at once.
const MAX_WAITING: usize = 8;

/// A purpose of file calls, with its [`MAX_WAITING`] threads. The threads outlive the caller, so
/// this belongs to the process.
pub(in crate::daemon) struct Purpose(LazyLock<Places>);

impl Purpose {
    const fn new() -> Self {
        Self(LazyLock::new(|| Places::new(MAX_WAITING)))
    }
}

/// Files that orders put into the plugin folder, or remove from it.
static ORDERS: Purpose = Purpose::new();

/// Plugin files that the loader reads again. They may be links that lead anywhere.
pub(in crate::daemon) static READING: Purpose = Purpose::new();

/// Files in the state directory.
pub(in crate::daemon) static STATE: Purpose = Purpose::new();

/// Threads that record the end of recovery, which happens once in the life of a process. Other
/// calls that hang take no place of it: without a record, the next start would be one for recovery.
pub(in crate::daemon) static RECOVERY: Purpose = Purpose::new();

/// Does `work` on files of this purpose.
///
/// # Errors
/// Those of `work`. One that [is late](patience::is_late) when `work` takes longer than
/// [`PATIENCE`], or when earlier calls took that long and have no answer yet.
pub(in crate::daemon) async fn in_time<T: Send + 'static>(
    purpose: &Purpose,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    within(PATIENCE, &purpose.0, work).await
}

/// Does `work` on one of these threads, within this limit; a late answer reads as a silent file
/// system.
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

/// How an order about a file has ended.
#[derive(Debug)]
pub(in crate::daemon) enum Ended {
    /// It is carried out. A later step, such as writing the folder to the disk, may have failed. A
    /// log line then says that a power cut may undo the order.
    Done,
    /// It is not carried out, and will not be.
    NotDone(io::Error),
    /// It is not known: the file system has not answered the very call that carries it out.
    Unknown(io::Error),
}

/// Puts a file into the plugin folder, if that is still the folder that is watched. Within
/// [`PATIENCE`] the file is there, or it never will be, or the outcome is unknown.
pub(in crate::daemon) async fn put(
    (dir, home): (PathBuf, Arc<Home>),
    name: PluginName,
    bytes: impl AsRef<[u8]> + Send + 'static,
) -> Ended {
    let shown = dir.join(format!("{name}.wasm")).display().to_string();
    let work = move |commit: &Commit| publish_if((&dir, &home), &name, bytes.as_ref(), commit);
    carry_out(PATIENCE, &ORDERS.0, shown, work).await
}

/// Removes a file from the plugin folder, within [`PATIENCE`].
pub(in crate::daemon) async fn remove(file: PathBuf) -> Ended {
    let shown = file.display().to_string();
    let work = move |commit: &Commit| {
        // A file system that does not answer stops the thread here, before the step that removes
        // the file.
        std::fs::symlink_metadata(&file)?;
        commit.make(|| std::fs::remove_file(&file))
    };
    carry_out(PATIENCE, &ORDERS.0, shown, work).await
}

/// Carries an order out: `work` takes the step that does so, and may do more behind it.
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
                "{file} is in its place, but its folder may not be on the disk yet: {error}; until \
                 it is, a power cut may bring back what was there before"
            );
            Ended::Done
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, channel};

    use super::*;

    /// Less than any test waits.
    const SOON: Duration = Duration::from_millis(50);

    async fn ends(work: impl FnOnce(&Commit) -> io::Result<()> + Send + 'static) -> Ended {
        carry_out(SOON, &Places::new(1), "tank.wasm".into(), work).await
    }

    fn hang(held: &Receiver<()>) -> io::Result<()> {
        held.recv().map_err(io::Error::other)
    }

    /// The folder was not on the disk after 5 s, and the answer said that the deploy had failed.
    /// Its version ran.
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
        let (tell, told) = channel();
        let before_it = ends(move |commit| {
            hang(&held)?;
            let result = commit.make(|| Ok(()));
            tell.send(result.is_ok()).map_err(io::Error::other)
        });
        assert!(matches!(before_it.await, Ended::NotDone(_)));
        hold.send(()).unwrap();
        assert!(!told.recv().unwrap(), "it was not done");
    }
}
