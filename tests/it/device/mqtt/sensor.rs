//! Payloads as sensors and people send them, through a real broker.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use camshaft::process::image::{Direction, Point, PointKind, Quality, Value};

use super::mosquitto::Mosquitto;
use super::{Plant, command, connected, fact, toml};
use crate::device::Bench;

/// A point that reads a member of the JSON payloads of a topic.
fn member(name: &str, kind: &str, topic: &str, keys: &str) -> String {
    format!(
        "{{ name = \"{name}\", direction = \"in\", type = \"{kind}\", \
         at = {{ topic = \"{topic}\", expires = \"20s\" {keys} }} }},"
    )
}

/// What the status says of a part, if it has one of this name.
fn state(bench: &Bench, name: &str) -> Option<String> {
    let parts = bench.driver.monitor().unwrap().parts();
    parts.into_iter().find(|part| part.name == name).map(|part| part.state)
}

#[test]
#[ignore = "needs mosquitto"]
fn a_value_is_written_in_many_ways() {
    let broker = Mosquitto::start();
    let points = [("f", "f64"), ("i", "i32"), ("b", "bool")];
    let points = points.map(|(name, kind)| command(name, kind, "20s", "")).concat();
    let mut bench = Bench::open(&toml(broker.port, "", &points));
    connected(&mut bench);
    let long = format!("{{\"value\":7.5,\"pad\":\"{}\"}}", "x".repeat(1500));
    for (name, payload, expected) in [
        ("f", " 6.3", Value::Real(6.3)),
        ("f", "+3.5", Value::Real(3.5)),
        ("f", ".5", Value::Real(0.5)),
        ("f", "00288.5", Value::Real(288.5)),
        ("f", "{\"value\":\"21.5\"}", Value::Real(21.5)),
        ("f", "{\"value\":\"22\"}", Value::Real(22.0)),
        ("f", &long, Value::Real(7.5)),
        ("i", "42.0", Value::Int(42)),
        ("i", "0x2B", Value::Int(43)),
        ("i", "044", Value::Int(44)),
        ("b", "ON", Value::Bool(true)),
        ("b", "False", Value::Bool(false)),
        ("b", "yes", Value::Bool(true)),
        ("b", "0", Value::Bool(false)),
        ("b", "{\"value\":\"on\"}", Value::Bool(true)),
    ] {
        broker.say(&format!("set/{name}"), payload, &[]);
        bench.until(payload, |bench| bench.input(name) == (expected, Quality::Good));
    }
    bench.until("all are counted", |bench| fact(bench, "received") == 15.0);
    assert_eq!(fact(&bench, "refused"), 0.0);
    for (name, payload, expected) in [
        (
            "f",
            "21,5",
            "expected one number with a point and not a comma before its fraction, found \"21,5\"",
        ),
        ("f", "NaN", "expected a number of type f64, found \"NaN\""),
        ("f", "\"21.5\"", "expected a number of type f64 without quotes, found \"\\\"21.5\\\"\""),
        (
            "f",
            "21.5 °C",
            "expected a number and nothing after it, because no `unit` is configured, found \
             \"21.5 °C\"",
        ),
        ("i", "2.5", "expected a whole number that fits type i32, found \"2.5\""),
        (
            "f",
            "{\"temperature\":22.25}",
            "expected `value` in the JSON object, found only `temperature`: set the key `json` in \
             `at` to the path of the value",
        ),
    ] {
        broker.say(&format!("set/{name}"), payload, &[]);
        let expected = format!("refused: {expected}");
        bench.until(payload, |bench| state(bench, name).as_deref() == Some(&expected));
    }
    assert_eq!(bench.input("f"), (Value::Real(7.5), Quality::Good), "the last value stays");
    assert_eq!(bench.input("i"), (Value::Int(44), Quality::Good));
}

#[test]
#[ignore = "needs mosquitto"]
fn points_of_one_topic_take_their_members() {
    let broker = Mosquitto::start();
    let points = [
        member("temperature", "f32", "room", ", json = \"temperature\""),
        member("level", "u8", "room", ", json = \"battery.level\""),
        member("door", "bool", "room", ", json = \"contacts.1\""),
        member("other", "u8", "other", ""),
    ];
    let mut bench = Bench::open(&toml(broker.port, "", &points.concat()));
    connected(&mut bench);
    let good = r#"{"temperature": 22.25, "battery": {"level": "87"}, "contacts": ["OFF", "ON"]}"#;
    broker.say("room", good, &[]);
    bench.until("all have come", |bench| {
        bench.input("temperature") == (Value::Real(22.25), Quality::Good)
            && bench.input("level") == (Value::Int(87), Quality::Good)
            && bench.input("door") == (Value::Bool(true), Quality::Good)
    });
    bench.until("one message is counted", |bench| fact(bench, "received") == 1.0);
    assert_eq!(fact(&bench, "refused"), 0.0);
    assert_eq!(bench.input("other").1, Quality::Waiting);
    // A message without one of the members sets the others.
    broker.say("room", r#"{"temperature": 23, "battery": {"volt": 3}, "contacts": [0, 0]}"#, &[]);
    bench.until("two have come", |bench| {
        bench.input("temperature").0 == Value::Real(23.0)
            && bench.input("door").0 == Value::Bool(false)
    });
    assert_eq!(bench.input("level"), (Value::Int(87), Quality::Good), "it ends by itself");
    let expected = "refused: expected a number at `battery.level`, found only `volt` in `battery`";
    bench.until("it is told", |bench| state(bench, "level").as_deref() == Some(expected));
    broker.say("room", good, &[]);
    bench.until("nothing is wrong", |bench| state(bench, "level").is_none());
}

#[test]
#[ignore = "needs mosquitto"]
fn a_time_shortens_the_life_of_a_value() {
    let broker = Mosquitto::start();
    let points = command("plain", "u8", "20s", "") + &member("path", "u8", "p", ", json = \"v\"");
    let mut bench = Bench::open(&toml(broker.port, "", &points));
    connected(&mut bench);
    let since = |ago: f64| {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        (now.as_secs_f64() - ago) * 1000.0
    };
    let mut refused = 0.0;
    for (topic, key) in [("set/plain", "value"), ("p", "v")] {
        let name = if topic == "p" { "path" } else { "plain" };
        let payload = |value: u8, time: String| format!("{{\"{key}\":{value},\"time\":{time}}}");
        // Of 20 s a bit is left: it is good for less than that.
        broker.say(topic, &payload(1, format!("{:.0}", since(18.0))), &[]);
        bench.until("it has come", |bench| bench.input(name) == (Value::Int(1), Quality::Good));
        bench.until("it has ended", |bench| bench.input(name).1 == Quality::NoComm);
        // Seconds, and too old.
        broker.say(topic, &payload(2, format!("{:.0}", since(30.0) / 1000.0)), &[]);
        refused += 1.0;
        bench.until("it is refused", |bench| fact(bench, "refused") == refused);
        assert_eq!(bench.input(name), (Value::Int(1), Quality::NoComm));
        // A clock that is ahead does not make it live longer than `expires`.
        broker.say(topic, &payload(3, "\"2099-01-01T00:00:00+01:00\"".into()), &[]);
        bench.until("it has come", |bench| bench.input(name) == (Value::Int(3), Quality::Good));
    }
    // No time at all: in our own form it is refused.
    broker.say("set/plain", "{\"value\":4,\"time\":\"12:30\"}", &[]);
    bench.until("it is refused", |bench| fact(bench, "refused") == refused + 1.0);
    broker.say("p", "{\"v\":4,\"time\":\"12:30\"}", &[]);
    bench.until("it has come", |bench| bench.input("path").0 == Value::Int(4));
    assert_eq!(bench.input("plain").0, Value::Int(3));
}

#[test]
#[ignore = "needs mosquitto"]
fn published_numbers_are_short() {
    let broker = Mosquitto::start();
    let ear = broker.listen("plant/#");
    let mut bench = Bench::open(&toml(
        broker.port,
        r#"publish = [
          { name = "scaled", topic = "plant/scaled", payload = "value", min_interval = "10ms" },
          { name = "scaled", topic = "plant/json", min_interval = "10ms" },
          { name = "single", topic = "plant/single", payload = "value" },
        ]"#,
        "",
    ));
    let point = |name: &str, kind, scale, byte| Point {
        scale,
        byte,
        ..Point::new(name, Direction::In, kind)
    };
    let (scaled, single) =
        (point("scaled", PointKind::U16, 0.001, 0), point("single", PointKind::F32, 1.0, 2));
    let mut plant = Plant::of(vec![scaled, single], 6);
    plant.set("scaled", Value::Real(3.671), Quality::Good);
    plant.set("single", Value::Real(3.671), Quality::Good);
    plant.show(&bench);
    assert_eq!(ear.next("plant/scaled", &mut bench).payload, "3.671");
    assert_eq!(ear.next("plant/single", &mut bench).payload, "3.671");
    let json = ear.next("plant/json", &mut bench).payload;
    assert!(json.starts_with("{\"value\":3.671,"), "{json}");
    // What was sent is compared with what is: nothing has changed, so nothing is sent.
    for _ in 0..5 {
        plant.show(&bench);
        bench.pass(Duration::from_millis(30));
    }
    assert_eq!(ear.heard("plant/scaled"), 1);
}
