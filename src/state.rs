//! The state directory, in which a daemon keeps the data that must outlive it.
//!
//! The directory belongs to one daemon at a time, which holds a lock as long as it lives. A file in
//! the directory is replaced whole or not at all: it is written under another name, flushed and
//! renamed, and then the folder is flushed. Other modules decide what the files contain:
//! `retain.rs`, `daemon/plugins/recovery.rs` and `journal/disk.rs`. The files of the journal grow
//! and are not replaced. The key `[state] dir` of the configuration says where the directory is.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use nix::fcntl::OFlag;

/// The file whose lock shows that a daemon uses the directory. The file contains the number of the
/// daemon's process.
const LOCK: &str = "lock";

/// Most bytes that are read from a lock file. A process number has at most 10 digits; the other
/// bytes are room for other text.
const MAX_LOCK_BYTES: u64 = 32;

/// A state directory that this process has locked. The drop of the value releases the lock.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    /// The reason why the directory could not be written when it was opened; `None` if it could.
    trouble: Option<String>,
    /// The lock, which is held as long as the directory is in use.
    _lock: Lock,
}

/// A lock file that this process has locked. The drop of the value releases the lock. The kernel
/// releases the lock when the process ends, even after a kill or a power cut. The file stays, with
/// the number of the process that had the lock last.
#[derive(Debug)]
pub struct Lock(File);

/// The reason why a file could not be locked.
#[derive(Debug)]
pub enum NotLocked {
    /// Another process has the lock. The text is that process's number; it is empty if the file
    /// does not say.
    Held(String),
    /// Any other error of the system.
    Io(io::Error),
}

/// How long this process waits for the lock of another process. If a daemon was killed, one of its
/// children may be between fork and exec, and has the daemon's files open for a moment longer.
const LEFT_BEHIND: Duration = Duration::from_millis(500);

impl Lock {
    /// Locks the file at `path` within half a second. The file is made if it does not exist.
    ///
    /// # Errors
    /// Another process has locked the file, or the system refuses ([`NotLocked`]).
    pub fn take(path: &Path) -> Result<Self, NotLocked> {
        Self::of(open_lock(path).map_err(NotLocked::Io)?)
    }

    /// Locks an open file within half a second. If the file can be written, the number of this
    /// process is written into it.
    fn of(mut file: File) -> Result<Self, NotLocked> {
        let started = Instant::now();
        loop {
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::Error(error)) => return Err(NotLocked::Io(error)),
                Err(TryLockError::WouldBlock) if started.elapsed() < LEFT_BEHIND => {
                    thread::sleep(Duration::from_millis(5));
                }
                Err(TryLockError::WouldBlock) => {
                    let mut owner = String::new();
                    // If the number cannot be read, the message is still true but helps less.
                    let _ = file.take(MAX_LOCK_BYTES).read_to_string(&mut owner);
                    return Err(NotLocked::Held(owner.trim().to_owned()));
                }
            }
        }
        // The number is only for people and for messages, so an error is ignored here. More
        // important writes report a full disk later.
        let _ = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
        Ok(Self(file))
    }
}

/// Opens a lock file for writing. The file is made if it does not exist.
fn open_lock(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    // NOFOLLOW: a user who can write into the folder could make the name a link to another file of
    // this user.
    options.custom_flags(OFlag::O_NOFOLLOW.bits()).open(path)
}

/// Opens a file to lock in a folder on a disk that takes no writes: the folder's lock file, or the
/// folder itself if it has no lock file. A lock needs no write.
fn open_unwritable(folder: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).custom_flags((OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits());
    match options.open(folder.join(LOCK)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => File::open(folder),
        opened => opened,
    }
}

/// Whether the error shows a disk that takes no writes and may still be readable. Such a disk is
/// full, fails, or is read-only, because the kernel makes a failing card read-only.
fn is_unwritable(error: &io::Error) -> bool {
    const EIO: i32 = nix::libc::EIO;
    let kinds = [
        io::ErrorKind::ReadOnlyFilesystem,
        io::ErrorKind::StorageFull,
        io::ErrorKind::QuotaExceeded,
    ];
    kinds.contains(&error.kind()) || error.raw_os_error() == Some(EIO)
}

impl Drop for Lock {
    fn drop(&mut self) {
        // It is not enough to close the file, because a child between fork and exec may have the
        // file open as well.
        let _ = self.0.unlock();
    }
}

impl Folder {
    /// Opens the directory, makes it if it does not exist, and locks it. A directory that takes no
    /// writes can still be read; [`Folder::trouble`] says why it takes no writes.
    ///
    /// # Errors
    /// The directory cannot be made, this user may not write into it, other users may write into
    /// it, or another daemon uses it.
    pub fn open(path: &Path) -> io::Result<Self> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(path)?;
        let mode = fs::metadata(path)?.mode();
        if mode & 0o022 != 0 {
            let mode = mode & 0o7777;
            return Err(io::Error::other(format!(
                "other users may write into it, its mode is {mode:04o}; run `chmod go-w` on it"
            )));
        }
        let (file, trouble) = match open_lock(&path.join(LOCK)) {
            Err(error) if is_unwritable(&error) => {
                (open_unwritable(path)?, Some(error.to_string()))
            }
            opened => (opened?, None),
        };
        let lock = Lock::of(file).map_err(|why| match why {
            NotLocked::Io(error) => error,
            NotLocked::Held(owner) => io::Error::new(
                io::ErrorKind::ResourceBusy,
                format!(
                    "another camshaft, process {owner}, uses it; give each daemon a [state] dir of \
                     its own"
                ),
            ),
        })?;
        Ok(Self { path: path.to_owned(), trouble, _lock: lock })
    }

    /// Path of the directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The reason why the directory could not be written when it was opened; `None` if it could.
    /// The disk may work again by now.
    pub fn trouble(&self) -> Option<&str> {
        self.trouble.as_deref()
    }

    /// Replaces the file `name` by these bytes. After the call returns, the bytes outlive a power
    /// cut. If the call fails, the file has its old content or the whole new content.
    ///
    /// # Errors
    /// The errors of the disk.
    pub fn replace(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        // All attempts use one name for the unfinished file, so the next attempt removes a file
        // that a kill left behind.
        let half = self.path.join(format!("{name}.tmp"));
        let target = self.path.join(name);
        put_whole(&half, &target, |file| file.write_all(bytes))?;
        File::open(&self.path)?.sync_all()
    }
}

/// Puts a private file in the place of `target`, whole or not at all. `write` fills a new file of
/// the name `half`, which is then flushed and renamed. The caller must flush the folder too if the
/// new name must outlive a power cut.
///
/// # Errors
/// The errors of `write` or the disk. In that case no part of the new file is left.
pub fn put_whole(
    half: &Path,
    target: &Path,
    write: impl FnOnce(&mut File) -> io::Result<()>,
) -> io::Result<()> {
    // A file that a kill left behind would make `create_new` fail.
    let _ = fs::remove_file(half);
    let written = (|| {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(half)?;
        write(&mut file)?;
        file.sync_all()?;
        fs::rename(half, target)
    })();
    if written.is_err() {
        // The file may not even exist, so an error is ignored. The file is removed because its
        // bytes would keep a full disk full.
        let _ = fs::remove_file(half);
    }
    written
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_directory_has_one_daemon_and_is_private() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b");
        let folder = Folder::open(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o700);
        let error = Folder::open(&path).unwrap_err().to_string();
        let owner = format!("another camshaft, process {}, uses it", std::process::id());
        assert!(error.contains(&owner), "{error}");
        drop(folder);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o770)).unwrap();
        let error = Folder::open(&path).unwrap_err().to_string();
        assert!(error.contains("its mode is 0770; run `chmod go-w` on it"), "{error}");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o750)).unwrap();
        Folder::open(&path).unwrap();
    }

    #[test]
    fn a_file_is_replaced_whole() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::open(dir.path()).unwrap();
        let path = folder.path().join("f");
        folder.replace("f", b"one").unwrap();
        fs::write(folder.path().join("f.tmp"), b"left by a kill, and longer").unwrap();
        folder.replace("f", b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert!(!folder.path().join("f.tmp").exists());
        assert_eq!(fs::metadata(path).unwrap().mode() & 0o777, 0o600);
        fs::create_dir(folder.path().join("d")).unwrap();
        folder.replace("d", b"no").unwrap_err();
        assert!(!folder.path().join("d.tmp").exists(), "a failure leaves nothing behind");
    }
}
