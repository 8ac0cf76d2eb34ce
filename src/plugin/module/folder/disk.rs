//! The plugin folder on disk: lists it, and reads one file with care.
//!
//! This file opens only regular files, and opens them without blocking. The file system may still
//! make a call wait, so each call is noted in a [`Wait`]. Links may lead to another file system, so
//! `folder/link.rs` decides when they are followed. Whether a file is settled or wanted is decided
//! in `folder/settle.rs`. Files are written in `folder/publish.rs`.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

use nix::errno::Errno;
use nix::fcntl::OFlag;

use super::settle::{Entry, Kind, Listing, Outcome, Sample};
use super::wait::Wait;
use super::{FileName, Overlooked};
use crate::plugin::ModuleHash;
use crate::stamp::Stamp;

/// Most names that one look reads from the folder; to read so many takes 50 ms. Files that are
/// known already are examined in any case. Further names are overlooked, and the watch reports
/// this.
const MAX_LISTED: usize = 100_000;

/// Most files that one look examines in addition to the known files: four times as many as there
/// may be plugins. To examine so many takes a millisecond or two. Further files are overlooked, and
/// the watch reports this.
pub(super) const MAX_CANDIDATES: usize = 1024;

/// Bytes read in one call. 16 MB take 256 calls, and each call has its own time limit.
const CHUNK: usize = 64 << 10;

/// The end of a plugin file's name.
const SUFFIX: &str = ".wasm";

/// The plugin of a file with this name: its stem, or the quoted name if that breaks the rules.
/// `None` for files that are ignored: hidden and temporary ones, and those with other ends.
pub(super) fn file_name(file: &OsStr) -> Option<FileName> {
    // `x.wasm.tmp`, `x.wasm~`, `x.wasm.part` and `.x.wasm.swp` are no plugins: they do not end in
    // `.wasm`, or they begin with a dot.
    let bytes = file.as_encoded_bytes();
    if bytes.starts_with(b".") || !has_suffix(bytes) {
        return None;
    }
    let text = file.to_string_lossy();
    let misnamed = |text: &str| FileName::Misnamed(quoted(text));
    let Some(stem) = text.strip_suffix(SUFFIX) else { return Some(misnamed(&text)) };
    // If a name is not UTF-8, its bad bytes are replaced by characters that no plugin's name may
    // have, so the name is refused.
    Some(stem.parse().map_or_else(|_| misnamed(stem), FileName::Plugin))
}

/// Whether the name ends in `.wasm`, in upper or lower case. `X.WASM` is no plugin, because two
/// files could then have one name. The refusal names the file, so that its author learns of it.
fn has_suffix(name: &[u8]) -> bool {
    let end = name.len().checked_sub(SUFFIX.len()).and_then(|at| name.get(at..));
    end.is_some_and(|end| end.eq_ignore_ascii_case(SUFFIX.as_bytes()))
}

/// Why a file of that name cannot be a plugin.
fn misnamed(file: &OsStr) -> Kind {
    match file.as_encoded_bytes().ends_with(SUFFIX.as_bytes()) {
        true => Kind::Misnamed,
        false => Kind::Missuffixed,
    }
}

/// The most characters of a text in quotes in a log line.
const MAX_QUOTED: usize = 64;

/// A text in quotes that is fit for a log line, made from a name with any contents.
pub(super) fn quoted(name: &str) -> String {
    let mut quoted: String = name.chars().take(MAX_QUOTED).flat_map(char::escape_default).collect();
    if quoted.len() > MAX_QUOTED || name.chars().nth(MAX_QUOTED).is_some() {
        quoted.truncate(MAX_QUOTED); // all ASCII now
        quoted.push_str("...");
    }
    format!("\"{quoted}\"")
}

/// Lists every entry of `dir` that may be a plugin, and the files of `known` that still exist.
/// Links are not followed.
pub(super) fn list<'a>(
    dir: &Path,
    known: impl Iterator<Item = &'a Path>,
    wait: &Wait,
) -> io::Result<Listing> {
    let mut files: BTreeSet<OsString> =
        known.filter_map(Path::file_name).map(OsStr::to_owned).collect();
    let room = files.len() + MAX_CANDIDATES;
    let mut overlooked = Overlooked::default();
    let mut names = wait.during(|| fs::read_dir(dir))?;
    for n in 0.. {
        let Some(file) = wait.during(|| names.next()) else { break };
        let file = file?.file_name();
        let is_candidate = file_name(&file).is_some();
        if n == MAX_LISTED || (is_candidate && files.len() >= room && !files.contains(&file)) {
            overlooked.files += 1;
            overlooked.example = quoted(&file.to_string_lossy());
        } else if is_candidate {
            files.insert(file);
        }
        if n == MAX_LISTED {
            break;
        }
    }
    let (mut entries, mut links) = (BTreeMap::new(), Vec::new());
    for file in files {
        let path = dir.join(&file);
        let Some(name) = file_name(&file) else { continue };
        let Some(mut sample) = wait.during(|| sample(&path)) else { continue };
        if let FileName::Misnamed(_) = name {
            sample.kind = misnamed(&file);
        }
        if sample.kind == LINK {
            links.push(name.clone());
        }
        entries.entry(name).or_insert(Entry { path, sample });
    }
    Ok(Listing { entries, links, overlooked })
}

/// The kind of a link that was not followed.
const LINK: Kind = Kind::Other("a link");

/// A sample of `path`; `None` if no file has this path. A file that cannot be examined counts as a
/// file that exists.
fn sample(path: &Path) -> Option<Sample> {
    match fs::symlink_metadata(path) {
        Ok(meta) => Some(Sample::of(&meta)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => {
            let kind = Kind::Unreadable(error.to_string());
            Some(Sample { stamp: Stamp::default(), kind })
        }
    }
}

/// A sample of the file that the link at `path` leads to.
pub(super) fn led_to(path: &Path) -> io::Result<Sample> {
    fs::metadata(path).map(|meta| Sample::of(&meta))
}

impl Sample {
    fn of(meta: &Metadata) -> Self {
        let kind = meta.file_type();
        let kind = if kind.is_file() {
            Kind::File
        } else if kind.is_dir() {
            Kind::Other("a directory")
        } else if kind.is_symlink() {
            LINK
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

/// Reads the sampled file once, unless a link has taken its place. If `path` has another file by
/// now, or the file changes meanwhile, the outcome is [`Outcome::Moved`], and the bytes are
/// dropped.
pub(super) fn read(path: &Path, expected: &Sample, wait: &Wait) -> Outcome {
    outcome(try_read(path, expected, wait, (OFlag::O_NOFOLLOW, sample)))
}

/// Reads the file that a link leads to. The rules are those of [`read`].
pub(super) fn read_link(path: &Path, expected: &Sample, wait: &Wait) -> Outcome {
    outcome(try_read(path, expected, wait, (OFlag::empty(), |path| led_to(path).ok())))
}

/// Judges how a reading ended.
fn outcome(read: io::Result<Option<Arc<[u8]>>>) -> Outcome {
    // The error says that a link has taken the place of the file.
    let is_link = |error: &io::Error| error.raw_os_error() == Some(Errno::ELOOP as i32);
    match read {
        Ok(Some(bytes)) => Outcome::Bytes(ModuleHash::of(&bytes), bytes),
        Ok(None) => Outcome::Moved,
        Err(error) if error.kind() == io::ErrorKind::NotFound || is_link(&error) => Outcome::Moved,
        Err(error) => Outcome::Failed(error.to_string()),
    }
}

/// Opens the file with the flags `how`, and compares it with `expected` before and after reading.
fn try_read(
    path: &Path,
    expected: &Sample,
    wait: &Wait,
    (how, sample): (OFlag, fn(&Path) -> Option<Sample>),
) -> io::Result<Option<Arc<[u8]>>> {
    let file = wait.during(|| open(path, how))?;
    if Sample::of(&wait.during(|| file.metadata())?) != *expected {
        return Ok(None);
    }
    let Some(bytes) = read_exactly(&file, expected.stamp.bytes, wait)? else { return Ok(None) };
    let is_same = wait.during(|| sample(path)).as_ref() == Some(expected);
    Ok(is_same.then(|| bytes.into()))
}

/// Opens the file without blocking: a pipe may have taken its place since it was sampled.
fn open(path: &Path, how: OFlag) -> io::Result<File> {
    let flags = OFlag::O_NONBLOCK | OFlag::O_NOCTTY | how;
    OpenOptions::new().read(true).custom_flags(flags.bits()).open(path)
}

/// The contents of a file that has this many bytes; `None` if it has more or fewer.
fn read_exactly(mut file: &File, bytes: u64, wait: &Wait) -> io::Result<Option<Vec<u8>>> {
    let Ok(size) = usize::try_from(bytes) else { return Ok(None) };
    let mut contents = Vec::with_capacity(size);
    let mut chunk = vec![0; CHUNK.min(size + 1)];
    loop {
        match wait.during(|| file.read(&mut chunk)) {
            Ok(0) => return Ok((contents.len() == size).then_some(contents)),
            Ok(n) if contents.len() + n > size => return Ok(None),
            Ok(n) => contents.extend_from_slice(&chunk[..n]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Reads a file that was in the folder before. The call may wait for the disk.
///
/// # Errors
/// The file cannot be read, is no regular file, has more than `max_bytes`, or changes meanwhile.
pub fn reread(path: &Path, max_bytes: u64) -> io::Result<Vec<u8>> {
    let file = open(path, OFlag::empty())?;
    let meta = file.metadata()?;
    if !meta.is_file() {
        return Err(io::Error::other("it is no file any more"));
    }
    if meta.len() > max_bytes {
        let text = format!(
            "it has {} bytes by now, at most {max_bytes} are allowed (plugins.module in the \
             configuration)",
            meta.len()
        );
        return Err(io::Error::other(text));
    }
    let contents = read_exactly(&file, meta.len(), &Wait::default())?;
    contents.ok_or_else(|| io::Error::other("it changes while it is read"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_names() {
        let check = |file: &str, expected: Option<Result<&str, &str>>| {
            let expected = expected.map(|name| match name {
                Ok(name) => FileName::Plugin(name.parse().unwrap()),
                Err(name) => FileName::Misnamed(format!("\"{name}\"")),
            });
            assert_eq!(file_name(OsStr::new(file)), expected, "{file}");
        };
        check("tank.wasm", Some(Ok("tank")));
        check("tank.v2.wasm", Some(Ok("tank.v2")));
        check("a b.wasm", Some(Err("a b")));
        check("\u{1b}[2J\n.wasm", Some(Err(r"\u{1b}[2J\n")));
        check("tank.WASM", Some(Err("tank.WASM")));
        check("tank.Wasm", Some(Err("tank.Wasm")));
        check(&format!("{}.wasm", "x".repeat(129)), Some(Err(&format!("{}...", "x".repeat(64)))));
        check("-y.wasm", Some(Err("-y")));
        for ignored in [
            ".wasm",
            ".tank.wasm",
            ".tank.wasm.tmp",
            "tank.wasm.tmp",
            "tank.wasm~",
            "tank.wasm.part",
            ".tank.wasm.swp",
            "tank.wasm.swp",
            "tank.wat",
            "tank",
            "wasm",
        ] {
            check(ignored, None);
        }
    }

    /// A card that fails, or a folder that can be listed but not searched, stopped all programs.
    #[test]
    fn what_cannot_be_looked_at_is_not_gone() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(sample(&dir.path().join("x.wasm")), None);
        // The system refuses to examine a file with so long a name, as it does if the right to
        // search the folder is missing.
        let long = dir.path().join("x".repeat(300));
        let kind = sample(&long).expect("nobody knows that it is gone").kind;
        assert!(matches!(&kind, Kind::Unreadable(why) if why.contains("too long")), "{kind:?}");
    }

    #[test]
    fn only_what_was_sampled_is_read() {
        let dir = tempfile::tempdir().expect("a temporary directory can be made");
        let path = dir.path().join("a.wasm");
        fs::write(&path, b"one").unwrap();
        let before = sample(&path).unwrap();
        let first = read(&path, &before, &Wait::default());
        assert!(matches!(first, Outcome::Bytes(of, _) if of == ModuleHash::of(b"one")));
        fs::write(&path, b"longer").unwrap();
        assert!(matches!(read(&path, &before, &Wait::default()), Outcome::Moved));
        fs::remove_file(&path).unwrap();
        assert!(matches!(read(&path, &before, &Wait::default()), Outcome::Moved));
        // A link may lead to a file system that does not answer, so it is not followed.
        let file = dir.path().join("b.wasm");
        fs::write(&file, b"led to").unwrap();
        std::os::unix::fs::symlink(&file, &path).unwrap();
        let lead = led_to(&path).unwrap();
        assert_eq!(sample(&path).unwrap().kind, LINK);
        assert!(matches!(read(&path, &lead, &Wait::default()), Outcome::Moved));
        let led = read_link(&path, &lead, &Wait::default());
        assert!(matches!(led, Outcome::Bytes(of, _) if of == ModuleHash::of(b"led to")));
        fs::remove_file(&path).unwrap();
        // A file that has grown since is not read as a whole.
        fs::write(&path, b"longer").unwrap();
        assert_eq!(reread(&path, 6).unwrap(), b"longer");
        let large = reread(&path, 5).unwrap_err();
        let words = "at most 5 are allowed (plugins.module in the configuration)";
        assert_eq!(large.to_string(), format!("it has 6 bytes by now, {words}"));
        fs::remove_file(&path).unwrap();
        // If a pipe has taken the file's place, reading returns at once.
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(matches!(read(&path, &before, &Wait::default()), Outcome::Moved));
        assert_eq!(sample(&path).unwrap().kind, Kind::Other("a named pipe"));
        assert_eq!(reread(&path, 5).unwrap_err().to_string(), "it is no file any more");
    }
}
