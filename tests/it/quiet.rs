//! Tests that a cycle allocates no memory, except in the cases that invariant 1 of `src/lib.rs`
//! names.
//!
//! The tests count the allocations of each cycle while programs use all host functions and while
//! devices fail. A cycle with a swap or a trap may allocate, but the next cycle may not.

use std::sync::Arc;
use std::time::Duration;

use camshaft::config;
use camshaft::driver::{self, Command, Injection, sim};
use camshaft::plugin::Settings;
use camshaft::process::line::Message;
use camshaft::process::overlay::Force;
use camshaft::process::variable::Variable;
use camshaft::scan::Order;

use crate::rig::{COUNTER, Rig, points};
use crate::simulation::plant;

/// So many cycles, each of which must not allocate.
fn assert_quiet(rig: &mut Rig, cycles: u64, when: &str) {
    for n in 0..cycles {
        let info = allocation_counter::measure(|| rig.step());
        assert_eq!(info.count_total, 0, "{when}: cycle {n} allocated {} bytes", info.bytes_total);
    }
}

/// Uses every sort of host function: log, print, random, time, variables, points, images, state.
const BUSY: &str = r#"(module
  (import "env" "wasm_log" (func $log (param i32 i32 i32 i32 i32 i32) (result i32)))
  (import "env" "wasm_read_input" (func $read (param i32 i32 i32) (result i32)))
  (import "env" "wasm_read_output" (func $back (param i32 i32 i32) (result i32)))
  (import "env" "wasm_current_time" (func $time (param i32 i32) (result i32)))
  (import "env" "wasm_cycle" (func $cycle (param i32 i32) (result i32)))
  (import "env" "wasm_variable_write_int" (func $write (param i32 i32 i32) (result i32)))
  (import "env" "wasm_variable_read_int" (func $var (param i32 i32 i32) (result i32)))
  (import "env" "wasm_point_find" (func $find (param i32 i32 i32) (result i32)))
  (import "env" "wasm_point_write_double" (func $set (param i32 f64) (result i32)))
  (import "env" "wasm_point_read_double" (func $get (param i32 i32 i32) (result i32)))
  (import "env" "wasm_state_write" (func $state (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $print (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_close" (func $close (param i32) (result i32)))
  (import "wasi_snapshot_preview1" "random_get" (func $random (param i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 100) "hello\0aworld out.valve name0")
  (data (i32.const 200) "\64\00\00\00\0c\00\00\00")
  (global $n (mut i32) (i32.const 0))
  (func (export "poll")
    (drop (call $log (i32.const 2) (i32.const 100) (i32.const 5) (i32.const 1)
                     (i32.const 100) (i32.const 11)))
    (drop (call $read (i32.const 0) (i32.const 300) (i32.const 16)))
    (drop (call $back (i32.const 0) (i32.const 300) (i32.const 16)))
    (drop (call $time (i32.const 320) (i32.const 328)))
    (drop (call $cycle (i32.const 320) (i32.const 328)))
    ;; A new variable every poll: 256 names.
    (global.set $n (i32.add (global.get $n) (i32.const 1)))
    (i32.store8 (i32.const 126) (global.get $n))
    (drop (call $write (i32.const 122) (i32.const 5) (global.get $n)))
    (drop (call $var (i32.const 122) (i32.const 5) (i32.const 340)))
    (drop (call $find (i32.const 112) (i32.const 9) (i32.const 344)))
    (drop (call $find (i32.const 100) (i32.const 5) (i32.const 348)))
    (drop (call $set (i32.load (i32.const 344)) (f64.const 3)))
    (drop (call $get (i32.const 0) (i32.const 352) (i32.const 360)))
    (drop (call $state (i32.const 0) (i32.const 8)))
    (drop (call $print (i32.const 1) (i32.const 200) (i32.const 1) (i32.const 364)))
    (drop (call $close (i32.const 3)))
    (drop (call $random (i32.const 368) (i32.const 64)))))"#;

#[test]
fn a_cycle_without_a_swap_allocates_nothing() {
    let mut rig = Rig::new(points(), Vec::new());
    for (seat, text) in [COUNTER, BUSY].into_iter().enumerate() {
        rig.install(&format!("p{seat}"), seat as u16, text, Settings::default());
    }
    rig.programs_returned();
    // The first call on a thread makes the guest's stack.
    rig.step();
    let mut lines = 0;
    for n in 0..500 {
        assert_quiet(&mut rig, 1, &format!("busy guests, {n}"));
        while rig.log.pop().is_ok() {
            lines += 1;
        }
    }
    assert!(lines > 300, "the guests logged {lines} lines only");
    let news = rig.cycle();
    assert!(news.programs.iter().all(|fact| fact.trap.is_none()), "{:?}", news.programs);
    assert!(news.variables.len() > 100, "{} variables", news.variables.len());
}

#[test]
fn setting_variables_allocates_and_frees_nothing() {
    let mut rig = Rig::new(points(), Vec::new());
    rig.install("counter", 0, COUNTER, Settings::default());
    rig.programs_returned();
    rig.step();
    for n in 0..50 {
        let values = (0..n).map(|n| (format!("v{n}"), Variable::Int(n))).collect();
        rig.order(Order::SetVariables { ticket: n as u64, values });
        // Refused, because v0 is an int (but in the first round): what was written before is
        // undone.
        let values =
            vec![(format!("w{n}"), Variable::Int(n)), ("v0".into(), Variable::Double(0.5))];
        rig.order(Order::SetVariables { ticket: 0, values });
        assert_quiet(&mut rig, 2, "variables are set");
        rig.programs_returned();
    }
}

#[test]
fn simulated_devices_allocate_nothing_however_they_fail() {
    let tank = sim::Config {
        tank: vec![sim::Tank {
            level: "in.level".into(),
            inflow: "out.valve".into(),
            drain_percent_per_s: 1.0,
            inflow_percent_per_s: 2.0,
            initial: 50.0,
        }],
        loopback: vec![sim::Loopback { from: "out.motor".into(), to: "in.button".into() }],
        ..sim::Config::default()
    };
    let tank_points = points();
    let tank = driver::open(
        &driver::Config::Sim(Box::new(tank)),
        &tank_points,
        0,
        &driver::export::exports().1,
    )
    .unwrap();
    let plant_points = plant::points();
    let plant = plant::devices(&plant_points);
    for (points, devices) in [(tank_points, vec![tank]), (plant_points, plant)] {
        let count = devices.len();
        let mut rig = Rig::new(Arc::clone(&points), devices);
        rig.install("counter", 0, COUNTER, Settings::default());
        rig.step();
        for command in failures() {
            for device in 0..count {
                let command = command.clone();
                rig.order(Order::Command { ticket: 0, device, command });
            }
            // The cycles that obey are among them, and all that was late arrives.
            assert_quiet(&mut rig, 100, &format!("{command:?}"));
            let fault = rig.handle.latest.read().devices[0].fault;
            let is_lost = command == Command::Inject(Injection::Disconnect);
            assert_eq!(fault.is_some(), is_lost, "{command:?} was obeyed");
            rig.programs_returned();
        }
    }
}

/// Writes another number to `led` and `pump` in every poll.
const RESTLESS: &str = r#"(module
  (import "env" "wasm_write_output" (func $write (param i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "poll")
    (i32.store (i32.const 0) (i32.add (i32.load (i32.const 0)) (i32.const 1)))
    (drop (call $write (i32.const 0) (i32.const 0) (i32.const 4)))))"#;

#[test]
fn forces_substitutes_and_devices_with_a_thread_allocate_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| format!("{:?}", folder.path().join(name));
    let toml = format!(
        r#"
        [[device]]
        name = "board"
        driver = "file"
        period = "1ms"
        point = [
          {{ name = "temp", direction = "in", type = "i32", on_bad = 7, at = {{ path = {} }} }},
          {{ name = "door", direction = "in", type = "bool", at = {{ path = {} }} }},
          {{ name = "led", direction = "out", type = "u16", safe = 0, at = {{ path = {} }} }},
          {{ name = "pump", direction = "out", type = "u16", safe = 0, hold_for = "55ms",
             at = {{ path = {} }} }},
        ]"#,
        path("temp"),
        path("door"),
        path("led"),
        path("pump")
    );
    let config = config::parse(&toml, std::path::Path::new("/quiet.toml")).unwrap();
    let (points, exports) = (config.live.points, driver::export::exports().1);
    let driver = driver::open(&config.live.devices[0].driver, &points, 0, &exports).unwrap();
    let mut rig = Rig::new(Arc::clone(&points), vec![driver]);
    let id = |name| points.find(name).unwrap();
    let requires = vec![id("door")];
    rig.install("restless", 0, RESTLESS, Settings { requires, ..Settings::default() });
    rig.step();
    for (ticket, name) in (0..).zip(["temp", "door", "led", "pump"]) {
        let until = Some(rig.now + Duration::from_millis(200 + 100 * ticket));
        let force = Force { point: id(name), raw: [1; 8], until };
        rig.order(Order::Force { ticket, force });
    }
    // They come, and end one after the other; the files come meanwhile.
    assert_quiet(&mut rig, 10, "forced");
    assert!(!rig.cycle().programs[0].degraded, "the door is forced, which is good enough");
    ["temp", "door", "led", "pump"]
        .iter()
        .for_each(|n| std::fs::write(folder.path().join(n), "1").unwrap());
    assert_quiet(&mut rig, 100, "the forces end");
    assert_eq!(rig.cycle().forces.len(), 0);
    std::fs::remove_file(folder.path().join("door")).unwrap();
    for _ in 0..2000 {
        assert_quiet(&mut rig, 1, "the door is gone");
        std::thread::sleep(Duration::from_millis(1));
        if rig.handle.latest.read().programs[0].degraded {
            return assert_quiet(&mut rig, 100, "degraded");
        }
    }
    panic!("the program requires the door");
}

/// Every kind of failure, and none, one after the other.
fn failures() -> Vec<Command> {
    let slow = |ms| Command::Inject(Injection::Slow { delay: Duration::from_millis(ms) });
    vec![
        Command::Inject(Injection::Disconnect),
        Command::Inject(Injection::Freeze),
        slow(0),
        slow(25),
        slow(400),
        Command::Inject(Injection::Garbage { seed: 7 }),
        Command::Clear,
    ]
}

/// Traps in its tenth poll.
const MORTAL: &str = r#"(module
  (global $n (mut i32) (i32.const 0))
  (func (export "poll")
    (global.set $n (i32.add (global.get $n) (i32.const 1)))
    (if (i32.eq (global.get $n) (i32.const 10)) (then unreachable))))"#;

#[test]
fn a_trap_may_allocate_and_the_next_cycle_may_not() {
    let mut rig = Rig::new(points(), Vec::new());
    rig.install("counter", 0, COUNTER, Settings::default());
    rig.install("mortal", 1, MORTAL, Settings::default());
    assert_quiet(&mut rig, 8, "before the trap");
    let news = rig.cycle();
    assert_eq!(news.programs.iter().filter(|fact| fact.trap.is_some()).count(), 1);
    // The news still tells of it, in each of the buffers.
    assert_quiet(&mut rig, 100, "after the trap");
    // The same seat again: what was told about the trap goes.
    rig.install("mortal", 1, MORTAL, Settings::default());
    assert_quiet(&mut rig, 8, "after the restart");
}

/// Logs five lines and prints one in each poll.
const TALKER: &str = r#"(module
  (import "env" "wasm_log" (func $log (param i32 i32 i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $print (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 100) "hello\0aworld\0a")
  (data (i32.const 200) "\64\00\00\00\0c\00\00\00")
  (func (export "poll")
    (local $n i32)
    (loop $next
      (drop (call $log (i32.const 2) (i32.const 100) (i32.const 5) (i32.const 1)
                       (i32.const 100) (i32.const 5)))
      (local.set $n (i32.add (local.get $n) (i32.const 1)))
      (br_if $next (i32.lt_u (local.get $n) (i32.const 5))))
    (drop (call $print (i32.const 1) (i32.const 200) (i32.const 1) (i32.const 300)))))"#;

#[test]
fn lines_over_the_limit_and_lines_that_nobody_takes_allocate_nothing() {
    let mut rig = Rig::new(points(), Vec::new());
    rig.install("talker", 0, TALKER, Settings::default());
    rig.step();
    // Seven lines a cycle at 100 cycles a second, of which 100 lines a second may pass.
    let (mut said, mut dropped) = (0, 0);
    for _ in 0..500 {
        assert_quiet(&mut rig, 1, "over the limit");
        while let Ok(line) = rig.log.pop() {
            match line.message {
                Message::Dropped(lines) => dropped += lines,
                _ => said += 1,
            }
        }
    }
    assert!((500..700).contains(&said) && dropped > 2_500, "{said} said, {dropped} dropped");
    // Nobody takes them: the queue fills up, and the rest is lost and counted.
    assert_quiet(&mut rig, 500, "the queue is full");
    assert!(rig.cycle().lines_lost > 100);
}
