//! Verdicts outlive the daemon: bytes that were in quarantine still are after a restart, and the
//! newest good version that is kept runs in their place.
//!
//! They are read from the journal, which has them anyway. A hold is not one of them: that is an
//! order, and the configuration has a key for what shall be held from the start.

use std::collections::BTreeMap;

use super::Daemon;
use super::loader::Module;
use crate::control::{Event, Receipt};
use crate::journal::Entry;
use crate::plugin::ModuleHash;
use crate::supervisor::Supervisor;

/// Tells a new supervisor what is in quarantine by these receipts, the oldest first.
pub(super) fn recall(receipts: &[Entry<Receipt>], supervisor: &mut Supervisor) {
    let mut quarantined: BTreeMap<&str, Vec<ModuleHash>> = BTreeMap::new();
    for Entry { what, .. } in receipts {
        let hash = match &what.event {
            Event::Quarantined { .. } => &what.hash,
            // Whoever was taken back is not run again either.
            Event::Rollback => &what.old_hash,
            Event::Released { .. } => {
                quarantined.remove(&*what.plugin);
                continue;
            }
            _ => continue,
        };
        let hash = hash.as_deref().and_then(ModuleHash::from_hex);
        quarantined.entry(&what.plugin).or_default().extend(hash);
    }
    for (name, hashes) in quarantined {
        hashes.into_iter().for_each(|hash| supervisor.recall(name, hash));
    }
}

impl Daemon {
    /// Lets a kept version run where the file is in quarantine and none has run yet.
    pub(super) fn fall_back(&mut self, name: &str) {
        let view = self.supervisor.plugin(name);
        let is_wanted = view.is_some_and(|view| view.quarantined && view.good.is_none());
        let Some(versions) = self.versions.as_ref().filter(|_| is_wanted) else { return };
        let kept = versions.list(name).unwrap_or_default();
        let is_sound = |hash: &ModuleHash| !self.supervisor.is_quarantined(name, *hash);
        let Some(good) = kept.into_iter().find(is_sound) else { return };
        match versions.read(name, good) {
            Ok(bytes) => {
                tracing::warn!(
                    plugin = name,
                    "{name}.wasm is in quarantine from before; its newest good version {good} runs \
                     instead"
                );
                self.roster.modules.entry(good).or_insert(Module::Bytes(bytes.into()));
                self.supervisor.fall_back(name, good);
            }
            Err(error) => tracing::error!(
                plugin = name,
                %error,
                "{name}.wasm is in quarantine from before, and its newest good version {good} \
                 cannot be read: {error}"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::By;
    use crate::supervisor::RestartPolicy;

    #[test]
    fn the_last_word_counts() {
        let [a, b] = [b"a", b"b"].map(|bytes| ModuleHash::of(bytes));
        let hex = |hash: ModuleHash| Some(format!("{hash:#}"));
        let receipt = |plugin: &str, hash, old_hash, event| Entry {
            seq: 0,
            time: String::new(),
            what: Receipt { plugin: plugin.into(), cycle: 1, hash, old_hash, event },
        };
        let reason = || Event::Quarantined { reason: "5 traps".into() };
        let receipts = [
            receipt("tank", hex(a), None, reason()),
            receipt("pump", hex(a), hex(b), Event::Rollback),
            receipt("lamp", hex(a), None, reason()),
            receipt("lamp", None, None, Event::Released { by: By::Operator }),
            receipt("lamp", hex(b), None, reason()),
            receipt("fan", Some("no hash".into()), None, reason()),
        ];
        let mut supervisor = Supervisor::new(RestartPolicy::default());
        recall(&receipts, &mut supervisor);
        let is = |name, hash| supervisor.is_quarantined(name, hash);
        assert_eq!([is("tank", a), is("tank", b)], [true, false]);
        assert_eq!([is("pump", a), is("pump", b)], [false, true]);
        assert_eq!([is("lamp", a), is("lamp", b)], [false, true]);
        assert_eq!([is("fan", a), is("fan", b)], [false, false]);
    }
}
