//! The folder in which a daemon of the tests runs.
//!
//! The folder contains the configuration, the plugin folder, the cache and the state directory. A
//! part of the folder can be a mounted file system of its own. `daemon.rs` starts the daemon. This
//! file contains no tests.

use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};

use camshaft::plugin::ModuleHash;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use tempfile::TempDir;

use super::WITNESS;
use super::share::{Server, Share};
use crate::rig::wat;

/// Only one plant at a time: their figures would spoil each other.
static ALONE: Mutex<()> = Mutex::new(());

/// A folder with everything that a daemon needs.
pub struct Plant {
    /// Unmounted before the folder is removed, and so are these.
    mounts: Vec<Mount>,
    shares: Vec<Server>,
    dir: TempDir,
    _alone: MutexGuard<'static, ()>,
}

/// What differs between plants, as lines of TOML.
#[derive(Clone, Copy, Default)]
pub struct Keys<'a> {
    /// Of `[plugins]`.
    pub plugins: &'a str,
    /// Further tables.
    pub tables: &'a str,
    /// `log.level`; `info` if empty.
    pub level: &'a str,
    /// `plugins.init_budget`; 100 ms if empty.
    pub init_budget: &'a str,
    /// More of `[plugins] restart`, with a comma in front.
    pub restart: &'a str,
}

impl Plant {
    /// A plant with the witness in its plugin folder.
    pub fn new(keys: Keys<'_>) -> Self {
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let dir = tempfile::tempdir().unwrap();
        let plant = Self { mounts: Vec::new(), shares: Vec::new(), dir, _alone: alone };
        fs::create_dir(plant.plugins()).unwrap();
        plant.configure(keys);
        plant.drop_in("witness", &wat(WITNESS));
        plant
    }

    /// Writes the configuration.
    pub fn configure(&self, keys: Keys<'_>) {
        fn or<'a>(key: &'a str, default: &'a str) -> &'a str {
            if key.is_empty() { default } else { key }
        }
        let text = CONFIG
            .replace("@PLUGINS", keys.plugins)
            .replace("@TABLES", keys.tables)
            .replace("@RESTART", keys.restart)
            .replace("@LEVEL", or(keys.level, "info"))
            .replace("@INIT_BUDGET", or(keys.init_budget, "100ms"));
        fs::write(self.path("camshaft.toml"), text).unwrap();
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn plugins(&self) -> PathBuf {
        self.path("plugins")
    }

    pub fn cache(&self) -> PathBuf {
        self.path("cache")
    }

    pub fn state(&self) -> PathBuf {
        self.path("state")
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.plugins().join(format!("{name}.wasm"))
    }

    /// Puts a module into the folder as it should be done: under another name first.
    pub fn drop_in(&self, name: &str, bytes: &[u8]) -> String {
        let half = self.plugins().join(format!(".{name}.tmp"));
        fs::write(&half, bytes).unwrap();
        fs::rename(half, self.file(name)).unwrap();
        format!("{:#}", ModuleHash::of(bytes))
    }

    /// Puts a share in the place of a folder, with what that has. Needs the right to mount.
    pub fn share(&mut self, folder: PathBuf) -> Share {
        self.share_with(folder, "")
    }

    /// The same, but what was read of its files stays in memory: a program that runs from there
    /// finds its code. It is opened there nevertheless.
    pub fn share_cached(&mut self, folder: PathBuf) -> Share {
        self.share_with(folder, ",kernel_cache")
    }

    fn share_with(&mut self, folder: PathBuf, option: &str) -> Share {
        let server = Server::start(folder, option);
        let share = server.share();
        self.shares.push(server);
        share
    }

    /// Mounts an empty file system of this size on a folder. Needs the right to mount.
    pub fn mount(&mut self, folder: PathBuf, size: &str) {
        fs::create_dir_all(&folder).unwrap();
        let options = format!("size={size},mode=0700");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(&folder);
        assert!(mount.status().unwrap().success(), "a tmpfs can be mounted");
        self.mounts.push(Mount(folder));
    }
}

/// A mounted file system.
struct Mount(PathBuf);

impl Drop for Mount {
    fn drop(&mut self) {
        // Lazily: the daemon may still hold it for a moment.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// A file system over a folder that answers nothing, as one in the network does whose server is
/// gone. Dropping it takes it away: whoever waits for it gets an error.
pub struct Hung {
    folder: PathBuf,
    /// The end from which a server would read what is wanted of it (fuse(4)).
    server: Option<File>,
}

impl Hung {
    /// Needs the right to mount.
    pub fn over(folder: PathBuf) -> Self {
        let server = File::options().read(true).write(true).open("/dev/fuse").unwrap();
        let options = format!("fd={},rootmode=40755,user_id=0,group_id=0", server.as_raw_fd());
        let (kind, flags) = (Some("fuse"), MsFlags::empty());
        mount(Some("hung"), &folder, kind, flags, Some(options.as_str())).unwrap();
        Self { folder, server: Some(server) }
    }
}

impl Drop for Hung {
    fn drop(&mut self) {
        drop(self.server.take());
        umount2(&self.folder, MntFlags::MNT_DETACH).unwrap();
    }
}

/// Makes a mounted file system read-only, or writable again.
pub fn remount(folder: &Path, mode: &str) {
    let option = format!("remount,{mode}");
    let status = Command::new("mount").args(["-o", &option]).arg(folder).status().unwrap();
    assert!(status.success(), "remounting {} {mode}", folder.display());
}

/// Three traps lead to quarantine, soon one after the other, so that tests are quick. Where a
/// real-time priority is to be had, other work on the machine disturbs the figures less.
const CONFIG: &str = r#"[scan]
period = "1ms"
priority = 50

[plugins]
dir = "plugins"
cache = "cache"
poll_budget = "250us"
init_budget = "@INIT_BUDGET"
@PLUGINS
restart = { first = "10ms", max = "50ms", traps = 3@RESTART }

[[plugin]]
name = "witness"
poll_budget = "700us"
outputs = ["witness.polls", "witness.cycle", "witness.gaps", "witness.broken", "witness.marks", "witness.stale"]

[[device]]
name = "plant"
driver = "sim"
point = [
  { name = "evil.input", direction = "in", type = "u32", address = 0 },
  { name = "witness.polls", direction = "out", type = "u32", address = 0, safe = 0 },
  { name = "witness.cycle", direction = "out", type = "u32", address = 4, safe = 0 },
  { name = "witness.gaps", direction = "out", type = "u32", address = 8, safe = 0 },
  { name = "witness.broken", direction = "out", type = "u32", address = 12, safe = 0 },
  { name = "witness.marks", direction = "out", type = "u32", address = 16, safe = 0 },
  { name = "witness.stale", direction = "out", type = "u32", address = 20, safe = 0 },
  { name = "evil.mark", direction = "out", type = "u32", address = 24, safe = 7 },
  { name = "evil.cycle", direction = "out", type = "u32", address = 28, safe = 0 },
]

@TABLES
[control]
socket = "control.sock"

[log]
level = "@LEVEL"
format = "json"
"#;
