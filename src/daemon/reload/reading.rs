//! The configuration file on its disk: read again when somebody asks for it, watched for changes.
//!
//! Both may take as long as a file system takes to answer, so threads of their own do it, one
//! reading at a time. What becomes of what was read is in `reload.rs`.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot::error::TryRecvError;
use tokio::sync::{mpsc, oneshot};
use tokio::task::spawn_blocking;
use tokio::time::sleep;

use super::Cause;
use crate::config::{self, Config};
use crate::daemon::Event;
use crate::image::Points;
use crate::patience::{self, PATIENCE};
use crate::stamp::Stamp;

/// How often the file is looked at. It has settled when two looks in a row find it the same.
const LOOK: Duration = Duration::from_millis(250);

/// A reading of the file, on a thread that may wait for it.
#[derive(Debug)]
pub(super) struct Reading {
    cause: Cause,
    end: oneshot::Receiver<Read>,
}

/// The state of the file, and what it says or why that is not to be had.
pub(super) type Read = (Option<Stamp>, Result<Config, String>);

impl Reading {
    /// Begins it while `before` is in force. It has an end, whatever becomes of the file.
    pub(super) fn begin(cause: Cause, before: &Config) -> Self {
        let (points, path) = (Arc::clone(&before.points), before.path.clone());
        let (done, end) = oneshot::channel();
        // Nobody waits any more only when the daemon has stopped.
        spawn_blocking(move || drop(done.send(read(&points, &path))));
        Self { cause, end }
    }

    /// What it has found, and for whom; or itself, while there is no answer.
    pub(super) fn end(mut self) -> Result<(Cause, Read), Self> {
        match self.end.try_recv() {
            Err(TryRecvError::Empty) => Err(self),
            Ok(read) => Ok((self.cause, read)),
            Err(TryRecvError::Closed) => {
                let why = "the thread that read the configuration has panicked";
                Ok((self.cause, (None, Err(why.into()))))
            }
        }
    }
}

fn read(points: &Points, path: &Path) -> Read {
    let file = path.to_path_buf();
    match patience::wait(PATIENCE, move || Ok(Stamp::of(&file))) {
        Ok(stamp) => {
            let new = config::load_after(points, path);
            (stamp, new.map_err(|problems| problems.to_string()))
        }
        Err(error) => (None, Err(format!("{}: {error}", path.display()))),
    }
}

/// Tells the daemon whenever the file is another than `seen` and has settled. An editor that writes
/// it in two steps, or puts another in its place, is one change.
pub(in crate::daemon) async fn watch_file(
    path: PathBuf,
    mut seen: Option<Stamp>,
    events: mpsc::Sender<Event>,
) {
    let mut before = seen;
    loop {
        sleep(LOOK).await;
        let file = path.clone();
        let Ok(now) = spawn_blocking(move || Stamp::of(&file)).await else { return };
        if now != seen && now == before {
            seen = now;
            if events.send(Event::Reload(Cause::File)).await.is_err() {
                return;
            }
        }
        before = now;
    }
}
