//! What a broker refuses, repeats or leaves unanswered, told and survived.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use camshaft::driver::Part;
use camshaft::process::image::{Quality, Value};

use super::stub::{
    CONNECT, PUBLISH, Packet, SUBSCRIBE, Stub, UNSUBSCRIBE, message, polite, published, subscribed,
    welcome,
};
use super::{Plant, command, connected, fact, session, toml};
use crate::device::Bench;

/// A value without acknowledgement, more often than any keep_alive.
const STEADY: &str =
    r#"publish = [{ name = "tank.level", topic = "plant/level", qos = 0, every = "10ms" }]"#;

/// Not authorized.
const DENIED: u8 = 0x87;

fn part(bench: &Bench, name: &str) -> Option<Part> {
    bench.monitor.parts().into_iter().find(|part| part.name == name)
}

/// Shows values until the connection is lost; why, and after how long.
fn loss(bench: &mut Bench) -> (String, Duration) {
    let mut plant = Plant::new();
    plant.level(bench, 1.0);
    connected(bench);
    let started = Instant::now();
    bench.until("it is lost", |bench| !session(bench).ok);
    (session(bench).state, started.elapsed())
}

#[test]
fn a_broker_that_reads_on_and_says_nothing_is_left() {
    let stub = Stub::start(|asked| match asked.kind() {
        CONNECT | SUBSCRIBE => polite(asked),
        _ => Vec::new(),
    });
    let mut bench = Bench::open(&toml(stub.port, STEADY, &command("speed", "f64", "1s", "")));
    let (why, time) = loss(&mut bench);
    println!("given up after {time:?}");
    assert_eq!(why, "no packet from the broker for 2s");
    assert!((1900..4000).contains(&time.as_millis()), "{time:?}");
    assert!(stub.heard(PUBLISH).len() > 50, "it was not the silence of ours");
    bench.until("it is tried again", |_| stub.heard(CONNECT).len() > 1);
}

#[test]
fn a_broker_that_has_nothing_to_say_is_asked_and_kept() {
    let stub = Stub::start(polite);
    let mut bench = Bench::open(&toml(stub.port, STEADY, ""));
    Plant::new().level(&bench, 1.0);
    connected(&mut bench);
    bench.pass(Duration::from_millis(4500));
    assert_eq!((session(&bench).state.as_str(), fact(&bench, "reconnects")), ("connected", 0.0));
    let asked = stub.heard(UNSUBSCRIBE).len();
    assert!((2..=4).contains(&asked), "once in a keep_alive: {asked}");
}

#[test]
fn the_broker_says_how_long_it_may_be_silent() {
    // Server keep alive: 2 s instead of our 1 s.
    let stub = Stub::start(|asked| match asked.kind() {
        CONNECT => welcome(&[0x13, 0, 2]),
        _ => Vec::new(),
    });
    let mut bench = Bench::open(&toml(stub.port, STEADY, ""));
    let (why, time) = loss(&mut bench);
    assert_eq!(why, "no packet from the broker for 4s");
    assert!(time >= Duration::from_millis(3900), "{time:?}");
}

#[test]
fn a_subscription_is_answered_or_the_broker_is_left() {
    let stub = Stub::start(|asked| match asked.kind() {
        SUBSCRIBE => Vec::new(),
        _ => polite(asked),
    });
    let mut bench = Bench::open(&toml(stub.port, "", &command("speed", "f64", "1s", "")));
    bench.until("it is told", |bench| {
        session(bench).state == "no answer from the broker to a subscription"
    });
    bench.until("it is tried again", |_| stub.heard(CONNECT).len() > 1);
    assert_eq!(bench.input("speed").1, Quality::Waiting);
}

#[test]
fn what_the_broker_does_not_take_is_counted() {
    let publish = |retain| {
        format!("publish = [{{ name = \"tank.level\", topic = \"plant/level\" {retain} }}]")
    };
    let stub = Stub::start(|asked| match asked.kind() {
        PUBLISH => published(asked, DENIED),
        _ => polite(asked),
    });
    let mut bench = Bench::open(&toml(stub.port, &publish(""), ""));
    let mut plant = Plant::new();
    plant.level(&bench, 1.0);
    bench.until("it is counted", |bench| fact(bench, "denied") == 1.0);
    plant.level(&bench, 2.0);
    bench.until("each time", |bench| fact(bench, "denied") == 2.0);
    assert_eq!(session(&bench).state, "connected");

    // Retain available: no. It may not be sent then.
    let stub = Stub::start(|asked| match asked.kind() {
        CONNECT => welcome(&[0x25, 0]),
        _ => polite(asked),
    });
    let mut bench = Bench::open(&toml(stub.port, &publish(", retain = true"), ""));
    let mut plant = Plant::new();
    plant.level(&bench, 1.0);
    bench.until("it is counted", |bench| fact(bench, "denied") == 1.0);
    assert_eq!((fact(&bench, "published"), stub.heard(PUBLISH).len()), (0.0, 0));
}

#[test]
fn a_refused_subscription_is_forgiven() {
    let stub = Stub::start(|asked| match asked.kind() {
        SUBSCRIBE if asked.connection == 1 => subscribed(asked, &[DENIED]),
        SUBSCRIBE if asked.connection == 0 => {
            [polite(asked), message("set/speed", b"7", false)].concat()
        }
        _ => polite(asked),
    });
    let mut bench = Bench::open(&toml(stub.port, "", &command("speed", "u8", "20s", "")));
    let seven = |quality| (Value::Int(7), quality);
    bench.until("it has come", |bench| bench.input("speed") == seven(Quality::Good));
    stub.hang_up();
    bench.until("it is refused", |bench| bench.input("speed") == seven(Quality::Config));
    bench.until("it is told", |bench| part(bench, "speed").is_some());
    let why = part(&bench, "speed").unwrap().state;
    assert_eq!(why, "refused: the broker refuses the subscription: NotAuthorized");
    stub.hang_up();
    // What it had before counts until its own end.
    bench.until("it is forgiven", |bench| bench.input("speed") == seven(Quality::Good));
    bench.until("nothing is wrong", |bench| bench.monitor.parts().len() == 1);
}

#[test]
fn an_input_that_was_never_heard_waits_after_it_is_forgiven() {
    let stub = Stub::start(|asked| match asked.kind() {
        SUBSCRIBE if asked.connection == 0 => subscribed(asked, &[DENIED]),
        _ => polite(asked),
    });
    let mut bench = Bench::open(&toml(stub.port, "", &command("speed", "u8", "20s", "")));
    bench.until("it is refused", |bench| bench.input("speed").1 == Quality::Config);
    stub.hang_up();
    bench.until("it is forgiven", |bench| bench.input("speed").1 == Quality::Waiting);
}

#[test]
fn what_was_kept_counts_once() {
    let (kept, live) = (Mutex::new("2"), AtomicBool::new(true));
    let stub = Stub::start(move |asked: &Packet| match (asked.kind(), asked.connection) {
        (SUBSCRIBE, connection) => {
            if connection == 2 {
                *kept.lock().unwrap() = "4";
            }
            let mut answer = polite(asked);
            answer.extend(message("set/speed", kept.lock().unwrap().as_bytes(), true));
            // And one that is not kept, after it.
            if live.swap(false, Ordering::Relaxed) {
                answer.extend(message("set/speed", b"3", false));
            }
            // Whatever was before it has been heard when this is.
            answer.extend(message("set/mark", &[b'0' + connection as u8], false));
            answer
        }
        _ => polite(asked),
    });
    let points =
        [command("speed", "u8", "2s", ", retained = true"), command("mark", "u8", "20s", "")];
    let mut bench = Bench::open(&toml(stub.port, "", &points.concat()));
    let marked = |bench: &mut Bench, mark| {
        bench.until("the mark has come", |bench| {
            bench.input("mark") == (Value::Int(mark), Quality::Good)
        });
        bench.input("speed")
    };
    assert_eq!(marked(&mut bench, 0), (Value::Int(3), Quality::Good));
    let said = Instant::now();
    stub.hang_up();
    assert_eq!(marked(&mut bench, 1).0, Value::Int(3), "the newer one stays");
    bench.until("it ends", |bench| bench.input("speed").1 == Quality::NoComm);
    assert!(said.elapsed() < Duration::from_secs(3), "it was not prolonged: {:?}", said.elapsed());
    stub.hang_up();
    assert_eq!(marked(&mut bench, 2), (Value::Int(4), Quality::Good), "that is another");
    bench.until("it ends", |bench| bench.input("speed").1 == Quality::NoComm);
    stub.hang_up();
    assert_eq!(marked(&mut bench, 3), (Value::Int(4), Quality::NoComm), "and does not come back");
}

/// A node at a stub, with a command.
fn node(stub: &Stub, keys: &str) -> Bench {
    let keys = format!("sparkplug = {{ group = \"refused\", node = \"n\" {keys} }}");
    let speed = r#"{ name = "speed", direction = "in", type = "i16", at = { expires = "9s" } }"#;
    Bench::open(&toml(stub.port, &keys, speed))
}

#[test]
fn a_refused_filter_of_sparkplug_is_told_and_blamed_on_what_comes_by_it() {
    let device = ", device = \"plc\", primary_host = \"scada\"";
    for (denied, topic, quality) in [
        (0, "spBv1.0/refused/NCMD/n", Quality::Waiting),
        (1, "spBv1.0/refused/DCMD/n/plc", Quality::Config),
        (2, "spBv1.0/STATE/scada", Quality::Waiting),
    ] {
        let stub = Stub::start(move |asked| match asked.kind() {
            SUBSCRIBE => {
                let mut codes = [0; 3];
                codes[denied] = DENIED;
                subscribed(asked, &codes)
            }
            _ => polite(asked),
        });
        let mut bench = node(&stub, device);
        bench.until("it is told", |bench| part(bench, topic).is_some());
        let found = part(&bench, topic).unwrap();
        assert_eq!(found.state, "the broker refuses the subscription: NotAuthorized");
        bench.until("it waits", |bench| session(bench).state == "waiting for primary host scada");
        assert!(!found.ok && !session(&bench).ok);
        bench.pass(Duration::from_millis(50));
        assert_eq!(bench.input("speed").1, quality, "{topic}");
    }
    // Without a device commands to the metrics come by that of the node.
    let stub = Stub::start(|asked| match asked.kind() {
        SUBSCRIBE => subscribed(asked, &[DENIED]),
        _ => polite(asked),
    });
    let mut bench = node(&stub, "");
    bench.until("it is refused", |bench| bench.input("speed").1 == Quality::Config);
    bench.until("it is told", |bench| part(bench, "spBv1.0/refused/NCMD/n").is_some());
}

#[test]
fn births_have_a_limit() {
    // A metric of name "Node Control/Rebirth", which is true.
    let ask = [b"\x12\x18\x0a\x14Node Control/Rebirth".as_slice(), b"\x70\x01"].concat();
    let again = move || message("spBv1.0/refused/NCMD/n", &ask, false);
    let stub = Stub::start(move |asked| match asked.kind() {
        SUBSCRIBE => [polite(asked), again()].concat(),
        // Twice for each that it gets.
        PUBLISH if asked.topic().contains("NBIRTH") => [again(), again()].concat(),
        _ => polite(asked),
    });
    let mut bench = node(&stub, "");
    Plant::new().level(&bench, 1.0);
    bench.until("it is born", |_| !stub.heard(PUBLISH).is_empty());
    bench.pass(Duration::from_millis(3500));
    let births = stub.heard(PUBLISH).len();
    println!("{births} births in 3.5 s");
    assert!((3..=4).contains(&births), "{births} births in 3.5 s");
    bench.until("all that was asked has come", |bench| {
        fact(bench, "received") == (2 * births + 1) as f64
    });
}
