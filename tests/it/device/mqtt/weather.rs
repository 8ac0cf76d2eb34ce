//! A broker that dies, hangs, or is none.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::spawn;
use std::time::{Duration, Instant};

use camshaft::driver::Fault;
use camshaft::process::image::{Quality, Value};

use super::mosquitto::{Mosquitto, free_port};
use super::{Plant, command, connected, fact, session, toml};
use crate::device::{Bench, PATIENCE};

const LEVEL: &str = r#"publish = [
  { name = "tank.level", topic = "plant/level", payload = "value", retain = true,
    min_interval = "10ms" }]"#;

#[test]
#[ignore = "needs mosquitto"]
fn a_broker_comes_and_goes() {
    let mut broker = Mosquitto::start();
    let points = command("speed", "f64", "20s", "");
    let mut bench = Bench::open(&toml(broker.port, LEVEL, &points));
    let mut plant = Plant::new();
    connected(&mut bench);
    plant.level(&bench, 7.0);
    broker.say("set/speed", "1", &[]);
    bench.until("both have come", |bench| {
        bench.input("speed").1 == Quality::Good && fact(bench, "published") == 1.0
    });
    broker.kill();
    bench.until("it is lost", |bench| {
        bench.fault == Some(Fault::Disconnected) && !session(bench).ok
    });
    assert_eq!(bench.input("speed"), (Value::Real(1.0), Quality::Good), "until its own end");
    // What happens while nobody listens is not kept. One value, the last one, is said afterwards,
    // though it is what it was: the broker does not know it any more.
    for n in (0..5000).chain([7]) {
        plant.level(&bench, f64::from(n));
        bench.cycle();
    }
    assert_eq!(fact(&bench, "queue"), 1.0);
    broker.restart();
    let ear = broker.listen("plant/#");
    assert_eq!(ear.next("plant/level", &mut bench).payload, "7");
    bench.until("it is counted", |bench| fact(bench, "published") == 2.0);
    assert_eq!((bench.fault, ear.heard("plant/level")), (None, 1));
    assert_eq!(fact(&bench, "reconnects"), 1.0);
    // What was subscribed to is so again.
    broker.say("set/speed", "2", &[]);
    bench.until("it has come", |bench| bench.input("speed").0 == Value::Real(2.0));
}

/// Accepts clients, says so much to each and nothing more, and reads nothing after the first
/// packet. Gives its port and how many have come.
fn stub(answer: &'static [u8]) -> (u16, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let count = Arc::new(AtomicUsize::new(0));
    let counts = Arc::clone(&count);
    spawn(move || {
        let mut held: Vec<TcpStream> = Vec::new();
        for mut client in listener.incoming().flatten() {
            let _ = client.read(&mut [0; 1024]);
            let _ = client.write_all(answer);
            counts.fetch_add(1, Ordering::Relaxed);
            held.push(client);
        }
    });
    (port, count)
}

/// CONNACK: no session, success, no properties.
const WELCOME: &[u8] = &[0x20, 3, 0, 0, 0];

#[test]
fn a_broker_that_stops_reading_is_left() {
    // The one fills the socket, the other waits for acknowledgements.
    for (qos, enough) in [(0, 500.0), (1, 60.0)] {
        let (port, count) = stub(WELCOME);
        let topic = "t".repeat(900);
        let item = |n| {
            let keys = format!("topic = \"{n}/{topic}\", qos = {qos}, every = \"10ms\"");
            format!("{{ name = \"tank.level\", {keys} }},")
        };
        let items: String = (0..500).map(item).collect();
        let mut bench = Bench::open(&toml(port, &format!("publish = [{items}]"), ""));
        let mut plant = Plant::new();
        plant.level(&bench, 1.0);
        let worst = longest_cycle(&mut bench, |bench| fact(bench, "published") > enough);
        bench.until("values wait", |bench| fact(bench, "queue") > 100.0);
        bench.until("it is given up", |_| count.load(Ordering::Relaxed) > 1);
        assert!(worst < Duration::from_millis(50), "a cycle took {worst:?}");
        let started = Instant::now();
        drop(bench);
        assert!(started.elapsed() < Duration::from_secs(2), "nobody waits for it");
    }
}

/// The longest cycle until something is so, and for a second more.
fn longest_cycle(bench: &mut Bench, is_so: impl Fn(&Bench) -> bool) -> Duration {
    let (started, mut worst, mut since) = (Instant::now(), Duration::ZERO, None);
    while since.is_none_or(|since: Instant| since.elapsed() < Duration::from_secs(1)) {
        let began = Instant::now();
        bench.cycle();
        worst = worst.max(began.elapsed());
        since = since.or_else(|| is_so(bench).then(Instant::now));
        assert!(started.elapsed() < PATIENCE, "not so: {:?}", session(bench));
        std::thread::sleep(Duration::from_millis(1));
    }
    worst
}

#[test]
fn a_broker_that_stays_silent_is_left() {
    let (port, count) = stub(b"");
    let mut bench = Bench::open(&toml(port, "", &command("speed", "f64", "1s", "")));
    bench.until("it is told", |bench| {
        session(bench).state == "no answer from the broker within connect_timeout"
    });
    bench.until("it is tried again", |_| count.load(Ordering::Relaxed) > 1);
    assert_eq!(bench.input("speed").1, Quality::Waiting);
    // A welcome, and no word after it: no ping is answered.
    let (port, count) = stub(WELCOME);
    let mut bench = Bench::open(&toml(port, LEVEL, ""));
    bench.until("it is told", |bench| {
        let known =
            ["no answer from the broker within keep_alive", "no packet from the broker for 2s"];
        known.contains(&session(bench).state.as_str())
    });
    bench.until("it is tried again", |_| count.load(Ordering::Relaxed) > 1);
}

#[test]
fn what_is_no_broker_is_left() {
    let (port, count) = stub(b"HTTP/1.1 400 Bad Request\r\n\r\n");
    let mut bench = Bench::open(&toml(port, LEVEL, ""));
    bench.until("it is tried again", |_| count.load(Ordering::Relaxed) > 1);
    assert!(!session(&bench).ok);
    // A packet that is larger than we allow: 64 KiB of a publish.
    let (port, count) = stub(&[0x20, 3, 0, 0, 0, 0x30, 0xff, 0xff, 0x7f]);
    let mut bench = Bench::open(&toml(port, LEVEL, ""));
    bench.until("it is tried again", |_| count.load(Ordering::Relaxed) > 1);
    let mut bench = Bench::open(&toml(free_port(), LEVEL, ""));
    bench.until("nobody is there", |bench| session(bench).state.contains("refused"));
}

#[test]
fn whoever_is_replaced_does_not_come_back_soon() {
    // DISCONNECT: session taken over.
    let (port, count) = stub(&[0x20, 3, 0, 0, 0, 0xe0, 2, 0x8e, 0]);
    let mut bench = Bench::open(&toml(port, LEVEL, ""));
    bench.until("it is told", |bench| {
        session(bench).state == "another client has connected with the same client_id"
    });
    bench.pass(Duration::from_secs(3));
    assert_eq!(count.load(Ordering::Relaxed), 1, "after half a minute, not half a second");
}

#[test]
#[ignore = "needs mosquitto"]
fn two_of_one_name_come_to_rest() {
    // Of what Mosquitto says to whom it throws out the library understands the end only.
    let broker = Mosquitto::start();
    let mut both = [(); 2].map(|()| Bench::open(&toml(broker.port, LEVEL, "")));
    both.iter_mut().for_each(connected);
    let mut counts = [0.0; 3];
    for count in &mut counts {
        let [first, second] = &mut both;
        first.pass(Duration::from_secs(2));
        second.pass(Duration::from_secs(2));
        *count = fact(first, "reconnects") + fact(second, "reconnects");
    }
    // 0.5 s, 1 s, 2 s, 4 s, 8 s for each of them.
    let [_, some, more] = counts;
    assert!((2.0..=10.0).contains(&more) && more - some <= 3.0, "{counts:?}");
}
