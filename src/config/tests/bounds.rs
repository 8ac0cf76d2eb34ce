//! Tests of the keys `nan`, `range`, `on_overflow`, `invert`, `deadband` and `description` of a
//! point: what a correct value becomes, and the exact message for each mistake.

use super::{good, plant, read};
use crate::process::image::{OnOverflow, Point, PointId, PointKind, Value};

/// Returns the point that these keys describe.
fn point(keys: &str) -> Point {
    good(&plant(&[&format!("name = 'p', {keys}")])).live.points[PointId(0)].clone()
}

/// Checks the only problem of a point with these keys. The first part of `expected` is the key.
#[track_caller]
fn check(keys: &str, expected: &str) {
    let text = plant(&[&format!("name = 'p', {keys}")]);
    let problems = read(&text).expect_err(&text).to_string();
    assert_eq!(problems, format!("etc/c.toml:5: device[d].point[p].{expected}"), "{keys}");
}

#[test]
fn raw_numbers_are_decimal_or_bits() {
    let nan = |kind: &str, list: &str| {
        point(&format!("direction = 'in', type = '{kind}', nan = {list}")).not_available
    };
    let ints = |all: &[i128]| all.iter().map(|n| Value::Int(*n)).collect::<Vec<_>>();
    assert_eq!(nan("i16", "[0x8000]"), ints(&[-32768]));
    assert_eq!(nan("i16", "[-32768, 32767, 0x7fff]"), ints(&[-32768, 32767, 32767]));
    assert_eq!(nan("u16", "[0xFFFF, 0o17, 0b11]"), ints(&[65535, 15, 3]));
    assert_eq!(nan("i8", "[0x80, 0xff]"), ints(&[-128, -1]));
    assert_eq!(nan("i32", "[0x8000_0000, 0x8000]"), ints(&[-2_147_483_648, 32768]));
    assert_eq!(nan("u64", "[0xffffffffffffffff]"), ints(&[u64::MAX.into()]));
    assert_eq!(nan("i64", "[0x8000000000000000]"), ints(&[i64::MIN.into()]));
    let real = |real: f64| vec![Value::Real(real)];
    assert_eq!(nan("f32", "[-9999]"), real(-9999.0));
    assert_eq!(nan("f32", "[-999.9]"), real(f64::from(-999.9f32)));
    assert_eq!(nan("f64", "[0xffefffffffffffff]"), real(-f64::MAX));
    // These are no finite numbers, so the input is bad without the key.
    assert_eq!(nan("f32", "[0x7FC00000, nan, inf]"), vec![]);
    assert_eq!(nan("u8", "[]"), vec![]);
}

#[test]
fn raw_numbers_that_do_not_fit() {
    let bits = |kind: &str, example: &str| {
        format!(
            "nan: expected a raw number of type {kind}, or its bits in hexadecimal such as \
             {example}, found"
        )
    };
    let input = |kind: &str, list: &str| format!("direction = 'in', type = '{kind}', nan = {list}");
    check(&input("i16", "[32768]"), &format!("{} 32768", bits("i16", "[0x8000]")));
    check(&input("i16", "[0x10000]"), &format!("{} 0x10000", bits("i16", "[0x8000]")));
    check(&input("u8", "[-1]"), &format!("{} -1", bits("u8", "[0xff]")));
    check(&input("u16", "[1.5]"), &format!("{} 1.5", bits("u16", "[0xffff]")));
    check(&input("u16", "[true]"), &format!("{} true", bits("u16", "[0xffff]")));
    check(&input("f32", "[1e300]"), "nan: expected a raw number of type f32, found 1e300");
    check(
        &input("i16", "0x8000"),
        "nan: expected a list of raw numbers for type i16, such as [0x8000], found 0x8000",
    );
    let long = format!("[{}]", "1, ".repeat(17));
    check(&input("u8", &long), "nan: expected at most 16 numbers, found 17 numbers");
    check(
        &input("bool", "[1]"),
        "nan: expected no `nan`, because the point is a bool, found `nan`",
    );
    check(
        "direction = 'out', type = 'u8', safe = 0, nan = [255]",
        "nan: expected this key only on an input, found `nan` on an output",
    );
}

#[test]
fn ranges_have_two_ends_in_order() {
    let range = |keys: &str| point(keys).range.map(|range| range.to_string());
    let input = "direction = 'in', type = 'i16', scale = 0.1";
    assert_eq!(range(input), None);
    assert_eq!(range(&format!("{input}, range = [-5, 99.9]")).unwrap(), "-5 to 99.9");
    assert_eq!(range(&format!("{input}, range = [0, inf]")).unwrap(), "0 to inf");
    let ordered = "range: expected the smaller number first, found";
    check(&format!("{input}, range = [5, 5]"), &format!("{ordered} [5, 5]"));
    check(&format!("{input}, range = [5, 4.5]"), &format!("{ordered} [5, 4.5]"));
    let two = "range: expected two numbers, such as [0, 100], found";
    check(&format!("{input}, range = [0, nan]"), &format!("{two} [0, nan]"));
    check(&format!("{input}, range = [false, true]"), &format!("{two} [false, true]"));
    check(&format!("{input}, range = [1, 2, 3]"), &format!("{two} [1, 2, 3]"));
    check(&format!("{input}, range = 7"), &format!("{two} 7"));
    check(
        &format!("{input}, range = [4000, 5000]"),
        "range: expected a range with a value that type i16 can have after scaling, found \
         [4000, 5000]",
    );
    check(
        "direction = 'in', type = 'bool', range = [0, 1]",
        "range: expected no `range`, because the point is a bool, found `range`",
    );
    check(
        "direction = 'out', type = 'f64', safe = 101, range = [0, 100]",
        "safe: expected from 0 to 100, which is the `range` of the point, found 101",
    );
    // A program may read a substitute that no device sends, so it may be outside of the range.
    assert!(range(&format!("{input}, range = [0, 1], on_bad = -1")).is_some());
}

#[test]
fn outputs_may_be_clamped() {
    let output = "direction = 'out', type = 'f64', safe = 0, range = [0, 100]";
    let on_overflow = |more: &str| point(&format!("{output}{more}")).on_overflow;
    assert_eq!(on_overflow(""), OnOverflow::Refuse);
    assert_eq!(on_overflow(", on_overflow = 'refuse'"), OnOverflow::Refuse);
    assert_eq!(on_overflow(", on_overflow = 'clamp'"), OnOverflow::Clamp);
    check(
        &format!("{output}, on_overflow = 'wrap'"),
        "on_overflow: expected \"refuse\" or \"clamp\", found 'wrap'",
    );
    check(
        "direction = 'in', type = 'f64', on_overflow = 'clamp'",
        "on_overflow: expected this key only on an output, found `on_overflow` on an input",
    );
    check(
        "direction = 'out', type = 'bool', on_overflow = 'clamp'",
        "on_overflow: expected no `on_overflow`, because the point is a bool, found `on_overflow`",
    );
}

#[test]
fn only_a_bool_is_inverted_and_only_a_number_has_a_deadband() {
    assert!(point("direction = 'in', type = 'bool', invert = true").is_inverted);
    assert!(!point("direction = 'out', type = 'bool', invert = false").is_inverted);
    check(
        "direction = 'in', type = 'u8', invert = true",
        "invert: expected this key only for type bool; `scale = -1` turns a number, found `invert` \
         for type u8",
    );
    let deadband =
        |deadband: &str| format!("direction = 'in', type = 'f64', deadband = {deadband}");
    assert_eq!(point(&deadband("0.5")).deadband, 0.5);
    let right = "deadband: expected 0 or a greater number, found";
    for (wrong, found) in [("-1", "-1"), ("nan", "NaN"), ("inf", "inf")] {
        check(&deadband(wrong), &format!("{right} {found}"));
    }
    check(
        "direction = 'in', type = 'bool', deadband = 1",
        "deadband: expected no `deadband`, because the point is a bool, found `deadband`",
    );
}

#[test]
fn descriptions_fit_a_line() {
    let keys = |text: &str| format!("direction = 'in', type = 'bool', description = \"{text}\"");
    let longest = "é".repeat(128);
    assert_eq!(point(&keys(&longest)).description, longest);
    assert_eq!(point(&keys("")).description, "");
    check(
        &keys(&format!("{longest}!")),
        "description: expected at most 256 bytes, found 257 bytes",
    );
    check(
        &keys("a\\u001b[2J"),
        "description: expected a text without line breaks and other control characters, found the \
         character '\\u{1b}'",
    );
    check(
        &keys("a\\nb"),
        "description: expected a text without line breaks and other control characters, found the \
         character '\\n'",
    );
}

#[test]
fn a_change_of_a_key_restarts_the_device() {
    let with = |keys: &str| {
        good(&plant(&[&format!("name = 'p', direction = 'in', type = 'f64', {keys}")]))
    };
    let old = with("nan = [nan, -1], range = [0, 5], deadband = 1, description = 'd'");
    let changed = |keys: &str| crate::config::changes(&old, &with(keys)).len();
    assert_eq!(changed("nan = [nan, -1], range = [0, 5], deadband = 1, description = 'd'"), 0);
    assert_eq!(changed("nan = [-2], range = [0, 5], deadband = 1, description = 'd'"), 1);
    assert_eq!(changed("nan = [-1], range = [0, 5], deadband = 2, description = 'd'"), 1);
    assert_eq!(changed("nan = [-1], range = [0, 5], deadband = 1, description = 'e'"), 1);
}

#[test]
fn a_point_without_these_keys_has_no_limits() {
    let plain = point("direction = 'in', type = 'u8'");
    assert_eq!(plain, Point::new("p", plain.direction, PointKind::U8));
}
