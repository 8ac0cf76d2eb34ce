//! Tests of crash reports: a report is made from a real trap, and a replay repeats the trap from
//! the report alone.
//!
//! This file tests reports at the border of the scan. The other tests are in three files:
//! - `crash/daemon.rs`: reports of a whole daemon,
//! - `crash/damage.rs`: damaged and forged reports,
//! - `crash/bounds.rs`: limits for the memory and the time that a replay may take.

use std::time::Duration;

use camshaft::crash::{self, About, CrashReport, Judgement, Verdict};
use camshaft::driver::{Command, Driver, Fault};
use camshaft::plugin::instance::program::Program;
use camshaft::plugin::trace::record::PostMortem;
use camshaft::plugin::{Compiler, ModuleHash, Settings};
use camshaft::process::image::{Inputs, Quality};
use camshaft::process::variable::Variable;
use camshaft::scan::{Order, Return};

use crate::rig::{Rig, compile_service, points, wat};

mod bounds;
mod daemon;
mod damage;

/// An input `in.level` that grows by one in each cycle, from 1.
struct Ramp(f64);

impl Driver for Ramp {
    fn read(&mut self, _: Duration, inputs: &mut Inputs) -> Result<(), Fault> {
        self.0 += 1.0;
        inputs.bytes[..8].copy_from_slice(&self.0.to_le_bytes());
        inputs.quality.fill(Quality::Good);
        Ok(())
    }

    fn write(&mut self, _: Duration, _: &[u8]) -> Result<(), Fault> {
        Ok(())
    }

    fn command(&mut self, _: Duration, _: &Command) -> Result<(), &'static str> {
        Err("it only grows")
    }

    fn is_confirmed(&self) -> bool {
        true
    }
}

/// A module that mixes all that it is given into one number, writes that to `out.count` and the
/// variable `mixed`, and then runs `body`. Its polls are counted in `$n`; `in.level` is at 320, the
/// variable `speed` at 340.
fn module(memory: &str, fields: &str, body: &str) -> Vec<u8> {
    wat(&format!(
        r#"(module
  (import "env" "wasm_read_input" (func $read (param i32 i32 i32) (result i32)))
  (import "env" "wasm_write_output" (func $write (param i32 i32 i32) (result i32)))
  (import "env" "wasm_point_find" (func $find (param i32 i32 i32) (result i32)))
  (import "env" "wasm_point_read_double" (func $get (param i32 i32 i32) (result i32)))
  (import "env" "wasm_point_write_double" (func $put (param i32 f64) (result i32)))
  (import "env" "wasm_variable_read_int" (func $var (param i32 i32 i32) (result i32)))
  (import "env" "wasm_variable_write_int" (func $set (param i32 i32 i32) (result i32)))
  (import "env" "wasm_current_time" (func $time (param i32 i32) (result i32)))
  (import "env" "wasm_cycle" (func $cycle (param i32 i32) (result i32)))
  (import "env" "wasm_log" (func $log (param i32 i32 i32 i32 i32 i32) (result i32)))
  (import "env" "wasm_state_write" (func $state_write (param i32 i32) (result i32)))
  (import "env" "wasm_state_read" (func $state_read (param i32 i32 i32) (result i32)))
  (import "env" "abort" (func $abort (param i32 i32 i32 i32)))
  (import "wasi_snapshot_preview1" "random_get" (func $random (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "clock_time_get"
    (func $clock (param i32 i64 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $print (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") {memory})
  (data (i32.const 100) "in.level" "speed" "mixed")
  (data (i32.const 200) "\12\00\00\00b\00r\00o\00k\00e\00n\00 \00:\00(\00")
  (global $n (mut i32) (i32.const 0))
  (global $mixed (mut i32) (i32.const 0))
  (func $mix (param $from i32) (param $to i32)
    (loop $again
      (global.set $mixed (i32.add (i32.mul (global.get $mixed) (i32.const 31))
                                  (i32.load8_u (local.get $from))))
      (local.set $from (i32.add (local.get $from) (i32.const 1)))
      (br_if $again (i32.lt_u (local.get $from) (local.get $to)))))
  {fields}
  (func (export "init")
    (drop (call $find (i32.const 100) (i32.const 8) (i32.const 304)))
    (drop (call $random (i32.const 300) (i32.const 4))))
  (func $work (export "poll")
    (global.set $n (i32.add (global.get $n) (i32.const 1)))
    (drop (call $read (i32.const 0) (i32.const 384) (i32.const 16)))
    (drop (call $get (i32.load (i32.const 304)) (i32.const 320) (i32.const 328)))
    (drop (call $var (i32.const 108) (i32.const 5) (i32.const 340)))
    (drop (call $time (i32.const 344) (i32.const 352)))
    (drop (call $cycle (i32.const 360) (i32.const 368)))
    (drop (call $clock (i32.const 1) (i64.const 0) (i32.const 376)))
    (drop (call $random (i32.const 372) (i32.const 3)))
    (call $mix (i32.const 300) (i32.const 400))
    (i32.store (i32.const 400) (global.get $mixed))
    (drop (call $write (i32.const 12) (i32.const 400) (i32.const 4)))
    (drop (call $put (i32.const 2) (f64.load (i32.const 320))))
    (drop (call $set (i32.const 113) (i32.const 5) (global.get $mixed)))
    {body}))"#
    ))
}

/// What it takes to say: it traps in its poll number `n`.
fn in_poll(n: u32, what: &str) -> String {
    format!("(if (i32.eq (global.get $n) (i32.const {n})) (then {what}))")
}

fn settings() -> Settings {
    Settings { poll_budget: Duration::from_millis(5), ..Settings::default() }
}

/// A scan with a module in it and the variable `speed`, which is 5.
fn running(module: &[u8]) -> Rig {
    let mut rig = Rig::new(points(), vec![Box::new(Ramp(0.0))]);
    speed(&mut rig, 5);
    rig.cycle();
    let prepared = rig.prepare("p", 3, module, settings()).unwrap();
    rig.order(Order::Install(Box::new(prepared)));
    rig
}

fn speed(rig: &mut Rig, speed: i32) {
    let values = vec![("speed".to_string(), Variable::Int(speed))];
    rig.order(Order::SetVariables { ticket: 0, values });
}

/// Runs until the program is lost.
fn run_out(rig: &mut Rig, most: usize) -> Program {
    for _ in 0..most {
        rig.step();
        while let Ok(thing) = rig.handle.returns.pop() {
            match thing {
                Return::Program(program) if program.trap().is_some() => return program,
                Return::Refused(prepared, _) => return prepared.program,
                _ => {}
            }
        }
        while rig.samples.pop().is_ok() || rig.log.pop().is_ok() {}
    }
    panic!("it did not trap in {most} cycles");
}

fn about(rig: &Rig, hash: ModuleHash, settings: &Settings) -> About {
    About {
        plugin: "p".into(),
        hash,
        polls: 0,
        settings: settings.clone(),
        limits: rig.limits,
        compiler: Compiler::Cranelift,
        path: "plugins/p.wasm".into(),
    }
}

/// A report as it is in its file.
fn written(rig: &Rig, about: About, post_mortem: PostMortem, module: Option<&[u8]>) -> Vec<u8> {
    let report = CrashReport::new(about, post_mortem, &rig.points, module.map(<[u8]>::to_vec));
    let mut bytes = Vec::new();
    report.write(&mut bytes).unwrap();
    bytes
}

/// The report of a program's end.
pub fn report_bytes(rig: &Rig, program: Program, module: Option<&[u8]>) -> Vec<u8> {
    let about = About { polls: program.polls, ..about(rig, program.hash, &program.settings) };
    written(rig, about, program.post_mortem().expect("it has trapped"), module)
}

/// Plays a report as it comes from a file.
pub fn play(bytes: &[u8]) -> Judgement {
    let report = CrashReport::parse(bytes).unwrap();
    crash::replay(&compile_service(report.head.limits), &report, None, 1000).unwrap()
}

/// A module crashes, with these words, and again in the replay of its report.
fn check(module: &[u8], most: usize, kind: &str) -> Judgement {
    let mut rig = running(module);
    let program = run_out(&mut rig, most);
    reproduced(&rig, program, module, kind)
}

fn reproduced(rig: &Rig, program: Program, module: &[u8], kind: &str) -> Judgement {
    let bytes = report_bytes(rig, program, Some(module));
    let judgement = play(&bytes);
    let Judgement { verdict, words, trap, same_memory, .. } = &judgement;
    assert_eq!(*verdict, Verdict::Reproduced, "{words}");
    assert!(trap.kind.contains(kind), "{trap}");
    if !trap.kind.contains("budget") {
        assert!(words.contains(&trap.to_string()), "{words}: {trap}");
        assert_eq!(*same_memory, Some(true), "{words}");
    }
    judgement
}

#[test]
fn a_trap_that_depends_on_inputs_comes_again() {
    let body = "(if (f64.gt (f64.load (i32.const 320)) (f64.const 50)) (then unreachable))";
    let judgement = check(&module("1", "", body), 100, "unreachable");
    assert_eq!(judgement.frames[0].function, "work");
    // A cycle without it, one for the start, and then one for each.
    let last = judgement.cycles.last().unwrap();
    assert_eq!((last.cycle, judgement.trap.cycle), (51, 51));
    let got = last.got.join(" ");
    for words in ["in.level=51", "in.button=", "speed=5", "random "] {
        assert!(got.contains(words), "{got}");
    }
    let did = last.did.join(" ");
    for words in ["out.count=", "out.valve=51", "mixed="] {
        assert!(did.contains(words), "{did}");
    }
    assert_eq!(judgement.cycles.len(), 50);
    // `init` and all of its polls.
    assert_eq!((judgement.sections, judgement.calls), (51, 2 + 50 * 10));
}

#[test]
fn an_access_out_of_bounds_comes_again() {
    let body = "(drop (i32.load (i32.mul (global.get $n) (i32.const 4000))))";
    let judgement = check(&module("1", "", body), 100, "out of bounds");
    assert_eq!(judgement.trap.cycle, 1 + 17);
}

#[test]
fn a_division_by_zero_from_a_variable_comes_again() {
    let body = "(drop (i32.div_s (i32.const 100) (i32.load (i32.const 340))))";
    let module = module("1", "", body);
    let mut rig = running(&module);
    (0..30).for_each(|_| rig.step());
    speed(&mut rig, 0);
    let program = run_out(&mut rig, 10);
    let judgement = reproduced(&rig, program, &module, "divide by zero");
    assert!(judgement.cycles.last().unwrap().got.contains(&"speed=0".to_string()));
}

#[test]
fn a_stack_overflow_comes_again() {
    let deep = "(func $deep (param i32)
      (if (local.get 0) (then (call $deeper (i32.sub (local.get 0) (i32.const 1))))))
      (func $deeper (param i32) (call $deep (local.get 0)) (i32.store (i32.const 404) (local.get 0)))";
    let body = "(call $deep (i32.mul (global.get $n) (i32.const 1000)))";
    // Its place is not known, because the host cannot look back from there; that it came equally
    // deep is seen in its memory.
    let judgement = check(&module("1", deep, body), 1000, "stack overflow");
    assert!(judgement.trap.cycle > 2, "{}", judgement.trap);
}

#[test]
fn an_abort_comes_again_with_its_message() {
    let abort = "(call $abort (i32.const 204) (i32.const 0) (i32.const 7) (i32.const 9))";
    let judgement = check(&module("1", "", &in_poll(40, abort)), 100, "abort: broken :(");
    assert!(judgement.trap.kind.contains("line 7"), "{}", judgement.trap);
}

#[test]
fn an_endless_loop_comes_again() {
    let judgement = check(&module("1", "", &in_poll(40, "(loop (br 0))")), 100, "budget of 5ms");
    assert_eq!(judgement.sections, 1 + 40);
}

#[test]
fn an_endless_row_of_calls_comes_again_though_no_tape_could_hold_it() {
    let endless = "(loop (drop (call $time (i32.const 344) (i32.const 352))) (br 0))";
    let judgement = check(&module("1", "", &in_poll(40, endless)), 100, "budget of 5ms");
    assert!(judgement.cycles.last().unwrap().is_cut);
    assert!(judgement.calls > 1000, "{}", judgement.calls);
}

#[test]
fn a_long_life_is_played_from_a_checkpoint() {
    let module = module("1", "", &in_poll(5000, "unreachable"));
    let judgement = check(&module, 6000, "unreachable");
    // At least one stretch of a hundred polls, at most two.
    assert!((100..=200).contains(&judgement.sections), "{}", judgement.sections);
    assert!(judgement.cycles.len() >= 100, "{}", judgement.cycles.len());
}

#[test]
fn a_life_without_a_word_to_the_host_comes_again() {
    let module = wat(r#"(module (memory (export "memory") 1)
      (func (export "poll")
        (i32.store (i32.const 8) (i32.add (i32.load (i32.const 8)) (i32.const 1)))
        (if (i32.eq (i32.load (i32.const 8)) (i32.const 1234)) (then unreachable))))"#);
    let judgement = check(&module, 2000, "unreachable");
    assert_eq!((judgement.sections, judgement.calls), (1234, 0), "all of it is on the tape");
    let cycles: Vec<_> = judgement.cycles.iter().map(|cycle| cycle.cycle).collect();
    assert!(cycles.len() >= 100 && cycles.windows(2).all(|pair| pair[0] + 1 == pair[1]));
    assert_eq!(cycles.last(), Some(&judgement.trap.cycle));
}

/// As a Rust program has it: more than a megabyte, most of which is a stack that nobody has used.
#[test]
fn a_memory_that_is_mostly_empty_has_checkpoints() {
    let grow = in_poll(
        1000,
        "(drop (memory.grow (i32.const 2)))
      (i32.store (i32.const 1200000) (i32.const 77))",
    );
    let fields = "(data (i32.const 1048576) \"the heap\")";
    let body = in_poll(3000, "unreachable");
    let judgement = check(&module("17", fields, &(grow + &body)), 4000, "unreachable");
    assert!((100..=200).contains(&judgement.sections), "{}", judgement.sections);
}

/// One byte in a new block of 4 KiB in each poll, until 60 blocks are in use.
#[test]
fn a_memory_that_fills_while_the_program_runs_has_checkpoints() {
    let store = "(i32.store8 (i32.add (i32.const 3000)
        (i32.mul (i32.rem_u (global.get $n) (i32.const 60)) (i32.const 4096))) (global.get $n))";
    let body = store.to_owned() + &in_poll(3000, "unreachable");
    let judgement = check(&module("4", "", &body), 4000, "unreachable");
    assert!((100..=200).contains(&judgement.sections), "{}", judgement.sections);
}

#[test]
fn a_memory_that_is_too_large_is_played_from_the_start_or_not_at_all() {
    let fields = "(func $fill (memory.fill (i32.const 65536) (i32.const 7) (i32.const 400000)))
      (start $fill)";
    let judgement = check(&module("8", fields, &in_poll(200, "unreachable")), 300, "unreachable");
    assert_eq!(judgement.sections, 2 + 200);
    let module = module("8", fields, &in_poll(3000, "unreachable"));
    let mut rig = running(&module);
    let program = run_out(&mut rig, 4000);
    let judgement = play(&report_bytes(&rig, program, Some(&module)));
    assert_eq!(judgement.verdict, Verdict::Undecided);
    assert!(
        judgement.words.contains("more memory than a checkpoint can store"),
        "{}",
        judgement.words
    );
    assert!(judgement.cycles.len() >= 100, "{}", judgement.cycles.len());
}

/// Programs that read a great deal in each poll have fewer polls on their tape, and sooner
/// checkpoints.
#[test]
fn a_tape_that_fills_quickly_has_checkpoints_sooner() {
    let talk = "(local.set $i (i32.const 100))
      (loop $again
        (drop (call $read (i32.const 0) (i32.const 384) (i32.const 16)))
        (br_if $again (local.tee $i (i32.sub (local.get $i) (i32.const 1)))))";
    let body = format!("(call $talk) {}", in_poll(2000, "unreachable"));
    let fields = format!("(func $talk (local $i i32) {talk})");
    let judgement = check(&module("1", &fields, &body), 3000, "unreachable");
    assert!((10..=40).contains(&judgement.sections), "{}", judgement.sections);
}

/// Hands over its count, and as the second version traps on it.
const STATE: &str = r#"
  (func (export "save") (drop (call $state_write (i32.const 304) (i32.const 4)))
    (i32.store (i32.const 500) (global.get $n))
    (drop (call $state_write (i32.const 500) (i32.const 4))))
  (func (export "restore")
    (drop (call $state_read (i32.const 504) (i32.const 8) (i32.const 512)))
    RESTORED)"#;

#[test]
fn a_crash_with_what_was_handed_over_comes_again() {
    let version =
        |restored: &str, body: &str| module("1", &STATE.replace("RESTORED", restored), body);
    let first = version("", "");
    for (restored, body, kind) in [
        // What was handed over counts 20 polls.
        ("(global.set $n (i32.load (i32.const 508)))", &*in_poll(25, "unreachable"), "unreachable"),
        (
            "(drop (i32.div_u (i32.const 1) (i32.sub (i32.load (i32.const 508)) (i32.const 20))))",
            "",
            "divide by zero",
        ),
    ] {
        let second = version(restored, body);
        let mut rig = running(&first);
        (0..20).for_each(|_| rig.step());
        let prepared = rig.prepare("p", 3, &second, settings()).unwrap();
        rig.order(Order::Install(Box::new(prepared)));
        let program = run_out(&mut rig, 10);
        let judgement = reproduced(&rig, program, &second, kind);
        assert_eq!(judgement.trap.cycle, if body.is_empty() { 22 } else { 26 });
    }
}

#[test]
fn a_start_that_traps_comes_again() {
    let body = "(call $mix (i32.const 300) (i32.const 304))
      (drop (i32.load (i32.or (global.get $mixed) (i32.const 0xffff0000))))";
    let fields = format!(
        "(func (export \"_initialize\")
      (drop (call $random (i32.const 300) (i32.const 4))) {body})"
    );
    let module = module("1", &fields, "");
    let mut rig = running(&self::module("1", "", ""));
    let preparation = rig.preparation("q", 4, &module, settings()).unwrap();
    let refusal = preparation.result.unwrap_err().to_string();
    assert!(refusal.contains("out of bounds"), "{refusal}");
    let post_mortem = *preparation.post_mortem.unwrap();
    let about = about(&rig, ModuleHash::of(&module), &settings());
    let judgement = play(&written(&rig, about, post_mortem, Some(&module)));
    assert_eq!(judgement.verdict, Verdict::Reproduced, "{}", judgement.words);
    assert_eq!((judgement.sections, judgement.calls), (1, 1));
}

#[test]
fn a_report_without_its_module_wants_it() {
    let module = module("1", "", &in_poll(5, "unreachable"));
    let mut rig = running(&module);
    let program = run_out(&mut rig, 10);
    let bytes = report_bytes(&rig, program, Some(b"another version lies there by now"));
    let report = CrashReport::parse(&bytes).unwrap();
    assert!(report.module.is_none());
    let compile_service = compile_service(rig.limits);
    let replay = |module: Option<&[u8]>| {
        crash::replay(&compile_service, &report, module.map(<[u8]>::to_vec), 10)
    };
    let why = replay(None).unwrap_err().to_string();
    assert!(why.contains("plugins/p.wasm") && why.contains("--module FILE"), "{why}");
    let why = replay(Some(b"x")).unwrap_err().to_string();
    assert!(why.contains(&format!("the report needs the hash {}", report.head.hash)), "{why}");
    assert_eq!(replay(Some(&module)).unwrap().verdict, Verdict::Reproduced);
}

#[test]
fn what_is_not_recorded_is_reported_without_a_replay() {
    let module = module("1", "", &in_poll(5, "unreachable"));
    let mut rig = Rig::new(points(), Vec::new());
    rig.is_recorded = false;
    let prepared = rig.prepare("p", 3, &module, settings()).unwrap();
    rig.order(Order::Install(Box::new(prepared)));
    let program = run_out(&mut rig, 10);
    let judgement = play(&report_bytes(&rig, program, Some(&module)));
    assert_eq!(judgement.verdict, Verdict::Undecided);
    assert_eq!(judgement.trap.kind, "unreachable");
}

/// Built from C, with the names and the stack of a real program: it walks through a list whose end
/// was overwritten.
#[test]
#[ignore = "needs clang with lld"]
fn a_program_in_c_crashes_again() {
    let folder = tempfile::tempdir().unwrap();
    let (source, output) = (folder.path().join("list.c"), folder.path().join("list.wasm"));
    std::fs::write(&source, C).unwrap();
    let flags = ["--target=wasm32", "-nostdlib", "-Wl,--no-entry", "-Wl,--allow-undefined"];
    let mut clang = std::process::Command::new("clang");
    // Told in the usual way, clang also runs `wasm-opt` if it finds one, which takes the names out.
    clang.args(flags).args(["-Xclang", "-O1"]);
    clang.arg("-Wl,--export=poll,--export=memory").arg("-o").arg(&output).arg(&source);
    assert!(clang.status().unwrap().success());
    let module = std::fs::read(output).unwrap();
    let judgement = check(&module, 500, "out of bounds");
    let names: Vec<_> = judgement.frames.iter().map(|frame| &*frame.function).collect();
    assert!(names.starts_with(&["sum_of"]) && names.ends_with(&["poll"]), "{names:?}");
}

const C: &str = r#"
typedef struct node { struct node *next; double value; } node;
__attribute__((import_module("env"), import_name("wasm_read_input")))
int wasm_read_input(unsigned address, void *buf, unsigned len);
static node nodes[8];
__attribute__((noinline)) double sum_of(const node *list) {
  double sum = 0;
  while (list) { sum += list->value; list = list->next; }
  return sum;
}
__attribute__((export_name("poll"))) void poll(void) {
  static int polls;
  double level;
  wasm_read_input(0, &level, 8);
  node *slot = &nodes[polls++ % 8];
  slot->value = level;
  slot->next = slot == nodes ? 0 : slot - 1;
  if (sum_of(slot) > 100.0) slot[-1].next = (node *)0x7fffff00;
  sum_of(slot);
}
"#;
