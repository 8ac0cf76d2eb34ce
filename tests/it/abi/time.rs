//! Tests of the clock that a program sees, and of the number of the cycle.
//!
//! The clock shows the instant of the cycle, so the time does not change during a poll. The clocks
//! of WASI must show the same instant as the host function `wasm_current_time`.

use super::*;

#[test]
fn time_stands_still_during_a_poll_and_moves_between_two() {
    let wait = "(loop
        (i32.store (i32.const 900) (i32.add (i32.load (i32.const 900)) (i32.const 1)))
        (br_if 0 (i32.lt_u (i32.load (i32.const 900)) (i32.const 100000))))";
    let script =
        Script::poll(&[], &["wasm_current_time 200 208", wait, "wasm_current_time 216 224"])
            .then(&["wasm_current_time 232 240"]);
    let played = Bench::new().play(&script);
    let time = |at| (u64::from_le_bytes(played.at(at)), u32::from_le_bytes(played.at(at + 8)));
    assert_eq!((time(200), time(216)), ((5, 6), (5, 6)));
    assert_eq!(time(232), (5, 10_000_006));
}

#[test]
fn seconds_have_64_bits_and_wasi_counts_nanoseconds() {
    let mut bench = Bench::new();
    bench.world().now = Duration::new(1 << 33, 999_999_999) - PERIOD;
    let script = Script::poll(&[(200, &[0xee; 16])], &["wasm_current_time 200 208"]);
    let played = bench.play(&script);
    assert_eq!(u64::from_le_bytes(played.at(200)), 1 << 33);
    assert_eq!(u32::from_le_bytes(played.at(208)), 999_999_999);
    assert_eq!(played.at(212), [0xee; 4]);
}

#[test]
fn every_clock_of_wasi_is_the_cycles() {
    let table = [
        ("clock_time_get 0 0 200", 0),
        ("clock_time_get 1 1000000 208", 0),
        ("clock_time_get 2 0 216", 0),
        ("clock_time_get 3 -1 224", 0),
        ("clock_time_get 4 0 232", 28),
        ("clock_time_get -1 0 232", 28),
        ("clock_time_get 4 0 4294967295", 28),
    ];
    let (_, played) = check(&[], &table);
    for at in [200, 208, 216, 224] {
        assert_eq!(u64::from_le_bytes(played.at(at)), 5_000_000_006);
    }
    assert_eq!(u64::from_le_bytes(played.at(232)), 0);
}

#[test]
fn cycles_are_counted() {
    let script = Script::poll(&[], &["wasm_cycle 200 208"]).then(&["wasm_cycle 216 224"]);
    let played = Bench::new().play(&script);
    assert_eq!((u64::from_le_bytes(played.at(200)), u64::from_le_bytes(played.at(216))), (1, 2));
    assert_eq!(u32::from_le_bytes(played.at(208)), 10_000);
}
