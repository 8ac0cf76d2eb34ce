//! A start of the daemon that may still be refused or stopped.
//!
//! ```text
//!   load ──▶ count ──▶ the step that writes ──▶ recorded ──▶ end(): an orderly end is recorded
//!                         │
//!                         └── end() comes first ──▶ the step is never made
//! ```
//! The start may be refused, or a signal may stop the daemon. At that time, a thread may still wait
//! for the disk to record the start. The end of such a start is orderly, so the thread must not
//! record a running daemon afterwards. `recovery.rs` decides what is recorded.

use std::io;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use super::{change, count, end, load};
use crate::config::RecoverySettings;
use crate::patience::{self, Commit, Committed};
use crate::state::Folder;

/// The progress of recording one start.
#[derive(Debug, Default)]
pub(in crate::daemon) struct Beginning {
    /// The folder of the record; empty if the start is not recorded.
    folder: OnceLock<Arc<Folder>>,
    /// The step that writes the record. The thread makes this step one time or never.
    step: Commit,
}

impl Beginning {
    /// Stores the folder in which the start is recorded.
    pub(in crate::daemon) fn is_in(&self, folder: &Arc<Folder>) {
        self.folder.get_or_init(|| Arc::clone(folder));
    }

    /// Records the start in this folder. The time limit is `limit` for the read and again `limit`
    /// for the write. Returns the reason why no plugin may run, or `None` if plugins may run. The
    /// reason is valid even if the write fails. If the record cannot be read, the function returns
    /// `None` and records nothing.
    pub(super) fn record(
        self: &Arc<Self>,
        folder: &Arc<Folder>,
        settings: &RecoverySettings,
        limit: Duration,
    ) -> Option<String> {
        self.is_in(folder);
        let place = Arc::clone(folder);
        let mut record = match patience::wait(limit, move || Ok(load(&place))) {
            Ok(record) => record,
            Err(error) => {
                tracing::error!(
                    %error,
                    "the record of starts cannot be read ({error}): the daemon ignores an \
                     earlier recovery, and does not count this start and its end"
                );
                return None;
            }
        };
        let reason = count(&mut record, settings);
        let (place, this) = (Arc::clone(folder), Arc::clone(self));
        let write = move || this.write(|| change(&place, |known| *known = record).1);
        match patience::wait(limit, write) {
            Ok(()) => {}
            Err(error) if patience::is_late(&error) => tracing::warn!(
                %error,
                "this start is not recorded yet ({error}): it is recorded when the disk answers"
            ),
            Err(error) => tracing::warn!(
                %error,
                "this start cannot be recorded ({error}), so the end of this run is not counted"
            ),
        }
        reason
    }

    /// Writes the record, unless the start has already ended.
    fn write(&self, write: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        let mut written = Ok(());
        // The step is treated as made even if the write fails, because some bytes may be on the
        // disk.
        let step = || {
            written = write();
            Ok(())
        };
        self.step.make(step).and(written)
    }

    /// Records an orderly end of the start, if the write of the start's record has begun. If this
    /// write has not begun, it never begins, even if a thread is about to make it.
    pub(in crate::daemon) fn end(&self) {
        if self.step.give_up() != Committed::No {
            end(self.folder.get());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::begin;
    use super::*;

    /// The signal SIGTERM arrives while a thread is about to record the start.
    #[tokio::test]
    async fn a_start_that_comes_to_nothing_is_no_abnormal_end() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Arc::new(Folder::open(dir.path()).unwrap());
        let settings = RecoverySettings::default();
        let begin = |beginning| begin(Some(&folder), false, &settings, beginning);
        let beginning = Arc::default();
        begin(&beginning);
        assert!(load(&folder).running);
        beginning.end();
        assert!(!load(&folder).running);
        let given_up = Arc::<Beginning>::default();
        given_up.end();
        begin(&given_up);
        assert!(!load(&folder).running);
    }
}
