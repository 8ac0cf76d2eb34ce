//! Tests that the scan thread never writes to the log, not even for bad calls of a program.
//!
//! A write could wait for the process that reads the log, and the scan must never wait. The kernel
//! counts the write calls of each thread. The test compares this count before and after bad calls.

use std::fs;

use crate::daemon::{Daemon, Keys, LIMIT, wait};
use crate::rig::wat;

/// Each call has a pointer or a length that is wrong.
const BAD_POINTERS: &str = r#"(module
  (import "env" "wasm_log" (func $log (param i32 i32 i32 i32 i32 i32) (result i32)))
  (import "env" "wasm_read_input" (func $read (param i32 i32 i32) (result i32)))
  (import "env" "wasm_current_time" (func $time (param i32 i32) (result i32)))
  (import "env" "wasm_variable_read_int" (func $variable (param i32 i32 i32) (result i32)))
  (import "env" "wasm_point_find" (func $find (param i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $print (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "poll")
    (drop (call $log (i32.const 2) (i32.const 0) (i32.const 0) (i32.const 1)
      (i32.const -1) (i32.const 9)))
    (drop (call $log (i32.const 2) (i32.const 65530) (i32.const 7) (i32.const 1)
      (i32.const 0) (i32.const 1)))
    (drop (call $read (i32.const 0) (i32.const 65535) (i32.const 8)))
    (drop (call $read (i32.const 0) (i32.const -8) (i32.const 8)))
    (drop (call $time (i32.const 65536) (i32.const 0)))
    (drop (call $variable (i32.const 65536) (i32.const 1) (i32.const 0)))
    (drop (call $find (i32.const 0) (i32.const -1) (i32.const 0)))
    (drop (call $print (i32.const 1) (i32.const 65532) (i32.const 1) (i32.const 0)))))"#;

/// How often the thread of the scan has called the system to write.
fn writes(daemon: &Daemon) -> u64 {
    let tasks = format!("/proc/{}/task", daemon.pid());
    let scan = fs::read_dir(tasks).unwrap().map(|task| task.unwrap().path());
    let is_scan = |task: &std::path::PathBuf| {
        fs::read_to_string(task.join("comm")).is_ok_and(|name| name.trim() == "scan")
    };
    let io = scan.into_iter().find(is_scan).expect("there is a scan").join("io");
    let io = fs::read_to_string(io).unwrap();
    let count = io.lines().find_map(|line| line.strip_prefix("syscw: "));
    count.expect("the kernel counts them").parse().unwrap()
}

#[test]
fn bad_pointers_make_the_scan_write_nothing() {
    let daemon = Daemon::start(Keys::default());
    let hash = daemon.drop_in("bad", &wat(BAD_POINTERS));
    daemon.wait_running("bad", &hash);
    let before = writes(&daemon);
    let polls = || daemon.plugin("bad").map_or(0, |view| view.polls);
    let from = polls();
    wait("500 polls", LIMIT, || (polls() >= from + 500).then_some(()));
    assert_eq!(writes(&daemon), before, "the scan's thread has written");
}
