//! The table of the folder's files: decides by samples of the folder which files are settled, and
//! what is new about them.
//!
//! The table is pure: time is an argument, and the caller reads the files that the table's orders
//! name. A half-written module may well be valid. So a file is settled only after two equal samples
//! some time apart, and not while events say that a writer has it open. Files on a network's file
//! system or behind a link have no events. If a file without events was refused and then grows, it
//! gets more and more time. The decisions about one file are in `folder/settle/row.rs`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::{Change, FileName, MAX_PLUGINS, Overlooked};
use crate::name::PluginName;
use crate::plugin::ModuleHash;
use crate::stamp::Stamp;

mod row;

use row::Row;

/// Most refused files that are reported by name; further ones are counted. An operator reads no
/// more lines than this.
const MAX_REFUSED: usize = 64;

/// The entries of the folder that a look found.
#[derive(Debug, Default)]
pub(super) struct Listing {
    /// Every entry that may be a plugin, by name.
    pub(super) entries: BTreeMap<FileName, Entry>,
    /// The names in `entries` that are links. Until they are followed, their entries describe the
    /// links themselves.
    pub(super) links: Vec<FileName>,
    /// Files that were not examined.
    pub(super) overlooked: Overlooked,
}

/// An entry of the folder: its path and its sample at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) path: PathBuf,
    pub(super) sample: Sample,
}

/// A sample of a file. Equal samples mean equal contents, as far as a file system can show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sample {
    pub(super) stamp: Stamp,
    pub(super) kind: Kind,
}

/// The kind of an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    /// A regular file, or a link to one.
    File,
    /// Another kind of entry, as text with its article.
    Other(&'static str),
    /// The entry cannot be examined, for the operating system's reason.
    Unreadable(String),
    /// The name breaks the rules.
    Misnamed,
    /// The name ends in `.WASM` or the like.
    Missuffixed,
    /// The name differs only in case from this plugin, which was there first.
    Rival(String),
    /// The file is one plugin too many.
    Surplus,
}

impl Entry {
    /// Takes in the sample of the file that the link leads to, or the reason why it is not known.
    /// Without a sample, the entry stays with the stamp of the link itself.
    pub(super) fn lead_to(&mut self, found: Result<Sample, String>) {
        match found {
            Ok(sample) => self.sample = sample,
            Err(why) => self.sample.kind = Kind::Unreadable(why),
        }
    }
}

impl Kind {
    /// Whether an entry of this kind keeps its name from other files.
    fn is_claim(&self) -> bool {
        matches!(self, Self::File | Self::Other(_) | Self::Unreadable(_))
    }
}

/// A hint: the change of a file that an event reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hint {
    /// The file got its name by a renaming, as a whole file.
    Renamed,
    /// The file was written, and is still open.
    Written,
    /// A process that could write the file has closed it.
    Closed,
}

/// How a reading ended.
#[derive(Debug)]
pub(super) enum Outcome {
    /// The contents, with their hash.
    Bytes(ModuleHash, Arc<[u8]>),
    /// The file changed while it was read.
    Moved,
    /// The operating system's reason.
    Failed(String),
}

/// An order to the caller; the orders of a look are carried out in turn.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Order {
    Tell(Change),
    /// Read the file, and report the outcome with [`Table::read`].
    Read {
        name: PluginName,
        path: PathBuf,
        sample: Sample,
    },
}

/// All known files of the folder.
#[derive(Debug)]
pub(super) struct Table {
    max_bytes: u64,
    /// The rows by name: at most [`MAX_PLUGINS`] that have a place, and about [`MAX_REFUSED`]
    /// others.
    rows: BTreeMap<FileName, Row>,
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

    /// The names that have a file, or had one a moment ago.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> + Clone {
        self.rows.keys().map(|name| &**name)
    }

    /// Files that the last look found and did not examine, because there are too many.
    pub(super) fn overlooked(&self) -> &Overlooked {
        &self.overlooked
    }

    /// Whether any file was reported and not reported as gone since.
    pub(super) fn holds_plugins(&self) -> bool {
        self.rows.values().any(|row| row.told.is_some())
    }

    /// Compares the folder with what is known. `hints` has what events say of files since the last
    /// look.
    pub(super) fn look(
        &mut self,
        now: Duration,
        listing: Listing,
        hints: &BTreeMap<PluginName, Hint>,
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
            let hint = hints.get(&*name).copied();
            row.hear(now, hint);
            if row.is_ready(now, hint == Some(Hint::Renamed)) {
                orders.extend(row.take(now, &name, self.max_bytes));
            }
        }
        orders
    }

    /// Drops a file that the operator has removed, without the grace period of a missing file.
    pub(super) fn forget(
        &mut self,
        name: &str,
        entries: &BTreeMap<FileName, Entry>,
    ) -> Option<Change> {
        if entries.contains_key(name) {
            return None;
        }
        let (name, row) = self.rows.remove_entry(name)?;
        row.told.is_some().then_some(Change::Gone { name })
    }

    /// Notes that the reported contents of that file are no module.
    pub(super) fn refused(&mut self, name: &str, now: Duration) {
        if let Some(row) = self.rows.get_mut(name) {
            row.refused_at = Some(now);
        }
    }

    /// Takes in the outcome of a reading that [`Table::look`] ordered.
    pub(super) fn read(
        &mut self,
        now: Duration,
        name: &PluginName,
        outcome: Outcome,
    ) -> Option<Change> {
        self.rows.get_mut(&**name)?.read(now, name, outcome)
    }

    /// Notes that the folder cannot be read, so it is not known which files are absent.
    pub(super) fn pause(&mut self) {
        for row in self.rows.values_mut() {
            row.absent_since = None;
        }
    }

    /// When the thread must look again even if no hint comes.
    pub(super) fn due(&self) -> Option<Duration> {
        self.rows.values().filter_map(Row::due).min()
    }

    /// Marks the entries that may not have their name. A name belongs to the file that was there
    /// first, and among new files to the oldest file. Returns the names that have a place. An entry
    /// that is no file, and never was a file, needs no place.
    fn settle_claims(&self, entries: &mut BTreeMap<FileName, Entry>) -> BTreeSet<FileName> {
        let held = |row: &Row| row.sample.kind.is_claim();
        let held = self.rows.iter().filter(|(_, row)| held(row));
        let mut claims: BTreeMap<String, String> =
            held.map(|(name, _)| (name.to_ascii_lowercase(), name.to_string())).collect();
        let placed = self.rows.iter().filter(|(_, row)| row.has_place());
        let mut placed: BTreeSet<FileName> = placed.map(|(name, _)| name.clone()).collect();
        let mut by_age: Vec<_> =
            entries.iter_mut().filter(|(_, entry)| entry.sample.kind.is_claim()).collect();
        by_age.sort_by_key(|(name, entry)| (entry.sample.stamp.modified, (*name).clone()));
        for (name, entry) in by_age {
            let lower = name.to_ascii_lowercase();
            let holder = claims.get(&lower).filter(|holder| ***holder != **name);
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
            claims.insert(lower, name.to_string());
        }
        placed
    }

    /// Drops and counts the entries that are neither known nor placed, beyond the limit of refused
    /// files.
    fn overlook_most(
        &mut self,
        entries: &mut BTreeMap<FileName, Entry>,
        placed: &BTreeSet<FileName>,
    ) {
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
            self.overlooked.example = name.to_string();
        }
    }
}

#[cfg(test)]
mod tests;
