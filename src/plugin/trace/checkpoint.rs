//! Checkpoints: a copy of an instance's memory and mutable globals, to be put back later.
//!
//! A checkpoint has two uses. First, the host undoes with it a call that must leave no trace, such
//! as `save`. Without the checkpoint, a trap would leave the stack pointer where it was, and the
//! heap half changed. Second, a replay begins at a checkpoint. The copy for a replay goes into room
//! that was made in advance, because the copy is taken in a cycle.
//!
//! A checkpoint does not copy tables, and does not shrink a memory that has grown since. The first
//! use is in `instance/wasm/hand_over.rs`, the second in `record.rs` and `replay.rs`.

use serde::{Deserialize, Serialize};
use wasmer::{Exports, Global, Memory, MemoryView, Store, Type, Value, WASM_PAGE_SIZE};

use crate::plugin::module::flag::GLOBAL;

/// The largest memory that is copied, in bytes. The copy takes about 50 us, in a cycle that has
/// other work to do. If the memory is larger, the checkpoint has only the globals. They include the
/// stack pointer of a C program, so its stack is in order afterwards.
const MOST_BYTES: u64 = 256 << 10;

/// The size of a block in bytes: a memory page of the machine. Blocks of zeros are not stored.
pub(super) const BLOCK: usize = 4 << 10;

/// The largest memory that is searched for non-zero blocks for a replay's checkpoint, in bytes.
/// Rust's default memory is 1.1 MiB, and nearly all of it is a stack that was never touched. To
/// search that memory takes about 45 us.
const MOST_SEEN: u64 = 2 << 20;

/// Most blocks that are stored in a replay's checkpoint: 256 KiB, as above.
const MOST_BLOCKS: usize = MOST_BYTES as usize / BLOCK;

/// The parts of an instance that a checkpoint copies.
#[derive(Debug)]
pub(in crate::plugin) struct Parts {
    memory: Option<Memory>,
    globals: Vec<Global>,
}

/// A copy of the parts, as they were.
#[derive(Debug)]
pub(in crate::plugin) struct Checkpoint {
    memory: Option<Vec<u8>>,
    globals: Vec<Value>,
    /// False if the memory was too large to be copied, so that the checkpoint has only the globals.
    pub(in crate::plugin) is_whole: bool,
}

impl Parts {
    /// The parts of the instance with these exports. Globals that hold references are left out: a
    /// copy cannot say what they refer to.
    pub(in crate::plugin) fn of(exports: &Exports, memory: Option<Memory>, store: &Store) -> Self {
        // A module may export any item under a name that begins like ours, and a constant global
        // cannot be put back.
        let is_ours = |(name, global): &(&String, &Global)| {
            let ty = global.ty(store);
            let is_number =
                matches!(ty.ty, Type::I32 | Type::I64 | Type::F32 | Type::F64 | Type::V128);
            name.starts_with(GLOBAL) && ty.mutability.is_mutable() && is_number
        };
        let globals = exports.iter().globals().filter(is_ours);
        Self { memory, globals: globals.map(|(_, global)| global.clone()).collect() }
    }

    /// Size of the linear memory in bytes.
    pub(in crate::plugin) fn memory_bytes(&self, store: &Store) -> u64 {
        self.memory.as_ref().map_or(0, |memory| memory.view(store).data_size())
    }

    /// Copies the parts.
    pub(in crate::plugin) fn checkpoint(&self, store: &mut Store) -> Checkpoint {
        let small = self.memory.as_ref().filter(|_| self.memory_bytes(store) <= MOST_BYTES);
        let memory = small.and_then(|memory| memory.view(store).copy_to_vec().ok());
        let globals = self.globals.iter().map(|global| global.get(store)).collect();
        let is_whole = memory.is_some() || self.memory.is_none();
        Checkpoint { memory, globals, is_whole }
    }

    /// Puts the copy back.
    pub(in crate::plugin) fn rewind(&self, store: &mut Store, to: Checkpoint) {
        if let (Some(memory), Some(bytes)) = (&self.memory, to.memory) {
            memory.view(store).write(0, &bytes).expect("a memory never shrinks");
        }
        for (global, value) in self.globals.iter().zip(to.globals) {
            global.set(store, value).expect("it is mutable and had this value");
        }
    }

    /// Copies the parts into `room` without allocating. Returns whether they fit.
    pub(super) fn note(&self, store: &mut Store, room: &mut Room) -> bool {
        room.globals.clear();
        room.globals.extend(self.globals.iter().map(|global| global.get(store)));
        let Some(memory) = &self.memory else {
            room.picture.memory_bytes = 0;
            room.picture.blocks.clear();
            return true;
        };
        let view = memory.view(store);
        view.data_size() <= MOST_SEEN && room.picture.take(&view)
    }

    /// A copy of the memory, of at most `most_bytes`.
    pub(in crate::plugin) fn picture(&self, store: &Store, most_bytes: usize) -> Picture {
        let Some(memory) = &self.memory else { return Picture::default() };
        let view = memory.view(store);
        let most = most_bytes.min(usize::try_from(view.data_size()).unwrap_or(usize::MAX));
        let mut picture = Picture::with_room(most / BLOCK);
        picture.is_cut = !picture.take(&view);
        picture
    }

    /// Puts back the parts that another instance of the same module has noted.
    ///
    /// # Errors
    /// When the copy does not fit this instance.
    pub(in crate::plugin) fn put_back(
        &self,
        store: &mut Store,
        noted: &Noted,
    ) -> Result<(), String> {
        if let Some(memory) = &self.memory {
            let fits = self.memory_bytes(store)..=MOST_SEEN;
            if !fits.contains(&noted.picture.memory_bytes) {
                return Err("its checkpoint has another size than its memory".into());
            }
            let missing = noted.picture.memory_bytes.saturating_sub(self.memory_bytes(store));
            let pages = u32::try_from(missing / WASM_PAGE_SIZE as u64).unwrap_or(u32::MAX);
            memory.grow(store, pages).map_err(|error| format!("its memory: {error}"))?;
            let view = memory.view(store);
            let fault = |_| "its checkpoint is larger than its memory".to_string();
            for at in (0..view.data_size()).step_by(BLOCK) {
                view.write(at, &[0; BLOCK]).map_err(fault)?;
            }
            for (at, bytes) in noted.picture.blocks() {
                view.write(at, bytes).map_err(fault)?;
            }
        }
        if noted.globals.len() != self.globals.len() {
            return Err("its checkpoint has other globals than the module".into());
        }
        for (global, number) in self.globals.iter().zip(&noted.globals) {
            let ty = global.ty(store).ty;
            let value = number.value(ty).ok_or("its checkpoint has a number that is none")?;
            global.set(store, value).map_err(|error| error.message())?;
        }
        Ok(())
    }
}

/// The blocks of a memory that are not all zeros.
#[derive(Debug, Clone, Default)]
pub struct Picture {
    /// Size of the memory in bytes.
    pub memory_bytes: u64,
    /// The numbers of the blocks, ascending.
    pub blocks: Vec<u32>,
    /// The bytes of the blocks. The list may be longer than the blocks need.
    pub bytes: Vec<u8>,
    /// Whether some blocks are missing, because there was no room for them.
    pub is_cut: bool,
}

impl Picture {
    /// Bytes of one block.
    pub const BLOCK: usize = BLOCK;

    /// Whether this picture shows the same memory as `other`. Unused room in either picture makes
    /// no difference.
    pub fn is_same(&self, other: &Self) -> bool {
        self.memory_bytes == other.memory_bytes && self.blocks().eq(other.blocks())
    }

    fn with_room(blocks: usize) -> Self {
        Self {
            blocks: Vec::with_capacity(blocks),
            bytes: vec![0; blocks * BLOCK],
            ..Self::default()
        }
    }

    /// Each block with its address in the memory.
    pub(super) fn blocks(&self) -> impl Iterator<Item = (u64, &[u8])> {
        let places = self.blocks.iter().map(|&block| u64::from(block) * BLOCK as u64);
        places.zip(self.bytes.chunks_exact(BLOCK))
    }

    /// Fills the picture without allocating. Returns whether there was room for all blocks.
    fn take(&mut self, view: &MemoryView<'_>) -> bool {
        self.memory_bytes = view.data_size();
        self.blocks.clear();
        for block in 0..(self.memory_bytes / BLOCK as u64) as u32 {
            let used = self.blocks.len() * BLOCK;
            let place = u64::from(block) * BLOCK as u64;
            let Some(room) = self.bytes.get_mut(used..used + BLOCK) else {
                let mut rest = [0; BLOCK];
                let is_read = view.read(place, &mut rest).is_ok();
                if is_read && rest == [0; BLOCK] {
                    continue;
                }
                return false;
            };
            if view.read(place, room).is_err() {
                return false;
            }
            // A block of zeros is not stored: the next block overwrites it.
            if *room != [0; BLOCK] {
                self.blocks.push(block);
            }
        }
        true
    }
}

/// Room for one checkpoint of a replay, made in advance.
#[derive(Debug)]
pub(super) struct Room {
    pub(super) picture: Picture,
    globals: Vec<Value>,
}

impl Room {
    /// Room for an instance with these parts.
    pub(super) fn new(parts: &Parts) -> Self {
        let globals = Vec::with_capacity(parts.globals.len());
        Self { picture: Picture::with_room(MOST_BLOCKS), globals }
    }

    /// The contents, for a report.
    pub(super) fn into_noted(mut self) -> Noted {
        self.picture.bytes.truncate(self.picture.blocks.len() * BLOCK);
        let globals = self.globals.iter().map(Number::of).collect();
        Noted { picture: self.picture, globals }
    }
}

/// A checkpoint as a report has it.
#[derive(Debug, Clone, Default)]
pub struct Noted {
    /// The memory.
    pub picture: Picture,
    /// The mutable globals, in the order of their indices.
    pub globals: Vec<Number>,
}

/// The bits of a number in hexadecimal text, because a number in JSON is not exact.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Number(String);

impl Number {
    fn of(value: &Value) -> Self {
        let bits: u128 = match value {
            Value::I32(number) => number.cast_unsigned().into(),
            Value::I64(number) => number.cast_unsigned().into(),
            Value::F32(number) => number.to_bits().into(),
            Value::F64(number) => number.to_bits().into(),
            Value::V128(bits) => *bits,
            _ => 0,
        };
        Self(format!("{bits:x}"))
    }

    fn value(&self, ty: Type) -> Option<Value> {
        let bits = u128::from_str_radix(&self.0, 16).ok()?;
        let short = || u32::try_from(bits).ok();
        let long = || u64::try_from(bits).ok();
        Some(match ty {
            Type::I32 => Value::I32(short()?.cast_signed()),
            Type::I64 => Value::I64(long()?.cast_signed()),
            Type::F32 => Value::F32(f32::from_bits(short()?)),
            Type::F64 => Value::F64(f64::from_bits(long()?)),
            Type::V128 => Value::V128(bits),
            _ => return None,
        })
    }
}
