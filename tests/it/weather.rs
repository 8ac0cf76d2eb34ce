//! Tests of a whole daemon while its environment fails or disturbs it.
//!
//! Each test makes one disturbance while the witness of `daemon/witness.rs` runs in the scan. Then
//! the test checks that the witness was polled in every cycle, and that the state of the daemon is
//! correct. This file has the tests with processes and signals. The folder `weather` has the
//! others: `disk.rs` (files), `folder.rs` (the plugin folder), `config.rs` (the configuration),
//! `memory.rs` (memory) and `swap.rs` (thousands of swaps). The modules in these tests are
//! harmless; `hostile.rs` has hostile ones.

use std::fs;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::daemon::{Daemon, Keys, LIMIT, log_lines, through, unharmed, wait};
use crate::evil::binary;
use crate::long;
use crate::rig::{block_on, wat};

mod config;
pub mod disk;
mod folder;
mod memory;
mod swap;

/// The daemon promises to stop within 5 s; the rest is for a busy machine.
const STOP_LIMIT: Duration = Duration::from_secs(8);

/// Longer than all attempts at one compilation take, so that some are given up.
const STORM: Duration = Duration::from_secs(4);

/// A program that writes the number of each cycle into `evil.cycle`, and counts its polls in its
/// memory, which goes along at a swap, and in a variable. Both must agree with the cycles since its
/// first one; otherwise it leaves 100 in `evil.mark`.
fn version(number: u32) -> Vec<u8> {
    wat(&format!(
        r#"(module
  (import "env" "wasm_cycle" (func $cycle (param i32 i32) (result i32)))
  (import "env" "wasm_write_output" (func $write (param i32 i32 i32) (result i32)))
  (import "env" "wasm_variable_read_int" (func $get (param i32 i32 i32) (result i32)))
  (import "env" "wasm_variable_write_int" (func $set (param i32 i32 i32) (result i32)))
  (import "env" "wasm_state_write" (func $state_write (param i32 i32) (result i32)))
  (import "env" "wasm_state_read" (func $state_read (param i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 100) "version {number}")
  (func (export "save") (drop (call $state_write (i32.const 16) (i32.const 8))))
  (func (export "restore")
    (drop (call $state_read (i32.const 16) (i32.const 8) (i32.const 24))))
  (func (export "poll")
    (drop (call $cycle (i32.const 0) (i32.const 8)))
    (drop (call $write (i32.const 28) (i32.const 0) (i32.const 4)))
    (if (i32.eqz (i32.load (i32.const 16)))
      (then (i32.store (i32.const 20) (i32.sub (i32.load (i32.const 0)) (i32.const 1)))))
    (i32.store (i32.const 16) (i32.add (i32.load (i32.const 16)) (i32.const 1)))
    (drop (call $get (i32.const 100) (i32.const 7) (i32.const 32)))
    (i32.store (i32.const 32) (i32.add (i32.load (i32.const 32)) (i32.const 1)))
    (drop (call $set (i32.const 100) (i32.const 7) (i32.load (i32.const 32))))
    (i32.store (i32.const 40) (i32.const 100))
    (if (i32.or
          (i32.ne (i32.load (i32.const 16)) (i32.load (i32.const 32)))
          (i32.ne (i32.load (i32.const 16))
            (i32.sub (i32.load (i32.const 0)) (i32.load (i32.const 20)))))
      (then (drop (call $write (i32.const 24) (i32.const 40) (i32.const 4)))))))"#
    ))
}

/// A module that does nothing, of its own for each number.
fn quiet(number: u32) -> Vec<u8> {
    wat(&format!("(module (global i32 (i32.const {number})) (func (export \"poll\")))"))
}

/// A valid module whose compilation takes long; `functions` says how long.
fn slow(functions: u32, number: u32) -> Vec<u8> {
    let mut body = vec![0x01, 0x01, 0x7f];
    for n in 0..150 {
        // A local that is multiplied, shifted by itself, and tested, over and over.
        body.extend([0x20, 0, 0x20, 0, 0x6c, 0x41, n % 64, 0x6a, 0x22, 0, 0x20, 0, 0x74, 0x21, 0]);
        body.extend([0x20, 0, 0x04, 0x40, 0x20, 0, 0x45, 0x21, 0, 0x0b]);
    }
    body.push(0x0b);
    let mut module = binary(functions, &body);
    // A custom section makes the bytes, and so the hash, different.
    module.extend([0, 6, 1, b'n']);
    module.extend(number.to_le_bytes());
    module
}

/// Kills each worker of the daemon some time after it is seen, at most `most` of them, until
/// `is_over`; counts them.
fn kill_workers(daemon: &Daemon, most: u32, is_over: &AtomicBool, killed: &AtomicU32, seed: u64) {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut victims = Vec::new();
    let started = Instant::now();
    let is_done = || killed.load(Ordering::Relaxed) >= most || is_over.load(Ordering::Relaxed);
    // The limit is for the case that the test fails in the meantime.
    while started.elapsed() < LIMIT + long::time(Duration::ZERO) && !is_done() {
        let Some(worker) = daemon.workers().into_iter().find(|pid| !victims.contains(pid)) else {
            thread::sleep(Duration::from_millis(1));
            continue;
        };
        // The moment is to be any: in its start, its check, its compilation, its answer.
        thread::sleep(Duration::from_micros(random.u64(..25_000)));
        // It may have been quicker; a dead one is not one of ours any more.
        if daemon.workers().contains(&worker) {
            let _ = kill(Pid::from_raw(worker.cast_signed()), Signal::SIGKILL);
            killed.fetch_add(1, Ordering::Relaxed);
        }
        victims.push(worker);
    }
}

#[test]
fn a_killed_compile_worker_is_started_again() {
    let daemon = Daemon::start(Keys::default());
    through(&daemon, "single kills", || {
        for most in 1..=4 {
            let (is_over, killed) = (AtomicBool::new(false), AtomicU32::new(0));
            thread::scope(|scope| {
                scope.spawn(|| kill_workers(&daemon, most, &is_over, &killed, most.into()));
                let hash = daemon.drop_in("slow", &slow(200, most));
                daemon.wait_running("slow", &hash);
                is_over.store(true, Ordering::Relaxed);
            });
            println!("  ran after {killed:?} kills");
        }
    });
}

#[test]
fn a_storm_of_kills_costs_compilations_and_nothing_else() {
    let daemon = Daemon::start(Keys::default());
    let (is_over, killed) = (AtomicBool::new(false), AtomicU32::new(0));
    through(&daemon, "storm of kills", || {
        let last = thread::scope(|scope| {
            scope.spawn(|| kill_workers(&daemon, u32::MAX, &is_over, &killed, long::seed()));
            let end = Instant::now() + long::time(Duration::ZERO);
            let (mut number, mut last) = (0, String::new());
            while number < 20 || Instant::now() < end {
                last = daemon.drop_in("storm", &slow(100, number));
                wait("it is seen", LIMIT, || {
                    let view = daemon.plugin("storm")?;
                    (view.file_hash.as_deref() == Some(&last)).then_some(())
                });
                let name = format!("storm-{}", number % 20);
                daemon.drop_in(&name, &slow(50, u32::MAX - number));
                number += 1;
            }
            let end = Instant::now() + STORM;
            wait("the end of the storm", LIMIT, || (Instant::now() >= end).then_some(()));
            is_over.store(true, Ordering::Relaxed);
            last
        });
        println!("  {killed:?} workers killed");
        assert!(killed.load(Ordering::Relaxed) > 0);
        let names: Vec<_> = (0..20).map(|n| format!("storm-{n}")).chain(["storm".into()]).collect();
        for name in names {
            let view = daemon.wait_for(&name, "through", |view| {
                let is_new = view.file_hash.as_deref() != Some(&last) || name == "storm";
                is_new && (view.reason.is_some() || (view.hash == view.file_hash && view.polls > 0))
            });
            if let Some(reason) = view.reason {
                assert!(reason.contains("killed"), "{name}: {reason}");
                block_on(daemon.client.act(&name, "restart")).unwrap();
                println!("  {name} was given up and is restarted: {reason}");
            }
            daemon.wait_for(&name, "running", |view| {
                view.polls > 0 && view.hash.is_some() && view.hash == view.file_hash
            });
        }
    });
}

#[test]
fn ten_thousand_touches_change_nothing() {
    let daemon = Daemon::start(Keys::default());
    let hash = daemon.drop_in("version", &version(1));
    let before = daemon.wait_running("version", &hash);
    let lines = daemon.log().len();
    through(&daemon, "touches", || {
        let started = Instant::now();
        for n in 0..10_000 {
            let name = if n % 2 == 0 { "witness" } else { "version" };
            // Opened for writing and closed, which is an event of its own.
            let file = fs::File::options().write(true).open(daemon.file(name)).unwrap();
            file.set_modified(SystemTime::now()).unwrap();
        }
        println!("  10 000 touches in {:.0?}", started.elapsed());
        let hash = daemon.drop_in("other", &quiet(9));
        daemon.wait_running("other", &hash);
    });
    let after = daemon.plugin("version").unwrap();
    assert_eq!((after.generation, after.traps), (before.generation, 0));
    let more = daemon.log().len() - lines;
    assert!(more < 5, "{more} log lines");
}

#[test]
fn stray_signals_and_a_storm_of_hangups_change_nothing() {
    let daemon = Daemon::start(Keys::default());
    let hash = daemon.drop_in("version", &version(1));
    let before = daemon.wait_running("version", &hash);
    through(&daemon, "signals", || {
        for _ in 0..200 {
            for signal in [Signal::SIGUSR1, Signal::SIGUSR2, Signal::SIGPIPE, Signal::SIGHUP] {
                daemon.kill(signal);
            }
            daemon.status();
        }
        let log = daemon.log();
        let reloads = log.iter().filter(|line| line.message.contains("nothing has changed"));
        println!("  {} reloads of 200", reloads.count());
    });
    assert_eq!(daemon.plugin("version").unwrap().generation, before.generation);
    // And a reload that changes something still works.
    daemon.configure(Keys { level: "debug", ..Keys::default() });
    daemon.kill(Signal::SIGHUP);
    daemon.wait_log("", &["reloaded: log.level"]);
    daemon.configure(Keys { level: "nonsense", ..Keys::default() });
    daemon.kill(Signal::SIGHUP);
    daemon.wait_log("", &["the configuration stays as it was", "nonsense"]);
}

/// Stops a daemon and asserts that it made everything safe in time.
fn stops_well(daemon: Daemon, what: &str) {
    let workers = daemon.workers();
    let (status, time, plant) = daemon.stop();
    println!("{what}: {status} after {time:.0?}, workers {workers:?}");
    assert!(status.success(), "{status}");
    assert!(time < STOP_LIMIT, "{time:?}");
    let log = log_lines(&plant.path("log"));
    let confirmed = log.iter().any(|line| line.message.contains("confirmed their safe outputs"));
    assert!(confirmed, "{log:#?}");
    assert!(!plant.path("control.sock").exists(), "the socket is removed");
    for worker in workers {
        let proc = format!("/proc/{worker}/exe");
        wait("its worker ends too", LIMIT, || fs::read_link(&proc).is_err().then_some(()));
    }
}

#[test]
fn sigterm_is_obeyed_during_a_compilation() {
    let daemon = Daemon::start(Keys::default());
    daemon.drop_in("slow", &slow(2000, 0));
    wait("a compilation is under way", LIMIT, || (!daemon.workers().is_empty()).then_some(()));
    stops_well(daemon, "during a compilation");
}

#[test]
fn sigterm_is_obeyed_during_an_endless_start() {
    let daemon = Daemon::start(Keys { init_budget: "10s", ..Keys::default() });
    let text = "(module (func (export \"poll\"))
      (func (export \"init\") (loop (br 0))))";
    daemon.drop_in("endless", &wat(text));
    // Its artifact is stored just before its start.
    wait("its start is under way", LIMIT, || {
        let cached = fs::read_dir(daemon.cache()).unwrap().count();
        (cached == 2 && daemon.workers().is_empty()).then_some(())
    });
    stops_well(daemon, "during an endless start");
}

#[test]
fn killed_outright_it_starts_again() {
    let daemon = Daemon::start(Keys::default());
    daemon.drop_in("slow", &slow(2000, 0));
    wait("a compilation is under way", LIMIT, || (!daemon.workers().is_empty()).then_some(()));
    let daemon = daemon.kill_and_restart();
    let cycle = daemon.status().cycle;
    wait("it scans", LIMIT, || (daemon.status().cycle > cycle + 100).then_some(()));
    unharmed(&daemon);
}
