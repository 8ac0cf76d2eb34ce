//! The connection to people while the daemon runs: their requests become events of the loop.
//!
//! ```text
//!   a client ──▶ control/server.rs ──▶ a queue of calls ──▶ Event::Call ──▶ the loop
//! ```
//! The server checks access and speaks the protocol (`control/server.rs`). This file only starts
//! the server and ends it. The loop's answers are in `daemon/answer.rs`.

use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::Event;
use crate::config::Config;
use crate::control::server::{self, Socket};

/// The number of requests that can wait. If the queue is full, clients wait.
const MAX_CALLS: usize = 32;

/// The time limit for the end of the server. Requests that are under way get a second. The removal
/// of the socket, whose file system may not answer, gets half a second more.
const LEAVING: Duration = Duration::from_millis(1500);

/// A running server of the control interface.
#[derive(Debug)]
pub(super) struct People {
    /// The drop of this sender ends the server; no value is ever sent.
    end: oneshot::Sender<()>,
    /// The task of the server.
    server: JoinHandle<()>,
}

impl People {
    /// Starts the server. Each of its requests becomes an [`Event::Call`].
    pub(super) fn listen(socket: Socket, config: &Config, events: &mpsc::Sender<Event>) -> Self {
        let (calls, mut inbox) = mpsc::channel(MAX_CALLS);
        let module_bytes = config.fixed.plugins.limits.module_bytes;
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

    /// Ends the server, which removes its socket. Waits for the end for at most [`LEAVING`].
    pub(super) async fn leave(self) {
        drop(self.end);
        if timeout(LEAVING, self.server).await.is_err() {
            tracing::warn!("the control socket is not removed: its file system does not answer");
        }
    }
}
