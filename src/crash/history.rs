//! The tape of a crash report as text: the values that the program read and wrote, cycle by cycle.
//!
//! If a call read or wrote bytes of an image, the text shows the points within these bytes, with
//! their values. If no point is within these bytes, the text shows hexadecimal digits. Calls that
//! read or write no value are not shown, for example calls that read the clock, find a point or
//! write a log line. `crash/verdict.rs` has the replay of the tape.

use std::collections::VecDeque;
use std::time::Duration;

use serde::Serialize;

use super::{CrashReport, PointHead};
use crate::plugin::trace::tape::{Called, Section, name};
use crate::process::call::Phase;
use crate::process::image::{Class, Direction, Point, Value};
use crate::text::legible;

/// The maximum number of bytes of a byte string that the text shows. The text of a longer byte
/// string ends with `…`.
const SHOWN: usize = 16;

/// One poll of the program, as text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Cycle {
    /// The cycle of the scan in which the poll ran, by its number.
    pub cycle: u64,
    /// Time of the program's clock in that cycle.
    pub now: Duration,
    /// The values that the program read, such as `tank.level=42.5`.
    pub got: Vec<String>,
    /// The values that the program wrote, such as `pump.speed=10`.
    pub did: Vec<String>,
    /// Whether the last calls of the program in this cycle are missing on the tape.
    pub is_cut: bool,
}

/// Returns the last polls of a report, at most `most`. The oldest poll comes first.
///
/// # Errors
/// When the tape is not valid. The error is the reason, as text.
pub fn history(report: &CrashReport, most: usize) -> Result<Vec<Cycle>, String> {
    let mut last = VecDeque::new();
    for section in report.sections() {
        let (_, section) = section?;
        if section.phase == Phase::Poll {
            last.push_back(section);
        }
        if last.len() > most {
            last.pop_front();
        }
    }
    Ok(last.iter().map(|section| cycle(section, &report.head.points)).collect())
}

/// Converts one poll to text.
fn cycle(section: &Section, points: &[Option<PointHead>]) -> Cycle {
    let Section { cycle, now, is_cut, .. } = *section;
    let (mut got, mut did) = (Vec::new(), Vec::new());
    for called in &section.calls {
        let Some((is_read, words)) = words(called, points) else { continue };
        let list = if is_read { &mut got } else { &mut did };
        let words =
            if called.code == 0 { words } else { format!("{words} (code {})", called.code) };
        list.push(legible(&words));
    }
    Cycle { cycle, now, got, did, is_cut }
}

/// Converts one call to text. The flag is true if the call read a value, and false if the call
/// wrote a value. Returns `None` for a call that is not shown.
fn words(called: &Called, points: &[Option<PointHead>]) -> Option<(bool, String)> {
    let argument = |n: usize| called.arguments.get(n).copied().unwrap_or(0);
    let taken: Vec<u8> = called.taken.iter().flat_map(|(_, bytes)| bytes.clone()).collect();
    let given = called.given.first().map_or(&[][..], |(_, bytes)| bytes);
    let function = name(called.function);
    let image = |letter, direction, bytes: &[u8]| {
        bytes_of_image(letter, direction, argument(0), argument(2), bytes, points)
    };
    Some(match function {
        "wasm_read_input" => (true, image('I', Direction::In, given)),
        "wasm_read_output" => (true, image('Q', Direction::Out, given)),
        "wasm_write_output" => (false, image('Q', Direction::Out, &taken)),
        "random_get" => (true, format!("random {}", hex(given))),
        _ => {
            let (what, kind) = function.strip_prefix("wasm_")?.rsplit_once('_')?;
            let point = || match points.get(argument(0) as usize) {
                Some(Some(point)) => point.name.clone(),
                Some(None) | None => format!("point {}", argument(0)),
            };
            let variable = || String::from_utf8_lossy(&taken).into_owned();
            match what {
                "point_read" => {
                    let quality = called.given.get(1).and_then(|(_, quality)| quality.first());
                    let quality = quality.filter(|quality| **quality != Class::Good as u8);
                    let note = quality.map_or("", |quality| match *quality {
                        quality if quality == Class::Bad as u8 => " bad",
                        _ => " uncertain",
                    });
                    (true, format!("{}={}{note}", point(), value(kind, given)))
                }
                "point_write" => (false, format!("{}={}", point(), number(kind, argument(1)))),
                "variable_read" => (true, format!("{}={}", variable(), value(kind, given))),
                "variable_write" => {
                    (false, format!("{}={}", variable(), number(kind, argument(2))))
                }
                _ => return None,
            }
        }
    })
}

/// Returns the text of a value that the host returned to the program.
fn value(kind: &str, bytes: &[u8]) -> String {
    match (kind, bytes) {
        ("boolean", [on]) => (*on != 0).to_string(),
        ("int", &[a, b, c, d]) => i32::from_le_bytes([a, b, c, d]).to_string(),
        ("double", bytes) => match bytes.try_into() {
            Ok(bytes) => f64::from_le_bytes(bytes).to_string(),
            Err(_) => "?".into(),
        },
        _ => "?".into(),
    }
}

/// Returns the text of a value that the program passed to the host.
fn number(kind: &str, word: u64) -> String {
    match kind {
        "boolean" => (word != 0).to_string(),
        "double" => f64::from_bits(word).to_string(),
        _ => (word as u32).cast_signed().to_string(),
    }
}

/// Returns the points whose bytes are all within these bytes, with their values. If no point is
/// within these bytes, returns the bytes as hexadecimal digits.
fn bytes_of_image(
    letter: char,
    direction: Direction,
    address: u64,
    len: u64,
    bytes: &[u8],
    points: &[Option<PointHead>],
) -> String {
    let there = |point: &&PointHead| point.direction == direction;
    let found = points.iter().flatten().filter(there).filter_map(|point| {
        let start = u64::from(point.byte).checked_sub(address)?;
        let alone: Point = point.alone();
        let bytes = bytes.get(usize::try_from(start).ok()?..)?;
        let bytes = bytes.get(..alone.bytes().len())?;
        Some(format!("{}={}", point.name, show(alone.read(bytes))))
    });
    let found: Vec<_> = found.collect();
    match found.is_empty() {
        true => format!("%{letter}{address}..{}={}", address.saturating_add(len), hex(bytes)),
        false => found.join(" "),
    }
}

fn show(value: Value) -> String {
    value.to_string()
}

/// Returns the first [`SHOWN`] bytes of a byte string as hexadecimal digits. The text of a longer
/// byte string ends with `…`.
fn hex(bytes: &[u8]) -> String {
    let mut text: String = bytes.iter().take(SHOWN).map(|byte| format!("{byte:02x}")).collect();
    if bytes.len() > SHOWN {
        text.push('…');
    }
    text
}
