//! Tests of the MQTT driver against a real Mosquitto broker.
//!
//! The driver publishes the values of points, and takes commands from topics. The tests check which
//! values are published and when, and which commands are refused.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use camshaft::driver::Part;
use camshaft::driver::export::Export;
use camshaft::process::image::{Direction, Inputs, Point, PointKind, Points, Quality, Value};

use super::{Bench, PATIENCE};
use mosquitto::Mosquitto;

mod daemon;
mod mistake;
mod mosquitto;
mod refused;
mod secure;
mod sensor;
mod sparkplug;
mod stub;
mod version;
mod weather;

/// The points of a plant that is shown.
struct Plant {
    points: Arc<Points>,
    inputs: Inputs,
    cycle: u64,
}

impl Plant {
    fn new() -> Self {
        Self::with("spare")
    }

    /// With one more of this name.
    fn with(name: &str) -> Self {
        let point = |name, kind, byte| Point { byte, ..Point::new(name, Direction::In, kind) };
        let all = vec![
            point("tank.level", PointKind::F64, 0),
            point("count", PointKind::I8, 8),
            point("door", PointKind::Bool, 9),
            point("speed", PointKind::I16, 10),
            point(name, PointKind::U64, 16),
        ];
        Self::of(all, 24)
    }

    /// A plant with these inputs, in so many bytes.
    fn of(all: Vec<Point>, bytes: usize) -> Self {
        let points = Arc::new(Points::new(all, bytes, 0));
        let mut inputs = Inputs::unread(&points);
        inputs.quality.fill(Quality::Good);
        Self { points, inputs, cycle: 0 }
    }

    fn set(&mut self, name: &str, value: Value, quality: Quality) {
        let id = self.points.find(name).unwrap();
        self.points[id].write(&mut self.inputs.bytes, value).unwrap();
        self.inputs.quality[id.index()] = quality;
    }

    /// Shows all of it, as the daemon does.
    fn show(&mut self, bench: &Bench) {
        self.cycle += 1;
        let export = Export {
            cycle: self.cycle,
            wall: SystemTime::now(),
            points: Arc::clone(&self.points),
            inputs: self.inputs.clone(),
            ..Export::default()
        };
        bench.shown.send(Arc::new(export)).unwrap();
    }

    /// Shows a level.
    fn level(&mut self, bench: &Bench, level: f64) {
        self.set("tank.level", Value::Real(level), Quality::Good);
        self.show(bench);
    }
}

/// A device at a broker, with further keys and points.
fn toml(port: u16, keys: &str, points: &str) -> String {
    format!(
        r#"
        [[device]]
        name = "broker"
        driver = "mqtt"
        connect = "mqtt://127.0.0.1:{port}"
        client_id = "bench"
        keep_alive = "1s"
        connect_timeout = "1s"
        {keys}
        point = [{points}]
        "#
    )
}

/// A command to a number, with further keys below `at`.
fn command(name: &str, kind: &str, expires: &str, keys: &str) -> String {
    format!(
        "{{ name = \"{name}\", direction = \"in\", type = \"{kind}\", \
         at = {{ topic = \"set/{name}\", expires = \"{expires}\" {keys} }} }},"
    )
}

/// What the status shows of the session.
fn session(bench: &Bench) -> Part {
    bench.driver.monitor().unwrap().parts().into_iter().next().unwrap_or_default()
}

fn fact(bench: &Bench, name: &str) -> f64 {
    let facts = session(bench).facts;
    facts.iter().find(|(fact, _)| fact == name).map_or(-1.0, |(_, value)| *value)
}

fn connected(bench: &mut Bench) {
    bench.until("it is connected", |bench| session(bench).state == "connected");
}

/// A message in JSON without its time.
fn json(value: &str, quality: &str, opc_ua: u32) -> String {
    format!("{{\"value\":{value},\"quality\":\"{quality}\",\"opc_ua\":{opc_ua},\"time\":")
}

#[test]
#[ignore = "needs mosquitto"]
fn values_are_said_when_they_change_and_kept_for_those_who_come_later() {
    let broker = Mosquitto::start();
    let ear = broker.listen("plant/#");
    let mut bench = Bench::open(&toml(
        broker.port,
        r#"publish = [
          { name = "tank.level", topic = "plant/level", retain = true, deadband = 0.5,
            min_interval = "10ms" },
          { name = "count", topic = "plant/count", payload = "value", qos = 0 },
          { name = "nothing", topic = "plant/nothing" },
        ]"#,
        "",
    ));
    let mut plant = Plant::new();
    plant.set("count", Value::Int(-3), Quality::Good);
    plant.level(&bench, 10.0);
    let level = ear.next("plant/level", &mut bench);
    assert!(level.payload.starts_with(&json("10.0", "good", 0)), "{level:?}");
    assert_eq!((level.retain, level.qos), (true, 1));
    let time = level.payload.rsplit('"').nth(1).unwrap();
    let age = SystemTime::now().duration_since(humantime::parse_rfc3339(time).unwrap());
    assert!(age.unwrap() < Duration::from_secs(60), "{time}");
    let count = ear.next("plant/count", &mut bench);
    assert_eq!((&*count.payload, count.retain, count.qos), ("-3", false, 0));

    // Within the deadband nobody hears of it, beyond it everybody.
    plant.level(&bench, 10.4);
    bench.pass(Duration::from_millis(50));
    plant.level(&bench, 10.6);
    let level = ear.next("plant/level", &mut bench);
    assert!(level.payload.starts_with(&json("10.6", "good", 0)), "{level:?}");

    // What is bad is said as such, with the value that it had.
    plant.set("tank.level", Value::Real(10.6), Quality::NoComm);
    plant.set("count", Value::Int(-3), Quality::Sensor);
    plant.show(&bench);
    let level = ear.next("plant/level", &mut bench);
    assert!(level.payload.starts_with(&json("10.6", "no_comm", 0x8031_0000)), "{level:?}");
    assert_eq!(ear.next("plant/count", &mut bench).payload, "sensor");

    let late = broker.listen("plant/#");
    let level = late.next("plant/level", &mut bench);
    assert!(level.retain && level.payload.contains("no_comm"), "{level:?}");
    bench.until("what is not there is told", |bench| {
        let parts = bench.driver.monitor().unwrap().parts();
        parts.iter().any(|part| part.name == "nothing" && !part.ok)
    });
    assert_eq!(late.heard("plant/count"), 0, "that one is not kept");
    assert_eq!((ear.heard("plant/level"), ear.heard("plant/nothing")), (3, 0));
    assert_eq!(fact(&bench, "queue"), 0.0, "what is not there waits for nothing");
}

#[test]
#[ignore = "needs mosquitto"]
fn values_are_said_in_time() {
    let broker = Mosquitto::start();
    let ear = broker.listen("plant/#");
    let mut bench = Bench::open(&toml(
        broker.port,
        r#"publish = [
          { name = "tank.level", topic = "plant/cyclic", every = "50ms" },
          { name = "tank.level", topic = "plant/refreshed", refresh = "100ms" },
          { name = "tank.level", topic = "plant/slow", min_interval = "400ms" },
        ]"#,
        "",
    ));
    let mut plant = Plant::new();
    plant.level(&bench, 0.0);
    ear.next("plant/cyclic", &mut bench);
    let started = Instant::now();
    while started.elapsed() < Duration::from_secs(2) {
        plant.level(&bench, started.elapsed().as_secs_f64());
        bench.pass(Duration::from_millis(20));
    }
    let heard = |topic: &str| ear.heard(&format!("plant/{topic}"));
    // 40, 20 (it changes as well) and 5; a busy machine is late, and never early.
    assert!((20..=43).contains(&heard("cyclic")), "{}", heard("cyclic"));
    assert!((10..=23).contains(&heard("refreshed")), "{}", heard("refreshed"));
    assert!((3..=7).contains(&heard("slow")), "{}", heard("slow"));
    let before = [heard("cyclic"), heard("refreshed"), heard("slow")];
    // The last change is said when its time has come, and then there is nothing more to say.
    bench.pass(Duration::from_secs(1));
    assert!((10..=23).contains(&(heard("cyclic") - before[0])), "{before:?}");
    assert!((5..=13).contains(&(heard("refreshed") - before[1])), "{before:?}");
    assert!(heard("slow") - before[2] <= 1, "{before:?}");
}

#[test]
#[ignore = "needs mosquitto"]
fn the_broker_says_when_we_come_and_go() {
    let broker = Mosquitto::start();
    let ear = broker.listen("plant/status");
    let keys = r#"
        will = { topic = "plant/status", payload = "offline", retain = true }
        birth = { topic = "plant/status", payload = "online", retain = true }"#;
    let mut bench = Bench::open(&toml(broker.port, keys, ""));
    let online = ear.next("plant/status", &mut bench);
    assert_eq!((&*online.payload, online.retain, online.qos), ("online", true, 1));
    drop(bench);
    let offline = ear.wait("plant/status");
    assert_eq!((&*offline.payload, offline.retain, offline.qos), ("offline", true, 1));
}

#[test]
#[ignore = "needs mosquitto"]
fn a_command_ends() {
    let broker = Mosquitto::start();
    let points = command("speed", "f64", "600ms", "") + &command("count", "u8", "20s", ", qos = 0");
    let mut bench = Bench::open(&toml(broker.port, "", &points));
    connected(&mut bench);
    assert_eq!(bench.input("speed"), (Value::Real(0.0), Quality::Waiting));

    // By its own end. The scan judges at every cycle, so there is none after it.
    let said = Instant::now();
    broker.say("set/speed", "42.5", &[]);
    bench.until("it has come", |bench| bench.input("speed").1 == Quality::Good);
    assert_eq!(bench.input("speed").0, Value::Real(42.5));
    let seen = Instant::now();
    let end = lasts(&mut bench, "speed");
    assert!(end >= said + Duration::from_millis(600), "not before");
    assert!(end <= seen + Duration::from_millis(600) + BUSY, "{:?}", end - seen);
    assert_eq!(bench.input("speed"), (Value::Real(42.5), Quality::NoComm), "the value stays");

    // Sooner, if its sender says so, in either way.
    broker.say("set/count", "7", &["-D", "publish", "message-expiry-interval", "1"]);
    bench.until("it has come", |bench| bench.input("count") == (Value::Int(7), Quality::Good));
    let seen = Instant::now();
    assert!(lasts(&mut bench, "count") <= seen + Duration::from_secs(1) + BUSY);
    let early = SystemTime::now() - Duration::from_millis(19_000);
    let early = humantime::format_rfc3339_millis(early);
    broker.say("set/count", &format!("{{\"value\":8,\"time\":\"{early}\"}}"), &[]);
    bench.until("it has come", |bench| bench.input("count") == (Value::Int(8), Quality::Good));
    let seen = Instant::now();
    assert!(lasts(&mut bench, "count") <= seen + Duration::from_secs(1) + BUSY);

    // One that had ended before it came never counts.
    let late = humantime::format_rfc3339_millis(SystemTime::now() - Duration::from_secs(20));
    broker.say("set/count", &format!("{{\"value\":9,\"time\":\"{late}\"}}"), &[]);
    bench.until("it is refused", |bench| {
        assert_eq!(bench.input("count").1, Quality::NoComm);
        fact(bench, "refused") == 1.0
    });
    assert_eq!(bench.input("count").0, Value::Int(8));
}

/// Between two cycles of a bench on a busy machine.
const BUSY: Duration = Duration::from_millis(100);

/// Cycles until an input is bad; the instant of the last cycle in which it was good.
fn lasts(bench: &mut Bench, name: &str) -> Instant {
    let started = Instant::now();
    loop {
        let now = Instant::now();
        assert!(now - started < PATIENCE, "{name} does not end: {:?}", bench.input(name));
        bench.cycle();
        if bench.input(name).1 == Quality::NoComm {
            return now;
        }
        assert_eq!(bench.input(name).1, Quality::Good);
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
#[ignore = "needs mosquitto"]
fn what_the_broker_has_kept_is_no_command_unless_it_is_wanted() {
    let broker = Mosquitto::start();
    broker.say("set/old", "1", &["-r"]);
    broker.say("set/kept", "2", &["-r"]);
    // It is worth something for 4 s, of which it waits some here.
    let kept = Instant::now();
    let expiry = ["-r", "-D", "publish", "message-expiry-interval", "4"];
    broker.say("set/ending", "3", &expiry);
    broker.say("set/lost", "4", &[]);
    let points = [
        command("old", "i32", "10s", ""),
        command("kept", "i32", "10s", ", retained = true"),
        command("ending", "i32", "10s", ", retained = true"),
        command("lost", "i32", "10s", ", retained = true"),
        command("mark", "i32", "10s", ""),
    ];
    std::thread::sleep(Duration::from_millis(1100));
    let mut bench = Bench::open(&toml(broker.port, "", &points.concat()));
    bench.until("they have come", |bench| {
        bench.input("kept") == (Value::Int(2), Quality::Good)
            && bench.input("ending") == (Value::Int(3), Quality::Good)
    });
    let end = lasts(&mut bench, "ending");
    // Mosquitto counts in whole seconds.
    assert!(end <= kept + Duration::from_secs(5) + BUSY, "{:?}", end - kept);
    assert!(end >= kept + Duration::from_secs(2), "{:?}", end - kept);
    broker.say("set/mark", "5", &[]);
    bench.until("the mark has come", |bench| bench.input("mark").1 == Quality::Good);
    assert_eq!(bench.input("old"), (Value::Int(0), Quality::Waiting));
    assert_eq!(bench.input("lost"), (Value::Int(0), Quality::Waiting));
    // Live, it is one, though the broker keeps it as well.
    broker.say("set/old", "6", &["-r"]);
    bench.until("it has come", |bench| bench.input("old") == (Value::Int(6), Quality::Good));
}

#[test]
#[ignore = "needs mosquitto"]
fn what_is_no_value_is_refused() {
    let broker = Mosquitto::start();
    let points = command("count", "u8", "20s", "") + &command("run", "bool", "20s", "");
    let mut bench = Bench::open(&toml(broker.port, "", &points));
    connected(&mut bench);
    broker.say("set/count", "200", &[]);
    broker.say("set/run", "{\"value\":true}", &[]);
    bench.until("they have come", |bench| {
        bench.input("count") == (Value::Int(200), Quality::Good)
            && bench.input("run") == (Value::Bool(true), Quality::Good)
    });
    for bad in ["256", "-1", "2.5", "true", "twelve", "", "{\"value\":\"one\"}", &"9".repeat(5000)]
    {
        broker.say("set/count", bad, &[]);
    }
    broker.say("set/run", "7", &[]);
    // More than the broker may send at once: it does not come at all.
    broker.say("set/count", &"1".repeat(70_000), &[]);
    bench.until("they are counted", |bench| fact(bench, "refused") == 9.0);
    assert_eq!(bench.input("count"), (Value::Int(200), Quality::Good));
    assert_eq!(bench.input("run"), (Value::Bool(true), Quality::Good));
    let parts = bench.driver.monitor().unwrap().parts();
    let part = parts.iter().find(|part| part.name == "run").unwrap();
    assert_eq!(
        part.state,
        "refused: expected on or off, yes or no, true or false, enabled or disabled, or 1 or 0 \
         for type bool, found \"7\""
    );
    broker.say("set/count", "201", &[]);
    broker.say("set/run", "0", &[]);
    bench.until("good ones go on", |bench| {
        bench.input("count").0 == Value::Int(201) && bench.input("run").0 == Value::Bool(false)
    });
    bench.until("nothing is wrong", |bench| bench.driver.monitor().unwrap().parts().len() == 1);
    assert_eq!(fact(&bench, "reconnects"), 0.0);
}
