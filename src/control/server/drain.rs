//! The end of a connection whose client is still sending.
//!
//! If a socket is closed while unread bytes are in it, the kernel resets the connection, and the
//! reset overtakes the answer. The client of an early refusal would then see a broken pipe, and not
//! the reason. So the server reads what still comes and drops it, for a limited time. How a
//! request's body is read is in `body.rs`.

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

/// Time limit for a client that sends nothing and does not close: it has had its answer that long.
const IDLE_TIME: Duration = Duration::from_secs(1);

/// Time limit for a client that goes on sending: the largest module at the pace of a unix socket.
const DRAIN_TIME: Duration = Duration::from_secs(10);

/// Two handles of one connection, which is closed only after both are dropped.
pub(super) fn duplicate(stream: UnixStream) -> io::Result<(UnixStream, UnixStream)> {
    let stream = stream.into_std()?;
    let other = stream.try_clone()?;
    Ok((UnixStream::from_std(stream)?, UnixStream::from_std(other)?))
}

/// Reads and drops what still comes, so that the client finds its answer.
pub(super) async fn drain(mut stream: UnixStream) {
    // This fails if the client has left.
    let _ = stream.shutdown().await;
    let read_all = async {
        let mut bytes = [0; 16 << 10];
        while let Ok(Ok(1..)) = timeout(IDLE_TIME, stream.read(&mut bytes)).await {}
    };
    let _ = timeout(DRAIN_TIME, read_all).await;
}

/// Whether a request has been read to its end. The watched body writes it while the request is
/// read; the connection's task reads it at the end.
#[derive(Debug, Default)]
pub(super) struct Received(Arc<AtomicBool>);

impl Received {
    /// Wraps the body of a request whose head has been read, to watch for the body's end.
    pub(super) fn watch(&self, body: Incoming) -> Watched {
        self.0.store(body.is_end_stream(), Ordering::Relaxed);
        Watched { body, is_whole: Arc::clone(&self.0) }
    }

    /// Whether the request has been read to its end.
    pub(super) fn is_whole(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// A body that records its end.
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
