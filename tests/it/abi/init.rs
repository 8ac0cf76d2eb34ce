//! Tests of what runs before the first poll of a program: the start section, `_initialize` and
//! `init`.
//!
//! The tests check the order of these calls, what a program may do in them, and that a trap in one
//! of them refuses the program. They also check the common budget and the limits for memory and
//! tables.

use super::*;

#[test]
fn init_reads_everything_and_writes_variables_but_no_outputs() {
    let table = [
        ("wasm_read_input 0 200 16", 0),
        ("wasm_current_time 300 308", 0),
        ("wasm_cycle 320 328", 0),
        ("wasm_point_find 104 5 332", 0),
        ("wasm_point_read_double 0 340 348", 0),
        ("wasm_variable_write_int 109 3 5", 0),
        ("wasm_variable_read_int 109 3 350", 0),
        ("wasm_log 2 0 0 0 104 5", 0),
        ("wasm_write_output 0 100 1", 5),
        ("wasm_write_output 20 100 1", 5),
        ("wasm_write_output 0 100 0", 5),
        ("wasm_write_output 65553 100 0", 2),
        ("wasm_write_output 0 4294967295 1", 1),
        ("wasm_point_write_double 4 1", 5),
        ("wasm_point_write_boolean 4 1", 5),
        ("wasm_point_write_double 10 1", 3),
        ("wasm_read_output 0 400 1", 0),
        // Only in `save` and `restore`.
        ("wasm_state_write 100 1", 5),
        ("wasm_state_read 100 1 200", 5),
    ];
    let calls: Vec<_> = table.iter().map(|(call, _)| *call).collect();
    let script = Script::default().data(&[(100, b"flaglevelnew")]).init(&calls);
    let mut bench = Bench::new();
    let played = bench.play(&script);
    compare(&played, &table);
    let inputs: Vec<u8> = (1..=16).collect();
    assert_eq!(played.at::<16>(200), inputs[..]);
    assert_eq!(u64::from_le_bytes(played.at(300)), 4);
    assert_eq!(u64::from_le_bytes(played.at(320)), 0, "there was no cycle yet");
    assert_eq!(i32::from_le_bytes(played.at(350)), 5);
    assert_eq!(played.said(), ["Info: level"]);
    assert_eq!(bench.world().variables.read("new"), Some(Variable::Int(5)));
    assert_eq!(bench.world().outputs[..16], [0; 16]);
}

/// What a module says at its start, which has these bodies, and how it ends.
fn start(bodies: [&str; 3], limits: Limits) -> (Vec<String>, Result<Vec<String>, String>) {
    let [start, initialize, init] = bodies;
    let text = format!(
        r#"(module
        (import "env" "wasm_log" (func $log (param i32 i32 i32 i32 i32 i32) (result i32)))
        (import "env" "wasm_variable_write_int" (func $set (param i32 i32 i32) (result i32)))
        (memory (export "memory") 1) (data (i32.const 0) "starterinitializeinit")
        (func $say (param i32 i32)
          (drop (call $log (i32.const 2) (i32.const 0) (i32.const 0) (i32.const 0)
            (local.get 0) (local.get 1)))
          (drop (call $set (local.get 0) (local.get 1) (i32.const 1))))
        (func $start (call $say (i32.const 0) (i32.const 7)) {start})
        (func (export "_initialize") (call $say (i32.const 7) (i32.const 10)) {initialize})
        (func (export "init") (call $say (i32.const 17) (i32.const 4)) {init})
        (func (export "poll"))
        (start $start))"#
    );
    let mut bench = Bench::new();
    bench.limits = limits;
    let Preparation { result, lines, .. } = bench.prepare(&wat(&text), Settings::default());
    let names = |prepared: Prepared| prepared.variables.into_iter().map(|(name, _)| name).collect();
    (lines.iter().map(said).collect(), result.map(names).map_err(|refusal| refusal.to_string()))
}

#[test]
fn the_start_section_comes_first_and_init_last() {
    let (said, written) = start([""; 3], Limits::default());
    assert_eq!(said, ["Info: starter", "Info: initialize", "Info: init"]);
    assert_eq!(written.unwrap(), ["starter", "initialize", "init"]);
}

/// It was compared with a copy, which may be older than what the scan has by then.
#[test]
fn what_init_writes_counts_even_if_it_is_what_was_there() {
    let script =
        Script::default().data(&[(100, b"speed")]).init(&["wasm_variable_write_int 100 5 7"]);
    let mut bench = Bench::new();
    assert_eq!(bench.world().variables.read("speed"), Some(Variable::Int(7)));
    let prepared = bench.prepare(&script.module(), Settings::default()).result.unwrap();
    assert_eq!(prepared.variables, [("speed".to_string(), Variable::Int(7))]);
}

#[test]
fn a_trap_anywhere_before_the_first_poll_is_a_refusal() {
    for (n, count) in [(0, 1), (1, 2), (2, 3)] {
        let mut bodies = [""; 3];
        bodies[n] = "unreachable";
        let (said, result) = start(bodies, Limits::default());
        assert_eq!(said.len(), count, "what it said before is not lost: {said:?}");
        let refusal = result.unwrap_err();
        assert!(refusal.starts_with("its start trapped: unreachable in "), "{refusal}");
        let remedy = "start section, _initialize and init must return without a trap";
        assert!(refusal.ends_with(&format!(", cycle 0; {remedy}")), "{refusal}");
    }
}

#[test]
fn the_budget_holds_for_everything_before_the_first_poll_together() {
    let limits = Limits { init_budget: Duration::from_millis(20), ..Limits::default() };
    for n in 0..3 {
        let mut bodies = [""; 3];
        bodies[n] = "(loop (br 0))";
        let refusal = start(bodies, limits).1.unwrap_err();
        let words = "its start trapped: budget of 20ms exceeded in ";
        assert!(refusal.starts_with(words), "{refusal}");
    }
}

#[test]
fn segments_must_lie_within_their_memory_and_table() {
    let refusal = |fields: &str| {
        let text = format!("(module {fields} (func $f (export \"poll\")))");
        let preparation = Bench::new().prepare(&wat(&text), Settings::default());
        preparation.result.expect_err(fields).to_string()
    };
    let remedy = "its data and element segments must lie within its memory and tables";
    let data = refusal("(memory 1) (data (i32.const 65536) \"x\")");
    assert_eq!(data, format!("it cannot be instantiated: out of bounds memory access; {remedy}"));
    let elements = refusal("(table 1 funcref) (elem (i32.const 1) func $f)");
    let words = "undefined element: out of bounds table access";
    assert_eq!(elements, format!("it cannot be instantiated: {words}; {remedy}"));
}

/// The limit held for each of them.
#[test]
fn all_tables_of_an_instance_share_the_limit() {
    let mut bench = Bench::new();
    bench.limits.table_elements = 100;
    let mut prepare = |tables: &str, init: &str| {
        let text =
            format!("(module {tables} (func (export \"init\") {init}) (func (export \"poll\")))");
        bench.prepare(&wat(&text), Settings::default()).result.map(drop)
    };
    // Traps unless the table grows by so many and then by none.
    let grow = |table: &str, by: u32| {
        let grow = |by| format!("(table.grow {table} (ref.null func) (i32.const {by}))");
        let is = |found, wanted| {
            format!("(if (i32.ne {found} (i32.const {wanted})) (then unreachable))")
        };
        let fails = is(grow(1), -1);
        format!(
            "(drop {}) (if (i32.eq {} (i32.const -1)) (then unreachable)) {fails}",
            grow(0),
            grow(by)
        )
    };
    let one = "(table $a 10 funcref)";
    prepare(one, &grow("$a", 90)).unwrap();
    // The last one keeps what it has from the start, and the second what it may take.
    let three = "(table $b 10 20 funcref) (table $a 10 funcref) (table $c 10 funcref)";
    let all = grow("$c", 0) + &grow("$a", 60) + &grow("$b", 10);
    prepare(three, &all).unwrap();
    prepare("(table $a 60 funcref) (table $b 40 funcref)", &(grow("$a", 0) + &grow("$b", 0)))
        .unwrap();
    prepare(three, &grow("$a", 61)).unwrap_err();
}

#[test]
fn the_name_of_a_function_cannot_disturb_the_log() {
    let long = "x".repeat(5000);
    let text = format!("(module (func $\"bad\\1b[31m{long}\" (export \"poll\") unreachable))");
    let mut bench = Bench::new();
    let prepared = bench.prepare(&wat(&text), Settings::default()).result;
    let mut program = bench.seat(prepared.unwrap());
    let name = bench.poll(&mut program).unwrap_err().function.expect("it has a name");
    assert!(name.starts_with("bad\\u{1b}[31mxxx"), "{name}");
    assert!(name.len() < 1100 && name.ends_with("x…"), "{name}");
}
