//! Tests of retained variables on a disk that is full, refuses writes or gives no answer.
//!
//! The daemon must raise an alarm, and the scan must run on. A disk that gives no answer must not
//! delay the start of a program for long. Damaged files are tested in `retain.rs`.

use std::fs;
use std::time::{Duration, Instant};

use super::{FIRST, KEPT, newest, plant, refused};
use crate::daemon::{Daemon, Keys, LIMIT, remount, through, wait};
use crate::rig::block_on;
use crate::weather::disk::fill;

#[test]
#[ignore = "needs root for a tmpfs"]
fn a_full_disk_is_an_alarm_and_the_scan_goes_on() {
    let mut plant = plant("20ms");
    let state = plant.path("state");
    plant.mount(state.clone(), "64k");
    let daemon = Daemon::on(plant);
    let retain = || daemon.status().retain.unwrap();
    through(&daemon, "full disk of retained values", || {
        wait("a write", LIMIT, || newest(&state));
        let ballast = fill(&state);
        let failing = wait("the alarm", LIMIT, || Some(retain()).filter(|r| r.failing_s.is_some()));
        println!("  {:?}", failing.reason);
        assert!(failing.reason.unwrap().contains("No space left"));
        let (number, count) = newest(&state).unwrap();
        daemon.counts_beyond(count + 200);
        assert_eq!(newest(&state), Some((number, count)), "what was written stays");
        fs::remove_file(ballast).unwrap();
        wait("the end of the alarm", LIMIT, || retain().failing_s.is_none().then_some(()));
        wait("a newer count", LIMIT, || newest(&state).filter(|(_, new)| *new > count + 200));
    });
    let lines =
        |words: &str| daemon.log().iter().filter(|line| line.message.contains(words)).count();
    let lines = (lines("retained values cannot"), lines("retained values can be written"));
    assert_eq!(lines, (1, 1));
}

#[test]
#[ignore = "needs root for a tmpfs"]
fn a_card_that_takes_no_writes_is_an_alarm_and_no_end() {
    let mut plant = plant("20ms");
    let state = plant.path("state");
    plant.mount(state.clone(), "1m");
    let daemon = Daemon::on(plant);
    daemon.counts_beyond(FIRST + 50);
    let plant = daemon.stop().2;
    let (number, count) = newest(&state).unwrap();
    remount(&state, "ro");
    // Nothing counts in this one, so it shows what was restored.
    let daemon = Daemon::idle(plant, &["--no-plugins"]);
    assert_eq!((daemon.int("kept.a"), daemon.int("kept.b")), (count, count));
    daemon.wait_log(
        "",
        &["cannot be written (Read-only file system", "the daemon uses the retained values"],
    );
    let failing = daemon.status().retain.unwrap();
    assert!(failing.failing_s.is_some() && failing.writes == number, "{failing:?}");
    assert!(failing.reason.unwrap().contains("Read-only file system"));
    let history = block_on(daemon.client.history(None, 1000)).unwrap();
    assert!(
        history.iter().any(|receipt| receipt.what.plugin.as_deref() == Some("keeper")),
        "{history:?}"
    );
    assert!(daemon.verb(&["status"]).1.contains("retain    writing has failed for"));
    // It still has one daemon.
    let (code, error) = refused(&daemon);
    assert!(code == Some(1) && error.contains("has the control socket"), "{code:?} {error}");
    // The disk may come back.
    remount(&state, "rw");
    let is_over = || daemon.status().retain.unwrap().failing_s.is_none().then_some(());
    wait("the end of the alarm", LIMIT, is_over);
    assert_eq!(newest(&state), Some((number + 1, count)));
    let (status, _, plant) = daemon.stop();
    assert!(status.success(), "{status}: {}", fs::read_to_string(plant.path("log")).unwrap());

    let tables = KEPT.replace("@FLUSH", "20ms") + "on_readonly = \"refuse\"\n";
    plant.configure(Keys { tables: &tables, ..Keys::default() });
    remount(&state, "ro");
    let (code, error) = refused(&plant);
    println!("{code:?} {error}");
    assert_eq!(code, Some(1));
    let words = format!("state.dir: {} cannot be written (Read-only", state.display());
    assert!(error.contains(&words) && error.contains("on_readonly = \"start\""), "{error}");

    // Without a lock file the folder itself is locked.
    let tables = KEPT.replace("@FLUSH", "20ms");
    plant.configure(Keys { tables: &tables, ..Keys::default() });
    remount(&state, "rw");
    fs::remove_file(state.join("lock")).unwrap();
    remount(&state, "ro");
    let daemon = Daemon::idle(plant, &["--no-plugins"]);
    assert_eq!(daemon.int("kept.a"), count);
    let path = daemon.path("camshaft.toml");
    let text = fs::read_to_string(&path).unwrap().replace("control.sock", "other.sock");
    fs::write(path, text).unwrap();
    let (code, error) = refused(&daemon);
    assert!(code == Some(1) && error.contains("another camshaft"), "{code:?} {error}");
}

/// It was said after 20 s that the scan had not written the values, which it had at once; all
/// outputs were safe meanwhile.
#[test]
#[ignore = "needs root for FUSE"]
fn a_disk_that_hangs_keeps_no_program_out_for_long() {
    let mut plant = plant("20ms");
    let share = plant.share(plant.path("state"));
    let daemon = Daemon::on(plant);
    daemon.counts_beyond(FIRST + 50);
    share.hang();
    // By then a write is under way.
    let count = daemon.int("kept.a");
    daemon.counts_beyond(count + 100);
    let asked = Instant::now();
    let error = block_on(daemon.client.restart_cold()).unwrap_err().to_string();
    let time = asked.elapsed();
    println!("{error} ({time:?})");
    assert!(
        error.contains("initial values, but the disk has not stored these values within 5s"),
        "{error}"
    );
    assert!(time < Duration::from_secs(15), "{time:?}");
    let count = daemon.int("kept.a");
    daemon.counts_beyond(count + 50);
    let error = block_on(daemon.client.reset_retain()).unwrap_err().to_string();
    assert!(error.contains("the disk has not stored these values within 5s"), "{error}");
    share.answer();
    wait("the disk has what is so", LIMIT, || block_on(daemon.client.reset_retain()).ok());
}
