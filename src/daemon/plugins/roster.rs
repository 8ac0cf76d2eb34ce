//! The roster: for each plugin its name, its seat, its next programs, and its modules.
//!
//! ```text
//!   folder shows a name ──▶ Entry with a seat ──▶ ready ──▶ ordered ──▶ in the scan
//!                               │
//!        the supervisor has dropped the plugin, the seat is empty ──▶ the entry ends
//! ```
//! The roster decides nothing. The roster combines the facts of the folder, the loader and the
//! scan. `plugins.rs` fills the roster, and the supervisor decides (`supervisor.rs`).

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use super::bytes::Module;
use super::loader::Loading;
use crate::control::SwapView;
use crate::daemon::micros;
use crate::plugin::instance::program::{Prepared, maker};
use crate::plugin::module::note::Note;
use crate::plugin::{Generation, ModuleHash};
use crate::process::refused::Tally;
use crate::process::seat::{MAX_PROGRAMS, Seat};
use crate::process::variable::{MAX_VARIABLES, Maker};
use crate::scan::{ProgramFact, Snapshot};

/// The data of the daemon about one plugin.
#[derive(Debug)]
pub(in crate::daemon) struct Entry {
    /// The seat of the plugin in the scan. The seat does not change while the entry exists.
    pub(in crate::daemon) seat: Seat,
    /// The time from the first sign of the newest file until the daemon's loop got its bytes; zero
    /// after a program is prepared from this file.
    pub(in crate::daemon) detect: Duration,
    /// A program that is prepared, but not ordered into the scan yet.
    pub(in crate::daemon) ready: Option<Ready>,
    /// Swaps that were ordered but that no snapshot has shown yet, oldest first. If the scan is
    /// slow, the list may have several swaps. The scan may roll back one swap before a snapshot
    /// shows the next swap.
    ordered: Vec<Ordered>,
    /// The durations and counts of the newest swap that a snapshot has shown. `Record::settle` sets
    /// them.
    pub(in crate::daemon) last_swap: Option<SwapView>,
    /// The newest instance that has passed its probation and that `store_good_versions` has
    /// handled. The flag is true if the version of the instance was in doubt at that time.
    pub(in crate::daemon) kept: Option<(Generation, bool)>,
    /// The running preparation of this plugin.
    pub(in crate::daemon) loading: Loading,
    /// The counters of refused calls of the newest instances, newest last.
    refused: Vec<(Generation, Arc<Tally>)>,
}

/// The largest number of instances in `ordered`, and in `refused`, of one plugin. A rollback may
/// return to an instance that is older than several instances that failed on probation, so the
/// lists need several entries.
const MAX_INSTANCES: usize = 8;

impl Entry {
    /// Whether `store_good_versions` has handled this instance, and its version was not in doubt
    /// then.
    pub(super) fn is_kept(&self, generation: Generation) -> bool {
        self.kept.is_some_and(|(kept, is_doubtful)| kept == generation && !is_doubtful)
    }

    /// Records that the instance of `what` was ordered into the scan. `refused` counts the refused
    /// calls of this instance.
    pub(in crate::daemon) fn order(&mut self, what: Ordered, refused: Arc<Tally>) {
        self.refused.retain(|(other, _)| *other != what.generation);
        self.refused.push((what.generation, refused));
        let surplus = self.refused.len().saturating_sub(MAX_INSTANCES);
        self.refused.drain(..surplus);
        self.ordered.retain(|other| other.generation != what.generation);
        self.ordered.push(what);
        let surplus = self.ordered.len().saturating_sub(MAX_INSTANCES);
        self.ordered.drain(..surplus);
    }

    /// Removes the swap to this instance from `ordered`, and returns it. The caller has found the
    /// instance in a snapshot. `None` if an earlier call has removed this swap.
    pub(in crate::daemon) fn arrived(&mut self, generation: Generation) -> Option<Ordered> {
        let at = self.ordered.iter().position(|ordered| ordered.generation == generation)?;
        Some(self.ordered.remove(at))
    }

    /// Drops all swaps up to the newest instance that the snapshot shows. An older instance cannot
    /// appear later.
    pub(in crate::daemon) fn forget_ordered(&mut self, newest: Generation) {
        self.ordered.retain(|ordered| ordered.generation > newest);
    }

    /// Returns the module hash of an instance that is ordered into the scan, but that no snapshot
    /// has shown yet.
    pub(in crate::daemon) fn on_its_way(&self, generation: Generation) -> Option<ModuleHash> {
        let found = self.ordered.iter().find(|ordered| ordered.generation == generation);
        found.map(|ordered| ordered.hash)
    }

    /// Replaces each [`Tally`] of refused calls by the newest one. A reload may give a program a
    /// new [`Tally`].
    fn follow_refused(&mut self) {
        for (_, refused) in &mut self.refused {
            if let Some(newest) = refused.newest().cloned() {
                *refused = newest;
            }
        }
    }

    /// Returns the refused calls of this instance since its rights last changed, and the calls that
    /// were refused in `init` and not allowed since then.
    pub(in crate::daemon) fn refused(&self, generation: Generation) -> Option<&Tally> {
        let found = self.refused.iter().find(|(other, _)| *other == generation);
        found.map(|(_, refused)| &**refused.newest().unwrap_or(refused))
    }
}

/// A prepared program, with the durations of the steps up to now.
#[derive(Debug)]
pub(in crate::daemon) struct Ready {
    /// The prepared program.
    pub(in crate::daemon) program: Box<Prepared>,
    /// The durations of the detection, the compilation and the preparation.
    pub(in crate::daemon) times: SwapView,
}

impl Ready {
    /// Returns the generation of the prepared instance: the number that identifies the instance.
    pub(in crate::daemon) fn generation(&self) -> Generation {
        self.program.program.generation
    }
}

/// A swap that the daemon has ordered, with the durations of the steps before the order.
#[derive(Debug)]
pub(in crate::daemon) struct Ordered {
    /// The hash of the instance's module.
    pub(in crate::daemon) hash: ModuleHash,
    /// The generation of the instance: the number that identifies the instance.
    pub(in crate::daemon) generation: Generation,
    /// The durations of the steps before the order.
    pub(in crate::daemon) times: SwapView,
    /// The time of the order, on the scan's clock.
    pub(in crate::daemon) at: Duration,
    /// The number of missed cycles of the scan at the time of the order.
    pub(in crate::daemon) missed: u64,
}

impl Ordered {
    /// Returns the durations and counts of this swap. `fact` is from a snapshot that shows the
    /// instance. `missed` is the number of cycles that the scan has missed since its start.
    pub(super) fn shown(&self, fact: &ProgramFact, missed: u64) -> SwapView {
        let takeover = &fact.takeover;
        SwapView {
            boundary_us: micros(fact.since.saturating_sub(self.at)),
            missed_cycles: missed - self.missed,
            state_bytes: takeover.state_bytes,
            variables_carried: takeover.variables_carried,
            variables_new: takeover.variables_new,
            variables_dropped: takeover.variables_dropped,
            ..self.times
        }
    }
}

/// If `makers` has this number of names, the next new plugin drops the names of removed plugins
/// from `makers`. Each variable can have two such names: its maker and its last writer.
const MAX_MAKERS: usize = 2 * MAX_VARIABLES;

/// The name of the plugin on each seat. The index is the number of the seat.
#[derive(Debug, Default)]
pub(in crate::daemon) struct Seats(Vec<Option<Arc<str>>>);

impl Seats {
    /// Returns the name of the plugin on this seat.
    fn name(&self, seat: Seat) -> Option<&Arc<str>> {
        self.0.get(usize::from(seat.0))?.as_ref()
    }

    /// Returns the programs in this snapshot, each with the name of its plugin. Programs of dropped
    /// plugins are not returned.
    pub(in crate::daemon) fn programs<'s>(
        &'s self,
        news: &'s Snapshot,
    ) -> impl Iterator<Item = (&'s Arc<str>, &'s ProgramFact)> {
        news.programs.iter().filter_map(|fact| Some((self.name(fact.seat)?, fact)))
    }
}

/// All plugins that have a seat.
#[derive(Debug, Default)]
pub(in crate::daemon) struct Roster {
    /// The entries by name.
    pub(super) entries: BTreeMap<Arc<str>, Entry>,
    /// The names by seat.
    pub(in crate::daemon) seats: Seats,
    /// The name of the plugin for each [`Maker`]. A variable stores the [`Maker`] of its creator
    /// and of its last writer. The map has the names of existing plugins and of removed plugins.
    makers: HashMap<Maker, Arc<str>>,
    /// The modules that run or that the supervisor may order.
    pub(in crate::daemon) modules: HashMap<ModuleHash, Module>,
    /// The warnings about unusual properties of the modules that were loaded.
    notes: HashMap<ModuleHash, Vec<Note>>,
}

impl Roster {
    /// Returns the entry of a name. A new name gets an entry with a free seat; `None` if all seats
    /// are in use.
    pub(in crate::daemon) fn enter(&mut self, name: &str) -> Option<&mut Entry> {
        if !self.entries.contains_key(name) {
            let free = self.seats.0.iter().position(Option::is_none).unwrap_or(self.seats.0.len());
            if free == MAX_PROGRAMS {
                return None;
            }
            if free == self.seats.0.len() {
                self.seats.0.push(None);
            }
            let name: Arc<str> = name.into();
            self.seats.0[free] = Some(Arc::clone(&name));
            // If `makers` has too many names, the names of removed plugins are dropped.
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

    /// Returns the entry of this plugin, if it exists.
    pub(in crate::daemon) fn get(&self, name: &str) -> Option<&Entry> {
        self.entries.get(name)
    }

    /// Returns the entry of this plugin, if it exists. The caller may change the entry.
    pub(in crate::daemon) fn get_mut(&mut self, name: &str) -> Option<&mut Entry> {
        self.entries.get_mut(name)
    }

    /// Replaces the counters of refused calls in all entries, after a reload has made new counters.
    pub(in crate::daemon) fn follow_refused(&mut self) {
        self.entries.values_mut().for_each(Entry::follow_refused);
    }

    /// Returns the name of the plugin on this seat.
    pub(in crate::daemon) fn name(&self, seat: Seat) -> Option<&Arc<str>> {
        self.seats.name(seat)
    }

    /// Returns the scan's fact about the program of this plugin.
    pub(in crate::daemon) fn fact<'n>(
        &self,
        name: &str,
        news: &'n Snapshot,
    ) -> Option<&'n ProgramFact> {
        let seat = self.get(name)?.seat;
        news.programs.iter().find(|fact| fact.seat == seat)
    }

    /// Returns the name of the plugin with this [`Maker`], even if the plugin is removed. `None` if
    /// the name was dropped from `makers`.
    pub(in crate::daemon) fn maker(&self, maker: Maker) -> Option<&Arc<str>> {
        self.makers.get(&maker)
    }

    /// Stores the warnings about a module after its preparation. Returns true if this is the first
    /// call for this module since its warnings were last dropped.
    pub(in crate::daemon) fn learn(&mut self, hash: ModuleHash, notes: &[Note]) -> bool {
        self.notes.insert(hash, notes.to_vec()).is_none()
    }

    /// Returns the warnings about a module as text.
    pub(in crate::daemon) fn notes(&self, hash: Option<ModuleHash>) -> Vec<String> {
        let notes = hash.and_then(|hash| self.notes.get(&hash));
        notes.into_iter().flatten().map(ToString::to_string).collect()
    }

    /// Drops the modules and the warnings of all hashes that are not in `used`, and all artifacts
    /// that the compile cache has stored.
    pub(in crate::daemon) fn keep_modules(&mut self, used: &[ModuleHash]) {
        self.modules.values_mut().for_each(Module::lighten);
        self.modules.retain(|hash, _| used.contains(hash));
        self.notes.retain(|hash, _| used.contains(hash));
    }

    /// Removes every entry for which `keep` is false. Returns the seats of the removed entries.
    pub(in crate::daemon) fn retain(&mut self, keep: impl Fn(&str, Seat) -> bool) -> Vec<Seat> {
        let mut free = Vec::new();
        self.entries.retain(|name, entry| {
            let kept = keep(name, entry.seat);
            if !kept {
                self.seats.0[usize::from(entry.seat.0)] = None;
                free.push(entry.seat);
            }
            kept
        });
        free
    }
}
