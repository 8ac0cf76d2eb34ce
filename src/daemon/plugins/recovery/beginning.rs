//! A start whose outcome is not known yet.
//!
//! The start may be refused, or a signal may stop the daemon, while another thread still waits for
//! the disk to record the start. Such an end is an orderly one. What is recorded is in
//! `recovery.rs`.

use std::io;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use super::{change, count, end, load};
use crate::config::RecoverySettings;
use crate::patience::{self, Commit, Committed};
use crate::state::Folder;

/// What is recorded of such a start.
#[derive(Debug, Default)]
pub(in crate::daemon) struct Beginning {
    /// The folder of the record.
    folder: OnceLock<Arc<Folder>>,
    /// The step that writes the record.
    step: Commit,
}

impl Beginning {
    /// Notes the folder in which the start is recorded, if it is recorded at all.
    pub(in crate::daemon) fn is_in(&self, folder: &Arc<Folder>) {
        self.folder.get_or_init(|| Arc::clone(folder));
    }

    /// Records the start in this folder. Its disk has up to `limit` to be read and as long to be
    /// written. Returns the reason if no plugin may run. What was read counts even if the disk does
    /// not take the write.
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
                    "the record of starts cannot be read ({error}): a recovery from before is not \
                     known, and this start and its end are not counted"
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
                "this start is not recorded yet ({error}): it is recorded once the disk answers"
            ),
            Err(error) => tracing::warn!(
                %error,
                "this start cannot be recorded ({error}), and its end is not counted"
            ),
        }
        reason
    }

    /// Writes the record, unless the start was ended before.
    fn write(&self, write: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        let mut written = Ok(());
        // A write that fails may be on the disk all the same.
        let step = || {
            written = write();
            Ok(())
        };
        self.step.make(step).and(written)
    }

    /// Ends the start. A record that is not written by now never is, though a thread may be about
    /// to write it.
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

    /// SIGTERM came before the start was recorded, while a thread was about to record it.
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
