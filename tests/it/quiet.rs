//! The scan allocates nothing in a cycle without a swap or a trap, whatever the guests do.

use camshaft::plugin::Settings;

use crate::rig::{COUNTER, Rig, points};

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
        let info = allocation_counter::measure(|| rig.step());
        assert_eq!(info.count_total, 0, "cycle {n} allocated {} bytes", info.bytes_total);
        while rig.log.pop().is_ok() {
            lines += 1;
        }
    }
    assert!(lines > 300, "the guests logged {lines} lines only");
    let news = rig.cycle();
    assert!(news.programs.iter().all(|fact| fact.trap.is_none()), "{:?}", news.programs);
    assert!(news.variables.len() > 100, "{} variables", news.variables.len());
}
