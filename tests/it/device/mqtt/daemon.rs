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
