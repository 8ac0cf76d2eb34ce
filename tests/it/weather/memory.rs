//! Test of a system that is short of memory and removes the pages of the daemon's code from RAM.
//!
//! The pages must then be read from the disk again, during a poll too. This wait is no fault of a
//! program, so no program may be stopped for it. The test needs the rights of root.

use std::fs::{self, File};
use std::process::Command;

use super::version;
use crate::daemon::{Daemon, Keys, unharmed};

/// Forty times a tenth of a second apart: all that the process of this number has from files is
/// thrown out of memory, as a system does that is short of it, with `process_madvise` (440) and
/// `MADV_PAGEOUT` (21).
const PAGE_OUT: &str = r#"
import ctypes, os, struct, sys, time
libc = ctypes.CDLL(None, use_errno=True)
pid = int(sys.argv[1])
process = os.pidfd_open(pid)
maps = [line.split() for line in open(f"/proc/{pid}/maps")]
spans = [[int(end, 16) for end in row[0].split("-")] for row in maps if row[-1].startswith("/")]
for _ in range(40):
    for start, end in spans:
        span = struct.pack("PN", start, end - start)
        if libc.syscall(440, process, span, 1, 21, 0) < 0:
            sys.exit(os.strerror(ctypes.get_errno()))
    time.sleep(0.1)
"#;

#[test]
#[ignore = "needs python3, and the rights of root"]
fn code_that_was_thrown_out_is_no_fault_of_the_programs() {
    let daemon = Daemon::start(Keys::default());
    let hash = daemon.drop_in("version", &version(1));
    daemon.wait_running("version", &hash);
    // A page that is not on the disk yet stays.
    File::open(env!("CARGO_BIN_EXE_camshaft")).unwrap().sync_all().unwrap();
    let before = page_faults(&daemon);
    let pid = daemon.pid().to_string();
    let status = Command::new("python3").args(["-c", PAGE_OUT, &pid]).status().unwrap();
    assert!(status.success(), "nothing was thrown out: {status}");
    let faults = page_faults(&daemon) - before;
    // On a file system that lies in memory none does, and then this is no weather.
    println!("{faults} pages came back from the disk");
    // Cycles were missed for want of a CPU that has something to run; no program is to blame.
    unharmed(&daemon);
    let view = daemon.plugin("version").expect("it runs");
    assert_eq!((view.traps, view.reason), (0, None));
}

/// How often it had to wait for a page from the disk, as proc_pid_stat(5) says.
fn page_faults(daemon: &Daemon) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{}/stat", daemon.pid())).unwrap();
    stat.split(' ').nth(11).unwrap().parse().unwrap()
}
