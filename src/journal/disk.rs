//! The journal's files, and the thread that writes them.
//!
//! There are two: `history.jsonl` grows; when it is full it becomes `history.1.jsonl`, in the place
//! of the one before. Each line is one write to the end of the file, so a process that is killed
//! leaves whole lines. After each batch the file is synced, for a receipt explains what a machine
//! did before the power went; that costs some milliseconds of a thread for which nobody waits, a
//! few times an hour.
//!
//! A disk that fails or is full is told in one log line, and in another when it is over. Until then
//! lines wait in memory, up to a limit.

use std::collections::VecDeque;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::file;

/// The file that grows.
const CURRENT: &str = "history.jsonl";

/// The one before.
const FORMER: &str = "history.1.jsonl";

/// Most bytes of one file: a thousand receipts and more, which is weeks of a plant that is worked
/// on every day, and two of them are a megabyte of a small card.
pub(super) const MAX_FILE_BYTES: u64 = 512 << 10;

/// Lines on their way to the thread. A folder of a hundred plugins that all start at once makes
/// some hundred in a few milliseconds.
const MAX_QUEUED: usize = 1024;

/// Lines that wait for a disk that fails, at about 500 bytes each; then the oldest are lost.
const MAX_WAITING: usize = 1024;

/// Before a failing disk is tried again if nothing new is to be written.
const RETRY_PAUSE: Duration = Duration::from_secs(10);

/// What the thread gets at the end to write what is queued. Longer than a slow card takes to sync,
/// and a part of what the process has for its way to the end (`daemon/stop.rs`).
const FAREWELL_TIME: Duration = Duration::from_secs(1);

/// A write that takes longer gives no answer: longer than a card that is wearing out takes, and no
/// longer than people wait without a word.
const STALLED: Duration = Duration::from_secs(5);

/// When the write that is under way began. The thread writes it, whoever looks after the journal
/// reads it.
type Began = Arc<Mutex<Option<Instant>>>;

/// Why lines are not written at present. The thread and whoever hands it lines write it, the
/// daemon reads it.
type Trouble = Arc<Mutex<Option<String>>>;

/// Hands lines to the thread. Dropping it waits until they are written, for a while.
#[derive(Debug)]
pub(super) struct WriterHandle {
    lines: Option<SyncSender<Vec<u8>>>,
    trouble: Trouble,
    began: Began,
    /// Whose disk it is.
    folder: PathBuf,
    /// Nothing is ever sent: the thread's end closes it.
    ended: Receiver<()>,
}

impl WriterHandle {
    /// Queues a line, or loses it when the disk has not taken any for a long time.
    pub(super) fn write(&self, line: Vec<u8>) {
        let lines = self.lines.as_ref().expect("only the end takes it");
        if lines.try_send(line).is_err() {
            let why = "the disk does not keep up; receipts are lost";
            change(&self.trouble, Some(why.into()));
        }
    }

    /// Takes note of a write that gets no answer. The thread cannot, which waits for it.
    pub(super) fn look(&self) {
        // Held until it is noted: a write that ends now takes it back afterwards.
        let began = self.began.lock().unwrap_or_else(PoisonError::into_inner);
        if began.is_some_and(|began| began.elapsed() > STALLED) && self.trouble().is_none() {
            let why = format!("{}: no answer for {STALLED:?}", self.folder.display());
            change(&self.trouble, Some(why));
        }
    }

    /// Why lines are not written at present.
    pub(super) fn trouble(&self) -> Option<String> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for WriterHandle {
    fn drop(&mut self) {
        self.lines.take();
        // A disk that hangs must not keep the process from its end.
        let _ = self.ended.recv_timeout(FAREWELL_TIME);
    }
}

/// What the folder's files say, oldest first, and a writer to write more.
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

fn make(folder: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

/// The end of a file, or all of it if it is no longer than it should be.
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

/// Says what has changed about the trouble: one line each time.
fn change(trouble: &Trouble, now: Option<String>) {
    let mut before = trouble.lock().unwrap_or_else(PoisonError::into_inner);
    match &now {
        same if *same == *before => {}
        Some(why) => tracing::error!(error = why, "the history is not written: {why}"),
        None => tracing::info!("the history is written again"),
    }
    *before = now;
}

/// The thread's own.
struct Writer {
    folder: PathBuf,
    /// The file that grows, and how long it is; `None` before the first line.
    current: Option<(File, u64)>,
    /// Lines that are not written yet.
    waiting: VecDeque<Vec<u8>>,
    trouble: Trouble,
    began: Began,
}

impl Writer {
    /// Writes lines until nobody can send any more.
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

    fn begins(&self, now: Option<Instant>) {
        *self.began.lock().unwrap_or_else(PoisonError::into_inner) = now;
    }

    /// Writes what waits; the rest stays when it fails.
    fn write(&mut self) -> io::Result<()> {
        while let Some(line) = self.waiting.pop_front() {
            if let Err(error) = self.append(&line) {
                self.waiting.push_front(line);
                return Err(error);
            }
        }
        self.current.as_ref().map_or(Ok(()), |(file, _)| file.sync_data())
    }

    fn append(&mut self, line: &[u8]) -> io::Result<()> {
        let (mut file, mut len) = match self.current.take() {
            // Somebody who tidies up may have removed it.
            Some((file, len)) if file.metadata()?.nlink() > 0 => (file, len),
            _ => self.begin()?,
        };
        if len > 0 && len + line.len() as u64 > MAX_FILE_BYTES {
            file.sync_all()?;
            fs::rename(self.folder.join(CURRENT), self.folder.join(FORMER))?;
            (file, len) = self.begin()?;
        }
        if let Err(error) = file.write_all(line) {
            // Half a line is taken back. If even that fails, it is passed over at reading.
            let _ = file.set_len(len);
            return Err(error);
        }
        self.current = Some((file, len + line.len() as u64));
        Ok(())
    }

    /// Opens the file that grows, or begins a new one, and gives its length.
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
            // The power went in the middle of a line.
            file.write_all(b"\n")?;
            return Ok((file, len + 1));
        }
        Ok((file, len))
    }
}
