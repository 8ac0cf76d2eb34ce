//! Tests of files of the daemon on a file system that gives no answer, and of pipes in place of
//! files.
//!
//! Each test uses one place where the daemon has files, for example the configuration, the cache or
//! the state directory. The last of the tests with a hanging file system uses all places at once.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use super::end::is_over;
use super::{END, Watched, plant};
use crate::daemon::fan::{fan_is, writes};
use crate::daemon::{Daemon, LIMIT, LogLine, Plant, launch, wait};
use crate::rig::block_on;

/// Moves the configuration into a folder of its own.
pub fn config_in_a_folder(plant: &Plant) -> PathBuf {
    let (folder, path) = (plant.path("conf"), plant.path("camshaft.toml"));
    fs::create_dir(&folder).unwrap();
    fs::rename(&path, folder.join("camshaft.toml")).unwrap();
    symlink(folder.join("camshaft.toml"), path).unwrap();
    folder
}

#[test]
#[ignore = "needs root: it mounts"]
fn a_configuration_that_gives_no_answer_stops_nothing() {
    let mut plant = plant();
    let share = plant.share(config_in_a_folder(&plant));
    let daemon = Watched::on(plant);
    share.hang();
    daemon.kill(Signal::SIGHUP);
    wait("a reload is under way", LIMIT, || {
        let error = block_on(daemon.client.diff()).unwrap_err().to_string();
        error.contains("another reload is under way").then_some(())
    });
    let asked = Instant::now();
    let error = block_on(daemon.client.reload()).unwrap_err().to_string();
    assert!(error.contains("camshaft.toml") && error.contains("no answer for 5s"), "{error}");
    // That of the signal is waited for first.
    assert!(asked.elapsed() < Duration::from_secs(15), "{:?}", asked.elapsed());
    let refused = daemon.status().config_refused.expect("the status says it");
    assert!(refused.contains("no answer"), "{refused}");
    daemon.goes_on(&[share]);
}

#[test]
#[ignore = "needs root: it mounts"]
fn a_check_waits_no_longer_for_the_plugins() {
    let mut plant = plant();
    let share = plant.share(plant.plugins());
    share.hang();
    let found = fs::File::create(plant.path("found")).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_camshaft"));
    let mut child = command.arg("check").arg(plant.path("camshaft.toml")).stdout(found).spawn();
    let says = || fs::read_to_string(plant.path("found")).unwrap().contains("no answer for 5s");
    wait("it says so", LIMIT, || says().then_some(()));
    share.answer();
    assert!(child.as_mut().unwrap().wait().unwrap().success(), "only a note");
}

/// It stayed refused for as long as nobody wrote it anew.
#[test]
#[ignore = "needs root: it mounts"]
fn a_configuration_that_answers_again_is_refused_no_longer() {
    let mut plant = plant();
    let share = plant.share(config_in_a_folder(&plant));
    let daemon = Daemon::on(plant);
    share.hang();
    daemon.kill(Signal::SIGHUP);
    let is_refused = || daemon.status().config_refused;
    wait("it is refused", LIMIT, is_refused);
    share.answer();
    wait("it is taken", LIMIT, || is_refused().is_none().then_some(()));
    let said = daemon.log().into_iter().filter(|line| line.message.contains("stays as it was"));
    assert_eq!(said.count(), 1, "said once");
}

/// It hung for ever without a word, and SIGTERM was not heard.
#[test]
#[ignore = "needs root: it mounts"]
fn a_start_waits_no_longer_for_the_folder_of_the_socket() {
    let mut plant = plant();
    let share = plant.share(plant.path("run"));
    let path = plant.path("camshaft.toml");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replace("\"control.sock\"", "\"run/control.sock\"")).unwrap();
    share.hang();
    let mut child = launch(&plant, &plant.path("log"), &[], &[]);
    wait("the start is refused", 2 * END, || is_over(child.id()).then_some(()));
    share.answer();
    assert_eq!(child.wait().unwrap().code(), Some(1));
    let text = fs::read_to_string(plant.path("log")).unwrap();
    assert!(text.contains("run/control.sock") && text.contains("no answer for 5s"), "{text}");
}

#[test]
#[ignore = "needs root: it mounts"]
fn a_state_directory_that_gives_no_answer_stops_nothing() {
    let mut plant = plant();
    let share = plant.share(plant.state());
    let daemon = Watched::on(plant);
    share.hang();
    daemon.goes_on(&[share]);
}

#[test]
#[ignore = "needs root: it mounts"]
fn a_start_waits_no_longer_for_a_state_directory() {
    let mut plant = plant();
    let share = plant.share(plant.state());
    share.hang();
    let daemon = Watched::on(plant);
    let is_said = |line: &LogLine| {
        line.message.contains("state.dir") && line.message.contains("no answer for 5s")
    };
    assert!(daemon.log().iter().any(is_said));
    daemon.goes_on(&[share]);
}

#[test]
#[ignore = "needs root: it mounts"]
fn a_cache_that_gives_no_answer_stops_nothing() {
    let mut plant = plant();
    let share = plant.share(plant.cache());
    let daemon = Watched::on(plant);
    let swap = |number| {
        daemon.drop_in("fan", &writes(number));
        wait("the fan is as wanted", LIMIT, || fan_is(&daemon, &number.to_string()).then_some(()));
    };
    let said = |words: &str| {
        let is_it = |line: &&LogLine| line.message.contains("plugins.cache: ");
        daemon.log().iter().filter(is_it).filter(|line| line.message.contains(words)).count()
    };
    assert!(daemon.status().cache.is_some());
    share.hang();
    // Each of them cost a second more, and nothing said so.
    [11, 12, 13].into_iter().for_each(swap);
    assert_eq!((said("does not answer (no answer for 1s)"), said("answers again")), (1, 0));
    assert!(daemon.status().cache_is_late);
    share.answer();
    // Nobody asks it anew: the calls that hung have their answer.
    wait("it is over", LIMIT, || (said("answers again") == 1).then_some(()));
    assert!(!daemon.status().cache_is_late && said("does not answer") == 1);
    swap(14);
    share.hang();
    daemon.goes_on(&[share]);
}

/// A folder that gives no answer is a lost one; more of it is in `weather/folder.rs`.
fn is_lost(daemon: &Daemon) {
    wait("status says it", LIMIT, || {
        daemon.status().folder_trouble.filter(|why| why.contains("does not answer"))
    });
    let error = block_on(daemon.client.deploy("fan", writes(7).into())).unwrap_err().to_string();
    assert!(error.contains("does not answer"), "{error}");
}

#[test]
#[ignore = "needs root: it mounts"]
fn a_plugin_folder_that_gives_no_answer_stops_nothing() {
    let mut plant = plant();
    let share = plant.share(plant.plugins());
    let daemon = Watched::on(plant);
    share.hang();
    is_lost(&daemon);
    daemon.goes_on_as_it_is("5", &[share]);
}

#[test]
#[ignore = "needs root: it mounts"]
fn an_end_is_orderly_though_the_plugin_folder_gives_no_answer() {
    let mut plant = plant();
    let share = plant.share(plant.plugins());
    let daemon = Watched::on(plant);
    share.hang();
    // There is a look at the folder every two seconds, so one of them waits by then.
    let cycle = daemon.status().cycle;
    wait("the scan goes on", LIMIT, || (daemon.status().cycle > cycle + 2500).then_some(()));
    let plant = daemon.ends(&[share]);
    let daemon = Daemon::on(plant);
    let is_blamed = |line: &LogLine| line.message.contains("end was abnormal");
    assert!(!daemon.log().iter().any(is_blamed));
}

#[test]
#[ignore = "needs root: it mounts"]
fn nothing_gives_an_answer_and_nothing_stops() {
    let mut plant = plant();
    let folders = [config_in_a_folder(&plant), plant.state(), plant.cache(), plant.plugins()];
    let shares = folders.map(|folder| plant.share(folder));
    let (_reader, mut writer) = std::io::pipe().unwrap();
    super::log::fill(&mut writer);
    let command = Command::new(env!("CARGO_BIN_EXE_camshaft"));
    let daemon = Watched::by(command, plant, writer.into());
    shares.iter().for_each(|share| share.hang());
    daemon.kill(Signal::SIGHUP);
    is_lost(&daemon);
    daemon.goes_on_as_it_is("5", &shares);
}

#[test]
fn a_pipe_in_the_place_of_a_file_of_state_makes_nobody_wait() {
    for name in ["starts.json", "retain.a", "retain.b", "history.jsonl"] {
        let plant = plant();
        let path = plant.path("camshaft.toml");
        let marked = "[[variable]]\nname = \"kept\"\ntype = \"int\"\ninitial = 0\nretain = true\n";
        fs::write(&path, fs::read_to_string(&path).unwrap() + marked).unwrap();
        fs::create_dir_all(plant.state()).unwrap();
        mkfifo(&plant.state().join(name), Mode::S_IRWXU).unwrap();
        let daemon = Daemon::on(plant);
        let is_said =
            |line: &LogLine| line.message.contains(name) && line.message.contains("it is a pipe");
        assert!(daemon.log().iter().any(is_said), "{name}");
        let (status, time, _) = daemon.stop();
        assert!(status.success() && time < END, "{name}: {status} after {time:?}");
    }
}

#[test]
fn a_pipe_in_the_place_of_the_configuration_makes_nobody_wait() {
    let daemon = Daemon::on(plant());
    let path = daemon.path("camshaft.toml");
    fs::remove_file(&path).unwrap();
    mkfifo(&path, Mode::S_IRWXU).unwrap();
    let error = block_on(daemon.client.reload()).unwrap_err().to_string();
    assert!(error.contains("it is a pipe"), "{error}");
    let plant = daemon.slay();
    let mut child = launch(&plant, &plant.path("second"), &[], &[]);
    let status = wait("the start is refused", END, || child.try_wait().unwrap());
    assert_eq!(status.code(), Some(78));
    let text = fs::read_to_string(plant.path("second")).unwrap();
    assert!(text.contains("it is a pipe") && text.lines().count() == 1, "nothing ran: {text}");
}
