//! Tests of the host functions for the images (by byte address) and for variables.
//!
//! The tests check every return code, the limits for names and numbers of variables, and that a
//! trapped poll changes nothing. Points by name are tested in `abi/point.rs`.

use camshaft::process::grant::Grant;
use camshaft::process::image::PointId;

use super::*;

#[test]
fn an_address_out_of_the_image_gives_2_whatever_the_pointer_is() {
    let table = [
        ("wasm_read_input 15 200 1", 0),
        ("wasm_read_input 16 300 1", 2),
        ("wasm_read_input 9 300 8", 2),
        ("wasm_read_input 0 300 17", 2),
        ("wasm_read_input 4294967295 300 1", 2),
        ("wasm_read_input 4294967295 300 4294967295", 2),
        ("wasm_read_input 2 300 4294967295", 2),
        ("wasm_read_input 2147483648 300 2147483648", 2),
        ("wasm_read_input 16 4294967295 1", 2),
        ("wasm_write_output 65552 300 1", 2),
        ("wasm_write_output 65545 300 8", 2),
        ("wasm_write_output 4294967295 300 2", 2),
        ("wasm_write_output 4294967280 300 32", 2),
        ("wasm_write_output 65552 4294967295 1", 2),
        ("wasm_read_output 65552 300 1", 2),
        ("wasm_read_output 4294967295 300 2", 2),
        ("wasm_read_output 65552 4294967295 1", 2),
    ];
    let (_, played) = check(&[], &table);
    assert_eq!(played.at(200), [16]);
    assert_eq!(played.at(300), [0; 64]);
}

#[test]
fn inputs_and_outputs_travel_as_bytes() {
    let script = Script::poll(
        &[(100, b"abcdefgh")],
        &["wasm_read_input 3 201 5", "wasm_write_output 1 100 3", "wasm_read_output 0 300 8"],
    );
    let script = script.then(&["wasm_write_output 2 104 1", "wasm_read_output 0 400 8"]);
    let mut bench = Bench::new();
    let played = bench.play(&script);
    assert_eq!(played.codes, [0; 5]);
    assert_eq!(played.at(200), [0, 4, 5, 6, 7, 8, 0]);
    // A poll does not see its own outputs, but those of the last cycle.
    assert_eq!(played.at(300), [0; 8]);
    assert_eq!(played.at(400), *b"\0abc\0\0\0\0");
    assert_eq!(bench.world().outputs[..8], *b"\0aec\0\0\0\0");
}

#[test]
fn a_large_write_arrives_whole() {
    let pattern: Vec<u8> = (0..1000u32).map(|n| (n * 7 % 251) as u8).collect();
    let script = Script::poll(&[(101, &pattern)], &["wasm_write_output 17 101 1000"])
        .then(&["wasm_read_output 17 20001 1000"]);
    let played = Bench::new().play(&script);
    assert_eq!(played.memory[20001..21001], pattern);
}

/// Names at 100: `flag`, `speed`, `level`, at 120 `new` and at 130 a byte that is not UTF-8.
const NAMES: &[(u32, &[u8])] = &[(100, b"flagspeedlevel"), (120, b"new"), (130, b"a\xff")];

#[test]
fn variables_answer_with_their_codes() {
    check(
        NAMES,
        &[
            ("wasm_variable_read_boolean 100 4 200", 0),
            ("wasm_variable_read_int 104 5 200", 0),
            ("wasm_variable_read_double 109 5 200", 0),
            ("wasm_variable_read_int 120 3 200", 3),
            ("wasm_variable_read_int 104 4 200", 3),
            ("wasm_variable_read_int 100 4 200", 4),
            ("wasm_variable_read_double 104 5 200", 4),
            ("wasm_variable_read_boolean 109 5 200", 4),
            ("wasm_variable_write_int 100 4 1", 4),
            ("wasm_variable_write_double 104 5 1", 4),
            ("wasm_variable_write_boolean 109 5 1", 4),
            ("wasm_variable_read_int 130 2 200", 1),
            ("wasm_variable_write_int 130 2 1", 1),
            // The first thing that is wrong decides: the name, the variable, the place of the
            // value.
            ("wasm_variable_read_int 120 3 4294967295", 3),
            ("wasm_variable_read_int 100 4 4294967295", 4),
            ("wasm_variable_read_int 130 2 4294967295", 1),
            // A new one has its type from the first write on.
            ("wasm_variable_write_double 120 3 0.5", 0),
            ("wasm_variable_write_int 120 3 1", 4),
            ("wasm_variable_read_double 120 3 200", 0),
        ],
    );
}

#[test]
fn a_boolean_is_exactly_one_byte_that_is_0_or_1() {
    let data: &[(u32, &[u8])] = &[(100, b"flag"), (200, &[9; 12])];
    let table = [
        ("wasm_variable_read_boolean 100 4 201", 0),
        ("wasm_variable_write_boolean 100 4 0", 0),
        ("wasm_variable_read_boolean 100 4 203", 0),
        // Its lowest byte is 0, but the number is not.
        ("wasm_variable_write_boolean 100 4 256", 0),
        ("wasm_variable_read_boolean 100 4 205", 0),
        ("wasm_variable_write_boolean 100 4 -1", 0),
        ("wasm_variable_read_boolean 100 4 207", 0),
    ];
    let (_, played) = check(data, &table);
    assert_eq!(played.at(200), [9, 1, 9, 0, 9, 1, 9, 1, 9, 9, 9, 9]);
}

#[test]
fn a_poll_reads_back_its_own_writes() {
    let table = [
        ("wasm_variable_write_int 104 5 -2147483648", 0),
        ("wasm_variable_read_int 104 5 200", 0),
        ("wasm_variable_write_double 109 5 -0.0", 0),
        ("wasm_variable_read_double 109 5 208", 0),
        ("wasm_variable_write_double 109 5 nan:0x8000000000123", 0),
        ("wasm_variable_read_double 109 5 216", 0),
        ("wasm_variable_write_double 109 5 -inf", 0),
        ("wasm_variable_read_double 109 5 224", 0),
        ("wasm_variable_write_int 120 3 5", 0),
        ("wasm_variable_read_int 120 3 232", 0),
    ];
    let (mut bench, played) = check(NAMES, &table);
    assert_eq!(i32::from_le_bytes(played.at(200)), i32::MIN);
    assert_eq!(u64::from_le_bytes(played.at(208)), 1 << 63);
    assert_eq!(u64::from_le_bytes(played.at(216)), 0x7ff8_0000_0000_0123);
    assert_eq!(f64::from_le_bytes(played.at(224)), f64::NEG_INFINITY);
    assert_eq!(i32::from_le_bytes(played.at(232)), 5);
    assert_eq!(bench.world().variables.read("new"), Some(Variable::Int(5)));
}

#[test]
fn names_have_at_most_128_bytes() {
    let long = [b'n'; 129];
    let data: &[(u32, &[u8])] = &[(100, &long), (300, "füllstand".as_bytes())];
    let table = [
        ("wasm_variable_write_int 100 128 1", 0),
        ("wasm_variable_read_int 100 128 400", 0),
        ("wasm_variable_write_int 100 129 1", 1),
        ("wasm_variable_read_int 100 129 400", 1),
        ("wasm_point_find 100 128 400", 3),
        ("wasm_point_find 100 129 400", 1),
        ("wasm_variable_write_int 300 10 4", 0),
        // Cut within the ü.
        ("wasm_variable_write_int 300 2 4", 1),
    ];
    let (mut bench, _) = check(data, &table);
    assert_eq!(bench.world().variables.read("füllstand"), Some(Variable::Int(4)));
    assert_eq!(bench.world().variables.len(), 5);
}

/// Makes variables with names of two bytes until that is refused; how many it has made goes to 200,
/// the last answer to 204.
const FILL: &str = "(loop
    (i32.store8 (i32.const 150) (i32.shr_u (i32.load (i32.const 200)) (i32.const 7)))
    (i32.store8 (i32.const 151) (i32.and (i32.load (i32.const 200)) (i32.const 127)))
    (i32.store (i32.const 204) (call $wasm_variable_write_int
      (i32.const 150) (i32.const 2) (i32.const 1)))
    (if (i32.eqz (i32.load (i32.const 204)))
      (then
        (i32.store (i32.const 200) (i32.add (i32.load (i32.const 200)) (i32.const 1)))
        (br 1))))";

#[test]
fn there_are_at_most_1024_variables() {
    let mut bench = Bench::new();
    for n in 3..1024 - 20 {
        bench.world().variables.write(&format!("other{n}"), Variable::Int(n)).unwrap();
    }
    let table = [
        (FILL, NOT_REACHED),
        ("wasm_variable_write_int 104 5 9", 0),
        ("wasm_variable_write_int 120 3 9", 1),
        ("wasm_variable_read_int 120 3 9", 3),
    ];
    let played = check_on(&mut bench, NAMES, &table);
    assert_eq!(u32::from_le_bytes(played.at(200)), 20);
    assert_eq!(u32::from_le_bytes(played.at(204)), 1);
    assert_eq!(bench.world().variables.len(), 1024);
}

#[test]
fn one_program_makes_at_most_256_of_them() {
    let table = [
        (FILL, NOT_REACHED),
        ("wasm_variable_write_int 104 5 9", 0),
        ("wasm_variable_write_int 150 2 9", 1),
        ("wasm_variable_write_int 120 3 9", 1),
        ("wasm_variable_read_int 120 3 9", 3),
    ];
    let mut bench = Bench::new();
    let played = check_on(&mut bench, NAMES, &table);
    assert_eq!(u32::from_le_bytes(played.at(200)), 256);
    assert_eq!(u32::from_le_bytes(played.at(204)), 1);
    assert_eq!(played.said(), ["VariableQuota(\"\\u{2}\\0\")"], "said once");
    // A new version and a new life of the plugin have no more, and another plugin has its own.
    let played = check_on(&mut bench, NAMES, &[("wasm_variable_write_int 120 3 9", 1)]);
    assert_eq!(played.said(), ["VariableQuota(\"new\")"]);
    bench.name = "another";
    check_on(&mut bench, NAMES, &[("wasm_variable_write_int 120 3 9", 0)]);
    assert_eq!(bench.world().variables.len(), 3 + 256 + 1);
}

#[test]
fn a_trapped_poll_leaves_nothing_behind() {
    let script = Script::poll(
        NAMES,
        &[
            "wasm_write_output 0 100 8",
            "wasm_point_write_boolean 5 1",
            "wasm_variable_write_int 104 5 99",
            "wasm_variable_write_int 120 3 99",
            "wasm_variable_read_int 120 3 200",
            "(unreachable)",
            "wasm_variable_write_int 104 5 100",
        ],
    );
    // Afterwards nothing of it comes back to life.
    let script = script.then(&["wasm_variable_read_int 120 3 204", "wasm_write_output 4 108 1"]);
    let mut bench = Bench::new();
    let played = bench.play(&script);
    let trap = played.results[0].clone().expect_err("it was told to");
    assert_eq!((trap.kind.as_str(), trap.cycle), ("unreachable", 1));
    assert_eq!(played.codes, [0, 0, 0, 0, 0, NOT_REACHED, NOT_REACHED, 3, 0]);
    assert_eq!(i32::from_le_bytes(played.at(200)), 99);
    let world = bench.world();
    assert_eq!(world.outputs[..16], *b"\0\0\0\0d\0\0\0\0\0\0\0\0\0\0\0");
    assert_eq!(world.variables.read("speed"), Some(Variable::Int(7)));
    assert_eq!(world.variables.read("new"), None);
    assert_eq!(world.variables.len(), 3);
}

/// The id of a point of the tests.
fn id(name: &str) -> PointId {
    points().find(name).expect("the point exists")
}

#[test]
fn what_is_not_granted_is_denied() {
    let settings = Settings {
        inputs: Grant::Only(vec![id("button")]),
        outputs: Grant::Only(vec![id("motor"), id("flow")]),
        ..Settings::default()
    };
    let table = [
        ("wasm_read_input 8 200 1", 0),
        // No point lies there.
        ("wasm_read_input 9 201 1", 0),
        ("wasm_read_input 7 300 2", 5),
        ("wasm_read_input 0 300 16", 5),
        ("wasm_read_input 17 300 1", 2),
        // Whether it may read is asked before where to.
        ("wasm_read_input 0 4294967295 1", 5),
        ("wasm_point_read_boolean 1 202 0", 0),
        ("wasm_point_read_double 0 300 0", 5),
        ("wasm_point_write_boolean 5 1", 0),
        ("wasm_point_write_boolean 6 1", 5),
        ("wasm_point_write_boolean 6 1", 5),
        ("wasm_write_output 12 100 4", 0),
        ("wasm_write_output 0 100 1", 5),
        // Its motor shares the byte with a lamp that is not its own.
        ("wasm_write_output 8 100 1", 5),
        // The end of it is granted; nothing is taken.
        ("wasm_write_output 10 100 6", 5),
        ("wasm_write_output 0 4294967295 1", 1),
        // There is always more than its own to be seen of the outputs.
        ("wasm_read_output 0 400 16", 0),
    ];
    let calls: Vec<_> = table.iter().map(|(call, _)| *call).collect();
    let mut bench = Bench::new();
    let script = Script::poll(&[(100, b"abcdefgh")], &calls);
    let played = bench.play_with(&script, settings).unwrap();
    compare(&played, &table);
    assert_eq!(played.at(200), [9, 10, 1]);
    assert_eq!(played.at(300), [0; 16]);
    assert_eq!(bench.world().outputs[..16], *b"\0\0\0\0\0\0\0\0\x01\0\0\0abcd");
    let denied = ["lamp", "valve", "scaled"].map(|name| format!("NotGranted({name:?})"));
    assert_eq!(played.said(), denied);
}
