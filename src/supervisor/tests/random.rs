//! A simulation with random events around the supervisor; the seed is fixed. The parts of the
//! simulation are:
//! - an operator, and a folder with files that can be read or not,
//! - a daemon that prepares modules, with accidents, and whose bounded queue loses orders,
//! - a scan that traps, rolls back versions on probation, and shows old snapshots,
//! - restarts of the daemon, which then knows what ran before and what was in quarantine.

use std::collections::VecDeque;

use super::super::quarantine::MAX_OF_ONE;
use super::*;

/// The seed of the random numbers. Any seed is valid, but this seed has enough rare events.
const SEED: u64 = 9;
const STEPS: u64 = 200_000;
/// The number of steps before a quiet time, at whose end the final states are checked.
const QUIET_EVERY: u64 = 250;
const NAMES: [&str; 4] = ["a", "b", "c", "d"];
/// The names of the files. An instance of the module `moody` can be created only sometimes, and
/// never in the quiet time.
const FILES: [&str; 7] =
    ["good1", "good2", "flaky1", "flaky2", "moody", "unloadable1", "unloadable2"];
const QUEUE: usize = 3;

/// An instance, from the order to prepare it until it leaves the scan.
#[derive(Debug, Clone)]
struct Instance {
    name: &'static str,
    hash: ModuleHash,
    generation: Generation,
}

enum Order {
    Install(Instance),
    Stop(&'static str),
}

/// A program on its seat in the scan.
#[derive(Debug, Clone)]
struct Seated {
    instance: Instance,
    trap: Option<Arc<Trap>>,
    is_proven: bool,
    standby: Option<Instance>,
    rolled_back: Option<(Generation, Arc<Trap>)>,
}

impl Seated {
    fn new(instance: Instance, standby: Option<Instance>) -> Self {
        Self { instance, trap: None, is_proven: false, standby, rolled_back: None }
    }

    /// Traps like a program in the scan: if there is a standby version, that version runs again.
    fn trap(&mut self) {
        match self.standby.take() {
            Some(old) => {
                let rolled_back = self.instance.generation;
                *self = Self { is_proven: true, ..Self::new(old, None) };
                self.rolled_back = Some((rolled_back, super::trap()));
            }
            None => self.trap = Some(super::trap()),
        }
    }
}

/// The content of the folder under one name.
#[derive(Debug, Clone, Copy, PartialEq)]
enum OnDisk {
    Bytes(ModuleHash),
    /// A file that cannot be read.
    Unusable,
}

impl OnDisk {
    fn hash(self) -> Option<ModuleHash> {
        match self {
            Self::Bytes(hash) => Some(hash),
            Self::Unusable => None,
        }
    }
}

#[derive(Default)]
struct World {
    random: fastrand::Rng,
    now: Duration,
    files: BTreeMap<&'static str, OnDisk>,
    held: BTreeMap<&'static str, bool>,
    /// Modules that got a verdict after the file came, or after the last order to try again.
    /// Modules that ran before are not in this list.
    judged: Vec<(&'static str, ModuleHash)>,
    /// Stored versions that the supervisor may run.
    kept: BTreeMap<&'static str, Vec<ModuleHash>>,
    /// The module that was last in the scan, even if the file has changed or the daemon was
    /// restarted since then.
    ran: BTreeMap<&'static str, ModuleHash>,
    /// The instance in the last snapshot.
    shown: BTreeMap<&'static str, Generation>,
    /// Instances that the daemon is creating. The flag is true for discarded instances, whose
    /// answers still arrive later.
    preparing: Vec<(Instance, bool)>,
    prepared: Vec<Instance>,
    queue: VecDeque<Order>,
    scan: BTreeMap<&'static str, Seated>,
    snapshot: BTreeMap<&'static str, Seated>,
    /// The time of the last order to leave the scan, for each plugin.
    stopped: BTreeMap<&'static str, Duration>,
    is_quiet: bool,
    counts: BTreeMap<&'static str, u64>,
}

fn is_loadable(of: ModuleHash) -> bool {
    FILES.iter().any(|file| hash(file) == of && !file.starts_with("unloadable"))
}

fn is_moody(of: ModuleHash) -> bool {
    of == hash("moody")
}

fn is_flaky(of: ModuleHash) -> bool {
    FILES.iter().any(|file| hash(file) == of && file.starts_with("flaky")) || is_moody(of)
}

impl World {
    fn chance(&mut self, percent: u32) -> bool {
        self.random.u32(0..100) < percent
    }

    fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    /// Makes a random action of the operator, the folder or the daemon.
    fn disturb(&mut self, supervisor: &mut Supervisor) {
        let name = NAMES[self.random.usize(..NAMES.len())];
        match self.random.u32(0..40) {
            0 | 1 => {
                let new = hash(FILES[self.random.usize(..FILES.len())]);
                self.put(name, OnDisk::Bytes(new));
                supervisor.folder(name, Some(new)).unwrap();
            }
            2 if self.chance(50) => {
                self.files.remove(name);
                self.ran.remove(name);
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
            6 | 10..20 if supervisor.restart(name).is_ok() => self.forgive(name),
            7 => self.set_stored(supervisor, name),
            8 => {
                self.put(name, OnDisk::Unusable);
                supervisor.folder_refused(name, Refusal::new("no", "")).unwrap();
            }
            9 if self.chance(5) => self.start_anew(supervisor),
            _ => {}
        }
    }

    fn put(&mut self, name: &'static str, file: OnDisk) {
        if self.files.insert(name, file) != Some(file) {
            self.forgive(name);
        }
    }

    /// Offers stored versions. Some stored versions trap, and some cannot be loaded.
    fn set_stored(&mut self, supervisor: &mut Supervisor, name: &'static str) {
        let percent = if self.chance(50) { 0 } else { 50 };
        let kept = FILES.into_iter().filter(|_| self.chance(percent)).map(hash);
        let kept: Vec<ModuleHash> = kept.collect();
        supervisor.set_stored(name, kept.clone(), self.ran.get(name).copied());
        if supervisor.plugin(name).is_some() {
            self.kept.insert(name, kept);
        }
    }

    /// Restarts the daemon. The new daemon knows which modules were in quarantine and which ran.
    fn start_anew(&mut self, supervisor: &mut Supervisor) {
        self.count("start");
        let quarantined = NAMES.map(|name| (name, supervisor.quarantined(name)));
        *supervisor = Supervisor::new(policy());
        for (name, all) in quarantined {
            all.into_iter().for_each(|(hash, why)| supervisor.recall(name, hash, why));
        }
        self.preparing.clear();
        self.prepared.clear();
        self.queue.clear();
        self.scan.clear();
        self.snapshot.clear();
        self.shown.clear();
        self.held.clear();
        self.judged.clear();
        for (name, file) in self.files.clone() {
            match file {
                OnDisk::Bytes(hash) => supervisor.folder(name, Some(hash)).unwrap(),
                OnDisk::Unusable => {
                    supervisor.folder_refused(name, Refusal::new("no", "")).unwrap();
                }
            }
            let kept = self.kept.get(name).cloned().unwrap_or_default();
            supervisor.set_stored(name, kept, self.ran.get(name).copied());
        }
    }

    /// Removes the verdicts under this name, because the supervisor tries the modules again.
    fn forgive(&mut self, name: &'static str) {
        self.judged.retain(|(judged, _)| *judged != name);
    }

    /// Lets the daemon and the scan work for one step.
    fn proceed(&mut self, supervisor: &mut Supervisor) {
        if !self.preparing.is_empty() && (self.is_quiet || self.chance(30)) {
            let which = self.random.usize(..self.preparing.len());
            let (instance, _) = self.preparing.swap_remove(which);
            let bad_luck = if self.is_quiet { 100 } else { self.random.u32(0..100) };
            let result = match bad_luck {
                0..10 => Err(accident()),
                10..12 => Err(Refusal::new("no", "")),
                12..60 if is_moody(instance.hash) => Err(Refusal::new("no", "")),
                100 if is_moody(instance.hash) => Err(Refusal::new("no", "")),
                _ if is_loadable(instance.hash) => Ok(()),
                _ => Err(Refusal::new("no", "")),
            };
            self.answer(supervisor, instance, result);
        }
        if self.is_quiet || self.chance(60) {
            match self.queue.pop_front() {
                Some(Order::Install(instance)) => self.seat(instance),
                Some(Order::Stop(name)) => {
                    self.scan.remove(name);
                }
                None => {}
            }
        }
        if !self.is_quiet {
            for seated in self.scan.values_mut() {
                let percent = if is_flaky(seated.instance.hash) { 20 } else { 0 };
                if seated.trap.is_none() && self.random.u32(0..100) < percent {
                    seated.trap();
                } else if self.random.u32(0..100) < 10 {
                    (seated.is_proven, seated.standby) = (true, None);
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

    /// Puts a new instance on its seat. An instance of another module is on probation. The standby
    /// version of the new instance is the previous version, or the standby version of a previous
    /// version on probation.
    fn seat(&mut self, instance: Instance) {
        let (name, old) = (instance.name, self.scan.remove(instance.name));
        let rolled_back = old.as_ref().and_then(|old| old.rolled_back.clone());
        let standby = old.and_then(|old| match old {
            Seated { trap: Some(_), .. } => None,
            old if old.instance.hash == instance.hash => None,
            Seated { standby: Some(older), is_proven: false, .. } => Some(older),
            old => Some(old.instance),
        });
        self.scan.insert(name, Seated { rolled_back, ..Seated::new(instance, standby) });
    }

    fn answer(
        &mut self,
        supervisor: &mut Supervisor,
        instance: Instance,
        result: Result<(), Refusal>,
    ) {
        let Instance { name, hash, generation } = instance;
        match &result {
            Ok(()) => self.prepared.push(instance),
            Err(refusal) if refusal.is_accidental => self.count("accident"),
            // A verdict on a module that ran before is not stored.
            Err(_) if self.ran.get(name) == Some(&hash) => self.count("verdict on what ran"),
            Err(_) => self.judged.push((name, hash)),
        }
        supervisor.prepared(name, generation, result);
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
                    self.answer(supervisor, instance, Err(accident()));
                } else if self.queue.len() < QUEUE {
                    self.prepared.remove(found);
                    self.queue.push_back(Order::Install(instance));
                }
            }
            Action::Stop { name } => {
                self.count("stop");
                self.stopped.insert(known(&name), self.now);
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
            Action::Log { note: Note::Quarantined { .. }, .. } => self.count("quarantine"),
            Action::Log { note: Note::GivenUp { .. }, .. } => self.count("given up"),
            Action::Log { note: Note::Restarting { .. }, .. } => self.count("restart"),
            Action::Log { note: Note::StandsIn { .. }, .. } => self.count("stands in"),
            Action::Log { name, note: Note::TriedInstead { hash, .. } } => {
                let is_kept = self.kept.get(&*name).is_some_and(|kept| kept.contains(&hash));
                assert!(is_kept || self.ran.get(&*name) == Some(&hash), "{name}");
            }
            Action::Log { .. } => {}
        }
    }

    fn assert_may_run(&self, supervisor: &Supervisor, name: &str, hash: ModuleHash) {
        assert!(!self.is_held(name), "{name} is held");
        assert!(self.files.contains_key(name), "the file of {name} was removed");
        assert!(!supervisor.context.quarantine.contains(name, hash), "{name} is in quarantine");
    }

    /// Stores the modules that have appeared in the scan since the last call. Unknown instances and
    /// modules that were in quarantine before are not stored.
    fn note_what_runs(&mut self, supervisor: &Supervisor, bad: &[&str]) {
        for (name, Seated { instance, .. }) in &self.snapshot {
            let running = supervisor.plugin(name).and_then(|view| view.running);
            let is_known = running.is_some_and(|it| it.generation == instance.generation);
            let is_new = self.shown.insert(name, instance.generation) != Some(instance.generation);
            let is_good = !bad.contains(name);
            if is_new && is_known && is_good && self.files.contains_key(name) {
                self.ran.insert(name, instance.hash);
            }
        }
    }

    /// Asserts that the supervisor repeats the stop order for each module in quarantine.
    fn assert_the_bad_leave(&mut self, supervisor: &Supervisor) {
        for (name, seated) in self.snapshot.clone() {
            let is_bad = supervisor.context.quarantine.contains(name, seated.instance.hash);
            if is_bad && seated.trap.is_none() {
                let ordered = self.stopped.get(name);
                let is_leaving = ordered.is_some_and(|at| self.now - *at < ORDER_REPEAT);
                assert!(is_leaving, "{name} runs what is in quarantine");
                self.count("bad one stopped");
            }
        }
    }

    fn is_held(&self, name: &str) -> bool {
        self.held.get(name).copied().unwrap_or_default()
    }

    fn step(&mut self, supervisor: &mut Supervisor) -> Vec<Action> {
        let facts: Vec<Fact<'_>> = self
            .snapshot
            .iter()
            .map(|(name, seated)| Fact {
                name,
                generation: seated.instance.generation,
                trap: seated.trap.clone(),
                standby: seated.standby.as_ref().map(|standby| standby.generation),
                rolled_back: seated.rolled_back.clone(),
            })
            .collect();
        let is_bad = |(name, seated): (&&'static str, &Seated)| {
            supervisor.is_quarantined(name, seated.instance.hash).then_some(*name)
        };
        let bad: Vec<_> = self.snapshot.iter().filter_map(is_bad).collect();
        let actions = supervisor.step(self.now, &facts);
        for action in actions.clone() {
            self.obey(supervisor, action);
        }
        self.note_what_runs(supervisor, &bad);
        self.assert_the_bad_leave(supervisor);
        self.kept.retain(|name, _| supervisor.plugin(name).is_some());
        for name in NAMES {
            let held = self.prepared.iter().filter(|instance| instance.name == name).count();
            assert!(held <= 2, "the daemon still has {held} instances of {name}");
        }
        assert!(NAMES.iter().all(|name| supervisor.quarantined(name).len() <= MAX_OF_ONE));
        actions
    }

    /// Lets more time pass than any backoff or time limit. After that, the states must agree with
    /// the folder and with the wishes of the operator.
    fn settle(&mut self, supervisor: &mut Supervisor) {
        self.is_quiet = true;
        let mut last = vec![];
        // The supervisor tries a module that cannot be created again and again, so an attempt may
        // be running at the end of the loop.
        for step in 0.. {
            self.now += ORDER_REPEAT;
            self.proceed(supervisor);
            last = self.step(supervisor);
            if step > 1_200 && (last.is_empty() && self.preparing.is_empty() || step > 1_220) {
                break;
            }
        }
        assert_eq!(last, [], "expected no more orders");
        assert!(self.queue.is_empty() && self.prepared.is_empty() && self.preparing.is_empty());
        for name in NAMES {
            self.assert_settled(supervisor, name);
        }
        self.is_quiet = false;
    }

    fn assert_settled(&mut self, supervisor: &Supervisor, name: &'static str) {
        let running = self.scan.get(name).map(|seated| (seated.instance.hash, &seated.trap));
        let Some(file) = self.files.get(name).copied().filter(|_| !self.is_held(name)) else {
            assert!(running.is_none(), "expected no instance of {name} in the scan");
            self.count("settled out");
            return;
        };
        // A trapped program remains the owner of its points until its module can be made again.
        let running = running.filter(|(hash, trap)| trap.is_none() || !is_moody(*hash));
        let view = supervisor.plugin(name).expect("the plugin has a file");
        assert_eq!((view.file, view.want), (file.hash(), Want::Run));
        let is_quarantined = |hash| supervisor.context.quarantine.contains(name, hash);
        let is_there = |hash| running.is_some_and(|(running, _)| running == hash);
        let may_run = |hash: ModuleHash| {
            let can_be_made = !is_moody(hash) || is_there(hash);
            can_be_made && !is_quarantined(hash) && !self.judged.contains(&(name, hash))
        };
        if let Some((hash, trap)) = running {
            assert!(trap.is_none(), "{name} trapped and is still in the scan");
            assert!(!is_quarantined(hash), "{name} runs what is in quarantine");
            assert_eq!(view.state, State::Running);
        }
        let what = match (file, running) {
            (OnDisk::Bytes(hash), _) if may_run(hash) => {
                assert_eq!(running.map(|(hash, _)| hash), Some(hash), "{name}: {view:?}");
                "settled running"
            }
            (_, Some(_)) => "settled older",
            (_, None) => {
                let ran = self.ran.get(name).copied();
                // A module that ran before must run. If that module or the file's module is in
                // quarantine, a stored version may run.
                assert!(ran.is_none_or(|ran| !may_run(ran)), "{name}: {view:?}");
                let is_bad = |hash: Option<ModuleHash>| hash.is_some_and(is_quarantined);
                let is_tried = ran.is_some_and(is_moody) && !is_bad(ran);
                let may_stand_in = is_bad(file.hash()) || is_bad(ran) || is_tried;
                let kept = self.kept.get(name).map_or(&[][..], Vec::as_slice);
                let good = kept.iter().find(|hash| may_stand_in && may_run(**hash));
                assert_eq!(good, None, "{name} has a good version and runs nothing: {view:?}");
                match view.state {
                    State::Backoff { .. } if is_tried => "settled waiting",
                    State::Quarantined if is_bad(file.hash()) => "settled quarantined",
                    State::Refused if !is_bad(file.hash()) => "settled refused",
                    _ => panic!("{name}: {view:?}"),
                }
            }
        };
        self.count(what);
    }
}

/// Returns a policy with fewer traps to quarantine than usual, so that more modules are put in
/// quarantine.
fn policy() -> RestartPolicy {
    RestartPolicy { traps: 3, ..RestartPolicy::default() }
}

/// Returns a refusal that the machine caused, not the module.
fn accident() -> Refusal {
    Refusal::new("not now", "").by_accident()
}

#[test]
fn whatever_happens_the_rules_hold_and_the_end_is_right() {
    let mut supervisor = Supervisor::new(policy());
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
    // If one of these events never happens, the test proves nothing about that event.
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
        "accident",
        "start",
        "bad one stopped",
        "settled running",
        "settled waiting",
        "verdict on what ran",
        "given up",
    ] {
        assert!(
            world.counts.get(what).is_some_and(|count| *count >= 10),
            "too few: {what}, seed {SEED}, {:?}",
            world.counts
        );
    }
}
