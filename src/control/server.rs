//! The server on the control socket: it receives HTTP requests and makes a [`Call`] of each
//! request.
//!
//! ```text
//!   client ──▶ accept() ──▶ converse() ──▶ route.rs ──▶ Call ──▶ the daemon's loop
//!   client ◀── drain(), if still sending ◀── answer.rs ◀── reply ◀──────┘
//! ```
//! The server parses requests and enforces limits. The server makes no decisions: the daemon
//! answers every well-formed request. Users who can open the socket are trusted, but their client
//! programs may have defects. A slow or stuck client can occupy a connection only for a limited
//! time. The server uses only limited memory for each connection. Every client that has sent the
//! whole head of a request gets an answer, unless the daemon stops or too many connections are
//! drained (`MAX_DRAINING`). The server may refuse a request before the whole request has arrived;
//! `drain.rs` then makes sure that the refusal reaches the client. The client side is `client.rs`;
//! the routes are listed in `control/mod.rs`.

mod answer;
mod body;
mod drain;
mod peer;
mod route;
mod socket;

use std::future::Future;
use std::io;
use std::pin::pin;
use std::time::Duration;

use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::UnixStream;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::Call;
use drain::{Received, drain, duplicate};
use peer::Peer;
use route::ApiState;
pub use socket::{BindError, Socket};

/// The largest number of connections at one time. Further connections wait in the kernel's queue.
/// Normal use is about three: an operator, a monitor and a deploy.
const MAX_CONNECTIONS: usize = 32;

/// The time limit for the head of a request, counted from the start of the connection. The client
/// is on the same machine, so the head arrives fast. After this time the server closes a stuck
/// connection, and a waiting client gets its turn.
const HEAD_TIME: Duration = Duration::from_secs(2);

/// The largest head of a request, and the size of the buffer of each connection, in bytes.
const MAX_HEAD_BYTES: usize = 16 << 10;

/// The time that a client has to read its answer. The longest answer, the list of all points, has
/// about 2 MiB. After this time the server closes the connection, so a client that does not read
/// cannot block other clients for longer.
const READ_TIME: Duration = Duration::from_secs(10);

/// The time limit of a whole connection. The limit covers a slow upload of a `.wasm` file, an
/// answer of a busy daemon, and some time to read the answer.
const CONNECTION_TIME: Duration = Duration::from_secs(90);

/// The largest number of connections that the server drains at one time. The server drains a
/// connection if it has sent the answer and the client is still sending. Connections that are
/// drained do not count for [`MAX_CONNECTIONS`]. While [`MAX_DRAINING`] connections are drained,
/// the server closes each further connection at once and does not drain it. The client of that
/// connection may get a connection reset and not the answer.
const MAX_DRAINING: usize = 32;

/// The time that open requests have to end after the daemon begins to stop.
const LEAVE_TIME: Duration = Duration::from_secs(1);

/// The pause after a failed `accept`. The usual cause is that no file descriptor is free.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves requests from `socket` until `shutdown` completes. Each request goes to the queue
/// `calls`. At the end the socket file is removed.
///
/// The server refuses a `.wasm` file that is longer than `module_bytes`. While the queue `calls` is
/// full, clients wait, so the queue should have room for several requests.
pub async fn serve(
    socket: Socket,
    module_bytes: u64,
    calls: mpsc::Sender<Call>,
    shutdown: impl Future<Output = ()>,
) {
    let routes = route::routes(ApiState::new(calls, module_bytes));
    let mut connections = JoinSet::new();
    let mut draining = JoinSet::new();
    let mut shutdown = pin!(shutdown);
    let mut is_failing = false;
    loop {
        tokio::select! {
            () = &mut shutdown => break,
            // A connection has ended. If its client is still sending, the connection must be
            // drained.
            Some(ended) = connections.join_next(), if !connections.is_empty() => {
                if let Ok(Some(rest)) = ended && draining.len() < MAX_DRAINING {
                    draining.spawn(drain(rest));
                }
            }
            Some(_) = draining.join_next(), if !draining.is_empty() => {}
            stream = accept(&socket, &mut is_failing), if connections.len() < MAX_CONNECTIONS => {
                if let Some(stream) = stream {
                    connections.spawn(converse(stream, routes.clone()));
                }
            }
        }
    }
    drop(socket);
    // After the drop of the socket, no new connection is possible. Open connections get a limited
    // time to end.
    let _ = timeout(LEAVE_TIME, async { while connections.join_next().await.is_some() {} }).await;
}

/// Accepts the next connection. Returns `None` after a failure. Only the first of several failures
/// in a row is logged.
async fn accept(socket: &Socket, is_failing: &mut bool) -> Option<UnixStream> {
    match socket.accept().await {
        Ok(stream) => {
            *is_failing = false;
            Some(stream)
        }
        Err(error) => {
            complain(&error, is_failing);
            sleep(ACCEPT_PAUSE).await;
            None
        }
    }
}

/// Logs a failure of `accept`, except if the previous attempt failed too.
fn complain(error: &io::Error, is_failing: &mut bool) {
    if !std::mem::replace(is_failing, true) {
        tracing::warn!(%error, "the control socket cannot accept connections now, and the daemon \
                                tries again: {error}");
    }
}

/// Serves one connection: reads one request and sends one answer. Returns the connection if the
/// server did not receive the whole request. In that case the client may still be sending, and the
/// caller must drain the connection.
async fn converse(stream: UnixStream, routes: axum::Router) -> Option<UnixStream> {
    let peer = stream.peer_cred().ok().map(|user| Peer(user.uid()));
    let (stream, rest) = duplicate(stream).ok()?;
    let (received, answered) = (Received::default(), Notify::new());
    let routes = TowerToHyperService::new(routes);
    let service = service_fn(async |mut request: Request<Incoming>| {
        request.extensions_mut().insert(peer);
        let answer = routes.call(request.map(|body| received.watch(body))).await;
        answered.notify_one();
        answer
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .keep_alive(false)
        // A client may close its sending side after its request. The client must still get an
        // answer.
        .half_close(true)
        .header_read_timeout(HEAD_TIME)
        .max_buf_size(MAX_HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), service);
    // This future ends [`READ_TIME`] after the answer was made. This is the time that the client
    // has to read its answer.
    let unread = async {
        answered.notified().await;
        sleep(READ_TIME).await;
    };
    tokio::select! {
        // The exchange is complete, or the client has closed the connection. If the connection has
        // failed, the server does not log the error, because the client gets an error and can
        // report it.
        _ = connection => {}
        () = unread => {}
        () = sleep(CONNECTION_TIME) => {}
    }
    (!received.is_whole()).then_some(rest)
}
