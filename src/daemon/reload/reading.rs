//! The reading of the configuration file: a thread reads the file, and a task watches the file for
//! changes.
//!
//! A file system may be slow, so separate threads read the file and its stamp. The stamp has, for
//! example, the size and the times of the file. Only one reading runs at a time. A reading loads
//! everything that a reload needs from the disk, including the files that new devices need
//! (`reload/devices.rs`). The code in `reload.rs` uses the result.

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

/// The time between two checks of the file. If two consecutive checks find the same stamp, the
/// daemon assumes that the file is complete.
const LOOK: Duration = Duration::from_millis(250);

/// A reading of the file that is in progress on a thread.
#[derive(Debug)]
pub(super) struct Reading {
    /// The cause of the reading, with the reply channel if a caller waits for an answer.
    cause: Cause,
    /// The channel on which the thread sends its result.
    end: oneshot::Receiver<Read>,
}

/// The result of a reading: the stamp of the file, and the content or the reason why it cannot be
/// used.
pub(super) type Read = (Option<Stamp>, Result<New, Unread>);

/// The content of a file that was read and checked.
#[derive(Debug)]
pub(super) struct New {
    /// The configuration in the file.
    pub(super) config: Config,
    /// The differences from the configuration in force.
    pub(super) changes: Vec<Change>,
    /// The devices of `config`. `None` if the devices have not changed, and for a comparison.
    pub(super) device_set: Option<Planned>,
}

impl Reading {
    /// Starts a reading while the configuration `before` is in force. A reading has four steps: get
    /// the stamp, read the file, check its devices, and plan the new devices. Each step ends within
    /// [`PATIENCE`](crate::patience::PATIENCE), even if a file system gives no answer. New devices
    /// get `exports`, the values to show to other systems.
    pub(super) fn begin(cause: Cause, before: &Config, exports: &Exports) -> Self {
        let (before, exports) = (before.clone(), exports.clone());
        let is_taken_over = !matches!(cause, Cause::Comparison(_));
        let (done, end) = oneshot::channel();
        // The send fails only after the daemon has stopped.
        spawn_blocking(move || drop(done.send(read(&before, is_taken_over.then_some(&exports)))));
        Self { cause, end }
    }

    /// Whether the reading is for a comparison: an operator asks what a reload would change.
    pub(super) fn is_comparison(&self) -> bool {
        matches!(self.cause, Cause::Comparison(_))
    }

    /// Returns the cause and the result of the reading. While the thread is still reading, the
    /// function returns the reading itself as the error.
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

/// Reads the file. If `exports` is not `None`, the function also plans the new devices. For a
/// comparison `exports` is `None`, because a comparison opens no device.
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

/// Watches the file. The task sends an event each time the file differs from `seen` and has stopped
/// changing. An editor may write the file in two steps, or replace the file by a new file. If the
/// steps are less than [`LOOK`] apart, the task sends only one event.
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
        // The file has changed since the last event, and two consecutive checks found the same
        // stamp.
        if now != seen && now == before {
            seen = now;
            if events.send(Event::Reload(Cause::File)).await.is_err() {
                return;
            }
        }
        before = now;
    }
}
