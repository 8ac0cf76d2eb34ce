//! What follows when no instance of a module could be made.
//!
//! A refusal itself says whether it is a verdict on the module or an accident (see `Refusal`). A
//! module that ran before is tried again after either, and a kept version may take its place
//! meanwhile. Which module runs is decided in `target.rs`; until when nothing is tried is in
//! `refused.rs`.

use super::super::{Note, Version};
use super::{File, PATIENCE, Plugin, Turn};
use crate::plugin::{ModuleHash, Refusal};

impl Plugin {
    /// Handles a failed attempt. After a verdict the module is not tried again. A module that ran
    /// before is tried again whatever the refusal says: that it cannot be made now is no proof
    /// against it.
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

    /// Handles an instance that was ordered into the scan and that no snapshot has shown.
    pub(super) fn lost_on_the_way(&mut self, hash: ModuleHash, turn: &mut Turn<'_>) {
        let reason = format!("the scan has not taken it within {PATIENCE:?}");
        let refusal = Refusal::new(reason, "`camshaft status` says what the scan does");
        self.postpone(hash, refusal.by_accident(), turn);
    }

    /// Puts the modules in quarantine that could not be made as many times as traps lead to
    /// quarantine. A kept version runs in their place by now. Without quarantine the two would take
    /// turns.
    pub(super) fn give_up(&mut self, turn: &mut Turn<'_>) {
        for (hash, why) in self.refused.given_up(turn.policy.traps) {
            turn.context.quarantine.add(turn.name, hash, why.clone());
            self.refused.forget(hash);
            if self.file_hash() == Some(hash) {
                // The quarantine is the reason from here on, and the note below logs it.
                (self.refusal, self.told) = (None, Some(hash));
            }
            turn.tell(Note::GivenUp { hash, why });
        }
    }
}
