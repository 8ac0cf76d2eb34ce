//! The daemon of the simulation: it connects the real supervisor with the scan and the model.
//!
//! It does what `src/daemon.rs` does. The answers of its simulated compile worker can be late, or
//! can be missing. It passes each order to the scan and to the model.

use std::sync::atomic::Ordering;
use std::time::Duration;

use camshaft::driver::Command;
use camshaft::plugin::instance::program::{NewProgram, Program};
use camshaft::plugin::{Generation, ModuleHash, Refusal};
use camshaft::process::seat::Seat;
use camshaft::process::variable::Variable;
use camshaft::scan::{self, MAX_ORDERS, Order, Return};
use camshaft::supervisor::{Action, Fact, Note, OnQuarantine, State, Want};

use super::guest::{CHAIN, Instance};
use super::house::{House, NAMES, Preparing, Ready, Seen};
use super::model::{self, Back, Seated};
use crate::rig::{PERIOD, Rig};

impl House {
    /// Gives an order to the scan and to its model; whether there was room.
    pub fn order(&mut self, order: Order, copy: model::Order) -> bool {
        let has_room = self.model.orders.len() < MAX_ORDERS;
        let is_taken = self.rig.handle.orders.push(order).is_ok();
        assert_eq!(is_taken, has_room, "a queue of {MAX_ORDERS} orders");
        if is_taken {
            self.model.orders.push_back(copy);
        } else {
            self.note("queue full", "");
        }
        is_taken
    }

    pub fn command(&mut self, device: usize, command: Command) -> bool {
        self.ticket += 1;
        let ticket = self.ticket;
        self.order(
            Order::Command { ticket, device, command: command.clone() },
            model::Order::Command { ticket, device, command },
        )
    }

    pub fn set_variables(&mut self, values: Vec<(&'static str, Variable)>) -> bool {
        self.ticket += 1;
        let ticket = self.ticket;
        let named = values.iter().map(|(name, value)| (name.to_string(), *value)).collect();
        self.order(
            Order::SetVariables { ticket, values: named },
            model::Order::SetVariables { ticket, values },
        )
    }

    /// Some raise the flag first, so that nothing in front of the order counts any more.
    pub fn halt(&mut self) -> bool {
        if self.random.bool() {
            self.model.is_halting = true;
            self.rig.handle.halting.store(true, Ordering::Relaxed);
        }
        self.order(Order::Halt, model::Order::Halt)
    }

    pub fn seat(&self, name: &str) -> Option<Seat> {
        self.seats.iter().position(|other| *other == Some(name)).map(|n| Seat(n as u16))
    }

    fn enter(&mut self, name: &'static str) -> Seat {
        let seat = self.seat(name).unwrap_or_else(|| {
            let free = self.seats.iter().position(Option::is_none);
            Seat(free.expect("as many seats as names") as u16)
        });
        self.seats[usize::from(seat.0)] = Some(name);
        seat
    }

    /// One turn of the daemon's loop.
    pub fn pursue(&mut self, now: Duration) -> usize {
        let news = self.rig.handle.latest.read();
        let seen = news.programs.iter().map(|fact| Seen {
            seat: fact.seat,
            generation: fact.generation,
            hash: fact.hash,
            trap: fact.trap.clone(),
            standby: fact.standby,
            rolled_back: fact.rolled_back.clone(),
        });
        self.seen = seen.collect();
        let proven = news.programs.iter().filter(|fact| fact.is_proven && fact.trap.is_none());
        let proven: Vec<_> = proven.map(|fact| (fact.seat, fact.generation)).collect();
        proven.into_iter().for_each(|(seat, generation)| self.keep(seat, generation));
        if self.model.world.cycle >= self.lazy_until {
            self.take_back();
        }
        self.finish_preparations();
        while let Some((device, command)) = self.asked.first().cloned() {
            if !self.command(device, command) {
                break;
            }
            self.asked.remove(0);
        }
        let facts: Vec<Fact<'_>> = self
            .seen
            .iter()
            .filter_map(|seen| {
                let name = self.seats[usize::from(seen.seat.0)]?;
                let rolled_back = seen.rolled_back.as_ref();
                Some(Fact {
                    name,
                    generation: seen.generation,
                    trap: seen.trap.clone(),
                    standby: seen.standby,
                    rolled_back: rolled_back.and_then(|rolled_back| {
                        Some((rolled_back.generation, rolled_back.trap.clone()?))
                    }),
                })
            })
            .collect();
        let banned = self.banned_now();
        let actions = self.supervisor.step(now, &facts);
        self.banned.extend(banned);
        let count = actions.len();
        actions.into_iter().for_each(|action| self.act(action));
        for seat in 0..self.seats.len() {
            let Some(name) = self.seats[seat] else { continue };
            let sits = self.seen.iter().any(|seen| usize::from(seen.seat.0) == seat);
            if !sits && self.supervisor.plugin(name).is_none() {
                self.seats[seat] = None;
            }
        }
        self.expel_strangers();
        count
    }

    /// A program has survived its probation, so its version is kept. The supervisor is told all of
    /// them, whatever became of them: it must not choose a bad one.
    fn keep(&mut self, seat: Seat, generation: Generation) {
        let Some(name) = self.seats[usize::from(seat.0)] else { return };
        let running = self.supervisor.plugin(name).and_then(|view| view.running);
        let Some(running) = running.filter(|running| running.generation == generation) else {
            return;
        };
        let kept = self.proven.entry(name).or_default();
        if kept.first() != Some(&running.hash) {
            kept.retain(|hash| *hash != running.hash);
            kept.insert(0, running.hash);
        }
        self.supervisor.set_stored(name, kept.clone(), None);
    }

    /// Modules that ran, as the supervisor knows, and that it is about to see taken back in favour
    /// of others: the same bytes are no others.
    fn banned_now(&self) -> Vec<(&'static str, ModuleHash)> {
        let lost = self.seen.iter().filter_map(|seen| {
            let name = self.seats[usize::from(seen.seat.0)]?;
            let running = self.supervisor.plugin(name)?.running?;
            // Of one that took over from the one that came back, the supervisor says so itself.
            let rolled_back =
                Some(seen.rolled_back.as_ref()?.generation).filter(|it| *it > seen.generation)?;
            let is_judged = running.generation == rolled_back && running.hash != seen.hash;
            is_judged.then_some((name, running.hash))
        });
        lost.collect()
    }

    /// A program whose order was still in the queue when everybody had forgotten it.
    fn expel_strangers(&mut self) {
        let seats = self.seen.iter().map(|seen| seen.seat);
        let strangers = seats.filter(|seat| self.seats[usize::from(seat.0)].is_none());
        for seat in strangers.collect::<Vec<_>>() {
            self.note("stranger", format_args!("{seat:?}"));
            self.order(Order::Remove(seat), model::Order::Remove(seat));
        }
    }

    /// What comes back is what the model says, in that order.
    fn take_back(&mut self) {
        while let Ok(thing) = self.rig.handle.returns.pop() {
            let back = match &thing {
                Return::Program(program) => Back::Program(program.generation),
                Return::Refused(prepared, refusal) => {
                    let reason = refusal.as_ref().map(|refusal| without_place(&refusal.reason));
                    Back::Refused(prepared.program.generation, reason)
                }
                Return::Reconfigured(_) => Back::Reconfigured,
                Return::Feed(_) => Back::Feed,
                Return::Answer { ticket, result } => {
                    Back::Answer { ticket: *ticket, is_good: result.is_ok() }
                }
                Return::VariablesSet { ticket, cycle, result, .. } => {
                    let (ticket, cycle) = (*ticket, *cycle);
                    Back::VariablesSet { ticket, cycle, is_good: result.is_ok() }
                }
            };
            assert_eq!(Some(back), self.model.returns.pop_front(), "what came back");
            match thing {
                Return::Program(program) => {
                    self.returned += 1;
                    self.play(program);
                }
                Return::Refused(prepared, Some(refusal)) => {
                    let Program { name, generation, .. } = &prepared.program;
                    self.supervisor.prepared(name, *generation, Err(refusal));
                }
                _ => {}
            }
        }
        assert_eq!(self.model.returns.pop_front(), None, "something did not come back");
    }

    fn finish_preparations(&mut self) {
        let cycle = self.model.world.cycle;
        while let Some(n) = self.preparing.iter().position(|p| p.until_cycle <= cycle) {
            let Preparing { name, generation, result, .. } = self.preparing.swap_remove(n);
            let result = result.map(|ready| {
                // One that was discarded may come late, after its successor.
                let newer = |ready: &Ready| ready.model.program.generation > generation;
                if !self.ready.get(name).is_some_and(newer) {
                    self.ready.insert(name, ready);
                }
            });
            self.supervisor.prepared(name, generation, result);
        }
    }

    fn act(&mut self, action: Action) {
        let known = |name: &str| NAMES.into_iter().find(|n| *n == name).expect("one of ours");
        match action {
            Action::Prepare { name, hash, generation } => {
                let name = known(&name);
                assert!(!self.banned.contains(&(name, hash)), "{name} was taken back or trapped");
                let until_cycle = self.model.world.cycle + self.random.u64(1..20);
                let result = self.prepare(name, hash, generation);
                self.note("prepare", format_args!("{name} as {}", generation.0));
                self.preparing.push(Preparing { until_cycle, name, generation, result });
            }
            Action::Install { name, generation } => self.install(known(&name), generation),
            Action::Discard { name, generation } => {
                let name = known(&name);
                if self.ready.get(name).is_some_and(|r| r.model.program.generation == generation) {
                    self.note("discard", format_args!("{name} {}", generation.0));
                    self.ready.remove(name);
                }
            }
            Action::Stop { name } => {
                self.note("stop", &name);
                if let Some(seat) = self.seat(&name) {
                    self.order(Order::Remove(seat), model::Order::Remove(seat));
                }
            }
            Action::Log { name, note: Note::StandsIn { of, hash } } => {
                let name = known(&name);
                assert!(self.proven[name].contains(&hash), "{name} never was good");
                assert_eq!(self.on_quarantine, OnQuarantine::LastGood, "{name}");
                self.note("stands in", format_args!("{name}: {hash} instead of {of:?}"));
            }
            Action::Log { name, note } => {
                if let Note::Quarantined { hash, .. } | Note::GivenUp { hash, .. } = note {
                    self.banned.push((known(&name), hash));
                }
                let is_rollback = matches!(note, Note::RolledBack { .. });
                let what = if is_rollback { "tell of a rollback" } else { "tell" };
                self.note(what, format_args!("{name}: {note}"));
            }
        }
    }

    fn prepare(
        &mut self,
        name: &'static str,
        hash: ModuleHash,
        generation: Generation,
    ) -> Result<Ready, Refusal> {
        let seat = self.enter(name);
        if !self.is_quiet && self.one_in(20) {
            self.note("compiler killed", name);
            return Err(Refusal::new("the compiler was killed", "try again").by_accident());
        }
        let settings = self.settings[name].clone();
        let module = self.modules.iter().find(|m| m.hash == hash).expect("one of ours");
        let request =
            NewProgram { name: name.into(), seat, hash, generation, settings: settings.clone() };
        let news = self.rig.handle.latest.read();
        let chain = news.variables.read(CHAIN);
        let inputs = news.inputs.bytes.clone();
        let world = scan::rehearsal(news, PERIOD);
        let Rig { limits, keeper, .. } = &self.rig;
        let result = Program::prepare(request, &module.artifact, world, limits, keeper).result;
        assert_eq!(result.is_err(), module.version.is_unable, "{:?}", module.version);
        let id = NAMES.iter().position(|n| *n == name).expect("one of ours");
        let (instance, variable) = Instance::new(id, module.version, &inputs, chain, &settings);
        let program = Seated {
            name,
            seat,
            generation,
            settings,
            instance,
            polls: 0,
            since_cycle: 0,
            since: Duration::ZERO,
            trap: None,
            takeover: None,
            is_proven: false,
            standby: None,
            rolled_back: None,
        };
        let model = Box::new(model::Prepared { program, variable });
        result.map(|program| Ready { program: Box::new(program), model })
    }

    fn install(&mut self, name: &'static str, generation: Generation) {
        let is_it = |ready: &Ready| ready.model.program.generation == generation;
        if !self.ready.get(name).is_some_and(is_it) {
            return; // sent before
        }
        let Some(mut ready) = self.ready.remove(name) else { return };
        // They may have changed since it was prepared.
        let settings = &self.settings[name];
        ready.program.program.configure(settings.clone(), &self.rig.points);
        ready.model.program.settings = settings.clone();
        ready.model.program.instance.entitle(settings);
        if self.model.orders.len() == MAX_ORDERS {
            self.note("queue full", format_args!("for {name}"));
            self.ready.insert(name, ready); // the supervisor asks again
            return;
        }
        self.note("install", format_args!("{name} {}", generation.0));
        self.order(Order::Install(ready.program), model::Order::Install(ready.model));
        if !self.is_quiet && self.one_in(100) {
            self.forget_on_its_way(name);
        }
    }

    /// After a quiet time everything is as folder and operator want it.
    pub fn assert_settled(&mut self) {
        assert!(self.model.orders.is_empty() && self.preparing.is_empty() && self.ready.is_empty());
        for program in self.model.seated.iter().chain(&self.model.down) {
            let name = self.seats[usize::from(program.seat.0)];
            assert_eq!(name, Some(program.name), "sits on another's seat");
        }
        for name in NAMES {
            let running = self.model.seated.iter().find(|program| program.name == name);
            let running = running.map(|program| program.generation);
            let Some(view) = self.supervisor.plugin(name) else {
                assert_eq!(running, None, "{name} runs and nobody knows");
                assert_eq!(self.files.get(name), None, "{name} is forgotten");
                self.note("settled gone", name);
                continue;
            };
            let file = self.files.get(name).map(|module| self.modules[*module].hash);
            assert_eq!(view.file, file, "{name}");
            let is_wanted = view.want == Want::Run && file.is_some();
            let shown = view.running.map(|version| version.generation);
            assert_eq!(shown, running, "{name}: {view:?}");
            let state = match view.state {
                State::Running => "settled running",
                State::Quarantined => "settled quarantined",
                State::Refused => "settled refused",
                State::Held => "settled held",
                other => panic!("{name} is not settled: {other:?}"),
            };
            match state {
                "settled running" => {
                    assert!(is_wanted && running.is_some(), "{name}: {view:?}");
                    let is_newest = view.running.map(|version| version.hash) == file;
                    assert!(is_newest || view.refusal.is_some() || view.quarantined, "{view:?}");
                }
                "settled held" => assert!(!is_wanted && running.is_none()),
                _ => assert!(is_wanted && running.is_none()),
            }
            self.note(state, name);
        }
    }
}

/// A reason without the place in the module and the cycle.
fn without_place(reason: &str) -> String {
    let places = [" in #", " in save", " in restore", " in init", " at offset", ", cycle"];
    let ends = places.into_iter().filter_map(|word| reason.find(word));
    reason[..ends.min().unwrap_or(reason.len())].to_owned()
}
