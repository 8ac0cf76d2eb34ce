//! The file of the socket: how the daemon creates the file, replaces the file of a dead daemon, and
//! removes the file at the end.
//!
//! As long as the daemon has the socket, it keeps a lock on a second file beside the socket file.
//! The lock prevents a race between two daemons that start together. Without the lock, the second
//! daemon could find the first daemon's socket between `bind` and `listen`. At this time the socket
//! looks like the socket of a dead daemon, and the second daemon would remove the socket. The
//! requests on the socket are in `route.rs`.

use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use socket2::{Domain, SockAddr, Type};
use tokio::net::{UnixListener, UnixStream};

use crate::patience::{self, PATIENCE};
use crate::state::{Lock, NotLocked};

/// The length of the kernel's queue of connections that wait to be accepted. If the queue is full,
/// the kernel refuses a `connect` that must not wait, and lets any other `connect` wait.
const BACKLOG: i32 = 128;

/// A listening socket. Dropping this value removes the socket file.
#[derive(Debug)]
pub struct Socket {
    /// This field is dropped before `listener`, so the file is removed while the socket still
    /// listens.
    file: SocketFile,
    listener: UnixListener,
}

/// A listening socket that is not yet registered with the async runtime. A separate thread creates
/// this value, because the file system may not answer. If [`Socket::bind`] has stopped waiting,
/// that thread drops the value, and the drop removes the socket file.
struct Bound {
    file: SocketFile,
    listener: socket2::Socket,
}

/// The file of a socket. Dropping this value removes the file.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    /// The device number and inode number of the file. The drop compares both numbers, because
    /// another process may have replaced the file.
    identity: (u64, u64),
    /// The lock on the file beside the socket. The lock is released after the socket file has been
    /// removed.
    _lock: Lock,
}

/// The reason why the socket could not be created. The text names the path, the reason and the
/// remedy.
#[derive(Debug)]
pub enum BindError {
    /// Another daemon has the socket. The text is the process number of that daemon, or `None` if
    /// the number is not known.
    InUse(PathBuf, Option<String>),
    /// A file that is not a socket has this name.
    NoSocket(PathBuf),
    /// The socket's folder cannot be created, because the parent of this folder does not exist.
    NoFolder(PathBuf),
    /// Any other error of the operating system.
    Io(PathBuf, io::Error),
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InUse(path, process) => {
                let process = process.as_ref().map(|number| format!(", process {number},"));
                write!(
                    f,
                    "another daemon{} has the control socket {}; stop that daemon, or set another \
                     control.socket in the configuration of this daemon",
                    process.unwrap_or_default(),
                    path.display()
                )
            }
            Self::NoSocket(path) => write!(
                f,
                "the control socket {} cannot be made: this path is a file, not a socket; \
                 move the file away or set control.socket to another path",
                path.display()
            ),
            Self::NoFolder(path) => write!(
                f,
                "the control socket {} cannot be made: its folder does not exist; create the \
                 folder (under systemd, RuntimeDirectory= creates it) or set control.socket to \
                 another path",
                path.display()
            ),
            Self::Io(path, error) => write!(
                f,
                "the control socket {} cannot be made: {error}; set XDG_RUNTIME_DIR to a folder of \
                 this user, or control.socket to a path where this user may write",
                path.display()
            ),
        }
    }
}

impl std::error::Error for BindError {}

impl Socket {
    /// Creates the socket `path` with file mode `mode`, such as `0o600`.
    ///
    /// - If a dead daemon did not remove its socket, the function replaces that socket.
    /// - If a daemon is running or starting, the function does not change the socket of that
    ///   daemon, and fails.
    /// - If the folder of the socket does not exist, the function creates it. The parent of this
    ///   folder must exist, because the system administrator decides where it is.
    ///
    /// The function waits for the file system for at most [`PATIENCE`]. The caller must be inside a
    /// tokio runtime.
    ///
    /// # Errors
    /// The reasons are listed in [`BindError`].
    pub fn bind(path: &Path, mode: u32) -> Result<Self, BindError> {
        let io = |error| BindError::Io(path.to_owned(), error);
        let place = path.to_owned();
        let bound = patience::wait(PATIENCE, move || Ok(Bound::new(place, mode)));
        let Bound { listener, file } = bound.map_err(io)??;
        let listener = UnixListener::from_std(listener.into()).map_err(io)?;
        Ok(Self { listener, file })
    }

    /// Returns the path of the socket.
    pub fn path(&self) -> &Path {
        &self.file.path
    }

    /// Waits for the next connection and accepts it.
    pub(super) async fn accept(&self) -> io::Result<UnixStream> {
        Ok(self.listener.accept().await?.0)
    }
}

impl Bound {
    /// Creates the socket on the calling thread. The call may wait for the file system.
    fn new(path: PathBuf, mode: u32) -> Result<Self, BindError> {
        let io = |error| BindError::Io(path.clone(), error);
        make_folder(&path, mode)?;
        let lock = take_lock(&path)?;
        clear(&path)?;
        let listener = unix_socket().map_err(io)?;
        listener.bind(&SockAddr::unix(&path).map_err(io)?).map_err(io)?;
        // From `bind` to this line, the file may have a mode that gives more rights than `mode`.
        // This is no risk, because no client can connect before `listen`.
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).map_err(io)?;
        let file = fs::symlink_metadata(&path).map_err(io)?;
        listener.listen(BACKLOG).map_err(io)?;
        let identity = (file.dev(), file.ino());
        Ok(Self { listener, file: SocketFile { path, identity, _lock: lock } })
    }
}

/// Returns a unix socket whose calls never wait.
fn unix_socket() -> io::Result<socket2::Socket> {
    let socket = socket2::Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let ours = fs::symlink_metadata(&self.path)
            .is_ok_and(|file| (file.dev(), file.ino()) == self.identity);
        if ours {
            // If the file no longer exists, the error needs no action.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Creates the folder of the socket if the folder does not exist. The group may enter the folder
/// only if `mode` gives the group access to the socket.
fn make_folder(path: &Path, mode: u32) -> Result<(), BindError> {
    let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) else {
        return Ok(());
    };
    let mode = if mode & 0o060 == 0 { 0o700 } else { 0o750 };
    match fs::DirBuilder::new().mode(mode).create(folder) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(BindError::NoFolder(path.to_owned()))
        }
        made => made.map_err(|error| BindError::Io(path.to_owned(), error)),
    }
}

/// Locks the file beside the socket, for example `control.sock.lock`.
fn take_lock(path: &Path) -> Result<Lock, BindError> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".lock");
    Lock::take(Path::new(&beside)).map_err(|why| match why {
        NotLocked::Held(owner) => {
            BindError::InUse(path.to_owned(), Some(owner).filter(|number| !number.is_empty()))
        }
        NotLocked::Io(error) => BindError::Io(path.to_owned(), error),
    })
}

/// Removes the socket file of a dead daemon. The caller must have the lock, so that no daemon is
/// starting on this socket. Another process, which does not use the lock, may be listening on the
/// socket. So the function first tries to connect, and removes the file only if no process listens.
fn clear(path: &Path) -> Result<(), BindError> {
    let io = |error| BindError::Io(path.to_owned(), error);
    let file = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other.map_err(io)?,
    };
    if !file.file_type().is_socket() {
        return Err(BindError::NoSocket(path.to_owned()));
    }
    let connect = || unix_socket()?.connect(&SockAddr::unix(path)?);
    match connect() {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            fs::remove_file(path).map_err(io)
        }
        // If the connection succeeds, a process is listening. If the queue of connections is full,
        // a process is listening too.
        Ok(_) => Err(BindError::InUse(path.to_owned(), None)),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            Err(BindError::InUse(path.to_owned(), None))
        }
        Err(error) => Err(io(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode_of(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    #[tokio::test]
    async fn the_folder_is_made_but_not_the_folder_of_the_folder() {
        let run = tempfile::tempdir().unwrap();
        let refused = Socket::bind(&run.path().join("a/b/control.sock"), 0o600);
        assert!(matches!(refused, Err(BindError::NoFolder(_))), "{refused:?}");
        for (name, mode, expected) in [("own", 0o600, 0o700), ("group", 0o660, 0o750)] {
            let path = run.path().join(name).join("control.sock");
            let socket = Socket::bind(&path, mode).unwrap();
            assert_eq!(mode_of(path.parent().unwrap()), expected);
            assert_eq!(mode_of(socket.path()), mode);
            drop(socket);
            assert!(!path.exists(), "the socket file is removed at the end");
        }
    }

    #[tokio::test]
    async fn only_the_socket_of_a_dead_daemon_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("control.sock");
        let bind = || Socket::bind(&path, 0o600);
        let first = bind().unwrap();
        let process = std::process::id().to_string();
        match bind() {
            Err(BindError::InUse(_, Some(owner))) => assert_eq!(owner, process),
            other => panic!("{other:?}"),
        }
        drop(first);

        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(path.exists(), "a stale socket file exists");
        let second = bind().unwrap();
        fs::remove_file(&path).unwrap();
        fs::write(&path, "mine").unwrap();
        drop(second);
        assert_eq!(fs::read(&path).unwrap(), b"mine", "a file of another process is not removed");
        assert!(matches!(bind(), Err(BindError::NoSocket(_))));
    }

    /// A process that does not use the lock must not lose its socket.
    #[tokio::test]
    async fn a_stranger_that_listens_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("control.sock");
        let stranger = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let refused = Socket::bind(&path, 0o600);
        assert!(matches!(refused, Err(BindError::InUse(_, None))), "{refused:?}");
        drop(stranger);
        Socket::bind(&path, 0o600).unwrap();
    }

    #[test]
    fn of_daemons_that_start_together_one_has_the_socket() {
        const DAEMONS: usize = 6;
        const ROUNDS: usize = 100;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("control.sock");
        let start = std::sync::Barrier::new(DAEMONS);
        let winners: usize = std::thread::scope(|scope| {
            let daemon = || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
                let _context = runtime.as_ref().unwrap().enter();
                let mut won = 0;
                for _ in 0..ROUNDS {
                    start.wait();
                    let bound = Socket::bind(&path, 0o600);
                    match &bound {
                        Ok(_) => won += 1,
                        Err(BindError::InUse(..)) => {}
                        Err(other) => panic!("{other}"),
                    }
                    // No daemon drops its socket before all daemons have tried to bind.
                    start.wait();
                    let listens = std::os::unix::net::UnixStream::connect(&path);
                    assert!(
                        bound.is_err() || listens.is_ok(),
                        "the daemon that has the socket can be reached"
                    );
                    start.wait();
                }
                won
            };
            let daemons: Vec<_> = (0..DAEMONS).map(|_| scope.spawn(daemon)).collect();
            daemons.into_iter().map(|daemon| daemon.join().unwrap()).sum()
        });
        assert_eq!(winners, ROUNDS);
    }
}
