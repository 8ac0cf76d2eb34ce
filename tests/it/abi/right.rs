//! Tests of permissions: which program may write which variable, and which values an output may
//! have.
//!
//! A program without the permission gets an error code, in a poll, in `init` and in `restore`. A
//! float output must never be infinite or NaN. The same rules in a whole daemon are tested in
//! `right.rs`.

use camshaft::process::grant::{VariableGrant, VariableNames};
use camshaft::scan::Order;

use super::*;
use crate::rig::Rig;

fn names(list: &[&str]) -> Arc<VariableNames> {
    Arc::new(VariableNames::new(list.iter().copied()))
}

fn only(list: &[&str]) -> Settings {
    Settings { variables: VariableGrant::Only(names(list)), ..Settings::default() }
}

/// Names at 100: `flag`, `speed`, `level`, at 120 `new`, at 130 `alarm.low`.
const NAMES: &[(u32, &[u8])] = &[(100, b"flagspeedlevel"), (120, b"new"), (130, b"alarm.low")];

/// Plays calls in one poll with these settings; gives what was logged.
fn play(settings: Settings, table: &[(&str, i32)]) -> (Bench, Vec<String>) {
    let calls: Vec<_> = table.iter().map(|(call, _)| *call).collect();
    let mut bench = Bench::new();
    let played = bench.play_with(&Script::poll(NAMES, &calls), settings).unwrap();
    compare(&played, table);
    let said = played.said();
    (bench, said)
}

#[test]
fn a_program_without_a_right_writes_no_variable() {
    let table = [
        ("wasm_variable_write_int 104 5 9", 5),
        ("wasm_variable_write_int 104 5 9", 5),
        ("wasm_variable_write_double 109 5 9", 5),
        ("wasm_variable_write_boolean 100 4 0", 5),
        // A name that there is none of, and a type that is another one, change nothing.
        ("wasm_variable_write_int 120 3 9", 5),
        ("wasm_variable_write_double 104 5 9", 5),
        ("wasm_variable_read_int 120 3 200", 3),
        // Everybody may read.
        ("wasm_variable_read_int 104 5 200", 0),
        ("wasm_variable_read_double 109 5 200", 0),
        ("wasm_variable_read_boolean 100 4 200", 0),
        // What is no name at all is wrong before that.
        ("wasm_variable_write_int 4294967295 5 9", 1),
    ];
    let (mut bench, said) = play(only(&[]), &table);
    let expected = ["speed", "level", "flag", "new"];
    assert_eq!(said, expected.map(|name| format!("VariableNotGranted({name:?})")), "once each");
    assert_eq!(bench.world().variables.read("speed"), Some(Variable::Int(7)));
    assert_eq!(bench.world().variables.read("level"), Some(Variable::Double(1.5)));
    assert_eq!(bench.world().variables.len(), 3);
}

#[test]
fn variables_are_granted_by_name_and_by_beginning() {
    let listed = [
        ("wasm_variable_write_int 104 5 9", 0),
        ("wasm_variable_write_int 130 9 1", 0),
        ("wasm_variable_write_int 130 6 1", 0),
        ("wasm_variable_write_int 130 5 1", 5),
        ("wasm_variable_write_double 109 5 9", 5),
        ("wasm_variable_write_int 120 3 1", 5),
    ];
    play(only(&["speed", "alarm.*"]), &listed);
    let others = VariableGrant::AllBut(names(&["speed", "alarm.*"]));
    let opposite = listed.map(|(call, code)| (call, if code == 0 { 5 } else { 0 }));
    play(Settings { variables: others, ..Settings::default() }, &opposite);
    play(Settings::default(), &listed.map(|(call, _)| (call, 0)));
}

/// A program that asked for more names than are remembered filled the log with them in every poll,
/// and its own lines were dropped for it.
#[test]
fn names_that_a_guest_invents_fill_neither_the_log_nor_its_allowance() {
    let data: Vec<u8> = (0..60u8).map(|n| b'A' + n).collect();
    let write = (0..60).map(|n| format!("wasm_variable_write_int {} 1 1", 100 + n));
    let find = (0..60).map(|n| format!("wasm_point_find {} 1 1000", 100 + n));
    let own = |n: u32| format!("wasm_log 2 0 0 0 {} 1", 100 + n);
    for calls in [write.collect::<Vec<_>>(), find.collect()] {
        let poll = |n: u32| [vec![own(n)], calls.clone()].concat();
        let script = Script::poll(&[(100, &data)], &poll(0)).then(&poll(1)).then(&poll(2));
        let mut bench = Bench::new();
        bench.limits.log_lines_per_s = 3;
        let played = bench.play_with(&script, only(&[])).unwrap();
        let said = played.said();
        let told = |n: usize, of: &str| said[n].ends_with(&format!("({of:?})"));
        assert_eq!(said[0], "Info: A");
        assert!((0..32u8).all(|n| told(1 + usize::from(n), &char::from(b'A' + n).to_string())));
        let rest = ["OthersRefused { is_denial: true }", "Info: B", "Info: C"];
        assert_eq!(said[33..], rest, "each once, and its own lines");
    }
}

#[test]
fn a_start_has_no_other_rights_than_a_poll() {
    let calls = ["wasm_variable_write_int 104 5 9", "wasm_variable_write_int 120 3 9"];
    let script = Script::default().data(NAMES).init(&calls);
    let played = Bench::new().play_with(&script, only(&["new"])).unwrap();
    assert_eq!(played.codes, [5, 0]);
    assert_eq!(played.said(), ["VariableNotGranted(\"speed\")"]);
}

/// Between its preparation and its first poll an operator may take a right away.
#[test]
fn what_init_wrote_counts_only_if_it_may_still_be_written() {
    let script = Script::default().data(NAMES);
    let script =
        script.init(&["wasm_variable_write_int 104 5 9", "wasm_variable_write_int 120 3 9"]);
    let mut bench = Bench::new();
    let mut prepared = bench.prepare(&script.module(), Settings::default()).result.unwrap();
    prepared.program.configure(only(&["new"]), &points());
    let variables = &mut bench.world().variables;
    let takeover = prepared.bring_variables(variables);
    assert_eq!((takeover.variables_new, takeover.variables_dropped), (1, 1));
    assert_eq!(variables.read("speed"), Some(Variable::Int(7)));
}

/// Two versions that hand over; `restore` writes the variables `a` and `b`.
fn heir(number: u32) -> String {
    format!(
        r#"(module
        (import "env" "wasm_variable_write_int" (func $set (param i32 i32 i32) (result i32)))
        (memory (export "memory") 1) (data (i32.const 0) "ab{number}")
        (func (export "save"))
        (func (export "restore")
          (drop (call $set (i32.const 0) (i32.const 1) (i32.const {number})))
          (drop (call $set (i32.const 1) (i32.const 1) (i32.const {number}))))
        (func (export "poll")))"#
    )
}

#[test]
fn a_restore_has_no_other_rights_than_a_poll() {
    let mut rig = Rig::new(crate::rig::points(), Vec::new());
    rig.install("p", 0, &heir(1), only(&["b"]));
    let news = rig.install("p", 0, &heir(2), only(&["b"]));
    assert_eq!(news.variables.iter().collect::<Vec<_>>(), [("b", Variable::Int(2))]);
    let line = rig.log.pop().expect("it is said");
    assert_eq!(said(&line), "VariableNotGranted(\"a\")");
}

#[test]
fn a_right_counts_from_the_cycle_on_in_which_it_is_given() {
    let poll = r#"(module
        (import "env" "wasm_variable_write_int" (func $set (param i32 i32 i32) (result i32)))
        (memory (export "memory") 1) (data (i32.const 0) "a")
        (func (export "poll")
          (i32.store (i32.const 8) (i32.add (i32.load (i32.const 8)) (i32.const 1)))
          (drop (call $set (i32.const 0) (i32.const 1) (i32.load (i32.const 8))))))"#;
    let mut rig = Rig::new(crate::rig::points(), Vec::new());
    rig.install("p", 0, poll, only(&[]));
    rig.order(crate::rig::configure(Seat(0), only(&["a"])));
    assert_eq!(rig.cycle().variables.read("a"), Some(Variable::Int(2)));
    rig.order(crate::rig::configure(Seat(0), only(&[])));
    assert_eq!(rig.cycle().variables.read("a"), Some(Variable::Int(2)));
    rig.order(Order::Remove(Seat(0)));
    rig.cycle();
    let lines = std::iter::from_fn(|| rig.log.pop().ok());
    assert_eq!(lines.count(), 2, "said again, for the right was given and taken");
}

/// The bytes of floats that are no finite numbers, and of one that is, at 100 and so on: `flow` of
/// 4 bytes each, then `valve` of 8.
fn floats() -> Vec<(u32, Vec<u8>)> {
    let flows = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 1.5];
    let valves = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -2.5];
    let flows = flows.map(|flow| flow.to_le_bytes().to_vec());
    let valves = valves.map(|valve| valve.to_le_bytes().to_vec());
    (100..).step_by(4).zip(flows).chain((200..).step_by(8).zip(valves)).collect()
}

/// Plays polls on these floats; gives the codes, what was logged and both outputs.
fn drive(polls: &[&[&str]]) -> (Vec<i32>, Vec<String>, (f32, f64)) {
    let data = floats();
    let data: Vec<_> = data.iter().map(|(at, bytes)| (*at, &bytes[..])).collect();
    let script = Script::default().data(&data);
    let script = polls.iter().fold(script, |script, poll| script.then(poll));
    let mut bench = Bench::new();
    let played = bench.play(&script);
    let outputs = &bench.world().outputs;
    let flow = f32::from_le_bytes(outputs[12..16].try_into().unwrap());
    let valve = f64::from_le_bytes(outputs[..8].try_into().unwrap());
    (played.codes.clone(), played.said(), (flow, valve))
}

#[test]
fn no_output_is_given_what_is_no_finite_number() {
    let table: Vec<&str> = vec![
        "wasm_write_output 12 112 4",
        "wasm_write_output 0 224 8",
        "wasm_write_output 12 100 4",
        "wasm_write_output 12 104 4",
        "wasm_write_output 12 108 4",
        "wasm_write_output 0 200 8",
        "wasm_write_output 0 208 8",
        "wasm_write_output 0 216 8",
        // All or nothing: the flow that follows on the valve would be good.
        "wasm_write_output 0 200 16",
        "wasm_point_write_double 9 nan",
        "wasm_point_write_double 4 inf",
        "wasm_point_write_double 4 -inf",
        // More than an f32 can hold.
        "wasm_point_write_double 9 1e300",
    ];
    let (codes, said, driven) = drive(&[&table]);
    assert_eq!(codes, [0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1]);
    assert_eq!(driven, (1.5, -2.5));
    assert_eq!(said, ["NotFinite(\"flow\")", "NotFinite(\"valve\")"], "once each");
}

/// Bytes of a float may come in several calls, and only the last makes it what it is.
#[test]
fn a_float_in_parts_is_judged_when_the_poll_is_over() {
    // Its end first: with the zeroes that are there it is infinite for a moment.
    let parts: &[&str] = &["wasm_write_output 14 102 2", "wasm_write_output 12 112 4"];
    let (codes, said, driven) = drive(&[parts]);
    assert_eq!((codes, said, driven), (vec![0, 0], vec![], (1.5, 0.0)));
    // A half of it makes no number: it keeps its value, and what else was written counts.
    let first: &[&str] = &["wasm_write_output 12 112 4", "wasm_write_output 0 224 8"];
    let halves: &[&str] = &["wasm_write_output 14 102 2", "wasm_write_output 1 225 7"];
    let (codes, said, driven) = drive(&[first, halves]);
    assert_eq!((codes, driven), (vec![0; 4], (1.5, -2.5)));
    assert_eq!(said, ["NotFinite(\"flow\")"]);
    // So does one that was whole in the same poll, and both together.
    let spoilt: &[&str] = &[
        "wasm_write_output 12 112 4",
        "wasm_write_output 0 224 8",
        "wasm_write_output 14 102 2",
        "wasm_write_output 6 206 2",
    ];
    let (codes, said, driven) = drive(&[first, spoilt, spoilt]);
    assert_eq!((codes, driven), (vec![0; 10], (1.5, -2.5)));
    assert_eq!(said, ["NotFinite(\"valve\")", "NotFinite(\"flow\")"]);
}
