//! The witness: a well-behaved program that runs beside the disturbances of a test.
//!
//! The witness sees from inside the scan what an outside observer cannot see: whether it was polled
//! in every cycle, and whether a failed program left a value in an output. The machine also has
//! other work, so a cycle can be missed without a defect. The tests therefore compare the number of
//! missed cycles with a time without a disturbance.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use camshaft::control::PluginState;
use camshaft::process::image::Value;

use super::{Daemon, LIMIT, wait};
use crate::rig::block_on;

/// A run that is disturbed by other work is tried again so often.
const ATTEMPTS: u32 = 5;

/// Cycles of a thousand that a busy machine may take from a scan with real-time priority, and from
/// one that has to share its CPU with the rest of the daemon and with the test.
const SLACK: [u64; 2] = [1, 50];

/// Most cycles of a thousand that were missed in any interval in which nothing was done: what this
/// machine does to a daemon that is left alone. It comes in bursts, so one interval tells little.
static WORST: AtomicU64 = AtomicU64::new(0);

/// Cycles and what became of them in some time.
#[derive(Debug, Clone, Copy)]
struct Figures {
    time: Duration,
    cycles: u64,
    overruns: u64,
    missed: u64,
    /// CPU time that the host of a virtual machine gave to other machines.
    stolen: Duration,
}

/// Runs `work` and asserts that the scan went on: the witness is the same instance, and was polled
/// in every single cycle.
pub fn through<T>(daemon: &Daemon, what: &str, work: impl FnOnce() -> T) -> T {
    let (figures, result) = observed(daemon, what, work);
    println!("{what}: {figures}, {:?}", daemon.usage());
    result
}

/// The same, and asserts that no more cycles are missed than when nothing is done, by as many attempts
/// as it takes. Time that the host took from the machine is no fault of the daemon's. `work` gets the
/// number of the attempt.
pub fn beside_the_witness(daemon: &Daemon, what: &str, mut work: impl FnMut(u32)) {
    let mut disturbed = Vec::new();
    let is_real_time = !daemon.log().iter().any(|line| line.message.contains("scan.priority"));
    let slack = SLACK[usize::from(!is_real_time)];
    for attempt in 1..=ATTEMPTS {
        let (with, ()) = observed(daemon, what, || work(attempt));
        let (without, ()) = observed(daemon, what, || {
            let end = Instant::now() + with.time;
            wait("the control interval", LIMIT * 4, || (Instant::now() >= end).then_some(()));
        });
        let usage = daemon.usage();
        println!("{what}, attempt {attempt}: {with}; without it {without}; {usage:?}");
        let worst = without.missed * 1000 / without.cycles;
        let allowed = slack + worst.max(WORST.fetch_max(worst, Ordering::Relaxed));
        // A cycle takes 1 ms, so the host can have taken one for each stolen millisecond. What it
        // stole without the work as well is in `worst` already.
        let stolen = with.stolen.saturating_sub(without.stolen).as_millis();
        let stolen = u64::try_from(stolen).expect("it is short");
        if with.missed <= 2 + with.cycles * allowed / 1000 + stolen {
            return;
        }
        disturbed.push(format!("{with}; without it {without}"));
    }
    panic!("{what}: cycles were missed in every attempt: {disturbed:#?}");
}

fn observed<T>(daemon: &Daemon, what: &str, work: impl FnOnce() -> T) -> (Figures, T) {
    let generation = daemon.plugin("witness").expect("it runs").generation;
    let (started, stolen) = (Instant::now(), stolen());
    let before = daemon.status();
    let result = work();
    let after = daemon.status();
    let stolen = self::stolen() - stolen;
    unharmed(daemon);
    let figures = Figures {
        time: started.elapsed(),
        cycles: after.cycle - before.cycle,
        overruns: after.overruns - before.overruns,
        missed: after.missed - before.missed,
        stolen,
    };
    assert!(figures.cycles > 0, "{what}: the cycle count moves");
    assert_eq!(daemon.plugin("witness").expect("it runs").generation, generation, "{what}");
    (figures, result)
}

/// The CPU time that the host has taken from this machine since it was started (`steal` in
/// proc_stat(5), in hundredths of a second).
fn stolen() -> Duration {
    let stat = std::fs::read_to_string("/proc/stat").expect("it is mounted");
    let ticks = stat.lines().next().and_then(|all| all.split_whitespace().nth(8));
    Duration::from_millis(10 * ticks.and_then(|ticks| ticks.parse().ok()).unwrap_or(0))
}

/// Asserts that the present witness was polled in every cycle since it took its seat.
pub fn unharmed(daemon: &Daemon) {
    let status = daemon.status();
    let view = status.plugins.iter().find(|view| view.name == "witness").expect("it runs");
    assert_eq!(status.pid, daemon.pid());
    let is_sound = view.traps == 0 && view.state == PluginState::Running && view.reason.is_none();
    assert!(is_sound, "{view:#?}\n{}", daemon.log_text());
    assert_eq!(view.polls, status.cycle - view.since_cycle + 1, "a poll for every cycle");
    let seen = daemon.witness();
    assert_eq!(seen.gaps, 0, "{seen:?}");
}

impl std::fmt::Display for Figures {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { time, cycles, overruns, missed, stolen } = self;
        write!(f, "{cycles} cycles in {time:.1?}, {overruns} overruns, {missed} missed")?;
        write!(f, ", {stolen:?} stolen by the host")
    }
}

impl Daemon {
    /// What the witness saw so far, in one snapshot.
    pub fn witness(&self) -> Testimony {
        let points = block_on(self.client.points()).expect("the daemon answers");
        let of = |name: &str| {
            let point = points.iter().find(|point| point.name == name).expect("it is configured");
            match point.value {
                Value::Int(number) => u64::try_from(number).expect("it is unsigned"),
                other => panic!("{name} is {other:?}"),
            }
        };
        Testimony {
            polls: of("witness.polls"),
            gaps: of("witness.gaps"),
            broken: of("witness.broken"),
            marks: of("witness.marks"),
            stale: of("witness.stale"),
            mark: of("evil.mark"),
        }
    }
}

/// What the witness saw.
#[derive(Debug, Clone, Copy)]
pub struct Testimony {
    /// Its polls.
    pub polls: u64,
    /// Times that it was not polled in the cycle after the last one.
    pub gaps: u64,
    /// Cycles that left 100 or more in `evil.mark`, which only a trapped poll ever writes.
    pub broken: u64,
    /// Cycles that left 99 there.
    pub marks: u64,
    /// Cycles that did not leave their own number in `evil.cycle`.
    pub stale: u64,
    /// What is in `evil.mark` now.
    pub mark: u64,
}

/// The well-behaved program. It is polled first, and sees what the cycle before has left.
pub const WITNESS: &str = r#"(module
  (import "env" "wasm_cycle" (func $cycle (param i32 i32) (result i32)))
  (import "env" "wasm_read_output" (func $read (param i32 i32 i32) (result i32)))
  (import "env" "wasm_write_output" (func $write (param i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func $count (param $at i32) (param $if i32)
    (i32.store (local.get $at) (i32.add (i32.load (local.get $at)) (local.get $if))))
  (func (export "poll") (local $last i32)
    (local.set $last (i32.load (i32.const 4)))
    (drop (call $cycle (i32.const 64) (i32.const 72)))
    (drop (call $read (i32.const 24) (i32.const 80) (i32.const 8)))
    (call $count (i32.const 0) (i32.const 1))
    (i32.store (i32.const 4) (i32.load (i32.const 64)))
    (call $count (i32.const 8)
      (i32.and (i32.ne (local.get $last) (i32.const 0))
        (i32.ne (i32.add (local.get $last) (i32.const 1)) (i32.load (i32.const 64)))))
    (call $count (i32.const 12) (i32.ge_u (i32.load (i32.const 80)) (i32.const 100)))
    (call $count (i32.const 16) (i32.eq (i32.load (i32.const 80)) (i32.const 99)))
    (call $count (i32.const 20)
      (i32.ne (i32.load (i32.const 84)) (i32.sub (i32.load (i32.const 64)) (i32.const 1))))
    (drop (call $write (i32.const 0) (i32.const 0) (i32.const 24)))))"#;

/// `evil.mark` when nobody good owns it.
pub const SAFE_MARK: u64 = 7;
