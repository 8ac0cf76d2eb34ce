//! What becomes of a module of which no instance could be made.
//!
//! Whether that is a verdict or an accident says whoever refuses. What ran before is tried again
//! after either, and a kept version may take its place meanwhile; which one runs is decided in
//! `target.rs`, and until when nothing is tried is kept in `refused.rs`.

use super::super::{Note, Version};
use super::{File, PATIENCE, Plugin, Turn};
use crate::plugin::{ModuleHash, Refusal};

impl Plugin {
    /// After a verdict the module is not tried again. What ran before and cannot be made again is
    /// none the worse for it, whatever the refusal says.
    pub(super) fn failed(&mut self, version: Version, refusal: Refusal, turn: &mut Turn<'_>) {
        let hash = version.hash;
        turn.tell(Note::Refused { hash, refusal: refusal.clone() });
        if self.file == File::Bytes(hash) {
            self.refusal = Some(refusal.clone());
        }
        let has_run = [self.good, self.kept.ran].contains(&Some(hash));
        if self.runs(hash) {
            // Another instance was wanted of it, and the one that is there goes on.
        } else if refusal.is_accidental || has_run {
            self.postpone(hash, refusal, turn);
        } else {
            self.refused.for_good(hash, refusal);
        }
    }

    fn postpone(&mut self, hash: ModuleHash, refusal: Refusal, turn: &mut Turn<'_>) {
        let delay = self.refused.for_now(hash, refusal, turn.now, turn.policy);
        turn.tell(Note::Retrying { hash, delay });
    }

    /// No snapshot has shown the instance of this module that was ordered into the scan.
    pub(super) fn lost_on_the_way(&mut self, hash: ModuleHash, turn: &mut Turn<'_>) {
        let reason = format!("the scan has not taken it within {PATIENCE:?}");
        let refusal = Refusal::new(reason, "`camshaft status` says what the scan does");
        self.postpone(hash, refusal.by_accident(), turn);
    }

    /// A kept version runs by now in place of what could not be made for so long. That is in
    /// quarantine from here on, as after as many traps: it would come and go otherwise.
    pub(super) fn give_up(&mut self, turn: &mut Turn<'_>) {
        for (hash, why) in self.refused.given_up(turn.policy.traps) {
            turn.context.quarantine.add(turn.name, hash, why.clone());
            self.refused.forget(hash);
            if self.file_hash() == Some(hash) {
                // The quarantine says it, and is told here.
                (self.refusal, self.told) = (None, Some(hash));
            }
            turn.tell(Note::GivenUp { hash, why });
        }
    }
}
