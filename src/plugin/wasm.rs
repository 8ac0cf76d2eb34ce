//! Runs one instance of a module: prepares it off the scan, polls it on the scan, reports its
//! traps.
//!
//! Each instance has an engine and a store of its own, because neither gives memory back before it
//! is dropped. The module comes as an artifact that the compile worker has made; nothing is
//! compiled here. Time limits are in `stop.rs`, the functions that a guest may call in `bind.rs`.
#![allow(unsafe_code)]

use std::panic::{AssertUnwindSafe, catch_unwind};
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
use super::checkpoint::Parts;
use super::guest::{Guest, Phase};
use super::state::{MAX_STATE_BYTES, State};
use super::stop::{Lane, StopCell, Timekeeper, now_ns};
use super::tables::Tables;
use super::trap::{describe, not_instantiated, over, plain};
use super::world::World;
use super::{Limits, Refusal, Trap};

/// The name under which the compile worker exports a module's start function instead of letting the
/// instantiation run it: so it runs under the budget, and with a memory to log from.
pub(super) const START: &str = "camshaft:start";

/// A finished instance.
///
/// The fields are dropped in this order: the store with its instance first, the place of its stop
/// flag last.
pub(super) struct Instance {
    body: Body,
    poll: TypedFunction<(), ()>,
    /// `save` and `restore`, if it has them.
    hand_over: Option<[TypedFunction<(), ()>; 2]>,
    parts: Parts,
    keeper: Arc<Timekeeper>,
}

/// What a call into the instance works on.
struct Body {
    store: Store,
    host: FunctionEnv<Host>,
    stop: Arc<StopCell>,
}

/// What is special about one call.
struct Call<'a> {
    phase: Phase,
    lane: &'a Lane,
    /// By [`now_ns`].
    started_ns: u64,
    budget: Duration,
}

// SAFETY: `Store` is not `Send` because it holds raw pointers into its own heap objects and a boxed
// callback. The pointers stay valid when the value moves, since they point at what the store owns
// and nothing points at the store itself while no call is active; the callback (`on_called`) is
// never set here. wasmer keeps nothing about a store in thread-local state between calls. Our own
// data in it (`Host`) is `Send`, which the assertion below has the compiler check. An instance is
// used by one thread at a time: it is owned, and every use takes `&mut self`.
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

/// Why a preparation failed.
#[derive(Debug)]
pub(super) enum Unprepared {
    /// The module does not fit.
    Refused(Refusal),
    /// Its start section, `_initialize` or `init` trapped.
    Trapped(Arc<Trap>),
}

impl Instance {
    /// Loads an artifact, instantiates it and runs its start section, `_initialize` and `init`, all
    /// within the init budget. Gives the world back with what the guest has logged and written.
    pub(super) fn prepare(
        artifact: &[u8],
        guest: Guest,
        world: Box<World>,
        limits: &Limits,
        keeper: &Arc<Timekeeper>,
    ) -> (Box<World>, Result<Self, Unprepared>) {
        let stop = Arc::new(StopCell::default());
        let mut engine: Engine = EngineBuilder::headless().engine().into();
        // SAFETY: artifacts come from the compile worker of this very program. From the cache they
        // come only after their checksum has been compared (`compile::Cache`), and the folder of
        // the cache is private to the daemon's user.
        let module = match unsafe { Module::deserialize(&engine, artifact) } {
            Ok(module) => module,
            Err(error) => {
                let reason = format!("its artifact does not load: {error}");
                let refusal = Refusal::new(reason, "clear the cache folder and try again");
                return (world, Err(Unprepared::Refused(refusal)));
            }
        };
        engine.set_tunables(Bounds::new(limits, &module, Arc::clone(&stop)));
        let mut store = Store::new(engine);
        let host = FunctionEnv::new(&mut store, Host { guest, memory: None });
        let imports = bind::imports(&module, &mut store, &host);
        let instance = match wasmer::Instance::new(&mut store, &module, &imports) {
            Ok(instance) => instance,
            Err(error) => return (world, Err(Unprepared::Refused(not_instantiated(&error)))),
        };
        let memory = instance.exports.get_memory("memory").ok().cloned();
        host.as_mut(&mut store).memory.clone_from(&memory);
        let poll = match instance.exports.get_typed_function(&store, "poll") {
            Ok(poll) => poll,
            Err(error) => {
                let refusal = Refusal::new(format!("export `poll`: {error}"), "it is () -> ()");
                return (world, Err(Unprepared::Refused(refusal)));
            }
        };
        let optional = |name| instance.exports.get_typed_function(&store, name).ok();
        let hand_over = optional("save").zip(optional("restore")).map(<[_; 2]>::from);
        let parts = Parts::of(&instance.exports, memory, &store);
        let body = Body { store, host, stop };
        let keeper = Arc::clone(keeper);
        let mut prepared = Self { body, poll, hand_over, parts, keeper };
        let (world, result) = prepared.initialize(&instance, world, limits.init_budget);
        (world, result.map(|()| prepared).map_err(Unprepared::Trapped))
    }

    fn initialize(
        &mut self,
        instance: &wasmer::Instance,
        mut world: Box<World>,
        budget: Duration,
    ) -> (Box<World>, Result<(), Arc<Trap>>) {
        let lane = self.keeper.lane();
        // One start for all of them, so that the CPU time of each counts towards the one budget.
        lane.mark();
        let started_ns = now_ns();
        // The timekeeper may be asleep for long; from now on it looks when this may be over.
        lane.shortest(budget);
        self.keeper.wake();
        for name in [START, "_initialize", "init"] {
            let function = instance.exports.get_typed_function::<(), ()>(&self.body.store, name);
            let Ok(function) = function else { continue };
            let call = Call { phase: Phase::Init, lane: &lane, started_ns, budget };
            let result;
            (world, result) = self.body.call(&function, world, &call);
            if let Err(trap) = result {
                return (world, Err(trap));
            }
        }
        (world, Ok(()))
    }

    /// Runs one poll that started at `started_ns`. Outputs and variables count when it returns
    /// well.
    pub(super) fn poll(
        &mut self,
        world: Box<World>,
        lane: &Lane,
        started_ns: u64,
        budget: Duration,
    ) -> (Box<World>, Result<(), Arc<Trap>>) {
        let call = Call { phase: Phase::Poll, lane, started_ns, budget };
        self.body.call(&self.poll, world, &call)
    }

    /// Whether it has `save` and `restore`.
    pub(super) fn hands_over(&self) -> bool {
        self.hand_over.is_some()
    }

    /// Runs `save`, which is to have returned within `budget` from `started_ns`; gives the state. A
    /// `save` that fails leaves no trace in the instance.
    pub(super) fn save(
        &mut self,
        world: Box<World>,
        lane: &Lane,
        started_ns: u64,
        budget: Duration,
    ) -> (Box<World>, Result<Vec<u8>, Arc<Trap>>) {
        let Some([save, _]) = &self.hand_over else { return (world, Ok(Vec::new())) };
        let before = self.parts.checkpoint(&mut self.body.store);
        let call = Call { phase: Phase::Save, lane, started_ns, budget };
        let (world, result) = self.body.call(save, world, &call);
        let state = std::mem::take(&mut self.body.guest().state);
        let result = match result {
            Ok(()) if state.overflowed => {
                let kind = format!("its state has more than {MAX_STATE_BYTES} bytes");
                Err(Arc::new(Trap { cycle: world.cycle, ..plain(kind) }))
            }
            other => other,
        };
        if result.is_err() {
            self.parts.rewind(&mut self.body.store, before);
        }
        (world, result.map(|()| state.into_bytes()))
    }

    /// Runs `restore` on the state that another version has saved, as [`Instance::save`] does.
    pub(super) fn restore(
        &mut self,
        state: Vec<u8>,
        world: Box<World>,
        lane: &Lane,
        started_ns: u64,
        budget: Duration,
    ) -> (Box<World>, Result<(), Arc<Trap>>) {
        let Some([_, restore]) = &self.hand_over else { return (world, Ok(())) };
        self.body.guest().state = State::new(state);
        let call = Call { phase: Phase::Restore, lane, started_ns, budget };
        let (world, result) = self.body.call(restore, world, &call);
        self.body.guest().state = State::default();
        (world, result)
    }

    /// Size of the linear memory in bytes.
    pub(super) fn memory_bytes(&self) -> u64 {
        self.parts.memory_bytes(&self.body.store)
    }

    /// The host's side of it.
    pub(super) fn guest(&mut self) -> &mut Guest {
        self.body.guest()
    }
}

impl Body {
    fn guest(&mut self) -> &mut Guest {
        &mut self.host.as_mut(&mut self.store).guest
    }

    /// Lends the world to the guest, calls, and settles what the guest did.
    fn call(
        &mut self,
        function: &TypedFunction<(), ()>,
        world: Box<World>,
        call: &Call<'_>,
    ) -> (Box<World>, Result<(), Arc<Trap>>) {
        let guest = self.guest();
        guest.world = Some(world);
        guest.phase = call.phase;
        call.lane.arm(&self.stop, call.started_ns, call.budget);
        let store = &mut self.store;
        let result = catch_unwind(AssertUnwindSafe(|| function.call(store)));
        call.lane.disarm();
        let stopped = self.stop.is_stopped();
        let guest = self.guest();
        let result = match result {
            Ok(Ok(())) if !stopped => {
                guest.commit();
                Ok(())
            }
            // It came back by itself, after its time.
            Ok(Ok(())) => Err(plain(over(call.budget))),
            Ok(Err(error)) => Err(describe(&error, guest, stopped, call.budget)),
            Err(_) => Err(plain("panic in a host function")),
        };
        let result = result.map_err(|trap| {
            guest.discard();
            // Behind a pointer: a result as large as a trap costs every good poll its way up.
            Arc::new(Trap { cycle: guest.world().cycle, ..trap })
        });
        let world = guest.world.take().expect("it was lent above and host functions keep it");
        (world, result)
    }
}

/// Wasmer's hooks for what an instance is made of: clamps memories and tables, and learns where the
/// stop flag lies.
struct Bounds {
    base: BaseTunables,
    memory: Pages,
    tables: Tables,
    stop: Arc<StopCell>,
    vm: VMConfig,
}

impl Bounds {
    fn new(limits: &Limits, module: &Module, stop: Arc<StopCell>) -> Self {
        let pages = limits.memory_bytes / wasmer::WASM_PAGE_SIZE as u64;
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
            return Err(MemoryError::Generic(format!(
                "{} pages are asked for, {} allowed",
                asked.minimum.0, self.memory.0
            )));
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
        // SAFETY: the caller's promise about the place is passed on.
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
        // SAFETY: the caller's promise about the place is passed on.
        unsafe { self.base.create_vm_table(&self.tables.next(ty)?, style, place) }
    }

    unsafe fn create_vm_global(
        &self,
        ty: GlobalType,
        place: NonNull<VMGlobalDefinition>,
    ) -> Result<VMGlobal, String> {
        self.stop.take(place);
        // SAFETY: the caller's promise about the place is passed on.
        unsafe { self.base.create_vm_global(ty, place) }
    }

    fn vmconfig(&self) -> &VMConfig {
        &self.vm
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::world::Seat;
    use super::*;
    use crate::image::Points;

    /// What an instance can reach, with nothing in it.
    pub(in super::super) fn host() -> Host {
        let points = Points::default();
        let settings = crate::plugin::Settings::default();
        Host { guest: Guest::new(Seat(0), 0, &settings, &points, 1), memory: None }
    }
}
