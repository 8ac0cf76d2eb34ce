//! Reads the facts of one plugin from the newest snapshot: which instance runs, which has trapped,
//! and which was rolled back.
//!
//! This file only updates the levels. `plugin.rs` decides the next order from these levels.

use std::sync::Arc;

use super::super::history::{History, Verdict};
use super::super::{Fact, Note};
use super::{File, Next, Plugin, Seen, Turn};
use crate::plugin::{Generation, ModuleHash, Trap};

impl Plugin {
    /// Reads the plugin's fact from the newest snapshot. The function ignores a fact that is older
    /// than the previous fact.
    pub(super) fn observe(&mut self, fact: &Fact<'_>, turn: &mut Turn<'_>) {
        let before = self.seen.map(|seen| seen.generation);
        // `newest` is the newest instance that the fact names. After a rollback, this is the
        // instance that trapped, or a later instance that runs now.
        let rolled_back = fact.rolled_back.as_ref().map(|(generation, _)| *generation);
        let newest =
            rolled_back.map_or(fact.generation, |rolled_back| rolled_back.max(fact.generation));
        if before.is_some_and(|before| before > newest) {
            return; // this snapshot is older than the last one
        }
        if let Some((generation, trap)) = &fact.rolled_back {
            self.taken_back(*generation, fact, trap, turn);
        }
        // Only the polled version, the standby version and versions newer than `newest` remain in
        // the list. Otherwise a series of versions on probation would displace the standby version,
        // because the length of the list is limited.
        let stays = [Some(fact.generation), fact.standby];
        self.ordered.retain(|version| {
            version.generation > newest || stays.contains(&Some(version.generation))
        });
        self.seen = Some(Seen { generation: fact.generation, trapped: fact.trap.is_some() });
        if matches!(self.next, Next::Ready { version, .. } if version.generation <= newest) {
            self.next = Next::Nothing;
        }
        // This block runs one time for each new instance on the seat.
        if before != Some(fact.generation)
            && let Some(version) = self.running()
        {
            if self.history.hash != Some(version.hash) {
                self.history = History::of(version.hash);
            }
            // The module runs, so its earlier refusals are removed.
            self.refused.forget(version.hash);
            // A module in quarantine is never the module that is restarted later.
            if !turn.context.quarantine.contains(turn.name, version.hash) {
                self.good = Some(version.hash);
                self.kept.ran = None;
            }
            if self.file == File::Bytes(version.hash) {
                self.refusal = None;
            }
            // After a rollback, the previous instance is not logged as a new start.
            if newest == fact.generation {
                self.restart = false;
                turn.note(Note::Started(version));
            }
            // A stored version runs now, so modules that failed too often can be put in quarantine.
            if self.file_hash() != Some(version.hash) {
                self.give_up(turn);
            }
            if self.stand_in == Some((version.hash, false)) {
                self.stand_in = Some((version.hash, true));
                turn.note(Note::StandsIn { of: self.file_hash(), hash: version.hash });
            }
        }
        if let Some(trap) = &fact.trap {
            self.trapped(fact.generation, trap, turn);
        }
    }

    /// Records a rollback: the scan ended an instance that trapped on probation. The previous
    /// version runs again, unless a newer instance has replaced the previous version since then.
    fn taken_back(
        &mut self,
        generation: Generation,
        fact: &Fact<'_>,
        trap: &Arc<Trap>,
        turn: &mut Turn<'_>,
    ) {
        if generation <= self.rolled_back {
            return;
        }
        self.rolled_back = generation;
        self.traps += 1;
        self.last_trap = Some(Arc::clone(trap));
        let hash = |generation| {
            let version = self.ordered.iter().find(|version| version.generation == generation);
            version.map(|version| version.hash)
        };
        let is_back = fact.generation < generation;
        let standby = fact.standby.filter(|_| !is_back);
        let resumed = hash(standby.unwrap_or(fact.generation));
        self.trapped = hash(generation);
        let next = self.next.version().map(|next| next.hash);
        if is_back && next.is_some() && next == resumed && next != self.trapped {
            // The next instance should replace the version that trapped. After the rollback, the
            // next instance would only be an unwanted restart of the version that runs again.
            self.discard(turn);
        }
        if let Some(from) = self.trapped {
            if resumed == Some(from) {
                // The instance that trapped has the same bytes as the previous version. So this
                // trap has the same consequence as a trap after probation.
                return self.count_trap(from, trap, turn);
            }
            // If the supervisor does not know the version that runs again, it never ordered this
            // version under this name. Then the event does not name the version, and the supervisor
            // stops the version like any unknown instance.
            let note = match resumed.filter(|_| is_back) {
                Some(to) => Note::RolledBack { from, to },
                None => Note::Quarantined { hash: from, traps: 1 },
            };
            let why = format!("trapped on probation: {trap}");
            turn.context.quarantine.add(turn.name, from, why);
            self.noted = self.noted.or(self.file_hash().filter(|file| *file == from));
            turn.note(note);
        }
    }

    /// Records that the newest snapshot does not contain the plugin. If the plugin left the scan
    /// without a stop order, the supervisor counts a trap. After a stop order, the function reports
    /// [`Note::Stopped`].
    pub(super) fn observe_absence(&mut self, turn: &mut Turn<'_>) {
        let Some(seen) = self.seen else { return };
        if seen.generation > self.stop.covers {
            let kind = "the program left the scan without a stop order".to_owned();
            let trap = Arc::new(Trap { kind, function: None, offset: None, cycle: 0 });
            self.trapped(seen.generation, &trap, turn);
        } else {
            turn.note(Note::Stopped);
        }
        self.seen = None;
        self.ordered.retain(|version| version.generation > seen.generation);
    }

    /// Counts the trap of an instance. A second call for the same instance has no effect.
    fn trapped(&mut self, generation: Generation, trap: &Arc<Trap>, turn: &mut Turn<'_>) {
        if generation == self.counted {
            return;
        }
        self.counted = generation;
        self.traps += 1;
        self.last_trap = Some(Arc::clone(trap));
        let running = self.running();
        self.trapped = running.map(|version| version.hash);
        if let Some(version) = running {
            self.count_trap(version.hash, trap, turn);
        }
    }

    /// Counts a trap of this module, and reports the consequence: a restart or quarantine. A
    /// restart is not reported while an instance of another module is being created or ordered into
    /// the scan.
    fn count_trap(&mut self, hash: ModuleHash, trap: &Trap, turn: &mut Turn<'_>) {
        if self.history.hash != Some(hash) {
            self.history = History::of(hash);
        }
        let is_replaced = self.next.version().is_some_and(|next| next.hash != hash);
        match self.history.trapped(turn.now, turn.policy) {
            // An instance of another module is already being created, so this module is not
            // restarted now. This module is restarted only if the other module fails.
            Verdict::Restart { .. } if is_replaced => {}
            Verdict::Restart { trap, delay } => {
                turn.note(Note::Restarting { trap, of: turn.policy.traps, delay });
            }
            Verdict::Quarantine { traps } => {
                let trap = trap.explained();
                let why = match traps {
                    1 => format!("it trapped: {trap}"),
                    _ => format!("{traps} traps in a short time, the last: {trap}"),
                };
                turn.context.quarantine.add(turn.name, hash, why);
                self.noted = self.noted.or(self.file_hash().filter(|file| *file == hash));
                turn.note(Note::Quarantined { hash, traps });
            }
        }
    }
}
