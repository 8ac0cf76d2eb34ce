//! The environment of the simulated scan: a plugin folder, an operator, and devices that fail.
//!
//! This file makes the random events. What the simulated daemon does with these events is in
//! `simulation/daemon.rs`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use camshaft::driver::{Command, Injection};
use camshaft::plugin::instance::program::Prepared;
use camshaft::plugin::module::compile::Artifact;
use camshaft::plugin::{Generation, ModuleHash, Refusal, Settings, Trap};
use camshaft::process::image::{PointId, Value};
use camshaft::process::seat::Seat;
use camshaft::process::variable::Variable;
use camshaft::scan::{DeviceSet, MAX_ORDERS, Order, ProgramFact, Reconfiguration, Slot};
use camshaft::supervisor::{OnQuarantine, Released, RestartPolicy, Supervisor};

use super::guest::{MAY_TRAP, MIX};
use super::model::{self, Annex, Model};
use super::plant::{self, ANNEX, ANNEX_POINTS, PROGRAMS};
use super::shadows::Run;
use super::state::Disk;
use super::swaps::Memory;
use super::version::{VERSIONS, Version};
use crate::rig::{PERIOD, Rig};

pub const NAMES: [&str; PROGRAMS] = ["a", "b", "c", "d", "e", "f", "g", "h"];

/// Short waits, so that a quiet time of some seconds is long enough for all of them.
pub const POLICY: RestartPolicy = RestartPolicy {
    delay: Duration::from_millis(100),
    delay_max: Duration::from_secs(1),
    traps: 3,
    window: Duration::from_secs(4),
    on_quarantine: OnQuarantine::LastGood,
};

/// Cycles from one version to the next of somebody who is busy; a preparation takes up to 20.
const AUTHOR_EVERY: u64 = 25;

/// The last of these events are shown when something goes wrong.
const SHOWN_EVENTS: usize = 20;

/// A module that can be put into the folder.
pub struct Module {
    pub version: Version,
    pub hash: ModuleHash,
    pub artifact: Artifact,
    pub bytes: Vec<u8>,
}

/// A preparation under way.
pub struct Preparing {
    pub until_cycle: u64,
    pub name: &'static str,
    pub generation: Generation,
    pub result: Result<Ready, Refusal>,
}

/// The same program for the scan and for the model.
pub struct Ready {
    pub program: Box<Prepared>,
    pub model: Box<model::Prepared>,
}

/// What the daemon saw of a program in its last look at the news.
pub struct Seen {
    pub seat: Seat,
    pub generation: Generation,
    pub hash: ModuleHash,
    pub trap: Option<Arc<Trap>>,
    pub standby: Option<Generation>,
    pub rolled_back: Option<Arc<ProgramFact>>,
}

pub struct House {
    pub rig: Rig,
    pub model: Model,
    pub random: fastrand::Rng,
    pub modules: Arc<[Module]>,
    pub supervisor: Supervisor,
    /// Whether kept versions may stand in for quarantined ones.
    pub on_quarantine: OnQuarantine,
    /// Which module the folder holds under a name.
    pub files: BTreeMap<&'static str, usize>,
    pub settings: BTreeMap<&'static str, Settings>,
    /// Who has which seat.
    pub seats: Vec<Option<&'static str>>,
    pub preparing: Vec<Preparing>,
    pub ready: BTreeMap<&'static str, Ready>,
    /// Commands that an operator repeats until they are in the queue.
    pub asked: Vec<(usize, Command)>,
    pub shadows: Vec<Run>,
    pub disk: Disk,
    pub seen: Vec<Seen>,
    /// Modules that were taken back or trapped too often, under their names, until a release.
    pub banned: Vec<(&'static str, ModuleHash)>,
    /// Modules that have survived their probation, the newest first, bad ones included.
    pub proven: BTreeMap<&'static str, Vec<ModuleHash>>,
    pub ticket: u64,
    /// Points of the third device, as the last order has them.
    pub annex: u32,
    /// Nobody takes back what the scan returns before this cycle.
    pub lazy_until: u64,
    pub author: Option<Author>,
    /// The queue of orders is filled with commands in every cycle before this one.
    pub flood_until: u64,
    pub is_quiet: bool,
    pub memory: Memory,
    /// Programs that came back.
    pub returned: u64,
    /// Instances whose settings changed while they sat in the scan or were on their way.
    pub reconfigured: Vec<Generation>,
    /// Instances that were refused more kinds and names than are told apart.
    pub full: BTreeSet<Generation>,
    pub events: Vec<String>,
    pub counts: BTreeMap<&'static str, u64>,
}

impl House {
    /// With the variables that `disk` has kept.
    pub fn new(rig: Rig, modules: Arc<[Module]>, seed: u64, disk: Disk) -> Self {
        let mut house = Self {
            model: Model::new(&rig.points, &disk.kept),
            rig,
            random: fastrand::Rng::with_seed(seed),
            modules,
            supervisor: Supervisor::new(POLICY),
            on_quarantine: OnQuarantine::LastGood,
            files: BTreeMap::new(),
            settings: BTreeMap::new(),
            seats: vec![None; PROGRAMS],
            preparing: Vec::new(),
            ready: BTreeMap::new(),
            asked: Vec::new(),
            shadows: Vec::new(),
            disk,
            seen: Vec::new(),
            banned: Vec::new(),
            proven: BTreeMap::new(),
            ticket: 0,
            annex: 0,
            lazy_until: 0,
            author: None,
            flood_until: 0,
            is_quiet: false,
            memory: Memory::default(),
            returned: 0,
            reconfigured: Vec::new(),
            full: BTreeSet::new(),
            events: Vec::new(),
            counts: BTreeMap::new(),
        };
        for name in NAMES {
            let settings = house.any_settings(name);
            house.settings.insert(name, settings);
        }
        house
    }

    /// From now on nothing stands in for a version in quarantine.
    pub fn prefer_safe(&mut self) {
        self.on_quarantine = OnQuarantine::Safe;
        self.supervisor.set_policy(RestartPolicy { on_quarantine: OnQuarantine::Safe, ..POLICY });
    }

    pub fn note(&mut self, what: &'static str, more: impl std::fmt::Display) {
        self.count(what);
        if self.events.len() == SHOWN_EVENTS {
            self.events.remove(0);
        }
        self.events.push(format!("cycle {}: {what} {more}", self.model.world.cycle));
    }

    pub fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    pub fn one_in(&mut self, n: u32) -> bool {
        self.random.u32(..n) == 0
    }
}

/// Somebody who saves a file again and again.
pub struct Author {
    pub name: &'static str,
    pub until_cycle: u64,
}

// The world outside.
impl House {
    /// Somebody does something, perhaps.
    pub fn disturb(&mut self) {
        let name = NAMES[self.random.usize(..NAMES.len())];
        match self.random.u32(..400) {
            0..8 => self.copy_in(name),
            8..10 => self.take_away(name),
            10 => {
                self.note("hold", name);
                self.supervisor.hold(name).expect("few plugins");
            }
            11..14 => {
                self.note("release", name);
                // Unknown names are told so, and the end of a hold forgives nothing.
                if let Ok(Released::Forgiven) = self.supervisor.release(name) {
                    self.banned.retain(|(banned, _)| *banned != name);
                }
            }
            14..20 => {
                self.note("restart", name);
                let _ = self.supervisor.restart(name); // held ones are told so
            }
            20..30 => self.reconfigure(name),
            30..34 => {
                let injection = self.any_injection();
                let device = self.random.usize(..3);
                self.note("inject", format_args!("{injection:?} into {device}"));
                self.asked.push((device, Command::Inject(injection)));
            }
            34..42 => {
                let device = self.random.usize(..3);
                self.note("clear", device);
                self.asked.push((device, Command::Clear));
            }
            42..140 => {
                let allows = if self.one_in(3) { MAY_TRAP } else { 0 };
                let command = self.random.u32(..) & !MAY_TRAP | allows;
                let id = self.random.usize(..PROGRAMS);
                self.tell(id, command);
            }
            140..143 => {
                self.note("nonsense", "");
                let device = self.random.usize(..4);
                let point = PointId(self.random.u16(8..40));
                self.asked.push((device, Command::Set(point, Value::Int(1))));
            }
            143 if self.one_in(2) => {
                self.note("flood", "");
                self.flood_until = self.model.world.cycle + self.random.u64(1..40);
            }
            144 if self.one_in(2) => {
                self.note("nobody takes anything back", "");
                self.lazy_until = self.model.world.cycle + self.random.u64(40..120);
                if self.one_in(2) {
                    self.flood_until = self.lazy_until;
                }
            }
            145 if self.one_in(2) => {
                let until_cycle = self.model.world.cycle + self.random.u64(100..500);
                self.note("busy author", name);
                self.author = Some(Author { name, until_cycle });
            }
            146..150 => self.set_some_variables(),
            157..163 => self.force_something(),
            151..154 => self.try_beside(name),
            154..156 => self.end_a_shadow(),
            156 if self.one_in(2) => self.flush(),
            150 if self.one_in(4) => {
                let seat = Seat(self.random.u16(..PROGRAMS as u16));
                // Only one that the supervisor knows of: it waits a minute for any other.
                let is_known = self.seen.iter().any(|seen| {
                    let mut seated = self.model.seated.iter();
                    seated.any(|p| (p.seat, p.generation) == (seat, seen.generation))
                });
                if is_known && self.model.orders.is_empty() {
                    self.note("removed by nobody", format_args!("{seat:?}"));
                    self.order(Order::Remove(seat), model::Order::Remove(seat));
                }
            }
            _ => {}
        }
        self.author.take_if(|author| author.until_cycle <= self.model.world.cycle);
        if let Some(Author { name, .. }) = self.author
            && self.model.world.cycle.is_multiple_of(AUTHOR_EVERY)
        {
            // It always differs from the one before, and is good more often than not.
            let before = self.files.get(name).copied();
            let module = [0, 1, 7].into_iter().find(|module| Some(*module) != before);
            self.put(name, module.expect("one of three differs"));
        }
        if self.model.world.cycle < self.flood_until {
            // What is ordered now waits for long, and what is wanted changes meanwhile.
            match self.random.u32(..4) {
                0 => self.take_away(name),
                1 => self.copy_in(name),
                _ => {}
            }
            self.flood();
        }
    }

    fn copy_in(&mut self, name: &'static str) {
        // The good ones are more frequent.
        let module = match self.random.usize(..2 * VERSIONS.len()) {
            n if n < VERSIONS.len() => n,
            n => n % 2,
        };
        self.put(name, module);
    }

    fn put(&mut self, name: &'static str, module: usize) {
        self.files.insert(name, module);
        let hash = self.modules[module].hash;
        self.note("file", format_args!("{name} is {}", VERSIONS[module].name));
        self.supervisor.folder(name, Some(hash)).expect("few plugins");
    }

    fn take_away(&mut self, name: &'static str) {
        self.files.remove(name);
        self.note("file gone", name);
        self.supervisor.folder(name, None).expect("a name goes");
    }

    /// A reload: new settings for this plugin and perhaps for others, perhaps a new variable.
    fn reconfigure(&mut self, name: &'static str) {
        let mut names = vec![name];
        let others = self.settings.keys().copied().filter(|other| *other != name);
        let others: Vec<_> = others.filter(|_| self.random.u32(..4) == 0).collect();
        names.extend(others);
        let mut settings = Vec::new();
        for name in names {
            let new = self.any_settings(name);
            self.note("configure", format_args!("{name}: {new:?}"));
            self.settings.insert(name, new.clone());
            let Some(seat) = self.seat(name) else { continue };
            if self.one_in(4) {
                continue; // it counts from the next start
            }
            settings.push((seat, new));
        }
        let on_its_way = self.model.orders.iter().filter_map(|order| match order {
            model::Order::Install(prepared) => Some(&prepared.program),
            _ => None,
        });
        let standing = self.model.seated.iter().filter_map(|p| p.standby.as_deref());
        let standing = standing.map(|standby| &standby.program);
        let known = self.model.seated.iter().chain(standing).chain(on_its_way);
        let known = known.filter(|program| settings.iter().any(|(seat, _)| *seat == program.seat));
        self.reconfigured.extend(known.map(|program| program.generation));
        let mut variables = Vec::new();
        if self.one_in(3) {
            let value = Variable::Int(self.random.i32(..));
            variables.push((["declared", "by hand", MIX[0]][self.random.usize(..3)], value));
        }
        let (device_set, copy) = self.any_field().unzip();
        let reconfiguration = Reconfiguration {
            stall: Duration::ZERO,
            ticket: 0,
            period: PERIOD,
            settings: settings.clone(),
            device_set,
            variables: variables.iter().map(|(name, value)| (name.to_string(), *value)).collect(),
            ..Reconfiguration::default()
        };
        // When the queue is full, they are those of the next start.
        let copy = model::Order::Reconfigure { settings, variables, field: copy };
        self.order(Order::Reconfigure(Box::new(reconfiguration)), copy);
    }

    /// Perhaps the third device comes, goes, begins anew or has other points; if there is room for
    /// the order.
    fn any_field(&mut self) -> Option<(DeviceSet, model::Field)> {
        if !self.one_in(3) || self.model.orders.len() == MAX_ORDERS {
            return None;
        }
        let before = self.annex;
        self.annex = match self.random.u32(..4) {
            0 => 0,
            1 => before,
            _ => self.random.u32(..1 << ANNEX_POINTS),
        };
        let points = plant::with_annex(&self.rig.points, self.annex);
        let annex = match self.annex {
            0 => Annex::Gone,
            same if same == before && self.random.bool() => Annex::Kept,
            _ => Annex::Opened,
        };
        let mask = self.annex;
        self.note("other field", format_args!("{mask:b}, {annex:?}"));
        let mut devices = vec![Slot::Kept(0), Slot::Kept(1)];
        devices.extend(match annex {
            Annex::Gone => None,
            Annex::Kept => Some(Slot::Kept(ANNEX)),
            Annex::Opened => Some(Slot::Opened(plant::annex(&points))),
        });
        self.rig.points = Arc::clone(&points);
        let copy = model::Field { points: Arc::clone(&points), annex };
        Some((DeviceSet { points, devices, removed: Vec::new() }, copy))
    }

    /// All of them or none: one may have another type, or a name that is none.
    fn set_some_variables(&mut self) {
        let value = |random: &mut fastrand::Rng| match random.bool() {
            true => Variable::Int(random.i32(..)),
            false => Variable::Double(random.f64()),
        };
        let mut values = vec![(MIX[self.random.usize(..4)], value(&mut self.random))];
        if self.random.bool() {
            values.push(("by hand", Variable::Int(self.random.i32(..))));
        }
        if self.random.bool() {
            values.push((MIX[self.random.usize(..4)], value(&mut self.random)));
        }
        self.note("set variables", format_args!("{values:?}"));
        self.set_variables(values);
    }

    fn any_injection(&mut self) -> Injection {
        let delay_ms = [0, 5, 30, 100, 400][self.random.usize(..5)];
        match self.random.u32(..4) {
            0 => Injection::Disconnect,
            1 => Injection::Freeze,
            2 => Injection::Slow { delay: Duration::from_millis(delay_ms) },
            _ => Injection::Garbage { seed: self.random.u64(..) },
        }
    }

    /// Gives the program with this number its orders.
    fn tell(&mut self, id: usize, command: u32) {
        let value = Value::Int(command.into());
        self.asked.push((0, Command::Set(PointId(id as u16), value)));
    }

    /// The file goes while its program waits in a queue that has no room to stop it again.
    pub fn forget_on_its_way(&mut self, name: &'static str) {
        self.take_away(name);
        self.flood();
        self.flood_until = self.model.world.cycle + 10;
    }

    /// Fills the queue of orders to the brim.
    fn flood(&mut self) {
        while self.model.orders.len() < MAX_ORDERS {
            let command = Command::Set(PointId(0), Value::Int(self.random.u16(..).into()));
            assert!(self.command(0, command));
        }
    }

    /// From now on nobody disturbs anything.
    pub fn calm_down(&mut self) {
        self.note("quiet", "");
        self.is_quiet = true;
        self.lazy_until = 0;
        self.flood_until = 0;
        self.author = None;
        self.model.over.extend(self.shadows.drain(..).map(|run| run.number));
        self.asked.clear();
        self.asked.extend((0..3).map(|device| (device, Command::Clear)));
        for id in 0..PROGRAMS {
            let command = self.random.u32(..) & !MAY_TRAP;
            self.tell(id, command);
        }
    }
}
