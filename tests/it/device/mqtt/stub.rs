//! A broker that says what a test wants it to: refusals and silences that a real one has no words
//! for, or not on demand.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread::spawn;

/// A packet that a client has sent.
#[derive(Debug, Clone)]
pub struct Packet {
    /// The number of its connection, from 0.
    pub connection: usize,
    /// Its type and flags.
    pub first: u8,
    pub body: Vec<u8>,
}

/// The types of packets, without flags (MQTT 5, 2.1.2).
pub const CONNECT: u8 = 0x10;
pub const PUBLISH: u8 = 0x30;
pub const SUBSCRIBE: u8 = 0x80;
pub const UNSUBSCRIBE: u8 = 0xa0;
pub const PINGREQ: u8 = 0xc0;

/// The broker. Its threads end with the test.
pub struct Stub {
    pub port: u16,
    heard: Arc<Mutex<Vec<Packet>>>,
    clients: Arc<Mutex<Vec<TcpStream>>>,
}

impl Packet {
    pub fn kind(&self) -> u8 {
        self.first & 0xf0
    }

    /// Of a publish.
    pub fn topic(&self) -> String {
        String::from_utf8_lossy(string(&self.body)).into_owned()
    }
}

/// A string with its length before it.
fn string(bytes: &[u8]) -> &[u8] {
    &bytes[2..2 + usize::from(u16::from_be_bytes([bytes[0], bytes[1]]))]
}

impl Stub {
    /// What it sends for each packet is up to `answer`.
    pub fn start(answer: impl Fn(&Packet) -> Vec<u8> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let stub = Self { port, heard: Arc::default(), clients: Arc::default() };
        let (heard, clients) = (Arc::clone(&stub.heard), Arc::clone(&stub.clients));
        let answer = Arc::new(answer);
        spawn(move || {
            for (connection, client) in listener.incoming().flatten().enumerate() {
                clients.lock().unwrap().push(client.try_clone().unwrap());
                let (heard, answer) = (Arc::clone(&heard), Arc::clone(&answer));
                spawn(move || serve(client, connection, &heard, &*answer));
            }
        });
        stub
    }

    /// Cuts all connections.
    pub fn hang_up(&self) {
        for client in self.clients.lock().unwrap().drain(..) {
            let _ = client.shutdown(Shutdown::Both);
        }
    }

    /// What it has heard of this type.
    pub fn heard(&self, kind: u8) -> Vec<Packet> {
        let heard = self.heard.lock().unwrap();
        heard.iter().filter(|packet| packet.kind() == kind).cloned().collect()
    }
}

fn serve(
    mut client: TcpStream,
    connection: usize,
    heard: &Mutex<Vec<Packet>>,
    answer: &impl Fn(&Packet) -> Vec<u8>,
) {
    while let Some((first, body)) = read(&mut client) {
        let packet = Packet { connection, first, body };
        heard.lock().unwrap().push(packet.clone());
        if client.write_all(&answer(&packet)).is_err() {
            return;
        }
    }
}

/// The next packet: its first byte, and what is after its length.
fn read(client: &mut TcpStream) -> Option<(u8, Vec<u8>)> {
    let mut byte = || {
        let mut byte = [0];
        client.read_exact(&mut byte).ok().map(|()| byte[0])
    };
    let first = byte()?;
    let (mut length, mut shift) = (0, 0);
    loop {
        let part = byte()?;
        length |= usize::from(part & 0x7f) << shift;
        shift += 7;
        if part < 0x80 {
            break;
        }
    }
    let mut body = vec![0; length];
    client.read_exact(&mut body).ok()?;
    Some((first, body))
}

/// A packet with a body of less than 128 bytes.
fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    assert!(body.len() < 128, "the length is one byte");
    [&[first, body.len() as u8], body].concat()
}

/// CONNACK: no session, success, and these properties.
pub fn welcome(properties: &[u8]) -> Vec<u8> {
    packet(0x20, &[&[0, 0, properties.len() as u8], properties].concat())
}

/// SUBACK with a code for each filter.
pub fn subscribed(asked: &Packet, codes: &[u8]) -> Vec<u8> {
    packet(0x90, &[&asked.body[..2], &[0], codes].concat())
}

/// PUBACK with a reason.
pub fn published(said: &Packet, reason: u8) -> Vec<u8> {
    let number = 2 + string(&said.body).len();
    packet(0x40, &[&said.body[number..number + 2], &[reason, 0]].concat())
}

/// PUBLISH, at most once.
pub fn message(topic: &str, payload: &[u8], retain: bool) -> Vec<u8> {
    let head = [&(topic.len() as u16).to_be_bytes(), topic.as_bytes(), &[0]].concat();
    packet(PUBLISH | u8::from(retain), &[&head, payload].concat())
}

/// How a broker answers with which nothing is wrong. It has no filters and no more than 8 of ours.
pub fn polite(asked: &Packet) -> Vec<u8> {
    match asked.kind() {
        CONNECT => welcome(&[]),
        SUBSCRIBE => {
            let mut filters = &asked.body[3..];
            let mut codes = Vec::new();
            while !filters.is_empty() {
                // A topic, and its options.
                filters = &filters[2 + string(filters).len() + 1..];
                codes.push(0);
            }
            subscribed(asked, &codes)
        }
        // There was no subscription.
        UNSUBSCRIBE => packet(0xb0, &[&asked.body[..2], &[0, 0x11]].concat()),
        PINGREQ => packet(0xd0, &[]),
        PUBLISH if asked.first & 0x06 != 0 => published(asked, 0),
        _ => Vec::new(),
    }
}
