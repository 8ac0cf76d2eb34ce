//! The modules of one plugin that could not be made: which of them are tried again, and when.
//!
//! A verdict about a module stands until somebody has another try in mind. A passing trouble of the
//! machine says nothing about it: it is tried again later and later, as often as it takes. Whether
//! a refusal is the one or the other says whoever refuses, see `Refusal`.

use std::time::Duration;

use super::RestartPolicy;
use crate::plugin::{ModuleHash, Refusal};

/// Modules of one plugin: its file and every kept version, once each.
const MAX_REFUSED: usize = 8;

/// A module that could not be made.
#[derive(Debug)]
struct Entry {
    hash: ModuleHash,
    refusal: Refusal,
    /// When it may be tried again; `None` after a verdict.
    retry_at: Option<Duration>,
    /// Attempts in a row that came to nothing.
    failures: u32,
    /// Those of them that were no accidents. More than none only of a module that ran before.
    verdicts: u32,
}

/// The oldest first.
#[derive(Debug, Default)]
pub(super) struct Refused(Vec<Entry>);

impl Refused {
    /// This module is no good.
    pub(super) fn for_good(&mut self, hash: ModuleHash, refusal: Refusal) {
        self.add(Entry { hash, refusal, retry_at: None, failures: 0, verdicts: 0 });
    }

    /// This module may be good, and is to be tried again; gives after which time.
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
        // At once would only meet the same trouble.
        let delay = policy.delay_after(failures.saturating_add(1));
        self.add(Entry { hash, refusal, retry_at: Some(now + delay), failures, verdicts });
        delay
    }

    fn add(&mut self, entry: Entry) {
        self.forget(entry.hash);
        if self.0.len() == MAX_REFUSED {
            self.0.remove(0);
        }
        self.0.push(entry);
    }

    /// Whether this module is known to be no good.
    pub(super) fn is_judged(&self, hash: ModuleHash) -> bool {
        self.0.iter().any(|entry| entry.hash == hash && entry.retry_at.is_none())
    }

    /// When this module may be tried again, if it waits for that.
    pub(super) fn retry_at(&self, hash: ModuleHash) -> Option<Duration> {
        self.0.iter().find(|entry| entry.hash == hash)?.retry_at
    }

    /// Whether the bytes of this module were nowhere to be had at the last attempt.
    pub(super) fn is_lost(&self, hash: ModuleHash) -> bool {
        self.0.iter().any(|entry| entry.hash == hash && entry.refusal.is_lost)
    }

    /// Whether this module, which ran before, could not be made so often in a row that others may
    /// take its place.
    pub(super) fn is_given_up(&self, hash: ModuleHash, limit: u32) -> bool {
        self.0.iter().any(|entry| entry.hash == hash && entry.verdicts >= limit)
    }

    /// All of which that is so, and why in words.
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

    /// Whether this module is tried again by itself.
    pub(super) fn is_postponed(&self, hash: ModuleHash) -> bool {
        self.retry_at(hash).is_some()
    }

    /// The newest refusal of a module that is not this one, and whether it is tried again.
    pub(super) fn other_than(
        &self,
        file: Option<ModuleHash>,
    ) -> Option<(ModuleHash, &Refusal, bool)> {
        let newest = self.0.iter().rev().find(|entry| Some(entry.hash) != file);
        newest.map(|entry| (entry.hash, &entry.refusal, entry.retry_at.is_some()))
    }

    /// This module could be made, or is to have another try.
    pub(super) fn forget(&mut self, hash: ModuleHash) {
        self.0.retain(|entry| entry.hash != hash);
    }

    /// All are to have another try.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}
