//! What an instance knows, set aside and put back: its memory and its mutable globals.
//!
//! For a call that may fail and must then leave no trace, such as `save`: a trap in the middle
//! leaves a stack pointer where it was and a heap half changed. Tables are not taken along, and a
//! memory that has grown stays so. Who needs it is in `wasm.rs`.

use wasmer::{Exports, Global, Memory, Store, Value};

/// The names under which `flag.rs` exports a module's own mutable globals begin so.
pub(super) const GLOBAL: &str = "camshaft:global:";

/// The largest memory that is set aside: copying it takes some 50 us, in a cycle that has other
/// work to do. Of a larger one only the globals are, which keeps a C program's stack in order.
const MOST_BYTES: u64 = 256 << 10;

/// The parts of an instance that can be set aside.
#[derive(Debug)]
pub(super) struct Parts {
    memory: Option<Memory>,
    globals: Vec<Global>,
}

/// They, as they were.
#[derive(Debug)]
pub(super) struct Checkpoint {
    memory: Option<Vec<u8>>,
    globals: Vec<Value>,
}

impl Parts {
    /// Those of the instance with these exports.
    pub(super) fn of(exports: &Exports, memory: Option<Memory>, store: &Store) -> Self {
        // A module may export anything under such a name, and what is constant cannot be put back.
        let is_ours = |(name, global): &(&String, &Global)| {
            name.starts_with(GLOBAL) && global.ty(store).mutability.is_mutable()
        };
        let globals = exports.iter().globals().filter(is_ours);
        Self { memory, globals: globals.map(|(_, global)| global.clone()).collect() }
    }

    /// Size of the linear memory in bytes.
    pub(super) fn memory_bytes(&self, store: &Store) -> u64 {
        self.memory.as_ref().map_or(0, |memory| memory.view(store).data_size())
    }

    /// Sets them aside.
    pub(super) fn checkpoint(&self, store: &mut Store) -> Checkpoint {
        let small = self.memory.as_ref().filter(|_| self.memory_bytes(store) <= MOST_BYTES);
        let memory = small.and_then(|memory| memory.view(store).copy_to_vec().ok());
        let globals = self.globals.iter().map(|global| global.get(store)).collect();
        Checkpoint { memory, globals }
    }

    /// Puts them back.
    pub(super) fn rewind(&self, store: &mut Store, to: Checkpoint) {
        if let (Some(memory), Some(bytes)) = (&self.memory, to.memory) {
            memory.view(store).write(0, &bytes).expect("a memory never shrinks");
        }
        for (global, value) in self.globals.iter().zip(to.globals) {
            global.set(store, value).expect("it is mutable and had this value");
        }
    }
}
