//! The state of one plugin, computed from its levels. The supervisor's decisions and `camshaft
//! status` use this state.
//!
//! This file stores nothing and decides nothing. `plugin.rs` stores the levels and decides.

use super::super::{RestartPolicy, State, StepContext, Version, View, Want};
use super::{File, Next, Plugin, Seen};
use crate::plugin::ModuleHash;

/// The state of the plugin's seat in the newest snapshot, for the supervisor's decisions.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum InScan {
    Nothing,
    Good,
    Trapped,
    /// An instance that was never ordered under this name. Its install order was in the queue when
    /// the supervisor dropped its plugin. Then the present plugin got the seat.
    Stranger,
}

impl Plugin {
    /// Returns the instance in the scan; `None` if the version of the instance is not known.
    pub(super) fn running(&self) -> Option<Version> {
        let generation = self.seen?.generation;
        self.ordered.iter().copied().find(|version| version.generation == generation)
    }

    /// Returns the module of the file; `None` if the file could not be read or is removed.
    pub(in super::super) fn file_hash(&self) -> Option<ModuleHash> {
        match self.file {
            File::Bytes(hash) => Some(hash),
            File::Gone | File::Unusable(_) | File::Rival(_) => None,
        }
    }

    /// Returns the module of the next instance: an instance that is being created, or that no
    /// snapshot shows yet.
    pub(in super::super) fn next_hash(&self) -> Option<ModuleHash> {
        self.next.version().map(|version| version.hash)
    }

    /// Returns the modules in the scan or in the queue to the scan, and the module that ran last.
    pub(in super::super) fn have_run(&self) -> impl Iterator<Item = ModuleHash> {
        self.ordered.iter().map(|version| version.hash).chain(self.good)
    }

    /// Whether the plugin folder has a file or another entry that reserves the name of this plugin.
    pub(in super::super) fn keeps_its_name(&self) -> bool {
        !matches!(self.file, File::Gone | File::Rival(_))
    }

    /// Returns the state of the plugin's seat in the newest snapshot.
    pub(super) fn in_scan(&self) -> InScan {
        match self.seen {
            None => InScan::Nothing,
            Some(Seen { trapped: true, .. }) => InScan::Trapped,
            Some(_) if self.running().is_none() => InScan::Stranger,
            Some(_) => InScan::Good,
        }
    }

    /// Whether the plugin is included in the limit on the number of plugins. A plugin whose file is
    /// no module is included only if a module ran under its name before, or if the plugin is on
    /// hold. A plugin without a file is included only if it is on hold.
    pub(in super::super) fn takes_a_place(&self) -> bool {
        match self.file {
            File::Bytes(_) => true,
            File::Unusable(_) | File::Rival(_) => self.want == Want::Hold || self.good.is_some(),
            File::Gone => self.want == Want::Hold,
        }
    }

    /// Whether the supervisor may drop the entry: it has no file, no hold, and no instance in the
    /// scan, in the queue to the scan, or in preparation.
    pub(in super::super) fn is_forgettable(&self) -> bool {
        self.want != Want::Hold
            && self.file == File::Gone
            && self.seen.is_none()
            && self.ordered.is_empty()
            && matches!(self.next, Next::Nothing)
    }

    /// Returns the module that the scan polls.
    pub(super) fn polled(&self) -> Option<ModuleHash> {
        let running = self.running().filter(|_| self.in_scan() == InScan::Good);
        running.map(|version| version.hash)
    }

    /// Whether the scan polls an instance of this module.
    pub(super) fn runs(&self, hash: ModuleHash) -> bool {
        self.polled() == Some(hash)
    }

    /// Returns the state for `camshaft status`. A plugin that should not run but is in the scan is
    /// always `Stopping`. A running plugin is always `Running`, even while its next version is
    /// being prepared or was refused.
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

    /// Returns the plugin's view for `camshaft status`.
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
