//! Publishing: puts a plugin file into a folder. No program that reads the folder ever sees an
//! incomplete plugin file.
//!
//! ```text
//! write .tank.wasm.tmp ─▶ sync the file ─▶ rename to tank.wasm ─▶ sync the folder
//! ```
//!
//! Before the renaming, the new bytes are only in a hidden temporary file, which is no plugin. The
//! functions here do not check whether the bytes are a valid module: the caller must do that.

use std::fs::{self, File, Metadata, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use nix::fcntl::OFlag;

use super::home::Home;
use crate::name::PluginName;
use crate::patience::Commit;
use crate::stamp::Stamp;

/// Puts `bytes` into the folder as the plugin `name`, in four steps: writes `.name.wasm.tmp`, syncs
/// this file, renames it to `name.wasm`, and syncs the folder. So no reader of the folder sees
/// incomplete bytes.
///
/// # Errors
/// Another publisher uses the name at this moment (`WouldBlock`), or the file system reports an
/// error. On an error before the renaming, the plugin is unchanged.
pub fn publish(dir: &Path, name: &PluginName, bytes: &[u8]) -> io::Result<()> {
    put(dir, &format!("{name}.wasm"), bytes)
}

/// Puts `bytes` into the folder `dir` like [`publish`], but renames the file only if `dir` is still
/// the watched folder. The caller may give up this work while a slow file system delays the work.
/// If the caller gives up before the renaming begins, `commit` prevents the renaming. If the caller
/// gives up later, [`Commit::give_up`] returns whether the plugin is already replaced, or that this
/// is unknown.
///
/// # Errors
/// The errors of [`publish`], and these: the caller has given up the work, or `dir` is another
/// folder now. An error after the renaming means that the plugin is replaced, but the change may
/// not be on the disk yet.
pub fn publish_if(
    (dir, home): (&Path, &Home),
    name: &PluginName,
    bytes: &[u8],
    commit: &Commit,
) -> io::Result<()> {
    put_if(dir, &format!("{name}.wasm"), bytes, (&|| home.check(dir), commit))
}

/// Puts `bytes` into the folder like [`publish`]. `name` is the complete file name.
///
/// # Errors
/// The errors of [`publish`].
pub(in super::super) fn put(dir: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    put_if(dir, name, bytes, (&|| Ok(()), &Commit::default()))
}

/// Writes the temporary file and renames it. `may` is called immediately before the renaming. If
/// `may` returns an error, the file is not renamed. The renaming is the step that `commit`
/// protects.
fn put_if(
    dir: &Path,
    name: &str,
    bytes: &[u8],
    (may, commit): (&dyn Fn() -> io::Result<()>, &Commit),
) -> io::Result<()> {
    let temporary = dir.join(format!(".{name}.tmp"));
    let file = open_alone(&temporary, name)?;
    let published = write(&file, bytes)
        .and_then(|()| may())
        .and_then(|()| commit.make(|| fs::rename(&temporary, dir.join(name))));
    if published.is_err() {
        let _ = fs::remove_file(&temporary); // half a file, or already gone
    }
    published?;
    File::open(dir)?.sync_all()
}

/// Replaces the contents of the temporary file, and syncs them to the disk.
fn write(mut file: &File, bytes: &[u8]) -> io::Result<()> {
    file.set_len(0)?; // a publisher that died may have left something
    file.write_all(bytes)?;
    file.sync_all()
}

/// Opens and locks the temporary file. The lock prevents two publishers of the same name from
/// mixing their bytes. If a publisher dies, the system releases its lock, so other publishers are
/// not blocked.
fn open_alone(path: &Path, name: &str) -> io::Result<File> {
    let busy = || {
        let text = format!("another process is publishing {name} at this moment; try again");
        io::Error::new(io::ErrorKind::WouldBlock, text)
    };
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false) // another publisher may own it, until it is locked
        .mode(0o644)
        .custom_flags((OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits())
        .open(path)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(busy()),
        Err(TryLockError::Error(error)) => return Err(error),
    }
    // Between the opening and the locking, another publisher may have renamed the file. In that
    // case the open file is the published plugin itself, and must not be written.
    if is_at(&file, path)? { Ok(file) } else { Err(busy()) }
}

/// Whether the open file is a regular file, and is still the file at this path.
fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    let open = Stamp::from(&file.metadata()?);
    let there = fs::metadata(path).ok().filter(Metadata::is_file);
    Ok(there.is_some_and(|there| (there.dev(), there.ino()) == (open.device, open.inode)))
}

#[cfg(test)]
mod tests {
    use super::super::home::Identity;
    use super::*;
    use crate::patience::{Committed, is_late};

    #[test]
    fn publishing_is_whole_or_nothing() {
        let dir = tempfile::tempdir().expect("a temporary directory can be made");
        let (a, b): (PluginName, PluginName) = ("a".parse().unwrap(), "b".parse().unwrap());
        let files = || -> Vec<_> {
            fs::read_dir(dir.path()).unwrap().map(|file| file.unwrap().file_name()).collect()
        };
        fs::write(dir.path().join(".a.wasm.tmp"), b"left behind by one that died").unwrap();
        publish(dir.path(), &a, b"one").unwrap();
        assert_eq!(fs::read(dir.path().join("a.wasm")).unwrap(), b"one");
        assert_eq!(files(), ["a.wasm"]);

        assert!("../a".parse::<PluginName>().is_err(), "a name is no path to another folder");

        let temporary = dir.path().join(".a.wasm.tmp");
        let other = open_alone(&temporary, "a").unwrap();
        let busy = publish(dir.path(), &a, b"two").unwrap_err();
        assert_eq!(busy.kind(), io::ErrorKind::WouldBlock);
        drop(other);
        publish(dir.path(), &a, b"two").unwrap();
        assert_eq!(fs::read(dir.path().join("a.wasm")).unwrap(), b"two");

        // A publisher has opened the temporary file. The file is then renamed by another publisher,
        // so the open file is the published plugin.
        let file = open_alone(&temporary, "a").unwrap();
        assert!(is_at(&file, &temporary).unwrap());
        fs::rename(&temporary, dir.path().join("a.wasm")).unwrap();
        assert!(!is_at(&file, &temporary).unwrap());

        // If a directory has the name of the plugin, the renaming fails. The temporary file is then
        // removed.
        fs::create_dir(dir.path().join("b.wasm")).unwrap();
        assert!(publish(dir.path(), &b, b"three").is_err());
        assert!(!dir.path().join(".b.wasm.tmp").exists());

        // If the caller has given up before the renaming, the new file does not replace the plugin.
        publish(dir.path(), &a, b"two").unwrap();
        let home = Home::default();
        let publish_if = |dir: &Path, commit| publish_if((dir, &home), &a, b"late", commit);
        let given_up = Commit::default();
        given_up.give_up();
        let late = publish_if(dir.path(), &given_up).unwrap_err();
        assert!(is_late(&late), "{late}");
        assert_eq!(fs::read(dir.path().join("a.wasm")).unwrap(), b"two");
        assert!(!dir.path().join(".a.wasm.tmp").exists());

        // The watched folder is another folder than the target of the publication.
        let other = tempfile::tempdir().unwrap();
        home.set(Identity::of(other.path()).unwrap());
        let commit = Commit::default();
        publish_if(dir.path(), &commit).unwrap_err();
        assert_eq!(commit.give_up(), Committed::No);
        assert_eq!(fs::read(dir.path().join("a.wasm")).unwrap(), b"two");
        let commit = Commit::default();
        publish_if(other.path(), &commit).unwrap();
        assert_eq!(commit.give_up(), Committed::Yes);
        assert_eq!(fs::read(other.path().join("a.wasm")).unwrap(), b"late");
    }
}
