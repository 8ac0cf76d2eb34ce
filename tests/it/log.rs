//! Tests of the log output in a file: as text and as JSON, with its levels and without colours.
//!
//! A process has only one log. So each test starts a child process, which writes a log with the
//! settings of the test. The test then reads the file that was the child's stderr.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::process::{Command, Stdio};

use camshaft::log::{self, Settings};

/// The child's part: logs at two levels, changes the level, logs again. In the run of all tests,
/// which has no settings for it, it does nothing.
#[test]
fn child() {
    let Ok(settings) = std::env::var("LOG_SETTINGS") else { return };
    let settings: Settings = toml::from_str(&settings).unwrap();
    let (handle, _writer) = log::start(&settings).unwrap();
    for round in 1..=2 {
        tracing::debug!(plugin = "tank", round, "quiet");
        tracing::info!(plugin = "tank", round, "swapped");
        handle.set_level(&"debug".parse().unwrap());
    }
    assert!(log::start(&settings).is_err());
}

/// Likewise: logs words of a stranger who wants to be taken for the log itself.
#[test]
fn forger() {
    let Ok(settings) = std::env::var("LOG_SETTINGS") else { return };
    let _handle = log::start(&toml::from_str(&settings).unwrap()).unwrap();
    let name = "x\n2026-11-28T00:00:00.000Z ERROR motor stopped\x1b[31m\u{202e}";
    tracing::warn!(plugin = name, path = %name, n = 7, error = ?Some(name), "{name} is refused");
}

/// The log of a child with these settings; `to_journal` says whether its stderr is said to be one.
fn run(settings: &str, to_journal: bool) -> Vec<String> {
    run_child("log::child", settings, to_journal)
}

/// The same of another child.
fn run_child(child: &str, settings: &str, to_journal: bool) -> Vec<String> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("stderr");
    let stderr = File::create(&path).unwrap();
    let of_file = stderr.metadata().unwrap();
    // If not, then as when started by hand from a service: there is a journal, but elsewhere.
    let inode = if to_journal { of_file.ino() } else { of_file.ino() + 1 };
    let status = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", child, "--nocapture"])
        .env("LOG_SETTINGS", settings)
        .env("JOURNAL_STREAM", format!("{}:{inode}", of_file.dev()))
        .stdout(Stdio::null())
        .stderr(stderr)
        .status()
        .unwrap();
    let text = fs::read_to_string(path).unwrap();
    assert!(status.success(), "{text}");
    text.lines().map(str::to_owned).collect()
}

/// Checks the log without its timestamps.
fn check(settings: &str, expected: &[&str]) {
    let lines = run(settings, false);
    let untimed: Vec<&str> = lines.iter().map(|line| line.split_once(' ').unwrap().1).collect();
    assert_eq!(untimed, expected, "{settings}");
}

#[test]
fn text_in_a_file_has_no_colour_and_the_level_changes_live() {
    let expected = [" INFO swapped", "DEBUG quiet", " INFO swapped"];
    check("", &expected);
    check("format = 'text'", &expected);
    check("level = 'off'", &expected[1..]);
}

#[test]
fn json_has_one_object_a_line_with_the_fields_at_its_top() {
    let lines = run("format = 'json'", false);
    assert_eq!(lines.len(), 3);
    let first: serde_json::Value = serde_json::from_str(&lines[0]).unwrap();
    let fields = ["level", "message", "plugin"].map(|key| first[key].as_str().unwrap());
    assert_eq!(fields, ["INFO", "swapped", "tank"]);
    assert!(first["timestamp"].as_str().unwrap().ends_with('Z'));
}

#[test]
fn words_of_strangers_forge_no_line_and_reach_no_terminal() {
    let escaped = "x\\n2026-11-28T00:00:00.000Z ERROR motor stopped\\u{1b}[31m\\u{202e}";
    let lines = run_child("log::forger", "format = 'text'", false);
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].ends_with(&format!(" WARN {escaped} is refused")), "{lines:?}");
    let lines = run_child("log::forger", "format = 'json'", false);
    assert_eq!(lines.len(), 1, "{lines:?}");
    let line: serde_json::Value = serde_json::from_str(&lines[0]).unwrap();
    assert_eq!(line["message"], format!("{escaped} is refused"));
    assert_eq!((&line["plugin"], &line["path"]), (&escaped.into(), &escaped.into()));
    assert_eq!(line["n"], 7);
}

#[test]
fn without_a_journal_the_log_is_text_and_says_so() {
    if std::path::Path::new("/run/systemd/journal/socket").exists() {
        return; // The lines would really go to this machine's journal.
    }
    for (settings, to_journal) in [("", true), ("format = 'journal'", false)] {
        let lines = run(settings, to_journal);
        assert!(lines[0].contains("WARN journald cannot be reached"), "{lines:?}");
        assert_eq!(lines.len(), 4, "{lines:?}");
    }
    let warning = run("format = 'text'", true).into_iter().find(|line| line.contains("WARN"));
    assert_eq!(warning, None);
}
