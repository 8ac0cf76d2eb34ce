//! The state of one plugin, computed from its levels, for decisions and for status.
//!
//! This file stores nothing and decides nothing: `plugin.rs` does.

use super::super::{RestartPolicy, State, StepContext, Version, View, Want};
use super::{File, Next, Plugin, Seen};
use crate::plugin::ModuleHash;

/// The state of the plugin's seat in the newest snapshot, as decisions need it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum InScan {
    Nothing,
    Good,
    Trapped,
    /// An instance that was never ordered under this name. Its install order waited in the queue
    /// while its plugin was forgotten and the seat was given to another plugin.
    Stranger,
}

impl Plugin {
    /// The instance in the scan; `None` if its version is not known.
    pub(super) fn running(&self) -> Option<Version> {
        let generation = self.seen?.generation;
        self.ordered.iter().copied().find(|version| version.generation == generation)
    }

    /// The module in the file, if the file could be read.
    pub(in super::super) fn file_hash(&self) -> Option<ModuleHash> {
        match self.file {
            File::Bytes(hash) => Some(hash),
            File::Gone | File::Unusable(_) | File::Rival(_) => None,
        }
    }

    /// The module that is being made, or that is made but not in a snapshot yet.
    pub(in super::super) fn next_hash(&self) -> Option<ModuleHash> {
        self.next.version().map(|version| version.hash)
    }

    /// The modules that are in the scan or in the queue to it, and the module that ran last.
    pub(in super::super) fn have_run(&self) -> impl Iterator<Item = ModuleHash> {
        self.ordered.iter().map(|version| version.hash).chain(self.good)
    }

    /// Whether the folder holds an entry that keeps its name from other plugins.
    pub(in super::super) fn keeps_its_name(&self) -> bool {
        !matches!(self.file, File::Gone | File::Rival(_))
    }

    /// The state of the plugin's seat in the newest snapshot.
    pub(super) fn in_scan(&self) -> InScan {
        match self.seen {
            None => InScan::Nothing,
            Some(Seen { trapped: true, .. }) => InScan::Trapped,
            Some(_) if self.running().is_none() => InScan::Stranger,
            Some(_) => InScan::Good,
        }
    }

    /// Whether the plugin counts against the limit. If its file is no module, the plugin counts
    /// only if a module ran under its name before, or if it is on hold.
    pub(in super::super) fn takes_a_place(&self) -> bool {
        match self.file {
            File::Bytes(_) => true,
            File::Unusable(_) | File::Rival(_) => self.want == Want::Hold || self.good.is_some(),
            File::Gone => self.want == Want::Hold,
        }
    }

    /// Whether the entry can be dropped: it has no file, no hold, and no instance in the scan or on
    /// its way into the scan.
    pub(in super::super) fn is_forgettable(&self) -> bool {
        self.want != Want::Hold
            && self.file == File::Gone
            && self.seen.is_none()
            && self.ordered.is_empty()
            && matches!(self.next, Next::Nothing)
    }

    /// The module that is polled.
    pub(super) fn polled(&self) -> Option<ModuleHash> {
        let running = self.running().filter(|_| self.in_scan() == InScan::Good);
        running.map(|version| version.hash)
    }

    /// Whether an instance of this module is polled.
    pub(super) fn runs(&self, hash: ModuleHash) -> bool {
        self.polled() == Some(hash)
    }

    /// The state for status. A plugin that should not run but is still in the scan is always
    /// `Stopping`. A running plugin is `Running`, whatever the state of its next version is.
    fn state(&self, name: &str, context: &StepContext, policy: RestartPolicy) -> State {
        let wanted = self.want == Want::Run && self.file != File::Gone;
        match (self.in_scan(), &self.next) {
            (InScan::Good, _) if wanted => State::Running,
            (InScan::Good | InScan::Trapped | InScan::Stranger, _) if !wanted => State::Stopping,
            _ if self.want == Want::Hold => State::Held,
            _ if self.file == File::Gone => State::Stopped,
            (_, Next::Preparing(_)) => State::Preparing,
            (_, Next::Ready { .. }) => State::Starting,
            _ => match self.candidates(name, context, policy).map(|hash| self.due(hash)).min() {
                Some(Some(restart_at)) => State::Backoff { restart_at },
                Some(None) => State::Preparing, // in the next step
                None if self.is_quarantined(name, context) => State::Quarantined,
                None => State::Refused,
            },
        }
    }

    /// Whether the file's module is in quarantine.
    pub(super) fn is_quarantined(&self, name: &str, context: &StepContext) -> bool {
        self.file_hash().is_some_and(|hash| context.quarantine.contains(name, hash))
    }

    /// The plugin as status shows it.
    pub(in super::super) fn view<'a>(
        &'a self,
        name: &str,
        context: &'a StepContext,
        policy: RestartPolicy,
    ) -> View<'a> {
        let quarantine = self.file_hash().and_then(|hash| context.quarantine.why(name, hash));
        View {
            want: self.want,
            state: self.state(name, context, policy),
            file: self.file_hash(),
            running: self.running(),
            next: self.next.version(),
            good: self.good,
            quarantined: quarantine.is_some(),
            quarantine,
            traps: self.traps,
            last_trap: self.last_trap.as_deref(),
            trapped: self.trapped,
            refusal: self.refusal.as_ref(),
            is_tried_again: self.file_hash().is_some_and(|hash| self.refused.is_postponed(hash)),
            other_refusal: self.refused.other_than(self.file_hash()),
        }
    }
}
