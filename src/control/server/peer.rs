//! The sender of a request: the number and the name of the user whose process is the client.
//!
//! The kernel reports the user's number (`SO_PEERCRED`, unix(7)). The system may have to ask a
//! directory server on the network for the user's name, and this server may be down. For that
//! reason a separate thread looks up names, and a request waits at most [`NAME_TIME`] for a name.
//! If no name is found in this time, the receipt has only the user's number. The type of the result
//! is [`Who`] in `ordered.rs`.

use std::collections::HashMap;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nix::unistd::{Uid, User};
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::super::Who;
use crate::thread::named;

/// The time that a request waits for the name of its user. A look-up in a local file needs
/// microseconds, a look-up at a directory server needs milliseconds.
const NAME_TIME: Duration = Duration::from_millis(300);

/// The largest number of names in the cache. Few users can open the socket.
const MAX_NAMES: usize = 64;

/// The largest number of look-ups in the queue. If the queue is full, a request continues without
/// the user's name.
const MAX_WAITING: usize = 8;

/// The number (uid) of the user at the other end of a connection.
#[derive(Debug, Clone, Copy)]
pub(super) struct Peer(pub(super) u32);

/// The names of users: a cache that requests read, and a queue to the thread that fills the cache.
#[derive(Debug, Clone)]
pub(super) struct Names {
    known: Arc<Mutex<HashMap<u32, String>>>,
    asks: SyncSender<(u32, oneshot::Sender<()>)>,
}

impl Names {
    /// Starts the thread that looks up names with `find`. The thread ends when the last clone of
    /// this value is dropped.
    pub(super) fn start(find: impl Fn(u32) -> Option<String> + Send + 'static) -> Self {
        let known = Arc::new(Mutex::new(HashMap::new()));
        let (asks, inbox) = sync_channel(MAX_WAITING);
        let ours = Arc::clone(&known);
        let look_up = move || look_up(&inbox, &ours, find);
        if let Err(error) = named("names").spawn(look_up) {
            tracing::warn!(%error, "the thread that looks up user names cannot start ({error}), so \
                                    orders are recorded with user numbers only");
        }
        Self { known, asks }
    }

    /// Returns the user of a connection, with the name if it is found in time.
    pub(super) async fn of(&self, Peer(uid): Peer) -> Who {
        if let Some(name) = self.known(uid) {
            return Who { uid, name: Some(name) };
        }
        let (done, answer) = oneshot::channel();
        if self.asks.try_send((uid, done)).is_ok() {
            // If no name arrives in time, the result has only the number.
            let _ = timeout(NAME_TIME, answer).await;
        }
        Who { uid, name: self.known(uid) }
    }

    fn known(&self, uid: u32) -> Option<String> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).get(&uid).cloned()
    }
}

/// The loop of the look-up thread. The loop looks up the name for each number in the queue and
/// stores the name in the cache. If the cache is full, the loop first empties the cache.
fn look_up(
    inbox: &Receiver<(u32, oneshot::Sender<()>)>,
    known: &Mutex<HashMap<u32, String>>,
    find: impl Fn(u32) -> Option<String>,
) {
    while let Ok((uid, done)) = inbox.recv() {
        if let Some(name) = find(uid) {
            let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
            if known.len() == MAX_NAMES {
                known.clear();
            }
            known.insert(uid, name);
        }
        // The request may have stopped waiting; the send fails then.
        let _ = done.send(());
    }
}

/// Returns the name that the system has for this user number. The call may block for a long time.
pub(super) fn name_of(uid: u32) -> Option<String> {
    User::from_uid(Uid::from_raw(uid)).ok().flatten().map(|user| user.name)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn a_user_has_a_name_which_is_asked_for_once() {
        assert_eq!(name_of(0).as_deref(), Some("root"));
        let asked = Arc::new(AtomicU32::new(0));
        let counter = Arc::clone(&asked);
        let names = Names::start(move |uid| {
            counter.fetch_add(1, Ordering::Relaxed);
            (uid == 7).then(|| "ann".to_owned())
        });
        for _ in 0..3 {
            assert_eq!(names.of(Peer(7)).await, Who { uid: 7, name: Some("ann".into()) });
        }
        assert_eq!(asked.load(Ordering::Relaxed), 1);
        assert_eq!(names.of(Peer(8)).await, Who { uid: 8, name: None });
        for uid in 0..2 * MAX_NAMES as u32 {
            names.of(Peer(uid)).await;
        }
        assert!(names.known.lock().unwrap().len() <= MAX_NAMES);
    }

    #[tokio::test]
    async fn a_service_that_does_not_answer_delays_nobody_for_long() {
        let (_never, answer) = mpsc::channel::<()>();
        let names = Names::start(move |_| answer.recv().ok().map(|()| String::new()));
        let mut all = tokio::task::JoinSet::new();
        for uid in 0..3 * MAX_WAITING as u32 {
            let names = names.clone();
            all.spawn(async move { names.of(Peer(uid)).await });
        }
        let all = timeout(10 * NAME_TIME, all.join_all()).await.expect("each wait has an end");
        assert_eq!(all.len(), 3 * MAX_WAITING);
        assert!(all.iter().all(|who| who.name.is_none()));
    }
}
