//! The configuration file on its disk: read again when somebody asks for it, watched for changes.
//!
//! Both may take as long as a file system takes to answer, so threads of their own do it, one
//! reading at a time. A reading brings everything that has to be read for a reload, also what the
//! plans of new devices read (`reload/devices.rs`). What becomes of it is in `reload.rs`.

use std::path::PathBuf;
use std::time::Duration;

use tokio::sync::oneshot::error::TryRecvError;
use tokio::sync::{mpsc, oneshot};
use tokio::task::spawn_blocking;
use tokio::time::sleep;

use super::Cause;
use super::devices::Planned;
use crate::config::{self, Change, Config};
use crate::daemon::Event;
use crate::driver::export::Exports;
use crate::patience::is_late;
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
pub(super) type Read = (Option<Stamp>, Result<New, Unread>);

/// Why it is not to be had.
#[derive(Debug)]
pub(super) struct Unread {
    pub(super) why: String,
    /// Whether a file gave no answer in time, or the scan stands, so that another try may find
    /// nothing wrong.
    pub(super) is_late: bool,
}

impl From<String> for Unread {
    fn from(why: String) -> Self {
        Self { why, is_late: false }
    }
}

/// What the file says.
#[derive(Debug)]
pub(super) struct New {
    pub(super) config: Config,
    /// How that differs from what is in force.
    pub(super) changes: Vec<Change>,
    /// Its devices, if there are others than before and they shall be taken over.
    pub(super) device_set: Option<Planned>,
}

impl Reading {
    /// Begins it while `before` is in force. Each of its steps ends within
    /// [`PATIENCE`](crate::patience::PATIENCE), whatever becomes of the files: to look at the
    /// configuration, to read it, to check its devices, and to plan those that are new.
    pub(super) fn begin(cause: Cause, before: &Config, exports: &Exports) -> Self {
        let (before, exports) = (before.clone(), exports.clone());
        let is_taken_over = !matches!(cause, Cause::Comparison(_));
        let (done, end) = oneshot::channel();
        // Nobody waits any more only when the daemon has stopped.
        spawn_blocking(move || drop(done.send(read(&before, is_taken_over.then_some(&exports)))));
        Self { cause, end }
    }

    /// Whether somebody only wants to know what a reload would do.
    pub(super) fn is_comparison(&self) -> bool {
        matches!(self.cause, Cause::Comparison(_))
    }

    /// What it has found, and for whom; or itself, while there is no answer.
    pub(super) fn end(mut self) -> Result<(Cause, Read), Self> {
        match self.end.try_recv() {
            Err(TryRecvError::Empty) => Err(self),
            Ok(read) => Ok((self.cause, read)),
            Err(TryRecvError::Closed) => {
                let why = "the thread that read the configuration has panicked".to_owned();
                Ok((self.cause, (None, Err(why.into()))))
            }
        }
    }
}

/// Devices are planned if there is something for them to show.
fn read(before: &Config, exports: Option<&Exports>) -> Read {
    match config::stamp(&before.path) {
        Ok(stamp) => (stamp, read_new(before, exports)),
        Err(error) => {
            let (why, is_late) = (format!("{}: {error}", before.path.display()), is_late(&error));
            (None, Err(Unread { why, is_late }))
        }
    }
}

fn read_new(before: &Config, exports: Option<&Exports>) -> Result<New, Unread> {
    let config = config::load_after(&before.points, &before.path).map_err(|problems| {
        let (why, is_late) = (problems.to_string(), problems.is_late);
        Unread { why, is_late }
    })?;
    let changes = config::changes(before, &config);
    let plan = |exports| Planned::plan(before, &config, &changes, exports);
    let device_set = exports.map_or(Ok(None), plan)?;
    Ok(New { config, changes, device_set })
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
