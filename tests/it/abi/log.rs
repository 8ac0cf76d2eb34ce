//! Tests of the host function `wasm_log`, with which a program writes log lines.
//!
//! The tests check the levels, the text (a long text is cut, and a text that is not UTF-8 is
//! refused) and the rate limit. What the log looks like in a file is tested in `log.rs`.

use super::*;

#[test]
fn levels_are_0_to_4() {
    let table = [
        ("wasm_log 0 0 0 0 100 5", 0),
        ("wasm_log 1 0 0 0 100 5", 0),
        ("wasm_log 2 0 0 0 100 5", 0),
        ("wasm_log 3 0 0 0 100 5", 0),
        ("wasm_log 4 0 0 0 100 5", 0),
        ("wasm_log 5 0 0 0 100 5", 1),
        ("wasm_log -1 0 0 0 100 5", 1),
        ("wasm_log 2147483647 0 0 0 100 5", 1),
    ];
    let (_, played) = check(&[(100, b"hello")], &table);
    let levels = ["Error", "Warn", "Info", "Debug", "Trace"];
    assert_eq!(played.said(), levels.map(|level| format!("{level}: hello")));
}

#[test]
fn a_line_has_its_place_and_its_words_as_they_came() {
    let mut bench = Bench::new();
    let words = b"tab\there\n\x1b[31mred\0";
    let data: &[(u32, &[u8])] = &[(100, words), (200, b"src/pump.c")];
    let played = check_on(&mut bench, data, &[("wasm_log 1 200 10 42 100 18", 0)]);
    let [Line { seat: Seat(0), cycle: 1, message: Message::Said { file, line: 42, text, .. } }] =
        &played.lines[..]
    else {
        panic!("{:?}", played.lines);
    };
    // Control characters are data here; whoever writes the line out escapes them.
    assert_eq!((file.as_str(), text.as_str().as_bytes()), ("src/pump.c", &words[..]));
    assert_eq!(format!("{text:?}"), r#""tab\there\n\u{1b}[31mred\0""#);
}

#[test]
fn text_that_is_not_utf8_is_refused() {
    let data: &[(u32, &[u8])] =
        &[(100, b"ok\xffok"), (200, b"\xed\xa0\x80"), (300, b"cut \xc3\xbc")];
    let table = [
        ("wasm_log 2 0 0 0 100 5", 1),
        ("wasm_log 2 100 5 0 100 2", 1),
        ("wasm_log 2 0 0 0 200 3", 1),
        ("wasm_log 2 0 0 0 300 5", 1),
        ("wasm_log 2 0 0 0 300 6", 0),
    ];
    assert_eq!(check(data, &table).1.said(), ["Info: cut ü"]);
}

#[test]
fn a_line_is_cut_at_1024_bytes_and_never_within_a_character() {
    let plain = [b'x'; 1100];
    let broken = [&[b'y'; 1023][..], "ü and more".as_bytes()].concat();
    let wide = "€".repeat(400);
    let data: &[(u32, &[u8])] = &[(1000, &plain), (3000, &broken), (5000, wide.as_bytes())];
    let table = [
        ("wasm_log 2 0 0 0 1000 1024", 0),
        ("wasm_log 2 0 0 0 1000 1025", 0),
        ("wasm_log 2 0 0 0 3000 1034", 0),
        ("wasm_log 2 0 0 0 3000 1025", 0),
        // Here the text itself ends within the character.
        ("wasm_log 2 0 0 0 3000 1024", 1),
        ("wasm_log 2 0 0 0 5000 1200", 0),
        // What lies behind the cut is not looked at, but it must be there.
        ("wasm_log 2 0 0 0 1000 64536", 0),
        ("wasm_log 2 0 0 0 1000 64537", 1),
        ("wasm_log 2 5000 1200 0 1000 1", 0),
    ];
    let (_, played) = check(data, &table);
    let lengths: Vec<_> = played.said().iter().map(|said| said.len() - "Info: ".len()).collect();
    assert_eq!(lengths, [1024, 1024, 1023, 1023, 1023, 1024, 1]);
    let Some(Message::Said { file, .. }) = played.lines.last().map(|line| &line.message) else {
        panic!("the last line was said");
    };
    assert_eq!(file.as_str().len(), 63);
}

#[test]
fn lines_over_the_rate_are_dropped_and_their_number_is_said_once() {
    let burst = ["wasm_log 2 0 0 0 100 5"; 150];
    let quiet: [&str; 0] = [];
    let script =
        Script::poll(&[(100, b"hello")], &burst).then(&quiet).then(&quiet).then(&burst[..3]);
    let played = Bench::new().play(&script);
    // A call that is not heard has succeeded all the same.
    assert_eq!(played.codes, [0; 153]);
    let mut expected = vec!["Info: hello"; 100];
    // 10 ms later there is room for one line again; 20 ms after that for three.
    expected.push("Dropped(50)");
    expected.extend(["Info: hello"; 3]);
    assert_eq!(played.said(), expected);
}

#[test]
fn the_rate_is_configured() {
    let mut bench = Bench::new();
    bench.limits.log_lines_per_s = 2;
    let script = Script::poll(&[(100, b"hello")], &["wasm_log 2 0 0 0 100 5"; 5]);
    assert_eq!(bench.play(&script).said(), ["Info: hello", "Info: hello"]);
}
