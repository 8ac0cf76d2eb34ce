//! Test of the time that one trap costs the scan: 1 ms at most.
//!
//! The limit must hold at any depth of the stack, and for any length of the names of the functions
//! on the stack. The backtrace of the trap contains these functions.

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use camshaft::plugin::Settings;
use camshaft::scan::Order;

use crate::rig::{Rig, compiled, points, wat};

/// What a trap may cost, twice over: other programs run beside this test.
const MOST: Duration = Duration::from_millis(2);

/// What the memory of this process may grow by, for one trap after another.
const MOST_KIB: u64 = 32 << 10;

/// Instances that trap.
const TRAPS: usize = 21;

/// Set in the child, whose memory is its own.
const CHILD: &str = "CAMSHAFT_DEEP_TRAP";

/// Recurses in its second poll, 15 000 calls deep, and traps there.
fn module(name_bytes: usize) -> Vec<u8> {
    let name = "n".repeat(name_bytes);
    wat(&format!(
        r#"(module $m{name} (memory (export "memory") 1) (global $polls (mut i32) (i32.const 0))
  (func ${name} (param i32) (result i32)
    (if (i32.eqz (local.get 0)) (then unreachable))
    (i32.add (call ${name} (i32.sub (local.get 0) (i32.const 1))) (i32.const 1)))
  (func (export "poll")
    (global.set $polls (i32.add (global.get $polls) (i32.const 1)))
    (if (i32.gt_u (global.get $polls) (i32.const 1))
      (then (drop (call ${name} (i32.const 15000)))))))"#
    ))
}

/// A figure of this process, in KiB.
fn status(key: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(key)).expect("the kernel has it");
    line.split_whitespace().nth(1).expect("a number").parse().unwrap()
}

/// How long the cycle of such a trap takes, in the middle, and how far the memory grew.
fn cost(rig: &mut Rig, name_bytes: usize) -> Option<(Duration, u64)> {
    let module = match compiled(&module(name_bytes), rig.limits) {
        Ok(module) => module,
        Err(refusal) => {
            // That is as good, if it says which name.
            assert!(refusal.reason.contains("name"), "{refusal}");
            return None;
        }
    };
    // Back to what it is now.
    fs::write("/proc/self/clear_refs", "5").unwrap();
    let before = status("VmHWM");
    let mut times = Vec::new();
    for _ in 0..TRAPS {
        let ample = Settings { poll_budget: Duration::from_secs(2), ..Settings::default() };
        let prepared = rig.instance("deep", 0, &module, ample).result.unwrap();
        rig.order(Order::Install(Box::new(prepared)));
        rig.step();
        let started = Instant::now();
        rig.step();
        times.push(started.elapsed());
        let news = rig.handle.latest.read();
        let trap = news.programs[0].trap.as_ref().expect("it has trapped");
        // A small stack is another way to keep the promise.
        assert!(["unreachable", "stack overflow"].contains(&&*trap.kind), "{trap}");
        rig.programs_returned();
    }
    times.sort_unstable();
    Some((times[TRAPS / 2], status("VmHWM").saturating_sub(before)))
}

#[test]
fn a_trap_costs_a_millisecond_at_any_depth() {
    if std::env::var_os(CHILD).is_some() {
        let mut rig = Rig::new(points(), Vec::new());
        for name_bytes in [1, 256, 20_000, 70_000] {
            let (time, kib) = cost(&mut rig, name_bytes).unwrap_or_default();
            println!("\nnames of {name_bytes} bytes: p50 {time:?}, memory {kib} KiB");
            assert!(time <= MOST, "names of {name_bytes} bytes: {time:?}, at most {MOST:?}");
            assert!(kib <= MOST_KIB, "names of {name_bytes} bytes: {kib} KiB, at most {MOST_KIB}");
        }
        return;
    }
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "sandbox::deep_trap::a_trap_costs_a_millisecond_at_any_depth"])
        .args(["--nocapture", "--test-threads=1"])
        .env(CHILD, "1")
        .output()
        .unwrap();
    let words = String::from_utf8_lossy(&[child.stdout, child.stderr].concat()).into_owned();
    println!("{words}");
    assert!(child.status.success() && words.contains("names of 70000 bytes"), "{words}");
}
