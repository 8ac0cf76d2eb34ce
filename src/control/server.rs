//! The daemon's end of the control socket: it takes HTTP requests and makes [`Call`]s of them.
//!
//! It parses and limits, and decides nothing: every well-formed request goes to the daemon, which
//! answers. A user who can open the socket may operate the machine, but the client may be
//! defective. So a slow, stuck or noisy client costs a connection for a while, and never memory
//! without a limit. A client that has sent anything gets an answer, even if that is a refusal
//! before the end of its request: `drain.rs`. The other end is `client.rs`; the routes are listed
//! in `mod.rs`.

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

/// Most connections at a time; more wait in the kernel's queue. An operator, a monitor and a deploy
/// are three.
const MAX_CONNECTIONS: usize = 32;

/// Time limit from a connection to the end of its request's head. The head comes from the same
/// machine. A client in the queue waits no longer than this until a stuck connection is closed.
const HEAD_TIME: Duration = Duration::from_secs(2);

/// Most bytes of a request's head, and size of each connection's buffer.
const MAX_HEAD_BYTES: usize = 16 << 10;

/// Time limit from an answer to the moment when the client has read the last of it. The longest
/// answer, a thousand receipts, has half a megabyte. A client that does not read keeps others out
/// for no longer than this.
const READ_TIME: Duration = Duration::from_secs(10);

/// Time limit of a whole connection: a module that is sent slowly, an answer of a busy daemon, and
/// some time to read it.
const CONNECTION_TIME: Duration = Duration::from_secs(90);

/// Most connections that have an answer and still send, besides [`MAX_CONNECTIONS`]. More are
/// closed at once, and their clients may see a reset in place of the answer.
const MAX_DRAINING: usize = 32;

/// Time that running requests get to end after the daemon begins to stop.
const LEAVE_TIME: Duration = Duration::from_secs(1);

/// Pause after a connection could not be taken, mostly for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Takes requests from `socket` and passes them to `calls` until `shutdown`, then removes the
/// socket.
///
/// A module longer than `module_bytes` is refused. `calls` should have room for some requests:
/// while it is full, clients wait.
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
    let _ = timeout(LEAVE_TIME, async { while connections.join_next().await.is_some() {} }).await;
}

/// The next connection; `None` after a failure. The first failure in a row is logged.
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

/// Logs a failure, unless the attempt before has failed too.
fn complain(error: &io::Error, is_failing: &mut bool) {
    if !std::mem::replace(is_failing, true) {
        tracing::warn!(%error, "the control socket takes no connections at present: {error}");
    }
}

/// Serves one connection: one request, one answer. Returns the connection if the client got its
/// answer before it had sent the whole request.
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
        // A client that has sent its whole request may close its side, and is answered like others.
        .half_close(true)
        .header_read_timeout(HEAD_TIME)
        .max_buf_size(MAX_HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), service);
    let unread = async {
        answered.notified().await;
        sleep(READ_TIME).await;
    };
    tokio::select! {
        // The client has seen how the connection ended, or is gone; nothing is left to do here.
        _ = connection => {}
        () = unread => {}
        () = sleep(CONNECTION_TIME) => {}
    }
    (!received.is_whole()).then_some(rest)
}
