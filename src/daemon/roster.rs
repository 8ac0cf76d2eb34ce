//! The roster: names and seats, modules and swaps, put together from what the parts know.
//!
//! Nothing is decided here. An entry begins when the folder shows a name. It ends when the
//! supervisor has forgotten the name and no program sits on its seat.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use super::loader::{Loading, Module};
use crate::control::SwapView;
use crate::plugin::instance::program::{Prepared, maker};
use crate::plugin::module::note::Note;
use crate::plugin::{Generation, ModuleHash};
use crate::process::refused::Tally;
use crate::process::seat::{MAX_PROGRAMS, Seat};
use crate::process::variable::{MAX_VARIABLES, Maker};

/// What the daemon remembers about one plugin.
#[derive(Debug)]
pub(super) struct Entry {
    /// The seat of the plugin in the scan, for as long as the entry lives.
    pub(super) seat: Seat,
    /// The time from the first hint of the newest file until its bytes were read.
    pub(super) detect: Duration,
    /// A program that is prepared and not yet ordered into the scan.
    pub(super) ready: Option<Ready>,
    /// Swaps that were ordered and not yet seen, oldest first. Several of them wait if the scan is
    /// slow, and one may trap and be rolled back before another is seen.
    ordered: Vec<Ordered>,
    /// The times of the newest swap that the scan has shown.
    pub(super) last_swap: Option<SwapView>,
    /// The newest instance whose version was given to the store, and whether that was in doubt.
    pub(super) kept: Option<(Generation, bool)>,
    /// The preparation under way.
    pub(super) loading: Loading,
    /// The refused calls of its newest instances, newest last.
    refused: Vec<(Generation, Arc<Tally>)>,
}

/// The largest number of instances that are remembered for one plugin. An instance that resumes may
/// be older than several that have replaced each other while they were on probation.
const MAX_INSTANCES: usize = 8;

impl Entry {
    /// Notes that this instance is on its way into the scan. `refused` counts its refused calls.
    pub(super) fn order(&mut self, what: Ordered, refused: Arc<Tally>) {
        self.refused.retain(|(other, _)| *other != what.generation);
        self.refused.push((what.generation, refused));
        let surplus = self.refused.len().saturating_sub(MAX_INSTANCES);
        self.refused.drain(..surplus);
        self.ordered.retain(|other| other.generation != what.generation);
        self.ordered.push(what);
        let surplus = self.ordered.len().saturating_sub(MAX_INSTANCES);
        self.ordered.drain(..surplus);
    }

    /// Removes and returns the swap to this instance, which the scan shows for the first time.
    pub(super) fn arrived(&mut self, generation: Generation) -> Option<Ordered> {
        let at = self.ordered.iter().position(|ordered| ordered.generation == generation)?;
        Some(self.ordered.remove(at))
    }

    /// Forgets the swaps up to the newest instance that the scan shows: older ones do not come any
    /// more.
    pub(super) fn forget_ordered(&mut self, newest: Generation) {
        self.ordered.retain(|ordered| ordered.generation > newest);
    }

    /// The module of an instance that is on its way into the scan.
    pub(super) fn on_its_way(&self, generation: Generation) -> Option<ModuleHash> {
        let found = self.ordered.iter().find(|ordered| ordered.generation == generation);
        found.map(|ordered| ordered.hash)
    }

    /// Follows the new counts of refused calls that a reload has begun; the old counts go.
    fn follow_refused(&mut self) {
        for (_, refused) in &mut self.refused {
            if let Some(newest) = refused.newest().cloned() {
                *refused = newest;
            }
        }
    }

    /// The refused calls of this instance under its present rights.
    pub(super) fn refused(&self, generation: Generation) -> Option<&Tally> {
        let found = self.refused.iter().find(|(other, _)| *other == generation);
        found.map(|(_, refused)| &**refused.newest().unwrap_or(refused))
    }
}

/// A prepared program, with the times so far.
#[derive(Debug)]
pub(super) struct Ready {
    pub(super) program: Box<Prepared>,
    /// The times of its preparation.
    pub(super) times: SwapView,
}

impl Ready {
    /// The number of the prepared instance.
    pub(super) fn generation(&self) -> Generation {
        self.program.program.generation
    }
}

/// An ordered swap, with the times so far.
#[derive(Debug)]
pub(super) struct Ordered {
    pub(super) hash: ModuleHash,
    pub(super) generation: Generation,
    /// The times until the order.
    pub(super) times: SwapView,
    /// When it was ordered, on the scan's clock.
    pub(super) at: Duration,
    /// The number of missed cycles before it.
    pub(super) missed: u64,
}

/// The largest number of names that are remembered after their plugins have gone: as many as all
/// variables can have makers and last writers.
const MAX_MAKERS: usize = 2 * MAX_VARIABLES;

/// All plugins that have a seat.
#[derive(Debug, Default)]
pub(super) struct Roster {
    /// The entries by name.
    entries: BTreeMap<Arc<str>, Entry>,
    /// The names by seat.
    seats: Vec<Option<Arc<str>>>,
    /// The names by maker, as variables note their writers; also of plugins that have gone.
    makers: HashMap<Maker, Arc<str>>,
    /// The modules that run or may be asked for.
    pub(super) modules: HashMap<ModuleHash, Module>,
    /// The notes about unusual properties of modules, of those that were loaded.
    notes: HashMap<ModuleHash, Vec<Note>>,
}

impl Roster {
    /// The entry of a name, with a seat; `None` when all seats are taken.
    pub(super) fn enter(&mut self, name: &str) -> Option<&mut Entry> {
        if !self.entries.contains_key(name) {
            let free = self.seats.iter().position(Option::is_none).unwrap_or(self.seats.len());
            if free == MAX_PROGRAMS {
                return None;
            }
            if free == self.seats.len() {
                self.seats.push(None);
            }
            let name: Arc<str> = name.into();
            self.seats[free] = Some(Arc::clone(&name));
            if self.makers.len() >= MAX_MAKERS {
                self.makers.retain(|_, name| self.entries.contains_key(name));
            }
            self.makers.insert(maker(&name), Arc::clone(&name));
            let entry = Entry {
                seat: Seat(free as u16),
                detect: Duration::ZERO,
                ready: None,
                ordered: Vec::new(),
                last_swap: None,
                kept: None,
                loading: Loading::default(),
                refused: Vec::new(),
            };
            self.entries.insert(name, entry);
        }
        self.entries.get_mut(name)
    }

    pub(super) fn get(&self, name: &str) -> Option<&Entry> {
        self.entries.get(name)
    }

    pub(super) fn get_mut(&mut self, name: &str) -> Option<&mut Entry> {
        self.entries.get_mut(name)
    }

    /// Drops the counts of refused calls under former rights.
    pub(super) fn follow_refused(&mut self) {
        self.entries.values_mut().for_each(Entry::follow_refused);
    }

    /// The name of the plugin on that seat.
    pub(super) fn name(&self, seat: Seat) -> Option<&Arc<str>> {
        self.seats.get(usize::from(seat.0))?.as_ref()
    }

    /// The name of the plugin that has written a variable, even if the plugin is gone.
    pub(super) fn maker(&self, maker: Maker) -> Option<&Arc<str>> {
        self.makers.get(&maker)
    }

    /// Takes in the notes about a module that was loaded; returns whether they are new.
    pub(super) fn learn(&mut self, hash: ModuleHash, notes: &[Note]) -> bool {
        self.notes.insert(hash, notes.to_vec()).is_none()
    }

    /// The notes about a module, in words.
    pub(super) fn notes(&self, hash: Option<ModuleHash>) -> Vec<String> {
        let notes = hash.and_then(|hash| self.notes.get(&hash));
        notes.into_iter().flatten().map(ToString::to_string).collect()
    }

    /// Forgets all modules but these, and the artifacts that the cache has.
    pub(super) fn keep_modules(&mut self, used: &[ModuleHash]) {
        self.modules.values_mut().for_each(Module::lighten);
        self.modules.retain(|hash, _| used.contains(hash));
        self.notes.retain(|hash, _| used.contains(hash));
    }

    /// Ends every entry for which `keep` is false; returns the seats that are free now.
    pub(super) fn retain(&mut self, keep: impl Fn(&str, Seat) -> bool) -> Vec<Seat> {
        let mut free = Vec::new();
        self.entries.retain(|name, entry| {
            let kept = keep(name, entry.seat);
            if !kept {
                self.seats[usize::from(entry.seat.0)] = None;
                free.push(entry.seat);
            }
            kept
        });
        free
    }
}
