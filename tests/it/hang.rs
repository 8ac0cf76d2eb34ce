//! Tests of a daemon that uses something which gives no answer, for example a file system or a full
//! pipe of the log.
//!
//! In every case the scan must run on, plugins must still be swapped and restarted, requests must
//! get answers, and the daemon must feed the watchdog. SIGTERM must end the daemon in time. Files
//! are tested in `hang/file.rs`, the log in `hang/log.rs`, and an end during the start in
//! `hang/start.rs`. `hang/manager.rs` simulates systemd.

mod binary;
mod device;
mod disk;
mod drain;
mod end;
mod file;
mod log;
mod manager;
mod start;

use std::fs;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use camshaft::process::image::Value;
use nix::sys::signal::Signal;

use crate::daemon::fan::{board, fan_is, writes};
use crate::daemon::{Daemon, Keys, LIMIT, Plant, Share, wait};
use crate::rig::{block_on, wat};
use manager::Manager;

/// `TimeoutStopSec=` is longer, and so is the patience of people.
const END: Duration = Duration::from_secs(5);

/// Traps in each poll while `evil.input` is 3.
const TRAPS: &str = r#"(module
  (import "env" "wasm_read_input" (func $read (param i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "poll")
    (drop (call $read (i32.const 0) (i32.const 0) (i32.const 4)))
    (if (i32.eq (i32.load (i32.const 0)) (i32.const 3)) (then unreachable))))"#;

/// A plant with a fan at 5, and a program that can be made to trap.
fn plant() -> Plant {
    let plant = Plant::new(Keys::default());
    let tables = board(&plant, "");
    plant.configure(Keys { tables: &tables, ..Keys::default() });
    plant.drop_in("fan", &writes(5));
    plant.drop_in("traps", &wat(TRAPS));
    plant
}

fn wait_for_fan(plant: &Plant, number: &str) {
    wait("the fan is as wanted", LIMIT, || fan_is(plant, number).then_some(()));
}

/// A daemon with its service manager.
struct Watched {
    daemon: Daemon,
    manager: Manager,
}

impl std::ops::Deref for Watched {
    type Target = Daemon;

    fn deref(&self) -> &Daemon {
        &self.daemon
    }
}

impl Watched {
    /// Starts the daemon and waits until all of its plugins run.
    fn on(plant: Plant) -> Self {
        let manager = Manager::listen();
        Self { daemon: Daemon::within(plant, &manager.environment()), manager }.running()
    }

    /// The same by a command that is whole but for the daemon's arguments, and with another place
    /// for its log.
    fn by(command: Command, plant: Plant, stderr: Stdio) -> Self {
        let manager = Manager::listen();
        let daemon = Daemon::by(command, plant, &manager.environment(), stderr);
        Self { daemon, manager }.running()
    }

    fn running(self) -> Self {
        wait_for_fan(&self, "5");
        self.wait_for("traps", "running", |view| view.polls > 0);
        self
    }

    /// Uses the daemon for all that it is there for, and ends it.
    fn goes_on(self, shares: &[Share]) {
        for number in [7, 9] {
            self.drop_in("fan", &writes(number));
            wait_for_fan(&self, &number.to_string());
        }
        self.goes_on_as_it_is("9", shares);
    }

    /// The same without the plugin folder: the fan stays at `number`.
    fn goes_on_as_it_is(self, number: &str, shares: &[Share]) {
        let cycle = self.status().cycle;
        wait("the scan goes on", LIMIT, || (self.status().cycle > cycle + 100).then_some(()));
        wait_for_fan(&self, number);
        block_on(self.client.set("evil.input", Value::Int(3))).unwrap();
        self.wait_for("traps", "restarted and given up", |view| view.traps > 1);
        block_on(self.client.act("fan", "hold")).unwrap();
        wait_for_fan(&self, "255");
        block_on(self.client.act("fan", "release")).unwrap();
        wait_for_fan(&self, number);
        let plant = self.ends(shares);
        wait_for_fan(&plant, "255");
    }

    /// Ends the daemon. A thread of it that waits in the kernel for an answer stays in the table of
    /// processes until there is one, but nothing of the daemon runs any more.
    fn ends(self, shares: &[Share]) -> Plant {
        let Self { daemon, manager } = self;
        manager.is_fed();
        daemon.kill(Signal::SIGTERM);
        let started = Instant::now();
        manager.hears_of_the_end();
        let stat = format!("/proc/{}/stat", daemon.pid());
        let is_over = || fs::read_to_string(&stat).is_ok_and(|stat| stat.contains(") Z "));
        wait("it has ended", LIMIT, || is_over().then_some(()));
        let time = started.elapsed();
        shares.iter().for_each(|share| share.answer());
        let (status, _, plant) = daemon.stop();
        assert!(status.success() && time < END, "{status} after {time:?}");
        plant
    }
}
