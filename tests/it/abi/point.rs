//! Tests of the host functions that find, read and write points by name.
//!
//! The tests check the scaling of values, the types and ranges, and the quality of a point. The
//! functions that address bytes of the image directly are tested in `abi/value.rs`.

use super::*;

#[test]
fn points_are_found_by_name() {
    let data: &[(u32, &[u8])] = &[(100, b"level"), (110, b"flow"), (120, b"flo\xff")];
    let table = [
        ("wasm_point_find 100 5 200", 0),
        ("wasm_point_find 110 4 204", 0),
        ("wasm_point_find 100 4 208", 3),
        ("wasm_point_find 100 0 208", 3),
        ("wasm_point_find 120 4 208", 1),
        ("wasm_point_find 100 4 4294967295", 3),
    ];
    let (_, played) = check(data, &table);
    assert_eq!(played.at(200), [0, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0]);
}

#[test]
fn reading_scales_and_checks_the_type() {
    let mut bench = Bench::new();
    let inputs = &mut bench.world().inputs.bytes;
    inputs[..8].copy_from_slice(&2.5f64.to_le_bytes());
    inputs[8] = 0xfd;
    inputs[10..12].copy_from_slice(&(-7i16).to_le_bytes());
    inputs[12..].copy_from_slice(&0x8000_0000u32.to_le_bytes());
    let table = [
        ("wasm_point_read_double 0 200 0", 0),
        ("wasm_point_read_boolean 0 300 0", 4),
        ("wasm_point_read_int 0 300 0", 4),
        ("wasm_point_read_boolean 1 208 0", 0),
        ("wasm_point_read_int 1 300 0", 4),
        ("wasm_point_read_double 1 300 0", 4),
        ("wasm_point_read_double 2 216 0", 0),
        // With scaling it is a number with a fraction.
        ("wasm_point_read_int 2 300 0", 4),
        ("wasm_point_read_double 3 224 0", 0),
        // 2^31 does not fit 32 bits with a sign.
        ("wasm_point_read_int 3 300 0", 1),
        ("wasm_point_read_boolean 3 300 0", 4),
        ("wasm_point_read_int -1 300 0", 3),
        ("wasm_point_read_int 10 300 0", 3),
        ("wasm_point_read_int 65536 300 0", 3),
        ("wasm_point_read_int 2147483647 300 0", 3),
        // The point, its type, the place of the value: the first that is wrong decides.
        ("wasm_point_read_int 10 4294967295 0", 3),
        ("wasm_point_read_boolean 0 4294967295 0", 4),
        ("wasm_point_read_double 0 4294967295 0", 1),
        ("wasm_point_read_double 0 300 4294967295", 1),
    ];
    let played = check_on(&mut bench, &[(208, &[9; 4])], &table);
    assert_eq!(f64::from_le_bytes(played.at(200)), 2.5);
    assert_eq!(played.at(208), [1, 9, 9, 9]);
    assert_eq!(f64::from_le_bytes(played.at(216)), 6.5);
    assert_eq!(f64::from_le_bytes(played.at(224)), 2_147_483_648.0);
    assert_eq!(played.at(300), [0; 16]);
    bench.world().inputs.bytes[15] = 0x7f;
    let played = check_on(&mut bench, &[], &[("wasm_point_read_int 3 200 0", 0)]);
    assert_eq!(i32::from_le_bytes(played.at(200)), 0x7f00_0000);
}

#[test]
fn quality_comes_along_if_it_is_wanted() {
    let mut bench = Bench::new();
    let quality = &mut bench.world().inputs.quality;
    (quality[1], quality[2]) = (Quality::Stale, Quality::NoComm);
    let table = [
        ("wasm_point_read_double 0 200 300", 0),
        ("wasm_point_read_boolean 1 200 302", 0),
        ("wasm_point_read_double 2 200 304", 0),
        ("wasm_point_read_double 2 200 0", 0),
        // Outputs are what we say they are.
        ("wasm_point_read_double 4 200 306", 0),
    ];
    let data: &[(u32, &[u8])] = &[(0, b"z"), (300, &[9; 8])];
    let played = check_on(&mut bench, data, &table);
    assert_eq!(played.at(300), [0, 9, 1, 9, 2, 9, 0, 9]);
    assert_eq!(played.at(0), *b"z");
}

/// A plugin that looked for its points in every poll filled the log for ever.
#[test]
fn a_point_that_is_not_there_is_told_of_once() {
    let looks = ["wasm_point_find 100 5 200", "wasm_point_find 101 4 200"];
    let script = Script::poll(&[(100, b"zlost")], &looks).then(&looks).then(&looks);
    let played = Bench::new().play(&script);
    assert_eq!(played.codes, [3; 6]);
    assert_eq!(played.said(), ["NoPoint(\"zlost\")", "NoPoint(\"lost\")"]);
}

#[test]
fn the_reason_and_the_age_can_be_asked_for() {
    let mut bench = Bench::new();
    let world = bench.world();
    world.now = Duration::from_millis(5000);
    let inputs = &mut world.inputs;
    (inputs.quality[0], inputs.good_at[0]) = (Quality::Stale, Duration::from_millis(3750));
    (inputs.quality[1], inputs.good_at[1]) = (Quality::Waiting, Duration::ZERO);
    let table = [
        ("wasm_point_quality 0 200 204", 0),
        ("wasm_point_quality 1 208 212", 0),
        ("wasm_point_quality 4 216 220", 0),
        ("wasm_point_quality 10 300 300", 3),
        ("wasm_point_quality -1 300 300", 3),
        ("wasm_degraded 224", 0),
    ];
    let data: &[(u32, &[u8])] = &[(216, &[9; 9])];
    let played = check_on(&mut bench, data, &table);
    let numbers: [u8; 25] = played.at(200);
    let number = |at: usize| u32::from_le_bytes(numbers[at..at + 4].try_into().unwrap());
    assert_eq!((number(0), number(4)), (0x4090_0000, 1250 + PERIOD.as_millis() as u32));
    assert_eq!((number(8), number(12)), (0x8032_0000, u32::MAX));
    assert_eq!((number(16), number(20), numbers[24]), (0, 0, 0));
}

#[test]
fn writing_unscales_and_checks_the_range() {
    let table = [
        ("wasm_point_write_double 4 -2.5", 0),
        ("wasm_point_write_boolean 6 256", 0),
        ("wasm_point_write_int 7 -128", 0),
        ("wasm_point_write_double 8 6.5", 0),
        ("wasm_point_write_int 9 3", 0),
        ("wasm_point_write_boolean 4 1", 4),
        ("wasm_point_write_int 5 1", 4),
        ("wasm_point_write_double 5 1", 4),
        ("wasm_point_write_boolean 7 1", 4),
        ("wasm_point_write_int 7 128", 1),
        ("wasm_point_write_int 7 -129", 1),
        ("wasm_point_write_double 7 200.5", 1),
        ("wasm_point_write_double 7 nan", 1),
        ("wasm_point_write_double 7 inf", 1),
        ("wasm_point_write_double 4 nan", 1),
        ("wasm_point_write_double 4 -inf", 1),
        ("wasm_point_write_double 9 1e300", 1),
        ("wasm_point_write_double 8 1e10", 1),
        ("wasm_point_write_int 8 2147483647", 1),
        // Inputs belong to the field.
        ("wasm_point_write_double 0 1", 5),
        ("wasm_point_write_boolean 1 1", 5),
        ("wasm_point_write_double 10 1", 3),
        ("wasm_point_write_double -1 1", 3),
        ("wasm_point_write_double 65540 1", 3),
    ];
    let (mut bench, _) = check(&[], &table);
    let outputs = &bench.world().outputs;
    assert_eq!(outputs[..8], (-2.5f64).to_le_bytes());
    assert_eq!(outputs[8..12], [2, 0x80, 0xf9, 0xff]);
    assert_eq!(outputs[12..16], 3.0f32.to_le_bytes());
}

#[test]
fn bits_of_one_byte_do_not_disturb_each_other() {
    let script = Script::poll(&[], &["wasm_point_write_boolean 6 1"])
        .then(&["wasm_point_write_boolean 5 1", "wasm_point_read_boolean 6 200 0"])
        .then(&["wasm_point_write_boolean 6 0", "wasm_point_read_boolean 6 201 0"])
        .then(&["wasm_point_read_boolean 6 202 0", "wasm_point_read_boolean 5 203 0"]);
    let mut bench = Bench::new();
    let played = bench.play(&script);
    assert_eq!(played.codes, [0; 7]);
    // Of an output a poll reads what the last cycle ended with.
    assert_eq!(played.at(200), [1, 1, 0, 1]);
    assert_eq!(bench.world().outputs[8], 1);
}

#[test]
fn a_module_without_memory_writes_points() {
    let text = r#"(module
        (import "env" "wasm_point_write_boolean" (func $write (param i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "sched_yield" (func $yield (result i32)))
        (func (export "poll")
          (if (i32.or (call $write (i32.const 6) (i32.const 1)) (call $yield))
            (then unreachable))))"#;
    let mut bench = Bench::new();
    let prepared = bench.prepare(&wat(text), Settings::default()).result;
    let mut program = bench.seat(prepared.unwrap());
    assert_eq!(bench.poll(&mut program), Ok(()));
    assert_eq!(bench.world().outputs[8], 2);
}

/// One value that was refused counted as refused for ever.
#[test]
fn a_mistake_is_over_as_soon_as_the_like_of_it_goes_well() {
    let check = |script: Script, other: &str, good: &str| {
        let mut bench = Bench::new();
        bench.world().inputs.bytes[15] = 0xff;
        let script = script.data(&[(104, b"\0\0\x80\x7f"), (108, b"lost")]);
        let module = script.then(&[other]).then(&[good]).module();
        let prepared = bench.prepare(&module, Settings::default()).result.unwrap();
        let mut program = bench.seat(prepared);
        let mut is_over = || {
            bench.poll(&mut program).unwrap();
            bench.world().inputs.bytes[15] = 0x7f;
            let entries = program.refused().entries();
            assert_eq!(entries.len(), 1, "{entries:?}");
            entries[0].is_over
        };
        assert_eq!([is_over(), is_over(), is_over()], [false, false, true], "{good}");
    };
    let in_poll = |bad, other, good| check(Script::poll(&[], &[bad]), other, good);
    let (log, write) = ("wasm_log 4 0 0 0 108 4", "wasm_write_output 0 80 8");
    in_poll("wasm_point_write_double 4 nan", "wasm_point_write_double 9 1", write);
    in_poll("wasm_point_write_double 4 inf", log, "wasm_point_write_double 4 1");
    in_poll("wasm_point_write_int 7 1000", write, "wasm_point_write_int 7 1");
    let read = "wasm_point_read_int 3 200 0";
    in_poll(read, "wasm_point_read_double 0 200 0", read);
    in_poll("wasm_write_output 12 104 4", write, "wasm_write_output 12 80 4");
    in_poll("wasm_write_output 14 106 2", write, "wasm_write_output 14 80 2");
    in_poll("wasm_write_output 70000 80 9", log, write);
    in_poll("wasm_log 9 0 0 0 108 4", write, log);
    in_poll(
        "wasm_point_write_int 99 1",
        "wasm_point_write_boolean 5 1",
        "wasm_point_write_int 7 1",
    );
    let in_init = |bad, other, good| {
        check(Script::default().init(&[bad]).then::<&str>(&[]), other, good);
    };
    let write = "wasm_point_write_double 4 1";
    in_init(write, "wasm_point_read_double 4 200 0", write);
    let read = "wasm_variable_read_int 108 4 200";
    in_init(read, "wasm_variable_write_int 108 4 1", read);
}
