//! The socket as a file: made with its mode, taken over from a dead daemon, removed at the end.
//!
//! What is said over it is in `route.rs`.

use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use tokio::net::{UnixListener, UnixSocket, UnixStream};

/// Connections that wait until one of the served ones ends; the kernel refuses more.
const BACKLOG: u32 = 128;

/// A listening socket. Its file is removed when it is dropped.
#[derive(Debug)]
pub struct Socket {
    listener: UnixListener,
    path: PathBuf,
    /// Device and inode of the file: at the end it might be somebody else's.
    identity: (u64, u64),
}

/// Why there is no socket; names the path, the reason and the remedy.
#[derive(Debug)]
pub enum BindError {
    /// Somebody answers on it.
    InUse(PathBuf),
    /// There is something else with this name.
    NoSocket(PathBuf),
    /// The folder is not there.
    NoFolder(PathBuf),
    /// What the system said.
    Io(PathBuf, io::Error),
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InUse(path) => write!(
                f,
                "another daemon answers on the control socket {}; stop it, or give this one \
                 another control.socket in its configuration",
                path.display()
            ),
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
    /// A socket that a dead daemon has left is replaced. Its folder is made if that is missing; the
    /// folder's folder must be there, because whoever administers the machine decides about it.
    ///
    /// # Errors
    /// See [`BindError`].
    pub async fn bind(path: &Path, mode: u32) -> Result<Self, BindError> {
        let io = |error| BindError::Io(path.to_owned(), error);
        make_folder(path, mode)?;
        clear(path).await?;
        let socket = UnixSocket::new_stream().map_err(io)?;
        socket.bind(path).map_err(io)?;
        // Nobody can connect before `listen`, so the wider mode of the moment is no gap.
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(io)?;
        let file = fs::symlink_metadata(path).map_err(io)?;
        let listener = socket.listen(BACKLOG).map_err(io)?;
        Ok(Self { listener, path: path.to_owned(), identity: (file.dev(), file.ino()) })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The next connection.
    pub(super) async fn accept(&self) -> io::Result<UnixStream> {
        Ok(self.listener.accept().await?.0)
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        let ours = fs::symlink_metadata(&self.path)
            .is_ok_and(|file| (file.dev(), file.ino()) == self.identity);
        if ours {
            // Whoever removed it first has done our work.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Makes the folder for whom the socket's `mode` lets in.
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

/// Removes the socket of a daemon that is dead: one on which nobody listens.
async fn clear(path: &Path) -> Result<(), BindError> {
    let io = |error| BindError::Io(path.to_owned(), error);
    let file = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other.map_err(io)?,
    };
    if !file.file_type().is_socket() {
        return Err(BindError::NoSocket(path.to_owned()));
    }
    match UnixStream::connect(path).await {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            fs::remove_file(path).map_err(io)
        }
        // A full queue of connections, for one: somebody listens, however busy.
        Ok(_) => Err(BindError::InUse(path.to_owned())),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            Err(BindError::InUse(path.to_owned()))
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
        let refused = Socket::bind(&run.path().join("a/b/control.sock"), 0o600).await;
        assert!(matches!(refused, Err(BindError::NoFolder(_))), "{refused:?}");
        for (name, mode, expected) in [("own", 0o600, 0o700), ("group", 0o660, 0o750)] {
            let path = run.path().join(name).join("control.sock");
            let socket = Socket::bind(&path, mode).await.unwrap();
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
        let first = bind().await.unwrap();
        assert!(matches!(bind().await, Err(BindError::InUse(_))));
        drop(first);

        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(path.exists(), "a stale socket lies there");
        let second = bind().await.unwrap();
        fs::remove_file(&path).unwrap();
        fs::write(&path, "mine").unwrap();
        drop(second);
        assert_eq!(fs::read(&path).unwrap(), b"mine", "not ours, not removed");
        assert!(matches!(bind().await, Err(BindError::NoSocket(_))));
    }
}
