//! The end of a connection whose client is still sending.
//!
//! The problem: if a server closes a socket that has unread bytes, the kernel resets the
//! connection. The reset may reach the client before the answer does. A client whose request was
//! refused early would then get a "broken pipe" error and not the reason for the refusal.
//!
//! The solution: after an early answer, the server reads and drops the remaining bytes for a
//! limited time, and closes the socket after that. The normal reading of a body is in `body.rs`.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::timeout;

/// The drain ends if the client sends nothing for this time. So the client has at least this time
/// to read its answer.
const IDLE_TIME: Duration = Duration::from_secs(1);

/// The time limit of a drain while the client continues to send. A client can send the largest
/// module through a unix socket in less time.
const DRAIN_TIME: Duration = Duration::from_secs(10);

/// Returns two handles of one connection. The connection closes after both handles are dropped.
pub(super) fn duplicate(stream: UnixStream) -> io::Result<(UnixStream, UnixStream)> {
    let stream = stream.into_std()?;
    let other = stream.try_clone()?;
    Ok((UnixStream::from_std(stream)?, UnixStream::from_std(other)?))
}

/// Reads and drops all bytes that the client still sends, so that the client can read its answer.
pub(super) async fn drain(mut stream: UnixStream) {
    // The call fails if the client has closed the connection.
    let _ = stream.shutdown().await;
    let read_all = async {
        let mut bytes = [0; 16 << 10];
        while let Ok(Ok(1..)) = timeout(IDLE_TIME, stream.read(&mut bytes)).await {}
    };
    let _ = timeout(DRAIN_TIME, read_all).await;
}

/// A flag: whether the server has read a request to its end. The type [`Watched`] sets the flag.
/// The task of the connection checks the flag after the exchange.
#[derive(Debug, Default)]
pub(super) struct Received(Arc<AtomicBool>);

impl Received {
    /// Wraps the body of a request. The wrapped body sets the flag when the server has read the end
    /// of the body.
    pub(super) fn watch(&self, body: Incoming) -> Watched {
        self.0.store(body.is_end_stream(), Ordering::Relaxed);
        Watched { body, is_whole: Arc::clone(&self.0) }
    }

    /// Whether the server has read the request to its end.
    pub(super) fn is_whole(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// The body of a request. It sets the flag of [`Received`] when the server has read the end of the
/// body.
#[derive(Debug)]
pub(super) struct Watched {
    body: Incoming,
    is_whole: Arc<AtomicBool>,
}

impl Body for Watched {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        if matches!(polled, Poll::Ready(None)) || self.body.is_end_stream() {
            self.is_whole.store(true, Ordering::Relaxed);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
