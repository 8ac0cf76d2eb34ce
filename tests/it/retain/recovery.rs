//! Tests of recovery: a start of the daemon in which it runs no plugin.
//!
//! The daemon starts in recovery after three abnormal ends, or if the operator requests recovery.
//! It runs no plugin before the operator orders so. A power cut does not count as an abnormal end.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;

use camshaft::control::{PluginState, StatusView};
use camshaft::plugin::ModuleHash;

use crate::daemon::{Daemon, Keys, LIMIT, Plant, SAFE_MARK, WITNESS};
use crate::rig::{block_on, wat};

/// Asserts that nothing runs and everything is safe.
fn stands_still(daemon: &Daemon) -> StatusView {
    let view = daemon.wait_for("witness", "held for recovery", |view| {
        view.state == PluginState::Held && view.reason.as_deref() == Some("held for recovery")
    });
    assert_eq!((view.polls, view.hash), (0, None));
    let seen = daemon.witness();
    assert_eq!((seen.polls, seen.mark), (0, SAFE_MARK), "{seen:?}");
    daemon.status()
}

#[test]
fn three_abnormal_ends_lead_to_recovery_until_the_operator_ends_it() {
    let daemon = Daemon::start(Keys::default()).kill_and_restart().kill_and_restart();
    assert_eq!(daemon.status().recovery, None);
    let daemon = Daemon::idle(daemon.slay(), &[]);
    let status = stands_still(&daemon);
    assert_eq!(status.recovery.as_deref(), Some("3 abnormal ends within 10m"));
    let cycle = status.cycle;
    daemon.wait_log("", &["RECOVERY", "camshaft recover"]);
    let (_, text) = daemon.verb(&["status"]);
    assert!(text.contains("recovery  3 abnormal ends within 10m"), "{text}");

    // An orderly stop does not end it.
    let daemon = Daemon::idle(daemon.stop().2, &[]);
    let status = stands_still(&daemon);
    assert!(status.recovery.unwrap().contains("was not ended"));
    // What is new in the folder waits as well, what is held stays so, and the scan goes on.
    daemon.drop_in("other", &wat(r#"(module (func (export "poll")))"#));
    daemon.wait_for("other", "held", |view| view.state == PluginState::Held);
    assert!(daemon.status().cycle > 0 && cycle > 0);
    assert_eq!(daemon.verb(&["hold", "other"]).0, Some(0));
    // A cold restart does not end it either.
    let restarted = "restarted cold: variables have their initial values, no program starts \
                     before `camshaft recover`\n";
    assert_eq!(daemon.verb(&["restart", "--cold"]), (Some(0), restarted.into()));
    stands_still(&daemon);

    let over = "recovery has ended: programs start\nheld, so not started: other\n";
    assert_eq!(daemon.verb(&["recover"]), (Some(0), over.into()));
    daemon.wait_running("witness", &format!("{:#}", ModuleHash::of(&wat(WITNESS))));
    let other = daemon.plugin("other").unwrap();
    assert_eq!((other.state, other.reason), (PluginState::Held, None));
    assert_eq!(daemon.status().recovery, None);
    assert_eq!(daemon.verb(&["recover"]).0, Some(1), "there is none any more");
    // And it is over for the next start too, even after another abnormal end.
    let daemon = daemon.kill_and_restart();
    assert_eq!(daemon.status().recovery, None);
}

#[test]
fn without_plugins_on_request() {
    let plant = Plant::new(Keys::default());
    let manager = UnixDatagram::bind(plant.path("notify")).unwrap();
    let address = plant.path("notify").display().to_string();
    let environment = [("NOTIFY_SOCKET", address.as_str())];
    let daemon = Daemon::up(plant, &["--no-plugins"], &environment, |status| status.cycle > 0);
    manager.set_read_timeout(Some(LIMIT)).unwrap();
    let mut message = [0; 4096];
    let read = manager.recv(&mut message).unwrap();
    let ready = String::from_utf8_lossy(&message[..read]);
    let wanted = "STATUS=RECOVERY, `camshaft recover` ends it: started with --no-plugins";
    assert!(ready.contains("READY=1") && ready.contains(wanted), "{ready}");
    let status = stands_still(&daemon);
    assert_eq!(status.recovery.as_deref(), Some("started with --no-plugins"));
    // One that the operator names himself runs.
    assert_eq!(daemon.verb(&["release", "witness"]).0, Some(0));
    block_on(daemon.client.recover()).unwrap();
    // It was for this start only.
    let daemon = Daemon::on(daemon.stop().2);
    assert_eq!(daemon.status().recovery, None);
}

/// Lets the record of starts say that they were in another boot of this machine.
fn reboot(plant: &Plant) {
    let path = plant.path("state/starts.json");
    let text = fs::read_to_string(&path).unwrap();
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    fs::write(path, text.replace(boot.trim(), "00000000-0000-0000-0000-000000000000")).unwrap();
}

#[test]
fn power_cuts_are_no_defect_of_a_program() {
    let storm = |tables| {
        let mut daemon = Daemon::start(Keys { tables, ..Keys::default() });
        for _ in 0..3 {
            let plant = daemon.slay();
            reboot(&plant);
            daemon = Daemon::idle(plant, &[]);
        }
        daemon
    };
    let daemon = storm("");
    daemon.wait_running("witness", &format!("{:#}", ModuleHash::of(&wat(WITNESS))));
    daemon.wait_log("", &["the machine went down", "3 without a run of 10m between them"]);
    assert_eq!(daemon.status().recovery, None);
    drop(daemon);
    // Who wants to look at the machine after a storm says so.
    let daemon = storm("[recovery]\npower_cuts = 3\n");
    let reason = stands_still(&daemon).recovery.unwrap();
    assert_eq!(reason, "3 power cuts without a run of 10m between them");
}

#[test]
fn a_healthy_life_clears_the_count() {
    let tables = "[recovery]\nends = 3\nwithin = \"2s\"\n";
    let plant = Plant::new(Keys { tables, ..Keys::default() });
    // As two crashes in an earlier boot have left it.
    let record = r#"{"running":false,"boot":"another","earlier_ends":2}"#;
    fs::create_dir(plant.state()).unwrap();
    fs::set_permissions(plant.state(), PermissionsExt::from_mode(0o700)).unwrap();
    fs::write(plant.path("state/starts.json"), record).unwrap();
    let daemon = Daemon::on(plant);
    daemon.wait_log("", &["the daemon has run for 2s", "are not counted any more"]);
    let daemon = daemon.kill_and_restart();
    assert_eq!(daemon.status().recovery, None);
}
