//! The stored versions of each plugin: modules that have run, on disk, for a rollback.
//!
//! ```text
//! versions/tank/0000000012-<hash>.wasm     plugin tank, number 12
//! versions/tank/0000000015-<hash>.wasm     a newer version of tank
//! versions/pump/0000000013-<hash>.wasm     plugin pump
//! ```
//!
//! Each plugin has a folder, and each version is a file in this folder. The file name contains a
//! number and the hash of the module. The numbers increase over all plugins. The daemon compares
//! the bytes of a file with the hash in its name, so a damaged file is never used. The code here
//! does not decide which version is good, or when a plugin returns to an old version.
//! `daemon/plugins/version.rs` and the supervisor decide this.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::{fs, io};

use nix::libc::EIO;

use super::folder::{MAX_PLUGINS, plugin_name, put};
use crate::file;
use crate::name::PluginName;
use crate::plugin::ModuleHash;

/// Most stored versions of one plugin: enough for the running version, and for a few versions that
/// were deployed and then turned out to be bad.
const MOST_VERSIONS: usize = 5;

/// Most bytes of all stored versions of all plugins. The number fits into the flash memory of a
/// small board, and is enough for a thousand plugins of the usual size.
const MOST_BYTES: u64 = 64 << 20;

/// Most plugins whose versions are listed: the plugins that can run together, and three times as
/// many that were removed before. If more plugins have versions, the plugins with the newest
/// versions are listed.
const MOST_NAMES: usize = 4 * MAX_PLUGINS;

/// Most entries of any kind that are read from the folder that contains all versions. A disk needs
/// a second or two to read this number of entries.
const MOST_ENTRIES: usize = 64 << 10;

/// A list of all versions that are stored on disk.
#[derive(Debug, Default)]
pub struct Listing {
    /// The stored versions of each plugin, the newest version first.
    pub kept: BTreeMap<String, Vec<ModuleHash>>,
    /// The plugins whose versions cannot be read, each with the error.
    pub unread: BTreeMap<String, String>,
}

/// The folder with the stored versions of all plugins.
#[derive(Debug, Clone)]
pub struct Versions(PathBuf);

/// One stored version of a plugin.
#[derive(Debug)]
struct Kept {
    path: PathBuf,
    plugin: String,
    /// The number of the version. The numbers increase over all plugins. So the numbers show the
    /// order in time, without a clock.
    number: u64,
    hash: ModuleHash,
    bytes: u64,
}

impl Kept {
    /// Whether the version's file contains exactly these bytes. Returns false if the file is
    /// damaged or cannot be read.
    fn holds(&self, module: &[u8]) -> bool {
        let read = || file::read_present(&self.path, self.bytes);
        self.bytes == module.len() as u64 && read().is_ok_and(|found| found == module)
    }
}

impl Versions {
    /// Uses the folder `dir` for versions. The folder need not exist yet.
    pub fn new(dir: PathBuf) -> Self {
        Self(dir)
    }

    /// Stores this module as the newest version of the plugin `name`, and removes an older file of
    /// the same module. If the newest version has these bytes, nothing changes. Returns the plugins
    /// whose stored versions have changed, or `None` if the rules below leave no room for the
    /// module.
    ///
    /// `rank` returns the rank of a version: a version with a higher rank is more useful for a
    /// rollback. `rank` returns `None` if the plugin does not exist any more. If the plugin has too
    /// many versions, the versions of the lowest rank are removed, the oldest version first. If all
    /// versions together are too large, versions are removed in this order:
    ///
    /// 1. files that are too large for a version, because they are damaged
    /// 2. versions of plugins that do not exist any more
    /// 3. versions of other plugins; the best version of each plugin stays for a rollback
    /// 4. older versions of the plugin `name`
    ///
    /// The new version never displaces a version of its own plugin that has a higher rank. The log
    /// names a version that is removed for another plugin, or that cannot be removed.
    ///
    /// # Errors
    /// The name breaks the rules for plugins, the module is larger than `MOST_BYTES`, or the file
    /// system reports an error. On an error, the older versions are still stored.
    pub fn store(
        &self,
        name: &str,
        module: &[u8],
        rank: impl Fn(&str, ModuleHash) -> Option<u8>,
    ) -> io::Result<Option<BTreeSet<String>>> {
        plugin_name(name).map_err(|why| io::Error::new(io::ErrorKind::InvalidInput, why))?;
        if module.len() as u64 > MOST_BYTES {
            let why = format!(
                "the module has {} bytes, and all stored versions together may have {MOST_BYTES} \
                 bytes",
                module.len()
            );
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, why));
        }
        let (hash, dir) = (ModuleHash::of(module), self.0.join(name));
        let ours = kept(&dir)?;
        if ours.last().is_some_and(|newest| newest.hash == hash && newest.holds(module)) {
            return Ok(Some(BTreeSet::new()));
        }
        let (all, bytes) = (self.with_others(name, ours), module.len() as u64);
        let Some(leaving) = make_room(&all, (name, hash), bytes, rank) else { return Ok(None) };
        let number = all.iter().map(|kept| kept.number).max().map_or(1, |last| last + 1);
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir)?;
        put(&dir, &format!("{number:010}-{hash:#}.wasm"), module)?;
        let mut changed = BTreeSet::from([name.to_owned()]);
        for old in leaving {
            remove(old, name);
            changed.insert(old.plugin.clone());
        }
        Ok(Some(changed))
    }

    /// Returns the versions `ours` of the plugin `name`, together with the versions of all other
    /// plugins. If an entry of the folder is a plain file or cannot be read, it is skipped.
    fn with_others(&self, name: &str, ours: Vec<Kept>) -> Vec<Kept> {
        let mut all = ours;
        for folder in fs::read_dir(&self.0).into_iter().flatten().flatten() {
            if folder.file_name() != *name {
                all.extend(kept(&folder.path()).unwrap_or_default());
            }
        }
        all
    }

    /// Lists the stored versions of the plugin `name`, the newest version first.
    ///
    /// # Errors
    /// The folder exists and cannot be read. A folder that does not exist has no versions.
    pub fn list(&self, name: &str) -> io::Result<Vec<ModuleHash>> {
        if name.parse::<PluginName>().is_err() {
            return Ok(Vec::new());
        }
        Ok(kept(&self.0.join(name))?.iter().rev().map(|kept| kept.hash).collect())
    }

    /// Lists the stored versions of all plugins. An entry that is not a folder of versions, or that
    /// has no version any more, is skipped. If a limit shortens the list, the function logs an
    /// error.
    ///
    /// # Errors
    /// The folder of all versions cannot be read.
    pub fn all(&self) -> io::Result<Listing> {
        let mut folders = match fs::read_dir(&self.0) {
            Ok(folders) => folders,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Listing::default()),
            Err(error) => return Err(error),
        };
        let (mut found, mut unread) = (Vec::new(), BTreeMap::new());
        for folder in folders.by_ref().take(MOST_ENTRIES) {
            let folder = folder?;
            let Ok(name) = folder.file_name().into_string() else { continue };
            if name.parse::<PluginName>().is_err() {
                continue;
            }
            let path = folder.path();
            match kept(&path) {
                // An empty folder is skipped and not removed. The removal of thousands of folders
                // would take longer than an operator waits.
                Ok(all) if all.is_empty() => {}
                Ok(all) => found.push((all.last().map(|newest| newest.number), name, all)),
                Err(error) if error.kind() == io::ErrorKind::NotADirectory => {}
                Err(error) if unread.len() < MOST_NAMES => {
                    unread.insert(name, format!("{}: {error}", path.display()));
                }
                Err(_) => {}
            }
        }
        found.sort_by_key(|(newest, ..)| std::cmp::Reverse(*newest));
        let hidden = found.len().saturating_sub(MOST_NAMES);
        let is_cut = folders.next().is_some();
        if hidden > 0 || is_cut {
            let folder = self.0.display();
            tracing::error!(
                %folder,
                hidden,
                "{folder} has too many entries: the daemon reads at most {MOST_ENTRIES} entries, \
                 and the versions of at most {MOST_NAMES} plugins; a rollback to a version that \
                 was not read is not possible"
            );
        }
        let hashes = |all: Vec<Kept>| all.iter().rev().map(|kept| kept.hash).collect();
        let kept = found.into_iter().take(MOST_NAMES).map(|(_, name, all)| (name, hashes(all)));
        Ok(Listing { kept: kept.collect(), unread })
    }

    /// Reads the bytes of one version, and checks them against the hash.
    ///
    /// # Errors
    /// The version is missing, cannot be read, or is damaged.
    pub fn read(&self, name: &str, hash: ModuleHash) -> io::Result<Vec<u8>> {
        let all = kept(&self.0.join(name))?;
        let found = all.iter().find(|kept| kept.hash == hash).ok_or(io::ErrorKind::NotFound)?;
        let path = found.path.display();
        // Every undamaged version is within this limit, because `store` refuses longer versions.
        let module = file::read(&found.path, MOST_BYTES)
            .map_err(|error| io::Error::new(kind(&error), format!("{path}: {error}")))?
            .ok_or(io::ErrorKind::NotFound)?;
        if ModuleHash::of(&module) != hash {
            let why = format!("{path} is damaged");
            return Err(io::Error::new(io::ErrorKind::InvalidData, why));
        }
        Ok(module)
    }
}

/// Returns the kind to report for an error that happened while a file was read. An unreadable
/// sector (EIO) is reported as damage of the file, because the sector stays unreadable.
fn kind(error: &io::Error) -> io::ErrorKind {
    match error.raw_os_error() {
        Some(EIO) => io::ErrorKind::InvalidData,
        _ => error.kind(),
    }
}

/// Chooses the versions that must be removed so that a new version of this plugin fits into the
/// limits. Returns `None` if there is too little room after all allowed removals, or if a version
/// of this plugin with a higher rank would have to be removed.
fn make_room<'k>(
    all: &'k [Kept],
    (name, hash): (&str, ModuleHash),
    bytes: u64,
    rank: impl Fn(&str, ModuleHash) -> Option<u8>,
) -> Option<Vec<&'k Kept>> {
    let worth = |kept: &Kept| (rank(&kept.plugin, kept.hash), kept.number);
    let is_sound = |kept: &&Kept| kept.bytes <= MOST_BYTES;
    let newcomer = rank(name, hash);
    let (mut leaving, mut others): (Vec<_>, Vec<_>) =
        all.iter().filter(|kept| kept.plugin == name).partition(|kept| kept.hash == hash);
    others.sort_by_key(|kept| worth(kept));
    leaving.extend(others.drain(..others.len().saturating_sub(MOST_VERSIONS - 1)));
    if leaving.iter().any(|kept| kept.hash != hash && worth(kept).0 > newcomer) {
        return None;
    }
    let class = |kept: &Kept| {
        let of_the_same = || all.iter().filter(|other| other.plugin == kept.plugin);
        let best = || of_the_same().filter(is_sound).map(worth).max();
        match worth(kept) {
            _ if kept.bytes > MOST_BYTES => Some(0),
            own if kept.plugin == name => (own.0 <= newcomer).then_some(3),
            (None, _) => Some(1),
            other => (Some(other) != best()).then_some(2),
        }
    };
    let stays = |kept: &&Kept| !leaving.iter().any(|leaving| leaving.path == kept.path);
    let staying: Vec<_> = all.iter().filter(stays).collect();
    let mut total = staying.iter().fold(bytes, |sum, kept| sum.saturating_add(kept.bytes));
    let mut order: Vec<_> =
        staying.into_iter().filter_map(|kept| Some((class(kept)?, worth(kept), kept))).collect();
    order.sort_by_key(|(class, worth, _)| (*class, *worth));
    for (_, _, kept) in order {
        if total > MOST_BYTES {
            total = total.saturating_sub(kept.bytes);
            leaving.push(kept);
        }
    }
    (total <= MOST_BYTES).then_some(leaving)
}

/// Removes the file of an old version, to make room for a version of the plugin `name`. If the old
/// version belongs to another plugin, removes that plugin's folder when it is empty, and logs the
/// removal. Logs a warning if the file cannot be removed.
fn remove(old: &Kept, name: &str) {
    let Kept { path, plugin, hash, .. } = old;
    match fs::remove_file(path) {
        Ok(()) if plugin != name => {
            path.parent().into_iter().for_each(remove_empty);
            tracing::warn!(
                plugin,
                "{plugin}: the stored version {hash} was removed to make room for {name}; a \
                 rollback to the removed version is not possible"
            );
        }
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => {
            let file = path.display();
            tracing::warn!(%file, %error, "the old version {file} cannot be removed: {error}");
        }
    }
}

/// Removes the folder of a plugin, if it is empty. If the folder contains any file, the system
/// refuses the removal, and the folder stays.
fn remove_empty(folder: &Path) {
    let _ = fs::remove_dir(folder);
}

/// Lists the versions in the folder of one plugin, the oldest version first. An entry is skipped if
/// its name does not consist of a number, `-`, a hash and `.wasm`, or if it is not a file.
fn kept(dir: &Path) -> io::Result<Vec<Kept>> {
    let files = match fs::read_dir(dir) {
        Ok(files) => files,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let plugin = dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut all = Vec::new();
    for file in files {
        let file = file?;
        let name = file.file_name();
        let parts = name.to_str().and_then(|name| name.strip_suffix(".wasm")?.split_once('-'));
        let Some((number, hash)) = parts else { continue };
        if let (Ok(number), Some(hash)) = (number.parse(), ModuleHash::from_hex(hash)) {
            // The file may have been removed after the folder was listed. Such a file is skipped.
            let about = file.metadata().ok().filter(fs::Metadata::is_file);
            let path = file.path();
            let plugin = plugin.clone();
            all.extend(about.map(|about| Kept { path, plugin, number, hash, bytes: about.len() }));
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
            versions.store("a", module, |_, _| Some(0)).unwrap();
        }
        versions.store("b", b"1", |_, _| Some(0)).unwrap();
        assert_eq!(versions.list("a").unwrap(), hashes(&[b"6", b"5", b"4", b"1", b"3"]));
        assert_eq!(versions.list("b").unwrap(), hashes(&[b"1"]));
        assert_eq!(versions.read("a", ModuleHash::of(b"1")).unwrap(), b"1");
        let gone = versions.read("a", ModuleHash::of(b"2")).unwrap_err();
        assert_eq!(gone.kind(), io::ErrorKind::NotFound);
        assert!(versions.store("../a", b"1", |_, _| Some(0)).is_err());
        assert_eq!(versions.list("../a").unwrap(), []);
        fs::write(dir.path().join("versions/stray"), b"").unwrap();
        let all = versions.all().unwrap().kept;
        assert_eq!(all.keys().collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(all["b"], hashes(&[b"1"]));
        assert!(Versions::new(dir.path().join("none")).all().unwrap().kept.is_empty());
    }

    #[test]
    fn a_sector_that_cannot_be_read_is_damage() {
        let of = |code| kind(&io::Error::from_raw_os_error(code));
        assert_eq!(of(EIO), io::ErrorKind::InvalidData);
        assert_eq!(of(nix::libc::EACCES), io::ErrorKind::PermissionDenied);
    }

    /// A past defect: the newest version on disk was damaged, and another good run of the same
    /// bytes did not repair it. So a rollback to this version was never possible.
    #[test]
    fn a_damaged_file_is_written_anew() {
        let dir = tempfile::tempdir().unwrap();
        let versions = Versions::new(dir.path().into());
        let keep = || versions.store("a", b"1", |_, _| Some(0)).unwrap().expect("there is room");
        let files = || fs::read_dir(dir.path().join("a")).unwrap().map(|file| file.unwrap().path());
        assert!(!keep().is_empty());
        assert!(keep().is_empty(), "the version is already stored");
        for damage in [b"2", &b""[..]] {
            fs::write(files().next().unwrap(), damage).unwrap();
            assert!(!keep().is_empty());
            assert_eq!(versions.read("a", ModuleHash::of(b"1")).unwrap(), b"1");
            assert_eq!(files().count(), 1);
        }
    }

    /// A past defect: the limit counted the first thousand entries of any kind. So the empty
    /// folders of removed plugins hid a good version.
    #[test]
    fn what_has_no_version_hides_none() {
        let dir = tempfile::tempdir().unwrap();
        let versions = Versions::new(dir.path().into());
        let old = |n: usize| dir.path().join(format!("old{n}"));
        (0..3 * MOST_NAMES).for_each(|n| fs::create_dir(old(n)).unwrap());
        versions.store("z", b"1", |_, _| Some(0)).unwrap();
        assert_eq!(versions.all().unwrap().kept["z"], hashes(&[b"1"]));
        // If too many plugins have versions, only the plugins with the newest versions are listed.
        for n in 0..MOST_NAMES {
            let folder = dir.path().join(format!("p{n}"));
            fs::create_dir(&folder).unwrap();
            let name = format!("{:010}-{:#}.wasm", n + 2, ModuleHash::of(b"1"));
            fs::write(folder.join(name), b"1").unwrap();
        }
        let all = versions.all().unwrap().kept;
        assert_eq!((all.len(), all.contains_key("z")), (MOST_NAMES, false));
    }

    /// A past defect: an unreadable folder was skipped, and its error was not reported. The log
    /// said "no version of it is kept".
    #[test]
    fn what_cannot_be_read_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let versions = Versions::new(dir.path().into());
        versions.store("good", b"1", |_, _| Some(0)).unwrap();
        fs::write(dir.path().join("stray"), b"").unwrap();
        // Root can read files of any mode. But no user can follow a link that leads to itself.
        std::os::unix::fs::symlink("loop", dir.path().join("loop")).unwrap();
        let Listing { kept, unread } = versions.all().unwrap();
        assert_eq!(kept.keys().collect::<Vec<_>>(), ["good"]);
        assert_eq!(unread.keys().collect::<Vec<_>>(), ["loop"]);
        assert!(unread["loop"].contains("loop: "), "{unread:?}");
    }

    /// A past defect: after five bad deploys in a row, no good version was stored any more, so no
    /// rollback was possible.
    #[test]
    fn what_is_worth_less_makes_room_and_pushes_nothing_out() {
        let dir = tempfile::tempdir().unwrap();
        let versions = Versions::new(dir.path().into());
        // In this test, a digit is a good version, a small letter is a doubtful version, and a
        // capital letter is a bad version.
        let rank = |_: &str, hash: ModuleHash| {
            let is_of = |mut all: std::ops::RangeInclusive<u8>| {
                all.any(|byte| ModuleHash::of(&[byte]) == hash)
            };
            Some(if is_of(b'0'..=b'9') { 2 } else { u8::from(is_of(b'a'..=b'z')) })
        };
        let check = |keep: &[u8], is_kept, expected: &[&[u8]]| {
            assert_eq!(versions.store("p", keep, rank).unwrap().is_some(), is_kept, "{keep:?}");
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
        versions.store("a", b"good", |_, _| Some(0)).unwrap();
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
        versions.store("old", b"1", |_, _| Some(0)).unwrap();
        let hash = ModuleHash::of(b"0");
        fs::create_dir(dir.path().join(format!("old/0000000000-{hash:#}.wasm"))).unwrap();
        versions.store("old", b"2", |_, _| Some(0)).unwrap();
        versions.store("old", b"1", |_, _| Some(0)).unwrap();
        assert_eq!(versions.list("old").unwrap(), hashes(&[b"1", b"2"]));
        // The large version alone reaches the limit of all versions together, so the versions of
        // `old` are removed.
        let large = vec![0; MOST_BYTES as usize];
        let only_large = |name: &str, _| (name == "large").then_some(0);
        assert!(versions.store("large", &large, only_large).unwrap().is_some());
        assert_eq!(versions.list("old").unwrap(), []);
    }

    #[test]
    fn a_version_that_has_grown_is_not_read() {
        let dir = tempfile::tempdir().unwrap();
        let versions = Versions::new(dir.path().into());
        versions.store("a", b"small", |_, _| Some(0)).unwrap();
        let path = kept(&dir.path().join("a")).unwrap().remove(0).path;
        // The file is sparse, so it occupies no space on the disk. The length of the file is larger
        // than the memory of the machine.
        fs::File::options().write(true).open(path).unwrap().set_len(8 << 40).unwrap();
        let error = versions.read("a", ModuleHash::of(b"small")).unwrap_err().to_string();
        assert!(error.ends_with("it has more than 67108864 bytes"), "{error}");
        // The oversized file does not prevent `store` from storing a version of another plugin. The
        // oversized file is removed first.
        versions.store("b", b"other", |_, _| Some(0)).unwrap();
        assert_eq!(versions.list("a").unwrap(), []);
    }

    /// A past defect: a large version of one plugin displaced the last good versions of all other
    /// plugins.
    #[test]
    fn the_best_version_of_each_plugin_makes_no_room_for_others() {
        let dir = tempfile::tempdir().unwrap();
        let versions = Versions::new(dir.path().into());
        let bad = ModuleHash::of(&[8]);
        let rank = |_: &str, hash: ModuleHash| Some(if hash == bad { 0 } else { 2 });
        for n in 5..9u8 {
            versions.store("other", &[n], rank).unwrap();
        }
        let kept = hashes(&[&[8], &[7], &[6], &[5]]);
        assert_eq!(versions.list("other").unwrap(), kept);
        let most = MOST_BYTES as usize;
        assert!(
            versions.store("large", &vec![0; most], rank).unwrap().is_none(),
            "there is room for one byte less"
        );
        assert_eq!(versions.list("other").unwrap(), kept, "no version was removed without need");
        assert!(versions.store("large", &vec![0; most - 1], rank).unwrap().is_some());
        assert_eq!(versions.list("other").unwrap(), hashes(&[&[7]]));
        // The limit applies to a single plugin too. Versions of a plugin that does not exist any
        // more are removed first.
        assert!(versions.store("large", b"x", rank).unwrap().is_some());
        assert_eq!(versions.list("large").unwrap(), hashes(&[b"x"]));
        let is_there = |name: &str, _| (name == "large").then_some(2);
        assert!(versions.store("large", &vec![1; most], is_there).unwrap().is_some());
        assert!(!dir.path().join("other").exists(), "no empty folder stays");
        versions.store("large", &vec![1; most + 1], rank).unwrap_err();
    }

    /// The version that was stored last is the newest version. Clocks and time stamps do not
    /// matter.
    #[test]
    fn the_oldest_of_all_plugins_goes_first() {
        let dir = tempfile::tempdir().unwrap();
        let versions = Versions::new(dir.path().into());
        let half = |n: u8| vec![n; MOST_BYTES as usize / 2];
        for (name, module) in [("a", vec![1]), ("b", half(2)), ("a", half(3)), ("b", vec![4])] {
            assert!(versions.store(name, &module, |_, _| Some(0)).unwrap().is_some());
        }
        let names = ["a", "b"].map(|name| versions.list(name).unwrap().len());
        assert_eq!(names, [1, 1], "each plugin has lost its older version");
    }
}
