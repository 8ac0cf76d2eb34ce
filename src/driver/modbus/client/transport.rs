//! One connection to a bus. It sends one request at a time, and it returns either the valid reply
//! to this request or an error.
//!
//! ```text
//!   open --> transact, idle, transact, ... --> ended, by the other side or by an error --> reopen
//! ```
//! The difficult case is a reply that comes after the timeout. Over Modbus TCP, each frame has a
//! transaction number. A frame with another number is dropped, and the driver waits for the next
//! frame. On a serial line, a frame has no number. Therefore the driver pauses after each missing
//! or invalid reply and drops all bytes that arrive during the pause. `outstanding.rs` records
//! which late replies could still be mistaken for other replies.
//!
//! `transport/tcp.rs` and `transport/rtu.rs` send and receive the frames, and
//! `transport/stream.rs` opens the stream of bytes. These files repeat no request; `exchange.rs`
//! decides on retries and on the health of units, and `reopen.rs` decides when a connection that
//! has ended is opened again.

mod rtu;
mod stream;
mod tcp;

use std::fmt;
use std::io;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::line::Line;
use super::outstanding::OutstandingReplies;
use crate::driver::modbus::wire::error::WireError;
use crate::driver::modbus::wire::request::{Reply, UnitRequest};
use rtu::Echo;
use stream::Stream;

/// The length of the longest frame in bytes: 260 over TCP (Modbus messaging on TCP/IP 1.0b, 4.2).
const MAX_FRAME: usize = 260;

/// The maximum number of bytes that the driver drops at a time. If more bytes arrive, the driver
/// assumes that a device on the line never stops sending, and it closes the connection.
const MAX_NOISE: usize = 64 * 1024;

/// The time after which a reply no longer comes, as a multiple of the timeout. The time
/// begins when the driver starts to send the request. The factor is an assumption, because nothing
/// more exact is known on a line without transaction numbers.
const LATEST: u32 = 3;

/// Reason why a connection has ended: the other side has closed it.
const CLOSED: &str = "the other side has closed the connection";

/// A connection to a bus.
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
    /// Whether the line gives back each request as an echo.
    echo: Echo,
    /// The round-trip time of the last request that had a valid reply or an exception. It is the
    /// time from the start of sending to the end of the reply.
    round_trip: Duration,
    /// The time at which the connection was opened.
    opened_at: Instant,
    /// The number of valid replies and exceptions on this connection, and the time of the last one.
    /// `None` before the first.
    answered: Option<(u64, Instant)>,
    /// Reason why the connection has ended, and the time of its end. `None` while it is open.
    ended: Option<(String, Instant)>,
}

impl Transport {
    /// Connects over TCP, or opens the serial port.
    ///
    /// # Errors
    /// When the connection fails or takes longer than `connect_timeout`, or when the serial port
    /// cannot be opened.
    pub async fn open(line: &Line) -> io::Result<Self> {
        let stream = stream::open(line).await?;
        let now = Instant::now();
        Ok(Self {
            stream,
            line: line.clone(),
            tid: 0,
            received: Vec::with_capacity(MAX_FRAME),
            quiet_until: now + line.gap().max(line.connect_delay),
            outstanding: OutstandingReplies::default(),
            echo: Echo::default(),
            round_trip: Duration::ZERO,
            opened_at: now,
            answered: None,
            ended: None,
        })
    }

    /// Makes a new connection in place of the connection that has ended. The outstanding replies of
    /// a serial line remain in the list, because they can still come on the new connection.
    ///
    /// # Errors
    /// As for [`Transport::open`]. The transport can then not be used, but can be reopened again.
    pub async fn reopen(&mut self) -> io::Result<()> {
        let new = Self::open(&self.line).await?;
        let old = std::mem::replace(self, new);
        if self.line.is_rtu() {
            (self.outstanding, self.echo) = (old.outstanding, old.echo);
            self.quiet_until(old.quiet_until);
        }
        Ok(())
    }

    /// Returns the reason why the connection has ended. Returns `None` while the connection is
    /// open, as far as the transport knows.
    pub fn ended(&self) -> Option<&str> {
        self.ended.as_ref().map(|(why, _)| &**why)
    }

    /// Whether a valid reply or an exception has come on this connection.
    pub fn has_answered(&self) -> bool {
        self.answered.is_some()
    }

    /// Returns the number of valid replies and exceptions on this connection.
    pub fn replies(&self) -> u64 {
        self.answered.map_or(0, |(count, _)| count)
    }

    /// Returns how long the connection was open. Returns zero while the connection is open.
    pub fn lifetime(&self) -> Duration {
        self.ended.as_ref().map_or(Duration::ZERO, |(_, at)| *at - self.opened_at)
    }

    /// Returns the number of replies on this connection, and the time from the last reply to the
    /// end. Returns `None` while the connection is open, and if no reply has come.
    pub fn ended_after_replies(&self) -> Option<(u64, Duration)> {
        let ((_, ended), (count, answered)) = (self.ended.as_ref()?, self.answered?);
        Some((count, *ended - answered))
    }

    /// Makes the transport assume that the line has no echo, until a reply shows one.
    pub fn assume_no_echo(&mut self) {
        self.echo = Echo::No;
    }

    /// Whether the line gives back each request as an echo, as far as the transport knows.
    pub fn has_echo(&self) -> bool {
        self.echo == Echo::Yes
    }

    /// Whether [`Transport::busy_for`] may return a time other than zero.
    pub fn is_busy(&self) -> bool {
        self.outstanding.is_waited_for()
    }

    /// Returns how long the caller should wait before it sends this request. During this time, a
    /// late reply may come that could be taken for the reply to the request.
    pub fn busy_for(&self, request: &UnitRequest) -> Duration {
        let busy_until = self.outstanding.busy_until(request, self.line.answers_as(request.unit));
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

    /// Waits for the duration `time`, or until the connection ends. The function drops all bytes
    /// that arrive during the wait. Over Modbus TCP, these bytes are late replies. The caller may
    /// drop the future at any time.
    pub async fn idle(&mut self, time: Duration) {
        let until = Instant::now() + time;
        if self.ended.is_some() {
            return sleep_until(until).await;
        }
        let outcome = if self.line.is_untagged() {
            self.drain(until).await
        } else {
            self.idle_tcp(until).await
        };
        if let Err(WireError::Closed(why)) = outcome {
            self.end(why);
        }
    }

    /// Sends a request and waits for its reply, at most as long as a unit may take. On a line
    /// without transaction numbers, a pause as long as the timeout follows if no valid reply has
    /// come. Before the function sends the request, it waits until the time `quiet_until`, and
    /// until no late reply can be taken for the reply to this request. If the caller drops the
    /// future before its end, the caller must drop the transport too.
    ///
    /// # Errors
    /// When no valid reply to this request comes, when the unit or a gateway refuses the request,
    /// or when the reply is doubtful. After [`WireError::Closed`] the transport must be reopened
    /// before the next request.
    pub async fn transact(&mut self, request: &UnitRequest) -> Result<Reply, WireError> {
        self.quiet_until(Instant::now() + self.busy_for(request));
        // A sleep of tokio can take up to 1 ms even if its end is in the past. Therefore the code
        // sleeps only until a time in the future.
        if self.quiet_until > Instant::now() {
            self.idle(self.quiet_until - Instant::now()).await;
        }
        let started = Instant::now();
        self.check_open(started).await?;
        let outcome = if self.line.is_rtu() {
            self.transact_rtu(request, started).await
        } else {
            self.transact_tcp(request, started).await
        };
        let latest = started + LATEST * self.line.timeout(request);
        let outcome = match outcome {
            Ok(_) | Err(WireError::Exception(_)) => {
                self.round_trip = started.elapsed();
                let before = self.answered.map_or(0, |(count, _)| count);
                self.answered = Some((before + 1, Instant::now()));
                if self.is_doubtful(request, outcome.is_err(), latest) {
                    Err(WireError::Doubtful)
                } else {
                    outcome
                }
            }
            Err(why) => self.missed(request, started, why).await,
        };
        self.rest(Duration::ZERO);
        outcome
    }

    /// Checks that the connection is open; `now` is the present time. On a line without transaction
    /// numbers, drops the bytes that have arrived since the last reply, because they belong to no
    /// request.
    ///
    /// # Errors
    /// [`WireError::Closed`] if the connection has ended. Nothing was sent then, so no reply can
    /// come.
    async fn check_open(&mut self, now: Instant) -> Result<(), WireError> {
        if self.ended.is_none()
            && self.line.is_untagged()
            && let Err(WireError::Closed(why)) = self.drain(now).await
        {
            self.end(why);
        }
        if self.ended.is_none() && self.stream.is_closed() {
            self.end(CLOSED.into());
        }
        self.ended().map_or(Ok(()), |why| Err(WireError::Closed(why.into())))
    }

    /// Records a reply to `request`, and returns whether the reply may belong to another request.
    /// In that case, one more reply may come until `latest`. On a line with an echo, the reply to a
    /// write may be the late echo of the same write, if that write had no reply before.
    fn is_doubtful(&mut self, request: &UnitRequest, is_exception: bool, latest: Instant) -> bool {
        let is_late_echo = self.has_echo()
            && request.is_repeated_by_reply()
            && !is_exception
            && self.outstanding.has(request);
        let from = self.line.answers_as(request.unit);
        let times = (Instant::now(), latest);
        self.outstanding.settle(request, from, is_exception, times) || is_late_echo
    }

    /// Records that `request` has had no valid reply because of `why`. On a line without
    /// transaction numbers, the function drops all bytes for as long as the timeout. Returns `why`,
    /// or the reason why the connection has ended meanwhile.
    async fn missed(
        &mut self,
        request: &UnitRequest,
        started: Instant,
        why: WireError,
    ) -> Result<Reply, WireError> {
        let timeout = self.line.timeout(request);
        let from = self.line.answers_as(request.unit);
        self.outstanding.add(self.tid, request.clone(), from, started + LATEST * timeout);
        let is_closed = matches!(why, WireError::Closed(_));
        let drained = match self.line.is_untagged() && !is_closed {
            true => self.drain(Instant::now() + timeout).await,
            false => Ok(()),
        };
        let why = drained.err().unwrap_or(why);
        if let WireError::Closed(reason) = &why {
            self.end(reason.clone());
            // The unit may still answer on the serial line behind the connection.
            self.quiet_until(started + 2 * timeout);
        }
        Err(why)
    }

    /// Records that the connection has ended because of `why`.
    fn end(&mut self, why: String) {
        self.ended = Some((why, Instant::now()));
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

    /// Writes the bytes of a frame to the log with the level trace.
    fn trace(&self, what: &str, frame: &[u8]) {
        tracing::trace!("{}: {what} {}", self.line.target, Hex(frame));
    }

    /// Sends a frame. The sending must end before `deadline`.
    async fn send(&mut self, frame: &[u8], deadline: Instant) -> Result<(), WireError> {
        self.trace("sent", frame);
        match timeout_at(deadline, self.stream.write_all(frame)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(closed(&error)),
            // A part of the frame may already be sent, so no other frame can follow on this
            // connection.
            Err(_) => Err(WireError::Closed("the other side accepts no more bytes".into())),
        }
    }
}

/// Returns the number of bytes that were read. A read of 0 bytes means that the other side has
/// closed the connection.
fn came(read: io::Result<usize>) -> Result<usize, WireError> {
    match read {
        Ok(0) => Err(WireError::Closed(CLOSED.into())),
        Ok(count) => Ok(count),
        Err(error) => Err(closed(&error)),
    }
}

/// Makes the error for a connection that has ended with an I/O error.
fn closed(error: &io::Error) -> WireError {
    WireError::Closed(error.to_string())
}

/// The bytes of a frame, which are displayed in hexadecimal, such as `01 03 00 0a`.
struct Hex<'b>(&'b [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let gap = |n: usize| if n == 0 { "" } else { " " };
        self.0.iter().enumerate().try_for_each(|(n, byte)| write!(f, "{}{byte:02x}", gap(n)))
    }
}
