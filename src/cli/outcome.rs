//! Waiting for what an order comes to: a deploy, a hold, a release.
//!
//! An order is carried out later, and the answer to it says only that it was understood. So these
//! ask for the plugin's view until it shows what was wanted, or what prevents it.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::show::short;
use super::{Exit, Failed};
use crate::control::client::{Client, Error};
use crate::control::{PluginState, PluginView, SwapView};

/// Between two looks: a swap takes about as long.
const LOOK: Duration = Duration::from_millis(50);

/// What orders other than a deploy get: they take a cycle or two, a removal half a second.
pub(super) const ORDER_TIME: Duration = Duration::from_secs(5);

/// What became of deployed bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fate {
    /// They run; the times of the swap.
    Runs(Option<SwapView>),
    /// They lie there, and the operator holds the plugin.
    Held,
    /// They do not run, or trapped at once.
    Failed(String),
}

/// What became of the bytes with this hash; `None` while it is open.
pub(super) fn fate(view: &PluginView, hash: &str) -> Option<Fate> {
    let is_it = |found: &Option<String>| found.as_deref() == Some(hash);
    if !is_it(&view.file_hash) {
        return None;
    }
    match (&view.reason, view.state) {
        // A trap is followed by a start at once: running does not mean that all is well.
        (Some(reason), _) => Some(Fate::Failed(reason.clone())),
        (None, PluginState::Running) if is_it(&view.hash) => Some(Fate::Runs(view.last_swap)),
        (None, PluginState::Held) => Some(Fate::Held),
        (None, _) => None,
    }
}

/// Looks at a plugin until `judge` finds something, or `limit` has passed: then gives what was seen
/// last. There may be no such plugin, which is a sight as well.
///
/// # Errors
/// When the daemon cannot be asked.
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

/// The error after a limit: what was wanted, and what is so.
pub(super) fn too_late(name: &str, wanted: &str, seen: Option<&PluginView>) -> Failed {
    let is = match seen {
        None => "there is no such plugin".into(),
        Some(view) => {
            let hash = view.hash.as_deref().map(|hash| format!(", version {}", short(hash)));
            let reason = view.reason.as_deref().map(|reason| format!(" ({reason})"));
            let state = super::show::name(view.state);
            format!("it is {state}{}{}", hash.unwrap_or_default(), reason.unwrap_or_default())
        }
    };
    Failed::new(Exit::Failure, format!("{name}: {wanted}, but so far {is}"))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::control::Want;

    /// A plugin of which one version is in the file and runs.
    pub(in crate::cli) fn view(state: PluginState) -> PluginView {
        PluginView {
            name: "p".into(),
            file: "p.wasm".into(),
            want: Want::Run,
            state,
            reason: None,
            hash: Some("a".repeat(64)),
            file_hash: Some("a".repeat(64)),
            generation: 1,
            polls: 0,
            degraded: false,
            probation: false,
            traps: 0,
            since_cycle: 0,
            restart_in_ms: None,
            memory_bytes: 0,
            budget_us: 2500,
            every: 1,
            poll: Default::default(),
            last_trap: None,
            last_swap: None,
            denied: false,
            refused: Vec::new(),
            refused_others: 0,
            lost: Vec::new(),
            notes: Vec::new(),
            report: None,
        }
    }

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
            assert_eq!(fate(&view, "new"), expected, "{state:?} {hash} {file} {reason}");
        }
        let failed = |why: &str| Some(Fate::Failed(why.into()));
        // The file has not been seen yet: whatever is said is about the old one.
        check((Running, "old", "old", ""), None);
        check((Quarantined, "", "old", "it trapped"), None);
        check((Refused, "", "old", "no module"), None);
        // It has been seen, and is being prepared.
        check((Running, "old", "new", ""), None);
        check((Preparing, "", "new", ""), None);
        check((Backoff, "", "new", ""), None);
        // It has come to something.
        check((Running, "new", "new", ""), Some(Fate::Runs(None)));
        check((Held, "", "new", ""), Some(Fate::Held));
        check((Running, "old", "new", "no module"), failed("no module"));
        check((Refused, "", "new", "no module"), failed("no module"));
        check((Running, "new", "new", "it trapped"), failed("it trapped"));
        check((Quarantined, "", "new", "it trapped"), failed("it trapped"));
    }
}
