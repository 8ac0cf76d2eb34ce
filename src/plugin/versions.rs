//! The last good versions of each plugin, kept on the disk: what an operator can go back to.
//!
//! A folder for each plugin, and in it a file for each version: a number that counts up, and the
//! hash. What is read is held against that hash, so a damaged file is no version. Which version is
//! good, and when to go back, is decided by others.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use super::ModuleHash;
use super::folder::{MAX_PLUGINS, check_name, put};
use crate::file;

/// Versions of one plugin: the one that runs, and a few deploys that turned out to be wrong.
const MOST_VERSIONS: usize = 5;

/// Bytes of all versions of all plugins: a small board's flash has room for that, and it is enough
/// for a thousand plugins of the usual size.
const MOST_BYTES: u64 = 64 << 20;

/// Plugins whose versions are listed: as many as run at once, and as many that are long gone.
const MOST_NAMES: usize = 4 * MAX_PLUGINS;

/// The folder of all versions.
#[derive(Debug, Clone)]
pub struct Versions(PathBuf);

/// One kept version.
#[derive(Debug)]
struct Kept {
    path: PathBuf,
    number: u64,
    hash: ModuleHash,
    bytes: u64,
}

impl Versions {
    /// Those in the folder `dir`, which need not exist.
    pub fn new(dir: PathBuf) -> Self {
        Self(dir)
    }

    /// Keeps this module as the newest version of the plugin `name`; whether there was room. The
    /// oldest ones of the lowest `rank` of this plugin, and then the oldest of all, make room for
    /// it, but none of this plugin whose rank is higher than its own; one that cannot be removed is
    /// named in the log.
    ///
    /// # Errors
    /// The name breaks the rules, the module is larger than all versions together may be, or the
    /// file system says no; older versions are still there then.
    pub fn keep(
        &self,
        name: &str,
        module: &[u8],
        rank: impl Fn(ModuleHash) -> u8,
    ) -> io::Result<bool> {
        check_name(name).map_err(|why| io::Error::new(io::ErrorKind::InvalidInput, why))?;
        if module.len() as u64 > MOST_BYTES {
            let why =
                format!("it has {} bytes; all versions together have {MOST_BYTES}", module.len());
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, why));
        }
        let hash = ModuleHash::of(module);
        let before = kept(&self.0.join(name))?;
        let newest = before.last();
        if newest.is_some_and(|newest| newest.hash == hash) {
            return Ok(true);
        }
        let again = before.iter().filter(|kept| kept.hash == hash);
        let mut others: Vec<_> = before.iter().filter(|kept| kept.hash != hash).collect();
        others.sort_by_key(|kept| (rank(kept.hash), kept.number));
        others.truncate(others.len().saturating_sub(MOST_VERSIONS - 1));
        if others.iter().any(|kept| rank(kept.hash) > rank(hash)) {
            return Ok(false);
        }
        let number = newest.map_or(1, |newest| newest.number + 1);
        let dir = self.0.join(name);
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir)?;
        put(&dir, &format!("{number:010}-{hash:#}.wasm"), module)?;
        for old in again.chain(others) {
            remove(&old.path);
        }
        self.shrink(name, hash, &rank);
        Ok(true)
    }

    /// Removes the oldest versions until all together are small enough: first those of other
    /// plugins, then those of this one, the lowest `rank` first, but for the newest, which has this
    /// hash.
    fn shrink(&self, name: &str, newest: ModuleHash, rank: impl Fn(ModuleHash) -> u8) {
        let Ok(folders) = fs::read_dir(&self.0) else { return };
        let dir = self.0.join(name);
        // A stray file, or a folder that cannot be read, has no versions and hides no others.
        let mut all: Vec<_> =
            folders.flatten().flat_map(|folder| kept(&folder.path()).unwrap_or_default()).collect();
        let mut bytes: u64 = all.iter().map(|kept| kept.bytes).sum();
        let age = |kept: &Kept| fs::metadata(&kept.path).and_then(|about| about.modified()).ok();
        all.retain(|kept| !(kept.path.starts_with(&dir) && kept.hash == newest));
        all.sort_by_cached_key(|kept| match kept.path.starts_with(&dir) {
            true => (1 + rank(kept.hash), age(kept), kept.number),
            false => (0, age(kept), kept.number),
        });
        for old in all {
            if bytes <= MOST_BYTES {
                break;
            }
            if remove(&old.path) {
                bytes = bytes.saturating_sub(old.bytes);
            }
        }
    }

    /// The versions of the plugin `name`, the newest first.
    ///
    /// # Errors
    /// The folder cannot be read. One that does not exist has no versions.
    pub fn list(&self, name: &str) -> io::Result<Vec<ModuleHash>> {
        if check_name(name).is_err() {
            return Ok(Vec::new());
        }
        Ok(kept(&self.0.join(name))?.iter().rev().map(|kept| kept.hash).collect())
    }

    /// The versions of all plugins, the newest first.
    ///
    /// # Errors
    /// The folder cannot be read. What in it is no folder of versions is passed over.
    pub fn all(&self) -> io::Result<BTreeMap<String, Vec<ModuleHash>>> {
        let folders = match fs::read_dir(&self.0) {
            Ok(folders) => folders,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
            Err(error) => return Err(error),
        };
        let mut all = BTreeMap::new();
        for folder in folders.take(MOST_NAMES) {
            if let Ok(name) = folder?.file_name().into_string()
                && let Ok(list) = self.list(&name)
                && !list.is_empty()
            {
                all.insert(name, list);
            }
        }
        Ok(all)
    }

    /// The bytes of one version.
    ///
    /// # Errors
    /// It is not there, cannot be read, or is damaged.
    pub fn read(&self, name: &str, hash: ModuleHash) -> io::Result<Vec<u8>> {
        let all = kept(&self.0.join(name))?;
        let found = all.iter().find(|kept| kept.hash == hash).ok_or(io::ErrorKind::NotFound)?;
        let path = found.path.display();
        // It was no longer than this when it was kept, whatever has become of it.
        let module = file::read(&found.path, MOST_BYTES)
            .map_err(|error| io::Error::new(error.kind(), format!("{path}: {error}")))?
            .ok_or(io::ErrorKind::NotFound)?;
        if ModuleHash::of(&module) != hash {
            let why = format!("{path} is damaged");
            return Err(io::Error::new(io::ErrorKind::InvalidData, why));
        }
        Ok(module)
    }
}

/// Removes an old version; whether it is gone.
fn remove(path: &Path) -> bool {
    let removed = fs::remove_file(path);
    if let Err(error) = &removed
        && error.kind() != io::ErrorKind::NotFound
    {
        let file = path.display();
        tracing::warn!(%file, %error, "the old version {file} cannot be removed: {error}");
        return false;
    }
    true
}

/// The versions in the folder of one plugin, the oldest first. What is not named like one, or is no
/// file, is none.
fn kept(dir: &Path) -> io::Result<Vec<Kept>> {
    let files = match fs::read_dir(dir) {
        Ok(files) => files,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut all = Vec::new();
    for file in files {
        let file = file?;
        let name = file.file_name();
        let parts = name.to_str().and_then(|name| name.strip_suffix(".wasm")?.split_once('-'));
        let Some((number, hash)) = parts else { continue };
        if let (Ok(number), Some(hash)) = (number.parse(), ModuleHash::from_hex(hash)) {
            // It may have gone since the folder was read.
            let about = file.metadata().ok().filter(fs::Metadata::is_file);
            let path = file.path();
            all.extend(about.map(|about| Kept { path, number, hash, bytes: about.len() }));
        }
    }
    all.sort_by_key(|kept| kept.number);
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hashes(modules: &[&[u8]]) -> Vec<ModuleHash> {
        modules.iter().map(|module| ModuleHash::of(module)).collect()
    }

    #[test]
    fn the_last_five_are_kept_each_once() {
        let dir = tempfile::tempdir().unwrap();
        let versions = Versions::new(dir.path().join("versions"));
        assert_eq!(versions.list("a").unwrap(), []);
        for module in [b"1", b"2", b"3", b"3", b"1", b"4", b"5", b"6"] {
            versions.keep("a", module, |_| 0).unwrap();
        }
        versions.keep("b", b"1", |_| 0).unwrap();
        assert_eq!(versions.list("a").unwrap(), hashes(&[b"6", b"5", b"4", b"1", b"3"]));
        assert_eq!(versions.list("b").unwrap(), hashes(&[b"1"]));
        assert_eq!(versions.read("a", ModuleHash::of(b"1")).unwrap(), b"1");
        let gone = versions.read("a", ModuleHash::of(b"2")).unwrap_err();
        assert_eq!(gone.kind(), io::ErrorKind::NotFound);
        assert!(versions.keep("../a", b"1", |_| 0).is_err());
        assert_eq!(versions.list("../a").unwrap(), []);
        fs::write(dir.path().join("versions/stray"), b"").unwrap();
        let all = versions.all().unwrap();
        assert_eq!(all.keys().collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(all["b"], hashes(&[b"1"]));
        assert!(Versions::new(dir.path().join("none")).all().unwrap().is_empty());
    }

    /// Five bad deploys in a row left nothing to go back to.
    #[test]
    fn what_is_worth_less_makes_room_and_pushes_nothing_out() {
        let dir = tempfile::tempdir().unwrap();
        let versions = Versions::new(dir.path().into());
        // Good ones are digits, doubtful ones letters, bad ones capitals.
        let rank = |hash: ModuleHash| {
            let is_of = |mut all: std::ops::RangeInclusive<u8>| {
                all.any(|byte| ModuleHash::of(&[byte]) == hash)
            };
            if is_of(b'0'..=b'9') { 2 } else { u8::from(is_of(b'a'..=b'z')) }
        };
        let check = |keep: &[u8], is_kept, expected: &[&[u8]]| {
            assert_eq!(versions.keep("p", keep, rank).unwrap(), is_kept, "{keep:?}");
            assert_eq!(versions.list("p").unwrap(), hashes(expected), "{keep:?}");
        };
        check(b"1", true, &[b"1"]);
        check(b"2", true, &[b"2", b"1"]);
        check(b"a", true, &[b"a", b"2", b"1"]);
        check(b"B", true, &[b"B", b"a", b"2", b"1"]);
        check(b"b", true, &[b"b", b"B", b"a", b"2", b"1"]);
        check(b"3", true, &[b"3", b"b", b"a", b"2", b"1"]);
        check(b"c", true, &[b"c", b"3", b"b", b"2", b"1"]);
        check(b"C", false, &[b"c", b"3", b"b", b"2", b"1"]);
        check(b"4", true, &[b"4", b"c", b"3", b"2", b"1"]);
        check(b"5", true, &[b"5", b"4", b"3", b"2", b"1"]);
        check(b"d", false, &[b"5", b"4", b"3", b"2", b"1"]);
        check(b"6", true, &[b"6", b"5", b"4", b"3", b"2"]);
        check(b"3", true, &[b"3", b"6", b"5", b"4", b"2"]);
    }

    #[test]
    fn a_damaged_version_is_none_and_strangers_are_passed_over() {
        let dir = tempfile::tempdir().unwrap();
        let versions = Versions::new(dir.path().into());
        versions.keep("a", b"good", |_| 0).unwrap();
        let all = kept(&dir.path().join("a")).unwrap();
        fs::write(&all[0].path, b"goof").unwrap();
        for name in ["x", "1-2.wasm", ".0000000002-aa.wasm.tmp", "-.wasm"] {
            fs::write(dir.path().join("a").join(name), b"").unwrap();
        }
        assert_eq!(versions.list("a").unwrap(), hashes(&[b"good"]));
        let damaged = versions.read("a", ModuleHash::of(b"good")).unwrap_err();
        assert!(damaged.to_string().ends_with("is damaged"), "{damaged}");
    }

    #[test]
    fn a_stray_file_or_folder_disturbs_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let versions = Versions::new(dir.path().into());
        fs::write(dir.path().join("README"), b"").unwrap();
        versions.keep("old", b"1", |_| 0).unwrap();
        let hash = ModuleHash::of(b"0");
        fs::create_dir(dir.path().join(format!("old/0000000000-{hash:#}.wasm"))).unwrap();
        versions.keep("old", b"2", |_| 0).unwrap();
        versions.keep("old", b"1", |_| 0).unwrap();
        assert_eq!(versions.list("old").unwrap(), hashes(&[b"1", b"2"]));
        // The bound of all versions holds, too.
        versions.keep("large", &vec![0; MOST_BYTES as usize], |_| 0).unwrap();
        assert_eq!(versions.list("old").unwrap(), []);
    }

    #[test]
    fn a_version_that_has_grown_is_not_read() {
        let dir = tempfile::tempdir().unwrap();
        let versions = Versions::new(dir.path().into());
        versions.keep("a", b"small", |_| 0).unwrap();
        let path = kept(&dir.path().join("a")).unwrap().remove(0).path;
        // Sparse, so it takes no room here; read whole it would.
        fs::File::options().write(true).open(path).unwrap().set_len(8 << 40).unwrap();
        let error = versions.read("a", ModuleHash::of(b"small")).unwrap_err().to_string();
        assert!(error.ends_with("it has more than 67108864 bytes"), "{error}");
        // Nor does it keep others from being removed, or itself.
        versions.keep("b", b"other", |_| 0).unwrap();
        assert_eq!(versions.list("a").unwrap(), []);
    }

    #[test]
    fn all_together_have_a_limit() {
        let dir = tempfile::tempdir().unwrap();
        let versions = Versions::new(dir.path().into());
        for n in 0..9u8 {
            versions.keep("old", &[n], |_| 0).unwrap();
        }
        let large = vec![0; MOST_BYTES as usize];
        versions.keep("large", &large, |_| 0).unwrap();
        assert_eq!(versions.list("old").unwrap(), []);
        assert_eq!(versions.list("large").unwrap().len(), 1);
        // One plugin has no more than that either.
        versions.keep("large", b"x", |_| 0).unwrap();
        assert_eq!(versions.list("large").unwrap(), hashes(&[b"x"]));
        versions.keep("large", &vec![1; MOST_BYTES as usize + 1], |_| 0).unwrap_err();
    }
}
