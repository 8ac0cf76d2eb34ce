//! The refused calls of one instance, counted by kind and name.
//!
//! The scan's thread counts, whoever shows a plugin reads. Nothing here waits, and nothing
//! allocates but [`Tally::begin_anew`], which belongs to a cycle that takes over a configuration.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use super::{MAX_ENTRIES, RefusedCall, Text, Why};

/// The refused calls of one instance under the rights that it has. The scan's thread writes,
/// anybody may read.
#[derive(Debug, Default)]
pub struct Tally {
    denials: Table,
    /// What is refused without keeping the program from anything. It has places of its own, so
    /// that it takes none of a denial.
    absences: Table,
    /// What counts instead since the program has had other rights.
    next: OnceLock<Arc<Self>>,
}

/// Refused calls of one sort.
#[derive(Debug, Default)]
struct Table {
    entries: [Entry; MAX_ENTRIES],
    /// Refused calls for which there was no entry.
    others: AtomicU64,
}

#[derive(Debug, Default)]
struct Entry {
    /// Set once, by the first call.
    what: OnceLock<RefusedCall>,
    count: AtomicU64,
    last_cycle: AtomicU64,
    /// Whether the log has it.
    is_told: AtomicBool,
    /// Whether the like of it was allowed since.
    is_over: AtomicBool,
}

/// What there is to say about a refused call.
#[derive(Debug)]
pub(in crate::plugin) enum Counted {
    /// It is the first of its kind and name.
    First(RefusedCall),
    /// It is the first that is not told apart from others.
    Full,
    /// Nothing: the like of it was told before.
    Again,
}

/// One kind and name, with how often it was refused.
#[derive(Debug, Clone)]
pub struct Refusals {
    /// The first call of this kind and name.
    pub first: RefusedCall,
    /// All of them.
    pub count: u64,
    /// The cycle of the last; 0 before the first poll.
    pub last_cycle: u64,
    /// Whether the like of it was allowed since.
    pub is_over: bool,
}

/// Refused calls of more kinds and names than are told apart.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Others {
    /// Those that keep the program from something.
    pub denials: u64,
    /// Those that do not.
    pub absences: u64,
}

impl Entry {
    /// What was refused, if anything.
    fn read(&self) -> Option<Refusals> {
        Some(Refusals {
            first: self.what.get()?.clone(),
            count: self.count.load(Ordering::Relaxed),
            last_cycle: self.last_cycle.load(Ordering::Relaxed),
            is_over: self.is_over.load(Ordering::Relaxed),
        })
    }

    fn count(&self, what: &RefusedCall, cycle: u64) -> Counted {
        self.count.fetch_add(1, Ordering::Relaxed);
        self.last_cycle.store(cycle, Ordering::Relaxed);
        self.is_over.store(false, Ordering::Relaxed);
        match self.is_told.swap(true, Ordering::Relaxed) {
            true => Counted::Again,
            false => Counted::First(what.clone()),
        }
    }

    /// The like of it was allowed. Gives whether that is news.
    fn end(&self, what: &RefusedCall) -> bool {
        // An output that is taken away is worth a line each time; the same mistake once more not.
        if let Why::Owned(_) = what.why {
            self.is_told.store(false, Ordering::Relaxed);
        }
        !self.is_over.swap(true, Ordering::Relaxed)
    }
}

impl Table {
    fn count(&self, (why, call, name): (Why, &'static str, &str), cycle: u64) -> Counted {
        for entry in &self.entries {
            let what = entry.what.get_or_init(|| {
                let mut text = Text::default();
                text.push(name.as_bytes());
                RefusedCall { why, call, name: text }
            });
            if what.is(why, call, name) {
                return entry.count(what, cycle);
            }
        }
        match self.others.fetch_add(1, Ordering::Relaxed) {
            0 => Counted::Full,
            _ => Counted::Again,
        }
    }

    fn is_empty(&self) -> bool {
        self.entries[0].what.get().is_none()
    }

    /// What was refused before the first poll and will not be asked for again. It may be told once
    /// more if it is.
    fn of_the_start(&self) -> Self {
        let table = Self::default();
        let entries = self.entries.iter().filter_map(Entry::read);
        let early = entries.filter(|entry| entry.last_cycle == 0 && !entry.is_over);
        for (entry, Refusals { first, count, .. }) in table.entries.iter().zip(early) {
            // The table is new, so it is still empty.
            let _ = entry.what.set(first);
            entry.count.store(count, Ordering::Relaxed);
        }
        table
    }
}

impl Tally {
    /// Counts a refused call.
    pub(in crate::plugin) fn count(&self, call: (Why, &'static str, &str), cycle: u64) -> Counted {
        let table = if call.0.is_denial() { &self.denials } else { &self.absences };
        table.count(call, cycle)
    }

    /// The like of these refused calls was allowed. Gives for how many of them that is news.
    pub(in crate::plugin) fn end(&self, is_it: impl Fn(&RefusedCall) -> bool) -> usize {
        let all = self.denials.entries.iter().chain(&self.absences.entries);
        let ended = all.filter(|entry| {
            entry.what.get().filter(|what| is_it(what)).is_some_and(|what| entry.end(what))
        });
        ended.count()
    }

    /// Other rights count from now on: gives what counts refused calls under these. What was
    /// refused before the first poll stays, because the program does not ask for it again.
    pub(in crate::plugin) fn begin_anew(&self) -> Option<Arc<Self>> {
        if self.denials.is_empty() && self.absences.is_empty() {
            return None;
        }
        let (denials, absences) = (self.denials.of_the_start(), self.absences.of_the_start());
        let next =
            self.next.get_or_init(|| Arc::new(Self { denials, absences, next: OnceLock::new() }));
        Some(Arc::clone(next))
    }

    /// What counts now, if that is another.
    pub fn newest(&self) -> Option<&Arc<Self>> {
        let mut newest = self.next.get()?;
        while let Some(next) = newest.next.get() {
            newest = next;
        }
        Some(newest)
    }

    /// The first of each kind and name that keeps the program from something.
    pub(in crate::plugin) fn calls(&self) -> impl Iterator<Item = &RefusedCall> {
        self.denials.entries.iter().filter_map(|entry| entry.what.get())
    }

    /// What was refused since the rights are what they are, denials first; also what is over.
    pub fn entries(&self) -> Vec<Refusals> {
        let all = self.denials.entries.iter().chain(&self.absences.entries);
        all.filter_map(Entry::read).collect()
    }

    /// Refused calls of more kinds and names than are told apart.
    pub fn others(&self) -> Others {
        let [denials, absences] =
            [&self.denials, &self.absences].map(|table| table.others.load(Ordering::Relaxed));
        Others { denials, absences }
    }
}
