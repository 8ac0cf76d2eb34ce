//! One connection: reads requests, has them answered, writes the answers, in this order and one
//! at a time.
//!
//! Whoever is silent, sends slowly or does not read for the idle time is cut off, whatever the part
//! of a request he is in; so is who sends what is no Modbus, because there is no telling where the
//! next frame would begin. What is asked means nothing here.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio::task;
use tokio::time::{Instant, sleep_until, timeout};

/// After so many requests in less than [`TURN`] a client waits for the rest of that time: 1000 a
/// second are more than any SCADA asks for, and eight that flood cannot fill a core.
const TURN_REQUESTS: u32 = 64;
const TURN: Duration = Duration::from_millis(64);

/// Transaction, protocol, length and unit (Modbus messaging on TCP/IP 1.0b, 3.1.3).
const HEADER: usize = 7;

/// What the length in the header counts: the unit, and 1 to 253 bytes from the function code on.
const LENGTH: std::ops::RangeInclusive<usize> = 2..=254;

/// Something to be answered.
#[derive(Debug)]
pub(super) struct Ask {
    /// Who asks.
    pub(super) client: task::Id,
    pub(super) unit: u8,
    /// From the function code on.
    pub(super) pdu: Vec<u8>,
    pub(super) answer: oneshot::Sender<Vec<u8>>,
}

/// Why a connection is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// He has left, or the network has lost him.
    Left,
    /// He was silent or slow for too long.
    Idle,
    /// He does not speak Modbus.
    Garbage,
}

/// Attends to a client until it is over.
pub(super) async fn attend(mut stream: TcpStream, idle: Duration, asks: mpsc::Sender<Ask>) -> End {
    // An answer is one packet; there is nothing to wait for.
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

/// One request and its answer.
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
    // Both fail only when the server itself ends.
    asks.send(Ask { client: task::id(), unit, pdu, answer }).await.map_err(|_| End::Left)?;
    let answer = answered.await.map_err(|_| End::Left)?;
    // The cast is safe: an answer has 253 bytes at most.
    let [l0, l1] = (answer.len() as u16 + 1).to_be_bytes();
    frame.clear();
    frame.extend([t0, t1, 0, 0, l0, l1, unit]);
    frame.extend(answer);
    Ok(stream.write_all(frame).await?)
}
