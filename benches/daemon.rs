//! Measurements of the whole daemon: `cargo bench --bench daemon`.
//!
//! This benchmark starts the built daemon in a temporary folder and prints four results:
//! - the time from the rename of a module into the plugin folder to the first poll of the module,
//! - the time of a start with one hundred plugins, with an empty and with a filled cache,
//! - the time from the start of the process to the first output, with a filled cache,
//! - the memory of a daemon before, with and after 3 and 256 programs, and what a cycle of
//!   these programs costs.
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
use running::{Daemon, LIMIT, drop_in};

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
    cold_start(folder.path());
    for (count, is_locked) in [(3, false), (256, false), (256, true)] {
        memory(folder.path(), count, is_locked);
    }
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

/// Starts the daemon with one program that writes an output to a file, and measures the time from
/// the start of the process to the value in the file. The module is in the cache and was not changed
/// for 10 s, as after a boot.
fn cold_start(folder: &Path) {
    const TIMES: usize = 20;
    let file = folder.join("output");
    let device = format!(
        r#"[[device]]
name = "file"
driver = "file"
period = "1ms"
[[device.point]]
name = "output"
direction = "out"
type = "u32"
address = 0
safe = 0
at = {{ path = "{}" }}
"#,
        file.display()
    );
    let grant = CONFIG.replace("[plugins]", "[plugins]\ngrant = \"all\"");
    fs::write(folder.join("camshaft.toml"), grant + &device).unwrap();
    let module = wat::parse_str(
        r#"(module
          (import "env" "wasm_write_output" (func $write (param i32 i32 i32) (result i32)))
          (memory (export "memory") 1) (data (i32.const 0) "\07")
          (func (export "poll") (drop (call $write (i32.const 0) (i32.const 0) (i32.const 4)))))"#,
    );
    drop_in(folder, "writer", &module.unwrap());
    sleep(Duration::from_secs(12));
    let start = |_| {
        fs::write(&file, "0").unwrap();
        let started = Instant::now();
        let _daemon = Daemon::start(folder);
        while fs::read_to_string(&file).unwrap().trim() != "7" {
            assert!(started.elapsed() < LIMIT, "the output is not written");
            sleep(Duration::from_micros(200));
        }
        started.elapsed()
    };
    // The first start compiles.
    let mut times: Vec<_> = (0..=TIMES).map(start).skip(1).collect();
    times.sort();
    println!(
        "from the start of the process to an output, at 10 ms: p50 {:?}, max {:?}",
        times[TIMES / 2],
        times[TIMES - 1]
    );
    fs::remove_file(folder.join("plugins/writer.wasm")).unwrap();
}

/// Prints the memory of a daemon before, with and after so many idle programs of one page, and the
/// duration of a cycle with these programs.
fn memory(folder: &Path, count: usize, is_locked: bool) {
    let lock = format!("lock_memory = {is_locked}\n[plugins]");
    fs::write(folder.join("camshaft.toml"), CONFIG.replace("[plugins]", &lock)).unwrap();
    let daemon = Daemon::start(folder);
    let polled = |status: &StatusView| status.plugins.iter().filter(|p| p.polls > 0).count();
    daemon.wait(|status| polled(status) == 0);
    let before = resident(&daemon);
    for n in 0..count {
        drop_in(folder, &format!("p{n:03}"), &module(2000 + n));
    }
    daemon.wait(|status| polled(status) == count);
    let with = resident(&daemon);
    let work = daemon.wait(|_| true).work;
    for n in 0..count {
        fs::remove_file(folder.join(format!("plugins/p{n:03}.wasm"))).unwrap();
    }
    daemon.wait(|status| polled(status) == 0);
    let after = resident(&daemon);
    let what = if is_locked { ", memory locked" } else { "" };
    println!("{count} idle programs{what}: {with} MB; before {before} MB, after {after} MB");
    let [p50, p99] = [work.p50_ns, work.p99_ns].map(Duration::from_nanos);
    println!("  a cycle with them: p50 {p50:?}, p99 {p99:?}");
}

/// The resident memory of the daemon in megabytes, after a pause in which it can free memory.
fn resident(daemon: &Daemon) -> usize {
    sleep(Duration::from_secs(8));
    let status = fs::read_to_string(format!("/proc/{}/status", daemon.id())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap();
    let number = line.split_whitespace().nth(1).unwrap();
    number.parse::<usize>().unwrap() / 1000
}
