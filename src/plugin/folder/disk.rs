//! The plugin folder on disk: list it, read one file with care, publish one.
//!
//! Nothing here waits on what it finds: only regular files are opened, and those without blocking.
//! It does not decide whether a file is settled or wanted; that is `settle.rs`.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::fs::{self, File, Metadata, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

use nix::fcntl::OFlag;

use super::settle::{Entry, Kind, Outcome, Sample};
use super::{MAX_NAME, check_name};
use crate::plugin::ModuleHash;
use crate::stamp::Stamp;

/// Names read from the folder in one look. A folder with more of them is not a plugin folder; those
/// that are known already are looked at all the same.
const MAX_LISTED: usize = 10_000;

/// The plugin that a file of this name is: its stem, or the quoted name if that breaks the rules.
/// `None` for what is none of our business: hidden and temporary files, other suffixes.
pub(super) fn plugin_name(file: &OsStr) -> Option<Result<String, String>> {
    // `x.wasm.tmp`, `x.wasm~`, `x.wasm.part` and `.x.wasm.swp` do not end in `.wasm` either.
    let bytes = file.as_encoded_bytes();
    if bytes.starts_with(b".") || !bytes.ends_with(b".wasm") {
        return None;
    }
    let text = file.to_string_lossy();
    let stem = text.strip_suffix(".wasm").unwrap_or(&text);
    let is_valid = file.to_str().is_some() && check_name(stem).is_ok();
    Some(if is_valid { Ok(stem.to_owned()) } else { Err(quoted(stem)) })
}

/// A name that may hold anything, fit for a log line.
pub(super) fn quoted(name: &str) -> String {
    let mut quoted: String = name.chars().take(MAX_NAME).flat_map(char::escape_default).collect();
    if quoted.len() > MAX_NAME || name.chars().nth(MAX_NAME).is_some() {
        quoted.truncate(MAX_NAME); // all ASCII now
        quoted.push_str("...");
    }
    format!("\"{quoted}\"")
}

/// Everything in `dir` that may be a plugin, by name, and those of `known` that are still there.
pub(super) fn list<'a>(
    dir: &Path,
    known: impl Iterator<Item = &'a Path>,
) -> io::Result<BTreeMap<String, Entry>> {
    let mut files: BTreeSet<OsString> =
        known.filter_map(Path::file_name).map(OsStr::to_owned).collect();
    for file in fs::read_dir(dir)?.take(MAX_LISTED) {
        let file = file?.file_name();
        if plugin_name(&file).is_some() {
            files.insert(file);
        }
    }
    let mut entries = BTreeMap::new();
    for file in files {
        let path = dir.join(&file);
        let (Some(name), Some(mut sample)) = (plugin_name(&file), sample(&path)) else { continue };
        if name.is_err() {
            sample.kind = Kind::Misnamed;
        }
        let (Ok(name) | Err(name)) = name;
        entries.entry(name).or_insert(Entry { path, sample });
    }
    Ok(entries)
}

/// What is at `path` now, through symbolic links. `None` if there is nothing.
fn sample(path: &Path) -> Option<Sample> {
    match fs::metadata(path) {
        Ok(meta) => Some(Sample::of(&meta)),
        Err(error) => {
            // A link to nothing, or no link at all?
            let link = fs::symlink_metadata(path).ok()?;
            Some(Sample { kind: Kind::Unreadable(error.to_string()), ..Sample::of(&link) })
        }
    }
}

impl Sample {
    fn of(meta: &Metadata) -> Self {
        let kind = meta.file_type();
        let kind = if kind.is_file() {
            Kind::File
        } else if kind.is_dir() {
            Kind::Other("a directory")
        } else if kind.is_fifo() {
            Kind::Other("a named pipe")
        } else if kind.is_socket() {
            Kind::Other("a socket")
        } else {
            Kind::Other("a device")
        };
        Self { stamp: Stamp::from(meta), kind }
    }
}

/// Reads the file that was sampled, once. If it is no longer that file or changes meanwhile, it
/// has moved and the bytes are worth nothing.
pub(super) fn read(path: &Path, expected: &Sample) -> Outcome {
    match try_read(path, expected) {
        Ok(Some(bytes)) => Outcome::Bytes(ModuleHash::of(&bytes), bytes),
        Ok(None) => Outcome::Moved,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Outcome::Moved,
        Err(error) => Outcome::Failed(error.to_string()),
    }
}

fn try_read(path: &Path, expected: &Sample) -> io::Result<Option<Arc<[u8]>>> {
    // Should a pipe have taken the file's place since it was sampled, opening it does not hang.
    let flags = OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    let file = OpenOptions::new().read(true).custom_flags(flags.bits()).open(path)?;
    if Sample::of(&file.metadata()?) != *expected {
        return Ok(None);
    }
    let Ok(size) = usize::try_from(expected.stamp.bytes) else { return Ok(None) };
    let mut bytes = Vec::with_capacity(size);
    (&file).take(expected.stamp.bytes + 1).read_to_end(&mut bytes)?;
    let is_same = bytes.len() == size && sample(path).as_ref() == Some(expected);
    Ok(is_same.then(|| bytes.into()))
}

/// Puts `bytes` into the folder as the plugin `name`, so that nobody ever sees half of them:
/// writes `.name.wasm.tmp`, syncs it, renames it, syncs the folder.
///
/// # Errors
/// The name breaks the rules (`InvalidInput`), somebody else is publishing under it at this moment
/// (`WouldBlock`), or the file system says no; then the plugin is what it was.
pub fn publish(dir: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    check_name(name).map_err(|refusal| io::Error::new(io::ErrorKind::InvalidInput, refusal))?;
    put(dir, &format!("{name}.wasm"), bytes)
}

/// The same under any name of a file, which the caller answers for.
///
/// # Errors
/// As for [`publish`], the rules for names apart.
pub(in super::super) fn put(dir: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    let temporary = dir.join(format!(".{name}.tmp"));
    let file = open_alone(&temporary, name)?;
    let published = write_and_rename(&file, bytes, &temporary, &dir.join(name));
    if published.is_err() {
        let _ = fs::remove_file(&temporary); // half a file, or already gone
    }
    published?;
    File::open(dir)?.sync_all()
}

fn write_and_rename(mut file: &File, bytes: &[u8], from: &Path, to: &Path) -> io::Result<()> {
    file.set_len(0)?; // a publisher that died may have left something
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(from, to)
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
    Ok(sample(path).is_some_and(|now| {
        let there = now.stamp;
        now.kind == Kind::File && (there.device, there.inode) == (open.device, open.inode)
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_names() {
        let check = |file: &str, expected: Option<Result<&str, &str>>| {
            let expected =
                expected.map(|name| name.map(str::to_owned).map_err(|name| format!("\"{name}\"")));
            assert_eq!(plugin_name(OsStr::new(file)), expected, "{file}");
        };
        check("tank.wasm", Some(Ok("tank")));
        check("tank.v2.wasm", Some(Ok("tank.v2")));
        check("a b.wasm", Some(Err("a b")));
        check("\u{1b}[2J\n.wasm", Some(Err(r"\u{1b}[2J\n")));
        check(&format!("{}.wasm", "x".repeat(70)), Some(Err(&format!("{}...", "x".repeat(64)))));
        for ignored in [
            ".wasm",
            ".tank.wasm",
            ".tank.wasm.tmp",
            "tank.wasm.tmp",
            "tank.wasm~",
            "tank.wasm.part",
            ".tank.wasm.swp",
            "tank.wasm.swp",
            "tank.WASM",
            "tank.wat",
            "tank",
            "wasm",
        ] {
            check(ignored, None);
        }
    }

    #[test]
    fn only_what_was_sampled_is_read() {
        let dir = tempfile::tempdir().expect("a temporary directory can be made");
        let path = dir.path().join("a.wasm");
        fs::write(&path, b"one").unwrap();
        let before = sample(&path).unwrap();
        assert!(
            matches!(read(&path, &before), Outcome::Bytes(of, _) if of == ModuleHash::of(b"one"))
        );
        fs::write(&path, b"longer").unwrap();
        assert!(matches!(read(&path, &before), Outcome::Moved));
        fs::remove_file(&path).unwrap();
        assert!(matches!(read(&path, &before), Outcome::Moved));
        // A pipe in the file's place: reading returns at once.
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(matches!(read(&path, &before), Outcome::Moved));
        assert_eq!(sample(&path).unwrap().kind, Kind::Other("a named pipe"));
    }

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
    }
}
