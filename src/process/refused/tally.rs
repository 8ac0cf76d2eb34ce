//! The counts of the refused calls of one instance, by kind and name.
//!
//! The thread that runs the guest counts the calls: the preparing thread during `init`, and later
//! the scan's thread. Threads of the daemon read the counts. No function in this file waits. The
//! scan's thread allocates only in [`Tally::begin_anew`], which runs in a cycle that takes over a
//! configuration. A refused call and its text are defined in `refused.rs`.
//!
//! ```text
//! Tally, old rights ── next ──▶ Tally, newer rights ── next ──▶ Tally, present rights
//! ```

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use super::{FixedText, MAX_ENTRIES, RefusedCall, Why};

/// The counts of refused calls of one instance, for one set of rights. If a new configuration
/// changes the rights, new counts begin. The thread that runs the guest writes the counts; any
/// thread may read them.
#[derive(Debug, Default)]
pub struct Tally {
    /// Refusals that are denials: the program did not get an effect or a value that it asked for.
    denials: Table,
    /// Refused calls about missing variables. These refusals are no denials, because a missing
    /// variable may be created later. These calls have a separate table, so that they do not use up
    /// the entries for denials.
    absences: Table,
    /// The counts that are used after the next change of the program's rights. The scan's thread
    /// sets this field at most one time; any thread may read it.
    next: OnceLock<Arc<Self>>,
}

/// A table of refused calls: either the denials or the refusals that are no denials.
#[derive(Debug, Default)]
struct Table {
    entries: [Entry; MAX_ENTRIES],
    /// Number of refused calls for which no entry was free. The thread that runs the guest writes
    /// this number; any thread may read it.
    others: AtomicU64,
}

/// An entry of a table: the counter for one kind and name of refused calls. The thread that runs
/// the guest writes all fields; any thread may read them.
#[derive(Debug, Default)]
struct Entry {
    /// The first refused call. The field is set one time; until then the entry is free.
    what: OnceLock<RefusedCall>,
    /// Number of refused calls.
    count: AtomicU64,
    /// The cycle of the last refused call, by its number; 0 if that call was before the first poll.
    last_cycle: AtomicU64,
    /// Whether the caller was told to log a line about this entry. `Entry::count` sets the flag.
    /// For an owned output, `Entry::end` resets the flag, so the next refused call is logged again.
    is_told: AtomicBool,
    /// Whether the refusals have ended: after the last refused call, a call with this name has
    /// succeeded.
    is_over: AtomicBool,
}

/// The result of counting a refused call. The caller learns whether a log line is needed, and which
/// line.
#[derive(Debug)]
pub(crate) enum Counted {
    /// The call is the first of its kind and name, and needs a log line.
    First(RefusedCall),
    /// The call is the first call for which no entry was free. A log line must report that there
    /// are more refused calls than entries.
    Full,
    /// The call needs no log line. An earlier call of its kind and name was logged, or, if no entry
    /// is free, an earlier call without an entry was logged.
    Again,
}

/// A copy of an entry: the refused calls of one kind and name.
#[derive(Debug, Clone)]
pub struct Refusals {
    /// The first refused call of this kind and name.
    pub first: RefusedCall,
    /// Number of refused calls.
    pub count: u64,
    /// The cycle of the last refused call, by its number; 0 if that call was before the first poll.
    pub last_cycle: u64,
    /// Whether the refusals have ended: after the last refused call, a call with this name has
    /// succeeded.
    pub is_over: bool,
}

/// Numbers of refused calls for which the table had no free entry.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Others {
    /// Number of calls whose refusal is a denial.
    pub denials: u64,
    /// Number of calls about missing variables. The refusals of these calls are no denials.
    pub absences: u64,
}

impl Entry {
    /// Returns a copy of this entry; `None` if the entry is free.
    fn read(&self) -> Option<Refusals> {
        Some(Refusals {
            first: self.what.get()?.clone(),
            count: self.count.load(Ordering::Relaxed),
            last_cycle: self.last_cycle.load(Ordering::Relaxed),
            is_over: self.is_over.load(Ordering::Relaxed),
        })
    }

    /// Counts a refused call in this entry. `what` is the first call of the entry.
    fn count(&self, what: &RefusedCall, cycle: u64) -> Counted {
        self.count.fetch_add(1, Ordering::Relaxed);
        self.last_cycle.store(cycle, Ordering::Relaxed);
        self.is_over.store(false, Ordering::Relaxed);
        match self.is_told.swap(true, Ordering::Relaxed) {
            true => Counted::Again,
            false => Counted::First(what.clone()),
        }
    }

    /// Records that the refusals of this entry have ended. Returns false if the end was recorded
    /// before.
    fn end(&self, what: &RefusedCall) -> bool {
        // If another program takes the output again later, the log gets a new line. For a mistake
        // that the program repeats later, the log gets no new line.
        if let Why::Owned(_) = what.why {
            self.is_told.store(false, Ordering::Relaxed);
        }
        !self.is_over.swap(true, Ordering::Relaxed)
    }
}

impl Table {
    /// Counts a refused call in the entry of its kind and name. If this kind and name has no entry,
    /// uses a free entry. If no entry is free, counts the call in `others` of this table.
    fn count(&self, (why, call, name): (Why, &'static str, &str), cycle: u64) -> Counted {
        for entry in &self.entries {
            let what = entry.what.get_or_init(|| {
                let mut text = FixedText::default();
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

    /// Returns a new table with copies of some entries: entries whose last refused call was before
    /// the first poll and whose refusals have not ended. These entries are copied because a program
    /// usually does not repeat the calls of its start. If the program does repeat one of these
    /// calls, the log may get a second line about the call.
    fn of_the_start(&self) -> Self {
        let table = Self::default();
        let entries = self.entries.iter().filter_map(Entry::read);
        let early = entries.filter(|entry| entry.last_cycle == 0 && !entry.is_over);
        for (entry, Refusals { first, count, .. }) in table.entries.iter().zip(early) {
            // `set` cannot fail here, because the entries of the new table are empty.
            let _ = entry.what.set(first);
            entry.count.store(count, Ordering::Relaxed);
        }
        table
    }
}

impl Tally {
    /// Counts a refused call in `denials` or in `absences`. `cycle` is the number of the present
    /// cycle.
    pub(crate) fn count(&self, call: (Why, &'static str, &str), cycle: u64) -> Counted {
        let table = if call.0.is_denial() { &self.denials } else { &self.absences };
        table.count(call, cycle)
    }

    /// Finds the entries for which `is_it` returns true, and records that the refusals of these
    /// entries have ended. Returns the number of entries whose end was not recorded before.
    pub(crate) fn end(&self, is_it: impl Fn(&RefusedCall) -> bool) -> usize {
        let all = self.denials.entries.iter().chain(&self.absences.entries);
        let ended = all.filter(|entry| {
            entry.what.get().filter(|what| is_it(what)).is_some_and(|what| entry.end(what))
        });
        ended.count()
    }

    /// Begins new counts. The caller calls this function when the rights of the program have
    /// changed. Returns the new counts, or `None` if no call was refused yet. Copies into the new
    /// counts the entries whose last call was before the first poll and whose refusals have not
    /// ended, because a program usually does not repeat the calls of its start.
    pub(crate) fn begin_anew(&self) -> Option<Arc<Self>> {
        if self.denials.is_empty() && self.absences.is_empty() {
            return None;
        }
        let (denials, absences) = (self.denials.of_the_start(), self.absences.of_the_start());
        let next =
            self.next.get_or_init(|| Arc::new(Self { denials, absences, next: OnceLock::new() }));
        Some(Arc::clone(next))
    }

    /// Returns the newest counts; `None` if `self` has the newest counts.
    pub fn newest(&self) -> Option<&Arc<Self>> {
        let mut newest = self.next.get()?;
        while let Some(next) = newest.next.get() {
            newest = next;
        }
        Some(newest)
    }

    /// Returns the first call of each entry for denials.
    pub(crate) fn calls(&self) -> impl Iterator<Item = &RefusedCall> {
        self.denials.entries.iter().filter_map(|entry| entry.what.get())
    }

    /// Returns copies of all entries of these counts, denials first. Entries whose refusals have
    /// ended are included.
    pub fn entries(&self) -> Vec<Refusals> {
        let all = self.denials.entries.iter().chain(&self.absences.entries);
        all.filter_map(Entry::read).collect()
    }

    /// Returns the numbers of refused calls for which no entry was free.
    pub fn others(&self) -> Others {
        let [denials, absences] =
            [&self.denials, &self.absences].map(|table| table.others.load(Ordering::Relaxed));
        Others { denials, absences }
    }
}
