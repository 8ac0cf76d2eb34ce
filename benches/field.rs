//! Measurements of the daemon with devices: `cargo bench --bench field`.
//!
//! The first benchmark measures the reaction time: from the change of a register in a Modbus unit
//! until the daemon writes another register. A script of pymodbus does the same for comparison. The
//! second benchmark measures how late cycles begin, without and with twenty busy Modbus units.
//!
//! The two sides of a comparison are measured in turns, so that a noisy machine disturbs both sides
//! equally. The units run in the process of this benchmark. The connection is the loopback
//! interface, and the CPU time of the units is part of the load.

#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a bench prints and may fail")]
#![allow(unreachable_pub, reason = "nobody outside sees a bench")]

mod running;
#[path = "field/unit.rs"]
mod unit;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::atomic::Ordering;
use std::thread::sleep;
use std::time::{Duration, Instant};

use running::{Daemon, LIMIT, drop_in};
use unit::Units;

/// A program that copies the first two bytes of the input image to the output image.
const COPY: &str = r#"(module
    (import "env" "wasm_read_input" (func $read (param i32 i32 i32) (result i32)))
    (import "env" "wasm_write_output" (func $write (param i32 i32 i32) (result i32)))
    (memory (export "memory") 1)
    (func (export "poll")
      (drop (call $read (i32.const 0) (i32.const 16) (i32.const 2)))
      (drop (call $write (i32.const 0) (i32.const 16) (i32.const 2)))))"#;

fn main() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("plugins")).unwrap();
    drop_in(folder.path(), "copy", &wat::parse_str(COPY).unwrap());
    reaction(folder.path());
    busy_units(folder.path());
}

fn configure(folder: &Path, period: &str, device: &str) {
    let text = format!(
        r#"[scan]
period = "{period}"
priority = 80
[plugins]
dir = "plugins"
cache = "cache"
[control]
socket = "control.sock"
{device}
"#
    );
    fs::write(folder.join("camshaft.toml"), text).unwrap();
}

/// Returns a percentile of the sorted times. `part` is a fraction: 0.99 means the 99th percentile.
fn percentile(sorted: &[Duration], part: f64) -> Duration {
    sorted[((sorted.len() - 1) as f64 * part) as usize]
}

/// The running script of pymodbus. The drop ends the script.
struct Script(Child);

impl Script {
    /// Starts the script. Returns `None` if pymodbus is not installed; `tests/run` installs
    /// pymodbus.
    fn start(port: u16) -> Option<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let peers = std::env::var_os("CAMSHAFT_PEERS").map(PathBuf::from);
        let python = peers.unwrap_or_else(|| root.join("target/peers")).join("python/bin/python");
        let knows = Command::new(&python).args(["-c", "import pymodbus"]).status();
        if !knows.is_ok_and(|status| status.success()) {
            return None;
        }
        let script = root.join("benches/field/loop.py");
        Some(Self(Command::new(python).arg(script).arg(port.to_string()).spawn().unwrap()))
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

/// Measures one reaction: from a change of register 0 until the client writes the same value to
/// register 1. The change comes at a random time.
fn react(units: &Units, value: u16) -> Duration {
    // The random pause is longer than all periods. A shorter pause would put each change at the
    // same position in a period.
    sleep(Duration::from_micros(fastrand::u64(20_000..40_000)));
    let started = Instant::now();
    units.input.store(value, Ordering::Release);
    loop {
        let (at, written) = units.written.recv_timeout(LIMIT).unwrap();
        if written == value {
            return at - started;
        }
    }
}

fn reaction(folder: &Path) {
    /// Number of starts of the daemon. Each start gives another time shift between the daemon's
    /// Modbus requests and its scan.
    const ROUNDS: u16 = 10;
    const TIMES: u16 = 100;
    let (ours, theirs) = (Units::serve(), Units::serve());
    let device = format!(
        r#"[[device]]
name = "plant"
driver = "modbus"
connect = "tcp://127.0.0.1:{}"
unit = [ {{ name = "u", id = 1 }} ]
group = [ {{ name = "g", unit = "u", table = "holding", period = "10ms" }} ]
point = [
  {{ name = "in", direction = "in", type = "u16", at = {{ group = "g", address = 0 }} }},
  {{ name = "out", direction = "out", type = "u16", safe = 0, at = {{ unit = "u", address = 1 }} }},
]"#,
        ours.port
    );
    configure(folder, "10ms", &device);
    let mut times = [Vec::new(), Vec::new()];
    for round in 0..ROUNDS {
        let daemon = Daemon::start(folder);
        daemon.wait(|status| status.plugins.iter().any(|plugin| plugin.polls > 0));
        let script = Script::start(theirs.port);
        for n in 1..=TIMES {
            times[0].push(react(&ours, round * TIMES + n));
            if script.is_some() {
                times[1].push(react(&theirs, round * TIMES + n));
            }
        }
    }
    println!("a register changes until another is written, {} times:", ROUNDS * TIMES);
    let names = ["camshaft, scan and polling of 10 ms", "pymodbus, loop of 10 ms"];
    for (name, mut times) in names.into_iter().zip(times) {
        times.sort();
        if times.is_empty() {
            println!("  {name}: not here, tests/run installs it");
            continue;
        }
        let [p50, p99] = [0.5, 0.99].map(|part| percentile(&times, part));
        println!("  {name}: p50 {p50:.1?}, p99 {p99:.1?}, longest {:.1?}", times[times.len() - 1]);
    }
}

/// Measures the lateness of cycles at a period of 1 ms, over 5 s. Returns p50 and p99 in
/// nanoseconds, and the number of requests that `units` got in each second.
fn lateness(folder: &Path, device: &str, units: &Units) -> ([u64; 2], f64) {
    const CYCLES: u64 = 5000;
    configure(folder, "1ms", device);
    let daemon = Daemon::start(folder);
    daemon.wait(|status| status.cycle > 0);
    let (started, before) = (Instant::now(), units.requests.load(Ordering::Relaxed));
    // The benchmark requests the status only after this pause, because status requests in the
    // meantime would disturb the scan.
    sleep(Duration::from_millis(CYCLES));
    let status = daemon.wait(|status| status.cycle > CYCLES);
    let requests = (units.requests.load(Ordering::Relaxed) - before) as f64;
    let per_s = requests / started.elapsed().as_secs_f64();
    ([status.lateness.p50_ns, status.lateness.p99_ns], per_s)
}

fn busy_units(folder: &Path) {
    const UNITS: usize = 20;
    const ROUNDS: usize = 5;
    let units = Units::serve();
    let (mut on, mut groups, mut quiet, mut busy) = <(String, String, String, String)>::default();
    for n in 1..=UNITS {
        on += &format!("{{ name = \"u{n}\", id = {n} }}, ");
        groups += &format!(
            "{{ name = \"g{n}\", unit = \"u{n}\", table = \"holding\", period = \"10ms\" }}, "
        );
        let point = format!("  {{ name = \"p{n}\", direction = \"in\", type = \"u16\"");
        quiet += &format!("{point} }},\n");
        busy += &format!("{point}, at = {{ group = \"g{n}\", address = {n} }} }},\n");
    }
    let out = "{ name = \"out\", direction = \"out\", type = \"u16\", safe = 0";
    let quiet = format!(
        "[[device]]\nname = \"plant\"\ndriver = \"sim\"\npoint = [\n{quiet}  {out} }},\n]\n"
    );
    let busy = format!(
        "[[device]]\nname = \"plant\"\ndriver = \"modbus\"\nconnect = \"tcp://127.0.0.1:{}\"\n\
         unit = [ {on} ]\ngroup = [ {groups} ]\n\
         point = [\n{busy}  {out}, at = {{ unit = \"u1\", address = 1 }} }},\n]\n",
        units.port
    );
    let mut found = [Vec::new(), Vec::new()];
    let mut per_s = Vec::new();
    for _ in 0..ROUNDS {
        found[0].push(lateness(folder, &quiet, &units).0);
        let (late, requests) = lateness(folder, &busy, &units);
        assert!(requests > 0.0, "nobody asks the units: see the log of the daemon");
        found[1].push(late);
        per_s.push(requests);
    }
    println!("how late cycles of 1 ms begin, median of {ROUNDS} rounds of 5 s in turns:");
    for (place, name) in ["p50", "p99"].into_iter().enumerate() {
        let [without, with] = found.each_ref().map(|rounds| {
            let mut all: Vec<u64> = rounds.iter().map(|round| round[place]).collect();
            all.sort_unstable();
            all[ROUNDS / 2] as f64 / 1000.0
        });
        let ratio = with / without;
        println!("  {name}: {without:.1} us without, {with:.1} us with {UNITS} units, x{ratio:.2}");
    }
    println!("  {:.0} requests a second", per_s.iter().sum::<f64>() / per_s.len() as f64);
}
