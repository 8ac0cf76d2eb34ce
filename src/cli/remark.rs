//! Remarks on a plugin, which are printed below the table of plugins.
//!
//! A remark is one sentence. It says, for example, why a plugin does not run, or which calls are
//! refused. The warnings about the plugin's `.wasm` file (`PluginView::notes`) are printed as
//! remarks. The function [`stall`] returns the lines about a stalled scan. During a stall the
//! remarks may be out of date.
//!
//! The functions only turn views of the daemon into text. The table of plugins is in `plugin.rs`.
//!
//! Examples of remarks:
//!
//! ```text
//! version 3f2a1b0c9d8e runs; version 77ab01c2d3e4, which is in the file, is being prepared
//! degraded: an input that it requires is bad, so its outputs are safe
//! lamp is not granted to the plugin (once, last in cycle 7)
//! ```

use std::time::Duration;

use super::table::{Paint, Style};
use super::unit::{age_ms, short};
use crate::control::{PluginState, PluginView, ProbationView, RefusedView, StatusView};
use crate::text::{counted, legible, times};

/// The largest number of refused calls for which a line is printed. The JSON output has all calls.
const MAX_LINES: usize = 8;

/// Returns two lines about a stalled scan; an empty text if the scan runs.
pub(super) fn stall(view: &StatusView, paint: Paint) -> String {
    let Some(stall) = &view.stalled else { return String::new() };
    let label = paint.with(Style::Bad, "scan    ");
    let (since, exit) = (age_ms(stall.since_ms), age_ms(stall.exit_in_ms));
    let (doing, safety) = (legible(&stall.doing), legible(&stall.safety));
    format!(
        "{label}  STALLED for {since}, {doing}\n\
         {label}  {safety}; the daemon ends in {exit} if the stall lasts\n"
    )
}

/// Returns the remarks on a plugin, one sentence each. The most serious remark is first.
pub(super) fn remarks(view: &PluginView) -> Vec<String> {
    let mut all: Vec<String> = view.reason.iter().map(|reason| legible(reason)).collect();
    all.extend(versions(view));
    all.extend(losses(view));
    all.extend(refusals(view));
    all.extend(view.notes.iter().map(|note| legible(note)));
    // A crash report is not mentioned if both are true: the daemon reports no problem, and the
    // version that runs is not the version that trapped. The history contains the path of the
    // report.
    let is_well = view.reason.is_none() && view.hash.is_some() && view.hash != view.trapped_hash;
    let report = view.report.as_ref().filter(|_| !is_well);
    all.extend(report.map(|file| legible(&format!("`camshaft replay {file}` repeats the trap"))));
    all
}

/// Returns the remarks on the version that runs.
fn versions(view: &PluginView) -> Vec<String> {
    let mut all = Vec::new();
    if view.state != PluginState::Running {
        return all;
    }
    if let (Some(hash), Some(file)) = (&view.hash, &view.file_hash)
        && hash != file
    {
        let (hash, file) = (short(hash), short(file));
        let why = if view.reason.is_some() { "does not run" } else { "is being prepared" };
        all.push(format!("version {hash} runs; version {file}, which is in the file, {why}"));
    }
    if view.degraded {
        all.push(
            "degraded: an input that the plugin requires is bad, so the outputs of the plugin are \
             safe"
                .into(),
        );
    }
    if view.probation {
        let how_long = view.probation_left.map(probation);
        let how_long = how_long.map(|time| format!(" {time}")).unwrap_or_default();
        all.push(format!(
            "on probation{how_long}: if this version traps, the previous version runs again"
        ));
    }
    all
}

/// Returns the remaining probation: `for 5s`, or `for 3s and 40 polls`. If the time has passed and
/// no polls remain, the probation ends with the next poll. The text is then `until its next poll`.
/// Times are rounded up.
pub(super) fn probation(left: ProbationView) -> String {
    let unit = if left.ms < 10_000 { 100 } else { 1000 };
    let time = Duration::from_millis(left.ms.div_ceil(unit) * unit);
    let time = (left.ms > 0).then(|| humantime::format_duration(time).to_string());
    let polls = (left.polls > 0).then(|| counted(left.polls, "poll"));
    let both: Vec<_> = time.into_iter().chain(polls).collect();
    match both.is_empty() {
        true => "until its next poll".into(),
        false => format!("for {}", both.join(" and ")),
    }
}

/// Returns the remarks on outputs that this plugin owned earlier, and that have no owner now.
pub(super) fn losses(view: &PluginView) -> Vec<String> {
    let loss = |point: &String| {
        let text = "has no owner: this plugin wrote this output earlier, but does not write it now";
        legible(&format!("{point} {text}"))
    };
    view.lost.iter().map(loss).collect()
}

/// Returns the remarks on refused calls of the plugin.
pub(super) fn refusals(view: &PluginView) -> Vec<String> {
    let (shown, rest) = view.refused.split_at(view.refused.len().min(MAX_LINES));
    let mut all: Vec<String> = shown.iter().map(refusal).collect();
    let others = rest.iter().map(|call| call.count).sum::<u64>() + view.refused_others;
    if others > 0 {
        all.push(format!("calls that are not listed here were refused {}", times(others)));
    }
    all.iter().map(|text| legible(text)).collect()
}

/// Returns a refused call as text, with its count and its last cycle.
fn refusal(call: &RefusedView) -> String {
    let when = match call.last_cycle {
        0 => "before its first poll".into(),
        cycle => format!("last in cycle {cycle}"),
    };
    format!("{} ({}, {when})", call.words, times(call.count))
}

#[cfg(test)]
mod tests {
    use super::super::outcome::tests::view;
    use super::*;

    /// The text about a probation has the remaining time and the remaining polls.
    #[test]
    fn a_probation_has_a_time_and_polls() {
        fn check(ms: u64, polls: u64, expected: &str) {
            assert_eq!(probation(ProbationView { ms, polls }), expected);
        }
        check(4_960, 0, "for 5s");
        check(4_960, 40, "for 5s and 40 polls");
        check(901, 1, "for 1s and 1 poll");
        check(59_100, 0, "for 1m");
        check(0, 3, "for 3 polls");
        check(0, 0, "until its next poll");
    }

    /// The remarks explain which version runs, why a plugin is degraded, and what probation means.
    #[test]
    fn a_state_explains_itself() {
        let check = |change: fn(&mut PluginView), expected: &[&str]| {
            let mut view = view(PluginState::Running);
            change(&mut view);
            assert_eq!(remarks(&view), expected);
        };
        check(|_| {}, &[]);
        check(
            |view| view.file_hash = Some("b".repeat(64)),
            &["version aaaaaaaaaaaa runs; version bbbbbbbbbbbb, which is in the file, is \
               being prepared"],
        );
        check(
            |view| {
                view.file_hash = Some("b".repeat(64));
                view.reason = Some("no module".into());
            },
            &[
                "no module",
                "version aaaaaaaaaaaa runs; version bbbbbbbbbbbb, which is in the file, does \
                 not run",
            ],
        );
        check(
            |view| (view.probation, view.degraded) = (true, true),
            &[
                "degraded: an input that the plugin requires is bad, so the outputs of the plugin \
                 are safe",
                "on probation: if this version traps, the previous version runs again",
            ],
        );
    }

    /// A warning about the `.wasm` file is printed, and its control codes are escaped.
    #[test]
    fn what_is_odd_about_a_module_is_said() {
        let view =
            PluginView { notes: vec!["it is\ta command".into()], ..view(PluginState::Running) };
        assert_eq!(remarks(&view), ["it is\\ta command"]);
    }

    /// At most 8 refused calls have a line, and the other calls are counted.
    #[test]
    fn refused_calls_have_a_line_each_up_to_a_limit() {
        let mut view = view(PluginState::Running);
        let call = |n: u64| RefusedView {
            call: "f".into(),
            code: 5,
            name: format!("p{n}"),
            words: format!("p{n} is not granted to the plugin"),
            count: n,
            last_cycle: n,
        };
        view.lost = vec!["valve".into()];
        view.refused = vec![call(1), RefusedView { last_cycle: 0, ..call(2) }];
        let expected = [
            "valve has no owner: this plugin wrote this output earlier, but does not write it now",
            "p1 is not granted to the plugin (once, last in cycle 1)",
            "p2 is not granted to the plugin (2 times, before its first poll)",
        ];
        assert_eq!(remarks(&view), expected);
        view.refused = (1..=10).map(call).collect();
        view.refused_others = 1;
        let all = remarks(&view);
        assert_eq!(all.len(), 1 + MAX_LINES + 1);
        assert_eq!(all.last().unwrap(), "calls that are not listed here were refused 20 times");
    }
}
