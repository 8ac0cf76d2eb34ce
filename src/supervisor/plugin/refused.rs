//! The modules of one plugin of which no instance could be created: which modules are tried again,
//! and when. After a verdict on a module that never ran, only the operator or new bytes in the file
//! start another attempt. An accident, for example too little free memory, proves nothing about the
//! module. After an accident, or a verdict on a module that ran before, the module is tried again,
//! and each wait is longer, up to a limit. The kind, verdict or accident, is stored in the refusal
//! (see `Refusal`).

use std::time::Duration;

use super::RestartPolicy;
use crate::plugin::{ModuleHash, Refusal};

/// The largest number of modules in the list: more than enough for the plugin's file and all its
/// stored versions.
const MAX_REFUSED: usize = 8;

/// A module of which no instance could be created.
#[derive(Debug)]
struct Entry {
    hash: ModuleHash,
    refusal: Refusal,
    /// The earliest time of the next attempt; `None` after a verdict.
    retry_at: Option<Duration>,
    /// The number of failed attempts in a row.
    failures: u32,
    /// The number of verdicts among these failures; the other failures were accidents. The number
    /// is above zero only for a module that ran before.
    verdicts: u32,
}

/// The refused modules. The last entry is the newest refusal.
#[derive(Debug, Default)]
pub(super) struct Refused(Vec<Entry>);

impl Refused {
    /// Records a verdict: this module is not tried again until new bytes in the file or an order of
    /// the operator clears the entry.
    pub(super) fn for_good(&mut self, hash: ModuleHash, refusal: Refusal) {
        self.add(Entry { hash, refusal, retry_at: None, failures: 0, verdicts: 0 });
    }

    /// Records a failed attempt after which the module is tried again. Returns the wait until the
    /// next attempt.
    pub(super) fn for_now(
        &mut self,
        hash: ModuleHash,
        refusal: Refusal,
        now: Duration,
        policy: &RestartPolicy,
    ) -> Duration {
        let before = self.0.iter().find(|entry| entry.hash == hash);
        let failures = before.map_or(0, |entry| entry.failures).saturating_add(1);
        let verdicts = before.map_or(0, |entry| entry.verdicts);
        let verdicts = verdicts.saturating_add(u32::from(!refusal.is_accidental));
        // The first retry waits, too, because an attempt without a wait would fail for the same
        // reason.
        let delay = policy.delay_after(failures.saturating_add(1));
        self.add(Entry { hash, refusal, retry_at: Some(now + delay), failures, verdicts });
        delay
    }

    /// Adds an entry, which replaces an older entry of the same module. If the list is full, the
    /// oldest entry is dropped.
    fn add(&mut self, entry: Entry) {
        self.forget(entry.hash);
        if self.0.len() == MAX_REFUSED {
            self.0.remove(0);
        }
        self.0.push(entry);
    }

    /// Whether the last refusal of this module was a verdict, and no other attempt is planned.
    pub(super) fn is_judged(&self, hash: ModuleHash) -> bool {
        self.0.iter().any(|entry| entry.hash == hash && entry.retry_at.is_none())
    }

    /// Returns the earliest time of the next attempt; `None` if no next attempt is planned.
    pub(super) fn retry_at(&self, hash: ModuleHash) -> Option<Duration> {
        self.0.iter().find(|entry| entry.hash == hash)?.retry_at
    }

    /// Whether the last attempt failed because the loader could not find the bytes of this module.
    pub(super) fn is_lost(&self, hash: ModuleHash) -> bool {
        self.0.iter().any(|entry| entry.hash == hash && entry.refusal.is_lost)
    }

    /// Whether at least `limit` of the failures of this module in a row were verdicts. Only a
    /// module that ran before can have so many. Another module may then run in place of this
    /// module.
    pub(super) fn is_given_up(&self, hash: ModuleHash, limit: u32) -> bool {
        self.0.iter().any(|entry| entry.hash == hash && entry.verdicts >= limit)
    }

    /// Returns all modules for which [`Refused::is_given_up`] is true, each with the reason as
    /// text.
    pub(super) fn given_up(&self, limit: u32) -> Vec<(ModuleHash, String)> {
        let all = self.0.iter().filter(|entry| entry.verdicts >= limit);
        let why = |entry: &Entry| match entry.verdicts {
            1 => format!("it could not be started: {}", entry.refusal.reason),
            times => format!(
                "it could not be started {times} times in a row, the last: {}",
                entry.refusal.reason
            ),
        };
        all.map(|entry| (entry.hash, why(entry))).collect()
    }

    /// Whether the supervisor tries this module again without the operator.
    pub(super) fn is_postponed(&self, hash: ModuleHash) -> bool {
        self.retry_at(hash).is_some()
    }

    /// Returns the newest refusal of a module other than `file`: the module, the refusal, and
    /// whether the module is tried again.
    pub(super) fn other_than(
        &self,
        file: Option<ModuleHash>,
    ) -> Option<(ModuleHash, &Refusal, bool)> {
        let newest = self.0.iter().rev().find(|entry| Some(entry.hash) != file);
        newest.map(|entry| (entry.hash, &entry.refusal, entry.retry_at.is_some()))
    }

    /// Removes the entry of one module: when the module runs, when it is put in quarantine, when it
    /// must get another attempt, or when a newer entry replaces this entry.
    pub(super) fn forget(&mut self, hash: ModuleHash) {
        self.0.retain(|entry| entry.hash != hash);
    }

    /// Removes all entries, so that each module gets another attempt.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}
