//! What programs are refused and what they have lost, for whoever looks at a plugin.
//!
//! The scan counts refused calls and this reads them; the first of each kind and name is a line of
//! the log, see `say.rs`. Nothing is decided here.

use super::super::Daemon;
use super::super::roster::Roster;
use crate::control::RefusedView;
use crate::image::PointId;
use crate::plugin::refused::{Keeper, Refusals, RefusedCall};
use crate::scan::{ProgramFact, Snapshot};

/// What a program was refused.
#[derive(Debug, Default)]
pub(super) struct Refused {
    /// Each kind and name.
    pub(super) calls: Vec<RefusedView>,
    /// Calls beyond those that are told apart.
    pub(super) others: u64,
    /// Whether the program is kept from something.
    pub(super) is_denied: bool,
}

impl Daemon {
    /// What the instance of this plugin that is in the scan was refused.
    pub(super) fn refused(
        &self,
        name: &str,
        fact: Option<&ProgramFact>,
        news: &Snapshot,
    ) -> Refused {
        let entry = self.roster.get(name).zip(fact);
        let tally = entry.and_then(|(entry, fact)| entry.refused(fact.generation));
        let Some(tally) = tally else { return Refused::default() };
        let (entries, others) = (tally.entries(), tally.others());
        let is_denied = others.denials > 0 || entries.iter().any(|entry| entry.first.is_denial());
        let view = |refusals: &Refusals| {
            let keeper = self.keeper(name, &refusals.first, news);
            view(refusals, keeper)
        };
        let calls = entries.iter().map(view).collect();
        Refused { calls, others: others.denials + others.absences, is_denied }
    }

    /// Who has what this plugin was refused.
    fn keeper(&self, name: &str, call: &RefusedCall, news: &Snapshot) -> Keeper<'_> {
        let (roster, wanted) = (&self.roster, call.name.as_str());
        if let Some(seat) = call.owner() {
            return roster.name(seat).map_or(Keeper::Unknown, |owner| Keeper::Program(owner));
        }
        if !call.why.is_about_variable() {
            return Keeper::Unknown;
        }
        // A name without a value may wait for a `[[variable]]` that counts after a restart.
        let is_absent = news.variables.read(wanted).is_none();
        if self.config.declares(wanted) || is_absent && self.reload.has_reserved() {
            return Keeper::Configuration;
        }
        let other = writer(wanted, news, roster).filter(|writer| *writer != name);
        other.map_or(Keeper::Nobody, Keeper::Program)
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

/// The plugin that runs and wrote this variable last.
pub(in crate::daemon) fn writer<'r>(
    variable: &str,
    news: &Snapshot,
    roster: &'r Roster,
) -> Option<&'r str> {
    let writer = roster.maker(news.variables.written_last(variable)?.by)?;
    is_polled(writer, roster, news).then_some(writer)
}

/// Whether the plugin runs, and has run for a poll at least.
pub(in crate::daemon) fn is_polled(name: &str, roster: &Roster, news: &Snapshot) -> bool {
    let Some(entry) = roster.get(name) else { return false };
    let is_polled = |fact: &ProgramFact| fact.trap.is_none() && fact.polls > 0;
    news.programs.iter().any(|fact| fact.seat == entry.seat && is_polled(fact))
}

fn view(refusals: &Refusals, keeper: Keeper<'_>) -> RefusedView {
    let Refusals { first, count, last_cycle } = refusals;
    RefusedView {
        call: first.call.into(),
        code: first.code(),
        name: first.name.as_str().into(),
        words: first.words(keeper),
        count: *count,
        last_cycle: *last_cycle,
    }
}
