//! The scan with real modules and simulated time.

use std::time::{Duration, Instant};

use camshaft::image::Value;
use camshaft::plugin::{Settings, world::Seat};
use camshaft::scan::Order;

use crate::rig::{COUNTER, Rig, points};

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
            (func $deep (param i32) (call $deep (local.get 0)))
            (func (export "poll")
              (f64.store (i32.const 0) (f64.const 99))
              (drop (call $write (i32.const 0) (i32.const 0) (i32.const 8)))
              {body}))"#
        );
        let budget = Duration::from_millis(2);
        let started = Instant::now();
        let news = rig.install("runaway", n as u16, &text, settings(budget));
        let trap = news.programs.last().and_then(|fact| fact.trap.clone()).expect("a trap");
        let body = &body[..body.len().min(60)];
        println!("{body}: {trap} after {:?}", started.elapsed());
        let expected =
            if n == bodies.len() - 1 { "stack overflow" } else { "budget of 2ms exceeded" };
        assert_eq!(trap.kind, expected, "{body}");
        assert_eq!(rig.value(&news, "out.valve"), Value::Real(7.5), "{body}");
    }
}
