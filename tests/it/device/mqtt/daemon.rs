//! A broker and the whole daemon: the scan does not notice.

use std::time::Duration;

use camshaft::process::image::{Quality, Value};

use super::mosquitto::Mosquitto;
use super::{command, toml};
use crate::daemon::{Daemon, Keys, LIMIT, Plant, beside_the_witness, unharmed, wait};
use crate::rig::block_on;

/// Messages, all but the last of them meant for nobody to see.
const FLOOD: u32 = 100_000;

fn start(broker: &Mosquitto) -> Daemon {
    let publish = r#"publish = [
      { name = "witness.polls", topic = "plant/polls", payload = "value", every = "100ms" }]"#;
    let points = command("speed", "u32", "20s", "");
    let tables = toml(broker.port, publish, &points);
    Daemon::on(Plant::new(Keys { tables: &tables, ..Keys::default() }))
}

/// The number of the session's fact of this name.
fn fact(daemon: &Daemon, name: &str) -> f64 {
    let status = daemon.status();
    let device = status.devices.iter().find(|device| device.name == "broker").unwrap();
    let facts = device.parts.iter().find(|part| part.name == "broker").map(|part| &part.facts);
    let fact = facts.and_then(|facts| facts.iter().find(|(fact, _)| fact == name));
    fact.map_or(-1.0, |(_, value)| *value)
}

fn speed(daemon: &Daemon) -> (Value, Quality) {
    let points = block_on(daemon.client.points()).unwrap();
    let point = points.into_iter().find(|point| point.name == "speed").unwrap();
    (point.value, point.reason)
}

#[test]
#[ignore = "needs mosquitto"]
fn a_flood_costs_no_memory_and_no_cycle() {
    let broker = Mosquitto::start();
    let ear = broker.listen("plant/#");
    let daemon = start(&broker);
    ear.wait("plant/polls");
    broker.say("set/speed", "1", &[]);
    wait("it has come", LIMIT, || (speed(&daemon).0 == Value::Int(1)).then_some(()));
    let before = daemon.usage().rss_kib;
    beside_the_witness(&daemon, "a flood", |_| {
        broker.flood("set/speed", (2..=FLOOD).map(|n| n.to_string()));
        // One more, as soon as there is room for it.
        broker.say("set/speed", &FLOOD.to_string(), &[]);
        wait("the last has come", LIMIT, || {
            (speed(&daemon) == (Value::Int(FLOOD.into()), Quality::Good)).then_some(())
        });
    });
    let (received, superseded) = (fact(&daemon, "received"), fact(&daemon, "superseded"));
    let after = daemon.usage().rss_kib;
    println!("{received} received, {superseded} superseded; RSS {before} KiB, then {after} KiB");
    assert!(superseded > received / 2.0, "most of them nobody needs");
    assert!(after < before + 4096, "{before} KiB, then {after} KiB");
    assert_eq!(fact(&daemon, "refused"), 0.0);
    unharmed(&daemon);
}

#[test]
#[ignore = "needs mosquitto"]
fn the_broker_hears_of_the_end_of_the_daemon() {
    let broker = Mosquitto::start();
    let ear = broker.listen("plant/#");
    let publish = r#"
      will = { topic = "plant/status", payload = "offline" }
      birth = { topic = "plant/status", payload = "online" }
      publish = [{ name = "witness.polls", topic = "plant/polls", retain = true }]"#;
    let tables = toml(broker.port, publish, "");
    let daemon = Daemon::on(Plant::new(Keys { tables: &tables, ..Keys::default() }));
    assert_eq!(ear.wait("plant/status").payload, "online");
    ear.wait("plant/polls");
    let plant = daemon.slay();
    assert_eq!(ear.wait("plant/status").payload, "offline", "killed");
    let daemon = Daemon::on(plant);
    assert_eq!(ear.wait("plant/status").payload, "online");
    let (status, time, _) = daemon.stop();
    assert!(status.success() && time < Duration::from_secs(5), "{status} {time:?}");
    assert_eq!(ear.wait("plant/status").payload, "offline", "stopped");
}

/// The value of a variable.
fn variable(daemon: &Daemon, name: &str) -> Option<Value> {
    let all = block_on(daemon.client.vars()).unwrap();
    all.into_iter().find(|variable| variable.name == name).map(|variable| variable.value)
}

/// What the status says of a part of the session, if it has one of this name.
fn refused(daemon: &Daemon, name: &str) -> Option<String> {
    let status = daemon.status();
    let device = status.devices.into_iter().find(|device| device.name == "broker").unwrap();
    device.parts.into_iter().find(|part| part.name == name).map(|part| part.state)
}

#[test]
#[ignore = "needs mosquitto"]
fn commands_write_variables() {
    let broker = Mosquitto::start();
    let keys = r#"set = [
      { name = "limit", topic = "plant/limit" },
      { name = "mode", topic = "plant/all", json = "mode.number" },
      { name = "on", topic = "plant/all", json = "on" },
      { name = "nothing", topic = "plant/nothing" },
    ]"#;
    let mut tables = toml(broker.port, keys, &command("speed", "u32", "20s", ""));
    for (name, kind) in [("limit", "double"), ("mode", "int"), ("on", "boolean")] {
        let retain = name == "limit";
        tables +=
            &format!("[[variable]]\nname = \"{name}\"\ntype = \"{kind}\"\nretain = {retain}\n");
    }
    let daemon = Daemon::on(Plant::new(Keys { tables: &tables, ..Keys::default() }));
    let is = |daemon: &Daemon, name: &str, value: Value| {
        wait(name, LIMIT, || (variable(daemon, name) == Some(value)).then_some(()));
    };
    wait("it is connected", LIMIT, || {
        (refused(&daemon, "broker").as_deref() == Some("connected")).then_some(())
    });
    beside_the_witness(&daemon, "commands", |n| {
        broker.say("plant/limit", &format!("{n}.5"), &[]);
        is(&daemon, "limit", Value::Real(f64::from(n) + 0.5));
    });
    broker.say("plant/all", r#"{"mode": {"number": "0x10"}, "on": "ON"}"#, &[]);
    is(&daemon, "mode", Value::Int(16));
    is(&daemon, "on", Value::Bool(true));
    // What does not fit is refused, and the others of the message are written.
    broker.say("plant/all", r#"{"mode": {"number": 5000000000}, "on": false}"#, &[]);
    is(&daemon, "on", Value::Bool(false));
    let is_refused = |name: &str, expected: &str| {
        let expected = format!("refused: {expected}");
        wait(name, LIMIT, || {
            refused(&daemon, name).is_some_and(|state| state == expected).then_some(())
        });
    };
    is_refused("mode", "5000000000: the value does not fit type i32");
    assert_eq!(variable(&daemon, "mode"), Some(Value::Int(16)));
    broker.say("plant/limit", "NaN", &[]);
    is_refused("limit", "expected a number of type f64, found \"NaN\"");
    broker.say("plant/nothing", "1", &[]);
    is_refused(
        "nothing",
        "expected a variable \"nothing\", found none: add a [[variable]] of this name, or start \
         the program that makes it",
    );
    // A retained variable outlives the daemon.
    broker.say("plant/limit", "42.5", &[]);
    is(&daemon, "limit", Value::Real(42.5));
    unharmed(&daemon);
    let (status, _, plant) = daemon.stop();
    assert!(status.success());
    is(&Daemon::on(plant), "limit", Value::Real(42.5));
}

#[test]
#[ignore = "needs mosquitto"]
fn a_flood_into_a_variable_is_bounded() {
    let broker = Mosquitto::start();
    let keys = "set = [{ name = \"limit\", topic = \"plant/limit\", qos = 0 }]";
    let tables = toml(broker.port, keys, "")
        + "[[variable]]\nname = \"limit\"\ntype = \"int\"\ninitial = -1\n";
    let daemon = Daemon::on(Plant::new(Keys { tables: &tables, ..Keys::default() }));
    wait("it is connected", LIMIT, || {
        (refused(&daemon, "broker").as_deref() == Some("connected")).then_some(())
    });
    let before = daemon.usage().rss_kib;
    beside_the_witness(&daemon, "a flood", |_| {
        broker.flood("plant/limit", (1..=20_000).map(|n| n.to_string()));
        // Full queues refuse values; the last one is sent until it has come.
        wait("the last has come", LIMIT, || {
            broker.say("plant/limit", "77777", &[]);
            (variable(&daemon, "limit") == Some(Value::Int(77_777))).then_some(())
        });
    });
    let after = daemon.usage().rss_kib;
    assert!(after < before + 8192, "{before} KiB, then {after} KiB");
    unharmed(&daemon);
}

#[test]
#[ignore = "needs mosquitto"]
fn a_reload_is_no_loss() {
    let broker = Mosquitto::start();
    let ear = broker.listen("plant/#");
    let daemon = start(&broker);
    ear.wait("plant/polls");
    for n in 0..3 {
        let publish = format!(
            "publish = [{{ name = \"witness.polls\", topic = \"plant/{n}\", every = \"100ms\" }}]"
        );
        let tables = toml(broker.port, &publish, &command("speed", "u32", "20s", ""));
        daemon.configure(Keys { tables: &tables, ..Keys::default() });
        let output = daemon.camshaft(&["reload"]);
        assert!(output.status.success(), "{output:?}");
        ear.wait(&format!("plant/{n}"));
    }
    broker.say("set/speed", "7", &[]);
    wait("it has come", LIMIT, || (speed(&daemon).0 == Value::Int(7)).then_some(()));
    let lost: Vec<_> =
        daemon.log().into_iter().filter(|line| line.message.contains("no connection")).collect();
    assert!(lost.is_empty(), "{lost:?}");
    assert_eq!(fact(&daemon, "reconnects"), 0.0);
    daemon.stop();
}

#[test]
#[ignore = "needs mosquitto"]
fn values_are_bad_while_the_scan_stands() {
    let broker = Mosquitto::start();
    let ear = broker.listen("plant/#");
    let daemon = start(&broker);
    let next_is = |what: &str, is_it: fn(&str) -> bool| {
        wait(what, LIMIT, || is_it(&ear.wait("plant/polls").payload).then_some(()));
    };
    next_is("a number", |text| text.parse::<u32>().is_ok());
    let hang = serde_json::json!({ "kind": "hang", "for": "1s" });
    block_on(daemon.client.inject("plant", &hang)).unwrap();
    next_is("bad", |text| text == "no_comm");
    next_is("a number again", |text| text.parse::<u32>().is_ok());
    daemon.stop();
}
