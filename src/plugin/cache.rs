//! Artifacts on disk, so that a restart does not compile again.
//!
//! Loading an artifact is as trusting as loading a shared library, and wasmer checks nothing: a
//! file with flipped bits loads and runs. So the folder is private to the daemon's user, every file
//! carries a checksum that is compared first, and any doubt deletes the file. Nothing depends on
//! the cache: without it a module is compiled once more.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::{Compiler, Limits, ModuleHash};
use crate::state::put_whole;

/// Most bytes that are kept; the files used longest ago go first. A hundred plugins of a few
/// kilobytes need about 10 MB.
const MAX_BYTES: u64 = 512 << 20;

/// Length of the checksum in front of each artifact.
const CHECKSUM: usize = blake3::OUT_LEN;

/// The version of wasmer, which is part of what an artifact depends on; a test compares it with
/// `Cargo.toml`.
const WASMER: &str = "7.4.2";

/// A folder of artifacts.
#[derive(Debug, Clone)]
pub struct Cache(PathBuf);

/// The name of an artifact: everything that it depends on.
pub(super) fn key(module: ModuleHash, compiler: Compiler, limits: &Limits) -> String {
    let mut hasher = blake3::Hasher::new();
    let target = wasmer::sys::Target::default();
    let build = (env!("CARGO_PKG_VERSION"), WASMER, super::flag::FORM, target);
    hasher.update(format!("{module:#} {compiler:?} {limits:?} {build:?}").as_bytes());
    hasher.finalize().to_hex().to_string()
}

impl Cache {
    /// Opens the folder, and makes it if it is not there.
    ///
    /// # Errors
    /// When it cannot be made, belongs to somebody else, or lets others in.
    pub fn open(folder: &Path) -> io::Result<Self> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        let about = fs::metadata(folder)?;
        if about.uid() != nix::unistd::geteuid().as_raw() {
            return Err(io::Error::other("it belongs to another user"));
        }
        if about.mode() & 0o077 != 0 {
            fs::set_permissions(folder, fs::Permissions::from_mode(0o700))?;
        }
        Ok(Self(folder.to_path_buf()))
    }

    /// Where it is.
    pub fn folder(&self) -> &Path {
        &self.0
    }

    /// The artifact with this key, if there is a whole one.
    pub(super) fn load(&self, key: &str) -> Option<Vec<u8>> {
        let path = self.0.join(key);
        let mut bytes = fs::read(&path).ok()?;
        let whole = bytes.len() > CHECKSUM
            && blake3::hash(&bytes[CHECKSUM..]).as_bytes()[..] == bytes[..CHECKSUM];
        if !whole {
            let file = path.display();
            tracing::warn!(%file, "the cached artifact {file} is damaged; it is made again");
            // What cannot be deleted is found damaged again next time.
            let _ = fs::remove_file(&path);
            return None;
        }
        // The time of use decides what goes first; without it the order is that of creation.
        let _ = fs::File::open(&path).and_then(|file| file.set_modified(SystemTime::now()));
        bytes.drain(..CHECKSUM);
        Some(bytes)
    }

    /// Keeps an artifact.
    pub(super) fn store(&self, key: &str, artifact: &[u8]) {
        if let Err(error) = self.try_store(key, artifact) {
            let folder = self.0.display();
            tracing::warn!(
                %folder,
                %error,
                "an artifact could not be cached in {folder}: {error}; it is compiled again at the \
                 next start"
            );
        }
        self.make_room();
    }

    fn try_store(&self, key: &str, artifact: &[u8]) -> io::Result<()> {
        // Two preparations of one module may store at the same time: each has a file of its own.
        let unique = fastrand::u64(..);
        let half = self.0.join(format!("{key}.{unique:016x}.tmp"));
        put_whole(&half, &self.0.join(key), |file| {
            file.write_all(blake3::hash(artifact).as_bytes())?;
            file.write_all(artifact)
        })
    }

    /// Deletes the files used longest ago until the rest is within the limit.
    fn make_room(&self) {
        let Ok(entries) = fs::read_dir(&self.0) else { return };
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_damaged_artifact_is_deleted_and_never_loaded() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::open(folder.path()).unwrap();
        let artifact: Vec<u8> = (0..=255).collect();
        cache.store("k", &artifact);
        let path = folder.path().join("k");
        let whole = fs::read(&path).unwrap();
        for at in 0..whole.len() {
            let mut flipped = whole.clone();
            flipped[at] ^= 1 << (at % 8);
            fs::write(&path, &flipped).unwrap();
            assert_eq!(cache.load("k"), None, "byte {at} flipped");
            assert!(!path.exists(), "byte {at} flipped");
            fs::write(&path, &whole[..at]).unwrap();
            assert_eq!(cache.load("k"), None, "cut at {at}");
        }
        fs::write(&path, &whole).unwrap();
        assert_eq!(cache.load("k"), Some(artifact));
    }

    #[test]
    fn the_version_of_wasmer_is_the_one_in_use() {
        let manifest = include_str!("../../Cargo.toml");
        assert!(manifest.contains(&format!("wasmer = {{ version = \"={WASMER}\"")));
    }

    #[test]
    fn the_folder_is_made_private() {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        Cache::open(folder.path()).unwrap();
        assert_eq!(fs::metadata(folder.path()).unwrap().mode() & 0o777, 0o700);
    }
}
