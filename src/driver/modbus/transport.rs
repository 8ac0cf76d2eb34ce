//! One connection to a bus, one request on it at a time, and the right reply or none.
//!
//! What makes this more than sending and receiving is the reply that comes too late. Over TCP each
//! frame has the number of its transaction: one with another number is dropped, and the wait goes
//! on. On a serial line nothing tells the reply to one read from that to another of the same
//! length, and there are gateways (and servers) that put the number of the newest request on
//! whatever their unit says. So a silence is remembered: **the next reply of that unit which the
//! late one could be mistaken for is thrown away**, and the line is listened to until no reply can
//! be under way any more. A reply of another shape is no proof by itself, because a gateway may let
//! one overtake the other: the late one must have had its time as well.
//! Nothing is tried twice here: retries and who is believed are in `exchange.rs`.

use std::io;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};
use tokio_serial::SerialPortBuilderExt;

use super::line::{Line, Parity, Serial, Target};
use super::request::{Reply, Request, WireError, crc};

/// The longest frame: 260 bytes over TCP (Modbus messaging on TCP/IP 1.0b, 4.2).
const MAX_FRAME: usize = 260;

/// Bytes of a frame over TCP before the function code.
const HEADER: usize = 7;

/// How much that nobody asked for is thrown away at a time before a device counts as one that does
/// nothing but talk.
const MAX_NOISE: usize = 64 * 1024;

/// How many replies may be owed at a time. Each was waited for as long as a unit may take, so what
/// is older than these does not come any more.
const MAX_OWED: usize = 8;

/// No reply comes later than this many times as long as a unit may take. Here lies the limit of
/// what can be known on a line whose replies have no number.
const LATEST: u32 = 3;

/// A cable that is pulled is found out after 15 + 3 * 5 s of silence, and as soon with something
/// under way.
const KEEPALIVE: (Duration, Duration, u32) = (Duration::from_secs(15), Duration::from_secs(5), 3);

/// Bytes both ways.
trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// A request whose reply has not come, but may yet.
#[derive(Debug)]
struct Owed {
    /// The number of its transaction.
    tid: u16,
    request: Request,
    /// From then on it does not come any more, if the unit has answered something else.
    until: Instant,
}

/// An open connection.
pub struct Transport {
    stream: Box<dyn Stream>,
    line: Line,
    /// Of the request sent last.
    tid: u16,
    /// What has come over TCP and is not yet a whole frame.
    received: Vec<u8>,
    /// When the next frame may be sent.
    quiet_until: Instant,
    /// Requests whose reply has not come, but may yet; the newest first.
    owed: Vec<Owed>,
    /// From the request handed over to its reply read, of the last that had one.
    round_trip: Duration,
}

impl Transport {
    /// Connects, or opens the port.
    ///
    /// # Errors
    /// When that fails, or takes too long.
    pub async fn open(line: &Line) -> io::Result<Self> {
        let stream: Box<dyn Stream> = match &line.target {
            Target::Rtu(path) => {
                let path = path.to_str().ok_or(io::ErrorKind::InvalidInput)?;
                Box::new(open_serial(path, line.serial.unwrap_or_default())?)
            }
            Target::Tcp(host, port) | Target::RtuOverTcp(host, port) => {
                let connected = TcpStream::connect((host.as_str(), *port));
                let late = |_| io::Error::new(io::ErrorKind::TimedOut, "no connection in time");
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
            owed: Vec::new(),
            round_trip: Duration::ZERO,
        })
    }

    /// Sends a request and waits for its reply, no longer than a unit may take. Not to be dropped
    /// half-way unless the transport is dropped as well.
    ///
    /// # Errors
    /// When nothing comes that is the reply to this request, or the unit refuses. After
    /// [`WireError::Closed`] the transport is of no more use.
    pub async fn transact(&mut self, request: &Request) -> Result<Reply, WireError> {
        // A timer of tokio takes up to a millisecond also when its time has come already.
        if self.quiet_until > Instant::now() {
            sleep_until(self.quiet_until).await;
        }
        let started = Instant::now();
        let outcome = if self.line.is_rtu() {
            self.transact_rtu(request, started).await
        } else {
            self.transact_tcp(request, started).await
        };
        let outcome = match outcome {
            Ok(_) | Err(WireError::Exception(_)) => {
                self.round_trip = started.elapsed();
                self.believe(request, started, outcome).await
            }
            Err(WireError::Closed(_)) => outcome,
            Err(_) => self.remember(request, started).await.and(outcome),
        };
        self.rest(Duration::ZERO);
        outcome
    }

    /// Something was answered: whether it can be meant for this request.
    async fn believe(
        &mut self,
        request: &Request,
        started: Instant,
        outcome: Result<Reply, WireError>,
    ) -> Result<Reply, WireError> {
        let ours = || self.owed.iter().filter(|owed| owed.request.unit == request.unit);
        let is_doubtful = |owed: &Owed| request.is_mistakable_for(&owed.request, outcome.is_err());
        let is_doubtful = ours().any(is_doubtful);
        if is_doubtful || ours().any(|owed| owed.request == *request) {
            // Of two replies one is still to come.
            self.listen(started + LATEST * self.line.timeout(request)).await?;
            self.owed.retain(|owed| owed.request.unit != request.unit);
        } else {
            // The unit has answered since, and what a gateway holds back has had its time.
            let now = Instant::now();
            self.owed.retain(|owed| owed.request.unit != request.unit || now < owed.until);
        }
        if is_doubtful { Err(WireError::Doubtful) } else { outcome }
    }

    /// Nothing was answered that makes sense: it may come yet.
    async fn remember(&mut self, request: &Request, started: Instant) -> Result<(), WireError> {
        self.owed.truncate(MAX_OWED - 1);
        let until = started + LATEST * self.line.timeout(request);
        self.owed.insert(0, Owed { tid: self.tid, request: request.clone(), until });
        if self.line.is_rtu() {
            self.listen(Instant::now() + self.line.timeout(request)).await?;
        }
        Ok(())
    }

    /// Lets the bus be quiet for so long from now, or for the usual gap if that is longer.
    pub fn rest(&mut self, pause: Duration) {
        self.quiet_until = self.quiet_until.max(Instant::now() + pause.max(self.line.gap()));
    }

    /// How long the last request took that was answered.
    pub fn round_trip(&self) -> Duration {
        self.round_trip
    }

    async fn transact_tcp(
        &mut self,
        request: &Request,
        started: Instant,
    ) -> Result<Reply, WireError> {
        self.tid = self.tid.wrapping_add(1);
        let deadline = started + self.line.timeout(request);
        self.send(request.tcp(self.tid), deadline).await?;
        loop {
            let frame = self.receive_tcp(deadline).await?;
            let tid = u16::from_be_bytes([frame[0], frame[1]]);
            if tid != self.tid {
                // Too late, for a request that was given up. If nothing else is owed, nothing is
                // now; of two debts this may have paid the other one, whatever its number says.
                if let [Owed { tid: owed, .. }] = self.owed[..]
                    && owed == tid
                {
                    self.owed.clear();
                }
            } else if frame[6] != request.unit {
                return Err(WireError::Garbage("another unit"));
            } else {
                return request.reply(&frame[HEADER..]);
            }
        }
    }

    /// The next whole frame.
    async fn receive_tcp(&mut self, deadline: Instant) -> Result<Vec<u8>, WireError> {
        // Who always has something to say is not silent, but does not answer either.
        while Instant::now() < deadline {
            if let Some(&[_, _, p, q, high, low]) = self.received.first_chunk() {
                let length = usize::from(u16::from_be_bytes([high, low]));
                // Where the next frame begins, nobody knows then.
                if (p, q) != (0, 0) || !(3..=MAX_FRAME - 6).contains(&length) {
                    return Err(WireError::Closed("what came is no frame of Modbus TCP".into()));
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

    async fn transact_rtu(
        &mut self,
        request: &Request,
        started: Instant,
    ) -> Result<Reply, WireError> {
        // What has come since the last reply is nobody's.
        self.drain(started).await?;
        let deadline = started + self.line.timeout(request);
        self.send(request.rtu(), deadline).await?;
        let frame = self.receive_rtu(request, deadline).await?;
        request.reply(&frame[1..frame.len() - 2])
    }

    /// A frame of the length that this request is answered with, or that of an exception, with a
    /// good checksum.
    async fn receive_rtu(
        &mut self,
        request: &Request,
        deadline: Instant,
    ) -> Result<Vec<u8>, WireError> {
        let mut frame = Vec::with_capacity(MAX_FRAME);
        loop {
            let length = match *frame.as_slice() {
                [] | [_] => 5,
                [unit, ..] if unit != request.unit => {
                    return Err(WireError::Garbage("another unit"));
                }
                [_, function, ..] if function == request.function() => 3 + request.reply_len(),
                // An exception, or something that will be found to be none.
                _ => 5,
            };
            if frame.len() >= length {
                // What follows is noise of the line, and is thrown away before the next request.
                frame.truncate(length);
                return if crc(&frame) == 0 { Ok(frame) } else { Err(WireError::Crc) };
            }
            let read = timeout_at(deadline, self.stream.read_buf(&mut frame)).await;
            let silence = if frame.is_empty() {
                WireError::Timeout
            } else {
                WireError::Garbage("a frame that does not end")
            };
            came(read.map_err(|_| silence)?)?;
        }
    }

    async fn send(
        &mut self,
        frame: Result<Vec<u8>, rmodbus::ErrorKind>,
        deadline: Instant,
    ) -> Result<(), WireError> {
        let frame = frame.map_err(|_| WireError::Garbage("a request too long for a frame"))?;
        match timeout_at(deadline, self.stream.write_all(&frame)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(closed(&error)),
            // Part of it may be sent: nothing else can follow.
            Err(_) => Err(WireError::Closed("it takes no more".into())),
        }
    }

    /// Listens until then, and drops what comes.
    async fn listen(&mut self, until: Instant) -> Result<(), WireError> {
        if self.line.is_rtu() {
            return self.drain(until).await;
        }
        loop {
            match self.receive_tcp(until).await {
                Ok(_) => {}
                Err(WireError::Timeout) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    /// The same without any heed of frames.
    async fn drain(&mut self, until: Instant) -> Result<(), WireError> {
        let mut noise = 0;
        let mut bytes = [0; 256];
        // What is there already is read even if no time is left.
        while let Ok(read) = timeout_at(until, self.stream.read(&mut bytes)).await {
            noise += came(read)?;
            if noise > MAX_NOISE {
                return Err(WireError::Closed("somebody on the line never stops".into()));
            }
        }
        Ok(())
    }
}

/// How many bytes came; none is the end.
fn came(read: io::Result<usize>) -> Result<usize, WireError> {
    match read {
        Ok(0) => Err(WireError::Closed("the other side has closed it".into())),
        Ok(count) => Ok(count),
        Err(error) => Err(closed(&error)),
    }
}

fn closed(error: &io::Error) -> WireError {
    WireError::Closed(error.to_string())
}

fn set_up(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let (idle, interval, probes) = KEEPALIVE;
    let socket = SockRef::from(stream);
    let keepalive = TcpKeepalive::new().with_time(idle).with_interval(interval);
    socket.set_tcp_keepalive(&keepalive.with_retries(probes))?;
    socket.set_tcp_user_timeout(Some(idle + interval * probes))
}

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
