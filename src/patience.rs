//! Calls that a file system may leave without an answer: made on a thread of their own, and waited
//! for no longer than [`PATIENCE`]; and threads that may wait for one, given up after a limit.
//!
//! A server that is gone or a card that dies makes any call on a file wait, and nothing ends such a
//! wait but an answer. So the thread stays behind, and what it was asked for may still be done
//! later; only a few of them may stay. That a pipe in the place of a file makes nobody wait is in
//! `file.rs`; who waits for the plugin folder, or on orders of people, is in `daemon/folder.rs`.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

/// How long an answer is waited for: longer than a card that is wearing out takes, or a disk to
/// begin to turn; no longer than a person waits without a word.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// Calls that wait at one time: there are a few kinds, each is asked for once at a time, and what
/// was given up counts until it has its answer.
const MAX_CALLS: usize = 32;

/// Lives as long as a call.
static CALLS: std::sync::LazyLock<Arc<()>> = std::sync::LazyLock::new(Arc::default);

/// Does `work` and waits for it here, up to `limit`.
///
/// # Errors
/// Those of `work`, and [`io::ErrorKind::TimedOut`] when there is no answer in time.
pub fn wait<T: Send + 'static>(
    limit: Duration,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    if Arc::strong_count(&CALLS) > MAX_CALLS {
        let why = format!("{MAX_CALLS} calls on files wait for an answer already");
        return Err(io::Error::new(io::ErrorKind::ResourceBusy, why));
    }
    wait_regardless(limit, work)
}

/// Does `work` as [`wait`] does, however many calls wait already: for what is asked for once in the
/// life of the process.
///
/// # Errors
/// As [`wait`].
pub fn wait_regardless<T: Send + 'static>(
    limit: Duration,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let call = Arc::clone(&CALLS);
    let (tell, told) = sync_channel(1);
    thread::Builder::new().name("disk".into()).spawn(move || {
        let panicked = |_| Err(io::Error::other("the thread that did it has panicked"));
        let answer = catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(panicked);
        // Before anybody hears of the answer, who may call again.
        drop(call);
        // Nobody waits any more if it comes too late.
        let _ = tell.send(answer);
    })?;
    told.recv_timeout(limit).unwrap_or_else(|_| Err(no_answer(limit)))
}

/// Does `work` on a thread of the runtime as soon as it has one of these `places`, and waits for it
/// up to `limit`; `None` when there is no answer in time. A thread that waits keeps its place until
/// it has its answer, also when nobody waits for that any more.
///
/// # Errors
/// Those of `work`, and that it has panicked.
pub async fn within<T: Send + 'static>(
    limit: Duration,
    places: &'static Semaphore,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Option<io::Result<T>> {
    let done = async move {
        let place = places.acquire().await;
        let work = move || {
            let _place = place;
            work()
        };
        spawn_blocking(work).await.unwrap_or_else(|panic| Err(io::Error::other(panic)))
    };
    timeout(limit, done).await.ok()
}

/// Between two looks at a thread that is to end.
const LOOK: Duration = Duration::from_millis(1);

/// Waits for the end of a thread, up to `limit`. One that does not end is left behind, and named in
/// the log.
pub fn join(thread: JoinHandle<()>, limit: Duration) {
    let end = Instant::now() + limit;
    while !thread.is_finished() {
        if Instant::now() >= end {
            let name = thread.thread().name().unwrap_or("without a name");
            tracing::warn!(
                thread = name,
                "thread {name} has not ended within {limit:?} and is left behind: it waits for a \
                 disk or a device"
            );
            return;
        }
        thread::sleep(LOOK);
    }
    // A panic has been logged.
    let _ = thread.join();
}

/// What is said where no answer has come within this limit.
pub fn no_answer(limit: Duration) -> io::Error {
    // What is left of a limit is no round number.
    let hundredths = (limit.as_millis() as u64).saturating_add(5) / 10;
    let limit = Duration::from_millis(hundredths * 10);
    io::Error::new(io::ErrorKind::TimedOut, format!("no answer for {limit:?}"))
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;
    use std::time::Instant;

    use super::*;

    #[test]
    fn what_hangs_is_waited_for_no_longer_than_its_limit() {
        let limit = Duration::from_millis(50);
        assert_eq!(wait(limit, || Ok(1)).unwrap(), 1);
        let (hold, held) = channel::<()>();
        let started = Instant::now();
        let error = wait(limit, move || held.recv().map_err(io::Error::other)).unwrap_err();
        assert_eq!(
            (error.kind(), &*error.to_string()),
            (io::ErrorKind::TimedOut, "no answer for 50ms")
        );
        assert!(started.elapsed() < PATIENCE);
        drop(hold);
        let error = wait::<()>(PATIENCE, || panic!("on purpose")).unwrap_err();
        assert!(error.to_string().contains("has panicked"), "{error}");
    }

    #[test]
    fn a_thread_that_hangs_is_waited_for_no_longer_than_its_limit() {
        let started = Instant::now();
        join(thread::spawn(|| {}), PATIENCE);
        assert!(started.elapsed() < PATIENCE);
        let (hold, held) = channel::<()>();
        join(thread::spawn(move || held.recv().unwrap_or(())), Duration::from_millis(50));
        assert!(started.elapsed() < PATIENCE);
        drop(hold);
    }
}
