//! The folder of crash reports, and the limits of how much it holds.
//!
//! The folder is private, like the state directory that it lies in, because a report contains
//! values of a plant. A report's file appears in the folder whole or not at all. The format of a
//! report is in `file.rs`.

use std::fs;
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use super::Report;
use crate::state::put_whole;

/// Most reports in the folder. Twenty are enough for every plugin of a plant to crash in a night,
/// and few enough for a person to look through.
pub const MAX_FILES: usize = 20;

/// Most bytes of all reports together: enough for [`MAX_FILES`] reports of ordinary plugins, or for
/// one report at every limit.
pub const MAX_FOLDER_BYTES: u64 = 64 << 20;

/// The extension of a report's file name.
const EXTENSION: &str = "crash";

/// The folder of reports.
#[derive(Debug)]
pub struct ReportStore {
    folder: PathBuf,
    /// A lock that a thread holds while it writes a report, so that reports are written one at a
    /// time.
    turn: Mutex<()>,
}

impl ReportStore {
    /// A store in `folder`, which need not exist yet.
    pub fn new(folder: PathBuf) -> Self {
        Self { folder, turn: Mutex::new(()) }
    }

    /// Writes a report into the folder, deletes the oldest reports above the limits, and returns
    /// the path of the new report.
    ///
    /// # Errors
    /// The report cannot be written. In that case no part of it is left.
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
        // The file's name is safely on the disk only after the folder is synced.
        let written = written.and_then(|()| fs::File::open(&self.folder)?.sync_all());
        self.make_room(&path);
        written.map(|()| path)
    }

    /// Deletes the oldest reports until the rest is within the limits. The newest report stays, and
    /// so do files that are no reports. Unfinished reports, left by a power failure, are deleted
    /// too.
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
        // Sorts the newest report to the front, and the others after it, newer ones first.
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
