//! Tests of the cache and of the disk of a running daemon.
//!
//! The cache is damaged, the disk becomes full or read-only, and files of the history are damaged.
//! The scan must run on, and the daemon must report the problem.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use camshaft::control::PluginView;

use super::{quiet, slow};
use crate::daemon::{Daemon, Keys, LIMIT, Plant, WITNESS, remount, through, wait};
use crate::rig::{block_on, wat};

#[test]
fn a_damaged_cache_is_made_again() {
    let daemon = Daemon::start(Keys::default());
    for number in 0..7 {
        let hash = daemon.drop_in(&format!("quiet-{number}"), &quiet(number));
        daemon.wait_running(&format!("quiet-{number}"), &hash);
    }
    let cached = || fs::read_dir(daemon.cache()).unwrap().flatten().map(|entry| entry.path());
    let mut files: Vec<_> = wait("all are cached", LIMIT, || {
        Some(cached().collect()).filter(|f: &Vec<_>| f.len() == 8)
    });
    files.sort();
    let (status, _, plant) = daemon.stop();
    assert!(status.success());
    let whole = fs::read(&files[0]).unwrap();
    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 0x10;
    fs::write(&files[0], flipped).unwrap();
    fs::write(&files[1], &fs::read(&files[1]).unwrap()[..100]).unwrap();
    fs::write(&files[2], b"").unwrap();
    fs::write(&files[3], vec![0x90; 100_000]).unwrap();
    fs::write(&files[4], &whole).unwrap(); // whole, and another module's
    fs::remove_file(&files[5]).unwrap();
    fs::create_dir(&files[5]).unwrap();

    let daemon = Daemon::on(plant);
    through(&daemon, "damaged cache", || {
        let runs = |view: &PluginView| view.polls > 0 && view.last_swap.is_some();
        let names: Vec<_> =
            (0..7).map(|n| format!("quiet-{n}")).chain(["witness".into()]).collect();
        let views: Vec<_> = names.iter().map(|n| daemon.wait_for(n, "running", runs)).collect();
        let from_cache = views.iter().filter(|view| view.last_swap.unwrap().cached).count();
        println!("  {from_cache} of 8 came from the cache");
        assert!(from_cache >= 2, "the sound ones are used");
        assert!(from_cache <= 3, "the damaged ones are not");
        let damaged = daemon.log().iter().filter(|l| l.message.contains("is damaged")).count();
        assert!(damaged >= 4, "{damaged} lines about damage");
    });
}

/// A file with all the bytes that a file system has left.
pub fn fill(folder: &Path) -> PathBuf {
    let ballast = folder.join(".ballast");
    let mut bytes = 1 << 20;
    let mut file = fs::File::options().append(true).create(true).open(&ballast).unwrap();
    while bytes > 0 {
        if file.write_all(&vec![1; bytes]).is_err() {
            bytes /= 2;
        }
    }
    ballast
}

#[test]
#[ignore = "needs root for a tmpfs"]
fn a_full_disk_stops_no_machine() {
    let mut plant = Plant::new(Keys::default());
    plant.mount(plant.plugins(), "256k");
    plant.mount(plant.cache(), "64k");
    plant.drop_in("witness", &wat(WITNESS));
    let cache_ballast = fill(&plant.cache());
    let daemon = Daemon::on(plant);
    through(&daemon, "full disk", || {
        let hash = daemon.drop_in("quiet", &quiet(1));
        daemon.wait_running("quiet", &hash);
        daemon.wait_log("", &["a compiled module could not be stored in"]);

        let ballast = fill(&daemon.plugins());
        let refused = block_on(daemon.client.deploy("quiet", quiet(2).into())).unwrap_err();
        println!("  deploy on a full disk: {refused}");
        assert!(refused.to_string().contains("No space left"), "{refused}");
        let half = fs::write(daemon.file("quiet"), slow(20, 0));
        println!("  a careless copy: {half:?}");
        let view = daemon.wait_for("quiet", "refused and running", |view| view.reason.is_some());
        assert_eq!(view.hash, Some(hash), "the version before continues");
        println!("  what it left: {:?}", view.reason);
        let left: Vec<_> =
            fs::read_dir(daemon.plugins()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(left.len(), 3, "ballast and two plugins: {left:?}");

        fs::remove_file(ballast).unwrap();
        fs::remove_file(cache_ballast).unwrap();
        let hash = block_on(daemon.client.deploy("quiet", quiet(4).into())).unwrap();
        daemon.wait_running("quiet", &hash);
        wait("it is cached", LIMIT, || fs::read_dir(daemon.cache()).unwrap().next().map(drop));
    });
}

#[test]
#[ignore = "needs root for a tmpfs"]
fn a_history_waits_for_room() {
    let mut plant = Plant::new(Keys::default());
    plant.mount(plant.state(), "64k");
    let ballast = fill(&plant.state());
    let daemon = Daemon::on(plant);
    let trouble = || daemon.status().history_trouble;
    through(&daemon, "no room for the history", || {
        let why = wait("the alarm", LIMIT, trouble);
        println!("  {why}");
        assert!(why.ends_with("/state: No space left on device (os error 28)"), "{why}");
        for number in 0..20 {
            let hash = daemon.drop_in("quiet", &quiet(number));
            daemon.wait_running("quiet", &hash);
        }
        let is_told = |line: &crate::daemon::LogLine| {
            line.message.contains("history are not written to the disk")
        };
        assert_eq!(daemon.log().iter().filter(|line| is_told(line)).count(), 1, "said once");
        fs::remove_file(&ballast).unwrap();
        wait("the end of the alarm", LIMIT, || trouble().is_none().then_some(()));
        daemon.wait_log("", &["the history are written to the disk again"]);
    });
    let before = block_on(daemon.client.history(Some("quiet"), 1000)).unwrap();
    assert_eq!(before.len(), 20);
    let (status, _, plant) = daemon.stop();
    assert!(status.success());
    let daemon = Daemon::on(plant);
    let after = block_on(daemon.client.history(Some("quiet"), 1000)).unwrap();
    assert_eq!(after[..20], before, "nothing was lost");
}

#[test]
#[ignore = "needs root for a tmpfs"]
fn read_only_folders_stop_no_machine() {
    let mut plant = Plant::new(Keys::default());
    plant.mount(plant.plugins(), "1m");
    plant.mount(plant.cache(), "1m");
    plant.drop_in("witness", &wat(WITNESS));
    let hash = plant.drop_in("quiet", &quiet(1));
    remount(&plant.plugins(), "ro");
    remount(&plant.cache(), "ro");
    let daemon = Daemon::on(plant);
    through(&daemon, "read-only folders", || {
        daemon.wait_running("quiet", &hash);
        let refused = block_on(daemon.client.deploy("quiet", quiet(2).into())).unwrap_err();
        println!("  deploy into a read-only folder: {refused}");
        assert!(refused.to_string().contains("Read-only file system"), "{refused}");
        let refused = block_on(daemon.client.remove("quiet")).unwrap_err();
        assert!(refused.to_string().contains("Read-only file system"), "{refused}");
        assert_eq!(daemon.plugin("quiet").unwrap().hash, Some(hash));
        assert!(daemon.status().folder_ok);
        remount(&daemon.plugins(), "rw");
        remount(&daemon.cache(), "rw");
        let hash = block_on(daemon.client.deploy("quiet", quiet(3).into())).unwrap();
        daemon.wait_running("quiet", &hash);
        wait("it is cached", LIMIT, || fs::read_dir(daemon.cache()).unwrap().next().map(drop));
    });
}

#[test]
fn a_limit_of_file_sizes_is_a_disk_that_is_full() {
    let daemon = Daemon::start(Keys::default());
    let limit = |bytes: &str| {
        let pid = daemon.pid().to_string();
        let arguments = ["--pid", &pid, &format!("--fsize={bytes}:unlimited")];
        assert!(Command::new("prlimit").args(arguments).status().unwrap().success());
    };
    let trouble = || daemon.status().history_trouble;
    let mut number = 0;
    let mut swap = || {
        number += 1;
        let hash = daemon.drop_in("quiet", &quiet(number));
        daemon.wait_running("quiet", &hash);
    };
    through(&daemon, "a limit of file sizes", || {
        // Below what is there already: the log as well cannot be written.
        limit("1024");
        let why = wait("the alarm", LIMIT, || {
            swap();
            trouble()
        });
        assert!(why.ends_with("File too large (os error 27)"), "{why}");
        limit("unlimited");
        swap();
        wait("the end of the alarm", LIMIT, || trouble().is_none().then_some(()));
    });
}

#[test]
fn a_stray_file_among_the_versions_is_passed_over() {
    let plugins = "swap = { probation = \"50ms\", polls = 20 }";
    let plant = Plant::new(Keys { plugins, ..Keys::default() });
    fs::create_dir_all(plant.path("state/versions")).unwrap();
    fs::set_permissions(plant.state(), fs::Permissions::from_mode(0o700)).unwrap();
    fs::write(plant.path("state/versions/README"), "").unwrap();
    let daemon = Daemon::on(plant);
    let hash = daemon.drop_in("quiet", &quiet(1));
    wait("it is kept", LIMIT, || {
        let kept = fs::read_dir(daemon.path("state/versions/quiet")).ok()?;
        let names = kept.map(|file| file.unwrap().file_name().into_string().unwrap());
        names.into_iter().any(|name| name.ends_with(&format!("{hash}.wasm"))).then_some(())
    });
    // The other is kept by the same way, so a warning would have come before.
    let next = daemon.drop_in("other", &quiet(2));
    daemon.wait_running("other", &next);
    wait("the other is kept", LIMIT, || daemon.path("state/versions/other").is_dir().then_some(()));
    let warned: Vec<_> =
        daemon.log().into_iter().filter(|line| line.message.contains("not stored")).collect();
    assert!(warned.is_empty(), "{warned:?}");
}

#[test]
fn a_damaged_history_is_said() {
    let daemon = Daemon::start(Keys::default());
    let plant = daemon.stop().2;
    let file = plant.path("state/history.jsonl");
    let mut text = fs::read(&file).unwrap();
    text[20] ^= 1;
    fs::write(&file, text).unwrap();
    let daemon = Daemon::on(plant);
    daemon.wait_log("", &["the history in", "has 1 line that cannot be read", "damaged"]);
}
