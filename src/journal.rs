//! A bounded journal: what happened, numbered and dated, kept over restarts.
//!
//! It knows nothing of plugins: an entry is a number, a time and whatever its owner records. The
//! newest entries are in memory, where they are read, so that nobody waits for a disk to look at
//! them; each is also a line of JSON in a file, written by a thread of its own in
//! `journal/disk.rs`. Files are read once, at opening.
//!
//! A line ends with a checksum of itself. One that is torn or damaged is passed over at reading;
//! the others count. Nothing is repaired and nothing depends on the journal: without a disk it is
//! kept in memory alone.

use std::collections::VecDeque;
use std::io;
use std::path::Path;
use std::time::SystemTime;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

mod disk;

use disk::WriterHandle;

/// Entries in memory: as many as the files hold if they have 500 bytes each, which takes about
/// 2 MB. What is older is on the disk only.
pub const MAX_ENTRIES: usize = 2_000;

/// Longest line. The largest entry has a reason, a remedy and some names of a few hundred bytes
/// each; what is longer is a mistake, and is not written.
const MAX_LINE_BYTES: usize = 16 << 10;

/// How every line begins. A quote within a text is written as `\"`, so this is nowhere else: where
/// a lost line end has joined two lines, it tells where the second begins.
const START: &[u8] = br#"{"seq":"#;

/// Digits of the checksum: 64 bits, against accidents and not against forgers.
const CHECK_DIGITS: usize = 16;

/// One entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry<T> {
    /// Counts up by one, over restarts. A gap is an entry that was damaged or never written.
    pub seq: u64,
    /// By the wall clock, in UTC: RFC 3339 with milliseconds.
    pub time: String,
    /// What happened.
    #[serde(flatten)]
    pub what: T,
}

/// What happened, oldest first.
#[derive(Debug)]
pub struct Journal<T> {
    entries: VecDeque<Entry<T>>,
    last_seq: u64,
    damaged: usize,
    /// Or why nothing is written.
    writer: Result<WriterHandle, String>,
}

impl<T: Clone + Serialize + DeserializeOwned> Journal<T> {
    /// Opens the journal in this folder, which is made if it is not there: for its owner alone. Two
    /// journals in one folder would mix their numbers, and rotate each other's files away: whoever
    /// opens it has the folder to itself, as the lock of the state directory grants.
    ///
    /// # Errors
    /// When the folder cannot be made, read or written. A full disk is not one: what is recorded is
    /// written when there is room.
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

    /// A journal that is forgotten at the end; `why` is its trouble.
    pub fn in_memory(why: impl Into<String>) -> Self {
        Self { entries: VecDeque::new(), last_seq: 0, damaged: 0, writer: Err(why.into()) }
    }

    /// Records what happened now. Never waits.
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

    /// Takes note of a disk that gives no answer, for [`Journal::trouble`]. To be called now and
    /// then; never waits.
    pub fn look(&self) {
        if let Ok(writer) = &self.writer {
            writer.look();
        }
    }

    /// The number of the newest entry, 0 if there was none ever; `None` of a journal in memory,
    /// whose numbers mean nothing to the next one.
    pub fn last_seq(&self) -> Option<u64> {
        self.writer.is_ok().then_some(self.last_seq)
    }

    /// The newest `limit` of those that are meant, oldest first.
    pub fn newest(&self, limit: usize, is_meant: impl Fn(&T) -> bool) -> Vec<Entry<T>> {
        let meant = self.entries.iter().rev().filter(|entry| is_meant(&entry.what));
        let mut newest: Vec<_> = meant.take(limit).cloned().collect();
        newest.reverse();
        newest
    }

    /// Lines that were passed over when it was opened, because they are torn or changed, or make no
    /// sense to this version.
    pub fn damaged(&self) -> usize {
        self.damaged
    }

    /// Why what is recorded would be lost with the process; `None` when it is written.
    pub fn trouble(&self) -> Option<String> {
        match &self.writer {
            Ok(writer) => writer.trouble(),
            Err(why) => Some(why.clone()),
        }
    }
}

/// An entry as it stands in the file, with its line end.
fn line<T: Serialize>(entry: &Entry<T>) -> Vec<u8> {
    let mut line = serde_json::to_vec(entry).expect("what is recorded has text keys");
    line.pop(); // the brace; the checksum comes before it
    let seal = seal(&line);
    line.extend(seal.as_bytes());
    line.push(b'\n');
    line
}

/// What ends a line that begins like this.
fn seal(line: &[u8]) -> String {
    let hash = blake3::hash(line).to_hex();
    format!(r#","check":"{}"}}"#, &hash[..CHECK_DIGITS])
}

/// Every piece of a text of lines that is an entry, or was one.
fn pieces(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let lines = text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    lines.flat_map(|line| {
        let is_start = |at: &usize| *at == 0 || line[*at..].starts_with(START);
        let mut bounds: Vec<usize> = (0..line.len()).filter(is_start).collect();
        bounds.push(line.len());
        bounds.windows(2).map(|pair| &line[pair[0]..pair[1]]).collect::<Vec<_>>()
    })
}

/// The entry in a line, if the line is whole and makes sense to this version.
fn entry<T: DeserializeOwned>(line: &[u8]) -> Option<Entry<T>> {
    let (body, end) = line.split_at_checked(line.len().checked_sub(seal(b"").len())?)?;
    if end != seal(body).as_bytes() {
        return None;
    }
    serde_json::from_slice(&[body, b"}"].concat()).ok()
}

#[cfg(test)]
mod tests;
