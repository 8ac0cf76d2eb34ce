//! The connection to operators and scripts while the daemon runs: requests become events of the
//! loop.
//!
//! ```text
//!   a client ──▶ control/server.rs ──▶ a queue of calls ──▶ Event::Call ──▶ the loop
//! ```
//! The server parses HTTP and limits its clients (`control/server.rs`). This file only starts and
//! stops the server. The daemon's answers are made in `daemon/answer.rs`.

use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::Event;
use crate::config::Config;
use crate::control::server::{self, Socket};

/// The largest number of requests in the queue. If the queue is full, clients wait.
const MAX_CALLS: usize = 32;

/// The time limit for the stop of the server. Open requests get one second. The removal of the
/// socket file gets half a second more, because its file system may not answer.
const LEAVING: Duration = Duration::from_millis(1500);

/// A running server of the control interface.
#[derive(Debug)]
pub(super) struct People {
    /// The drop of this sender stops the server. No value is ever sent.
    end: oneshot::Sender<()>,
    /// The task of the server.
    server: JoinHandle<()>,
}

impl People {
    /// Starts the server. Each request becomes an [`Event::Call`] of the main loop.
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

    /// Stops the server. Before its end, the server removes its socket file. The call waits for at
    /// most [`LEAVING`].
    pub(super) async fn leave(self) {
        drop(self.end);
        if timeout(LEAVING, self.server).await.is_err() {
            tracing::warn!("the control socket is not removed: its file system does not answer");
        }
    }
}
