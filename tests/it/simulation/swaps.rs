//! Checks of what a swap and a rollback must preserve, with the snapshot alone.
//!
//! Each program counts its polls in its memory and in a variable, and publishes both numbers. After
//! a swap, the first number continues with the state of the old version; after a rollback, with the
//! program's own state. The second number always continues, unless a rollback restores the
//! variable.

use std::collections::BTreeMap;

use camshaft::plugin::Generation;
use camshaft::process::image::Quality;
use camshaft::process::variable::Variable;
use camshaft::scan::{ProgramFact, Snapshot};

use super::guest::{COUNT, TALLY};
use super::invariants::Before;
use super::model::Model;

/// What the news have said of one instance.
#[derive(Debug, Clone, Copy)]
struct Known {
    polls: u64,
    /// Polls by its own count, and the variable's before the first of them.
    count: i32,
    tally: i32,
}

/// What the news have said of every instance that is there or may come back.
#[derive(Default)]
pub struct Memory(BTreeMap<Generation, Known>);

pub fn int(news: &Snapshot, name: &str) -> i32 {
    match news.variables.read(name) {
        Some(Variable::Int(value)) => value,
        Some(other) => panic!("{name} is {other:?}"),
        None => 0,
    }
}

/// The version that this one has replaced again, if it is not one that took over since.
pub fn replaced(fact: &ProgramFact) -> Option<&ProgramFact> {
    fact.rolled_back.as_deref().filter(|rolled_back| rolled_back.generation > fact.generation)
}

/// Whether the program was taken back in this cycle, so that its predecessor begins in the next.
pub fn is_rolled_back(fact: &ProgramFact, news: &Snapshot) -> bool {
    let trap = replaced(fact).and_then(|rolled_back| rolled_back.trap.as_ref());
    trap.is_some_and(|trap| trap.cycle == news.cycle)
}

impl Memory {
    /// Polls that were seen so far; 0 of a new instance.
    pub fn polls(&self, generation: Generation) -> u64 {
        self.0.get(&generation).map_or(0, |known| known.polls)
    }

    /// Holds the counts of one cycle against those of the last one.
    pub fn compare(&mut self, before: &Before, news: &Snapshot, model: &Model) {
        for program in &model.seated {
            let id = program.instance.id;
            let fact = news.programs.iter().find(|fact| fact.generation == program.generation);
            let fact = fact.expect("the model has no others");
            let (count, tally) = (int(news, COUNT[id]), int(news, TALLY[id]));
            let known = self.0.get(&fact.generation).copied();
            let is_so = |what: &str| {
                let all = model.events.iter().filter(|(found, _)| *found == what);
                all.into_iter().any(|(_, who)| who.split(' ').next() == Some(program.name))
            };
            let start = known.unwrap_or_else(|| Known {
                polls: 0,
                count: self.count_at_the_start(fact, before),
                tally: match is_so("restart on probation") {
                    true => self.tally_of_the_one_before(fact, before),
                    false => None,
                }
                .unwrap_or(before.tallies[id]),
            });
            let polls = fact.polls - start.polls;
            let expected = start.count + polls as i32;
            // A stranger that has not been expelled yet may have the same name, and count there
            // too.
            let is_alone =
                |of: &Model| of.seated.iter().filter(|p| p.instance.id == id).count() == 1;
            if is_alone(model) && polls > 0 {
                assert_eq!(count, expected, "{} counts in its memory", program.name);
            }
            if is_alone(model) {
                let is_put_back = is_so("variables rolled back");
                let from = match replaced(fact) {
                    Some(rolled_back) if is_put_back => {
                        let known = self.0.get(&rolled_back.generation).map(|known| known.tally);
                        // An instance that was seated in this very cycle has not counted yet, but
                        // the one of its version before it on probation has.
                        let restarted = || match is_so("restart on probation") {
                            true => self.tally_of_the_one_before(fact, before),
                            false => None,
                        };
                        known.or_else(restarted).unwrap_or(before.tallies[id])
                    }
                    _ => before.tallies[id],
                };
                assert_eq!(tally, from + polls as i32, "{} counts in a variable", program.name);
            }
            self.0.insert(fact.generation, Known { polls: fact.polls, count: expected, ..start });
        }
        self.forget(news);
    }

    /// A new instance goes on where the one before has stopped, or begins at 0.
    fn count_at_the_start(&self, fact: &ProgramFact, before: &Before) -> i32 {
        if fact.takeover.state_bytes.is_none() {
            return 0;
        }
        let giver = before.programs.iter().find(|(seat, ..)| *seat == fact.seat);
        // One that was seated in this very cycle had nothing to give.
        giver.map_or(0, |(_, giver, _)| self.0[giver].count)
    }

    /// What the first instance of a version on probation has written goes back with what those
    /// after it have.
    fn tally_of_the_one_before(&self, fact: &ProgramFact, before: &Before) -> Option<i32> {
        let (_, one, _) = before.programs.iter().find(|(seat, ..)| *seat == fact.seat)?;
        self.0.get(one).map(|known| known.tally)
    }

    fn forget(&mut self, news: &Snapshot) {
        let is_there = |generation: Generation| {
            news.programs
                .iter()
                .any(|fact| fact.generation == generation || fact.standby == Some(generation))
        };
        self.0.retain(|generation, _| is_there(*generation));
    }
}

/// Outputs that a seat has after a rollback are as they were last committed, and it has got none in
/// the poll that failed. A force, or the lack of a required input, may have begun or ended in the
/// same cycle.
pub fn assert_rollbacks_keep_outputs(before: &Before, news: &Snapshot, model: &Model) {
    for fact in news.programs.iter().filter(|fact| is_rolled_back(fact, news)) {
        for (id, point) in model.world.points.iter() {
            if news.owners[id.index()] != Some(fact.seat) {
                continue;
            }
            let owner = before.owners.get(id.index()).copied().flatten();
            assert_eq!(owner, Some(fact.seat), "{} by a trap", point.name);
            let is_forced = |all: &[Quality]| all.get(id.index()) == Some(&Quality::Forced);
            if [&before.quality, &news.inputs.quality].into_iter().any(|all| is_forced(all)) {
                continue;
            }
            if before.degraded.contains(&fact.seat) != fact.degraded {
                continue;
            }
            for at in point.bytes() {
                let changed = (news.outputs[at] ^ before.outputs[at]) & point.mask();
                assert_eq!(changed, 0, "{} has changed in a rollback", point.name);
            }
        }
    }
}
