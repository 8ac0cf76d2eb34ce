//! Blocks of memory for checkpoints and tapes. The scan takes a block from here when a checkpoint
//! or a tape needs more memory than it has, so the scan itself allocates nothing.
//!
//! ```text
//!             fill                       take
//! allocator ───────▶ at most 256 spare ───────▶ checkpoint or tape of a program
//!     ▲                     ▲                        │
//!     └─── not needed ──────┴─────── give_back ◀─────┘  the program was dropped
//! ```
//! Only `take` may be called in a cycle. It never waits: if another thread uses the list at this
//! moment, it gives no block. `record.rs` then takes the checkpoint a few polls later, and a tape
//! removes its oldest calls.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

/// Size of a block in bytes, equal to a memory page of the machine. A checkpoint for a replay
/// stores only blocks that are not all zeros.
pub(super) const BLOCK: usize = 4 << 10;

/// The memory of one block.
pub(super) type Block = [u8; BLOCK];

/// Largest number of spare blocks: 1 MiB, enough for four programs that fill their memory in one
/// cycle.
const MOST_SPARE: usize = 256;

/// Largest number of blocks in the checkpoints and tapes of all programs together, with the spare
/// ones: 64 MiB. This is enough for 100 programs with the largest checkpoints and tapes, and for
/// 1 000 programs that use 20 KiB of memory each. The first blocks of a tape may exceed the number.
const MOST: usize = 16 << 10;

/// The blocks of this process.
static BLOCKS: Blocks = Blocks::new(MOST);

/// Spare blocks, and the number of all blocks.
struct Blocks {
    spare: Mutex<Vec<Box<Block>>>,
    /// Number of blocks that exist, in checkpoints and in `spare`.
    count: AtomicUsize,
    most: usize,
}

/// Allocates a block; `None` if all programs together have the largest number of blocks.
pub(super) fn make() -> Option<Box<Block>> {
    BLOCKS.make()
}

/// Allocates a block, even if all programs together have the largest number of blocks.
pub(super) fn make_anyway() -> Box<Block> {
    BLOCKS.make_anyway()
}

/// Takes a spare block; `None` if there is none, or if another thread uses the list.
pub(super) fn take() -> Option<Box<Block>> {
    BLOCKS.take()
}

/// Allocates spare blocks until there are enough. The daemon calls this in each tick, and the
/// preparation of a program calls it too.
pub fn fill() {
    BLOCKS.fill();
}

/// Takes blocks back from a checkpoint or a tape that is not needed any more. Blocks that are too
/// many are freed.
pub(super) fn give_back(blocks: Vec<Box<Block>>) {
    BLOCKS.give_back(blocks);
}

impl Blocks {
    const fn new(most: usize) -> Self {
        Self { spare: Mutex::new(Vec::new()), count: AtomicUsize::new(0), most }
    }

    fn make(&self) -> Option<Box<Block>> {
        let more = |count| (count < self.most).then_some(count + 1);
        self.count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok()?;
        Some(Box::new([0; BLOCK]))
    }

    fn make_anyway(&self) -> Box<Block> {
        self.count.fetch_add(1, Ordering::Relaxed);
        Box::new([0; BLOCK])
    }

    fn take(&self) -> Option<Box<Block>> {
        self.spare.try_lock().ok()?.pop()
    }

    fn fill(&self) {
        let spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner).len();
        // The list is free while the blocks are allocated, so that the scan can use it.
        let blocks: Vec<_> = (spare..MOST_SPARE).map_while(|_| self.make()).collect();
        if !blocks.is_empty() {
            self.give_back(blocks);
        }
    }

    fn give_back(&self, mut blocks: Vec<Box<Block>>) {
        let mut spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = blocks.len().min(MOST_SPARE.saturating_sub(spare.len()));
        spare.extend(blocks.drain(..kept));
        drop(spare);
        self.count.fetch_sub(blocks.len(), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_no_more_blocks_than_the_largest_number() {
        let blocks = Blocks::new(300);
        assert!(blocks.take().is_none(), "nothing is allocated where the scan takes a block");
        blocks.fill();
        let mut taken: Vec<_> = std::iter::from_fn(|| blocks.take()).collect();
        assert_eq!(taken.len(), MOST_SPARE);
        blocks.fill();
        taken.extend(std::iter::from_fn(|| blocks.take()));
        assert_eq!((taken.len(), blocks.make()), (300, None));
        blocks.give_back(taken);
        assert_eq!(blocks.count.load(Ordering::Relaxed), MOST_SPARE, "the others are freed");
        assert!(blocks.take().is_some() && blocks.make().is_some());
    }

    #[test]
    fn the_scan_never_waits_for_a_block() {
        let blocks = Blocks::new(300);
        blocks.fill();
        let held = blocks.spare.lock().unwrap();
        assert!(blocks.take().is_none());
        drop(held);
        assert!(blocks.take().is_some());
    }
}
