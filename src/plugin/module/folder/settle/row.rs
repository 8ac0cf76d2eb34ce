//! The row of one file: decides when the file is settled, what is new about it, and when the thread
//! looks at it again.
//!
//! A row decides by samples of its file, by the events about it, and by the outcomes of earlier
//! readings. A row knows no other file and reads none: which file may have which name is decided in
//! `folder/settle.rs`, and files are read in `folder/disk.rs`.

use std::path::PathBuf;
use std::time::Duration;

use super::{Hint, Kind, Order, Outcome, Sample};
use crate::name::PluginName;
use crate::plugin::module::folder::{Change, FileName, MAX_PLUGINS, misnamed};
use crate::plugin::{ModuleHash, Refusal};

/// The time between two equal samples that make a file settled. The time is this long because
/// writers make shorter pauses, and no longer because users do not want to wait.
const SETTLE: Duration = Duration::from_millis(100);

/// A file of constant size is settled after this time even if its time stamps keep changing. So a
/// process that touches the file again and again cannot keep it from settling. A file that still
/// grows is not settled.
const SETTLE_CAP: Duration = Duration::from_secs(1);

/// A missing file counts as gone after this time, because some editors replace a file by deleting
/// and creating it.
const GRACE: Duration = Duration::from_millis(500);

/// Time from the first reading of a file to the second one. A write through a memory map, or within
/// the same tick of the file system's clock, may leave no trace in the sample. The first further
/// try to read an unreadable file comes after this time too.
const SECOND_READING: Duration = Duration::from_secs(2);

/// The longest time between two tries to read an unreadable file; the time grows from try to try up
/// to this limit. Each try may read a large file up to the place where its disk fails.
const RETRY_CAP: Duration = Duration::from_secs(64);

/// A file that was written and not closed is settled this long after its last change. The limit
/// exists because some writers never close a file. The limit is the longest pause that a copy over
/// a bad network line should make.
const WRITER_CAP: Duration = Duration::from_secs(10);

/// An empty file without an event of its closing is settled after this time. The file gets this
/// time because a process that creates a file usually writes to it soon.
const BEGUN: Duration = Duration::from_secs(3);

/// A refused file that has grown settles in this time, then in twice as long, and so on up to
/// [`SLOW_CAP`]. So a copy that pauses for less than a second is refused once.
const SLOW: Duration = Duration::from_secs(1);

/// The longest settling time of a refused file that has grown.
const SLOW_CAP: Duration = Duration::from_secs(8);

/// A refused file that grows within this time counts as half a file. If the file grows later, its
/// author has probably corrected it.
const UPLOAD_PAUSE: Duration = Duration::from_secs(10);

/// A file that changed so many times in a row while it was read is refused. Every file of `/proc`
/// counts as changed, because its contents differ from its size.
const MAX_MOVES: u32 = 5;

/// The data about one file.
///
/// ```text
///     two equal samples and closed, renamed in, cap
///  ─▶ Settling ───────────────────────────▶ Settled ──┐
///        ▲  └◀── moved while it was read ───┘ ▲    └──┘ second reading
///        └──────── the sample differs ──────┘
///  absent for the grace, from both: the row is deleted
/// ```
#[derive(Debug)]
pub(super) struct Row {
    pub(super) path: PathBuf,
    pub(super) sample: Sample,
    /// When the present change was first seen.
    detected: Duration,
    phase: Phase,
    /// The time since when the file is missing, if it is missing.
    pub(super) absent_since: Option<Duration>,
    /// The last report about the file. An equal report is not made again.
    pub(super) told: Option<Told>,
    /// Whether the file's bytes were ever reported. If so, the file keeps its place while it cannot
    /// be read.
    was_present: bool,
    writer: Writer,
    /// When the last reported contents were refused.
    pub(super) refused_at: Option<Duration>,
    /// How often in a row the file was refused and then grew.
    halves: u32,
    /// How often in a row the file changed while it was read, or could not be read.
    failures: u32,
}

/// Whether a writer has the file open, as the events say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Writer {
    /// No event came since the file's last change.
    Unknown,
    Open,
    Closed,
}

#[derive(Debug)]
enum Phase {
    Settling {
        /// The time since when the sample is the same.
        same_since: Duration,
        /// The time since when the size is the same.
        size_since: Duration,
    },
    Settled {
        read_again_at: Option<Duration>,
    },
}

/// A report about a file.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Told {
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
            told: None,
            was_present: false,
            writer: Writer::Unknown,
            refused_at: None,
            halves: 0,
            failures: 0,
        }
    }

    /// Whether the file counts towards the limit of plugins.
    pub(super) fn has_place(&self) -> bool {
        self.sample.kind == Kind::File || self.was_present
    }

    /// Notes that the file is missing. Returns whether it has been missing for the grace period.
    pub(super) fn is_gone(&mut self, now: Duration) -> bool {
        now.saturating_sub(*self.absent_since.get_or_insert(now)) >= GRACE
    }

    /// Takes in the sample of this look. If it differs from the last one, the file settles anew.
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
        // An open writer stays known, because it may change the file's mode or times and then go on
        // writing.
        if self.writer != Writer::Open || new.inode != old.inode {
            self.writer = Writer::Unknown;
        }
        self.sample = sample;
    }

    /// Takes in what events say of the file, after the sample of the same look.
    pub(super) fn hear(&mut self, now: Duration, hint: Option<Hint>) {
        match hint {
            Some(Hint::Written) => {
                self.writer = Writer::Open;
                if let Phase::Settled { .. } = self.phase {
                    // The file may have been written within the same tick of the file system's
                    // clock, so that no sample shows the change.
                    self.phase = Phase::Settling { same_since: now, size_since: now };
                    self.detected = now;
                }
            }
            Some(Hint::Closed | Hint::Renamed) => self.writer = Writer::Closed,
            None => {}
        }
    }

    /// How long the sample must stay the same.
    fn settling(&self) -> Duration {
        let is_begun = self.sample.kind == Kind::File && self.sample.stamp.bytes == 0;
        match self.writer {
            Writer::Open => WRITER_CAP,
            // Files of /proc have the size 0 and are not empty.
            Writer::Unknown if is_begun && self.failures == 0 => BEGUN,
            _ if self.halves == 0 => SETTLE,
            _ => (SLOW * (1 << (self.halves - 1).min(8))).min(SLOW_CAP),
        }
    }

    /// Whether the file is to be read now. `is_whole` says that it was renamed in as a whole file.
    pub(super) fn is_ready(&self, now: Duration, is_whole: bool) -> bool {
        match self.phase {
            Phase::Settling { .. } if is_whole => true,
            _ => self.due().is_some_and(|due| due <= now),
        }
    }

    /// When the thread must look at the file again; `None` if it need not.
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

    /// The order for a settled file: read it, or report it as refused without a reading.
    pub(super) fn take(&mut self, now: Duration, name: &FileName, max_bytes: u64) -> Option<Order> {
        let refusal = match (refusal(name, &self.sample, max_bytes), name) {
            (None, FileName::Plugin(name)) => {
                let (path, sample) = (self.path.clone(), self.sample.clone());
                return Some(Order::Read { name: name.clone(), path, sample });
            }
            (None, FileName::Misnamed(quoted)) => misnamed(quoted),
            (Some(refusal), _) => refusal,
        };
        self.phase = Phase::Settled { read_again_at: None };
        self.refuse(now, name.clone(), refusal).map(Order::Tell)
    }

    /// The report of a refusal, unless it was reported before.
    fn refuse(&mut self, now: Duration, name: FileName, refusal: Refusal) -> Option<Change> {
        self.refused_at = Some(now);
        if matches!(&self.told, Some(Told::Refused(told)) if *told == refusal) {
            return None;
        }
        self.told = Some(Told::Refused(refusal.clone()));
        let path = self.path.clone();
        let is_rival = matches!(self.sample.kind, Kind::Rival(_));
        Some(Change::Refused { name, path, refusal, is_rival })
    }

    /// Reports a failed reading. The reading is tried again after longer and longer times.
    fn fail(&mut self, now: Duration, name: &PluginName, refusal: Refusal) -> Option<Change> {
        let retry = SECOND_READING * (1 << self.failures.min(5));
        self.failures = self.failures.saturating_add(1);
        self.phase = Phase::Settled { read_again_at: Some(now + retry.min(RETRY_CAP)) };
        self.refuse(now, FileName::Plugin(name.clone()), refusal)
    }

    /// Takes in the outcome of a reading. Returns the change to report, if any.
    pub(super) fn read(
        &mut self,
        now: Duration,
        name: &PluginName,
        outcome: Outcome,
    ) -> Option<Change> {
        match outcome {
            Outcome::Moved if self.failures < MAX_MOVES => {
                self.failures += 1;
                self.phase = Phase::Settling { same_since: now, size_since: now };
                None
            }
            Outcome::Moved => self.fail(now, name, unsteady()),
            Outcome::Failed(error) => self.fail(now, name, unreadable(&error)),
            Outcome::Bytes(hash, bytes) => {
                let is_first = matches!(self.phase, Phase::Settling { .. });
                let is_known = self.told == Some(Told::Present(hash));
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
                self.told = Some(Told::Present(hash));
                self.was_present = true;
                let (name, path, detected) = (name.clone(), self.path.clone(), self.detected);
                Some(Change::Present { name, path, hash, bytes, detected })
            }
        }
    }
}

/// The refusal of a file that changed in each of its readings.
fn unsteady() -> Refusal {
    Refusal::new(
        "it changes whenever it is read, or has other contents than its size says",
        "copy a module to a file of its own; files of /proc and /sys cannot be plugins",
    )
}

/// The refusal of a file that is not opened at all, because of its name, kind or size.
fn refusal(name: &str, sample: &Sample, max_bytes: u64) -> Option<Refusal> {
    let bytes = sample.stamp.bytes;
    Some(match &sample.kind {
        Kind::File if bytes <= max_bytes => return None,
        Kind::File => Refusal::new(
            format!("the file has {bytes} bytes"),
            format!(
                "at most {max_bytes} are allowed; strip debug sections, or raise the limit: \
                 plugins.module in the configuration"
            ),
        ),
        Kind::Other(what) => {
            Refusal::new(format!("it is {what}"), "put a regular file there, or a link to one")
        }
        Kind::Unreadable(error) => unreadable(error),
        Kind::Misnamed => misnamed(name),
        Kind::Missuffixed => Refusal::new(
            "its name ends in .wasm, but not in small letters",
            "rename it, so that its name ends in .wasm",
        ),
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
