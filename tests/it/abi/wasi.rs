//! Tests of the part of WASI preview 1 that the host offers.
//!
//! The tests check printed lines, which go into the log, random numbers, and the two ways in which
//! a program can end itself: `proc_exit` and `abort`. Pointers of WASI functions are tested in
//! `abi/pointer.rs`.

use super::*;

/// Buffers for `fd_write`, each as pointer and length.
fn buffers(pairs: &[(u32, u32)]) -> Vec<u8> {
    pairs.iter().flat_map(|(at, len)| [at.to_le_bytes(), len.to_le_bytes()].concat()).collect()
}

#[test]
fn printing_becomes_log_lines() {
    let text = b"one\ntwo\n\nthree and a half\n";
    let first = buffers(&[(100, 6), (106, 8), (114, 0), (114, 6)]);
    let rest = buffers(&[(120, 6)]);
    let data: &[(u32, &[u8])] = &[(100, text), (300, &first), (400, &rest)];
    let script = Script::poll(data, &["fd_write 1 300 4 200", "fd_write 1 400 1 204"]);
    let played = Bench::new().play(&script);
    assert_eq!(played.codes, [0, 0]);
    assert_eq!(u32::from_le_bytes(played.at(200)), 20);
    assert_eq!(u32::from_le_bytes(played.at(204)), 6);
    assert_eq!(played.said(), ["Info: one", "Info: two", "Info: three and a half"]);
}

#[test]
fn a_line_without_an_end_ends_with_the_poll() {
    let data: &[(u32, &[u8])] = &[(100, b"in full\nin part"), (300, &buffers(&[(100, 15)]))];
    let script = Script::poll(data, &["fd_write 2 300 1 200"])
        .then(&["fd_write 1 300 1 200"])
        .then(&["fd_write 2 300 1 200", "(unreachable)"]);
    let played = Bench::new().play(&script);
    let said = |level| [format!("{level}: in full"), format!("{level}: in part")];
    assert_eq!(played.said(), [said("Warn"), said("Info"), said("Warn")].concat());
}

#[test]
fn the_two_streams_do_not_mix() {
    let data: &[(u32, &[u8])] =
        &[(100, b"outerr\n"), (300, &buffers(&[(100, 3)])), (308, &buffers(&[(103, 4)]))];
    let calls = ["fd_write 1 300 1 200", "fd_write 2 308 1 200"];
    let played = Bench::new().play(&Script::poll(data, &calls));
    assert_eq!(played.said(), ["Info: out", "Warn: err"]);
}

#[test]
fn a_printed_line_is_cut_at_1024_bytes() {
    let mut text = [b'x'; 3000];
    text[2000] = b'\n';
    let data: &[(u32, &[u8])] = &[(1000, &text), (300, &buffers(&[(1000, 3000)]))];
    let played = Bench::new().play(&Script::poll(data, &["fd_write 1 300 1 200"]));
    assert_eq!(u32::from_le_bytes(played.at(200)), 3000);
    let lengths: Vec<_> = played.said().iter().map(String::len).collect();
    assert_eq!(lengths, [1024 + 6, 999 + 6]);
}

#[test]
fn one_call_prints_a_bounded_part_and_says_how_much() {
    let many = buffers(&[(100, 1); 20]);
    let data: &[(u32, &[u8])] =
        &[(100, b"x"), (300, &many), (500, &buffers(&[(1000, 4000), (1000, 200)]))];
    let calls = ["fd_write 1 300 20 200", "fd_write 1 500 2 204"];
    let played = Bench::new().play(&Script::poll(data, &calls));
    assert_eq!(played.codes, [0, 0]);
    assert_eq!(u32::from_le_bytes(played.at(200)), 16);
    assert_eq!(u32::from_le_bytes(played.at(204)), 4096);
}

#[test]
fn a_bad_call_prints_nothing() {
    let bad = buffers(&[(100, 4), (65535, 2)]);
    let wrapping = buffers(&[(100, 4), (!0, !0)]);
    let data: &[(u32, &[u8])] =
        &[(100, b"word\n"), (300, &buffers(&[(100, 5)])), (400, &bad), (500, &wrapping)];
    let table = [
        ("fd_write 1 400 2 200", 21),
        ("fd_write 1 500 2 200", 21),
        ("fd_write 1 65528 2 200", 21),
        ("fd_write 1 300 536870912 200", 21),
        ("fd_write 1 300 4294967295 200", 21),
        ("fd_write 1 300 1 65533", 21),
        ("fd_write 0 300 1 200", 8),
        ("fd_write 3 300 1 200", 8),
        ("fd_write -1 300 1 4294967295", 8),
    ];
    let (_, played) = check(data, &table);
    assert_eq!(played.said(), [""; 0]);
    assert_eq!(played.at(200), [0; 4]);
}

#[test]
fn random_numbers_depend_on_the_plugins_name_alone() {
    let numbers = |name| {
        let mut bench = Bench::new();
        bench.name = name;
        let script = Script::poll(&[], &["random_get 201 1000", "random_get 2000 8"]).then(&[
            "random_get 3000 8",
            "random_get 0 65537",
            "random_get 4000 0",
        ]);
        let played = bench.play(&script);
        assert_eq!(played.codes, [0, 0, 0, 21, 0]);
        assert_eq!((played.at(200), played.at(1201)), ([0], [0]));
        let (all, first, second) = (played.at::<1000>(201), played.at::<8>(2000), played.at(3000));
        assert_ne!(first, second);
        (all, first, second)
    };
    let first = numbers("mixer");
    assert!(first == numbers("mixer"));
    assert!(first.0 != numbers("mixer2").0);
    let distinct: std::collections::BTreeSet<_> = first.0.iter().collect();
    assert!(distinct.len() > 200, "{} different bytes in 1000", distinct.len());
}

#[test]
fn there_are_no_arguments_and_no_environment() {
    let table = [
        ("args_sizes_get 200 204", 0),
        ("environ_sizes_get 208 212", 0),
        ("args_get 220 224", 0),
        ("environ_get 220 224", 0),
        ("args_get -1 -1", 0),
        ("sched_yield", 0),
    ];
    let (_, played) = check(&[(200, &[9; 32])], &table);
    assert_eq!(played.at::<32>(200), [[0; 16], [9; 16]].concat()[..]);
}

/// How a poll with these calls traps.
fn trap(data: &[(u32, &[u8])], call: &str) -> String {
    let played = Bench::new().play(&Script::poll(data, &[call, "sched_yield"]));
    assert_eq!(played.codes[1], NOT_REACHED, "{call} returned");
    played.results[0].clone().expect_err("it must trap").kind
}

#[test]
fn proc_exit_is_a_trap_with_its_code() {
    assert_eq!(trap(&[], "proc_exit 0"), "proc_exit(0)");
    assert_eq!(trap(&[], "proc_exit -3"), "proc_exit(-3)");
}

/// A string as AssemblyScript has it: its length in bytes in front.
fn utf16(text: &str) -> Vec<u8> {
    let bytes: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
    [&(bytes.len() as u32).to_le_bytes()[..], &bytes].concat()
}

#[test]
fn abort_carries_its_message() {
    let long = utf16(&"long ".repeat(100));
    let lying = 0xffff_fff0u32.to_le_bytes();
    let data: &[(u32, &[u8])] = &[
        (100, &utf16("Index out of range: ü\n")),
        (200, &[4, 0, 0, 0, 0, 0xd8, b'x', 0]),
        (1000, &long),
        (65532 - 4, &lying),
        (65532, &lying),
    ];
    let check = |at: &str, expected: &str| {
        let kind = trap(data, &format!("abort {at} 0 12 7"));
        let words = format!("{expected} (line 12, column 7)");
        assert_eq!(kind, format!("abort: {}", words.trim_start()));
    };
    check("104", r"Index out of range: ü\n");
    check("204", "\u{fffd}x");
    check("1004", &"long ".repeat(100)[..256]);
    // What is no string has no words; it is a trap all the same.
    for at in ["0", "3", "65532", "65536", "65535", "4294967295", "2147483648"] {
        check(at, "");
    }
}
