//! The worth of stored versions. If the disk has no room for all versions, the versions of the
//! lowest rank are deleted first.
//!
//! All functions here are pure. `store.rs` passes the ranks to `plugin/module/versions.rs`, which
//! decides which versions are deleted.

use std::collections::{BTreeSet, HashMap};

use super::Store;
use crate::control::Soundness;
use crate::daemon::plugins::version::Versions;
use crate::plugin::ModuleHash;
use crate::supervisor::Supervisor;

/// The quality of the stored versions, for each plugin that exists or may exist.
pub(super) type Worth = HashMap<String, HashMap<ModuleHash, Soundness>>;

/// Returns the quality of all stored versions, for plugins that exist or may exist.
///
/// A plugin may exist although the supervisor has no entry for it, because its file may be in the
/// folder but not read yet. If `files` is `None`, any file may be in the folder. If the folder has
/// more files than the daemon reads, the daemon may have skipped the file of a plugin that ran
/// before the start. For this reason, each plugin that ran before the start is included.
pub(super) fn worth(
    store: &Store,
    supervisor: &Supervisor,
    files: Option<&BTreeSet<String>>,
    versions: &Versions,
) -> Worth {
    let of = |name: &str| {
        let kept = store.of(name).iter();
        kept.map(|hash| (*hash, versions.soundness(name, *hash))).collect()
    };
    let may_be = |name: &&str| {
        files.is_none_or(|files| files.contains(*name)) || versions.ran(name).is_some()
    };
    let names = store.listed.iter().flatten().map(|(name, _)| name).chain(store.unread.keys());
    let plugins = supervisor.plugins().map(|(name, _)| name);
    let all = names.map(String::as_str).filter(may_be).chain(plugins);
    all.map(|name| (name.to_owned(), of(name))).collect()
}

/// Returns the rank of a version. Versions of the lowest rank are deleted first.
pub(super) fn rank(soundness: Option<Soundness>) -> u8 {
    match soundness {
        Some(Soundness::Bad) => 0,
        Some(Soundness::Doubtful) => 1,
        Some(Soundness::Good | Soundness::Unproven) | None => 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::supervisor::RestartPolicy;

    /// A defect of the past: the versions of a plugin whose file was not read yet were deleted
    /// first, like the versions of a removed plugin.
    #[test]
    fn a_plugin_may_be_there_before_its_file_is_seen() {
        let mut supervisor = Supervisor::new(RestartPolicy::default());
        supervisor.folder("tank", Some(ModuleHash::of(b"bytes"))).unwrap();
        let (names, files) = (["tank", "pump", "lamp"], BTreeSet::from(["pump".to_owned()]));
        let mut store = Store::new(None);
        store.listed = Some(names.map(|name| (name.to_owned(), Vec::new())).into());
        let found = |files| {
            let worth = worth(&store, &supervisor, files, &Default::default());
            names.map(|name| worth.contains_key(name))
        };
        assert_eq!(found(None), [true; 3], "the folder is not read yet");
        assert_eq!(found(Some(&files)), [true, true, false]);
    }

    /// A defect of the past: versions that could not be listed were deleted first, like the
    /// versions of a removed plugin.
    #[tokio::test]
    async fn versions_that_cannot_be_listed_are_worth_something() {
        let mut store = Store::new(None);
        store.unread = ["tank", "gone"].map(|name| (name.to_owned(), "denied".into())).into();
        // The result also contains a plugin that has no stored version.
        let mut supervisor = Supervisor::new(RestartPolicy::default());
        supervisor.folder("pump", Some(ModuleHash::of(b"bytes"))).unwrap();
        let files = BTreeSet::from(["tank".to_owned()]);
        let found = worth(&store, &supervisor, Some(&files), &Default::default());
        let expected = ["tank", "pump"].map(|name| (name.to_owned(), HashMap::new()));
        assert_eq!(found, Worth::from(expected));
    }
}
