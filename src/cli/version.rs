//! `camshaft versions`: the versions that a plugin has had, and whether a rollback can use them.
//!
//! The table has one line for each version. The versions whose bytes the daemon stores are first.
//! The daemon provides all facts, and this file only prints them. The rollback is in `deploy.rs`.
//!
//! Example of a line:
//!
//! ```text
//! VERSION       FIRST STARTED (UTC)     RAN  NOW                STATE  WHY IT ENDED
//! 3f2a1b0c9d8e  2026-01-02 03:04:05  1m 30s  runs, in the file  good   -
//! ```

use super::args::List;
use super::screen::Screen;
use super::table::{Cell, Paint, Side, Style, Table};
use super::unit::{age_s, short};
use super::{CommandResult, client};
use crate::control::{Soundness, VersionView};

use Side::{Left, Right};

/// Runs the verb `camshaft versions`.
pub(super) async fn versions(name: &str, list: List, screen: &mut Screen) -> CommandResult {
    let views = client(list.reach).versions(name).await?;
    Ok(screen.show(&views[..], list.json, table)?)
}

/// Returns the versions as a table, in the order in which the daemon sent them.
fn table(views: &[VersionView], paint: Paint) -> String {
    if views.is_empty() {
        return "no versions\n".into();
    }
    let mut table = Table::new([
        (Left, "VERSION"),
        (Left, "FIRST STARTED (UTC)"),
        (Right, "RAN"),
        (Left, "NOW"),
        (Left, "STATE"),
        (Left, "WHY IT ENDED"),
    ]);
    for view in views {
        let started = view.started.as_deref().map_or("-".into(), time);
        table.row([
            short(&view.hash).into(),
            started.into(),
            if view.ran_s > 0 { age_s(view.ran_s).into() } else { "-".into() },
            now(view).into(),
            state(view),
            ending(view).into(),
        ]);
    }
    table.render(paint)
}

/// Converts a time of the daemon such as `2026-01-02T03:04:05Z` to `2026-01-02 03:04:05`.
fn time(text: &str) -> String {
    text.replace('T', " ").trim_end_matches('Z').to_owned()
}

/// Returns where the version is now: in the scan, in the plugin file, in the store, or in none of
/// these places.
fn now(view: &VersionView) -> &'static str {
    match (view.runs, view.in_file, view.kept) {
        (true, true, _) => "runs, in the file",
        (true, false, _) => "runs",
        (false, true, _) => "in the file",
        (false, false, true) => "stored",
        (false, false, false) => "not stored",
    }
}

/// Returns the state of the version. A rollback to a bad version needs the flag `--even-bad`.
fn state(view: &VersionView) -> Cell {
    match (view.soundness, view.quarantined) {
        (_, true) => Cell::styled(Style::Bad, "quarantined"),
        (Soundness::Good, _) => Cell::styled(Style::Good, "good"),
        (Soundness::Doubtful, _) => Cell::styled(Style::Warn, "doubtful"),
        (Soundness::Bad, _) => Cell::styled(Style::Bad, "bad"),
        (Soundness::Unproven, _) => "unproven".into(),
    }
}

/// Returns when and why the version last ended its run. Adds the reason why the version is bad or
/// doubtful, unless it equals the reason of the end.
fn ending(view: &VersionView) -> String {
    let at = view.ended.as_deref().map(|at| format!(" at {}", time(at))).unwrap_or_default();
    let end = view.end.as_deref().map(|end| format!("{end}{at}"));
    let reason = view.reason.clone().filter(|reason| view.end.as_ref() != Some(reason));
    let words: Vec<String> = end.into_iter().chain(reason).collect();
    if words.is_empty() { "-".into() } else { words.join("; ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The table has one line for a bad version that ended, and one for a good version that runs.
    #[test]
    fn a_table_says_what_became_of_each() {
        let good = VersionView {
            hash: "a".repeat(64),
            kept: true,
            in_file: false,
            runs: true,
            started: Some("2026-01-02T03:04:05Z".into()),
            ran_s: 90,
            ended: None,
            end: None,
            soundness: Soundness::Good,
            reason: None,
            quarantined: false,
        };
        let bad = VersionView {
            hash: "b".repeat(64),
            in_file: true,
            runs: false,
            started: None,
            ran_s: 0,
            ended: Some("2026-01-02T03:05:35Z".into()),
            end: Some("it trapped: unreachable, cycle 7".into()),
            soundness: Soundness::Bad,
            reason: Some("5 traps".into()),
            quarantined: true,
            ..good.clone()
        };
        let text = table(&[bad, good], Paint(false));
        let cells = |line: &'static str| -> Vec<&'static str> {
            line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).collect()
        };
        let lines: Vec<_> = text.leak().lines().map(cells).collect();
        let why = "it trapped: unreachable, cycle 7 at 2026-01-02 03:05:35; 5 traps";
        assert_eq!(lines[1], ["bbbbbbbbbbbb", "-", "-", "in the file", "quarantined", why]);
        let started = "2026-01-02 03:04:05";
        assert_eq!(lines[2][..2], ["aaaaaaaaaaaa", started]);
        assert_eq!(lines[2][3..], ["runs", "good", "-"]);
        assert_eq!(table(&[], Paint(false)), "no versions\n");
    }
}
