//! A daemon in a folder, for benches that measure the whole of it.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use camshaft::control::StatusView;
use camshaft::control::client::Client;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Longest wait for anything; what is measured takes a fraction of a second.
pub const LIMIT: Duration = Duration::from_secs(30);

/// Ended when dropped.
pub struct Daemon {
    child: Child,
    client: Client,
    runtime: tokio::runtime::Runtime,
}

impl Daemon {
    /// Starts it on the folder's `camshaft.toml`, which names `control.sock` there.
    pub fn start(folder: &Path) -> Self {
        let log = fs::File::create(folder.join("log")).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_camshaft"))
            .arg("run")
            .arg(folder.join("camshaft.toml"))
            .stderr(log)
            .stdin(Stdio::null())
            .env("STATE_DIRECTORY", folder.join("state"))
            .spawn()
            .unwrap();
        let client = Client::new(vec![folder.join("control.sock")]);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        Self { child, client, runtime }
    }

    /// Its process.
    #[allow(dead_code, reason = "not each bench looks there")]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Asks for the status until it is as wanted.
    pub fn wait(&self, is_so: impl Fn(&StatusView) -> bool) -> StatusView {
        let started = Instant::now();
        loop {
            match self.runtime.block_on(self.client.status()) {
                Ok(status) if is_so(&status) => return status,
                status => assert!(started.elapsed() < LIMIT, "not within {LIMIT:?}: {status:#?}"),
            }
            sleep(Duration::from_micros(200));
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        kill(Pid::from_raw(self.child.id().cast_signed()), Signal::SIGTERM).unwrap();
        self.child.wait().unwrap();
    }
}

/// Renames a module into the folder of plugins.
pub fn drop_in(folder: &Path, name: &str, module: &[u8]) {
    let half = folder.join("plugins").join(format!(".{name}.tmp"));
    fs::write(&half, module).unwrap();
    fs::rename(half, folder.join("plugins").join(format!("{name}.wasm"))).unwrap();
}
