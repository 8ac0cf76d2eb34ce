//! Tests of the Modbus client: units on a bus, their replies and their outputs.
//!
//! The tests check replies that are late, damaged or refused, units that do not answer, and when an
//! output counts as confirmed. Random faults over a long time are tested in `device/weather.rs`.

use std::time::{Duration, Instant};

use camshaft::driver::{Fault, Part};
use camshaft::process::image::{Quality, Value};

use self::desk::{Answer, Asked, Desk, Frames};
use super::Bench;

mod close;
pub mod desk;
mod late;
mod limits;
mod line;
mod mistakes;
mod peer;
mod silence;

/// A bench with these units, groups and points behind `connect`.
fn bench(connect: &str, rest: &str) -> Bench {
    Bench::open(&toml(connect, rest))
}

fn toml(connect: &str, rest: &str) -> String {
    format!("[[device]]\nname = \"bus\"\ndriver = \"modbus\"\nconnect = \"{connect}\"\n{rest}")
}

/// One unit with one group of holding registers, read every 5 ms.
const ONE_UNIT: &str = r#"
    timeout = "50ms"
    unit = [{ name = "u", id = 1, probe = "100ms" }]
    group = [{ name = "g", unit = "u", table = "holding", period = "5ms" }]
"#;

/// What the status says of a unit; of the connection, if there is none of that name.
fn part(bench: &Bench, name: &str) -> Part {
    let parts = bench.monitor.parts();
    let part = parts.iter().find(|part| part.name == name).or(parts.first());
    part.cloned().unwrap_or_default()
}

fn fact(bench: &Bench, name: &str, fact: &str) -> f64 {
    part(bench, name).facts.iter().find(|(name, _)| name == fact).map_or(0.0, |(_, value)| *value)
}

fn state(bench: &Bench, name: &str) -> String {
    part(bench, name).state
}

const GOOD: Quality = Quality::Good;

/// Two outputs of the unit `u`, written with one function code each.
const TWO_OUTPUTS: &str = r#"
    { name = "old", direction = "out", type = "u16", safe = 7,
      at = { unit = "u", address = 50, single = true } },
    { name = "new", direction = "out", type = "u16", safe = 7, at = { unit = "u", address = 60 } },
"#;

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

#[test]
fn nothing_is_written_before_the_first_cycle_and_then_what_is_safe() {
    let desk = Desk::open(Frames::Tcp, |asked: &Asked| asked.sound(|address| address * 10));
    let points = r#"
        point = [
          { name = "in", direction = "in", type = "u16", at = { group = "g", address = 3 } },
          { name = "out", direction = "out", type = "u16", safe = 7, at = { unit = "u", address = 50 } },
          { name = "lamp", direction = "out", type = "bool", at = { unit = "u", address = 4, single = true } },
        ]
    "#;
    let mut bench = bench(&desk.url(), &format!("{ONE_UNIT}{points}"));
    desk.until("it is read ten times", |all| all.len() > 10);
    assert!(desk.all().iter().all(|asked| asked.function == 3), "{:?}", desk.all());
    bench.until("safe outputs are confirmed", |bench| bench.driver.is_confirmed());
    assert_eq!(bench.input("in"), (Value::Int(30), GOOD));
    let writes = || desk.all().into_iter().filter(|asked| asked.function > 4).collect::<Vec<_>>();
    let mut first: Vec<_> =
        writes().iter().map(|asked| (asked.function, asked.bytes.clone())).collect();
    first.sort();
    // One register becomes 7 with function code 16, one coil is off with 5.
    assert_eq!(first, [(5, vec![0, 4, 0, 0]), (16, vec![0, 50, 0, 1, 2, 0, 7])]);
    bench.output("lamp", Value::Bool(true));
    bench.until("the unit has it", |bench| bench.is_confirmed("lamp"));
    assert_eq!(writes().len(), 3, "written once, and again only because it has changed");
    assert_eq!(writes()[2].bytes, [0, 4, 0xff, 0]);
}

#[test]
fn a_value_that_is_refused_does_not_hold_up_the_safe_one() {
    let desk = Desk::open(Frames::Tcp, |asked: &Asked| match (asked.function, asked.bytes[3]) {
        (6, 99) => asked.refused(3),
        _ => asked.sound(|address| address),
    });
    let point = r#"point = [{ name = "out", direction = "out", type = "u16", safe = 7,
        at = { unit = "u", address = 50, single = true } }]"#;
    let mut bench = bench(&desk.url(), &format!("{ONE_UNIT}{point}"));
    bench.until("it is safe", |bench| bench.is_confirmed("out"));
    bench.output("out", Value::Int(99));
    desk.until_cycling(&mut bench, "it is refused", |all| all.iter().any(|it| it.bytes[3] == 99));
    bench.pass(Duration::from_millis(200));
    assert!(!bench.is_confirmed("out"));
    let asked = desk.all().iter().filter(|it| it.bytes[3] == 99).count();
    assert_eq!(asked, 1, "it is not tried again for a minute");
    bench.output("out", Value::Int(7));
    bench.until("the safe one is there", |bench| bench.is_confirmed("out"));
}

#[test]
fn only_an_exact_echo_confirms() {
    // The unit repeats another value than was written.
    let desk = Desk::open(Frames::Tcp, |asked: &Asked| match asked.function {
        6 => Answer::now(&[6, 0, 50, 0, 8]),
        _ => asked.sound(|address| address),
    });
    let points = r#"
        point = [
          { name = "out", direction = "out", type = "u16", safe = 7,
            at = { unit = "u", address = 50, single = true } },
          { name = "other", direction = "out", type = "u16", safe = 7,
            at = { unit = "u", address = 60, readback = true } },
        ]
    "#;
    let mut bench = bench(&desk.url(), &format!("{ONE_UNIT}{points}"));
    desk.until_cycling(&mut bench, "both are written", |all| {
        let written = |function| all.iter().any(|asked| asked.function == function);
        written(6) && written(16) && written(3)
    });
    bench.pass(Duration::from_millis(100));
    assert!(!bench.is_confirmed("out"));
    assert!(!bench.is_confirmed("other"), "it was read back as its address");
}

#[test]
fn a_busy_unit_changes_nothing_and_values_age() {
    let desk = Desk::open(Frames::Tcp, |asked: &Asked| asked.sound(|_| 42));
    let points = r#"point = [{ name = "in", direction = "in", type = "u16", bad_after = "600ms",
        stale_after = "200ms", at = { group = "g", address = 3 } }]"#;
    let mut bench = bench(&desk.url(), &format!("{ONE_UNIT}{points}"));
    bench.until("it is read", |bench| bench.input("in") == (Value::Int(42), GOOD));
    desk.answer(|asked: &Asked| asked.refused(6));
    for quality in [Quality::Stale, Quality::NoComm] {
        bench.until("it ages", |bench| {
            assert_eq!(bench.input("in").0, Value::Int(42), "never another value");
            bench.input("in").1 == quality
        });
    }
    assert_eq!(fact(&bench, "", "connections"), 1.0);
    desk.answer(|asked: &Asked| asked.sound(|_| 43));
    bench.until("it is back", |bench| bench.input("in") == (Value::Int(43), GOOD));
    bench.until("the count is shown", |bench| fact(bench, "u", "exception_6") > 1.0);
}

#[test]
fn what_a_unit_refuses_has_a_quality_of_its_own() {
    // What is at 10 and 20 does not exist and has failed; at 30 is a float that is no number.
    let desk = Desk::open(Frames::Tcp, |asked: &Asked| match (asked.function, asked.address()) {
        (3, 10) => asked.refused(2),
        (3, 20) => asked.refused(4),
        _ => asked.sound(|address| if address == 30 { 0x7fc0 } else { address }),
    });
    let points = r#"
        point = [
          { name = "ok", direction = "in", type = "u16", at = { group = "g", address = 3 } },
          { name = "none", direction = "in", type = "u16", at = { group = "g", address = 10 } },
          { name = "failed", direction = "in", type = "u16", at = { group = "g", address = 20 } },
          { name = "nan", direction = "in", type = "f32", at = { group = "g", address = 30 } },
          { name = "beside", direction = "in", type = "u16", at = { group = "g", address = 32 } },
        ]
    "#;
    let mut bench = bench(&desk.url(), &format!("{ONE_UNIT}{points}"));
    bench.until("all is told", |bench| {
        bench.input("ok") == (Value::Int(3), GOOD)
            && bench.input("none").1 == Quality::Config
            && bench.input("failed").1 == Quality::Device
            && bench.input("nan").1 == Quality::Sensor
            && bench.input("beside") == (Value::Int(32), GOOD)
    });
    bench.pass(Duration::from_millis(300));
    let asked = |address| desk.all().iter().filter(|asked| asked.address() == address).count();
    assert_eq!(asked(10), 1, "a mistake is left alone for a minute");
    assert!(asked(3) > 20 && asked(20) > 20, "the others go on");
    assert_eq!((fact(&bench, "", "connections"), bench.fault), (1.0, None));
    assert_eq!(bench.input("failed").0, Value::Int(0), "never read, and marked so");
}

#[test]
fn a_gateway_without_the_unit_loses_the_unit_and_not_the_connection() {
    let desk = Desk::open(Frames::Tcp, |asked: &Asked| match asked.unit {
        2 => asked.refused(11),
        _ => asked.sound(|_| 5),
    });
    let mut bench = bench(&desk.url(), TWO_UNITS);
    bench.until("one is there and one is not", |bench| {
        bench.input("one") == (Value::Int(5), GOOD) && bench.input("two").1 == Quality::NoComm
    });
    assert!(!bench.is_confirmed("out"), "the unit is not there to take it");
    assert_eq!((bench.input("two.online").0, bench.fault), (Value::Bool(false), None));
    desk.answer(|asked: &Asked| asked.sound(|_| 6));
    bench.until("it is back, and its output written", |bench| {
        bench.input("two") == (Value::Int(6), GOOD) && bench.is_confirmed("out")
    });
    bench.until("programs see it", |bench| bench.input("two.online") == (Value::Bool(true), GOOD));
    assert_eq!(fact(&bench, "", "connections"), 1.0);
}

const TWO_UNITS: &str = r#"
    timeout = "20ms"
    unit = [{ name = "first", id = 1 }, { name = "second", id = 2, probe = "1500ms" }]
    group = [
      { name = "one", unit = "first", table = "input", period = "2ms" },
      { name = "two", unit = "second", table = "input", period = "2ms" },
    ]
    point = [
      { name = "one", direction = "in", type = "u16", at = { group = "one", address = 0 } },
      { name = "two", direction = "in", type = "u16", at = { group = "two", address = 0 } },
      { name = "fan", direction = "out", type = "u16", safe = 0, at = { unit = "first", address = 1 } },
      { name = "out", direction = "out", type = "u16", safe = 9, at = { unit = "second", address = 1 } },
      { name = "two.online", direction = "in", type = "bool",
        at = { unit = "second", diagnostic = "online" } },
      { name = "two.timeouts", direction = "in", type = "u32",
        at = { unit = "second", diagnostic = "timeouts" } },
    ]
"#;

#[test]
fn a_dead_unit_costs_the_others_next_to_nothing() {
    for frames in [Frames::Tcp, Frames::Rtu] {
        let desk = Desk::open(frames, |asked: &Asked| match asked.unit {
            2 => Answer::never(),
            _ => asked.sound(|_| 5),
        });
        let mut bench = bench(&desk.url(), TWO_UNITS);
        bench.until("the dead one is known to be", |bench| state(bench, "second") == "offline");
        bench.until("its value is bad", |bench| bench.input("two").1 == Quality::NoComm);
        let (started, before) = (Instant::now(), desk.all().len());
        // Long enough for the status to have measured a whole window.
        bench.pass(Duration::from_millis(6500));
        let since: Vec<_> = desk.all().split_off(before);
        let probes = since.iter().filter(|asked| asked.unit == 2).count();
        assert!((3..=6).contains(&probes), "{frames:?}: {probes} probes in 6.5 s");
        let load = fact(&bench, "second", "load_percent");
        assert!(load > 0.0 && load <= 5.0, "{frames:?}: the dead unit takes {load} % of the bus");
        let rate = (since.len() - probes) as f64 / started.elapsed().as_secs_f64();
        assert!(rate > 100.0, "{frames:?}: the other one is read {rate} times a second");
        bench.output("fan", Value::Int(1));
        bench.until("a write passes at once", |bench| bench.is_confirmed("fan"));
        let Value::Int(timeouts) = bench.input("two.timeouts").0 else { panic!("no number") };
        assert!(timeouts >= 3, "{timeouts} timeouts");
        desk.answer(|asked: &Asked| asked.sound(|_| 6));
        bench.until("it comes back", |bench| {
            bench.input("two") == (Value::Int(6), GOOD) && bench.is_confirmed("out")
        });
        // One more if this machine has stood still for two waits, but not one for each probe.
        let connections = fact(&bench, "", "connections");
        assert!(connections <= 2.0, "{frames:?}: the others were cut off {connections} times");
    }
}

#[test]
fn a_connection_that_goes_deaf_is_made_anew() {
    let desk = Desk::open(Frames::Tcp, |asked: &Asked| match asked.connection {
        0 if asked.nth > 20 => Answer::never(),
        _ => asked.sound(|_| 5),
    });
    let points = r#"point = [
        { name = "in", direction = "in", type = "u16", stale_after = "60ms", at = { group = "g", address = 3 } },
        { name = "out", direction = "out", type = "u16", safe = 7, at = { unit = "u", address = 50 } },
    ]"#;
    let mut bench = bench(&desk.url(), &format!("{ONE_UNIT}{points}"));
    bench.until("it is read and written", |bench| {
        bench.input("in") == (Value::Int(5), GOOD) && bench.is_confirmed("out")
    });
    bench.until("it is stale, and the output in doubt", |bench| {
        bench.input("in").1 != GOOD && !bench.is_confirmed("out")
    });
    bench.until("it is back on another one", |bench| {
        bench.input("in") == (Value::Int(5), GOOD) && bench.is_confirmed("out")
    });
    assert_eq!(fact(&bench, "", "connections"), 2.0);
    let again =
        desk.all().iter().filter(|asked| asked.connection == 1 && asked.function == 16).count();
    assert_eq!(again, 1, "outputs are written once after each connection");
}

#[test]
fn the_heart_beats_only_while_the_scan_moves() {
    let desk = Desk::open(Frames::Tcp, |asked: &Asked| asked.sound(|_| 5));
    let heart = r#"heartbeat = { unit = "u", address = 9, period = "10ms" }
        point = [{ name = "in", direction = "in", type = "u16", at = { group = "g", address = 3 } }]"#;
    let mut bench = bench(&desk.url(), &format!("{ONE_UNIT}{heart}"));
    let beats = |all: &[Asked]| -> Vec<u8> {
        all.iter().filter(|asked| asked.function == 6).map(|asked| asked.bytes[3]).collect()
    };
    desk.until("it is read", |all| all.len() > 20);
    assert!(beats(&desk.all()).is_empty(), "the scan has not begun");
    desk.until_cycling(&mut bench, "it beats", |all| beats(all).len() >= 6);
    assert_eq!(beats(&desk.all())[..6], [1, 0, 1, 0, 1, 0]);
    // The scan stands still; one beat may be under way.
    let before = beats(&desk.all()).len();
    let reads = desk.all().len();
    desk.until("the bus goes on", |all| all.len() > reads + 50);
    assert!(beats(&desk.all()).len() <= before + 1, "nobody beats for a scan that stands still");
    bench.until("it goes on", |_| beats(&desk.all()).len() > before + 3);
    assert_eq!(bench.fault, None::<Fault>);
}
