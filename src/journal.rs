//! The journal: a history of numbered and dated entries that survives the end of the daemon.
//!
//! Each entry records one value. The type of this value is a type parameter, so this file does not
//! depend on plugins. In the daemon this type is the receipt of `control/receipt.rs`. The newest
//! entries are in memory. The journal answers all queries from memory, so that no query waits for a
//! disk. Each entry is also one line of JSON in a file. A separate thread writes this file
//! (`journal/disk.rs`). The files are read only once, when the journal is opened.
//!
//! ```text
//! daemon ── add ──▶ entries in memory ──▶ readers
//!             └──▶ queue ──▶ thread ──▶ history.jsonl ──▶ history.1.jsonl
//! ```
//!
//! Each line ends with a checksum. When the files are read, a damaged line is skipped, and all
//! other lines are used. The journal repairs no line. If the folder of the journal cannot be used,
//! the journal exists in memory only, and the daemon works normally.

use std::collections::VecDeque;
use std::io;
use std::path::Path;
use std::time::SystemTime;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

mod disk;

use disk::WriterHandle;

/// The maximum number of entries in memory. They use about 2 MB. With 500 bytes for each entry, the
/// files contain the same number of entries. Older entries are only in the files.
pub const MAX_ENTRIES: usize = 2_000;

/// The maximum length of a line in a file, in bytes. The largest entry has a reason, a remedy and
/// some names, each with a few hundred bytes. A longer line shows a defect of the daemon. It is not
/// written to the file, but its entry is in memory.
const MAX_LINE_BYTES: usize = 16 << 10;

/// The first bytes of every line. They cannot occur inside an entry, because JSON writes a quote
/// inside a text as `\"`. If a line end is lost, two lines become one. Then these bytes show where
/// the second entry begins.
const START: &[u8] = br#"{"seq":"#;

/// The number of hexadecimal digits of the checksum. The 16 digits (64 bits) detect accidental
/// damage, but not a line that a person has changed on purpose.
const CHECK_DIGITS: usize = 16;

/// One entry of the journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry<T> {
    /// The number that identifies the entry. Each new entry gets the next number, and the numbers
    /// continue after a restart of the daemon. If a number is missing, that entry was damaged or
    /// was never written.
    pub seq: u64,
    /// Time at which the entry was added, by the wall clock in UTC: RFC 3339 with milliseconds.
    pub time: String,
    /// The recorded value: the event that happened.
    #[serde(flatten)]
    pub what: T,
}

/// The journal: the newest entries, sorted from old to new, and the handle of the thread that
/// writes the files.
#[derive(Debug)]
pub struct Journal<T> {
    /// The entries in memory, at most [`MAX_ENTRIES`].
    entries: VecDeque<Entry<T>>,
    /// The number of the newest entry.
    last_seq: u64,
    /// The number of lines that were skipped when the files were read.
    damaged: usize,
    /// The handle of the thread that writes the files, or the reason why there is no such thread.
    writer: Result<WriterHandle, String>,
}

impl<T: Clone + Serialize + DeserializeOwned> Journal<T> {
    /// Opens the journal in this folder. If the folder is missing, creates it, with access for its
    /// owner only.
    ///
    /// No other process may use the folder at the same time. The lock of the state directory
    /// guarantees this. Two journals in one folder would use the same numbers twice and would
    /// overwrite the files of each other.
    ///
    /// # Errors
    /// When the folder cannot be created, a file in it cannot be read, or the writing thread cannot
    /// start. `open` does not test whether the files can be written. If a later write fails,
    /// [`Journal::trouble`] returns the reason.
    pub fn open(folder: &Path) -> io::Result<Self> {
        let (text, writer) = disk::open(folder)?;
        let (mut entries, mut damaged) = (VecDeque::new(), 0);
        for piece in pieces(&text) {
            match entry(piece) {
                Some(entry) => entries.push_back(entry),
                None => damaged += 1,
            }
        }
        let last_seq = entries.iter().map(|entry: &Entry<T>| entry.seq).max().unwrap_or_default();
        entries.drain(..entries.len().saturating_sub(MAX_ENTRIES));
        Ok(Self { entries, last_seq, damaged, writer: Ok(writer) })
    }

    /// Makes a journal in memory only. Its entries are lost at the end of the process.
    /// [`Journal::trouble`] then returns `why`.
    pub fn in_memory(why: impl Into<String>) -> Self {
        Self { entries: VecDeque::new(), last_seq: 0, damaged: 0, writer: Err(why.into()) }
    }

    /// Adds an entry with the present time, and queues its line for the disk. A line above
    /// `MAX_LINE_BYTES` is logged as an error and not queued. The call never waits for the disk.
    pub fn add(&mut self, what: T) {
        self.last_seq += 1;
        let time = humantime::format_rfc3339_millis(SystemTime::now()).to_string();
        let entry = Entry { seq: self.last_seq, time, what };
        if let Ok(writer) = &self.writer {
            let line = line(&entry);
            if line.len() <= MAX_LINE_BYTES {
                writer.write(line);
            } else {
                tracing::error!(
                    "an entry of the history has {} bytes, which is too long: the entry is not \
                     written to the disk",
                    line.len()
                );
            }
        }
        if self.entries.len() == MAX_ENTRIES {
            self.entries.pop_front();
        }
        self.entries.push_back(entry);
    }

    /// Checks whether the present write has already taken more than five seconds. If so,
    /// [`Journal::trouble`] returns this reason until the write ends. The daemon calls this
    /// function every few seconds. The call never waits for the disk.
    pub fn check_lateness(&self) {
        if let Ok(writer) = &self.writer {
            writer.check_lateness();
        }
    }

    /// Returns the number of the newest entry, or 0 if there is no entry yet. Returns `None` for a
    /// journal in memory, because the numbers begin with 1 again after a restart.
    pub fn last_seq(&self) -> Option<u64> {
        self.writer.is_ok().then_some(self.last_seq)
    }

    /// Returns the newest entries for which `is_meant` is true: at most `limit`, sorted from old to
    /// new.
    pub fn newest(&self, limit: usize, is_meant: impl Fn(&T) -> bool) -> Vec<Entry<T>> {
        let meant = self.entries.iter().rev().filter(|entry| is_meant(&entry.what));
        let mut newest: Vec<_> = meant.take(limit).cloned().collect();
        newest.reverse();
        newest
    }

    /// Returns the number of lines that were skipped when the journal was opened. Such a line is
    /// damaged, or it has contents that this version of the daemon does not know.
    pub fn damaged(&self) -> usize {
        self.damaged
    }

    /// Returns the reason why new entries do not reach the disk; `None` if no such reason is known.
    /// For a journal in memory, returns the reason that [`Journal::in_memory`] got.
    pub fn trouble(&self) -> Option<String> {
        match &self.writer {
            Ok(writer) => writer.trouble(),
            Err(why) => Some(why.clone()),
        }
    }
}

/// Encodes an entry as a line of the file, with the line end.
fn line<T: Serialize>(entry: &Entry<T>) -> Vec<u8> {
    let mut line = serde_json::to_vec(entry).expect("all maps of an entry have strings as keys");
    line.pop(); // the brace; the checksum comes before it
    let seal = seal(&line);
    line.extend(seal.as_bytes());
    line.push(b'\n');
    line
}

/// Returns the end of a line: the checksum of the bytes before it, and the closing brace.
fn seal(line: &[u8]) -> String {
    let hash = blake3::hash(line).to_hex();
    format!(r#","check":"{}"}}"#, &hash[..CHECK_DIGITS])
}

/// Splits the text of the files into pieces. Each piece is one entry, complete or damaged.
fn pieces(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let lines = text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    lines.flat_map(|line| {
        let is_start = |at: &usize| *at == 0 || line[*at..].starts_with(START);
        let mut bounds: Vec<usize> = (0..line.len()).filter(is_start).collect();
        bounds.push(line.len());
        bounds.windows(2).map(|pair| &line[pair[0]..pair[1]]).collect::<Vec<_>>()
    })
}

/// Decodes a line. Returns `None` if the line is damaged, or if this version of the daemon does not
/// know its contents.
fn entry<T: DeserializeOwned>(line: &[u8]) -> Option<Entry<T>> {
    let (body, end) = line.split_at_checked(line.len().checked_sub(seal(b"").len())?)?;
    if end != seal(body).as_bytes() {
        return None;
    }
    serde_json::from_slice(&[body, b"}"].concat()).ok()
}

#[cfg(test)]
mod tests;
