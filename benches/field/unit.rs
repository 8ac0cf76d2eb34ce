//! Modbus units in this process that answer at once and note when they are written to.
//!
//! Each unit has the same registers: register 0 is what the bench says, each other one counts the
//! requests so that it always changes. Only what the bench needs of the protocol is here: function
//! codes 3, 4, 6 and 16 of the Modbus application protocol 1.1b3, over TCP.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::Instant;

/// A server of units.
pub struct Units {
    pub port: u16,
    /// Register 0.
    pub input: Arc<AtomicU16>,
    /// Requests so far.
    pub requests: Arc<AtomicU64>,
    /// What was written to register 1, and when.
    pub written: Receiver<(Instant, u16)>,
}

impl Units {
    /// Serves until the process ends.
    pub fn serve() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let (input, requests) = (Arc::new(AtomicU16::new(0)), Arc::new(AtomicU64::new(0)));
        let (told, written) = mpsc::channel();
        let shared = (Arc::clone(&input), Arc::clone(&requests));
        thread::spawn(move || {
            for stream in listener.incoming() {
                let ((input, requests), told) = (shared.clone(), told.clone());
                // The other side hangs up when it ends.
                thread::spawn(move || answer(&stream.unwrap(), &input, &requests, &told));
            }
        });
        Self { port, input, requests, written }
    }
}

/// Answers the requests of one connection.
fn answer(
    mut stream: &TcpStream,
    input: &AtomicU16,
    requests: &AtomicU64,
    told: &Sender<(Instant, u16)>,
) -> Option<()> {
    stream.set_nodelay(true).unwrap();
    loop {
        let mut head = [0; 7];
        stream.read_exact(&mut head).ok()?;
        let mut body = vec![0; usize::from(u16::from_be_bytes([head[4], head[5]])) - 1];
        stream.read_exact(&mut body).ok()?;
        let number = requests.fetch_add(1, Ordering::Relaxed);
        let word = |at: usize| u16::from_be_bytes([body[at], body[at + 1]]);
        let reply = match body[0] {
            code @ (3 | 4) => {
                let value = |address| match address {
                    0 => input.load(Ordering::Acquire),
                    _ => number as u16,
                };
                let registers = (word(1)..word(1) + word(3)).flat_map(|at| value(at).to_be_bytes());
                let registers: Vec<u8> = registers.collect();
                [&[code, registers.len() as u8], &registers[..]].concat()
            }
            // One register is the third word there and the fourth, behind a byte of length, here.
            code @ (6 | 16) => {
                let value = if code == 6 { word(3) } else { word(6) };
                // Nobody listens any more at the end.
                let _ = told.send((Instant::now(), value));
                body[..5].to_vec()
            }
            code => vec![code | 0x80, 1],
        };
        let length = (reply.len() + 1) as u16;
        head[4..6].copy_from_slice(&length.to_be_bytes());
        stream.write_all(&[&head[..], &reply].concat()).ok()?;
    }
}
