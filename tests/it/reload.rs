//! Tests of a reload in a running daemon, and of the commands `reload` and `diff`.
//!
//! A reload reads the configuration file again and changes the scan between two cycles. Fifty edits
//! in a row, many of them wrong, are tested in `weather/config.rs`. The comparison of two
//! configurations is tested in the unit tests of the library. `reload/gone.rs` tests devices that a
//! reload removes.

mod gone;

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use camshaft::driver::{Command, Driver, Fault};
use camshaft::plugin::Settings;
use camshaft::process::image::{Inputs, Value};
use camshaft::process::seat::Seat;
use camshaft::process::variable::Variable;
use camshaft::scan::{DeviceSet, Order, Reconfiguration, Return, Slot};
use tokio::time::timeout;

use crate::daemon::{Daemon, Keys, LIMIT, Plant, wait};
use crate::rig::{COUNTER, PERIOD, Rig, block_on, points, wat};

/// A device that counts how often it was read, outside as well.
struct Tally(u32, Arc<AtomicU32>);

impl Driver for Tally {
    fn read(&mut self, _: Duration, _: &mut Inputs) -> Result<(), Fault> {
        self.0 += 1;
        self.1.store(self.0, Ordering::Relaxed);
        Ok(())
    }

    fn write(&mut self, _: Duration, _: &[u8]) -> Result<(), Fault> {
        Ok(())
    }

    fn command(&mut self, _: Duration, _: &Command) -> Result<(), &'static str> {
        Err("it only counts")
    }

    fn is_confirmed(&self) -> bool {
        true
    }
}

fn tally() -> (Box<dyn Driver>, Arc<AtomicU32>) {
    let seen = Arc::new(AtomicU32::new(0));
    (Box::new(Tally(0, Arc::clone(&seen))), seen)
}

/// Leaves the period that it is told, in microseconds, in `out.count`.
const PERIOD_TELLER: &str = r#"(module
  (import "env" "wasm_cycle" (func $cycle (param i32 i32) (result i32)))
  (import "env" "wasm_write_output" (func $write (param i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "poll")
    (drop (call $cycle (i32.const 0) (i32.const 8)))
    (drop (call $write (i32.const 12) (i32.const 8) (i32.const 4)))))"#;

#[test]
fn a_device_that_changes_begins_anew_and_the_others_go_on() {
    let ([first, second, third], seen): ([_; 3], Vec<_>) = {
        let (drivers, seen): (Vec<_>, Vec<_>) = (0..3).map(|_| tally()).unzip();
        (drivers.try_into().ok().unwrap(), seen)
    };
    let mut rig = Rig::new(points(), vec![first, second]);
    rig.install("counter", 0, COUNTER, Settings::default());
    (0..9).for_each(|_| rig.step());
    let before = seen[0].load(Ordering::Relaxed);
    rig.programs_returned();
    rig.order(Order::Reconfigure(Box::new(Reconfiguration {
        ticket: 7,
        period: PERIOD,
        device_set: Some(DeviceSet {
            points: points(),
            devices: vec![Slot::Kept(0), Slot::Opened(third)],
            removed: Vec::new(),
        }),
        ..Reconfiguration::default()
    })));
    let news = rig.cycle();
    let counts: Vec<_> = seen.iter().map(|seen| seen.load(Ordering::Relaxed)).collect();
    assert_eq!(counts, [before + 1, before, 1], "read in this very cycle");
    assert_eq!(news.programs[0].polls, u64::from(before + 1), "the program was polled as before");
    let Ok(Return::Reconfigured(reconfiguration)) = rig.handle.returns.pop() else {
        panic!("it comes back")
    };
    let removed = reconfiguration.device_set.map_or(0, |device_set| device_set.removed.len());
    assert_eq!((reconfiguration.ticket, removed), (7, 1), "with what was replaced");
}

#[test]
fn all_of_it_counts_from_the_same_cycle_on() {
    let mut rig = Rig::new(points(), Vec::new());
    rig.install("a", 0, PERIOD_TELLER, Settings { order: 0, ..Settings::default() });
    rig.install("b", 1, COUNTER, Settings { order: 1, ..Settings::default() });
    let news = rig.cycle();
    let order: Vec<_> = news.programs.iter().map(|fact| fact.seat).collect();
    assert_eq!(order, [Seat(0), Seat(1)]);
    let polls = news.programs[1].polls;
    let (int, real) = (Variable::Int(7), Variable::Double(0.5));
    rig.order(Order::Reconfigure(Box::new(Reconfiguration {
        period: Duration::from_millis(25),
        settings: vec![
            (Seat(0), Settings { order: 2, ..Settings::default() }),
            (Seat(1), Settings { order: 1, every: 1_000_000, ..Settings::default() }),
            (Seat(5), Settings::default()),
        ],
        variables: vec![("new".into(), int)],
        ..Reconfiguration::default()
    })));
    let news = rig.cycle();
    let order: Vec<_> = news.programs.iter().map(|fact| fact.seat).collect();
    assert_eq!(order, [Seat(1), Seat(0)], "they are polled in the new order");
    assert_eq!(news.programs[0].polls, polls, "its turn comes later now");
    assert_eq!(rig.value(&news, "out.count"), Value::Int(25_000), "a guest sees the new period");
    assert_eq!(news.variables.read("new"), Some(int));
    // What is there already is left as it is.
    let other = Variable::Int(8);
    let variables = vec![("new".to_string(), other), ("newer".to_string(), real)];
    rig.order(Order::Reconfigure(Box::new(Reconfiguration {
        period: PERIOD,
        variables,
        ..Reconfiguration::default()
    })));
    let news = rig.cycle();
    assert_eq!(news.variables.read("new"), Some(int));
    assert_eq!(news.variables.read("newer"), Some(real));
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Cycles in half a second.
fn rate(daemon: &Daemon) -> u64 {
    let (before, started) = (daemon.status().cycle, Instant::now());
    wait("half a second", LIMIT, || {
        (started.elapsed() >= Duration::from_millis(500)).then_some(())
    });
    daemon.status().cycle - before
}

/// Waits until the scan hangs in a driver.
fn hang(daemon: &Daemon, time: &str) {
    let client = daemon.client.clone();
    let injection = serde_json::json!({ "kind": "hang", "for": time });
    thread::spawn(move || drop(block_on(client.inject("plant", &injection))));
    let (mut last, mut since) = (0, Instant::now());
    wait("the scan hangs", LIMIT, || {
        let cycle = daemon.status().cycle;
        if cycle != last {
            (last, since) = (cycle, Instant::now());
        }
        (since.elapsed() > Duration::from_millis(100)).then_some(())
    });
}

/// Lets a scan be late for long before it is said to stand.
fn patient(plant: &Plant) {
    let text = fs::read_to_string(plant.path("camshaft.toml")).unwrap();
    let text = text.replace("[scan]", "[scan]\nstall = \"30s\"\nstall_exit = \"60s\"");
    fs::write(plant.path("camshaft.toml"), text).unwrap();
}

/// It was said that another reload is under way.
#[test]
fn diff_is_answered_while_the_scan_has_no_room_for_orders() {
    let plant = Plant::new(Keys::default());
    patient(&plant);
    let daemon = Daemon::on(plant);
    let names: Vec<_> = (0..10).map(|number| format!("idle{number}")).collect();
    let module = wat(r#"(module (func (export "poll")))"#);
    for name in &names {
        daemon.drop_in(name, &module);
        daemon.wait_for(name, "polled", |view| view.polls > 0);
    }
    hang(&daemon, "30s");
    // They are ordered out of the scan again and again.
    names.iter().for_each(|name| block_on(daemon.client.act(name, "hold")).unwrap());
    wait("the queue is full", LIMIT, || {
        let set = daemon.client.set("evil.input", Value::Int(1));
        // Each has a connection until it is answered, and there are 32.
        let answer = block_on(async { timeout(Duration::from_millis(500), set).await });
        let error = answer.ok()?.unwrap_err().to_string();
        assert!(error.contains("the scan has too many orders"), "{error}");
        Some(())
    });
    let changes = block_on(daemon.client.diff()).unwrap();
    assert!(changes.is_empty(), "{changes:?}");
    daemon.slay();
}

#[test]
fn diff_tells_what_reload_does_and_a_wrong_file_changes_nothing() {
    let daemon = Daemon::start(Keys::default());
    let file = daemon.path("camshaft.toml");
    let plain = fs::read_to_string(&file).unwrap();
    let unchanged = daemon.camshaft(&["diff"]);
    assert!(unchanged.status.success() && text(&unchanged.stdout).contains("is in force"));

    assert!(rate(&daemon) > 250, "its period is 1 ms");
    let slower = plain
        .replace("\"1ms\"", "\"20ms\"")
        .replace("\"sim\"\n", "\"sim\"\ninitial = { \"evil.input\" = 5 }\n")
        .replace("format = \"json\"", "format = \"json\"\n[crash]\nrecord = false");
    fs::write(&file, &slower).unwrap();
    let told = text(&daemon.camshaft(&["diff"]).stdout);
    let expected = [
        "scan.period    changed  in force\n",
        "device[plant]  changed  in force, the device is restarted\n",
        "crash.record   changed  in force after a restart of the daemon\n",
    ];
    expected.iter().for_each(|line| assert!(told.contains(line), "{line:?} is not in\n{told}"));
    let done = daemon.camshaft(&["reload"]);
    assert!(done.status.success(), "{}", text(&done.stderr));
    let (head, rows) = told.split_once('\n').unwrap();
    assert!(head.contains("WOULD BE"), "{head}");
    assert_eq!(text(&done.stdout).split_once('\n').unwrap().1, rows);
    assert!((10..100).contains(&rate(&daemon)), "its period is 20 ms");
    assert_eq!(daemon.status().config_waiting, ["crash.record changed"]);

    fs::write(&file, slower.replace("[scan]", "[scan]\nperoid = 3")).unwrap();
    for verb in ["diff", "reload"] {
        let refused = daemon.camshaft(&[verb]);
        let said = text(&refused.stderr);
        assert!(
            !refused.status.success() && said.contains("camshaft.toml:2: scan.peroid"),
            "{said}"
        );
    }
    let status = text(&daemon.camshaft(&["status"]).stdout);
    assert!(status.contains("REFUSED") && status.contains("scan.peroid"), "{status}");
    assert!(status.contains("crash.record changed"), "{status}");
    // Put right again, it is found without a word to the daemon.
    fs::write(&file, &plain).unwrap();
    wait("the file is read again", LIMIT, || {
        let status = daemon.status();
        (status.config_refused.is_none() && status.period_us == 1000).then_some(())
    });
    assert!(daemon.status().config_waiting.is_empty());
    assert!(rate(&daemon) > 250, "its period is 1 ms again");
    daemon.wait_log("", &["reloaded: scan.period changed"]);
}

/// Looks for `new.out` once, in its `init`, and writes 5 there.
const SEEKER: &str = r#"(module
  (import "env" "wasm_point_find" (func $find (param i32 i32 i32) (result i32)))
  (import "env" "wasm_point_write_int" (func $set (param i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "new.out")
  (func (export "init") (drop (call $find (i32.const 0) (i32.const 7) (i32.const 16))))
  (func (export "poll") (drop (call $set (i32.load (i32.const 16)) (i32.const 5)))))"#;

#[test]
fn a_plugin_that_is_let_go_together_with_a_new_point_finds_it() {
    let plant = Plant::new(Keys::default());
    let file = plant.path("camshaft.toml");
    let plain = fs::read_to_string(&file).unwrap();
    let held =
        plain.replace("[[device]]", "[[plugin]]\nname = \"seeker\"\nhold = true\n\n[[device]]");
    // Its period is longer than what is done meanwhile.
    let held = held.replace("\"1ms\"", "\"200ms\"");
    fs::write(&file, &held).unwrap();
    let daemon = Daemon::on(plant);
    daemon.drop_in("seeker", &wat(SEEKER));
    wait("it is known", LIMIT, || daemon.plugin("seeker"));
    let point =
        r#"  { name = "new.out", direction = "out", type = "u8", address = 40, safe = 1 },"#;
    let free = held
        .replace("hold = true\n", "")
        .replace("  { name = \"evil.input\"", &format!("{point}\n  {{ name = \"evil.input\""));
    fs::write(&file, free).unwrap();
    let done = daemon.camshaft(&["reload"]);
    assert!(done.status.success(), "{}", text(&done.stderr));
    wait("it writes to the point", LIMIT, || {
        let points = block_on(daemon.client.points()).unwrap();
        let point = points.iter().find(|point| point.name == "new.out").unwrap();
        (point.value == Value::Int(5)).then_some(())
    });
}

/// Programs that had asked for it once knew a number that no point had, for ever.
#[test]
fn a_point_that_comes_back_is_the_one_that_programs_know() {
    let device = r#"
[[device]]
name = "annex"
driver = "sim"
point = [{ name = "new.out", direction = "out", type = "u8", safe = 1 }]
"#;
    let with = Keys { tables: device, ..Keys::default() };
    let daemon = Daemon::start(Keys { tables: device, ..Keys::default() });
    daemon.drop_in("seeker", &wat(SEEKER));
    let is_written = || {
        wait("it is written", LIMIT, || {
            let points = block_on(daemon.client.points()).unwrap();
            let point = points.into_iter().find(|point| point.name == "new.out")?;
            (point.value == Value::Int(5)).then_some(point.owner)
        })
    };
    is_written();
    daemon.configure(Keys::default());
    block_on(daemon.client.reload()).unwrap();
    let view = daemon.wait_for("seeker", "refused", |view| view.denied);
    daemon.configure(with);
    block_on(daemon.client.reload()).unwrap();
    assert_eq!(is_written().as_deref(), Some("seeker"));
    assert_eq!(daemon.plugin("seeker").unwrap().generation, view.generation);
}
