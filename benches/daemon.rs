//! Measurements of the whole daemon: `cargo bench --bench daemon`.
//!
//! This benchmark starts the built daemon in a temporary folder and prints three results:
//! - the time from the rename of a module into the plugin folder to the first poll of the module,
//! - the time of a start with one hundred plugins, with an empty and with a filled cache,
//! - the memory of a daemon with three plugins that do nothing.
//!
//! `running/mod.rs` starts and ends the daemon. The benchmark checks nothing; `tests/it` has the
//! tests.

#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a bench prints and may fail")]
#![allow(unreachable_pub, reason = "nobody outside sees a bench")]

mod running;

use std::fs;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use camshaft::control::{PluginView, StatusView};
use camshaft::plugin::ModuleHash;
use running::{Daemon, drop_in};

/// The configuration of the daemon, with the period of the quick start.
const CONFIG: &str = r#"[scan]
period = "10ms"
[plugins]
dir = "plugins"
cache = "cache"
[control]
socket = "control.sock"
"#;

fn main() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("plugins")).unwrap();
    fs::write(folder.path().join("camshaft.toml"), CONFIG).unwrap();
    rename_to_first_poll(folder.path());
    hundred_plugins(folder.path());
    three_idle_plugins(folder.path());
}

/// Measures the time from the rename of a module into the plugin folder to the first poll of the
/// module. The status of the daemon shows the first poll.
fn first_poll(daemon: &Daemon, folder: &Path, name: &str, module: &[u8]) -> Duration {
    let started = Instant::now();
    drop_in(folder, name, module);
    let hash = format!("{:#}", ModuleHash::of(module));
    let polled = |view: &PluginView| view.hash.as_ref() == Some(&hash) && view.polls > 0;
    daemon.wait(|status| status.plugins.iter().any(polled));
    started.elapsed()
}

/// Makes a module of about 1 KB. Each value of `n` gives other bytes, and so another hash.
fn module(n: usize) -> Vec<u8> {
    let filler = "x".repeat(800);
    let text = format!(
        r#"(module (memory (export "memory") 1) (data (i32.const 0) "{filler}")
           (func (export "poll") (i32.store (i32.const 1000) (i32.const {n}))))"#
    );
    wat::parse_str(text).unwrap()
}

fn rename_to_first_poll(folder: &Path) {
    const TIMES: usize = 50;
    let daemon = Daemon::start(folder);
    daemon.wait(|_| true);
    println!("rename-in of a module of {} bytes to its first poll, at 10 ms:", module(0).len());
    for (name, what) in [("cold", "empty cache"), ("warm", "cached")] {
        let mut times: Vec<_> =
            (0..TIMES).map(|n| first_poll(&daemon, folder, name, &module(n))).collect();
        times.sort();
        println!("  {what}: p50 {:?}, p99 {:?}", times[TIMES / 2], times[TIMES * 99 / 100]);
    }
}

fn hundred_plugins(folder: &Path) {
    let plugins = folder.join("plugins");
    fs::remove_dir_all(&plugins).unwrap();
    fs::create_dir(&plugins).unwrap();
    for n in 0..100 {
        drop_in(folder, &format!("p{n:02}"), &module(1000 + n));
    }
    for what in ["empty", "warm"] {
        let started = Instant::now();
        let daemon = Daemon::start(folder);
        let all = |status: &StatusView| {
            status.plugins.iter().filter(|plugin| plugin.polls > 0).count() == 100
        };
        daemon.wait(all);
        println!("100 plugins start from a cache that is {what}: {:?}", started.elapsed());
    }
    fs::remove_dir_all(&plugins).unwrap();
    fs::create_dir(&plugins).unwrap();
}

fn three_idle_plugins(folder: &Path) {
    for n in 0..3 {
        drop_in(folder, &format!("p{n}"), &module(n));
    }
    let daemon = Daemon::start(folder);
    daemon.wait(|status| status.plugins.iter().filter(|plugin| plugin.polls > 0).count() == 3);
    sleep(Duration::from_secs(3));
    let status = fs::read_to_string(format!("/proc/{}/status", daemon.id())).unwrap();
    let rss = status.lines().find(|line| line.starts_with("VmRSS")).unwrap();
    println!("3 plugins idle: {rss}");
}
