//! Tests of the Modbus client on a bad connection, with the faults of `device/proxy.rs`.
//!
//! A wrong value must never have good quality. The device must have the outputs that the client
//! reports as confirmed. A unit that does not answer must not delay the other units much. When the
//! faults end, the client must recover by itself.
//!
//! The server is `tests/peers/modbus_server.py`. The value of each register contains the number of
//! the register and of the unit, the function code and the time of the read. So a test can check
//! each value. `CAMSHAFT_REQUESTS` sets the number of requests, and `CAMSHAFT_SEED` sets the
//! faults.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use camshaft::process::image::{Direction, Quality, Value};

use super::Bench;
use super::peer::PyServer;
use super::proxy::{Asked, Proxy, Wire};

/// How long the client waits for a reply: long for loopback, short for a test.
const TIMEOUT: Duration = Duration::from_millis(30);

/// How old a value may be when it is taken on a serial line: three waits, and what a machine with
/// other work adds. Over TCP it may not be older than the last request for it.
const OLDEST: Duration = Duration::from_secs(1);

/// Requests, unless somebody asks for more.
const REQUESTS: u64 = 6000;

/// How long one stretch of bad weather lasts at most.
const LONGEST: Duration = Duration::from_secs(60);

/// How long it may take to come back: the longest pause between two attempts to connect is 30 s and
/// a fifth, and on a machine with other work the first one may fail.
const RECOVERY: Duration = Duration::from_secs(60);

/// More memory than this does not come back by itself.
const MOST_GROWTH: u64 = 32 << 20;

/// The unit that nobody answers for.
const DEAD: u8 = 4;

/// What is read of each unit: name, table, function, period in ms and where the values are. Two of
/// them look alike on the wire.
const GROUPS: [(&str, &str, u8, u32, &[u16]); 4] = [
    ("a", "holding", 3, 5, &[0, 4, 8, 12]),
    ("b", "holding", 3, 7, &[32, 36, 40, 44]),
    ("c", "input", 4, 6, &[0, 4, 8, 12]),
    ("d", "holding", 3, 9, &[100, 104, 200, 204]),
];

/// Where the outputs of each unit are; the second one is written with function 6, and on unit 2
/// they are read back.
const OUTPUTS: [u16; 2] = [1000, 1010];

fn config(wire: Wire, port: u16) -> String {
    let scheme = if wire == Wire::Tcp { "tcp" } else { "rtu+tcp" };
    let (mut units, mut groups, mut points) = (String::new(), String::new(), String::new());
    for unit in 1..=DEAD {
        units += &format!("{{ name = \"u{unit}\", id = {unit}, probe = \"300ms\" }}, ");
        for (group, table, _, period, addresses) in GROUPS {
            groups += &format!(
                "{{ name = \"u{unit}{group}\", unit = \"u{unit}\", table = \"{table}\", \
                 period = \"{period}ms\" }}, "
            );
            for address in addresses {
                points += &format!(
                    "{{ name = \"u{unit}{group}{address}\", direction = \"in\", type = \"u64\", \
                     at = {{ group = \"u{unit}{group}\", address = {address} }} }}, "
                );
            }
        }
        for address in OUTPUTS {
            let (single, readback) = (address == OUTPUTS[1], unit == 2);
            points += &format!(
                "{{ name = \"u{unit}.{address}\", direction = \"out\", type = \"u16\", safe = 7, \
                 at = {{ unit = \"u{unit}\", address = {address}, single = {single}, \
                 readback = {readback} }} }}, "
            );
        }
    }
    format!(
        "[[device]]\nname = \"plant\"\ndriver = \"modbus\"\n\
         connect = \"{scheme}://127.0.0.1:{port}\"\ntimeout = \"{}ms\"\n\
         unit = [{units}]\ngroup = [{groups}]\npoint = [{points}]\n",
        TIMEOUT.as_millis()
    )
}

/// What a value has to prove.
#[derive(Debug, Clone, PartialEq)]
struct Proof {
    /// As the server forms it: function, unit and address.
    place: u64,
    /// The request that it is read with.
    asked: Asked,
}

/// Who watches that nothing wrong is good.
struct Watch {
    /// With the instant that each has proved last.
    points: Vec<(String, Proof, u64)>,
    /// Values looked at.
    seen: u64,
}

const STAMP: u64 = (1 << 40) - 1;

impl Watch {
    fn new() -> Self {
        let mut points = Vec::new();
        for unit in 1..=DEAD {
            for (group, _, function, _, addresses) in GROUPS {
                for address in addresses {
                    let place = u64::from(function) << 20 | u64::from(unit) << 16;
                    let place = place | u64::from(*address);
                    // The last group is two requests.
                    let first = addresses.iter().find(|first| *first / 100 == address / 100);
                    let asked = (unit, function, *first.unwrap());
                    let name = format!("u{unit}{group}{address}");
                    points.push((name, Proof { place, asked }, 0));
                }
            }
        }
        Self { points, seen: 0 }
    }

    /// Looks at every value that was ever good.
    fn look(&mut self, bench: &Bench, proxy: &Proxy) {
        let mut companions: Option<(Asked, u64)> = None;
        for (name, proof, last) in &mut self.points {
            let id = bench.points.find(name).unwrap();
            let taken = bench.inputs.good_at[id.index()];
            let (Value::Int(value), quality) = bench.input(name) else { panic!("{name}") };
            if quality == Quality::Waiting || taken.is_zero() {
                continue;
            }
            self.seen += 1;
            let (place, stamp) = (value as u64 >> 40, value as u64 & STAMP);
            let what = || format!("{name}, {quality:?}: {value:#x}, taken at {taken:?}");
            assert_eq!(place, proof.place, "another register: {}", what());
            assert!(stamp >= *last, "older than before, {last}: {}", what());
            let micros = |at: Duration| at.as_micros() as u64 & STAMP;
            let age = micros(taken).saturating_sub(stamp);
            assert!(age < OLDEST.as_micros() as u64, "{age} us old: {}", what());
            let asked = proxy.asked(proof.asked, taken).filter(|_| proxy.wire() == Wire::Tcp);
            if let Some(asked) = asked {
                assert!(stamp >= micros(asked), "older than its request, {asked:?}: {}", what());
            }
            *last = stamp;
            match companions {
                Some((other, its)) if other == proof.asked => {
                    assert_eq!(its, stamp, "torn: {}", what());
                }
                _ => companions = Some((proof.asked, stamp)),
            }
        }
    }
}

/// Asks the server itself, around the proxy.
struct Direct(TcpStream);

impl Direct {
    fn register(&mut self, unit: u8, address: u16) -> u16 {
        let [high, low] = address.to_be_bytes();
        self.0.write_all(&[0, 1, 0, 0, 0, 6, unit, 3, high, low, 0, 1]).unwrap();
        let mut reply = [0; 11];
        self.0.read_exact(&mut reply).unwrap();
        u16::from_be_bytes([reply[9], reply[10]])
    }

    /// Every output that the client says is there, is. Gives how many.
    fn check_outputs(&mut self, bench: &Bench) -> u32 {
        let mut confirmed = 0;
        for (unit, address) in outputs() {
            let name = format!("u{unit}.{address}");
            if bench.is_confirmed(&name) {
                let wanted = bench.point(&name).read(&bench.outputs);
                let has = self.register(unit, address);
                assert_eq!(Value::Int(has.into()), wanted, "{name} is said to be there");
                confirmed += 1;
            }
        }
        confirmed
    }
}

fn outputs() -> Vec<(u8, u16)> {
    (1..DEAD).flat_map(|unit| OUTPUTS.map(|address| (unit, address))).collect()
}

fn environment(name: &str, default: u64) -> u64 {
    let said = std::env::var(name).ok();
    said.map_or(default, |said| said.parse().unwrap_or_else(|e| panic!("{name}: {e}")))
}

/// Bytes of memory that this process has.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/statm").unwrap();
    status.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
}

/// Whether all living units are read and have their outputs.
fn is_whole(bench: &mut Bench) -> bool {
    let inputs = bench.points.iter().filter(|(_, point)| point.direction == Direction::In);
    let mut living = inputs.filter(|(_, point)| !point.name.starts_with(&format!("u{DEAD}")));
    living.all(|(id, _)| bench.inputs.quality[id.index()] == Quality::Good)
        && outputs().iter().all(|(unit, address)| bench.is_confirmed(&format!("u{unit}.{address}")))
}

/// A client behind a proxy, for so many requests of bad weather, again and again interrupted by
/// calm in which everything has to come back. Says what was seen.
fn storm(wire: Wire, requests: u64, seed: u64) -> String {
    let server = PyServer::start(&[1, 2, 3, DEAD]);
    let proxy = Proxy::start(wire, server.port, TIMEOUT, seed);
    proxy.kill(DEAD);
    // Some lines have an echo, others have none.
    if wire == Wire::Rtu && seed % 2 == 1 {
        proxy.echo();
    }
    let mut direct = Direct(TcpStream::connect(("127.0.0.1", server.port)).unwrap());
    let mut bench = Bench::open(&config(wire, proxy.port));
    let (mut watch, mut random) = (Watch::new(), fastrand::Rng::with_seed(seed));
    bench.until("the calm before", is_whole);
    let (mut confirmed, mut longest) = (0, Duration::ZERO);
    while proxy.requests() < requests {
        proxy.calm(false);
        let enough = proxy.requests() + requests / 10;
        let begun = Instant::now();
        while proxy.requests() < enough && begun.elapsed() < LONGEST {
            bench.pass(Duration::from_millis(5));
            watch.look(&bench, &proxy);
            match random.u32(..20) {
                0 => {
                    let (unit, address) = random.choice(outputs()).unwrap();
                    let value = Value::Int(random.u16(..).into());
                    bench.output(&format!("u{unit}.{address}"), value);
                }
                1 => confirmed += direct.check_outputs(&bench),
                _ => {}
            }
        }
        proxy.calm(true);
        let calm = Instant::now();
        loop {
            bench.pass(Duration::from_millis(5));
            watch.look(&bench, &proxy);
            if is_whole(&mut bench) {
                break;
            }
            let parts = || bench.driver.monitor().unwrap().parts();
            assert!(calm.elapsed() < RECOVERY, "it does not come back by itself: {:?}", parts());
        }
        longest = longest.max(calm.elapsed());
        confirmed += direct.check_outputs(&bench);
    }
    // What a daemon does when it stops, in the worst of weather.
    proxy.calm(false);
    for (unit, address) in outputs() {
        bench.output(&format!("u{unit}.{address}"), Value::Int(7));
    }
    bench.pass(Duration::from_millis(300));
    confirmed += direct.check_outputs(&bench);
    assert!(proxy.fates().len() > 8, "{:?}", proxy.fates());
    assert!(confirmed > 0 && watch.seen > requests, "hardly anything was seen");
    format!(
        "{} requests, {} values, {confirmed} outputs, back after {longest:?} at most, {:?}",
        proxy.requests(),
        watch.seen,
        proxy.fates()
    )
}

/// As many storms at a time as a small machine can bear, with so many requests in all.
fn storms(wire: Wire, requests: u64) {
    const STORMS: u64 = 4;
    let seed = environment("CAMSHAFT_SEED", 4);
    println!("CAMSHAFT_SEED={seed}");
    let (before, started) = (resident(), Instant::now());
    std::thread::scope(|scope| {
        let storm = |n| scope.spawn(move || storm(wire, requests / STORMS, seed + n));
        let storms: Vec<_> = (0..STORMS).map(storm).collect();
        let seen: Vec<_> = storms.into_iter().map(|storm| storm.join()).collect();
        for seen in seen {
            println!("{wire:?}, {:?}: {}", started.elapsed(), seen.expect("all of them pass"));
        }
    });
    let growth = resident().saturating_sub(before);
    println!("{} KiB more than before", growth >> 10);
    assert!(growth < MOST_GROWTH, "{growth} bytes more than before");
}

#[test]
#[ignore = "needs pymodbus"]
fn no_wrong_value_is_ever_good_over_tcp() {
    storms(Wire::Tcp, environment("CAMSHAFT_REQUESTS", REQUESTS));
}

#[test]
#[ignore = "needs pymodbus"]
fn no_wrong_value_is_ever_good_on_a_serial_line() {
    storms(Wire::Rtu, environment("CAMSHAFT_REQUESTS", REQUESTS) / 2);
}

#[test]
#[ignore = "needs pymodbus"]
fn a_dead_unit_costs_the_others_little() {
    for wire in [Wire::Tcp, Wire::Rtu] {
        let server = PyServer::start(&[1, 2, 3, DEAD]);
        let proxy = Proxy::start(wire, server.port, TIMEOUT, 1);
        let mut bench = Bench::open(&config(wire, proxy.port));
        bench.until("all are there", |bench| {
            is_whole(bench) && bench.input(&format!("u{DEAD}a0")).1 == Quality::Good
        });
        proxy.kill(DEAD);
        let dead = format!("u{DEAD}a0");
        bench.until("it is missed", |bench| bench.input(&dead).1 == Quality::NoComm);
        proxy.share(DEAD);
        let (started, mut watch, mut oldest) = (Instant::now(), Watch::new(), Duration::ZERO);
        while started.elapsed() < Duration::from_secs(6) {
            bench.pass(Duration::from_millis(1));
            watch.look(&bench, &proxy);
            let id = bench.points.find("u1a0").unwrap();
            let now = camshaft::clock::Clock::now(&camshaft::clock::MonotonicClock);
            oldest = oldest.max(now.saturating_sub(bench.inputs.good_at[id.index()]));
        }
        let share = proxy.share(DEAD);
        println!(
            "{wire:?}: a dead unit takes {:.2} % of the bus, oldest {oldest:?}",
            100.0 * share
        );
        assert!(share > 0.0 && share <= 0.05, "it takes {share} of the bus");
        proxy.revive(DEAD);
        bench.until("it is back", |bench| bench.input(&dead).1 == Quality::Good);
        bench.until("all are there", is_whole);
    }
}
