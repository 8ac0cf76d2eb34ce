//! A bounded journal: numbered and dated entries that outlive the daemon.
//!
//! The journal knows nothing of plugins: an entry is a number, a time and any value that its owner
//! records. The newest entries are in memory and are read from memory, so that no reader waits for
//! a disk. Each entry is also a line of JSON in a file, which a separate thread writes
//! (`journal/disk.rs`). Files are read once, when the journal is opened.
//!
//! ```text
//! daemon ── add ──▶ entries in memory ──▶ readers
//!             └──▶ queue ──▶ thread ──▶ history.jsonl ──▶ history.1.jsonl
//! ```
//!
//! A line ends with a checksum of itself. A torn or damaged line is skipped at reading; the other
//! lines count. The journal repairs no line, and no other part depends on the journal: if there is
//! no disk, the journal is in memory only. `control/receipt.rs` has the type of value that the
//! daemon records.

use std::collections::VecDeque;
use std::io;
use std::path::Path;
use std::time::SystemTime;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

mod disk;

use disk::WriterHandle;

/// Most entries in memory. The files hold as many if an entry has 500 bytes, and in memory they
/// take about 2 MB. Older entries are on the disk only.
pub const MAX_ENTRIES: usize = 2_000;

/// Longest line of a file, in bytes. The largest entry has a reason, a remedy and some names of a
/// few hundred bytes each. A longer line comes from a defect of the daemon and is not written.
const MAX_LINE_BYTES: usize = 16 << 10;

/// The beginning of every line. Inside a text a quote is written as `\"`, so these bytes cannot
/// stand inside an entry. If a line end was lost and two lines are joined, these bytes show where
/// the second line begins.
const START: &[u8] = br#"{"seq":"#;

/// Digits of the checksum. They have 64 bits, which detect accidents but not forgeries.
const CHECK_DIGITS: usize = 16;

/// One entry of the journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry<T> {
    /// Number of the entry. It counts up by one, also over restarts of the daemon. A missing number
    /// means an entry that was damaged or never written.
    pub seq: u64,
    /// Time of the event, by the wall clock in UTC: RFC 3339 with milliseconds.
    pub time: String,
    /// The recorded value: what happened.
    #[serde(flatten)]
    pub what: T,
}

/// The journal: its newest entries, oldest first, and the writer of its files.
#[derive(Debug)]
pub struct Journal<T> {
    entries: VecDeque<Entry<T>>,
    last_seq: u64,
    damaged: usize,
    /// The handle of the thread that writes the files, or the reason why there is no such thread.
    writer: Result<WriterHandle, String>,
}

impl<T: Clone + Serialize + DeserializeOwned> Journal<T> {
    /// Opens the journal in this folder. A missing folder is made, with access for its owner only.
    ///
    /// The caller must be the only one that uses the folder, which the lock of the state directory
    /// guarantees. Two journals in one folder would mix their numbers and would overwrite each
    /// other's files.
    ///
    /// # Errors
    /// The folder cannot be made, read or written. A full disk is no error: entries are written
    /// when the disk has room again.
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

    /// Makes a journal in memory only, which ends with the process. [`Journal::trouble`] returns
    /// `why`.
    pub fn in_memory(why: impl Into<String>) -> Self {
        Self { entries: VecDeque::new(), last_seq: 0, damaged: 0, writer: Err(why.into()) }
    }

    /// Records what happened now. The call never waits.
    pub fn add(&mut self, what: T) {
        self.last_seq += 1;
        let time = humantime::format_rfc3339_millis(SystemTime::now()).to_string();
        let entry = Entry { seq: self.last_seq, time, what };
        if let Ok(writer) = &self.writer {
            let line = line(&entry);
            if line.len() <= MAX_LINE_BYTES {
                writer.write(line);
            } else {
                tracing::error!("a receipt of {} bytes is too long to be written", line.len());
            }
        }
        if self.entries.len() == MAX_ENTRIES {
            self.entries.pop_front();
        }
        self.entries.push_back(entry);
    }

    /// Checks whether the disk still answers, so that [`Journal::trouble`] can say it. The owner
    /// calls this function every few seconds. The call never waits.
    pub fn look(&self) {
        if let Ok(writer) = &self.writer {
            writer.look();
        }
    }

    /// Number of the newest entry; 0 if there never was an entry. `None` for a journal in memory,
    /// because the next journal begins with number 1 again.
    pub fn last_seq(&self) -> Option<u64> {
        self.writer.is_ok().then_some(self.last_seq)
    }

    /// The newest entries for which `is_meant` is true, at most `limit`, oldest first.
    pub fn newest(&self, limit: usize, is_meant: impl Fn(&T) -> bool) -> Vec<Entry<T>> {
        let meant = self.entries.iter().rev().filter(|entry| is_meant(&entry.what));
        let mut newest: Vec<_> = meant.take(limit).cloned().collect();
        newest.reverse();
        newest
    }

    /// Number of lines that were skipped when the journal was opened, because they are torn or
    /// damaged, or because this version does not understand them.
    pub fn damaged(&self) -> usize {
        self.damaged
    }

    /// Why entries would be lost at the end of the process; `None` if they are written to the disk.
    pub fn trouble(&self) -> Option<String> {
        match &self.writer {
            Ok(writer) => writer.trouble(),
            Err(why) => Some(why.clone()),
        }
    }
}

/// An entry as a line of the file, with its line end.
fn line<T: Serialize>(entry: &Entry<T>) -> Vec<u8> {
    let mut line = serde_json::to_vec(entry).expect("what is recorded has text keys");
    line.pop(); // the brace; the checksum comes before it
    let seal = seal(&line);
    line.extend(seal.as_bytes());
    line.push(b'\n');
    line
}

/// The end of a line: the checksum of the bytes before it, and the closing brace.
fn seal(line: &[u8]) -> String {
    let hash = blake3::hash(line).to_hex();
    format!(r#","check":"{}"}}"#, &hash[..CHECK_DIGITS])
}

/// Splits a text into pieces. Each piece is an entry, or a damaged one.
fn pieces(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let lines = text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    lines.flat_map(|line| {
        let is_start = |at: &usize| *at == 0 || line[*at..].starts_with(START);
        let mut bounds: Vec<usize> = (0..line.len()).filter(is_start).collect();
        bounds.push(line.len());
        bounds.windows(2).map(|pair| &line[pair[0]..pair[1]]).collect::<Vec<_>>()
    })
}

/// The entry in a line, if the line is whole and this version understands it.
fn entry<T: DeserializeOwned>(line: &[u8]) -> Option<Entry<T>> {
    let (body, end) = line.split_at_checked(line.len().checked_sub(seal(b"").len())?)?;
    if end != seal(body).as_bytes() {
        return None;
    }
    serde_json::from_slice(&[body, b"}"].concat()).ok()
}

#[cfg(test)]
mod tests;
