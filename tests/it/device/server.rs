//! Tests of the Modbus server of the daemon, which other controllers and displays can read and
//! write.
//!
//! The clients are pymodbus, mbpoll and a client in this file that can send wrong frames. This file
//! has a bench with a server and points, and tests what the server reports about itself. The other
//! tests are in the folder `device/server`:
//! - `value.rs` tests the values in the answers.
//! - `peer.rs` tests the answers to correct clients.
//! - `strangers.rs` tests who may connect, and clients that send wrong frames.
//! - `mistakes.rs` tests mistakes in the configuration of the server.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use camshaft::clock::{Clock, MonotonicClock};
use camshaft::driver::export::Export;
use camshaft::driver::{Fault, Part};
use camshaft::process::image::{Direction, Inputs, Quality, Value};
use camshaft::process::variable::{Variable, Variables};

use super::{Bench, PATIENCE};

mod mistakes;
mod peer;
mod strangers;
mod value;

/// A server that shows a plant, and takes commands.
const SCADA: &str = r#"
    [[device]]
    name = "scada"
    driver = "modbus_server"
    listen = "127.0.0.1:0"
    unit = 1
    max_clients = 3
    idle = "60s"
    show = [
      { name = "tank.level", table = "input", address = 0, type = "f32" },
      { name = "tank.level", table = "input", address = 2, type = "f32", order = "CDAB" },
      { name = "tank.level", table = "input", address = 4, type = "i16", scale = 0.1 },
      { name = "motor.run", table = "input", address = 5, type = "bool", bit = 0 },
      { name = "door", table = "input", address = 5, type = "bool", bit = 15 },
      { name = "energy", table = "input", address = 6, type = "u64" },
      { name = "energy", table = "input", address = 10, type = "u64", order = "GHEFCDAB" },
      { name = "count", table = "input", address = 14, type = "i32" },
      { name = "mean", table = "input", address = 16, type = "f64" },
      { name = "motor.run", table = "discrete", address = 0 },
      { name = "door", table = "discrete", address = 1, quality = 2 },
      { name = "motor.run", table = "coil", address = 100 },
      { name = "tank.level", table = "holding", address = 50, type = "u16" },
      { name = "tank.level", table = "input", address = 30, type = "f32", quality = 32,
        on_bad = "keep" },
      { name = "tank.level", table = "input", address = 33, type = "i16", on_bad = -1 },
      { name = "tank.level", table = "input", address = 34, type = "f32", on_bad = nan },
      { name = "tank.level", table = "input", address = 36, type = "u8", byte = "lo" },
      { name = "nobody", table = "input", address = 40, type = "u16" },
    ]
    point = [
      { name = "scada.setpoint", direction = "in", type = "u16", scale = 0.1,
        at = { table = "holding", address = 100, min = 0, max = 100, expires = "never" } },
      { name = "scada.ramp", direction = "in", type = "f32", at = { table = "holding",
        address = 101, min = -1.5, max = 1.5, expires = "never" } },
      { name = "scada.pulse", direction = "in", type = "u32", at = { table = "holding",
        address = 103, order = "CDAB", expires = "700ms", quality = 105 } },
      { name = "scada.auto", direction = "in", type = "bool",
        at = { table = "holding", address = 106, bit = 0, expires = "never" } },
      { name = "scada.reset", direction = "in", type = "bool",
        at = { table = "holding", address = 106, bit = 4, expires = "never" } },
      { name = "scada.start", direction = "in", type = "bool",
        at = { table = "coil", address = 0, expires = "never" } },
      { name = "scada.stop", direction = "in", type = "bool",
        at = { table = "coil", address = 1, expires = "never" } },
    ]
    [[device]]
    name = "plant"
    driver = "sim"
    point = [
      { name = "tank.level", direction = "in", type = "f64" },
      { name = "door", direction = "in", type = "bool" },
      { name = "energy", direction = "in", type = "u64" },
      { name = "motor.run", direction = "out", type = "bool" },
    ]
"#;

/// What the controller shows.
struct Plant {
    level: (f64, Quality),
    door: (bool, Quality),
    running: bool,
    age: Duration,
}

const SOUND: Plant = Plant {
    level: (42.5, Quality::Good),
    door: (true, Quality::Good),
    running: true,
    age: Duration::ZERO,
};

const ENERGY: u64 = 0x0102_0304_0506_0708;

impl Plant {
    fn show(&self, bench: &Bench) {
        let points = &bench.points;
        let now = MonotonicClock.now().saturating_sub(self.age);
        let mut inputs = Inputs::unread(points);
        let mut put = |name: &str, value: Value, quality: Quality| {
            let id = points.find(name).unwrap();
            points[id].write(&mut inputs.bytes, value).unwrap();
            inputs.quality[id.index()] = quality;
            if quality != Quality::Waiting {
                inputs.good_at[id.index()] = now;
            }
        };
        put("tank.level", Value::Real(self.level.0), self.level.1);
        put("door", Value::Bool(self.door.0), self.door.1);
        put("energy", Value::Int(ENERGY.into()), Quality::Good);
        let mut outputs = vec![0; points.image_bytes(Direction::Out)];
        bench.point("motor.run").write(&mut outputs, Value::Bool(self.running)).unwrap();
        let mut variables = Variables::default();
        variables.write("count", Variable::Int(-70_000)).unwrap();
        variables.write("mean", Variable::Double(0.1)).unwrap();
        bench.shown.send_replace(Arc::new(Export {
            cycle: 7,
            now,
            wall: SystemTime::now(),
            points: Arc::clone(points),
            inputs,
            outputs,
            variables,
            is_stalled: false,
        }));
    }
}

fn parts(bench: &Bench) -> Vec<Part> {
    bench.driver.monitor().unwrap().parts()
}

fn fact(bench: &Bench, name: &str) -> f64 {
    let first = parts(bench).into_iter().next().unwrap_or_default();
    first.facts.iter().find(|(fact, _)| fact == name).map_or(-1.0, |(_, value)| *value)
}

/// Opens the server, and says where it listens.
fn open(toml: &str) -> (Bench, u16) {
    let mut bench = Bench::open(toml);
    bench.until("it listens", |bench| parts(bench).first().is_some_and(|part| part.ok));
    let address: SocketAddr = parts(&bench)[0].name.parse().unwrap();
    (bench, address.port())
}

/// A client without manners.
struct Raw(TcpStream);

impl Raw {
    fn connect(port: u16) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self(stream)
    }

    fn send(&mut self, unit: u8, pdu: &[u8]) {
        let length = (pdu.len() as u16 + 1).to_be_bytes();
        let mut frame = vec![0xca, 0xfe, 0, 0, length[0], length[1], unit];
        frame.extend(pdu);
        self.0.write_all(&frame).unwrap();
    }

    /// The next answer; `None` when the server has hung up.
    fn answer(&mut self) -> Option<Vec<u8>> {
        let mut header = [0; 7];
        match self.0.read_exact(&mut header) {
            Ok(()) => {}
            Err(e) if e.kind() == ErrorKind::WouldBlock => panic!("no answer, no end"),
            Err(_) => return None,
        }
        assert_eq!(header[..4], [0xca, 0xfe, 0, 0], "the transaction is the request's");
        let mut pdu = vec![0; usize::from(u16::from_be_bytes([header[4], header[5]])) - 1];
        self.0.read_exact(&mut pdu).unwrap();
        Some(pdu)
    }

    fn ask(&mut self, pdu: &[u8]) -> Option<Vec<u8>> {
        self.send(1, pdu);
        self.answer()
    }

    fn registers(&mut self, function: u8, address: u16, count: u16) -> Result<Vec<u16>, u8> {
        let ([a, b], [c, d]) = (address.to_be_bytes(), count.to_be_bytes());
        let answer = self.ask(&[function, a, b, c, d]).unwrap();
        if answer[0] == function | 0x80 {
            return Err(answer[1]);
        }
        assert_eq!(answer[..2], [function, answer.len() as u8 - 2]);
        let pairs = answer[2..].chunks_exact(2);
        Ok(pairs.map(|pair| u16::from_be_bytes([pair[0], pair[1]])).collect())
    }

    fn write(&mut self, address: u16, registers: &[u16]) -> Result<(), u8> {
        let ([a, b], count) = (address.to_be_bytes(), registers.len() as u8);
        let mut pdu = vec![16, a, b, 0, count, 2 * count];
        pdu.extend(registers.iter().flat_map(|register| register.to_be_bytes()));
        let answer = self.ask(&pdu).unwrap();
        if answer[0] == 0x90 { Err(answer[1]) } else { Ok(()) }
    }
}

#[test]
fn a_port_that_is_taken_is_waited_for() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let mut bench = Bench::open(&SCADA.replace("127.0.0.1:0", &address.to_string()));
    bench.until("it is told", |bench| bench.fault == Some(Fault::Disconnected));
    let told = parts(&bench);
    assert!(!told[0].ok && told[0].state.starts_with("cannot listen: "), "{told:?}");
    drop(taken);
    bench.until("it listens", |bench| bench.fault.is_none());
    assert_eq!(Raw::connect(address.port()).registers(4, 32, 1), Ok(vec![2]));
    // The next one has the port as soon as this one leaves.
    let mut next = Bench::open(&SCADA.replace("127.0.0.1:0", &address.to_string()));
    next.until("it waits", |bench| bench.fault.is_some());
    drop(bench);
    next.until("it listens", |bench| bench.fault.is_none());
}

#[test]
fn names_of_nobody_are_told() {
    let (mut bench, _) = open(SCADA);
    SOUND.show(&bench);
    bench.until("it is told", |bench| {
        let told = parts(bench).into_iter().find(|part| part.name == "show");
        told.is_some_and(|part| !part.ok && part.state == "there is no point or variable nobody")
    });
}
