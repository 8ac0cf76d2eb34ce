//! The end of a connection whose client is still sending.
//!
//! A socket that is closed with bytes in it that nobody has read is reset, and the reset overtakes
//! the answer: the client of an early refusal would learn of a broken pipe and not why. So what
//! still comes is read and thrown away, for a while. What a request says is read in `body.rs`.

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

/// For a client that sends nothing and does not close either: it has had its answer for so long.
const IDLE_TIME: Duration = Duration::from_secs(1);

/// For one that goes on sending: the largest module there can be, at the pace of a unix socket.
const DRAIN_TIME: Duration = Duration::from_secs(10);

/// Two handles of one connection: it is not closed before both are dropped.
pub(super) fn duplicate(stream: UnixStream) -> io::Result<(UnixStream, UnixStream)> {
    let stream = stream.into_std()?;
    let other = stream.try_clone()?;
    Ok((UnixStream::from_std(stream)?, UnixStream::from_std(other)?))
}

/// Reads what still comes, so that the client finds its answer.
pub(super) async fn drain(mut stream: UnixStream) {
    // Fails if the client has gone.
    let _ = stream.shutdown().await;
    let read_all = async {
        let mut bytes = [0; 16 << 10];
        while let Ok(Ok(1..)) = timeout(IDLE_TIME, stream.read(&mut bytes)).await {}
    };
    let _ = timeout(DRAIN_TIME, read_all).await;
}

/// Whether a request has been read to its end. The body that is watched writes it, the connection
/// reads it when it ends.
#[derive(Debug, Default)]
pub(super) struct Received(Arc<AtomicBool>);

impl Received {
    /// Watches the body of the request; its head has been read.
    pub(super) fn watch(&self, body: Incoming) -> Watched {
        self.0.store(body.is_end_stream(), Ordering::Relaxed);
        Watched { body, is_whole: Arc::clone(&self.0) }
    }

    /// Whether nothing more can come.
    pub(super) fn is_whole(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// A body that notes its end.
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
