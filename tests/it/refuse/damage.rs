//! Tests of modules that were damaged in a copy: cut off at any byte, or with changed bits.
//!
//! A damaged module must be refused, or must run within its limits. In no case may it harm the
//! process that runs it. Hostile modules in a whole daemon are tested in `hostile.rs`.

use std::sync::Arc;
use std::time::Duration;

use camshaft::plugin::instance::program::{NewProgram, Prepared, Program};
use camshaft::plugin::instance::stop::{Timekeeper, now_ns};
use camshaft::plugin::module::compile::CompileService;
use camshaft::plugin::{Compiler, Generation, Limits, ModuleHash, Refusal, Settings};
use camshaft::process::lent::Lent;
use camshaft::process::line::LogSink;
use camshaft::process::seat::Seat;
use camshaft::process::variable::Variables;
use camshaft::process::world::World;

use crate::rig::{PERIOD, block_on, compile_service, points, wat};

/// A module that has a bit of everything: start section, table, data, loops, bulk operations.
const GOOD: &str = r#"(module $good
  (import "env" "wasm_write_output" (func $write (param i32 i32 i32) (result i32)))
  (import "env" "wasm_log" (func $log (param i32 i32 i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $print (param i32 i32 i32 i32) (result i32)))
  (type $step (func (param i32) (result i32)))
  (memory (export "memory") 2 4)
  (table 4 funcref)
  (global $sum (mut i32) (i32.const 7))
  (elem (i32.const 1) $double $half)
  (data (i32.const 100) "a line\n\64\00\00\00\07\00\00\00")
  (data (i32.const 124) "later")
  (start $begin)
  (func $begin (memory.copy (i32.const 200) (i32.const 124) (i32.const 5)))
  (func $double (type $step) (i32.shl (local.get 0) (i32.const 1)))
  (func $half (type $step) (i32.shr_u (local.get 0) (i32.const 1)))
  (func (export "init")
    (drop (call $print (i32.const 1) (i32.const 107) (i32.const 1) (i32.const 0))))
  (func (export "poll") (local $n i32) (local $f f64)
    (local.set $n (i32.const 20))
    (loop $again
      (global.set $sum (i32.add (global.get $sum) (call_indirect (type $step)
        (local.get $n) (i32.add (i32.const 1) (i32.and (local.get $n) (i32.const 1))))))
      (local.set $f (f64.div (f64.convert_i32_s (global.get $sum)) (f64.const 3)))
      (br_if $again (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))
    (f64.store (i32.const 300) (local.get $f))
    (memory.copy (i32.const 308) (i32.const 300) (i32.const 8))
    (memory.fill (i32.const 400) (i32.const 1) (i32.const 100000))
    (block $out (br_table $out $out (global.get $sum)))
    (drop (call $write (i32.const 0) (i32.const 300) (i32.const 16)))
    (drop (call $log (i32.const 2) (i32.const 100) (i32.const 6) (i32.const 1)
      (i32.const 200) (i32.const 5)))))"#;

/// How often a damaged module did what.
#[derive(Debug, Default)]
struct Tally {
    refused: usize,
    trapped: usize,
    ran: usize,
}

/// Runs one module for a few polls; whatever it is, this returns.
fn run(
    bytes: &[u8],
    compile_service: &CompileService,
    keeper: &Arc<Timekeeper>,
    tally: &mut Tally,
) {
    let refused = |refusal: &Refusal| {
        let Refusal { reason, remedy, .. } = refusal;
        assert!(!reason.is_empty() && !remedy.is_empty(), "{refusal:?}");
        assert!(reason.len() < 600 && !reason.contains(char::is_control), "{refusal:?}");
    };
    let hash = ModuleHash::of(bytes);
    let artifact = match block_on(compile_service.artifact(hash, bytes.into())) {
        Ok(artifact) => artifact,
        Err(refusal) => {
            refused(&refusal);
            tally.refused += 1;
            return;
        }
    };
    let world = || {
        let log = LogSink::List(Vec::new());
        Box::new(World::new(points(), Variables::default(), PERIOD, log))
    };
    let settings = Settings { poll_budget: Duration::from_millis(1), ..Settings::default() };
    let request = NewProgram {
        name: "damaged".into(),
        seat: Seat(0),
        hash,
        generation: Generation(1),
        settings,
    };
    let prepared = Program::prepare(request, &artifact, world(), &compile_service.limits, keeper);
    let Prepared { mut program, .. } = match prepared.result {
        Ok(prepared) => prepared,
        Err(refusal) => {
            refused(&refusal);
            tally.refused += 1;
            return;
        }
    };
    let slot = keeper.slot();
    slot.shortest(Duration::from_millis(1));
    keeper.wake();
    let mut world = Lent::new(world());
    for _ in 0..3 {
        slot.mark();
        if let Err(trap) = program.poll(&mut world, &slot, now_ns()) {
            assert!(!trap.kind.is_empty() && trap.kind.len() < 600, "{trap:?}");
            tally.trapped += 1;
            return;
        }
    }
    tally.ran += 1;
}

/// Runs many modules, on as many threads as there are compilers.
fn run_all(count: usize, damaged: impl Fn(usize) -> Vec<u8> + Sync) -> Tally {
    let limits = Limits { init_budget: Duration::from_millis(20), ..Limits::default() };
    let keeper = Arc::new(Timekeeper::start(|| {}).expect("a thread starts"));
    let part = |first: usize, compiler| {
        let compile_service = CompileService { compiler, ..compile_service(limits) };
        let mut tally = Tally::default();
        for n in (first..count).step_by(2) {
            run(&damaged(n), &compile_service, &keeper, &mut tally);
        }
        tally
    };
    std::thread::scope(|scope| {
        let half = scope.spawn(|| part(1, Compiler::Singlepass));
        let mut tally = part(0, Compiler::Cranelift);
        let other = half.join().expect("nothing here may panic");
        tally.refused += other.refused;
        tally.trapped += other.trapped;
        tally.ran += other.ran;
        tally
    })
}

#[test]
fn a_module_cut_off_anywhere_is_refused_or_runs() {
    let good = wat(GOOD);
    let tally = run_all(good.len() + 1, |len| good[..len].to_vec());
    // Whole sections at the end may be missing: that of names, which changes nothing, and data.
    assert!(tally.refused > good.len() / 2 && tally.ran > 0, "{tally:?} of {}", good.len());
}

#[test]
fn flipped_bits_hurt_nobody() {
    const COUNT: usize = 2000;
    let seed = 0x5eed;
    // Module n is damaged by the generator with seed + n.
    let good = wat(GOOD);
    let tally = run_all(COUNT, |n| {
        let mut random = fastrand::Rng::with_seed(seed + n as u64);
        let mut bytes = good.clone();
        for _ in 0..random.usize(1..=4) {
            let bit = random.usize(..8 * bytes.len());
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
        bytes
    });
    let Tally { refused, trapped, ran } = tally;
    assert_eq!(refused + trapped + ran, COUNT);
    assert!(
        refused > 0 && trapped > 0 && ran > 0,
        "{tally:?}: the damage of seed {seed:#x} is of one kind only"
    );
}
