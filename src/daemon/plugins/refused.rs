//! The refused calls of programs, and the output points that programs have lost. Both are for the
//! [`PluginView`](crate::control::PluginView).
//!
//! The scan counts refused calls (`process/refused.rs`), and `Plugins::refused` reads the counts.
//! These functions decide nothing. The first call of each kind and name also causes a log line
//! (`line.rs`); `view.rs` makes the view.
//!
//! - `refused` returns the refused calls that would be refused again.
//! - `keeper` returns who owns the output or variable of such a call.
//! - `lost_outputs` returns the outputs that the plugin owned last and that have no owner now.

use std::time::Duration;

use super::Plugins;
use super::roster::Roster;
use crate::config::Config;
use crate::control::RefusedView;
use crate::daemon::link::ScanLink;
use crate::plugin::instance::program::maker;
use crate::process::image::PointId;
use crate::process::refused::{Keeper, Refusals, RefusedCall, Why};
use crate::process::seat::Seat;
use crate::process::variable::{Denied, Variable, VariableKind};
use crate::scan::{ProgramFact, Snapshot};
use crate::supervisor::{State, Supervisor, View, Want};

/// A mistake is a refused call with wrong arguments or in a wrong phase (`is_mistake`). After an
/// allowed call of the same kind, the view shows the mistake until it is older than this time. So a
/// mistake that the program repeats within this time is always in the view. Without this time, an
/// operator would rarely see a mistake that is not in each cycle.
const NOW_AND_THEN: Duration = Duration::from_secs(2);

/// The refused calls of a program, for its view.
#[derive(Debug, Default)]
pub(in crate::daemon) struct Refused {
    /// The refused calls by kind and name: calls that the host would refuse now, and calls that
    /// were refused in `init` and not repeated since then.
    pub(in crate::daemon) calls: Vec<RefusedView>,
    /// The number of refused calls that the scan counted without their kind and name, because its
    /// list of kinds and names was full.
    pub(in crate::daemon) others: u64,
    /// Whether a call in `calls` would be denied again, or denied calls are counted in `others`.
    pub(in crate::daemon) is_denied: bool,
}

impl Plugins {
    /// Returns the refused calls of this plugin's instance in the scan.
    pub(in crate::daemon) fn refused(
        &self,
        name: &str,
        fact: Option<&ProgramFact>,
        news: &Snapshot,
        config: &Config,
        link: &ScanLink,
    ) -> Refused {
        let entry = self.roster.get(name).zip(fact);
        let tally = entry.and_then(|(entry, fact)| entry.refused(fact.generation));
        let Some(tally) = tally else { return Refused::default() };
        let others = tally.others();
        let mut refused = Refused {
            calls: Vec::new(),
            others: others.denials + others.absences,
            is_denied: others.denials > 0,
        };
        for refusals in tally.entries().iter().filter(|it| !self.is_over(it, news, config)) {
            let first = &refusals.first;
            // A call that would be refused again is shown with the present owner. A call that was
            // refused in `init` is shown with a text about the start. All other refusals are not
            // shown.
            let words = if self.stands(name, first, news, config, link) {
                refused.is_denied |= first.is_denial();
                first.words(self.keeper(name, first, news, config, link))
            } else if refusals.last_cycle == 0 {
                first.words_of_the_start()
            } else {
                continue;
            };
            refused.calls.push(view(refusals, words));
        }
        refused
    }

    /// Whether a refusal is over, because a later call of the same kind was allowed. A mistake that
    /// is younger than [`NOW_AND_THEN`] is not over.
    fn is_over(&self, refusals: &Refusals, news: &Snapshot, config: &Config) -> bool {
        let ago = news.cycle.saturating_sub(refusals.last_cycle);
        // The age of the last refusal: the number of cycles since then, times the period.
        let ago = config.live.scan.period.saturating_mul(u32::try_from(ago).unwrap_or(u32::MAX));
        refusals.is_over && !(refusals.first.is_mistake() && ago < NOW_AND_THEN)
    }

    /// Whether this call of the plugin would be refused again. The check does not use the argument
    /// values of the call.
    fn stands(
        &self,
        plugin: &str,
        call: &RefusedCall,
        news: &Snapshot,
        config: &Config,
        link: &ScanLink,
    ) -> bool {
        let name = call.name.as_str();
        let (point, settings) = (news.points.find(name), || config.settings(plugin));
        let variable = news.variables.read(name);
        match call.why {
            Why::NoPoint => point.is_none(),
            Why::NotGranted => point.is_none_or(|id| !settings().outputs.allows(id)),
            Why::Owned(_) => {
                let own = self.roster.get(plugin).map(|entry| entry.seat);
                owner(name, news).is_some_and(|seat| Some(seat) != own)
            }
            Why::InputNotGranted => point.is_none_or(|id| !settings().inputs.allows(id)),
            Why::NoVariable => variable.is_none(),
            Why::VariableNotGranted | Why::Dropped(Denied::NotGranted, _) => {
                !settings().variables.allows(name)
            }
            Why::VariableType(_, asked) | Why::Dropped(Denied::OtherType(_), asked) => {
                let kind = variable.map(Variable::kind).or_else(|| link.reserved.kind(name));
                kind.is_some_and(|kind| kind != asked)
            }
            // The other reasons are limits and wrong arguments. The function assumes that these
            // reasons are still valid.
            _ => true,
        }
    }

    /// Returns the program or part that owns the output or variable of a refused call.
    pub(in crate::daemon) fn keeper(
        &self,
        name: &str,
        call: &RefusedCall,
        news: &Snapshot,
        config: &Config,
        link: &ScanLink,
    ) -> Keeper<'_> {
        let wanted = call.name.as_str();
        let (is, asked) = match call.why {
            Why::Owned(_) => {
                let owner = owner(wanted, news).and_then(|seat| self.roster.name(seat));
                return owner.map_or(Keeper::Unknown, |owner| Keeper::Program(owner));
            }
            Why::VariableType(is, asked) | Why::Dropped(Denied::OtherType(is), asked) => {
                (is, asked)
            }
            _ => return Keeper::Unknown,
        };
        // A `[[variable]]` section of the configuration may declare the variable, although only the
        // next start creates it. Until then, the variable has no value.
        if config.declares(wanted) || link.reserved.kind(wanted) == Some(is) {
            return Keeper::Configuration;
        }
        if news.variables.read(wanted).is_none() {
            // The variable was made in a cycle that no snapshot shows yet.
            return Keeper::Unknown;
        }
        let all = writers((wanted, asked), news, &self.roster, &self.supervisor);
        let mut others = all.filter(|writer| *writer != name);
        let (other, itself) = (others.next(), self.has_written(name, wanted, news));
        match (other, others.find(|another| Some(*another) != other), itself) {
            (Some(one), Some(two), _) => Keeper::Two(one, two),
            (Some(other), None, false) => Keeper::Program(other),
            (Some(other), None, true) => Keeper::Both(other),
            (None, _, true) => Keeper::Itself,
            (None, _, false) => Keeper::Nobody,
        }
    }

    /// Whether a snapshot shows that the running instance of this plugin has written this variable.
    fn has_written(&self, name: &str, variable: &str, news: &Snapshot) -> bool {
        let fact = self.roster.fact(name, news);
        let mut written = news.variables.writers(variable).programs();
        // If the value is older than the seat of the instance, the previous version wrote it.
        fact.is_some_and(|fact| written.any(|it| it.by == maker(name) && it.at >= fact.since))
    }

    /// Returns the outputs whose last owner was this plugin and that have no owner now, although
    /// the plugin runs and may write the outputs.
    pub(in crate::daemon) fn lost_outputs(
        &self,
        name: &str,
        news: &Snapshot,
        config: &Config,
    ) -> Vec<String> {
        if !is_polled(name, &self.roster, news) {
            return Vec::new();
        }
        let is_free = |id: PointId| news.owners[id.index()].is_none() && config.may_write(name, id);
        let free = news.points.iter().filter(|(id, _)| is_free(*id));
        let lost = free.filter(|(id, _)| self.owners.last(*id).is_some_and(|last| last == name));
        lost.map(|(_, point)| point.name.clone()).collect()
    }
}

/// Returns the present owner of an output. The owner at the time of the refusal is not used: it may
/// have left the scan, and another plugin may have its seat.
fn owner(output: &str, news: &Snapshot) -> Option<Seat> {
    *news.owners.get(news.points.find(output)?.index())?
}

/// Returns the plugins that will probably write this variable again after a cold restart: the
/// program that wrote the variable last, and the program that made it. The result does not contain
/// a plugin whose present version would write the wanted type.
pub(in crate::daemon) fn writers<'r>(
    (variable, wanted): (&str, VariableKind),
    news: &Snapshot,
    roster: &'r Roster,
    supervisor: &'r Supervisor,
) -> impl Iterator<Item = &'r str> {
    let all = news.variables.writers(variable).programs();
    let names = all.filter_map(move |written| {
        let name: &str = roster.maker(written.by)?;
        let writes_it_so = writes_it_so(name, (variable, wanted), written.at, (news, roster));
        (!writes_it_so).then_some(name)
    });
    names.filter(|name| supervisor.plugin(name).is_some_and(|view| is_to_run(&view)))
}

/// Whether the present version of this plugin would write the variable with the wanted type. An
/// older version wrote the variable at the time `at`. The refused calls of the present version show
/// which type it would write.
fn writes_it_so(
    name: &str,
    (variable, wanted): (&str, VariableKind),
    at: Duration,
    (news, roster): (&Snapshot, &Roster),
) -> bool {
    let Some(entry) = roster.get(name) else { return false };
    let fact = roster.fact(name, news).filter(|fact| fact.since > at);
    let is_it = |call: &RefusedCall| match call.why {
        Why::VariableType(_, asked) | Why::Dropped(Denied::OtherType(_), asked) => {
            asked == wanted && call.name.as_str() == variable
        }
        _ => false,
    };
    let tally = fact.and_then(|fact| entry.refused(fact.generation));
    tally.is_some_and(|tally| tally.entries().iter().any(|refusals| is_it(&refusals.first)))
}

/// Whether the plugin runs, or will run without an order. The result is also true while the plugin
/// waits for its restart after a trap.
fn is_to_run(view: &View<'_>) -> bool {
    match view.state {
        State::Preparing | State::Starting | State::Running | State::Backoff { .. } => {
            view.want == Want::Run
        }
        State::Stopping | State::Stopped | State::Held => false,
        State::Refused | State::Quarantined => false,
    }
}

/// Whether the plugin is in the scan or will be in the scan soon. The result is false while the
/// plugin waits for its restart after a trap.
pub(in crate::daemon) fn is_seated(
    name: &str,
    news: &Snapshot,
    roster: &Roster,
    supervisor: &Supervisor,
) -> bool {
    let is_in = roster.fact(name, news).is_some_and(|fact| fact.trap.is_none());
    let is_on_its_way = |view: View<'_>| match view.state {
        State::Preparing | State::Starting => view.want == Want::Run,
        State::Running | State::Stopping | State::Backoff { .. } => false,
        State::Stopped | State::Held | State::Refused | State::Quarantined => false,
    };
    is_in || supervisor.plugin(name).is_some_and(is_on_its_way)
}

/// Whether the plugin runs and has had at least one good poll.
pub(in crate::daemon) fn is_polled(name: &str, roster: &Roster, news: &Snapshot) -> bool {
    roster.fact(name, news).is_some_and(|fact| fact.trap.is_none() && fact.polls > 0)
}

/// Returns the view of a group of refused calls that have the same kind and the same name. `words`
/// is the reason as text.
fn view(refusals: &Refusals, words: String) -> RefusedView {
    let Refusals { first, count, last_cycle, .. } = refusals;
    RefusedView {
        call: first.call.into(),
        code: first.code(),
        name: first.name.as_str().into(),
        words,
        count: *count,
        last_cycle: *last_cycle,
    }
}
