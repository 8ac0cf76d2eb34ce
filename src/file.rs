//! Reads files whose kind is unknown. The functions open only regular files, and never wait for a
//! writer of a pipe. [`read`] also limits the number of bytes.
//!
//! The path in a configuration may lead to a pipe by mistake. An ordinary call of `open` on a pipe
//! waits until another process opens the pipe for writing, perhaps for ever. The functions of this
//! file return an error instead. A call can also wait for a file system that does not answer, for
//! example on a server that is down. The functions here have no time limit for this case;
//! `patience.rs` has one.

use std::fs::{File, FileType, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;

use nix::fcntl::OFlag;

/// Opens a regular file for reading. If the path is a link to a regular file, opens that file.
///
/// # Errors
/// The errors of the disk. If the path is not a regular file, the error names the kind of the file,
/// for example "a pipe".
pub fn open(path: &Path) -> io::Result<File> {
    // NONBLOCK: `open` does not wait if the path is a pipe. NOCTTY: if the path is a terminal, this
    // terminal must not become the controlling terminal of the process.
    let flags = OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    let file = OpenOptions::new().read(true).custom_flags(flags.bits()).open(path)?;
    let kind = file.metadata()?.file_type();
    match kind.is_file() {
        true => Ok(file),
        false => Err(io::Error::other(format!("it is {}, not a regular file", name(kind)))),
    }
}

/// Returns the kind of a file, for example "a pipe". Returns `None` if the file is a socket, or if
/// the system cannot read the kind.
pub fn no_socket(path: &Path) -> Option<&'static str> {
    let kind = std::fs::metadata(path).ok()?.file_type();
    (!kind.is_socket()).then(|| name(kind))
}

/// Returns the kind of a file with its article, for messages.
fn name(kind: FileType) -> &'static str {
    match kind {
        _ if kind.is_file() => "a regular file",
        _ if kind.is_dir() => "a folder",
        _ if kind.is_fifo() => "a pipe",
        _ if kind.is_socket() => "a socket",
        _ => "a device",
    }
}

/// Reads a regular file of at most `most` bytes. Returns `None` if the file does not exist.
///
/// # Errors
/// The errors of [`open`], the errors of the disk during the read, and an error if the file has
/// more than `most` bytes.
pub fn read(path: &Path, most: u64) -> io::Result<Option<Vec<u8>>> {
    match read_present(path, most) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        read => read.map(Some),
    }
}

/// Reads a regular file of at most `most` bytes. The file must exist.
///
/// # Errors
/// The errors of [`open`], the errors of the disk during the read, and an error if the file has
/// more than `most` bytes.
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
        assert_eq!(why(&pipe), "it is a pipe, not a regular file");
        assert_eq!(why(dir.path()), "it is a folder, not a regular file");
        assert_eq!(why(Path::new("/dev/null")), "it is a device, not a regular file");
        let plain = dir.path().join("plain");
        fs::write(&plain, "").unwrap();
        assert_eq!(no_socket(&plain), Some("a regular file"));
        assert_eq!(no_socket(&pipe), Some("a pipe"));
        assert_eq!((no_socket(&socket), no_socket(&dir.path().join("none"))), (None, None));
        // For a socket, the call of `open` itself fails, so the error text comes from the system.
        assert!(read(&socket, 9).is_err());
    }
}
