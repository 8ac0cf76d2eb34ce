//! Who sits where in the model, who stands by, and who comes back.
//!
//! Written from what `scan/swap.rs` promises, not from how it does it: a hand-over works on copies,
//! which are thrown away if it fails.

use camshaft::plugin::instance::program::Takeover;
use camshaft::plugin::{RollbackState, Settings};
use camshaft::process::grant::Grant;
use camshaft::process::seat::Seat;
use camshaft::process::variable::Variable;

use super::super::guest::{STATE_BYTES, is_granted};
use super::super::version::Failure;
use super::{Back, Model, Prepared, Seated, Standby, World};

impl Prepared {
    /// Writes what its `init` has written.
    fn bring(&self, world: &mut World) -> Takeover {
        let variables_carried = world.variables.len();
        // Its rights may have changed since then.
        let granted = &self.program.settings.variables;
        let code = self.variable.map_or(0, |(name, value)| match granted.allows(name) {
            true => world.write(name, value),
            false => 5,
        });
        Takeover {
            state_bytes: None,
            variables_carried: variables_carried as u64,
            variables_new: (world.variables.len() - variables_carried) as u64,
            variables_dropped: u64::from(code != 0),
        }
    }
}

impl Seated {
    pub(super) fn configure(&mut self, settings: &Settings) {
        self.instance.entitle(settings);
        if self.settings != *settings {
            self.instance.forget_refusals();
        }
        self.settings = settings.clone();
    }

    /// Also of the version that stands by.
    pub(super) fn forget_refusals(&mut self) {
        self.instance.forget_refusals();
        if let Some(standby) = &mut self.standby {
            standby.program.forget_refusals();
        }
    }
}

impl Model {
    pub(super) fn index(&self, seat: Seat) -> Option<usize> {
        self.seated.iter().position(|program| program.seat == seat)
    }

    fn event(&mut self, what: &'static str, program: &Seated) {
        self.events.push((what, format!("{} {}", program.name, program.generation.0)));
    }

    /// Whether that happened in this cycle.
    pub fn happened(&self, event: &str) -> bool {
        self.events.iter().any(|(what, _)| *what == event)
    }

    /// Whether somebody sits or sat there.
    pub(super) fn install(&mut self, prepared: Prepared) -> bool {
        let seat = prepared.program.seat;
        let is_heavy = self.seated.iter().chain(&self.down).any(|other| other.seat == seat);
        if self.is_halted || self.is_halting {
            self.returns.push_back(Back::Refused(prepared.program.generation, None));
            return is_heavy;
        }
        // A stranger has nothing that is for another plugin.
        let sitting = self.index(seat);
        if let Some(index) = sitting.filter(|n| self.seated[*n].name != prepared.program.name) {
            self.event("stranger replaced", &prepared.program);
            self.release_seat(index);
        }
        let Some(old) = self.index(seat) else {
            self.down.retain(|other| other.seat != seat);
            let takeover = prepared.bring(&mut self.world);
            self.seat(prepared.program, takeover, None);
            return is_heavy;
        };
        let is_same = self.seated[old].instance.version == prepared.program.instance.version;
        if is_same {
            self.restart(old, prepared);
        } else if let Err(reason) = self.swap(old, &prepared) {
            self.event("refused", &prepared.program);
            let is_cut_off = reason.ends_with(Failure::Endless.kind()) && reason.contains("`save`");
            let back = Back::Refused(prepared.program.generation, Some(reason));
            self.returns.push_back(back);
            if is_cut_off {
                self.lose_in_save(old);
            }
        }
        is_heavy
    }

    /// The `save` of a program was cut off: nobody calls it again.
    pub(super) fn lose_in_save(&mut self, index: usize) {
        self.event("lost in save", &self.seated[index].clone());
        self.on_trap(index, "in `save`: budget of 50ms exceeded");
    }

    /// The same code begins anew, with nothing but the outputs and the version before.
    fn restart(&mut self, old: usize, prepared: Prepared) {
        self.world.written.clear();
        let takeover = prepared.bring(&mut self.world);
        let (mut old, mut program) = (self.seated.remove(old), prepared.program);
        self.give_up(old.seat, &program.settings.outputs);
        let what = if old.standby.is_some() { "restart on probation" } else { "restart alone" };
        self.event(what, &old);
        let written = self.world.written.drain(..);
        program.instance.wrote = old.instance.wrote.iter().copied().chain(written).collect();
        program.rolled_back = old.rolled_back.take();
        let mut standby = old.standby.take();
        if let Some(standby) = &mut standby
            && standby.program.settings != program.settings
        {
            standby.program.configure(&program.settings);
        }
        self.retire(old);
        self.seat(program, takeover, standby);
    }

    /// Other code takes over, if it gets what the old one has to give. Otherwise nothing changes.
    fn swap(&mut self, old: usize, prepared: &Prepared) -> Result<(), String> {
        let variables = self.world.variables.clone();
        let (mut program, takeover) = match self.hand_over(old, prepared) {
            Ok(taken_over) => taken_over,
            Err(reason) => {
                self.world.variables = variables;
                return Err(reason);
            }
        };
        program.instance.wrote = self.world.written.drain(..).collect();
        self.give_up(program.seat, &program.settings.outputs);
        let mut old = self.seated.remove(old);
        program.rolled_back = old.rolled_back.take();
        if old.standby.is_some() {
            self.event("swap on probation", &program);
        }
        let before = match old.standby.take() {
            Some(older) if !old.is_proven => {
                self.retire(old);
                older.program
            }
            _ => old,
        };
        let standby = self.stand_by(before, &program.settings, variables);
        self.seat(program, takeover, standby);
        Ok(())
    }

    /// What the successor is after it has taken over, or why it cannot.
    fn hand_over(&mut self, old: usize, to: &Prepared) -> Result<(Seated, Takeover), String> {
        let old = &self.seated[old];
        let mut program = to.program.clone();
        self.world.written.clear();
        if !old.instance.hands_over() || !program.instance.hands_over() {
            let takeover = to.bring(&mut self.world);
            return Ok((program, takeover));
        }
        let state = old.instance.save(old.seat, &mut self.world).map_err(|failure| {
            format!("`save` of the running version failed: {}", failure.kind())
        })?;
        let takeover = Takeover { state_bytes: Some(STATE_BYTES), ..to.bring(&mut self.world) };
        let restored = program.instance.restore(state, &mut self.world);
        restored.map_err(|failure| format!("its `restore` failed: {}", failure.kind()))?;
        self.event("hand-over", &program);
        Ok((program, takeover))
    }

    /// The version before stays ready, unless nobody is on probation.
    fn stand_by(
        &mut self,
        mut program: Seated,
        settings: &Settings,
        variables: Vec<(&'static str, Variable)>,
    ) -> Option<Box<Standby>> {
        let policy = settings.swap;
        if policy.probation.is_zero() && policy.polls == 0 {
            self.retire(program);
            return None;
        }
        // It resumes with the settings of its seat, whatever they were in its time.
        if program.settings != *settings {
            program.configure(settings);
        }
        let is_wanted = policy.rollback_state == RollbackState::Snapshot;
        let variables = if is_wanted { variables } else { Vec::new() };
        Some(Box::new(Standby { program, variables }))
    }

    fn seat(&mut self, program: Seated, takeover: Takeover, standby: Option<Box<Standby>>) {
        self.installed += 1;
        let (since_cycle, since) = (self.world.cycle, self.world.now);
        let takeover = Some(takeover);
        self.take_place(Seated { since_cycle, since, takeover, standby, ..program });
    }

    fn take_place(&mut self, program: Seated) {
        let rank = |program: &Seated| (program.settings.order, program.name);
        let place = self.seated.iter().take_while(|other| rank(other) < rank(&program)).count();
        self.seated.insert(place, program);
    }

    pub(super) fn configure(&mut self, seat: Seat, settings: &Settings) {
        if let Some(index) = self.index(seat) {
            self.give_up(seat, &settings.outputs);
            let mut program = self.seated.remove(index);
            program.configure(settings);
            if let Some(standby) = &mut program.standby {
                standby.program.configure(settings);
                self.event("configure on probation", &program);
            }
            self.take_place(program);
        }
    }

    /// The program has polled well; was that the last poll of its probation?
    pub(super) fn judge(&mut self, index: usize) {
        let program = &mut self.seated[index];
        let policy = program.settings.swap;
        let is_long_enough = self.world.now - program.since >= policy.probation;
        if program.is_proven || program.polls < policy.polls.into() || !is_long_enough {
            return;
        }
        program.is_proven = true;
        if let Some(standby) = program.standby.take() {
            self.event("proved", &standby.program);
            self.retire(standby.program);
        }
        self.keep_claimed(index);
    }

    /// The program has trapped: whoever stands by has the seat again, or nobody has. Gives whether
    /// somebody has.
    pub(super) fn on_trap(&mut self, index: usize, kind: &'static str) -> bool {
        let cycle = self.world.cycle;
        let Some(standby) = self.seated[index].standby.take() else {
            let program = self.release_seat(index);
            self.down.push(Seated { trap: Some((kind, cycle)), ..program });
            return false;
        };
        let Standby { program: old, variables } = *standby;
        let what = if variables.is_empty() { "rollback" } else { "variables rolled back" };
        self.event(what, &old);
        let loser = std::mem::replace(&mut self.seated[index], old);
        self.seated[index].rolled_back = Some((loser.generation, kind, cycle));
        for (name, value) in variables {
            if loser.instance.wrote.contains(&name) {
                self.world.write(name, value);
            }
        }
        self.returns.push_back(Back::Program(loser.generation));
        self.keep_claimed(index);
        true
    }

    pub(super) fn release_seat(&mut self, index: usize) -> Seated {
        let program = self.seated.remove(index);
        self.give_up(program.seat, &Grant::Only(Vec::new()));
        self.world.overlay.lacking.remove(&program.seat);
        if program.standby.is_some() {
            self.event("out on probation", &program);
        }
        self.retire(program.clone());
        Seated { standby: None, ..program }
    }

    /// The version before comes back first.
    fn retire(&mut self, program: Seated) {
        let standby = program.standby.map(|standby| standby.program.generation);
        let both = standby.into_iter().chain([program.generation]);
        self.returns.extend(both.map(Back::Program));
    }

    /// The seat keeps what its program has claimed.
    fn keep_claimed(&mut self, index: usize) {
        let program = &self.seated[index];
        let claimed = program.instance.claimed.iter().copied().collect();
        self.give_up(program.seat, &Grant::Only(claimed));
    }

    /// Frees the outputs of a seat that are not granted any more, and makes them safe.
    fn give_up(&mut self, seat: Seat, grant: &Grant) {
        let points = std::sync::Arc::clone(&self.world.points);
        for (id, _) in points.iter() {
            if self.world.owners[id.index()] != Some(seat) || is_granted(grant, id) {
                continue;
            }
            self.world.owners[id.index()] = None;
            self.world.leave(id);
        }
    }
}
