//! A simulated fan for the daemon of the tests: an output in a file, and a program that writes it.
//!
//! The tests can read the value of the output directly from the file, without a request to the
//! daemon. This works even if the daemon gives no answer. This file contains no tests.

use std::fs;

use super::Plant;
use crate::rig::wat;

/// The tables of the fan, safe at 255, with more keys of its point. It stands at 0.
pub fn board(plant: &Plant, keys: &str) -> String {
    let path = plant.path("fan");
    fs::write(&path, "0").unwrap();
    format!(
        r#"
        [[device]]
        name = "board"
        driver = "file"
        period = "5ms"
        point = [{{ name = "fan", direction = "out", type = "u8", address = 40, safe = 255,
            at = {{ path = {path:?} }}{keys} }}]
        "#
    )
}

/// A program that writes `number` to the fan.
pub fn writes(number: u8) -> Vec<u8> {
    wat(&format!(
        r#"(module
          (import "env" "wasm_write_output" (func $write (param i32 i32 i32) (result i32)))
          (memory (export "memory") 1) (data (i32.const 0) "\{number:02x}")
          (func (export "poll") (drop (call $write (i32.const 40) (i32.const 0) (i32.const 1)))))"#
    ))
}

/// Whether the fan stands at `number`.
pub fn fan_is(plant: &Plant, number: &str) -> bool {
    let text = fs::read_to_string(plant.path("fan")).unwrap();
    text.lines().next() == Some(number)
}
