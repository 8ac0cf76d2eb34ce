//! Who is who: names and seats, modules and swaps, put together from what the parts know.
//!
//! Nothing is decided here. An entry begins when the folder shows a name and ends when the
//! supervisor has forgotten it and the scan has nobody on its seat.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use super::loader::{Loading, Module};
use crate::control::SwapView;
use crate::plugin::program::Prepared;
use crate::plugin::world::{MAX_PROGRAMS, Seat};
use crate::plugin::{Generation, ModuleHash};

/// What the daemon remembers about one plugin.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) seat: Seat,
    /// From the first hint of the newest file to the moment its bytes were read.
    pub(super) detect: Duration,
    /// A program that is ready and not yet ordered into the scan.
    pub(super) ready: Option<Ready>,
    /// A swap that was ordered and not yet seen.
    pub(super) ordered: Option<Ordered>,
    pub(super) last_swap: Option<SwapView>,
    /// The instance whose version was kept last, or was to be, and whether that was in doubt.
    pub(super) kept: Option<(Generation, bool)>,
    /// The preparation under way.
    pub(super) loading: Loading,
}

/// A prepared program with the times so far.
#[derive(Debug)]
pub(super) struct Ready {
    pub(super) program: Box<Prepared>,
    pub(super) times: SwapView,
}

impl Ready {
    pub(super) fn generation(&self) -> Generation {
        self.program.program.generation
    }
}

/// An ordered swap with the times so far.
#[derive(Debug)]
pub(super) struct Ordered {
    pub(super) hash: ModuleHash,
    pub(super) generation: Generation,
    pub(super) times: SwapView,
    /// On the scan's clock.
    pub(super) at: Duration,
    /// Cycles missed before.
    pub(super) missed: u64,
}

/// All plugins that have a seat.
#[derive(Debug, Default)]
pub(super) struct Roster {
    entries: BTreeMap<Arc<str>, Entry>,
    /// Names by seat.
    seats: Vec<Option<Arc<str>>>,
    /// Modules that run or may be asked for.
    pub(super) modules: HashMap<ModuleHash, Module>,
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
            let entry = Entry {
                seat: Seat(free as u16),
                detect: Duration::ZERO,
                ready: None,
                ordered: None,
                last_swap: None,
                kept: None,
                loading: Loading::default(),
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

    /// The name of whoever sits there.
    pub(super) fn name(&self, seat: Seat) -> Option<&Arc<str>> {
        self.seats.get(usize::from(seat.0))?.as_ref()
    }

    /// Ends every entry that `keep` does not want; gives the seats that are free now.
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
