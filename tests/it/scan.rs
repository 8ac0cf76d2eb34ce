//! Tests of the scan with real modules and simulated time, through the interface that the daemon
//! uses.
//!
//! They test polling, the stop of endless polls, settings, variables and safe outputs. Swaps and
//! rollbacks are tested in `swap.rs`, points and devices that change in `field.rs`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use camshaft::clock::SimClock;
use camshaft::config;
use camshaft::driver::export::exports;
use camshaft::driver::{self, Command, Driver, Fault};
use camshaft::plugin::Settings;
use camshaft::process::image::{Inputs, Value};
use camshaft::process::seat::Seat;
use camshaft::process::variable::Variable;
use camshaft::scan::{MAX_ORDERS, Order, Return, thread};

use crate::rig::{COUNTER, PERIOD, Rig, configure, points, wat};

fn settings(budget: Duration) -> Settings {
    Settings { poll_budget: budget, ..Settings::default() }
}

#[test]
fn a_program_is_polled_once_a_cycle_and_leaves_safe_outputs() {
    let mut rig = Rig::new(points(), Vec::new());
    rig.install("counter", 0, COUNTER, Settings::default());
    assert_eq!(rig.samples_taken(), 1, "a time for each poll");
    for n in 2..10 {
        let news = rig.cycle();
        assert_eq!(rig.value(&news, "out.count"), Value::Int(n));
    }
    rig.order(Order::Remove(Seat(0)));
    let news = rig.cycle();
    assert_eq!(rig.value(&news, "out.count"), Value::Int(0));
    assert_eq!(rig.programs_returned(), 1);
}

#[test]
fn an_endless_loop_is_stopped_and_its_outputs_are_safe_in_the_same_cycle() {
    // A long row of host calls, each of them short, without any loop.
    let row = "(drop (call $random (i32.const 0) (i32.const 65536)))".repeat(2000);
    let bodies = [
        "(loop (br 0))",
        "(loop (loop (br 0)))",
        "(loop (loop (br 1)))",
        // One after the other: only the last never ends.
        "(loop) (loop) (loop (br 0))",
        "(loop (br_if 0 (i32.lt_u (global.get $n) (call $next)))) (loop (br 0))",
        "(if (i32.eqz (global.get $n)) (then (loop (br 0))))",
        "(loop $l (if (i32.eqz (call $next)) (then (br $l)) (else (loop (br $l)))))",
        "(loop (global.set $n (i32.add (global.get $n) (i32.const 1))) (br 0))",
        &row,
        "(loop (memory.fill (i32.const 0) (i32.const 1) (i32.const 1048576)) (br 0))",
        "(loop (memory.copy (i32.const 0) (i32.const 65536) (i32.const 917504)) (br 0))",
        "(loop (drop (call $write (i32.const 12) (i32.const 16) (i32.const 4))) (br 0))",
        "(call $deep (i32.const 1000000000))",
    ];
    let mut rig = Rig::new(points(), Vec::new());
    for (n, body) in bodies.iter().enumerate() {
        let text = format!(
            r#"(module
            (import "env" "wasm_write_output" (func $write (param i32 i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "random_get" (func $random (param i32 i32) (result i32)))
            (memory (export "memory") 16)
            (global $n (mut i32) (i32.const 0))
            (func $next (result i32) (global.get $n))
            (func $deep (param i32) (call $deep (local.get 0)))
            (func (export "poll")
              (f64.store (i32.const 0) (f64.const 99))
              (drop (call $write (i32.const 0) (i32.const 0) (i32.const 8)))
              {body}))"#
        );
        // The stack is new memory, which a busy machine may be slow to give.
        let is_deep = n == bodies.len() - 1;
        let budget = Duration::from_millis(if is_deep { 1000 } else { 2 });
        let started = Instant::now();
        let news = rig.install("runaway", n as u16, &text, settings(budget));
        let trap = news.programs.last().and_then(|fact| fact.trap.clone()).expect("a trap");
        let body = &body[..body.len().min(60)];
        println!("{body}: {trap} after {:?}", started.elapsed());
        let expected = if is_deep { "stack overflow" } else { "budget of 2ms exceeded" };
        assert_eq!(trap.kind, expected, "{body}");
        assert_eq!(rig.value(&news, "out.valve"), Value::Real(7.5), "{body}");
    }
}

/// A storm of reloads once put sixteen of them into one cycle.
#[test]
fn one_program_a_cycle_gets_new_settings() {
    let mut rig = Rig::new(points(), Vec::new());
    rig.install("counter", 0, COUNTER, Settings::default());
    for _ in 0..5 {
        rig.order(configure(Seat(0), Settings::default()));
    }
    for left in (0..5).rev() {
        rig.step();
        assert_eq!(rig.handle.orders.slots(), MAX_ORDERS - left);
    }
}

#[test]
fn variables_are_set_all_or_none_and_their_names_come_back() {
    let mut rig = Rig::new(points(), Vec::new());
    let (int, real) = (Variable::Int(7), Variable::Double(0.5));
    let good = vec![("a".to_string(), int), ("b".to_string(), real)];
    let bad = vec![("c".to_string(), int), ("a".to_string(), real)];
    let full = vec![("d".to_string(), int), (String::new(), int)];
    for (ticket, values) in (1..).zip([&good, &bad, &full]) {
        rig.order(Order::SetVariables { ticket, values: values.clone() });
    }
    rig.step();
    assert_eq!(rig.handle.orders.slots(), MAX_ORDERS - 2, "one a cycle");
    rig.step();
    let news = rig.cycle();
    assert_eq!(news.variables.iter().collect::<Vec<_>>(), [("a", int), ("b", real)]);
    let expected = [
        (1, good, 1, Ok(())),
        (2, bad, 2, Err("the value and the variable have different types")),
        (3, full, 3, Err("there are too many variables, or the name is empty or too long")),
    ];
    for expected in expected {
        match rig.handle.returns.pop() {
            Ok(Return::VariablesSet { ticket, values, cycle, result }) => {
                assert_eq!((ticket, values, cycle, result), expected);
            }
            other => panic!("{other:?} instead of {expected:?}"),
        }
    }
}

#[test]
fn outputs_are_safe_until_the_first_poll_of_their_owner_has_returned() {
    let mut rig = Rig::new(points(), Vec::new());
    // Safe as `points` has it, and 0 where safe means hold: nothing was there before.
    let is_safe = |rig: &Rig, news: &camshaft::scan::Snapshot| {
        assert_eq!(rig.value(news, "out.valve"), Value::Real(7.5));
        assert_eq!(rig.value(news, "out.motor"), Value::Bool(false));
        assert_eq!(rig.value(news, "out.count"), Value::Int(0));
        assert!(news.owners.iter().all(Option::is_none), "{:?}", news.owners);
    };
    let writes = |more: &str| {
        format!(
            r#"(module
            (import "env" "wasm_write_output" (func $write (param i32 i32 i32) (result i32)))
            (memory (export "memory") 1)
            (func $all (f64.store (i32.const 0) (f64.const 99)) (i32.store (i32.const 12) (i32.const 3))
              (i32.store8 (i32.const 8) (i32.const 3))
              (drop (call $write (i32.const 0) (i32.const 0) (i32.const 16))))
            (func (export "init") (call $all))
            (func (export "poll") (call $all) {more}))"#
        )
    };
    for _ in 0..3 {
        let news = rig.cycle();
        is_safe(&rig, &news);
    }
    // It sits there, its `init` has tried to write, and its turn has not come.
    let rare = Settings { every: 20, ..Settings::default() };
    let mut news = rig.install("rare", 0, &writes(""), rare);
    while news.programs[0].polls == 0 {
        assert!(news.cycle < 20, "it is polled in cycle 20");
        is_safe(&rig, &news);
        news = rig.cycle();
    }
    assert_eq!(rig.value(&news, "out.valve"), Value::Real(99.0));

    let mut rig = Rig::new(points(), Vec::new());
    let news = rig.install("unable", 0, &writes("unreachable"), Settings::default());
    assert!(news.programs[0].trap.is_some());
    is_safe(&rig, &news);
}

/// Ends the scan after so many cycles, which must be exactly a period apart.
struct Last {
    cycles: u32,
    ended: Arc<AtomicBool>,
    read: Vec<Duration>,
}

impl Driver for Last {
    fn read(&mut self, now: Duration, _: &mut Inputs) -> Result<(), Fault> {
        if let Some(before) = self.read.last() {
            assert_eq!(now - *before, PERIOD, "cycle {}", self.read.len());
        }
        self.read.push(now);
        self.ended.store(self.read.len() >= self.cycles as usize, Ordering::Relaxed);
        Ok(())
    }

    fn write(&mut self, _: Duration, _: &[u8]) -> Result<(), Fault> {
        Ok(())
    }

    fn command(&mut self, _: Duration, _: &Command) -> Result<(), &'static str> {
        Err("it takes no commands")
    }

    fn is_confirmed(&self) -> bool {
        true
    }
}

#[test]
fn the_scan_runs_on_a_simulated_clock_as_fast_as_it_can() {
    const CYCLES: u32 = 20_000;
    let ended = Arc::new(AtomicBool::new(false));
    let last = Last { cycles: CYCLES, ended: Arc::clone(&ended), read: Vec::new() };
    let mut rig = Rig::new(points(), vec![Box::new(last)]);
    let prepared = rig.prepare("counter", 0, &wat(COUNTER), Settings::default()).unwrap();
    rig.order(Order::Install(Box::new(prepared)));
    let started = Instant::now();
    thread::run(&mut rig.scan, PERIOD, &SimClock::default(), &ended);
    let passed = started.elapsed();
    println!("{CYCLES} cycles of {PERIOD:?} in {passed:?}");
    let news = rig.handle.latest.read().clone();
    assert_eq!((news.cycle, news.overruns), (CYCLES.into(), 0));
    assert_eq!(news.now, PERIOD * (CYCLES - 1));
    assert_eq!(rig.value(&news, "out.count"), Value::Int(CYCLES.into()));
}

/// The process ended before the threads of its devices had written anything.
#[test]
fn a_scan_that_fails_waits_until_its_devices_are_safe() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("count");
    std::fs::write(&file, "9\n").unwrap();
    let device = format!(
        "[[device]]\nname = \"d\"\ndriver = \"file\"\nperiod = \"1m\"\n\
         point = [{{ name = \"out.count\", direction = \"out\", type = \"u32\", safe = 77, \
         at = {{ path = {file:?} }} }}]"
    );
    let config = config::parse(&device, folder.path()).unwrap();
    let (_, exports) = exports();
    let device = &config.live.devices[0].driver;
    let driver = driver::open(device, &config.live.points, 0, &exports).unwrap();
    let mut rig = Rig::new(Arc::clone(&config.live.points), vec![driver]);
    let text = COUNTER.replace("(i32.const 12)", "(i32.const 0)");
    rig.install("counter", 0, &text, Settings::default());
    let is_written = |value: &str| std::fs::read_to_string(&file).is_ok_and(|text| text == value);
    let started = Instant::now();
    while !is_written("1\n") {
        assert!(started.elapsed() < Duration::from_secs(20), "the device has its first output");
        std::thread::sleep(Duration::from_millis(1));
    }
    while !rig.scan.abandon(rig.now) {
        assert!(started.elapsed() < Duration::from_secs(20), "the device is never safe");
        std::thread::sleep(Duration::from_millis(1));
    }
    assert!(is_written("77\n"), "it says so, and is not");
}
