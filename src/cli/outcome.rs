//! Waits for the outcome of an order, such as a deploy, a hold or a release.
//!
//! ```text
//! order ─▶ answer of the daemon ─▶ read the plugin's view ─▶ judge ─▶ outcome
//!                                   ▲                         │
//!                                   └─── not known: 50 ms ◀───┘
//! ```
//!
//! The daemon answers an order before the order is carried out. For this reason, these functions
//! read the view of the plugin again and again. The functions stop when the view shows the wanted
//! state, or a reason why the plugin cannot reach the wanted state, or when a time limit has
//! passed. The verbs are in `deploy.rs`, `release.rs` and `plugin.rs`.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::unit::{age_ms, short};
use super::{Exit, Failed};
use crate::config::Problems;
use crate::control::client::{Client, Error};
use crate::control::{PluginState, PluginView, StallView, SwapView};
use crate::plugin::Trap;
use crate::text::legible;

/// Pause between two reads of the view. A swap takes about 50 ms.
const LOOK: Duration = Duration::from_millis(50);

/// Time limit of the verbs `hold`, `restart` and `remove`. A hold takes one or two cycles, and a
/// removal half a second.
pub(super) const ORDER_TIME: Duration = Duration::from_secs(5);

/// The outcome of a deploy or a rollback.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fate {
    /// The version runs. `SwapView` has the durations of the plugin's latest swap, if there was
    /// one.
    Runs(Option<SwapView>),
    /// The version is in the plugin folder, but the plugin is held.
    Held,
    /// The version does not run. The text is the reason.
    Failed(String),
    /// The version ran and has trapped. The text describes the trap.
    Trapped(String),
}

/// Returns the outcome of the version with this hash; `None` while the outcome is not known.
/// `traps` is the number of traps before the order. Before the first poll, it is not known whether
/// a version runs.
pub(super) fn fate(view: &PluginView, hash: &str, traps: u64) -> Option<Fate> {
    let is_it = |found: &Option<String>| found.as_deref() == Some(hash);
    if !is_it(&view.file_hash) {
        return None;
    }
    let trap = trapped_since(view, hash, traps);
    let reason = reason(view, trap.as_ref());
    match (reason, trap, view.state) {
        (Some(reason), ..) => Some(Fate::Failed(reason.clone())),
        // After a trap, the daemon may already have started the program again. So the state
        // `Running` alone does not prove success.
        (None, Some(trap), _) => Some(Fate::Trapped(trap)),
        (None, None, PluginState::Running) if is_it(&view.hash) && view.polls > 0 => {
            Some(Fate::Runs(view.last_swap))
        }
        (None, None, PluginState::Held) => Some(Fate::Held),
        (None, None, _) => None,
    }
}

/// Whether the version in the file is in the scan, even if it was not polled yet.
pub(super) fn is_seated(view: &PluginView) -> bool {
    view.state == PluginState::Running && view.hash.is_some() && view.hash == view.file_hash
}

/// Returns the reason why the file's version does not run. Returns `None` if the reason in the view
/// is the trap `trap`, because the caller reports this trap. Also returns `None` if the plugin is
/// held or is being prepared, and the reason is its last trap: this trap is old.
fn reason<'v>(view: &'v PluginView, trap: Option<&String>) -> Option<&'v String> {
    let is_no_reason = matches!(view.state, PluginState::Held | PluginState::Preparing);
    let before = view.last_trap.as_ref().filter(|_| is_no_reason);
    let before = before.map(Trap::explained);
    view.reason.as_ref().filter(|reason| Some(*reason) != trap && Some(*reason) != before.as_ref())
}

/// Returns a text about the content of the file, if the file contains no module, or a version that
/// is neither `hash` nor `before`. For the version `before`, the result is `None`, because the
/// daemon may not have read the new file yet.
pub(super) fn instead(view: &PluginView, hash: &str, before: Option<&str>) -> Option<String> {
    match (view.file_hash.as_deref(), &view.reason) {
        (None, Some(reason)) if view.state == PluginState::Refused => Some(reason.clone()),
        (None, _) => None,
        (file, _) if file == before || file == Some(hash) => None,
        (Some(_), _) => {
            Some("another version was put into the file before this version could run".into())
        }
    }
}

/// Returns the trap of this version, if the plugin has had more than `traps` traps.
fn trapped_since(view: &PluginView, hash: &str, traps: u64) -> Option<String> {
    let is_it = view.traps > traps && view.trapped_hash.as_deref() == Some(hash);
    view.last_trap.as_ref().filter(|_| is_it).map(Trap::explained)
}

/// Returns the outcome of a probation: the view if the version is good, or the reason why the
/// version is not good. Returns `None` until the probation has ended. `generation` and `traps` are
/// the number of the instance and the number of traps at the start of the wait.
pub(super) fn proof(
    view: Option<&PluginView>,
    hash: &str,
    (generation, traps): (u64, u64),
) -> Option<Result<PluginView, String>> {
    let is_it = |found: &Option<String>| found.as_deref() == Some(hash);
    let Some(view) = view else { return Some(Err("its file was deleted".into())) };
    let is_running = view.state == PluginState::Running;
    let trap = trapped_since(view, hash, traps);
    if view.file_hash.is_none() {
        Some(Err(view.reason.clone().unwrap_or_else(|| "its file was deleted".into())))
    } else if !is_it(&view.file_hash) {
        Some(Err("another version is in the file now".into()))
    } else if let Some(reason) = reason(view, trap.as_ref()) {
        Some(Err(reason.clone()))
    } else if let Some(trap) = trap {
        Some(Err(format!("it has trapped: {trap}")))
    } else if view.state == PluginState::Held {
        Some(Err("it is held".into()))
    } else if is_running && view.hash.is_none() {
        None // it trapped in this very cycle, and the trap is not counted yet
    } else if !(is_running && is_it(&view.hash) && view.generation == generation) {
        Some(Err("the program was restarted on probation, so it is not known whether the version \
                  is good"
            .into()))
    } else {
        view.probation_left.is_none().then(|| Ok(view.clone()))
    }
}

/// Reads the view of a plugin until `judge` returns a result. After `limit`, returns the last view
/// instead. If the plugin does not exist, `judge` gets `None`.
///
/// # Errors
/// The daemon does not answer.
pub(super) async fn watch<T>(
    client: &Client,
    name: &str,
    limit: Duration,
    judge: impl Fn(Option<&PluginView>) -> Option<T>,
) -> Result<Result<T, Option<PluginView>>, Error> {
    let deadline = Instant::now() + limit;
    loop {
        let view = client.plugin(name).await?;
        if let Some(found) = judge(view.as_ref()) {
            return Ok(Ok(found));
        }
        if Instant::now() >= deadline {
            return Ok(Err(view));
        }
        sleep(LOOK).await;
    }
}

/// Returns the error after a time limit has passed. The error names the wanted state and the
/// present state. If the scan is stalled, the error reports the stall instead. If the daemon does
/// not answer, the error reports this.
pub(super) async fn too_late(
    client: &Client,
    name: &str,
    wanted: &str,
    seen: Option<&PluginView>,
) -> Failed {
    if let Err(stands) = moves(client, name, wanted).await {
        return stands;
    }
    let is = match seen {
        None => "there is no plugin of this name".into(),
        Some(view) => {
            let hash = view.hash.as_deref().map(|hash| format!(", version {}", short(hash)));
            let reason = view.reason.as_deref().map(|reason| format!(" ({})", legible(reason)));
            let state = view.state.name();
            format!(
                "the plugin is {state}{}{}",
                hash.unwrap_or_default(),
                reason.unwrap_or_default()
            )
        }
    };
    Failed::new(
        Exit::Failure,
        format!("{name}: waited for {wanted}, but the time limit has passed and {is}"),
    )
}

/// Returns the error of a wrong configuration. The exit code is 78, and systemd then does not start
/// the daemon again. If a file could not be read in time, the configuration may be correct, so the
/// exit code is 1.
pub(super) fn wrong(problems: &Problems) -> Failed {
    let exit = if problems.is_late { Exit::Failure } else { Exit::Config };
    Failed::new(exit, problems.to_string())
}

/// Checks that the scan runs. During a stall, the view of a plugin may be old, so it does not prove
/// an outcome.
///
/// # Errors
/// The scan is stalled, so the `wanted` outcome cannot occur. Or the daemon does not answer.
pub(super) async fn moves(client: &Client, name: &str, wanted: &str) -> Result<(), Failed> {
    let Some(StallView { since_ms, doing, .. }) = client.status().await?.stalled else {
        return Ok(());
    };
    let (since, doing) = (age_ms(since_ms), legible(&doing));
    let why = format!("the scan has been STALLED for {since}, {doing}; see `camshaft status`");
    Err(Failed::new(Exit::Failure, format!("{name}: waited for {wanted}, but {why}")))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::control::{ProbationView, Want};

    /// Returns the view of a plugin that runs the version in its file.
    pub(in crate::cli) fn view(state: PluginState) -> PluginView {
        PluginView {
            name: "p".into(),
            file: "p.wasm".into(),
            want: Want::Run,
            state,
            reason: None,
            quarantined: false,
            hash: Some("a".repeat(64)),
            file_hash: Some("a".repeat(64)),
            generation: 1,
            polls: 1,
            degraded: false,
            probation: false,
            probation_left: None,
            traps: 0,
            since_cycle: 0,
            restart_in_ms: None,
            memory_bytes: 0,
            budget_us: 2500,
            every: 1,
            poll: Default::default(),
            last_trap: None,
            trapped_hash: None,
            last_swap: None,
            denied: false,
            refused: Vec::new(),
            refused_others: 0,
            lost: Vec::new(),
            notes: Vec::new(),
            report: None,
        }
    }

    fn trap() -> Trap {
        Trap { kind: "unreachable".into(), function: None, offset: None, cycle: 9 }
    }

    /// Checks the outcome of the probation for each state of a plugin.
    #[test]
    fn the_end_of_a_probation() {
        use PluginState::{Backoff, Held, Quarantined, Running};
        let hash = "a".repeat(64);
        let check = |change: &dyn Fn(&mut PluginView), expected: Option<Result<(), &str>>| {
            let mut view = view(Running);
            change(&mut view);
            let found = proof(Some(&view), &hash, (1, 0));
            let found = found.map(|found| found.map(drop));
            let expected = expected.map(|expected| expected.map_err(str::to_owned));
            assert_eq!(found, expected, "{view:?}");
        };
        let left = |ms, polls| Some(ProbationView { ms, polls });
        check(&|_| {}, Some(Ok(())));
        check(&|view| view.probation_left = left(1, 0), None);
        check(&|view| view.probation_left = left(0, 1), None);
        check(&|view| view.hash = None, None);
        check(&|view| view.state = Held, Some(Err("it is held")));
        let other = |view: &mut PluginView| view.file_hash = Some("b".repeat(64));
        check(&other, Some(Err("another version is in the file now")));
        check(&|view| view.file_hash = None, Some(Err("its file was deleted")));
        let restarted = "the program was restarted on probation, so it is not known whether the \
                         version is good";
        check(&|view| view.generation = 2, Some(Err(restarted)));
        for (state, of, why) in [
            (Backoff, "a", "it has trapped: unreachable, cycle 9"),
            (Running, "a", "it has trapped: unreachable, cycle 9"),
            // The trap belongs to another version and is older.
            (Running, "b", restarted),
        ] {
            let trapped = |view: &mut PluginView| {
                (view.state, view.generation, view.traps) = (state, 2, 1);
                (view.last_trap, view.trapped_hash) = (Some(trap()), Some(of.repeat(64)));
                view.reason = (state == Backoff).then(|| "unreachable, cycle 9".into());
            };
            check(&trapped, Some(Err(why)));
        }
        let back = |view: &mut PluginView| {
            (view.state, view.reason) = (Quarantined, Some("it is bad".into()));
        };
        check(&back, Some(Err("it is bad")));
        assert!(proof(None, &hash, (1, 0)).is_some_and(|found| found.is_err()));
    }

    /// A version may run and have trapped before. The trap of another version is ignored.
    #[test]
    fn the_trap_of_a_deployed_version_is_its_fate() {
        let hash = "a".repeat(64);
        let check = |of: &str, traps, expected: Fate| {
            let seen = PluginView {
                traps,
                last_trap: Some(trap()),
                trapped_hash: Some(of.repeat(64)),
                ..view(PluginState::Running)
            };
            assert_eq!(fate(&seen, &hash, 3), Some(expected), "{of} {traps}");
        };
        check("a", 3, Fate::Runs(None));
        check("b", 4, Fate::Runs(None));
        check("a", 4, Fate::Trapped("unreachable, cycle 9".into()));
        // The program waits for its restart, and the trap is the reason for the wait.
        let waits = PluginView {
            traps: 4,
            last_trap: Some(trap()),
            trapped_hash: Some(hash.clone()),
            reason: Some("unreachable, cycle 9".into()),
            ..view(PluginState::Backoff)
        };
        assert_eq!(fate(&waits, &hash, 3), Some(Fate::Trapped("unreachable, cycle 9".into())));
    }

    /// For a plugin that is held or is prepared again, an old trap is not the reason why it does
    /// not run.
    #[test]
    fn the_trap_from_before_is_no_reason() {
        let held = PluginView {
            traps: 3,
            last_trap: Some(trap()),
            reason: Some("unreachable, cycle 9".into()),
            ..view(PluginState::Held)
        };
        assert_eq!(fate(&held, &"a".repeat(64), 3), Some(Fate::Held));
        let made_again = PluginView { state: PluginState::Preparing, ..held.clone() };
        assert_eq!(fate(&made_again, &"a".repeat(64), 3), None);
        let refused = PluginView { reason: Some("no module".into()), ..held };
        let failed = Fate::Failed("no module".into());
        assert_eq!(fate(&refused, &"a".repeat(64), 3), Some(failed));
    }

    /// A file that is not a module has no hash. The wait must end although there is no hash.
    #[test]
    fn what_lies_in_the_file_instead() {
        let check = |state, file: &str, reason: &str, expected: Option<&str>| {
            let some = |text: &str| (!text.is_empty()).then(|| text.to_string());
            let seen = PluginView { reason: some(reason), file_hash: some(file), ..view(state) };
            assert_eq!(instead(&seen, "new", Some("old")).as_deref(), expected, "{seen:?}");
        };
        let other = Some("another version was put into the file before this version could run");
        check(PluginState::Running, "old", "", None);
        check(PluginState::Refused, "old", "no module", None);
        check(PluginState::Preparing, "new", "", None);
        check(PluginState::Preparing, "other", "", other);
        check(PluginState::Refused, "", "its name differs", Some("its name differs"));
        check(PluginState::Running, "", "it cannot be read", None);
        check(PluginState::Held, "", "", None);
    }

    /// Checks the outcome of a deploy for each state of a plugin.
    #[test]
    fn the_fate_of_a_deploy() {
        use PluginState::{Backoff, Held, Preparing, Quarantined, Refused, Running};
        fn check(
            (state, hash, file, reason): (PluginState, &str, &str, &str),
            expected: Option<Fate>,
        ) {
            let some = |text: &str| (!text.is_empty()).then(|| text.to_string());
            let view = PluginView {
                reason: some(reason),
                hash: some(hash),
                file_hash: some(file),
                ..view(state)
            };
            assert_eq!(fate(&view, "new", 0), expected, "{state:?} {hash} {file} {reason}");
        }
        let failed = |why: &str| Some(Fate::Failed(why.into()));
        // The daemon has not read the new file yet, so the view shows the old version.
        check((Running, "old", "old", ""), None);
        check((Quarantined, "", "old", "it trapped"), None);
        check((Refused, "", "old", "no module"), None);
        // The daemon has read the file and prepares the version.
        check((Running, "old", "new", ""), None);
        check((Preparing, "", "new", ""), None);
        check((Backoff, "", "new", ""), None);
        let unpolled = PluginView {
            hash: Some("new".into()),
            file_hash: Some("new".into()),
            polls: 0,
            ..view(Running)
        };
        assert_eq!(fate(&unpolled, "new", 0), None);
        // The outcome is known.
        check((Running, "new", "new", ""), Some(Fate::Runs(None)));
        check((Held, "", "new", ""), Some(Fate::Held));
        check((Running, "old", "new", "no module"), failed("no module"));
        check((Refused, "", "new", "no module"), failed("no module"));
        check((Running, "new", "new", "it trapped"), failed("it trapped"));
        check((Quarantined, "", "new", "it trapped"), failed("it trapped"));
    }
}
