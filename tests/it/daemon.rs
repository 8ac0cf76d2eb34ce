//! A whole daemon for tests: the built binary with its own configuration in a temporary folder.
//!
//! This file starts a daemon, sends requests to it, waits for states and ends it. It contains no
//! tests; other files use it. `daemon/plant.rs` makes the folder with the configuration.
//! `daemon/witness.rs` has the program that runs in every such daemon and detects disturbances.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use camshaft::control::client::Client;
use camshaft::control::{PluginState, PluginView, StatusView};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::rig::block_on;

pub mod fan;
mod plant;
mod share;
mod witness;

pub use plant::{Hung, Keys, Plant, remount};
pub use share::{Server, Share};
pub use witness::{SAFE_MARK, WITNESS, beside_the_witness, through, unharmed};

/// Limit for what takes milliseconds on an idle machine. The compile worker runs at the lowest
/// priority there is, so a busy one may need long.
pub const LIMIT: Duration = Duration::from_secs(60);

/// Between two looks at a condition.
const PAUSE: Duration = Duration::from_millis(3);

/// Calls `look` until it finds something.
pub fn wait<T>(what: &str, limit: Duration, mut look: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(started.elapsed() < limit, "not within {limit:?}: {what}");
        thread::sleep(PAUSE);
    }
}

/// Starts the binary in a plant, and waits for nothing.
pub fn launch(
    plant: &Plant,
    log: &Path,
    arguments: &[&str],
    environment: &[(&str, &str)],
) -> Child {
    launch_by(Command::new(env!("CARGO_BIN_EXE_camshaft")), plant, log, arguments, environment)
}

/// The same by a command that is whole but for the daemon's arguments.
fn launch_by(
    mut command: Command,
    plant: &Plant,
    log: &Path,
    arguments: &[&str],
    environment: &[(&str, &str)],
) -> Child {
    let log = fs::File::options().create(true).append(true).open(log).unwrap();
    arrange(&mut command, plant, arguments, environment).stderr(log).spawn().unwrap()
}

/// Gives such a command everything but a place for the log.
fn arrange<'c>(
    command: &'c mut Command,
    plant: &Plant,
    arguments: &[&str],
    environment: &[(&str, &str)],
) -> &'c mut Command {
    command
        .arg("run")
        .arg(plant.path("camshaft.toml"))
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .env_remove("NOTIFY_SOCKET")
        // What it keeps lies in the plant, not in the user's home.
        .env("STATE_DIRECTORY", plant.state())
        .envs(environment.iter().copied())
}

/// A running daemon. Dropping it ends it.
pub struct Daemon {
    plant: Option<Plant>,
    child: Child,
    pub client: Client,
}

impl std::ops::Deref for Daemon {
    type Target = Plant;

    fn deref(&self) -> &Plant {
        self.plant.as_ref().expect("it is there until the daemon is stopped")
    }
}

impl Daemon {
    /// A daemon on a fresh plant.
    pub fn start(keys: Keys<'_>) -> Self {
        Self::on(Plant::new(keys))
    }

    /// Starts the daemon and waits until it scans and the witness runs.
    pub fn on(plant: Plant) -> Self {
        Self::within(plant, &[])
    }

    /// The same with these variables in its environment.
    pub fn within(plant: Plant, environment: &[(&str, &str)]) -> Self {
        Self::up(plant, &[], environment, |status| {
            status.plugins.iter().any(|p| p.name == "witness" && p.polls > 0)
        })
    }

    /// Starts the daemon with these arguments and waits until it scans; nothing need run in it.
    pub fn idle(plant: Plant, arguments: &[&str]) -> Self {
        Self::up(plant, arguments, &[], |status| status.cycle > 0)
    }

    /// Starts the daemon and waits until its status is as wanted.
    pub fn up(
        plant: Plant,
        arguments: &[&str],
        environment: &[(&str, &str)],
        is_up: impl Fn(&StatusView) -> bool,
    ) -> Self {
        let child = launch(&plant, &plant.path("log"), arguments, environment);
        Self::wait_up(plant, child, is_up)
    }

    /// A daemon whose system calls, and those of its children, strace writes into a file.
    pub fn traced(plant: Plant, trace: &Path, environment: &[(&str, &str)]) -> Self {
        let mut strace = Command::new("strace");
        // With -D the process that starts becomes the daemon.
        strace.args(["-D", "-f", "-qq", "-o"]).arg(trace).arg(env!("CARGO_BIN_EXE_camshaft"));
        Self::idle_by(strace, plant, environment)
    }

    /// A daemon that is started by a command which is whole but for the daemon's arguments; nothing
    /// need run in it.
    pub fn idle_by(command: Command, plant: Plant, environment: &[(&str, &str)]) -> Self {
        let child = launch_by(command, &plant, &plant.path("log"), &[], environment);
        Self::wait_up(plant, child, |status| status.cycle > 0)
    }

    /// A daemon that is started by a command which is whole but for the daemon's arguments, and
    /// whose log goes to `stderr`. The witness runs.
    pub fn by(
        mut command: Command,
        plant: Plant,
        environment: &[(&str, &str)],
        stderr: Stdio,
    ) -> Self {
        let child = arrange(&mut command, &plant, &[], environment).stderr(stderr).spawn().unwrap();
        Self::wait_up(plant, child, |status| {
            status.plugins.iter().any(|p| p.name == "witness" && p.polls > 0)
        })
    }

    fn wait_up(plant: Plant, child: Child, is_up: impl Fn(&StatusView) -> bool) -> Self {
        let client = Client::new(vec![plant.path("control.sock")]);
        let mut daemon = Self { plant: Some(plant), child, client };
        wait("the daemon is up", LIMIT, || {
            let ended = daemon.child.try_wait().unwrap();
            assert!(ended.is_none(), "the daemon ended: {ended:?}\n{}", daemon.log_text());
            block_on(daemon.client.status()).ok().filter(|status| is_up(status))
        });
        daemon
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn kill(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid().cast_signed()), signal).unwrap();
    }

    /// Asks for an orderly stop and waits for it: how it ended, how long that took, and its plant.
    pub fn stop(mut self) -> (ExitStatus, Duration, Plant) {
        let started = Instant::now();
        self.kill(Signal::SIGTERM);
        let status = wait("the end after SIGTERM", LIMIT, || self.child.try_wait().unwrap());
        (status, started.elapsed(), self.plant.take().expect("only this takes it"))
    }

    /// Waits for an end that comes by itself, and does something else meanwhile: how it ended, and
    /// its plant.
    pub fn end(mut self, mut meanwhile: impl FnMut()) -> (ExitStatus, Plant) {
        let status = wait("the end", LIMIT, || {
            meanwhile();
            self.child.try_wait().unwrap()
        });
        (status, self.plant.take().expect("only this takes it"))
    }

    /// Kills the daemon without a warning.
    pub fn slay(mut self) -> Plant {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.plant.take().expect("only this takes it")
    }

    /// The same, and starts another in the same place.
    pub fn kill_and_restart(self) -> Self {
        Self::on(self.slay())
    }

    /// Runs the command line against it.
    pub fn camshaft(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_camshaft"));
        command.args(arguments).arg("--socket").arg(self.path("control.sock"));
        command.stdin(Stdio::null()).output().unwrap()
    }

    pub fn status(&self) -> StatusView {
        match block_on(self.client.status()) {
            Ok(status) => status,
            Err(error) => panic!("no status: {error}\n{}", self.log_text()),
        }
    }

    pub fn plugin(&self, name: &str) -> Option<PluginView> {
        block_on(self.client.plugin(name)).expect("the daemon answers")
    }

    /// Waits for a plugin to be as `is_so` says.
    pub fn wait_for(
        &self,
        name: &str,
        what: &str,
        is_so: impl Fn(&PluginView) -> bool,
    ) -> PluginView {
        let mut last = None;
        let started = Instant::now();
        while started.elapsed() < LIMIT {
            last = self.plugin(name);
            if let Some(view) = last.take_if(|view| is_so(view)) {
                return view;
            }
            thread::sleep(PAUSE);
        }
        panic!("{name} is not {what} within {LIMIT:?} but {last:#?}\n{}", self.log_text());
    }

    /// Waits until these bytes run.
    pub fn wait_running(&self, name: &str, hash: &str) -> PluginView {
        self.wait_for(name, "running these bytes", |view| {
            view.state == PluginState::Running && view.hash.as_deref() == Some(hash)
        })
    }

    /// Waits until nobody knows the plugin any more.
    pub fn wait_gone(&self, name: &str) {
        wait(&format!("{name} is gone"), LIMIT, || self.plugin(name).is_none().then_some(()));
    }

    /// Removes a plugin's file.
    pub fn remove(&self, name: &str) {
        fs::remove_file(self.file(name)).unwrap();
    }

    fn log_text(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    /// The log so far, without a line that is just being written.
    pub fn log(&self) -> Vec<LogLine> {
        log_lines(&self.path("log"))
    }

    /// Waits for a line about a plugin that contains all of these words.
    pub fn wait_log(&self, plugin: &str, words: &[&str]) -> LogLine {
        let is_it = |line: &LogLine| {
            line.plugin == plugin && words.iter().all(|word| line.message.contains(word))
        };
        let started = Instant::now();
        while started.elapsed() < LIMIT {
            if let Some(line) = self.log().into_iter().find(is_it) {
                return line;
            }
            thread::sleep(PAUSE);
        }
        panic!("no log line of {plugin} with {words:?} within {LIMIT:?}\n{}", self.log_text());
    }

    /// What the kernel says about the process.
    pub fn usage(&self) -> Usage {
        let proc = PathBuf::from(format!("/proc/{}", self.pid()));
        let status = fs::read_to_string(proc.join("status")).unwrap();
        let kib = |key: &str| {
            let line = status.lines().find(|line| line.starts_with(key)).unwrap();
            line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap()
        };
        Usage {
            rss_kib: kib("VmRSS:"),
            peak_kib: kib("VmHWM:"),
            fds: fs::read_dir(proc.join("fd")).unwrap().count(),
            maps: fs::read_to_string(proc.join("maps")).unwrap().lines().count(),
        }
    }

    /// The compile workers that live now.
    pub fn workers(&self) -> Vec<u32> {
        children(self.pid())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if self.plant.is_none() || self.child.try_wait().is_ok_and(|ended| ended.is_some()) {
            return;
        }
        self.kill(Signal::SIGTERM);
        let started = Instant::now();
        while started.elapsed() < LIMIT {
            if self.child.try_wait().is_ok_and(|ended| ended.is_some()) {
                return;
            }
            thread::sleep(PAUSE);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The children of a process, by the parent that the kernel names for each.
pub fn children(parent: u32) -> Vec<u32> {
    let mut all = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        // It may have ended since it was listed.
        let Ok(stat) = fs::read_to_string(entry.path().join("stat")) else { continue };
        // The name in parentheses may hold anything; state and parent come after it.
        let after = stat.rsplit(')').next().unwrap_or_default();
        if after.split_whitespace().nth(1) == Some(&parent.to_string()) {
            all.push(pid);
        }
    }
    all
}

/// One line of the log.
#[derive(Debug, Clone)]
pub struct LogLine {
    pub plugin: String,
    pub message: String,
}

pub fn log_lines(path: &Path) -> Vec<LogLine> {
    let text = fs::read_to_string(path).unwrap_or_default();
    let whole = &text[..text.rfind('\n').map_or(0, |end| end + 1)];
    let line = |line: &str| {
        let fields: serde_json::Value = serde_json::from_str(line)
            .unwrap_or_else(|error| panic!("a log line is no JSON: {error}: {line}"));
        let field = |name: &str| fields[name].as_str().unwrap_or_default().to_owned();
        LogLine { plugin: field("plugin"), message: field("message") }
    };
    whole.lines().map(line).collect()
}

/// What the kernel says about a process.
#[derive(Debug, Clone, Copy)]
pub struct Usage {
    pub rss_kib: u64,
    pub peak_kib: u64,
    pub fds: usize,
    pub maps: usize,
}
