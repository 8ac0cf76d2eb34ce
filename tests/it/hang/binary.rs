//! Test with a daemon whose own binary lies on a file system that gives no answer.
//!
//! The daemon then cannot start a compile worker, because the worker is the same binary. The scan
//! and all other parts of the daemon must run on.

use std::fs::{self, File};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use camshaft::control::StatusView;
use camshaft::control::client::Client;
use camshaft::process::image::Value;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::end::is_over;
use super::{END, plant};
use crate::daemon::fan::{fan_is, writes};
use crate::daemon::{LIMIT, Plant, Share, log_lines, wait};
use crate::rig::block_on;

/// A daemon that was started by a command of its own. Dropping it kills it.
pub struct Started {
    child: Child,
    pub plant: Plant,
    pub client: Client,
}

impl Started {
    /// By a command that is whole but for the daemon's arguments; waits until it scans.
    pub fn by(mut command: Command, plant: Plant) -> Self {
        let log = File::options().create(true).append(true).open(plant.path("log")).unwrap();
        command.arg("run").arg(plant.path("camshaft.toml")).stdin(Stdio::null()).stderr(log);
        command.env_remove("NOTIFY_SOCKET").env("STATE_DIRECTORY", plant.state());
        let client = Client::new(vec![plant.path("control.sock")]);
        let started = Self { child: command.spawn().unwrap(), plant, client };
        wait("it scans", LIMIT, || {
            block_on(started.client.status()).ok().filter(|it| it.cycle > 0)
        });
        started
    }

    pub fn status(&self) -> StatusView {
        block_on(self.client.status()).expect("it answers")
    }

    /// Whether the log has a line with all of these words.
    pub fn has_said(&self, words: &[&str]) -> bool {
        let lines = log_lines(&self.plant.path("log"));
        lines.iter().any(|line| words.iter().all(|word| line.message.contains(word)))
    }

    /// Ends it by SIGTERM, in time and in order.
    pub fn ends(mut self, shares: &[Share]) {
        let pid = self.child.id();
        let started = Instant::now();
        kill(Pid::from_raw(pid.cast_signed()), Signal::SIGTERM).unwrap();
        wait("it has ended", LIMIT, || is_over(pid).then_some(()));
        let time = started.elapsed();
        shares.iter().for_each(|share| share.answer());
        let status = self.child.wait().unwrap();
        assert!(status.success() && time < END, "{status} after {time:?}: {:?}", status.signal());
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        // It may wait in the kernel for a share, which is gone later.
        let _ = self.child.kill();
    }
}

/// Both workers of the runtime stood in `fork`, and nobody was answered any more.
#[test]
#[ignore = "needs root: it mounts"]
fn a_program_that_gives_no_answer_stops_nothing() {
    let mut plant = plant();
    let path = plant.path("camshaft.toml");
    // What of the program was not run yet must not be read when it hangs.
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replace("priority = 50", "priority = 50\nlock_memory = true")).unwrap();
    let folder = plant.path("bin");
    fs::create_dir(&folder).unwrap();
    fs::copy(env!("CARGO_BIN_EXE_camshaft"), folder.join("camshaft")).unwrap();
    let share = plant.share_cached(folder.clone());
    let daemon = Started::by(Command::new(folder.join("camshaft")), plant);
    daemon.plant.drop_in("fan", &writes(7));
    wait("the fan is as wanted", LIMIT, || fan_is(&daemon.plant, "7").then_some(()));
    share.hang();
    for (name, number) in [("fan", 8), ("second", 9), ("third", 10)] {
        daemon.plant.drop_in(name, &writes(number));
    }
    wait("they are being prepared", LIMIT, || {
        let plugins = daemon.status().plugins;
        plugins.iter().any(|plugin| plugin.name == "third").then_some(())
    });
    let cycle = daemon.status().cycle;
    // Twice the time in which a start is given up.
    wait("the scan goes on", LIMIT, || (daemon.status().cycle > cycle + 10_000).then_some(()));
    block_on(daemon.client.set("evil.input", Value::Int(2))).unwrap();
    block_on(daemon.client.act("fan", "hold")).unwrap();
    wait("the fan is safe", LIMIT, || fan_is(&daemon.plant, "255").then_some(()));
    daemon.ends(&[share]);
}
