//! Tests of crash reports of a whole daemon.
//!
//! If the same crash happens many times, the daemon must write only one report. The command line
//! must be able to replay that report. The folder of the reports must have a bounded size.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::PathBuf;
use std::process::{Command, Output};

use camshaft::control::PluginState;
use camshaft::crash::{MAX_FILES, MAX_FOLDER_BYTES, ReportStore};

use super::*;
use crate::daemon::{Daemon, Keys, LIMIT, wait};

fn reports(folder: &std::path::Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut all: Vec<_> = entries.map(|entry| entry.path()).collect();
    all.sort();
    all
}

fn replay(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_camshaft"));
    command.arg("replay").args(arguments).output().unwrap()
}

#[test]
fn a_daemon_reports_a_crash_once_and_the_command_line_plays_it() {
    let daemon = Daemon::start(Keys::default());
    let endless = "(loop (br 0))";
    let cases = [
        ("broken", module("1", "", &in_poll(300, "unreachable")), "unreachable in work"),
        ("endless", module("1", "", &in_poll(30, endless)), "budget of 250us exceeded"),
    ];
    let folder = daemon.path("state").join("crash");
    for (name, bytes, kind) in &cases {
        daemon.drop_in(name, bytes);
        daemon.wait_for(name, "quarantined", |view| view.state == PluginState::Quarantined);
        let line = daemon.wait_log(name, &["its crash report is"]);
        let found = wait("a report", LIMIT, || {
            let is_it = |path: &PathBuf| path.to_string_lossy().contains(&format!("/{name}-"));
            reports(&folder).into_iter().find(is_it)
        });
        assert!(line.message.contains(found.to_str().unwrap()), "{}", line.message);
        let about = fs::metadata(&found).unwrap();
        assert_eq!(about.permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::metadata(&folder).unwrap().mode() & 0o777, 0o700);

        let output = replay(&[found.to_str().unwrap(), "--cycles", "3"]);
        let text = String::from_utf8(output.stdout).unwrap();
        println!("{text}");
        assert_eq!(output.status.code(), Some(0), "{text}");
        for words in ["verdict   reproduced", kind, "CYCLE", "evil.input=", "FUNCTION"] {
            assert!(text.contains(words), "{text}\nlacks {words}");
        }
        let output = replay(&[found.to_str().unwrap(), "--json"]);
        let view: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!((&view["verdict"], &view["plugin"]), (&"reproduced".into(), &(*name).into()));
        assert_eq!(view["cycles"].as_array().unwrap().len(), 10);

        let damaged = daemon.path("damaged");
        let mut bytes = fs::read(&found).unwrap();
        bytes[2000] ^= 1;
        fs::write(&damaged, bytes).unwrap();
        let output = replay(&[damaged.to_str().unwrap()]);
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(text.contains("the report is cut or damaged"), "{text}");
    }
    // It trapped three times and was reported once.
    assert_eq!(reports(&folder).len(), cases.len(), "{:?}", reports(&folder));
}

#[test]
fn a_start_that_traps_is_reported_too() {
    let daemon = Daemon::start(Keys::default());
    let fields = "(func (export \"_initialize\") (drop (i32.load (i32.const -4))))";
    daemon.drop_in("unborn", &module("1", fields, ""));
    let line = daemon.wait_log("unborn", &["its crash report is"]);
    let path = line.message.split([' ', ';']).find(|word| word.ends_with(".crash")).unwrap();
    let output = replay(&[path]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert!(text.contains("out of bounds"), "{text}");
}

#[test]
fn a_daemon_that_records_nothing_reports_nothing() {
    let daemon = Daemon::start(Keys { tables: "[crash]\nrecord = false\n", ..Keys::default() });
    daemon.drop_in("broken", &module("1", "", &in_poll(3, "unreachable")));
    daemon.wait_for("broken", "quarantined", |view| view.state == PluginState::Quarantined);
    let folder = daemon.path("state").join("crash");
    drop(daemon.stop());
    assert_eq!(reports(&folder), [] as [PathBuf; 0]);
}

#[test]
fn the_folder_is_bounded() {
    let folder = tempfile::tempdir().unwrap();
    let store = ReportStore::new(folder.path().join("crash"));
    let module = module("1", "", &in_poll(5, "unreachable"));
    let mut rig = running(&module);
    let program = run_out(&mut rig, 10);
    let mut report = CrashReport::parse(&report_bytes(&rig, program, Some(&module))).unwrap();
    let mut put = |cycle, padding| {
        report.head.trap.cycle = cycle;
        report.module = Some(vec![0; padding]);
        store.put(&report).unwrap()
    };
    let first = put(1, 0);
    let stray = folder.path().join("crash/.p-1-0.crash.tmp");
    let other = folder.path().join("crash/notes.txt");
    fs::write(&stray, "half").unwrap();
    fs::write(&other, "keep").unwrap();
    let mut last = first.clone();
    for cycle in 2..=MAX_FILES as u64 + 5 {
        last = put(cycle, 0);
    }
    let kept = reports(&folder.path().join("crash"));
    assert_eq!(kept.len(), MAX_FILES + 1);
    assert!(kept.contains(&last) && kept.contains(&other) && !kept.contains(&first));
    assert!(!stray.exists());
    for cycle in 100..110 {
        last = put(cycle, 15 << 20);
    }
    let kept = reports(&folder.path().join("crash"));
    let bytes: u64 = kept.iter().map(|path| fs::metadata(path).unwrap().len()).sum();
    assert!(bytes <= MAX_FOLDER_BYTES && kept.contains(&last), "{bytes} bytes, {kept:?}");
    assert_eq!(kept.len(), 4 + 1);
}
