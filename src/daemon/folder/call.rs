//! Calls on plugin files and on the state directory that somebody waits for, made on threads that
//! may wait for the disk.
//!
//! The loader and people's orders make them. What is read and what is put there is decided by
//! whoever calls.

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use crate::patience::{self, Commit, Committed, PATIENCE, Places};
use crate::plugin::folder::{Home, publish_if};

/// Threads that wait at once for files of one purpose. Each that meets a file system which does not
/// answer is lost until that does; when all are, further ones are told so unheard.
const MAX_WAITING: usize = 8;

/// See [`MAX_WAITING`]. The threads outlive whoever asked, so this belongs to the process.
pub(in crate::daemon) struct Purpose(LazyLock<Places>);

impl Purpose {
    const fn new() -> Self {
        Self(LazyLock::new(|| Places::new(MAX_WAITING)))
    }
}

/// Files that people put into the plugin folder, or remove from it.
static ORDERS: Purpose = Purpose::new();

/// Plugin files that the loader reads again. They may be links that lead anywhere.
pub(in crate::daemon) static READING: Purpose = Purpose::new();

/// What lies in the state directory.
pub(in crate::daemon) static STATE: Purpose = Purpose::new();

/// The end of recovery, which is recorded there once in a life. Calls that hang take no place of
/// it: it would be refused unheard otherwise, and the next start would be one for recovery again.
pub(in crate::daemon) static RECOVERY: Purpose = Purpose::new();

/// Does something to files of this purpose.
///
/// # Errors
/// As `work` says, and one that [is late](patience::is_late) when it takes longer than
/// [`PATIENCE`], or when earlier calls have done so and have no answer yet.
pub(in crate::daemon) async fn in_time<T: Send + 'static>(
    purpose: &Purpose,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    within(PATIENCE, &purpose.0, work).await
}

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
    /// It is carried out. What comes behind that may have failed, such as to see the folder on the
    /// disk; that a power cut may undo it then is a line of the log.
    Done,
    /// It is not and will not be.
    NotDone(io::Error),
    /// Nobody knows: the file system has not answered just that call.
    Unknown(io::Error),
}

/// Puts a file into the plugin folder, if that is still the folder that is watched. Within
/// [`PATIENCE`] the file is there, or it never is, or that is unknown.
pub(in crate::daemon) async fn put(
    (dir, home): (PathBuf, Arc<Home>),
    name: String,
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
        // A file system that does not answer keeps this waiting, and removes nothing then.
        std::fs::symlink_metadata(&file)?;
        commit.make(|| std::fs::remove_file(&file))
    };
    carry_out(PATIENCE, &ORDERS.0, shown, work).await
}

/// `work` takes the step that carries the order out, and may do more behind it.
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

    /// The folder was not on the disk after 5 s, and the deploy was said to have failed. Its
    /// version ran.
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
        // The kernel says so at once: of a mount point, for one.
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
