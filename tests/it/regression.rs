//! Regression tests: one test for each defect that was found in a running daemon.
//!
//! The name of each test says what is correct now. A test is put here if the defect fits no other
//! file of this folder.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::time::Duration;

use camshaft::control::client::Error;
use camshaft::control::{Code, PluginState};
use camshaft::plugin::ModuleHash;
use camshaft::plugin::module::folder::MAX_PLUGINS;
use camshaft::process::image::Value;

use nix::sys::signal::Signal;

use crate::daemon::{Daemon, Keys, LIMIT, Plant, wait};
use crate::rig::{block_on, wat};

#[test]
fn a_variable_can_be_set() {
    let tables = "[[variable]]\nname = 'setpoint'\ntype = 'int'\n";
    let daemon = Daemon::start(Keys { tables, ..Keys::default() });
    let set = |name: &str, value| match block_on(daemon.client.set_var(name, value)) {
        Ok(()) => Ok(()),
        Err(Error::Failed(failure)) => Err((failure.code, failure.message)),
        Err(other) => panic!("{other}"),
    };
    assert_eq!(set("setpoint", Value::Int(60)), Ok(()));
    let vars = block_on(daemon.client.vars()).unwrap();
    let var = vars.iter().find(|var| var.name == "setpoint").unwrap();
    assert_eq!(var.value, Value::Int(60), "it is so as soon as it is answered");
    let why = "setpoint: expected a value of type int, found 0.5";
    assert_eq!(set("setpoint", Value::Real(0.5)), Err((Code::Invalid, why.into())));
    let why = "there is no variable \"setpiont\"; did you mean \"setpoint\"?";
    assert_eq!(set("setpiont", Value::Int(1)), Err((Code::Unknown, why.into())));
    let why = "there is no variable \"motor\"; `camshaft vars` lists them";
    assert_eq!(set("motor", Value::Int(1)), Err((Code::Unknown, why.into())));
}

/// The queue of orders was full when the configuration was read again, and that was all.
#[test]
fn settings_that_find_the_queue_full_are_ordered_later() {
    let plant = Plant::new(Keys::default());
    let file = plant.path("camshaft.toml");
    let slow = fs::read_to_string(&file).unwrap().replace("\"1ms\"", "\"200ms\"");
    fs::write(&file, &slow).unwrap();
    let daemon = Daemon::on(plant);
    fs::write(&file, slow.replace("\"700us\"", "\"700us\"\nevery = 1000000")).unwrap();
    // As many programs as there can be are to be installed, one in each cycle, and somebody gives
    // orders besides.
    let quiet = wat(r#"(module (func (export "poll")))"#);
    (1..MAX_PLUGINS).for_each(|n| drop(daemon.drop_in(&format!("p{n}"), &quiet)));
    let is_full = || {
        let mut stream = UnixStream::connect(daemon.path("control.sock")).unwrap();
        stream.set_read_timeout(Some(Duration::from_millis(5))).unwrap();
        let body = "{\"value\":1}";
        let head =
            "PUT /v1/points/evil.input HTTP/1.1\r\nhost: camshaft\r\ncontent-length: 11\r\n\r\n";
        stream.write_all(format!("{head}{body}").as_bytes()).unwrap();
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).is_ok() && answer.ends_with(b"503")
    };
    wait("a full queue", LIMIT, || is_full().then_some(()));
    daemon.kill(Signal::SIGHUP);
    daemon.wait_log("", &["reloaded: plugin[witness].every"]);
    let polls = || daemon.status().plugins[0].polls;
    wait("polls only in every millionth cycle", LIMIT, || {
        let before = polls();
        std::thread::sleep(Duration::from_secs(1));
        (polls() == before).then_some(())
    });
}

/// Looks for a point that is not there, under two names, and does not mind.
const MISTAKEN: &str = r#"(module
  (import "env" "wasm_point_find" (func $find (param i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "evil.inptunothing")
  (func (export "init")
    (drop (call $find (i32.const 0) (i32.const 10) (i32.const 100)))
    (drop (call $find (i32.const 10) (i32.const 7) (i32.const 100))))
  (func (export "poll")))"#;

/// The code was all that said so.
#[test]
fn a_misspelt_point_is_named_in_the_log() {
    let daemon = Daemon::start(Keys::default());
    daemon.drop_in("mistaken", &wat(MISTAKEN));
    let line = daemon.wait_log("mistaken", &["evil.inptu"]);
    let expected = "mistaken: there is no point \"evil.inptu\"; did you mean \"evil.input\"?";
    assert_eq!(line.message, expected);
    let line = daemon.wait_log("mistaken", &["nothing"]);
    let expected = "mistaken: there is no point \"nothing\"; `camshaft points` lists them";
    assert_eq!(line.message, expected);
}

/// Writes 1 to `evil.mark` in each poll.
const MARKER: &str = r#"(module
  (import "env" "wasm_write_output" (func $write (param i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "\01")
  (func (export "poll") (drop (call $write (i32.const 24) (i32.const 0) (i32.const 4)))))"#;

/// Nobody was told whose an output was.
#[test]
fn an_output_that_gets_another_owner_is_named_in_the_log() {
    let daemon = Daemon::start(Keys::default());
    daemon.drop_in("first", &wat(MARKER));
    let owned_by = |name: &str| {
        wait(&format!("{name} owns evil.mark"), LIMIT, || {
            let points = block_on(daemon.client.points()).unwrap();
            let mark = points.into_iter().find(|point| point.name == "evil.mark").unwrap();
            (mark.owner.as_deref() == Some(name)).then_some(())
        });
    };
    owned_by("first");
    daemon.drop_in("second", &wat(MARKER));
    daemon.remove("first");
    owned_by("second");
    daemon.wait_log("second", &["evil.mark is now owned by second (was first)"]);
    let moves = daemon.log().into_iter().filter(|line| line.message.contains("owned by"));
    assert_eq!(moves.count(), 1, "the first owner is no news");
}

/// A misspelt folder looked like a good one.
#[test]
fn a_check_notes_that_the_plugin_folder_is_not_there() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("camshaft.toml");
    fs::write(&file, "[plugins]\ndir = 'programs'\n").unwrap();
    let check = || {
        let command = Command::new(env!("CARGO_BIN_EXE_camshaft")).arg("check").arg(&file).output();
        let output = command.unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let (shown, folder) = (file.display(), dir.path().join("programs"));
    let note = format!(
        "the folder {} does not exist; the daemon creates this folder when the daemon starts",
        folder.display()
    );
    assert_eq!(check(), format!("{shown}: ok\n  note: plugins.dir: {note}\n"));
    fs::create_dir(folder).unwrap();
    assert_eq!(check(), format!("{shown}: ok\n"));
}

/// Who could link to a file that only the daemon may read learnt the hash of its content, by which
/// a short secret can be guessed.
#[test]
fn what_is_no_module_has_no_hash_anywhere() {
    let daemon = Daemon::start(Keys::default());
    let secret = daemon.path("secret");
    fs::write(&secret, "root:$6$salt").unwrap();
    std::os::unix::fs::symlink(&secret, daemon.plugins().join("sh.wasm")).unwrap();
    let view = daemon.wait_for("sh", "refused", |view| view.state == PluginState::Refused);
    let why = view.reason.as_deref().unwrap_or_default();
    assert!(why.starts_with("it does not start with \\0asm"), "{view:?}");
    assert_eq!((view.file_hash, view.hash), (None, None));
    daemon.wait_log("sh", &["is not accepted: it does not start with \\0asm"]);
    let receipts = wait("its receipt", LIMIT, || {
        let all = block_on(daemon.client.history(Some("sh"), 10)).unwrap();
        (!all.is_empty()).then_some(all)
    });
    assert!(receipts.iter().all(|entry| entry.what.hash.is_none()), "{receipts:?}");
    let hash = format!("{:#}", ModuleHash::of(b"root:$6$salt"));
    let log = fs::read_to_string(daemon.path("log")).unwrap();
    assert!(!log.contains(&hash[..12]), "{log}");
    // A module that comes in its place is taken as ever.
    fs::remove_file(daemon.plugins().join("sh.wasm")).unwrap();
    let hash = daemon.drop_in("sh", &wat(MARKER));
    daemon.wait_running("sh", &hash);
    // And the place of one that runs does not make it stop.
    daemon.drop_in("sh", b"root:$6$salt");
    let view = daemon.wait_for("sh", "refused", |view| view.reason.is_some());
    assert_eq!((view.state, view.hash), (PluginState::Running, Some(hash)));
    assert_eq!(view.file_hash, None);
}
