//! How a program takes its seat: a hand-over from the version before, a time of probation, and the
//! rollback.
//!
//! A new version takes over between two cycles. The new version gets the state of the running
//! version if both support that, and the outputs stay as they are. If the hand-over fails, the
//! running version goes on unchanged. There is one exception: if the running version's `save` was
//! cut off, that version is lost as after a trap. After a swap the old version stands by until the
//! new version has passed its probation. If the new version traps before that, the old version is
//! polled again from the next cycle on.
//!
//! ```text
//! install ──▶ on probation, the old version stands by ──▶ proven, the old one is given back
//!                 └─ trap ──▶ the old version runs again
//! ```
//!
//! The supervisor decides which version is installed; the polls are in `mod.rs`.

use std::sync::Arc;
use std::time::Duration;

use super::position::Doing;
use super::{ProgramFact, Return, Scan};
use crate::plugin::instance::program::{Prepared, Program, Takeover, maker};
use crate::plugin::{RollbackState, Settings, Trap};
use crate::process::seat::MAX_PROGRAMS;
use crate::process::variable::{Variable, Writers};
use crate::process::world::World;

/// A program on its seat.
#[derive(Debug)]
pub(super) struct Seated {
    pub(super) program: Program,
    /// The cycle in which the program took its seat.
    since_cycle: u64,
    /// The time of that cycle, on the scan's clock.
    since: Duration,
    /// Whether the program lacks an input that it requires.
    pub(super) degraded: bool,
    /// Linear memory in bytes, at the last reading.
    pub(super) memory_bytes: u64,
    /// How the program took its seat.
    takeover: Takeover,
    /// Whether the program's probation is over.
    pub(super) is_proven: bool,
    /// The version before, until this program has passed its probation.
    standby: Option<Box<Standby>>,
    /// The version that trapped on probation and was rolled back to this program, or to the version
    /// from which this program took over.
    rolled_back: Option<Arc<ProgramFact>>,
}

/// The version before, which is ready to resume.
#[derive(Debug)]
struct Standby {
    /// The program with its facts. The facts are true again when the program resumes.
    seated: Seated,
    /// All variables at the swap with their writers, by id. The list is empty if the variables are
    /// not to be restored.
    variables: Vec<(Variable, Writers)>,
}

impl Seated {
    /// The facts about the program for the snapshot.
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

    /// Whether the program's probation is over, after its poll at `now`.
    pub(super) fn has_proved_itself(&self, now: Duration) -> bool {
        let policy = &self.program.settings.swap;
        self.program.polls >= u64::from(policy.polls)
            && now.saturating_sub(self.since) >= policy.probation
    }

    /// Gives new settings to this program and to the version before, which has the same seat.
    pub(super) fn configure(&mut self, settings: &Settings, world: &World) {
        self.program.configure(settings.clone(), &world.points);
        if let Some(standby) = &mut self.standby {
            standby.seated.configure(settings, world);
        }
    }

    /// Makes this program and the version before forget the refusals that they got from the host,
    /// because these refusals say nothing about the new configuration.
    pub(super) fn forget_refusals(&mut self) {
        self.program.forget_refusals();
        if let Some(standby) = &mut self.standby {
            standby.seated.forget_refusals();
        }
    }
}

impl Scan {
    /// Seats a prepared program: on an empty seat, as a restart of the same code, or as a swap to
    /// new code. If the scan is halting or no seat is left, the program goes back to the daemon
    /// without a reason.
    pub(super) fn install(&mut self, mut prepared: Box<Prepared>) {
        let seat = prepared.program.seat;
        let halting = self.is_halting();
        // The seat may still hold a program of another plugin. This happens if the supervisor
        // forgot that plugin and gave its seat away while the plugin's install order was in the
        // queue. The state and the outputs of that program are not for this program.
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
                let takeover = prepared.bring_variables(&mut self.world.variables);
                self.commit_variables(&prepared.program);
                self.seat(prepared.program, takeover, None, None);
            }
        }
    }

    /// Replaces a program by a new instance of the same code, which begins without the old state.
    /// If the old instance was on probation, the version before that instance goes on standing by.
    fn restart(&mut self, old: usize, mut prepared: Box<Prepared>) {
        let takeover = prepared.bring_variables(&mut self.world.variables);
        let mut program = prepared.program;
        let mut old = self.programs.remove(old);
        let standby = old.standby.take().map(|standby| self.bequeath(standby, &program));
        if standby.as_ref().is_some_and(|standby| !standby.variables.is_empty()) {
            program.trace_variables(&self.world.variables, &old.program.take_written());
        }
        self.commit_variables(&program);
        // The outputs keep their values and still belong to the seat. The settings may have changed
        // since the old instance was prepared, so outputs that are not granted any more become
        // safe.
        self.world.give_up(program.seat, &program.settings.outputs);
        let rolled_back = old.rolled_back.take();
        self.retire(old);
        self.seat(program, takeover, standby, rolled_back);
    }

    /// Passes a standby version on to the new program of the seat, with the settings of the new
    /// program. With its own old settings the standby version might resume at the wrong place in
    /// the polling order, and might own outputs that are not granted any more.
    fn bequeath(&mut self, mut standby: Box<Standby>, program: &Program) -> Box<Standby> {
        if standby.seated.program.settings != program.settings {
            standby.seated.configure(&program.settings, &self.world);
        }
        standby
    }

    /// Lets new code take over with the state of the old program. If the hand-over fails, the old
    /// program goes on, unless its `save` was cut off.
    fn swap(&mut self, old: usize, mut prepared: Box<Prepared>) {
        let policy = prepared.program.settings.swap;
        let before = match policy.rollback_state {
            RollbackState::Current => Vec::new(),
            RollbackState::Snapshot => self.world.variables.values().collect(),
        };
        self.promise_budgets(prepared.program.shortest_budget());
        self.slot.mark();
        let running = &mut self.programs[old].program;
        let heir = (prepared.program.seat, prepared.program.generation);
        self.ends.position.is_at(Doing::HandOver(heir.0, heir.1));
        let result = running.hand_over(&mut prepared, &mut self.world, &self.slot);
        self.ends.position.is_at(Doing::Own);
        let takeover = match result {
            Ok(takeover) => takeover,
            Err(refusal) => {
                self.world.variables.revert();
                self.give_back(Return::Refused(prepared, Some(refusal)));
                self.lose_if_spent(old);
                return;
            }
        };
        let mut program = prepared.program;
        let is_on_probation = !policy.probation.is_zero() || policy.polls > 0;
        if is_on_probation && policy.rollback_state == RollbackState::Snapshot {
            program.trace_variables(&self.world.variables, &[]);
        }
        self.commit_variables(&program);
        let mut old = self.programs.remove(old);
        let rolled_back = old.rolled_back.take();
        self.world.give_up(program.seat, &program.settings.outputs);
        // If an older version stands by, a rollback returns to that version, and not to the present
        // one, which has not passed its probation.
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

    /// Commits the variables that this program has written outside of a poll.
    fn commit_variables(&mut self, program: &Program) {
        let World { variables, now, .. } = &mut *self.world;
        variables.commit_as(maker(&program.name), *now);
    }

    /// Puts a program on its seat. `rolled_back` is the version that was rolled back to the program
    /// before this one. This fact is passed on because the rollback may be only a cycle old, and
    /// the daemon may not have seen it yet.
    fn seat(
        &mut self,
        mut program: Program,
        takeover: Takeover,
        standby: Option<Box<Standby>>,
        rolled_back: Option<Arc<ProgramFact>>,
    ) {
        if takeover.variables_dropped > 0 {
            program.tell_lost_writes(&mut self.world);
        }
        let (since_cycle, since) = (self.world.cycle, self.world.now);
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

    /// Puts a program into the polling order at its rank.
    pub(super) fn insert(&mut self, seated: Seated) {
        let rank = seated.program.rank();
        let place = self.programs.partition_point(|other| other.program.rank() < rank);
        self.programs.insert(place, seated);
        let mut programs = self.programs.iter();
        self.is_demanding = programs.any(|seated| !seated.program.settings.requires.is_empty());
        self.promise_budgets(Duration::MAX);
    }

    /// Ends a program's probation and gives back the version before. Some outputs were written only
    /// by that version, or only by an instance before a restart. These outputs become safe, because
    /// they would otherwise keep their last value for ever.
    pub(super) fn prove(&mut self, index: usize) {
        let seated = &mut self.programs[index];
        seated.is_proven = true;
        if let Some(standby) = seated.standby.take() {
            seated.program.take_written();
            self.retire(standby.seated);
        }
        self.keep_claimed(index);
    }

    /// Handles the trap of a program. If the program is on probation, the version before is polled
    /// from the next cycle on, and the outputs stay as they are. Otherwise the program leaves its
    /// seat and its outputs become safe. Returns whether a program is still on the seat.
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
        // An input that one version of the plugin lacks, each version lacks.
        seated.degraded = loser.degraded;
        // Older rollbacks are dropped here, because otherwise the facts would form a list without
        // end.
        seated.rolled_back = Some(Arc::new(ProgramFact { rolled_back: None, ..fact }));
        if !variables.is_empty() {
            let wrote = loser.program.take_written();
            let world = &mut *self.world;
            for id in wrote {
                // A variable that the rolled-back version has created has no earlier value, so it
                // stays.
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

    /// Handles a `save` that was cut off: the program is lost, as after a trap.
    pub(super) fn lose_if_spent(&mut self, index: usize) {
        let program = &self.programs[index].program;
        if let Some(trap) = program.trap().filter(|_| program.is_spent()) {
            let kind = format!("its `save`: {}", trap.kind);
            self.on_trap(index, Arc::new(Trap { kind, ..Trap::clone(trap) }));
        }
    }

    /// Makes those outputs of a seat safe that the seat's present program has never claimed.
    fn keep_claimed(&mut self, index: usize) {
        let Self { programs, world, .. } = self;
        let program = &mut programs[index].program;
        world.give_up_unless(program.seat, |id| program.has_claimed(id));
    }

    /// Takes a program from its seat and makes its outputs safe.
    pub(super) fn release_seat(&mut self, index: usize) {
        let seated = self.programs.remove(index);
        self.world.release_outputs(seated.program.seat);
        self.retire(seated);
    }

    /// Gives back to the daemon a program that must not be dropped here, and the version that
    /// stands by for it.
    fn retire(&mut self, seated: Seated) {
        if let Some(standby) = seated.standby {
            self.give_back(Return::Program(standby.seated.program));
        }
        self.give_back(Return::Program(seated.program));
    }
}
