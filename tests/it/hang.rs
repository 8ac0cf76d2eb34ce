//! Something that the daemon uses gives no answer: whoever reads its log, or a file system. The scan
//! goes on, plugins are swapped and restarted, people are answered, and SIGTERM ends it in time.
//!
//! Files are in `hang/file.rs`, the log is in `hang/log.rs`.

mod binary;
mod device;
mod disk;
mod drain;
mod end;
mod file;
mod log;

use std::fs;
use std::time::{Duration, Instant};

use camshaft::image::Value;
use nix::sys::signal::Signal;

use crate::daemon::fan::{board, fan_is, writes};
use crate::daemon::{Daemon, Keys, LIMIT, Plant, Share, wait};
use crate::rig::{block_on, wat};

/// `TimeoutStopSec=` is longer, and so is the patience of people.
const END: Duration = Duration::from_secs(5);

/// A plant with a fan.
fn plant() -> Plant {
    let plant = Plant::new(Keys::default());
    let tables = board(&plant, "");
    plant.configure(Keys { tables: &tables, ..Keys::default() });
    plant
}

/// Traps in its first poll of each life.
const TRAPS: &str = r#"(module (func (export "poll") unreachable))"#;

fn wait_for_fan(plant: &Plant, number: &str) {
    wait("the fan is as wanted", LIMIT, || fan_is(plant, number).then_some(()));
}

/// Uses the daemon for all that it is there for, and ends it.
fn goes_on(daemon: Daemon, shares: &[Share]) {
    let cycle = daemon.status().cycle;
    wait("the scan goes on", LIMIT, || (daemon.status().cycle > cycle + 100).then_some(()));
    for number in [7, 9] {
        daemon.drop_in("fan", &writes(number));
        wait_for_fan(&daemon, &number.to_string());
    }
    daemon.drop_in("traps", &wat(TRAPS));
    daemon.wait_for("traps", "restarted and given up", |view| view.traps > 1);
    block_on(daemon.client.set("evil.input", Value::Int(3))).unwrap();
    block_on(daemon.client.act("fan", "hold")).unwrap();
    wait_for_fan(&daemon, "255");
    block_on(daemon.client.act("fan", "release")).unwrap();
    wait_for_fan(&daemon, "9");
    let plant = ends(daemon, shares);
    wait_for_fan(&plant, "255");
}

/// Ends the daemon. A thread of it that waits in the kernel for an answer stays in the table of
/// processes until there is one, but nothing of the daemon runs any more.
fn ends(daemon: Daemon, shares: &[Share]) -> Plant {
    daemon.kill(Signal::SIGTERM);
    let started = Instant::now();
    let stat = format!("/proc/{}/stat", daemon.pid());
    let is_over = || fs::read_to_string(&stat).is_ok_and(|stat| stat.contains(") Z "));
    wait("it has ended", LIMIT, || is_over().then_some(()));
    let time = started.elapsed();
    shares.iter().for_each(|share| share.answer());
    let (status, _, plant) = daemon.stop();
    assert!(status.success() && time < END, "{status} after {time:?}");
    plant
}
