//! Waiting with a limit: calls on files that may never be answered, and threads that may wait for
//! such a call.
//!
//! If a server is gone or a card fails, any call on a file may wait, and only an answer ends the
//! wait. Therefore a separate thread makes the call, and the caller waits no longer than a limit,
//! mostly [`PATIENCE`]. After the limit the thread is left behind, and it may still finish its work
//! later. If a step must not be done that late, the work makes it through a [`Commit`]. Only a few
//! threads may be left behind for each purpose; [`Places`] counts them.
//!
//! ```text
//! caller ── takes a place ──▶ thread ── the call ──▶ disk
//!   │◀─ answer, or an error after the limit ─┘  keeps the place until its answer
//! ```
//!
//! `file.rs` makes sure that a pipe in the place of a file makes no thread wait. Waits for the
//! plugin folder and for orders of operators are in `daemon/plugins/call.rs`.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::sync_channel;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tokio::task::spawn_blocking;
use tokio::time::timeout;

mod commit;
mod late;
mod places;

pub use commit::{Commit, Committed};
pub use late::{is_late, late, no_answer};
pub use places::Places;

/// How long a caller waits for an answer. A card that is wearing out, or a disk that must begin to
/// turn, answers sooner, and a person should get a message no later than this.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// Does `work` on a new thread and waits for its result, up to `limit`. This function is for calls
/// that the process makes once, at its start or its end. Such a call takes no place, so calls that
/// hang cannot prevent it.
///
/// # Errors
/// The errors of `work`. If there is no answer in time, an error for which [`is_late`] is true.
pub fn wait<T: Send + 'static>(
    limit: Duration,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    wait_with((), limit, work)
}

/// Takes one of `places`, then does `work` on a new thread and waits for its result, up to `limit`
/// in all. This function is for calls that are made again and again.
///
/// # Errors
/// The errors of `work`. If there is no answer or no free place in time, an error for which
/// [`is_late`] is true. If calls that hang have taken all places, this error comes at once.
pub fn wait_in<T: Send + 'static>(
    places: &Places,
    limit: Duration,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let end = Instant::now() + limit;
    let place = places.take(end)?;
    wait_with(place, end.saturating_duration_since(Instant::now()), work)
}

/// Does `work` as [`wait`] does. The thread keeps `place` until `work` has ended.
fn wait_with<T: Send + 'static>(
    place: impl Send + 'static,
    limit: Duration,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let (tell, told) = sync_channel(1);
    thread::Builder::new().name("disk".into()).spawn(move || {
        let panicked = |_| Err(io::Error::other("the thread that did it has panicked"));
        let answer = catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(panicked);
        // The place is free before the caller gets the answer, because the caller may make its next
        // call at once.
        drop(place);
        // If the answer comes too late, the caller no longer receives it.
        let _ = tell.send(answer);
    })?;
    told.recv_timeout(limit).unwrap_or_else(|_| Err(no_answer(limit)))
}

/// Takes one of `places`, then does `work` on a blocking thread of the runtime and waits for its
/// result, up to `limit` in all. The thread keeps its place until `work` has ended, even if the
/// caller no longer waits.
///
/// # Errors
/// The errors of `work`, and an error if `work` panicked. If there is no answer in time, an error
/// for which [`is_late`] is true. If calls that hang have taken all places, this error comes at
/// once.
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

/// Pause between two checks of a thread that must end, or of a place that is taken.
const LOOK: Duration = Duration::from_millis(1);

/// Waits for the end of a thread, up to `limit`. A thread that does not end in time is left behind,
/// and the log names it.
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
    // The panic of the thread, if any, is already in the log.
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

    /// Makes a call that hangs until `hold` is dropped.
    fn hang(places: &Places) -> (std::sync::mpsc::Sender<()>, io::Error) {
        let (hold, held) = channel::<()>();
        let work = move || held.recv().map_err(io::Error::other);
        (hold, wait_in(places, Duration::from_millis(1), work).unwrap_err())
    }

    /// A configuration on a sound disk was refused, because the script of a device was on a disk
    /// that gave no answer.
    #[test]
    fn what_hangs_takes_no_place_of_others() {
        let (hung, sound) = (Places::new(2), Places::new(1));
        let (_first, late) = hang(&hung);
        let (second, _) = hang(&hung);
        assert!(is_late(&late), "{late}");
        // The calls may soon have their answers, so a new caller waits as long as it has time.
        let (limit, started) = (Duration::from_millis(50), Instant::now());
        assert!(is_late(&wait_in(&hung, limit, || Ok(())).unwrap_err()));
        assert!((limit..PATIENCE / 2).contains(&started.elapsed()), "{:?}", started.elapsed());
        hung.age(PATIENCE);
        let started = Instant::now();
        let busy = wait_in(&hung, PATIENCE, || Ok(())).unwrap_err();
        assert!(started.elapsed() < PATIENCE, "it is known by now");
        let text = "2 earlier calls still wait for an answer";
        assert_eq!((is_late(&busy), &*busy.to_string()), (true, text));
        for _ in 0..3 {
            wait_in(&sound, PATIENCE, || Ok(())).unwrap();
        }
        // A call that has its answer gives its place back.
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
        // The call may soon have its answer.
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
