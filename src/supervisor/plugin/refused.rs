//! The modules of one plugin that could not be made: which of them are tried again, and when.
//!
//! A verdict on a module stands until the operator or new bytes ask for another try. An accident,
//! such as a machine short of memory, says nothing about the module, so the module is tried again
//! without end, with longer and longer waits. The refusal itself says which of the two it is (see
//! `Refusal`).

use std::time::Duration;

use super::RestartPolicy;
use crate::plugin::{ModuleHash, Refusal};

/// The largest number of modules: the file of the plugin and every kept version, once each.
const MAX_REFUSED: usize = 8;

/// A module that could not be made.
#[derive(Debug)]
struct Entry {
    hash: ModuleHash,
    refusal: Refusal,
    /// The time at which the module may be tried again; `None` after a verdict.
    retry_at: Option<Duration>,
    /// The number of failed attempts in a row.
    failures: u32,
    /// Number of these failures that were verdicts, not accidents. It is above zero only for a
    /// module that ran before.
    verdicts: u32,
}

/// The refused modules, the newest refusal last.
#[derive(Debug, Default)]
pub(super) struct Refused(Vec<Entry>);

impl Refused {
    /// Notes a verdict: this module is not tried again.
    pub(super) fn for_good(&mut self, hash: ModuleHash, refusal: Refusal) {
        self.add(Entry { hash, refusal, retry_at: None, failures: 0, verdicts: 0 });
    }

    /// Notes a failed attempt after which the module is tried again. Returns the wait until the
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
        // The first retry waits too, because a retry at once would meet the same trouble.
        let delay = policy.delay_after(failures.saturating_add(1));
        self.add(Entry { hash, refusal, retry_at: Some(now + delay), failures, verdicts });
        delay
    }

    /// Adds an entry in place of the module's former entry. If the list is full, the oldest entry
    /// is dropped.
    fn add(&mut self, entry: Entry) {
        self.forget(entry.hash);
        if self.0.len() == MAX_REFUSED {
            self.0.remove(0);
        }
        self.0.push(entry);
    }

    /// Whether there is a verdict on this module.
    pub(super) fn is_judged(&self, hash: ModuleHash) -> bool {
        self.0.iter().any(|entry| entry.hash == hash && entry.retry_at.is_none())
    }

    /// The time at which this module may be tried again; `None` if it does not wait for a retry.
    pub(super) fn retry_at(&self, hash: ModuleHash) -> Option<Duration> {
        self.0.iter().find(|entry| entry.hash == hash)?.retry_at
    }

    /// Whether the bytes of this module could not be found at the last attempt.
    pub(super) fn is_lost(&self, hash: ModuleHash) -> bool {
        self.0.iter().any(|entry| entry.hash == hash && entry.refusal.is_lost)
    }

    /// Whether this module, which ran before, has failed so many times in a row that another module
    /// may take its place.
    pub(super) fn is_given_up(&self, hash: ModuleHash, limit: u32) -> bool {
        self.0.iter().any(|entry| entry.hash == hash && entry.verdicts >= limit)
    }

    /// All modules for which [`Refused::is_given_up`] is true, each with the reason in words.
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

    /// Whether the supervisor tries this module again by itself.
    pub(super) fn is_postponed(&self, hash: ModuleHash) -> bool {
        self.retry_at(hash).is_some()
    }

    /// The newest refusal of a module other than `file`, and whether that module is tried again.
    pub(super) fn other_than(
        &self,
        file: Option<ModuleHash>,
    ) -> Option<(ModuleHash, &Refusal, bool)> {
        let newest = self.0.iter().rev().find(|entry| Some(entry.hash) != file);
        newest.map(|entry| (entry.hash, &entry.refusal, entry.retry_at.is_some()))
    }

    /// Forgets one module, because it could be made or must get another try.
    pub(super) fn forget(&mut self, hash: ModuleHash) {
        self.0.retain(|entry| entry.hash != hash);
    }

    /// Forgets all modules, so that each gets another try.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}
