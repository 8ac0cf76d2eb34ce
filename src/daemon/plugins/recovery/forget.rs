//! Changes of the record that must not be lost. If the disk is full or read-only, the daemon
//! repeats the write until it succeeds.
//!
//! Two changes must not be lost:
//! - After the daemon has run for long enough, the ends of earlier daemons are cleared from the
//!   record. The long run shows that the cause of these ends no longer exists.
//! - After an operator has ended recovery, the next start must not begin in recovery.
//!
//! `recovery.rs` has the record.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::spawn_blocking;

use super::{Record, change};
use crate::state::Folder;

/// The pause after a failed write, before the next attempt. The pause can be this short, because a
/// refused write does not wear out a memory card.
pub(super) const FORGET_AGAIN: Duration = Duration::from_secs(60);

/// Clears the earlier ends after the daemon has run for `within`.
pub(super) fn forget_later(folder: Arc<Folder>, within: Duration) {
    tokio::spawn(async move {
        tokio::time::sleep(within).await;
        forget(folder, within, FORGET_AGAIN).await;
    });
}

/// Records the end of recovery after the first write has failed. Without the record, the next start
/// would begin in recovery, even months later.
pub(super) async fn end_recovery(folder: Arc<Folder>, again: Duration) {
    tokio::time::sleep(again).await;
    // The failures are not logged, because the answer to the operator has already reported the
    // first failure.
    until_taken(&folder, again, Record::end_recovery, |_| ()).await;
    tracing::info!("the end of recovery is recorded now");
}

/// Clears the earlier ends, as soon as the disk accepts the write.
async fn forget(folder: Arc<Folder>, within: Duration, again: Duration) {
    let mut is_told = false;
    let failed = |error: io::Error| {
        if !std::mem::replace(&mut is_told, true) {
            tracing::warn!(
                %error,
                "earlier abnormal ends and power cuts are still counted, because the record cannot \
                 be written: {error}; the daemon tries again every {}",
                humantime::format_duration(again)
            );
        }
    };
    if until_taken(&folder, again, Record::forget_ends, failed).await {
        tracing::info!(
            "the daemon has run for {}: earlier abnormal ends and power cuts are not counted \
             any more",
            humantime::format_duration(within)
        );
    }
}

/// Changes the record, and repeats the change and the write until the write succeeds. `how` makes
/// the change. Returns the result of the last call of `how`, and calls `failed` with the error of
/// each failed attempt.
async fn until_taken<T: Send + 'static>(
    folder: &Arc<Folder>,
    again: Duration,
    how: fn(&mut Record) -> T,
    mut failed: impl FnMut(io::Error),
) -> T {
    loop {
        let place = Arc::clone(folder);
        match spawn_blocking(move || change(&place, how)).await {
            Ok((found, Ok(()))) => return found,
            Ok((_, Err(error))) => failed(error),
            Err(panic) => failed(io::Error::other(panic)),
        }
        tokio::time::sleep(again).await;
    }
}

#[cfg(test)]
mod tests {
    use super::super::{FILE, load};
    use super::*;

    /// A defect of the past: the disk was full at `camshaft recover`, and the next start, months
    /// later, began in recovery.
    #[tokio::test]
    async fn the_end_of_recovery_that_the_disk_did_not_take_is_recorded_later() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Arc::new(Folder::open(dir.path()).unwrap());
        change(&folder, |record| record.recovery = true).1.unwrap();
        let in_the_way = dir.path().join(format!("{FILE}.tmp"));
        std::fs::create_dir(&in_the_way).unwrap();
        let mut ending =
            std::pin::pin!(end_recovery(Arc::clone(&folder), Duration::from_millis(1)));
        let some = tokio::time::timeout(Duration::from_millis(50), &mut ending);
        assert!(some.await.is_err(), "it is tried again");
        assert!(load(&folder).recovery);
        std::fs::remove_dir(in_the_way).unwrap();
        tokio::time::timeout(Duration::from_secs(60), ending).await.unwrap();
        assert_eq!(load(&folder), Record::default());
    }

    /// A defect of the past: the disk was full when the daemon had run for long enough, and the
    /// earlier ends were still in the record months later.
    #[tokio::test]
    async fn what_the_disk_did_not_take_is_forgotten_later() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Arc::new(Folder::open(dir.path()).unwrap());
        change(&folder, |record| record.power_cuts = 2).1.unwrap();
        let in_the_way = dir.path().join(format!("{FILE}.tmp"));
        std::fs::create_dir(&in_the_way).unwrap();
        let (within, again) = (Duration::from_secs(600), Duration::from_millis(1));
        let mut forgetting = std::pin::pin!(forget(Arc::clone(&folder), within, again));
        let some = tokio::time::timeout(Duration::from_millis(50), &mut forgetting);
        assert!(some.await.is_err(), "it is tried again");
        assert_eq!(load(&folder).power_cuts, 2);
        std::fs::remove_dir(in_the_way).unwrap();
        tokio::time::timeout(Duration::from_secs(60), forgetting).await.unwrap();
        assert_eq!(load(&folder), Record::default());
    }
}
