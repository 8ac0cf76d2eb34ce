//! Puts a file into a folder so that nobody ever sees half of it.
//!
//! Whoever looks at the folder meanwhile sees a hidden temporary file, which is no plugin. That the
//! bytes are a module is for the caller to find out.

use std::fs::{self, File, Metadata, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use nix::fcntl::OFlag;

use super::check_name;
use super::home::Home;
use crate::patience::Commit;
use crate::stamp::Stamp;

/// Puts `bytes` into the folder as the plugin `name`, so that nobody ever sees half of them:
/// writes `.name.wasm.tmp`, syncs it, renames it, syncs the folder.
///
/// # Errors
/// The name breaks the rules (`InvalidInput`), somebody else is publishing under it at this moment
/// (`WouldBlock`), or the file system says no; then the plugin is what it was.
pub fn publish(dir: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    publish_as(dir, name, bytes, (&|| Ok(()), &Commit::default()))
}

/// Puts `bytes` into the folder `dir` like [`publish`], if that is still the folder that is watched
/// when all of them are written. To give them their name is the step of `commit`, because a file
/// system may have kept this waiting until nobody expects it any more, or may do so behind it.
///
/// # Errors
/// As for [`publish`], that it was given up, and that it is another folder. Once the step is taken,
/// an error says that the folder may not be on the disk yet.
pub fn publish_if(
    (dir, home): (&Path, &Home),
    name: &str,
    bytes: &[u8],
    commit: &Commit,
) -> io::Result<()> {
    publish_as(dir, name, bytes, (&|| home.check(dir), commit))
}

fn publish_as(
    dir: &Path,
    name: &str,
    bytes: &[u8],
    end: (&dyn Fn() -> io::Result<()>, &Commit),
) -> io::Result<()> {
    check_name(name).map_err(|refusal| io::Error::new(io::ErrorKind::InvalidInput, refusal))?;
    put_if(dir, &format!("{name}.wasm"), bytes, end)
}

/// Puts `bytes` into the folder like [`publish`], under any name of a file, which the caller
/// answers for.
///
/// # Errors
/// As for [`publish`], the rules for names apart.
pub(in super::super) fn put(dir: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    put_if(dir, name, bytes, (&|| Ok(()), &Commit::default()))
}

/// `may` is asked when nothing is left to do but to give the file its name, which is the step of
/// `commit`.
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

fn write(mut file: &File, bytes: &[u8]) -> io::Result<()> {
    file.set_len(0)?; // a publisher that died may have left something
    file.write_all(bytes)?;
    file.sync_all()
}

/// Opens the temporary file so that two publishers of one name cannot mix their bytes. The lock
/// goes with the file, so one that died locks nobody out.
fn open_alone(path: &Path, name: &str) -> io::Result<File> {
    let busy = || {
        let text = format!("{name} is being published by somebody else at this moment; try again");
        io::Error::new(io::ErrorKind::WouldBlock, text)
    };
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false) // it may be somebody else's, until it is locked
        .mode(0o644)
        .custom_flags((OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits())
        .open(path)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(busy()),
        Err(TryLockError::Error(error)) => return Err(error),
    }
    // The one before us may have renamed it between our opening and our locking: then this is
    // the published plugin itself.
    if is_at(&file, path)? { Ok(file) } else { Err(busy()) }
}

/// Whether the open file is a regular one and still has that name.
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
        let files = || -> Vec<_> {
            fs::read_dir(dir.path()).unwrap().map(|file| file.unwrap().file_name()).collect()
        };
        fs::write(dir.path().join(".a.wasm.tmp"), b"left behind by one that died").unwrap();
        publish(dir.path(), "a", b"one").unwrap();
        assert_eq!(fs::read(dir.path().join("a.wasm")).unwrap(), b"one");
        assert_eq!(files(), ["a.wasm"]);

        let name = publish(dir.path(), "../a", b"x").unwrap_err();
        assert_eq!(name.kind(), io::ErrorKind::InvalidInput);

        let temporary = dir.path().join(".a.wasm.tmp");
        let other = open_alone(&temporary, "a").unwrap();
        let busy = publish(dir.path(), "a", b"two").unwrap_err();
        assert_eq!(busy.kind(), io::ErrorKind::WouldBlock);
        drop(other);
        publish(dir.path(), "a", b"two").unwrap();
        assert_eq!(fs::read(dir.path().join("a.wasm")).unwrap(), b"two");

        // One that opened the temporary file before it was renamed holds the published plugin.
        let file = open_alone(&temporary, "a").unwrap();
        assert!(is_at(&file, &temporary).unwrap());
        fs::rename(&temporary, dir.path().join("a.wasm")).unwrap();
        assert!(!is_at(&file, &temporary).unwrap());

        // A directory in the way: the file system says no, and nothing is left behind.
        fs::create_dir(dir.path().join("b.wasm")).unwrap();
        assert!(publish(dir.path(), "b", b"three").is_err());
        assert!(!dir.path().join(".b.wasm.tmp").exists());

        // Nobody waits for it any more when it is written: it does not take the plugin's place.
        publish(dir.path(), "a", b"two").unwrap();
        let home = Home::default();
        let publish_if = |dir: &Path, commit| publish_if((dir, &home), "a", b"late", commit);
        let given_up = Commit::default();
        given_up.give_up();
        let late = publish_if(dir.path(), &given_up).unwrap_err();
        assert!(is_late(&late), "{late}");
        assert_eq!(fs::read(dir.path().join("a.wasm")).unwrap(), b"two");
        assert!(!dir.path().join(".a.wasm.tmp").exists());

        // The folder that was looked at is another one.
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
