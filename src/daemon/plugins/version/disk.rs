//! The file in the state directory that has the record of each version.
//!
//! ```text
//!   start: read() ──▶ Sum ──▶ changes ──▶ save(): at a change, hourly, or a minute after a failure
//!                                           └──▶ a thread ──▶ the file ──▶ has_failed
//! ```
//! The daemon reads the file at the start. It writes the whole file after a change, after an hour
//! without a write, a minute after a failed write, and at the end. Each access runs on a thread
//! that may wait for the disk. `version.rs` decides the content of the file.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::{fs, io};

use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::{Sum, Versions};
use crate::file;
use crate::patience::{self, PATIENCE};
use crate::state::Folder;

/// The name of the file in the state directory.
pub(super) const FILE: &str = "versions.json";

/// The size limit of the file, in bytes. The limit is twice the size of all records: the largest
/// number of versions of all plugins, with 500 bytes for each version. The daemon never writes a
/// longer file.
const MAX_FILE_BYTES: u64 = 8 << 20;

/// The interval of writes without a change. After a power cut, at most the running time of this
/// interval is lost. 24 writes a day do not wear out a memory card.
pub(super) const SAVE_EVERY: Duration = Duration::from_secs(3600);

/// The pause after a failed write, before the next attempt. The pause is shorter than the normal
/// interval, so that a disk that was full for a moment does not cost an hour of running time.
pub(super) const SAVE_AGAIN: Duration = Duration::from_secs(60);

/// The time limit for the write at the end of the daemon. Without this write, up to an hour of
/// counted running time would be lost.
const LAST_WRITE: Duration = Duration::from_secs(1);

/// Reads the file in this folder. Also returns the folder, or `None` if the daemon must not write
/// the file. A damaged file is renamed and not deleted, because it may be the only record of a bad
/// version. If the file cannot be renamed or its disk does not answer, the file remains unchanged.
pub(super) fn read(folder: Arc<Folder>) -> (Sum, Option<Arc<Folder>>) {
    let path = folder.path().join(FILE);
    let (place, file) = (path.clone(), path.display());
    let error = match patience::wait(PATIENCE, move || file::read(&place, MAX_FILE_BYTES)) {
        Ok(None) => return (Sum::default(), Some(folder)),
        Ok(Some(bytes)) => match serde_json::from_slice(&bytes) {
            Ok(sum) => return (sum, Some(folder)),
            Err(error) => io::Error::new(io::ErrorKind::InvalidData, error),
        },
        Err(error) => error,
    };
    let aside = path.with_added_extension("damaged");
    let (from, to) = (path.clone(), aside.clone());
    let moved = match patience::is_late(&error) {
        true => Err(patience::late("the file may be complete")),
        false => patience::wait(PATIENCE, move || fs::rename(from, to)),
    };
    let (folder, rest) = match moved {
        Ok(()) => (Some(folder), format!("the file is now {}", aside.display())),
        Err(why) => (None, format!("the daemon neither renames nor writes the file ({why})")),
    };
    tracing::warn!(
        %file,
        %error,
        "{file} cannot be read ({error}); the record of versions is computed from the history, \
         which may lack old events; {rest}"
    );
    (Sum::default(), folder)
}

impl Versions {
    /// Checks whether a write waits too long for the disk. Logs the beginning of such a wait, and
    /// the end of every problem with the file.
    fn watch_the_disk(&mut self, is_writing: bool, now: Duration) {
        let is_stalled = is_writing && now.saturating_sub(self.written.0) > PATIENCE;
        let was_stalled = std::mem::replace(&mut self.is_stalled, is_stalled);
        let trouble = self.trouble();
        let had_trouble = std::mem::replace(&mut self.had_trouble, trouble.is_some());
        match trouble {
            Some(why) if is_stalled && !was_stalled => {
                tracing::error!("the record of versions is not written: {why}");
            }
            None if had_trouble => tracing::info!("the record of versions is written again"),
            Some(_) | None => {}
        }
    }

    /// Returns the reason why the record would be lost at the end of the daemon; `None` if the
    /// record would not be lost.
    pub(in super::super) fn trouble(&self) -> Option<String> {
        if let Some(left) = &self.left {
            let left = left.display();
            return Some(format!(
                "{left} could not be read at the start, so the daemon does not write it"
            ));
        }
        let file = self.folder.as_ref()?.path().join(FILE);
        match (self.is_stalled, self.has_failed.load(Ordering::Relaxed)) {
            (true, _) => Some(format!("{}: no answer for {PATIENCE:?}", file.display())),
            (false, true) => Some(format!("{} cannot be written", file.display())),
            (false, false) => None,
        }
    }

    /// Writes the record on a thread, if it has changed or the interval is over, and no earlier
    /// write still runs. `seq` is the number of the newest receipt, if the next start can read the
    /// journal. If the next start cannot read the journal, `seq` is `None`, and the number in the
    /// file does not change.
    pub(in super::super) fn save(&mut self, seq: Option<u64>, now: Duration) {
        let (at, changes) = self.written;
        let every = match self.has_failed.load(Ordering::Relaxed) {
            true => SAVE_AGAIN,
            false => SAVE_EVERY,
        };
        // A write is necessary after a change. A write after the interval stores the running times.
        let is_due = self.changes != changes || now.saturating_sub(at) >= every;
        let is_writing = self.writing.as_ref().is_some_and(|writing| !writing.is_finished());
        self.watch_the_disk(is_writing, now);
        let Some(folder) = self.folder.clone().filter(|_| is_due && !is_writing) else { return };
        self.writing = Some(self.write(folder, seq, now));
    }

    /// Starts a write of the whole file. The running time of each version is counted up to `now`.
    fn write(&mut self, folder: Arc<Folder>, seq: Option<u64>, now: Duration) -> JoinHandle<()> {
        self.sum.seq = seq.unwrap_or(self.sum.seq);
        self.written = (now, self.changes);
        let plugins = self.sum.plugins.iter().map(|(name, versions)| {
            (name.clone(), versions.iter().map(|version| version.so_far(now)).collect())
        });
        let (seq, plugins) = (self.sum.seq, plugins.collect());
        let (leaving, ran) = (self.sum.leaving.clone(), self.sum.ran.clone());
        let sum = Sum { seq, plugins, leaving, ran };
        let has_failed = Arc::clone(&self.has_failed);
        tokio::task::spawn_blocking(move || {
            let text = serde_json::to_vec(&sum).expect("all keys of the record are strings");
            let written = folder.replace(FILE, &text);
            let had_failed = has_failed.swap(written.is_err(), Ordering::Relaxed);
            if let Err(error) = written
                && !had_failed
            {
                tracing::warn!(
                    %error,
                    "the record of versions cannot be written ({error}); it is lost when \
                     the daemon ends, unless the history on the disk has it; the daemon tries \
                     again every {}",
                    humantime::format_duration(SAVE_AGAIN)
                );
            }
        })
    }

    /// Writes the record at the end of the daemon, with the running times. The wait is at most
    /// [`LAST_WRITE`].
    pub(in super::super) async fn save_last(&mut self, seq: Option<u64>, now: Duration) {
        let Some(folder) = self.folder.clone() else { return };
        let work = async {
            if let Some(writing) = self.writing.take() {
                let _ = writing.await;
            }
            let _ = self.write(folder, seq, now).await;
        };
        if timeout(LAST_WRITE, work).await.is_err() {
            tracing::warn!(
                "the record of versions is not written: the disk has not answered for \
                 {LAST_WRITE:?}"
            );
        }
    }
}
