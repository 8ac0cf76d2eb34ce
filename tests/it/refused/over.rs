//! Tests of refusals whose cause has ended.
//!
//! Examples: the missing variable now exists, a reload has added the point, or the same call now
//! succeeds. The status must not show such a refusal as a present one.

use super::*;

/// Refused calls in words, and whether the plugin counts as denied.
fn told(view: &PluginView) -> (Vec<&str>, bool) {
    (view.refused.iter().map(|call| &*call.words).collect(), view.denied)
}

/// A program that reads the int `late` in `init` and in each poll, where this is 1.
fn reader(in_init: i32, in_poll: i32) -> Vec<u8> {
    wat(&format!(
        r#"(module
          (import "env" "wasm_variable_read_int" (func $read (param i32 i32 i32) (result i32)))
          (memory (export "memory") 1) (data (i32.const 0) "late")
          (func $late (drop (call $read (i32.const 0) (i32.const 4) (i32.const 64))))
          (func (export "init") (if (i32.const {in_init}) (then (call $late))))
          (func (export "poll") (if (i32.const {in_poll}) (then (call $late)))))"#
    ))
}

/// Whoever was polled before the writer of a variable lacked it for ever.
#[test]
fn a_variable_that_is_there_by_now_is_not_told_as_missing() {
    let daemon = Daemon::start(Keys::default());
    let readers = [("init", 1, 0), ("poll", 0, 1), ("both", 1, 1)];
    for (name, in_init, in_poll) in readers {
        daemon.drop_in(name, &reader(in_init, in_poll));
        let view = daemon.wait_for(name, "polled", |view| view.polls > 10);
        let words = "there is no variable late yet; wasm_variable_read_int is refused with code 3";
        assert_eq!(told(&view), (vec![words], false), "{name}");
    }
    daemon.drop_in(
        "writer",
        &wat(r#"(module
          (import "env" "wasm_variable_write_int" (func $set (param i32 i32 i32) (result i32)))
          (memory (export "memory") 1) (data (i32.const 0) "late")
          (func (export "poll")
            (drop (call $set (i32.const 0) (i32.const 4) (i32.const 1)))))"#),
    );
    wait("it is written", LIMIT, || variable(&daemon, "late"));
    daemon.wait_for("poll", "content", |view| told(view) == (vec![], false));
    // It read it before its first poll, so the count of that is over by the first good read.
    daemon.wait_for("both", "content", |view| view.refused.is_empty());
    let words = "there was no variable late at the plugin's start; the call would succeed now: run \
                 `camshaft restart`, and the plugin repeats its start";
    daemon.wait_for("init", "told of the start", |view| told(view) == (vec![words], false));
    assert!(daemon.camshaft(&["restart", "init"]).status.success());
    daemon.wait_for("init", "content", |view| view.polls > 0 && view.refused.is_empty());
}

/// It stayed, with "denied", although a reload had added the point.
#[test]
fn a_point_that_a_reload_has_added_is_told_as_missing_at_the_start_only() {
    let daemon = Daemon::start(Keys::default());
    let find = r#"(module
        (import "env" "wasm_point_find" (func $find (param i32 i32 i32) (result i32)))
        (import "env" "wasm_variable_write_int" (func $set (param i32 i32 i32) (result i32)))
        (memory (export "memory") 1) (data (i32.const 0) "pump")
        (func $pump (drop (call $find (i32.const 0) (i32.const 4) (i32.const 64))))
        (func (export "init") (call $init)) (func (export "poll") (call $poll))
        (func $init @INIT) (func $poll @POLL))"#;
    let module = |init: &str, poll: &str| wat(&find.replace("@INIT", init).replace("@POLL", poll));
    let set = "(drop (call $set (i32.const 0) (i32.const 4) (i32.const 1)))";
    daemon.drop_in("once", &module(&format!("(call $pump) {set}"), ""));
    daemon.drop_in("each", &module("(call $pump)", "(call $pump)"));
    let file = daemon.path("camshaft.toml");
    let plain = fs::read_to_string(&file).unwrap();
    let none = "[[plugin]]\nname = 'once'\nvariables = []\n[[device]]";
    fs::write(&file, plain.replacen("[[device]]", none, 1)).unwrap();
    assert!(daemon.camshaft(&["reload"]).status.success());
    assert!(daemon.camshaft(&["restart", "once"]).status.success());
    let pump = "there is no point \"pump\"";
    let denied = "the variable pump is not granted to the plugin; writes of the plugin are refused \
                  with code 5";
    daemon.wait_for("once", "denied", |view| told(view) == (vec![pump, denied], true));
    daemon.wait_for("each", "denied", |view| told(view) == (vec![pump], true));
    let point = "[[device]]\nname = 'more'\ndriver = 'sim'\n[[device.point]]\nname = 'pump'\n\
                 direction = 'out'\ntype = 'f64'\nsafe = 0.0\n[control]";
    fs::write(&file, plain.replace("[control]", point)).unwrap();
    assert!(daemon.camshaft(&["reload"]).status.success());
    daemon.wait_for("each", "content", |view| told(view) == (vec![], false));
    let over = "at the plugin's start; the call would succeed now: run `camshaft restart`, and the \
                plugin repeats its start";
    let words = ["there was no point \"pump\"", "pump was not granted to the plugin"];
    let words = words.map(|words| format!("{words} {over}"));
    daemon.wait_for("once", "told of the start", |view| {
        told(view) == (vec![&*words[0], &*words[1]], false)
    });
    let shown = stdout(&daemon, &["plugins"]);
    assert!(shown.contains(&words[0]) && !shown.contains("denied"), "{shown}");
}

/// A program that gives `more.level` no number and writes beyond the image in polls for which
/// `condition` is 1, and otherwise does both as it should.
fn slipping(condition: &str) -> Vec<u8> {
    wat(&format!(
        r#"(module
          (import "env" "wasm_write_output" (func $out (param i32 i32 i32) (result i32)))
          (import "env" "wasm_point_find" (func $find (param i32 i32 i32) (result i32)))
          (import "env" "wasm_point_write_double" (func $set (param i32 f64) (result i32)))
          (memory (export "memory") 1) (data (i32.const 0) "more.level")
          (global $n (mut i32) (i32.const 0))
          (func (export "init")
            (drop (call $find (i32.const 0) (i32.const 10) (i32.const 64)))
            (drop (call $set (i32.load (i32.const 64)) (f64.const 0))))
          (func (export "poll") (local $slips i32)
            (global.set $n (i32.add (global.get $n) (i32.const 1)))
            (local.set $slips {condition})
            (drop (call $out (select (i32.const 4000) (i32.const 0) (local.get $slips))
              (i32.const 0) (i32.const 0)))
            (drop (call $set (i32.load (i32.const 64))
              (select (f64.const nan) (f64.convert_i32_s (global.get $n)) (local.get $slips))))))"#
    ))
}

/// One value that was no number left "running, denied" for ever.
#[test]
fn a_mistake_is_shown_as_long_as_it_is_made() {
    let tables = "[[device]]\nname = 'more'\ndriver = 'sim'\n[[device.point]]\n\
                  name = 'more.level'\ndirection = 'out'\ntype = 'f64'\nsafe = 0.0\n";
    let daemon = Daemon::start(Keys { tables, ..Keys::default() });
    let number = "a value of more.level does not fit the type; wasm_point_write_double is refused \
                  with code 1";
    let image = "wasm_write_output is refused with code 2: the address and length are outside the \
                 process image";
    daemon.drop_in("slips", &slipping("(i32.eq (global.get $n) (i32.const 5))"));
    daemon.wait_log("slips", &[number]);
    daemon.wait_log("slips", &[image]);
    daemon.wait_for("slips", "content", |view| told(view) == (vec![], false));
    // Whoever looks sees a mistake that is made now and then, whatever the last call was.
    daemon.drop_in("slips", &slipping("(i32.and (global.get $n) (i32.const 1))"));
    daemon.wait_for("slips", "denied", |view| told(view) == (vec![image, number], true));
    for _ in 0..30 {
        let view = daemon.plugin("slips").unwrap();
        assert_eq!(told(&view), (vec![image, number], true));
    }
    let lines = || daemon.log().iter().filter(|line| line.message.contains(number)).count();
    wait("it is told once for each version", LIMIT, || (lines() >= 2).then_some(()));
    let polls = daemon.plugin("slips").unwrap().polls;
    daemon.wait_for("slips", "polled on", |view| view.polls > polls + 200);
    assert_eq!(lines(), 2, "and no more");
}
