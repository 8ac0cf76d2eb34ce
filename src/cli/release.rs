//! `camshaft release`: ends a hold or a quarantine, and prints the new state of the plugin.
//!
//! If the plugin is held, a release ends the hold. Otherwise the release ends the quarantine. A
//! plugin that is held, and whose file is in quarantine, needs two releases. The printed text says
//! whether a hold or a quarantine was ended. The function that waits for the outcome is in
//! `outcome.rs`.
//!
//! Example of the output:
//!
//! ```text
//! tank: out of quarantine, running, on probation for 5s
//! ```

use std::time::Duration;

use super::args::Named;
use super::deploy::on_probation;
use super::outcome::{self, is_seated};
use super::screen::Screen;
use super::{CommandResult, Exit, Failed, client};
use crate::control::{PluginState, PluginView, Want};
use crate::text::legible;

/// The time in which the daemon must prepare the version in the file and poll it. The value equals
/// the default of `deploy --timeout`.
const LIMIT: Duration = Duration::from_secs(30);

/// Runs the verb `camshaft release`.
pub(super) async fn release(Named { name, reach }: Named, screen: &mut Screen) -> CommandResult {
    let client = client(reach);
    let before = client.plugin(&name).await?;
    client.act(&name, "release").await?;
    let judge = |view: Option<&PluginView>| is_over(before.as_ref(), view).then(|| view.cloned());
    let found = match outcome::watch(&client, &name, LIMIT, judge).await? {
        // The release has succeeded: the version is in the scan, and only a large `every` delays
        // its first poll.
        Err(seen) if seen.as_ref().is_some_and(is_seated) => Ok(seen),
        found => found,
    };
    match found {
        Ok(view) => {
            // While the scan is stalled, the daemon's view of the plugin may be older than the
            // release.
            if view.as_ref().is_some_and(|view| view.state == PluginState::Running) {
                outcome::moves(&client, &name, "the plugin to run").await?;
            }
            let text = sentence(&name, before.as_ref(), view.as_ref());
            if view.is_some_and(|view| view.state == PluginState::Refused) {
                return Err(Failed::new(Exit::Failure, format!("{name}: {text}")));
            }
            Ok(screen.print(&format!("{name}: {text}\n"))?)
        }
        Err(seen) => {
            Err(outcome::too_late(&client, &name, "the plugin to run", seen.as_ref()).await)
        }
    }
}

/// Whether the outcome of the release is known. `before` is the plugin before the release, and
/// `now` is the plugin now; `None` means that the daemon does not list the plugin. The daemon
/// removes a plugin without a file from its list when the hold ends. While the version in the file
/// is being prepared, an older version may run. The older version is not the outcome.
fn is_over(before: Option<&PluginView>, now: Option<&PluginView>) -> bool {
    let Some(now) = now else { return true };
    if now.want == Want::Hold {
        return false;
    }
    let is_it = is_seated(now) && now.polls > 0;
    now.file_hash.is_none()
        || match now.state {
            PluginState::Running => is_it || now.reason.is_some(),
            PluginState::Preparing => false,
            // The release clears the reason. A reason in the view is therefore newer than the
            // release.
            PluginState::Refused => now.reason.is_some(),
            // A release of a plugin without a hold ends the quarantine. A quarantine in the view is
            // therefore newer than the release.
            PluginState::Quarantined => true,
            other => before.is_none_or(|before| before.state != other),
        }
}

/// Returns a sentence that says what the release has ended, and in which state the plugin is now.
fn sentence(name: &str, before: Option<&PluginView>, now: Option<&PluginView>) -> String {
    let was_held = before.is_some_and(|before| before.want == Want::Hold);
    let was_bad = before.is_some_and(|before| before.quarantined);
    let Some(now) = now.filter(|now| now.file_hash.is_some() || now.reason.is_some()) else {
        let over = match (was_held, was_bad || before.is_none()) {
            (true, _) => "not held any more; ",
            // The daemon did not list this plugin before the release. So the release can only have
            // ended a quarantine.
            (false, true) => "out of quarantine; ",
            (false, false) => "",
        };
        return format!("{over}the folder has no file of this plugin");
    };
    let why = now.reason.as_ref().map(|reason| format!(": {}", legible(reason)));
    let why = why.unwrap_or_default();
    let state = match is_seated(now) && now.polls == 0 {
        true => "in the scan, not polled yet",
        false => now.state.name(),
    };
    let probation = on_probation(now);
    match (was_held, was_bad) {
        (true, _) if now.quarantined => format!(
            "not held any more, {state}; the plugin's file is still in quarantine; a second \
             `camshaft release {name}` ends the quarantine"
        ),
        (true, _) => format!("not held any more, {state}{probation}{why}"),
        (false, true) if now.quarantined => {
            format!("left quarantine, and is in quarantine again{why}")
        }
        (false, true) => format!("out of quarantine, {state}{probation}{why}"),
        (false, false) => format!("{state}{probation}{why}"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::outcome::tests::view;
    use super::*;
    use crate::control::ProbationView;
    use PluginState::{Backoff, Held, Preparing, Quarantined, Refused, Running};

    fn held(state: PluginState) -> PluginView {
        PluginView { want: Want::Hold, ..view(state) }
    }

    fn bad(view: PluginView) -> PluginView {
        PluginView { quarantined: true, ..view }
    }

    /// Returns the view of a plugin that does not run the version in its file, but another version.
    fn stands_in() -> PluginView {
        PluginView { hash: Some("b".repeat(64)), ..view(Running) }
    }

    fn gone(view: PluginView) -> PluginView {
        PluginView { file_hash: None, hash: None, ..view }
    }

    /// Regression: the wait for a plugin without a file ended only at the time limit.
    #[test]
    fn a_release_is_over_when_the_plugin_has_come_to_something() {
        let check = |before: PluginView, now: Option<PluginView>, expected| {
            assert_eq!(is_over(Some(&before), now.as_ref()), expected, "{now:?}");
        };
        check(held(Held), Some(held(Held)), false);
        check(held(Held), Some(view(Preparing)), false);
        check(held(Held), Some(view(Running)), true);
        check(held(Held), Some(bad(view(Quarantined))), true);
        check(bad(view(Quarantined)), Some(bad(view(Quarantined))), true);
        check(gone(held(Held)), None, true);
        check(gone(held(Held)), Some(gone(view(Held))), true);
        check(view(Refused), Some(view(Refused)), false);
        let again = PluginView { reason: Some("init failed".into()), ..view(Refused) };
        check(again.clone(), Some(again), true);
    }

    /// Regression: the wait ended too early, because a good version ran in place of the version in
    /// quarantine.
    #[test]
    fn what_stands_in_is_no_outcome() {
        let before = PluginView { reason: Some("3 traps".into()), ..bad(stands_in()) };
        let check = |now: PluginView, expected| {
            assert_eq!(is_over(Some(&before), Some(&now)), expected, "{now:?}");
        };
        check(stands_in(), false);
        check(PluginView { polls: 0, ..view(Running) }, false);
        check(view(Running), true);
        check(view(Backoff), true);
        check(PluginView { reason: Some("init failed".into()), ..stands_in() }, true);
        check(before.clone(), true);
    }

    /// The sentence depends on the state before the release and on the state after the release.
    #[test]
    fn what_a_release_has_ended_is_said() {
        let check = |before: PluginView, now: Option<PluginView>, expected: &str| {
            assert_eq!(sentence("tank", Some(&before), now.as_ref()), expected, "{now:?}");
        };
        check(held(Held), Some(view(Running)), "not held any more, running");
        check(
            bad(held(Held)),
            Some(bad(view(Quarantined))),
            "not held any more, quarantined; the plugin's file is still in quarantine; a second \
             `camshaft release tank` ends the quarantine",
        );
        check(bad(view(Quarantined)), Some(view(Running)), "out of quarantine, running");
        check(view(Running), Some(view(Running)), "running");
        let left = Some(ProbationView { ms: 5000, polls: 0 });
        let fresh = PluginView { probation: true, probation_left: left, ..view(Running) };
        let out = "out of quarantine, running, on probation for 5s";
        check(bad(view(Quarantined)), Some(fresh), out);
        let seldom = PluginView { polls: 0, ..view(Running) };
        let out = "not held any more, in the scan, not polled yet";
        check(held(Held), Some(seldom), out);
        let reason = |view| PluginView { reason: Some("it\ntraps".into()), ..view };
        let out = "out of quarantine, running: it\\ntraps";
        check(bad(view(Quarantined)), Some(reason(stands_in())), out);
        let again = "left quarantine, and is in quarantine again: it\\ntraps";
        check(bad(stands_in()), Some(reason(bad(stands_in()))), again);
        let none = "not held any more; the folder has no file of this plugin";
        check(gone(held(Held)), None, none);
        check(gone(held(Held)), Some(gone(view(Held))), none);
        let text = sentence("tank", None, None);
        assert_eq!(text, "out of quarantine; the folder has no file of this plugin");
    }
}
