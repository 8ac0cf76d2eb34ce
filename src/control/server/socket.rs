//! The socket as a file: it is made with its mode, taken over from a dead daemon, and removed at
//! the end.
//!
//! A file beside the socket is locked as long as the daemon has the socket. The reason is a race of
//! two daemons that start together. The second could find the first one's socket between `bind` and
//! `listen`, when it looks like that of a dead daemon, and remove it. What is sent over the socket
//! is in `route.rs`.

use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use socket2::{Domain, SockAddr, Type};
use tokio::net::{UnixListener, UnixStream};

use crate::patience::{self, PATIENCE};
use crate::state::{Lock, NotLocked};

/// Most connections that wait until a served one ends; the kernel refuses more.
const BACKLOG: i32 = 128;

/// A listening socket. Its file is removed when the value is dropped.
#[derive(Debug)]
pub struct Socket {
    /// Dropped before the listener: the file goes while the socket still listens.
    file: SocketFile,
    listener: UnixListener,
}

/// A listening socket that is not yet registered with the async runtime. If it is made too late,
/// the drop of this value removes its file.
struct Bound {
    file: SocketFile,
    listener: socket2::Socket,
}

/// The file of a socket, which is removed when this value is dropped.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    /// Device and inode of the file: at the end another process may have put its own file there.
    identity: (u64, u64),
    /// Held until the file has been removed.
    _lock: Lock,
}

/// The reason why there is no socket; its text names the path, the reason and the remedy.
#[derive(Debug)]
pub enum BindError {
    /// Another daemon has the socket: the process of this number, if that is known.
    InUse(PathBuf, Option<String>),
    /// A file that is no socket has this name.
    NoSocket(PathBuf),
    /// The socket's folder cannot be made, because the folder above it does not exist.
    NoFolder(PathBuf),
    /// Any other error of the system.
    Io(PathBuf, io::Error),
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InUse(path, process) => {
                let process = process.as_ref().map(|number| format!(", process {number},"));
                write!(
                    f,
                    "another daemon{} has the control socket {}; stop it, or give this one \
                     another control.socket in its configuration",
                    process.unwrap_or_default(),
                    path.display()
                )
            }
            Self::NoSocket(path) => write!(
                f,
                "the control socket {} cannot be made: a file that is no socket has this name; \
                 move it away or set control.socket to another path",
                path.display()
            ),
            Self::NoFolder(path) => write!(
                f,
                "the control socket {} cannot be made: its folder does not exist; make it (under \
                 systemd RuntimeDirectory= does) or set control.socket to another path",
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
    /// Makes the socket `path` with permissions `mode`, such as `0o600`.
    ///
    /// A socket that a dead daemon left is replaced. The socket of a living daemon is not, however
    /// far that daemon's start has come. The socket's folder is made if it is missing. The folder
    /// above that must exist, because the administrator of the machine decides about it. The call
    /// waits for the file system up to [`PATIENCE`], and must be made inside a tokio runtime.
    ///
    /// # Errors
    /// The socket cannot be made, for one of the reasons in [`BindError`].
    pub fn bind(path: &Path, mode: u32) -> Result<Self, BindError> {
        let io = |error| BindError::Io(path.to_owned(), error);
        let place = path.to_owned();
        let bound = patience::wait(PATIENCE, move || Ok(Bound::new(place, mode)));
        let Bound { listener, file } = bound.map_err(io)??;
        let listener = UnixListener::from_std(listener.into()).map_err(io)?;
        Ok(Self { listener, file })
    }

    /// Path of the socket.
    pub fn path(&self) -> &Path {
        &self.file.path
    }

    /// Waits for the next connection.
    pub(super) async fn accept(&self) -> io::Result<UnixStream> {
        Ok(self.listener.accept().await?.0)
    }
}

impl Bound {
    /// Makes the socket on the calling thread, which may have to wait for the file system.
    fn new(path: PathBuf, mode: u32) -> Result<Self, BindError> {
        let io = |error| BindError::Io(path.clone(), error);
        make_folder(&path, mode)?;
        let lock = take_lock(&path)?;
        clear(&path)?;
        let listener = unix_socket().map_err(io)?;
        listener.bind(&SockAddr::unix(&path).map_err(io)?).map_err(io)?;
        // No client can connect before `listen`, so the wider mode of this moment opens no gap.
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).map_err(io)?;
        let file = fs::symlink_metadata(&path).map_err(io)?;
        listener.listen(BACKLOG).map_err(io)?;
        let identity = (file.dev(), file.ino());
        Ok(Self { listener, file: SocketFile { path, identity, _lock: lock } })
    }
}

/// A socket whose calls never wait.
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
            // If the file is already gone, nothing is left to do.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Makes the socket's folder, with access for those users whom the socket's `mode` lets in.
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

/// Locks the file beside the socket: `control.sock.lock`.
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

/// Removes the socket of a dead daemon: one on which no process listens. The lock shows that no
/// daemon is about to listen on it. A process that does not use the lock may listen already.
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
        // A full queue of connections, for example, shows that a process listens, however busy it
        // is.
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
            assert!(!path.exists(), "it is removed at the end");
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
        assert!(path.exists(), "a stale socket lies there");
        let second = bind().unwrap();
        fs::remove_file(&path).unwrap();
        fs::write(&path, "mine").unwrap();
        drop(second);
        assert_eq!(fs::read(&path).unwrap(), b"mine", "not ours, not removed");
        assert!(matches!(bind(), Err(BindError::NoSocket(_))));
    }

    /// A process that does not use the lock keeps its socket all the same.
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
                    // All daemons have tried before any of them gives its socket back.
                    start.wait();
                    let listens = std::os::unix::net::UnixStream::connect(&path);
                    assert!(
                        bound.is_err() || listens.is_ok(),
                        "the daemon that has it can be reached"
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
