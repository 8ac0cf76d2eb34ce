//! Frames of a serial line: sends a request, and finds the reply in the received bytes.
//!
//! ```text
//!   received:   noise | echo of the request | reply | noise
//!               skip  | skip, if there is one | take | drop
//! ```
//! A frame has no transaction number. So the reply is the first bytes that have the address of the
//! unit, the function code of the request, the expected length, and a correct checksum. Noise
//! before the reply comes from the transceivers of the line when they switch between receiving and
//! sending. An echo comes from an RS485 adapter that receives its own bytes.
//!
//! The echo of a write with function code 5 or 6 is equal to its reply. The same can be true for a
//! read of 17 to 24 bits. Therefore [`Echo`] stores whether the line has an echo. As long as this
//! is not known, a first copy of the request counts as the echo, and the reply must still come.
//! `transport.rs` decides what follows after a missing reply.

use tokio::io::AsyncReadExt;
use tokio::time::{Instant, timeout_at};

use super::{MAX_FRAME, MAX_NOISE, Transport, came};
use crate::driver::modbus::wire::error::WireError;
use crate::driver::modbus::wire::request::{Reply, UnitRequest, crc};

/// Whether a line gives back each request as an echo.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Echo {
    /// No reply has shown yet whether the line has an echo.
    #[default]
    Unknown,
    /// A reply came without an echo before it.
    No,
    /// An echo came before the last reply, or in place of it.
    Yes,
}

/// The result of a search for the reply.
#[derive(Debug, PartialEq, Eq)]
enum Search {
    /// The reply begins at this index. Its length is in bytes, with the unit and the checksum.
    Frame { start: usize, length: usize },
    /// The reply is not complete, or has not begun.
    Incomplete,
    /// The reply is damaged, or a different unit has answered.
    Wrong(WireError),
}

impl Transport {
    /// Sends a request in a frame of the serial line, and waits for the reply.
    pub(super) async fn transact_rtu(
        &mut self,
        request: &UnitRequest,
        started: Instant,
    ) -> Result<Reply, WireError> {
        let deadline = started + self.line.timeout(request);
        let sent = request.rtu().map_err(|_| WireError::TooLong)?;
        self.send(&sent, deadline).await?;
        let frame = self.receive_rtu(request, &sent, deadline).await?;
        self.trace("received", &frame);
        request.reply(&frame[1..frame.len() - 2])
    }

    /// Receives the reply to `request`, whose frame is `sent`.
    async fn receive_rtu(
        &mut self,
        request: &UnitRequest,
        sent: &[u8],
        deadline: Instant,
    ) -> Result<Vec<u8>, WireError> {
        let unit = self.line.answers_as(request.unit);
        // Whether the reply can be equal to the request. Then only `self.echo` shows whether such
        // bytes are the reply or the echo.
        let is_ambiguous = request.reply_len() + 3 == sent.len();
        let may_be_echo = !is_ambiguous || self.echo != Echo::No;
        let mut has_echo = false;
        let mut bytes = Vec::with_capacity(MAX_FRAME);
        loop {
            if may_be_echo
                && !has_echo
                && let Some(at) = position(&bytes, sent)
            {
                bytes.drain(..at + sent.len());
                has_echo = true;
            }
            let expected_echo = if may_be_echo && !has_echo { sent } else { &[] };
            match search(&bytes, request, unit, expected_echo) {
                Search::Frame { start, length } => {
                    match (has_echo, self.echo) {
                        (true, _) => self.echo = Echo::Yes,
                        // Bytes before the reply may be a damaged echo if they are about as long as
                        // the request.
                        (false, Echo::Unknown) if start + 2 < sent.len() => self.echo = Echo::No,
                        // The line may have no echo any more; the next reply decides.
                        (false, Echo::Yes) if start == 0 => self.echo = Echo::Unknown,
                        _ => {}
                    }
                    // Bytes after the frame are noise on the line. Later noise is dropped before
                    // the next request.
                    return Ok(bytes[start..start + length].to_vec());
                }
                Search::Wrong(error) => return Err(error),
                Search::Incomplete if bytes.len() > MAX_NOISE => {
                    return Err(WireError::Garbage("bytes without a pause".into()));
                }
                Search::Incomplete => {}
            }
            let read = timeout_at(deadline, self.stream.read_buf(&mut bytes)).await;
            let missing = |_| {
                let why = missing(&bytes, has_echo, request, unit);
                if why == WireError::OnlyEcho {
                    self.echo = Echo::Yes;
                }
                why
            };
            came(read.map_err(missing)?)?;
        }
    }

    /// Receives bytes until the time `until`, and drops all of them. The error is
    /// [`WireError::Closed`].
    pub(super) async fn drain(&mut self, until: Instant) -> Result<(), WireError> {
        let mut noise = 0;
        let mut bytes = [0; 256];
        self.received.clear();
        // Bytes that have already arrived are read even if `until` is in the past.
        while let Ok(read) = timeout_at(until, self.stream.read(&mut bytes)).await {
            noise += came(read)?;
            if noise > MAX_NOISE {
                return Err(WireError::Closed(
                    "a device on the serial line sends without a pause".into(),
                ));
            }
        }
        Ok(())
    }
}

/// Returns the error for a reply of `unit` that has not come in time. `bytes` are the received
/// bytes without the echo.
fn missing(bytes: &[u8], has_echo: bool, request: &UnitRequest, unit: u8) -> WireError {
    let expected = request.reply_len() + 3;
    match bytes {
        [] if has_echo => WireError::OnlyEcho,
        [] => WireError::Timeout,
        [from, ..] if *from == unit => {
            WireError::Garbage(format!("{} bytes instead of {expected}", bytes.len()).into())
        }
        _ => WireError::Garbage(format!("{} bytes that are no frame", bytes.len()).into()),
    }
}

/// Returns the index of the first place where `part` is in `bytes`.
fn position(bytes: &[u8], part: &[u8]) -> Option<usize> {
    bytes.windows(part.len().max(1)).position(|window| window == part)
}

/// Searches `bytes` for the reply of `unit` to `request`. The bytes may be the beginning of `echo`.
fn search(bytes: &[u8], request: &UnitRequest, unit: u8, echo: &[u8]) -> Search {
    let function = request.function();
    for start in 0..bytes.len() {
        let rest = &bytes[start..];
        let [from, answered, ..] = *rest else { break };
        if rest.len() < echo.len() && echo.starts_with(rest) {
            return Search::Incomplete;
        }
        let is_expected = from == unit && answered & 0x7f == function;
        let length = if answered == function { request.reply_len() + 3 } else { 5 };
        // Only the first bytes can be a frame of a different unit or with a different function
        // code. After noise, such a frame is noise too.
        if !is_expected && (start > 0 || rest.len() < length) {
            continue;
        }
        if rest.len() < length {
            return Search::Incomplete;
        }
        match (crc(&rest[..length]) == 0, is_expected) {
            (true, _) if from == unit => return Search::Frame { start, length },
            (true, _) => {
                return Search::Wrong(WireError::WrongUnit { found: from, expected: unit });
            }
            (false, true) if start == 0 => return Search::Wrong(WireError::Crc),
            (false, _) => {}
        }
    }
    Search::Incomplete
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::driver::modbus::wire::request::Ask;
    use crate::driver::modbus::wire::table::Table;

    fn framed(bytes: &[u8]) -> Vec<u8> {
        [bytes, &crc(bytes).to_le_bytes()].concat()
    }

    #[test]
    fn the_reply_is_the_first_frame_of_the_unit() {
        let ask = Ask::Read { table: Table::Holding, address: 0, count: 1 };
        let request = UnitRequest { unit: 4, ask };
        let reply = framed(&[4, 3, 2, 1, 2]);
        let check = |parts: &[&[u8]], expected: Search| {
            let bytes = parts.concat();
            assert_eq!(search(&bytes, &request, 4, &[]), expected, "{bytes:x?}");
        };
        let frame = |start, length| Search::Frame { start, length };
        check(&[&reply], frame(0, 7));
        check(&[&reply, &[9, 9]], frame(0, 7));
        check(&[&framed(&[4, 0x83, 2])], frame(0, 5));
        check(&[&[0, 0xff], &reply], frame(2, 7));
        check(&[&[4, 9, 4], &reply], frame(3, 7));
        check(&[&reply[..6]], Search::Incomplete);
        check(&[&[0], &reply[..6]], Search::Incomplete);
        check(&[&[4, 3, 2, 1, 2, 0, 0]], Search::Wrong(WireError::Crc));
        let other = WireError::WrongUnit { found: 5, expected: 4 };
        check(&[&framed(&[5, 3, 2, 1, 2])], Search::Wrong(other));
        check(&[&[0], &framed(&[5, 3, 2, 1, 2])], Search::Incomplete);
        // The beginning of an echo is no damaged reply.
        let echo = request.rtu().unwrap();
        let found = search(&echo[..7], &request, 4, &echo);
        assert_eq!(found, Search::Incomplete);
    }

    #[test]
    fn random_bytes_are_no_frame() {
        let mut random = fastrand::Rng::with_seed(3);
        let ask = Ask::Read { table: Table::Holding, address: 0, count: 2 };
        let request = UnitRequest { unit: 4, ask };
        for _ in 0..50_000 {
            let bytes: Vec<u8> = (0..random.usize(..40)).map(|_| random.u8(..8)).collect();
            if let Search::Frame { start, length } = search(&bytes, &request, 4, &[]) {
                assert_eq!(crc(&bytes[start..start + length]), 0, "{bytes:x?}");
                assert_eq!(bytes[start], 4, "{bytes:x?}");
            }
        }
    }
}
