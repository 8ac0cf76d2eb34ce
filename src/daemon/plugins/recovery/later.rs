//! The answer to the order that ends recovery. The answer waits for the state directory, but only
//! for a limited time.
//!
//! If the disk answers too late, the caller gets a failure, but the write continues. If all threads
//! of `RECOVERY` are blocked, the caller gets a failure at once. `recovery.rs` decides what is
//! written; `forget.rs` repeats a failed write.

use tokio::sync::oneshot;

use crate::control::{Code, Failure, Reply};
use crate::daemon::plugins::call::{RECOVERY, in_time};

/// Runs `work`, which records the end of recovery, on a thread that may wait for the state
/// directory. If the disk does not answer within 5 s, or if all threads for this work are blocked,
/// the caller gets a failure. The text of the failure begins with `so_far`, which describes the
/// situation without the record and names the state directory. `work` may end after the caller has
/// got the failure.
pub(super) fn answer_later(
    reply: oneshot::Sender<Reply>,
    so_far: String,
    work: impl FnOnce() -> Reply + Send + 'static,
) {
    tokio::spawn(async move {
        let late = |error| Err(Failure::new(Code::Internal, format!("{so_far}: {error}")));
        let _ = reply.send(in_time(&RECOVERY, || Ok(work())).await.unwrap_or_else(late));
    });
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;
    use crate::control::Response;
    use crate::daemon::plugins::call::STATE;

    /// A defect of the past: eight calls waited for the state directory and used all threads. So
    /// the end of recovery was not written, no write was repeated, and a second order of the
    /// operator was refused.
    #[tokio::test]
    async fn calls_that_hang_do_not_keep_out_the_end_of_recovery() {
        const MOST: usize = 8;
        let (begin, begun) = channel();
        let holds: Vec<_> = (0..MOST)
            .map(|_| {
                let ((hold, held), begin) = (channel::<()>(), begin.clone());
                tokio::spawn(in_time(&STATE, move || {
                    begin.send(()).map_err(std::io::Error::other)?;
                    held.recv().map_err(std::io::Error::other)
                }));
                hold
            })
            .collect();
        let all_hang = move || (0..MOST).for_each(|_| begun.recv().unwrap());
        tokio::task::spawn_blocking(all_hang).await.unwrap();
        let (reply, answer) = oneshot::channel();
        answer_later(reply, "nothing is recorded".into(), || Ok(Response::Done));
        let answer = answer.await.unwrap();
        assert!(matches!(answer, Ok(Response::Done)), "{answer:?}");
        drop(holds);
    }
}
