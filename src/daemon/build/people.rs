//! The door for people while the daemon lives: what they ask for becomes events of the loop.
//!
//! Who comes in, and what is said there, is in `control/server.rs`; the answers are in
//! `daemon/answer.rs`.

use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::Event;
use crate::config::Config;
use crate::control::server::{self, Socket};

/// Room for requests of people; clients wait when it is full.
const MAX_CALLS: usize = 32;

/// For the end of the server: the second that running requests get, and half as long again for the
/// file of its socket, whose file system may give no answer.
const LEAVING: Duration = Duration::from_millis(1500);

/// A server that is running.
#[derive(Debug)]
pub(super) struct People {
    /// Dropped, never used.
    end: oneshot::Sender<()>,
    server: JoinHandle<()>,
}

impl People {
    /// Listens to them.
    pub(super) fn listen(socket: Socket, config: &Config, events: &mpsc::Sender<Event>) -> Self {
        let (calls, mut inbox) = mpsc::channel(MAX_CALLS);
        let module_bytes = config.plugins.limits.module_bytes;
        let events = events.clone();
        tokio::spawn(async move {
            while let Some(call) = inbox.recv().await {
                if events.send(Event::Call(call)).await.is_err() {
                    break;
                }
            }
        });
        let (end, ended) = oneshot::channel();
        let ended = async {
            let _ = ended.await;
        };
        Self { end, server: tokio::spawn(server::serve(socket, module_bytes, calls, ended)) }
    }

    /// Ends the server, which removes its socket, and waits for that until [`LEAVING`].
    pub(super) async fn leave(self) {
        drop(self.end);
        if timeout(LEAVING, self.server).await.is_err() {
            tracing::warn!("the control socket stays: its file system gives no answer");
        }
    }
}
