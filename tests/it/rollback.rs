//! Tests of rollbacks in a whole daemon: the return to a previous version of a plugin.
//!
//! The daemon returns by itself if a version traps on probation, and later by an order of the
//! operator. The tests use the real binary, also for deploys, quarantine and releases. The part of
//! the scan in a rollback is tested in `swap.rs`.

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use camshaft::control::{Event, PluginState, PluginView, Soundness, VersionView};
use camshaft::plugin::ModuleHash;
use camshaft::process::image::Value;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::daemon::{Daemon, Keys, LIMIT, through, wait};
use crate::evil::binary;
use crate::rig::{block_on, wat};

/// Quick to prove itself.
const PROBATION: &str = "swap = { probation = \"50ms\", polls = 20 }";

fn version(number: u32, body: &str) -> Vec<u8> {
    wat(&format!(
        "(module (global i32 (i32.const {number})) (global $n (mut i32) (i32.const 0))
           (func (export \"poll\")
             (global.set $n (i32.add (global.get $n) (i32.const 1)))
             {body}))"
    ))
}

/// A module that is refused.
fn junk() -> Vec<u8> {
    wat("(module (import \"env\" \"nonsense\" (func)) (func (export \"poll\")))")
}

fn roll_back(daemon: &Daemon, arguments: &[&str]) -> Output {
    daemon.camshaft(&[&["rollback"], arguments].concat())
}

/// What an order says that is refused: at once, which is long before it would give up waiting.
#[track_caller]
fn refused(daemon: &Daemon, arguments: &[&str]) -> String {
    let started = Instant::now();
    let output = daemon.camshaft(arguments);
    let passed = started.elapsed();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(passed < Duration::from_secs(15), "{arguments:?} took {passed:?}");
    String::from_utf8(output.stderr).unwrap()
}

#[track_caller]
fn has(text: &str, words: &[&str]) {
    words.iter().for_each(|word| assert!(text.contains(word), "{word:?} is not in {text}"));
}

/// Good for long enough to be kept, and then it traps, and so does each instance after it.
fn late(number: u32) -> Vec<u8> {
    version(number, "(if (i32.eq (global.get $n) (i32.const 600)) (then (unreachable)))")
}

/// Lets a good version run, and then one that ends in quarantine though it was good and is kept.
fn good_and_late(daemon: &Daemon) -> [String; 2] {
    let good = run(daemon, &version(1, ""));
    let bad = run(daemon, &late(2));
    daemon.wait_log("tank", &["quarantined", &bad[..16]]);
    [good, bad]
}

fn kinds(daemon: &Daemon) -> Vec<(Event, Option<String>)> {
    let receipts = block_on(daemon.client.history(Some("tank"), 1000)).unwrap();
    receipts.into_iter().map(|entry| (entry.what.event, entry.what.hash)).collect()
}

fn view_of(daemon: &Daemon, hash: &str) -> VersionView {
    let views = block_on(daemon.client.versions("tank")).unwrap();
    views.into_iter().find(|view| view.hash == hash).expect("it is listed")
}

/// Drops a version into the folder and waits until it is kept.
fn run(daemon: &Daemon, bytes: &[u8]) -> String {
    let hash = daemon.drop_in("tank", bytes);
    daemon.wait_running("tank", &hash);
    wait("it is kept", LIMIT, || {
        let kept = std::fs::read_dir(daemon.state().join("versions/tank")).ok()?;
        let names = kept.map(|file| file.unwrap().file_name().into_string().unwrap());
        names.into_iter().any(|name| name.ends_with(&format!("{hash}.wasm"))).then_some(())
    });
    hash
}

/// What `deploy` has printed on both ends, and its exit code.
fn deploy(daemon: &Daemon, module: &[u8], more: &[&str]) -> (Option<i32>, String) {
    let file = daemon.path("module.wasm");
    fs::write(&file, module).unwrap();
    let file = file.display().to_string();
    let output = daemon.camshaft(&[&["deploy", &file, "--name", "tank"], more].concat());
    let text = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(text).unwrap())
}

#[test]
fn a_deploy_says_that_probation_has_only_begun_and_waits_for_its_end_on_demand() {
    let swap = "swap = { probation = \"1s\", polls = 20 }";
    let daemon = Daemon::start(Keys { plugins: swap, ..Keys::default() });
    // Nothing would resume in its place, so that it is not on probation; yet it must prove itself.
    let (code, text) = deploy(&daemon, &version(1, ""), &["--wait"]);
    assert_eq!(code, Some(0), "{text}");
    assert!(!text.contains("probation") && text.ends_with(" is proved\n"), "{text}");
    let (code, text) = deploy(&daemon, &version(2, ""), &[]);
    assert_eq!(code, Some(0), "{text}");
    has(&text, &[" runs, on probation for "]);
    let (code, text) = deploy(&daemon, &version(2, ""), &["--wait"]);
    assert_eq!(code, Some(0), "{text}");
    has(&text, &[" runs already, on probation for ", " is proved\n"]);
    // It runs for 300 ms.
    let bad = version(3, "(if (i32.eq (global.get $n) (i32.const 300)) (then (unreachable)))");
    let (code, text) = deploy(&daemon, &bad, &["--wait"]);
    assert_eq!(code, Some(1), "{text}");
    let why = " is not proved: the file is in quarantine: trapped on probation: ";
    has(&text, &[" runs, on probation for ", why, "runs instead"]);
    // The first of all, which has nobody behind it.
    block_on(daemon.client.remove("tank")).unwrap();
    daemon.wait_gone("tank");
    let alone = version(4, "(if (i32.eq (global.get $n) (i32.const 300)) (then (unreachable)))");
    let (code, text) = deploy(&daemon, &alone, &["--wait"]);
    assert_eq!(code, Some(1), "{text}");
    has(&text, &[" is not proved: ", "unreachable"]);
}

/// It was said to run already, and then that another version is in the file.
#[test]
fn a_deploy_of_what_stands_in_for_the_file_puts_it_there() {
    let plugins = "swap = { probation = \"400ms\", polls = 20 }";
    let daemon = Daemon::start(Keys { plugins, ..Keys::default() });
    let good = run(&daemon, &version(1, ""));
    // It is good for longer than its probation.
    let bad = version(2, "(if (i32.eq (global.get $n) (i32.const 2500)) (then (unreachable)))");
    let bad = daemon.drop_in("tank", &bad);
    daemon.wait_log("tank", &["quarantined", &bad[..16]]);
    daemon.wait_running("tank", &good);
    let (code, text) = deploy(&daemon, &version(1, ""), &["--wait"]);
    assert_eq!(code, Some(0), "{text}");
    assert_eq!(daemon.plugin("tank").unwrap().file_hash, Some(good));
}

/// A version was said to run before anybody had polled it.
#[test]
fn a_deploy_waits_for_the_first_poll() {
    let tables = "[[plugin]]\nname = \"tank\"\nevery = 300\n";
    let daemon = Daemon::start(Keys { tables, ..Keys::default() });
    let (code, text) = deploy(&daemon, &version(1, "unreachable"), &[]);
    assert_eq!(code, Some(1), "{text}");
    has(&text, &[" has trapped: unreachable"]);
}

/// It was told that there is no such plugin, which then came and ran.
#[test]
fn a_remove_beside_a_deploy_that_was_cut_tells_of_it() {
    let daemon = Daemon::start(Keys::default());
    // Large enough for its check to be met.
    let division = [0x41, 1, 0x41, 3, 0x6d, 0x1a];
    let module = binary(2000, &[&[0][..], &division.repeat(400), &[0x0b]].concat());
    let file = daemon.path("big.wasm");
    fs::write(&file, module).unwrap();
    let mut deploy = Command::new(env!("CARGO_BIN_EXE_camshaft"));
    deploy.arg("deploy").arg(&file).arg("--socket").arg(daemon.path("control.sock"));
    let mut deploy = deploy.stdin(Stdio::null()).spawn().unwrap();
    let send = |pid: u32, signal| kill(Pid::from_raw(pid.cast_signed()), signal);
    let worker = wait("its check is held", LIMIT, || {
        let worker = daemon.workers().first().copied()?;
        send(worker, Signal::SIGSTOP).ok().map(|()| worker)
    });
    send(deploy.id(), Signal::SIGINT).unwrap();
    assert!(!deploy.wait().unwrap().success());
    let remove = || {
        let output = daemon.camshaft(&["remove", "big"]);
        (output.status.code(), String::from_utf8([output.stdout, output.stderr].concat()).unwrap())
    };
    let busy = "error: a deploy of big is under way; try again after its end\n";
    assert_eq!(remove(), (Some(1), busy.into()));
    send(worker, Signal::SIGCONT).unwrap();
    let (code, text) = wait("it is over", LIMIT, || Some(remove()).filter(|it| it.1 != busy));
    assert_eq!((code, &*text), (Some(0), "big: removed\n"));
    assert!(!daemon.file("big").exists() && daemon.plugin("big").is_none());
    assert!(daemon.camshaft(&["remove", "big"]).status.code() == Some(1));
}

/// The trap of a bad version was told of the good one that is compiled to take its place.
#[test]
fn a_deploy_is_not_blamed_for_the_version_before() {
    let daemon = Daemon::start(Keys::default());
    let (code, text) = deploy(&daemon, &version(1, "unreachable"), &[]);
    assert_eq!(code, Some(1), "{text}");
    daemon.wait_for("tank", "quarantined", |view| view.state == PluginState::Quarantined);
    // i32.const 1, i32.const 3, i32.div_s, drop: enough of them to be seen while it is compiled.
    let division = [0x41, 1, 0x41, 3, 0x6d, 0x1a];
    let good = binary(500, &[&[0][..], &division.repeat(400), &[0x0b]].concat());
    let (code, text) = deploy(&daemon, &good, &[]);
    assert_eq!(code, Some(0), "{text}");
}

#[test]
fn a_version_that_traps_on_probation_is_replaced_by_the_one_before() {
    let daemon = Daemon::start(Keys::default());
    let good = daemon.drop_in("tank", &version(1, ""));
    let before = daemon.wait_for("tank", "polled", |view| view.polls > 10);
    let bad = version(2, "(if (i32.eq (global.get $n) (i32.const 50)) (then (unreachable)))");
    let bad_hash = through(&daemon, "a rollback", || {
        let hash = daemon.drop_in("tank", &bad);
        daemon.wait_log("tank", &["unreachable", "rolled back to"]);
        hash
    });
    let view = daemon.wait_running("tank", &good);
    assert_eq!((view.generation, view.traps), (before.generation, 1));
    assert_eq!((view.hash.as_ref(), view.file_hash.as_ref()), (Some(&good), Some(&bad_hash)));
    assert!(view.polls > before.polls && view.reason.unwrap().contains("unreachable"));
    // The same bytes again are no new chance, other ones are.
    daemon.drop_in("tank", &bad);
    let better = daemon.drop_in("tank", &version(3, ""));
    let view = daemon.wait_running("tank", &better);
    assert_eq!((view.traps, view.reason), (1, None));
}

#[test]
fn an_operator_goes_back_to_a_version_that_was_good() {
    let daemon = Daemon::start(Keys { plugins: PROBATION, ..Keys::default() });
    let nothing = roll_back(&daemon, &["tank"]);
    let text = String::from_utf8(nothing.stderr).unwrap();
    assert!(text.contains("there is no plugin \"tank\""), "{text}");
    let all: Vec<_> = (1..=3).map(|number| run(&daemon, &version(number, ""))).collect();

    let back = roll_back(&daemon, &["tank"]);
    let text = String::from_utf8(back.stdout).unwrap();
    assert!(
        back.status.success() && text.starts_with(&format!("tank: version {} runs", &all[1][..12])),
        "{text}"
    );
    daemon.wait_running("tank", &all[1]);
    let to = roll_back(&daemon, &["tank", "--to", &all[0][..8]]);
    assert!(to.status.success(), "{to:?}");
    let view = daemon.wait_running("tank", &all[0]);
    assert_eq!((view.state, view.file_hash), (PluginState::Running, Some(all[0].clone())));

    let wrong = roll_back(&daemon, &["tank", "--to", "0123456789ab"]);
    assert_eq!(wrong.status.code(), Some(1));
    let text = String::from_utf8(wrong.stderr).unwrap();
    assert!(
        text.contains("no stored version has a hash that begins with \"0123456789ab\""),
        "{text}"
    );
    // Kept versions outlive the daemon; a plugin that is gone can come back.
    let daemon = daemon.kill_and_restart();
    daemon.wait_running("tank", &all[0]);
    daemon.remove("tank");
    daemon.wait_gone("tank");
    let back = roll_back(&daemon, &["tank", "--to", &all[2]]);
    assert!(back.status.success(), "{back:?}");
    daemon.wait_running("tank", &format!("{:#}", ModuleHash::of(&version(3, ""))));
}

/// A daemon that was started again ran what had been taken back.
#[test]
fn quarantine_outlives_the_daemon_and_the_kept_version_runs() {
    let daemon = Daemon::start(Keys { plugins: PROBATION, ..Keys::default() });
    let good = run(&daemon, &version(1, ""));
    let bad = version(2, "(if (i32.eq (global.get $n) (i32.const 5)) (then (unreachable)))");
    let bad_hash = daemon.drop_in("tank", &bad);
    daemon.wait_log("tank", &["unreachable", "rolled back to"]);
    let (_, _, plant) = daemon.stop();
    let daemon = Daemon::on(plant);
    let view = daemon.wait_running("tank", &good);
    daemon.wait_log("tank", &[&bad_hash[..16], "still in quarantine", "unreachable"]);
    assert_eq!((view.file_hash.as_ref(), view.traps), (Some(&bad_hash), 0));
    // A release is a new chance, which it does not take.
    assert!(daemon.camshaft(&["release", "tank"]).status.success());
    daemon.wait_for("tank", "tried again", |view| view.traps > 0);
}

/// A version that traps after its probation left its machine without control for ever, though a
/// good one was kept, which ran after the next start of the daemon.
#[test]
fn a_good_version_takes_the_place_of_one_that_traps_later() {
    let daemon = Daemon::start(Keys { plugins: PROBATION, ..Keys::default() });
    let [good, bad] = good_and_late(&daemon);
    let check = |daemon: &Daemon| {
        let view = daemon.wait_running("tank", &good);
        assert_eq!(view.file_hash.as_ref(), Some(&bad));
        let instead = format!("version {} runs instead", &good[..16]);
        has(view.reason.as_deref().unwrap(), &["in quarantine: 3 traps", "unreachable", &instead]);
        let view = view_of(daemon, &bad);
        assert_eq!((view.soundness, view.quarantined, view.kept), (Soundness::Bad, true, true));
        assert!(view.in_file && !view.runs && view.started.is_some(), "{view:?}");
        has(&view.end.unwrap(), &["it trapped: unreachable"]);
        let view = view_of(daemon, &good);
        assert_eq!((view.soundness, view.runs, view.end), (Soundness::Good, true, None));
    };
    check(&daemon);
    daemon.wait_log("tank", &[&good[..16], "runs instead of", &bad[..16]]);
    assert!(kinds(&daemon).contains(&(Event::StandsIn, Some(good.clone()))));
    let text = String::from_utf8(daemon.camshaft(&["history", "tank"]).stdout).unwrap();
    has(&text, &["stands_in", &format!("runs in place of {}", &bad[..12])]);
    let text = String::from_utf8(daemon.camshaft(&["versions", "tank"]).stdout).unwrap();
    has(&text, &["runs", "good", "in the file", "quarantined", "it trapped: unreachable"]);
    let (_, _, plant) = daemon.stop();
    let daemon = Daemon::on(plant);
    check(&daemon);
    check(&daemon.kill_and_restart());
}

#[test]
fn nothing_takes_its_place_where_safe_is_wanted() {
    let restart = ", on_quarantine = 'safe'";
    let daemon = Daemon::start(Keys { plugins: PROBATION, restart, ..Keys::default() });
    let [good, bad] = good_and_late(&daemon);
    let check = |daemon: &Daemon| {
        let is_it = |view: &camshaft::control::PluginView| view.state == PluginState::Quarantined;
        let view = daemon.wait_for("tank", "quarantined", is_it);
        has(view.reason.as_deref().unwrap(), &["in quarantine: 3 traps", "unreachable"]);
        wait("the versions are listed", LIMIT, || {
            let views = block_on(daemon.client.versions("tank")).unwrap();
            views.iter().find(|view| view.hash == good && view.kept).map(drop)
        });
        // It would be chosen within a few looks.
        let (cycle, hash) = (daemon.status().cycle, Some(&bad));
        wait("half a second of cycles", LIMIT, || {
            (daemon.status().cycle > cycle + 500).then_some(())
        });
        let view = daemon.plugin("tank").unwrap();
        assert_eq!((view.state, view.file_hash.as_ref()), (PluginState::Quarantined, hash));
    };
    check(&daemon);
    let (_, _, plant) = daemon.stop();
    check(&Daemon::on(plant));
}

/// A file that will not load changes nothing, and then the daemon was started again and nothing ran.
#[test]
fn what_ran_goes_on_after_a_start_if_the_file_is_refused() {
    let daemon = Daemon::start(Keys { plugins: PROBATION, ..Keys::default() });
    let good = run(&daemon, &version(1, ""));
    let bad = junk();
    daemon.drop_in("tank", &bad);
    daemon.wait_for("tank", "refused", |view| view.reason.is_some());
    daemon.wait_running("tank", &good);
    let cycle = daemon.status().cycle;
    wait("it has run for a second", LIMIT, || (daemon.status().cycle > cycle + 1100).then_some(()));
    let (_, _, plant) = daemon.stop();
    // Nor does a life in which it does not run.
    let daemon = Daemon::idle(plant, &["--no-plugins"]);
    daemon.wait_for("tank", "held", |view| view.state == PluginState::Held);
    let ran = view_of(&daemon, &good);
    assert!(
        !ran.runs && ran.ran_s > 0 && ran.end.as_deref() == Some("the daemon ended"),
        "{ran:?}"
    );
    let (_, _, plant) = daemon.stop();
    let daemon = Daemon::on(plant);
    let view = daemon.wait_running("tank", &good);
    has(&view.reason.unwrap(), &["nonsense", "runs instead"]);
    // A file that is taken away is an order, and so is the next one after it.
    daemon.remove("tank");
    daemon.wait_gone("tank");
    daemon.drop_in("tank", &bad);
    daemon.wait_for("tank", "refused", |view| view.state == PluginState::Refused);
}

/// A rollback chose a version that was in quarantine, put its bytes into the folder, and a release
/// let it run.
#[test]
fn a_rollback_never_brings_back_what_is_known_to_be_bad() {
    let daemon = Daemon::start(Keys { plugins: PROBATION, ..Keys::default() });
    let [good, bad] = good_and_late(&daemon);
    daemon.wait_running("tank", &good);
    let file = || fs::read(daemon.file("tank")).unwrap();
    // The one that stands in comes into the file; once said that nothing but the bad one was left.
    let started = daemon.wait_running("tank", &good).generation;
    let back = roll_back(&daemon, &["tank"]);
    assert!(back.status.success(), "{back:?}");
    assert_eq!(file(), version(1, ""));
    let view = daemon.wait_for("tank", "good again", |view| view.reason.is_none());
    assert_eq!((view.hash.as_ref(), view.generation), (Some(&good), started), "it runs on");
    // Nothing else is kept now, and the file stays as it is.
    let text = refused(&daemon, &["rollback", "tank"]);
    has(
        &text,
        &["each stored version is bad or", &good[..16], "it runs", &bad[..16], "--even-bad"],
    );
    assert_eq!(file(), version(1, ""));
    let better = run(&daemon, &version(3, ""));
    let back = roll_back(&daemon, &["tank"]);
    assert!(back.status.success(), "{back:?}");
    daemon.wait_running("tank", &good);
    daemon.drop_in("tank", &version(3, ""));
    daemon.wait_running("tank", &better);
    let text = refused(&daemon, &["rollback", "tank", "--to", &bad[..8]]);
    has(&text, &[&bad[..16], "3 traps", "--even-bad", &format!("`--to {}`", &good[..16])]);
    assert_eq!(file(), version(3, ""));
    assert!(daemon.camshaft(&["release", "tank"]).status.success());
    assert_eq!(view_of(&daemon, &bad).soundness, Soundness::Bad, "a release is no proof");
    assert_eq!(roll_back(&daemon, &["tank", "--even-bad"]).status.code(), Some(2));
    let forced = roll_back(&daemon, &["tank", "--to", &bad[..8], "--even-bad"]);
    assert!(forced.status.success(), "{forced:?}");
    assert_eq!(file(), late(2));
}

/// A bad version was let out of quarantine before its bytes were there, and they never came.
#[test]
fn a_rollback_that_fails_forgives_nothing() {
    let daemon = Daemon::start(Keys { plugins: PROBATION, ..Keys::default() });
    let [good, bad] = good_and_late(&daemon);
    daemon.wait_running("tank", &good);
    let kept = daemon.state().join("versions/tank");
    for file in fs::read_dir(kept).unwrap().map(|file| file.unwrap().path()) {
        if file.to_str().unwrap().ends_with(&format!("{bad}.wasm")) {
            fs::remove_file(file).unwrap();
        }
    }
    let text = refused(&daemon, &["rollback", "tank", "--to", &bad[..8], "--even-bad"]);
    has(&text, &["tank stays as it is", &bad[..16]]);
    let view = view_of(&daemon, &bad);
    assert_eq!((view.soundness, view.quarantined), (Soundness::Bad, true));
}

/// The operator held a plugin whose file was in quarantine, and its release let that run again.
#[test]
fn a_hold_and_its_release_forgive_nothing() {
    let restart = ", on_quarantine = 'safe'";
    // `release` reads the view every 50 ms, and must read it before the probation ends.
    let plugins = "swap = { probation = \"400ms\", polls = 20 }";
    let daemon = Daemon::start(Keys { plugins, restart, ..Keys::default() });
    let [_, bad] = good_and_late(&daemon);
    let is_out = |view: &PluginView| view.state == PluginState::Quarantined;
    daemon.wait_for("tank", "quarantined", is_out);
    let says = |verb: &str| {
        let output = daemon.camshaft(&[verb, "tank"]);
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(says("hold"), "tank: held\n");
    has(&says("release"), &["tank: not held any more, quarantined", "camshaft release tank"]);
    let view = view_of(&daemon, &bad);
    assert_eq!((view.soundness, view.quarantined), (Soundness::Bad, true));
    has(&says("release"), &["tank: out of quarantine, running, unproven "]);
    assert!(!view_of(&daemon, &bad).quarantined);
    // One without a file is forgotten with its hold; its release waited for it to run.
    says("hold");
    daemon.remove("tank");
    daemon.wait_for("tank", "without a file", |view| view.file_hash.is_none());
    assert_eq!(says("release"), "tank: not held any more; the folder has no file of this plugin\n");
}

/// It was said to run as soon as it was asked for, which the good version in its place did.
#[test]
fn a_release_waits_for_the_version_in_the_file() {
    let plugins = "swap = { probation = \"400ms\", polls = 20 }";
    let daemon = Daemon::start(Keys { plugins, ..Keys::default() });
    let [good, _] = good_and_late(&daemon);
    daemon.wait_running("tank", &good);
    let output = daemon.camshaft(&["release", "tank"]);
    let text = String::from_utf8(output.stdout).unwrap();
    has(&text, &["tank: out of quarantine, running, on probation for "]);
}

/// What nothing stood in for was said not to run, for a trap from before, and ran a moment later.
/// After its removal, its bytes were refused, and the release that was to help knew no such plugin.
#[test]
fn what_is_in_quarantine_has_ways_out_that_work() {
    let restart = ", on_quarantine = 'safe'";
    let daemon = Daemon::start(Keys { plugins: PROBATION, restart, ..Keys::default() });
    let [_, bad] = good_and_late(&daemon);
    let is_out = |view: &PluginView| view.state == PluginState::Quarantined;
    daemon.wait_for("tank", "quarantined", is_out);
    let output = roll_back(&daemon, &["tank", "--to", &bad, "--even-bad"]);
    let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    has(&text, &[&format!("tank: version {} runs", &bad[..12])]);
    daemon.wait_for("tank", "in quarantine again", is_out);
    daemon.remove("tank");
    daemon.wait_gone("tank");
    let file = daemon.path("tank.wasm").display().to_string();
    fs::write(&file, late(2)).unwrap();
    has(&refused(&daemon, &["deploy", &file]), &["in quarantine", "`camshaft release tank`"]);
    let output = daemon.camshaft(&["release", "tank"]);
    let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    assert_eq!(text, "tank: out of quarantine; the folder has no file of this plugin\n");
    assert!(daemon.camshaft(&["deploy", &file]).status.success());
}

/// The good version's file could not be read at the moment of need, and was whole again soon.
#[test]
fn a_good_version_that_cannot_be_read_is_tried_again() {
    let daemon = Daemon::start(Keys { plugins: PROBATION, ..Keys::default() });
    let good = run(&daemon, &version(1, ""));
    let kept = daemon.state().join("versions/tank");
    let file = fs::read_dir(kept).unwrap().next().unwrap().unwrap().path();
    let bytes = fs::read(&file).unwrap();
    fs::write(&file, "damaged").unwrap();
    let bad = run(&daemon, &late(2));
    let view = daemon.wait_for("tank", "without a stand-in", |view| {
        let reason = view.reason.as_deref().unwrap_or_default();
        view.quarantined && reason.contains("cannot run instead")
    });
    has(&view.reason.unwrap(), &["in quarantine: 3 traps", &good[..16], "the daemon tries again"]);
    assert_eq!(view.file_hash.as_ref(), Some(&bad));
    fs::write(&file, bytes).unwrap();
    daemon.wait_running("tank", &good);
    daemon.wait_log("tank", &[&good[..16], "runs instead of", &bad[..16]]);
}

/// Outputs stayed safe though a good version was kept: the file was refused, and what ran on
/// trapped later.
#[test]
fn a_good_version_takes_the_place_of_what_ran_on_beside_a_refused_file() {
    let daemon = Daemon::start(Keys { plugins: PROBATION, ..Keys::default() });
    let good = run(&daemon, &version(1, ""));
    let bad = run(&daemon, &late(2));
    let junk = junk();
    let junk = daemon.drop_in("tank", &junk);
    daemon.wait_log("tank", &["quarantined", &bad[..16]]);
    let check = |daemon: &Daemon| {
        let view = daemon.wait_running("tank", &good);
        assert_eq!(view.file_hash.as_ref(), Some(&junk));
        has(&view.reason.unwrap(), &["nonsense", &format!("{} runs instead", &good[..16])]);
    };
    check(&daemon);
    let (_, _, plant) = daemon.stop();
    check(&Daemon::on(plant));
}

/// The copy of what ran was gone or damaged at the start, and nothing ran beside the refused file
/// for ever, though an older good version was kept.
#[test]
fn a_good_version_takes_the_place_of_what_ran_and_cannot_be_had_any_more() {
    let junk = junk();
    for damage in [|file: &Path| fs::remove_file(file), |file: &Path| fs::write(file, "damaged")] {
        let daemon = Daemon::start(Keys { plugins: PROBATION, ..Keys::default() });
        let good = run(&daemon, &version(1, ""));
        let ran = run(&daemon, &version(2, ""));
        daemon.drop_in("tank", &junk);
        daemon.wait_for("tank", "refused", |view| view.reason.is_some());
        let (_, _, plant) = daemon.stop();
        let kept = fs::read_dir(plant.state().join("versions/tank")).unwrap();
        let mut kept = kept.map(|file| file.unwrap().path());
        damage(&kept.find(|file| file.to_str().unwrap().contains(&ran)).unwrap()).unwrap();
        let daemon = Daemon::on(plant);
        let view = daemon.wait_running("tank", &good);
        has(&view.reason.unwrap(), &["nonsense", &format!("{} runs instead", &good[..16])]);
    }
}

/// The stick was not mounted at the start: what had run was taken for removed, and did not go on
/// beside a refused file when the stick came.
#[test]
fn an_empty_folder_at_the_start_is_no_removal() {
    let junk = junk();
    let daemon = Daemon::start(Keys { plugins: PROBATION, ..Keys::default() });
    let good = run(&daemon, &version(1, ""));
    let start_empty = |daemon: Daemon| {
        let (_, _, plant) = daemon.stop();
        for file in fs::read_dir(plant.plugins()).unwrap() {
            fs::remove_file(file.unwrap().path()).unwrap();
        }
        let daemon = Daemon::idle(plant, &[]);
        let why = wait("it is in doubt", LIMIT, || daemon.status().folder_trouble);
        has(&why, &["has no plugin, but tank", "is the file system of the folder mounted?"]);
        daemon.wait_log(
            "",
            &["has no plugin, but tank", "is the file system of the folder mounted?"],
        );
        // A file below the mount would say that all others were removed.
        fs::write(daemon.path("other.wasm"), version(7, "")).unwrap();
        let text = refused(&daemon, &["deploy", daemon.path("other.wasm").to_str().unwrap()]);
        has(
            &text,
            &[
                "the plugin folder has no plugin, but tank",
                "is the file system of the folder mounted?",
            ],
        );
        daemon
    };
    let daemon = start_empty(daemon);
    daemon.drop_in("tank", &junk);
    daemon.wait_running("tank", &good);
    assert!(daemon.status().folder_ok);
    // The operator says that it was removed.
    let daemon = start_empty(daemon);
    assert!(daemon.camshaft(&["reload"]).status.success());
    daemon.wait_log("tank", &["its file was removed while the daemon was down"]);
    assert!(daemon.status().folder_ok);
    daemon.drop_in("tank", &junk);
    daemon.wait_for("tank", "refused", |view| view.state == PluginState::Refused);
}

/// Its bytes were dropped when one restart failed, and it was tried against its file for ever, which
/// held others by then.
#[test]
fn what_ran_is_started_again_though_nothing_else_has_its_bytes() {
    let daemon = Daemon::start(Keys { plugins: PROBATION, ..Keys::default() });
    let touchy = wat(
        "(module (import \"env\" \"wasm_read_input\" (func $read (param i32 i32 i32) (result i32)))
           (memory (export \"memory\") 1)
           (func $look
             (drop (call $read (i32.const 0) (i32.const 16) (i32.const 4)))
             (if (i32.load (i32.const 16)) (then (unreachable))))
           (func (export \"init\") (call $look))
           (func (export \"poll\") (call $look)))",
    );
    let good = run(&daemon, &touchy);
    let junk = junk();
    daemon.drop_in("tank", &junk);
    daemon.wait_for("tank", "refused", |view| view.reason.is_some());
    fs::remove_dir_all(daemon.state().join("versions/tank")).unwrap();
    block_on(daemon.client.set("evil.input", Value::Int(1))).unwrap();
    daemon.wait_log("tank", &["trying", &good[..16], "again"]);
    block_on(daemon.client.set("evil.input", Value::Int(0))).unwrap();
    daemon.wait_running("tank", &good);
}

/// A good version wrote its output on demand, after its proof: a mute one counted as good, and stood
/// in for the next one that was bad.
#[test]
fn what_loses_an_output_that_came_late_is_in_doubt() {
    let daemon = Daemon::start(Keys { plugins: PROBATION, ..Keys::default() });
    let on_demand = wat(
        "(module (import \"env\" \"wasm_read_input\" (func $read (param i32 i32 i32) (result i32)))
           (import \"env\" \"wasm_write_output\" (func $write (param i32 i32 i32) (result i32)))
           (memory (export \"memory\") 1)
           (func (export \"poll\")
             (drop (call $read (i32.const 0) (i32.const 16) (i32.const 4)))
             (if (i32.load (i32.const 16)) (then
               (drop (call $write (i32.const 24) (i32.const 16) (i32.const 4)))))))",
    );
    let good = run(&daemon, &on_demand);
    block_on(daemon.client.set("evil.input", Value::Int(9))).unwrap();
    wait("it owns its output", LIMIT, || {
        let points = block_on(daemon.client.points()).unwrap();
        let mark = points.into_iter().find(|point| point.name == "evil.mark")?;
        (mark.owner.as_deref() == Some("tank")).then_some(())
    });
    let mute = run(&daemon, &version(1, ""));
    let view = view_of(&daemon, &mute);
    assert_eq!(view.soundness, Soundness::Doubtful);
    has(&view.reason.unwrap(), &["it does not write evil.mark"]);
    let bad = run(&daemon, &late(2));
    let view = daemon.wait_running("tank", &good);
    assert_eq!(view.file_hash.as_ref(), Some(&bad));
}

#[test]
fn what_loses_an_output_is_in_doubt() {
    let daemon = Daemon::start(Keys { plugins: PROBATION, ..Keys::default() });
    let writes = wat(
        "(module (import \"env\" \"wasm_write_output\" (func $write (param i32 i32 i32) (result i32)))
           (memory (export \"memory\") 1)
           (func (export \"poll\")
             (drop (call $write (i32.const 24) (i32.const 16) (i32.const 4)))))",
    );
    let good = run(&daemon, &writes);
    let mute = run(&daemon, &version(1, ""));
    let view = view_of(&daemon, &mute);
    assert_eq!(view.soundness, Soundness::Doubtful);
    has(&view.reason.unwrap(), &["it does not write evil.mark"]);
    run(&daemon, &version(2, ""));
    let back = roll_back(&daemon, &["tank"]);
    assert!(back.status.success(), "{back:?}");
    daemon.wait_running("tank", &good);
    assert_eq!(view_of(&daemon, &good).soundness, Soundness::Good);
}

/// Both waited for half a minute, and left a file behind.
#[test]
fn what_is_known_to_be_refused_is_refused_at_once() {
    let daemon = Daemon::start(Keys { plugins: PROBATION, ..Keys::default() });
    let [good, bad] = good_and_late(&daemon);
    daemon.wait_running("tank", &good);
    let better = run(&daemon, &version(3, ""));
    let module = daemon.path("module.wasm");
    fs::write(&module, late(2)).unwrap();
    let module = module.to_str().unwrap();
    let text = refused(&daemon, &["deploy", module, "--name", "tank"]);
    has(&text, &["in quarantine: 3 traps", "unreachable", "camshaft release tank"]);
    assert_eq!(fs::read(daemon.file("tank")).unwrap(), version(3, ""));
    daemon.wait_running("tank", &better);
    // A folder keeps its name from others as well.
    fs::create_dir(daemon.file("Lamp")).unwrap();
    daemon.wait_log("Lamp", &["is not accepted"]);
    let text = refused(&daemon, &["deploy", module, "--name", "LAMP"]);
    has(&text, &["its name differs from Lamp only in upper and lower case"]);
    assert!(!daemon.file("LAMP").exists());
    for name in ["Tank", "TANK"] {
        let text = refused(&daemon, &["deploy", module, "--name", name]);
        has(&text, &["its name differs from tank only in upper and lower case"]);
        assert!(!daemon.file(name).exists(), "{name}");
    }
    let long = "x".repeat(129);
    let output = daemon.camshaft(&["deploy", module, "--name", &long]);
    assert_eq!(output.status.code(), Some(2), "a wrong command line: {output:?}");
    has(&String::from_utf8(output.stderr).unwrap(), &["expected 1 to 128 of the"]);
    assert!(!daemon.file(&long).exists());
    assert_eq!(view_of(&daemon, &bad).soundness, Soundness::Bad);
    // One that is held is known without its file.
    assert!(daemon.camshaft(&["hold", "tank"]).status.success());
    let removed = daemon.camshaft(&["remove", "tank"]);
    assert!(removed.status.success(), "{removed:?}");
}
