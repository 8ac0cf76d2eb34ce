//! Tests of calls that the host refuses to a program in a whole daemon, and of outputs that it
//! loses.
//!
//! The tests check what the status, the log and the history show about a refusal.
//! `refused/writer.rs` tests which other program the message names, and `refused/over.rs` tests
//! that a refusal disappears from the status when its cause has ended.

mod over;
mod writer;

use std::fs;
use std::time::Duration;

use camshaft::control::{PluginState, PluginView, VarView};
use camshaft::process::image::Value;

use crate::daemon::{Daemon, Keys, wait};
use crate::rig::{block_on, wat};

const LIMIT: Duration = Duration::from_secs(20);

fn stdout(daemon: &Daemon, arguments: &[&str]) -> String {
    String::from_utf8(daemon.camshaft(arguments).stdout).unwrap()
}

fn variable(daemon: &Daemon, name: &str) -> Option<VarView> {
    let all = block_on(daemon.client.vars()).expect("the daemon answers");
    all.into_iter().find(|view| view.name == name)
}

/// Codes and names of what a plugin was refused.
fn refused(view: &PluginView) -> Vec<(i32, &str)> {
    view.refused.iter().map(|call| (call.code, &*call.name)).collect()
}

/// A program that is refused something by each code in each poll, and makes the int `kept`.
const ASKER: &str = r#"(module
  (import "env" "wasm_log" (func $log (param i32 i32 i32 i32 i32 i32) (result i32)))
  (import "env" "wasm_write_output" (func $out (param i32 i32 i32) (result i32)))
  (import "env" "wasm_variable_read_int" (func $read (param i32 i32 i32) (result i32)))
  (import "env" "wasm_variable_write_int" (func $int (param i32 i32 i32) (result i32)))
  (import "env" "wasm_variable_write_double" (func $real (param i32 i32 f64) (result i32)))
  (import "env" "wasm_point_find" (func $find (param i32 i32 i32) (result i32)))
  (import "env" "wasm_point_write_int" (func $set (param i32 i32) (result i32)))
  (memory (export "memory") 1) (data (i32.const 0) "keptnothere")
  (func (export "poll")
    (drop (call $log (i32.const 9) (i32.const 0) (i32.const 0) (i32.const 0)
                     (i32.const 0) (i32.const 4)))
    (drop (call $out (i32.const 4000) (i32.const 0) (i32.const 4)))
    (drop (call $read (i32.const 4) (i32.const 7) (i32.const 64)))
    (drop (call $find (i32.const 4) (i32.const 3) (i32.const 64)))
    (drop (call $int (i32.const 0) (i32.const 4) (i32.const 1)))
    (drop (call $real (i32.const 0) (i32.const 4) (f64.const 1)))
    (drop (call $set (i32.const 1) (i32.const 1)))
    (drop (call $set (i32.const 0) (i32.const 1)))
    (drop (call $set (i32.const 99) (i32.const 1)))))"#;

#[test]
fn a_refused_call_is_told_once_and_counted_wherever_one_looks() {
    let daemon = Daemon::start(Keys::default());
    let file = daemon.path("asker.wasm");
    fs::write(&file, wat(ASKER)).unwrap();
    let deployed = stdout(&daemon, &["deploy", file.to_str().unwrap()]);
    let by_type = "the variable kept has the type int, and the plugin asks for double; \
                   wasm_variable_write_double is refused with code 4";
    let alone = format!(
        "{by_type}; the plugin itself writes the variable as int: deploy a version of the plugin \
         that writes double only, then run `camshaft restart --cold`"
    );
    assert!(deployed.contains(&format!("  refused: {alone}")), "{deployed}");
    let view = daemon.wait_for("asker", "polled", |view| view.polls > 100);
    let expected = [
        (1, ""),
        (2, ""),
        (3, "not"),
        (4, "kept"),
        (5, "witness.polls"),
        (5, "evil.input"),
        (3, ""),
        // What denies nothing comes last.
        (3, "nothere"),
    ];
    assert_eq!(refused(&view), expected);
    assert!(view.refused.iter().all(|call| call.count >= 100), "{:?}", view.refused);
    assert!(view.denied && view.refused_others == 0 && view.lost.is_empty());
    for words in [
        "wasm_log is refused with code 1: a pointer, a length, a log level or a text is wrong",
        "wasm_write_output is refused with code 2: the address and length are outside the process \
         image",
        "there is no variable nothere yet; wasm_variable_read_int is refused with code 3",
        "there is no point \"not\"",
        by_type,
        "witness.polls is not granted to the plugin; writes of the plugin are refused with code 5",
        "evil.input is an input; wasm_point_write_int is refused with code 5",
        "there is no point with the id 99; wasm_point_write_int is refused with code 3",
    ] {
        daemon.wait_log("asker", &[words]);
        let lines = daemon.log().into_iter().filter(|line| line.message.contains(words));
        assert_eq!(lines.count(), 1, "said once: {words}");
        for verb in ["status", "plugins"] {
            let shown = stdout(&daemon, &[verb]);
            assert!(shown.contains("running, denied"), "{verb}: {shown}");
            assert!(shown.contains(&format!("asker: {words}")), "{verb}: {shown}");
        }
    }
}

/// A variable that may come yet is nothing to worry about.
#[test]
fn a_read_of_what_is_not_there_yet_is_told_but_denies_nothing() {
    let daemon = Daemon::start(Keys::default());
    daemon.drop_in(
        "early",
        &wat(r#"(module
          (import "env" "wasm_variable_read_int" (func $read (param i32 i32 i32) (result i32)))
          (memory (export "memory") 1) (data (i32.const 0) "late")
          (func (export "poll")
            (drop (call $read (i32.const 0) (i32.const 4) (i32.const 64)))))"#),
    );
    let view = daemon.wait_for("early", "polled", |view| view.polls > 0);
    assert_eq!((refused(&view), view.denied), (vec![(3, "late")], false));
    let shown = stdout(&daemon, &["plugins"]);
    assert!(!shown.contains("denied"), "{shown}");
}

/// A program that calls a function of two numbers and a third argument for 40 names in each poll:
/// `w00` and so on.
fn forty(function: &str, third: &str) -> Vec<u8> {
    let names: String = (0..40).map(|n| format!("w{n:02}")).collect();
    let call = |n: u32| format!("(drop (call $f (i32.const {}) (i32.const 3) {third}))", 3 * n);
    let calls: String = (0..40).map(call).collect();
    wat(&format!(
        r#"(module
          (import "env" "{function}" (func $f (param i32 i32 i32) (result i32)))
          (memory (export "memory") 1) (data (i32.const 0) "{names}")
          (func (export "poll") {calls}))"#
    ))
}

/// Reads that denied nothing were counted as denials when there were many, and so were writes that
/// a reload had granted since.
#[test]
fn a_program_is_denied_only_as_long_as_something_denies_it() {
    let tables = "[[plugin]]\nname = 'writer'\nvariables = []\n";
    let daemon = Daemon::start(Keys { tables, ..Keys::default() });
    daemon.drop_in("reader", &forty("wasm_variable_read_int", "(i32.const 200)"));
    let view = daemon.wait_for("reader", "polled", |view| view.refused_others > 0);
    assert!(!view.denied && view.refused.len() == 32, "{view:?}");
    daemon.wait_log("reader", &["more than 32 requested variables", "do not exist yet"]);
    daemon.drop_in("writer", &forty("wasm_variable_write_int", "(i32.const 1)"));
    let view = daemon.wait_for("writer", "polled", |view| view.refused_others > 100);
    assert!(view.denied && view.refused.len() == 32, "{view:?}");
    daemon.wait_log("writer", &["further refused calls are only counted"]);
    let lines = daemon.log().into_iter().filter(|line| line.plugin == "writer");
    let lines: Vec<_> = lines.filter(|line| line.message.contains("refused")).collect();
    assert_eq!(lines.len(), 33, "32 names and that there are more: {lines:?}");
    assert!(lines[32].message.contains("further refused calls are only counted"), "{lines:?}");

    let file = daemon.path("camshaft.toml");
    let text = fs::read_to_string(&file).unwrap();
    let grant = |list: &str| {
        fs::write(&file, text.replace("variables = []", &format!("variables = [{list}]"))).unwrap();
        assert!(daemon.camshaft(&["reload"]).status.success());
    };
    grant("'w*'");
    wait("the last one is written", LIMIT, || variable(&daemon, "w39"));
    let view = daemon.plugin("writer").unwrap();
    assert!(!view.denied && view.refused.is_empty() && view.refused_others == 0, "{view:?}");
    let shown = stdout(&daemon, &["plugins"]);
    assert!(!shown.contains("denied"), "{shown}");
    // Under new rights every place is free again, and what is refused under these is told.
    grant("'w0*', 'w1*'");
    daemon.wait_log("writer", &["the variable w39 is not granted to the plugin"]);
    let view = daemon.wait_for("writer", "denied again", |view| view.refused.len() == 20);
    assert!(view.denied && view.refused_others == 0, "{view:?}");
}

/// Writes `value` to the point of this name, and to the variable `x` by its own type.
fn writer(point: &str, ty: &str, value: &str) -> Vec<u8> {
    let len = point.len();
    let name = if ty == "i32" { "int" } else { "double" };
    wat(&format!(
        r#"(module
          (import "env" "wasm_point_find" (func $find (param i32 i32 i32) (result i32)))
          (import "env" "wasm_point_write_int" (func $set (param i32 i32) (result i32)))
          (import "env" "wasm_variable_write_{name}" (func $var (param i32 i32 {ty}) (result i32)))
          (memory (export "memory") 1) (data (i32.const 0) "x{point}")
          (func (export "init")
            (drop (call $find (i32.const 1) (i32.const {len}) (i32.const 64))))
          (func (export "poll")
            (drop (call $var (i32.const 0) (i32.const 1) ({ty}.const {value})))
            (drop (call $set (i32.load (i32.const 64)) (i32.const 1)))))"#
    ))
}

/// Waits until `a` owns `evil.mark`.
fn wait_for_owner(daemon: &Daemon) {
    wait("it owns its output", LIMIT, || {
        let points = block_on(daemon.client.points()).unwrap();
        let mark = points.into_iter().find(|point| point.name == "evil.mark").unwrap();
        mark.owner.filter(|owner| owner == "a")
    });
}

#[test]
fn a_version_says_what_it_has_lost_and_which_type_is_in_its_way() {
    let plugins = "swap = { probation = '10ms', polls = 10 }";
    let daemon = Daemon::start(Keys { plugins, ..Keys::default() });
    let one = daemon.drop_in("a", &writer("evil.mark", "i32", "7"));
    daemon.wait_running("a", &one);
    wait_for_owner(&daemon);
    let two = daemon.drop_in("a", &writer("evil.cycle", "f64", "0.5"));
    daemon.wait_running("a", &two);
    daemon.wait_log("a", &["evil.mark has no owner now (was a"]);
    let view = daemon.wait_for("a", "without its output", |view| view.lost == ["evil.mark"]);
    assert_eq!(refused(&view), [(4, "x")]);
    let shown = stdout(&daemon, &["plugins"]);
    let lost =
        "a: evil.mark has no owner: this plugin wrote this output earlier, but does not write";
    assert!(shown.contains(lost), "{shown}");
    assert_eq!(variable(&daemon, "x").unwrap().value, Value::Int(7));
    // Who takes it back has it again.
    daemon.drop_in("a", &writer("evil.mark", "i32", "8"));
    daemon.wait_for("a", "whole again", |view| view.lost == ["evil.cycle"]);
}

/// The program is not to blame for what the operator takes from it.
#[test]
fn an_output_that_a_reload_takes_away_is_not_lost_by_the_program() {
    let keys = |tables| Keys { tables, ..Keys::default() };
    let daemon =
        Daemon::start(keys("[[plugin]]\nname = \"a\"\noutputs = [\"evil.mark\", \"evil.cycle\"]"));
    let hash = daemon.drop_in("a", &writer("evil.mark", "i32", "7"));
    daemon.wait_running("a", &hash);
    wait_for_owner(&daemon);
    daemon.configure(keys("[[plugin]]\nname = \"a\"\noutputs = [\"evil.cycle\"]"));
    daemon.kill(nix::sys::signal::Signal::SIGHUP);
    let words = "evil.mark has no owner now (was a, which may not write it any more); it has its \
                 safe value";
    daemon.wait_log("a", &[words]);
    let view = daemon.wait_for("a", "refused", |view| !view.refused.is_empty());
    assert_eq!(refused(&view), [(5, "evil.mark")]);
    assert!(view.lost.is_empty() && view.denied, "{view:?}");
    let shown = stdout(&daemon, &["plugins"]);
    assert!(!shown.contains("has no owner"), "{shown}");
    // What is granted again is its own again.
    daemon.configure(keys("[[plugin]]\nname = \"a\"\noutputs = [\"evil.mark\"]"));
    daemon.kill(nix::sys::signal::Signal::SIGHUP);
    wait_for_owner(&daemon);
}

#[test]
fn a_variable_shows_who_wrote_it_last_and_whether_that_one_has_left() {
    let tables = "[[variable]]\nname = 'declared'\ntype = 'int'\ninitial = 3\n";
    let daemon = Daemon::start(Keys { tables, ..Keys::default() });
    let hash = daemon.drop_in("a", &writer("evil.mark", "i32", "7"));
    daemon.wait_running("a", &hash);
    let of = |name: &str| variable(&daemon, name).expect("it is there");
    wait("it is written", LIMIT, || variable(&daemon, "x"));
    let (declared, x) = (of("declared"), of("x"));
    assert_eq!((declared.writer, declared.age_ms, declared.set_by_operator), (None, None, false));
    assert_eq!((x.writer.as_deref(), x.writer_runs), (Some("a"), true));
    assert!(daemon.camshaft(&["set", "declared", "5"]).status.success());
    wait("the operator's value is there", LIMIT, || of("declared").set_by_operator.then_some(()));
    daemon.remove("a");
    daemon.wait_gone("a");
    let left = wait("it is old", LIMIT, || Some(of("x")).filter(|x| x.age_ms >= Some(50)));
    assert_eq!((left.writer.as_deref(), left.writer_runs), (Some("a"), false));
    let shown = stdout(&daemon, &["vars"]);
    let row = |name: &str| shown.lines().find(|line| line.starts_with(name)).unwrap();
    assert!(row("x").ends_with("ago  a, which does not run"), "{shown}");
    assert!(row("declared").ends_with("ago  an operator"), "{shown}");
    assert!(daemon.camshaft(&["set", "x", "9"]).status.success());
    wait("the last one counts", LIMIT, || of("x").set_by_operator.then_some(()));
}

/// It was shown as one that does not run.
#[test]
fn a_writer_that_is_not_polled_yet_runs() {
    let tables = "[[plugin]]\nname = 'a'\nevery = 1000000\n";
    let daemon = Daemon::start(Keys { tables, ..Keys::default() });
    daemon.drop_in(
        "a",
        &wat(r#"(module
          (import "env" "wasm_variable_write_int" (func $set (param i32 i32 i32) (result i32)))
          (memory (export "memory") 1) (data (i32.const 0) "x")
          (func (export "init") (drop (call $set (i32.const 0) (i32.const 1) (i32.const 7))))
          (func (export "poll")))"#),
    );
    let x = wait("it is written", LIMIT, || variable(&daemon, "x"));
    assert_eq!((x.writer.as_deref(), x.writer_runs), (Some("a"), true));
    assert_eq!(daemon.plugin("a").unwrap().polls, 0);
}

#[test]
fn a_cold_restart_forgets_variables_of_programs_with_their_types() {
    let tables = "[[variable]]\nname = 'declared'\ntype = 'int'\ninitial = 3\n";
    let daemon = Daemon::start(Keys { tables, ..Keys::default() });
    let one = daemon.drop_in("a", &writer("evil.mark", "i32", "7"));
    daemon.wait_running("a", &one);
    wait("it is written", LIMIT, || variable(&daemon, "x"));
    assert!(daemon.camshaft(&["set", "declared", "5"]).status.success());
    // The file wants another type than the program: refused, and the way out is named.
    let file = daemon.path("camshaft.toml");
    let plain = fs::read_to_string(&file).unwrap();
    let other = "[[variable]]\nname = 'x'\ntype = 'double'\n[control]";
    fs::write(&file, plain.replace("[control]", other)).unwrap();
    let answer = daemon.camshaft(&["reload"]);
    let said = String::from_utf8_lossy(&answer.stderr).into_owned();
    let way_out = "variable[x].type: expected int, found double: a writes it as int; declare this \
                   type, or hold a or deploy a version that writes double, then `camshaft restart \
                   --cold`, then `camshaft reload`";
    assert!(!answer.status.success() && said.contains(way_out), "{said}");
    // Another program that comes too late is told the same way.
    let late = writer("evil.cycle", "f64", "0.5");
    daemon.drop_in("b", &late);
    let view = daemon.wait_for("b", "refused", |view| !view.refused.is_empty());
    let words = "a writes the variable as int: hold a or deploy a version of a that writes double, \
                 then run `camshaft restart --cold`";
    assert!(view.refused[0].words.ends_with(words), "{view:?}");
    daemon.remove("b");
    daemon.wait_gone("b");
    // Step by step.
    assert!(daemon.camshaft(&["hold", "a"]).status.success());
    let restarted = stdout(&daemon, &["restart", "--cold"]);
    assert!(restarted.ends_with("programs start\nheld, so not started: a\n"), "{restarted}");
    wait("it is forgotten", LIMIT, || variable(&daemon, "x").is_none().then_some(()));
    assert_eq!(variable(&daemon, "declared").unwrap().value, Value::Int(3));
    assert!(daemon.camshaft(&["reload"]).status.success());
    daemon.drop_in("a", &writer("evil.mark", "f64", "0.5"));
    assert!(daemon.camshaft(&["release", "a"]).status.success());
    wait("it has the other type", LIMIT, || {
        variable(&daemon, "x").filter(|x| x.value == Value::Real(0.5))
    });
}
