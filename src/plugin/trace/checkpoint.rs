//! Checkpoints: copies of an instance's memory and mutable globals, which can be written back
//! later.
//!
//! A checkpoint has two uses. First, the host undoes the effects of `save` with a checkpoint,
//! because `save` must not change the running program. Otherwise a trap in `save` would leave a
//! wrong stack pointer and a half-changed heap. Second, a replay begins at a checkpoint. The scan
//! takes this second kind of checkpoint during a cycle, into memory that exists already: the blocks
//! of the last checkpoint, and spare blocks (`spare.rs`).
//!
//! A checkpoint does not copy tables. If the memory has grown after a checkpoint, the memory does
//! not shrink again when the copy is written back. The first use is in
//! `instance/wasm/hand_over.rs`, the second in `record.rs` and `replay.rs`.

use std::mem;

use serde::{Deserialize, Serialize};
use wasmer::{Exports, Global, Memory, MemoryView, Store, Type, Value, WASM_PAGE_SIZE};

use super::spare::{self, BLOCK, Block};
use crate::plugin::module::flag::GLOBAL;

/// Size of the largest memory that a [`Checkpoint`] copies, in bytes. To copy this size takes about
/// 50 us of a cycle. If the memory is larger, the checkpoint has only the globals. The stack
/// pointer of a C program is one of the globals, so the stack pointer is correct again after the
/// undo.
const MOST_BYTES: u64 = 256 << 10;

/// Size in bytes of the largest memory from which a checkpoint for a replay is taken. The memory is
/// searched for blocks that are not all zeros. A Rust module has 1.1 MiB of memory by default, and
/// nearly all of this memory is stack that was never used. The search of such a memory takes about
/// 45 us.
const MOST_SEEN: u64 = 2 << 20;

/// Largest number of blocks in a checkpoint for a replay. All blocks together have at most 256 KiB.
const MOST_BLOCKS: usize = MOST_BYTES as usize / BLOCK;

/// The parts of an instance that a checkpoint copies.
#[derive(Debug)]
pub(in crate::plugin) struct Parts {
    memory: Option<Memory>,
    globals: Vec<Global>,
}

/// A copy of the memory and the globals of an instance, with which the host undoes a call.
#[derive(Debug)]
pub(in crate::plugin) struct Checkpoint {
    memory: Option<Vec<u8>>,
    globals: Vec<Value>,
    /// Whether the checkpoint has a copy of the memory, or the instance has no memory. If the
    /// memory was too large to be copied, this field is false and the checkpoint has only the
    /// globals.
    pub(in crate::plugin) is_whole: bool,
}

impl Parts {
    /// Makes the list of the parts that a checkpoint copies: `memory`, and the mutable globals in
    /// `exports`. Globals with references are skipped, because a checkpoint can store only numbers.
    pub(in crate::plugin) fn of(exports: &Exports, memory: Option<Memory>, store: &Store) -> Self {
        // The daemon exports the globals under names with a fixed prefix. The module's own exports
        // may have names with the same prefix. So the code also checks the type, and skips
        // constants, which cannot be written back.
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

    /// Copies the memory and the globals.
    pub(in crate::plugin) fn checkpoint(&self, store: &mut Store) -> Checkpoint {
        let small = self.memory.as_ref().filter(|_| self.memory_bytes(store) <= MOST_BYTES);
        let memory = small.and_then(|memory| memory.view(store).copy_to_vec().ok());
        let globals = self.globals.iter().map(|global| global.get(store)).collect();
        let is_whole = memory.is_some() || self.memory.is_none();
        Checkpoint { memory, globals, is_whole }
    }

    /// Writes the checkpoint `to` back into the instance.
    pub(in crate::plugin) fn rewind(&self, store: &mut Store, to: Checkpoint) {
        if let (Some(memory), Some(bytes)) = (&self.memory, to.memory) {
            memory.view(store).write(0, &bytes).expect("a memory never shrinks");
        }
        for (global, value) in self.globals.iter().zip(to.globals) {
            global.set(store, value).expect("the global is mutable and had this value");
        }
    }

    /// Copies the memory and the globals into `room`. `source` gives the blocks that `room` has not
    /// got yet; nothing else is allocated.
    ///
    /// # Errors
    /// When the memory is larger than a checkpoint, or when `source` gives no block.
    pub(super) fn note(
        &self,
        store: &mut Store,
        room: &mut Room,
        source: fn() -> Option<Box<Block>>,
    ) -> Result<(), NotTaken> {
        room.globals.clear();
        room.globals.extend(self.globals.iter().map(|global| global.get(store)));
        room.numbers.clear();
        room.memory_bytes = self.memory_bytes(store);
        let Some(memory) = &self.memory else { return Ok(()) };
        if room.memory_bytes > MOST_SEEN {
            return Err(NotTaken::TooLarge);
        }
        let mut target = Growing { blocks: &mut room.blocks, source, has_failed: false };
        let is_whole = copy(&memory.view(store), &mut room.numbers, &mut target);
        match target.has_failed {
            _ if is_whole => Ok(()),
            true => Err(NotTaken::NoBlock),
            false => Err(NotTaken::TooLarge),
        }
    }

    /// Makes a copy of the memory with at most `most_bytes` bytes.
    pub(in crate::plugin) fn picture(&self, store: &Store, most_bytes: usize) -> Picture {
        let Some(memory) = &self.memory else { return Picture::default() };
        let view = memory.view(store);
        let most = most_bytes.min(usize::try_from(view.data_size()).unwrap_or(usize::MAX));
        let mut picture = Picture::with_room(most / BLOCK);
        picture.is_cut = !picture.take(&view);
        picture
    }

    /// Writes a checkpoint of another instance of the same module into this instance.
    ///
    /// # Errors
    /// When the checkpoint does not fit the memory or the globals of this instance, when the memory
    /// cannot grow to the checkpoint's size, or when a number in the checkpoint is invalid.
    pub(in crate::plugin) fn put_back(
        &self,
        store: &mut Store,
        noted: &Noted,
    ) -> Result<(), String> {
        if let Some(memory) = &self.memory {
            let fits = self.memory_bytes(store)..=MOST_SEEN;
            if !fits.contains(&noted.picture.memory_bytes) {
                return Err(
                    "the checkpoint of the report does not fit the memory of the module".into()
                );
            }
            let missing = noted.picture.memory_bytes.saturating_sub(self.memory_bytes(store));
            let pages = u32::try_from(missing / WASM_PAGE_SIZE as u64).unwrap_or(u32::MAX);
            memory.grow(store, pages).map_err(|error| {
                format!(
                    "the memory of the module cannot grow to the size of the checkpoint: {error}"
                )
            })?;
            let view = memory.view(store);
            let fault = |_| {
                "the checkpoint of the report is larger than the memory of the module".to_string()
            };
            for at in (0..view.data_size()).step_by(BLOCK) {
                view.write(at, &[0; BLOCK]).map_err(fault)?;
            }
            for (at, bytes) in noted.picture.blocks() {
                view.write(at, bytes).map_err(fault)?;
            }
        }
        if noted.globals.len() != self.globals.len() {
            return Err(
                "the checkpoint of the report has another number of globals than the module".into(),
            );
        }
        for (global, number) in self.globals.iter().zip(&noted.globals) {
            let ty = global.ty(store).ty;
            let value =
                number.value(ty).ok_or("the checkpoint of the report has an invalid number")?;
            global.set(store, value).map_err(|error| error.message())?;
        }
        Ok(())
    }
}

/// A copy of a memory, without the blocks that are all zeros.
#[derive(Debug, Clone, Default)]
pub struct Picture {
    /// Size of the memory in bytes.
    pub memory_bytes: u64,
    /// The numbers of the stored blocks, ascending. The number of a block is its address divided by
    /// the block size.
    pub blocks: Vec<u32>,
    /// The bytes of the stored blocks. This vector may be longer than the blocks need.
    pub bytes: Vec<u8>,
    /// Whether the picture is incomplete, because it had no room for all blocks.
    pub is_cut: bool,
}

impl Picture {
    /// Size of one block in bytes.
    pub const BLOCK: usize = BLOCK;

    /// Whether this picture and `other` have the same memory contents. Unused bytes at the end of
    /// `bytes` are not compared.
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

    /// Returns each stored block with its address in the memory.
    pub(super) fn blocks(&self) -> impl Iterator<Item = (u64, &[u8])> {
        let places = self.blocks.iter().map(|&block| u64::from(block) * BLOCK as u64);
        places.zip(self.bytes.chunks_exact(BLOCK))
    }

    /// Copies the blocks of a memory into the picture without allocating. Returns whether the
    /// picture had room for all blocks.
    fn take(&mut self, view: &MemoryView<'_>) -> bool {
        self.memory_bytes = view.data_size();
        self.blocks.clear();
        copy(view, &mut self.blocks, &mut self.bytes)
    }
}

/// Memory into which blocks are copied.
trait Target {
    /// The place for the block with this index; `None` if there is no more memory.
    fn place(&mut self, index: usize) -> Option<&mut [u8]>;
}

impl Target for Vec<u8> {
    fn place(&mut self, index: usize) -> Option<&mut [u8]> {
        self.get_mut(index * BLOCK..(index + 1) * BLOCK)
    }
}

/// The blocks of a checkpoint, which get more blocks from `source` while they are copied.
struct Growing<'a> {
    blocks: &'a mut Vec<Box<Block>>,
    source: fn() -> Option<Box<Block>>,
    /// Whether `source` gave no block.
    has_failed: bool,
}

impl Target for Growing<'_> {
    fn place(&mut self, index: usize) -> Option<&mut [u8]> {
        if index == self.blocks.len() && index < MOST_BLOCKS {
            match (self.source)() {
                Some(block) => self.blocks.push(block),
                None => self.has_failed = true,
            }
        }
        self.blocks.get_mut(index).map(|block| &mut block[..])
    }
}

/// Copies the blocks of a memory that are not all zeros, and adds their numbers to the empty list
/// `numbers`. Returns whether `target` had room for all of them.
fn copy(view: &MemoryView<'_>, numbers: &mut Vec<u32>, target: &mut impl Target) -> bool {
    for block in 0..(view.data_size() / BLOCK as u64) as u32 {
        let at = u64::from(block) * BLOCK as u64;
        let Some(place) = target.place(numbers.len()) else {
            let mut rest = [0; BLOCK];
            let is_read = view.read(at, &mut rest).is_ok();
            if is_read && rest == [0; BLOCK] {
                continue;
            }
            return false;
        };
        if view.read(at, place).is_err() {
            return false;
        }
        // If the block is all zeros, its number is not stored, and the next block overwrites its
        // bytes.
        if *place != [0; BLOCK] {
            numbers.push(block);
        }
    }
    true
}

/// The reason why a checkpoint was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NotTaken {
    /// The memory is larger than a checkpoint can be.
    TooLarge,
    /// There was no free block. A later attempt may succeed.
    NoBlock,
}

/// Memory for one checkpoint of a replay. It has as many blocks as its largest checkpoint needed so
/// far.
#[derive(Debug)]
pub(super) struct Room {
    /// Size of the copied memory in bytes.
    memory_bytes: u64,
    /// The numbers of the copied blocks, ascending.
    numbers: Vec<u32>,
    /// The bytes of the copied blocks. This list may be longer than the checkpoint needs.
    blocks: Vec<Box<Block>>,
    globals: Vec<Value>,
}

impl Room {
    /// Makes an empty room for checkpoints of an instance with these parts.
    pub(super) fn new(parts: &Parts) -> Self {
        Self::with_globals(parts.globals.len())
    }

    /// Makes an empty room for so many globals. Its lists never grow later, because the scan fills
    /// them.
    fn with_globals(count: usize) -> Self {
        Self {
            memory_bytes: 0,
            numbers: Vec::with_capacity(MOST_BLOCKS),
            blocks: Vec::with_capacity(MOST_BLOCKS),
            globals: Vec::with_capacity(count),
        }
    }

    /// Makes an empty room with as many blocks as this one, for a checkpoint of the same instance.
    ///
    /// # Errors
    /// [`NotTaken::NoBlock`].
    pub(super) fn same_size(&self) -> Result<Self, NotTaken> {
        let mut room = Self::with_globals(self.globals.len());
        room.blocks.extend(self.blocks.iter().map_while(|_| spare::make()));
        let is_enough = room.blocks.len() == self.blocks.len();
        if is_enough { Ok(room) } else { Err(NotTaken::NoBlock) }
    }

    /// Converts the checkpoint to the type that a crash report stores.
    pub(super) fn into_noted(mut self) -> Noted {
        let blocks = mem::take(&mut self.numbers);
        let bytes = self.blocks[..blocks.len()].iter().flat_map(|block| block.iter()).copied();
        let (memory_bytes, bytes) = (self.memory_bytes, bytes.collect());
        let picture = Picture { memory_bytes, blocks, bytes, is_cut: false };
        Noted { picture, globals: self.globals.iter().map(Number::of).collect() }
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        spare::give_back(mem::take(&mut self.blocks));
    }
}

/// A checkpoint in a crash report.
#[derive(Debug, Clone, Default)]
pub struct Noted {
    /// The copy of the memory.
    pub picture: Picture,
    /// The mutable globals, in the order of their indices.
    pub globals: Vec<Number>,
}

/// The bits of a global's value as hexadecimal text. Text is used because JSON numbers are not
/// exact for all 64 and 128 bit values.
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
