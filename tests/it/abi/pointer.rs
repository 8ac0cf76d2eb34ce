//! Tests of every host function with wrong pointers and lengths.
//!
//! A wrong pointer must give an error code. It must not trap, and it must change nothing. A table
//! lists every function with a pointer; one test checks that the table is complete.

use camshaft::plugin::module::offer::{self, Offer};

use super::*;

/// The functions that take pointers, with good arguments. In the pattern, a digit is a pointer to
/// so many bytes, `s` a pointer to a text whose length `l` comes next, `v` neither.
const POINTERS: &[(&str, &str, &str)] = &[
    ("wasm_log", "vslvsl", "2 100 4 7 100 4"),
    ("wasm_read_input", "vsl", "0 200 8"),
    ("wasm_write_output", "vsl", "0 100 8"),
    ("wasm_current_time", "84", "200 208"),
    ("wasm_variable_read_boolean", "sl1", "100 4 200"),
    ("wasm_variable_read_double", "sl8", "110 5 200"),
    ("wasm_variable_read_int", "sl4", "104 5 200"),
    ("wasm_variable_write_boolean", "slv", "100 4 0"),
    ("wasm_variable_write_double", "slv", "110 5 9"),
    ("wasm_variable_write_int", "slv", "104 5 9"),
    ("wasm_point_find", "sl4", "110 5 200"),
    ("wasm_point_read_boolean", "v11", "1 200 208"),
    ("wasm_point_read_double", "v81", "0 200 208"),
    ("wasm_point_read_int", "v41", "3 200 208"),
    ("wasm_point_quality", "v44", "0 200 208"),
    ("wasm_degraded", "1", "200"),
    ("wasm_read_output", "vsl", "0 200 8"),
    ("wasm_cycle", "84", "200 208"),
    ("fd_write", "v8v4", "1 120 1 200"),
    ("clock_time_get", "vv8", "1 0 200"),
    ("random_get", "sl", "200 8"),
    ("args_sizes_get", "44", "200 204"),
    ("environ_sizes_get", "44", "200 204"),
];

/// `flag`, `speed` and `level`, and at 120 a buffer of `fd_write` with the first of them.
const DATA: &[(u32, &[u8])] = &[(100, b"flagspeed.level"), (120, &[100, 0, 0, 0, 4, 0, 0, 0])];

/// Values for a pointer to `size` bytes none of which may work: over the end by one byte, outside
/// altogether, and such that pointer and size add up to 2^32 or more.
fn bad_pointers(size: u32) -> [u32; 6] {
    [MEMORY - size + 1, MEMORY + 1, 0x8000_0000, size.wrapping_neg(), !0 - 2, !0]
}

/// Calls in which one argument is bad, with the code that is due.
fn bad_calls() -> Vec<(String, i32)> {
    let mut calls = Vec::new();
    for (name, pattern, good) in POINTERS {
        let good: Vec<u32> =
            good.split(' ').map(|word| word.parse().expect("it is a number")).collect();
        let error = if name.starts_with("wasm_") { 1 } else { 21 };
        for (index, kind) in pattern.char_indices() {
            let bad: Vec<u32> = match kind {
                'v' => continue,
                's' => bad_pointers(good[index + 1]).into(),
                'l' => vec![MEMORY - good[index - 1] + 1, 0x8000_0000, !0],
                digit => bad_pointers(digit.to_digit(10).expect("it is a digit")).into(),
            };
            for value in bad {
                let mut arguments = good.clone();
                arguments[index] = value;
                let words: Vec<_> = arguments.iter().map(ToString::to_string).collect();
                let image = match *name {
                    "wasm_read_input" => IMAGE,
                    "wasm_write_output" | "wasm_read_output" => OUTPUTS,
                    _ => u32::MAX,
                };
                // The image is looked at before the memory.
                let is_outside = kind == 'l' && value > image;
                let code = if is_outside { 2 } else { error };
                calls.push((format!("{name} {}", words.join(" ")), code));
            }
        }
    }
    calls
}

#[test]
fn good_arguments_work_everywhere() {
    let table: Vec<_> =
        POINTERS.iter().map(|(name, _, good)| (format!("{name} {good}"), 0)).collect();
    let calls: Vec<_> = table.iter().map(|(call, _)| call.as_str()).collect();
    compare(&Bench::new().play(&Script::poll(DATA, &calls)), &table);
}

#[test]
fn a_bad_pointer_or_length_gives_a_code_and_changes_nothing() {
    let table = bad_calls();
    let calls: Vec<_> = table.iter().map(|(call, _)| call.as_str()).collect();
    let mut bench = Bench::new();
    let before: Vec<_> = bench.world().variables.iter().map(|(n, v)| (n.to_owned(), v)).collect();
    let script = Script::poll(DATA, &calls);
    let played = bench.play(&script);
    compare(&played, &table);
    let mut memory = vec![0; MEMORY as usize];
    for (at, bytes) in DATA {
        memory[*at as usize..][..bytes.len()].copy_from_slice(bytes);
    }
    assert!(played.memory == memory, "the memory has changed");
    assert_eq!(played.said(), [""; 0]);
    let world = bench.world();
    assert_eq!(world.outputs[..IMAGE as usize], [0; IMAGE as usize]);
    assert!(world.owners.iter().all(Option::is_none), "an output was claimed");
    let after: Vec<_> = world.variables.iter().map(|(n, v)| (n.to_owned(), v)).collect();
    assert_eq!(after, before);
}

#[test]
fn every_function_with_a_pointer_is_in_the_table() {
    const WITHOUT: &[&str] = &[
        "wasm_point_write_boolean",
        "wasm_point_write_double",
        "wasm_point_write_int",
        // Only in `save` and `restore`; denied everywhere else, whatever they are given.
        "wasm_state_write",
        "wasm_state_read",
        "abort",
        "emscripten_notify_memory_growth",
        "proc_exit",
        "sched_yield",
        // There is nothing to write there.
        "args_get",
        "environ_get",
    ];
    let refusing = |offer: &Offer| refusals().iter().any(|(call, _)| call.starts_with(offer.name));
    for offer in offer::offers().filter(|offer| !refusing(offer)) {
        let known = POINTERS.iter().any(|(name, ..)| *name == offer.name);
        assert!(known || WITHOUT.contains(&offer.name), "{offer:?} is not tested");
    }
}

/// The functions of WASI that do nothing, with arguments that are as bad as can be.
fn refusals() -> Vec<(String, i32)> {
    let kept = |offer: &Offer| {
        let working = ["fd_write", "clock_time_get", "random_get", "sched_yield", "proc_exit"];
        let is_empty = offer.name.starts_with("args_") || offer.name.starts_with("environ_");
        offer.module != "env" && !working.contains(&offer.name) && !is_empty
    };
    let call = |offer: Offer| {
        let code = if offer.name.starts_with("fd_") { 8 } else { 52 };
        (format!("{}{}", offer.name, " -1".repeat(offer.parameters.len())), code)
    };
    offer::offers().filter(kept).map(call).collect()
}

#[test]
fn the_rest_of_wasi_answers_badf_or_nosys() {
    let table = refusals();
    assert_eq!(table.len(), 37);
    let calls: Vec<_> = table.iter().map(|(call, _)| call.as_str()).collect();
    let played = Bench::new().play(&Script::poll(&[], &calls));
    compare(&played, &table);
    assert!(played.memory.iter().all(|&byte| byte == 0), "the memory has changed");
}

#[test]
fn zero_length_at_the_end_of_memory_is_success() {
    check(
        DATA,
        &[
            ("wasm_log 2 65536 0 0 65536 0", 0),
            ("wasm_log 2 65537 0 0 65536 0", 1),
            ("wasm_log 2 65536 0 0 65537 0", 1),
            ("wasm_read_input 0 65536 0", 0),
            ("wasm_read_input 16 65536 0", 0),
            ("wasm_read_input 17 65536 0", 2),
            ("wasm_read_input 0 65537 0", 1),
            ("wasm_write_output 65552 65536 0", 0),
            ("wasm_write_output 65553 65536 0", 2),
            ("wasm_write_output 0 65537 0", 1),
            ("wasm_read_output 65552 65536 0", 0),
            ("wasm_read_output 0 65537 0", 1),
            // A name of no length can be asked for; there is none, and none is made.
            ("wasm_variable_read_int 65536 0 200", 3),
            ("wasm_variable_read_int 65537 0 200", 1),
            ("wasm_variable_write_int 65536 0 1", 1),
            ("wasm_point_find 65536 0 200", 3),
            ("random_get 65536 0", 0),
            ("random_get 65537 0", 21),
            ("fd_write 1 65536 0 200", 0),
            ("fd_write 1 65537 0 200", 21),
        ],
    );
}

#[test]
fn the_last_bytes_of_memory_can_be_used() {
    let data: &[(u32, &[u8])] = &[(MEMORY - 5, b"speed")];
    let table = [
        ("wasm_variable_read_int 65531 5 65000", 0),
        ("wasm_log 2 65531 5 0 65531 5", 0),
        ("wasm_write_output 0 65528 8", 0),
        ("wasm_read_input 0 65528 8", 0),
        ("wasm_variable_read_int 65531 5 65532", 3),
    ];
    let (mut bench, played) = check(data, &table);
    assert_eq!(played.at(65528), [1, 2, 3, 4, 5, 6, 7, 8]);
    assert_eq!(bench.world().outputs[..8], *b"\0\0\0speed");
}

#[test]
fn unaligned_and_overlapping_pointers_are_fine() {
    let data: &[(u32, &[u8])] = &[(101, b"speedlevel"), (131, b"flag")];
    let table = [
        ("wasm_current_time 201 213", 0),
        // The nanoseconds are written last.
        ("wasm_current_time 221 225", 0),
        ("wasm_cycle 241 253", 0),
        ("wasm_point_read_double 0 301 309", 0),
        ("wasm_point_read_double 0 321 321", 0),
        // A value over its own name: the name is read before.
        ("wasm_variable_read_int 101 5 101", 0),
        ("wasm_variable_read_double 106 5 107", 0),
        ("wasm_variable_read_boolean 131 4 133", 0),
    ];
    let (_, played) = check(data, &table);
    assert_eq!(u64::from_le_bytes(played.at(201)), 5);
    assert_eq!(u32::from_le_bytes(played.at(213)), 6);
    assert_eq!(played.at(221), [5, 0, 0, 0, 6, 0, 0, 0]);
    assert_eq!(u64::from_le_bytes(played.at(241)), 1);
    assert_eq!(u32::from_le_bytes(played.at(253)), 10_000);
    assert_eq!(played.at(301), [1, 2, 3, 4, 5, 6, 7, 8]);
    assert_eq!(played.at(321), [0, 2, 3, 4, 5, 6, 7, 8]);
    assert_eq!(i32::from_le_bytes(played.at(101)), 7);
    assert_eq!(f64::from_le_bytes(played.at(107)), 1.5);
    assert_eq!(played.at(131), *b"fl\x01g");
}
