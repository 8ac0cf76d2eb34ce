//! The files of the journal, and the thread that writes them.
//!
//! There are two files. New lines go to the end of `history.jsonl`. When this file is full, it is
//! renamed to `history.1.jsonl`, which replaces the older file of that name. Each line is written
//! by one call, so a kill of the process leaves only complete lines. The thread syncs the file
//! after each batch of lines. So after a power failure the journal contains the entries of all
//! batches before the last sync. A sync takes some milliseconds and happens a few times an hour. No
//! other thread waits for it.
//!
//! If the disk fails or is full, the daemon writes one line to its log (stderr or journald). When
//! the disk works again, the daemon writes another line to its log. Until the disk works again,
//! lines for the journal wait in memory, up to a limit. `journal.rs` has the entries.

use std::collections::VecDeque;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::file;
use crate::thread::named;

/// The name of the file to which lines are added.
const CURRENT: &str = "history.jsonl";

/// The name of the last full file. It was `history.jsonl` before.
const FORMER: &str = "history.1.jsonl";

/// The maximum size of one file, in bytes. It is enough for more than a thousand receipts. A plant
/// with changes every day fills the file in some weeks. The two files together use 1 MB of a small
/// memory card.
pub(super) const MAX_FILE_BYTES: u64 = 512 << 10;

/// The maximum number of lines in the queue to the thread. If a hundred plugins start together, the
/// daemon makes some hundred lines in a few milliseconds.
const MAX_QUEUED: usize = 1024;

/// The maximum number of lines that wait while the disk fails. A line has about 500 bytes. If more
/// lines wait, the oldest lines are lost.
const MAX_WAITING: usize = 1024;

/// The pause before the thread tries a failed disk again. A new line ends the pause.
const RETRY_PAUSE: Duration = Duration::from_secs(10);

/// The time for the thread to write the queued lines at the end of the process. This time is longer
/// than a sync of a slow memory card, and shorter than the time limit for the end of the process
/// (`daemon/stop.rs`).
const LEAVE_TIME: Duration = Duration::from_secs(1);

/// If a write takes longer than this time, the journal reports that the disk does not answer. Even
/// a worn memory card writes faster. A longer time would delay the message to the operator.
const STALLED: Duration = Duration::from_secs(5);

/// The time at which the present write began. `None` if no write is in progress. The writing thread
/// sets this value, and the handle reads it.
type Began = Arc<Mutex<Option<Instant>>>;

/// The reason why lines are not written at present. `None` if lines are written. The thread and the
/// handle set this value. The daemon reads it through the handle.
type Trouble = Arc<Mutex<Option<String>>>;

/// The handle of the writing thread. The journal passes lines to the thread through this handle.
/// When the handle is dropped, it waits until the lines are written, but at most [`LEAVE_TIME`].
#[derive(Debug)]
pub(super) struct WriterHandle {
    /// The queue to the thread. The drop of the handle closes the queue, and the thread then ends.
    lines: Option<SyncSender<Vec<u8>>>,
    trouble: Trouble,
    began: Began,
    /// Path of the folder. Error messages contain this path.
    folder: PathBuf,
    /// A channel without messages. The end of the thread closes the channel, so the handle can wait
    /// for the end of the thread.
    ended: Receiver<()>,
}

impl WriterHandle {
    /// Queues a line for the thread. If the queue is full or the thread has ended, the line is
    /// lost, and the trouble is set. The queue becomes full only if the disk has not answered for a
    /// long time.
    pub(super) fn write(&self, line: Vec<u8>) {
        let lines = self.lines.as_ref().expect("the queue exists until the handle is dropped");
        if lines.try_send(line).is_err() {
            let why = "the disk is too slow; entries of the history are lost";
            change(&self.trouble, Some(why.into()));
        }
    }

    /// If the present write has taken longer than [`STALLED`] and no trouble is recorded, records
    /// this as trouble. The writing thread cannot record it, because this thread waits for the end
    /// of the write.
    pub(super) fn check_lateness(&self) {
        // This function holds the lock until it has recorded the trouble. The writing thread needs
        // this lock when a write ends, and clears the trouble after that. So the thread cannot
        // clear the trouble too early.
        let began = self.began.lock().unwrap_or_else(PoisonError::into_inner);
        if began.is_some_and(|began| began.elapsed() > STALLED) && self.trouble().is_none() {
            let why = format!("{}: no answer for {STALLED:?}", self.folder.display());
            change(&self.trouble, Some(why));
        }
    }

    /// Returns the reason why lines are not written at present. `None` if lines are written.
    pub(super) fn trouble(&self) -> Option<String> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for WriterHandle {
    fn drop(&mut self) {
        self.lines.take();
        // A disk that hangs must not delay the end of the process.
        let _ = self.ended.recv_timeout(LEAVE_TIME);
    }
}

/// Returns the contents of both files, the older file first, and starts the writing thread.
pub(super) fn open(folder: &Path) -> io::Result<(Vec<u8>, WriterHandle)> {
    make(folder)?;
    let mut text = read(&folder.join(FORMER))?;
    text.push(b'\n');
    text.append(&mut read(&folder.join(CURRENT))?);
    let (lines, inbox) = sync_channel(MAX_QUEUED);
    let (alive, ended) = sync_channel(0);
    let (trouble, began) = (Trouble::default(), Began::default());
    let mut writer = Writer {
        folder: folder.to_path_buf(),
        current: None,
        waiting: VecDeque::new(),
        trouble: Arc::clone(&trouble),
        began: Arc::clone(&began),
    };
    let folder = folder.to_path_buf();
    named("journal").spawn(move || {
        writer.work(&inbox);
        drop::<SyncSender<()>>(alive);
    })?;
    Ok((text, WriterHandle { lines: Some(lines), trouble, began, folder, ended }))
}

/// Creates the folder if it is missing. Only its owner can access it.
fn make(folder: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

/// Returns the last bytes of a file, at most twice [`MAX_FILE_BYTES`]. A missing file has no bytes.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    let mut file = match file::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(text),
        Err(error) => {
            return Err(io::Error::new(error.kind(), format!("{}: {error}", path.display())));
        }
    };
    let most = 2 * MAX_FILE_BYTES;
    file.seek(SeekFrom::Start(file.metadata()?.len().saturating_sub(most)))?;
    file.take(most).read_to_end(&mut text)?;
    Ok(text)
}

/// Sets the trouble to `now`. If the trouble has changed, writes one line to the daemon's log.
fn change(trouble: &Trouble, now: Option<String>) {
    let mut before = trouble.lock().unwrap_or_else(PoisonError::into_inner);
    match &now {
        same if *same == *before => {}
        Some(why) => tracing::error!(
            error = why,
            "new entries of the history are not written to the disk: {why}"
        ),
        None => tracing::info!(
            "new entries of the history are written to the disk again, after an error"
        ),
    }
    *before = now;
}

/// The data of the thread that writes the files.
struct Writer {
    folder: PathBuf,
    /// The file to which lines are added, and its length in bytes. `None` before the first line and
    /// after an error.
    current: Option<(File, u64)>,
    /// The lines that are not written yet, the oldest first.
    waiting: VecDeque<Vec<u8>>,
    trouble: Trouble,
    began: Began,
}

impl Writer {
    /// Writes lines until the handle is dropped.
    fn work(&mut self, lines: &Receiver<Vec<u8>>) {
        loop {
            let next = match self.waiting.is_empty() {
                true => lines.recv().map_err(|_| RecvTimeoutError::Disconnected),
                false => lines.recv_timeout(RETRY_PAUSE),
            };
            let is_over = next == Err(RecvTimeoutError::Disconnected);
            for line in next.into_iter().chain(lines.try_iter()) {
                if self.waiting.len() == MAX_WAITING {
                    self.waiting.pop_front();
                }
                self.waiting.push_back(line);
            }
            if !self.waiting.is_empty() {
                self.begins(Some(Instant::now()));
                let why = self.write().err();
                self.begins(None);
                let folder = self.folder.display();
                change(&self.trouble, why.map(|error| format!("{folder}: {error}")));
            }
            if is_over {
                return;
            }
        }
    }

    /// Records that a write begins at the time `now`. `None` records that the write has ended.
    fn begins(&self, now: Option<Instant>) {
        *self.began.lock().unwrap_or_else(PoisonError::into_inner) = now;
    }

    /// Writes the waiting lines and then syncs the file. If the write of a line fails, that line
    /// and the lines after it stay in `waiting`.
    fn write(&mut self) -> io::Result<()> {
        while let Some(line) = self.waiting.pop_front() {
            if let Err(error) = self.append(&line) {
                self.waiting.push_front(line);
                return Err(error);
            }
        }
        self.current.as_ref().map_or(Ok(()), |(file, _)| file.sync_data())
    }

    /// Writes one line to the end of `history.jsonl`. If this file would become longer than
    /// [`MAX_FILE_BYTES`], renames it to `history.1.jsonl` first and begins a new file.
    fn append(&mut self, line: &[u8]) -> io::Result<()> {
        let (mut file, mut len) = match self.current.take() {
            // If an administrator has removed the file, a new file is begun.
            Some((file, len)) if file.metadata()?.nlink() > 0 => (file, len),
            _ => self.begin()?,
        };
        if len > 0 && len + line.len() as u64 > MAX_FILE_BYTES {
            file.sync_all()?;
            fs::rename(self.folder.join(CURRENT), self.folder.join(FORMER))?;
            (file, len) = self.begin()?;
        }
        if let Err(error) = file.write_all(line) {
            // The partly written line is removed from the file. If the removal also fails, the line
            // is damaged, and the next start of the daemon skips it.
            let _ = file.set_len(len);
            return Err(error);
        }
        self.current = Some((file, len + line.len() as u64));
        Ok(())
    }

    /// Opens the file to which lines are added, or creates it. If its last line has no line end,
    /// adds one. Returns the file and its length in bytes.
    fn begin(&self) -> io::Result<(File, u64)> {
        make(&self.folder)?;
        let mut options = OpenOptions::new();
        options.read(true).append(true).create(true).mode(0o600);
        let mut file = options.open(self.folder.join(CURRENT))?;
        File::open(&self.folder)?.sync_all()?;
        let len = file.metadata()?.len();
        let mut last = [b'\n'];
        if len > 0 {
            file.read_exact_at(&mut last, len - 1)?;
        }
        if last != [b'\n'] {
            // The last line has no line end, because the power failed during its write.
            file.write_all(b"\n")?;
            return Ok((file, len + 1));
        }
        Ok((file, len))
    }
}
