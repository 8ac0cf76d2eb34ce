//! Tests of write permissions and of variable values in a whole daemon.
//!
//! A plugin writes a variable without permission, and then gets the permission by a reload. The
//! tests check what the plugin gets as an answer, and what the status shows. Values from the
//! command line must be stored exactly or be refused.

use std::fs;
use std::process::Output;
use std::time::Duration;

use camshaft::process::image::Value;

use crate::daemon::{Daemon, Keys, wait};
use crate::rig::{block_on, wat};

const LIMIT: Duration = Duration::from_secs(20);

/// A program that writes 666.0 to `tank.setpoint` in each poll.
const EVIL: &str = r#"(module
  (import "env" "wasm_variable_write_double" (func $set (param i32 i32 f64) (result i32)))
  (memory (export "memory") 1) (data (i32.const 0) "tank.setpoint")
  (func (export "poll")
    (drop (call $set (i32.const 0) (i32.const 13) (f64.const 666)))))"#;

/// The value of a variable, if there is one.
fn variable(daemon: &Daemon, name: &str) -> Option<Value> {
    let all = block_on(daemon.client.vars()).expect("the daemon answers");
    all.into_iter().find(|view| view.name == name).map(|view| view.value)
}

#[test]
fn a_plugin_without_a_right_leaves_a_set_point_alone_until_it_is_granted() {
    let tables = "[[variable]]\nname = 'tank.setpoint'\ntype = 'double'\ninitial = 60.0\n";
    let daemon = Daemon::start(Keys { plugins: "grant = 'none'", tables, ..Keys::default() });
    daemon.drop_in("evil", &wat(EVIL));
    let refused = "evil: the variable tank.setpoint is not granted to the plugin; writes of the \
                   plugin are refused with code 5";
    daemon.wait_log("evil", &[refused]);
    let polls = daemon.plugin("evil").unwrap().polls;
    wait("it is polled on", LIMIT, || {
        (daemon.plugin("evil").unwrap().polls > polls + 100).then_some(())
    });
    assert_eq!(variable(&daemon, "tank.setpoint"), Some(Value::Real(60.0)));
    let lines = daemon.log().into_iter().filter(|line| line.message == refused);
    assert_eq!(lines.count(), 1, "said once");
    let file = daemon.path("camshaft.toml");
    let text = fs::read_to_string(&file).unwrap();
    let entry = "[[plugin]]\nname = 'evil'\nvariables = ['tank.*']\n[[device]]";
    fs::write(&file, text.replacen("[[device]]", entry, 1)).unwrap();
    assert!(daemon.camshaft(&["reload"]).status.success());
    wait("it writes", LIMIT, || {
        (variable(&daemon, "tank.setpoint") == Some(Value::Real(666.0))).then_some(())
    });
}

/// A program that writes 1 to the int `kept` and keeps the code in the int `code`.
const EARLY: &str = r#"(module
  (import "env" "wasm_variable_write_int" (func $set (param i32 i32 i32) (result i32)))
  (memory (export "memory") 1) (data (i32.const 0) "keptcode")
  (func (export "poll")
    (drop (call $set (i32.const 4) (i32.const 4)
      (call $set (i32.const 0) (i32.const 4) (i32.const 1))))))"#;

#[test]
fn a_variable_that_waits_for_a_restart_is_reserved_with_its_type() {
    let daemon = Daemon::start(Keys::default());
    let file = daemon.path("camshaft.toml");
    let plain = fs::read_to_string(&file).unwrap();
    let kept = "[[variable]]\nname = 'kept'\ntype = 'double'\nretain = true\n[control]";
    fs::write(&file, plain.replace("[control]", kept)).unwrap();
    assert!(daemon.camshaft(&["reload"]).status.success());
    assert_eq!(daemon.status().config_waiting, ["variable[kept] added"]);
    daemon.drop_in("early", &wat(EARLY));
    let code = wait("it is polled", LIMIT, || variable(&daemon, "code"));
    assert_eq!((code, variable(&daemon, "kept")), (Value::Int(4), None));
    // Whoever looks is told the same as the log.
    let view = daemon.wait_for("early", "refused", |view| !view.refused.is_empty());
    let words = &view.refused[0].words;
    assert!(
        words.ends_with(
            "refused with code 4; the configuration declares the type of the variable: change the \
             type there, or change the plugin"
        ),
        "{words}"
    );
    daemon.wait_log("early", &[words]);
    // Nothing is reserved any more.
    fs::write(&file, plain).unwrap();
    assert!(daemon.camshaft(&["reload"]).status.success());
    wait("it makes its own", LIMIT, || variable(&daemon, "kept"));
    assert_eq!(variable(&daemon, "kept"), Some(Value::Int(1)));
}

/// A program that writes what is no finite number to three variables.
const NO_NUMBERS: &str = r#"(module
  (import "env" "wasm_variable_write_double" (func $set (param i32 i32 f64) (result i32)))
  (memory (export "memory") 1) (data (i32.const 0) "abc")
  (func (export "poll")
    (drop (call $set (i32.const 0) (i32.const 1) (f64.const nan)))
    (drop (call $set (i32.const 1) (i32.const 1) (f64.const inf)))
    (drop (call $set (i32.const 2) (i32.const 1) (f64.const -inf)))))"#;

#[test]
fn values_are_exact_or_refused() {
    let tables = "[[device]]\nname = 'wide'\ndriver = 'sim'\npoint = [\n\
                  { name = 'wide', direction = 'in', type = 'i64', address = 40 },\n]\n";
    let daemon = Daemon::start(Keys { tables, ..Keys::default() });
    daemon.drop_in("odd", &wat(NO_NUMBERS));
    wait("they are there", LIMIT, || variable(&daemon, "c"));
    let text = |output: Output| String::from_utf8(output.stdout).unwrap();
    let found: serde_json::Value =
        serde_json::from_str(&text(daemon.camshaft(&["vars", "--json"]))).unwrap();
    let values: Vec<_> =
        found.as_array().unwrap().iter().map(|view| view["value"].clone()).collect();
    assert_eq!(values, ["nan", "inf", "-inf"]);
    let shown = text(daemon.camshaft(&["vars"]));
    let shown: Vec<_> = shown.lines().skip(1).map(|line| line.split_whitespace().nth(2)).collect();
    assert_eq!(shown, [Some("nan"), Some("inf"), Some("-inf")]);
    // One more than fits: as a float it would be the last that does.
    let set = |value: &str| daemon.camshaft(&["set", "wide", value]);
    for beyond in ["-9223372036854775809", "9223372036854775808", "340282366920938463463"] {
        let refused = set(beyond);
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(said.contains("wide: the value does not fit type i64"), "{beyond}: {said}");
    }
    assert!(set("-9223372036854775808").status.success());
    let least = Value::Int(i64::MIN.into());
    wait("it is exact", LIMIT, || {
        let points = block_on(daemon.client.points()).unwrap();
        points.iter().any(|point| point.name == "wide" && point.value == least).then_some(())
    });
    let refused = block_on(daemon.client.set_var("a", Value::Real(f64::INFINITY))).unwrap_err();
    let said = refused.to_string();
    assert!(said.contains("a: expected a finite number, found inf"), "{said}");
}
