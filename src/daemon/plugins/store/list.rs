//! The list of a plugin's versions for the operator: the stored versions, and the versions that
//! have only a record.
//!
//! `version.rs` records whether each version is good, and `store.rs` has the list of versions on
//! the disk. `Plugins::versions` combines the records with this list, and changes nothing. The
//! rollback to one of the versions is in `back.rs`.

use super::super::Plugins;
use crate::clock::{Clock, MonotonicClock};
use crate::control::{Code, Failure, Soundness, VersionView};
use crate::plugin::ModuleHash;
use crate::supervisor::State;

impl Plugins {
    /// Returns the versions of a plugin: first the stored versions, newest first, then the versions
    /// that have only a record. The function fails if the stored versions are not listed yet or
    /// cannot be read, or if there is neither a plugin nor a version of this name.
    pub(in crate::daemon) fn versions(&self, name: &str) -> Result<Vec<VersionView>, Failure> {
        let view = self.supervisor.plugin(name);
        self.store.is_known()?;
        if let Some(why) = self.store.doubt(name) {
            return Err(Failure::new(Code::Internal, format!("{name}: {why}")));
        }
        let kept = self.store.of(name);
        // The list of records begins with the version whose last start is the oldest, so the list
        // is reversed here.
        let known = self.record.versions.of(name).iter().rev();
        let known = known.filter_map(|version| ModuleHash::from_hex(&version.hash));
        let others = known.filter(|hash| !kept.contains(hash));
        let all: Vec<_> = kept.iter().copied().chain(others).collect();
        if all.is_empty() && view.is_none() {
            let message = format!("there is no plugin {name:?}; `camshaft plugins` lists them");
            return Err(Failure::new(Code::Unknown, message));
        }
        let views = all.into_iter().map(|hash| self.version(name, hash, kept.contains(&hash)));
        Ok(views.collect())
    }

    /// Returns one version of a plugin for the operator. `kept` is true if the version is on the
    /// disk.
    pub(super) fn version(&self, name: &str, hash: ModuleHash, kept: bool) -> VersionView {
        let view = self.supervisor.plugin(name);
        let version = self.record.versions.find(name, hash);
        let end = version.and_then(|version| version.end.as_ref());
        let runs = view.as_ref().is_some_and(|view| {
            let is_it = view.running.is_some_and(|version| version.hash == hash);
            is_it && view.state == State::Running
        });
        let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        VersionView {
            hash: format!("{hash:#}"),
            kept,
            in_file: view.is_some_and(|view| view.file == Some(hash)),
            runs,
            started: version.and_then(|version| some(&version.first)),
            ran_s: version.map_or(0, |version| version.ran(MonotonicClock.now()).as_secs()),
            ended: end.filter(|_| !runs).and_then(|end| some(&end.at)),
            end: end.filter(|_| !runs).map(|end| end.why.clone()),
            // Without a record, a stored version is treated as good, because it has passed its
            // probation. A version that is not stored is treated as unproven.
            soundness: match kept {
                true => self.record.versions.soundness(name, hash),
                false => version.map_or(Soundness::Unproven, |version| version.soundness()),
            },
            reason: version.and_then(|version| version.why()).map(str::to_owned),
            quarantined: self.supervisor.quarantined(name).iter().any(|(of, _)| *of == hash),
        }
    }
}
