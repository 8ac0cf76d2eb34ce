//! Tests of the messages to systemd, and of the unit file of the service.
//!
//! The tests read what arrives at a real notification socket, and run the tools of systemd that
//! check a unit file. They do not start a systemd manager. The comments of the unit file explain
//! why its sandbox lets the daemon work. A test here compares the sandbox with systemd's list of
//! system calls.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::process::{Command, Output};
use std::time::Duration;

use camshaft::systemd::{Notifier, Watchdog};
use nix::sys::signal::Signal;

use crate::daemon::{Daemon, Keys, Plant};
use crate::rig::wat;

const UNIT: &str = include_str!("../../systemd/camshaft.service");
const DEVICES: &str = include_str!("../../systemd/devices.conf");

/// The manager's end of a notification socket.
struct Manager {
    socket: UnixDatagram,
    address: String,
    _dir: tempfile::TempDir,
}

impl Manager {
    fn at_a_path() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        Self::listen(socket, path.to_str().unwrap().to_owned(), dir)
    }

    fn at_an_abstract_name() -> Self {
        let dir = tempfile::tempdir().unwrap();
        // The folder's random name serves as one that no other test has.
        let name = format!("camshaft-test{}", dir.path().display());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        Self::listen(UnixDatagram::bind_addr(&address).unwrap(), format!("@{name}"), dir)
    }

    fn listen(socket: UnixDatagram, address: String, dir: tempfile::TempDir) -> Self {
        // A datagram is there as soon as it is sent, so nobody has to wait for one.
        socket.set_nonblocking(true).unwrap();
        Self { socket, address, _dir: dir }
    }

    fn notifier(&self) -> Notifier {
        Notifier::to(OsStr::new(&self.address)).unwrap()
    }

    /// Everything that has come since the last call.
    fn received(&self) -> Vec<String> {
        let mut buffer = [0; 4096];
        let next = || match self.socket.recv(&mut buffer) {
            Ok(length) => Some(String::from_utf8(buffer[..length].to_vec()).unwrap()),
            Err(error) => {
                assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
                None
            }
        };
        std::iter::from_fn(next).collect()
    }
}

#[test]
fn a_life_is_told_in_these_datagrams() {
    for manager in [Manager::at_a_path(), Manager::at_an_abstract_name()] {
        let mut notifier = manager.notifier();
        notifier.ready("2 programs run");
        notifier.status("2 programs run");
        notifier.status("1 program runs");
        notifier.status("1 program runs");
        notifier.stopping("outputs become safe");
        let expected = [
            "READY=1\nSTATUS=2 programs run",
            "STATUS=1 program runs",
            "STOPPING=1\nSTATUS=outputs become safe",
        ];
        assert_eq!(manager.received(), expected, "{}", manager.address);
    }
}

#[test]
fn a_reload_carries_its_time_in_the_same_datagram_and_ends_ready() {
    let manager = Manager::at_a_path();
    let mut notifier = manager.notifier();
    let before = monotonic_us();
    notifier.reloading();
    let after = monotonic_us();
    notifier.ready("reload refused: scan.period cannot change live");

    let [reloading, ready] = manager.received().try_into().unwrap();
    let time_us = reloading.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap();
    let time_us: u128 = time_us.parse().unwrap();
    assert!((before..=after).contains(&time_us), "{before} <= {time_us} <= {after}");
    assert_eq!(ready, "READY=1\nSTATUS=reload refused: scan.period cannot change live");
}

fn monotonic_us() -> u128 {
    let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC).unwrap();
    Duration::from(now).as_micros()
}

#[test]
fn the_watchdog_hears_only_of_a_scan_that_moved() {
    let manager = Manager::at_a_path();
    let mut notifier = manager.notifier();
    let mut watchdog = Watchdog::from_values(Some("5000000"), None, 1).unwrap();
    let mut check = |cycle, expected: &[&str]| {
        watchdog.feed(cycle, &mut notifier);
        assert_eq!(manager.received(), expected, "cycle {cycle}");
    };
    check(0, &[]);
    check(250, &["WATCHDOG=1"]);
    check(250, &[]);
    check(250, &[]);
    check(251, &["WATCHDOG=1"]);
}

#[test]
fn a_manager_that_does_not_read_blocks_nobody_and_misses_no_change_of_state() {
    let manager = Manager::at_a_path();
    let mut notifier = manager.notifier();
    let mut watchdog = Watchdog::from_values(Some("5000000"), None, 1).unwrap();
    let mut cycle = 0;
    // The kernel's queue is short (net.unix.max_dgram_qlen, 10 to 512): fill it until it refuses.
    loop {
        cycle += 1;
        if !watchdog.feed(cycle, &mut notifier) {
            break;
        }
        assert!(cycle < 1_000_000, "the queue never fills");
    }
    notifier.ready("first");
    for n in 0..100 {
        notifier.status(&format!("status {n}"));
    }
    notifier.stopping("last");
    assert!(!watchdog.feed(cycle + 1, &mut notifier), "a feed must not wait in a queue");

    manager.received();
    notifier.status("last");
    assert_eq!(manager.received(), ["READY=1\nSTATUS=first", "STOPPING=1\nSTATUS=last"]);
}

#[test]
fn a_manager_that_is_away_is_told_when_it_comes_back() {
    let mut manager = Manager::at_a_path();
    let mut notifier = manager.notifier();
    std::fs::remove_file(&manager.address).unwrap();
    notifier.ready("runs");
    manager.socket = UnixDatagram::bind(&manager.address).unwrap();
    manager.socket.set_nonblocking(true).unwrap();
    notifier.status("runs");
    assert_eq!(manager.received(), ["READY=1\nSTATUS=runs"]);
}

/// The unit in a folder, alone or with the drop-in for devices. What is there only after
/// installation is named by where it is now.
fn installed(with_devices: bool) -> (tempfile::TempDir, String) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("camshaft.service");
    // The clone may lie below a path with a space, where a unit would see the end of a word.
    let program = dir.path().join("camshaft");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_camshaft"), &program).unwrap();
    let unit = UNIT.replace("=/usr/bin/camshaft ", &format!("={} ", program.display()));
    assert_ne!(unit, UNIT);
    // The tools read drop-ins from the manager's folders only: what a drop-in says comes last, so it
    // can stand at the end as well.
    let (body, install) = unit.split_once("[Install]").unwrap();
    let devices = if with_devices { DEVICES } else { "" };
    std::fs::write(&path, format!("{body}{devices}\n[Install]{install}")).unwrap();
    (dir, path.to_str().unwrap().to_owned())
}

#[test]
#[ignore = "needs systemd-analyze"]
fn the_unit_is_without_errors_and_warnings() {
    for with_devices in [false, true] {
        let (_dir, path) = installed(with_devices);
        let output = systemd_analyze(&["verify", "--recursive-errors=no", &path]);
        // An unknown key is only a warning to systemd, with exit code 0.
        let complaints = String::from_utf8(output.stderr).unwrap();
        let ours: Vec<_> = complaints.lines().filter(|line| line.contains("camshaft")).collect();
        assert!(output.status.success() && ours.is_empty(), "{complaints}");
    }
}

#[test]
#[ignore = "needs systemd-analyze"]
fn the_sandbox_is_rated_tight() {
    for with_devices in [false, true] {
        let (_dir, path) = installed(with_devices);
        let output = systemd_analyze(&["security", "--offline=true", "--no-pager", &path]);
        let report = String::from_utf8(output.stdout).unwrap();
        let (_, rating) = report.split_once("exposure level for camshaft.service: ").unwrap();
        let rating: f64 = rating.split_whitespace().next().unwrap().parse().unwrap();
        println!("exposure with_devices={with_devices}: {rating}");
        assert!(rating <= 1.5, "{report}");
    }
}

#[test]
#[ignore = "needs systemd-analyze"]
fn the_system_call_filter_lets_the_daemon_and_its_compile_child_work() {
    let allowed = allowed();
    let check = |calls: &str, expected| {
        for call in calls.split_whitespace() {
            assert_eq!(allowed.contains(call), expected, "{call}");
        }
    };
    check("sched_setscheduler sched_setattr sched_setaffinity mlockall", true); // the scan thread
    check("clone3 vfork execve pipe2 wait4 waitid pidfd_open kill", true); // starting the child
    check("setpriority prlimit64 setrlimit ioprio_set", true); // what the child does to itself
    check("mmap mprotect munmap madvise sigaltstack rt_sigaction membarrier", true); // wasmer
    check("inotify_add_watch renameat2 fsync epoll_wait memfd_create sendmsg", true); // the rest
    check("landlock_create_ruleset landlock_add_rule landlock_restrict_self", true); // it, too
    check("seccomp prctl", true); // it, too
    check("tgkill rt_tgsigqueueinfo", true); // the timekeeper's questions
    check("chown fchownat setuid ptrace mount bpf io_uring_setup init_module add_key", false);
    check("unshare setns mknod personality userfaultfd keyctl kcmp process_vm_writev", false);
}

/// What the unit's filter lets through.
fn allowed() -> BTreeSet<String> {
    let mut allowed = BTreeSet::new();
    for filter in UNIT.lines().filter_map(|line| line.strip_prefix("SystemCallFilter=")) {
        match filter.strip_prefix('~') {
            Some(refused) => allowed = &allowed - &system_calls(refused),
            None => allowed.extend(system_calls(filter)),
        }
    }
    // systemd allows these whatever the unit says.
    allowed.extend(system_calls("@default"));
    allowed
}

/// The calls of a whole life: plugins that run, trap and run away, a swap, a reload, a stop.
#[test]
#[ignore = "needs systemd-analyze and strace"]
fn every_system_call_of_a_life_passes_the_filter() {
    let manager = Manager::at_a_path();
    let plant = Plant::new(Keys::default());
    let trace = plant.path("trace");
    let environment = [("NOTIFY_SOCKET", manager.address.as_str()), ("WATCHDOG_USEC", "1000000")];
    let daemon = Daemon::traced(plant, &trace, &environment);
    daemon.wait_for("witness", "running", |view| view.polls > 0);
    for (name, poll) in [("traps", "unreachable"), ("runs_away", "(loop (br 0))")] {
        daemon.drop_in(name, &wat(&format!(r#"(module (func (export "poll") {poll}))"#)));
        daemon.wait_for(name, "a trap", |view| view.traps > 0);
    }
    for text in ["nop", "(drop (i32.const 1))"] {
        let module = wat(&format!(r#"(module (func (export "poll") {text}))"#));
        let hash = daemon.drop_in("swapped", &module);
        daemon.wait_running("swapped", &hash);
    }
    daemon.configure(Keys { level: "debug", ..Keys::default() });
    daemon.kill(Signal::SIGHUP);
    daemon.remove("swapped");
    daemon.wait_gone("swapped");
    let (status, _, _plant) = daemon.stop();
    assert!(status.success(), "{status}");

    let text = std::fs::read_to_string(&trace).unwrap();
    // "123 close(4) = 0"; a call that another cut in two has its name in its first half.
    let name = |line: &str| Some(line.split_whitespace().nth(1)?.split_once('(')?.0.to_owned());
    let used: BTreeSet<_> = text.lines().filter_map(name).collect();
    println!("{} system calls", used.len());
    assert!(used.len() > 50 && used.contains("execve"), "{used:?}");
    let refused = &used - &allowed();
    assert!(refused.is_empty(), "the unit would refuse {refused:?}");
}

/// The system calls in a list of names and @sets, as this machine's systemd resolves them.
fn system_calls(list: &str) -> BTreeSet<String> {
    let mut calls = BTreeSet::new();
    for word in list.split_whitespace() {
        if word.starts_with('@') {
            let output = systemd_analyze(&["syscall-filter", "--no-pager", word]);
            let text = String::from_utf8(output.stdout).unwrap();
            let members = text.lines().skip(1).filter(|line| !line.trim().starts_with('#'));
            calls.extend(members.flat_map(system_calls));
        } else {
            calls.insert(word.to_owned());
        }
    }
    calls
}

fn systemd_analyze(arguments: &[&str]) -> Output {
    Command::new("systemd-analyze").args(arguments).output().expect("systemd-analyze is installed")
}
