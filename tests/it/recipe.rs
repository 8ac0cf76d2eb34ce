//! Tests of recipes, which `camshaft test` runs. A recipe lists inputs and expected outputs of a
//! module.
//!
//! The tests check which recipes pass, which differences the report names, and that the report is
//! also correct as JSON. Limits of CPU time and memory are tested in `offline.rs`.

use std::path::PathBuf;
use std::time::Duration;

use camshaft::plugin::Limits;
use camshaft::recipe::{self, TestReport};

use crate::rig::{compile_service, wat};

/// CPU time for each poll: the default of the command line.
const BUDGET: Duration = Duration::from_micros(2500);

/// Copies inputs 0 and 1 to outputs 1 and 0, logs "Polling", counts its polls in the variable `n`,
/// writes the clock's milliseconds to output 4, sets `seen` to double `level` plus a half. Traps
/// when input 2 is 1, loops for ever when it is 2. Its `init` logs "Starting" and makes `n`.
const DEMO: &str = r#"(module
  (import "env" "wasm_log" (func $log (param i32 i32 i32 i32 i32 i32) (result i32)))
  (import "env" "wasm_read_input" (func $read (param i32 i32 i32) (result i32)))
  (import "env" "wasm_write_output" (func $write (param i32 i32 i32) (result i32)))
  (import "env" "wasm_current_time" (func $time (param i32 i32) (result i32)))
  (import "env" "wasm_variable_read_int" (func $get (param i32 i32 i32) (result i32)))
  (import "env" "wasm_variable_write_int" (func $set (param i32 i32 i32) (result i32)))
  (import "env" "wasm_variable_read_double" (func $getd (param i32 i32 i32) (result i32)))
  (import "env" "wasm_variable_write_double" (func $setd (param i32 i32 f64) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 100) "PollingStartingnlevelseen")
  (func (export "init")
    (drop (call $log (i32.const 2) (i32.const 0) (i32.const 0) (i32.const 0)
      (i32.const 107) (i32.const 8)))
    (drop (call $set (i32.const 115) (i32.const 1) (i32.const 0))))
  (func (export "poll")
    (drop (call $read (i32.const 0) (i32.const 0) (i32.const 3)))
    (if (i32.eq (i32.load8_u (i32.const 2)) (i32.const 1)) (then (unreachable)))
    (if (i32.eq (i32.load8_u (i32.const 2)) (i32.const 2)) (then (loop (br 0))))
    (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1)))
    (drop (call $write (i32.const 0) (i32.const 1) (i32.const 1)))
    (drop (call $time (i32.const 8) (i32.const 16)))
    (i32.store (i32.const 20) (i32.div_u (i32.load (i32.const 16)) (i32.const 1000000)))
    (drop (call $write (i32.const 4) (i32.const 20) (i32.const 4)))
    (drop (call $get (i32.const 115) (i32.const 1) (i32.const 24)))
    (drop (call $set (i32.const 115) (i32.const 1)
      (i32.add (i32.load (i32.const 24)) (i32.const 1))))
    (drop (call $getd (i32.const 116) (i32.const 5) (i32.const 32)))
    (drop (call $setd (i32.const 121) (i32.const 4)
      (f64.add (f64.load (i32.const 32)) (f64.const 0.5))))
    (drop (call $log (i32.const 2) (i32.const 0) (i32.const 0) (i32.const 0)
      (i32.const 100) (i32.const 7)))))"#;

/// Runs `module` against recipes, which get the names `0.json`, `1.json` and so on.
fn run(module: &str, recipes: &[&str]) -> anyhow::Result<TestReport> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("demo.wasm");
    std::fs::write(&file, wat(module))?;
    let mut paths = Vec::new();
    for (n, text) in recipes.iter().enumerate() {
        paths.push(folder.path().join(format!("{n}.json")));
        std::fs::write(&paths[n], text)?;
    }
    recipe::run(&compile_service(Limits::default()), &file, &paths, BUDGET)
}

/// The report with the folder's name taken out.
fn shown(report: &TestReport) -> String {
    let folder = PathBuf::from(&report.module);
    let folder = format!("{}/", folder.parent().expect("it is in a folder").display());
    report.to_string().replace(&folder, "")
}

fn check(recipe: &str, expected: &str) {
    assert_eq!(
        shown(&run(DEMO, &[recipe]).expect("the recipe and the module are good")),
        expected,
        "{recipe}"
    );
}

#[test]
fn a_module_that_does_what_is_expected_passes() {
    let recipe = r#"{"variables":{"level":{"type":"double","value":2}},"passes":[
        {"elapsed":"50ms","inputs":[1,2],"expected_outputs":[2,1,0,0,50,0],
         "expected_log_messages":["Polling","Starting"],"expected_variables":{"n":1,"seen":2.5}},
        {"elapsed":"1s 7ms","inputs":[9],"expected_outputs":[2,9,0,0,7,0],
         "expected_log_messages":["Polling"],"set_variables":{"level":-1},
         "expected_variables":{"n":2,"seen":-0.5,"level":-1}},
        {"elapsed":"1s 7ms","set_variables":{"n":40,"other":true},
         "expected_variables":{"n":41,"other":true}}]}"#;
    check(recipe, "ok    0.json (3 passes)\n1 passed, 0 failed");
}

#[test]
fn every_difference_is_reported() {
    check(
        r#"{"passes":[
        {"elapsed":"0s","inputs":[1,2],"expected_outputs":[2,7],
         "expected_log_messages":["Polling","Polling"],
         "expected_variables":{"n":2,"none":1,"seen":true}},
        {"elapsed":"10ms","set_variables":{"n":1.5},"expected_log_messages":["Polling"]}]}"#,
        "FAIL  0.json
  pass 1 at 0s:
    missing message: \"Polling\"
    unexpected message: \"Starting\"
    output byte 1: expected 7 (0x07), got 1 (0x01)
    variable `n`: expected 2, got 1
    variable `none`: expected 1, found no such variable
    variable `seen`: expected true, got 0.5
  pass 2 at 10ms:
    variable `n` is of type int and cannot be set to 1.5; write a whole number of 32 bits
0 passed, 1 failed",
    );
}

#[test]
fn differing_outputs_are_bounded() {
    let expected = [1; 40];
    let recipe = format!(
        r#"{{"passes":[{{"elapsed":"0s","inputs":[0,0],"expected_outputs":{expected:?}}}]}}"#
    );
    let text = shown(&run(DEMO, &[&recipe]).unwrap());
    assert_eq!(text.matches("output byte ").count(), 16, "{text}");
    assert!(text.contains("\n    output byte 15: expected 1 (0x01), got 0 (0x00)\n"), "{text}");
    assert!(text.contains("\n    and 24 more output bytes\n"), "{text}");
}

#[test]
fn outputs_keep_their_value_unless_they_are_to_be_cleared() {
    let once = r#"(module
        (import "env" "wasm_write_output" (func $write (param i32 i32 i32) (result i32)))
        (memory (export "memory") 1) (global $n (mut i32) (i32.const 0))
        (func (export "poll") (i32.store8 (i32.const 0) (i32.const 5))
          (if (i32.eqz (global.get $n))
            (then (drop (call $write (i32.const 3) (i32.const 0) (i32.const 1)))))
          (global.set $n (i32.const 1))))"#;
    let recipe = |head: &str, last: u8| {
        format!(
            r#"{{{head}"passes":[{{"elapsed":"0s","expected_outputs":[0,0,0,5]}},
            {{"elapsed":"0s","expected_outputs":[0,0,0,{last}]}}]}}"#
        )
    };
    let kept = recipe("", 5);
    let cleared = recipe(r#""clear_outputs":true,"#, 0);
    let report = run(once, &[&kept, &cleared]).unwrap();
    assert_eq!((report.passed, report.failed), (2, 0), "{report}");
    let report = run(once, &[&recipe("", 0), &recipe(r#""clear_outputs":true,"#, 5)]).unwrap();
    assert_eq!((report.passed, report.failed), (0, 2), "{report}");
}

#[test]
fn a_trap_fails_its_pass_and_ends_the_recipe() {
    let recipe = |bad: u8| {
        format!(
            r#"{{"passes":[{{"elapsed":"0s"}},{{"elapsed":"1s","inputs":[0,0,{bad}],
            "expected_outputs":[9]}},{{"elapsed":"2s"}},{{"elapsed":"3s"}}]}}"#
        )
    };
    let trapped = shown(&run(DEMO, &[&recipe(1), &recipe(2), &recipe(0)]).unwrap());
    let start = "FAIL  0.json\n  pass 2 at 1s:\n    trap: unreachable in poll at offset 0x";
    assert!(trapped.starts_with(start), "{trapped}");
    assert!(trapped.contains(", cycle 2\n  not run: 2 passes\n"), "{trapped}");
    assert!(trapped.contains("trap: budget of 2ms 500us exceeded in poll"), "{trapped}");
    let end = "    output byte 0: expected 9 (0x09), got 0 (0x00)\n0 passed, 3 failed";
    assert!(trapped.ends_with(end), "{trapped}");
}

#[test]
fn points_are_found_by_name() {
    let module = r#"(module
        (import "env" "wasm_point_find" (func $find (param i32 i32 i32) (result i32)))
        (import "env" "wasm_point_read_double" (func $read (param i32 i32 i32) (result i32)))
        (import "env" "wasm_point_write_boolean" (func $write (param i32 i32) (result i32)))
        (memory (export "memory") 1) (data (i32.const 100) "levelvalve")
        (func (export "init")
          (drop (call $find (i32.const 100) (i32.const 5) (i32.const 0)))
          (drop (call $find (i32.const 105) (i32.const 5) (i32.const 4))))
        (func (export "poll")
          (drop (call $read (i32.load (i32.const 0)) (i32.const 8) (i32.const 16)))
          (if (i32.load8_u (i32.const 16)) (then unreachable))
          (drop (call $write (i32.load (i32.const 4))
            (f64.gt (f64.load (i32.const 8)) (f64.const 30))))))"#;
    let recipe = r#"{"points":[
        {"name":"level","direction":"in","type":"u16","address":"2","scale":0.1,"offset":5},
        {"name":"valve","direction":"out","type":"bool","address":"1.3"}],"passes":[
        {"elapsed":"0s","inputs":[0,0,250,0],"expected_outputs":[0,0]},
        {"elapsed":"1s","inputs":[0,0,251,0],"expected_outputs":[0,8]}]}"#;
    let report = run(module, &[recipe]).unwrap();
    assert!(report.is_good(), "{report}");
}

#[test]
fn the_report_reads_as_json() {
    let recipe = r#"{"passes":[{"elapsed":"5ms","inputs":[3],"expected_outputs":[1]}]}"#;
    let json = serde_json::to_value(run(DEMO, &[recipe]).unwrap()).unwrap();
    assert_eq!(json["failed"], 1);
    let outcome = &json["recipes"][0];
    assert_eq!(outcome["failures"][0]["pass"], 1);
    assert_eq!(outcome["failures"][0]["elapsed"], "5ms");
    let mismatch = serde_json::json!({"kind":"output","address":0,"expected":1,"got":0});
    assert_eq!(outcome["failures"][0]["mismatches"][0], mismatch);
}

#[test]
fn what_cannot_be_run_is_an_error_with_its_reason() {
    let folder = tempfile::tempdir().unwrap();
    let (module, bad) = (folder.path().join("m.wasm"), folder.path().join("r.json"));
    let run = || {
        let recipes = [bad.clone()];
        let error = recipe::run(&compile_service(Limits::default()), &module, &recipes, BUDGET)
            .unwrap_err();
        format!("{error:#}").replace(&folder.path().display().to_string(), "")
    };
    assert_eq!(run(), "/r.json: No such file or directory (os error 2)");
    std::fs::write(&bad, "{\"passes\":[{\"elapsed\":\"0s\"},\n{\"elapsed\":3}]}").unwrap();
    let expected =
        "/r.json: pass 2: invalid type: integer `3`, expected a string at line 2 column 12";
    assert_eq!(run(), expected);
    std::fs::write(&bad, r#"{"passes":[{"elapsed":"0s"}]}"#).unwrap();
    assert_eq!(run(), "/m.wasm: No such file or directory (os error 2)");
    std::fs::write(&module, "").unwrap();
    let expected = "/m.wasm: the file is empty; replace the file by a core WebAssembly module";
    assert_eq!(run(), expected);
    let trapping = r#"(module (func (export "init") unreachable) (func (export "poll")))"#;
    std::fs::write(&module, wat(trapping)).unwrap();
    let recipes = [bad.clone()];
    let budget = Duration::from_millis(1);
    let report =
        recipe::run(&compile_service(Limits::default()), &module, &recipes, budget).unwrap();
    let refusal = report.recipes[0].refusal.clone().expect("it is refused");
    assert!(refusal.starts_with("its start trapped: unreachable in init"), "{refusal}");
}
