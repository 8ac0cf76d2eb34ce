//! The counts of the refused calls of one instance, by kind and name.
//!
//! The scan's thread counts; the daemon's threads read the counts. No function in this file waits.
//! The scan's thread allocates only in [`Tally::begin_anew`], which it calls in a cycle that takes
//! over a configuration. What a refused call is, and its text, is in `refused.rs`.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use super::{MAX_ENTRIES, RefusedCall, Text, Why};

/// The refused calls of one instance under the rights that it has. The scan's thread writes the
/// counts; any thread may read them.
#[derive(Debug, Default)]
pub struct Tally {
    /// Refused calls that keep the program from an effect or a value.
    denials: Table,
    /// Refused calls about missing variables. They are no denials, because a missing variable may
    /// appear later. They have a table of their own, so that they take no entry of a denial.
    absences: Table,
    /// The counts that are valid after the program's rights have changed. The scan's thread sets
    /// it once; any thread may read it.
    next: OnceLock<Arc<Self>>,
}

/// Refused calls of one sort.
#[derive(Debug, Default)]
struct Table {
    entries: [Entry; MAX_ENTRIES],
    /// Number of refused calls for which there was no entry. The scan's thread writes; any thread
    /// may read it.
    others: AtomicU64,
}

/// The refused calls of one kind and name. The scan's thread writes all of it; any thread may read
/// it.
#[derive(Debug, Default)]
struct Entry {
    /// The first call; set once.
    what: OnceLock<RefusedCall>,
    /// Number of the calls.
    count: AtomicU64,
    /// The cycle of the last call; 0 before the first poll.
    last_cycle: AtomicU64,
    /// Whether the log has a line about this entry.
    is_told: AtomicBool,
    /// Whether a call of this kind and name has gone well since.
    is_over: AtomicBool,
}

/// The result of counting a refused call: the line that the log needs, if any.
#[derive(Debug)]
pub(crate) enum Counted {
    /// The call is the first of its kind and name.
    First(RefusedCall),
    /// The call is the first for which there is no free entry.
    Full,
    /// Nothing: a call of this kind and name was logged before.
    Again,
}

/// The refused calls of one kind and name.
#[derive(Debug, Clone)]
pub struct Refusals {
    /// The first call of this kind and name.
    pub first: RefusedCall,
    /// Number of the calls.
    pub count: u64,
    /// The cycle of the last call; 0 before the first poll.
    pub last_cycle: u64,
    /// Whether a call of this kind and name has gone well since.
    pub is_over: bool,
}

/// Numbers of refused calls for which there was no entry.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Others {
    /// Calls whose refusal is a denial.
    pub denials: u64,
    /// Calls about missing variables, whose refusal is no denial.
    pub absences: u64,
}

impl Entry {
    /// The contents of this entry, if it has any.
    fn read(&self) -> Option<Refusals> {
        Some(Refusals {
            first: self.what.get()?.clone(),
            count: self.count.load(Ordering::Relaxed),
            last_cycle: self.last_cycle.load(Ordering::Relaxed),
            is_over: self.is_over.load(Ordering::Relaxed),
        })
    }

    /// Counts a further call of this entry.
    fn count(&self, what: &RefusedCall, cycle: u64) -> Counted {
        self.count.fetch_add(1, Ordering::Relaxed);
        self.last_cycle.store(cycle, Ordering::Relaxed);
        self.is_over.store(false, Ordering::Relaxed);
        match self.is_told.swap(true, Ordering::Relaxed) {
            true => Counted::Again,
            false => Counted::First(what.clone()),
        }
    }

    /// Ends the refusals of this entry. Returns whether they were not ended before.
    fn end(&self, what: &RefusedCall) -> bool {
        // The log gets a line each time that another program takes an output, but not each time
        // that a mistake is repeated.
        if let Why::Owned(_) = what.why {
            self.is_told.store(false, Ordering::Relaxed);
        }
        !self.is_over.swap(true, Ordering::Relaxed)
    }
}

impl Table {
    /// Counts a call in its entry, or in a free one, or together with the others if all are taken.
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

    /// A copy with the entries from before the first poll that have not ended, because the program
    /// does not make these calls again. If the program does make such a call again, the call may be
    /// logged once more.
    fn of_the_start(&self) -> Self {
        let table = Self::default();
        let entries = self.entries.iter().filter_map(Entry::read);
        let early = entries.filter(|entry| entry.last_cycle == 0 && !entry.is_over);
        for (entry, Refusals { first, count, .. }) in table.entries.iter().zip(early) {
            // The table is new, so its entries are still empty.
            let _ = entry.what.set(first);
            entry.count.store(count, Ordering::Relaxed);
        }
        table
    }
}

impl Tally {
    /// Counts a refused call.
    pub(crate) fn count(&self, call: (Why, &'static str, &str), cycle: u64) -> Counted {
        let table = if call.0.is_denial() { &self.denials } else { &self.absences };
        table.count(call, cycle)
    }

    /// Ends the refusals for which `is_it` is true. Returns the number of refusals that had not
    /// ended before.
    pub(crate) fn end(&self, is_it: impl Fn(&RefusedCall) -> bool) -> usize {
        let all = self.denials.entries.iter().chain(&self.absences.entries);
        let ended = all.filter(|entry| {
            entry.what.get().filter(|what| is_it(what)).is_some_and(|what| entry.end(what))
        });
        ended.count()
    }

    /// Begins new counts, because the rights have changed, and returns them. Refusals from before
    /// the first poll stay, because the program does not make those calls again. Returns `None` if
    /// no call was refused yet.
    pub(crate) fn begin_anew(&self) -> Option<Arc<Self>> {
        if self.denials.is_empty() && self.absences.is_empty() {
            return None;
        }
        let (denials, absences) = (self.denials.of_the_start(), self.absences.of_the_start());
        let next =
            self.next.get_or_init(|| Arc::new(Self { denials, absences, next: OnceLock::new() }));
        Some(Arc::clone(next))
    }

    /// The newest counts; `None` if these are the newest.
    pub fn newest(&self) -> Option<&Arc<Self>> {
        let mut newest = self.next.get()?;
        while let Some(next) = newest.next.get() {
            newest = next;
        }
        Some(newest)
    }

    /// The first call of each kind and name whose refusal is a denial.
    pub(crate) fn calls(&self) -> impl Iterator<Item = &RefusedCall> {
        self.denials.entries.iter().filter_map(|entry| entry.what.get())
    }

    /// All entries under the present rights, denials first; those that have ended are included.
    pub fn entries(&self) -> Vec<Refusals> {
        let all = self.denials.entries.iter().chain(&self.absences.entries);
        all.filter_map(Entry::read).collect()
    }

    /// The numbers of refused calls for which there was no entry.
    pub fn others(&self) -> Others {
        let [denials, absences] =
            [&self.denials, &self.absences].map(|table| table.others.load(Ordering::Relaxed));
        Others { denials, absences }
    }
}
