//! Tests of shadow runs: a new version is polled beside the running version before it may take
//! over.
//!
//! Most tests use real modules, a scan and simulated time. They check when a new version is
//! admitted and when it is refused, and that the running version misses no poll. The last test uses
//! a real daemon.

use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use camshaft::control::{Event, PluginState};
use camshaft::plugin::shadow::{Difference, Frames, Shadow, ShadowOutcome, ShadowReport};
use camshaft::plugin::{Settings, SwapPolicy};
use camshaft::process::image::Value;
use camshaft::process::seat::Seat;
use camshaft::scan::{self, DeviceSet, Order, Reconfiguration, Return};

use crate::daemon::{Daemon, Keys, LIMIT, wait};
use crate::rig::{PERIOD, Rig, block_on, points, wat};

/// A program that counts its polls in its memory, which only a hand-over carries on, and writes the
/// count to `out.count`. `body` runs before that, where the global `$polls` is 1 in the first poll.
fn version(body: &str) -> Vec<u8> {
    version_at(12, body)
}

/// The same with the count at this byte of the output image.
fn version_at(address: u32, body: &str) -> Vec<u8> {
    wat(&format!(
        r#"(module
  (import "env" "wasm_state_write" (func $state_write (param i32 i32) (result i32)))
  (import "env" "wasm_state_read" (func $state_read (param i32 i32 i32) (result i32)))
  (import "env" "wasm_write_output" (func $write (param i32 i32 i32) (result i32)))
  (import "env" "wasm_variable_read_int" (func $get (param i32 i32 i32) (result i32)))
  (import "env" "wasm_variable_write_int" (func $set (param i32 i32 i32) (result i32)))
  (memory (export "memory") 2)
  (data (i32.const 100) "countmine")
  (global $polls (mut i32) (i32.const 0))
  (func (export "save") (drop (call $state_write (i32.const 16) (i32.const 4))))
  (func (export "restore")
    (drop (call $state_read (i32.const 16) (i32.const 4) (i32.const 24))))
  (func (export "poll") (local $n i32)
    (global.set $polls (i32.add (global.get $polls) (i32.const 1)))
    (i32.store (i32.const 16) (i32.add (i32.load (i32.const 16)) (i32.const 1)))
    {body}
    (drop (call $get (i32.const 100) (i32.const 5) (i32.const 32)))
    (drop (call $set (i32.const 100) (i32.const 5)
      (i32.add (i32.load (i32.const 32)) (i32.const 1))))
    (drop (call $write (i32.const {address}) (i32.const 16) (i32.const 4)))))"#
    ))
}

const POLLS: u32 = 20;

fn settings() -> Settings {
    let swap = SwapPolicy {
        budget: Duration::from_millis(2),
        shadow: POLLS,
        require_equal: true,
        ..SwapPolicy::default()
    };
    Settings { poll_budget: Duration::from_millis(5), swap, ..Settings::default() }
}

/// A scan in which a version runs since some cycles.
fn running(body: &str) -> Rig {
    let mut rig = Rig::new(points(), Vec::new());
    let prepared = rig.prepare("p", 0, &version(body), settings()).expect("it is good");
    rig.order(Order::Install(Box::new(prepared)));
    (0..30).for_each(|_| rig.step());
    rig.programs_returned();
    rig
}

fn shadow(rig: &mut Rig, module: &[u8], settings: Settings) -> Shadow {
    let prepared = rig.prepare("p", 0, module, settings).expect("it is good");
    let snapshot = rig.handle.latest.read().clone();
    Shadow::new(prepared, scan::rehearsal(&snapshot, PERIOD))
}

fn count(rig: &mut Rig) -> i128 {
    let news = rig.handle.latest.read().clone();
    let Value::Int(count) = rig.value(&news, "out.count") else { panic!("it is an int") };
    count
}

/// A shadow run beside cycles, before each of which `happens` is called; the running version counts
/// on in each.
fn tried(
    rig: &mut Rig,
    module: &[u8],
    settings: Settings,
    happens: impl FnMut(&mut Rig, i128),
) -> ShadowOutcome {
    let shadow = shadow(rig, module, settings);
    let (feed, frames) = shadow.feed();
    rig.order(Order::Shadow(feed));
    beside(rig, shadow, frames, happens)
}

/// Likewise, after the order.
fn beside(
    rig: &mut Rig,
    shadow: Shadow,
    frames: Frames,
    mut happens: impl FnMut(&mut Rig, i128),
) -> ShadowOutcome {
    let wanted = Arc::new(());
    let (keeper, wants) = (Arc::clone(&rig.keeper), Arc::downgrade(&wanted));
    let thread = std::thread::spawn(move || shadow.run(frames, &keeper, &wants));
    let started = Instant::now();
    let (mut cycles, mut given_back) = (0, 0);
    while !thread.is_finished() {
        assert!(started.elapsed() < LIMIT, "the run goes on for ever");
        happens(rig, cycles);
        rig.step();
        cycles += 1;
        given_back += feeds_returned(rig);
        // A tenth of the period: as many frames as there are last for 64 of these.
        std::thread::sleep(PERIOD / 10);
    }
    rig.step();
    assert_eq!(given_back + feeds_returned(rig), 1);
    thread.join().expect("it does not panic")
}

fn feeds_returned(rig: &mut Rig) -> usize {
    let things = std::iter::from_fn(|| rig.handle.returns.pop().ok());
    things.filter(|thing| matches!(thing, Return::Feed(_))).count()
}

/// The same, and the running version notices nothing.
fn tried_quietly(rig: &mut Rig, module: &[u8], settings: Settings) -> ShadowOutcome {
    let before = count(rig);
    let (mut cycles, mut counts) = (0, before);
    let outcome = tried(rig, module, settings, |rig, n| {
        (cycles, counts) = (n, count(rig));
        assert_eq!(counts, before + n, "a poll is missing in cycle {n}");
    });
    assert!(cycles > 0 && counts > before);
    let news = rig.cycle();
    assert_eq!((news.programs.len(), news.programs[0].generation.0), (1, 1));
    assert!(news.programs[0].trap.is_none());
    outcome
}

fn refusal(outcome: &ShadowOutcome) -> &str {
    &outcome.result.as_ref().expect_err("it is refused").reason
}

#[test]
fn an_equal_version_with_a_state_is_admitted() {
    let outcome = tried_quietly(&mut running(""), &version("nop"), settings());
    outcome.result.expect("it is admitted");
    let ShadowReport { p99_ns, .. } = outcome.report;
    let expected = ShadowReport {
        polls: POLLS.into(),
        compared: POLLS.into(),
        p99_ns,
        state_bytes: Some(4),
        ..ShadowReport::default()
    };
    assert_eq!(outcome.report, expected);
    assert!((100..5_000_000).contains(&p99_ns), "{p99_ns} ns");
}

#[test]
fn a_version_that_traps_in_the_shadow_is_refused_and_nobody_misses_a_poll() {
    let trap = "(if (i32.eq (global.get $polls) (i32.const 3)) (then (unreachable)))";
    let outcome = tried_quietly(&mut running(""), &version(trap), settings());
    let reason = refusal(&outcome);
    assert!(reason.contains("trapped in poll 3 of its shadow run: unreachable"), "{reason}");
    assert_eq!((outcome.report.polls, outcome.report.differing), (2, 0));
    assert!(outcome.post_mortem.is_some(), "a report can be made of it");
}

#[test]
fn a_runaway_is_stopped_in_the_shadow_too() {
    let outcome = tried_quietly(&mut running(""), &version("(loop (br 0))"), settings());
    let reason = refusal(&outcome);
    assert!(reason.contains("poll 1 of its shadow run: budget of 5ms exceeded"), "{reason}");
}

#[test]
fn a_version_that_is_too_slow_for_its_ratio_is_refused() {
    // Some 100 us, of a budget of 5 ms.
    let slow = "(local.set $n (i32.const 100000))
        (loop (br_if 0 (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))";
    for (ratio, is_admitted) in [(1.0, true), (0.001, false)] {
        let mut settings = settings();
        settings.swap.admit_ratio = ratio;
        let outcome = tried_quietly(&mut running(""), &version(slow), settings);
        assert!(outcome.report.p99_ns > 5_000, "{:?}", outcome.report);
        assert_eq!(outcome.report.polls, u64::from(POLLS));
        match is_admitted {
            true => outcome.result.expect("it is fast enough"),
            false => {
                let reason = refusal(&outcome);
                assert!(
                    reason.contains(", more than 0.001 times the poll budget of 5ms"),
                    "{reason}"
                );
            }
        }
    }
}

/// Is one ahead from its 5th poll on.
const DIFFERS: &str = "(if (i32.eq (global.get $polls) (i32.const 5)) (then
    (i32.store (i32.const 16) (i32.add (i32.load (i32.const 16)) (i32.const 1)))))";

#[test]
fn a_differing_output_refuses_where_equal_ones_are_required_and_is_told_in_any_case() {
    for require_equal in [true, false] {
        let mut settings = settings();
        settings.swap.require_equal = require_equal;
        let mut rig = running("");
        let before = count(&mut rig);
        let cycle = rig.handle.latest.read().cycle;
        let outcome = tried_quietly(&mut rig, &version(DIFFERS), settings);
        let report = &outcome.report;
        assert_eq!((report.polls, report.differing), (20, 16));
        assert_eq!(report.differences.len(), 8);
        let first = Difference {
            point: "out.count".into(),
            cycle: cycle + 5,
            running: (before + 5).to_string(),
            shadow: (before + 6).to_string(),
        };
        assert_eq!(report.differences[0], first);
        if require_equal {
            let expected = format!("outputs differ in 16 of 20 cycles: {first}");
            assert!(refusal(&outcome).contains(&expected), "{}", refusal(&outcome));
        } else {
            outcome.result.expect("differences are only told");
        }
    }
}

/// Writes the motor's bit.
const MOTOR: &str = "(i32.store8 (i32.const 40) (i32.const 1))
    (drop (call $write (i32.const 8) (i32.const 40) (i32.const 1)))";

#[test]
fn an_output_that_only_one_of_them_writes_is_a_difference() {
    let outcome = tried_quietly(&mut running(""), &version(MOTOR), settings());
    assert!(
        refusal(&outcome)
            .contains("in 20 of 20 cycles: out.motor in cycle 31: running version false")
    );
    assert!(refusal(&outcome).ends_with("new version true"), "{}", refusal(&outcome));
    // It would keep its value in the swap, and become safe after the probation.
    let outcome = tried_quietly(&mut running(MOTOR), &version(""), settings());
    let expected = "out.motor in cycle 50: running version true, new version never written (the \
                    output would get its safe value false)";
    assert!(refusal(&outcome).ends_with(expected), "{}", refusal(&outcome));
    assert_eq!(outcome.report.differing, 1);
}

/// 20 polls differed in 21 cycles.
#[test]
fn no_more_cycles_differ_than_were_compared() {
    let other = "(i32.store (i32.const 16) (i32.add (i32.load (i32.const 16)) (i32.const 9)))";
    let outcome = tried_quietly(&mut running(MOTOR), &version(other), settings());
    let report = &outcome.report;
    assert_eq!((report.polls, report.compared, report.differing), (20, 20, 20));
    let all = format!("outputs differ in 20 cycles, first difference {}", report.differences[0]);
    assert!(report.to_string().contains(&all), "{report}");
}

#[test]
fn variables_that_only_the_shadow_has_keep_their_values_and_no_other_sees_them() {
    // Traps when its variable is not the number of its polls so far.
    let body = "(drop (call $get (i32.const 105) (i32.const 4) (i32.const 48)))
        (if (i32.ne (i32.load (i32.const 48)) (i32.sub (global.get $polls) (i32.const 1)))
          (then (unreachable)))
        (drop (call $set (i32.const 105) (i32.const 4) (global.get $polls)))";
    let mut rig = running("");
    tried_quietly(&mut rig, &version(body), settings()).result.expect("it is equal");
    assert_eq!(rig.cycle().variables.read("mine"), None);
}

#[test]
fn a_variable_has_the_value_that_it_had_before_the_poll_of_the_running_version() {
    // The valve shows it.
    let body = "(drop (call $get (i32.const 100) (i32.const 5) (i32.const 48)))
        (f64.store (i32.const 56) (f64.convert_i32_s (i32.load (i32.const 48))))
        (drop (call $write (i32.const 0) (i32.const 56) (i32.const 8)))";
    let mut rig = running(body);
    let outcome = tried_quietly(&mut rig, &version(&format!("nop {body}")), settings());
    assert_eq!((outcome.report.compared, outcome.report.differing), (20, 0), "{outcome:?}");
}

#[test]
fn a_shadow_run_ends_when_nobody_wants_it_any_more() {
    let mut rig = running("");
    let shadow = shadow(&mut rig, &version("nop"), settings());
    let (_feed, frames) = shadow.feed();
    let wanted = Arc::new(());
    let (keeper, wants) = (Arc::clone(&rig.keeper), Arc::downgrade(&wanted));
    drop(wanted);
    let started = Instant::now();
    let outcome = shadow.run(frames, &keeper, &wants);
    assert!(started.elapsed() < Duration::from_secs(3));
    assert_eq!(outcome.report.cut_short.unwrap(), "the caller no longer waits for the run");
}

#[test]
fn polls_that_were_left_out_are_no_difference_and_no_proof() {
    for require_equal in [true, false] {
        let mut settings = settings();
        (settings.swap.shadow, settings.swap.require_equal) = (100, require_equal);
        let mut rig = running("");
        let shadow = shadow(&mut rig, &version("nop"), settings);
        let (feed, frames) = shadow.feed();
        rig.order(Order::Shadow(feed));
        // The scan runs away while the shadow has no time: there are 64 frames.
        (0..200).for_each(|_| rig.step());
        let outcome = beside(&mut rig, shadow, frames, |_, _| {});
        let report = &outcome.report;
        assert_eq!((report.compared, report.differing), (64, 0), "{report:?}");
        assert!(report.dropped >= 136, "{report:?}");
        assert_eq!(outcome.is_unproved, require_equal);
        if require_equal {
            assert!(refusal(&outcome).contains("polls were skipped"), "{outcome:?}");
        } else {
            assert_eq!(report.polls, 100);
            outcome.result.expect("nothing is wrong with it");
        }
    }
}

#[test]
fn a_version_is_refused_if_the_points_change_in_its_shadow_run() {
    let mut rig = running("");
    let outcome = tried(&mut rig, &version("nop"), settings(), |rig, n| {
        if n == 5 {
            let device_set =
                DeviceSet { points: points(), devices: Vec::new(), removed: Vec::new() };
            rig.order(Order::Reconfigure(Box::new(Reconfiguration {
                period: PERIOD,
                device_set: Some(device_set),
                ..Reconfiguration::default()
            })));
        }
    });
    assert!(refusal(&outcome).contains("points have changed after 5 polls"), "{outcome:?}");
    assert!(rig.cycle().programs[0].trap.is_none(), "the running one goes on");
}

#[test]
fn a_shadow_run_ends_with_the_version_that_it_watches() {
    let mut rig = running("");
    let outcome = tried(&mut rig, &version("nop"), settings(), |rig, n| {
        if n == 5 {
            rig.order(Order::Remove(Seat(0)));
        }
    });
    outcome.result.expect("that is not its fault");
    let report = &outcome.report;
    assert_eq!((report.polls, report.differing), (5, 0), "{report:?}");
    assert!(
        report.cut_short.as_ref().unwrap().contains("the running version has ended"),
        "{report:?}"
    );
    // It traps.
    let mortal = "(if (i32.eq (global.get $polls) (i32.const 35)) (then (unreachable)))";
    let outcome = tried(&mut running(mortal), &version("nop"), settings(), |_, _| {});
    assert_eq!(outcome.report.polls, 4);
    outcome.result.expect("that is not its fault either");
    // Nobody sits there at all, or the very same version does.
    for (mut rig, module) in [(Rig::new(points(), Vec::new()), ""), (running("nop"), "nop")] {
        let outcome = tried(&mut rig, &version(module), settings(), |_, _| {});
        assert_eq!(outcome.report.polls, 0);
        outcome.result.expect("there is nothing to compare with");
    }
}

#[test]
fn a_hand_over_that_fails_refuses_before_the_swap() {
    let mut settings = settings();
    settings.swap.budget = Duration::from_millis(1);
    let module = |save: &str| {
        wat(&format!(
            r#"(module (func (export "save") {save}) (func (export "restore") (unreachable))
                (func (export "poll")))"#
        ))
    };
    let mut rig = Rig::new(points(), Vec::new());
    let prepared = rig.prepare("p", 0, &module("unreachable"), settings.clone()).unwrap();
    rig.order(Order::Install(Box::new(prepared)));
    (0..5).for_each(|_| rig.step());
    let outcome = tried(&mut rig, &module("nop"), settings.clone(), |_, _| {});
    assert!(refusal(&outcome).starts_with("`save` of the running version failed: unreachable"));
    // One that is cut off is the end of the running version, and the swap goes on without it.
    let mut rig = Rig::new(points(), Vec::new());
    let prepared = rig.prepare("p", 0, &module("(loop (br 0))"), settings.clone()).unwrap();
    rig.order(Order::Install(Box::new(prepared)));
    (0..5).for_each(|_| rig.step());
    let outcome = tried(&mut rig, &module("nop"), settings.clone(), |_, _| {});
    assert_eq!(outcome.result, Ok(()));
    let trap = rig.handle.latest.read().programs[0].trap.clone().expect("it is lost");
    assert_eq!(trap.kind, "in `save`: budget of 1ms exceeded");
    let mut rig = Rig::new(points(), Vec::new());
    let prepared = rig.prepare("p", 0, &module(""), settings.clone()).unwrap();
    rig.order(Order::Install(Box::new(prepared)));
    rig.step();
    let outcome = tried(&mut rig, &module("nop"), settings, |_, _| {});
    assert!(refusal(&outcome).starts_with("its `restore` failed: unreachable"));
}

#[test]
fn a_cycle_with_a_shadow_run_allocates_nothing() {
    let mut rig = running("");
    let shadow = shadow(&mut rig, &version("nop"), settings());
    let (feed, frames) = shadow.feed();
    rig.order(Order::Shadow(feed));
    rig.step();
    // First there are frames, then there are none.
    for n in 0..200 {
        let info = allocation_counter::measure(|| rig.step());
        assert_eq!(info.count_total, 0, "cycle {n} allocated {} bytes", info.bytes_total);
    }
    drop(frames);
    let info = allocation_counter::measure(|| rig.step());
    assert_eq!(info.count_total, 0, "nor does its end");
}

/// The last receipts of a plugin, oldest first.
fn receipts(daemon: &Daemon) -> Vec<Event> {
    let all = block_on(daemon.client.history(Some("tank"), 100)).expect("the daemon answers");
    let events = all.into_iter().map(|entry| entry.what.event);
    // When a report is written is the disk's affair.
    events.filter(|event| !matches!(event, Event::Reported { .. })).collect()
}

#[test]
fn a_daemon_admits_what_is_equal_and_refuses_what_is_not() {
    let keys = "swap = { shadow = 30, require_equal = true, admit_ratio = 1 }";
    let daemon = Daemon::start(Keys { plugins: keys, ..Keys::default() });
    let first = daemon.drop_in("tank", &version_at(24, ""));
    daemon.wait_running("tank", &first);
    let equal = daemon.drop_in("tank", &version_at(24, "nop"));
    let before = daemon.wait_running("tank", &equal);
    daemon.wait_log("tank", &["shadow run of 30 polls", "outputs equal in 30"]);
    let trap =
        version_at(24, "(if (i32.eq (global.get $polls) (i32.const 3)) (then (unreachable)))");
    for (module, reason) in
        [(trap, "trapped in poll 3"), (version_at(24, DIFFERS), "differ in 26 of 30")]
    {
        let hash = daemon.drop_in("tank", &module);
        let view = daemon.wait_for("tank", "refused", |view| {
            view.file_hash.as_ref() == Some(&hash) && view.reason.is_some()
        });
        assert_eq!((view.state, view.generation), (PluginState::Running, before.generation));
        assert_eq!(view.hash.as_ref(), Some(&equal));
        assert!(view.reason.as_ref().unwrap().contains(reason), "{:?}", view.reason);
        daemon.wait_log("tank", &["tank.wasm is refused", reason]);
    }
    let crash = daemon.wait_log("tank", &["its crash report is"]);
    let crash = crash.message.split_whitespace().find(|word| word.contains(".crash")).unwrap();
    let mut replay = Command::new(env!("CARGO_BIN_EXE_camshaft"));
    let replay = replay.arg("replay").arg(crash.trim_end_matches(';')).output().unwrap();
    assert!(replay.status.success(), "{replay:?}");
    let all = receipts(&daemon);
    let [Event::Started { .. }, Event::Swapped { shadow: Some(admitted), .. }, rest @ ..] =
        &all[..]
    else {
        panic!("{all:?}");
    };
    assert_eq!((admitted.polls, admitted.compared, admitted.state_bytes), (30, 30, Some(4)));
    assert!(admitted.differences.is_empty() && admitted.p99_ns > 0);
    let [
        Event::Refused { shadow: Some(trapped), .. },
        Event::Refused { shadow: Some(differs), .. },
    ] = rest
    else {
        panic!("{rest:?}");
    };
    assert_eq!((trapped.polls, differs.differing, differs.differences.len()), (2, 26, 8));
    // It is not tried again by itself, but it is after a release.
    block_on(daemon.client.act("tank", "release")).unwrap();
    wait("another try", LIMIT, || (receipts(&daemon).len() == 6).then_some(()));
    let view = daemon.plugin("tank").unwrap();
    assert_eq!((view.generation, view.traps), (before.generation, 0));
}
