//! The plugin folder on disk: lists the folder, and reads single files.
//!
//! The code here reads only regular files. If a pipe has replaced a file, the attempt to open the
//! pipe does not block. But a file system that does not answer may block any call, so each call of
//! the folder's thread is recorded in a [`Wait`]. A link may lead to another file system, so
//! `folder/link.rs` decides when links are followed. `folder/settle.rs` decides whether a file is
//! settled and must be read. `folder/publish.rs` writes files.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use nix::errno::Errno;
use nix::fcntl::OFlag;

use super::settle::{Entry, EntryKind, Listing, ReadResult, Sample};
use super::wait::Wait;
use super::{FileName, Overlooked};
use crate::plugin::ModuleHash;
use crate::stamp::Stamp;

/// Most names that one pass over the folder reads. To read this number of names takes 50 ms. If
/// there are more names, the watch reports overlooked files. Files that are already known are
/// always examined.
const MAX_LISTED: usize = 100_000;

/// Most files that one pass over the folder examines in addition to the known files: four times as
/// many as there may be plugins. To examine this number of files takes a millisecond or two. If
/// there are more files, the watch reports overlooked files.
pub(super) const MAX_CANDIDATES: usize = 1024;

/// Most bytes that one call reads. A file of 16 MiB takes at least 256 calls. The time limit
/// (`SILENCE` in `folder.rs`) applies to each call, not to the whole file.
const CHUNK: usize = 64 << 10;

/// The last characters of the name of a plugin file.
const SUFFIX: &str = ".wasm";

/// Parses the name of a file. Returns the name of the plugin, or the quoted name if the name breaks
/// the rules. Returns `None` for files that are ignored: hidden files, temporary files, and files
/// that do not end in `.wasm`.
pub(super) fn file_name(file: &OsStr) -> Option<FileName> {
    // Examples of ignored names are `x.wasm.tmp`, `x.wasm~`, `x.wasm.part` and `.x.wasm.swp`. These
    // names do not end in `.wasm`, or begin with a dot.
    let bytes = file.as_encoded_bytes();
    if bytes.starts_with(b".") || !has_suffix(bytes) {
        return None;
    }
    let text = file.to_string_lossy();
    let misnamed = |text: &str| FileName::Misnamed(quoted(text));
    let Some(stem) = text.strip_suffix(SUFFIX) else { return Some(misnamed(&text)) };
    // If a name is not UTF-8, `to_string_lossy` replaces its bad bytes by a character that the rule
    // for names forbids. So the name is refused.
    Some(stem.parse().map_or_else(|_| misnamed(stem), FileName::Plugin))
}

/// Whether the name ends in `.wasm`, in upper or lower case. A file `X.WASM` cannot be a plugin,
/// because otherwise two files could have the same plugin name. The function returns true for
/// `X.WASM`, so the file is not ignored, and its author gets a refusal.
fn has_suffix(name: &[u8]) -> bool {
    let end = name.len().checked_sub(SUFFIX.len()).and_then(|at| name.get(at..));
    end.is_some_and(|end| end.eq_ignore_ascii_case(SUFFIX.as_bytes()))
}

/// The reason why a file with this name cannot be a plugin.
fn misnamed(file: &OsStr) -> EntryKind {
    match file.as_encoded_bytes().ends_with(SUFFIX.as_bytes()) {
        true => EntryKind::Misnamed,
        false => EntryKind::Missuffixed,
    }
}

/// Most characters of a quoted name in a log line.
const MAX_QUOTED: usize = 64;

/// Puts a name in quotes and escapes its special characters, so that a log line can contain it.
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
    Ok(Listing { at: SystemTime::now(), entries, links, overlooked })
}

/// The kind of an entry that is a link, as long as the link was not followed.
const LINK: EntryKind = EntryKind::Other("a link");

/// Takes a sample of `path`; returns `None` if no file has this path. A file that cannot be
/// examined counts as an existing file, because its removal is not proved.
fn sample(path: &Path) -> Option<Sample> {
    match fs::symlink_metadata(path) {
        Ok(meta) => Some(Sample::of(&meta)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => {
            let kind = EntryKind::Unreadable(error.to_string());
            Some(Sample { stamp: Stamp::default(), kind })
        }
    }
}

/// Takes a sample of the file to which the link at `path` leads.
pub(super) fn led_to(path: &Path) -> io::Result<Sample> {
    fs::metadata(path).map(|meta| Sample::of(&meta))
}

impl Sample {
    fn of(meta: &Metadata) -> Self {
        let kind = meta.file_type();
        let kind = if kind.is_file() {
            EntryKind::File
        } else if kind.is_dir() {
            EntryKind::Other("a directory")
        } else if kind.is_symlink() {
            LINK
        } else if kind.is_fifo() {
            EntryKind::Other("a named pipe")
        } else if kind.is_socket() {
            EntryKind::Other("a socket")
        } else {
            EntryKind::Other("a device")
        };
        Self { stamp: Stamp::from(meta), kind }
    }
}

/// Reads the sampled file once. The outcome is [`ReadResult::Moved`], without bytes, in each of
/// these cases: no file, another file or a link is now at `path`, or the file changes while it is
/// read. Any other error gives [`ReadResult::Failed`].
pub(super) fn read(path: &Path, expected: &Sample, wait: &Wait) -> ReadResult {
    outcome(try_read(path, expected, wait, (OFlag::O_NOFOLLOW, sample)))
}

/// Reads the file to which a link leads. The outcomes are those of [`read`], but this function
/// follows the link.
pub(super) fn read_link(path: &Path, expected: &Sample, wait: &Wait) -> ReadResult {
    outcome(try_read(path, expected, wait, (OFlag::empty(), |path| led_to(path).ok())))
}

/// Converts the result of [`try_read`] into the outcome of a reading.
fn outcome(read: io::Result<Option<Arc<[u8]>>>) -> ReadResult {
    // The system reports ELOOP if a link is now at the path, because the flag `O_NOFOLLOW` forbids
    // links.
    let is_link = |error: &io::Error| error.raw_os_error() == Some(Errno::ELOOP as i32);
    match read {
        Ok(Some(bytes)) => ReadResult::Bytes(ModuleHash::of(&bytes), bytes),
        Ok(None) => ReadResult::Moved,
        Err(error) if error.kind() == io::ErrorKind::NotFound || is_link(&error) => {
            ReadResult::Moved
        }
        Err(error) => ReadResult::Failed(error.to_string()),
    }
}

/// Opens the file with the flags `how`, and compares it with `expected` before and after the
/// reading. Returns `None` if it differs, or if it has more or fewer bytes than `expected` says.
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

/// Opens the file. If a pipe has replaced the file since the sample, the call does not block.
fn open(path: &Path, how: OFlag) -> io::Result<File> {
    let flags = OFlag::O_NONBLOCK | OFlag::O_NOCTTY | how;
    OpenOptions::new().read(true).custom_flags(flags.bits()).open(path)
}

/// Reads a file that must have exactly this many bytes. Returns `None` if the file has more or
/// fewer bytes.
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

/// Reads a file that the watch has reported before. The call may block until the disk answers.
///
/// # Errors
/// The file cannot be read, is not a regular file, has more than `max_bytes`, or changes while it
/// is read.
pub fn reread(path: &Path, max_bytes: u64) -> io::Result<Vec<u8>> {
    let file = open(path, OFlag::empty())?;
    let meta = file.metadata()?;
    if !meta.is_file() {
        return Err(io::Error::other("it is not a regular file any more"));
    }
    if meta.len() > max_bytes {
        let text = format!(
            "it now has {} bytes; at most {max_bytes} are allowed (plugins.module in the \
             configuration)",
            meta.len()
        );
        return Err(io::Error::other(text));
    }
    let contents = read_exactly(&file, meta.len(), &Wait::default())?;
    contents.ok_or_else(|| io::Error::other("the file changed while the daemon read it"))
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

    /// A past defect: a failing memory card stopped all programs, because its files counted as
    /// gone. A folder that the daemon may list but not search also stopped all programs.
    #[test]
    fn what_cannot_be_looked_at_is_not_gone() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(sample(&dir.path().join("x.wasm")), None);
        // The system refuses to examine a file whose name has more than 255 bytes. A folder without
        // the right to search it causes a similar error.
        let long = dir.path().join("x".repeat(300));
        let kind = sample(&long).expect("its removal is not proved").kind;
        assert!(
            matches!(&kind, EntryKind::Unreadable(why) if why.contains("too long")),
            "{kind:?}"
        );
    }

    #[test]
    fn only_what_was_sampled_is_read() {
        let dir = tempfile::tempdir().expect("a temporary directory can be made");
        let path = dir.path().join("a.wasm");
        fs::write(&path, b"one").unwrap();
        let before = sample(&path).unwrap();
        let first = read(&path, &before, &Wait::default());
        assert!(matches!(first, ReadResult::Bytes(of, _) if of == ModuleHash::of(b"one")));
        fs::write(&path, b"longer").unwrap();
        assert!(matches!(read(&path, &before, &Wait::default()), ReadResult::Moved));
        fs::remove_file(&path).unwrap();
        assert!(matches!(read(&path, &before, &Wait::default()), ReadResult::Moved));
        // A link may lead to a file system that does not answer. So `read` does not follow it.
        let file = dir.path().join("b.wasm");
        fs::write(&file, b"led to").unwrap();
        std::os::unix::fs::symlink(&file, &path).unwrap();
        let lead = led_to(&path).unwrap();
        assert_eq!(sample(&path).unwrap().kind, LINK);
        assert!(matches!(read(&path, &lead, &Wait::default()), ReadResult::Moved));
        let led = read_link(&path, &lead, &Wait::default());
        assert!(matches!(led, ReadResult::Bytes(of, _) if of == ModuleHash::of(b"led to")));
        fs::remove_file(&path).unwrap();
        // If the file has grown beyond the limit, it is not read at all.
        fs::write(&path, b"longer").unwrap();
        assert_eq!(reread(&path, 6).unwrap(), b"longer");
        let large = reread(&path, 5).unwrap_err();
        let words = "at most 5 are allowed (plugins.module in the configuration)";
        assert_eq!(large.to_string(), format!("it now has 6 bytes; {words}"));
        fs::remove_file(&path).unwrap();
        // If a pipe has replaced the file, the reading returns at once and does not block.
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(matches!(read(&path, &before, &Wait::default()), ReadResult::Moved));
        assert_eq!(sample(&path).unwrap().kind, EntryKind::Other("a named pipe"));
        assert_eq!(reread(&path, 5).unwrap_err().to_string(), "it is not a regular file any more");
    }
}
