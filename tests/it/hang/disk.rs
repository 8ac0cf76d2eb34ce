//! Tests of a state directory that gives no answer.
//!
//! The status, the log and the answers to orders must say what this means for the operator, for
//! example that a version could not be stored. Swaps of plugins must still work.

use std::process::{Command, Stdio};
use std::thread;
use std::time::Instant;

use camshaft::control::Event;
use camshaft::plugin::ModuleHash;
use camshaft::process::image::Value;

use super::end::{ends_in_time, was_orderly};
use super::{END, plant};
use crate::daemon::fan::{fan_is, writes};
use crate::daemon::{Daemon, Keys, LIMIT, LogLine, Plant, Share, wait};
use crate::rig::{block_on, wat};

/// Receipts, what became of versions and the version itself were not on the disk, and nothing said
/// so.
#[test]
#[ignore = "needs root: it mounts"]
fn a_state_directory_that_gives_no_answer_is_said() {
    let mut plant = plant();
    let share = plant.share(plant.state());
    let daemon = Daemon::on(plant);
    share.hang();
    daemon.drop_in("fan", &writes(7));
    wait("the fan is as wanted", LIMIT, || fan_is(&daemon, "7").then_some(()));
    let trouble = wait("the status says it", LIMIT, || daemon.status().history_trouble);
    let state = daemon.state().display().to_string();
    assert!(trouble.contains(&state) && trouble.contains("no answer for 5s"), "{trouble}");
    let count = |daemon: &Daemon, words: &str| {
        let is_it =
            |line: &&LogLine| line.message.contains(words) && line.message.contains("written");
        daemon.log().iter().filter(is_it).count()
    };
    wait("the log says it of both", LIMIT, || (count(&daemon, "no answer") == 2).then_some(()));
    share.answer();
    wait("it is over", LIMIT, || daemon.status().history_trouble.is_none().then_some(()));
    wait("the log says that, too", LIMIT, || (count(&daemon, "again") == 2).then_some(()));
    assert_eq!(count(&daemon, "no answer"), 2, "each is said once");
    was_orderly(ends_in_time(daemon, &[]));
}

/// Traps while `evil.input` is 3, in versions of this number.
fn traps(number: u32) -> Vec<u8> {
    wat(&format!(
        r#"(module
          (import "env" "wasm_read_input" (func $read (param i32 i32 i32) (result i32)))
          (global i32 (i32.const {number}))
          (memory (export "memory") 1)
          (func (export "poll")
            (drop (call $read (i32.const 0) (i32.const 0) (i32.const 4)))
            (if (i32.eq (i32.load (i32.const 0)) (i32.const 3)) (then unreachable))))"#
    ))
}

/// Drops a version in and waits until it is kept.
fn keep(daemon: &Daemon, bytes: &[u8]) {
    let hash = daemon.drop_in("tank", bytes);
    daemon.wait_running("tank", &hash);
    is_kept(daemon, &hash);
}

fn is_kept(daemon: &Daemon, hash: &str) {
    wait("it is kept", LIMIT, || {
        let views = block_on(daemon.client.versions("tank")).unwrap();
        views.iter().any(|view| view.hash == hash && view.kept).then_some(())
    });
}

/// The second of two kept versions runs, and nothing of them was read since the start. Gives the
/// first.
fn two_kept() -> (Daemon, Share, ModuleHash) {
    let swap = "swap = { probation = \"50ms\", polls = 20 }";
    let daemon = Daemon::on(Plant::new(Keys { plugins: swap, ..Keys::default() }));
    keep(&daemon, &traps(1));
    keep(&daemon, &traps(2));
    let (_, _, mut plant) = daemon.stop();
    let share = plant.share(plant.state().join("versions"));
    let daemon = Daemon::on(plant);
    let [first, second] = [1, 2].map(|n| ModuleHash::of(&traps(n)));
    daemon.wait_running("tank", &format!("{second:#}"));
    is_kept(&daemon, &format!("{first:#}"));
    (daemon, share, first)
}

/// It was being prepared for ever.
#[test]
#[ignore = "needs root: it mounts"]
fn a_kept_version_that_gives_no_answer_is_said() {
    let (daemon, share, first) = two_kept();
    share.hang();
    block_on(daemon.client.set("evil.input", Value::Int(3))).unwrap();
    let first = format!("the stored version {first} cannot be read");
    daemon.wait_log("tank", &[&first, "does not answer"]);
    was_orderly(ends_in_time(daemon, &[share]));
}

/// After eight calls that hung there, no file could be put into the sound plugin folder.
#[test]
#[ignore = "needs root: it mounts"]
fn a_state_directory_that_hangs_keeps_nothing_out_of_the_plugin_folder() {
    let (daemon, share, first) = two_kept();
    share.hang();
    let roll_back = || block_on(daemon.client.roll_back("tank", None, false)).unwrap_err();
    thread::scope(|scope| {
        let all: Vec<_> = (0..8).map(|_| scope.spawn(roll_back)).collect();
        for error in all.into_iter().map(|one| one.join().unwrap().to_string()) {
            let words = format!("tank stays as it is: version {first}: it cannot be read from");
            assert!(error.contains(&words) && error.contains("no answer for 5s"), "{error}");
        }
    });
    let asked = Instant::now();
    let error = roll_back().to_string();
    assert!(error.contains("8 earlier calls still wait for an answer"), "{error}");
    assert!(asked.elapsed() < END, "it is known by now: {:?}", asked.elapsed());
    let third = block_on(daemon.client.deploy("tank", traps(3).into())).unwrap();
    daemon.wait_running("tank", &third);
    block_on(daemon.client.remove("tank")).unwrap();
    daemon.wait_gone("tank");
    was_orderly(ends_in_time(daemon, &[share]));
}

/// The file was in its place after 3 s and ran, and what had not come to an end after 5 s was only
/// that its folder is on the disk: the deploy was said to have failed.
#[test]
#[ignore = "needs strace"]
fn a_folder_that_is_slow_to_be_on_the_disk_fails_no_deploy() {
    let plant = plant();
    let mut strace = Command::new("strace");
    strace.args(["-D", "-f", "-qq", "-o", "/dev/null", "-e", "trace=fsync"]);
    strace.args(["-e", "inject=fsync:delay_enter=3s", "-P"]).arg(plant.plugins());
    strace.arg("-P").arg(plant.plugins().join(".fan.wasm.tmp"));
    strace.arg(env!("CARGO_BIN_EXE_camshaft"));
    let log = std::fs::File::create(plant.path("log")).unwrap();
    let daemon = Daemon::by(strace, plant, &[], Stdio::from(log));
    let hash = block_on(daemon.client.deploy("fan", writes(7).into())).unwrap();
    daemon.wait_running("fan", &hash);
    daemon.wait_log("", &["fan.wasm is done", "may not be on the disk yet"]);
    let history = block_on(daemon.client.history(None, 1000)).unwrap();
    let is_failed =
        |event: &Event| matches!(event, Event::Ordered(order) if order.failed.is_some());
    assert!(!history.iter().any(|entry| is_failed(&entry.what.event)), "{history:?}");
}
