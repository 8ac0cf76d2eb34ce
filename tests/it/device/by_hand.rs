//! Tests of the commands `camshaft modbus read`, `write` and `scan`, with which a person tests a
//! bus.
//!
//! The other side is pymodbus, a Modbus implementation that is independent of this project. The
//! tests compare the exact text and the exit codes.

use std::process::Command;

use super::peer::PyServer;

/// What the command prints and says, and its exit code.
fn camshaft(arguments: &str) -> (String, String, Option<i32>) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_camshaft"));
    let done = command.arg("modbus").args(arguments.split_whitespace()).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (text(&done.stdout), text(&done.stderr), done.status.code())
}

#[test]
#[ignore = "needs pymodbus"]
fn values_are_written_and_read() {
    let server = PyServer::start(&[1, 3]);
    let bus = format!("tcp://127.0.0.1:{}", server.port);
    let check = |arguments: &str, expected: &str| {
        let (printed, said, code) = camshaft(&arguments.replace("BUS", &bus));
        assert_eq!((&*printed, &*said, code), (expected, "", Some(0)), "{arguments}");
    };
    check("write BUS holding 1000 421", "unit 1 has acknowledged holding 1000: 421 (01a5)\n");
    check(
        "write BUS holding 1001 -2 --type i16 --unit 3 --single",
        "unit 3 has acknowledged holding 1001: -2 (fffe)\n",
    );
    check(
        "write BUS holding 1002 42.5 --type f32 --order CDAB",
        "unit 1 has acknowledged holding 1002: 42.5 (0000 422a)\n",
    );
    check("write BUS coil 1100 on", "unit 1 has acknowledged coil 1100: true\n");
    check("read BUS holding 1000", "ADDRESS   HEX   AB     BA\n   1000  01a5  421  42241\n");
    check(
        "read BUS holding 1001 1 --type i16 --unit 3",
        "ADDRESS   HEX  AB    BA\n   1001  fffe  -2  -257\n",
    );
    check(
        "read BUS holding 1002 2 --type f32",
        "ADDRESS        HEX          ABCD  CDAB          BADC          DCBA\n   \
         1002  0000 422a  2.373519e-41  42.5  1.515925e-41  1.723066e-13\n",
    );
    check("read BUS coil 1100 2", "ADDRESS  VALUE\n   1100  true\n   1101  false\n");
    check(
        "read BUS holding 1000 --json",
        "[\n  {\n    \"address\": 1000,\n    \"registers\": [\n      421\n    ],\n    \
         \"values\": {\n      \"AB\": 421,\n      \"BA\": 42241\n    }\n  }\n]\n",
    );
}

#[test]
#[ignore = "needs pymodbus"]
fn units_are_found() {
    let server = PyServer::start(&[3, 7]);
    let bus = format!("tcp://127.0.0.1:{}", server.port);
    let (printed, said, code) =
        camshaft(&format!("scan {bus} --from 1 --to 10 --timeout 2s --json"));
    assert_eq!((&*said, code), ("", Some(0)));
    let found: serde_json::Value = serde_json::from_str(&printed).unwrap();
    // This one answers for absent units too, with exception 4.
    let answers = |unit: usize| found[unit - 1]["answer"].as_str().unwrap().to_owned();
    assert_eq!((answers(3), answers(7)), ("answers".into(), "answers".into()), "{printed}");
    assert_eq!(answers(4), "answers with exception 4 (server device failure)");
}

#[test]
fn what_goes_wrong_is_said() {
    let check = |arguments: &str, code: i32, expected: &str| {
        let (printed, said, exit) = camshaft(arguments);
        assert_eq!((&*printed, exit), ("", Some(code)), "{arguments}: {said}");
        assert!(said.contains(expected), "{arguments}: {said}\nnot: {expected}");
    };
    // A port that nobody listens on, and one where nobody answers.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    let deaf = format!("tcp://127.0.0.1:{port}");
    check(
        &format!("read {deaf} holding 0 --timeout 50ms"),
        1,
        &format!(
            "error: {deaf}, function code 3 from holding 0, count 1 of unit 1: no answer within the \
             time limit\n"
        ),
    );
    check(
        &format!("scan {deaf} --from 5 --to 6 --timeout 20ms"),
        1,
        &format!("error: {deaf}: none of the units 5 to 6 answers\n"),
    );
    drop(silent);
    check(&format!("read {deaf} holding 0"), 1, "Connection refused");
    check("read tcp://h holding 0 3 --type f32", 2, "a f32 needs 2 registers; the count 3 is not");
    check(
        "read tcp://h input 0 126",
        2,
        "input 0 to 125 is too much: one request reads at most 125,",
    );
    check("read tcp://h holding 65535 2", 2, "holding 65535 to 65536 is too much");
    check("read h holding 0", 2, "tcp://host:502");
    check("read tcp://h register 0", 2, "unknown variant `register`");
    check("read tcp://h holding 0 --type bool", 2, "expected a type of 16 bits or more");
    check("read tcp://h holding 0 --baud 9600", 2, "--baud and --parity are only for serial lines");
    check("write tcp://h input 0 1", 2, "expected coil or holding, found input");
    check("write tcp://h holding 0 70000", 2, "70000: the value does not fit type u16");
    check("write tcp://h holding 0 true", 2, "true: expected a number for type u16");
    check("write tcp://h coil 0 7", 2, "expected true, false, on or off for a coil, found 7");
    let order = "found \"ABCD\" for a u16";
    check("write tcp://h holding 0 7 --order ABCD", 2, order);
    check("write tcp://h holding 0 7 --type u32 --single", 2, "--single writes one register");
    check("scan rtu:///dev/null --from 0", 2, "expected units from 1 to 247");
    check("scan tcp://h --to 256", 2, "256 is not in 0..=255");
}
