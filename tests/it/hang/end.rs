//! Tests of the end of a daemon while a file gives no answer.
//!
//! After SIGTERM the daemon first makes its outputs safe. It must then end within its time limits,
//! and the next start must see an orderly end.

use std::fs;
use std::os::unix::fs::symlink;
use std::time::Instant;

use nix::sys::signal::Signal;

use super::{END, plant};
use crate::daemon::{Daemon, LIMIT, Plant, Share, wait};

/// Whether nothing of a process runs any more. A thread of it that waits in the kernel for an
/// answer keeps it in the table of processes until there is one.
pub fn is_over(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| stat.contains(") Z "))
}

/// Ends the daemon by SIGTERM, in time.
pub fn ends_in_time(daemon: Daemon, shares: &[Share]) -> Plant {
    daemon.kill(Signal::SIGTERM);
    let started = Instant::now();
    wait("it has ended", LIMIT, || is_over(daemon.pid()).then_some(()));
    let time = started.elapsed();
    shares.iter().for_each(|share| share.answer());
    let (status, _, plant) = daemon.stop();
    assert!(status.success() && time < END, "{status} after {time:?}");
    plant
}

/// The next start finds that the end was an orderly one.
pub fn was_orderly(plant: Plant) {
    let daemon = Daemon::on(plant);
    let blames = daemon.log().into_iter().find(|line| line.message.contains("end was abnormal"));
    assert!(blames.is_none(), "{blames:?}");
}

/// The device's thread read the file for each connection, and the scan's thread waited for it.
#[test]
#[ignore = "needs root: it mounts"]
fn an_end_is_orderly_though_a_password_gives_no_answer() {
    let mut plant = plant();
    let folder = plant.path("secrets");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("password"), "secret\n").unwrap();
    let share = plant.share(folder.clone());
    let path = plant.path("camshaft.toml");
    // Nobody listens there, so that it tries again and again.
    let broker = format!(
        "[[device]]\nname = \"broker\"\ndriver = \"mqtt\"\nconnect = \"mqtt://127.0.0.1:1\"\n\
         client_id = \"camshaft\"\nusername = \"camshaft\"\npassword_file = {:?}\n\n[control]\n",
        folder.join("password")
    );
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replace("[control]\n", &broker)).unwrap();
    let daemon = Daemon::on(plant);
    share.hang();
    wait("the next connection waits for it", LIMIT, || {
        let is_said = |line: &crate::daemon::LogLine| {
            line.message.contains("password_file") && line.message.contains("no answer for 5s")
        };
        daemon.log().iter().any(is_said).then_some(())
    });
    was_orderly(ends_in_time(daemon, &[share]));
}

/// The server removes its socket at its end, and the process waited for that.
#[test]
#[ignore = "needs root: it mounts"]
fn an_end_is_orderly_though_the_folder_of_the_socket_gives_no_answer() {
    let mut plant = plant();
    let folder = plant.path("run");
    let share = plant.share(folder.clone());
    let path = plant.path("camshaft.toml");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replace("\"control.sock\"", "\"run/control.sock\"")).unwrap();
    symlink(folder.join("control.sock"), plant.path("control.sock")).unwrap();
    let daemon = Daemon::on(plant);
    share.hang();
    was_orderly(ends_in_time(daemon, &[share]));
}
