//! The reason why a routine (`routine.rs`) has trapped in a guest.
//!
//! Every trap of the added code is a division by zero, so the kind of the trap does not show the
//! reason. A check of the stop flag traps without a further sign. If a routine traps, the added
//! code first writes a number into a hidden global of the instance. The number shows which kind of
//! operation failed. The code that `flag.rs` inserts writes the number, `hidden.rs` reads it, and
//! `instance/trap.rs` makes the text of the trap from it.

use wasmer::sys::vm::TrapCode;

/// The reason why a routine has trapped by a division by zero. The hidden global contains the
/// number of the variant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::plugin) enum Why {
    /// The guest's code executed `unreachable`.
    Unreachable = 1,
    /// The guest used `memory.fill` or `memory.copy` on bytes outside of its memory.
    OutsideMemory,
    /// The guest used an operation on elements outside of a table.
    OutsideTable,
}

impl Why {
    /// Returns the reason with this number. The number 0 means that no routine has trapped.
    pub(super) fn of(number: i32) -> Option<Self> {
        [Self::Unreachable, Self::OutsideMemory, Self::OutsideTable]
            .into_iter()
            .find(|why| *why as i32 == number)
    }

    /// Returns the trap code that wasmer would have reported if the module had no added code.
    pub(in crate::plugin) fn code(self) -> TrapCode {
        match self {
            Self::Unreachable => TrapCode::UnreachableCodeReached,
            Self::OutsideMemory => TrapCode::HeapAccessOutOfBounds,
            Self::OutsideTable => TrapCode::TableAccessOutOfBounds,
        }
    }
}
