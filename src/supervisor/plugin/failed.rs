//! The reaction of the supervisor to a failed attempt to create an instance of a module.
//!
//! A refusal is one of two kinds: a verdict on the module, or an accident of the machine (see
//! `Refusal`). A module that ran before is tried again after a refusal of either kind. During the
//! wait for the next attempt, a stored version may run. `target.rs` decides which module runs;
//! `refused.rs` computes how long a module waits for its next attempt.

use super::super::{Note, Version};
use super::{File, PATIENCE, Plugin, Turn};
use crate::plugin::{ModuleHash, Refusal};

impl Plugin {
    /// Decides after a failed attempt whether the module is tried again. If an instance of this
    /// module runs, it continues, and no further attempt is planned. Otherwise an accident leads to
    /// another attempt with any module. A verdict leads to another attempt only with a module that
    /// ran before, because its earlier run proves that an instance can be created.
    pub(super) fn failed(&mut self, version: Version, refusal: Refusal, turn: &mut Turn<'_>) {
        let hash = version.hash;
        turn.note(Note::Refused { hash, refusal: refusal.clone() });
        if self.file == File::Bytes(hash) {
            self.refusal = Some(refusal.clone());
        }
        let has_run = [self.good, self.kept.ran].contains(&Some(hash));
        if self.runs(hash) {
            // The failed attempt was a restart. The running instance of the same module continues.
        } else if refusal.is_accidental || has_run {
            self.postpone(hash, refusal, turn);
        } else {
            self.refused.for_good(hash, refusal);
        }
    }

    /// Records that the module is tried again after a wait, and reports the wait.
    fn postpone(&mut self, hash: ModuleHash, refusal: Refusal, turn: &mut Turn<'_>) {
        let delay = self.refused.for_now(hash, refusal, turn.now, turn.policy);
        turn.note(Note::Retrying { hash, delay });
    }

    /// Plans another attempt, because an instance was ordered into the scan but no snapshot has
    /// shown it in time. The loss is an accident and no verdict on the module.
    pub(super) fn lost_on_the_way(&mut self, hash: ModuleHash, turn: &mut Turn<'_>) {
        let reason = format!("the scan has not installed this program within {PATIENCE:?}");
        let refusal = Refusal::new(reason, "`camshaft status` shows the state of the scan");
        self.postpone(hash, refusal.by_accident(), turn);
    }

    /// If a module ran before, and too many of its failed attempts ended with a verdict, puts the
    /// module in quarantine. The limit is the number of traps that leads to quarantine. The caller
    /// calls this function only when a version other than the file's version begins to run. Without
    /// the quarantine, that version and the failed module would run alternately.
    pub(super) fn give_up(&mut self, turn: &mut Turn<'_>) {
        for (hash, why) in self.refused.given_up(turn.policy.traps) {
            turn.context.quarantine.add(turn.name, hash, why.clone());
            self.refused.forget(hash);
            if self.file_hash() == Some(hash) {
                // From now on, the quarantine is the reason why the file does not run.
                (self.refusal, self.noted) = (None, Some(hash));
            }
            turn.note(Note::GivenUp { hash, why });
        }
    }
}
