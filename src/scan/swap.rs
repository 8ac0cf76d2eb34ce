//! How a program takes its seat: a hand-over from the version before, a time of probation, and the
//! way back.
//!
//! A new version takes over between two cycles. It gets the state of the running one if both know
//! how to hand it over, and the outputs stay as they are; if anything of that fails, the running
//! one goes on and has not noticed, unless its `save` was cut off: then it is lost, as by a trap.
//! From then on the old version stands by until the new one has proved itself; when the new one
//! traps before that, the old one is polled again from the next cycle on. Who is to be installed is
//! decided by the supervisor; the polls are in `mod.rs`.

use std::sync::Arc;
use std::time::Duration;

use super::position::Doing;
use super::{ProgramFact, Return, Scan};
use crate::plugin::program::{Prepared, Program, Takeover, maker};
use crate::plugin::world::{MAX_PROGRAMS, World};
use crate::plugin::{RollbackState, Settings, Trap};
use crate::variable::{Variable, Writers};

/// A program on its seat.
#[derive(Debug)]
pub(super) struct Seated {
    pub(super) program: Program,
    since_cycle: u64,
    since: Duration,
    /// Whether it lacks an input that it requires.
    pub(super) degraded: bool,
    pub(super) memory_bytes: u64,
    takeover: Takeover,
    /// Whether its probation is over.
    pub(super) is_proven: bool,
    standby: Option<Box<Standby>>,
    /// The version that this one, or the one that it took over from, has replaced again.
    rolled_back: Option<Arc<ProgramFact>>,
}

/// The version before, ready to resume.
#[derive(Debug)]
struct Standby {
    seated: Seated,
    /// All variables at the swap with who wrote them, by id; empty if they are not to be put back.
    variables: Vec<(Variable, Writers)>,
}

impl Seated {
    pub(super) fn fact(&self) -> ProgramFact {
        ProgramFact {
            seat: self.program.seat,
            generation: self.program.generation,
            hash: self.program.hash,
            polls: self.program.polls,
            since_cycle: self.since_cycle,
            since: self.since,
            degraded: self.degraded,
            memory_bytes: self.memory_bytes,
            trap: None,
            takeover: self.takeover,
            is_proven: self.is_proven,
            standby: self.standby.as_ref().map(|standby| standby.seated.program.generation),
            rolled_back: self.rolled_back.clone(),
        }
    }

    /// Whether it has been good for long enough, now that it was polled at `now`.
    pub(super) fn has_proved_itself(&self, now: Duration) -> bool {
        let policy = &self.program.settings.swap;
        self.program.polls >= u64::from(policy.polls)
            && now.saturating_sub(self.since) >= policy.probation
    }

    pub(super) fn configure(&mut self, settings: &Settings, world: &World) {
        self.program.configure(settings.clone(), &world.points);
        if let Some(standby) = &mut self.standby {
            standby.seated.configure(settings, world);
        }
    }

    /// What it and the version before were refused says nothing of now.
    pub(super) fn forget_refusals(&mut self) {
        self.program.forget_refusals();
        if let Some(standby) = &mut self.standby {
            standby.seated.forget_refusals();
        }
    }
}

impl Scan {
    pub(super) fn install(&mut self, mut prepared: Box<Prepared>) {
        let seat = prepared.program.seat;
        let halting = self.is_halting();
        // A stranger was still on its way when its plugin was forgotten and its seat given to this
        // one: another plugin's state and outputs are not for it.
        if let Some(old) = self.index(seat)
            && self.programs[old].program.name != prepared.program.name
            && !halting
        {
            self.release_seat(old);
        }
        match self.index(seat) {
            _ if halting => self.give_back(Return::Refused(prepared, None)),
            Some(old) if self.programs[old].program.hash == prepared.program.hash => {
                self.restart(old, prepared);
            }
            Some(old) => self.swap(old, prepared),
            None if self.programs.len() == MAX_PROGRAMS => {
                self.give_back(Return::Refused(prepared, None));
            }
            None => {
                let takeover = prepared.bring_variables(&mut self.world().variables);
                self.commit_variables(&prepared.program);
                self.seat(prepared.program, takeover, None, None);
            }
        }
    }

    /// A new instance of the same code begins anew, without the state of the old one. If that one
    /// was on probation, the version before goes on standing by.
    fn restart(&mut self, old: usize, mut prepared: Box<Prepared>) {
        let takeover = prepared.bring_variables(&mut self.world().variables);
        let mut program = prepared.program;
        let mut old = self.programs.remove(old);
        let standby = old.standby.take().map(|standby| self.bequeath(standby, &program));
        if standby.as_ref().is_some_and(|standby| !standby.variables.is_empty()) {
            program.trace_variables(&self.world().variables, &old.program.take_written());
        }
        self.commit_variables(&program);
        // The outputs stay as they are and go on belonging to the seat, unless the settings have
        // changed since the old one was prepared: what is not granted any more becomes safe.
        self.world().give_up(program.seat, &program.settings.outputs);
        let rolled_back = old.rolled_back.take();
        self.retire(old);
        self.seat(program, takeover, standby, rolled_back);
    }

    /// Settings belong to the seat: with those of its own time a version that stands by might
    /// resume in the wrong place of the order, and own what is not granted any more.
    fn bequeath(&mut self, mut standby: Box<Standby>, program: &Program) -> Box<Standby> {
        if standby.seated.program.settings != program.settings {
            let world = self.world.as_ref().expect("the world is here between polls");
            standby.seated.configure(&program.settings, world);
        }
        standby
    }

    /// New code takes over, with the state of the old; or it does not, and the old one goes on
    /// unless its `save` was cut off.
    fn swap(&mut self, old: usize, mut prepared: Box<Prepared>) {
        let policy = prepared.program.settings.swap;
        let before = match policy.rollback_state {
            RollbackState::Current => Vec::new(),
            RollbackState::Snapshot => self.world().variables.values().collect(),
        };
        self.promise_budgets(prepared.program.shortest_budget());
        let world = self.world.take().expect("the world is here between polls");
        self.slot.mark();
        let running = &mut self.programs[old].program;
        let heir = (prepared.program.seat, prepared.program.generation);
        self.ends.position.is_at(Doing::HandOver(heir.0, heir.1));
        let (world, result) = running.hand_over(&mut prepared, world, &self.slot);
        self.ends.position.is_at(Doing::Own);
        self.world = Some(world);
        let takeover = match result {
            Ok(takeover) => takeover,
            Err(refusal) => {
                self.world().variables.revert();
                self.give_back(Return::Refused(prepared, Some(refusal)));
                self.lose_if_spent(old);
                return;
            }
        };
        let mut program = prepared.program;
        let is_on_probation = !policy.probation.is_zero() || policy.polls > 0;
        if is_on_probation && policy.rollback_state == RollbackState::Snapshot {
            program.trace_variables(&self.world().variables, &[]);
        }
        self.commit_variables(&program);
        let mut old = self.programs.remove(old);
        let rolled_back = old.rolled_back.take();
        self.world().give_up(program.seat, &program.settings.outputs);
        // Who has not proved itself is no version to come back to while an older one is there.
        let standby = match old.standby.take() {
            Some(older) if !old.is_proven => {
                self.retire(old);
                older
            }
            _ => Box::new(Standby { seated: old, variables: Vec::new() }),
        };
        let standby = Box::new(Standby { variables: before, ..*self.bequeath(standby, &program) });
        let standby = if is_on_probation {
            Some(standby)
        } else {
            self.retire(standby.seated);
            None
        };
        self.seat(program, takeover, standby, rolled_back);
    }

    /// Takes over what this program has written to variables outside of a poll.
    fn commit_variables(&mut self, program: &Program) {
        let World { variables, now, .. } = self.world();
        variables.commit_as(maker(&program.name), *now);
    }

    /// `rolled_back` is the version that the one before has replaced again, perhaps a cycle ago:
    /// nobody may have seen that yet.
    fn seat(
        &mut self,
        mut program: Program,
        takeover: Takeover,
        standby: Option<Box<Standby>>,
        rolled_back: Option<Arc<ProgramFact>>,
    ) {
        if takeover.variables_dropped > 0 {
            program.tell_lost_writes(self.world());
        }
        let (since_cycle, since) = (self.world().cycle, self.world().now);
        self.down.retain(|fact| fact.seat != program.seat);
        let seated = Seated {
            since_cycle,
            since,
            degraded: false,
            memory_bytes: program.memory_bytes(),
            takeover,
            is_proven: false,
            standby,
            rolled_back,
            program,
        };
        self.insert(seated);
    }

    pub(super) fn insert(&mut self, seated: Seated) {
        let rank = seated.program.rank();
        let place = self.programs.partition_point(|other| other.program.rank() < rank);
        self.programs.insert(place, seated);
        let mut programs = self.programs.iter();
        self.is_demanding = programs.any(|seated| !seated.program.settings.requires.is_empty());
        self.promise_budgets(Duration::MAX);
    }

    /// The program's probation is over: the version before is let go, and with it the outputs that
    /// only that one, or an instance before a restart, has written. They would otherwise keep their
    /// last value for ever.
    pub(super) fn prove(&mut self, index: usize) {
        let seated = &mut self.programs[index];
        seated.is_proven = true;
        if let Some(standby) = seated.standby.take() {
            seated.program.take_written();
            self.retire(standby.seated);
        }
        self.keep_claimed(index);
    }

    /// The program has trapped. If it was on probation the version before resumes in the next
    /// cycle, with the outputs as they are; otherwise it is out, and its outputs are safe. Gives
    /// whether somebody still sits there.
    pub(super) fn on_trap(&mut self, index: usize, trap: Arc<Trap>) -> bool {
        let seated = &mut self.programs[index];
        let standby = seated.standby.take();
        let fact = ProgramFact { trap: Some(trap), degraded: false, ..seated.fact() };
        let Some(standby) = standby else {
            self.down.push(fact);
            self.release_seat(index);
            return false;
        };
        let Standby { seated: old, variables } = *standby;
        let mut loser = std::mem::replace(seated, old);
        // What is lacking lacks whichever version is polled.
        seated.degraded = loser.degraded;
        // A row of them would be a list without end.
        seated.rolled_back = Some(Arc::new(ProgramFact { rolled_back: None, ..fact }));
        if !variables.is_empty() {
            let wrote = loser.program.take_written();
            let world = self.world();
            for id in wrote {
                // A variable that the loser has made has no value to go back to.
                if let Some(&before) = variables.get(usize::from(id)) {
                    world.variables.put_back(id, before);
                }
            }
        }
        self.give_back(Return::Program(loser.program));
        self.keep_claimed(index);
        self.promise_budgets(Duration::MAX);
        true
    }

    /// The program's `save` was cut off: then it is lost, as by a trap.
    pub(super) fn lose_if_spent(&mut self, index: usize) {
        let program = &self.programs[index].program;
        if let Some(trap) = program.trap().filter(|_| program.is_spent()) {
            let kind = format!("its `save`: {}", trap.kind);
            self.on_trap(index, Arc::new(Trap { kind, ..Trap::clone(trap) }));
        }
    }

    /// Makes those outputs of a seat safe that its present program has never claimed.
    fn keep_claimed(&mut self, index: usize) {
        let Self { programs, world, .. } = self;
        let world = world.as_mut().expect("the world is here between polls");
        let program = &mut programs[index].program;
        world.give_up_unless(program.seat, |id| program.has_claimed(id));
    }

    /// Takes a program out and makes its outputs safe.
    pub(super) fn release_seat(&mut self, index: usize) {
        let seated = self.programs.remove(index);
        self.world().release_outputs(seated.program.seat);
        self.retire(seated);
    }

    /// Gives back what is not to be dropped here, the version before included.
    fn retire(&mut self, seated: Seated) {
        if let Some(standby) = seated.standby {
            self.give_back(Return::Program(standby.seated.program));
        }
        self.give_back(Return::Program(seated.program));
    }
}
