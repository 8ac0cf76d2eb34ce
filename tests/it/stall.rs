//! Tests of a stall: the scan runs no cycles any more.
//!
//! The devices must make their outputs safe by themselves. The daemon must report which call the
//! scan is in, and then end. In this file a real scan with real drivers and peers is stopped in
//! three ways: in a driver, at a lock and at a memory page. `stall/daemon.rs` stops the scan of a
//! whole daemon, by the sim driver and by ptrace.

use std::fs;
use std::path::Path;
use std::time::Duration;

use camshaft::driver::{Delivery, Part};
use serde_json::{Value as Json, json};

use crate::device::modbus::desk::{Asked, Desk, Frames};
use crate::device::peer::Script;

mod daemon;
mod gate;
mod line;

use gate::Gate;
use line::{Line, STALL};

/// What a machine that does other things as well may add to the limit.
const SLACK: Duration = Duration::from_millis(500);

/// The last cycle before the gate may have begun some periods before it was closed.
const LEAST: Duration = Duration::from_millis(STALL.as_millis() as u64 / 2);

/// The limit has passed, and not much more.
#[track_caller]
fn in_time(what: &str, passed: Duration, least: Duration) {
    println!("{what}: {passed:?} after the scan was stopped");
    assert!(passed >= least && passed < least + SLACK, "{what}: {passed:?}, expected {least:?}");
}

/// The scan, as the status of a device shows it while it stands.
fn scan(parts: &[Part]) -> Option<&Part> {
    parts.iter().find(|part| part.name == "scan")
}

fn files(folder: &Path) -> String {
    let point = |name: &str, address: &str, safe: &str| {
        let path = folder.join(name);
        fs::write(&path, "0").unwrap();
        format!(
            "{{ name = \"{name}\", direction = \"out\", type = \"u8\", address = {address}, \
             at = {{ path = {path:?} }}, safe = {safe} }},\n"
        )
    };
    let points = point("fan", "0", "255")
        + &point("late", "1", "9, hold_for = \"300ms\"")
        + &point("kept", "2", "\"hold\"")
        + &point("same", "3", "7");
    format!(
        "[[device]]\nname = \"board\"\ndriver = \"file\"\nperiod = \"5ms\"\npoint = [\n{points}]\n"
    )
}

/// Stops the scan and lets it go, and looks at what the files have meanwhile.
fn files_are_safe_while_the_scan_stands(gate: Gate) {
    let folder = tempfile::tempdir().unwrap();
    let mut line = Line::start(&files(folder.path()), gate);
    let has = |name: &str, number: &str| {
        // A file keeps what stood behind a number that was longer.
        let text = fs::read_to_string(folder.path().join(name)).unwrap();
        text.lines().next() == Some(number)
    };
    let all =
        |fan, late| has("fan", fan) && has("late", late) && has("kept", "7") && has("same", "7");
    line.until("outputs are the program's", |_| all("7", "7"));
    line.until("they are confirmed", |line| line.is_confirmed());
    assert_eq!(scan(&line.parts()), None);

    let cycle = line.stop();
    line.until("it is safe", |_| has("fan", "255"));
    in_time("safe", line.stopped_for(), LEAST);
    assert!(has("late", "7") && has("kept", "7"), "one holds for a while, one for ever");
    line.until("the other has held", |_| has("late", "9"));
    in_time("held and safe", line.stopped_for(), LEAST + Duration::from_millis(300));
    line.until("all of it is confirmed", |line| {
        let parts = line.parts();
        scan(&parts).is_some_and(|part| part.state == "stalled; outputs are safe and confirmed")
    });
    let part = scan(&line.parts()).cloned().unwrap();
    let facts = [("safe_outputs", 3.0), ("unconfirmed", 0.0)];
    assert_eq!(part.facts[..2], facts.map(|(name, fact)| (name.to_owned(), fact)));
    assert!(!part.ok && all("255", "9"));
    assert_eq!(line.news().cycle, cycle, "it still stands");

    line.go();
    line.until("outputs are the program's again", |line| {
        // Whatever is said to be confirmed is so: the news before the file.
        let news = line.news();
        let is_confirmed = |name| {
            let id = news.points.find(name).unwrap();
            news.cycle > cycle && news.deliveries[id.index()] == Delivery::Confirmed
        };
        for (name, number) in [("fan", "7"), ("late", "7")] {
            assert!(!is_confirmed(name) || has(name, number), "{name} is not {number}");
        }
        all("7", "7")
    });
    line.until("they are confirmed", |line| line.is_confirmed());
    assert_eq!(scan(&line.parts()), None);
}

#[test]
fn files_are_safe_while_a_driver_holds_up_the_scan() {
    files_are_safe_while_the_scan_stands(Gate::in_a_driver());
}

#[test]
fn files_are_safe_while_the_scan_waits_for_a_lock() {
    files_are_safe_while_the_scan_stands(Gate::in_a_lock());
}

#[test]
fn files_are_safe_while_the_scan_waits_for_a_page() {
    files_are_safe_while_the_scan_stands(Gate::in_a_page_fault());
}

/// A unit with an output, and a heartbeat that is as frequent as its inputs are read.
fn bus(url: &str, period: &str) -> String {
    format!(
        r#"
        [[device]]
        name = "bus"
        driver = "modbus"
        connect = "{url}"
        timeout = "200ms"
        unit = [{{ name = "u", id = 1, probe = "100ms" }}]
        group = [{{ name = "g", unit = "u", table = "holding", period = "{period}" }}]
        heartbeat = {{ unit = "u", address = 99, period = "{period}" }}
        point = [
          {{ name = "in", direction = "in", type = "u16", at = {{ group = "g", address = 3 }} }},
          {{ name = "out", direction = "out", type = "u16", safe = 5, address = 0,
             at = {{ unit = "u", address = 50, min_interval = "300ms" }} }},
          {{ name = "kept", direction = "out", type = "u16", safe = "hold", address = 2,
             at = {{ unit = "u", address = 60 }} }},
        ]
        "#
    )
}

/// Values written to this address, in their order.
fn written(asked: &[Asked], address: u16) -> Vec<u16> {
    let ours = asked.iter().filter(|asked| asked.function > 4 && asked.address() == address);
    let last = |asked: &Asked| {
        let [.., high, low] = asked.bytes[..] else { panic!("{asked:?}") };
        u16::from_be_bytes([high, low])
    };
    ours.map(last).collect()
}

#[test]
fn a_unit_is_safe_and_its_heartbeat_stops_while_the_scan_stands() {
    let desk = Desk::open(Frames::Tcp, |asked: &Asked| asked.sound(|address| address));
    let mut line = Line::start(&bus(&desk.url(), "20ms"), Gate::in_a_driver());
    line.until("it is confirmed", |line| line.is_confirmed());
    line.until("it beats", |_| written(&desk.all(), 99).len() > 3);
    line.until("it is the program's", |_| written(&desk.all(), 50).last() == Some(&0x0707));
    let kept = written(&desk.all(), 60);
    assert_eq!(kept.last(), Some(&0x0707));

    line.stop();
    line.until("it is safe", |_| written(&desk.all(), 50).last() == Some(&5));
    in_time("safe", line.stopped_for(), LEAST);
    line.until("it is confirmed", |line| {
        scan(&line.parts()).is_some_and(|part| part.state.ends_with("safe and confirmed"))
    });
    // One may have been on its way.
    let beats = written(&desk.all(), 99).len();
    let started = std::time::Instant::now();
    line.until("ten beats could have been", |_| started.elapsed() > Duration::from_millis(200));
    let more = written(&desk.all(), 99).len() - beats;
    assert!(more <= 1, "{more} beats after outputs were safe");
    assert_eq!(written(&desk.all(), 60), kept, "what holds was not touched");

    line.go();
    line.until("it is the program's again", |_| written(&desk.all(), 50).last() == Some(&0x0707));
    line.until("it is confirmed", |line| line.is_confirmed());
    line.until("it beats again", |_| written(&desk.all(), 99).len() > beats + 3);
    assert_eq!(written(&desk.all(), 60), kept, "and neither now");
}

#[test]
#[ignore = "needs pymodbus"]
fn units_of_pymodbus_are_safe_while_the_scan_stands() {
    for kind in ["tcp", "rtu+tcp", "rtu"] {
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let (mut script, url) = Script::serving("modbus.py", kind, port);
        let mut holds = |address: u16, value: u16| {
            let order = json!({ "get": 1, "unit": 1, "table": "holding", "address": address });
            script.ask::<Json>(&order) == json!([value])
        };
        // A serial line has no room for more.
        let period = if kind == "rtu" { "1s" } else { "20ms" };
        let mut line = Line::start(&bus(&url, period), Gate::in_a_driver());
        line.until("it is the program's", |_| holds(50, 0x0707));
        line.stop();
        line.until("it is safe", |_| holds(50, 5));
        in_time(kind, line.stopped_for(), LEAST);
        assert!(holds(60, 0x0707));
        line.go();
        line.until("it is the program's again", |_| holds(50, 0x0707));
        line.until("it is confirmed", |line| line.is_confirmed());
    }
}
