//! One call into an instance: lends the world to the guest, calls it, and settles the result.
//!
//! This file does not decide which function is called, or when: that is in `wasm.rs` and
//! `wasm/hand_over.rs`. The text of a failure is made in `trap.rs`.

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

/// The parts of an instance that a call into it works on.
pub(super) struct Body {
    pub(super) store: Store,
    pub(super) host: FunctionEnv<Host>,
    /// The address of the instance's stop flag. The thread that makes the instance writes the
    /// address; the thread that calls the instance reads it.
    pub(super) stop: Arc<StopCell>,
    pub(super) hidden: Hidden,
    /// How the last failed call ended.
    pub(super) fall: Option<Box<CallError>>,
    /// Whether a call was cut off because its time was over or its stack was full. Wasmer's code
    /// may have been running on the guest's stack at that moment. The host cannot know what that
    /// code has left half done, so it never calls this instance again.
    pub(super) is_spent: bool,
}

/// The settings of one call.
pub(super) struct Call<'a> {
    pub(super) phase: Phase,
    pub(super) slot: &'a BudgetSlot,
    /// The start of the call, by [`now_ns`](super::super::stop::now_ns).
    pub(super) started_ns: u64,
    pub(super) budget: Duration,
}

impl Body {
    pub(super) fn guest(&mut self) -> &mut Guest {
        &mut self.host.as_mut(&mut self.store).guest
    }

    /// The memory, if its last growth in the call that has just ended was refused. A refusal in an
    /// earlier call is not the reason for the end of this call, because the earlier call went on
    /// without the memory.
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

    /// Lends the world to the guest, calls it, and settles what the guest did.
    pub(super) fn call(
        &mut self,
        function: &TypedFunction<(), ()>,
        world: &mut Lent<World>,
        call: &Call<'_>,
    ) -> Result<(), Arc<Trap>> {
        if self.is_spent {
            return Err(Arc::new(plain("called again after a call that was cut off")));
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
            // The call returned by itself, but after its time was over.
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
            // The trap is behind a pointer, because a result as large as a trap would cost time in
            // every good poll.
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
