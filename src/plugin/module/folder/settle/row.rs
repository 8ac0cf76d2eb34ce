//! A row has the data about one file. The row decides when the file is settled, which changes are
//! reported, and when the thread must examine the file again.
//!
//! A row decides from samples of its file, from the events about the file, and from the outcomes of
//! earlier readings. A row does not read the file and knows no other file. `folder/settle.rs`
//! decides which file may use which name, and `folder/disk.rs` reads files.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use super::{EntryKind, Hint, ReadResult, Sample, SettleStep};
use crate::name::PluginName;
use crate::plugin::module::folder::{Change, FileName, MAX_PLUGINS, misnamed};
use crate::plugin::{ModuleHash, Refusal};

/// If two samples with this time between them are equal, the file is settled. This time is longer
/// than the usual pauses of a program that writes a file, and short enough for a user who waits.
const SETTLE: Duration = Duration::from_millis(100);

/// A file of constant size is settled after this time, or after its settling time if that is
/// longer, even if its time stamps change. Without this limit, a process that changes the time
/// stamps again and again could prevent the file from settling. The limit does not apply to a file
/// that still grows.
const SETTLE_CAP: Duration = Duration::from_secs(1);

/// The grace period: a missing file counts as gone after this time. The period is needed because
/// some editors replace a file by deleting it and creating it again.
const GRACE: Duration = Duration::from_millis(500);

/// Time from the first reading of a file to the second reading. The second reading is needed
/// because some writes leave no trace in a sample: a write through a memory map, or a write within
/// the same tick of the file system's clock. After a failed reading, the first new attempt comes
/// after the same time.
const SECOND_READING: Duration = Duration::from_secs(2);

/// The longest time between two attempts to read an unreadable file. The time doubles from one
/// attempt to the next, up to this limit. The limit is long because each attempt may read much of a
/// large file before it reaches the defect of the disk.
const RETRY_CAP: Duration = Duration::from_secs(64);

/// A file that was written and not closed is settled this long after its last change. Without the
/// limit, a file that its writer never closes would never settle. The limit is longer than the
/// expected pauses of a copy over a bad network line.
const WRITER_CAP: Duration = Duration::from_secs(10);

/// An empty file is settled after this time, if no event reports its closing. The time is long
/// because a process that creates a file usually writes to it soon.
const BEGUN: Duration = Duration::from_secs(3);

/// The settling time of a refused file that has grown. The time doubles with each further refusal,
/// up to [`SLOW_CAP`]. So a copy that is written in pieces, with pauses of less than a second, is
/// refused only once.
const SLOW: Duration = Duration::from_secs(1);

/// The longest settling time of a refused file that has grown.
const SLOW_CAP: Duration = Duration::from_secs(8);

/// If a refused file grows within this time, the refused contents count as an incomplete file. If
/// the file grows later, its author has probably corrected it.
const UPLOAD_PAUSE: Duration = Duration::from_secs(10);

/// How many readings in a row may find that the file has changed. If one more reading finds a
/// change, the file is refused. Files of `/proc` are refused in this way, because the length of
/// their contents never equals their size.
const MAX_MOVES: u32 = 5;

/// The data about one file.
///
/// ```text
///     two equal samples and closed, or renamed in, or old, or a time limit
///  ─▶ Settling ───────────────────────────▶ Settled ──┐
///        ▲  └◀── moved while it was read ───┘ ▲    └──┘ second reading
///        └──────── the sample differs ──────┘
///  missing for the grace period, in both states: the row is removed
/// ```
#[derive(Debug)]
pub(super) struct Row {
    pub(super) path: PathBuf,
    pub(super) sample: Sample,
    /// The time when the present change was first noticed.
    detected: Duration,
    phase: Phase,
    /// The time when the file was first found missing; `None` if the file exists.
    pub(super) absent_since: Option<Duration>,
    /// The last report about the file. An equal report is not repeated.
    pub(super) reported: Option<Reported>,
    /// Whether the file's contents were ever reported. A file with reported contents counts as a
    /// plugin even while it cannot be read.
    was_present: bool,
    writer: Writer,
    /// The time when the file was last refused, by this row or by the daemon; `None` if the file
    /// was not refused since its last change.
    pub(super) refused_at: Option<Duration>,
    /// How many times in a row the file was refused and then grew.
    halves: u32,
    /// How many times in a row the file could not be read, or changed while it was read.
    failures: u32,
}

/// Whether a process has the file open for writing, as far as events show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Writer {
    /// There was no event since the file's last change.
    Unknown,
    Open,
    Closed,
}

#[derive(Debug)]
enum Phase {
    Settling {
        /// All samples since this time are equal.
        same_since: Duration,
        /// All samples since this time have the same size.
        size_since: Duration,
    },
    Settled {
        read_again_at: Option<Duration>,
    },
}

/// The last report about a file.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Reported {
    Present(ModuleHash),
    Refused(Refusal),
}

impl Row {
    pub(super) fn new(now: Duration, path: PathBuf, sample: &Sample) -> Self {
        Self {
            path,
            sample: sample.clone(),
            detected: now,
            phase: Phase::Settling { same_since: now, size_since: now },
            absent_since: None,
            reported: None,
            was_present: false,
            writer: Writer::Unknown,
            refused_at: None,
            halves: 0,
            failures: 0,
        }
    }

    /// Whether the file counts towards the limit of plugins.
    pub(super) fn has_place(&self) -> bool {
        self.sample.kind == EntryKind::File || self.was_present
    }

    /// Records that the file is missing. Returns whether the file has been missing for the grace
    /// period.
    pub(super) fn is_gone(&mut self, now: Duration) -> bool {
        now.saturating_sub(*self.absent_since.get_or_insert(now)) >= GRACE
    }

    /// Compares the file's sample of this pass with the last sample. If the two differ, the file
    /// must settle again.
    pub(super) fn compare(&mut self, now: Duration, sample: Sample) {
        if self.sample == sample {
            return;
        }
        let size_since = match self.phase {
            Phase::Settling { size_since, .. } if self.sample.stamp.bytes == sample.stamp.bytes => {
                size_since
            }
            _ => now,
        };
        let (old, new) = (&self.sample.stamp, &sample.stamp);
        if let Some(refused_at) = self.refused_at.take() {
            let grows = new.inode == old.inode && new.bytes > old.bytes;
            let is_half = grows && now < refused_at + UPLOAD_PAUSE;
            self.halves = if is_half { self.halves + 1 } else { 0 };
        }
        if new.bytes != old.bytes {
            self.failures = 0;
        }
        if matches!(self.phase, Phase::Settled { .. }) {
            self.detected = now;
        }
        self.phase = Phase::Settling { same_since: now, size_since };
        // A writer that has the file open is not forgotten. The writer may change the mode or the
        // times of the file, and then write more.
        if self.writer != Writer::Open || new.inode != old.inode {
            self.writer = Writer::Unknown;
        }
        self.sample = sample;
    }

    /// Updates the row from the last event about the file. Before this call, the caller passes the
    /// sample of the same pass over the folder to [`Row::compare`].
    pub(super) fn hear(&mut self, now: Duration, hint: Option<Hint>) {
        match hint {
            Some(Hint::Written) => {
                self.writer = Writer::Open;
                if let Phase::Settled { .. } = self.phase {
                    // The event may belong to a write within the same tick of the file system's
                    // clock. No sample shows such a write, so the file must settle again.
                    self.phase = Phase::Settling { same_since: now, size_since: now };
                    self.detected = now;
                }
            }
            Some(Hint::Closed | Hint::Renamed) => self.writer = Writer::Closed,
            None => {}
        }
    }

    /// The settling time: how long the samples must be equal.
    fn settling(&self) -> Duration {
        let is_begun = self.sample.kind == EntryKind::File && self.sample.stamp.bytes == 0;
        match self.writer {
            Writer::Open => WRITER_CAP,
            // Files of /proc have the size 0, but are not empty. So the long time for empty files
            // applies only before the first failed reading.
            Writer::Unknown if is_begun && self.failures == 0 => BEGUN,
            _ if self.halves == 0 => SETTLE,
            _ => (SLOW * (1 << (self.halves - 1).min(8))).min(SLOW_CAP),
        }
    }

    /// Whether the file was not changed for [`WRITER_CAP`] before the wall-clock time `at`. Such a
    /// file needs no settling time when it is first seen, so a start does not wait for its plugins.
    pub(super) fn is_old(&self, at: SystemTime) -> bool {
        self.sample.stamp.unchanged_for(at) >= WRITER_CAP
    }

    /// Whether the table must make an order for this file now ([`Row::take`]). `is_whole` is true
    /// if the file got its name by a renaming, or is old, so the file is complete.
    pub(super) fn is_ready(&self, now: Duration, is_whole: bool) -> bool {
        match self.phase {
            Phase::Settling { .. } if is_whole => true,
            _ => self.due().is_some_and(|due| due <= now),
        }
    }

    /// The time when the thread must examine the file again; `None` if no time is set.
    pub(super) fn due(&self) -> Option<Duration> {
        if let Some(absent_since) = self.absent_since {
            return Some(absent_since + GRACE);
        }
        match self.phase {
            Phase::Settling { same_since, size_since } => {
                let settling = self.settling();
                Some((same_since + settling).min(size_since + settling.max(SETTLE_CAP)))
            }
            Phase::Settled { read_again_at } => read_again_at,
        }
    }

    /// Makes the order for a settled file: to read the file, or to report a refusal without a
    /// reading. Returns `None` if this refusal was already reported.
    pub(super) fn take(
        &mut self,
        now: Duration,
        name: &FileName,
        max_bytes: u64,
    ) -> Option<SettleStep> {
        let refusal = match (refusal(name, &self.sample, max_bytes), name) {
            (None, FileName::Plugin(name)) => {
                let (path, sample) = (self.path.clone(), self.sample.clone());
                return Some(SettleStep::Read { name: name.clone(), path, sample });
            }
            (None, FileName::Misnamed(quoted)) => misnamed(quoted),
            (Some(refusal), _) => refusal,
        };
        self.phase = Phase::Settled { read_again_at: None };
        self.refuse(now, name.clone(), refusal).map(SettleStep::Report)
    }

    /// Makes the report of a refusal, unless the same refusal was the last report.
    fn refuse(&mut self, now: Duration, name: FileName, refusal: Refusal) -> Option<Change> {
        self.refused_at = Some(now);
        if matches!(&self.reported, Some(Reported::Refused(reported)) if *reported == refusal) {
            return None;
        }
        self.reported = Some(Reported::Refused(refusal.clone()));
        let path = self.path.clone();
        let is_rival = matches!(self.sample.kind, EntryKind::Rival(_));
        Some(Change::Refused { name, path, refusal, is_rival })
    }

    /// Makes the report of a failed reading, unless the same refusal was the last report. The
    /// reading is repeated later. The pause doubles with each failure, up to [`RETRY_CAP`].
    fn fail(&mut self, now: Duration, name: &PluginName, refusal: Refusal) -> Option<Change> {
        let retry = SECOND_READING * (1 << self.failures.min(5));
        self.failures = self.failures.saturating_add(1);
        self.phase = Phase::Settled { read_again_at: Some(now + retry.min(RETRY_CAP)) };
        self.refuse(now, FileName::Plugin(name.clone()), refusal)
    }

    /// Updates the row from the outcome of a reading. Returns the change to report, if there is
    /// one.
    pub(super) fn read(
        &mut self,
        now: Duration,
        name: &PluginName,
        outcome: ReadResult,
    ) -> Option<Change> {
        match outcome {
            ReadResult::Moved if self.failures < MAX_MOVES => {
                self.failures += 1;
                self.phase = Phase::Settling { same_since: now, size_since: now };
                None
            }
            ReadResult::Moved => self.fail(now, name, unsteady()),
            ReadResult::Failed(error) => self.fail(now, name, unreadable(&error)),
            ReadResult::Bytes(hash, bytes) => {
                let is_first = matches!(self.phase, Phase::Settling { .. });
                let is_known = self.reported == Some(Reported::Present(hash));
                self.failures = 0;
                let again = is_first || !is_known;
                self.phase =
                    Phase::Settled { read_again_at: again.then_some(now + SECOND_READING) };
                if is_known {
                    return None;
                }
                if !is_first {
                    self.detected = now;
                }
                self.reported = Some(Reported::Present(hash));
                self.was_present = true;
                let (name, path, detected) = (name.clone(), self.path.clone(), self.detected);
                Some(Change::Present { name, path, hash, bytes, detected })
            }
        }
    }
}

/// Makes the refusal for a file that has changed during too many readings in a row ([`MAX_MOVES`]).
fn unsteady() -> Refusal {
    Refusal::new(
        "it changes during each reading, or has another length than its file size",
        "replace it by a regular file on a disk; files of /proc and /sys cannot be plugins",
    )
}

/// Makes the refusal for a file whose name, kind or size is not allowed. The thread never opens
/// such a file. Returns `None` for a file that may be read.
fn refusal(name: &str, sample: &Sample, max_bytes: u64) -> Option<Refusal> {
    let bytes = sample.stamp.bytes;
    Some(match &sample.kind {
        EntryKind::File if bytes <= max_bytes => return None,
        EntryKind::File => Refusal::new(
            format!("the file has {bytes} bytes"),
            format!(
                "at most {max_bytes} are allowed; strip debug sections, or raise the limit: \
                 plugins.module in the configuration"
            ),
        ),
        EntryKind::Other(what) => Refusal::new(
            format!("it is {what}"),
            "replace it by a regular file, or by a link to a regular file",
        ),
        EntryKind::Unreadable(error) => unreadable(error),
        EntryKind::Misnamed => misnamed(name),
        EntryKind::Missuffixed => Refusal::new(
            "its name ends in .wasm, but not in small letters",
            "rename it, so that its name ends in .wasm",
        ),
        EntryKind::Rival(holder) => Refusal::new(
            format!("its name differs from {holder} only in upper and lower case"),
            "rename or remove one of the two files",
        ),
        EntryKind::Surplus => Refusal::new(
            format!("the folder already has {MAX_PLUGINS} plugins"),
            "remove a plugin; this file then becomes a plugin",
        ),
    })
}

fn unreadable(error: &str) -> Refusal {
    Refusal::new(
        format!("it cannot be read: {error}"),
        "give the daemon's user permission to read it, or repair the link",
    )
}
