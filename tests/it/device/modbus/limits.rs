//! The keys of a point that say what a value of a device means, with registers as SunSpec units
//! have them: values that are not available, values outside of a range, and coils that are
//! inverted.

use std::time::Duration;

use camshaft::process::image::{Quality, Value};

use super::{Asked, Bench, Desk, Frames, GOOD, ONE_UNIT, bench};

const POINTS: &str = r#"point = [
    { name = "power", direction = "in", type = "i16", scale = 0.1, nan = [0x8000],
      stale_after = "100ms", bad_after = "200ms", at = { group = "g", address = 0 } },
    { name = "count", direction = "in", type = "u16", nan = [0xFFFF],
      at = { group = "g", address = 1 } },
    { name = "volts", direction = "in", type = "f32", at = { group = "g", address = 2 } },
    { name = "total", direction = "in", type = "u32", nan = [0xFFFFFFFF],
      at = { group = "g", address = 4 } },
    { name = "temp", direction = "in", type = "i16", scale = 0.1, range = [-40, 150],
      at = { group = "g", address = 6 } },
    { name = "level", direction = "in", type = "u16", deadband = 5,
      at = { group = "g", address = 7 } },
    { name = "pump", direction = "out", type = "bool", invert = true,
      at = { unit = "u", address = 4, single = true } },
]"#;

/// What a unit without sensors has, and what it has with them.
const ABSENT: [u16; 8] = [0x8000, 0xffff, 0x7fc0, 0, 0xffff, 0xffff, 2000, 100];
const PRESENT: [u16; 8] = [123, 7, 0x3fc0, 0, 0, 9, 200, 105];

const SENSORS: [&str; 5] = ["power", "count", "volts", "total", "temp"];

fn sound(registers: [u16; 8]) -> impl Fn(&Asked) -> super::Answer {
    move |asked: &Asked| asked.sound(|address| registers[usize::from(address)])
}

fn values(bench: &Bench) -> [Value; 5] {
    SENSORS.map(|name| bench.input(name).0)
}

fn are_all(bench: &Bench, quality: Quality) -> bool {
    SENSORS.iter().all(|name| bench.input(name).1 == quality)
}

/// 38 of 45 points of a real unit were good with 65535.
#[test]
fn what_is_not_available_is_bad_for_as_long_as_the_unit_says_so() {
    use Value::{Int, Real};
    let desk = Desk::open(Frames::Tcp, sound(ABSENT));
    let mut bench = bench(&desk.url(), &format!("{ONE_UNIT}{POINTS}"));
    bench.until("no sensor is there", |bench| are_all(bench, Quality::Sensor));
    assert_eq!(values(&bench), [Real(0.0), Int(0), Real(0.0), Int(0), Real(0.0)]);
    assert_eq!(bench.input("level"), (Int(100), GOOD));
    desk.answer(sound(PRESENT));
    bench.until("all sensors are there", |bench| are_all(bench, GOOD));
    let power = Real(123.0 * 0.1);
    assert_eq!(values(&bench), [power, Int(7), Real(1.5), Int(9), Real(20.0)]);
    let before = values(&bench);
    desk.answer(sound(ABSENT));
    bench.until("no sensor is there again", |bench| are_all(bench, Quality::Sensor));
    // The unit answers all the time, so that the points do not become silent ones.
    bench.pass(Duration::from_millis(500));
    assert!(are_all(&bench, Quality::Sensor), "{:?}", bench.all_inputs());
    assert_eq!(values(&bench), before, "the last values stay");
}

#[test]
fn a_small_change_of_a_register_is_none() {
    let desk = Desk::open(Frames::Tcp, sound(ABSENT));
    let mut bench = bench(&desk.url(), &format!("{ONE_UNIT}{POINTS}"));
    bench.until("it is read", |bench| bench.input("level") == (Value::Int(100), GOOD));
    desk.answer(sound(PRESENT));
    bench.until("the others change", |bench| are_all(bench, GOOD));
    assert_eq!(bench.input("level"), (Value::Int(100), GOOD));
    let mut registers = PRESENT;
    registers[7] = 106;
    desk.answer(sound(registers));
    bench.until("it changes by 6", |bench| bench.input("level") == (Value::Int(106), GOOD));
}

#[test]
fn an_inverted_coil_is_on_when_it_is_safe() {
    let desk = Desk::open(Frames::Tcp, sound(PRESENT));
    let mut bench = bench(&desk.url(), &format!("{ONE_UNIT}{POINTS}"));
    let coils = || -> Vec<u8> {
        desk.all().iter().filter(|asked| asked.function == 5).map(|asked| asked.bytes[2]).collect()
    };
    bench.until("the safe value is there", |bench| bench.is_confirmed("pump"));
    assert_eq!(coils(), [0xff], "safe is false for the program");
    bench.output("pump", Value::Bool(true));
    bench.until("the pump runs", |bench| bench.is_confirmed("pump") && coils().len() == 2);
    assert_eq!(coils(), [0xff, 0]);
}
