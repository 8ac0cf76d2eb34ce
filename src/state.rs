//! The state directory: where a daemon keeps what shall outlive it.
//!
//! It belongs to one daemon at a time, which holds a lock for as long as it lives, and a file in it
//! is replaced whole or not at all: written beside, flushed, renamed, and the folder flushed. What
//! the files hold is the business of those who own them: `retain.rs`, `daemon/recovery.rs`, and
//! `journal/disk.rs`, whose files grow instead. Where the directory is says the configuration,
//! `[state] dir`.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use nix::fcntl::OFlag;

/// The file whose lock says that a daemon lives here; it holds the number of its process.
const LOCK: &str = "lock";

/// A process number has at most 10 digits; the rest is for whoever writes something else there.
const MAX_LOCK_BYTES: u64 = 32;

/// A state directory that is ours until this is dropped.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    /// Why nothing could be written when it was opened.
    trouble: Option<String>,
    /// Held for as long as the folder is ours.
    _lock: Lock,
}

/// A lock file that is ours until this is dropped. The lock goes with its process, also by a kill
/// or a power cut; the file stays, with the number of the process that had the lock last.
#[derive(Debug)]
pub struct Lock(File);

/// Why a lock is not ours.
#[derive(Debug)]
pub enum NotLocked {
    /// The process of this number has it; empty if the file does not say.
    Held(String),
    /// What the system said.
    Io(io::Error),
}

/// How long somebody else's lock is waited for. A daemon that was killed may leave a child between
/// fork and exec, which has its files open for a moment longer.
const LEFT_BEHIND: Duration = Duration::from_millis(500);

impl Lock {
    /// Makes the file if it is not there, and locks it, within half a second.
    ///
    /// # Errors
    /// See [`NotLocked`].
    pub fn take(path: &Path) -> Result<Self, NotLocked> {
        Self::of(open_lock(path).map_err(NotLocked::Io)?)
    }

    /// Locks an open file, within half a second, and writes the number of this process into it if
    /// it can be written.
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
                    // Without the number the message is as true, and less of use.
                    let _ = file.take(MAX_LOCK_BYTES).read_to_string(&mut owner);
                    return Err(NotLocked::Held(owner.trim().to_owned()));
                }
            }
        }
        // Only for people and for messages: a full disk is met later, by what matters.
        let _ = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
        Ok(Self(file))
    }
}

/// Opens a lock file for writing, and makes it if it is not there.
fn open_lock(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    // Whoever may write into the folder could have it point to a file of ours.
    options.custom_flags(OFlag::O_NOFOLLOW.bits()).open(path)
}

/// The lock of a folder on a disk that takes no writes: its lock file, or where there is none the
/// folder itself. Neither needs to be written for that.
fn open_unwritable(folder: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).custom_flags((OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits());
    match options.open(folder.join(LOCK)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => File::open(folder),
        opened => opened,
    }
}

/// Whether the disk takes no writes, and may well be read: it was made read-only, as a kernel does
/// with a card that fails; it is full; or it fails already.
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
        // Not left to closing: a child between fork and exec has the file open as well.
        let _ = self.0.unlock();
    }
}

impl Folder {
    /// Opens the directory, makes it if it is not there, and locks it. Of one that is there and
    /// takes no writes, [`Folder::trouble`] says why: it can still be read.
    ///
    /// # Errors
    /// When it cannot be made, when this user may not write into it or others may, or when another
    /// daemon uses it.
    pub fn open(path: &Path) -> io::Result<Self> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(path)?;
        let mode = fs::metadata(path)?.mode();
        if mode & 0o022 != 0 {
            let mode = mode & 0o7777;
            return Err(io::Error::other(format!(
                "others may write into it, its mode is {mode:04o}; chmod go-w would be right"
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

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Why nothing could be written here when the directory was opened; the disk may have come
    /// back since.
    pub fn trouble(&self) -> Option<&str> {
        self.trouble.as_deref()
    }

    /// Replaces the file `name` by these bytes. Once it has returned they outlive a power cut; if
    /// it fails, the old file is as it was, or the new one is whole.
    ///
    /// # Errors
    /// Whatever the disk says.
    pub fn replace(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        // One name for all attempts: what a kill leaves behind goes with the next.
        let half = self.path.join(format!("{name}.tmp"));
        let target = self.path.join(name);
        put_whole(&half, &target, |file| file.write_all(bytes))?;
        File::open(&self.path)?.sync_all()
    }
}

/// Puts a private file in place of `target`, whole or not at all: `write` fills a new file of the
/// name `half`, which is flushed and renamed. That the name outlives a power cut takes a flush of
/// the folder as well.
///
/// # Errors
/// Whatever `write` or the disk says; then nothing is left of the new file.
pub fn put_whole(
    half: &Path,
    target: &Path,
    write: impl FnOnce(&mut File) -> io::Result<()>,
) -> io::Result<()> {
    // One that a kill has left would be in the way.
    let _ = fs::remove_file(half);
    let written = (|| {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(half)?;
        write(&mut file)?;
        file.sync_all()?;
        fs::rename(half, target)
    })();
    if written.is_err() {
        // It may not even exist; a full disk must not stay full for it.
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
        assert!(error.contains("its mode is 0770; chmod go-w"), "{error}");
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
