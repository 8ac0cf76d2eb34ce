//! Files of unknown kind: this module opens only regular files, never waits for a writer, and reads
//! a file up to a limit.
//!
//! If a pipe stood in the place of a file, an ordinary open call would wait until a writer comes,
//! perhaps for ever. A call on a file system that gives no answer waits all the same; `patience.rs`
//! is about that.

use std::fs::{File, FileType, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;

use nix::fcntl::OFlag;

/// Opens a regular file to read it. A link to a regular file is followed.
///
/// # Errors
/// The errors of the disk. If the path is not a regular file, the error names what it is.
pub fn open(path: &Path) -> io::Result<File> {
    // NOCTTY: if the path is a terminal, it must not become the terminal of this process.
    let flags = OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    let file = OpenOptions::new().read(true).custom_flags(flags.bits()).open(path)?;
    let kind = file.metadata()?.file_type();
    match kind.is_file() {
        true => Ok(file),
        false => Err(io::Error::other(format!("it is {}, and no regular file", name(kind)))),
    }
}

/// The kind of a file that is not a socket. `None` if the file is a socket, or if the system cannot
/// say what it is.
pub fn no_socket(path: &Path) -> Option<&'static str> {
    let kind = std::fs::metadata(path).ok()?.file_type();
    (!kind.is_socket()).then(|| name(kind))
}

/// The kind of a file, with its article.
fn name(kind: FileType) -> &'static str {
    match kind {
        _ if kind.is_file() => "a regular file",
        _ if kind.is_dir() => "a folder",
        _ if kind.is_fifo() => "a pipe",
        _ if kind.is_socket() => "a socket",
        _ => "a device",
    }
}

/// The content of a regular file of at most `most` bytes; `None` if there is no such file.
///
/// # Errors
/// The errors of [`open`], and an error if the file is longer.
pub fn read(path: &Path, most: u64) -> io::Result<Option<Vec<u8>>> {
    match read_present(path, most) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        read => read.map(Some),
    }
}

/// The content of a regular file of at most `most` bytes, which must exist.
///
/// # Errors
/// The errors of [`open`], and an error if the file is longer.
pub fn read_present(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let read = open(path)?.take(most.saturating_add(1)).read_to_end(&mut bytes)?;
    if read as u64 > most {
        let why = format!("it has more than {most} bytes");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, why));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use nix::sys::stat::Mode;

    use super::*;

    #[test]
    fn a_file_is_read_up_to_its_limit() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        assert_eq!(read(&path, 9).unwrap(), None);
        assert_eq!(read_present(&path, 9).unwrap_err().kind(), io::ErrorKind::NotFound);
        fs::write(&path, "two").unwrap();
        assert_eq!(read(&path, 3).unwrap().as_deref(), Some(&b"two"[..]));
        assert_eq!(read(&path, 2).unwrap_err().to_string(), "it has more than 2 bytes");
        assert_eq!(read(&path, u64::MAX).unwrap().map(|bytes| bytes.len()), Some(3));
    }

    #[test]
    fn what_is_no_regular_file_is_named_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let (pipe, socket) = (dir.path().join("pipe"), dir.path().join("socket"));
        nix::unistd::mkfifo(&pipe, Mode::S_IRWXU).unwrap();
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        let why = |path: &Path| read(path, 9).unwrap_err().to_string();
        assert_eq!(why(&pipe), "it is a pipe, and no regular file");
        assert_eq!(why(dir.path()), "it is a folder, and no regular file");
        assert_eq!(why(Path::new("/dev/null")), "it is a device, and no regular file");
        let plain = dir.path().join("plain");
        fs::write(&plain, "").unwrap();
        assert_eq!(no_socket(&plain), Some("a regular file"));
        assert_eq!(no_socket(&pipe), Some("a pipe"));
        assert_eq!((no_socket(&socket), no_socket(&dir.path().join("none"))), (None, None));
        // The system itself refuses to open a socket.
        assert!(read(&socket, 9).is_err());
    }
}
