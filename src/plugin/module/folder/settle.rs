//! The table of the folder's files: decides from samples of the folder which files are settled, and
//! which changes are reported.
//!
//! This code makes no call on the file system. The time is an argument, and the caller reads the
//! files for which the table makes an order. A half-written module may be a valid module, so a file
//! must not be read too early. A file is settled if both conditions are true;
//! `folder/settle/row.rs` has some time limits as exceptions:
//!
//! - Two samples of the file, taken some time apart, are equal.
//! - No event says that a process has the file open for writing.
//!
//! Files on a network file system or behind a link raise no events. If such a file was refused and
//! then grows, it was probably incomplete, and the table waits longer before each further reading.
//! The decisions about a single file are in `folder/settle/row.rs`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::{Change, FileName, MAX_PLUGINS, Overlooked};
use crate::name::PluginName;
use crate::plugin::ModuleHash;
use crate::stamp::Stamp;

mod row;

use row::Row;

/// Most refused files that are reported by name. Further refused files are only counted, because an
/// operator would not read more log lines.
const MAX_REFUSED: usize = 64;

/// The entries that a pass over the folder has found.
#[derive(Debug)]
pub(super) struct Listing {
    /// The wall-clock time of the pass.
    pub(super) at: SystemTime,
    /// Every entry that may be a plugin, by its name.
    pub(super) entries: BTreeMap<FileName, Entry>,
    /// The names of the entries that are links. Until the links are followed, their entries
    /// describe the links themselves.
    pub(super) links: Vec<FileName>,
    /// The files that were not examined, because there are too many.
    pub(super) overlooked: Overlooked,
}

/// An entry of the folder: its path, and a sample of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) path: PathBuf,
    pub(super) sample: Sample,
}

/// A sample of a file: its stamp and its kind at one moment. If two samples are equal, the contents
/// of the file are probably equal: a file system offers no stronger proof.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sample {
    pub(super) stamp: Stamp,
    pub(super) kind: EntryKind,
}

/// The kind of an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum EntryKind {
    /// A regular file, or a link to a regular file.
    File,
    /// Another kind of entry. The text names the kind, for example "a directory".
    Other(&'static str),
    /// The entry cannot be examined. The text is the operating system's error, or the reason why
    /// `folder/link.rs` does not know the file to which a link leads.
    Unreadable(String),
    /// The name breaks the rule for names of plugins.
    Misnamed,
    /// The name ends in `.wasm`, but not all letters are small, for example `.WASM`.
    Missuffixed,
    /// The name differs only in upper and lower case from the name of another file, which came
    /// first. The text is the name of that other file.
    Rival(String),
    /// The folder already has [`MAX_PLUGINS`] plugins, so this file is refused.
    Surplus,
}

impl Entry {
    /// The caller calls this function for an entry that is a link. Stores what the link leads to:
    /// the sample of the file, or the reason why the file is unknown. For an unknown file, the
    /// entry keeps the stamp of the link itself.
    pub(super) fn lead_to(&mut self, found: Result<Sample, String>) {
        match found {
            Ok(sample) => self.sample = sample,
            Err(why) => self.sample.kind = EntryKind::Unreadable(why),
        }
    }
}

impl EntryKind {
    /// Whether an entry of this kind reserves its name, so that another file whose name differs
    /// only in upper and lower case is refused.
    fn is_claim(&self) -> bool {
        matches!(self, Self::File | Self::Other(_) | Self::Unreadable(_))
    }
}

/// A hint: what an event of the operating system reports about a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hint {
    /// The file got its name by a renaming, so it is complete.
    Renamed,
    /// A process has written the file and has not closed it yet.
    Written,
    /// A process that had the file open for writing has closed it.
    Closed,
}

/// The outcome of reading a file.
#[derive(Debug)]
pub(super) enum ReadResult {
    /// The hash of the contents, and the contents.
    Bytes(ModuleHash, Arc<[u8]>),
    /// The file changed between its sample and the end of the reading.
    Moved,
    /// The file cannot be read. The text is the operating system's error, or the reason why
    /// `folder/link.rs` has not read the file to which a link leads.
    Failed(String),
}

/// An order of the table to the folder's thread. The thread carries out the orders of a pass over
/// the folder one after the other.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum SettleStep {
    Report(Change),
    /// Read the file, and pass the outcome to [`Table::read`].
    Read {
        name: PluginName,
        path: PathBuf,
        sample: Sample,
    },
}

/// The table of all known files of the folder.
#[derive(Debug)]
pub(super) struct Table {
    max_bytes: u64,
    /// The known files by name. At most [`MAX_PLUGINS`] of them are plugins, and usually at most
    /// [`MAX_REFUSED`] are refused files.
    rows: BTreeMap<FileName, Row>,
    overlooked: Overlooked,
}

impl Table {
    pub(super) fn new(max_bytes: u64) -> Self {
        Self { max_bytes, rows: BTreeMap::new(), overlooked: Overlooked::default() }
    }

    /// The paths of the known files.
    pub(super) fn paths(&self) -> impl Iterator<Item = &Path> {
        self.rows.values().map(|row| row.path.as_path())
    }

    /// The names of the files that exist, or that have been missing for less than the grace period.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> + Clone {
        self.rows.keys().map(|name| &**name)
    }

    /// The files that the last pass over the folder found and did not examine, because there are
    /// too many.
    pub(super) fn overlooked(&self) -> &Overlooked {
        &self.overlooked
    }

    /// Whether the table has a file that it has reported and has not yet reported as gone.
    pub(super) fn holds_plugins(&self) -> bool {
        self.rows.values().any(|row| row.reported.is_some())
    }

    /// Compares the listing of a pass over the folder with the known files, and returns the orders
    /// for the thread. `hints` contains the events about files since the last pass.
    pub(super) fn pass(
        &mut self,
        now: Duration,
        listing: Listing,
        hints: &BTreeMap<PluginName, Hint>,
    ) -> Vec<SettleStep> {
        let Listing { at, mut entries, overlooked, .. } = listing;
        let mut orders = Vec::new();
        self.rows.retain(|name, row| {
            let stays = entries.contains_key(name) || !row.is_gone(now);
            if !stays && row.reported.is_some() {
                orders.push(SettleStep::Report(Change::Gone { name: name.clone() }));
            }
            stays
        });
        let placed = self.settle_claims(&mut entries);
        self.overlooked = overlooked;
        self.overlook_most(&mut entries, &placed);
        for (name, Entry { path, sample }) in entries {
            let is_new = !self.rows.contains_key(&name);
            let row = self.rows.entry(name.clone()).or_insert_with(|| Row::new(now, path, &sample));
            row.absent_since = None;
            row.compare(now, sample);
            let hint = hints.get(&*name).copied();
            row.hear(now, hint);
            let is_old = is_new && row.is_old(at);
            if row.is_ready(now, is_old || hint == Some(Hint::Renamed)) {
                orders.extend(row.take(now, &name, self.max_bytes));
            }
        }
        orders
    }

    /// Removes a file from the table, unless the file is still in `entries`. The caller calls this
    /// function when the operator has removed the file, so the table does not wait for the grace
    /// period. Returns the change to report, if there is one.
    pub(super) fn forget(
        &mut self,
        name: &str,
        entries: &BTreeMap<FileName, Entry>,
    ) -> Option<Change> {
        if entries.contains_key(name) {
            return None;
        }
        let (name, row) = self.rows.remove_entry(name)?;
        row.reported.is_some().then_some(Change::Gone { name })
    }

    /// Records that the daemon has refused the reported contents of this file.
    pub(super) fn refused(&mut self, name: &str, now: Duration) {
        if let Some(row) = self.rows.get_mut(name) {
            row.refused_at = Some(now);
        }
    }

    /// Updates a file's row from the outcome of a reading that [`Table::pass`] has ordered. Returns
    /// the change to report, if there is one.
    pub(super) fn read(
        &mut self,
        now: Duration,
        name: &PluginName,
        outcome: ReadResult,
    ) -> Option<Change> {
        self.rows.get_mut(&**name)?.read(now, name, outcome)
    }

    /// Records that the folder is lost. So the table does not know which files are missing, and all
    /// grace periods begin again when the folder is back.
    pub(super) fn pause(&mut self) {
        for row in self.rows.values_mut() {
            row.absent_since = None;
        }
    }

    /// The time of the next pass over the folder that is needed even if no hint comes.
    pub(super) fn due(&self) -> Option<Duration> {
        self.rows.values().filter_map(Row::due).min()
    }

    /// Marks the entries that may not use their names. If two names differ only in case, the name
    /// belongs to the file that the table knew first. Among new files, the name belongs to the
    /// oldest file. Returns the names of all plugins. An entry that never was a regular file is not
    /// a plugin.
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
                entry.sample.kind = EntryKind::Rival(holder.clone());
                continue;
            }
            if entry.sample.kind == EntryKind::File && !placed.contains(name) {
                if placed.len() >= MAX_PLUGINS {
                    entry.sample.kind = EntryKind::Surplus;
                    continue;
                }
                placed.insert(name.clone());
            }
            claims.insert(lower, name.to_string());
        }
        placed
    }

    /// Limits the number of refused files. If more than [`MAX_REFUSED`] files are not plugins,
    /// further files that the table does not know yet are removed from `entries` and counted as
    /// overlooked.
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
