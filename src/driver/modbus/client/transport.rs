//! One connection to a bus. It sends one request at a time, and it returns either the valid reply
//! to this request or an error.
//!
//! The difficult case is a reply that comes after the timeout. Over Modbus TCP, each frame has a
//! transaction number. A frame with another number is dropped, and the driver waits for the next
//! frame. On a serial line, a frame has no number. Therefore the driver pauses after each missing
//! or invalid reply and drops all bytes that arrive during the pause. `outstanding.rs` records
//! which late replies could still be mistaken for other replies. This file repeats no request;
//! `exchange.rs` decides on retries and on the health of units.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};
use tokio_serial::SerialPortBuilderExt;

use super::line::{Line, Parity, Serial, Target};
use super::outstanding::OutstandingReplies;
use crate::driver::modbus::wire::request::{Reply, UnitRequest, WireError, crc};
use crate::driver::tcp::set_up;

/// The length of the longest frame in bytes: 260 over TCP (Modbus messaging on TCP/IP 1.0b, 4.2).
const MAX_FRAME: usize = 260;

/// The number of bytes in a TCP frame before the function code.
const HEADER: usize = 7;

/// The maximum number of bytes that one call of `Transport::drain` drops. If more bytes arrive, the
/// driver assumes that a device on the line never stops sending, and it closes the connection.
const MAX_NOISE: usize = 64 * 1024;

/// The time after which a reply no longer comes, as a multiple of the timeout. The time
/// begins when the driver starts to send the request. The factor is an assumption, because nothing
/// more exact is known on a line without transaction numbers.
const LATEST: u32 = 3;

/// A connection that carries bytes in both directions: a TCP stream or a serial port.
trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// An open connection to a bus.
pub struct Transport {
    stream: Box<dyn Stream>,
    line: Line,
    /// The transaction number of the request that was sent last. Always 0 on a serial line.
    tid: u16,
    /// The bytes that were received over Modbus TCP and are not yet a whole frame.
    received: Vec<u8>,
    /// The time before which no frame may be sent.
    quiet_until: Instant,
    /// The replies that have not come in time but may still come.
    outstanding: OutstandingReplies,
    /// The round-trip time of the last request that had a valid reply or an exception. It is the
    /// time from the start of sending to the end of the reply.
    round_trip: Duration,
}

impl Transport {
    /// Connects over TCP, or opens the serial port.
    ///
    /// # Errors
    /// When the connection fails or takes longer than `connect_timeout`, or when the serial port
    /// cannot be opened.
    pub async fn open(line: &Line) -> io::Result<Self> {
        let stream: Box<dyn Stream> = match &line.target {
            Target::Rtu(path) => {
                let path = path.to_str().ok_or(io::ErrorKind::InvalidInput)?;
                Box::new(open_serial(path, line.serial.unwrap_or_default())?)
            }
            Target::Tcp(host, port) | Target::RtuOverTcp(host, port) => {
                let connected = TcpStream::connect((host.as_str(), *port));
                let late = |_| {
                    io::Error::new(io::ErrorKind::TimedOut, "no connection within connect_timeout")
                };
                let stream = timeout(line.connect_timeout, connected).await.map_err(late)??;
                set_up(&stream)?;
                Box::new(stream)
            }
        };
        Ok(Self {
            stream,
            line: line.clone(),
            tid: 0,
            received: Vec::with_capacity(MAX_FRAME),
            quiet_until: Instant::now() + line.gap(),
            outstanding: OutstandingReplies::default(),
            round_trip: Duration::ZERO,
        })
    }

    /// Whether [`Transport::busy_for`] may return a time other than zero.
    pub fn is_busy(&self) -> bool {
        self.outstanding.is_waited_for()
    }

    /// Returns how long the caller should wait before it sends this request. During this time, a
    /// late reply may come that could be taken for the reply to the request.
    pub fn busy_for(&self, request: &UnitRequest) -> Duration {
        let busy_until = self.outstanding.busy_until(request);
        busy_until.map_or(Duration::ZERO, |until| until.saturating_duration_since(Instant::now()))
    }

    /// Returns the time after which no outstanding reply comes any more. Returns `None` if no reply
    /// is outstanding.
    pub fn silent_at(&self) -> Option<Instant> {
        self.outstanding.end()
    }

    /// Makes the transport send no frame before `until`.
    pub fn quiet_until(&mut self, until: Instant) {
        self.quiet_until = self.quiet_until.max(until);
    }

    /// Waits for the duration `time`. Over Modbus TCP, the function receives late replies during
    /// the wait if a request may have to wait for these replies. The caller may drop the future at
    /// any time.
    pub async fn idle(&mut self, time: Duration) {
        let until = Instant::now() + time;
        while self.outstanding.is_waited_for() && !self.line.is_rtu() {
            match self.receive_tcp(until).await {
                Ok(frame) => self.outstanding.late_reply(tid(&frame)),
                // The next request reports the same error.
                Err(_) => break,
            }
        }
        sleep_until(until).await;
    }

    /// Sends a request and waits for its reply, at most as long as a unit may take. On a serial
    /// line, a pause as long as the timeout follows if no valid reply has come. Before the function
    /// sends the request, it waits until the time `quiet_until`, and until no late reply can be
    /// taken for the reply to this request. If the caller drops the future before its end, the
    /// caller must drop the transport too.
    ///
    /// # Errors
    /// When no valid reply to this request comes, when the unit or a gateway refuses the request,
    /// or when the reply is doubtful. After [`WireError::Closed`] the transport cannot be used any
    /// more.
    pub async fn transact(&mut self, request: &UnitRequest) -> Result<Reply, WireError> {
        self.quiet_until(Instant::now() + self.busy_for(request));
        // A sleep of tokio can take up to 1 ms even if its end is in the past. Therefore the code
        // sleeps only until a time in the future.
        if self.quiet_until > Instant::now() {
            sleep_until(self.quiet_until).await;
        }
        let started = Instant::now();
        let outcome = if self.line.is_rtu() {
            self.transact_rtu(request, started).await
        } else {
            self.transact_tcp(request, started).await
        };
        let latest = started + LATEST * self.line.timeout(request);
        let outcome = match outcome {
            Ok(_) | Err(WireError::Exception(_)) => {
                self.round_trip = started.elapsed();
                let is_doubtful =
                    self.outstanding.settle(request, outcome.is_err(), Instant::now(), latest);
                if is_doubtful { Err(WireError::Doubtful) } else { outcome }
            }
            Err(why) => {
                self.outstanding.add(self.tid, request.clone(), latest);
                if self.line.is_rtu() && !matches!(why, WireError::Closed(_)) {
                    self.drain(Instant::now() + self.line.timeout(request)).await?;
                }
                Err(why)
            }
        };
        self.rest(Duration::ZERO);
        outcome
    }

    /// Makes the transport send nothing for the duration `pause` from now, or for the gap of the
    /// line if this gap is longer.
    pub fn rest(&mut self, pause: Duration) {
        self.quiet_until = self.quiet_until.max(Instant::now() + pause.max(self.line.gap()));
    }

    /// Returns the round-trip time of the last request that had a valid reply or an exception.
    pub fn round_trip(&self) -> Duration {
        self.round_trip
    }

    /// Sends a request over Modbus TCP, and waits for the frame with the transaction number of this
    /// request.
    async fn transact_tcp(
        &mut self,
        request: &UnitRequest,
        started: Instant,
    ) -> Result<Reply, WireError> {
        self.tid = self.tid.wrapping_add(1);
        let deadline = started + self.line.timeout(request);
        self.send(request.tcp(self.tid), deadline).await?;
        loop {
            let frame = self.receive_tcp(deadline).await?;
            if tid(&frame) != self.tid {
                // The frame is a late reply to an earlier request.
                self.outstanding.late_reply(tid(&frame));
                continue;
            }
            let (unit, bytes) = (frame[6], &frame[HEADER..]);
            let reply = match unit == request.unit {
                true => request.reply(bytes),
                false => Err(WireError::Garbage("a wrong unit address")),
            };
            // A gateway may have put the transaction number of this request on a late reply to
            // another request.
            let is_late = matches!(reply, Err(WireError::Garbage(_)))
                && self.outstanding.could_be_one(unit, bytes);
            if !is_late {
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
                    return Err(WireError::Closed(
                        "the other side has sent bytes that are not a Modbus TCP frame".into(),
                    ));
                }
                if self.received.len() >= 6 + length {
                    return Ok(self.received.drain(..6 + length).collect());
                }
            }
            let read = timeout_at(deadline, self.stream.read_buf(&mut self.received)).await;
            came(read.map_err(|_| WireError::Timeout)?)?;
        }
        Err(WireError::Timeout)
    }

    /// Sends a request in a frame of the serial line, and waits for the reply.
    async fn transact_rtu(
        &mut self,
        request: &UnitRequest,
        started: Instant,
    ) -> Result<Reply, WireError> {
        // Bytes that have arrived since the last reply belong to no request, so they are dropped.
        self.drain(started).await?;
        let deadline = started + self.line.timeout(request);
        self.send(request.rtu(), deadline).await?;
        let frame = self.receive_rtu(request, deadline).await?;
        request.reply(&frame[1..frame.len() - 2])
    }

    /// Receives a frame with a correct checksum. The frame has the length of the reply to this
    /// request, or the length of an exception.
    async fn receive_rtu(
        &mut self,
        request: &UnitRequest,
        deadline: Instant,
    ) -> Result<Vec<u8>, WireError> {
        let mut frame = Vec::with_capacity(MAX_FRAME);
        loop {
            let length = match *frame.as_slice() {
                [] | [_] => 5,
                [unit, ..] if unit != request.unit => {
                    return Err(WireError::Garbage("a wrong unit address"));
                }
                [_, function, ..] if function == request.function() => 3 + request.reply_len(),
                // The frame is an exception, or `UnitRequest::reply` refuses it later.
                _ => 5,
            };
            if frame.len() >= length {
                // Bytes after the frame are noise on the line. They are cut off here, and later
                // noise is dropped before the next request.
                frame.truncate(length);
                return if crc(&frame) == 0 { Ok(frame) } else { Err(WireError::Crc) };
            }
            let read = timeout_at(deadline, self.stream.read_buf(&mut frame)).await;
            let silence = if frame.is_empty() {
                WireError::Timeout
            } else {
                WireError::Garbage("an incomplete frame")
            };
            came(read.map_err(|_| silence)?)?;
        }
    }

    /// Sends a frame. The sending must end before `deadline`.
    async fn send(
        &mut self,
        frame: Result<Vec<u8>, rmodbus::ErrorKind>,
        deadline: Instant,
    ) -> Result<(), WireError> {
        let frame = frame.map_err(|_| WireError::Garbage("a request too long for a frame"))?;
        match timeout_at(deadline, self.stream.write_all(&frame)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(closed(&error)),
            // A part of the frame may already be sent, so no other frame can follow on this
            // connection.
            Err(_) => Err(WireError::Closed("the other side accepts no more bytes".into())),
        }
    }

    /// Receives bytes until the time `until`, and drops all of them.
    async fn drain(&mut self, until: Instant) -> Result<(), WireError> {
        let mut noise = 0;
        let mut bytes = [0; 256];
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

/// Returns the transaction number of a TCP frame.
fn tid(frame: &[u8]) -> u16 {
    u16::from_be_bytes([frame[0], frame[1]])
}

/// Returns the number of bytes that were read. A read of 0 bytes means that the other side has
/// closed the connection.
fn came(read: io::Result<usize>) -> Result<usize, WireError> {
    match read {
        Ok(0) => Err(WireError::Closed("the other side has closed the connection".into())),
        Ok(count) => Ok(count),
        Err(error) => Err(closed(&error)),
    }
}

/// Makes the error for a connection that has ended with an I/O error.
fn closed(error: &io::Error) -> WireError {
    WireError::Closed(error.to_string())
}

/// Opens a serial port with these settings, with 8 data bits and without flow control.
fn open_serial(path: &str, serial: Serial) -> io::Result<tokio_serial::SerialStream> {
    use tokio_serial::{DataBits, FlowControl, StopBits};
    let builder = tokio_serial::new(path, serial.baud)
        .data_bits(DataBits::Eight)
        .flow_control(FlowControl::None)
        .stop_bits(if serial.stop_bits == 2 { StopBits::Two } else { StopBits::One })
        .parity(match serial.parity {
            Parity::Even => tokio_serial::Parity::Even,
            Parity::Odd => tokio_serial::Parity::Odd,
            Parity::None => tokio_serial::Parity::None,
        });
    Ok(builder.open_native_async()?)
}
