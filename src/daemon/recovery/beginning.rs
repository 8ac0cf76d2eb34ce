//! A start of which nobody knows yet whether it comes to anything.
//!
//! It may be refused, or the daemon may be told to stop meanwhile, while another thread waits for
//! the disk to record it. Such an end is an orderly one.

use std::io;
use std::sync::{Arc, OnceLock};

use super::end;
use crate::patience::{Commit, Committed};
use crate::state::Folder;

/// What is recorded of such a start.
#[derive(Debug, Default)]
pub(in crate::daemon) struct Beginning {
    /// Where it is recorded.
    folder: OnceLock<Arc<Folder>>,
    /// The step that records it.
    record: Commit,
}

impl Beginning {
    /// Records it in this folder, as `write` does.
    ///
    /// # Errors
    /// Those of `write`, or that it has come to nothing before.
    pub(super) fn record(
        &self,
        folder: &Arc<Folder>,
        write: impl FnOnce() -> io::Result<()>,
    ) -> io::Result<()> {
        self.folder.get_or_init(|| Arc::clone(folder));
        let mut written = Ok(());
        // A write that fails may be on the disk all the same.
        let step = || {
            written = write();
            Ok(())
        };
        self.record.make(step).and(written)
    }

    /// It comes to nothing. What is not recorded of it never is, though a thread may still be on
    /// its way there.
    pub(in crate::daemon) fn end(&self) {
        if self.record.give_up() != Committed::No {
            end(self.folder.get());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{begin, load};
    use super::*;
    use crate::config::RecoverySettings;

    /// SIGTERM came before the start was recorded, by a thread that was still on its way there.
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
