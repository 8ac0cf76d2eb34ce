//! Tests of the messages about a program that fails.
//!
//! A message must help the author of the program to find the mistake: it names the cause, the
//! function and the configuration key of a limit. The tests check the messages in the status, in
//! the history, in the log and in the answers of the command line.

use std::fs;
use std::path::Path;
use std::process::Command;

use camshaft::control::{Event, PluginState, PluginView};
use camshaft::plugin::{Settings, Trap};

use crate::daemon::{Daemon, Keys, LIMIT, Plant, wait};
use crate::evil::binary;
use crate::rig::{Rig, block_on, points, wat};

/// How this program traps in its first poll.
fn trap(text: &str) -> Trap {
    let mut rig = Rig::new(points(), Vec::new());
    let news = rig.install("p", 0, text, Settings::default());
    (**news.programs[0].trap.as_ref().expect("it traps")).clone()
}

#[test]
fn a_guest_that_ends_itself_after_its_memory_could_not_grow_was_out_of_memory() {
    let poll = |grow: &str| {
        trap(&format!(
            r#"(module (memory (export "memory") 1 2)
              (func (export "poll")
                (if (i32.eq (memory.grow (i32.const {grow})) (i32.const -1))
                  (then (unreachable)))
                (drop (i32.div_u (i32.const 1) (i32.const 0)))))"#
        ))
    };
    let own = "out of memory (unreachable; the memory has 65536 bytes; the module allows 131072)";
    assert_eq!(poll("2").kind, own);
    assert_eq!(poll("1").kind, "integer divide by zero", "it could grow");
    let other = trap(
        r#"(module (memory (export "memory") 1 1) (func (export "poll")
          (drop (memory.grow (i32.const 1))) (drop (i32.div_u (i32.const 1) (i32.const 0)))))"#,
    );
    assert_eq!(other.kind, "integer divide by zero", "it did not end itself");
    for maximum in ["", "1000"] {
        let text = format!(
            r#"(module (memory (export "memory") 1 {maximum}) (func (export "poll")
              (drop (memory.grow (i32.const 256))) (unreachable)))"#
        );
        let limit = "out of memory (unreachable; the memory has 65536 bytes; plugins.memory allows \
                     16777216)";
        assert_eq!(trap(&text).kind, limit, "{maximum}");
    }
}

/// One request that failed made every later end a lack of memory.
#[test]
fn a_lack_of_memory_is_no_reason_for_what_happens_after_it() {
    let check = |init: &str, poll: &str, polls: u32| {
        let text = format!(
            r#"(module (memory (export "memory") 1 3) (global $n (mut i32) (i32.const 0))
              (func $fail (drop (memory.grow (i32.const 3))))
              (func $grow (drop (memory.grow (i32.const 1))))
              (func (export "init") {init})
              (func (export "poll")
                (global.set $n (i32.add (global.get $n) (i32.const 1)))
                {poll}
                (if (i32.eq (global.get $n) (i32.const {polls})) (then (unreachable)))))"#
        );
        let mut rig = Rig::new(points(), Vec::new());
        let mut news = rig.install("p", 0, &text, Settings::default());
        for _ in 1..polls {
            assert!(news.programs[0].trap.is_none(), "{poll}: {news:?}");
            news = rig.cycle();
        }
        (**news.programs[0].trap.as_ref().expect("it traps")).clone().kind
    };
    assert_eq!(check("(call $fail)", "", 1), "unreachable");
    let first = "(if (i32.eq (global.get $n) (i32.const 1)) (then (call $fail)))";
    assert_eq!(check("", first, 3), "unreachable", "an earlier poll");
    assert_eq!(check("", "(call $fail) (call $grow)", 1), "unreachable", "it could grow since");
    let lacks = check("(call $fail)", "(call $grow) (call $fail)", 1);
    let words =
        "out of memory (unreachable; the memory has 131072 bytes; the module allows 196608)";
    assert_eq!(lacks, words);
}

#[test]
fn what_a_guest_says_of_its_end_goes_before_what_its_memory_suggests() {
    let check = |end: &str, expected: &str| {
        let text = format!(
            r#"(module
              (import "env" "abort" (func $abort (param i32 i32 i32 i32)))
              (memory (export "memory") 1 1)
              (func $_ZN4core9panicking9panic_fmt17h0123456789abcdefE (unreachable))
              (func $_ZN5alloc5alloc18handle_alloc_error17h0123456789abcdefE
                (call $_ZN4core9panicking9panic_fmt17h0123456789abcdefE))
              (func (export "poll")
                (drop (memory.grow (i32.const 1)))
                {end}))"#
        );
        assert_eq!(trap(&text).kind, expected);
    };
    let panic = "(call $_ZN4core9panicking9panic_fmt17h0123456789abcdefE)";
    check(panic, "panic (unreachable)");
    let zeros = "(i32.const 0) (i32.const 0) (i32.const 7) (i32.const 9)";
    check(&format!("(call $abort {zeros})"), "abort: (line 7, column 9)");
    let lack = "(call $_ZN5alloc5alloc18handle_alloc_error17h0123456789abcdefE)";
    let full = "the memory has 65536 bytes; the module allows 65536";
    check(lack, &format!("out of memory (unreachable; {full})"));
}

#[test]
fn a_function_without_a_name_is_called_by_its_export() {
    let found = trap(r#"(module (func (export "poll") (unreachable)))"#);
    assert_eq!((found.kind.as_str(), found.function.as_deref()), ("unreachable", Some("poll")));
    let found = trap(r#"(module (func (export "poll") (call 1)) (func (unreachable)))"#);
    assert_eq!(found.function.as_deref(), Some("#1"), "nothing is known of this one");
}

#[test]
fn a_panic_names_the_function_that_asked_for_it() {
    let found = trap(
        r#"(module
          (func $_ZN4core9panicking9panic_fmt17h0123456789abcdefE (unreachable))
          (func $_ZN5mixer5limit17h0123456789abcdefE
            (call $_ZN4core9panicking9panic_fmt17h0123456789abcdefE))
          (func (export "poll") (call $_ZN5mixer5limit17h0123456789abcdefE)))"#,
    );
    let named = (found.kind.as_str(), found.function.as_deref());
    assert_eq!(named, ("panic (unreachable)", Some("mixer::limit")));
}

#[test]
fn a_trap_by_a_limit_names_its_key() {
    let daemon = Daemon::start(Keys::default());
    daemon.drop_in("endless", &wat(r#"(module (func (export "poll") (loop (br 0))))"#));
    let deep = r#"(module (func $f (call $f) (call $f)) (func (export "poll") (call $f)))"#;
    daemon.drop_in("deep", &wat(deep));
    for (name, words) in [
        (
            "endless",
            "; the limit is poll_budget in the plugin's [[plugin]] entry, or without that key \
             plugins.poll_budget",
        ),
        ("deep", "; the limit is plugins.stack"),
    ] {
        let view =
            daemon.wait_for(name, "quarantined", |view| view.state == PluginState::Quarantined);
        let reason = view.reason.unwrap();
        assert!(reason.ends_with(words), "{reason}");
        daemon.wait_log(name, &[words]);
    }
}

#[test]
fn a_crash_report_is_named_in_status_and_history() {
    let daemon = Daemon::start(Keys::default());
    daemon.drop_in("broken", &wat(r#"(module (func (export "poll") (unreachable)))"#));
    let view = daemon.wait_for("broken", "reported", |view| view.report.is_some());
    let file = view.report.unwrap();
    assert!(Path::new(&file).is_file(), "{file}");
    let receipts = block_on(daemon.client.history(Some("broken"), 100)).unwrap();
    let reported = Event::Reported { file: file.clone() };
    assert!(receipts.iter().any(|entry| entry.what.event == reported), "{receipts:?}");
    let camshaft = |verb: &str| String::from_utf8(daemon.camshaft(&[verb]).stdout).unwrap();
    let hint = format!("broken: `camshaft replay {file}` repeats the trap");
    assert!(camshaft("status").contains(&hint), "{}", camshaft("status"));
    assert!(camshaft("history").contains(&format!("`camshaft replay {file}` repeats the trap")));
}

#[test]
fn a_limit_of_addresses_is_told_from_those_of_the_configuration() {
    let folder = tempfile::tempdir().unwrap();
    let module = r#"(module (memory (export "memory") 1) (func (export "poll")))"#;
    fs::write(folder.path().join("m.wasm"), wat(module)).unwrap();
    fs::write(folder.path().join("r.json"), r#"{"passes":[{"elapsed":"0s"}]}"#).unwrap();
    let program = env!("CARGO_BIN_EXE_camshaft");
    let script = format!("ulimit -v 4194304 && exec '{program}' test m.wasm r.json");
    let output = Command::new("sh").args(["-c", &script]).current_dir(folder.path()).output();
    let output = output.unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    for words in
        ["may use 4096 MiB of addresses (RLIMIT_AS)", "remove `LimitAS=` from the systemd unit"]
    {
        assert!(said.contains(words), "{said}");
    }
}

/// It was told as the limit of the whole run, which is another one.
#[test]
fn a_compilation_without_enough_addresses_says_which_limit_that_is() {
    let folder = tempfile::tempdir().unwrap();
    // i32.const 1, i32.const 3, i32.div_s, drop: each may trap, and is dear to compile.
    let division = [0x41, 1, 0x41, 3, 0x6d, 0x1a];
    let module = binary(2, &[&[0][..], &division.repeat(100_000), &[0x0b]].concat());
    fs::write(folder.path().join("m.wasm"), module).unwrap();
    fs::write(folder.path().join("r.json"), r#"{"passes":[{"elapsed":"0s"}]}"#).unwrap();
    let program = env!("CARGO_BIN_EXE_camshaft");
    let script = format!("ulimit -v 102400 && exec '{program}' test m.wasm r.json");
    let output = Command::new("sh").args(["-c", &script]).current_dir(folder.path()).output();
    let said = String::from_utf8(output.unwrap().stderr).unwrap();
    let words = "error: m.wasm: its compilation ran out of memory: this process and the compile \
                 worker may use 100 MiB of addresses (RLIMIT_AS); remove `LimitAS=` from the \
                 systemd unit";
    assert!(said.starts_with(words), "{said}");
}

/// The daemon runs, and each of its plugins says what keeps it from that.
#[test]
fn a_plugin_that_may_have_no_addresses_says_which_limit_that_is() {
    let mut command = Command::new("sh");
    let script = "ulimit -v 4194304; exec \"$0\" \"$@\"";
    command.args(["-ec", script, env!("CARGO_BIN_EXE_camshaft")]);
    let daemon = Daemon::idle_by(command, Plant::new(Keys::default()), &[]);
    let is_refused = |view: &PluginView| view.state == PluginState::Refused;
    let reason = daemon.wait_for("witness", "refused", is_refused).reason.unwrap();
    for words in
        ["may use 4096 MiB of addresses (RLIMIT_AS)", "remove `LimitAS=` from the systemd unit"]
    {
        assert!(reason.contains(words), "{reason}");
    }
    assert!(
        !reason.contains("plugins.memory"),
        "no key of the configuration is to blame: {reason}"
    );
}

/// Forces that are over in a second, and all of them at once.
#[test]
fn a_force_is_told_with_the_time_that_was_ordered() {
    let daemon = Daemon::start(Keys::default());
    let forced = ["force", "evil.input", "3", "--for", "1s", "--owner", "anna"];
    assert!(daemon.camshaft(&forced).status.success());
    let line = wait("it is told", LIMIT, || {
        let mut lines = daemon.log().into_iter().map(|line| line.message);
        lines.find(|line| line.starts_with("evil.input is forced"))
    });
    let words = "evil.input is forced to 3 (was 0) by anna for 1s; ordered by ";
    assert!(line.starts_with(words), "{line}");
    let output = daemon.camshaft(&["unforce", "--all"]);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "no point is forced any more\n");
    daemon.wait_log("", &["evil.input is not forced any more (was 3)"]);
}

#[test]
fn a_file_that_is_ignored_for_its_name_stands_in_the_status() {
    let daemon = Daemon::start(Keys::default());
    let file = daemon.plugins().join("HEAT.WASM");
    fs::write(&file, wat(r#"(module (func (export "poll")))"#)).unwrap();
    let status = || String::from_utf8(daemon.camshaft(&["status"]).stdout).unwrap();
    let words = "\"HEAT.WASM\" is ignored: its name ends in .wasm, but not in small letters";
    wait(words, LIMIT, || status().contains(words).then_some(()));
    fs::remove_file(&file).unwrap();
    wait("it is gone", LIMIT, || (!status().contains(words)).then_some(()));
}
