//! The choice of the module that a plugin should run: the file's module, the module that ran
//! before, or a stored version.
//!
//! The choice is computed from the levels each time. `plugin.rs` decides when an instance of the
//! module is created and ordered into the scan.

use std::time::Duration;

use super::super::StepContext;
use super::super::history::{OnQuarantine, RestartPolicy};
use super::{Plugin, Turn};
use crate::plugin::ModuleHash;

impl Plugin {
    /// Returns the modules that may run, best first: the file's module, then the module that ran
    /// last, then the stored versions. The list never contains a module that is in quarantine.
    ///
    /// The list contains stored versions only if `on_quarantine` is `LastGood`, and only in these
    /// cases:
    /// - The file's module or the module that ran last is in quarantine.
    /// - The attempts to start the file's module, or the module that ran last, failed with as many
    ///   verdicts as traps lead to quarantine.
    /// - The bytes of the module that ran before the start of the daemon are lost.
    fn all(
        &self,
        name: &str,
        context: &StepContext,
        policy: RestartPolicy,
    ) -> impl Iterator<Item = ModuleHash> {
        let is_bad = |hash: &ModuleHash| context.quarantine.contains(name, *hash);
        let (file, ran) = (self.file_hash(), self.good.or(self.kept.ran));
        let is_lost = self.kept.ran.is_some_and(|ran| self.refused.is_lost(ran));
        let is_out = |hash| is_bad(&hash) || self.refused.is_given_up(hash, policy.traps);
        let may_stand_in = policy.on_quarantine == OnQuarantine::LastGood
            && (is_lost || file.into_iter().chain(ran).any(is_out));
        let kept = if may_stand_in { &*self.kept.good } else { &[] };
        let all = file.into_iter().chain(ran).chain(kept.iter().copied());
        all.filter(move |hash| !is_bad(hash))
    }

    /// Returns the modules of `all` that have no verdict.
    pub(super) fn candidates(
        &self,
        name: &str,
        context: &StepContext,
        policy: RestartPolicy,
    ) -> impl Iterator<Item = ModuleHash> {
        self.all(name, context, policy).filter(|hash| !self.refused.is_judged(*hash))
    }

    /// Whether the list of `all` has at least one module. Modules with a verdict are included.
    pub(in super::super) fn has_any(
        &self,
        name: &str,
        context: &StepContext,
        policy: RestartPolicy,
    ) -> bool {
        self.all(name, context, policy).next().is_some()
    }

    /// Whether [`Plugin::candidates`] has a module. The module may have to wait for its next
    /// attempt.
    pub(super) fn has_candidate(&self, turn: &Turn<'_>) -> bool {
        self.candidates(turn.name, turn.context, *turn.policy).next().is_some()
    }

    /// Returns the module that should run. While a module waits for its next attempt, the function
    /// prefers the later modules of the list. When the wait is over, an attempt that has already
    /// begun with a later module is not interrupted.
    pub(super) fn target(&self, turn: &Turn<'_>) -> Option<ModuleHash> {
        let next = self.next.version().map(|version| version.hash);
        let mut all = self.candidates(turn.name, turn.context, *turn.policy);
        all.find(|hash| {
            let is_due = |at| at <= turn.now && next.is_none_or(|next| next == *hash);
            self.refused.retry_at(*hash).is_none_or(is_due)
        })
    }

    /// Returns the earliest time for a new instance of this module; `None` if the module has no
    /// trap and no failed attempt.
    pub(super) fn due(&self, hash: ModuleHash) -> Option<Duration> {
        let trapped = (self.history.hash == Some(hash)).then_some(self.history.restart_at);
        trapped.max(self.refused.retry_at(hash))
    }

    /// Whether the scan polls a module that is in quarantine.
    pub(super) fn runs_what_is_bad(&self, turn: &Turn<'_>) -> bool {
        self.polled().is_some_and(|hash| turn.context.quarantine.contains(turn.name, hash))
    }
}
