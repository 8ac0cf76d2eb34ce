//! Calls that a file system may leave without an answer: made on a thread of their own, and waited
//! for no longer than [`PATIENCE`]; and threads that may wait for one, given up after a limit.
//!
//! A server that is gone or a card that dies makes any call on a file wait, and nothing ends such a
//! wait but an answer. So the thread stays behind, and what it was asked for may still be done
//! later; a step that must not be done later is a [`Commit`]. Only a few threads may stay, for each
//! purpose a few of its own: [`Places`]. That a pipe in the place of a file makes nobody wait is in
//! `file.rs`; who waits for the plugin folder, or on orders of people, is in
//! `daemon/folder/call.rs`.

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

/// How long an answer is waited for: longer than a card that is wearing out takes, or a disk to
/// begin to turn; no longer than a person waits without a word.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// Does `work` and waits for it here, up to `limit`. For what is asked for once in the life of the
/// process, at its start or its end: it needs no place, so nothing that hangs keeps it out.
///
/// # Errors
/// Those of `work`, and one that [`is_late`] when there is no answer in time.
pub fn wait<T: Send + 'static>(
    limit: Duration,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    wait_with((), limit, work)
}

/// Does `work` as [`wait`] does, as soon as it has one of these places: for what may be asked for
/// again and again.
///
/// # Errors
/// As [`wait`]; one that [`is_late`] also if no place is free within `limit`, and at once if calls
/// that hang have all of them.
pub fn wait_in<T: Send + 'static>(
    places: &Places,
    limit: Duration,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let end = Instant::now() + limit;
    let place = places.take(end)?;
    wait_with(place, end.saturating_duration_since(Instant::now()), work)
}

/// The thread keeps `place` until it has its answer.
fn wait_with<T: Send + 'static>(
    place: impl Send + 'static,
    limit: Duration,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let (tell, told) = sync_channel(1);
    thread::Builder::new().name("disk".into()).spawn(move || {
        let panicked = |_| Err(io::Error::other("the thread that did it has panicked"));
        let answer = catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(panicked);
        // Before anybody hears of the answer, who may call again.
        drop(place);
        // Nobody waits any more if it comes too late.
        let _ = tell.send(answer);
    })?;
    told.recv_timeout(limit).unwrap_or_else(|_| Err(no_answer(limit)))
}

/// Does `work` on a thread of the runtime as soon as it has one of these places, and waits for it
/// up to `limit`. A thread that waits keeps its place until it has its answer, also when nobody
/// waits for that any more.
///
/// # Errors
/// Those of `work`; that it has panicked; and one that [`is_late`] when there is no answer in time,
/// or at once if calls that hang have all of the places.
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

/// Between two looks at a thread that is to end, or at a place that is taken.
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

    /// Asks for something that hangs until `hold` is dropped.
    fn hang(places: &Places) -> (std::sync::mpsc::Sender<()>, io::Error) {
        let (hold, held) = channel::<()>();
        let work = move || held.recv().map_err(io::Error::other);
        (hold, wait_in(places, Duration::from_millis(1), work).unwrap_err())
    }

    /// A configuration on a sound disk was refused, because the script of a device lay on one that
    /// gave no answer.
    #[test]
    fn what_hangs_takes_no_place_of_others() {
        let (hung, sound) = (Places::new(2), Places::new(1));
        let (_first, late) = hang(&hung);
        let (second, _) = hang(&hung);
        assert!(is_late(&late), "{late}");
        // They may well have their answers soon, and are waited for as long as there is time.
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
        // One that has its answer gives its place back.
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
        // It may well have its answer soon.
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
