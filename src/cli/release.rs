//! `camshaft release`: what the release has ended, and the plugin's state after it.
//!
//! A release ends a hold, or else a quarantine, and the text says which one. The end of a hold does
//! not end a quarantine. So a plugin that is held and in quarantine needs two releases. How the
//! wait works is in `outcome.rs`.

use std::time::Duration;

use super::args::Named;
use super::deploy::on_probation;
use super::outcome::{self, is_seated};
use super::screen::Screen;
use super::{Exit, Failed, Outcome, client};
use crate::control::{PluginState, PluginView, Want};
use crate::text::legible;

/// The time that the version in the file has to be made and polled: that of a deploy by default.
const LIMIT: Duration = Duration::from_secs(30);

/// The verb `camshaft release`.
pub(super) async fn release(Named { name, reach }: Named, screen: &mut Screen) -> Outcome {
    let client = client(reach);
    let before = client.plugin(&name).await?;
    client.act(&name, "release").await?;
    let judge = |view: Option<&PluginView>| is_over(before.as_ref(), view).then(|| view.cloned());
    let found = match outcome::watch(&client, &name, LIMIT, judge).await? {
        // It is polled seldom, and has its seat.
        Err(seen) if seen.as_ref().is_some_and(is_seated) => Ok(seen),
        found => found,
    };
    match found {
        Ok(view) => {
            // While the scan stands, the view shows the plugin as it was before.
            if view.as_ref().is_some_and(|view| view.state == PluginState::Running) {
                outcome::moves(&client, &name, "it shall run").await?;
            }
            let text = sentence(&name, before.as_ref(), view.as_ref());
            if view.is_some_and(|view| view.state == PluginState::Refused) {
                return Err(Failed::new(Exit::Failure, format!("{name}: {text}")));
            }
            Ok(screen.print(&format!("{name}: {text}\n"))?)
        }
        Err(seen) => Err(outcome::too_late(&client, &name, "it shall run", seen.as_ref()).await),
    }
}

/// Whether the outcome of the release is known. A plugin without a file is forgotten with its hold.
/// While the file's version is being prepared, another version may run in its place; that is no
/// outcome.
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
            // The release forgets the reason, so that one that is there is new.
            PluginState::Refused => now.reason.is_some(),
            // The release ended the quarantine from before, if it ended no hold.
            PluginState::Quarantined => true,
            other => before.is_none_or(|before| before.state != other),
        }
}

/// The end of the hold or the quarantine, and the state after it, in words.
fn sentence(name: &str, before: Option<&PluginView>, now: Option<&PluginView>) -> String {
    let was_held = before.is_some_and(|before| before.want == Want::Hold);
    let was_bad = before.is_some_and(|before| before.quarantined);
    let Some(now) = now.filter(|now| now.file_hash.is_some() || now.reason.is_some()) else {
        let over = match (was_held, was_bad || before.is_none()) {
            (true, _) => "not held any more; ",
            // A plugin that the daemon does not list can only be in quarantine from before.
            (false, true) => "out of quarantine; ",
            (false, false) => "",
        };
        return format!("{over}the folder has no file of it");
    };
    let why = now.reason.as_ref().map(|reason| format!(": {}", legible(reason)));
    let why = why.unwrap_or_default();
    let state = match is_seated(now) && now.polls == 0 {
        true => "in its seat, not polled yet",
        false => now.state.name(),
    };
    let probation = on_probation(now);
    match (was_held, was_bad) {
        (true, _) if now.quarantined => format!(
            "not held any more, {state}; its file is still in quarantine, and another `camshaft \
             release {name}` lets it run"
        ),
        (true, _) => format!("not held any more, {state}{probation}{why}"),
        (false, true) if now.quarantined => {
            format!("was out of quarantine, and is in it again{why}")
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

    /// A plugin that runs another version than the one in its file.
    fn stands_in() -> PluginView {
        PluginView { hash: Some("b".repeat(64)), ..view(Running) }
    }

    fn gone(view: PluginView) -> PluginView {
        PluginView { file_hash: None, hash: None, ..view }
    }

    /// A plugin without a file was waited for until the limit.
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

    /// A good version ran in place of the one in quarantine, and the wait was over at once.
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

    #[test]
    fn what_a_release_has_ended_is_said() {
        let check = |before: PluginView, now: Option<PluginView>, expected: &str| {
            assert_eq!(sentence("tank", Some(&before), now.as_ref()), expected, "{now:?}");
        };
        check(held(Held), Some(view(Running)), "not held any more, running");
        check(
            bad(held(Held)),
            Some(bad(view(Quarantined))),
            "not held any more, quarantined; its file is still in quarantine, and another \
             `camshaft release tank` lets it run",
        );
        check(bad(view(Quarantined)), Some(view(Running)), "out of quarantine, running");
        check(view(Running), Some(view(Running)), "running");
        let left = Some(ProbationView { ms: 5000, polls: 0 });
        let fresh = PluginView { probation: true, probation_left: left, ..view(Running) };
        let out = "out of quarantine, running, on probation for 5s";
        check(bad(view(Quarantined)), Some(fresh), out);
        let seldom = PluginView { polls: 0, ..view(Running) };
        let out = "not held any more, in its seat, not polled yet";
        check(held(Held), Some(seldom), out);
        let reason = |view| PluginView { reason: Some("it\ntraps".into()), ..view };
        let out = "out of quarantine, running: it\\ntraps";
        check(bad(view(Quarantined)), Some(reason(stands_in())), out);
        let again = "was out of quarantine, and is in it again: it\\ntraps";
        check(bad(stands_in()), Some(reason(bad(stands_in()))), again);
        let none = "not held any more; the folder has no file of it";
        check(gone(held(Held)), None, none);
        check(gone(held(Held)), Some(gone(view(Held))), none);
        let text = sentence("tank", None, None);
        assert_eq!(text, "out of quarantine; the folder has no file of it");
    }
}
