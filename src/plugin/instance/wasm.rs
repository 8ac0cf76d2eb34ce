//! One instance of a module: prepares the instance outside of the scan, polls it in the scan, and
//! reports its traps.
//!
//! Each instance has its own wasmer engine and store, because an engine or a store frees memory
//! only when it is dropped. The module is already compiled to an artifact; this file compiles
//! nothing.
//!
//! The order of calls for one instance:
//!
//! - `make` loads the artifact and instantiates the module.
//! - `initialize` runs the start section, `_initialize` and `init`.
//! - `poll` runs in each cycle in which the program is due (see `wasm/call.rs`).
//! - `save` and `restore` run at a swap (`wasm/hand_over.rs`).
//!
//! Time limits are in `stop.rs`. The host functions that a guest may call are in `bind.rs`.
#![allow(unsafe_code)]

use std::ptr::NonNull;
use std::sync::Arc;
use std::time::Duration;

use wasmer::sys::vm::{
    VMConfig, VMGlobal, VMGlobalDefinition, VMMemory, VMMemoryDefinition, VMTable,
    VMTableDefinition,
};
use wasmer::sys::{BaseTunables, EngineBuilder, NativeEngineExt, Tunables};
use wasmer::{
    Engine, FunctionEnv, GlobalType, MemoryError, MemoryStyle, MemoryType, Module, Pages, Store,
    TableStyle, TableType, TypedFunction,
};

use super::bind::{self, Host};
use super::code::Share;
use super::guest::Guest;
use super::stop::{BudgetSlot, StopCell, Timekeeper, now_ns};
use super::tables::Tables;
use super::trap::not_instantiated;
use crate::plugin::module::flag::START;
use crate::plugin::module::hidden::Hidden;
use crate::plugin::trace::checkpoint::Parts;
use crate::plugin::trace::record::{CallError, PostMortem, Recorder};
use crate::plugin::trace::tape::Tape;
use crate::plugin::{Limits, Refusal, Trap};
use crate::process::call::Phase;
use crate::process::lent::Lent;
use crate::process::world::World;

mod call;
mod hand_over;

use call::{Body, Call};
pub(super) use hand_over::STATE_TOO_LONG;

/// An instance of a module that can be called.
///
/// In [`Body`], the store is declared before the address of the stop flag. Fields are dropped in
/// the order of their declaration, so the address is dropped only after the store.
pub(in crate::plugin) struct Instance {
    body: Body,
    poll: TypedFunction<(), ()>,
    /// `save` and `restore`, if the module has both.
    hand_over: Option<[TypedFunction<(), ()>; 2]>,
    parts: Parts,
    /// The recorder of checkpoints for a crash report; `None` until the preparation has ended, in a
    /// replay, and if recording is switched off.
    recorder: Option<Recorder>,
    keeper: Arc<Timekeeper>,
    /// The instance's share of the limit on compiled code. The share is returned when the instance
    /// is dropped.
    _code: Share,
}

// SAFETY: `Store` is not `Send` because it has raw pointers into its own heap objects and a boxed
// callback. The pointers stay valid when the store moves, because they point to heap objects that
// the store owns. While no call is active, no pointer points to the `Store` value. The callback
// (`on_called`) is never set here. Between calls, wasmer has no thread-local data about a store.
// The daemon's data in the store (`Host`) is `Send`; the assertion below lets the compiler check
// this. Only one thread at a time uses an instance, because an instance has one owner and every use
// takes `&mut self`.
unsafe impl Send for Instance {}

const _: () = {
    const fn is_send<T: Send>() {}
    is_send::<Host>();
};

impl std::fmt::Debug for Instance {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Instance").finish_non_exhaustive()
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        self.keeper.release();
    }
}

/// The reason why the preparation of an instance failed.
#[derive(Debug)]
pub(super) enum Unprepared {
    /// The module cannot be loaded or instantiated, for example because it exceeds a limit.
    Refused(Refusal),
    /// The start section, `_initialize` or `init` trapped. The second field is the post-mortem
    /// data, if recording is switched on.
    Trapped(Arc<Trap>, Option<Box<PostMortem>>),
}

impl Instance {
    /// Loads an artifact, instantiates it, and runs its start section, `_initialize` and `init`
    /// within the init budget. Afterwards `world` has the guest's log lines and the values that the
    /// guest wrote. If [`World::is_recorded`] is set, the calls are recorded, so that a crash
    /// report can be made after a trap.
    pub(super) fn prepare(
        artifact: &[u8],
        guest: Guest,
        world: &mut Lent<World>,
        limits: &Limits,
        keeper: &Arc<Timekeeper>,
    ) -> Result<Self, Unprepared> {
        let (seat, records) = (guest.seat, world.is_recorded);
        let host = Host { guest, memory: None, tape: Tape::new(records), player: None };
        let made = Self::make(artifact, host, limits, keeper);
        let (mut prepared, instance) = made.map_err(Unprepared::Refused)?;
        if let Err(trap) = prepared.initialize(&instance, world, limits.init_budget) {
            let post_mortem = prepared.post_mortem().filter(|_| records).map(Box::new);
            return Err(Unprepared::Trapped(trap, post_mortem));
        }
        if records {
            let position = prepared.host().tape.position();
            let (parts, store) = (&prepared.parts, &mut prepared.body.store);
            prepared.recorder = Some(Recorder::new(parts, store, position, seat));
        }
        Ok(prepared)
    }

    /// Loads an artifact and instantiates it, without running code of the guest. Returns the
    /// instance, and wasmer's instance for [`Instance::initialize`].
    pub(in crate::plugin) fn make(
        artifact: &[u8],
        host: Host,
        limits: &Limits,
        keeper: &Arc<Timekeeper>,
    ) -> Result<(Self, wasmer::Instance), Refusal> {
        let code = Share::take(artifact.len() as u64, limits.code_bytes)?;
        let stop = Arc::new(StopCell::default());
        let mut engine: Engine = EngineBuilder::headless().engine().into();
        // SAFETY: artifacts come from the compiler process, which runs this same executable.
        // Artifacts from the cache are used only after `Cache::load` has compared their checksum.
        // `Cache::open` makes the folder of the cache private to the daemon's user. One case is not
        // covered: a module that takes control of the compiler process through a defect of the
        // compiler (invariant 5 in `lib.rs`).
        let module = unsafe { Module::deserialize(&engine, artifact) }.map_err(|error| {
            let reason = format!("its compiled code cannot be loaded: {error}");
            Refusal::new(
                reason,
                "delete the files in the cache folder (plugins.cache), and try again",
            )
        })?;
        engine.set_tunables(Bounds::new(limits, &module, Arc::clone(&stop)));
        let mut store = Store::new(engine);
        let host = FunctionEnv::new(&mut store, host);
        let imports = bind::imports(&module, &mut store, &host);
        let instance = wasmer::Instance::new(&mut store, &module, &imports)
            .map_err(|error| not_instantiated(&error))?;
        let memory = instance.exports.get_memory("memory").ok().cloned();
        host.as_mut(&mut store).memory.clone_from(&memory);
        let poll = instance.exports.get_typed_function(&store, "poll").map_err(|error| {
            Refusal::new(
                format!("its export `poll` cannot be called: {error}"),
                "the type of `poll` must be () -> ()",
            )
        })?;
        let optional = |name| instance.exports.get_typed_function(&store, name).ok();
        let hand_over = optional("save").zip(optional("restore")).map(<[_; 2]>::from);
        let parts = Parts::of(&instance.exports, memory, &store);
        let hidden = Hidden::of(&module, &instance.exports, &mut store);
        let body = Body { store, host, stop, hidden, fall: None, is_spent: false };
        let keeper = Arc::clone(keeper);
        Ok((Self { body, poll, hand_over, parts, recorder: None, keeper, _code: code }, instance))
    }

    /// Runs those of the start section, `_initialize` and `init` that the module has. These calls
    /// together may use the CPU time `budget`.
    pub(in crate::plugin) fn initialize(
        &mut self,
        instance: &wasmer::Instance,
        world: &mut Lent<World>,
        budget: Duration,
    ) -> Result<(), Arc<Trap>> {
        let slot = self.keeper.slot();
        // All three calls use the same start time, because they share one budget.
        slot.mark();
        let started_ns = now_ns();
        // The timekeeper may be in a long sleep. `wake` makes the timekeeper compute a new sleep
        // time that ends when this budget may be used up.
        slot.shortest(budget);
        self.keeper.wake();
        for name in [START, "_initialize", "init"] {
            let function = instance.exports.get_typed_function::<(), ()>(&self.body.store, name);
            let Ok(function) = function else { continue };
            let call = Call { phase: Phase::Init, slot: &slot, started_ns, budget };
            self.body.call(&function, world, &call)?;
        }
        Ok(())
    }

    /// Runs one poll, and takes a checkpoint if one is due. The time limit of the poll begins at
    /// `started_ns`. If the result is `Ok`, the outputs and variables of the poll are valid and
    /// written into `world`.
    pub(in crate::plugin) fn poll(
        &mut self,
        world: &mut Lent<World>,
        slot: &BudgetSlot,
        started_ns: u64,
        budget: Duration,
    ) -> Result<(), Arc<Trap>> {
        let call = Call { phase: Phase::Poll, slot, started_ns, budget };
        self.body.call(&self.poll, world, &call)?;
        if let Some(recorder) = &mut self.recorder {
            let Body { store, host, .. } = &mut self.body;
            if recorder.is_due(|position| host.as_ref(store).tape.since(position)) {
                let position = host.as_mut(store).tape.position();
                if let Some(oldest) = recorder.take(&self.parts, store, position) {
                    host.as_mut(store).tape.need_from(oldest);
                }
            }
        }
        Ok(())
    }

    /// The failure of the last failed call; `None` if no call has failed, or after a `save` that
    /// the host has undone.
    pub(in crate::plugin) fn fall(&self) -> Option<&CallError> {
        self.body.fall.as_deref()
    }

    /// Whether a call ended in the middle: its budget was used up, its stack was full, or a host
    /// function panicked. Such an instance must not be called any more.
    pub(super) fn is_spent(&self) -> bool {
        self.body.is_spent
    }

    /// Returns the post-mortem data of the failure in [`Instance::fall`]; `None` without a failure.
    pub(super) fn post_mortem(mut self) -> Option<PostMortem> {
        let fall = *self.body.fall.take()?;
        let recorder = self.recorder.take();
        let Body { store, host, .. } = &self.body;
        Some(PostMortem::new(fall, recorder, &host.as_ref(store).tape, &self.parts, store))
    }

    /// Returns the data of the host that the host functions of this instance use.
    pub(in crate::plugin) fn host(&mut self) -> &mut Host {
        self.body.host.as_mut(&mut self.body.store)
    }

    /// Returns the memory and the globals that a checkpoint copies, and the store that contains
    /// them.
    pub(in crate::plugin) fn parts(&mut self) -> (&Parts, &mut Store) {
        (&self.parts, &mut self.body.store)
    }

    /// Returns the size of the linear memory in bytes.
    pub(super) fn memory_bytes(&self) -> u64 {
        self.parts.memory_bytes(&self.body.store)
    }

    /// Returns the host's data about this instance as a guest: rights, state and log.
    pub(super) fn guest(&mut self) -> &mut Guest {
        self.body.guest()
    }
}

/// The functions that wasmer calls when it makes the memories, tables and globals of an instance.
/// These functions limit the memories and tables, and store the address of the stop flag.
struct Bounds {
    base: BaseTunables,
    memory: Pages,
    tables: Tables,
    stop: Arc<StopCell>,
    vm: VMConfig,
}

/// Largest number of pages of a memory: one page less than 32-bit addresses can reach. With all
/// pages, a byte range could end exactly at the end of the 32-bit addresses. For such a range,
/// wasmer's own code fails while it runs on the guest's stack (`module/routine.rs` has the
/// details).
const MAX_PAGES: u64 = u16::MAX as u64;

impl Bounds {
    fn new(limits: &Limits, module: &Module, stop: Arc<StopCell>) -> Self {
        let pages = limits.memory_bytes / wasmer::WASM_PAGE_SIZE as u64;
        let pages = pages.min(MAX_PAGES);
        Self {
            base: BaseTunables::new(),
            memory: Pages(u32::try_from(pages).unwrap_or(u32::MAX)),
            tables: Tables::new(limits.table_elements, module),
            stop,
            vm: VMConfig { wasm_stack_size: Some(limits.stack_bytes) },
        }
    }

    fn memory(&self, asked: &MemoryType) -> Result<MemoryType, MemoryError> {
        if asked.minimum > self.memory {
            let size = |pages: Pages| pages.bytes().0;
            let (asked, allowed) = (size(asked.minimum), size(self.memory));
            let why =
                format!("its memory needs {asked} bytes, and plugins.memory allows {allowed}");
            return Err(MemoryError::Generic(why));
        }
        let maximum = asked.maximum.map_or(self.memory, |maximum| maximum.min(self.memory));
        Ok(MemoryType { maximum: Some(maximum), ..*asked })
    }
}

impl Tunables for Bounds {
    fn memory_style(&self, memory: &MemoryType) -> MemoryStyle {
        self.base.memory_style(memory)
    }

    fn table_style(&self, table: &TableType) -> TableStyle {
        self.base.table_style(table)
    }

    fn create_host_memory(
        &self,
        ty: &MemoryType,
        style: &MemoryStyle,
    ) -> Result<VMMemory, MemoryError> {
        self.base.create_host_memory(&self.memory(ty)?, style)
    }

    unsafe fn create_vm_memory(
        &self,
        ty: &MemoryType,
        style: &MemoryStyle,
        place: NonNull<VMMemoryDefinition>,
    ) -> Result<VMMemory, MemoryError> {
        // SAFETY: the caller guarantees that `place` is valid, and `place` is passed on unchanged.
        unsafe { self.base.create_vm_memory(&self.memory(ty)?, style, place) }
    }

    fn create_host_table(&self, ty: &TableType, style: &TableStyle) -> Result<VMTable, String> {
        self.base.create_host_table(&self.tables.next(ty)?, style)
    }

    unsafe fn create_vm_table(
        &self,
        ty: &TableType,
        style: &TableStyle,
        place: NonNull<VMTableDefinition>,
    ) -> Result<VMTable, String> {
        // SAFETY: the caller guarantees that `place` is valid, and `place` is passed on unchanged.
        unsafe { self.base.create_vm_table(&self.tables.next(ty)?, style, place) }
    }

    unsafe fn create_vm_global(
        &self,
        ty: GlobalType,
        place: NonNull<VMGlobalDefinition>,
    ) -> Result<VMGlobal, String> {
        self.stop.take(place);
        // SAFETY: the caller guarantees that `place` is valid, and `place` is passed on unchanged.
        unsafe { self.base.create_vm_global(ty, place) }
    }

    fn vmconfig(&self) -> &VMConfig {
        &self.vm
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::process::image::Points;
    use crate::process::seat::Seat;

    /// Makes the host's data without points, memory and tape.
    pub(in crate::plugin) fn host() -> Host {
        let points = Points::default();
        let settings = crate::plugin::Settings::default();
        let guest = Guest::new(Seat(0), 0, &settings, &points, 1);
        Host { guest, memory: None, tape: Tape::default(), player: None }
    }
}
