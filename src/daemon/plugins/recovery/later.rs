//! The answer to the order that ends recovery. It waits for the state directory, but not for ever.
//!
//! If the answer comes first, the write still goes on. What is written is decided in `recovery.rs`;
//! what happens after a failed write is in `forget.rs`.

use tokio::sync::oneshot;

use crate::control::{Code, Failure, Reply};
use crate::daemon::plugins::call::{RECOVERY, in_time};

/// Does `work`, which records the end of recovery, on a thread that may wait for the state
/// directory. If the disk gives no answer within 5 s, the caller gets a failure. The failure begins
/// with `so_far`: what is true without the record, and where the record lies. The work begins in
/// any case, and may still be done later.
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

    /// Eight calls hung in the state directory. So no write of the end of recovery ever began, none
    /// was tried again, and the operator could not order the end a second time.
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
