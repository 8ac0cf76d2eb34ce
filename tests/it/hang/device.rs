//! Tests of a device whose configuration names a file that gives no answer, or a pipe.
//!
//! A start and a reload must not wait for this file, and the next reload must work. The tests with
//! a hanging file use `daemon/share.rs`.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Child;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use super::end::{ends_in_time, was_orderly};
use super::{END, plant};
use crate::daemon::{Daemon, LIMIT, Plant, launch, wait};
use crate::rig::block_on;

/// What a script has.
const ROWS: &str = "time_s,played.level\n0,1\n1,2\n";

/// Another device, which follows a script.
fn player(script: &Path) -> String {
    format!(
        "[[device]]\nname = \"player\"\ndriver = \"sim\"\nscript = {{ file = {script:?} }}\n\
         point = [{{ name = \"played.level\", direction = \"in\", type = \"u8\", address = 50 }}]\n"
    )
}

/// Another device, which needs a password.
fn broker(password: &Path) -> String {
    format!(
        "[[device]]\nname = \"broker\"\ndriver = \"mqtt\"\nconnect = \"mqtt://127.0.0.1:1\"\n\
         client_id = \"camshaft\"\nusername = \"camshaft\"\npassword_file = {password:?}\n"
    )
}

/// Adds a device to the configuration; gives what that was before.
fn add(plant: &Plant, device: &str) -> String {
    let path = plant.path("camshaft.toml");
    let before = fs::read_to_string(&path).unwrap();
    fs::write(path, before.replace("[control]\n", &format!("{device}\n[control]\n"))).unwrap();
    before
}

/// A reload is refused for this reason, and in time: the daemon asks for its file on its own as
/// well, which is waited for.
#[track_caller]
fn is_refused(daemon: &Daemon, words: [&str; 2]) {
    let asked = Instant::now();
    let error = block_on(daemon.client.reload()).unwrap_err().to_string();
    assert!(words.iter().all(|word| error.contains(word)), "{error}");
    assert!(asked.elapsed() < Duration::from_secs(25), "{:?}", asked.elapsed());
    let cycle = daemon.status().cycle;
    wait("the scan goes on", LIMIT, || (daemon.status().cycle > cycle + 100).then_some(()));
}

/// The next start is refused for this reason, in time and without a word of anything else.
fn start_is_refused(plant: &Plant, words: [&str; 2], code: i32) {
    let mut child = Killed(launch(plant, &plant.path("second"), &[], &[]));
    let status = wait("the start is refused", 2 * END, || child.0.try_wait().unwrap());
    assert_eq!(status.code(), Some(code));
    let text = fs::read_to_string(plant.path("second")).unwrap();
    assert!(words.iter().all(|word| text.contains(word)), "{text}");
}

/// Killed at the end of a test that fails.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn pipe(plant: &Plant) -> std::path::PathBuf {
    let path = plant.path("pipe");
    mkfifo(&path, Mode::S_IRWXU).unwrap();
    path
}

#[test]
fn a_pipe_in_the_place_of_a_devices_file_makes_nobody_wait() {
    for (key, device) in [("player", player as fn(&Path) -> String), ("password_file", broker)] {
        let daemon = Daemon::on(plant());
        let before = add(&daemon, &device(&pipe(&daemon)));
        is_refused(&daemon, [key, "it is a pipe"]);
        // It was read no more after that.
        fs::write(daemon.path("camshaft.toml"), before).unwrap();
        block_on(daemon.client.reload()).unwrap();
        add(&daemon, &device(&daemon.path("pipe")));
        let plant = daemon.slay();
        start_is_refused(&plant, [key, "it is a pipe"], 78);
    }
}

/// The check had all that was ever written into it; then the loop itself opened it once more, and
/// waited for another writer.
#[test]
fn a_pipe_with_one_writer_makes_nobody_wait() {
    let daemon = Daemon::on(plant());
    let path = pipe(&daemon);
    let place = path.clone();
    // It writes once somebody reads.
    let writer = thread::spawn(move || {
        let _ = fs::File::options().write(true).open(place).unwrap().write_all(ROWS.as_bytes());
    });
    add(&daemon, &player(&path));
    is_refused(&daemon, ["player", "it is a pipe"]);
    let end = fs::File::options().read(true).write(true).open(&path).unwrap();
    writer.join().unwrap();
    drop(end);
    ends_in_time(daemon, &[]);
}

#[test]
#[ignore = "needs root: it mounts"]
fn a_file_of_a_device_that_gives_no_answer_stops_nothing() {
    let mut plant = plant();
    let folder = plant.path("recordings");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("script.csv"), ROWS).unwrap();
    let share = plant.share(folder.clone());
    let daemon = Daemon::on(plant);
    share.hang();
    let before = add(&daemon, &player(&folder.join("script.csv")));
    is_refused(&daemon, ["script.csv", "no answer for 5s"]);
    let refused = daemon.status().config_refused.expect("the status says it");
    assert!(refused.contains("script.file"), "{refused}");
    fs::write(daemon.path("camshaft.toml"), &before).unwrap();
    block_on(daemon.client.reload()).unwrap();
    assert_eq!(daemon.status().config_refused, None);
    // A share that is sound again is believed.
    share.answer();
    add(&daemon, &player(&folder.join("script.csv")));
    block_on(daemon.client.reload()).unwrap();
    wait("it plays", LIMIT, || {
        let points = block_on(daemon.client.points()).unwrap();
        points.iter().any(|point| point.name == "played.level").then_some(())
    });
    share.hang();
    let plant = ends_in_time(daemon, &[share]);
    share.hang();
    // systemd tries again: the disk may have been asleep.
    start_is_refused(&plant, ["script.csv", "no answer for 5s"], 1);
    share.answer();
    was_orderly(plant);
}

/// After some reloads every configuration was refused, also one whose files lay on a sound disk;
/// and what was refused stayed so when its file answered.
#[test]
#[ignore = "needs root: it mounts"]
fn a_file_of_a_device_that_gives_no_answer_keeps_no_other_out() {
    let mut plant = plant();
    let folder = plant.path("recordings");
    fs::create_dir(&folder).unwrap();
    for script in [folder.join("script.csv"), plant.path("sound.csv")] {
        fs::write(script, ROWS).unwrap();
    }
    let share = plant.share(folder.clone());
    let daemon = Daemon::on(plant);
    share.hang();
    let before = add(&daemon, &player(&folder.join("script.csv")));
    wait("the answer is known beforehand", 2 * LIMIT, || {
        let error = block_on(daemon.client.reload()).unwrap_err().to_string();
        assert!(error.contains("script.csv"), "{error}");
        error.contains("4 earlier calls still wait for an answer").then_some(())
    });
    fs::write(daemon.path("camshaft.toml"), &before).unwrap();
    add(&daemon, &player(&daemon.path("sound.csv")));
    block_on(daemon.client.diff()).unwrap();
    block_on(daemon.client.reload()).unwrap();
    assert_eq!(daemon.status().config_refused, None);

    fs::write(daemon.path("camshaft.toml"), &before).unwrap();
    add(&daemon, &player(&folder.join("script.csv")));
    let is_refused = || daemon.status().config_refused;
    wait("it is refused", LIMIT, is_refused);
    share.answer();
    wait("it is taken", LIMIT, || is_refused().is_none().then_some(()));
}
