//! The view of a plugin for the operator. The view combines the facts of the supervisor, the
//! roster, the scan and recovery.
//!
//! These functions change nothing. The refused calls of a plugin are in `refused.rs`; the display
//! of a view on a terminal is in `cli`. Other views are in `daemon/view.rs`.
//!
//! ```text
//!   camshaft status ──▶ plugins() ──▶ plugin() ◀── supervisor: state, versions, traps
//!                                        │    ◀── roster: seat, times of the last swap
//!                                        │    ◀── snapshot: polls, probation, memory
//!                                        ▼    ◀── recovery: whether the plugin is parked
//!                                    PluginView ──▶ the answer
//! ```

use std::time::Duration;

use super::Plugins;
use crate::clock::{Clock, MonotonicClock};
use crate::config::Config;
use crate::control::{PluginState, PluginView, ProbationView, Want};
use crate::daemon::link::ScanLink;
use crate::daemon::micros;
use crate::plugin::{SwapPolicy, Trap};
use crate::scan::{ProgramFact, Snapshot};
use crate::supervisor::{self, View};

impl Plugins {
    /// Returns the views of all plugins, in the order of polling.
    pub(in crate::daemon) fn plugins(
        &self,
        config: &Config,
        link: &mut ScanLink,
    ) -> Vec<PluginView> {
        let news = link.news().clone();
        self.plugins_in(&news, config, link)
    }

    /// Returns the views of all plugins in this snapshot, in the order of polling.
    pub(in crate::daemon) fn plugins_in(
        &self,
        news: &Snapshot,
        config: &Config,
        link: &ScanLink,
    ) -> Vec<PluginView> {
        let mut all: Vec<_> = self
            .supervisor
            .plugins()
            .map(|(name, view)| self.plugin(name, &view, news, config, link))
            .collect();
        all.sort_by_cached_key(|view| (config.settings(&view.name).order, view.name.clone()));
        all
    }

    /// Returns the view of one plugin.
    pub(in crate::daemon) fn plugin_named(
        &self,
        name: &str,
        config: &Config,
        link: &mut ScanLink,
    ) -> Option<PluginView> {
        let news = link.news().clone();
        let view = self.supervisor.plugin(name)?;
        Some(self.plugin(name, &view, &news, config, link))
    }

    /// Combines the facts of the supervisor, the roster, the scan and recovery into one view.
    fn plugin(
        &self,
        name: &str,
        view: &View<'_>,
        news: &Snapshot,
        config: &Config,
        link: &ScanLink,
    ) -> PluginView {
        let entry = self.roster.get(name);
        let settings = config.settings(name);
        let fact = self.roster.fact(name, news);
        let runs = fact.filter(|fact| fact.trap.is_none());
        let restart_in_ms = match view.state {
            supervisor::State::Backoff { restart_at } => {
                Some(restart_at.saturating_sub(MonotonicClock.now()).as_millis() as u64)
            }
            _ => None,
        };
        let parked = self.recovery.is_parked(name).then(|| match self.recovery.is_on() {
            true => "held for recovery".to_owned(),
            false => "held for a cold restart".to_owned(),
        });
        // One reason is shown: a refusal or quarantine, else the text in `parked`, else a trap.
        let reason = reason(view).or(parked).or_else(|| trap_that_counts(view));
        let refused = self.refused(name, fact, news, config, link);
        PluginView {
            name: name.into(),
            file: format!("{name}.wasm"),
            want: match view.want {
                supervisor::Want::Run => Want::Run,
                supervisor::Want::Hold => Want::Hold,
            },
            state: state(view),
            reason,
            quarantined: view.quarantined,
            hash: runs.and(view.running).map(|version| format!("{:#}", version.hash)),
            file_hash: view.file.map(|hash| format!("{hash:#}")),
            generation: fact.map_or(0, |fact| fact.generation.0),
            polls: fact.map_or(0, |fact| fact.polls),
            degraded: runs.is_some_and(|fact| fact.degraded),
            probation: runs.is_some_and(|fact| fact.standby.is_some()),
            probation_left: runs.and_then(|fact| left_to_prove(fact, settings.swap, news.now)),
            traps: view.traps,
            since_cycle: fact.map_or(0, |fact| fact.since_cycle),
            restart_in_ms,
            memory_bytes: runs.map_or(0, |fact| fact.memory_bytes),
            budget_us: micros(settings.poll_budget),
            every: settings.every,
            poll: entry.map(|entry| link.stats.poll(entry.seat)).unwrap_or_default(),
            last_trap: view.last_trap.cloned(),
            trapped_hash: view.trapped.map(|hash| format!("{hash:#}")),
            last_swap: entry.and_then(|entry| entry.last_swap),
            denied: refused.is_denied,
            refused: refused.calls,
            refused_others: refused.others,
            lost: self.lost_outputs(name, news, config),
            notes: self.roster.notes(runs.and(view.running).map(|it| it.hash).or(view.file)),
            report: self.crashes.newest(name).cloned(),
        }
    }
}

/// Returns the remaining time and polls of a program's probation under this policy; `None` if the
/// program has passed its probation.
fn left_to_prove(fact: &ProgramFact, policy: SwapPolicy, now: Duration) -> Option<ProbationView> {
    let left = policy.probation.saturating_sub(now.saturating_sub(fact.since));
    let polls = u64::from(policy.polls).saturating_sub(fact.polls);
    (!fact.is_proven).then_some(ProbationView { ms: left.as_millis() as u64, polls })
}

/// Returns the reason why the file's version does not run, as text. The text also names the version
/// that runs instead, or the version that was refused as its replacement. `None` if the file is
/// neither refused nor in quarantine.
fn reason(view: &View<'_>) -> Option<String> {
    let again = |is_again: bool| if is_again { "; the daemon tries again" } else { "" };
    let runs = view.running.filter(|_| view.state == supervisor::State::Running);
    let instead = match (runs, view.other_refusal) {
        (Some(version), _) if Some(version.hash) != view.file => {
            format!("; version {} runs instead", version.hash)
        }
        (None, Some((hash, refusal, is_again))) => {
            format!("; version {hash} cannot run instead: {refusal}{}", again(is_again))
        }
        _ => String::new(),
    };
    match (view.refusal, view.quarantine) {
        (Some(refusal), _) => Some(format!("{refusal}{}{instead}", again(view.is_tried_again))),
        (None, Some(why)) => Some(format!("the file is in quarantine: {why}{instead}")),
        (None, None) => None,
    }
}

/// Converts the supervisor's state into a state of the control API, which has fewer states.
fn state(view: &View<'_>) -> PluginState {
    use supervisor::State;
    match view.state {
        // Until a snapshot shows that the program has left the scan, the program may be polled, or
        // its outputs may not be safe yet.
        State::Running | State::Stopping => PluginState::Running,
        State::Backoff { .. } => PluginState::Backoff,
        State::Quarantined => PluginState::Quarantined,
        State::Refused => PluginState::Refused,
        State::Preparing | State::Starting => PluginState::Preparing,
        State::Held | State::Stopped => PluginState::Held,
    }
}

/// Returns the trap that is the reason why a plugin does not run, as text.
fn trap_that_counts(view: &View<'_>) -> Option<String> {
    use supervisor::State::{Running, Stopping};
    let stands_still = !matches!(view.state, Running | Stopping) || view.quarantined;
    // A trap of another version is not the reason why the file's version does not run.
    let is_of_it = view.file.is_some_and(|file| view.trapped.is_none_or(|hash| file == hash));
    view.last_trap.filter(|_| stands_still && is_of_it).map(Trap::explained)
}
