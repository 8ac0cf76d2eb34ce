//! The journal's files, and the thread that writes them.
//!
//! There are two files. `history.jsonl` grows; when it is full, it gets the name `history.1.jsonl`
//! and replaces the file of that name. Each line is one write to the end of the file, so if the
//! process is killed, all lines are whole. The thread syncs the file after each batch of lines,
//! because a receipt explains what a machine did before a power failure. A sync takes some
//! milliseconds, a few times an hour, and no other thread waits for it.
//!
//! When the disk fails or is full, the log gets one line, and another line when the disk works
//! again. Between these two, lines wait in memory, up to a limit. The entries themselves are in
//! `../journal.rs`.

use std::collections::VecDeque;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::file;

/// Name of the file that grows.
const CURRENT: &str = "history.jsonl";

/// Name of the full file that was `history.jsonl` before.
const FORMER: &str = "history.1.jsonl";

/// Most bytes of one file: room for more than a thousand receipts, which a plant with changes every
/// day makes in weeks. Two files take a megabyte of a small card.
pub(super) const MAX_FILE_BYTES: u64 = 512 << 10;

/// Most lines in the queue to the thread. If a hundred plugins start together, the daemon makes a
/// few hundred lines in a few milliseconds.
const MAX_QUEUED: usize = 1024;

/// Most lines that wait while the disk fails, at about 500 bytes each. After that the oldest lines
/// are lost.
const MAX_WAITING: usize = 1024;

/// Pause before the thread tries a failing disk again, if there is no new line.
const RETRY_PAUSE: Duration = Duration::from_secs(10);

/// Time for the thread to write the queued lines when the process ends. The time is longer than a
/// slow card takes to sync, and shorter than the time that the process has for its end
/// (`daemon/stop.rs`).
const LEAVE_TIME: Duration = Duration::from_secs(1);

/// Longest time of a write. After it the disk counts as one that does not answer. Even a card that
/// is wearing out is faster, and an operator should get a message no later than this.
const STALLED: Duration = Duration::from_secs(5);

/// When the present write began; `None` if no write is under way. The writing thread sets the
/// value; the handle reads it.
type Began = Arc<Mutex<Option<Instant>>>;

/// Why lines are not written at present; `None` if they are written. The thread and the handle
/// write this value, and the daemon reads it through the handle.
type Trouble = Arc<Mutex<Option<String>>>;

/// The handle of the thread, through which the journal sends it lines. The drop of the handle waits
/// until the lines are written, for [`LEAVE_TIME`] at most.
#[derive(Debug)]
pub(super) struct WriterHandle {
    lines: Option<SyncSender<Vec<u8>>>,
    trouble: Trouble,
    began: Began,
    /// Folder of the files, for messages.
    folder: PathBuf,
    /// The receiving end of a channel on which no message is ever sent; the end of the thread
    /// closes it.
    ended: Receiver<()>,
}

impl WriterHandle {
    /// Queues a line. The queue is full only if the disk has taken no line for a long time; in that
    /// case the line is lost.
    pub(super) fn write(&self, line: Vec<u8>) {
        let lines = self.lines.as_ref().expect("only the end takes it");
        if lines.try_send(line).is_err() {
            let why = "the disk does not keep up; receipts are lost";
            change(&self.trouble, Some(why.into()));
        }
    }

    /// Records that a write takes too long. The writing thread cannot record this itself, because
    /// it waits for the write.
    pub(super) fn look(&self) {
        // The lock is held until the trouble is recorded. If the write ends now, the thread clears
        // the trouble after that.
        let began = self.began.lock().unwrap_or_else(PoisonError::into_inner);
        if began.is_some_and(|began| began.elapsed() > STALLED) && self.trouble().is_none() {
            let why = format!("{}: no answer for {STALLED:?}", self.folder.display());
            change(&self.trouble, Some(why));
        }
    }

    /// Why lines are not written at present; `None` if they are written.
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

/// Returns the text of the folder's files, oldest first, and starts the thread that writes more.
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
    std::thread::Builder::new().name("journal".into()).spawn(move || {
        writer.work(&inbox);
        drop::<SyncSender<()>>(alive);
    })?;
    Ok((text, WriterHandle { lines: Some(lines), trouble, began, folder, ended }))
}

/// Makes the folder if it is missing, with access for its owner only.
fn make(folder: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

/// The last bytes of a file, at most twice [`MAX_FILE_BYTES`].
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

/// Sets the trouble to `now`, and logs one line if it has changed.
fn change(trouble: &Trouble, now: Option<String>) {
    let mut before = trouble.lock().unwrap_or_else(PoisonError::into_inner);
    match &now {
        same if *same == *before => {}
        Some(why) => tracing::error!(error = why, "the history is not written: {why}"),
        None => tracing::info!("the history is written again"),
    }
    *before = now;
}

/// The data of the thread that writes the files.
struct Writer {
    folder: PathBuf,
    /// The file that grows, and its length in bytes; `None` before the first line and after an
    /// error.
    current: Option<(File, u64)>,
    /// Lines that are not written yet.
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

    /// Records when the present write began; `None` if no write is under way.
    fn begins(&self, now: Option<Instant>) {
        *self.began.lock().unwrap_or_else(PoisonError::into_inner) = now;
    }

    /// Writes the waiting lines. If a write fails, the lines that are left wait on.
    fn write(&mut self) -> io::Result<()> {
        while let Some(line) = self.waiting.pop_front() {
            if let Err(error) = self.append(&line) {
                self.waiting.push_front(line);
                return Err(error);
            }
        }
        self.current.as_ref().map_or(Ok(()), |(file, _)| file.sync_data())
    }

    /// Writes one line to the end of the file. If the file is full, a new file is begun first.
    fn append(&mut self, line: &[u8]) -> io::Result<()> {
        let (mut file, mut len) = match self.current.take() {
            // An administrator may have removed the file.
            Some((file, len)) if file.metadata()?.nlink() > 0 => (file, len),
            _ => self.begin()?,
        };
        if len > 0 && len + line.len() as u64 > MAX_FILE_BYTES {
            file.sync_all()?;
            fs::rename(self.folder.join(CURRENT), self.folder.join(FORMER))?;
            (file, len) = self.begin()?;
        }
        if let Err(error) = file.write_all(line) {
            // A half-written line is removed from the file. If that fails too, the line is skipped
            // at reading.
            let _ = file.set_len(len);
            return Err(error);
        }
        self.current = Some((file, len + line.len() as u64));
        Ok(())
    }

    /// Opens the file that grows, or begins a new one; returns it with its length in bytes.
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
            // The last line has no end, because the power failed while it was written.
            file.write_all(b"\n")?;
            return Ok((file, len + 1));
        }
        Ok((file, len))
    }
}
