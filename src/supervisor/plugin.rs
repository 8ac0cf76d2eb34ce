//! One plugin: the content of the folder, the facts of the scan, and the next order.
//!
//! `observe.rs` updates the levels (states) from the facts, `target.rs` chooses the module that
//! should run, and `reconcile` returns the next order. All three use only the present levels. For
//! this reason, lost, late and repeated facts lead to the same final state.

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

/// The largest number of versions in `Plugin::ordered`. The queue to the scan has several versions
/// of one plugin only if the scan stalls. If a version appears in the scan after this list has
/// dropped it, the supervisor stops it as an unknown instance.
const MAX_ORDERED: usize = 8;

/// The time after which an instance that no snapshot shows is treated as lost and is replaced. The
/// scan installs one instance per cycle, so this time is enough for a full folder at a period of
/// 200 ms. If a slow scan installs the lost instance later, a swap to the new instance follows.
const PATIENCE: Duration = Duration::from_secs(60);

/// The content of the plugin folder under one name.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) enum File {
    #[default]
    Gone,
    Bytes(ModuleHash),
    Unusable(Refusal),
    /// A file whose name differs from the name of another plugin only in upper and lower case.
    Rival(Refusal),
}

/// The instance that will be the next instance in the scan.
///
/// ```text
///            Prepare             Ok                 in the snapshot
///   Nothing ─────────▶ Preparing ───▶ Ready: Install ───────────────▶ Nothing
///      ▲                  │ Err        │ Err
///      ├──── Failed ◀─────┴────────────┘
///      └──── Discard: from Preparing and Ready, if the instance is no longer wanted; from Ready
///                     also if the scan does not install the instance
/// ```
#[derive(Debug, Default)]
enum Next {
    #[default]
    Nothing,
    Preparing(Version),
    /// The instance is ready. The next order to install it is due at `order_at`.
    Ready {
        version: Version,
        order_at: Duration,
        /// The time at which the instance is treated as lost. The first order sets this time.
        give_up_at: Option<Duration>,
    },
    /// A failed attempt. The next step decides what follows, because only a step knows the time.
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

/// The facts about one name in the newest snapshot.
#[derive(Debug, Clone, Copy)]
struct Seen {
    generation: Generation,
    trapped: bool,
}

/// Stored versions, which can be loaded although the file has other bytes.
#[derive(Debug, Default)]
struct Kept {
    /// Versions that passed their probation and have not trapped since then, best first.
    good: Vec<ModuleHash>,
    /// The version that ran when the daemon ended; `None` after a later run, or without a file.
    ran: Option<ModuleHash>,
}

/// The last stop order, which takes the plugin out of the scan.
#[derive(Debug, Default)]
struct Stop {
    /// The newest instance that the order stops. The order also stops all older instances.
    covers: Generation,
    /// The earliest time at which the order is repeated.
    repeat_at: Duration,
}

/// All data of the supervisor about one plugin. The default value has no file, and the operator's
/// wish is to run the plugin.
#[derive(Debug, Default)]
pub(super) struct Plugin {
    pub(super) want: Want,
    /// The content of the plugin folder under the plugin's name.
    file: File,
    /// The instance that is being created or is ordered into the scan.
    next: Next,
    /// The instance on the plugin's seat in the newest snapshot.
    seen: Option<Seen>,
    /// Versions that are in the scan or in the queue to the scan, oldest first. This list gives the
    /// module hash for the generation in `seen`.
    ordered: Vec<Version>,
    stop: Stop,
    /// Whether the operator ordered a restart, and the supervisor has not ordered the new instance
    /// yet.
    restart: bool,
    /// The last module that ran and was not in quarantine. This module is restarted if the file is
    /// bad.
    good: Option<ModuleHash>,
    kept: Kept,
    /// Modules of which no instance could be created, each with the reason. New bytes, a restart or
    /// a release clears the list.
    refused: Refused,
    /// Reason why the program of the present file does not run.
    refusal: Option<Refusal>,
    /// The module whose quarantine was logged last.
    noted: Option<ModuleHash>,
    /// The stored version that the log named last, when an instance of it was created in place of
    /// the file's version. The flag is true if the log has also reported that this version runs.
    stand_in: Option<(ModuleHash, bool)>,
    /// The newest instance whose trap was counted.
    counted: Generation,
    /// The newest instance whose rollback was counted.
    rolled_back: Generation,
    /// The recent traps of the module that ran last.
    history: History,
    /// The number of traps of all modules since the supervisor has known the plugin.
    traps: u64,
    last_trap: Option<Arc<Trap>>,
    /// The module that had the last trap, if the module is known.
    trapped: Option<ModuleHash>,
}

/// The arguments that all functions of one plugin need during one step.
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

    fn note(&mut self, note: Note) {
        self.order(|name| Action::Log { name, note });
    }
}

// Functions that the supervisor calls between two steps.
impl Plugin {
    /// Records the content of the folder under this name. New content clears the failed attempts. A
    /// removed file also clears the module that ran last and the operator's restart order.
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
        self.noted = None;
        self.stand_in = None;
        self.file = file;
    }

    /// Ends the hold and clears traps and refusals. Returns the operator's earlier wish.
    pub(super) fn release(&mut self) -> Want {
        self.history = History::default();
        self.forget_refusal();
        std::mem::replace(&mut self.want, Want::Run)
    }

    /// Orders a new instance without a wait. Refused modules are tried again.
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

    /// Clears the failed attempts. A failed attempt that the next step would handle is also
    /// cleared, because this attempt began before the call.
    fn forget_failure(&mut self) {
        self.refused.clear();
        if let Next::Failed(..) = self.next {
            self.next = Next::Nothing;
        }
    }

    /// Stores the versions that [`Supervisor::set_stored`](super::Supervisor::set_stored) names.
    pub(super) fn set_stored(&mut self, good: Vec<ModuleHash>, ran: Option<ModuleHash>) {
        let ran = ran.filter(|_| self.good.is_none() && self.file != File::Gone);
        if let Some(ran) = ran.filter(|_| ran != self.kept.ran) {
            // An attempt with `ran` may have failed only because its stored bytes were not known
            // yet.
            self.refused.forget(ran);
        }
        self.kept = Kept { good, ran };
    }

    /// Allows another attempt with this module, because the operator has ordered it.
    pub(super) fn retry(&mut self, hash: ModuleHash) {
        self.refused.forget(hash);
        if self.history.hash == Some(hash) {
            self.history = History::default();
        }
        self.noted = None;
    }

    /// Stores the result of a preparation. Returns whether the plugin expects this instance.
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

// The functions of one step.
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

    /// Compares the wanted module with the module in the scan, and gives the next order.
    fn reconcile(&mut self, turn: &mut Turn<'_>) {
        if self.want == Want::Hold || self.file == File::Gone {
            self.restart = false;
            self.discard(turn);
            self.stop(turn);
            return;
        }
        self.note_quarantine(turn);
        if self.runs_what_is_bad(turn) {
            // An install order was still in the queue when its module was put in quarantine. The
            // next instance is discarded, because the stop order could remove this instance too.
            self.discard(turn);
            self.stop(turn);
            return;
        }
        let Some(hash) = self.target(turn) else {
            self.discard(turn);
            let is_waiting = self.has_candidate(turn);
            match self.in_scan() {
                InScan::Nothing | InScan::Good => {}
                // The trapped program remains the owner of its points until the next attempt.
                InScan::Trapped if is_waiting => {}
                // The stop order frees the program's memory and its points.
                InScan::Trapped | InScan::Stranger => self.stop(turn),
            }
            return;
        };
        if let Some(next) = self.next.version().filter(|next| next.hash != hash) {
            // If the wanted module is refused later, the restart that the operator ordered must
            // still follow.
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

    /// Logs once that an instance of a stored version is created in place of the file's version.
    fn note_stand_in(&mut self, hash: ModuleHash, turn: &mut Turn<'_>) {
        let is_other = self.file_hash() != Some(hash) && self.good != Some(hash);
        let is_noted = self.stand_in.is_some_and(|(noted, _)| noted == hash);
        if is_other && !is_noted {
            self.stand_in = Some((hash, false));
            turn.note(Note::TriedInstead { of: self.file_hash(), hash });
        }
    }

    /// Begins to create an instance of this module, if a new instance is wanted and due.
    fn prepare(&mut self, hash: ModuleHash, turn: &mut Turn<'_>) {
        let is_satisfied = self.runs(hash) && !self.restart;
        if is_satisfied || self.due(hash).is_some_and(|due| turn.now < due) {
            return;
        }
        self.restart &= !self.renews(hash);
        self.note_stand_in(hash, turn);
        turn.context.generation.0 += 1;
        let generation = turn.context.generation;
        self.next = Next::Preparing(Version { hash, generation });
        turn.order(|name| Action::Prepare { name, hash, generation });
    }

    /// Whether a new instance of this module fulfils the order to restart. It does if the scan
    /// polls an instance of this module, or polls no instance.
    fn renews(&self, hash: ModuleHash) -> bool {
        self.polled().is_none_or(|polled| polled == hash)
    }

    /// Orders a prepared instance into the scan, and adds it to `ordered`.
    fn install(&mut self, version: Version, turn: &mut Turn<'_>) {
        if !self.ordered.contains(&version) {
            if self.ordered.len() == MAX_ORDERED {
                // The oldest version that is newer than the version in the scan is dropped.
                let seen = self.seen.map(|seen| seen.generation);
                let waiting = |version: &Version| Some(version.generation) > seen;
                self.ordered.remove(self.ordered.iter().position(waiting).unwrap_or(0));
            }
            self.ordered.push(version);
        }
        turn.order(|name| Action::Install { name, generation: version.generation });
    }

    /// Discards the next instance, even if it is still being created.
    fn discard(&mut self, turn: &mut Turn<'_>) {
        if let Some(Version { generation, .. }) = self.next.version() {
            turn.order(|name| Action::Discard { name, generation });
        }
        self.next = Next::Nothing;
    }

    /// Orders the plugin's instances out of the scan and out of the queue to the scan.
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

    /// Logs one time that the file's module does not run because of an earlier quarantine.
    fn note_quarantine(&mut self, turn: &mut Turn<'_>) {
        let Some(hash) = self.file_hash() else { return };
        let why = turn.context.quarantine.why(turn.name, hash).filter(|_| self.noted != Some(hash));
        if let Some(why) = why.map(str::to_owned) {
            self.noted = Some(hash);
            turn.note(Note::StillQuarantined { hash, why });
        }
    }
}
