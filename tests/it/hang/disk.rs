//! The state directory gives no answer, and people are told what that means for them.

use camshaft::image::Value;

use super::end::{ends_in_time, was_orderly};
use super::plant;
use crate::daemon::fan::{fan_is, writes};
use crate::daemon::{Daemon, Keys, LIMIT, LogLine, Plant, wait};
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

/// It was being prepared for ever.
#[test]
#[ignore = "needs root: it mounts"]
fn a_kept_version_that_gives_no_answer_is_said() {
    let swap = "swap = { probation = \"50ms\", polls = 20 }";
    let daemon = Daemon::on(Plant::new(Keys { plugins: swap, ..Keys::default() }));
    keep(&daemon, &traps(1));
    keep(&daemon, &traps(2));
    let (_, _, mut plant) = daemon.stop();
    let share = plant.share(plant.state().join("versions"));
    let daemon = Daemon::on(plant);
    let [first, second] = [1, 2].map(|n| camshaft::plugin::ModuleHash::of(&traps(n)));
    daemon.wait_running("tank", &format!("{second:#}"));
    is_kept(&daemon, &format!("{first:#}"));
    share.hang();
    block_on(daemon.client.set("evil.input", Value::Int(3))).unwrap();
    let first = format!("the kept version {first} cannot be read");
    daemon.wait_log("tank", &[&first, "does not answer"]);
    was_orderly(ends_in_time(daemon, &[share]));
}
