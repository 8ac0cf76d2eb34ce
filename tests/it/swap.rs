//! Tests of swaps in the scan: the hand-over of the state, the probation and the rollback.
//!
//! The tests use real modules and simulated time, and look at the scan through the interface of the
//! daemon. Swaps in a whole daemon are tested in `weather/swap.rs`, random swaps in
//! `simulation.rs`.

use std::time::{Duration, Instant};

use camshaft::plugin::{RollbackState, Settings, SwapPolicy};
use camshaft::process::grant::Grant;
use camshaft::process::image::Value;
use camshaft::process::line::Message;
use camshaft::process::refused::Keeper;
use camshaft::process::seat::Seat;
use camshaft::process::variable::Variable;
use camshaft::scan::{Order, ProgramFact, Return, Snapshot};

use crate::rig::{Rig, configure, points, wat};

/// A program that counts its polls three times: in its memory, which only a hand-over carries on,
/// in the variable `count`, and in a global for itself. The first is written to `out.count`.
struct Version {
    /// Makes the bytes differ.
    number: u32,
    save: &'static str,
    restore: &'static str,
    /// Runs in each poll, where the global `$polls` is 1 in the first.
    poll: &'static str,
}

/// One that hands over as it should.
const GOOD: Version = Version {
    number: 0,
    save: "(drop (call $state_write (i32.const 16) (i32.const 4)))",
    restore: "(drop (call $state_read (i32.const 16) (i32.const 4) (i32.const 24)))
              (if (i32.ne (i32.load (i32.const 24)) (i32.const 4)) (then (unreachable)))",
    poll: "",
};

impl Version {
    fn bytes(&self) -> Vec<u8> {
        let Self { number, save, restore, poll } = self;
        wat(&format!(
            r#"(module
  (import "env" "wasm_state_write" (func $state_write (param i32 i32) (result i32)))
  (import "env" "wasm_state_read" (func $state_read (param i32 i32 i32) (result i32)))
  (import "env" "wasm_write_output" (func $write (param i32 i32 i32) (result i32)))
  (import "env" "wasm_variable_read_int" (func $get (param i32 i32 i32) (result i32)))
  (import "env" "wasm_variable_write_int" (func $set (param i32 i32 i32) (result i32)))
  (import "env" "abort" (func $abort (param i32 i32 i32 i32)))
  (memory (export "memory") 2)
  (data (i32.const 100) "count")
  (global $polls (mut i32) (i32.const 0))
  (global (mut i32) (i32.const {number}))
  ;; Nobody else uses such a name, unless to do harm.
  (global (export "camshaft:global:7") i32 (i32.const 7))
  (func $save (export "save") {save})
  (func (export "restore") {restore})
  (func (export "poll")
    (global.set $polls (i32.add (global.get $polls) (i32.const 1)))
    (i32.store (i32.const 16) (i32.add (i32.load (i32.const 16)) (i32.const 1)))
    (drop (call $write (i32.const 12) (i32.const 16) (i32.const 4)))
    (drop (call $get (i32.const 100) (i32.const 5) (i32.const 32)))
    (drop (call $set (i32.const 100) (i32.const 5)
      (i32.add (i32.load (i32.const 32)) (i32.const 1))))
    {poll}))"#
        ))
    }
}

/// Ten polls of probation are enough for most of these tests.
fn settings() -> Settings {
    let swap = SwapPolicy {
        budget: Duration::from_millis(2),
        probation: Duration::ZERO,
        polls: 10,
        ..SwapPolicy::default()
    };
    Settings { poll_budget: Duration::from_millis(5), swap, ..Settings::default() }
}

/// A scan in which a good version runs since some cycles.
fn running(settings: &Settings) -> Rig {
    let mut rig = Rig::new(points(), Vec::new());
    order(&mut rig, &GOOD, settings);
    (0..20).for_each(|_| drop(rig.cycle()));
    assert!(the_one(&rig.cycle()).is_proven);
    rig
}

fn order(rig: &mut Rig, version: &Version, settings: &Settings) {
    let prepared = rig.prepare("p", 0, &version.bytes(), settings.clone()).expect("it is good");
    rig.order(Order::Install(Box::new(prepared)));
}

fn the_one(news: &Snapshot) -> &ProgramFact {
    assert_eq!(news.programs.len(), 1);
    &news.programs[0]
}

fn counts(rig: &Rig, news: &Snapshot) -> (i128, i128) {
    let Value::Int(output) = rig.value(news, "out.count") else { panic!("it is an int") };
    let Some(Variable::Int(variable)) = news.variables.read("count") else { panic!("likewise") };
    (output, variable.into())
}

/// The same as of the last cycle.
fn now(rig: &mut Rig) -> (i128, i128) {
    let news = rig.handle.latest.read().clone();
    counts(rig, &news)
}

/// The version that runs has all the time in the world, the new one has not.
#[test]
fn the_budget_of_a_hand_over_is_that_of_the_new_version() {
    let ample = |settings: Settings| {
        let swap = SwapPolicy { budget: Duration::from_secs(1), ..settings.swap };
        Settings { poll_budget: Duration::from_secs(1), swap, ..settings }
    };
    let mut rig = running(&ample(settings()));
    let endless = Version { number: 1, restore: "(loop (br 0))", ..GOOD };
    order(&mut rig, &endless, &settings());
    let started = Instant::now();
    let news = rig.cycle();
    let passed = started.elapsed();
    assert!(passed < Duration::from_millis(500), "it was stopped after {passed:?}");
    assert_eq!(news.programs[0].polls, 22, "the old one goes on");
}

#[test]
fn nothing_is_lost_over_a_thousand_swaps() {
    let mut rig = running(&settings());
    let (mut output, mut variable) = now(&mut rig);
    for number in 1..=1000 {
        order(&mut rig, &Version { number, ..GOOD }, &settings());
        for _ in 0..3 {
            let news = rig.cycle();
            (output, variable) = (output + 1, variable + 1);
            assert_eq!(counts(&rig, &news), (output, variable), "in swap {number}");
            let fact = the_one(&news);
            assert_eq!(fact.takeover.state_bytes, Some(4));
        }
        // None of them proves itself, so the first stays ready all the time.
        assert_eq!(rig.programs_returned(), usize::from(number > 1));
    }
    let fact = the_one(rig.handle.latest.read()).clone();
    assert_eq!(fact.standby.map(|generation| generation.0), Some(1));
}

/// What a version that fails is refused for: the running one goes on and has not noticed.
#[track_caller]
fn refused(version: &Version, reason: &str) {
    let mut rig = running(&settings());
    let before = now(&mut rig);
    order(&mut rig, version, &settings());
    let news = rig.cycle();
    let refusal =
        std::iter::from_fn(|| rig.handle.returns.pop().ok()).find_map(|thing| match thing {
            Return::Refused(_, refusal) => refusal,
            _ => None,
        });
    let found = refusal.expect("it is refused").reason;
    assert!(found.contains(reason), "{found}");
    let fact = the_one(&news);
    assert_eq!((fact.generation.0, fact.standby, fact.rolled_back.is_none()), (1, None, true));
    assert_eq!(counts(&rig, &news), (before.0 + 1, before.1 + 1));
    // Nor does it notice later, or in another attempt.
    for number in 2..52 {
        order(&mut rig, &Version { number, ..GOOD }, &settings());
        let news = rig.cycle();
        assert_eq!(the_one(&news).takeover.state_bytes, Some(4));
        rig.programs_returned();
    }
    let news = rig.cycle();
    assert_eq!(counts(&rig, &news), (before.0 + 52, before.1 + 52));
}

#[test]
fn a_restore_that_fails_changes_nothing() {
    let spoiled = "(drop (call $set (i32.const 100) (i32.const 5) (i32.const 7777)))";
    let fails = |restore: String| Version { number: 1, restore: restore.leak(), ..GOOD };
    refused(&fails(format!("{spoiled} (unreachable)")), "its `restore` failed: unreachable");
    refused(&fails(format!("{spoiled} (loop (br 0))")), "its `restore` failed: budget of 2ms");
    let abort = "(call $abort (i32.const 0) (i32.const 0) (i32.const 3) (i32.const 4))";
    refused(
        &fails(format!("{spoiled} {abort}")),
        "its `restore` failed: abort: (line 3, column 4)",
    );
}

#[test]
fn a_save_that_fails_leaves_no_trace() {
    // It has spoiled its memory, a global and a variable before it fails.
    let spoil = "(i32.store (i32.const 16) (i32.const 5555))
        (global.set $polls (i32.const -100))
        (drop (call $set (i32.const 100) (i32.const 5) (i32.const 7777)))";
    let ends = [
        (
            "(unreachable)",
            "`save` of the running version failed: unreachable",
            "; correct the plugin",
        ),
        // 17 times the whole of its memory, which is more than a state may be.
        (
            "(local $n i32) (local.set $n (i32.const 17))
             (loop (drop (call $state_write (i32.const 0) (i32.const 65536)))
               (br_if 0 (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))",
            "failed: the saved state has more than 1048576 bytes",
            "; let `save` write less data: only data that the new version cannot compute itself",
        ),
    ];
    for (end, reason, remedy) in ends {
        let (locals, end) = end.split_at(end.find("(local.set").unwrap_or(0));
        let bad = Version { number: 1, save: format!("{locals}{spoil}{end}").leak(), ..GOOD };
        let mut rig = Rig::new(points(), Vec::new());
        order(&mut rig, &bad, &settings());
        (0..20).for_each(|_| drop(rig.cycle()));
        let before = now(&mut rig);
        for n in 1..=3 {
            order(&mut rig, &GOOD, &settings());
            let news = rig.cycle();
            let Ok(Return::Refused(_, Some(refusal))) = rig.handle.returns.pop() else {
                panic!("it is refused");
            };
            assert!(refusal.reason.contains(reason), "{refusal}");
            assert!(refusal.to_string().ends_with(remedy), "{refusal}");
            assert_eq!(counts(&rig, &news), (before.0 + n, before.1 + n), "{refusal}");
            assert_eq!(the_one(&news).polls, 20 + n as u64);
        }
        let told = std::iter::from_fn(|| rig.log.pop().ok()).find_map(|line| match line.message {
            Message::Refused(call) if call.call == "wasm_state_write" => {
                Some(call.words(Keeper::Unknown))
            }
            _ => None,
        });
        let words = "wasm_state_write is refused with code 1: a state has at most 1048576 bytes";
        assert_eq!(told.as_deref(), reason.contains("state").then_some(words));
    }
}

/// What wasmer's own code leaves half done where a guest is cut off nobody can tell.
#[test]
fn an_instance_whose_save_was_cut_off_is_never_called_again() {
    let deep = "(call $save)";
    for (save, kind) in [("(loop (br 0))", "budget of 2ms exceeded"), (deep, "stack overflow")] {
        let bad = Version { number: 1, save, ..GOOD };
        let mut rig = Rig::new(points(), Vec::new());
        order(&mut rig, &bad, &settings());
        (0..20).for_each(|_| drop(rig.cycle()));
        order(&mut rig, &GOOD, &settings());
        let news = rig.cycle();
        let returned: Vec<_> = std::iter::from_fn(|| rig.handle.returns.pop().ok()).collect();
        let [Return::Refused(_, Some(refusal)), Return::Program(lost)] = &returned[..] else {
            panic!("the new version is refused and the old one is lost: {returned:?}");
        };
        let reason = format!("`save` of the running version failed: {kind}");
        assert!(refusal.reason.starts_with(&reason), "{refusal}");
        assert!(lost.is_spent(), "{lost:?}");
        let fact = the_one(&news);
        let trap = fact.trap.as_ref().expect("it is lost as by a trap");
        assert_eq!((&*trap.kind, fact.polls), (&*format!("in `save`: {kind}"), 20));
        assert_eq!(rig.value(&news, "out.count"), Value::Int(0), "its output is safe");
        // A fresh instance of the same version begins anew.
        order(&mut rig, &bad, &settings());
        let news = rig.cycle();
        assert_eq!(the_one(&news).trap, None);
        assert_eq!(counts(&rig, &news), (1, 21));
    }
}

#[test]
fn a_version_that_traps_on_probation_goes_and_the_one_before_goes_on() {
    for trap_in in [1, 2, 10] {
        let poll =
            format!("(if (i32.eq (global.get $polls) (i32.const {trap_in})) (then (unreachable)))");
        let bad = Version { number: 1, poll: poll.leak(), ..GOOD };
        let mut rig = running(&settings());
        let before = now(&mut rig);
        order(&mut rig, &bad, &settings());
        let mut news = rig.cycle();
        for n in 1..trap_in {
            assert_eq!(counts(&rig, &news).0, before.0 + n);
            assert_eq!(the_one(&news).standby.map(|generation| generation.0), Some(1));
            news = rig.cycle();
        }
        // The cycle of the trap: nothing of it counts, and no output is safe or 0.
        let trapped = (before.0 + trap_in - 1, before.1 + trap_in - 1);
        assert_eq!(counts(&rig, &news), trapped, "trap in poll {trap_in}");
        let fact = the_one(&news);
        assert_eq!((fact.generation.0, fact.standby, fact.trap.is_none()), (1, None, true));
        let rolled_back = fact.rolled_back.as_ref().expect("it was taken back");
        assert_eq!(
            (rolled_back.generation.0, rolled_back.trap.as_ref().unwrap().kind.as_str()),
            (2, "unreachable")
        );
        assert_eq!(rig.programs_returned(), 1);
        // From the next cycle on: its own memory as at the swap, the variable as it is now.
        for n in 1..=20 {
            let news = rig.cycle();
            assert_eq!(counts(&rig, &news), (before.0 + n, trapped.1 + n));
        }
        // It has proved itself before; a trap of its own is a trap.
        assert!(the_one(&rig.cycle()).is_proven);
    }
}

/// The next version was in the queue and took over a cycle after the rollback: who had not looked
/// in between never heard of the trap.
#[test]
fn who_takes_over_from_one_that_resumed_tells_of_the_trap() {
    let mut rig = running(&settings());
    order(&mut rig, &Version { number: 2, poll: "unreachable", ..GOOD }, &settings());
    order(&mut rig, &Version { number: 3, ..GOOD }, &settings());
    let rolled_back = |news: &Snapshot| {
        let fact = the_one(news);
        (fact.generation.0, fact.rolled_back.as_ref().map(|rolled_back| rolled_back.generation.0))
    };
    assert_eq!(rolled_back(&rig.cycle()), (1, Some(2)));
    assert_eq!(rolled_back(&rig.cycle()), (3, Some(2)));
    // And so does a new instance of that.
    order(&mut rig, &Version { number: 3, ..GOOD }, &settings());
    assert_eq!(rolled_back(&rig.cycle()), (4, Some(2)));
}

#[test]
fn variables_go_back_too_if_that_is_wanted() {
    let mut settings = settings();
    settings.swap.rollback_state = RollbackState::Snapshot;
    let poll = "(if (i32.eq (global.get $polls) (i32.const 5)) (then (unreachable)))";
    let mut rig = running(&settings);
    let before = now(&mut rig);
    order(&mut rig, &Version { number: 1, poll, ..GOOD }, &settings);
    (0..5).for_each(|_| drop(rig.cycle()));
    let news = rig.cycle();
    assert_eq!(counts(&rig, &news), (before.0 + 1, before.1 + 1));
}

#[test]
fn outputs_of_the_old_version_alone_are_kept_on_probation_and_safe_after_it() {
    let valve = "(f64.store (i32.const 40) (f64.const 33))
        (drop (call $write (i32.const 0) (i32.const 40) (i32.const 8)))";
    let mut rig = Rig::new(points(), Vec::new());
    order(&mut rig, &Version { number: 1, poll: valve, ..GOOD }, &settings());
    (0..20).for_each(|_| drop(rig.cycle()));
    order(&mut rig, &GOOD, &settings());
    for n in 1..=10 {
        let news = rig.cycle();
        let expected = if n < 10 { 33.0 } else { 7.5 };
        assert_eq!(rig.value(&news, "out.valve"), Value::Real(expected), "poll {n}");
    }
    assert_eq!(rig.programs_returned(), 1);
    let owner = rig.points.find("out.valve").map(|id| rig.handle.latest.read().owners[id.index()]);
    assert_eq!(owner, Some(None));
}

/// They kept their last value for ever, and nothing said so.
#[test]
fn outputs_that_nobody_writes_after_a_restart_are_safe_after_the_probation() {
    // The variable goes through the restart, and is beyond 5 then.
    let valve = "(if (i32.lt_s (i32.load (i32.const 32)) (i32.const 5)) (then
        (f64.store (i32.const 40) (f64.const 33))
        (drop (call $write (i32.const 0) (i32.const 40) (i32.const 8)))))";
    let version = Version { number: 1, poll: valve, ..GOOD };
    let mut rig = Rig::new(points(), Vec::new());
    order(&mut rig, &version, &settings());
    (0..20).for_each(|_| drop(rig.cycle()));
    order(&mut rig, &version, &settings());
    for n in 1..=10 {
        let news = rig.cycle();
        let expected = if n < 10 { 33.0 } else { 7.5 };
        assert_eq!(self::valve(&rig, &news), (Value::Real(expected), n < 10), "poll {n}");
    }
}

#[test]
fn outputs_that_a_version_without_probation_does_not_write_are_safe_after_its_first_poll() {
    let mut settings = settings();
    settings.swap.polls = 0;
    let mut rig = Rig::new(points(), Vec::new());
    order(&mut rig, &Version { number: 1, poll: VALVE_ONCE, ..GOOD }, &settings);
    (0..20).for_each(|_| drop(rig.cycle()));
    let news = rig.cycle();
    assert_eq!(valve(&rig, &news), (Value::Real(33.0), true));
    order(&mut rig, &GOOD, &settings);
    let news = rig.cycle();
    assert_eq!(valve(&rig, &news), (Value::Real(7.5), false));
}

/// The version before was dropped, and nothing ran after the trap.
#[test]
fn a_restart_on_probation_leaves_the_version_before_standing_by() {
    let mut settings = settings();
    settings.swap.rollback_state = RollbackState::Snapshot;
    let mut rig = running(&settings);
    let before = now(&mut rig);
    let poll = "(if (i32.eq (global.get $polls) (i32.const 4)) (then (unreachable)))";
    let bad = Version { number: 1, poll, ..GOOD };
    for polls in [2, 3] {
        order(&mut rig, &bad, &settings);
        (0..polls).for_each(|_| drop(rig.cycle()));
        assert!(rig.handle.latest.read().programs[0].standby.is_some());
    }
    let news = rig.cycle();
    assert!(the_one(&news).rolled_back.is_some());
    assert_eq!(counts(&rig, &news).1, before.1, "also what the first instance wrote goes back");
    let news = rig.cycle();
    assert_eq!(counts(&rig, &news), (before.0 + 1, before.1 + 1));
}

#[test]
fn a_new_instance_of_the_same_code_begins_anew() {
    let mut rig = running(&settings());
    let before = now(&mut rig);
    order(&mut rig, &GOOD, &settings());
    let news = rig.cycle();
    assert_eq!(counts(&rig, &news), (1, before.1 + 1));
    assert_eq!(the_one(&news).standby, None);
    assert_eq!(rig.programs_returned(), 1);
}

/// What a version is like that writes `out.valve` in its first poll only.
const VALVE_ONCE: &str = "(if (i32.eq (global.get $polls) (i32.const 1)) (then
    (f64.store (i32.const 40) (f64.const 33))
    (drop (call $write (i32.const 0) (i32.const 40) (i32.const 8)))))";

/// And one that traps in its second poll, when it has written it.
const VALVE_AND_TRAP: &str = "(f64.store (i32.const 40) (f64.const 44))
    (drop (call $write (i32.const 0) (i32.const 40) (i32.const 8)))
    (if (i32.eq (global.get $polls) (i32.const 2)) (then (unreachable)))";

fn valve(rig: &Rig, news: &Snapshot) -> (Value, bool) {
    let id = rig.points.find("out.valve").expect("there is one");
    (rig.value(news, "out.valve"), news.owners[id.index()].is_some())
}

#[test]
fn a_good_save_leaves_no_trace_either() {
    let spoils = "(drop (call $state_write (i32.const 16) (i32.const 4)))
        (i32.store (i32.const 16) (i32.const 5555))
        (global.set $polls (i32.const -100))";
    let poll = "(if (i32.lt_s (global.get $polls) (i32.const 0)) (then (unreachable)))";
    let mut rig = Rig::new(points(), Vec::new());
    order(&mut rig, &Version { number: 1, save: spoils, poll, ..GOOD }, &settings());
    (0..20).for_each(|_| drop(rig.cycle()));
    let before = now(&mut rig);
    // The successor does not take it.
    order(&mut rig, &Version { number: 2, restore: "(unreachable)", ..GOOD }, &settings());
    let news = rig.cycle();
    assert_eq!(counts(&rig, &news), (before.0 + 1, before.1 + 1));
    // It does, and traps.
    order(&mut rig, &Version { number: 3, poll: "(unreachable)", ..GOOD }, &settings());
    rig.cycle();
    let news = rig.cycle();
    assert_eq!(counts(&rig, &news), (before.0 + 2, before.1 + 2));
}

#[test]
fn variables_that_a_restore_wrote_go_back_too() {
    let mut settings = settings();
    settings.swap.rollback_state = RollbackState::Snapshot;
    let restore = "(drop (call $set (i32.const 100) (i32.const 5) (i32.const 7777)))";
    let mut rig = running(&settings);
    let before = now(&mut rig);
    order(&mut rig, &Version { number: 1, restore, poll: "(unreachable)", ..GOOD }, &settings);
    let news = rig.cycle();
    assert_eq!(counts(&rig, &news), before);
}

/// The rollback was told as a write of the plugin.
#[test]
fn a_variable_that_goes_back_was_written_by_who_wrote_it_before() {
    let mut settings = settings();
    settings.swap.rollback_state = RollbackState::Snapshot;
    let mut rig = running(&settings);
    let before = rig.handle.latest.read().variables.written_last("count");
    let poll = "(if (i32.eq (global.get $polls) (i32.const 3)) (then (unreachable)))";
    order(&mut rig, &Version { number: 1, poll, ..GOOD }, &settings);
    (0..2).for_each(|_| drop(rig.cycle()));
    assert_ne!(rig.handle.latest.read().variables.written_last("count"), before);
    let news = rig.cycle();
    assert!(the_one(&news).rolled_back.is_some());
    assert_eq!(news.variables.written_last("count"), before);
}

#[test]
fn who_resumes_has_the_settings_of_today() {
    let mut rig = Rig::new(points(), Vec::new());
    let first = VALVE_ONCE.replace("i32.eq ", "i32.ge_s ").leak();
    order(&mut rig, &Version { number: 1, poll: first, ..GOOD }, &settings());
    (0..20).for_each(|_| drop(rig.cycle()));
    let outputs = Grant::Only(vec![rig.points.find("out.count").expect("there is one")]);
    let bad = Version { number: 2, poll: VALVE_AND_TRAP, ..GOOD };
    order(&mut rig, &bad, &Settings { outputs, ..settings() });
    (0..5).for_each(|_| drop(rig.cycle()));
    let news = rig.cycle();
    assert!(the_one(&news).rolled_back.is_some());
    assert_eq!(valve(&rig, &news), (Value::Real(7.5), false));
}

#[test]
fn a_claim_ends_with_its_grant() {
    let mut rig = Rig::new(points(), Vec::new());
    order(&mut rig, &Version { number: 1, poll: VALVE_ONCE, ..GOOD }, &settings());
    (0..20).for_each(|_| drop(rig.cycle()));
    let nothing = Settings { outputs: Grant::Only(Vec::new()), ..settings() };
    for settings in [nothing, settings()] {
        rig.order(configure(Seat(0), settings));
        rig.cycle();
    }
    order(&mut rig, &Version { number: 2, poll: VALVE_AND_TRAP, ..GOOD }, &settings());
    let news = rig.cycle();
    assert_eq!(valve(&rig, &news), (Value::Real(44.0), true));
    let news = rig.cycle();
    assert!(the_one(&news).rolled_back.is_some());
    assert_eq!(valve(&rig, &news), (Value::Real(7.5), false));
}
