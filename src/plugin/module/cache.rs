//! The cache of artifacts on disk, so that the daemon need not compile again after a restart.
//!
//! A loaded artifact can do as much harm as a shared library, and wasmer checks nothing: a file
//! with flipped bits loads and runs. So the folder is private to the daemon's user. Every file
//! begins with a checksum of its name and bytes, which the cache compares before it uses the file.
//! The cache deletes a file with a wrong checksum.
//!
//! The checksum is no signature: any process that can write into the folder can make one. Therefore
//! the folder is emptied at opening if other users had any access to it. The folder is also emptied
//! at opening if a file in it is not the daemon's own. The daemon does not depend on the cache:
//! without it, a module is compiled once more. Artifacts themselves are in `compile/artifact.rs`.

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

/// Most bytes that are kept; the files used longest ago are deleted first. A hundred plugins of a
/// few kilobytes need about 10 MB.
const MAX_BYTES: u64 = 512 << 20;

/// Length of the checksum in front of each artifact, in bytes.
const CHECKSUM: usize = blake3::OUT_LEN;

/// Length of a key: BLAKE3 in hexadecimal digits.
const KEY: usize = 2 * blake3::OUT_LEN;

/// The version of the files' layout. Each change of the layout must raise this number, so that no
/// key leads to a file of the old layout.
const LOOK: u32 = 3;

/// The version of wasmer, on which an artifact depends. A test compares it with `Cargo.toml`.
const WASMER: &str = "7.4.2";

/// A folder of artifacts.
#[derive(Debug, Clone)]
pub struct Cache {
    folder: PathBuf,
    /// Whether the folder has given no answer in time. The threads that use the cache write this,
    /// and the thread that makes the status reads it.
    is_late: Arc<AtomicBool>,
}

/// The name of an artifact: a hash of everything that the artifact depends on.
pub(super) fn key(module: ModuleHash, compiler: Compiler, limits: &Limits) -> String {
    let mut hasher = blake3::Hasher::new();
    let target = wasmer::sys::Target::default();
    let build = (env!("CARGO_PKG_VERSION"), WASMER, LOOK, super::flag::FORM, target);
    hasher.update(format!("{module:#} {compiler:?} {limits:?} {build:?}").as_bytes());
    hasher.finalize().to_hex().to_string()
}

/// The checksum in front of an artifact. The checksum is valid for this key only, so that a renamed
/// file is not taken for another artifact.
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
    /// Opens the folder, and makes it if it is missing. A folder that was open to other users is
    /// made private and emptied.
    ///
    /// # Errors
    /// When the folder cannot be made, made private or emptied, or belongs to another user.
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
            cache.empty(&format!("it was open to others (mode {mode:04o})"))?;
        } else if let Some(strange) = cache.strange_file()? {
            cache.empty(&format!("{strange} in it is no file of this user's own"))?;
        }
        Ok(cache)
    }

    /// The name of a file that has an artifact's name, but that this cache cannot have made.
    fn strange_file(&self) -> io::Result<Option<String>> {
        let is_strange = |about: &fs::Metadata| {
            // A folder of our own user in the place of a file is damage, and not the work of
            // another user.
            let is_damage = about.is_dir() && is_ours(about);
            !is_own(about) && !is_damage
        };
        let mut files = self.artifacts()?.into_iter();
        Ok(files.find(|(_, about)| is_strange(about)).map(|(name, _)| name))
    }

    /// Deletes all artifacts, whole or not. Other files stay: the cache reads none of them, and an
    /// operator may have named this folder by mistake.
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
            "plugins.cache: {folder} cannot be trusted, because {why}; it is private now; what \
             was in it, {modules}, was deleted and is compiled again"
        );
        Ok(())
    }

    /// The files under names of artifacts, including unfinished ones.
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

    /// The path of the folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Whether the folder gave no answer in time when the cache was used last.
    pub fn is_late(&self) -> bool {
        self.is_late.load(Ordering::Relaxed)
    }

    /// Notes a use of the cache: `late` is the reason if the folder has given no answer in time.
    /// The log gets a line when the folder becomes late and when it answers again.
    pub(super) fn heard(&self, late: Option<&io::Error>) {
        if self.is_late.swap(late.is_some(), Ordering::Relaxed) == late.is_some() {
            return;
        }
        let folder = self.folder.display();
        match late {
            Some(error) => tracing::warn!(
                %folder,
                %error,
                "plugins.cache: {folder} does not answer ({error}); until it does, each start of a \
                 program waits for it and compiles, and nothing new is kept"
            ),
            None => tracing::warn!(%folder, "plugins.cache: {folder} answers again"),
        }
    }

    /// The artifact with this key, if the folder has a whole one of at most `most` bytes.
    pub(super) fn load(&self, key: &str, most: u64) -> Option<Vec<u8>> {
        let path = self.folder.join(key);
        let most = most.saturating_add(CHECKSUM as u64);
        let mut bytes = read(&path, most).ok()?;
        let whole = bytes.len() > CHECKSUM
            && bytes.len() as u64 <= most
            && checksum(key, &[&bytes[CHECKSUM..]]).as_bytes()[..] == bytes[..CHECKSUM];
        if !whole {
            let file = path.display();
            tracing::warn!(%file, "the cached artifact {file} is damaged; it is made again");
            // An error does no harm: a damaged file that cannot be deleted is found damaged again
            // next time.
            let _ = fs::remove_file(&path);
            return None;
        }
        // The time of the last use decides which file is deleted first. If the time cannot be set,
        // the time of creation decides.
        let _ = fs::File::open(&path).and_then(|file| file.set_modified(SystemTime::now()));
        bytes.drain(..CHECKSUM);
        Some(bytes)
    }

    /// Stores an artifact, given in parts that are loaded as one piece. Returns whether the
    /// artifact was stored.
    pub(super) fn store(&self, key: &str, parts: &[&[u8]]) -> bool {
        let stored = self.try_store(key, parts);
        if let Err(error) = &stored {
            let folder = self.folder.display();
            tracing::warn!(
                %folder,
                %error,
                "an artifact could not be cached in {folder}: {error}; it is compiled again at the \
                 next start"
            );
        }
        self.make_room();
        stored.is_ok()
    }

    /// Stores an artifact by way of a temporary file, so that no half artifact has a key as its
    /// name.
    fn try_store(&self, key: &str, parts: &[&[u8]]) -> io::Result<()> {
        // Each preparation writes a file of its own, because two preparations of one module may
        // store the artifact at the same time.
        let unique = fastrand::u64(..);
        let half = self.folder.join(format!("{key}.{unique:016x}.tmp"));
        put_whole(&half, &self.folder.join(key), |file| {
            file.write_all(checksum(key, parts).as_bytes())?;
            parts.iter().try_for_each(|part| file.write_all(part))
        })
    }

    /// Deletes the files used longest ago until the rest is within the limit.
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

/// Whether the error says that the file is gone. Another daemon with the same cache may have
/// deleted the file.
fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound
}

/// Whether the entry is a file of this user into which no other user can write.
fn is_own(about: &fs::Metadata) -> bool {
    about.is_file() && is_ours(about) && about.mode() & 0o022 == 0
}

/// Whether the entry belongs to this user.
fn is_ours(about: &fs::Metadata) -> bool {
    about.uid() == nix::unistd::geteuid().as_raw()
}

/// Reads a file of this user, at most one byte more than `most`. The call does not follow a link
/// that another user has put there, and does not wait for a pipe.
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

    /// More bytes than any artifact of these tests has.
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
        // The file is sparse, so it takes no room here.
        fs::File::options().write(true).open(&path).unwrap().set_len(64 << 20).unwrap();
        let before = bytes_read();
        assert_eq!(cache.load("k", 4), None);
        assert!(!path.exists());
        assert!(bytes_read() - before < 1 << 20, "{} bytes were read", bytes_read() - before);
    }

    /// The bytes that this thread has read, as the kernel counts them.
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

    /// A text in the form of a key.
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
        assert!(!folder.path().join(&one).exists(), "what is not believed is deleted");
        assert_eq!(cache.load(&other, MOST).as_deref(), Some(&b"other"[..]));
        // The boundary between name and bytes counts too.
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
        // Only root can give a file to another user.
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
