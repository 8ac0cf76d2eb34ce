//! Tests of a stall in a whole daemon: its scan stops in a driver that hangs, or in a poll.
//!
//! The driver is the sim driver. For the stop in a poll, the test holds the scan's thread by
//! ptrace. The tests check the outputs, the messages of the daemon, its exit and its next start.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use camshaft::control::{PluginState, StallView};
use camshaft::driver::Delivery;
use camshaft::process::image::{Quality, Value};
use nix::errno::Errno;
use nix::sys::ptrace;
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::daemon::fan::{board, fan_is, writes};
use crate::daemon::{Daemon, Keys, LIMIT, Plant, log_lines, wait};
use crate::rig::{block_on, wat};

/// `scan.stall_exit` by default, and what the end itself may take on a busy machine.
const EXIT: Duration = Duration::from_secs(2);
const END: Duration = Duration::from_secs(6);

/// A daemon with a fan that runs at 7.
fn start() -> Daemon {
    start_with("")
}

/// The same with more keys of the fan.
fn start_with(keys: &str) -> Daemon {
    let plant = Plant::new(Keys::default());
    let tables = board(&plant, keys);
    plant.configure(Keys { tables: &tables, ..Keys::default() });
    plant.drop_in("seven", &writes(7));
    let daemon = Daemon::on(plant);
    wait("the fan runs", LIMIT, || fan_is(&daemon, "7").then_some(()));
    daemon
}

/// Lets the plant's driver hang for so long; nobody waits for the answer.
fn hang(daemon: &Daemon, time: &str) {
    let client = daemon.client.clone();
    let injection = serde_json::json!({ "kind": "hang", "for": time });
    std::thread::spawn(move || drop(block_on(client.inject("plant", &injection))));
}

fn stalled(daemon: &Daemon) -> StallView {
    wait("the status says that the scan stands", LIMIT, || daemon.status().stalled)
}

/// The end of a daemon whose log is kept, and how long it took.
fn ended(daemon: Daemon) -> (ExitStatus, Plant) {
    daemon.end(|| {})
}

fn has_line(plant: &Plant, words: &[&str]) -> bool {
    let lines = log_lines(&plant.path("log"));
    lines.iter().any(|line| words.iter().all(|word| line.message.contains(word)))
}

#[test]
fn a_driver_that_hangs_for_a_while_costs_safe_outputs_for_that_while() {
    let daemon = start();
    hang(&daemon, "1s");
    let stall = stalled(&daemon);
    assert_eq!(stall.doing, "in the driver of device plant");
    assert!(stall.since_ms >= 100 && stall.exit_in_ms <= 1900, "{stall:?}");
    wait("the fan is safe", LIMIT, || fan_is(&daemon, "255").then_some(()));

    // No green light lies, and nobody waits for a scan that does not come.
    let status = daemon.status();
    if status.stalled.is_some() {
        let board = status.devices.iter().find(|device| device.name == "board").unwrap();
        assert!(
            !board.confirmed && board.parts.iter().any(|part| part.name == "scan"),
            "{board:?}"
        );
        let points = block_on(daemon.client.points()).unwrap();
        let fan = points.iter().find(|point| point.name == "fan").unwrap();
        assert_eq!((fan.reason, fan.delivery), (Quality::NoComm, Some(Delivery::Unconfirmed)));
        let refused = block_on(daemon.client.set("evil.input", Value::Int(3))).unwrap_err();
        assert!(refused.to_string().contains("the scan is stalled"), "{refused}");
    }

    wait("the fan is the program's again", LIMIT, || fan_is(&daemon, "7").then_some(()));
    wait("the status is as ever", LIMIT, || {
        let status = daemon.status();
        let is_fine = status.stalled.is_none() && status.devices.iter().all(|it| it.confirmed);
        is_fine.then_some(())
    });
    let words = |words: &[&str]| {
        wait(&format!("{words:?} in the log"), LIMIT, || has_line(&daemon, words).then_some(()));
    };
    words(&[
        "the scan has been STALLED",
        "in the driver of device plant",
        "thread scan (",
        "state S",
    ]);
    words(&["device board", "are made safe"]);
    words(&["device board", "the scan controls its outputs again"]);
    words(&["the scan moves again"]);
    let (status, ..) = daemon.stop();
    assert!(status.success(), "{status}");
}

#[test]
fn a_scan_that_stands_ends_the_daemon_which_the_next_start_knows() {
    let daemon = start();
    hang(&daemon, "1m");
    stalled(&daemon);
    let started = Instant::now();
    let (status, plant) = ended(daemon);
    println!("{status} {:?} after it was seen to stand", started.elapsed());
    assert_eq!(status.code(), Some(70), "{status}");
    assert!(started.elapsed() + Duration::from_secs(1) > EXIT && started.elapsed() < END);
    assert!(has_line(
        &plant,
        &["the scan has been stalled for", "have confirmed their safe outputs"]
    ));
    assert_eq!(fs::read_to_string(plant.path("fan")).unwrap().lines().next(), Some("255"));

    let daemon = Daemon::on(plant);
    assert!(has_line(&daemon, &["the last end was abnormal", "stall"]));
    // It was in nobody's code.
    daemon.wait_for("seven", "running", |view| view.state == PluginState::Running);
    assert!(!has_line(&daemon, &["is in quarantine"]));
    daemon.stop();
}

#[test]
fn an_output_that_holds_its_value_is_safe_before_the_process_ends() {
    let daemon = start_with(", hold_for = \"10m\"");
    hang(&daemon, "1m");
    stalled(&daemon);
    assert!(fan_is(&daemon, "7"), "it holds");
    let device = daemon.status().devices.into_iter().find(|device| device.name == "board");
    let parts = device.expect("there is a board").parts;
    let scan = parts.iter().find(|part| part.name == "scan").expect("the scan is stalled");
    assert!(!scan.state.contains("are safe and confirmed"), "{scan:?}");
    let (status, plant) = ended(daemon);
    assert_eq!(status.code(), Some(70), "{status}");
    assert_eq!(fs::read_to_string(plant.path("fan")).unwrap().lines().next(), Some("255"));
    assert!(has_line(
        &plant,
        &["the scan has been stalled for", "have confirmed their safe outputs"]
    ));
}

/// Takes most of its budget, so that it is often found in the middle.
const SLOW: &str = r#"(module (func (export "poll") (local $n i32)
  (loop $more
    (local.set $n (i32.add (local.get $n) (i32.const 1)))
    (br_if $more (i32.lt_u (local.get $n) (i32.const 40000))))))"#;

/// A thread of another process, held until this is dropped.
struct Held(Pid);

impl Held {
    fn hold(thread: Pid) -> Self {
        ptrace::seize(thread, ptrace::Options::empty()).unwrap();
        let held = Self(thread);
        ptrace::interrupt(thread).unwrap();
        loop {
            match waitpid(thread, Some(WaitPidFlag::__WALL)).unwrap() {
                WaitStatus::PtraceEvent(..) => return held,
                // A signal of its own came first.
                WaitStatus::Stopped(_, signal) => ptrace::cont(thread, signal).unwrap(),
                other => panic!("{other:?}"),
            }
        }
    }
}

impl Drop for Held {
    /// Lets the thread go, or sees its end: a process whose traced thread has ended unseen is not
    /// over for its parent either. A test that panics here would wait for it for ever.
    fn drop(&mut self) {
        let _ = ptrace::detach(self.0, None);
        let _ = waitpid(self.0, Some(GONE));
    }
}

/// The scan's thread of a daemon, by its name.
fn scan_of(daemon: &Daemon) -> Pid {
    let tasks = fs::read_dir(format!("/proc/{}/task", daemon.pid())).unwrap().flatten();
    let mut scans = tasks.filter(|task| {
        fs::read_to_string(task.path().join("comm")).is_ok_and(|name| name.trim() == "scan")
    });
    let task = scans.next().unwrap().file_name();
    Pid::from_raw(task.to_str().unwrap().parse().unwrap())
}

#[test]
fn a_version_in_whose_poll_the_scan_stands_is_not_run_again() {
    let daemon = start();
    // Together they take a good part of each cycle.
    let names: Vec<_> = (0..5).map(|n| format!("slow{n}")).collect();
    let hashes: Vec<_> = names.iter().map(|name| daemon.drop_in(name, &wat(SLOW))).collect();
    names.iter().zip(&hashes).for_each(|(name, hash)| drop(daemon.wait_running(name, hash)));
    let hash = &hashes[0];
    let scan = scan_of(&daemon);
    // Now here, now there, until it is in the poll.
    let mut tries = 0;
    let (stall, _held) = loop {
        tries += 1;
        let held = Held::hold(scan);
        let stall = stalled(&daemon);
        if stall.doing.starts_with("polling slow") {
            break (stall, held);
        }
        assert!(tries < 200, "never in the poll: {stall:?}");
        drop(held);
        wait("it moves again", LIMIT, || daemon.status().stalled.is_none().then_some(()));
    };
    println!("{stall:?} in attempt {tries}");
    let name = stall.doing.split(' ').nth(1).unwrap();
    assert!(hash.starts_with(stall.doing.split(['(', ')']).nth(1).unwrap()), "{stall:?} {hash}");
    wait("the fan is safe", LIMIT, || fan_is(&daemon, "255").then_some(()));
    // The process is not over before whoever traces one of its threads has seen its end.
    let (status, plant) = daemon.end(|| match waitpid(scan, Some(GONE)) {
        Ok(_) | Err(Errno::ECHILD) => {}
        Err(error) => panic!("{error}"),
    });
    assert_eq!((status.code(), status.signal()), (Some(70), None), "{status}");
    let words = [&format!("{name}.wasm"), "is in quarantine", &format!("polling {name}")];
    assert!(has_line(&plant, &words));

    let daemon = Daemon::on(plant);
    daemon.wait_for(name, "quarantined", |view| view.state == PluginState::Quarantined);
    let other = names.iter().find(|other| *other != name).unwrap();
    daemon.wait_for(other, "running", |view| view.state == PluginState::Running);
    daemon.wait_for("seven", "running", |view| view.state == PluginState::Running);
    assert!(has_line(&daemon, &["the last end was abnormal"]));
    daemon.stop();
}

/// Also threads, and at once.
const GONE: WaitPidFlag = WaitPidFlag::__WALL.union(WaitPidFlag::WNOHANG);

#[test]
fn a_daemon_that_was_stopped_as_a_whole_blames_nobody() {
    let daemon = start();
    let cycle = daemon.status().cycle;
    daemon.kill(Signal::SIGSTOP);
    let stopped = Instant::now();
    wait("it stands for longer than stall_exit", LIMIT, || {
        (stopped.elapsed() > EXIT + Duration::from_millis(500)).then_some(())
    });
    daemon.kill(Signal::SIGCONT);
    wait("it goes on", LIMIT, || (daemon.status().cycle > cycle + 100).then_some(()));
    wait("outputs are the program's", LIMIT, || {
        (fan_is(&daemon, "7") && daemon.status().stalled.is_none()).then_some(())
    });
    let (status, ..) = daemon.stop();
    assert!(status.success(), "{status}");
}

#[test]
fn a_stop_that_is_ordered_while_the_scan_stands_ends_too() {
    let daemon = start();
    hang(&daemon, "1m");
    stalled(&daemon);
    let (status, time, plant) = daemon.stop();
    println!("{status} after {time:?}");
    assert!(!status.success() && time < Duration::from_secs(15), "{status} {time:?}");
    // The last words are those of the command, and no line of the log.
    let text = fs::read_to_string(plant.path("log")).unwrap();
    let words = "error: stopped, but the scan is stalled, in the driver of device plant; all \
                 devices with a separate thread have confirmed their safe outputs";
    assert!(text.contains(words), "{text}");
}

/// Asks for input register 0 of unit 1; gives function and first byte of the answer.
fn register(port: u16) -> (u8, u8) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.write_all(&[0, 1, 0, 0, 0, 6, 1, 4, 0, 0, 0, 2]).unwrap();
    let mut head = [0; 9];
    stream.read_exact(&mut head).unwrap();
    (head[7], head[8])
}

#[test]
fn whoever_reads_the_controller_hears_that_its_scan_stands() {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let tables = format!(
        "[[device]]\nname = \"scada\"\ndriver = \"modbus_server\"\nlisten = \"127.0.0.1:{port}\"\n\
         show = [{{ name = \"witness.polls\", table = \"input\", address = 0, type = \"u32\" }}]\n"
    );
    let daemon = Daemon::start(Keys { tables: &tables, ..Keys::default() });
    wait("it can be read", LIMIT, || (register(port) == (4, 4)).then_some(()));
    hang(&daemon, "1s");
    stalled(&daemon);
    wait("it is exception 4", LIMIT, || (register(port) == (0x84, 4)).then_some(()));
    wait("it can be read again", LIMIT, || (register(port) == (4, 4)).then_some(()));
    daemon.stop();
}

/// A variable that nobody writes any more was shown as new, and programs as running.
#[test]
fn while_the_scan_stands_nothing_is_shown_as_new() {
    let plant = Plant::new(Keys::default());
    let text = fs::read_to_string(plant.path("camshaft.toml")).unwrap();
    let text = text.replace("[scan]", "[scan]\nstall_exit = \"20s\"");
    fs::write(plant.path("camshaft.toml"), text).unwrap();
    plant.drop_in(
        "speed",
        &wat(r#"(module
          (import "env" "wasm_variable_write_int" (func $set (param i32 i32 i32) (result i32)))
          (memory (export "memory") 1) (data (i32.const 0) "speed")
          (func (export "poll")
            (drop (call $set (i32.const 0) (i32.const 5) (i32.const 1)))))"#),
    );
    let daemon = Daemon::on(plant);
    let speed = || {
        let all = block_on(daemon.client.vars()).unwrap();
        all.into_iter().find(|view| view.name == "speed").and_then(|view| view.age_ms)
    };
    wait("it is written", LIMIT, speed);
    let verb = |verb: &str| String::from_utf8(daemon.camshaft(&[verb]).stdout).unwrap();
    assert!(!verb("plugins").contains("STALLED"));
    hang(&daemon, "19s");
    stalled(&daemon);
    wait("it gets older", LIMIT, || speed().filter(|age| *age >= 1000));
    let shown = verb("plugins");
    assert!(shown.starts_with("scan      STALLED for "), "{shown}");
    assert!(shown.contains("in the driver of device plant"), "{shown}");
}

/// A daemon that bears a scan which stands for long, and in which `seldom` waits for its first
/// poll.
fn start_with_seldom() -> Daemon {
    let tables = "[[plugin]]\nname = 'seldom'\nevery = 1000000\n";
    let plant = Plant::new(Keys { tables, ..Keys::default() });
    let text = fs::read_to_string(plant.path("camshaft.toml")).unwrap();
    let text = text.replace("[scan]", "[scan]\nstall_exit = \"30s\"");
    fs::write(plant.path("camshaft.toml"), text).unwrap();
    Daemon::on(plant)
}

/// A deploy said that its version has its seat, or runs already, and left with 0.
#[test]
fn no_order_comes_to_anything_while_the_scan_stands() {
    let daemon = start_with_seldom();
    let module = wat(
        r#"(module (import "env" "wasm_point_find" (func $find (param i32 i32 i32) (result i32)))
             (memory (export "memory") 1) (data (i32.const 16) "lvel")
             (func (export "init") (drop (call $find (i32.const 16) (i32.const 4) (i32.const 0))))
             (func (export "poll")))"#,
    );
    fs::write(daemon.path("m.wasm"), module).unwrap();
    let file = daemon.path("m.wasm").display().to_string();
    let run = |arguments: &[&str]| {
        let output = daemon.camshaft(arguments);
        let text = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8(text).unwrap())
    };
    let deploy =
        |more: &[&str]| run(&[&["deploy", &file, "--name", "seldom", "--timeout"], more].concat());
    let (code, text) = deploy(&["300ms"]);
    assert!(
        code == Some(0)
            && text.contains(" is in the scan, but was not polled yet, unproven for ")
            && text.contains("  refused: ")
            && text.contains("lvel"),
        "{text}"
    );
    hang(&daemon, "29s");
    stalled(&daemon);
    let stands = |(code, text): (Option<i32>, String)| {
        let is_told = text.contains(", but the scan has been STALLED for ")
            && text.ends_with(", in the driver of device plant; see `camshaft status`\n");
        assert!(code == Some(1) && is_told, "{code:?} {text}");
    };
    for more in [&["300ms"][..], &["300ms", "--wait"]] {
        stands(deploy(more));
    }
    let other = fs::read(&file).unwrap();
    fs::write(&file, [&other[..], &[0, 2, 1, b'x']].concat()).unwrap();
    stands(deploy(&["300ms"]));
    stands(run(&["hold", "witness"]));
    stands(run(&["release", "witness"]));
    // It was given up after 20 s, and done later.
    let (code, text) = run(&["restart", "--cold"]);
    assert!(code == Some(1) && text.contains(", and accepts no orders"), "{code:?} {text}");
    // It was said to be reloaded, and whoever had asked waited for the end of the daemon.
    let slower = fs::read_to_string(daemon.path("camshaft.toml")).unwrap();
    fs::write(daemon.path("camshaft.toml"), slower.replace("\"1ms\"", "\"2ms\"")).unwrap();
    let (code, text) = run(&["reload"]);
    assert!(code == Some(1) && text.contains(", and accepts no orders"), "{code:?} {text}");
    let stays = ["the configuration stays as it was: the scan is stalled", "and accepts no orders"];
    let count = || daemon.log().iter().filter(|line| line.message.contains(stays[0])).count();
    let before = count();
    daemon.kill(Signal::SIGHUP);
    wait("the log says the same of a signal", LIMIT, || (count() > before).then_some(()));
    assert!(has_line(&daemon, &stays) && !has_line(&daemon, &["reloaded"]));
    // Who only wants to know orders nothing.
    let (code, text) = run(&["diff"]);
    assert!(code == Some(0) && text.contains("scan.period"), "{code:?} {text}");
    let status = daemon.status();
    assert!(status.stalled.is_some(), "it was so all the time: {status:?}");
    let refused = status.config_refused.expect("the status says it, too");
    assert!(refused.contains("the scan is stalled"), "{refused}");
}

/// The scan had come to stand while a deploy waited for the first poll.
#[test]
fn a_deploy_that_waits_for_a_poll_says_that_the_scan_stands() {
    let daemon = start_with_seldom();
    fs::write(daemon.path("seldom"), wat(r#"(module (func (export "poll")))"#)).unwrap();
    let file = daemon.path("seldom").display().to_string();
    let arguments = ["deploy", &file, "--name", "seldom", "--timeout", "5s"];
    std::thread::scope(|scope| {
        let deploy = scope.spawn(|| daemon.camshaft(&arguments));
        daemon.wait_for("seldom", "seated", |view| view.state == PluginState::Running);
        hang(&daemon, "29s");
        let output = deploy.join().unwrap();
        let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        let is_told = text.contains(" to run, but the scan has been STALLED for ");
        assert!(output.status.code() == Some(1) && is_told, "{text}");
    });
}
