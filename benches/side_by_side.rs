//! Measurements in pairs: `cargo bench`. A noisy machine disturbs both sides of a pair equally.
//!
//! Each output line names what is measured, both times and their ratio:
//! - a poll of an empty program through the scan, and a direct call of the same function in wasmer,
//! - a poll with one read of an input and one write of an output, and the same in a bare wasmer,
//! - a program with the stop flag (a flag that each loop checks), and the same program without it,
//! - the stop of an endless poll, and a trap that the program causes itself.
//!
//! The benchmark checks no limits. The tests in `tests/it` check what the scan must do, and this
//! file measures how fast the scan is.

#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a bench prints and may fail")]
#![allow(unreachable_pub, reason = "nobody outside sees a bench")]

#[path = "../tests/it/rig.rs"]
#[allow(dead_code, reason = "the tests use the rest")]
mod rig;

use std::ffi::c_void;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use camshaft::plugin::instance::stop::now_ns;
use camshaft::plugin::{Limits, Settings};
use camshaft::scan::Order;
use nix::libc::siginfo_t;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use nix::time::{ClockId, clock_gettime};
use rig::Rig;

fn main() {
    empty_poll();
    host_calls();
    stop_flag();
    runaway();
}

/// Measures the fastest of `rounds` calls of `run`. One call does `count` turns; the result is
/// nanoseconds for one turn. The fastest round is the round with the least disturbance.
fn best(rounds: usize, count: u32, mut run: impl FnMut()) -> f64 {
    let mut best = f64::INFINITY;
    for _ in 0..rounds {
        let started = Instant::now();
        run();
        best = best.min(started.elapsed().as_nanos() as f64 / f64::from(count));
    }
    best
}

/// Runs so many cycles, at least a hundred, with so many polls in all. Returns nanoseconds for one
/// poll. In the daemon, another thread empties the queue of samples. So the time for this work is
/// not measured here.
fn per_poll(rig: &mut Rig, cycles: u32, polls: u32) -> f64 {
    let mut passed = Duration::ZERO;
    for _ in 0..cycles / 100 {
        let started = Instant::now();
        (0..100).for_each(|_| rig.step());
        passed += started.elapsed();
        rig.samples_taken();
    }
    passed.as_nanos() as f64 / f64::from(polls)
}

fn bare(text: &str) -> (wasmer::Store, wasmer::Instance) {
    let mut store = wasmer::Store::new(wasmer::sys::Cranelift::new());
    let module = wasmer::Module::new(&store, rig::wat(text)).unwrap();
    let instance = wasmer::Instance::new(&mut store, &module, &wasmer::Imports::new()).unwrap();
    (store, instance)
}

/// Compares the complete cost of one empty poll in the scan with a direct typed call of wasmer.
fn empty_poll() {
    const EMPTY: &str = r#"(module (func (export "poll")))"#;
    const CALLS: u32 = 100_000;
    let (mut store, instance) = bare(EMPTY);
    let poll = instance.exports.get_typed_function::<(), ()>(&store, "poll").unwrap();
    // Each cycle makes one system call for the CPU time of the thread. After a system call, less
    // code and data of the poll are in the CPU caches. So the direct call is measured after the
    // same system call.
    let kernel = || clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).unwrap();
    let mut apart = || {
        (0..CALLS).for_each(|_| {
            std::hint::black_box(kernel());
            poll.call(&mut store).unwrap();
        });
    };
    let mut asking = || {
        (0..CALLS).for_each(|_| {
            std::hint::black_box(kernel());
        });
    };
    // The direct call again, but with 100 instances, as in the scan with 100 programs. So many
    // instances do not fit into the first-level cache of the CPU.
    let mut hundred: Vec<_> = (0..100)
        .map(|_| {
            let (store, instance) = bare(EMPTY);
            let poll = instance.exports.get_typed_function::<(), ()>(&store, "poll").unwrap();
            (store, poll)
        })
        .collect();
    let mut round = || {
        for _ in 0..CALLS / 100 {
            hundred.iter_mut().for_each(|(store, poll)| poll.call(store).unwrap());
        }
    };

    let cycles = |rig: &mut Rig, cycles: u32| per_poll(rig, cycles, CALLS);
    let scan = |programs: u16, is_recorded: bool| {
        let mut rig = Rig::new(rig::points(), Vec::new());
        rig.is_recorded = is_recorded;
        for seat in 0..programs {
            rig.install(&format!("p{seat}"), seat, EMPTY, Settings::default());
            rig.programs_returned();
        }
        rig
    };
    let (mut none, mut single) = (scan(0, false), scan(1, false));
    let (mut many, mut recorded) = (scan(100, false), scan(100, true));
    let mut times = [f64::INFINITY; 7];
    for _ in 0..15 {
        let now = [
            best(1, CALLS, &mut apart),
            best(1, CALLS, &mut asking),
            cycles(&mut none, CALLS),
            cycles(&mut single, CALLS),
            cycles(&mut many, CALLS / 100),
            cycles(&mut recorded, CALLS / 100),
            best(1, CALLS, &mut round),
        ];
        times.iter_mut().zip(now).for_each(|(best, now)| *best = best.min(now));
    }
    let [apart, asking, none, single, many, recorded, round] = times;
    let (bare, added) = (apart - asking, single - none);
    println!("a cycle without programs {none:.0} ns, of which the CPU clock is {asking:.0} ns");
    println!(
        "what one empty poll adds to a cycle {added:.0} ns; what wasmer's bare typed call adds after a \
         look at the CPU clock {bare:.0} ns, ratio {:.2}",
        added / bare
    );
    let (plain, taped) = (many / round, recorded / round);
    println!("bare calls of 100 instances {round:.0} ns");
    println!("one of 100 polls, cycle included: {many:.0} ns, ratio {plain:.2}");
    println!("the same, recorded for crash reports: {recorded:.0} ns, ratio {taped:.2}");
}

/// Reads the input at byte 0 and writes the output at this byte, with the imports of the contract.
fn reads_and_writes(byte: usize) -> String {
    format!(
        r#"(module
          (import "env" "wasm_read_input" (func $read (param i32 i32 i32) (result i32)))
          (import "env" "wasm_write_output" (func $write (param i32 i32 i32) (result i32)))
          (memory (export "memory") 1)
          (func (export "poll")
            (drop (call $read (i32.const 0) (i32.const 0) (i32.const 4)))
            (drop (call $write (i32.const {byte}) (i32.const 0) (i32.const 4)))))"#
    )
}

/// The process image of a host that does nothing but copy.
struct Copying {
    image: Vec<u8>,
    memory: Option<wasmer::Memory>,
}

/// An instance in a bare wasmer whose two imports copy between its memory and an image.
fn bare_copying(byte: usize) -> (wasmer::Store, wasmer::TypedFunction<(), ()>) {
    use wasmer::{Function, FunctionEnv, FunctionEnvMut, imports};
    fn copy(mut env: FunctionEnvMut<'_, Copying>, at: u32, to: u32, is_read: bool) -> i32 {
        let (host, store) = env.data_and_store_mut();
        let view = host.memory.as_ref().unwrap().view(&store);
        let part = &mut host.image[at as usize..at as usize + 4];
        match is_read {
            true => view.write(u64::from(to), part).unwrap(),
            false => view.read(u64::from(to), part).unwrap(),
        }
        0
    }
    let mut store = wasmer::Store::new(wasmer::sys::Cranelift::new());
    let module = wasmer::Module::new(&store, rig::wat(&reads_and_writes(byte))).unwrap();
    let env = FunctionEnv::new(&mut store, Copying { image: vec![0; 400], memory: None });
    let read = |env: FunctionEnvMut<'_, Copying>, at, to, _: u32| copy(env, at, to, true);
    let write = |env: FunctionEnvMut<'_, Copying>, at, to, _: u32| copy(env, at, to, false);
    let imports = imports! {
        "env" => {
            "wasm_read_input" => Function::new_typed_with_env(&mut store, &env, read),
            "wasm_write_output" => Function::new_typed_with_env(&mut store, &env, write),
        },
    };
    let instance = wasmer::Instance::new(&mut store, &module, &imports).unwrap();
    env.as_mut(&mut store).memory = Some(instance.exports.get_memory("memory").unwrap().clone());
    let poll = instance.exports.get_typed_function(&store, "poll").unwrap();
    (store, poll)
}

/// Compares a poll with one read and one write in the scan, with 100 programs, with the same calls
/// in a bare wasmer.
fn host_calls() {
    use camshaft::process::image::{Direction, Point, PointKind, Points, Safe, Value};
    const CYCLES: u32 = 1000;
    let mut bare: Vec<_> = (0..100).map(|n| bare_copying(4 * n)).collect();
    let mut round = || {
        for _ in 0..CYCLES {
            bare.iter_mut().for_each(|(store, poll)| poll.call(store).unwrap());
        }
    };
    let scan = |is_recorded: bool| {
        let output = |n: u32| Point {
            byte: 4 * n,
            safe: Safe::Value(Value::Int(0)),
            ..Point::new(format!("out.n{n}"), Direction::Out, PointKind::U32)
        };
        let input = Point::new("in.level", Direction::In, PointKind::U32);
        let points = (0..100).map(output).chain([input]).collect();
        let mut rig = Rig::new(std::sync::Arc::new(Points::new(points, 16, 400)), Vec::new());
        rig.is_recorded = is_recorded;
        for seat in 0..100 {
            let text = reads_and_writes(4 * usize::from(seat));
            rig.install(&format!("p{seat}"), seat, &text, Settings::default());
            rig.programs_returned();
        }
        rig
    };
    let (mut plain, mut recorded) = (scan(false), scan(true));
    let cycles = |rig: &mut Rig| per_poll(rig, CYCLES, 100 * CYCLES);
    let mut times = [f64::INFINITY; 3];
    for _ in 0..15 {
        let now = [best(1, 100 * CYCLES, &mut round), cycles(&mut plain), cycles(&mut recorded)];
        times.iter_mut().zip(now).for_each(|(best, now)| *best = best.min(now));
    }
    let [bare, plain, recorded] = times;
    println!("one of 100 bare calls with one read and one write {bare:.0} ns");
    println!("one of 100 such polls, cycle included: {plain:.0} ns, ratio {:.2}", plain / bare);
    let ratio = recorded / bare;
    println!("the same, recorded for crash reports: {recorded:.0} ns, ratio {ratio:.2}");
}

const SIEVE: &str = r#"(module (memory (export "memory") 17)
  (func (export "poll") (local $i i32) (local $j i32)
    (memory.fill (i32.const 0) (i32.const 1) (i32.const 1000000))
    (local.set $i (i32.const 2))
    (loop $outer
      (if (i32.load8_u (local.get $i)) (then
        (local.set $j (i32.mul (local.get $i) (local.get $i)))
        (if (i32.lt_u (local.get $j) (i32.const 1000000)) (then
          (loop $inner
            (i32.store8 (local.get $j) (i32.const 0))
            (local.set $j (i32.add (local.get $j) (local.get $i)))
            (br_if $inner (i32.lt_u (local.get $j) (i32.const 1000000))))))))
      (local.set $i (i32.add (local.get $i) (i32.const 1)))
      (br_if $outer (i32.lt_u (local.get $i) (i32.const 1000))))))"#;

const FIB: &str = r#"(module
  (func $fib (param i32) (result i32)
    (if (result i32) (i32.lt_u (local.get 0) (i32.const 2)) (then (local.get 0))
      (else (i32.add (call $fib (i32.sub (local.get 0) (i32.const 1)))
                     (call $fib (i32.sub (local.get 0) (i32.const 2)))))))
  (func (export "poll") (drop (call $fib (i32.const 27)))))"#;

/// Compares the run time of two programs with and without the stop flag.
fn stop_flag() {
    for (name, text) in [("sieve of 1 000 000", SIEVE), ("fib(27)", FIB)] {
        let (mut store, instance) = bare(text);
        let poll = instance.exports.get_typed_function::<(), ()>(&store, "poll").unwrap();
        let mut rig = Rig::new(rig::points(), Vec::new());
        let budget = Duration::from_secs(10);
        rig.install("p", 0, text, Settings { poll_budget: budget, ..Settings::default() });
        let (mut with, mut without) = (f64::INFINITY, f64::INFINITY);
        for _ in 0..30 {
            without = without.min(best(1, 1, || poll.call(&mut store).unwrap()));
            with = with.min(best(1, 1, || rig.step()));
        }
        println!(
            "{name}: with stop flag {:.2} ms, without {:.2} ms, ratio {:.3}",
            with / 1e6,
            without / 1e6,
            with / without
        );
    }
}

/// The instant at which the signal handler was called for the newest trap of a program. The trap is
/// a read beyond the end of the memory.
static TRAPPED_NS: AtomicU64 = AtomicU64::new(0);

/// The signal handler that wasmer has installed for such traps.
static WASMERS: OnceLock<SigAction> = OnceLock::new();

extern "C" fn trapped(signal: i32, info: *mut siginfo_t, context: *mut c_void) {
    TRAPPED_NS.store(now_ns(), Ordering::Relaxed);
    if let Some(SigHandler::SigAction(handle)) = WASMERS.get().map(SigAction::handler) {
        handle(signal, info, context);
    }
}

/// Installs a signal handler that stores the instant of each trap and then calls wasmer's handler.
#[allow(unsafe_code, reason = "a handler that notes the time and passes on all it was given")]
fn note_traps() {
    let none = SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty());
    // SAFETY: the default action runs no code of this process. No program runs until the next call
    // of `sigaction` has installed a handler again.
    let theirs = unsafe { sigaction(Signal::SIGSEGV, &none) }.unwrap();
    WASMERS.set(theirs).unwrap();
    let ours = SigAction::new(SigHandler::SigAction(trapped), theirs.flags(), theirs.mask());
    // SAFETY: the new handler does one store, and then calls the replaced handler. The replaced
    // handler gets the same arguments, flags and mask as before.
    unsafe { sigaction(Signal::SIGSEGV, &ours) }.unwrap();
}

/// Measures the stop of an endless poll: the time beyond the budget, and the time from the stop
/// flag to the end of the cycle. The second time contains the report of the trap.
///
/// For comparison, another program runs as long and then traps by itself. Its time from the trap to
/// the end of the cycle also contains the report. The difference of the two times is the cost of
/// the stop alone.
fn runaway() {
    const LOOP: &str = r#"(module (func (export "poll") (loop (br 0))))"#;
    const COUNT: &str = r#"(module (memory 1) (func (export "poll") (local i32)
      (loop (br_if 0 (i32.ne (i32.const 10000000)
        (local.tee 0 (i32.add (local.get 0) (i32.const 1))))))
      (drop (i32.load (i32.const -4)))))"#;
    const TIMES: usize = 500;
    let mut rig = Rig::new(rig::points(), Vec::new());
    let budget = Duration::from_millis(2);
    // Both modules are compiled before the measurement, because a compiler process that ends during
    // a poll would disturb the measurement.
    let compiled = |text| rig::compiled(&rig::wat(text), Limits::default()).unwrap();
    let (endless, counting) = (compiled(LOOP), compiled(COUNT));
    let mut poll = |module, poll_budget| {
        let settings = Settings { poll_budget, ..Settings::default() };
        let prepared = rig.instance("p", 0, module, settings);
        rig.order(Order::Install(Box::new(prepared.result.unwrap())));
        let started = Instant::now();
        rig.step();
        let (passed, ended_ns) = (started.elapsed(), now_ns());
        rig.programs_returned();
        let since = |ns| Duration::from_nanos(ended_ns - ns);
        let trapped_ns = TRAPPED_NS.load(Ordering::Relaxed);
        (passed, since(rig.scan.slot().stopped_ns()), since(trapped_ns))
    };
    // This first poll makes wasmer install its signal handler. `note_traps` replaces that handler.
    poll(&counting, 10 * budget);
    note_traps();
    let (mut over, mut stopped, mut trapped) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..TIMES {
        let (passed, since_flag, _) = poll(&endless, budget);
        over.push(passed.saturating_sub(budget));
        stopped.push(since_flag);
        trapped.push(poll(&counting, 10 * budget).2);
    }
    let line = |what, times: &mut Vec<Duration>| {
        times.sort();
        let (p50, p99, max) = (times[TIMES / 2], times[TIMES * 99 / 100], times[TIMES - 1]);
        println!("{what}: p50 {p50:?}, p99 {p99:?}, max {max:?}");
        p50
    };
    line("runaway of 2 ms, time over its budget", &mut over);
    let stopped = line("from the flag to the end of the cycle", &mut stopped);
    let trapped = line("from a trap of its own to the end of the cycle", &mut trapped);
    println!("so the stop itself took {:?}, by the medians", stopped.saturating_sub(trapped));
}
