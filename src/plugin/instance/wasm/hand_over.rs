//! Calls of the functions `save` and `restore` of one instance.
//!
//! `program.rs` and `scan/swap.rs` decide when the two functions are called and what happens after
//! a failure. The bytes of the state are in `state.rs`.

use std::sync::Arc;
use std::time::Duration;

use super::super::state::State;
use super::super::stop::BudgetSlot;
use super::super::trap::plain;
use super::{Call, Instance};
use crate::plugin::Trap;
use crate::process::call::{MAX_STATE_BYTES, Phase};
use crate::process::lent::Lent;
use crate::process::world::World;

/// The text of a trap begins with these words if `save` tried to write more bytes than a state may
/// have.
pub(in super::super) const STATE_TOO_LONG: &str = "the saved state has more than ";

impl Instance {
    /// Whether the instance has `save` and `restore`.
    pub(in super::super) fn hands_over(&self) -> bool {
        self.hand_over.is_some()
    }

    /// Runs `save` and returns the saved state. `save` may use the CPU time `budget`, counted from
    /// `started_ns`. If the instance does not have both functions, the state is empty.
    ///
    /// Afterwards the host undoes all changes that `save` made to the memory and the globals of the
    /// instance. The reason: the instance may have to run again after a failed `restore` or a
    /// rollback. There are two exceptions. If the memory is too large for a checkpoint, the host
    /// undoes only changes of the globals, and only after a failed call. If the call ended in the
    /// middle (`Instance::is_spent`), the host undoes nothing, because the host never calls the
    /// instance again.
    pub(in crate::plugin) fn save(
        &mut self,
        world: &mut Lent<World>,
        slot: &BudgetSlot,
        started_ns: u64,
        budget: Duration,
    ) -> Result<Vec<u8>, Arc<Trap>> {
        let Some([save, _]) = &self.hand_over else { return Ok(Vec::new()) };
        let before = self.parts.checkpoint(&mut self.body.store);
        let call = Call { phase: Phase::Save, slot, started_ns, budget };
        let result = self.body.call(save, world, &call);
        let state = std::mem::take(&mut self.body.guest().state);
        let result = match result {
            Ok(()) if state.overflowed => {
                let kind = format!("{STATE_TOO_LONG}{MAX_STATE_BYTES} bytes");
                Err(Arc::new(Trap { cycle: world.cycle, ..plain(kind) }))
            }
            other => other,
        };
        // If the memory was not copied, the changes of a good call remain. The globals must remain
        // too, because they belong to the changed memory.
        let is_whole = before.is_whole;
        if !self.is_spent() && (result.is_err() || is_whole) {
            self.parts.rewind(&mut self.body.store, before);
            self.body.fall = None;
            self.host().tape.forget(is_whole);
        }
        result.map(|()| state.into_bytes())
    }

    /// Runs `restore` with the state that another version has saved. `restore` may use the CPU time
    /// `budget`, counted from `started_ns`. If the instance does not have both functions, nothing
    /// happens.
    pub(in crate::plugin) fn restore(
        &mut self,
        state: Vec<u8>,
        world: &mut Lent<World>,
        slot: &BudgetSlot,
        started_ns: u64,
        budget: Duration,
    ) -> Result<(), Arc<Trap>> {
        let Some([_, restore]) = &self.hand_over else { return Ok(()) };
        self.body.guest().state = State::new(state);
        let call = Call { phase: Phase::Restore, slot, started_ns, budget };
        let result = self.body.call(restore, world, &call);
        self.body.guest().state = State::default();
        result
    }
}
