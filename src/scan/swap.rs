//! The install of a program on its seat: the hand-over from the old version, the probation and the
//! rollback.
//!
//! A new version takes the seat between two cycles. If both versions support a hand-over, the new
//! version gets the state of the old version. The swap makes an output of the seat safe if the new
//! settings do not grant the output. All other outputs keep their values. In this file, an output
//! becomes safe in two steps: its ownership ends, and after its hold time (`hold_for`) it gets its
//! safe value. With the safe setting `hold` it keeps its value. If the hand-over fails, the old
//! version runs on. There is one exception: the budget, a stack overflow or a panic of a host
//! function stopped the `save` of the old version. In that case the old version is lost, as after a
//! trap in a poll.
//!
//! Each program that takes a seat is unproven at first: it is on probation. The probation ends when
//! the program has reached both a number of polls and a time on the seat (`has_proved_itself`).
//! After a swap, the old version stands by until the end of the probation. If both limits are 0, no
//! version stands by. If the new version traps on probation, the scan polls the old version again
//! from the next cycle on.
//!
//! A first install or a restart also starts unproven, but without a standby version. A trap then
//! leaves the seat empty. There is one exception: if a standby version stood by for the instance
//! before a restart, it stands by for the new instance.
//!
//! ```text
//! install ──▶ new version on probation, old version stands by ──▶ proven: old version is returned
//!                  └─ trap ──▶ rollback: the old version runs again
//! ```
//!
//! The supervisor decides which version is installed. The polls are in `mod.rs`.

use std::sync::Arc;
use std::time::Duration;

use super::position::Doing;
use super::{ProgramFact, Return, Scan};
use crate::plugin::instance::program::{Prepared, Program, Takeover, maker};
use crate::plugin::{RollbackState, Settings, Trap};
use crate::process::seat::MAX_PROGRAMS;
use crate::process::variable::{Variable, Writers};
use crate::process::world::World;

/// A program that has a seat, with the facts about its time on the seat.
#[derive(Debug)]
pub(super) struct Seated {
    pub(super) program: Program,
    /// The number of the cycle in which the program took its seat.
    since_cycle: u64,
    /// The instant at which the program took its seat, on the scan's clock.
    since: Duration,
    /// Whether a required input has been bad for longer than its timeout. `Scan::examine` updates
    /// this flag in each cycle.
    pub(super) degraded: bool,
    /// Size of the linear memory in bytes. The scan updates this size when the program takes its
    /// seat, and then every [`super::MEMORY_CYCLES`] cycles.
    pub(super) memory_bytes: u64,
    /// The size of the state that the program restored when it took its seat, and counts of
    /// variables.
    takeover: Takeover,
    /// Whether the program has passed its probation. `Scan::prove` sets this flag.
    pub(super) is_proven: bool,
    /// The old version, which stands by until the probation of this program ends; `None` if no
    /// version stands by.
    standby: Option<Box<Standby>>,
    /// The fact about the newest rolled-back version of this seat: a version that trapped on
    /// probation while an old version stood by. This program, or an earlier program of the seat, is
    /// that old version. `None` without a rollback.
    rolled_back: Option<Arc<ProgramFact>>,
}

/// The old version of a program on probation. The scan polls the old version again if the new
/// version traps.
#[derive(Debug)]
struct Standby {
    /// The old version with its facts, as they were at the swap.
    seated: Seated,
    /// The values and writers of all variables at the newest swap, indexed by id. The list is empty
    /// if the setting `rollback_state` is [`RollbackState::Current`].
    variables: Vec<(Variable, Writers)>,
}

impl Seated {
    /// Returns the facts about the program for the snapshot.
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

    /// Whether the program has had enough polls without a trap, and enough time on its seat until
    /// `now`. The scan calls this function after each poll of a program on probation.
    pub(super) fn has_proved_itself(&self, now: Duration) -> bool {
        let policy = &self.program.settings.swap;
        self.program.polls >= u64::from(policy.polls)
            && now.saturating_sub(self.since) >= policy.probation
    }

    /// Applies new settings to this program, and to the old version that stands by.
    pub(super) fn configure(&mut self, settings: &Settings, world: &World) {
        self.program.configure(settings.clone(), &world.points);
        if let Some(standby) = &mut self.standby {
            standby.seated.configure(settings, world);
        }
    }

    /// Clears the list of calls that the host has refused, for this program and for the old version
    /// that stands by. Under a new configuration the host may accept the same calls.
    pub(super) fn forget_refusals(&mut self) {
        self.program.forget_refusals();
        if let Some(standby) = &mut self.standby {
            standby.seated.forget_refusals();
        }
    }
}

impl Scan {
    /// Puts a prepared program on its seat: on an empty seat, as a restart of the same code, or as
    /// a swap to new code. If the scan is halting or all seats are taken, the scan returns the
    /// program to the daemon without a reason.
    pub(super) fn install(&mut self, mut prepared: Box<Prepared>) {
        let seat = prepared.program.seat;
        let halting = self.is_halting();
        // The seat may have a program of another plugin. This happens if the supervisor deleted
        // that plugin, and assigned its seat again, while an install order of that plugin was in
        // the queue. The other program leaves the seat first, so that this program does not get the
        // state and outputs of the other program.
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

    /// Replaces a program by a new instance of the same code. The new instance begins without the
    /// state of the old instance. If a standby version stood by for the old instance, it stands by
    /// for the new instance.
    fn restart(&mut self, old: usize, mut prepared: Box<Prepared>) {
        let takeover = prepared.bring_variables(&mut self.world.variables);
        let mut program = prepared.program;
        let mut old = self.programs.remove(old);
        let standby = old.standby.take().map(|standby| self.bequeath(standby, &program));
        if standby.as_ref().is_some_and(|standby| !standby.variables.is_empty()) {
            program.trace_variables(&self.world.variables, &old.program.take_written());
        }
        self.commit_variables(&program);
        // The seat still owns its outputs, which keep their values. But the settings may have
        // changed after the old instance was prepared. So an output that the new settings do not
        // grant becomes safe here.
        self.world.give_up(program.seat, &program.settings.outputs);
        let rolled_back = old.rolled_back.take();
        self.retire(old);
        self.seat(program, takeover, standby, rolled_back);
    }

    /// Prepares the standby version for a new program on the seat: the standby version gets the
    /// settings of the new program. With its old settings, the standby version might have a wrong
    /// position in the polling order after a rollback. The standby version might also own outputs
    /// that are not granted any more.
    fn bequeath(&mut self, mut standby: Box<Standby>, program: &Program) -> Box<Standby> {
        if standby.seated.program.settings != program.settings {
            standby.seated.configure(&program.settings, &self.world);
        }
        standby
    }

    /// Replaces a program by new code. If both versions have `save` and `restore`, the new code
    /// gets the state of the old program. If the hand-over fails, the old program runs on, unless
    /// its `save` was stopped ([`Scan::lose_if_spent`]).
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
        // An older version may stand by for the replaced version, because the replaced version has
        // not passed its probation. In that case a rollback must not return to the replaced
        // version. The rollback returns to the older version.
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

    /// Commits the variables that this program has written outside of a poll, in `init` or in a
    /// hand-over.
    fn commit_variables(&mut self, program: &Program) {
        let World { variables, now, .. } = &mut *self.world;
        variables.commit_as(maker(&program.name), *now);
    }

    /// Puts a program on its seat. `rolled_back` is the fact about the newest rollback on this
    /// seat, from the program that had the seat until now. The new program keeps this fact, because
    /// the rollback may be only one cycle old. In that case the daemon may not have seen the fact
    /// yet.
    fn seat(
        &mut self,
        mut program: Program,
        takeover: Takeover,
        standby: Option<Box<Standby>>,
        rolled_back: Option<Arc<ProgramFact>>,
    ) {
        if takeover.variables_dropped > 0 {
            program.report_lost_writes(&mut self.world);
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

    /// Inserts a program into the polling order at its rank: first by the configured order, then by
    /// name.
    pub(super) fn insert(&mut self, seated: Seated) {
        let rank = seated.program.rank();
        let place = self.programs.partition_point(|other| other.program.rank() < rank);
        self.programs.insert(place, seated);
        let mut programs = self.programs.iter();
        self.is_demanding = programs.any(|seated| !seated.program.settings.requires.is_empty());
        self.promise_budgets(Duration::MAX);
    }

    /// Ends a program's probation. Returns the old version to the daemon, if one stands by. The
    /// seat may own outputs that only the old version, or an instance before a restart, has
    /// written. These outputs become safe, because no program would change their last value any
    /// more.
    pub(super) fn prove(&mut self, index: usize) {
        let seated = &mut self.programs[index];
        seated.is_proven = true;
        if let Some(standby) = seated.standby.take() {
            seated.program.take_written();
            self.retire(standby.seated);
        }
        self.keep_claimed(index);
    }

    /// Takes a trapped program off its seat. If an old version stands by, the scan polls the old
    /// version from the next cycle on. In this case only the outputs that the old version has never
    /// claimed by a write become safe. Otherwise the seat remains empty, and all outputs of the
    /// seat become safe. Returns whether the seat still has a program.
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
        // Both versions have the same required inputs, so the old version is degraded if the
        // trapped version was degraded.
        seated.degraded = loser.degraded;
        // The fact about an older rollback is dropped here. Otherwise each fact would contain an
        // older fact, and the chain of facts would grow without limit.
        seated.rolled_back = Some(Arc::new(ProgramFact { rolled_back: None, ..fact }));
        if !variables.is_empty() {
            let wrote = loser.program.take_written();
            let world = &mut *self.world;
            for id in wrote {
                // A variable that the trapped version has created had no value before the swap, so
                // its value is not changed here.
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

    /// Takes a program off its seat, as after a trap in a poll, if the budget, a stack overflow or
    /// a panic of a host function has stopped the `save` of this program.
    pub(super) fn lose_if_spent(&mut self, index: usize) {
        let program = &self.programs[index].program;
        if let Some(trap) = program.trap().filter(|_| program.is_spent()) {
            let kind = format!("in `save`: {}", trap.kind);
            self.on_trap(index, Arc::new(Trap { kind, ..Trap::clone(trap) }));
        }
    }

    /// Makes an output of a seat safe if the present program of the seat has never claimed the
    /// output by a write.
    fn keep_claimed(&mut self, index: usize) {
        let Self { programs, world, .. } = self;
        let program = &mut programs[index].program;
        world.give_up_unless(program.seat, |id| program.has_claimed(id));
    }

    /// Removes a program from its seat and makes the outputs of the seat safe.
    pub(super) fn release_seat(&mut self, index: usize) {
        let seated = self.programs.remove(index);
        self.world.release_outputs(seated.program.seat);
        self.retire(seated);
    }

    /// Returns a program and its standby version to the daemon, because the scan thread must not
    /// free them.
    fn retire(&mut self, seated: Seated) {
        if let Some(standby) = seated.standby {
            self.give_back(Return::Program(standby.seated.program));
        }
        self.give_back(Return::Program(seated.program));
    }
}
