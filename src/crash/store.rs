//! The folder of crash reports, and its limits: the number of reports and their total size.
//!
//! Only the user of the daemon may read the folder, because a report contains values of a plant. A
//! report is written to a temporary file first and then renamed. So a report is either complete in
//! the folder or absent. `crash/file.rs` defines the format of a report.

use std::fs;
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use super::CrashReport;
use crate::state::put_whole;

/// The maximum number of reports in the folder. The number is enough for a night in which every
/// plugin of a plant traps. A person can still read all these reports.
pub const MAX_FILES: usize = 20;

/// The maximum size of all reports together, in bytes. It is enough for [`MAX_FILES`] reports of
/// ordinary plugins, or for one report of maximum size.
pub const MAX_FOLDER_BYTES: u64 = 64 << 20;

/// The extension of a report's file name.
const EXTENSION: &str = "crash";

/// The folder of reports.
#[derive(Debug)]
pub struct ReportStore {
    folder: PathBuf,
    /// A lock that a thread holds while it writes a report. So only one report is written at a
    /// time.
    turn: Mutex<()>,
}

impl ReportStore {
    /// Makes a store in `folder`. The folder may be missing: the first report creates it.
    pub fn new(folder: PathBuf) -> Self {
        Self { folder, turn: Mutex::new(()) }
    }

    /// Writes a report into the folder and returns its path. After the write, even a failed write,
    /// deletes the oldest reports until the reports are within the limits.
    ///
    /// # Errors
    /// When the report or the folder cannot be written. The folder then contains either the
    /// complete report or no part of the report.
    pub fn put(&self, report: &CrashReport) -> io::Result<PathBuf> {
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
        // The name of the file is safe on the disk only after the folder is synced.
        let written = written.and_then(|()| fs::File::open(&self.folder)?.sync_all());
        self.make_room(&path);
        written.map(|()| path)
    }

    /// Deletes the oldest reports until the reports are within the limits, but never the newest
    /// report. Also deletes temporary files of reports, which exist after a power failure. Does not
    /// delete other files.
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
        // The newest report comes first. The other reports follow, sorted by age.
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
