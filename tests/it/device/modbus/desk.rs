//! A server of one line each: it takes requests apart and answers what a test says, when it says.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{sleep, spawn};
use std::time::{Duration, Instant};

use camshaft::driver::modbus::wire::request::crc;

use crate::device::{Bench, PATIENCE};

/// How frames look.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Frames {
    Tcp,
    Rtu,
}

/// One request.
#[derive(Debug, Clone)]
pub struct Asked {
    /// On which connection, counted from 0.
    pub connection: usize,
    /// How many were there before, on all.
    pub nth: usize,
    pub unit: u8,
    pub function: u8,
    /// What follows the function code.
    pub bytes: Vec<u8>,
}

impl Asked {
    pub fn address(&self) -> u16 {
        u16::from_be_bytes([self.bytes[0], self.bytes[1]])
    }

    pub fn count(&self) -> u16 {
        u16::from_be_bytes([self.bytes[2], self.bytes[3]])
    }

    /// The reply of a healthy unit whose registers are what `register` says of their address.
    pub fn sound(&self, register: impl Fn(u16) -> u16) -> Answer {
        let mut reply = vec![self.function];
        if self.function > 4 {
            reply.extend(&self.bytes[..4]);
            return Answer::now(&reply);
        }
        assert!(matches!(self.function, 3 | 4), "no bits here");
        reply.push(self.count() as u8 * 2);
        let addresses = self.address()..self.address() + self.count();
        reply.extend(addresses.flat_map(|address| register(address).to_be_bytes()));
        Answer::now(&reply)
    }

    pub fn refused(&self, code: u8) -> Answer {
        Answer::now(&[self.function | 0x80, code])
    }
}

/// What comes back, and after how long.
#[derive(Debug, Clone)]
pub struct Answer {
    pub after: Duration,
    /// From the function code on.
    pub reply: Option<Vec<u8>>,
    /// Done to the whole frame before it is sent.
    pub spoil: fn(&mut Vec<u8>),
    /// Whether a late one has the number of the request that came last.
    pub is_renumbered: bool,
    /// How long after the reply the server closes the connection, if it does.
    pub closes_after: Option<Duration>,
    /// Whether the request comes back before the reply.
    pub is_echoed: bool,
    /// What comes before the reply and is no part of it.
    pub noise: Vec<u8>,
}

impl Answer {
    pub fn now(reply: &[u8]) -> Self {
        Self {
            after: Duration::ZERO,
            reply: Some(reply.to_vec()),
            spoil: |_| {},
            is_renumbered: false,
            closes_after: None,
            is_echoed: false,
            noise: Vec::new(),
        }
    }

    pub fn never() -> Self {
        Self { reply: None, ..Self::now(&[]) }
    }

    pub fn late(self, after: Duration) -> Self {
        Self { after, ..self }
    }

    /// Closes the connection so long after the reply.
    pub fn closing(self, after: Duration) -> Self {
        Self { closes_after: Some(after), ..self }
    }

    /// Gives back the request first, as some adapters do.
    pub fn echoed(self) -> Self {
        Self { is_echoed: true, ..self }
    }

    /// Sends these bytes first.
    pub fn after_noise(self, noise: &[u8]) -> Self {
        Self { noise: noise.to_vec(), ..self }
    }

    pub fn renumbered(self) -> Self {
        Self { is_renumbered: true, ..self }
    }

    pub fn spoiled(self, spoil: fn(&mut Vec<u8>)) -> Self {
        Self { spoil, ..self }
    }
}

type Clerk = Box<dyn Fn(&Asked) -> Answer + Send>;

/// The server.
pub struct Desk {
    frames: Frames,
    port: u16,
    clerk: Arc<Mutex<Clerk>>,
    asked: Arc<Mutex<Vec<Asked>>>,
    is_closed: Arc<AtomicBool>,
}

impl Desk {
    pub fn open(frames: Frames, clerk: impl Fn(&Asked) -> Answer + Send + 'static) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let clerk: Arc<Mutex<Clerk>> = Arc::new(Mutex::new(Box::new(clerk)));
        let (asked, is_closed) = (Arc::default(), Arc::new(AtomicBool::new(false)));
        let desk = Self { frames, port, clerk, asked, is_closed };
        let (clerk, asked, closed) =
            (desk.clerk.clone(), desk.asked.clone(), desk.is_closed.clone());
        spawn(move || {
            for (connection, stream) in listener.incoming().enumerate() {
                if closed.load(Ordering::Relaxed) {
                    return;
                }
                let (clerk, asked, stream) = (clerk.clone(), asked.clone(), stream.unwrap());
                spawn(move || serve(frames, connection, stream, &clerk, &asked));
            }
        });
        desk
    }

    pub fn url(&self) -> String {
        let scheme = if self.frames == Frames::Tcp { "tcp" } else { "rtu+tcp" };
        format!("{scheme}://127.0.0.1:{}", self.port)
    }

    /// Answers differently from now on.
    pub fn answer(&self, clerk: impl Fn(&Asked) -> Answer + Send + 'static) {
        *self.clerk.lock().unwrap() = Box::new(clerk);
    }

    /// Accepts no connection any more.
    pub fn close(&self) {
        self.is_closed.store(true, Ordering::Relaxed);
        // Wakes the thread that accepts.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }

    /// Everything that was asked.
    pub fn all(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    /// Waits without any cycle of the scan.
    #[track_caller]
    pub fn until(&self, what: &str, is_so: impl Fn(&[Asked]) -> bool) {
        let started = Instant::now();
        while !is_so(&self.all()) {
            assert!(started.elapsed() < PATIENCE, "{what}: not so");
            sleep(Duration::from_millis(1));
        }
    }

    /// Waits while the scan cycles.
    #[track_caller]
    pub fn until_cycling(&self, bench: &mut Bench, what: &str, is_so: impl Fn(&[Asked]) -> bool) {
        bench.until(what, |_| is_so(&self.all()));
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        self.close();
    }
}

fn serve(
    frames: Frames,
    connection: usize,
    mut stream: TcpStream,
    clerk: &Mutex<Clerk>,
    all: &Mutex<Vec<Asked>>,
) {
    stream.set_nodelay(true).unwrap();
    let newest = Arc::new(Mutex::new([0; 2]));
    while let Some((tid, unit, function, bytes)) = request(frames, &mut stream) {
        let asked = {
            let mut all = all.lock().unwrap();
            let asked = Asked { connection, nth: all.len(), unit, function, bytes };
            all.push(asked.clone());
            asked
        };
        *newest.lock().unwrap() = tid;
        let answer = (clerk.lock().unwrap())(&asked);
        let Answer { after, reply, spoil, is_renumbered, closes_after, is_echoed, noise } = answer;
        let echo = [&[asked.function], &*asked.bytes].concat();
        let echo = if is_echoed { self::frame(frames, tid, unit, &echo) } else { Vec::new() };
        let mut frame = match reply {
            Some(reply) => self::frame(frames, tid, unit, &reply),
            None => Vec::new(),
        };
        if !frame.is_empty() {
            spoil(&mut frame);
        }
        let mut frame = [noise, echo, frame].concat();
        if after.is_zero() {
            if stream.write_all(&frame).is_err() {
                return;
            }
            match closes_after {
                None => {}
                Some(Duration::ZERO) => break,
                Some(after) => {
                    let stream = stream.try_clone().unwrap();
                    spawn(move || {
                        sleep(after);
                        let _ = stream.shutdown(Shutdown::Both);
                    });
                }
            }
            continue;
        }
        let (mut later, newest) = (stream.try_clone().unwrap(), newest.clone());
        spawn(move || {
            sleep(after);
            if is_renumbered {
                frame[..2].copy_from_slice(&*newest.lock().unwrap());
            }
            // Whoever asked may be gone.
            let _ = later.write_all(&frame);
        });
    }
    let _ = stream.shutdown(Shutdown::Both);
}

fn frame(frames: Frames, tid: [u8; 2], unit: u8, reply: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    if frames == Frames::Tcp {
        frame.extend(tid);
        frame.extend([0, 0]);
        frame.extend((reply.len() as u16 + 1).to_be_bytes());
    }
    frame.push(unit);
    frame.extend(reply);
    if frames == Frames::Rtu {
        frame.extend(crc(&frame).to_le_bytes());
    }
    frame
}

type Request = ([u8; 2], u8, u8, Vec<u8>);

/// The next request; `None` at the end.
fn request(frames: Frames, stream: &mut TcpStream) -> Option<Request> {
    let mut read = |count: usize| {
        let mut bytes = vec![0; count];
        stream.read_exact(&mut bytes).ok().map(|()| bytes)
    };
    if frames == Frames::Tcp {
        let head = read(6)?;
        assert_eq!(head[2..4], [0, 0]);
        let rest = read(usize::from(u16::from_be_bytes([head[4], head[5]])))?;
        return Some(([head[0], head[1]], rest[0], rest[1], rest[2..].to_vec()));
    }
    let mut frame = read(6)?;
    if matches!(frame[1], 15 | 16) {
        frame.extend(read(1)?);
        frame.extend(read(usize::from(frame[6]))?);
    }
    let checked = [frame.clone(), read(2)?].concat();
    assert_eq!(crc(&checked), 0, "{checked:x?}");
    Some(([0, 0], frame[0], frame[1], frame[2..].to_vec()))
}
