//! Tests of commands that read files from unknown sources, such as modules and crash reports.
//!
//! Such a command does its work in a child process with limits for CPU time and memory. The output
//! must look as if there were no child process. If a file needs more than a limit allows, the
//! command must end with a clear message.

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::sys::stat::Mode;
use nix::unistd::Pid;

use crate::daemon::{LIMIT, children, wait};
use crate::rig::wat;

/// The program in a shell that lowers a limit first.
fn command(limit: &str, folder: &Path, arguments: &str) -> Command {
    let program = env!("CARGO_BIN_EXE_camshaft");
    let script = format!("ulimit {limit} && exec '{program}' {arguments}");
    let mut command = Command::new("sh");
    command.args(["-c", &script]).current_dir(folder);
    command
}

/// Runs it.
fn limited(limit: &str, folder: &Path, arguments: &str) -> Output {
    command(limit, folder, arguments).output().unwrap()
}

#[track_caller]
fn check(output: &Output, code: i32, stdout: &str, stderr: &str) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let found = (output.status.code(), text(&output.stdout), text(&output.stderr));
    assert_eq!(found, (Some(code), stdout.into(), stderr.into()));
}

#[test]
fn a_run_that_wants_more_cpu_time_than_it_may_have_is_ended() {
    let folder = tempfile::tempdir().unwrap();
    let endless = wat(r#"(module (func (export "poll") (loop (br 0))))"#);
    fs::write(folder.path().join("m.wasm"), endless).unwrap();
    fs::write(folder.path().join("r.json"), r#"{"passes":[{"elapsed":"0s"}]}"#).unwrap();
    let output = limited("-St 1", folder.path(), "test m.wasm r.json --budget 1h");
    check(&output, 65, "", "error: ran out of CPU time: the limit is 1s\n");
}

#[test]
fn a_run_that_wants_more_memory_than_it_may_have_is_ended() {
    let folder = tempfile::tempdir().unwrap();
    let mut report = br#"{"format":"camshaft crash report""#.to_vec();
    report.resize(47 << 20, b' ');
    fs::write(folder.path().join("r.crash"), report).unwrap();
    let output = limited("-d 32768", folder.path(), "replay r.crash");
    let why = "error: ran out of memory: the limit is 32 MiB (r.crash: out of memory)\n";
    check(&output, 65, "", why);
    let output = limited("-d 262144", folder.path(), "replay r.crash");
    let why = "error: r.crash: the report is cut or damaged, because the checksum is wrong; copy \
               the file again\n";
    check(&output, 1, "", why);
}

#[test]
fn a_run_that_cannot_go_on_for_want_of_memory_is_ended() {
    // What a program refuses to go on without has no words of its own.
    let folder = tempfile::tempdir().unwrap();
    let passes = vec![r#"{"elapsed":"0s"}"#; 900_000].join(",");
    fs::write(folder.path().join("r.json"), format!("{{\"passes\":[{passes}]}}")).unwrap();
    fs::write(folder.path().join("m.wasm"), wat(r#"(module (func (export "poll")))"#)).unwrap();
    let output = limited("-d 131072", folder.path(), "test m.wasm r.json");
    check(&output, 65, "", "error: ran out of memory: the limit is 128 MiB\n");
}

#[test]
fn a_run_that_stands_still_is_ended() {
    let folder = tempfile::tempdir().unwrap();
    let endless = wat(r#"(module (func (export "poll") (loop (br 0))))"#);
    fs::write(folder.path().join("m.wasm"), endless).unwrap();
    fs::write(folder.path().join("r.json"), r#"{"passes":[{"elapsed":"0s"}]}"#).unwrap();
    let mut run = command("-St 1", folder.path(), "test m.wasm r.json --budget 1h");
    let run = run.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // A child that is held before it is another program holds its parent, too, which waits for
    // that.
    let program = |pid| fs::read(format!("/proc/{pid}/cmdline")).ok();
    wait("its child is there, and held", LIMIT, || {
        let child = children(run.id()).first().copied()?;
        program(child).filter(|child| Some(child) != program(run.id()).as_ref())?;
        kill(Pid::from_raw(child.cast_signed()), Signal::SIGSTOP).ok()
    });
    let output = run.wait_with_output().unwrap();
    check(
        &output,
        65,
        "",
        "error: no result after 10s, so camshaft has ended the process for this file\n",
    );
}

/// A pipe into which nobody writes was waited for.
#[test]
fn what_is_no_regular_file_is_refused_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    for pipe in ["p.wasm", "p.json", "p.crash"] {
        nix::unistd::mkfifo(&at(pipe), Mode::S_IRWXU).unwrap();
    }
    fs::write(at("m.wasm"), wat(r#"(module (func (export "poll")))"#)).unwrap();
    fs::write(at("r.json"), r#"{"passes":[{"elapsed":"0s"}]}"#).unwrap();
    let why = "it is a pipe, not a regular file\n";
    let refused = |arguments: &str, stdout: &str, stderr: &str| {
        check(&limited("-St 20", folder.path(), arguments), 1, stdout, stderr);
    };
    refused("check p.wasm", &format!("p.wasm: bad; {why}"), "");
    refused("test p.wasm r.json", "", &format!("error: p.wasm: {why}"));
    refused("test m.wasm p.json", "", &format!("error: p.json: {why}"));
    refused("replay p.crash", "", &format!("error: p.crash: {why}"));
    let zero = "dev/zero: bad; it is a device, not a regular file\n";
    check(&limited("-St 20", Path::new("/"), "check dev/zero"), 1, zero, "");
}

#[test]
fn a_file_of_a_terabyte_is_read_up_to_the_limit() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["m.wasm", "r.crash"] {
        fs::File::create(folder.path().join(name)).unwrap().set_len(1 << 40).unwrap();
    }
    let output = limited("-St 20", folder.path(), "check m.wasm");
    let limit = "the limit is 16777216 (plugins.module in the configuration)";
    check(
        &output,
        1,
        &format!("m.wasm: bad with the default limits; it has 16777217 bytes\n  {limit}\n"),
        "",
    );
    let output = limited("-St 20", folder.path(), "replay r.crash");
    let why = "error: r.crash: the file is too large: a report has at most 50331648 bytes\n";
    check(&output, 1, "", why);
}

#[test]
fn names_in_a_recipe_are_counted() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("m.wasm"), wat(r#"(module (func (export "poll")))"#)).unwrap();
    let names: Vec<_> = (0..300_000).map(|n| format!("\"v{n}\":1")).collect();
    let recipe = format!(
        "{{\"passes\":[{{\"elapsed\":\"0s\",\"set_variables\":{{{}}}}}]}}",
        names.join(",")
    );
    fs::write(folder.path().join("r.json"), recipe).unwrap();
    let output = limited("-St 20", folder.path(), "test m.wasm r.json");
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    let start = "error: r.json: pass 1: more than 1024 names; this is the largest number of \
                 variables at line 1";
    assert!(text.starts_with(start), "{text}");
    assert_eq!(output.status.code(), Some(1));
}

/// The child has the terminal, the exit code and the words of its parent.
#[test]
fn a_child_looks_like_its_parent() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("bad.toml"), "[scan]\nperiod = 3\n").unwrap();
    let output = limited("-St 20", folder.path(), "check bad.toml");
    assert_eq!(output.status.code(), Some(78), "{output:?}");
    let output = limited("-St 20", folder.path(), "replay");
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(!String::from_utf8_lossy(&output.stderr).contains("within"), "{output:?}");
    // It writes no file by itself, but may to the one that it was given.
    limited("-St 20", folder.path(), "check bad.toml > out.txt");
    let out = fs::read_to_string(folder.path().join("out.txt")).unwrap();
    assert!(out.starts_with("bad.toml: bad"), "{out}");
}
