//! The state directory: the folder for the data that must exist after the daemon has ended.
//!
//! Only one daemon at a time can use the directory. A daemon locks the file `lock` in the directory
//! at its start, and the lock is released when the daemon ends. The key `[state] dir` of the
//! configuration is the path of the directory. These Rust files define the contents of the other
//! files in the directory:
//!
//! | file or folder | content | Rust file |
//! |---|---|---|
//! | `retain.a`, `retain.b` | values of retained variables | `retain.rs` |
//! | `starts.json` | starts and abnormal ends of the daemon | `daemon/plugins/recovery.rs` |
//! | `history.jsonl`, `history.1.jsonl` | journal of events and orders | `journal/disk.rs` |
//! | `versions.json` | record of each plugin version | `daemon/plugins/version/disk.rs` |
//! | `versions/` | .wasm bytes of good plugin versions | `plugin/module/versions.rs` |
//! | `crash/` | crash reports | `crash/store.rs` |
//!
//! [`Folder::replace`] writes a file completely or not at all:
//!
//! ```text
//! write NAME.tmp ──▶ flush the file ──▶ rename to NAME ──▶ flush the folder
//! ```
//!
//! The journal does not use this function: its files grow by one line for each entry. Two other
//! Rust files use [`put_whole`]: `crash/store.rs`, and `plugin/module/cache.rs` for a folder
//! outside of the state directory. `control/server/socket.rs` uses [`Lock`] for the control socket.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use nix::fcntl::OFlag;

/// Name of the lock file. A lock on this file means that a daemon uses the directory. The file
/// contains the process number of this daemon.
const LOCK: &str = "lock";

/// The maximum number of bytes that this process reads from a lock file. A process number has at
/// most 10 digits; the limit has room for additional text.
const MAX_LOCK_BYTES: u64 = 32;

/// A state directory that this process has locked. When the value is dropped, the lock is released.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    /// The reason why the daemon could not write to the directory when it opened the directory;
    /// `None` if the daemon could write.
    trouble: Option<String>,
    /// The lock on the directory. The drop of this value releases the lock.
    _lock: Lock,
}

/// A lock file that this process has locked. When the value is dropped, the lock is released. When
/// the process ends, the kernel releases the lock, also after a kill. The file itself stays on the
/// disk, with the number of the last process that had the lock.
#[derive(Debug)]
pub struct Lock(File);

/// The reason why a file could not be locked.
#[derive(Debug)]
pub enum NotLocked {
    /// Another process has the lock. The text is the process number of that other process; it is
    /// empty if the file does not contain a number.
    Held(String),
    /// The system reported another error.
    Io(io::Error),
}

/// The longest time for which this process waits for a lock that another process has. The wait is
/// needed for a start directly after a daemon was killed. A child of the killed daemon may be
/// between `fork` and `exec`, and then has the lock file open for a moment longer.
const LEFT_BEHIND: Duration = Duration::from_millis(500);

impl Lock {
    /// Locks the file at `path`, and waits at most half a second for the lock. If the file does not
    /// exist, creates the file.
    ///
    /// # Errors
    /// Another process has locked the file, or the system reports an error ([`NotLocked`]).
    pub fn take(path: &Path) -> Result<Self, NotLocked> {
        Self::of(open_lock(path).map_err(NotLocked::Io)?)
    }

    /// Locks an open file, and waits at most half a second for the lock. Writes the number of this
    /// process into the file, if the file can be written.
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
                    // If the number cannot be read, the error message lacks the number, but is
                    // still correct.
                    let _ = file.take(MAX_LOCK_BYTES).read_to_string(&mut owner);
                    return Err(NotLocked::Held(owner.trim().to_owned()));
                }
            }
        }
        // The number is only used in messages, so an error is ignored here. If the disk is full, a
        // later write returns the error.
        let _ = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
        Ok(Self(file))
    }
}

/// Opens a lock file for writing. If the file does not exist, creates the file.
fn open_lock(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    // NOFOLLOW: if `path` is a link, the call fails. Otherwise another user with write access to
    // the folder could replace the lock file by a link. The daemon would then overwrite the file at
    // the end of the link.
    options.custom_flags(OFlag::O_NOFOLLOW.bits()).open(path)
}

/// Opens a file that this process can lock although the disk cannot be written. This file is the
/// lock file of the folder, or the folder itself if the lock file does not exist. To lock a file,
/// the process need not write to the file.
fn open_unwritable(folder: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).custom_flags((OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits());
    match options.open(folder.join(LOCK)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => File::open(folder),
        opened => opened,
    }
}

/// Whether the error means that the disk cannot be written but may still be readable. Such a disk
/// is full, defective or read-only, or the quota of the user is used up. The kernel makes a disk
/// read-only if, for example, a memory card fails.
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
        // The lock is released explicitly. To close the file is not enough, because a child between
        // `fork` and `exec` may also have the file open.
        let _ = self.0.unlock();
    }
}

impl Folder {
    /// Opens and locks the directory. If the directory does not exist, creates it. If the disk
    /// cannot be written, an existing directory is still opened, because its files can be read.
    /// [`Folder::trouble`] then returns the reason why the disk cannot be written.
    ///
    /// # Errors
    /// The directory cannot be created or examined, the user of this process has no write access,
    /// other users have write access, another daemon uses the directory, or the lock fails for
    /// another reason.
    pub fn open(path: &Path) -> io::Result<Self> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(path)?;
        let mode = fs::metadata(path)?.mode();
        if mode & 0o022 != 0 {
            let mode = mode & 0o7777;
            return Err(io::Error::other(format!(
                "other users may write into the directory (mode {mode:04o}); run `chmod go-w` on \
                 the directory"
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
                    "another camshaft (process {owner}) uses the directory; give each daemon a \
                     different [state] dir"
                ),
            ),
        })?;
        Ok(Self { path: path.to_owned(), trouble, _lock: lock })
    }

    /// Returns the path of the directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the reason why the daemon could not write to the directory when it opened the
    /// directory; `None` if the daemon could write. The disk may work again at the time of this
    /// call.
    pub fn trouble(&self) -> Option<&str> {
        self.trouble.as_deref()
    }

    /// Replaces the content of the file `name` by `bytes`. If the call succeeds, `bytes` are on the
    /// disk and survive a power failure. If the call fails, the file has either its complete old
    /// content or its complete new content.
    ///
    /// # Errors
    /// The errors of the disk.
    pub fn replace(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        // The temporary file always has this name. So if the process is killed before the rename,
        // the next call removes the temporary file of the killed process.
        let half = self.path.join(format!("{name}.tmp"));
        let target = self.path.join(name);
        put_whole(&half, &target, |file| file.write_all(bytes))?;
        File::open(&self.path)?.sync_all()
    }
}

/// Creates or replaces the file `target`, completely or not at all. First, `write` writes a new
/// file `half`, which only this user may read. Then the file is flushed and renamed to `target`.
/// This function does not flush the folder. The caller must do that if the new file must survive a
/// power failure.
///
/// # Errors
/// The errors of `write` or the disk. After an error, the file `half` is removed and `target` is
/// unchanged.
pub fn put_whole(
    half: &Path,
    target: &Path,
    write: impl FnOnce(&mut File) -> io::Result<()>,
) -> io::Result<()> {
    // If an earlier process was killed during a write, its file `half` may exist. This file would
    // make `create_new` fail.
    let _ = fs::remove_file(half);
    let written = (|| {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(half)?;
        write(&mut file)?;
        file.sync_all()?;
        fs::rename(half, target)
    })();
    if written.is_err() {
        // The file is removed, because on a full disk its bytes would use the space for the next
        // attempt. An error is ignored, because the file may not exist.
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
        let owner = format!("another camshaft (process {}) uses the directory", std::process::id());
        assert!(error.contains(&owner), "{error}");
        drop(folder);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o770)).unwrap();
        let error = Folder::open(&path).unwrap_err().to_string();
        assert!(
            error.contains("the directory (mode 0770); run `chmod go-w` on the directory"),
            "{error}"
        );
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
