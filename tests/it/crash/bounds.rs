//! Tests of the limits for a replay of a crash report from an unknown source.
//!
//! A report may be made to harm the computer that replays it. So its lists, its limits and its tape
//! (the record of the program's calls to the host) are bounded. A report beyond a bound must be
//! refused.

use allocation_counter::measure;
use camshaft::plugin::Limits;

use super::damage::{bytes, seal, tape};
use super::*;

/// What reading a report may take, besides its own bytes.
const LEAST: u64 = 4 << 20;

/// Replaces words of the head.
fn with_head(bytes: &[u8], old: &str, new: &str) -> Vec<u8> {
    let end = bytes.iter().position(|&byte| byte == b'\n').unwrap();
    let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
    assert_eq!(head.matches(old).count(), 1, "{old} in {head}");
    let mut forged = head.replace(old, new).into_bytes();
    forged.extend(&bytes[end..]);
    seal(&mut forged);
    forged
}

/// A report with another tape, which begins where the tape does.
fn with_tape(bytes: &[u8], new: &[u8]) -> Vec<u8> {
    let old = tape(bytes);
    let mut forged = bytes.to_vec();
    forged.splice(old.clone(), new.iter().copied());
    let lengths = |len: usize| format!("\"tape\":{len}");
    with_head(&forged, &lengths(old.len()), &lengths(new.len()))
}

/// Rows of a hundred polls that called nothing.
fn rows(count: usize) -> Vec<u8> {
    let mut row = vec![24, 0, 0, 0, 4];
    row.extend([0; 16]);
    row.extend([100, 1, 1]);
    row.repeat(count)
}

#[test]
fn a_longer_tape_than_is_ever_written_is_refused() {
    let why = CrashReport::parse(&with_tape(&bytes(), &rows(41_000))).unwrap_err();
    assert_eq!(why, "the tape of the report has 984000 bytes; expected at most 131123");
}

#[test]
fn the_longest_tape_of_rows_takes_no_more_memory_than_its_bytes() {
    let report = with_tape(&bytes(), &rows(131_072 / 24));
    let most = 3 * report.len() as u64 + LEAST;
    let mut cycles = Vec::new();
    let found = measure(|| {
        let report = CrashReport::parse(&report).unwrap();
        cycles = crash::history(&report, 3).unwrap();
    });
    assert_eq!(cycles.iter().map(|cycle| cycle.cycle).collect::<Vec<_>>(), [97, 98, 99]);
    assert!(found.bytes_max < most, "{} bytes at once; {most} are allowed", found.bytes_max);
}

#[test]
fn the_lists_of_a_head_are_counted() {
    let bytes = bytes();
    let check = |list: &str, entry: &str, most: usize| {
        let start = format!("\"{list}\":[");
        let many = format!("{start}{}", format!("{entry},").repeat(most));
        let forged = with_head(&bytes, &start, &many);
        let mut why = String::new();
        let found = measure(|| why = CrashReport::parse(&forged).unwrap_err());
        let expected = format!("expected a list of at most {most} entries");
        assert!(why.contains(&expected), "{list}: {why}");
        let most = 3 * forged.len() as u64 + (12 << 20);
        assert!(found.bytes_max < most, "{list}: {} bytes at once", found.bytes_max);
    };
    check("points", "null", 1 << 16);
    check("frames", "{\"function\":\"\",\"index\":0,\"offset\":0}", 256);
    check("functions", "\"\"", 256);
    // A report of which all inputs are granted has no list of them.
    let granted = with_head(&bytes, "\"inputs\":null", "\"inputs\":[\"in.level\"]");
    assert_eq!(CrashReport::parse(&granted).unwrap().head.inputs, Some(vec!["in.level".into()]));
    let many = format!("\"inputs\":[{}\"\"]", "\"\",".repeat(1 << 16));
    let why = CrashReport::parse(&with_head(&bytes, "\"inputs\":null", &many)).unwrap_err();
    assert!(why.contains("expected a list of at most 65536 entries"), "{why}");
}

#[test]
fn limits_of_a_report_are_lowered_to_those_of_its_reader() {
    let bytes = bytes();
    let judgement = play(&bytes);
    assert!(judgement.lowered.is_empty(), "{:?}", judgement.lowered);
    let more = with_head(&bytes, "\"memory_bytes\":16777216", "\"memory_bytes\":4294967296");
    let more = with_head(&more, "\"stack_bytes\":65536", "\"stack_bytes\":104857600");
    let report = CrashReport::parse(&more).unwrap();
    let judgement = crash::replay(&compile_service(Limits::default()), &report, None, 1).unwrap();
    let lowered = [
        "plugins.memory: 4294967296 in the report, lowered to 16777216",
        "plugins.stack: 104857600 in the report, lowered to 65536",
    ];
    assert_eq!(
        (judgement.verdict, &*judgement.lowered),
        (Verdict::Reproduced, &lowered.map(String::from)[..])
    );
}

#[test]
fn a_module_that_needs_more_is_refused_unless_its_reader_allows_it() {
    let more = Limits { memory_bytes: 32 << 20, ..Limits::default() };
    let module = module("300", "", &in_poll(5, "unreachable"));
    let mut rig = Rig::new(points(), vec![Box::new(Ramp(0.0))]);
    rig.limits = more;
    speed(&mut rig, 5);
    rig.cycle();
    let prepared = rig.prepare("p", 3, &module, settings()).unwrap();
    rig.order(Order::Install(Box::new(prepared)));
    let program = run_out(&mut rig, 10);
    let report = CrashReport::parse(&report_bytes(&rig, program, Some(&module))).unwrap();
    let play = |limits| crash::replay(&compile_service(limits), &report, None, 1);
    let why = format!("{:#}", play(Limits::default()).unwrap_err());
    let expected = "limits of the report were lowered (plugins.memory: 33554432 in the report, \
                    lowered to 16777216): it has 19660800 bytes of memory at the start";
    assert!(why.starts_with(expected), "{why}");
    assert_eq!(play(more).unwrap().verdict, Verdict::Reproduced);
}

#[test]
fn a_budget_that_no_configuration_has_is_refused() {
    let bytes = bytes();
    for budget in ["init_budget", "poll_budget"] {
        let end = bytes.iter().position(|&byte| byte == b'\n').unwrap();
        let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
        let at = head.find(&format!("\"{budget}\":{{\"secs\":0")).unwrap();
        let old = &head[at..at + budget.len() + 12];
        let forged = with_head(&bytes, old, &old.replace("secs\":0", "secs\":61"));
        assert_eq!(
            CrashReport::parse(&forged).unwrap_err(),
            "the limits in the report are out of range"
        );
    }
}
