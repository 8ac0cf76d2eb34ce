//! Tests of the warnings of `camshaft check`.
//!
//! Some configurations and modules break no rule, but are almost certainly mistakes. `check` prints
//! a note about each of them. The tests compare the exact text, and also check that the log and the
//! status of a daemon show the same notes.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use camshaft::control::{PluginState, PluginView};

use crate::daemon::{Daemon, Keys, LIMIT, Plant, wait};
use crate::rig::{block_on, wat};

fn camshaft(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_camshaft"));
    command.args(arguments).current_dir(folder).env("NO_COLOR", "1").output().unwrap()
}

/// What `check` prints, and its exit code.
#[track_caller]
fn check(folder: &Path, arguments: &[&str], code: i32, expected: &str) {
    let output = camshaft(folder, &[&["check"], arguments].concat());
    let stdout = String::from_utf8(output.stdout).unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!((stdout.as_str(), output.status.code()), (expected, Some(code)), "{stderr}");
}

/// What `check` prints as JSON.
fn json(folder: &Path, arguments: &[&str]) -> serde_json::Value {
    let output = camshaft(folder, &[&["check", "--json"], arguments].concat());
    serde_json::from_slice(&output.stdout).unwrap()
}

fn write(folder: &Path, name: &str, text: &str) {
    fs::write(folder.join(name), text).unwrap();
}

/// A program that has more memory than the default limit allows.
const LARGE: &str = r#"(module (memory 257) (func (export "poll")))"#;

/// A command: `main` of this one would never run.
const COMMAND: &str = r#"(module (func (export "_start")) (func (export "poll")))"#;

/// What clang 14 makes of a `poll` in C++ beside a global object, as far as calls go.
const WRAPPED: &str = r#"(module
  (global $n (mut i32) (i32.const 0))
  (func $__wasm_call_ctors (call $_GLOBAL__sub_I_ctor.cpp))
  (func $poll (global.set $n (i32.add (global.get $n) (i32.const 1))))
  (func $_GLOBAL__sub_I_ctor.cpp (global.set $n (i32.const 7)))
  (func $poll.command_export (export "poll") (call $__wasm_call_ctors) (call $poll)))"#;

#[test]
fn modules_are_compared_with_the_limits_that_count() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    fs::write(folder.join("large.wasm"), wat(LARGE)).unwrap();
    fs::create_dir(folder.join("plugins")).unwrap();
    write(folder, "wide.toml", "[plugins]\nmemory = '64MiB'\n");
    write(folder, "tight.toml", "[plugins]\nmodule = 8\n");
    write(folder, "wrong.toml", "[plugins]\nmemory = 1\n");
    let facts = "ABI 0, 1 function, 16.1 MiB of memory, exports poll, imports nothing";
    let bad = |with: &str| {
        format!(
            "large.wasm: bad {with}; it has 16842752 bytes of memory at the start\n  \
             the limit is 16777216 (plugins.memory in the configuration)\n"
        )
    };
    let good = format!("large.wasm: ok with the limits of wide.toml; {facts}\n");
    check(folder, &["large.wasm"], 1, &bad("with the default limits"));
    check(folder, &["--config", "wide.toml", "large.wasm"], 0, &good);
    check(folder, &["large.wasm", "wide.toml"], 0, &format!("{good}wide.toml: ok\n"));
    let both = format!("wide.toml: ok\ntight.toml: ok\n{good}");
    let named = ["--config", "wide.toml", "wide.toml", "tight.toml", "large.wasm"];
    check(folder, &named, 0, &both);
    let unsaid = bad("with the default limits, because several configurations are checked and \
                      --config does not choose one");
    check(
        folder,
        &["wide.toml", "tight.toml", "large.wasm"],
        1,
        &format!("wide.toml: ok\ntight.toml: ok\n{unsaid}"),
    );
    let output = camshaft(folder, &["check", "wrong.toml", "large.wasm"]);
    let stdout = String::from_utf8(output.stdout).unwrap();
    let unread = bad("with the default limits, because the checked configuration is wrong");
    assert!(stdout.ends_with(&unread), "{stdout}");
    assert_eq!(output.status.code(), Some(78));
    let output = camshaft(folder, &["check", "--config", "wrong.toml", "large.wasm"]);
    assert_eq!((output.status.code(), &*output.stdout), (Some(78), &b""[..]));
    assert!(String::from_utf8(output.stderr).unwrap().contains("wrong.toml:2: plugins.memory:"));
    // A limit below the default one counts as well, and --config alone is checked itself.
    let output = camshaft(folder, &["check", "--config", "tight.toml", "large.wasm"]);
    let stdout = String::from_utf8(output.stdout).unwrap();
    assert!(stdout.contains("bad with the limits of tight.toml; it has"), "{stdout}");
    check(folder, &["--config", "wide.toml"], 0, "wide.toml: ok\n");
    let found = json(folder, &["--config", "wide.toml", "large.wasm"]);
    assert_eq!((&found[0]["ok"], &found[0]["limits_of"]), (&true.into(), &"wide.toml".into()));
    let found = json(folder, &["large.wasm"]);
    assert_eq!((&found[0]["ok"], found[0]["limits_of"].is_null()), (&false.into(), true));
}

#[test]
fn a_recipe_is_run_with_the_limits_that_count() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    fs::write(folder.join("large.wasm"), wat(LARGE)).unwrap();
    write(folder, "wide.toml", "[plugins]\nmemory = '64MiB'\n");
    write(folder, "r.json", r#"{"passes":[{"elapsed":"0s"}]}"#);
    let output = camshaft(folder, &["test", "large.wasm", "r.json"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let output = camshaft(folder, &["test", "--config", "wide.toml", "large.wasm", "r.json"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
}

#[test]
fn what_is_odd_about_a_module_is_noted() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    fs::write(folder.join("command.wasm"), wat(COMMAND)).unwrap();
    fs::write(folder.join("wrapped.wasm"), wat(WRAPPED)).unwrap();
    let output = camshaft(folder, &["check", "command.wasm", "wrapped.wasm"]);
    let stdout = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<_> = stdout.lines().collect();
    assert_eq!((output.status.code(), lines.len()), (Some(0), 4), "{stdout}");
    assert!(lines[0].starts_with("command.wasm: ok with the default limits; ABI 0, "), "{stdout}");
    let note = "  note: it is a command (it exports `_start` without `_initialize`): main is \
                never called; build a reactor (";
    assert!(lines[1].starts_with(note), "{stdout}");
    let note = "  note: its constructors run in each poll (poll.command_export)";
    assert!(lines[3].starts_with(note), "{stdout}");
    let found = json(folder, &["command.wasm"]);
    assert_eq!(found[0]["report"]["notes"], serde_json::json!(["command"]));
    assert_eq!(format!("  note: {}", found[0]["notes"][0].as_str().unwrap()), lines[1]);
}

#[test]
fn what_is_odd_about_a_configuration_is_noted() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let text = "[plugins]\ndir = 'p'\n[[plugin]]\nname = 'mixer'\n[[plugin]]\nname = 'tank'\n\
                [[device]]\nname = 'd'\ndriver = 'sim'\n";
    write(folder, "c.toml", text);
    let idle = "  note: device[d]: the device has no points and no other work, so the device has \
                no effect\n";
    let dir = folder.join("p");
    let yet = "  note: plugins.dir: the folder p does not exist; the daemon creates this folder \
               when the daemon starts\n";
    check(folder, &["c.toml"], 0, &format!("c.toml: ok\n{yet}{idle}"));
    fs::create_dir(&dir).unwrap();
    for file in ["tank.wasm", "mixr.wasm", ".mixer.wasm", "mixer.wasm.tmp"] {
        fs::write(dir.join(file), "").unwrap();
    }
    let none = "  note: plugin[mixer]: there is no mixer.wasm in p";
    let hint = "; the folder has mixr.wasm, for which there is no [[plugin]]\n";
    check(folder, &["c.toml"], 0, &format!("c.toml: ok\n{none}{hint}{idle}"));
    let found = json(folder, &["c.toml"]);
    assert_eq!(found[0]["notes"].as_array().unwrap().len(), 2, "{found}");
    fs::rename(dir.join("mixr.wasm"), dir.join("mixer.wasm")).unwrap();
    check(folder, &["c.toml"], 0, &format!("c.toml: ok\n{idle}"));
}

/// Lines of the log that say of a plugin what this word is about.
fn said(daemon: &Daemon, plugin: &str, word: &str) -> usize {
    let log = daemon.log().into_iter().filter(|line| line.plugin == plugin);
    log.filter(|line| line.message.contains(word)).count()
}

fn stdout(daemon: &Daemon, verb: &str) -> String {
    let socket = daemon.path("control.sock").display().to_string();
    let output = camshaft(&daemon.path(""), &[verb, "--socket", &socket]);
    String::from_utf8(output.stdout).unwrap()
}

fn runs(view: &PluginView) -> bool {
    view.state == PluginState::Running && view.polls > 0
}

/// The log has it once for each module, however often that is started and wherever its code is
/// from; people see it for as long as the module is there.
#[test]
fn what_is_odd_about_a_module_is_said_when_it_is_loaded() {
    let note = "it is a command (it exports `_start` without `_initialize`): main is never called";
    let daemon = Daemon::start(Keys::default());
    daemon.drop_in("odd", &wat(COMMAND));
    let view = daemon.wait_for("odd", "running", runs);
    assert_eq!(view.notes.len(), 1);
    assert!(view.notes[0].starts_with(note), "{:?}", view.notes);
    let line = daemon.wait_log("odd", &[note]);
    assert!(line.message.starts_with(&format!("odd: {note}")), "{}", line.message);
    for verb in ["status", "plugins"] {
        let shown = stdout(&daemon, verb);
        assert!(shown.contains(&format!("odd: {note}")), "{verb}: {shown}");
    }
    block_on(daemon.client.act("odd", "restart")).unwrap();
    daemon.wait_for("odd", "started anew", |new| runs(new) && new.generation > view.generation);
    assert_eq!(said(&daemon, "odd", note), 1, "said once");
    // Another version has nothing odd about it.
    let other = daemon.drop_in("odd", &wat(r#"(module (func (export "poll") nop))"#));
    assert_eq!(daemon.wait_running("odd", &other).notes, Vec::<String>::new());
    daemon.drop_in("odd", &wat(COMMAND));
    wait("it is known again", LIMIT, || {
        daemon.plugin("odd").is_some_and(|view| !view.notes.is_empty()).then_some(())
    });

    let before = said(&daemon, "odd", note);
    let daemon = Daemon::on(daemon.stop().2);
    let view = daemon.wait_for("odd", "running again", runs);
    assert!(view.last_swap.is_none_or(|swap| swap.cached), "{:?}", view.last_swap);
    assert_eq!(view.notes.len(), 1, "what comes from the cache is known as well");
    daemon.wait_log("odd", &[note]);
    assert_eq!(said(&daemon, "odd", note), before + 1, "said once more by another daemon");
}

/// A command whose `poll` needs what `main` would have done does not run, and that is why.
#[test]
fn a_module_that_is_refused_is_said_to_be_odd_too() {
    let daemon = Daemon::start(Keys::default());
    let text = r#"(module (func (export "_start")) (func (export "init") unreachable)
                    (func (export "poll")))"#;
    daemon.drop_in("odd", &wat(text));
    let view = daemon.wait_for("odd", "refused", |view| view.state == PluginState::Refused);
    assert_eq!(view.notes.len(), 1, "{view:?}");
    daemon.wait_log("odd", &["it is a command", "main is never called"]);
}

#[test]
fn a_declared_plugin_without_a_file_stands_in_the_status() {
    let tables = "[[plugin]]\nname = \"mixer\"\n[[plugin]]\nname = \"stirrer\"\n";
    let plant = Plant::new(Keys { tables, ..Keys::default() });
    let daemon = Daemon::on(plant);
    let missing = |names: &[&str]| {
        wait(&format!("{names:?} are missing"), LIMIT, || {
            (daemon.status().plugins_missing == names).then_some(())
        });
    };
    missing(&["mixer", "stirrer"]);
    let line = "mixer: has a [[plugin]] in the configuration, but there is no mixer.wasm in the \
                folder";
    let shown = stdout(&daemon, "status");
    assert!(shown.contains(line), "{shown}");
    // A file that is no module is a file.
    fs::write(daemon.file("stirrer"), "no module").unwrap();
    missing(&["mixer"]);
    let hash = daemon.drop_in("mixer", &wat(r#"(module (func (export "poll")))"#));
    missing(&[]);
    daemon.wait_running("mixer", &hash);
    assert!(!stdout(&daemon, "status").contains(line));
    daemon.remove("mixer");
    missing(&["mixer"]);
    // Nobody knows what a lost folder holds.
    fs::rename(daemon.plugins(), daemon.path("elsewhere")).unwrap();
    wait("the folder is lost", LIMIT, || (!daemon.status().folder_ok).then_some(()));
    missing(&[]);
}
