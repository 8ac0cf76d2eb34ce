//! Frames of Modbus TCP: sends a request, and waits for the frame with the transaction number of
//! this request.
//!
//! A frame with another number is dropped, and the wait goes on. With `transaction = "ignore"`, the
//! number of a frame is not checked, because some devices put 0 into every reply.
//! `transport.rs` decides what follows after a missing reply. Frames of a serial line are in
//! `rtu.rs`.

use tokio::io::AsyncReadExt;
use tokio::time::{Instant, timeout_at};

use super::{MAX_FRAME, MAX_NOISE, Transport, came};
use crate::driver::modbus::wire::error::WireError;
use crate::driver::modbus::wire::request::{Reply, UnitRequest};

/// The number of bytes in a TCP frame before the function code.
const HEADER: usize = 7;

/// Reason why a connection ends: the start of the next frame is not known.
const NO_FRAME: &str = "the other side has sent bytes that are not a Modbus TCP frame";

impl Transport {
    /// Sends a request over Modbus TCP, and waits for the frame with the transaction number of this
    /// request.
    pub(super) async fn transact_tcp(
        &mut self,
        request: &UnitRequest,
        started: Instant,
    ) -> Result<Reply, WireError> {
        self.tid = self.tid.wrapping_add(1);
        let deadline = started + self.line.timeout(request);
        let frame = request.tcp(self.tid).map_err(|_| WireError::TooLong)?;
        self.send(&frame, deadline).await?;
        // The transaction number of a frame that belongs to no request of this connection.
        let mut stray = None;
        loop {
            let frame = match self.receive_tcp(deadline).await {
                Err(WireError::Timeout) => {
                    let other = |found| WireError::OtherTransaction { found, expected: self.tid };
                    return Err(stray.map_or(WireError::Timeout, other));
                }
                received => received?,
            };
            let tid = tid(&frame);
            if tid != self.tid && !self.line.is_untagged() {
                if !self.outstanding.late_reply(tid) {
                    stray = Some(tid);
                }
                continue;
            }
            let (unit, bytes) = (frame[6], &frame[HEADER..]);
            let expected = self.line.answers_as(request.unit);
            let reply = match unit == expected {
                true => request.reply(bytes),
                false => Err(WireError::WrongUnit { found: unit, expected }),
            };
            // A gateway may have put the transaction number of this request on a late reply to
            // another request.
            let is_other =
                matches!(reply, Err(WireError::Garbage(_) | WireError::WrongUnit { .. }));
            if !(is_other && self.outstanding.could_be_one(unit, bytes)) {
                return reply;
            }
        }
    }

    /// Receives the next whole frame over Modbus TCP.
    async fn receive_tcp(&mut self, deadline: Instant) -> Result<Vec<u8>, WireError> {
        // The loop checks the deadline before each read, because a peer may send bytes all the time
        // without a valid answer.
        while Instant::now() < deadline {
            if let Some(&[_, _, p, q, high, low]) = self.received.first_chunk() {
                let length = usize::from(u16::from_be_bytes([high, low]));
                // After a wrong header, the start of the next frame is not known, so the connection
                // must end.
                if (p, q) != (0, 0) || !(3..=MAX_FRAME - 6).contains(&length) {
                    return Err(WireError::Closed(NO_FRAME.into()));
                }
                if self.received.len() >= 6 + length {
                    let frame: Vec<u8> = self.received.drain(..6 + length).collect();
                    self.trace("received", &frame);
                    return Ok(frame);
                }
            }
            let read = timeout_at(deadline, self.stream.read_buf(&mut self.received)).await;
            came(read.map_err(|_| WireError::Timeout)?)?;
        }
        Err(WireError::Timeout)
    }

    /// Receives frames until the time `until`. All of them are late replies. The error is
    /// [`WireError::Closed`].
    pub(super) async fn idle_tcp(&mut self, until: Instant) -> Result<(), WireError> {
        let mut bytes = 0;
        while bytes <= MAX_NOISE {
            match self.receive_tcp(until).await {
                Ok(frame) => {
                    self.outstanding.late_reply(tid(&frame));
                    bytes += frame.len();
                }
                Err(WireError::Timeout) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        Err(WireError::Closed("the other side sends without a request".into()))
    }
}

/// Returns the transaction number of a TCP frame.
fn tid(frame: &[u8]) -> u16 {
    u16::from_be_bytes([frame[0], frame[1]])
}
