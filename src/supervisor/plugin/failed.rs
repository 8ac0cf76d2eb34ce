//! The reaction when no instance of a module could be made.
//!
//! A refusal says whether it is a verdict on the module or an accident (see `Refusal`). A module
//! that ran before is tried again after a verdict and after an accident, and a kept version may
//! take its place meanwhile. `target.rs` decides which module runs; `refused.rs` knows how long a
//! module waits for its next attempt.

use super::super::{Note, Version};
use super::{File, PATIENCE, Plugin, Turn};
use crate::plugin::{ModuleHash, Refusal};

impl Plugin {
    /// Handles a failed attempt. After a verdict the module is not tried again. A module that ran
    /// before is tried again whatever the refusal says, because a module that ran can be made.
    pub(super) fn failed(&mut self, version: Version, refusal: Refusal, turn: &mut Turn<'_>) {
        let hash = version.hash;
        turn.tell(Note::Refused { hash, refusal: refusal.clone() });
        if self.file == File::Bytes(hash) {
            self.refusal = Some(refusal.clone());
        }
        let has_run = [self.good, self.kept.ran].contains(&Some(hash));
        if self.runs(hash) {
            // A restart was wanted, and the running instance of the same module goes on.
        } else if refusal.is_accidental || has_run {
            self.postpone(hash, refusal, turn);
        } else {
            self.refused.for_good(hash, refusal);
        }
    }

    /// Notes that the module is tried again after a wait, and reports the wait.
    fn postpone(&mut self, hash: ModuleHash, refusal: Refusal, turn: &mut Turn<'_>) {
        let delay = self.refused.for_now(hash, refusal, turn.now, turn.policy);
        turn.tell(Note::Retrying { hash, delay });
    }

    /// Handles an instance that was ordered into the scan but that no snapshot has shown.
    pub(super) fn lost_on_the_way(&mut self, hash: ModuleHash, turn: &mut Turn<'_>) {
        let reason = format!("the scan has not taken it within {PATIENCE:?}");
        let refusal = Refusal::new(reason, "`camshaft status` says what the scan does");
        self.postpone(hash, refusal.by_accident(), turn);
    }

    /// Puts modules in quarantine that ran before and could not be made in as many attempts as
    /// traps lead to quarantine. A kept version runs in their place by now. Without quarantine the
    /// old and the kept version would run by turns.
    pub(super) fn give_up(&mut self, turn: &mut Turn<'_>) {
        for (hash, why) in self.refused.given_up(turn.policy.traps) {
            turn.context.quarantine.add(turn.name, hash, why.clone());
            self.refused.forget(hash);
            if self.file_hash() == Some(hash) {
                // From here on the quarantine is the reason, and the note below logs it.
                (self.refusal, self.told) = (None, Some(hash));
            }
            turn.tell(Note::GivenUp { hash, why });
        }
    }
}
