//! Tests of the messages that name another program as the cause of a refusal.
//!
//! The cause can be the writer of a variable that has another type, or the owner of an output. The
//! message must name the right program, and a way out for the operator.

use std::sync::Arc;

use camshaft::plugin::Settings;
use camshaft::process::grant::VariableGrant;
use camshaft::process::line::{Line, Message};
use camshaft::process::refused::{Keeper, Why};
use camshaft::process::seat::Seat;
use camshaft::process::variable::VariableKind::{Double, Int};
use camshaft::process::variable::{Denied, Variable, VariableKind};
use camshaft::scan::{Order, Reconfiguration};

use super::*;
use crate::daemon::Plant;
use crate::rig::{PERIOD, Rig, points};

/// A program that writes to `x` in `init`, by this type, and then does `poll`.
fn maker(kind: VariableKind, poll: &str) -> Vec<u8> {
    let (name, value) = match kind {
        Double => ("double", "f64.const 0.5"),
        _ => ("int", "i32.const 7"),
    };
    let ty = &value[..3];
    wat(&format!(
        r#"(module
          (import "env" "wasm_variable_write_{name}" (func $x (param i32 i32 {ty}) (result i32)))
          (memory (export "memory") 1) (data (i32.const 0) "x")
          (func $write (drop (call $x (i32.const 0) (i32.const 1) ({value}))))
          (func (export "init") (call $write))
          (func (export "poll") {poll}))"#
    ))
}

/// Two programs of one start were each told that `x` was written, and one write was lost.
#[test]
fn what_init_has_written_in_vain_is_told() {
    let mut rig = Rig::new(points(), Vec::new());
    let modules = [maker(Double, ""), maker(Int, ""), maker(Int, "")];
    let mut all: Vec<_> = (0..3)
        .map(|n| rig.prepare(["a", "b", "c"][n], n as u16, &modules[n], Settings::default()))
        .map(|prepared| prepared.expect("the module is good"))
        .collect();
    let denied = VariableGrant::Only(Arc::default());
    all[2].program.configure(Settings { variables: denied, ..Settings::default() }, &rig.points);
    let refused: Vec<_> = all.iter_mut().map(|prepared| prepared.program.refused()).collect();
    for prepared in all {
        rig.order(Order::Install(Box::new(prepared)));
    }
    let news = rig.cycle();
    assert_eq!(news.variables.read("x"), Some(Variable::Double(0.5)));
    let dropped = news.programs.iter().map(|fact| fact.takeover.variables_dropped);
    assert_eq!(dropped.collect::<Vec<_>>(), [0, 1, 1]);
    let refused: Vec<_> = refused.iter().map(|tally| tally.entries()).collect();
    assert!(refused[0].is_empty(), "{refused:?}");
    let whys = [1, 2].map(|n: usize| (refused[n][0].first.why, refused[n][0].last_cycle));
    let of_b = Why::Dropped(Denied::OtherType(Double), Int);
    assert_eq!(whys, [(of_b, 0), (Why::Dropped(Denied::NotGranted, Int), 0)]);
    let lines: Vec<_> = std::iter::from_fn(|| rig.log.pop().ok()).collect();
    let told = |line: &Line| match &line.message {
        Message::Refused(call) => (line.seat, call.words(Keeper::Unknown)),
        other => panic!("{other:?}"),
    };
    let words = "the write to the variable x in the plugin's start was dropped: the variable";
    let way_out = "hold the program that writes the variable as double (`camshaft vars` shows the \
                   writer), then run `camshaft restart --cold`";
    let expected = [
        (Seat(1), format!("{words} has the type double, and the plugin asked for int; {way_out}")),
        (Seat(2), format!("{words} is not granted to the plugin")),
    ];
    assert_eq!(lines.iter().map(told).collect::<Vec<_>>(), expected);
}

/// A program that writes to 40 variables in `init`, by this type.
fn makes_forty(kind: VariableKind) -> Vec<u8> {
    let (name, value) = match kind {
        Double => ("double", "f64.const 0.5"),
        _ => ("int", "i32.const 7"),
    };
    let ty = &value[..3];
    let names: String = (0..40).map(|n| format!("w{n:02}")).collect();
    let write = |n: u32| format!("(drop (call $w (i32.const {}) (i32.const 3) ({value})))", 3 * n);
    let writes: String = (0..40).map(write).collect();
    wat(&format!(
        r#"(module
          (import "env" "wasm_variable_write_{name}" (func $w (param i32 i32 {ty}) (result i32)))
          (memory (export "memory") 1) (data (i32.const 0) "{names}")
          (func (export "init") {writes}) (func (export "poll")))"#
    ))
}

/// Nothing was said of those for which there is no place.
#[test]
fn that_more_of_a_start_is_lost_than_is_told_apart_is_told() {
    let mut rig = Rig::new(points(), Vec::new());
    let all = [("a", Double), ("b", Int)].into_iter().zip(0..).map(|((name, kind), seat)| {
        rig.prepare(name, seat, &makes_forty(kind), Settings::default()).expect("it is good")
    });
    let mut all: Vec<_> = all.collect();
    let refused = all[1].program.refused();
    for prepared in all {
        rig.order(Order::Install(Box::new(prepared)));
    }
    let news = rig.cycle();
    assert_eq!(news.programs[1].takeover.variables_dropped, 40);
    assert_eq!((refused.entries().len(), refused.others().denials), (32, 8));
    let lines: Vec<_> = std::iter::from_fn(|| rig.log.pop().ok()).collect();
    assert_eq!(lines.len(), 33, "{lines:?}");
    let last = &lines[32];
    assert!(matches!(last.message, Message::OthersRefused { is_denial: true }), "{last:?}");
    assert_eq!(last.seat, Seat(1));
}

/// What was refused because of a name that was kept stayed so, and was not told when it was kept
/// again.
#[test]
fn a_reload_that_gives_names_back_begins_new_counts() {
    let mut rig = Rig::new(points(), Vec::new());
    let reserve = |rig: &mut Rig, reserved: &[(&str, VariableKind)]| {
        let reserved = reserved.iter().map(|(name, kind)| ((*name).to_owned(), *kind)).collect();
        rig.order(Order::Reconfigure(Box::new(Reconfiguration {
            period: PERIOD,
            reserved,
            ..Reconfiguration::default()
        })));
        rig.cycle()
    };
    reserve(&mut rig, &[("x", Int)]);
    let module = maker(Double, "(call $write)");
    let mut prepared = rig.prepare("a", 0, &module, Settings::default()).expect("it is good");
    let first = prepared.program.refused();
    rig.order(Order::Install(Box::new(prepared)));
    let news = rig.cycle();
    assert_eq!((news.variables.read("x"), first.entries().len()), (None, 2));
    reserve(&mut rig, &[("x", Int)]);
    assert!(first.newest().is_none(), "nothing has changed");
    let news = reserve(&mut rig, &[]);
    assert_eq!(news.variables.read("x"), Some(Variable::Double(0.5)));
    assert!(first.newest().is_some(), "what it was refused says nothing of now");
}

/// Which of them is prepared first is not known, so either may lose.
#[test]
fn of_two_types_at_one_start_the_loser_is_told() {
    let plant = Plant::new(Keys::default());
    plant.drop_in("a", &maker(Double, ""));
    plant.drop_in("b", &maker(Int, ""));
    let daemon = Daemon::on(plant);
    let views = ["a", "b"].map(|name| daemon.wait_for(name, "polled", |view| view.polls > 10));
    let denied = views.iter().filter(|view| view.denied).collect::<Vec<_>>();
    assert_eq!(denied.len(), 1, "{views:?}");
    assert_eq!(refused(denied[0]), [(4, "x")]);
    daemon.wait_log(&denied[0].name, &["the variable x", "has the type"]);
}

/// The last word in what `b`, which writes a double, is told of `x`.
fn way_out(daemon: &Daemon) -> String {
    let words = daemon.wait_for("b", "refused", |view| !view.refused.is_empty()).refused;
    let words = words[0].words.split_once("code 4; ").expect("it is a refusal").1.to_owned();
    daemon.remove("b");
    daemon.wait_gone("b");
    words
}

/// An operator's value hid whoever would make the variable again.
#[test]
fn the_way_out_names_the_maker_of_a_variable_that_an_operator_has_set() {
    let daemon = Daemon::start(Keys::default());
    let one = daemon.drop_in("a", &maker(Int, ""));
    daemon.wait_running("a", &one);
    wait("it is written", LIMIT, || variable(&daemon, "x"));
    assert!(daemon.camshaft(&["set", "x", "9"]).status.success());
    wait("it is set", LIMIT, || variable(&daemon, "x").unwrap().set_by_operator.then_some(()));
    daemon.drop_in("b", &maker(Double, "(call $write)"));
    let by_a = "a writes the variable as int: hold a or deploy a version of a that writes double, \
                then run `camshaft restart --cold`";
    assert_eq!(way_out(&daemon), by_a);
    let file = daemon.path("camshaft.toml");
    let plain = fs::read_to_string(&file).unwrap();
    let declare = |kind: &str| {
        let other = format!("[[variable]]\nname = 'x'\ntype = '{kind}'\n[control]");
        fs::write(&file, plain.replace("[control]", &other)).unwrap();
        daemon.camshaft(&["reload"])
    };
    let said = String::from_utf8(declare("double").stderr).unwrap();
    assert!(
        said.contains("expected int, found double: a writes it as int; declare this type"),
        "{said}"
    );
    // Once it has left, nobody makes it again.
    daemon.remove("a");
    daemon.wait_gone("a");
    daemon.drop_in("b", &maker(Double, "(call $write)"));
    let other = "no other program writes the variable: run `camshaft restart --cold` to remove the \
                 variable";
    assert_eq!(way_out(&daemon), other);
    assert!(declare("int").status.success());
    daemon.drop_in("b", &maker(Double, "(call $write)"));
    assert_eq!(
        way_out(&daemon),
        "the configuration declares the type of the variable: change the type there, or change the \
         plugin"
    );
}

/// One of two was named, and the other made the variable anew after a cold restart; and so was one
/// that had followed the advice.
#[test]
fn the_way_out_names_both_who_write_it_and_none_that_writes_the_other_type_now() {
    let daemon = Daemon::start(Keys::default());
    let one = daemon.drop_in("a", &maker(Int, ""));
    daemon.wait_running("a", &one);
    wait("it is written", LIMIT, || variable(&daemon, "x"));
    let two = daemon.drop_in("c", &maker(Int, "(call $write)"));
    daemon.wait_running("c", &two);
    wait("c writes it", LIMIT, || variable(&daemon, "x").unwrap().writer.filter(|it| it == "c"));
    daemon.drop_in("b", &maker(Double, "(call $write)"));
    let both = "c and a write the variable as int: hold both or deploy versions that write double, \
                then run `camshaft restart --cold`";
    assert_eq!(way_out(&daemon), both);
    let file = daemon.path("camshaft.toml");
    let plain = fs::read_to_string(&file).unwrap();
    let other = "[[variable]]\nname = 'x'\ntype = 'double'\n[control]";
    fs::write(&file, plain.replace("[control]", other)).unwrap();
    let said = String::from_utf8(daemon.camshaft(&["reload"]).stderr).unwrap();
    let words = "expected int, found double: c and a write it as int; declare this type, or \
                 hold them or deploy versions that write double, then `camshaft restart --cold`";
    assert!(said.contains(words), "{said}");
    fs::write(&file, plain).unwrap();
    // One leaves, and the other has a version that writes a double and is refused that itself.
    daemon.remove("c");
    daemon.wait_gone("c");
    let hash = daemon.drop_in("a", &maker(Double, "(call $write)"));
    daemon.wait_running("a", &hash);
    daemon.wait_for("a", "refused", |view| !view.refused.is_empty());
    daemon.drop_in("b", &maker(Double, "(call $write)"));
    let other = "no other program writes the variable: run `camshaft restart --cold` to remove the \
                 variable";
    assert_eq!(way_out(&daemon), other);
}

/// A program that writes the int `x` in `init`, and as a double in each poll.
fn of_two_minds() -> Vec<u8> {
    wat(r#"(module
      (import "env" "wasm_variable_write_int" (func $int (param i32 i32 i32) (result i32)))
      (import "env" "wasm_variable_write_double" (func $double (param i32 i32 f64) (result i32)))
      (memory (export "memory") 1) (data (i32.const 0) "x")
      (func (export "init") (drop (call $int (i32.const 0) (i32.const 1) (i32.const 7))))
      (func (export "poll")
        (drop (call $double (i32.const 0) (i32.const 1) (f64.const 0.5)))))"#)
}

/// After an operator's `set` it was told that a cold restart is enough, and made the variable with
/// the same type again.
#[test]
fn the_way_out_names_the_program_itself_whoever_has_set_its_variable() {
    let daemon = Daemon::start(Keys::default());
    daemon.drop_in("a", &of_two_minds());
    let words = || {
        let view = daemon.wait_for("a", "refused", |view| !view.refused.is_empty());
        view.refused[0].words.split_once("code 4; ").expect("it is a refusal").1.to_owned()
    };
    let itself = "the plugin itself writes the variable as int: deploy a version of the plugin \
                  that writes double only, then run `camshaft restart --cold`";
    assert_eq!(words(), itself);
    let set = || {
        assert!(daemon.camshaft(&["set", "x", "9"]).status.success());
        wait("it is set", LIMIT, || variable(&daemon, "x").unwrap().set_by_operator.then_some(()));
    };
    set();
    assert_eq!(words(), itself);
    // A new instance has made nothing, and would all the same.
    let before = daemon.plugin("a").unwrap().generation;
    assert!(daemon.camshaft(&["restart", "a"]).status.success());
    daemon.wait_for("a", "new", |view| view.generation > before && view.polls > 0);
    set();
    assert_eq!(words(), itself);
    // Another one that writes it goes on doing so.
    let hash = daemon.drop_in("b", &maker(Int, "(call $write)"));
    daemon.wait_running("b", &hash);
    wait("b writes it", LIMIT, || variable(&daemon, "x").unwrap().writer.filter(|it| it == "b"));
    let both = "b and the plugin itself write the variable as int: hold b or deploy a version of b \
                that writes double, deploy a version of the plugin that writes double only, then \
                run `camshaft restart --cold`";
    assert_eq!(words(), both);
    daemon.remove("b");
    daemon.wait_gone("b");
    assert_eq!(words(), itself);
    // Step by step.
    let hash = daemon.drop_in("a", &maker(Double, "(call $write)"));
    daemon.wait_running("a", &hash);
    assert!(daemon.camshaft(&["restart", "--cold"]).status.success());
    wait("it has the other type", LIMIT, || {
        variable(&daemon, "x").filter(|x| x.value == Value::Real(0.5))
    });
    let view = daemon.wait_for("a", "content", |view| view.polls > 0 && !view.denied);
    assert!(view.refused.is_empty(), "{view:?}");
}

/// It does not run for the moment, and makes the variable as soon as it does.
#[test]
fn the_way_out_names_a_writer_that_waits_after_a_trap() {
    let plant = Plant::new(Keys::default());
    let file = plant.path("camshaft.toml");
    let plain = fs::read_to_string(&file).unwrap();
    let slow = r#"first = "60s", max = "60s""#;
    fs::write(&file, plain.replace(r#"first = "10ms", max = "50ms""#, slow)).unwrap();
    let daemon = Daemon::on(plant);
    daemon.drop_in("a", &maker(Int, "(unreachable)"));
    daemon.wait_for("a", "waiting", |view| view.state == PluginState::Backoff);
    daemon.drop_in("b", &maker(Double, "(call $write)"));
    assert!(way_out(&daemon).starts_with("a writes the variable as int: hold a or "));
}

/// It named the plugin that had got the seat of the first owner.
#[test]
fn the_owner_of_an_output_is_the_one_that_it_has_now() {
    let daemon = Daemon::start(Keys::default());
    let take = |name: &str| {
        let hash = daemon.drop_in(name, &super::writer("evil.mark", "i32", "7"));
        daemon.wait_running(name, &hash);
    };
    let owner = |name: &'static str| {
        let words = format!("evil.mark belongs to {name}; writes are refused with code 5");
        move |view: &PluginView| view.refused.iter().any(|call| call.words == words)
    };
    take("a");
    wait_for_owner(&daemon);
    take("c");
    take("b");
    for name in ["b", "c"] {
        daemon.wait_for(name, "refused", owner("a"));
    }
    daemon.remove("a");
    daemon.wait_gone("a");
    // Somebody else has the seat of the first owner now.
    let idle = daemon.drop_in("d", &wat(r#"(module (func (export "poll")))"#));
    daemon.wait_running("d", &idle);
    daemon.wait_for("b", "content", |view| !view.denied && view.refused.is_empty());
    daemon.wait_for("c", "refused", owner("b"));
    let view = daemon.plugin("c").unwrap();
    assert!(view.denied && view.refused.len() == 1, "{view:?}");
}

/// A program that tries to have the output once and no more.
#[test]
fn an_output_that_is_free_is_nobody_s_reason() {
    let daemon = Daemon::start(Keys::default());
    let hash = daemon.drop_in("a", &super::writer("evil.mark", "i32", "7"));
    daemon.wait_running("a", &hash);
    wait_for_owner(&daemon);
    daemon.drop_in(
        "once",
        &wat(r#"(module
          (import "env" "wasm_point_find" (func $find (param i32 i32 i32) (result i32)))
          (import "env" "wasm_point_write_int" (func $set (param i32 i32) (result i32)))
          (memory (export "memory") 1) (data (i32.const 0) "evil.mark")
          (global $n (mut i32) (i32.const 0))
          (func (export "poll")
            (if (global.get $n) (then (return)))
            (global.set $n (i32.const 1))
            (drop (call $find (i32.const 0) (i32.const 9) (i32.const 64)))
            (drop (call $set (i32.load (i32.const 64)) (i32.const 1)))))"#),
    );
    let view = daemon.wait_for("once", "denied", |view| view.denied);
    assert_eq!(refused(&view), [(5, "evil.mark")]);
    daemon.remove("a");
    daemon.wait_for("once", "content", |view| !view.denied && view.refused.is_empty());
}
