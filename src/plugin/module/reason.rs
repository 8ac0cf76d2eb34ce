//! The reason of a trap that the host has put into a guest's code.
//!
//! All traps that the host puts into the code are divisions by zero. A number in a hidden global
//! says which operation failed. The code of `flag.rs` and `routine.rs` writes the number,
//! `hidden.rs` reads it, and `instance/trap.rs` makes the text of the trap from it.

use wasmer::sys::vm::TrapCode;

/// The reason of a trap by a division by zero that `flag.rs` has put into the code. The numbers are
/// those in the hidden global.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::plugin) enum Why {
    /// The guest's own `unreachable`.
    Unreachable = 1,
    /// `memory.fill` or `memory.copy` outside of the memory.
    OutsideMemory,
    /// An operation outside of a table.
    OutsideTable,
}

impl Why {
    /// The reason with this number; 0 means that there is none.
    pub(super) fn of(number: i32) -> Option<Self> {
        [Self::Unreachable, Self::OutsideMemory, Self::OutsideTable]
            .into_iter()
            .find(|why| *why as i32 == number)
    }

    /// The code of the trap that wasmer would have reported.
    pub(in crate::plugin) fn code(self) -> TrapCode {
        match self {
            Self::Unreachable => TrapCode::UnreachableCodeReached,
            Self::OutsideMemory => TrapCode::HeapAccessOutOfBounds,
            Self::OutsideTable => TrapCode::TableAccessOutOfBounds,
        }
    }
}
