//! Tests of a plugin folder that is removed, replaced, unmounted or full of other files, or hangs.
//!
//! The plugins must run on, and the daemon must report the problem. The watch on the folder alone
//! is tested in `folder.rs`.

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use super::{STOP_LIMIT, quiet, version};
use crate::daemon::{
    Daemon, Hung, Keys, LIMIT, Plant, SAFE_MARK, WITNESS, log_lines, through, unharmed, wait,
};
use crate::rig::{block_on, wat};

/// Lines of the log that say that the folder is lost.
fn losses(daemon: &Daemon, words: &str) -> usize {
    let lines = daemon.log();
    let ends = ["; running programs continue", "; no plugin runs"];
    let is_loss = |text: &str| ends.iter().any(|end| text.ends_with(end));
    let lost = lines.iter().filter(|line| is_loss(&line.message));
    lost.filter(|line| line.message.contains(words)).count()
}

#[test]
fn the_folder_may_go_and_come_back() {
    let daemon = Daemon::start(Keys::default());
    let away = daemon.path("away");
    through(&daemon, "moved folder", || {
        fs::rename(daemon.plugins(), &away).unwrap();
        wait("the loss is seen", LIMIT, || (!daemon.status().folder_ok).then_some(()));
        daemon.wait_log("", &["cannot be read", "running programs continue"]);
        fs::rename(&away, daemon.plugins()).unwrap();
        wait("the return is seen", LIMIT, || daemon.status().folder_ok.then_some(()));
    });
    through(&daemon, "another folder of the same name", || {
        fs::create_dir(&away).unwrap();
        fs::copy(daemon.file("witness"), away.join("witness.wasm")).unwrap();
        fs::remove_dir_all(daemon.plugins()).unwrap();
        wait("the loss is seen", LIMIT, || (!daemon.status().folder_ok).then_some(()));
        fs::rename(&away, daemon.plugins()).unwrap();
        wait("the return is seen", LIMIT, || daemon.status().folder_ok.then_some(()));
        let dropped = Instant::now();
        let hash = daemon.drop_in("version", &version(1));
        daemon.wait_running("version", &hash);
        println!("  a plugin in the new folder runs after {:.0?}", dropped.elapsed());
    });
    through(&daemon, "an empty folder of the same name", || {
        fs::remove_dir_all(daemon.plugins()).unwrap();
        fs::create_dir(daemon.plugins()).unwrap();
        daemon.wait_log(
            "",
            &["is not the folder that the daemon watched before", "running programs continue"],
        );
        let why = wait("status says it", LIMIT, || daemon.status().folder_trouble);
        assert!(why.contains("`camshaft reload`"), "{why}");
        // Longer than a removal takes.
        let polls = daemon.witness().polls;
        wait("the witness goes on", LIMIT, || {
            (daemon.witness().polls > polls + 1000).then_some(())
        });
    });
    // A file there would stop all the others, which nobody has ordered.
    let refused = block_on(daemon.client.deploy("version", version(2).into())).unwrap_err();
    assert!(
        refused.to_string().contains("is not the folder that the daemon watched before"),
        "{refused}"
    );
    assert!(!daemon.file("version").exists());
    // One plugin is given up, and the others are still waited for.
    block_on(daemon.client.remove("version")).unwrap();
    daemon.wait_gone("version");
    assert!(!daemon.status().folder_ok);
    unharmed(&daemon);
    assert_eq!(losses(&daemon, "is not the folder that the daemon watched before"), 1, "said once");
    block_on(daemon.client.reload()).unwrap();
    daemon.wait_gone("witness");
    let seen = daemon.witness();
    assert_eq!((seen.polls, seen.mark), (0, SAFE_MARK), "outputs are safe: {seen:?}");
    let hash = daemon.drop_in("witness", &wat(WITNESS));
    daemon.wait_running("witness", &hash);
    unharmed(&daemon);
}

/// A stick that is pulled out, a network's file system that is unmounted.
#[test]
#[ignore = "needs root for a tmpfs"]
fn an_unmounted_folder_stops_no_machine() {
    let mut plant = Plant::new(Keys::default());
    // What is under the mount point shows when it is not mounted any more.
    fs::remove_file(plant.file("witness")).unwrap();
    fs::create_dir(plant.file("junk")).unwrap();
    plant.mount(plant.plugins(), "1m");
    plant.drop_in("witness", &wat(WITNESS));
    let daemon = Daemon::on(plant);
    let hash = daemon.drop_in("quiet", &quiet(1));
    daemon.wait_running("quiet", &hash);
    through(&daemon, "unmounted folder", || {
        nix::mount::umount2(&daemon.plugins(), nix::mount::MntFlags::MNT_DETACH).unwrap();
        wait("the loss is seen", LIMIT, || (!daemon.status().folder_ok).then_some(()));
        let polls = daemon.witness().polls;
        wait("the witness goes on", LIMIT, || {
            (daemon.witness().polls > polls + 1000).then_some(())
        });
        assert_eq!(daemon.plugin("quiet").unwrap().hash, Some(hash));
        assert_eq!(
            losses(&daemon, "is not the folder that the daemon watched before"),
            1,
            "said once"
        );
    });
}

/// The loss is seen within two seconds, and a file put there before made it a folder of plugins.
#[test]
#[ignore = "needs root for a tmpfs"]
fn a_deploy_right_after_an_unmount_stops_nobody() {
    let mut plant = Plant::new(Keys::default());
    fs::remove_file(plant.file("witness")).unwrap();
    plant.mount(plant.plugins(), "1m");
    plant.drop_in("witness", &wat(WITNESS));
    let daemon = Daemon::on(plant);
    daemon.wait_for("witness", "polled", |view| view.polls > 100);
    through(&daemon, "deploy after an unmount", || {
        nix::mount::umount2(&daemon.plugins(), nix::mount::MntFlags::MNT_DETACH).unwrap();
        let failure = block_on(daemon.client.deploy("other", quiet(1).into())).unwrap_err();
        assert!(failure.to_string().contains("is not the folder that the daemon"), "{failure}");
        assert!(!daemon.file("other").exists(), "nothing is put there");
        wait("the loss is seen", LIMIT, || (!daemon.status().folder_ok).then_some(()));
    });
}

/// Longer than the daemon may take to say that a folder does not answer: until it looks again, and
/// then five seconds.
const SAYS_SO: Duration = Duration::from_secs(15);

/// Whoever orders something gets an answer within five seconds; the rest is for a busy machine.
const ANSWERS: Duration = Duration::from_secs(8);

#[test]
#[ignore = "needs root for FUSE"]
fn a_folder_that_does_not_answer_stops_nobody() {
    let daemon = Daemon::start(Keys::default());
    let hash = daemon.drop_in("quiet", &quiet(1));
    daemon.wait_running("quiet", &hash);
    through(&daemon, "hung folder", || {
        let hung = Hung::over(daemon.plugins());
        let ordered = Instant::now();
        let deploy = block_on(daemon.client.deploy("quiet", quiet(2).into())).unwrap_err();
        let (deploy, took) = (deploy.to_string(), ordered.elapsed());
        println!("  deploy: {deploy} ({took:.1?})");
        assert!(deploy.contains("does not answer"), "{deploy}");
        assert!(took < ANSWERS, "{took:?}");
        let is_silent = || daemon.status().folder_trouble.filter(|why| why.contains("not answer"));
        println!("  status: {}", wait("it is said", SAYS_SO, is_silent));
        let ordered = Instant::now();
        let remove = block_on(daemon.client.remove("quiet")).unwrap_err().to_string();
        assert!(remove.contains("does not answer"), "{remove}");
        assert!(ordered.elapsed() < Duration::from_secs(1), "it is known by now");
        let before = daemon.plugin("quiet").unwrap().generation;
        block_on(daemon.client.act("quiet", "restart")).unwrap();
        daemon.wait_for("quiet", "a new instance", |view| view.generation > before);
        drop(hung);
        wait("it answers again", LIMIT, || daemon.status().folder_ok.then_some(()));
        assert_eq!(losses(&daemon, "does not answer"), 1, "said once");
        // What was given up did not come true later.
        let view = daemon.plugin("quiet").expect("it was not removed");
        assert_eq!((view.hash.clone(), view.file_hash), (Some(hash.clone()), Some(hash)));
        let hash = block_on(daemon.client.deploy("quiet", quiet(3).into())).unwrap();
        daemon.wait_running("quiet", &hash);
    });
    let hung = Hung::over(daemon.plugins());
    let lost = || (!daemon.status().folder_ok).then_some(());
    wait("it is said again", SAYS_SO, lost);
    let (status, took, _plant) = daemon.stop();
    assert!(status.success() && took < STOP_LIMIT, "{status} after {took:?}");
    drop(hung);
}

#[test]
#[ignore = "needs root for FUSE"]
fn a_folder_that_does_not_answer_at_the_start_is_said() {
    let plant = Plant::new(Keys::default());
    let hung = Hung::over(plant.plugins());
    let daemon = Daemon::idle(plant, &[]);
    let why = wait("status says it", SAYS_SO, || daemon.status().folder_trouble);
    assert!(why.contains("does not answer"), "{why}");
    assert_eq!(losses(&daemon, "does not answer"), 1, "said once");
    let (status, took, plant) = daemon.stop();
    assert!(status.success() && took < STOP_LIMIT, "{status} after {took:?}");
    let daemon = Daemon::idle(plant, &[]);
    wait("status says it", SAYS_SO, || daemon.status().folder_trouble);
    drop(hung);
    wait("it answers", LIMIT, || daemon.status().folder_ok.then_some(()));
    daemon.wait_for("witness", "running", |view| view.polls > 0);
    let abnormal = |line: &crate::daemon::LogLine| line.message.contains("abnormal");
    assert!(!log_lines(&daemon.path("log")).iter().any(abnormal));
}

/// The kernel gives no events to a user who has used up what it allows.
#[test]
#[ignore = "needs root for a user namespace"]
fn a_folder_without_events_says_why_and_is_looked_at() {
    for (limit, key) in [
        ("max_inotify_instances", "fs.inotify.max_user_instances"),
        ("max_inotify_watches", "fs.inotify.max_user_watches"),
    ] {
        let mut command = Command::new("unshare");
        // In a namespace of its own the limit is that of no other test.
        let script = format!("echo 0 > /proc/sys/user/{limit}; exec \"$0\" \"$@\"");
        command.args(["--map-root-user", "sh", "-ec", &script]);
        command.arg(env!("CARGO_BIN_EXE_camshaft"));
        let plant = Plant::new(Keys::default());
        let log = fs::File::create(plant.path("log")).unwrap();
        let daemon = Daemon::by(command, plant, &[], log.into());
        let line = daemon.wait_log("", &["reports no changes of the plugin folder"]).message;
        assert!(line.contains(&format!("increase the sysctl {key}")), "{line}");
        let hash = daemon.drop_in("version", &version(1));
        daemon.wait_running("version", &hash);
        let lines = daemon.log();
        let said = lines.iter().filter(|line| line.message.contains("reports no changes"));
        assert_eq!(said.count(), 1);
    }
}

/// A copy that stalls where a section ends: what is there by then is a valid module, whose constants
/// are zero.
#[test]
fn half_a_copy_is_neither_run_nor_refused() {
    use std::io::Write;
    let daemon = Daemon::start(Keys::default());
    let hash = daemon.drop_in("version", &version(1));
    daemon.wait_running("version", &hash);
    let whole = version(2);
    let text = whole.windows(9).position(|window| window == b"version 2").unwrap();
    // The section's identity, its size, the number of its segments; a segment's mode, place and size.
    let data = text - (1 + 1 + 1 + 1 + 4 + 1);
    assert_eq!(whole[data], 11, "a data section begins here");
    let mut file = fs::File::create(daemon.file("version")).unwrap();
    for cut in [0..20, 20..data, data..whole.len()] {
        file.write_all(&whole[cut]).unwrap();
        // Longer than a file takes to settle and to be run.
        for number in 0..2 {
            let hash = daemon.drop_in("quiet", &quiet(number));
            daemon.wait_running("quiet", &hash);
            fs::write(daemon.file("other"), quiet(number + 2)).unwrap();
            daemon.wait_for("other", "running", |view| view.polls > 0);
            daemon.remove("other");
            daemon.wait_gone("other");
        }
    }
    drop(file);
    let view = daemon.wait_for("version", "the new one", |view| view.hash != Some(hash.clone()));
    assert_eq!(view.reason, None);
    let receipts = block_on(daemon.client.history(Some("version"), 1000)).unwrap();
    assert_eq!(receipts.len(), 2, "started and swapped: {receipts:?}");
    unharmed(&daemon);
}
