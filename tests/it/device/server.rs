//! Modbus TCP, this side asked: by pymodbus, by mbpoll, and by a client here that sends whatever it
//! likes.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use camshaft::clock::{Clock, MonotonicClock};
use camshaft::driver::export::Export;
use camshaft::driver::{Fault, Part};
use camshaft::image::{Direction, Inputs, Quality, Value};
use camshaft::variable::{Variable, Variables};
use serde_json::json;

use super::peer::{PyClient, mbpoll};
use super::{Bench, PATIENCE};
use crate::daemon::wait;

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
#[ignore = "needs pymodbus"]
fn pymodbus_reads_all_types() {
    let (bench, port) = open(SCADA);
    SOUND.show(&bench);
    let mut client = PyClient::connect(port);
    assert_eq!(client.value(0, 2, "FLOAT32", "big"), json!(42.5));
    assert_eq!(client.value(2, 2, "FLOAT32", "little"), json!(42.5));
    assert_eq!(client.value(4, 1, "INT16", "big"), json!(425));
    assert_eq!(client.value(6, 4, "UINT64", "big"), json!(ENERGY));
    assert_eq!(client.value(10, 4, "UINT64", "little"), json!(ENERGY));
    assert_eq!(client.value(14, 2, "INT32", "big"), json!(-70_000));
    assert_eq!(client.value(16, 4, "FLOAT64", "big"), json!(0.1));
    assert_eq!(client.read("input_registers", 5, 1), json!([0x8001]));
    assert_eq!(client.read("input_registers", 36, 1), json!([42]));
    assert_eq!(client.read("holding_registers", 50, 1), json!([42]));
    assert_eq!(client.read("discrete_inputs", 0, 3), json!([true, true, true]));
    assert_eq!(client.read("coils", 100, 1), json!([true]));
    Plant { running: false, level: (-3.0, Quality::Good), ..SOUND }.show(&bench);
    assert_eq!(client.read("discrete_inputs", 0, 3), json!([false, true, true]));
    assert_eq!(client.read("input_registers", 5, 1), json!([0x8000]));
    assert_eq!(client.value(4, 1, "INT16", "big"), json!(-30));
    // A level below 0 does not fit a u16, and half of a number is none.
    assert_eq!(client.read("holding_registers", 50, 1), json!({ "exception": 4 }));
    assert_eq!(client.read("input_registers", 1, 2), json!({ "exception": 2 }));
    assert_eq!(client.read("input_registers", 18, 5), json!({ "exception": 2 }));
    assert_eq!(client.read("holding_registers", 51, 1), json!({ "exception": 2 }));
}

#[test]
#[ignore = "needs mbpoll"]
fn mbpoll_reads_and_writes() {
    let (mut bench, port) = open(SCADA);
    SOUND.show(&bench);
    let check = |arguments: &str, expected: &str| {
        let printed = mbpoll(port, arguments);
        assert!(printed.contains(expected), "mbpoll {arguments}: {printed}\nnot: {expected}");
    };
    check("-t 3:float -B -r 0", "[0]: \t42.5");
    check("-t 3:float -r 2", "[2]: \t42.5");
    check("-t 3:int -B -r 14", "[14]: \t-70000");
    check("-t 1 -r 0 -c 2", "[1]: \t1");
    check("-t 4 -r 100 -- 421", "Written 1 references.");
    bench.until("it is taken", |bench| {
        bench.input("scada.setpoint") == (Value::Real(421.0 * 0.1), Quality::Good)
    });
    check("-t 4 -r 100", "[100]: \t421");
    check("-t 4 -r 100 -- 1001", "Illegal data value");
    check("-t 4:float -B -r 101 -- -1.25", "Written 1 references.");
    bench.until("it is taken", |bench| {
        bench.input("scada.ramp") == (Value::Real(-1.25), Quality::Good)
    });
    check("-t 4 -r 50 -- 1", "Illegal data address");
    check("-t 0 -r 0 -- 1 0", "Written 2 references.");
    bench.until("both are taken", |bench| {
        bench.input("scada.start") == (Value::Bool(true), Quality::Good)
            && bench.input("scada.stop") == (Value::Bool(false), Quality::Good)
    });
    check("-a 2 -t 3 -r 4", "Target device failed to respond");
}

#[test]
#[ignore = "needs pymodbus"]
fn pymodbus_commands_expire() {
    let (mut bench, port) = open(SCADA);
    let mut client = PyClient::connect(port);
    assert_eq!(bench.input("scada.pulse"), (Value::Int(0), Quality::Waiting));
    // Never written is not 0.
    assert_eq!(client.read("holding_registers", 103, 2), json!({ "exception": 4 }));
    assert_eq!(client.read("holding_registers", 105, 1), json!([2]));
    let write = json!({ "call": "write_registers", "address": 103, "values": [0x0304, 0x0102] });
    client.ask(&write);
    bench.until("it is taken", |bench| {
        bench.input("scada.pulse") == (Value::Int(0x0102_0304), Quality::Good)
    });
    // The same again and again is still a command.
    let started = Instant::now();
    while started.elapsed() < Duration::from_millis(1500) {
        client.ask(&write);
        bench.cycle();
        assert_eq!(bench.input("scada.pulse").1, Quality::Good);
    }
    assert_eq!(client.read("holding_registers", 103, 3), json!([0x0304, 0x0102, 0]));
    let silent = Instant::now();
    bench.until("it expires", |bench| bench.input("scada.pulse").1 == Quality::NoComm);
    let lasted = silent.elapsed();
    assert!((600..1500).contains(&lasted.as_millis()), "it lasted {lasted:?}");
    assert_eq!(bench.input("scada.pulse").0, Value::Int(0x0102_0304), "and stays what it was");
    assert_eq!(client.read("holding_registers", 103, 3), json!([0x0304, 0x0102, 2]));
    client.ask(&write);
    bench.until("it counts again", |bench| bench.input("scada.pulse").1 == Quality::Good);
}

#[test]
fn what_is_bad_never_looks_good() {
    let (bench, port) = open(SCADA);
    let mut raw = Raw::connect(port);
    let float = |value: f32| {
        let bits = value.to_bits();
        vec![(bits >> 16) as u16, bits as u16]
    };
    // Before the first cycle nothing is known.
    assert_eq!(raw.registers(4, 0, 2), Err(4));
    assert_eq!(raw.registers(4, 30, 2), Err(4), "there is nothing to keep");
    assert_eq!(raw.registers(4, 32, 1), Ok(vec![2]));
    let mut check = |plant: Plant, plain: Result<(), u8>, kept: Result<f32, u8>, class: u16| {
        plant.show(&bench);
        let quality = plant.level.1;
        let expected = plain.map(|()| float(plant.level.0 as f32));
        assert_eq!(raw.registers(4, 0, 2), expected, "{quality:?}");
        let kept = kept.map(|level| [float(level), vec![class]].concat());
        assert_eq!(raw.registers(4, 30, 3), kept, "{quality:?}");
        let instead = if plain.is_ok() { plant.level.0 as i16 } else { -1 };
        assert_eq!(raw.registers(4, 33, 1), Ok(vec![instead as u16]), "{quality:?}");
        let instead = if plain.is_ok() { plant.level.0 as f32 } else { f32::NAN };
        assert_eq!(raw.registers(4, 34, 2), Ok(float(instead)), "{quality:?}");
        // Whoever reads more than one value gets none of them.
        assert_eq!(raw.registers(4, 0, 20).is_ok(), plain.is_ok());
    };
    let level = |quality| Plant { level: (17.0, quality), ..SOUND };
    check(level(Quality::Good), Ok(()), Ok(17.0), 0);
    check(level(Quality::Forced), Ok(()), Ok(17.0), 0);
    check(level(Quality::Stale), Err(4), Ok(17.0), 1);
    check(level(Quality::Substitute), Err(4), Ok(17.0), 1);
    check(level(Quality::NoComm), Err(4), Ok(17.0), 2);
    check(level(Quality::Sensor), Err(4), Ok(17.0), 2);
    check(level(Quality::Waiting), Err(4), Err(4), 2);
    check(Plant { age: Duration::from_secs(3), ..SOUND }, Err(4), Ok(42.5), 2);
    check(SOUND, Ok(()), Ok(42.5), 0);
    // A bit has a companion too: 1 while it is good.
    let bits = |raw: &mut Raw| raw.ask(&[2, 0, 1, 0, 2]).unwrap();
    assert_eq!(bits(&mut raw), [2, 1, 0b11]);
    Plant { door: (true, Quality::Stale), ..SOUND }.show(&bench);
    assert_eq!(bits(&mut raw), [2, 1, 0b01]);
    Plant { door: (true, Quality::NoComm), ..SOUND }.show(&bench);
    assert_eq!(bits(&mut raw), [0x82, 4]);
    assert_eq!(raw.registers(4, 40, 1), Err(4), "nobody has that name");
}

#[test]
fn what_is_refused_changes_nothing() {
    let (mut bench, port) = open(SCADA);
    let mut raw = Raw::connect(port);
    assert_eq!(raw.write(100, &[10, 0x3f80, 0]), Ok(()));
    let good = |bench: &mut Bench| {
        bench.input("scada.setpoint") == (Value::Real(1.0), Quality::Good)
            && bench.input("scada.ramp") == (Value::Real(1.0), Quality::Good)
    };
    bench.until("both are taken at once", good);
    let mut refuse = |address, registers: &[u16], expected| {
        assert_eq!(raw.write(address, registers), Err(expected), "{address} {registers:?}");
    };
    refuse(100, &[1001], 3);
    refuse(100, &[11, 0x4000, 0], 3); // the setpoint fits, the ramp does not
    refuse(101, &[0x7fc0, 0], 3); // not a number
    refuse(101, &[0x3f80], 2); // half a number
    refuse(102, &[0], 2);
    refuse(99, &[1, 2], 2);
    refuse(103, &[1, 2, 0], 2); // the third is a companion
    refuse(50, &[1], 2); // that is only shown
    refuse(106, &[2], 3); // a bit that nobody takes
    let coils = raw.ask(&[15, 0, 0, 0, 3, 1, 7]);
    assert_eq!(coils, Some(vec![0x8f, 2]));
    assert_eq!(raw.ask(&[5, 0, 100, 0xff, 0]), Some(vec![0x85, 2]));
    assert_eq!(raw.ask(&[5, 0, 0, 0, 1]), Some(vec![0x85, 3]));
    assert_eq!(raw.ask(&[43, 14, 1, 0]), Some(vec![0xab, 1]));
    raw.send(2, &[3, 0, 100, 0, 1]);
    assert_eq!(raw.answer(), Some(vec![0x83, 0x0b]), "another unit");
    bench.pass(Duration::from_millis(50));
    assert!(good(&mut bench));
    assert_eq!(bench.input("scada.start"), (Value::Bool(false), Quality::Waiting));
    assert_eq!(raw.registers(3, 100, 3), Ok(vec![10, 0x3f80, 0]));
    assert_eq!(raw.registers(3, 106, 1), Err(4));
    assert_eq!(raw.ask(&[6, 0, 106, 0, 0x11]), Some(vec![6, 0, 106, 0, 0x11]));
    bench.until("bits of a register are commands", |bench| {
        bench.input("scada.auto") == (Value::Bool(true), Quality::Good)
            && bench.input("scada.reset") == (Value::Bool(true), Quality::Good)
    });
}

#[test]
fn there_is_room_for_so_many() {
    let (mut bench, port) = open(SCADA);
    let mut clients: Vec<_> = (0..3).map(|_| Raw::connect(port)).collect();
    for client in &mut clients {
        assert_eq!(client.registers(4, 32, 1), Ok(vec![2]));
    }
    for _ in 0..5 {
        assert_eq!(Raw::connect(port).answer(), None, "one too many");
    }
    bench.until("it is counted", |bench| fact(bench, "turned_away") == 5.0);
    assert_eq!(parts(&bench)[0].state, "3 of 3 clients");
    assert_eq!(clients[2].registers(4, 32, 1), Ok(vec![2]), "the others notice nothing");
    // Whoever leaves and comes again at once finds his place.
    for _ in 0..200 {
        clients.pop();
        clients.push(Raw::connect(port));
        assert_eq!(clients[2].registers(4, 32, 1), Ok(vec![2]));
    }
    drop(clients);
    bench.until("all have left", |bench| parts(bench)[0].state == "0 of 3 clients");
}

#[test]
fn the_silent_and_the_slow_are_cut_off() {
    let (mut bench, port) = open(&SCADA.replace("\"60s\"", "\"300ms\""));
    let (mut silent, mut slow, mut deaf) =
        (Raw::connect(port), Raw::connect(port), Raw::connect(port));
    let started = Instant::now();
    // A byte now and then is no request.
    let mut header = [0xca, 0xfe, 0, 0, 0, 6, 1, 4, 0, 32, 0, 1].into_iter();
    while started.elapsed() < Duration::from_millis(200) {
        if let Some(byte) = header.next() {
            slow.0.write_all(&[byte]).unwrap();
        }
        bench.pass(Duration::from_millis(50));
    }
    assert_eq!(silent.answer(), None);
    assert_eq!(slow.answer(), None);
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    // Whoever asks and never reads fills the buffers, and then waits in vain.
    deaf.0.set_write_timeout(Some(Duration::from_millis(100))).unwrap();
    let request = [0xca, 0xfe, 0, 0, 0, 6, 1, 4, 0, 32, 0, 1].repeat(100);
    while deaf.0.write_all(&request).is_ok() {}
    bench.until("all are cut off", |bench| fact(bench, "cut_off") == 3.0);
    assert_eq!(parts(&bench)[0].state, "0 of 3 clients");
    assert_eq!(Raw::connect(port).registers(4, 32, 1), Ok(vec![2]));
}

#[test]
fn strangers_are_turned_away() {
    let allow = "unit = 1\nallow = [\"127.0.0.2\", \"10.0.0.0/8\"]";
    let (mut bench, port) = open(&SCADA.replace("unit = 1", allow));
    assert_eq!(Raw::connect(port).answer(), None);
    bench.until("it is counted", |bench| fact(bench, "turned_away") == 1.0);
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from(([127, 0, 0, 2], 0)).into()).unwrap();
    socket.connect(&SocketAddr::from(([127, 0, 0, 1], port)).into()).unwrap();
    let mut friend = Raw(socket.into());
    friend.0.set_read_timeout(Some(PATIENCE)).unwrap();
    assert_eq!(friend.registers(4, 32, 1), Ok(vec![2]));
}

#[test]
fn hostile_bytes_cost_only_their_connection() {
    let (mut bench, port) = open(SCADA);
    SOUND.show(&bench);
    let mut friend = Raw::connect(port);
    let mut random = fastrand::Rng::with_seed(20_261_126);
    let mut ends = 0;
    for _ in 0..400 {
        let mut hostile = Raw::connect(port);
        // Half of them look like Modbus at first.
        if random.bool() {
            let length = random.u8(..);
            let function = random.choice([1, 3, 5, 6, 15, 16, 23, 43]).unwrap();
            hostile.0.write_all(&[0xca, 0xfe, 0, 0, 0, length, 1, function]).unwrap();
        }
        let bytes: Vec<u8> = (0..random.usize(..600)).map(|_| random.u8(..)).collect();
        // It may have hung up already.
        let _ = hostile.0.write_all(&bytes);
        let _ = hostile.0.shutdown(std::net::Shutdown::Write);
        let mut answers = Vec::new();
        ends += u32::from(hostile.0.read_to_end(&mut answers).is_ok());
        assert_eq!(friend.registers(4, 4, 1), Ok(vec![425]));
    }
    assert!(ends > 0, "all were reset");
    bench.until("all have left", |bench| parts(bench)[0].state == "1 of 3 clients");
    assert!(fact(&bench, "cut_off") > 100.0, "{:?}", parts(&bench));
    assert_eq!(bench.fault, None);
    for header in [[0xca, 0xfe, 0, 1, 0, 6, 1], [0xca, 0xfe, 0, 0, 0, 1, 1], [0, 0, 0, 0, 1, 0, 1]]
    {
        let mut raw = Raw::connect(port);
        raw.0.write_all(&header).unwrap();
        assert_eq!(raw.answer(), None, "{header:?}");
    }
}

#[test]
fn whoever_floods_waits_and_the_others_do_not() {
    let (_bench, port) = open(SCADA);
    let flood = std::thread::spawn(move || {
        let mut raw = Raw::connect(port);
        let started = Instant::now();
        for _ in 0..20 {
            (0..100).for_each(|_| raw.send(1, &[4, 0, 32, 0, 1]));
            (0..100).for_each(|_| assert_eq!(raw.answer(), Some(vec![4, 2, 0, 2])));
        }
        started.elapsed()
    });
    let mut friend = Raw::connect(port);
    let mut asked = 0;
    while !flood.is_finished() {
        assert_eq!(friend.registers(4, 32, 1), Ok(vec![2]));
        asked += 1;
        std::thread::sleep(Duration::from_millis(5));
    }
    let lasted = flood.join().unwrap();
    assert!(lasted > Duration::from_millis(1900), "2000 requests in {lasted:?}");
    assert!(asked > 20, "{asked} requests in {lasted:?}");
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

#[test]
fn mistakes_name_their_place() {
    let check = |from: &str, to: &str, expected: &str| {
        assert!(SCADA.contains(from), "{from}");
        let text = SCADA.replacen(from, to, 1);
        let problems = camshaft::config::parse(&text, std::path::Path::new("s.toml")).unwrap_err();
        assert!(problems.to_string().contains(expected), "{problems}\nnot: {expected}");
    };
    check(
        "address = 2, type",
        "address = 1, type",
        "device[scada].show[1].address: found input 1, where show[0], tank.level, is; right would",
    );
    check("bit = 15", "bit = 0", "show[4].address: found input 5, where show[3], motor.run, is");
    check(
        "address = 16, type = \"f64\"",
        "address = 65533, type = \"f64\"",
        "show[8].address: found 65533, where too few registers are left",
    );
    check(
        "quality = 2 }",
        "quality = 1 }",
        "show[10].quality: found discrete 1, where show[10], door, is",
    );
    check(
        "type = \"i32\"",
        "order = \"ABCD\"",
        "show[7].type: found nothing; right would be its type in registers",
    );
    check(
        "type = \"i32\"",
        "type = \"i32\", order = \"AB\"",
        "show[7].order: found \"AB\" for a i32; right would be ABCD, CDAB, BADC, DCBA",
    );
    check(
        "table = \"discrete\", address = 0",
        "table = \"discrete\", address = 0, type = \"u16\"",
        "show[9].type: found a u16 in a table of bits",
    );
    check("scale = 0.1 }", "scale = 0 }", "show[2].scale: found 0");
    check(
        "address = 4, type = \"i16\", scale = 0.1",
        "address = 4, type = \"bool\", bit = 1",
        "show[2].type: found bool for tank.level, which is a f64",
    );
    check("quality = 32,", "", "show[13].on_bad: found \"keep\" without `quality`");
    check(
        "on_bad = -1",
        "on_bad = 40000",
        "show[14].on_bad: found 40000; right would be a value of its type",
    );
    check("on_bad = -1", "on_bad = \"zero\"", "show");
    check(
        "table = \"coil\", address = 1,",
        "table = \"coil\", address = 0,",
        "point[scada.stop].at.address: found coil 0, where the command scada.start is",
    );
    check(
        "expires = \"700ms\"",
        "expires = \"1ms\"",
        "point[scada.pulse].at.expires: found 1ms; right would be from 10ms to 1day",
    );
    check(
        "expires = \"700ms\", ",
        "",
        "point[scada.pulse].at.expires: found nothing; right would be a duration such as",
    );
    check("\"700ms\"", "\"soon\"", "\"never\" or a duration such as \"10s\"");
    check(
        "max = 100,",
        "max = 10000,",
        "point[scada.setpoint].at.max: found 10000; right would be a number that fits type u16",
    );
    check(
        "min = -1.5",
        "min = 1.6",
        "point[scada.ramp].at.min: found 1.6; right would be at most max, 1.5",
    );
    check(
        "table = \"coil\", address = 0,",
        "table = \"input\", address = 0,",
        "point[scada.start].at.table: found \"input\", which cannot be written",
    );
    check(
        "\"scada.start\", direction = \"in\"",
        "\"scada.start\", direction = \"out\"",
        "point[scada.start].at: found an output; right would be direction = \"in\"",
    );
    check(
        "max_clients = 3",
        "max_clients = 0",
        "device[scada].max_clients: found 0; right would be from 1 to 64",
    );
    check("\"60s\"", "\"1ms\"", "device[scada].idle: found 1ms; right would be from 100ms to 1day");
    check(
        "unit = 1",
        "unit = 1\nallow = [\"10.0.0.0/33\"]",
        "\"10.0.0.0/33\" is not an address or a network",
    );
    check("127.0.0.1:0", "localhost", "device[scada].listen");
    check("unit = 1", "units = 1", "did you mean `unit`?");
}

/// A daemon that is ended with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
#[ignore = "needs pymodbus"]
fn the_example_is_seen_and_commanded_by_scada() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = tempfile::tempdir().unwrap();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let text = std::fs::read_to_string(root.join("config/modbus_server.toml")).unwrap();
    let text = text
        .replace("../plugins", root.join("plugins").to_str().unwrap())
        .replace("127.0.0.1:1502", &format!("127.0.0.1:{port}"));
    std::fs::write(folder.path().join("scada.toml"), text).unwrap();
    let places = ["STATE_DIRECTORY", "CACHE_DIRECTORY", "RUNTIME_DIRECTORY"];
    let camshaft = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_camshaft"));
        command.args(arguments).current_dir(&folder).env_remove("NOTIFY_SOCKET");
        command.envs(places.map(|place| (place, folder.path())));
        command.env("CAMSHAFT_SOCKET", folder.path().join("control.sock")).stderr(Stdio::null());
        command
    };
    let _daemon = Running(camshaft(&["run", "scada.toml"]).stdout(Stdio::null()).spawn().unwrap());
    let listens = || TcpStream::connect(("127.0.0.1", port)).ok();
    wait("the server listens", PATIENCE, listens);
    let mut client = PyClient::connect(port);
    let mut level = || {
        let read = client.value(0, 2, "FLOAT32", "big").as_f64()?;
        let quality = client.read("input_registers", 2, 1);
        (quality == json!([0])).then_some(read)
    };
    let first = wait("a level is shown", PATIENCE, &mut level);
    wait("it moves", PATIENCE, || level().filter(|level| (level - first).abs() > 0.5));
    assert!((0.0..=100.0).contains(&first), "{first}");
    let setpoint = client.value(5, 2, "FLOAT32", "big");
    assert_eq!(setpoint, json!(60.0), "a variable");
    client.ask(&json!({ "call": "write_register", "address": 100, "value": 601 }));
    assert_eq!(client.read("holding_registers", 100, 2), json!([601, 0]));
    let has_it = || {
        let points = camshaft(&["points"]).output().unwrap();
        let points = String::from_utf8_lossy(&points.stdout).into_owned();
        let line = points.lines().find(|line| line.starts_with("scada.setpoint"))?.to_owned();
        (line.contains("60.1") && line.contains("good")).then_some(())
    };
    wait("the controller has the command", PATIENCE, has_it);
}
