//! The connection of one client. The server reads one request, answers it, and then reads the next
//! request.
//!
//! ```text
//!   client --> header and request --> Ask --> server.rs: answers --> header and answer --> client
//! ```
//! The server closes the connection if one request, with the wait for it and with its answer, takes
//! longer than the time `idle`. The cause is a client that is silent, sends slowly or does not
//! read. The connection may then end in the middle of a request. The server also closes the
//! connection if the client sends bytes that are not Modbus, because the start of the next frame is
//! then not known. This file does not interpret requests; `offer.rs` does.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio::task;
use tokio::time::{Instant, sleep_until, timeout};

/// The number of requests that a client may send in one [`TURN`]. If a client sends more requests,
/// the client must wait until the turn ends. A client can therefore send 1000 requests per second,
/// which is more than any SCADA system sends. With this limit, eight clients that flood the server
/// cannot use a whole CPU core.
const TURN_REQUESTS: u32 = 64;
/// The duration of one turn, in which a client may send [`TURN_REQUESTS`] requests.
const TURN: Duration = Duration::from_millis(64);

/// The number of bytes in the header: transaction number, protocol, length and unit (Modbus
/// messaging on TCP/IP 1.0b, 3.1.3).
const HEADER: usize = 7;

/// The valid range of the length field in the header, in bytes. The length is the number of bytes
/// that follow the field: one byte for the unit, and 1 to 253 bytes from the function code on.
const LENGTH: std::ops::RangeInclusive<usize> = 2..=254;

/// A request that waits for its answer.
#[derive(Debug)]
pub(super) struct Ask {
    /// The task of the client that has sent the request.
    pub(super) client: task::Id,
    pub(super) unit: u8,
    /// The bytes of the request, from the function code on.
    pub(super) pdu: Vec<u8>,
    /// The channel through which the server sends the answer to the client's task. The server and
    /// the tasks of its clients run on one thread.
    pub(super) answer: oneshot::Sender<Vec<u8>>,
}

/// Reason why a connection has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// The client has disconnected, the network connection is lost, or the server has ended.
    Left,
    /// One request, with the wait for it and with its answer, took longer than `idle`.
    Idle,
    /// The client has sent bytes that are not Modbus.
    Garbage,
}

/// Serves a client until its connection ends. Returns the reason of the end.
pub(super) async fn attend(mut stream: TcpStream, idle: Duration, asks: mpsc::Sender<Ask>) -> End {
    // Each answer is one packet, so the system must send it at once and not wait for more bytes.
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

/// Receives one request, passes it to the server, and sends the answer of the server to the client.
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
    // The send and the wait for the answer fail only when `Server::attend` has ended.
    asks.send(Ask { client: task::id(), unit, pdu, answer }).await.map_err(|_| End::Left)?;
    let answer = answered.await.map_err(|_| End::Left)?;
    // An answer has at most 253 bytes, so the cast loses nothing.
    let [l0, l1] = (answer.len() as u16 + 1).to_be_bytes();
    frame.clear();
    frame.extend([t0, t1, 0, 0, l0, l1, unit]);
    frame.extend(answer);
    Ok(stream.write_all(frame).await?)
}
