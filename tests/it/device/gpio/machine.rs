//! A machine that has gpio-sim: this one, or a Linux as a user's process that sees the same files.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

/// From the start of that Linux to the end of the tests there; they take some ten seconds.
const LIMIT: Duration = Duration::from_secs(180);

/// Whether this kernel has gpio-sim, and we may use it.
pub fn has_gpio_sim() -> bool {
    let is_root = nix::unistd::geteuid().is_root();
    // Loading it mounts configfs, too, where systemd runs. Without a modprobe it is not to be had.
    let _ = is_root.then(|| Command::new("modprobe").arg("gpio-sim").output());
    is_root && Path::new("/sys/kernel/config/gpio-sim").is_dir()
}

/// Ended when dropped.
struct Guest(Child);

impl Drop for Guest {
    fn drop(&mut self) {
        // Its own processes are processes here, too, in its group. What is left of them would keep
        // our pipe open for ever.
        let group = nix::unistd::Pid::from_raw(self.0.id() as i32);
        // Both fail only if it is over already.
        let _ = nix::sys::signal::killpg(group, nix::sys::signal::Signal::SIGKILL);
        let _ = self.0.wait();
    }
}

/// Runs one test of this binary in a Linux that has gpio-sim; prints what that prints.
pub fn run_in_guest(test: &str) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let linux = crate::toolchain::peer("linux/linux");
    assert!(linux.is_file(), "no {}: tests/run builds it", linux.display());
    let this = std::env::current_exe().unwrap();
    let init = root.join("tests/it/device/gpio/init.sh");
    let home = tempfile::tempdir().unwrap();
    let child = Command::new(&linux)
        // It puts a folder there, and falls over where there is no such variable.
        .env("HOME", home.path())
        .args(["mem=1G", "root=none", "rootfstype=hostfs", "rootflags=/", "ro", "quiet"])
        // A kernel that panics ends.
        .args(["con=null", "con0=fd:0,fd:1", "panic=-1"])
        // Its words end at spaces, and paths may have some.
        .arg(format!("init=\"{}\"", init.display()))
        // What the kernel does not know becomes an environment variable of init.
        .args([format!("TESTS=\"{}\"", this.display()), format!("TEST={test}")])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .unwrap();
    let mut guest = Guest(child);
    let output = BufReader::new(guest.0.stdout.take().unwrap());
    let (lines, heard) = mpsc::channel();
    let reader = std::thread::spawn(move || {
        // The end of the guest ends this.
        output.lines().map_while(Result::ok).try_for_each(|line| lines.send(line))
    });
    let verdict = loop {
        match heard.recv_timeout(LIMIT) {
            Ok(line) => match line.trim().strip_prefix("verdict: ") {
                Some(verdict) => break verdict.to_owned(),
                None => println!("| {}", line.trim_end()),
            },
            Err(RecvTimeoutError::Timeout) => panic!("the guest says nothing for {LIMIT:?}"),
            Err(RecvTimeoutError::Disconnected) => panic!("the guest ended without a verdict"),
        }
    };
    drop(guest);
    drop(heard);
    let _ = reader.join();
    assert_eq!(verdict, "0", "{test} fails in the guest");
}

/// What kernel this is.
pub fn kernel() -> String {
    fs::read_to_string("/proc/sys/kernel/osrelease").unwrap().trim().to_owned()
}
