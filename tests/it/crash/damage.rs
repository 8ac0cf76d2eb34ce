//! Tests of damaged and forged crash reports.
//!
//! A damaged report must be refused, because its checksum is wrong. A forged report has a correct
//! checksum but a changed content. The replay must detect the forgery and must not panic.

use super::*;

/// A report of a crash in cycle 51.
pub(super) fn bytes() -> Vec<u8> {
    let body = "(if (f64.gt (f64.load (i32.const 320)) (f64.const 50)) (then unreachable))";
    let module = module("1", "", body);
    let mut rig = running(&module);
    let program = run_out(&mut rig, 100);
    report_bytes(&rig, program, Some(&module))
}

/// Where the tape begins and ends.
pub(super) fn tape(bytes: &[u8]) -> std::ops::Range<usize> {
    let head = bytes.iter().position(|&byte| byte == b'\n').unwrap();
    let json: serde_json::Value = serde_json::from_slice(&bytes[..head]).unwrap();
    let len = |part: &str| json["lengths"][part].as_u64().unwrap() as usize;
    let start = head + 1 + len("module");
    start..start + len("tape")
}

/// Gives the bytes the checksum that they should have.
pub(super) fn seal(bytes: &mut [u8]) {
    let (body, checksum) = bytes.split_at_mut(bytes.len() - 32);
    checksum.copy_from_slice(blake3::hash(body).as_bytes());
}

/// Replaces the last place where `old` is on the tape.
fn forge(bytes: &[u8], old: &[u8], new: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let tape = tape(&bytes);
    let at = tape.start + bytes[tape].windows(old.len()).rposition(|there| there == old).unwrap();
    bytes[at..at + new.len()].copy_from_slice(new);
    seal(&mut bytes);
    bytes
}

#[test]
fn what_is_cut_or_flipped_is_refused() {
    let bytes = bytes();
    assert!(CrashReport::parse(&bytes).is_ok());
    for at in (0..bytes.len()).step_by(37).chain(0..100).chain(bytes.len() - 100..bytes.len()) {
        let why = CrashReport::parse(&bytes[..at]).unwrap_err();
        assert!(why.contains("cut") || why.contains("not a crash report"), "cut at {at}: {why}");
        let mut flipped = bytes.clone();
        flipped[at] ^= 1 << (at % 8);
        let why = CrashReport::parse(&flipped).unwrap_err();
        assert!(
            why.contains("damaged") || why.contains("not a crash report"),
            "flip at {at}: {why}"
        );
    }
    assert_eq!(CrashReport::parse(b"\0asm").unwrap_err(), "the file is not a crash report");
    let newer = String::from_utf8_lossy(&bytes).find("\"version\":1").unwrap();
    let mut newer_bytes = bytes.clone();
    newer_bytes[newer + 10] = b'9';
    seal(&mut newer_bytes);
    let why = CrashReport::parse(&newer_bytes).unwrap_err();
    assert!(why.contains("the report has format version 9"), "{why}");
}

#[test]
fn bad_bytes_with_a_right_checksum_make_nobody_panic() {
    let bytes = bytes();
    let places = (0..tape(&bytes).start.min(3000)).chain(tape(&bytes).step_by(7));
    let (mut refused, mut taken) = (0, 0);
    for at in places {
        for flip in [1, 0x10, 0x80, 0xff] {
            let mut forged = bytes.clone();
            forged[at] ^= flip;
            seal(&mut forged);
            match CrashReport::parse(&forged) {
                Ok(report) => {
                    taken += 1;
                    let _ = crash::history(&report, 1000);
                }
                Err(_) => refused += 1,
            }
        }
    }
    println!("{refused} refused, {taken} taken");
    assert!(refused > 1000 && taken > 100, "{refused} refused, {taken} taken");
}

#[test]
fn a_forged_tape_is_found_out_at_the_right_place() {
    let bytes = bytes();
    let check = |old: &[u8], new: &[u8], expected: &str| {
        let judgement = play(&forge(&bytes, old, new));
        assert_eq!(judgement.verdict, Verdict::Diverged, "{}", judgement.words);
        assert!(judgement.words.contains(expected), "{}\n{expected}", judgement.words);
    };
    // What it read in cycle 30, through the point: the number that it makes of that is another.
    let level = |level: f64| level.to_le_bytes();
    let with = "diverged in cycle 30 at call 8: it called wasm_write_output(12, 400, 4) with ";
    check(&level(30.0), &level(31.0), with);
    // In the last cycle.
    check(&level(51.0), &level(52.0), "diverged in cycle 51 at call 8");
    // An argument: the number of the last call is `wasm_variable_write_int`, whose name is at 113.
    let set = [9, 3, 113, 5];
    let other = [9, 3, 114, 5];
    let called = "diverged in cycle 51 at call 10: it called wasm_variable_write_int(113, 5, ";
    check(&set, &other, called);
    // Another function.
    check(&set, &[7, 3, 113, 5], called);
}

#[test]
fn a_tape_that_ends_elsewhere_is_found_out() {
    let bytes = bytes();
    let forged = |from: &str, to: &str| {
        let text = from.as_bytes();
        let at = bytes.windows(text.len()).position(|there| there == text).unwrap();
        let mut forged = bytes.clone();
        forged[at..at + text.len()].copy_from_slice(to.as_bytes());
        seal(&mut forged);
        play(&forged).words
    };
    let words = forged("\"function\":\"work\"", "\"function\":\"walk\"");
    assert!(
        words.starts_with("diverged: the program trapped at another place: unreachable in work"),
        "{words}"
    );
}
