//! Back to the version before: by itself on probation, by hand afterwards.
//!
//! With a real daemon and the binary. What the scan does is tested in `swap.rs`.

use std::process::{Command, Output};

use camshaft::control::PluginState;
use camshaft::plugin::ModuleHash;

use crate::daemon::{Daemon, Keys, LIMIT, through, wait};
use crate::rig::wat;

/// Quick to prove itself.
const PROBATION: &str = "swap = { probation = \"50ms\", polls = 20 }";

fn version(number: u32, body: &str) -> Vec<u8> {
    wat(&format!(
        "(module (global i32 (i32.const {number})) (global $n (mut i32) (i32.const 0))
           (func (export \"poll\")
             (global.set $n (i32.add (global.get $n) (i32.const 1)))
             {body}))"
    ))
}

fn roll_back(daemon: &Daemon, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_camshaft"));
    command.arg("rollback").args(arguments).arg("--socket").arg(daemon.path("control.sock"));
    command.output().unwrap()
}

/// Drops a version into the folder and waits until it is kept.
fn run(daemon: &Daemon, bytes: &[u8]) -> String {
    let hash = daemon.drop_in("tank", bytes);
    daemon.wait_running("tank", &hash);
    wait("it is kept", LIMIT, || {
        let kept = std::fs::read_dir(daemon.state().join("versions/tank")).ok()?;
        let names = kept.map(|file| file.unwrap().file_name().into_string().unwrap());
        names.into_iter().any(|name| name.ends_with(&format!("{hash}.wasm"))).then_some(())
    });
    hash
}

#[test]
fn a_version_that_traps_on_probation_is_replaced_by_the_one_before() {
    let daemon = Daemon::start(Keys::default());
    let good = daemon.drop_in("tank", &version(1, ""));
    let before = daemon.wait_for("tank", "polled", |view| view.polls > 10);
    let bad = version(2, "(if (i32.eq (global.get $n) (i32.const 50)) (then (unreachable)))");
    let bad_hash = through(&daemon, "a rollback", || {
        let hash = daemon.drop_in("tank", &bad);
        daemon.wait_log("tank", &["unreachable", "rolled back to"]);
        hash
    });
    let view = daemon.wait_running("tank", &good);
    assert_eq!((view.generation, view.traps), (before.generation, 1));
    assert_eq!((view.hash.as_ref(), view.file_hash.as_ref()), (Some(&good), Some(&bad_hash)));
    assert!(view.polls > before.polls && view.reason.unwrap().contains("unreachable"));
    // The same bytes again are no new chance, other ones are.
    daemon.drop_in("tank", &bad);
    let better = daemon.drop_in("tank", &version(3, ""));
    let view = daemon.wait_running("tank", &better);
    assert_eq!((view.traps, view.reason), (1, None));
}

#[test]
fn an_operator_goes_back_to_a_version_that_was_good() {
    let daemon = Daemon::start(Keys { plugins: PROBATION, ..Keys::default() });
    let nothing = roll_back(&daemon, &["tank"]);
    let text = String::from_utf8(nothing.stderr).unwrap();
    assert!(text.contains("no other version is kept; kept are: none"), "{text}");
    let all: Vec<_> = (1..=3).map(|number| run(&daemon, &version(number, ""))).collect();

    let back = roll_back(&daemon, &["tank"]);
    let text = String::from_utf8(back.stdout).unwrap();
    assert!(
        back.status.success() && text.starts_with(&format!("tank: version {} runs", &all[1][..12])),
        "{text}"
    );
    daemon.wait_running("tank", &all[1]);
    let to = roll_back(&daemon, &["tank", "--to", &all[0][..8]]);
    assert!(to.status.success(), "{to:?}");
    let view = daemon.wait_running("tank", &all[0]);
    assert_eq!((view.state, view.file_hash), (PluginState::Running, Some(all[0].clone())));

    let wrong = roll_back(&daemon, &["tank", "--to", "0123456789ab"]);
    assert_eq!(wrong.status.code(), Some(1));
    let text = String::from_utf8(wrong.stderr).unwrap();
    assert!(text.contains("no version is kept whose hash begins with \"0123456789ab\""), "{text}");
    // Kept versions outlive the daemon; a plugin that is gone can come back.
    let daemon = daemon.kill_and_restart();
    daemon.wait_running("tank", &all[0]);
    daemon.remove("tank");
    daemon.wait_gone("tank");
    let back = roll_back(&daemon, &["tank", "--to", &all[2]]);
    assert!(back.status.success(), "{back:?}");
    daemon.wait_running("tank", &format!("{:#}", ModuleHash::of(&version(3, ""))));
}

/// A daemon that was started again ran what had been taken back.
#[test]
fn quarantine_outlives_the_daemon_and_the_kept_version_runs() {
    let daemon = Daemon::start(Keys { plugins: PROBATION, ..Keys::default() });
    let good = run(&daemon, &version(1, ""));
    let bad = version(2, "(if (i32.eq (global.get $n) (i32.const 5)) (then (unreachable)))");
    let bad_hash = daemon.drop_in("tank", &bad);
    daemon.wait_log("tank", &["unreachable", "rolled back to"]);
    let (_, _, plant) = daemon.stop();
    let daemon = Daemon::on(plant);
    let view = daemon.wait_running("tank", &good);
    daemon.wait_log("tank", &["in quarantine from before", "runs instead"]);
    assert_eq!((view.file_hash.as_ref(), view.traps), (Some(&bad_hash), 0));
    // A release is a new chance, which it does not take.
    let released = Command::new(env!("CARGO_BIN_EXE_camshaft"))
        .args(["release", "tank", "--socket"])
        .arg(daemon.path("control.sock"))
        .status();
    assert!(released.unwrap().success());
    daemon.wait_for("tank", "tried again", |view| view.traps > 0);
}
