//! A proxy between a Modbus client and a server, which makes replies late, lost, mixed up or
//! broken.
//!
//! The faults come from a random schedule with a seed. The client speaks Modbus TCP or, with
//! [`Wire::Rtu`], frames of the serial line through TCP. The server is a real Modbus server.
//!
//! The proxy forwards requests in the order in which they arrived, like a gateway to a serial line.
//! A write can be late, but the proxy never forwards an older write after a newer write: when a new
//! connection opens, the proxy drops all requests of the old connection.
//!
//! The proxy breaks only what a client can detect. Modbus TCP has no checksum, so a client cannot
//! detect a changed value. The proxy therefore never changes the bytes of values in Modbus TCP.
//!
//! This file forwards requests and replies. `proxy/fate.rs` chooses the faults, and
//! `proxy/frame.rs` reads and writes the frames.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex as StdMutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use camshaft::clock::{Clock, MonotonicClock};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Mutex, oneshot};
use tokio::time::{sleep, timeout};

mod fate;
mod frame;

use fate::{Fate, Schedule};
use frame::Request;

/// The longest that the server itself takes, on a machine with other work.
const SOUND: Duration = Duration::from_secs(5);

/// What the client speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wire {
    Tcp,
    Rtu,
}

/// How long the bus was taken by each unit, from its request to the next of anybody.
#[derive(Debug, Default)]
struct Occupancy {
    last: Option<(u8, Instant)>,
    by_unit: HashMap<u8, Duration>,
}

/// What is read: unit, function and first address.
pub type Asked = (u8, u8, u16);

/// So many instants are remembered of each read.
const MEMORY: usize = 256;

struct Shared {
    wire: Wire,
    server: u16,
    schedule: Schedule,
    /// Units that never answer, as bits.
    dead: AtomicU64,
    /// Whether the line gives back each request as an echo.
    has_echo: AtomicBool,
    requests: AtomicU64,
    occupancy: StdMutex<Occupancy>,
    /// When each read was asked for, on the clock of the machine.
    arrivals: StdMutex<HashMap<Asked, VecDeque<Duration>>>,
    /// The number of the connection that was made last.
    newest: AtomicU64,
    /// Whose turn it is: the bus behind is one, and fair.
    bus: Mutex<Option<TcpStream>>,
}

/// A proxy that runs until it is dropped.
pub struct Proxy {
    pub port: u16,
    shared: Arc<Shared>,
    end: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Proxy {
    /// A proxy before the server on this port, calm at first.
    pub fn start(wire: Wire, server: u16, timeout: Duration, seed: u64) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(Shared {
            wire,
            server,
            schedule: Schedule::new(wire, timeout, seed),
            dead: AtomicU64::new(0),
            has_echo: AtomicBool::new(false),
            requests: AtomicU64::new(0),
            occupancy: StdMutex::default(),
            arrivals: StdMutex::default(),
            newest: AtomicU64::new(0),
            bus: Mutex::new(None),
        });
        let (end, ended) = oneshot::channel();
        let ours = Arc::clone(&shared);
        let thread = std::thread::spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    () = serve(listener, ours) => {}
                    _ = ended => {}
                }
            });
            runtime.shutdown_background();
        });
        Self { port, shared, end: Some(end), thread: Some(thread) }
    }

    /// Lets the weather be calm, or not.
    pub fn calm(&self, is_calm: bool) {
        self.shared.schedule.calm(is_calm);
    }

    /// Lets a unit be silent for good, in any weather.
    pub fn kill(&self, unit: u8) {
        self.shared.dead.fetch_or(1 << unit, Ordering::Relaxed);
    }

    /// Lets the line give back each request as an echo.
    pub fn echo(&self) {
        self.shared.has_echo.store(true, Ordering::Relaxed);
    }

    /// Lets it answer again.
    pub fn revive(&self, unit: u8) {
        self.shared.dead.fetch_and(!(1 << unit), Ordering::Relaxed);
    }

    /// What the client speaks.
    pub fn wire(&self) -> Wire {
        self.shared.wire
    }

    /// How many requests have come.
    pub fn requests(&self) -> u64 {
        self.shared.requests.load(Ordering::Relaxed)
    }

    /// What has happened how often.
    pub fn fates(&self) -> HashMap<Fate, u64> {
        self.shared.schedule.fates()
    }

    /// When a read was asked for last before that instant, if it is remembered.
    pub fn asked(&self, read: Asked, before: Duration) -> Option<Duration> {
        let arrivals = self.shared.arrivals.lock().unwrap();
        arrivals.get(&read)?.iter().rev().find(|at| **at <= before).copied()
    }

    /// What part of the bus a unit has taken since it was asked last.
    pub fn share(&self, unit: u8) -> f64 {
        let occupancy = std::mem::take(&mut *self.shared.occupancy.lock().unwrap());
        let all: Duration = occupancy.by_unit.values().sum();
        let its = occupancy.by_unit.get(&unit).copied().unwrap_or_default();
        its.as_secs_f64() / all.as_secs_f64()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// One connection from the client.
struct Connection {
    shared: Arc<Shared>,
    number: u64,
    to: Arc<Mutex<OwnedWriteHalf>>,
    /// A reply that waits for the next one.
    swapped: Option<Vec<u8>>,
}

async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        stream.set_nodelay(true).unwrap();
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            let (mut from, to) = stream.into_split();
            if shared.schedule.is_stillborn() {
                let _ = deafen(&mut from).await;
                return;
            }
            let to = Arc::new(Mutex::new(to));
            let number = 1 + shared.newest.fetch_add(1, Ordering::Relaxed);
            let mut connection = Connection { shared, number, to, swapped: None };
            // It ends with either side.
            while let Ok(request) = Request::read(connection.shared.wire, &mut from).await {
                if connection.pass(request, &mut from).await.is_err() {
                    break;
                }
            }
        });
    }
}

/// Reads and does nothing, until the client gives up.
async fn deafen(from: &mut OwnedReadHalf) -> io::Result<()> {
    let mut bytes = [0; 256];
    while from.read(&mut bytes).await? > 0 {}
    Err(io::ErrorKind::ConnectionAborted.into())
}

impl Shared {
    fn note(&self, Request { unit, pdu, .. }: &Request) {
        let unit = *unit;
        let mut arrivals = self.arrivals.lock().unwrap();
        let read = (unit, pdu[0], u16::from_be_bytes([pdu[1], pdu[2]]));
        let arrivals = arrivals.entry(read).or_default();
        arrivals.push_back(MonotonicClock.now());
        arrivals.drain(..arrivals.len().saturating_sub(MEMORY));
        self.requests.fetch_add(1, Ordering::Relaxed);
        let now = Instant::now();
        let mut occupancy = self.occupancy.lock().unwrap();
        if let Some((last, at)) = occupancy.last.replace((unit, now)) {
            *occupancy.by_unit.entry(last).or_default() += now - at;
        }
    }

    /// Has the server do it, after `wait`; nobody else comes in between.
    async fn ask(&self, by: u64, request: &Request, wait: Duration) -> io::Result<Vec<u8>> {
        let mut bus = self.bus.lock().await;
        if !wait.is_zero() {
            sleep(wait).await;
        }
        if self.newest.load(Ordering::Relaxed) != by {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        if bus.is_none() {
            let stream = TcpStream::connect(("127.0.0.1", self.server)).await?;
            stream.set_nodelay(true)?;
            *bus = Some(stream);
        }
        let answer = timeout(SOUND, request.exchange(bus.as_mut().unwrap())).await;
        let answer = answer.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        if answer.is_err() {
            // Whoever comes next shall not wait for it as well.
            *bus = None;
        }
        answer
    }
}

impl Connection {
    /// Lets a request and its reply meet their fate.
    async fn pass(&mut self, request: Request, from: &mut OwnedReadHalf) -> io::Result<()> {
        let shared = Arc::clone(&self.shared);
        shared.note(&request);
        if shared.has_echo.load(Ordering::Relaxed) {
            self.send(request.reply(shared.wire, request.unit, &request.pdu)).await?;
        }
        if shared.dead.load(Ordering::Relaxed) & 1 << request.unit != 0 {
            return Ok(());
        }
        let fate = shared.schedule.fate();
        let exception = |code: u8| vec![request.pdu[0] | 0x80, code];
        let pdu = match fate {
            Fate::LoseRequest => return Ok(()),
            Fate::Close => return Err(io::ErrorKind::ConnectionAborted.into()),
            Fate::Deafen => return deafen(from).await,
            Fate::Busy => exception(5 + shared.schedule.pick(2) as u8),
            Fate::Gateway => exception(10 + shared.schedule.pick(2) as u8),
            Fate::Fail => exception(4),
            Fate::Hold => shared.ask(self.number, &request, shared.schedule.lateness()).await?,
            Fate::AskTwice => {
                let first = shared.ask(self.number, &request, Duration::ZERO).await?;
                let frame = request.reply(shared.wire, request.unit, &first);
                self.send(frame).await?;
                shared.ask(self.number, &request, Duration::ZERO).await?
            }
            _ => shared.ask(self.number, &request, Duration::ZERO).await?,
        };
        let unit = if fate == Fate::OtherUnit { request.unit ^ 3 } else { request.unit };
        let frame = request.reply(shared.wire, unit, &pdu);
        if (fate, shared.wire) == (Fate::Cut, Wire::Tcp) {
            // Whatever came next would count as the rest of it, also what is late.
            let mut to = self.to.lock().await;
            to.write_all(shared.schedule.cut(&frame)).await?;
            return deafen(from).await;
        }
        self.reply(fate, frame).await
    }

    /// The way back.
    async fn reply(&mut self, fate: Fate, mut frame: Vec<u8>) -> io::Result<()> {
        let shared = Arc::clone(&self.shared);
        match fate {
            Fate::LoseReply => return Ok(()),
            Fate::Delay => self.send_after(shared.schedule.time(0.1, 0.8), frame).await?,
            Fate::Late => self.send_after(shared.schedule.lateness(), frame).await?,
            Fate::Swap => {
                if let Some(older) = self.swapped.replace(frame) {
                    self.send(older).await?;
                }
                return Ok(());
            }
            Fate::Twice => self.send(frame.repeat(2)).await?,
            Fate::Corrupt => {
                shared.schedule.corrupt(&mut frame);
                self.send(frame).await?;
            }
            Fate::Cut => self.send(shared.schedule.cut(&frame).to_vec()).await?,
            Fate::Split => {
                // Nobody else may write in between.
                let mut to = self.to.lock().await;
                for piece in frame.chunks(3) {
                    to.write_all(piece).await?;
                    sleep(Duration::from_micros(200)).await;
                }
            }
            Fate::Noise => {
                let noise = (0..=shared.schedule.pick(20))
                    .map(|_| shared.schedule.pick(256) as u8)
                    .collect();
                self.send(noise).await?;
                self.send(frame).await?;
            }
            Fate::CloseAfter => {
                self.send(frame).await?;
                return Err(io::ErrorKind::ConnectionAborted.into());
            }
            _ => self.send(frame).await?,
        }
        match self.swapped.take() {
            Some(older) => self.send(older).await,
            None => Ok(()),
        }
    }

    async fn send(&self, bytes: Vec<u8>) -> io::Result<()> {
        self.to.lock().await.write_all(&bytes).await
    }

    /// Sends after a while. Over TCP others may overtake it; a serial line waits.
    async fn send_after(&self, wait: Duration, bytes: Vec<u8>) -> io::Result<()> {
        if self.shared.wire == Wire::Rtu {
            sleep(wait).await;
            return self.send(bytes).await;
        }
        let to = Arc::clone(&self.to);
        tokio::spawn(async move {
            sleep(wait).await;
            // The connection may be gone.
            let _ = to.lock().await.write_all(&bytes).await;
        });
        Ok(())
    }
}
