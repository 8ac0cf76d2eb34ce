//! A folder on a FUSE file system that can be made to hang.
//!
//! While the server of the file system is stopped, every call on a file in this folder waits. The
//! tests in the folder `hang` put files of the daemon there. This file contains no tests.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{LIMIT, wait};

/// The server of such a folder. Dropping it unmounts the folder.
pub struct Server {
    child: Child,
    folder: PathBuf,
}

/// What makes it hang.
#[derive(Clone, Copy)]
pub struct Share(Pid);

impl Server {
    /// In the place of `folder`, with what that has, and with this option of FUSE. Needs the right
    /// to mount.
    pub fn start(folder: PathBuf, option: &str) -> Self {
        fs::create_dir_all(&folder).unwrap();
        let device = || fs::metadata(&folder).map(|it| it.dev());
        let before = device().unwrap();
        let mut bindfs = Command::new("bindfs");
        bindfs.args(["-f", "-o", &format!("nonempty{option}")]).args([&folder, &folder]);
        let child = bindfs.stdin(Stdio::null()).spawn().unwrap();
        wait("the share is mounted", LIMIT, || (device().ok()? != before).then_some(()));
        Self { child, folder }
    }

    pub fn share(&self) -> Share {
        Share(Pid::from_raw(self.child.id().cast_signed()))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.share().answer();
        let _ = Command::new("umount").arg("-l").arg(&self.folder).status();
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Share {
    /// No answer from now on.
    pub fn hang(self) {
        kill(self.0, Signal::SIGSTOP).unwrap();
        let stat = format!("/proc/{}/stat", self.0);
        let is_stopped = || fs::read_to_string(&stat).unwrap().contains(") T ");
        wait("the server is stopped", LIMIT, || is_stopped().then_some(()));
    }

    /// It answers again.
    pub fn answer(self) {
        kill(self.0, Signal::SIGCONT).unwrap();
    }
}
