//! Tests of retained variables: values that must survive the end of the daemon.
//!
//! The tests restart and kill a real daemon, damage its files and reset it. Its program counts in
//! two variables that must always be equal, and starts at [`FIRST`]. So a test detects a mixture of
//! two writes, and also a value that was silently set to 0. Full and failing disks are tested in
//! `retain/disk.rs`, and recovery in `retain/recovery.rs`. The unit tests in `src/retain/tests.rs`
//! damage the files at every byte.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use camshaft::control::VarView;
use camshaft::process::image::Value;
use camshaft::process::variable::Variable;
use camshaft::retain::{self, FILES};

use crate::daemon::{Daemon, Keys, LIMIT, Plant, launch, log_lines, through, unharmed, wait};
use crate::rig::{block_on, wat};

mod disk;
mod recovery;

/// How often the daemon is killed.
const KILLS: u32 = 500;

/// Initial value of both counts: what is below it came from nowhere.
const FIRST: i32 = 1000;

/// The keeper's variables; `@FLUSH` says how often they are written.
const KEPT: &str = r#"
[[variable]]
name = "kept.a"
type = "int"
initial = 1000
retain = true

[[variable]]
name = "kept.b"
type = "int"
initial = 1000
retain = true

[[variable]]
name = "kept.broken"
type = "boolean"
retain = true

[[variable]]
name = "lost"
type = "int"
initial = 5

[retain]
flush = "@FLUSH"
"#;

/// Counts in both variables, notes when they differ, and makes a variable of its own.
const KEEPER: &str = r#"(module
  (import "env" "wasm_variable_read_int" (func $get (param i32 i32 i32) (result i32)))
  (import "env" "wasm_variable_write_int" (func $set (param i32 i32 i32) (result i32)))
  (import "env" "wasm_variable_write_boolean" (func $mark (param i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "kept.a") (data (i32.const 16) "kept.b") (data (i32.const 32) "kept.broken")
  (data (i32.const 48) "lost") (data (i32.const 64) "made")
  (func (export "poll") (local $a i32)
    (drop (call $get (i32.const 0) (i32.const 6) (i32.const 100)))
    (drop (call $get (i32.const 16) (i32.const 6) (i32.const 104)))
    (local.set $a (i32.load (i32.const 100)))
    (if (i32.ne (local.get $a) (i32.load (i32.const 104)))
      (then (drop (call $mark (i32.const 32) (i32.const 11) (i32.const 1)))))
    (local.set $a (i32.add (local.get $a) (i32.const 1)))
    (drop (call $set (i32.const 0) (i32.const 6) (local.get $a)))
    (drop (call $set (i32.const 16) (i32.const 6) (local.get $a)))
    (drop (call $set (i32.const 48) (i32.const 4) (local.get $a)))
    (drop (call $set (i32.const 64) (i32.const 4) (local.get $a)))))"#;

/// A plant with the keeper.
fn plant(flush: &str) -> Plant {
    let tables = KEPT.replace("@FLUSH", flush);
    let plant = Plant::new(Keys { tables: &tables, ..Keys::default() });
    plant.drop_in("keeper", &wat(KEEPER));
    plant
}

/// The count in a generation, after a look at everything else in it.
#[track_caller]
fn count(values: &[(String, Variable)]) -> i32 {
    let [(a, Variable::Int(count)), (b, other), (c, broken)] = values else {
        panic!("{values:?}");
    };
    assert_eq!([a.as_str(), b, c], ["kept.a", "kept.b", "kept.broken"]);
    assert_eq!((*other, *broken), (Variable::Int(*count), Variable::Boolean(false)));
    assert!(*count >= FIRST, "{count} came from nowhere");
    *count
}

/// Number and count of the newest generation on disk.
#[track_caller]
fn newest(state: &Path) -> Option<(u64, i32)> {
    let found = retain::find(state);
    assert!(found.damaged.is_empty(), "{:?}", found.damaged);
    found.newest.map(|(_, generation)| (generation.number, count(&generation.values)))
}

impl Daemon {
    /// A variable that is an int.
    pub fn int(&self, name: &str) -> i32 {
        let all = block_on(self.client.vars()).expect("the daemon answers");
        let found = all.iter().find(|view| view.name == name);
        match found.map(|view| view.value) {
            Some(Value::Int(value)) => i32::try_from(value).unwrap(),
            other => panic!("{name} is {other:?}"),
        }
    }

    /// Waits until the keeper has counted on.
    fn counts_beyond(&self, count: i32) {
        wait("the keeper counts", LIMIT, || (self.int("kept.a") > count).then_some(()));
    }

    /// Runs a verb against this daemon; its exit code and all that it prints.
    pub fn verb(&self, arguments: &[&str]) -> (Option<i32>, String) {
        let output = self.camshaft(arguments);
        let text = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8(text).unwrap())
    }
}

/// Starts a daemon that must refuse to; its exit code and the last line that it says.
fn refused(plant: &Plant) -> (Option<i32>, String) {
    let log = plant.path("refused");
    let mut child = launch(plant, &log, &[], &[]);
    let status = wait("it refuses to start", LIMIT, || child.try_wait().unwrap());
    let text = fs::read_to_string(log).unwrap();
    (status.code(), text.lines().last().unwrap_or_default().to_owned())
}

#[test]
fn kills_at_any_moment_lose_nothing_and_mix_nothing() {
    let plant = plant("5ms");
    let state = plant.path("state");
    let mut random = fastrand::Rng::with_seed(0xca25);
    let (mut number, mut last) = (0, FIRST);
    let (mut halves, mut lives) = (0, 0);
    let started = Instant::now();
    for kill in 0..KILLS {
        // Three abnormal ends lead to recovery; that is another test.
        let _ = fs::remove_file(state.join("starts.json"));
        let mut child = launch(&plant, &plant.path("log"), &[], &[]);
        // One in eight is killed in its start, the others somewhere after their first write.
        if kill % 8 != 0 {
            wait("a write", LIMIT, || newest(&state).filter(|(seen, _)| *seen > number));
        }
        thread::sleep(Duration::from_micros(random.u64(..15_000)));
        child.kill().unwrap();
        child.wait().unwrap();
        halves += u32::from(FILES.iter().any(|name| state.join(format!("{name}.tmp")).exists()));
        let Some((new, count)) = newest(&state) else {
            assert_eq!(number, 0, "what was there is gone");
            continue;
        };
        assert!(new >= number && count >= last, "{number}: {last}, then {new}: {count}");
        lives += u32::from(new > number);
        (number, last) = (new, count);
    }
    println!(
        "{KILLS} kills in {:.0?}: {lives} lives wrote, {number} writes, {halves} cut short; the \
         count is {last}",
        started.elapsed()
    );
    assert!(lives > KILLS / 2 && last > FIRST + 1000);
    let _ = fs::remove_file(state.join("starts.json"));
    let daemon = Daemon::on(plant);
    assert!(daemon.int("kept.a") >= last);
    daemon.wait_log("", &["retained values are restored"]);
}

#[test]
fn an_orderly_stop_writes_the_last_cycle_and_a_start_restores_it() {
    let daemon = Daemon::on(plant("1h"));
    daemon.counts_beyond(FIRST + 100);
    let (status, time, plant) = daemon.stop();
    assert!(status.success() && time < Duration::from_secs(5), "{status} {time:?}");
    let (number, count) = newest(&plant.path("state")).unwrap();
    assert!(count > FIRST + 100, "{count}");
    // Nothing counts in this one, so it shows what was restored.
    let daemon = Daemon::idle(plant, &["--no-plugins"]);
    assert_eq!((daemon.int("kept.a"), daemon.int("kept.b"), daemon.int("lost")), (count, count, 5));
    let view = daemon.status().retain.unwrap();
    assert_eq!((view.variables, view.writes, view.alarm), (3, number, None));
    println!("{number} writes, {} bytes", view.bytes);
    let (status, _, plant) = daemon.stop();
    assert!(status.success());
    assert_eq!(newest(&plant.path("state")), Some((number, count)), "unchanged, so not written");
}

#[test]
fn other_types_and_unknown_names_are_dropped_with_a_line_each() {
    let daemon = Daemon::on(plant("20ms"));
    daemon.counts_beyond(FIRST + 50);
    let (_, _, plant) = daemon.stop();
    let (_, count) = newest(&plant.path("state")).unwrap();
    fs::remove_file(plant.file("keeper")).unwrap();
    let tables = KEPT
        .replace("@FLUSH", "20ms")
        .replacen("type = \"int\"\ninitial = 1000", "type = \"double\"\ninitial = 0.5", 1)
        .replace("name = \"kept.broken\"", "name = \"kept.other\"");
    plant.configure(Keys { tables: &tables, ..Keys::default() });
    let daemon = Daemon::on(plant);
    daemon.wait_log(
        "",
        &["kept.a is dropped: its type is int, and the variable now has type double"],
    );
    daemon.wait_log("", &["kept.broken is dropped: no variable of this name"]);
    let lines = daemon.log().iter().filter(|line| line.message.contains("is dropped")).count();
    assert_eq!(lines, 2);
    assert_eq!(daemon.int("kept.b"), count);
    let vars = block_on(daemon.client.vars()).unwrap();
    let of = |name: &str| vars.iter().find(|view| view.name == name).map(|view| view.value);
    assert_eq!(of("kept.a"), Some(Value::Real(0.5)));
    assert_eq!(of("kept.broken"), None);
}

#[test]
fn damage_costs_a_generation_or_raises_an_alarm_or_refuses_the_start() {
    let daemon = Daemon::on(plant("20ms"));
    daemon.counts_beyond(FIRST + 50);
    let (_, _, plant) = daemon.stop();
    let state = plant.path("state");
    let (number, _) = newest(&state).unwrap();
    let older = |place: usize| {
        let bytes = fs::read(state.join(FILES[1 - place])).unwrap();
        count(&retain::decode(&bytes).unwrap().values)
    };
    let place = retain::find(&state).newest.unwrap().0;
    let expected = older(place);
    fs::write(state.join(FILES[place]), b"torn").unwrap();
    let daemon = Daemon::idle(plant, &["--no-plugins"]);
    assert_eq!(daemon.int("kept.a"), expected);
    let alarm = daemon.status().retain.unwrap().alarm.unwrap();
    println!("{alarm}");
    let words = format!("values of write {} are used", number - 1);
    assert!(alarm.contains(FILES[place]) && alarm.contains(&words), "{alarm}");
    let (_, _, plant) = daemon.stop();

    let tables = KEPT.replace("@FLUSH", "20ms") + "on_corrupt = \"refuse\"\n";
    plant.configure(Keys { tables: &tables, ..Keys::default() });
    FILES.iter().for_each(|name| fs::write(state.join(name), b"torn").unwrap());
    let (code, error) = refused(&plant);
    println!("{code:?} {error}");
    assert_eq!(code, Some(1));
    let path = state.join(FILES[0]).display().to_string();
    for part in [
        "on_corrupt is \"refuse\"",
        &path,
        "it is not a file of retained values (4 bytes)",
        "delete",
    ] {
        assert!(error.contains(part), "{part}: {error}");
    }

    let tables = KEPT.replace("@FLUSH", "20ms");
    plant.configure(Keys { tables: &tables, ..Keys::default() });
    let daemon = Daemon::idle(plant, &["--no-plugins"]);
    assert_eq!(daemon.int("kept.a"), FIRST);
    let alarm = daemon.status().retain.unwrap().alarm.unwrap();
    assert!(alarm.contains("cold start"), "{alarm}");
    daemon.wait_log("", &["cold start"]);
    wait("it is written again", LIMIT, || newest(&state));
    assert!(state.join("retain.a.damaged").exists());
    assert_eq!(daemon.verb(&["reset", "--retain"]).0, Some(0));
    assert_eq!(daemon.status().retain.unwrap().alarm, None);
}

#[test]
fn a_state_directory_has_one_daemon() {
    let daemon = Daemon::on(plant("20ms"));
    let tables = KEPT.replace("@FLUSH", "20ms");
    let other = |tables: &str| {
        daemon.configure(Keys { tables, ..Keys::default() });
        let path = daemon.path("camshaft.toml");
        let text = fs::read_to_string(&path).unwrap().replace("control.sock", "other.sock");
        fs::write(path, text).unwrap();
    };
    other(&tables);
    let (code, error) = refused(&daemon);
    println!("{code:?} {error}");
    assert_eq!(code, Some(1));
    let words = format!("another camshaft (process {}) uses the directory", daemon.pid());
    assert!(
        error.contains(&words) && error.contains("3 variables are marked retain = true"),
        "{error}"
    );

    // Without anything to retain it runs beside the other, and says so.
    other("");
    let log = daemon.path("beside");
    let mut child = launch(&daemon, &log, &[], &[]);
    wait("the warning", LIMIT, || {
        log_lines(&log).into_iter().find(|line| line.message.contains("state.dir"))
    });
    wait("it runs", LIMIT, || daemon.path("other.sock").exists().then_some(()));
    child.kill().unwrap();
    child.wait().unwrap();
    unharmed(&daemon);
}

#[test]
fn a_reset_and_a_cold_restart_reach_memory_and_both_files() {
    let daemon = Daemon::on(plant("1h"));
    let state = daemon.path("state");
    let both = |expected: i32| {
        for name in FILES {
            let generation = retain::decode(&fs::read(state.join(name)).unwrap()).unwrap();
            assert_eq!(count(&generation.values), expected, "{name}");
        }
    };
    daemon.counts_beyond(FIRST + 2000);
    through(&daemon, "reset", || {
        let said = daemon.verb(&["reset", "--retain"]);
        assert_eq!(said.0, Some(0), "{said:?}");
        assert!(daemon.int("kept.a") < FIRST + 2000);
    });
    both(FIRST);
    daemon.counts_beyond(FIRST + 2000);
    assert!(daemon.int("lost") > FIRST + 2000, "only the retained ones were reset");

    let before = daemon.plugin("witness").unwrap();
    let said = daemon.verb(&["restart", "--cold"]);
    assert_eq!(said.0, Some(0), "{said:?}");
    both(FIRST);
    for name in ["witness", "keeper"] {
        let view = daemon.wait_for(name, "started anew", |view| {
            view.polls > 0 && view.generation > before.generation
        });
        assert_eq!((view.traps, view.reason), (0, None), "{name}");
    }
    let counts = ["kept.a", "kept.b", "lost", "made"].map(|name| daemon.int(name));
    println!("after a cold restart: {counts:?}");
    assert!(counts.iter().all(|count| *count < FIRST + 2000), "{counts:?}");
    unharmed(&daemon);
    // One that the operator holds stays held.
    assert_eq!(daemon.verb(&["hold", "keeper"]).0, Some(0));
    assert_eq!(daemon.verb(&["restart", "--cold"]).0, Some(0));
    assert_eq!(["kept.a", "lost"].map(|name| daemon.int(name)), [FIRST, 5]);
    let is_made = |view: &VarView| view.name == "made";
    assert!(!block_on(daemon.client.vars()).unwrap().iter().any(is_made), "nobody declares it");
    assert_eq!(daemon.verb(&["release", "keeper"]).0, Some(0));
    daemon.counts_beyond(FIRST);
}
