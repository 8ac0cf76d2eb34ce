//! What programs are refused and what they have lost, for whoever looks at a plugin.
//!
//! The scan counts refused calls and this reads them; the first of each kind and name is a line of
//! the log, see `say.rs`. Nothing is decided here.

use std::time::Duration;

use super::super::Daemon;
use super::super::roster::Roster;
use crate::control::RefusedView;
use crate::image::PointId;
use crate::plugin::program::maker;
use crate::plugin::refused::{Keeper, Refusals, RefusedCall, Why};
use crate::plugin::world::Seat;
use crate::scan::{ProgramFact, Snapshot};
use crate::supervisor::{State, Supervisor, View, Want};
use crate::variable::Denied;

/// A mistake that a program makes at least so often is shown all the time, and not only until the
/// next call that goes well: who looks should not have to be lucky.
const NOW_AND_THEN: Duration = Duration::from_secs(2);

/// What a program is refused.
#[derive(Debug, Default)]
pub(super) struct Refused {
    /// Each kind and name that is refused now, or was at its start and was not asked for since.
    pub(super) calls: Vec<RefusedView>,
    /// Calls beyond those that are told apart.
    pub(super) others: u64,
    /// Whether the program is kept from something.
    pub(super) is_denied: bool,
}

impl Daemon {
    /// What the instance of this plugin that is in the scan is refused.
    pub(super) fn refused(
        &self,
        name: &str,
        fact: Option<&ProgramFact>,
        news: &Snapshot,
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
        for refusals in tally.entries().iter().filter(|it| !self.is_over(it, news)) {
            let first = &refusals.first;
            let words = if self.stands(name, first, news) {
                refused.is_denied |= first.is_denial();
                first.words(self.keeper(name, first, news))
            } else if refusals.last_cycle == 0 {
                first.words_of_the_start()
            } else {
                continue;
            };
            refused.calls.push(view(refusals, words));
        }
        refused
    }

    /// Whether the like of it was allowed since, and is no mistake that the program makes now and
    /// then.
    fn is_over(&self, refusals: &Refusals, news: &Snapshot) -> bool {
        let ago = news.cycle.saturating_sub(refusals.last_cycle);
        let ago = self.config.scan.period.saturating_mul(u32::try_from(ago).unwrap_or(u32::MAX));
        refusals.is_over && !(refusals.first.is_mistake() && ago < NOW_AND_THEN)
    }

    /// Whether the plugin would be refused this call again, as far as that does not depend on what
    /// it gives.
    fn stands(&self, plugin: &str, call: &RefusedCall, news: &Snapshot) -> bool {
        let name = call.name.as_str();
        let (point, settings) = (news.points.find(name), || self.settings(plugin));
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
                variable.is_none_or(|is| is.kind() != asked)
            }
            _ => true,
        }
    }

    /// Who has what this plugin was refused.
    fn keeper(&self, name: &str, call: &RefusedCall, news: &Snapshot) -> Keeper<'_> {
        let wanted = call.name.as_str();
        if let Why::Owned(_) = call.why {
            let owner = owner(wanted, news).and_then(|seat| self.roster.name(seat));
            return owner.map_or(Keeper::Unknown, |owner| Keeper::Program(owner));
        }
        if !call.why.is_about_variable() {
            return Keeper::Unknown;
        }
        // A name without a value may wait for a `[[variable]]` that counts after a restart.
        let is_absent = news.variables.read(wanted).is_none();
        if self.config.declares(wanted) || is_absent && self.reload.has_reserved() {
            return Keeper::Configuration;
        }
        let other =
            writers(wanted, news, &self.roster, &self.supervisor).find(|writer| *writer != name);
        match other {
            Some(other) => Keeper::Program(other),
            None if self.has_written(name, wanted, news) => Keeper::Itself,
            None => Keeper::Nobody,
        }
    }

    /// Whether the instance that runs has written this variable last.
    fn has_written(&self, name: &str, variable: &str, news: &Snapshot) -> bool {
        let Some(written) = news.variables.written_last(variable) else { return false };
        let entry = self.roster.get(name).filter(|_| written.by == maker(name));
        let facts = || news.programs.iter();
        // What was written before it took its seat is the work of the version before.
        entry.is_some_and(|entry| {
            facts().any(|fact| fact.seat == entry.seat && written.at >= fact.since)
        })
    }

    /// The outputs that this plugin owned last and that are nobody's now, although it runs and may
    /// write them.
    pub(super) fn lost_outputs(&self, name: &str, news: &Snapshot) -> Vec<String> {
        if !is_polled(name, &self.roster, news) {
            return Vec::new();
        }
        let is_free =
            |id: PointId| news.owners[id.index()].is_none() && self.config.may_write(name, id);
        let free = news.points.iter().filter(|(id, _)| is_free(*id));
        let lost = free.filter(|(id, _)| self.told.owner(*id).is_some_and(|last| last == name));
        lost.map(|(_, point)| point.name.clone()).collect()
    }
}

/// Who owns the output of this name now. The first who had it may have left, and another plugin may
/// have its seat.
fn owner(output: &str, news: &Snapshot) -> Option<Seat> {
    *news.owners.get(news.points.find(output)?.index())?
}

/// The plugins that would write this variable anew after a cold restart, as far as that is known:
/// who wrote it last, and who has made it, which an operator may have written over.
pub(in crate::daemon) fn writers<'r>(
    variable: &str,
    news: &Snapshot,
    roster: &'r Roster,
    supervisor: &'r Supervisor,
) -> impl Iterator<Item = &'r str> {
    let last = news.variables.written_last(variable).map(|written| written.by);
    let all = last.into_iter().chain(news.variables.made_by(variable));
    let names = all.filter_map(|by| roster.maker(by).map(|name| &**name));
    names.filter(|name| supervisor.plugin(name).is_some_and(|view| is_to_run(&view)))
}

/// Whether the plugin runs, or will do so by itself: one that waits after a trap is out for a
/// moment only.
fn is_to_run(view: &View<'_>) -> bool {
    match view.state {
        State::Preparing | State::Starting | State::Running | State::Backoff { .. } => {
            view.want == Want::Run
        }
        State::Stopping | State::Stopped | State::Held => false,
        State::Refused | State::Quarantined => false,
    }
}

/// Whether the plugin runs, and has run for a poll at least.
pub(in crate::daemon) fn is_polled(name: &str, roster: &Roster, news: &Snapshot) -> bool {
    let Some(entry) = roster.get(name) else { return false };
    let is_polled = |fact: &ProgramFact| fact.trap.is_none() && fact.polls > 0;
    news.programs.iter().any(|fact| fact.seat == entry.seat && is_polled(fact))
}

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
