//! Waiting with a limit: for calls on files that may hang, and for threads that make such calls.
//!
//! If a file server does not answer or a memory card fails, any call on a file may hang. The caller
//! cannot cancel the call. Therefore a separate thread makes the call, and the caller waits for the
//! answer up to a limit, in most cases [`PATIENCE`]. After the limit the caller continues without
//! an answer. The thread still waits for the answer, and it may finish its work later. If a step of
//! the work must not happen after the limit, the thread does this step with a [`Commit`].
//!
//! For each purpose, only a few threads may wait at the same time. Therefore each purpose has a
//! limited number of places ([`Places`]), and each call needs a place. [`PlacesByKey`] has the
//! places of each of many files or hosts.
//!
//! ```text
//! caller ── takes a place ──▶ thread ── the call ──▶ disk
//!   │◀─ answer, or an error after the limit ─┘  the thread frees the place after the answer
//! ```
//! If a path leads to a pipe and not to a file, `file.rs` makes sure that no thread waits for the
//! pipe. `daemon/plugins/call.rs` makes these calls for the loader and for the orders of operators.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::sync_channel;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tokio::task::spawn_blocking;
use tokio::time::timeout;

use crate::thread::named;

mod by_key;
mod commit;
mod late;
mod places;

pub use by_key::PlacesByKey;
pub use commit::{Commit, Committed};
pub use late::{is_late, late, no_answer};
pub use places::{CallSlot, Places};

/// The time for which a caller waits for an answer. Even a worn memory card, or a hard disk that
/// must first start to turn, answers within this time. With a longer time, the operator would get
/// the message too late.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// Does `work` on a new thread and waits for its result, up to `limit`. This function is for calls
/// that the process makes only once, at its start or its end. The call needs no place, so hanging
/// calls cannot block it.
///
/// # Errors
/// Returns the errors of `work`, an error if `work` panics, and an error if the new thread cannot
/// start. If no answer comes within `limit`, returns an error for which [`is_late`] is true.
pub fn wait<T: Send + 'static>(
    limit: Duration,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    wait_with((), limit, work)
}

/// Takes one of `places`, does `work` on a new thread, and waits for its result. `limit` is the
/// time limit for these three steps together. This function is for calls that are made many times.
///
/// # Errors
/// Returns the errors of [`wait`]. If no place is free within `limit`, also returns an error for
/// which [`is_late`] is true. If all places are taken by calls that have waited for [`PATIENCE`] or
/// longer, returns this error at once.
pub fn wait_in<T: Send + 'static>(
    places: &Places,
    limit: Duration,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let end = Instant::now() + limit;
    let place = places.take(end)?;
    wait_with(place, end.saturating_duration_since(Instant::now()), work)
}

/// Does `work` on a new thread and waits for its result, up to `limit`. The thread drops `place`
/// when `work` has ended, which frees a place of [`Places`].
fn wait_with<T: Send + 'static>(
    place: impl Send + 'static,
    limit: Duration,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let (sender, receiver) = sync_channel(1);
    named("disk").spawn(move || {
        let panicked = |_| Err(io::Error::other("the thread for this disk access has panicked"));
        let answer = catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(panicked);
        // The place is freed before the answer is sent: the caller may need a place again at once.
        drop(place);
        // If the caller does not wait any more, the send fails, and the answer is dropped.
        let _ = sender.send(answer);
    })?;
    receiver.recv_timeout(limit).unwrap_or_else(|_| Err(no_answer(limit)))
}

/// Takes one of `places`, does `work` on a blocking thread of the runtime, and waits for its
/// result. `limit` is the time limit for these three steps together. The thread frees the place
/// when `work` has ended, even if the caller does not wait any more.
///
/// # Errors
/// Returns the errors of `work`, and an error if `work` panics. If no answer comes within `limit`,
/// returns an error for which [`is_late`] is true. If all places are taken by calls that have
/// waited for [`PATIENCE`] or longer, returns this error at once.
pub async fn within<T: Send + 'static>(
    limit: Duration,
    places: &Places,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let done = async move {
        let place = places.wait().await?;
        let work = move || {
            let _place = place;
            work()
        };
        spawn_blocking(work).await.unwrap_or_else(|panic| Err(io::Error::other(panic)))
    };
    timeout(limit, done).await.unwrap_or_else(|_| Err(no_answer(limit)))
}

/// The pause between two checks whether a thread has ended or a place is free.
const LOOK: Duration = Duration::from_millis(1);

/// Waits for the end of a thread, up to `limit`. If the thread has not ended within `limit`, the
/// function logs a warning with the name of the thread and returns.
pub fn join(thread: JoinHandle<()>, limit: Duration) {
    let end = Instant::now() + limit;
    while !thread.is_finished() {
        if Instant::now() >= end {
            let name = thread.thread().name().unwrap_or("without a name");
            tracing::warn!(
                thread = name,
                "thread {name} has not ended within {limit:?}, because a disk or a device does not \
                 answer"
            );
            return;
        }
        thread::sleep(LOOK);
    }
    // If the thread panicked, the panic is already in the log.
    let _ = thread.join();
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
        assert_eq!((is_late(&error), &*error.to_string()), (true, "no answer for 50ms"));
        assert!(started.elapsed() < PATIENCE);
        drop(hold);
        let error = wait::<()>(PATIENCE, || panic!("on purpose")).unwrap_err();
        assert!(error.to_string().contains("has panicked"), "{error}");
    }

    /// Starts a call that hangs until `hold` is dropped.
    fn hang(places: &Places) -> (std::sync::mpsc::Sender<()>, io::Error) {
        let (hold, held) = channel::<()>();
        let work = move || held.recv().map_err(io::Error::other);
        (hold, wait_in(places, Duration::from_millis(1), work).unwrap_err())
    }

    /// In an earlier version of the daemon, the calls to all disks shared one set of places. A
    /// configuration on a working disk was refused, because the script of a device was on a disk
    /// that gave no answer.
    #[test]
    fn what_hangs_takes_no_place_of_others() {
        let (hung, sound) = (Places::new(2), Places::new(1));
        let (_first, late) = hang(&hung);
        let (second, _) = hang(&hung);
        assert!(is_late(&late), "{late}");
        // The calls may soon get their answers, so a new caller waits up to its limit.
        let (limit, started) = (Duration::from_millis(50), Instant::now());
        assert!(is_late(&wait_in(&hung, limit, || Ok(())).unwrap_err()));
        assert!((limit..PATIENCE / 2).contains(&started.elapsed()), "{:?}", started.elapsed());
        hung.age(PATIENCE);
        let started = Instant::now();
        let busy = wait_in(&hung, PATIENCE, || Ok(())).unwrap_err();
        assert!(started.elapsed() < PATIENCE, "the error is returned at once");
        let text = "2 earlier calls still wait for an answer";
        assert_eq!((is_late(&busy), &*busy.to_string()), (true, text));
        for _ in 0..3 {
            wait_in(&sound, PATIENCE, || Ok(())).unwrap();
        }
        // A call that gets its answer frees its place.
        assert!(!hung.are_idle());
        drop(second);
        let started = Instant::now();
        while wait_in(&hung, PATIENCE, || Ok(())).is_err() {
            assert!(started.elapsed() < PATIENCE);
        }
    }

    #[tokio::test]
    async fn only_what_hangs_is_not_waited_for() {
        let places = Places::new(1);
        let (hold, _) = hang(&places);
        // The hanging call may soon get its answer, so the new call waits up to its limit.
        let limit = Duration::from_millis(50);
        let late = within(limit, &places, || Ok(())).await.unwrap_err();
        assert!(is_late(&late), "{late}");
        places.age(PATIENCE);
        let started = Instant::now();
        let busy = within(10 * PATIENCE, &places, || Ok(())).await.unwrap_err();
        assert_eq!(busy.to_string(), "1 earlier call still waits for an answer");
        assert!(started.elapsed() < PATIENCE);
        drop(hold);
        let started = Instant::now();
        while within(PATIENCE, &places, || Ok(())).await.is_err() {
            assert!(started.elapsed() < PATIENCE);
        }
    }

    #[tokio::test]
    async fn what_nobody_waits_for_any_more_keeps_its_place() {
        let places = Places::new(1);
        let ((hold, held), (begin, begun)) = (channel::<()>(), channel());
        let work = move || {
            begin.send(()).map_err(io::Error::other)?;
            held.recv().map_err(io::Error::other)
        };
        let late = within(Duration::from_millis(1), &places, work).await.unwrap_err();
        assert!(is_late(&late), "{late}");
        begun.recv().unwrap();
        assert!(!places.are_idle());
        drop(hold);
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
