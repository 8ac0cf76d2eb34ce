//! Samples of the folder in, decisions out: when a file is settled, what is new about it.
//!
//! Pure: time is an argument and files are read by the caller, who is told which. A half-written
//! module may well be valid, so a file is taken only after two equal samples some time apart, and
//! not while the events say that somebody has it open for writing. Where there are no events (a
//! network's file system, a link), one that was refused and then grows is given more and more time.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::{Change, MAX_PLUGINS, Overlooked};
use crate::plugin::ModuleHash;
use crate::stamp::Stamp;

mod row;

use row::Row;

/// Refused files that are each told by name; further ones are counted. More lines than this nobody
/// reads.
const MAX_REFUSED: usize = 64;

/// What a look found.
#[derive(Debug, Default)]
pub(super) struct Listing {
    /// Everything that may be a plugin, by name.
    pub(super) entries: BTreeMap<String, Entry>,
    /// Those of them that are links, and stand there as what they are themselves until they are
    /// followed.
    pub(super) links: Vec<String>,
    /// Files that were not even looked at.
    pub(super) overlooked: Overlooked,
}

/// What is under one name in the folder at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) path: PathBuf,
    pub(super) sample: Sample,
}

/// Equal samples mean the same contents, as far as a file system can tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sample {
    pub(super) stamp: Stamp,
    pub(super) kind: Kind,
}

/// What a name stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    /// A regular file, or a link to one.
    File,
    /// Something else, with its article.
    Other(&'static str),
    /// Cannot be looked at, for the operating system's reason.
    Unreadable(String),
    /// The name breaks the rules.
    Misnamed,
    /// The name ends in `.WASM` or the like.
    Missuffixed,
    /// Differs only in case from this plugin, which was there first.
    Rival(String),
    /// One plugin too many.
    Surplus,
}

impl Entry {
    /// It is a link that leads to this, or why that is not known. It is there all the same then, as
    /// what it is itself.
    pub(super) fn lead_to(&mut self, found: Result<Sample, String>) {
        match found {
            Ok(sample) => self.sample = sample,
            Err(why) => self.sample.kind = Kind::Unreadable(why),
        }
    }
}

impl Kind {
    /// Whether it takes the name from others.
    fn is_claim(&self) -> bool {
        matches!(self, Self::File | Self::Other(_) | Self::Unreadable(_))
    }
}

/// What an event says of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hint {
    /// It got its name in one piece.
    Renamed,
    /// It was written, and is still open.
    Written,
    /// It was closed by one who could write it.
    Closed,
}

/// How a reading ended.
#[derive(Debug)]
pub(super) enum Outcome {
    Bytes(ModuleHash, Arc<[u8]>),
    /// The file changed while it was read.
    Moved,
    /// The operating system's reason.
    Failed(String),
}

/// What the caller is to do, in this order.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Order {
    Tell(Change),
    /// Read the file and say how it went with [`Table::read`].
    Read {
        name: String,
        path: PathBuf,
        sample: Sample,
    },
}

/// Everything known about the folder.
#[derive(Debug)]
pub(super) struct Table {
    max_bytes: u64,
    /// By name; at most [`MAX_PLUGINS`] that have a place, and about [`MAX_REFUSED`] others.
    rows: BTreeMap<String, Row>,
    overlooked: Overlooked,
}

impl Table {
    pub(super) fn new(max_bytes: u64) -> Self {
        Self { max_bytes, rows: BTreeMap::new(), overlooked: Overlooked::default() }
    }

    /// The files that are known.
    pub(super) fn paths(&self) -> impl Iterator<Item = &Path> {
        self.rows.values().map(|row| row.path.as_path())
    }

    /// What has a file, or had one a moment ago.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> + Clone {
        self.rows.keys().map(|name| &**name)
    }

    /// Files that the last look found and left alone, because there are too many.
    pub(super) fn overlooked(&self) -> &Overlooked {
        &self.overlooked
    }

    /// Whether anything was reported that is not reported gone.
    pub(super) fn holds_plugins(&self) -> bool {
        self.rows.values().any(|row| row.told.is_some())
    }

    /// Compares the folder with what is known. `hints`: what events say of files since the last
    /// look.
    pub(super) fn look(
        &mut self,
        now: Duration,
        listing: Listing,
        hints: &BTreeMap<String, Hint>,
    ) -> Vec<Order> {
        let Listing { mut entries, overlooked, .. } = listing;
        let mut orders = Vec::new();
        self.rows.retain(|name, row| {
            let stays = entries.contains_key(name) || !row.is_gone(now);
            if !stays && row.told.is_some() {
                orders.push(Order::Tell(Change::Gone { name: name.clone() }));
            }
            stays
        });
        let placed = self.settle_claims(&mut entries);
        self.overlooked = overlooked;
        self.overlook_most(&mut entries, &placed);
        for (name, Entry { path, sample }) in entries {
            let row = self.rows.entry(name.clone()).or_insert_with(|| Row::new(now, path, &sample));
            row.absent_since = None;
            row.compare(now, sample);
            let hint = hints.get(&name).copied();
            row.hear(now, hint);
            if row.is_ready(now, hint == Some(Hint::Renamed)) {
                orders.extend(row.take(now, &name, self.max_bytes));
            }
        }
        orders
    }

    /// The operator has taken the file away, and does not wait for its return.
    pub(super) fn forget(
        &mut self,
        name: &str,
        entries: &BTreeMap<String, Entry>,
    ) -> Option<Change> {
        if entries.contains_key(name) {
            return None;
        }
        let row = self.rows.remove(name)?;
        row.told.is_some().then(|| Change::Gone { name: name.to_owned() })
    }

    /// What was reported of that file is no module.
    pub(super) fn refused(&mut self, name: &str, now: Duration) {
        if let Some(row) = self.rows.get_mut(name) {
            row.refused_at = Some(now);
        }
    }

    /// How a reading that [`Table::look`] ordered went.
    pub(super) fn read(&mut self, now: Duration, name: &str, outcome: Outcome) -> Option<Change> {
        self.rows.get_mut(name)?.read(now, name, outcome)
    }

    /// The folder cannot be read: nobody knows what is absent.
    pub(super) fn pause(&mut self) {
        for row in self.rows.values_mut() {
            row.absent_since = None;
        }
    }

    /// When to look again even if nothing happens.
    pub(super) fn due(&self) -> Option<Duration> {
        self.rows.values().filter_map(Row::due).min()
    }

    /// Marks those that may not have their name: it is given to whoever was there first, and
    /// among new ones to the oldest file. Gives those that have one of the places; what is no file
    /// and never was one needs none.
    fn settle_claims(&self, entries: &mut BTreeMap<String, Entry>) -> BTreeSet<String> {
        let held = |row: &Row| row.sample.kind.is_claim();
        let held = self.rows.iter().filter(|(_, row)| held(row));
        let mut claims: BTreeMap<String, String> =
            held.map(|(name, _)| (name.to_ascii_lowercase(), name.clone())).collect();
        let placed = self.rows.iter().filter(|(_, row)| row.has_place());
        let mut placed: BTreeSet<String> = placed.map(|(name, _)| name.clone()).collect();
        let mut by_age: Vec<_> =
            entries.iter_mut().filter(|(_, entry)| entry.sample.kind.is_claim()).collect();
        by_age.sort_by_key(|(name, entry)| (entry.sample.stamp.modified, (*name).clone()));
        for (name, entry) in by_age {
            let lower = name.to_ascii_lowercase();
            let holder = claims.get(&lower).filter(|holder| *holder != name);
            if let Some(holder) = holder {
                entry.sample.kind = Kind::Rival(holder.clone());
                continue;
            }
            if entry.sample.kind == Kind::File && !placed.contains(name) {
                if placed.len() >= MAX_PLUGINS {
                    entry.sample.kind = Kind::Surplus;
                    continue;
                }
                placed.insert(name.clone());
            }
            claims.insert(lower, name.clone());
        }
        placed
    }

    /// Leaves alone, and counts, what is neither known nor placed and one refused file too many.
    fn overlook_most(&mut self, entries: &mut BTreeMap<String, Entry>, placed: &BTreeSet<String>) {
        let rows = &self.rows;
        let mut room =
            MAX_REFUSED.saturating_sub(rows.keys().filter(|name| !placed.contains(*name)).count());
        let mut newest = None;
        entries.retain(|name, entry| {
            if rows.contains_key(name) || placed.contains(name) {
                return true;
            }
            let stays = room > 0;
            room = room.saturating_sub(1);
            if !stays {
                self.overlooked.files += 1;
                newest = newest.take().max(Some((entry.sample.stamp.modified, name.clone())));
            }
            stays
        });
        if let Some((_, name)) = newest {
            self.overlooked.example = name;
        }
    }
}

#[cfg(test)]
mod tests;
