//! One client's connection: reads requests, passes them on, and writes the answers, one at a time
//! and in this order.
//!
//! A client that is silent, sends slowly or does not read for the idle time is cut off, even in the
//! middle of a request. So is a client that does not send Modbus, because it is not known where the
//! next frame would begin. This file does not know what requests mean; `offer.rs` does.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio::task;
use tokio::time::{Instant, sleep_until, timeout};

/// The number of requests after which a client must wait, if it sent them in less than [`TURN`],
/// for the rest of that time. 1000 a second are more than any SCADA system sends, and eight clients
/// that flood the server cannot fill a CPU.
const TURN_REQUESTS: u32 = 64;
/// The time of one turn of [`TURN_REQUESTS`].
const TURN: Duration = Duration::from_millis(64);

/// The number of header bytes: transaction, protocol, length and unit (Modbus messaging on TCP/IP
/// 1.0b, 3.1.3).
const HEADER: usize = 7;

/// The range of the header's length field, in bytes: the unit, and 1 to 253 bytes from the function
/// code on.
const LENGTH: std::ops::RangeInclusive<usize> = 2..=254;

/// A request that waits for its answer.
#[derive(Debug)]
pub(super) struct Ask {
    /// The task of the client that asks.
    pub(super) client: task::Id,
    pub(super) unit: u8,
    /// The request from its function code on.
    pub(super) pdu: Vec<u8>,
    /// Takes the answer to the client's task. All tasks of a device run on its one thread.
    pub(super) answer: oneshot::Sender<Vec<u8>>,
}

/// Why a connection has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// The client has left, or the network has lost it.
    Left,
    /// The client was silent or slow for too long.
    Idle,
    /// The client does not send Modbus.
    Garbage,
}

/// Serves a client until its connection ends.
pub(super) async fn attend(mut stream: TcpStream, idle: Duration, asks: mpsc::Sender<Ask>) -> End {
    // An answer is one packet, so there is nothing to wait for.
    let _ = stream.set_nodelay(true);
    let mut frame = Vec::with_capacity(HEADER + LENGTH.end());
    loop {
        let turn = Instant::now() + TURN;
        for _ in 0..TURN_REQUESTS {
            match timeout(idle, exchange(&mut stream, &mut frame, &asks)).await {
                Ok(Ok(())) => {}
                Ok(Err(end)) => return end,
                Err(_) => return End::Idle,
            }
        }
        sleep_until(turn).await;
    }
}

impl From<io::Error> for End {
    fn from(_: io::Error) -> Self {
        Self::Left
    }
}

/// Receives one request and sends its answer.
async fn exchange(
    stream: &mut TcpStream,
    frame: &mut Vec<u8>,
    asks: &mpsc::Sender<Ask>,
) -> Result<(), End> {
    let mut header = [0; HEADER];
    stream.read_exact(&mut header).await?;
    let [t0, t1, p0, p1, l0, l1, unit] = header;
    let length = usize::from(u16::from_be_bytes([l0, l1]));
    if [p0, p1] != [0, 0] || !LENGTH.contains(&length) {
        return Err(End::Garbage);
    }
    let mut pdu = vec![0; length - 1];
    stream.read_exact(&mut pdu).await?;
    let (answer, answered) = oneshot::channel();
    // Both calls fail only when the server itself ends.
    asks.send(Ask { client: task::id(), unit, pdu, answer }).await.map_err(|_| End::Left)?;
    let answer = answered.await.map_err(|_| End::Left)?;
    // An answer has at most 253 bytes, so the cast loses nothing.
    let [l0, l1] = (answer.len() as u16 + 1).to_be_bytes();
    frame.clear();
    frame.extend([t0, t1, 0, 0, l0, l1, unit]);
    frame.extend(answer);
    Ok(stream.write_all(frame).await?)
}
