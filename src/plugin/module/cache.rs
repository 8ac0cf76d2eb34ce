//! The cache of artifacts on disk. With the cache, the daemon need not compile the same module
//! again after a restart.
//!
//! An artifact is machine code, so a bad artifact can do as much harm as a bad shared library.
//! wasmer checks nothing: it loads and runs a file with flipped bits. Therefore:
//!
//! - The folder is private to the daemon's user.
//! - Every file in the cache begins with a checksum of its file name and of all bytes after the
//!   checksum. The cache compares the checksum before it uses the file, and deletes a file with a
//!   wrong checksum.
//! - If other users had any access to the folder, the cache deletes all artifacts when it opens the
//!   folder. The cache also deletes all artifacts if a file in the folder does not belong to the
//!   daemon's user. The checksum gives no protection here, because any process that can write into
//!   the folder can compute a valid checksum.
//!
//! The daemon does not depend on the cache: without the cache, a module is compiled again.
//! `compile/artifact.rs` defines the contents of an artifact.

use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

use crate::plugin::{Compiler, Limits, ModuleHash};
use crate::state::put_whole;
use crate::text::counted;

/// Most bytes of all files in the cache. If the files have more bytes, the files that were not used
/// for the longest time are deleted first. The artifacts of a hundred plugins of a few kilobytes
/// need about 10 MB.
const MAX_BYTES: u64 = 512 << 20;

/// Length of the checksum at the beginning of each file, in bytes.
const CHECKSUM: usize = blake3::OUT_LEN;

/// Length of a key: the number of hexadecimal digits of a BLAKE3 hash.
const KEY: usize = 2 * blake3::OUT_LEN;

/// The version of the layout of the files in the cache. Each change of the layout must raise this
/// number. The keys contain the number, so a new version of Camshaft finds no file of an old
/// layout.
const LOOK: u32 = 3;

/// The version of wasmer. An artifact is valid for this version only, so the keys contain it. A
/// test compares the text with `Cargo.toml`.
const WASMER: &str = "7.4.2";

/// The cache: a folder of artifacts.
#[derive(Debug, Clone)]
pub struct Cache {
    folder: PathBuf,
    /// Whether the folder did not answer in time when the cache last used it. The threads that use
    /// the cache write this flag, and the thread that makes the status reads it.
    is_late: Arc<AtomicBool>,
}

/// Returns the key of an artifact, which is also its file name. The key is a hash of everything on
/// which the artifact depends.
pub(super) fn key(module: ModuleHash, compiler: Compiler, limits: &Limits) -> String {
    let mut hasher = blake3::Hasher::new();
    let target = wasmer::sys::Target::default();
    let build = (env!("CARGO_PKG_VERSION"), WASMER, LOOK, super::flag::FORM, target);
    hasher.update(format!("{module:#} {compiler:?} {limits:?} {build:?}").as_bytes());
    hasher.finalize().to_hex().to_string()
}

/// The checksum at the beginning of a file. The checksum covers the key, so the cache does not
/// accept a renamed file as another artifact.
fn checksum(key: &str, parts: &[&[u8]]) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&(key.len() as u64).to_le_bytes());
    hasher.update(key.as_bytes());
    parts.iter().for_each(|part| {
        hasher.update(part);
    });
    hasher.finalize()
}

impl Cache {
    /// Opens the folder. Creates the folder if it is missing. If other users had access to the
    /// folder, it is made private, and its artifacts are deleted.
    ///
    /// # Errors
    /// The folder cannot be created, made private or emptied, or it belongs to another user.
    pub fn open(folder: &Path) -> io::Result<Self> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        let about = fs::metadata(folder)?;
        if !is_ours(&about) {
            return Err(io::Error::other("it belongs to another user"));
        }
        let mode = about.mode() & 0o7777;
        if mode & 0o077 != 0 {
            fs::set_permissions(folder, fs::Permissions::from_mode(0o700))?;
        }
        let cache = Self { folder: folder.to_path_buf(), is_late: Arc::default() };
        if mode & 0o077 != 0 {
            cache.empty(&format!("other users had access to the folder (mode {mode:04o})"))?;
        } else if let Some(strange) = cache.strange_file()? {
            cache.empty(&format!(
                "its entry {strange} is not a regular file, or another user owns it or can write it"
            ))?;
        }
        Ok(cache)
    }

    /// Returns the name of a file that is named like an artifact, but cannot be from this cache;
    /// `None` if there is no such file.
    fn strange_file(&self) -> io::Result<Option<String>> {
        let is_strange = |about: &fs::Metadata| {
            // A folder with the name of an artifact counts as damaged, and not as strange, if it
            // belongs to the daemon's user: no other user has created it.
            let is_damage = about.is_dir() && is_ours(about);
            !is_own(about) && !is_damage
        };
        let mut files = self.artifacts()?.into_iter();
        Ok(files.find(|(_, about)| is_strange(about)).map(|(name, _)| name))
    }

    /// Deletes all artifacts, including incomplete artifacts. The cache does not delete other
    /// files: it does not use them, and an operator may have configured the wrong folder by
    /// mistake.
    fn empty(&self, why: &str) -> io::Result<()> {
        let artifacts = self.artifacts()?;
        let folder = self.folder.display();
        for (name, about) in &artifacts {
            let path = self.folder.join(name);
            let removed = match about.is_dir() {
                true => fs::remove_dir_all(path),
                false => fs::remove_file(path),
            };
            removed.or_else(|error| if is_gone(&error) { Ok(()) } else { Err(error) })?;
        }
        let deleted = artifacts.len();
        let modules = counted(deleted, "compiled module");
        tracing::warn!(
            %folder,
            deleted,
            "plugins.cache: {folder} cannot be trusted, because {why}; the daemon made the folder \
             private and deleted {modules} there; the daemon compiles these modules again when the \
             plugins start"
        );
        Ok(())
    }

    /// Lists the files that have a key at the beginning of their names. This includes incomplete
    /// artifacts.
    fn artifacts(&self) -> io::Result<Vec<(String, fs::Metadata)>> {
        let mut artifacts = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let is_key = |key: &[u8]| key.iter().all(u8::is_ascii_hexdigit);
            if !name.as_bytes().get(..KEY).is_some_and(is_key) {
                continue;
            }
            match entry.metadata() {
                Ok(about) => artifacts.push((name, about)),
                Err(error) if is_gone(&error) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(artifacts)
    }

    /// The path of the cache's folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Whether the folder gave no answer in time when the cache was last used.
    pub fn is_late(&self) -> bool {
        self.is_late.load(Ordering::Relaxed)
    }

    /// Records whether the folder has answered in time when the cache used it. `late` is the error
    /// if the folder has not answered in time. A log line is written when the folder becomes late,
    /// and when the folder answers again.
    pub(super) fn heard(&self, late: Option<&io::Error>) {
        if self.is_late.swap(late.is_some(), Ordering::Relaxed) == late.is_some() {
            return;
        }
        let folder = self.folder.display();
        match late {
            Some(error) => tracing::warn!(
                %folder,
                %error,
                "plugins.cache: {folder} does not answer ({error}); until the folder answers, each \
                 start of a plugin waits for the folder and compiles the module, and new compiled \
                 modules are not stored"
            ),
            None => tracing::warn!(%folder, "plugins.cache: {folder} answers again"),
        }
    }

    /// Reads the artifact with this key. Returns `None` if the artifact's file is missing, cannot
    /// be read, is damaged, or has an artifact of more than `most` bytes. In the last two cases the
    /// file is deleted.
    pub(super) fn load(&self, key: &str, most: u64) -> Option<Vec<u8>> {
        let path = self.folder.join(key);
        let most = most.saturating_add(CHECKSUM as u64);
        let mut bytes = read(&path, most).ok()?;
        let whole = bytes.len() > CHECKSUM
            && bytes.len() as u64 <= most
            && checksum(key, &[&bytes[CHECKSUM..]]).as_bytes()[..] == bytes[..CHECKSUM];
        if !whole {
            let file = path.display();
            tracing::warn!(
                %file,
                "plugins.cache: the compiled module {file} is damaged; the daemon deletes the file \
                 and compiles the module again"
            );
            // If the damaged file cannot be deleted, the next start finds it damaged again. So an
            // error of the deletion is ignored.
            let _ = fs::remove_file(&path);
            return None;
        }
        // The time of the last use is stored as the file's time of modification. When the cache is
        // full, the file with the oldest time is deleted first. If the time cannot be set, the file
        // keeps its earlier time.
        let _ = fs::File::open(&path).and_then(|file| file.set_modified(SystemTime::now()));
        bytes.drain(..CHECKSUM);
        Some(bytes)
    }

    /// Stores an artifact under its key. The caller passes the bytes in parts, and [`Cache::load`]
    /// returns them as one piece. Returns whether the artifact was stored.
    pub(super) fn store(&self, key: &str, parts: &[&[u8]]) -> bool {
        let stored = self.try_store(key, parts);
        if let Err(error) = &stored {
            let folder = self.folder.display();
            tracing::warn!(
                %folder,
                %error,
                "plugins.cache: a compiled module could not be stored in {folder}: {error}; the \
                 daemon compiles this module again at the next start"
            );
        }
        self.make_room();
        stored.is_ok()
    }

    /// Writes an artifact into a temporary file and renames it. So no incomplete file ever has a
    /// key as its name.
    fn try_store(&self, key: &str, parts: &[&[u8]]) -> io::Result<()> {
        // The temporary file has a random name, because two threads may store the same artifact at
        // the same time.
        let unique = fastrand::u64(..);
        let half = self.folder.join(format!("{key}.{unique:016x}.tmp"));
        put_whole(&half, &self.folder.join(key), |file| {
            file.write_all(checksum(key, parts).as_bytes())?;
            parts.iter().try_for_each(|part| file.write_all(part))
        })
    }

    /// Deletes files until the remaining files have at most [`MAX_BYTES`] together. The file that
    /// was not used for the longest time is deleted first.
    fn make_room(&self) {
        let Ok(entries) = fs::read_dir(&self.folder) else { return };
        let mut files: Vec<_> = entries
            .flatten()
            .filter_map(|entry| {
                let about = entry.metadata().ok().filter(fs::Metadata::is_file)?;
                Some((about.modified().ok()?, about.len(), entry.path()))
            })
            .collect();
        files.sort();
        let mut total: u64 = files.iter().map(|(_, len, _)| len).sum();
        for (_, len, path) in files {
            if total <= MAX_BYTES {
                break;
            }
            if fs::remove_file(path).is_ok() {
                total -= len;
            }
        }
    }
}

/// Whether the error means that the file does not exist any more. Another daemon that uses the same
/// cache may have deleted the file.
fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound
}

/// Whether the folder's entry is a file that belongs to the user of this process, and that no other
/// user can write.
fn is_own(about: &fs::Metadata) -> bool {
    about.is_file() && is_ours(about) && about.mode() & 0o022 == 0
}

/// Whether the file or folder belongs to the user of this process.
fn is_ours(about: &fs::Metadata) -> bool {
    about.uid() == nix::unistd::geteuid().as_raw()
}

/// Reads a file of the user of this process: at most `most` bytes and one more, so that the caller
/// notices a file that is too long. The call does not follow a link, which another user may have
/// put there. If the file is a pipe, the call does not block.
fn read(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let flags = nix::fcntl::OFlag::O_NOFOLLOW | nix::fcntl::OFlag::O_NONBLOCK;
    let file = fs::File::options().read(true).custom_flags(flags.bits()).open(path)?;
    if !is_own(&file.metadata()?) {
        return Err(io::Error::other("it belongs to another user"));
    }
    let mut bytes = Vec::new();
    file.take(most.saturating_add(1)).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// More bytes than any artifact in these tests has.
    const MOST: u64 = 1000;

    #[test]
    fn a_damaged_artifact_is_deleted_and_never_loaded() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::open(folder.path()).unwrap();
        let artifact: Vec<u8> = (0..=255).collect();
        cache.store("k", &[&artifact[..100], &artifact[100..]]);
        let path = folder.path().join("k");
        let whole = fs::read(&path).unwrap();
        for at in 0..whole.len() {
            let mut flipped = whole.clone();
            flipped[at] ^= 1 << (at % 8);
            fs::write(&path, &flipped).unwrap();
            assert_eq!(cache.load("k", MOST), None, "byte {at} flipped");
            assert!(!path.exists(), "byte {at} flipped");
            fs::write(&path, &whole[..at]).unwrap();
            assert_eq!(cache.load("k", MOST), None, "cut at {at}");
        }
        fs::write(&path, &whole).unwrap();
        assert_eq!(cache.load("k", MOST), Some(artifact));
    }

    #[test]
    fn an_artifact_that_has_grown_is_not_read_and_goes() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::open(folder.path()).unwrap();
        cache.store("k", &[b"four"]);
        assert_eq!(cache.load("k", 4).as_deref(), Some(&b"four"[..]));
        let path = folder.path().join("k");
        // The file is sparse, so it occupies no space on the disk.
        fs::File::options().write(true).open(&path).unwrap().set_len(64 << 20).unwrap();
        let before = bytes_read();
        assert_eq!(cache.load("k", 4), None);
        assert!(!path.exists());
        assert!(bytes_read() - before < 1 << 20, "{} bytes were read", bytes_read() - before);
    }

    /// The number of bytes that this thread has read, as counted by the kernel.
    fn bytes_read() -> u64 {
        let text = fs::read_to_string("/proc/thread-self/io").unwrap();
        let count = text.lines().find_map(|line| line.strip_prefix("rchar: "));
        count.expect("the kernel counts them").parse().unwrap()
    }

    #[test]
    fn the_version_of_wasmer_is_the_one_in_use() {
        let manifest = include_str!("../../../Cargo.toml");
        assert!(manifest.contains(&format!("wasmer = {{ version = \"={WASMER}\"")));
    }

    /// A text that has the form of a key.
    fn any_key(digit: &str) -> String {
        digit.repeat(KEY)
    }

    #[test]
    fn an_artifact_counts_under_its_own_name_only() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::open(folder.path()).unwrap();
        let (one, other) = (any_key("1"), any_key("2"));
        cache.store(&one, &[b"one"]);
        cache.store(&other, &[b"other"]);
        fs::copy(folder.path().join(&other), folder.path().join(&one)).unwrap();
        assert_eq!(cache.load(&one, MOST), None);
        assert!(!folder.path().join(&one).exists(), "a file with a wrong checksum is deleted");
        assert_eq!(cache.load(&other, MOST).as_deref(), Some(&b"other"[..]));
        // The checksum depends on where the name ends and the bytes begin.
        assert_ne!(checksum("ab", &[b"c"]), checksum("a", &[b"bc"]));
    }

    #[test]
    fn a_folder_that_was_open_to_others_is_closed_and_emptied() {
        for mode in [0o755, 0o770, 0o701, 0o777] {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path();
            let cache = Cache::open(path).unwrap();
            cache.store(&any_key("a"), &[b"theirs, for all we know"]);
            fs::write(path.join(any_key("b") + ".0123456789abcdef.tmp"), "half").unwrap();
            fs::create_dir(path.join(any_key("c"))).unwrap();
            fs::write(path.join("notes"), "nobody's artifact").unwrap();
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
            let cache = Cache::open(path).unwrap();
            assert_eq!(fs::metadata(path).unwrap().mode() & 0o777, 0o700);
            assert_eq!(cache.load(&any_key("a"), MOST), None, "{mode:o}");
            let left: Vec<_> =
                fs::read_dir(path).unwrap().map(|e| e.unwrap().file_name()).collect();
            assert_eq!(left, ["notes"], "{mode:o}");
        }
    }

    #[test]
    fn a_private_folder_keeps_what_it_has() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cache");
        Cache::open(&path).unwrap().store(&any_key("a"), &[b"ours"]);
        let cache = Cache::open(&path).unwrap();
        assert_eq!(cache.load(&any_key("a"), MOST).as_deref(), Some(&b"ours"[..]));
    }

    #[test]
    fn a_folder_with_a_file_that_is_not_ours_is_emptied() {
        let check = |make: &dyn Fn(&Path)| {
            let folder = tempfile::tempdir().unwrap();
            Cache::open(folder.path()).unwrap().store(&any_key("a"), &[b"ours"]);
            make(&folder.path().join(any_key("b")));
            let cache = Cache::open(folder.path()).unwrap();
            assert_eq!(cache.load(&any_key("a"), MOST), None);
            assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        };
        check(&|path| std::os::unix::fs::symlink("/etc/passwd", path).unwrap());
        check(&|path| {
            fs::write(path, "anybody's").unwrap();
            fs::set_permissions(path, fs::Permissions::from_mode(0o666)).unwrap();
        });
        // Only root can change the owner of a file.
        if nix::unistd::geteuid().is_root() {
            check(&|path| {
                fs::write(path, "nobody's").unwrap();
                fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
                std::os::unix::fs::chown(path, Some(65534), None).unwrap();
            });
        }
    }

    #[test]
    fn a_link_or_a_pipe_under_an_artifacts_name_is_not_read() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::open(folder.path()).unwrap();
        cache.store(&any_key("a"), &[b"ours"]);
        let (own, link) = (folder.path().join(any_key("a")), folder.path().join(any_key("b")));
        std::os::unix::fs::symlink(own, &link).unwrap();
        assert_eq!(read(&link, MOST).unwrap_err().raw_os_error(), Some(nix::libc::ELOOP));
        let pipe = folder.path().join("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(read(&pipe, MOST).is_err());
    }
}
