//! Tests of SIGTERM during a start that waits for a file system which gives no answer.
//!
//! The daemon must end in time and in order, in each phase of the start. In an old version the
//! signal had no effect before the end of the start; these tests prevent the return of that defect.

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::Child;
use std::time::Instant;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::end::{is_over, was_orderly};
use super::file::config_in_a_folder;
use super::{END, plant};
use crate::daemon::fan::fan_is;
use crate::daemon::{LIMIT, Plant, Share, launch, log_lines, wait};

/// What is said of such an end.
const WORDS: &str = "stopping during the start: no program has run";

/// Whether the process would hear SIGTERM and SIGINT.
fn hears(child: &Child) -> bool {
    let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
    let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:\t"));
    let caught = u64::from_str_radix(caught.unwrap_or("0"), 16).unwrap();
    let both = [Signal::SIGTERM, Signal::SIGINT].map(|signal| 1 << (signal as u32 - 1));
    both.iter().all(|bit| caught & bit != 0)
}

/// Starts a daemon, ends it by this signal when it `waits`, and gives the plant.
fn ends(plant: Plant, share: Share, signal: Signal, waits: impl Fn(&Plant) -> bool) -> Plant {
    let socket = plant.path("notify");
    let manager = UnixDatagram::bind(&socket).unwrap();
    manager.set_nonblocking(true).unwrap();
    share.hang();
    let environment = [("NOTIFY_SOCKET", socket.to_str().unwrap())];
    let mut child = launch(&plant, &plant.path("log"), &[], &environment);
    wait("the start waits", LIMIT, || (hears(&child) && waits(&plant)).then_some(()));
    let told = Instant::now();
    kill(Pid::from_raw(child.id().cast_signed()), signal).unwrap();
    wait("it has ended", LIMIT, || is_over(child.id()).then_some(()));
    let time = told.elapsed();
    share.answer();
    let status = child.wait().unwrap();
    let log = fs::read_to_string(plant.path("log")).unwrap();
    assert!(status.success() && time < END, "{status} after {time:?}\n{log}");
    assert_eq!(log.matches(WORDS).count(), 1, "{log}");
    assert!(!plant.path("control.sock").exists(), "nothing is left of it");
    let mut datagram = [0; 4096];
    let length = manager.recv(&mut datagram).expect("the manager hears of the end");
    let text = String::from_utf8_lossy(&datagram[..length]).into_owned();
    assert_eq!(text, format!("STOPPING=1\nSTATUS={WORDS}"));
    // What the next start says is read as it comes.
    fs::remove_file(plant.path("log")).unwrap();
    plant
}

/// The socket is made before anything of the state is looked at.
fn has_socket(plant: &Plant) -> bool {
    plant.path("control.sock").exists()
}

fn has_said(path: &Path, words: &str) -> bool {
    log_lines(path).iter().any(|line| line.message.contains(words))
}

#[test]
#[ignore = "needs root: it mounts"]
fn a_start_that_waits_for_its_configuration_is_ended() {
    let mut plant = plant();
    let share = plant.share(config_in_a_folder(&plant));
    was_orderly(ends(plant, share, Signal::SIGINT, |_| true));
}

#[test]
#[ignore = "needs root: it mounts"]
fn a_start_that_waits_for_its_state_is_ended() {
    let mut plant = plant();
    let share = plant.share(plant.state());
    let plant = ends(plant, share, Signal::SIGTERM, has_socket);
    assert!(fan_is(&plant, "0"), "it is not touched");
    was_orderly(plant);
}

/// The scan runs by then, and its outputs are safe.
#[test]
#[ignore = "needs root: it mounts"]
fn a_start_that_waits_for_its_cache_is_ended() {
    let mut plant = plant();
    let share = plant.share(plant.cache());
    let plant = ends(plant, share, Signal::SIGTERM, |plant| fan_is(plant, "255"));
    was_orderly(plant);
}

#[test]
#[ignore = "needs root: it mounts"]
fn a_start_that_waits_for_its_plugins_is_ended() {
    let mut plant = plant();
    let share = plant.share(plant.plugins());
    let log = plant.path("log");
    let waits = move |_: &Plant| has_said(&log, "the plugin folder is");
    let plant = ends(plant, share, Signal::SIGTERM, waits);
    assert!(fan_is(&plant, "255"), "it is safe");
    was_orderly(plant);
}

/// What was opened is closed on the way out, and where that disk hung the process stayed, without a
/// word and deaf to SIGTERM.
#[test]
#[ignore = "needs root: it mounts"]
fn a_start_that_is_refused_ends_though_a_disk_hangs() {
    let mut plant = plant();
    let (state, cache) = (plant.share(plant.state()), plant.share(plant.cache()));
    fs::remove_dir_all(plant.plugins()).unwrap();
    fs::write(plant.plugins(), "no folder").unwrap();
    cache.hang();
    let mut child = launch(&plant, &plant.path("log"), &[], &[]);
    wait("the scan runs", LIMIT, || fan_is(&plant, "255").then_some(()));
    state.hang();
    wait("it has ended", LIMIT, || is_over(child.id()).then_some(()));
    [state, cache].into_iter().for_each(Share::answer);
    let status = child.wait().unwrap();
    let log = fs::read_to_string(plant.path("log")).unwrap();
    assert_eq!(status.code(), Some(1), "{log}");
    assert!(log.contains("cannot be watched"), "it says why: {log}");
}
