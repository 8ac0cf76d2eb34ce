//! Samples of the folder in, decisions out: when a file is settled, what is new about it.
//!
//! Pure: time is an argument and files are read by the caller, who is told which. A half-written
//! module may well be valid, so a file is taken only after two equal samples [`SETTLE`] apart.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::{Change, MAX_PLUGINS, misnamed};
use crate::plugin::{ModuleHash, Refusal};
use crate::stamp::Stamp;

/// Two equal samples so far apart make a settled file: writers pause for less, people do not wait
/// longer.
pub(super) const SETTLE: Duration = Duration::from_millis(100);

/// A file of constant size is settled after this time even if its times keep changing, so that
/// touching it cannot keep it out. One that still grows is not.
pub(super) const SETTLE_CAP: Duration = Duration::from_secs(1);

/// A file is gone after this time: editors replace by delete and create.
pub(super) const GRACE: Duration = Duration::from_millis(500);

/// A file is read a second time so long after the first: a write through a memory map, or one
/// within the same tick of the file system's clock, may leave no trace in the sample. Unreadable
/// ones are tried again at this pace.
pub(super) const SECOND_READING: Duration = Duration::from_secs(2);

/// Rows in all: every plugin, and as many refused ones. Further files are not even refused.
const MAX_ROWS: usize = 2 * MAX_PLUGINS;

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
    /// Differs only in case from this plugin, which was there first.
    Rival(String),
    /// One plugin too many.
    Surplus,
}

impl Kind {
    /// Whether it takes the name from others.
    fn is_claim(&self) -> bool {
        matches!(self, Self::File | Self::Other(_) | Self::Unreadable(_))
    }
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
    /// By name; at most [`MAX_ROWS`].
    rows: BTreeMap<String, Row>,
}

/// ```text
///          two equal samples, renamed in, cap
///  ─▶ Settling ───────────────────────────▶ Settled ──┐
///        ▲  └◀── moved while it was read ───┘ ▲    └──┘ second reading
///        └──────── the sample differs ──────┘
///  absent for the grace, from both: the row is deleted
/// ```
#[derive(Debug)]
struct Row {
    path: PathBuf,
    sample: Sample,
    /// When the change that is under way was first seen.
    detected: Duration,
    phase: Phase,
    absent_since: Option<Duration>,
    /// What was last reported. The same again is not.
    told: Option<Told>,
}

#[derive(Debug)]
enum Phase {
    Settling {
        /// The sample is the same since then.
        same_since: Duration,
        /// The size is the same since then.
        size_since: Duration,
    },
    Settled {
        read_again_at: Option<Duration>,
    },
}

#[derive(Debug, PartialEq, Eq)]
enum Told {
    Present(ModuleHash),
    Refused(Refusal),
}

impl Table {
    pub(super) fn new(max_bytes: u64) -> Self {
        Self { max_bytes, rows: BTreeMap::new() }
    }

    /// The files that are known.
    pub(super) fn paths(&self) -> impl Iterator<Item = &Path> {
        self.rows.values().map(|row| row.path.as_path())
    }

    /// Compares the folder with what is known. `renamed`: files that got their name in one piece.
    pub(super) fn look(
        &mut self,
        now: Duration,
        mut entries: BTreeMap<String, Entry>,
        renamed: &BTreeSet<String>,
    ) -> Vec<Order> {
        let mut orders = Vec::new();
        self.rows.retain(|name, row| {
            let stays = entries.contains_key(name) || !row.is_gone(now);
            if !stays && row.told.is_some() {
                orders.push(Order::Tell(Change::Gone { name: name.clone() }));
            }
            stays
        });
        self.settle_claims(&mut entries);
        for (name, Entry { path, sample }) in entries {
            if !self.rows.contains_key(&name) && self.rows.len() >= MAX_ROWS {
                continue;
            }
            let row = self.rows.entry(name.clone()).or_insert_with(|| Row::new(now, path, &sample));
            row.absent_since = None;
            row.compare(now, sample);
            if row.is_ready(now, renamed.contains(&name)) {
                orders.extend(row.take(&name, self.max_bytes));
            }
        }
        orders
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
    /// among new ones to the oldest file.
    fn settle_claims(&self, entries: &mut BTreeMap<String, Entry>) {
        let mut claims: BTreeMap<String, String> = self
            .rows
            .iter()
            .filter(|(_, row)| row.sample.kind.is_claim())
            .map(|(name, _)| (name.to_ascii_lowercase(), name.clone()))
            .collect();
        let mut by_age: Vec<_> =
            entries.iter_mut().filter(|(_, entry)| entry.sample.kind.is_claim()).collect();
        by_age.sort_by_key(|(name, entry)| (entry.sample.stamp.modified, (*name).clone()));
        for (name, entry) in by_age {
            let lower = name.to_ascii_lowercase();
            match claims.get(&lower) {
                Some(holder) if holder == name => {}
                Some(holder) => entry.sample.kind = Kind::Rival(holder.clone()),
                None if claims.len() >= MAX_PLUGINS => entry.sample.kind = Kind::Surplus,
                None => {
                    claims.insert(lower, name.clone());
                }
            }
        }
    }
}

impl Row {
    fn new(now: Duration, path: PathBuf, sample: &Sample) -> Self {
        Self {
            path,
            sample: sample.clone(),
            detected: now,
            phase: Phase::Settling { same_since: now, size_since: now },
            absent_since: None,
            told: None,
        }
    }

    fn is_gone(&mut self, now: Duration) -> bool {
        now.saturating_sub(*self.absent_since.get_or_insert(now)) >= GRACE
    }

    fn compare(&mut self, now: Duration, sample: Sample) {
        if self.sample == sample {
            return;
        }
        let size_since = match self.phase {
            Phase::Settling { size_since, .. } if self.sample.stamp.bytes == sample.stamp.bytes => {
                size_since
            }
            _ => now,
        };
        if matches!(self.phase, Phase::Settled { .. }) {
            self.detected = now;
        }
        self.phase = Phase::Settling { same_since: now, size_since };
        self.sample = sample;
    }

    fn is_ready(&self, now: Duration, is_whole: bool) -> bool {
        match self.phase {
            Phase::Settling { .. } if is_whole => true,
            _ => self.due().is_some_and(|due| due <= now),
        }
    }

    fn due(&self) -> Option<Duration> {
        if let Some(absent_since) = self.absent_since {
            return Some(absent_since + GRACE);
        }
        match self.phase {
            Phase::Settling { same_since, size_since } => {
                Some((same_since + SETTLE).min(size_since + SETTLE_CAP))
            }
            Phase::Settled { read_again_at } => read_again_at,
        }
    }

    /// It is settled: to be read, or to be refused unread.
    fn take(&mut self, name: &str, max_bytes: u64) -> Option<Order> {
        let Some(refusal) = refusal(name, &self.sample, max_bytes) else {
            let (path, sample) = (self.path.clone(), self.sample.clone());
            return Some(Order::Read { name: name.to_owned(), path, sample });
        };
        self.phase = Phase::Settled { read_again_at: None };
        self.refuse(name, refusal).map(Order::Tell)
    }

    fn refuse(&mut self, name: &str, refusal: Refusal) -> Option<Change> {
        if matches!(&self.told, Some(Told::Refused(told)) if *told == refusal) {
            return None;
        }
        self.told = Some(Told::Refused(refusal.clone()));
        Some(Change::Refused { name: name.to_owned(), path: self.path.clone(), refusal })
    }

    fn read(&mut self, now: Duration, name: &str, outcome: Outcome) -> Option<Change> {
        match outcome {
            Outcome::Moved => {
                self.phase = Phase::Settling { same_since: now, size_since: now };
                None
            }
            Outcome::Failed(error) => {
                self.phase = Phase::Settled { read_again_at: Some(now + SECOND_READING) };
                self.refuse(name, unreadable(&error))
            }
            Outcome::Bytes(hash, bytes) => {
                let is_first = matches!(self.phase, Phase::Settling { .. });
                let is_known = self.told == Some(Told::Present(hash));
                let again = is_first || !is_known;
                self.phase =
                    Phase::Settled { read_again_at: again.then_some(now + SECOND_READING) };
                if is_known {
                    return None;
                }
                if !is_first {
                    self.detected = now;
                }
                self.told = Some(Told::Present(hash));
                let (name, path, detected) = (name.to_owned(), self.path.clone(), self.detected);
                Some(Change::Present { name, path, hash, bytes, detected })
            }
        }
    }
}

/// Why such a file is not even opened.
fn refusal(name: &str, sample: &Sample, max_bytes: u64) -> Option<Refusal> {
    let bytes = sample.stamp.bytes;
    Some(match &sample.kind {
        Kind::File if bytes <= max_bytes => return None,
        Kind::File => Refusal::new(
            format!("the file has {bytes} bytes"),
            format!("at most {max_bytes} are allowed; strip debug sections, or raise the limit"),
        ),
        Kind::Other(what) => {
            Refusal::new(format!("it is {what}"), "put a regular file there, or a link to one")
        }
        Kind::Unreadable(error) => unreadable(error),
        Kind::Misnamed => misnamed(name),
        Kind::Rival(holder) => Refusal::new(
            format!("its name differs from {holder} only in upper and lower case"),
            "rename or remove one of them",
        ),
        Kind::Surplus => Refusal::new(
            format!("the folder holds {MAX_PLUGINS} plugins already"),
            "remove one; this file takes its place then",
        ),
    })
}

fn unreadable(error: &str) -> Refusal {
    Refusal::new(
        format!("it cannot be read: {error}"),
        "give the daemon's user permission to read it, or repair the link",
    )
}

#[cfg(test)]
mod tests;
