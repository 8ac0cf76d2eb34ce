//! The folder of reports, and how much it may hold.
//!
//! Private like the state directory that it lies in: a report has a plant's values in it. A file is
//! there whole or not at all.

use std::fs;
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use super::Report;
use crate::state::put_whole;

/// Reports that are kept: enough for every plugin of a plant to crash in a night, and few enough to
/// look through.
pub const MAX_FILES: usize = 20;

/// Bytes of all reports together: that many of ordinary plugins, or one at every limit.
pub const MAX_FOLDER_BYTES: u64 = 64 << 20;

/// The end of a report's name.
const EXTENSION: &str = "crash";

/// A folder of reports.
#[derive(Debug)]
pub struct ReportStore {
    folder: PathBuf,
    /// One report is written at a time.
    turn: Mutex<()>,
}

impl ReportStore {
    /// The folder need not be there yet.
    pub fn new(folder: PathBuf) -> Self {
        Self { folder, turn: Mutex::new(()) }
    }

    /// Puts a report there and lets the oldest go; says where it is.
    ///
    /// # Errors
    /// When it cannot be written; then nothing of it is there.
    pub fn put(&self, report: &Report) -> io::Result<PathBuf> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.folder)?;
        let head = &report.head;
        let hash = head.hash.get(..16).unwrap_or(&head.hash);
        let name = format!("{}-{}-{hash}.{EXTENSION}", head.plugin, head.trap.cycle);
        let (half, path) = (self.folder.join(format!(".{name}.tmp")), self.folder.join(name));
        let written = put_whole(&half, &path, |file| {
            let mut buffered = BufWriter::new(file);
            report.write(&mut buffered)?;
            buffered.flush()
        });
        // The name is on disk only when the folder is.
        let written = written.and_then(|()| fs::File::open(&self.folder)?.sync_all());
        self.make_room(&path);
        written.map(|()| path)
    }

    /// Deletes the oldest reports until the rest is within the limits. The newest stays, and so
    /// does what is no report; halves that a power failure has left go.
    fn make_room(&self, newest: &Path) {
        let Ok(entries) = fs::read_dir(&self.folder) else { return };
        let mut files = Vec::new();
        for entry in entries.flatten() {
            let path = entry.path();
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if name.starts_with('.') && name.ends_with(".crash.tmp") {
                let _ = fs::remove_file(&path);
            } else if path.extension().is_some_and(|end| end == EXTENSION)
                && let Ok(about) = entry.metadata()
                && let Ok(modified) = about.modified()
            {
                files.push((path != newest, std::cmp::Reverse(modified), about.len(), path));
            }
        }
        // The newest first.
        files.sort();
        let (mut count, mut bytes) = (0, 0);
        for (is_older, _, len, path) in files {
            (count, bytes) = (count + 1, bytes + len);
            if is_older && (count > MAX_FILES || bytes > MAX_FOLDER_BYTES) {
                let _ = fs::remove_file(path);
            }
        }
    }
}
