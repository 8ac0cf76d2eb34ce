//! The configuration file on the disk: a thread reads it on request, and a task watches it for
//! changes.
//!
//! A file system may take long to answer, so threads of their own read the file and look at its
//! stamp. At most one reading runs at a time. A reading brings everything that a reload needs from
//! the disk, also the files for the plans of new devices (`reload/devices.rs`). What the daemon
//! does with the result is in `reload.rs`.

use std::path::PathBuf;
use std::time::Duration;

use tokio::sync::oneshot::error::TryRecvError;
use tokio::sync::{mpsc, oneshot};
use tokio::task::spawn_blocking;
use tokio::time::sleep;

use super::Cause;
use super::devices::Planned;
use super::unread::Unread;
use crate::config::{self, Change, Config};
use crate::daemon::Event;
use crate::driver::export::Exports;
use crate::patience::is_late;
use crate::stamp::Stamp;

/// The time between two looks at the file. The file has settled if two looks in a row find it the
/// same.
const LOOK: Duration = Duration::from_millis(250);

/// A reading of the file that is under way on a thread.
#[derive(Debug)]
pub(super) struct Reading {
    /// Why the file is read, with the sender of the answer if there is one.
    cause: Cause,
    /// The end of the channel on which the thread sends its result.
    end: oneshot::Receiver<Read>,
}

/// The result of a reading: the stamp of the file, and its content or why that cannot be used.
pub(super) type Read = (Option<Stamp>, Result<New, Unread>);

/// The content of a file that was read and checked.
#[derive(Debug)]
pub(super) struct New {
    /// The configuration that the file describes.
    pub(super) config: Config,
    /// The differences from the configuration in force.
    pub(super) changes: Vec<Change>,
    /// The devices of `config`. `None` if they have not changed, or if the reading is a comparison.
    pub(super) device_set: Option<Planned>,
}

impl Reading {
    /// Begins a reading while `before` is in force. The reading has four steps: look at the file,
    /// read it, check its devices, and plan the new devices. Each step ends within
    /// [`PATIENCE`](crate::patience::PATIENCE), whatever the files do.
    pub(super) fn begin(cause: Cause, before: &Config, exports: &Exports) -> Self {
        let (before, exports) = (before.clone(), exports.clone());
        let is_taken_over = !matches!(cause, Cause::Comparison(_));
        let (done, end) = oneshot::channel();
        // The receiver is gone only when the daemon has stopped.
        spawn_blocking(move || drop(done.send(read(&before, is_taken_over.then_some(&exports)))));
        Self { cause, end }
    }

    /// Whether this is a comparison: the operator asks what a reload would change.
    pub(super) fn is_comparison(&self) -> bool {
        matches!(self.cause, Cause::Comparison(_))
    }

    /// The cause and the result of the reading; the reading itself as an error while it has no
    /// result.
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

/// Reads the file. Devices are planned only if `exports` is given, because a comparison opens no
/// device.
fn read(before: &Config, exports: Option<&Exports>) -> Read {
    match config::stamp(&before.path) {
        Ok(stamp) => (stamp, read_new(before, exports)),
        Err(error) => {
            let (why, is_late) = (format!("{}: {error}", before.path.display()), is_late(&error));
            (None, Err(Unread { why, is_late }))
        }
    }
}

/// Reads and checks the file, compares it with `before`, and plans its new devices.
fn read_new(before: &Config, exports: Option<&Exports>) -> Result<New, Unread> {
    let config = config::load_after(&before.live.points, &before.path).map_err(|problems| {
        let (why, is_late) = (problems.to_string(), problems.is_late);
        Unread { why, is_late }
    })?;
    let changes = config::changes(before, &config);
    let plan = |exports| Planned::plan(before, &config, &changes, exports);
    let device_set = exports.map_or(Ok(None), plan)?;
    Ok(New { config, changes, device_set })
}

/// Watches the file, and sends an event whenever it differs from `seen` and has settled. An editor
/// may write the file in two steps, or put another file in its place: both make one event.
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
        // The file has changed since the last event, and two looks in a row found it the same.
        if now != seen && now == before {
            seen = now;
            if events.send(Event::Reload(Cause::File)).await.is_err() {
                return;
            }
        }
        before = now;
    }
}
