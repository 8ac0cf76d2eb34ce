//! A seeded world of random levels around the supervisor: a folder, an operator, a daemon that
//! prepares, a bounded queue that loses orders, and a scan that traps and shows old snapshots.

use std::collections::VecDeque;

use super::super::quarantine::MAX_QUARANTINED;
use super::*;

/// With this one, a release got lost against a failure that had come before it.
const SEED: u64 = 9;
const STEPS: u64 = 100_000;
/// A quiet time comes after so many steps; it ends with a look at what has become of everything.
const QUIET_EVERY: u64 = 500;
const NAMES: [&str; 4] = ["a", "b", "c", "d"];
const FILES: [&str; 6] = ["good1", "good2", "flaky1", "flaky2", "unloadable1", "unloadable2"];
const QUEUE: usize = 3;

/// An instance somewhere between its order and the scan.
#[derive(Clone)]
struct Instance {
    name: &'static str,
    hash: ModuleHash,
    generation: Generation,
}

enum Order {
    Install(Instance),
    Stop(&'static str),
}

#[derive(Default)]
struct World {
    random: fastrand::Rng,
    now: Duration,
    files: BTreeMap<&'static str, ModuleHash>,
    held: BTreeMap<&'static str, bool>,
    /// Refused since the file came or somebody asked for another try.
    refused: BTreeMap<&'static str, bool>,
    /// Could not be prepared since then.
    failed: Vec<(&'static str, ModuleHash)>,
    /// Versions that the supervisor may fall back to.
    kept: BTreeMap<&'static str, Vec<ModuleHash>>,
    /// Under way in the daemon, discarded ones included: their answer comes late.
    preparing: Vec<(Instance, bool)>,
    prepared: Vec<Instance>,
    queue: VecDeque<Order>,
    scan: BTreeMap<&'static str, (Instance, Option<Arc<Trap>>)>,
    snapshot: BTreeMap<&'static str, (Instance, Option<Arc<Trap>>)>,
    is_quiet: bool,
    counts: BTreeMap<&'static str, u64>,
}

fn is_loadable(of: ModuleHash) -> bool {
    FILES.iter().any(|file| hash(file) == of && !file.starts_with("unloadable"))
}

fn is_flaky(of: ModuleHash) -> bool {
    FILES.iter().any(|file| hash(file) == of && file.starts_with("flaky"))
}

impl World {
    fn chance(&mut self, percent: u32) -> bool {
        self.random.u32(0..100) < percent
    }

    fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    /// Somebody outside does something.
    fn disturb(&mut self, supervisor: &mut Supervisor) {
        let name = NAMES[self.random.usize(..NAMES.len())];
        match self.random.u32(0..40) {
            0 | 1 => {
                let new = hash(FILES[self.random.usize(..FILES.len())]);
                if self.files.insert(name, new) != Some(new) {
                    self.forgive(name);
                }
                supervisor.folder(name, Some(new)).unwrap();
            }
            2 if self.chance(50) => {
                self.files.remove(name);
                self.forgive(name);
                supervisor.folder(name, None).unwrap();
            }
            3 if self.chance(30) => {
                self.held.insert(name, true);
                supervisor.hold(name).unwrap();
            }
            4 | 5 if supervisor.release(name).is_ok() => {
                self.held.insert(name, false);
                self.forgive(name);
            }
            6 if supervisor.restart(name).is_ok() => self.forgive(name),
            7 => {
                // Some of them trap, and some will not even load.
                let kept = FILES.into_iter().filter(|_| self.random.bool()).map(hash);
                let kept: Vec<ModuleHash> = kept.collect();
                supervisor.keep(name, kept.clone(), None);
                if supervisor.plugin(name).is_some() {
                    self.kept.insert(name, kept);
                }
            }
            _ => {}
        }
    }

    /// What was refused under this name is tried again.
    fn forgive(&mut self, name: &'static str) {
        self.refused.insert(name, false);
        self.failed.retain(|(failed, _)| *failed != name);
    }

    /// The daemon and the scan go on.
    fn proceed(&mut self, supervisor: &mut Supervisor) {
        if !self.preparing.is_empty() && (self.is_quiet || self.chance(30)) {
            let which = self.random.usize(..self.preparing.len());
            let (instance, _) = self.preparing.swap_remove(which);
            let fails = !is_loadable(instance.hash) || (!self.is_quiet && self.chance(3));
            self.answer(supervisor, instance, !fails);
        }
        if self.is_quiet || self.chance(60) {
            match self.queue.pop_front() {
                Some(Order::Install(instance)) => {
                    self.scan.insert(instance.name, (instance, None));
                }
                Some(Order::Stop(name)) => {
                    self.scan.remove(name);
                }
                None => {}
            }
        }
        if !self.is_quiet {
            for (instance, trap) in self.scan.values_mut() {
                let percent = if is_flaky(instance.hash) { 20 } else { 0 };
                if trap.is_none() && self.random.u32(0..100) < percent {
                    *trap = Some(super::trap());
                }
            }
            if self.random.u32(0..1000) == 0 {
                self.scan.pop_first(); // must not happen, and is survived
            }
        }
        if self.is_quiet || self.chance(70) {
            self.snapshot = self.scan.clone();
        }
    }

    fn answer(&mut self, supervisor: &mut Supervisor, instance: Instance, is_good: bool) {
        let Instance { name, hash, generation } = instance;
        if is_good {
            self.prepared.push(instance);
            supervisor.prepared(name, generation, Ok(()));
        } else {
            if self.files.get(name) == Some(&hash) {
                self.refused.insert(name, true);
            }
            self.failed.push((name, hash));
            supervisor.prepared(name, generation, Err(Refusal::new("no", "")));
        }
    }

    fn obey(&mut self, supervisor: &mut Supervisor, action: Action) {
        let known = |name: &str| NAMES.into_iter().find(|known| *known == name).unwrap();
        match action {
            Action::Prepare { name, hash, generation } => {
                let name = known(&name);
                self.count("prepare");
                self.assert_may_run(supervisor, name, hash);
                let others = self
                    .preparing
                    .iter()
                    .filter(|(other, is_discarded)| other.name == name && !is_discarded);
                assert_eq!(others.count(), 0, "two prepares for {name}");
                self.preparing.push((Instance { name, hash, generation }, false));
            }
            Action::Install { generation, .. } => {
                self.count("install");
                let found = self.prepared.iter().position(|held| held.generation == generation);
                let Some(found) = found else { return }; // sent before
                let instance = self.prepared[found].clone();
                self.assert_may_run(supervisor, instance.name, instance.hash);
                if !self.is_quiet && self.chance(2) {
                    self.prepared.remove(found);
                    self.answer(supervisor, instance, false);
                } else if self.queue.len() < QUEUE {
                    self.prepared.remove(found);
                    self.queue.push_back(Order::Install(instance));
                }
            }
            Action::Stop { name } => {
                self.count("stop");
                if self.queue.len() < QUEUE {
                    self.queue.push_back(Order::Stop(known(&name)));
                }
            }
            Action::Discard { generation, .. } => {
                self.count("discard");
                self.prepared.retain(|held| held.generation != generation);
                for (instance, is_discarded) in &mut self.preparing {
                    *is_discarded |= instance.generation == generation;
                }
            }
            Action::Tell { note: Note::Quarantined { .. }, .. } => self.count("quarantine"),
            Action::Tell { note: Note::Restarting { .. }, .. } => self.count("restart"),
            Action::Tell { name, note: Note::StandsIn { hash, .. } } => {
                assert!(self.kept.get(&*name).is_some_and(|kept| kept.contains(&hash)), "{name}");
                self.count("stands in");
            }
            Action::Tell { .. } => {}
        }
    }

    fn assert_may_run(&self, supervisor: &Supervisor, name: &str, hash: ModuleHash) {
        assert!(!self.is_held(name), "{name} is held");
        assert!(self.files.contains_key(name), "the file of {name} is gone");
        assert!(!supervisor.desk.quarantine.contains(name, hash), "{name} is in quarantine");
    }

    fn is_held(&self, name: &str) -> bool {
        self.held.get(name).copied().unwrap_or_default()
    }

    fn step(&mut self, supervisor: &mut Supervisor) -> Vec<Action> {
        let facts: Vec<Fact<'_>> = self
            .snapshot
            .iter()
            .map(|(name, (instance, trap))| Fact {
                name,
                generation: instance.generation,
                trap: trap.clone(),
                standby: None,
                beaten: None,
            })
            .collect();
        let actions = supervisor.step(self.now, &facts);
        for action in actions.clone() {
            self.obey(supervisor, action);
        }
        self.kept.retain(|name, _| supervisor.plugin(name).is_some());
        for name in NAMES {
            let held = self.prepared.iter().filter(|instance| instance.name == name).count();
            assert!(held <= 2, "the daemon is left with {held} instances of {name}");
        }
        assert!(supervisor.desk.quarantine.len() <= MAX_QUARANTINED);
        actions
    }

    /// Nothing happens for longer than any backoff and patience; then everything is as folder and
    /// operator say.
    fn settle(&mut self, supervisor: &mut Supervisor) {
        self.is_quiet = true;
        let mut last = vec![];
        for _ in 0..1_200 {
            self.now += ORDER_REPEAT;
            self.proceed(supervisor);
            last = self.step(supervisor);
        }
        assert_eq!(last, [], "still busy");
        assert!(self.queue.is_empty() && self.prepared.is_empty() && self.preparing.is_empty());
        for name in NAMES {
            self.assert_settled(supervisor, name);
        }
        self.is_quiet = false;
    }

    fn assert_settled(&mut self, supervisor: &Supervisor, name: &'static str) {
        let running = self.scan.get(name).map(|(instance, trap)| (instance.hash, trap.is_none()));
        let Some(file) = self.files.get(name).copied().filter(|_| !self.is_held(name)) else {
            assert_eq!(running, None, "{name} should be out");
            self.count("settled out");
            return;
        };
        let view = supervisor.plugin(name).expect("it has a file");
        assert_eq!((view.file, view.want), (Some(file), Want::Run));
        if view.quarantined || self.refused.get(name) == Some(&true) {
            assert!(running.is_none_or(|(_, is_good)| is_good), "{name} trapped and stays");
            self.count(if running.is_some() { "settled older" } else { "settled refused" });
            if running.is_some() {
                assert_eq!(view.state, State::Running);
            } else if view.quarantined {
                assert_eq!(view.state, State::Quarantined);
                let is_out = |hash: &ModuleHash| {
                    supervisor.desk.quarantine.contains(name, *hash)
                        || self.failed.contains(&(name, *hash))
                };
                let kept = self.kept.get(name).map_or(&[][..], Vec::as_slice);
                assert!(kept.iter().all(is_out), "{name} has a good version and runs nothing");
                self.count("settled quarantined");
            } else {
                assert_eq!(view.state, State::Refused);
            }
        } else {
            assert_eq!(running, Some((file, true)), "{name}: {view:?}");
            assert_eq!(view.state, State::Running);
            self.count("settled running");
        }
    }
}

#[test]
fn whatever_happens_the_rules_hold_and_the_end_is_right() {
    let mut supervisor = Supervisor::new(RestartPolicy::default());
    let mut world = World { random: fastrand::Rng::with_seed(SEED), ..World::default() };
    for step in 1..=STEPS {
        world.now += Duration::from_millis(world.random.u64(0..300));
        world.disturb(&mut supervisor);
        world.proceed(&mut supervisor);
        world.step(&mut supervisor);
        if step % QUIET_EVERY == 0 {
            world.settle(&mut supervisor);
        }
    }
    // A world in which one of these never happens proves nothing about it.
    for what in [
        "prepare",
        "install",
        "stop",
        "discard",
        "quarantine",
        "restart",
        "settled out",
        "settled older",
        "settled refused",
        "settled quarantined",
        "stands in",
        "settled running",
    ] {
        assert!(
            world.counts.get(what).is_some_and(|count| *count >= 10),
            "too few: {what}, seed {SEED}"
        );
    }
}
