//! Tests of forces in a running daemon, as an operator sets and sees them.
//!
//! A force has an owner, a reason and an end time; the command line must show all of them. A wrong
//! order must be refused with a clear message. The values in the scan are tested in `force.rs`.

use std::time::Duration;

use camshaft::process::image::{Class, Quality, Value};

use crate::daemon::{Daemon, Keys, wait};
use crate::rig::block_on;

const EXTRA: &str = r#"
[[device]]
name = "extra"
driver = "sim"
point = [
  { name = "extra.in", direction = "in", type = "u8", initial = 1 },
  { name = "extra.out", direction = "out", type = "i32", safe = 3 },
  { name = "extra.level", direction = "in", type = "f64", range = [0, 100],
    description = "level of the tank" },
]
"#;

/// Runs the command line against the daemon: exit code, standard output, standard error.
fn run(daemon: &Daemon, arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = daemon.camshaft(arguments);
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

/// Value, class and reason of a point.
fn point(daemon: &Daemon, name: &str) -> (Value, Class, Quality) {
    let points = block_on(daemon.client.points()).unwrap();
    let view = points.into_iter().find(|view| view.name == name).unwrap();
    (view.value, view.quality, view.reason)
}

fn said(daemon: &Daemon, words: &str) {
    wait(words, Duration::from_secs(10), || {
        daemon.log().iter().any(|line| line.message.contains(words)).then_some(())
    });
}

#[test]
fn a_force_has_an_owner_a_reason_and_an_end() {
    let daemon = Daemon::start(Keys { tables: EXTRA, ..Keys::default() });
    let forced = run(
        &daemon,
        &["force", "extra.in", "40", "--for", "10m", "--owner", "ann", "--reason", "a test"],
    );
    assert_eq!(forced, (Some(0), "extra.in: forced to 40 for 10m\n".into(), String::new()));
    wait("it is forced", Duration::from_secs(5), || {
        let is_so = (Value::Int(40), Class::Good, Quality::Forced);
        (point(&daemon, "extra.in") == is_so).then_some(())
    });
    said(&daemon, "extra.in is forced to 40 (was 1) by ann for");
    // What the device says meanwhile counts afterwards.
    assert_eq!(run(&daemon, &["set", "extra.in", "7"]).0, Some(0));
    let waits = "extra.out: forced to -5 until `camshaft unforce` or the end of the daemon\n\
                 extra.out: no running program owns this output, so the output has its safe value; \
                 the force takes effect when a running program owns the output\n";
    let forced = run(&daemon, &["force", "extra.out", "-5", "--forever", "--owner", "bob"]);
    assert_eq!(forced, (Some(0), waits.into(), String::new()));
    assert_eq!(point(&daemon, "extra.out").0, Value::Int(3));
    let (_, table, _) = run(&daemon, &["forces"]);
    let lines: Vec<_> = table.lines().collect();
    assert_eq!(lines.len(), 3, "{table}");
    assert!(lines[1].starts_with("extra.in      40  forced"), "{table}");
    assert!(lines[1].ends_with("  a test") && lines[1].contains("  ann  "), "{table}");
    let safe = "extra.out     -5  waits, the output is safe       -  bob  ";
    assert!(lines[2].starts_with(safe), "{table}");
    assert_eq!(daemon.status().forces, 2);
    assert!(run(&daemon, &["status"]).1.contains("forces    2 points are forced"));
    assert_eq!(run(&daemon, &["unforce", "extra.in"]).1, "extra.in: not forced any more\n");
    wait("the device is seen again", Duration::from_secs(5), || {
        let is_so = (Value::Int(7), Class::Good, Quality::Good);
        (point(&daemon, "extra.in") == is_so).then_some(())
    });
    run(&daemon, &["force", "extra.in", "9", "--for", "200ms", "--owner", "ann"]);
    said(&daemon, "the force of extra.in has ended");
    assert_eq!(point(&daemon, "extra.in").0, Value::Int(7));
    assert_eq!(run(&daemon, &["unforce", "--all"]).0, Some(0));
    wait("no point is forced", Duration::from_secs(5), || {
        (run(&daemon, &["forces"]).1 == "no point is forced\n").then_some(())
    });
}

#[test]
fn what_cannot_be_forced_is_said() {
    let daemon = Daemon::start(Keys { tables: EXTRA, ..Keys::default() });
    let fails = |arguments: &[&str], expected: &str| {
        let (code, out, error) = run(&daemon, arguments);
        assert_eq!((code, &*out), (Some(1), ""), "{arguments:?}");
        assert!(error.contains(expected), "{arguments:?}: {error}");
    };
    fails(
        &["force", "extra.inn", "1"],
        "there is no point \"extra.inn\"; did you mean \"extra.in\"?",
    );
    fails(&["force", "extra.in", "300"], "extra.in: the value does not fit type u8");
    let outside = "extra.level: expected a value from 0 to 100, which is the `range` of the point, \
                   found 100.5";
    fails(&["force", "extra.level", "100.5"], outside);
    fails(&["force", "extra.in", "true"], "extra.in: expected a number for type u8");
    fails(
        &["force", "extra.in", "1", "--for", "8d"],
        "for_ms: expected 1 ms to 7 days, or forever",
    );
    fails(&["force", "extra.in", "1", "--owner", ""], "owner: expected 1 to 64 bytes");
    fails(&["unforce", "extra.in"], "extra.in is not forced");
    let (code, _, error) = run(&daemon, &["force", "extra.in", "1", "--for", "1m", "--forever"]);
    assert_eq!(code, Some(2), "{error}");
    assert_eq!(daemon.status().forces, 0);
}

#[test]
fn a_description_is_shown_with_its_point() {
    let daemon = Daemon::start(Keys { tables: EXTRA, ..Keys::default() });
    let (code, table, _) = run(&daemon, &["points"]);
    assert_eq!(code, Some(0));
    let line = |start: &str| table.lines().find(|line| line.starts_with(start)).unwrap();
    assert!(line("POINT").ends_with("  DEVICE  DESCRIPTION"), "{table}");
    assert!(line("extra.level").ends_with("  extra   level of the tank"), "{table}");
    assert!(line("extra.in").ends_with("  extra"), "{table}");
    let (_, json, _) = run(&daemon, &["points", "--json"]);
    assert!(json.contains(r#""description": "level of the tank""#), "{json}");
}
