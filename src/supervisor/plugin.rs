//! One plugin: the content of the folder, the facts of the scan, and the one order that is under
//! way.
//!
//! `observe.rs` takes the levels in, `target.rs` says which module should run, `reconcile` gives
//! the next order. None of them uses how the levels came about, so lost, late and repeated facts
//! all lead to the same end state.

use std::sync::Arc;
use std::time::Duration;

use super::history::{History, RestartPolicy};
use super::{Action, Fact, Note, ORDER_REPEAT, StepContext, Version, Want};
use crate::plugin::{Generation, ModuleHash, Refusal, Trap};

mod failed;
mod observe;
mod refused;
mod target;
mod view;

use refused::Refused;
use view::InScan;

/// The largest number of versions in the order queue that no snapshot has shown yet. More than a
/// few wait only if the scan stands. A version that is forgotten here is treated as a stranger when
/// it appears in the scan.
const MAX_ORDERED: usize = 8;

/// The time after which an instance that no snapshot shows counts as lost and is made again. The
/// scan takes one instance a cycle: the time is enough for a full folder at a period of 200 ms. If
/// a slower scan takes the lost instance later, the new one replaces it by one more swap.
const PATIENCE: Duration = Duration::from_secs(60);

/// The content of the folder under a name.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) enum File {
    #[default]
    Gone,
    Bytes(ModuleHash),
    Unusable(Refusal),
    /// A file whose name differs from another plugin's only in upper and lower case.
    Rival(Refusal),
}

/// The instance that is to be the next one in the scan.
///
/// ```text
///            Prepare             Ok                 in the snapshot
///   Nothing ─────────▶ Preparing ───▶ Ready: Install ───────────────▶ Nothing
///      ▲                  │ Err        │ Err
///      ├──── Failed ◀─────┴────────────┘
///      └──── Discard: from Preparing and Ready, when it is no longer wanted; from Ready also
///                     when the scan does not take it
/// ```
#[derive(Debug, Default)]
enum Next {
    #[default]
    Nothing,
    Preparing(Version),
    /// The instance is ordered into the scan; the order is repeated at `order_at`.
    Ready {
        version: Version,
        order_at: Duration,
        /// The time at which the instance counts as lost; set by the first order.
        give_up_at: Option<Duration>,
    },
    /// A failed attempt that waits for the next step, because only a step knows the time.
    Failed(Version, Refusal),
}

impl Next {
    fn version(&self) -> Option<Version> {
        match self {
            Self::Nothing | Self::Failed(..) => None,
            Self::Preparing(version) | Self::Ready { version, .. } => Some(*version),
        }
    }
}

/// The facts of the newest snapshot under a name.
#[derive(Debug, Clone, Copy)]
struct Seen {
    generation: Generation,
    trapped: bool,
}

/// Versions that can be loaded although the file has other bytes.
#[derive(Debug, Default)]
struct Kept {
    /// Versions that were good and never trapped since, best first.
    good: Vec<ModuleHash>,
    /// The version that ran when the daemon ended; `None` as soon as another version has run.
    ran: Option<ModuleHash>,
}

/// The last order to leave the scan.
#[derive(Debug, Default)]
struct Stop {
    /// The newest instance that the order covers: it and all older ones leave because of the order.
    covers: Generation,
    /// The time before which the order is not repeated.
    repeat_at: Duration,
}

/// All that the supervisor knows of one plugin. The default has no file, and the operator wants the
/// plugin to run.
#[derive(Debug, Default)]
pub(super) struct Plugin {
    pub(super) want: Want,
    /// The content of the folder under the plugin's name.
    file: File,
    /// The instance that is being made or ordered into the scan.
    next: Next,
    /// The instance on the plugin's seat in the newest snapshot.
    seen: Option<Seen>,
    /// Versions that are in the scan or in the queue to it, oldest first. From them the hash of
    /// `seen` is known.
    ordered: Vec<Version>,
    stop: Stop,
    /// Whether the operator asked for a new instance that is not being made yet.
    restart: bool,
    /// The module that ran last and was not in quarantine then. It is restarted if the file is bad.
    good: Option<ModuleHash>,
    kept: Kept,
    /// Modules of which no program could be made, each with the reason. New bytes, a restart or a
    /// release empties the list.
    refused: Refused,
    /// Why the present file was not taken over.
    refusal: Option<Refusal>,
    /// The module whose quarantine was last logged.
    told: Option<ModuleHash>,
    /// The kept version that is made in place of the file's, as last logged, and whether the log
    /// already says that it runs.
    stand_in: Option<(ModuleHash, bool)>,
    /// The newest instance whose trap is counted.
    counted: Generation,
    /// The newest instance whose rollback is counted.
    rolled_back: Generation,
    /// The recent traps of the module that ran last.
    history: History,
    /// The number of traps, over all modules, since the supervisor knows the plugin.
    traps: u64,
    last_trap: Option<Arc<Trap>>,
    /// The version that had the last trap, if it is known.
    trapped: Option<ModuleHash>,
}

/// The turn of one plugin in a step.
pub(super) struct Turn<'a> {
    pub(super) name: &'a str,
    pub(super) now: Duration,
    pub(super) policy: &'a RestartPolicy,
    pub(super) context: &'a mut StepContext,
}

impl Turn<'_> {
    fn order(&mut self, order: impl FnOnce(String) -> Action) {
        self.context.actions.push(order(self.name.to_owned()));
    }

    fn tell(&mut self, note: Note) {
        self.order(|name| Action::Tell { name, note });
    }
}

// What the supervisor passes on between two steps.
impl Plugin {
    /// Takes in the content of the folder. New content clears the refusals. If the file is gone,
    /// the plugin also forgets which modules ran.
    pub(super) fn holds(&mut self, file: File) {
        if self.file == file {
            return;
        }
        self.refusal = match &file {
            File::Unusable(refusal) | File::Rival(refusal) => Some(refusal.clone()),
            File::Gone | File::Bytes(_) => None,
        };
        if file == File::Gone {
            self.good = None;
            self.kept.ran = None;
            self.restart = false;
        }
        self.forget_failure();
        self.told = None;
        self.stand_in = None;
        self.file = file;
    }

    /// Ends the hold and forgets traps and refusals; returns what the operator wanted before.
    pub(super) fn release(&mut self) -> Want {
        self.history = History::default();
        self.forget_refusal();
        std::mem::replace(&mut self.want, Want::Run)
    }

    /// Asks for a new instance, at once. Refused modules are tried again.
    pub(super) fn restart(&mut self) {
        self.restart = true;
        self.history.restart_at = Duration::ZERO;
        self.forget_refusal();
    }

    fn forget_refusal(&mut self) {
        self.forget_failure();
        if !matches!(self.file, File::Unusable(_) | File::Rival(_)) {
            self.refusal = None;
        }
    }

    /// Forgets failed attempts, also an attempt that the next step would handle, because it was
    /// made before this call.
    fn forget_failure(&mut self) {
        self.refused.clear();
        if let Next::Failed(..) = self.next {
            self.next = Next::Nothing;
        }
    }

    /// Takes in the versions that [`Supervisor::keep`](super::Supervisor::keep) names.
    pub(super) fn keep(&mut self, good: Vec<ModuleHash>, ran: Option<ModuleHash>) {
        let ran = ran.filter(|_| self.good.is_none() && self.file != File::Gone);
        if let Some(ran) = ran.filter(|_| ran != self.kept.ran) {
            // An attempt with the file of `ran` may have failed before `ran` was known.
            self.refused.forget(ran);
        }
        self.kept = Kept { good, ran };
    }

    /// Gives this module another chance, as the operator wants.
    pub(super) fn retry(&mut self, hash: ModuleHash) {
        self.refused.forget(hash);
        if self.history.hash == Some(hash) {
            self.history = History::default();
        }
        self.told = None;
    }

    /// Takes in the result of making an instance. Returns whether the plugin expects that instance.
    pub(super) fn prepared(&mut self, generation: Generation, result: Result<(), Refusal>) -> bool {
        let Some(version) = self.next.version().filter(|next| next.generation == generation) else {
            return false;
        };
        match (result, &self.next) {
            (Err(refusal), _) => self.next = Next::Failed(version, refusal),
            (Ok(()), Next::Preparing(_)) => {
                self.next = Next::Ready { version, order_at: Duration::ZERO, give_up_at: None };
            }
            (Ok(()), _) => {} // the answer came twice
        }
        true
    }
}

// One step.
impl Plugin {
    pub(super) fn step(&mut self, fact: Option<&Fact<'_>>, turn: &mut Turn<'_>) {
        match fact {
            Some(fact) => self.observe(fact, turn),
            None => self.observe_absence(turn),
        }
        match std::mem::take(&mut self.next) {
            Next::Failed(version, refusal) => self.failed(version, refusal, turn),
            next => self.next = next,
        }
        self.reconcile(turn);
    }

    /// Compares the wanted module with what is in the scan, and gives the next order.
    fn reconcile(&mut self, turn: &mut Turn<'_>) {
        if self.want == Want::Hold || self.file == File::Gone {
            self.restart = false;
            self.discard(turn);
            self.stop(turn);
            return;
        }
        self.tell_of_quarantine(turn);
        if self.runs_what_is_bad(turn) {
            // The install order of the bad module was in the queue when its last trap came. The
            // next instance is discarded, because the order to stop might remove that one too.
            self.discard(turn);
            self.stop(turn);
            return;
        }
        let Some(hash) = self.target(turn) else {
            self.discard(turn);
            let is_waiting = self.has_candidate(turn);
            match self.in_scan() {
                InScan::Nothing | InScan::Good => {}
                // The program keeps its points until the next attempt.
                InScan::Trapped if is_waiting => {}
                // A stop gives the program's memory and points back.
                InScan::Trapped | InScan::Stranger => self.stop(turn),
            }
            return;
        };
        if let Some(next) = self.next.version().filter(|next| next.hash != hash) {
            // If the wanted module is refused, the restart that the operator asked for must still
            // be done.
            self.restart |= self.runs(next.hash);
            self.discard(turn);
        }
        self.restart &= !self.next.version().is_some_and(|next| self.renews(next.hash));
        match &mut self.next {
            Next::Nothing | Next::Failed(..) => self.prepare(hash, turn),
            Next::Preparing(_) => {}
            Next::Ready { version, order_at, give_up_at } => {
                let version = *version;
                let give_up_at = *give_up_at.get_or_insert(turn.now + PATIENCE);
                let is_due = turn.now >= *order_at;
                if is_due {
                    *order_at = turn.now + ORDER_REPEAT;
                }
                if turn.now >= give_up_at {
                    self.discard(turn);
                    self.lost_on_the_way(version.hash, turn);
                } else if is_due {
                    self.install(version, turn);
                }
            }
        }
    }

    /// Logs once that a kept version is being made which has not run under this daemon before.
    fn tell_of_stand_in(&mut self, hash: ModuleHash, turn: &mut Turn<'_>) {
        let is_other = self.file_hash() != Some(hash) && self.good != Some(hash);
        let is_told = self.stand_in.is_some_and(|(told, _)| told == hash);
        if is_other && !is_told {
            self.stand_in = Some((hash, false));
            turn.tell(Note::TriedInstead { of: self.file_hash(), hash });
        }
    }

    /// Begins to make an instance of this module, unless one runs or the module must still wait.
    fn prepare(&mut self, hash: ModuleHash, turn: &mut Turn<'_>) {
        let is_satisfied = self.runs(hash) && !self.restart;
        if is_satisfied || self.due(hash).is_some_and(|due| turn.now < due) {
            return;
        }
        self.restart &= !self.renews(hash);
        self.tell_of_stand_in(hash, turn);
        turn.context.generation.0 += 1;
        let generation = turn.context.generation;
        self.next = Next::Preparing(Version { hash, generation });
        turn.order(|name| Action::Prepare { name, hash, generation });
    }

    /// Whether a new instance of this module fulfils a restart. A new instance of another module
    /// does not: it may be refused, and then the running module was not restarted.
    fn renews(&self, hash: ModuleHash) -> bool {
        self.polled().is_none_or(|polled| polled == hash)
    }

    /// Orders a prepared instance into the scan, and notes it in `ordered`.
    fn install(&mut self, version: Version, turn: &mut Turn<'_>) {
        if !self.ordered.contains(&version) {
            if self.ordered.len() == MAX_ORDERED {
                // The oldest version is dropped, unless it is in the scan.
                let seen = self.seen.map(|seen| seen.generation);
                let waiting = |version: &Version| Some(version.generation) > seen;
                self.ordered.remove(self.ordered.iter().position(waiting).unwrap_or(0));
            }
            self.ordered.push(version);
        }
        turn.order(|name| Action::Install { name, generation: version.generation });
    }

    /// Drops the next instance, whether it is made or being made.
    fn discard(&mut self, turn: &mut Turn<'_>) {
        if let Some(Version { generation, .. }) = self.next.version() {
            turn.order(|name| Action::Discard { name, generation });
        }
        self.next = Next::Nothing;
    }

    /// Orders the plugin's instances out of the scan, also those in the queue to it.
    fn stop(&mut self, turn: &mut Turn<'_>) {
        let newest = self.ordered.last().map(|version| version.generation);
        let Some(newest) = newest.max(self.seen.map(|seen| seen.generation)) else { return };
        if newest <= self.stop.covers && turn.now < self.stop.repeat_at {
            return;
        }
        self.stop = Stop { covers: newest, repeat_at: turn.now + ORDER_REPEAT };
        if self.seen.is_none() {
            self.ordered.clear(); // a version that appears after all is stopped then
        }
        turn.order(|name| Action::Stop { name });
    }

    /// Logs once that the file is not run because its module is in quarantine from before.
    fn tell_of_quarantine(&mut self, turn: &mut Turn<'_>) {
        let Some(hash) = self.file_hash() else { return };
        let why = turn.context.quarantine.why(turn.name, hash).filter(|_| self.told != Some(hash));
        if let Some(why) = why.map(str::to_owned) {
            self.told = Some(hash);
            turn.tell(Note::StillQuarantined { hash, why });
        }
    }
}
