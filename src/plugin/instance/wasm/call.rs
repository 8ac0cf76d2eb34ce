//! One call into an instance. The steps:
//!
//! - move the world (process image, variables, log) into the guest's host data, and start the time
//!   limit,
//! - call the guest's function,
//! - after a good call, commit the outputs that the guest wrote,
//! - after a good poll, also commit the variables that the guest wrote,
//! - after a trap, discard these outputs and variables and describe the failure,
//! - move the world back to the caller.
//!
//! `wasm.rs` and `wasm/hand_over.rs` decide which function is called and when. `trap.rs` makes the
//! text of a failure.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use wasmer::{FunctionEnv, Store, TypedFunction};

use super::super::bind::Host;
use super::super::guest::Guest;
use super::super::stop::{BudgetSlot, StopCell};
use super::super::trap::{Full, describe, is_overflow, over, panicked, plain};
use crate::plugin::Trap;
use crate::plugin::module::hidden::Hidden;
use crate::plugin::trace::record::{self, CallError};
use crate::process::call::Phase;
use crate::process::lent::Lent;
use crate::process::world::World;

/// The parts of an instance that every call needs.
pub(super) struct Body {
    pub(super) store: Store,
    pub(super) host: FunctionEnv<Host>,
    /// The address of the instance's stop flag. The thread that makes the instance writes the
    /// address; the thread that calls the instance reads it.
    pub(super) stop: Arc<StopCell>,
    pub(super) hidden: Hidden,
    /// The failure of the last failed call; `None` if no call has failed, or after a `save` that
    /// the host has undone.
    pub(super) fall: Option<Box<CallError>>,
    /// Whether a call ended in the middle, because its budget was used up, its stack was full, or a
    /// host function panicked. At that moment, wasmer's own code may have been running on the
    /// guest's stack and may have left wasmer's data inconsistent. So the host never calls this
    /// instance again.
    pub(super) is_spent: bool,
}

/// The kind and the time limit of one call.
pub(super) struct Call<'a> {
    pub(super) phase: Phase,
    pub(super) slot: &'a BudgetSlot,
    /// The start of the call, a time of the clock [`now_ns`](super::super::stop::now_ns).
    pub(super) started_ns: u64,
    pub(super) budget: Duration,
}

impl Body {
    pub(super) fn guest(&mut self) -> &mut Guest {
        &mut self.host.as_mut(&mut self.store).guest
    }

    /// Returns the size and the limit of the memory, if the host refused to grow the memory in the
    /// call that has just ended. The function considers only the last attempt of the guest. A
    /// refused growth in an earlier call is ignored, because it does not explain why this call
    /// failed.
    fn full(&mut self) -> Option<Full> {
        let call = self.hidden.lacked_memory_in(&mut self.store);
        if call == 0 || !self.stop.is_call(call) {
            return None;
        }
        let memory = self.host.as_ref(&self.store).memory.as_ref()?;
        let limit = memory.ty(&self.store).maximum?.bytes().0 as u64;
        let is_own = self.hidden.most_memory().is_some_and(|most| most <= limit);
        Some(Full { size: memory.view(&self.store).data_size(), limit, is_own })
    }

    /// Calls a function of the guest. During the call, the guest's host data has the world. After a
    /// good call, [`Guest::commit`] makes the guest's writes valid; after a trap, they are
    /// discarded.
    pub(super) fn call(
        &mut self,
        function: &TypedFunction<(), ()>,
        world: &mut Lent<World>,
        call: &Call<'_>,
    ) -> Result<(), Arc<Trap>> {
        if self.is_spent {
            return Err(Arc::new(plain("called although the host stopped an earlier call")));
        }
        let host = self.host.as_mut(&mut self.store);
        host.tape.begin(call.phase, world.cycle, world.now);
        if let Some(player) = &mut host.player {
            player.begin(call.phase);
        }
        world.pass_to(&mut host.guest.world);
        host.guest.phase = call.phase;
        call.slot.arm(&self.stop, call.started_ns, call.budget);
        let store = &mut self.store;
        let result = catch_unwind(AssertUnwindSafe(|| function.call(store)));
        call.slot.disarm();
        let stopped = self.stop.is_stopped().then_some(call.budget);
        let is_trapped = result.as_ref().is_ok_and(Result::is_err);
        let why = is_trapped.then(|| self.hidden.take_why(&mut self.store)).flatten();
        let full = if is_trapped { self.full() } else { None };
        let Host { guest, tape, player, .. } = self.host.as_mut(&mut self.store);
        tape.end();
        let mut frames = Vec::new();
        let result = match result {
            Ok(Ok(())) if stopped.is_none() => {
                guest.commit();
                Ok(())
            }
            // The call returned without a trap, but after its budget was used up.
            Ok(Ok(())) => Err(plain(over(call.budget))),
            Ok(Err(error)) => {
                self.is_spent = stopped.is_some() || is_overflow(&error);
                frames = record::frames(&error, &self.hidden);
                Err(describe(&error, guest, &frames, why, stopped, full))
            }
            Err(panic) => {
                self.is_spent = true;
                Err(panicked(&*panic))
            }
        };
        let result = result.map_err(|trap| {
            guest.discard();
            // The trap is stored behind a pointer. Otherwise every result would be as large as a
            // trap, and every good poll would take longer.
            let trap = Arc::new(Trap { cycle: guest.world.cycle, ..trap });
            let is_over = trap.kind == over(call.budget);
            self.fall = Some(Box::new(CallError { trap: Arc::clone(&trap), frames, is_over }));
            trap
        });
        if let Some(player) = player {
            player.end(result.as_ref().err().map(|trap| &**trap));
        }
        guest.world.pass_to(world);
        result
    }
}
