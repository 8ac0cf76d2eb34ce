//! Bad weather between a Modbus client and a server: every way in which a reply can be late, lost,
//! mixed up or broken, by a seeded schedule.
//!
//! The client speaks Modbus TCP or, with [`Wire::Rtu`], frames of the serial line through TCP. The
//! server behind is a real one. Like a gateway to a serial line, the proxy does what it is asked in
//! the order in which that came: it can be late with a write, but it never does an older one after
//! a newer one, because it forgets what came over a connection when there is another. What it breaks
//! can be found out: bytes of values are left alone where Modbus TCP, which has no checksum, gives
//! nobody a chance.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex as StdMutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use camshaft::clock::{Clock, MonotonicClock};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Mutex, oneshot};
use tokio::time::{sleep, timeout};

/// What happens to a request and its reply, and how often in 10 000.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fate {
    /// Nothing.
    Pass,
    /// It takes a while, but not too long.
    Delay,
    /// It comes when nobody waits for it any more.
    Late,
    /// It is done when nobody waits for it any more.
    Hold,
    /// The request never arrives.
    LoseRequest,
    /// The reply never arrives.
    LoseReply,
    /// The reply comes twice.
    Twice,
    /// The request comes twice, and so does an answer to each.
    AskTwice,
    /// The reply comes after the next one.
    Swap,
    /// Bits are wrong.
    Corrupt,
    /// The end of the reply is missing; over TCP nothing comes after that.
    Cut,
    /// The reply comes in pieces.
    Split,
    /// Bytes that mean nothing come before the reply.
    Noise,
    /// Exceptions 5 and 6.
    Busy,
    /// Exceptions 10 and 11.
    Gateway,
    /// Exception 4.
    Fail,
    /// Another unit answers.
    OtherUnit,
    /// The connection ends.
    Close,
    /// The connection stays, and nothing comes over it any more.
    Deafen,
}

/// All but `Pass`.
const FATES: [(Fate, u32); 18] = [
    (Fate::Delay, 100),
    (Fate::Late, 60),
    (Fate::Hold, 20),
    (Fate::LoseRequest, 30),
    (Fate::LoseReply, 30),
    (Fate::Twice, 80),
    (Fate::AskTwice, 80),
    (Fate::Swap, 60),
    (Fate::Corrupt, 20),
    (Fate::Cut, 3),
    (Fate::Split, 60),
    (Fate::Noise, 3),
    (Fate::Busy, 60),
    (Fate::Gateway, 30),
    (Fate::Fail, 40),
    (Fate::OtherUnit, 20),
    (Fate::Close, 3),
    (Fate::Deafen, 3),
];

/// The longest that the server itself takes, on a machine with other work.
const SOUND: Duration = Duration::from_secs(5);

/// In 100: connections that are taken and never answered.
const STILLBORN: u32 = 10;

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
    /// What the client waits for a reply.
    timeout: Duration,
    random: StdMutex<fastrand::Rng>,
    is_calm: AtomicBool,
    /// How many of the next replies come late as well: devices are slow for a while.
    spell: AtomicU32,
    /// Whether the last late one was so late that the next request waits for it.
    is_behind: AtomicBool,
    /// Units that never answer, as bits.
    dead: AtomicU64,
    requests: AtomicU64,
    fates: StdMutex<HashMap<Fate, u64>>,
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
            timeout,
            random: StdMutex::new(fastrand::Rng::with_seed(seed)),
            is_calm: AtomicBool::new(true),
            spell: AtomicU32::new(0),
            is_behind: AtomicBool::new(false),
            dead: AtomicU64::new(0),
            requests: AtomicU64::new(0),
            fates: StdMutex::default(),
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
        self.shared.is_calm.store(is_calm, Ordering::Relaxed);
    }

    /// Lets a unit be silent for good, in any weather.
    pub fn kill(&self, unit: u8) {
        self.shared.dead.fetch_or(1 << unit, Ordering::Relaxed);
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
        self.shared.fates.lock().unwrap().clone()
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

/// A request as it came.
struct Request {
    /// The first four bytes over TCP.
    head: [u8; 4],
    unit: u8,
    /// From the function code on.
    pdu: Vec<u8>,
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
            if shared.pick(100) < STILLBORN && !shared.is_calm.load(Ordering::Relaxed) {
                shared.count(Fate::Deafen);
                let _ = deafen(&mut from).await;
                return;
            }
            let to = Arc::new(Mutex::new(to));
            let number = 1 + shared.newest.fetch_add(1, Ordering::Relaxed);
            let mut connection = Connection { shared, number, to, swapped: None };
            // It ends with either side.
            while let Ok(request) = read_request(connection.shared.wire, &mut from).await {
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

async fn read_request(wire: Wire, from: &mut OwnedReadHalf) -> io::Result<Request> {
    let mut head = [0; 4];
    if wire == Wire::Tcp {
        from.read_exact(&mut head).await?;
        let length = usize::from(from.read_u16().await?);
        let unit = from.read_u8().await?;
        let mut pdu = vec![0; length - 1];
        from.read_exact(&mut pdu).await?;
        return Ok(Request { head, unit, pdu });
    }
    let unit = from.read_u8().await?;
    let mut pdu = vec![0; 5];
    from.read_exact(&mut pdu).await?;
    if pdu[0] > 6 {
        let bytes = from.read_u8().await?;
        pdu.push(bytes);
        pdu.resize(6 + usize::from(bytes), 0);
        from.read_exact(&mut pdu[6..]).await?;
    }
    let mut checksum = [0; 2];
    from.read_exact(&mut checksum).await?;
    Ok(Request { head, unit, pdu })
}

/// The checksum of the serial line, written down a second time so that a mistake in one shows.
fn crc(bytes: &[u8]) -> [u8; 2] {
    let mut crc = 0xffff_u16;
    for byte in bytes {
        crc ^= u16::from(*byte);
        for _ in 0..8 {
            let is_odd = crc & 1 == 1;
            crc >>= 1;
            if is_odd {
                crc ^= 0xa001;
            }
        }
    }
    crc.to_le_bytes()
}

impl Shared {
    /// A number below `most`.
    fn pick(&self, most: u32) -> u32 {
        self.random.lock().unwrap().u32(..most)
    }

    fn count(&self, fate: Fate) {
        *self.fates.lock().unwrap().entry(fate).or_default() += 1;
    }

    fn fate(&self) -> Fate {
        if self.is_calm.load(Ordering::Relaxed) {
            return Fate::Pass;
        }
        let fate = match self.spell.load(Ordering::Relaxed) {
            0 => self.new_fate(),
            left => {
                self.spell.store(left - 1, Ordering::Relaxed);
                Fate::Late
            }
        };
        if fate == Fate::Late && self.pick(6) == 0 {
            self.spell.store(self.pick(6), Ordering::Relaxed);
        }
        self.count(fate);
        fate
    }

    fn new_fate(&self) -> Fate {
        let mut at = self.pick(10_000);
        for (fate, weight) in FATES {
            // Nobody on a serial line repeats what somebody else has said.
            if at < weight && (self.wire, fate) != (Wire::Rtu, Fate::AskTwice) {
                return fate;
            }
            at = at.saturating_sub(weight);
        }
        Fate::Pass
    }

    /// From `low` to `high` times as long as the client waits.
    fn time(&self, low: f64, high: f64) -> Duration {
        let part = f64::from(self.pick(1001)) / 1000.0;
        self.timeout.mul_f64(low + (high - low) * part)
    }

    /// How much later than the client waits something comes. On a serial line nothing comes more
    /// than 3 waits after it was asked for, also what had to wait for another: nobody could tell.
    fn lateness(&self) -> Duration {
        match (self.wire, self.pick(4)) {
            (Wire::Tcp, 0) => self.time(1.05, 30.0),
            (Wire::Tcp, _) => self.time(1.05, 4.0),
            (Wire::Rtu, _) if self.is_behind.swap(false, Ordering::Relaxed) => self.time(1.05, 1.9),
            (Wire::Rtu, _) => {
                let time = self.time(1.05, 2.8);
                // The client asks for something else after 2 waits.
                self.is_behind.store(time > self.timeout.mul_f64(1.9), Ordering::Relaxed);
                time
            }
        }
    }

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
        let answer = timeout(SOUND, Self::exchange(bus.as_mut().unwrap(), request)).await;
        let answer = answer.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        if answer.is_err() {
            // Whoever comes next shall not wait for it as well.
            *bus = None;
        }
        answer
    }

    async fn exchange(stream: &mut TcpStream, request: &Request) -> io::Result<Vec<u8>> {
        let [a, b] = (request.pdu.len() as u16 + 1).to_be_bytes();
        let frame = [&[0x77, 0x77, 0, 0, a, b, request.unit], &request.pdu[..]].concat();
        stream.write_all(&frame).await?;
        let mut header = [0; 7];
        stream.read_exact(&mut header).await?;
        assert_eq!(header[..4], [0x77, 0x77, 0, 0], "the server itself is sound");
        let mut pdu = vec![0; usize::from(u16::from_be_bytes([header[4], header[5]])) - 1];
        stream.read_exact(&mut pdu).await?;
        Ok(pdu)
    }

    /// A reply as the client's wire has it.
    fn frame(&self, request: &Request, unit: u8, pdu: &[u8]) -> Vec<u8> {
        if self.wire == Wire::Tcp {
            let length = (pdu.len() as u16 + 1).to_be_bytes();
            return [&request.head[..], &length, &[unit], pdu].concat();
        }
        let mut frame = [&[unit], pdu].concat();
        frame.extend(crc(&frame));
        frame
    }

    /// A frame without its end.
    fn cut<'f>(&self, frame: &'f [u8]) -> &'f [u8] {
        &frame[..1 + self.pick(frame.len() as u32 - 1) as usize]
    }

    /// Flips one or two bits where that can be found out.
    fn corrupt(&self, frame: &mut [u8]) {
        let is_read = self.wire == Wire::Tcp && matches!(frame.get(7), Some(1..=4));
        let most = if is_read { 9.min(frame.len()) } else { frame.len() };
        for _ in 0..=self.pick(2) {
            let at = self.pick(most as u32) as usize;
            frame[at] ^= 1 << self.pick(8);
        }
    }
}

impl Connection {
    /// Lets a request and its reply meet their fate.
    async fn pass(&mut self, request: Request, from: &mut OwnedReadHalf) -> io::Result<()> {
        let shared = Arc::clone(&self.shared);
        shared.note(&request);
        if shared.dead.load(Ordering::Relaxed) & 1 << request.unit != 0 {
            return Ok(());
        }
        let fate = shared.fate();
        let exception = |code: u8| vec![request.pdu[0] | 0x80, code];
        let pdu = match fate {
            Fate::LoseRequest => return Ok(()),
            Fate::Close => return Err(io::ErrorKind::ConnectionAborted.into()),
            Fate::Deafen => return deafen(from).await,
            Fate::Busy => exception(5 + shared.pick(2) as u8),
            Fate::Gateway => exception(10 + shared.pick(2) as u8),
            Fate::Fail => exception(4),
            Fate::Hold => shared.ask(self.number, &request, shared.lateness()).await?,
            Fate::AskTwice => {
                let first = shared.ask(self.number, &request, Duration::ZERO).await?;
                let frame = shared.frame(&request, request.unit, &first);
                self.send(frame).await?;
                shared.ask(self.number, &request, Duration::ZERO).await?
            }
            _ => shared.ask(self.number, &request, Duration::ZERO).await?,
        };
        let unit = if fate == Fate::OtherUnit { request.unit ^ 3 } else { request.unit };
        let frame = shared.frame(&request, unit, &pdu);
        if (fate, shared.wire) == (Fate::Cut, Wire::Tcp) {
            // Whatever came next would count as the rest of it, also what is late.
            let mut to = self.to.lock().await;
            to.write_all(shared.cut(&frame)).await?;
            return deafen(from).await;
        }
        self.reply(fate, frame).await
    }

    /// The way back.
    async fn reply(&mut self, fate: Fate, mut frame: Vec<u8>) -> io::Result<()> {
        let shared = Arc::clone(&self.shared);
        match fate {
            Fate::LoseReply => return Ok(()),
            Fate::Delay => self.send_after(shared.time(0.1, 0.8), frame).await?,
            Fate::Late => self.send_after(shared.lateness(), frame).await?,
            Fate::Swap => {
                if let Some(older) = self.swapped.replace(frame) {
                    self.send(older).await?;
                }
                return Ok(());
            }
            Fate::Twice => self.send(frame.repeat(2)).await?,
            Fate::Corrupt => {
                shared.corrupt(&mut frame);
                self.send(frame).await?;
            }
            Fate::Cut => self.send(shared.cut(&frame).to_vec()).await?,
            Fate::Split => {
                // Nobody else may write in between.
                let mut to = self.to.lock().await;
                for piece in frame.chunks(3) {
                    to.write_all(piece).await?;
                    sleep(Duration::from_micros(200)).await;
                }
            }
            Fate::Noise => {
                let noise = (0..=shared.pick(20)).map(|_| shared.pick(256) as u8).collect();
                self.send(noise).await?;
                self.send(frame).await?;
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
