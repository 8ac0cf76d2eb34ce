//! What the hidden exports of a compiled module tell about its code.
//!
//! `flag.rs` adds them. With them the host knows why a guest's code trapped, and gives each place
//! in it as it was in the module before `routine.rs` extended that.

use wasmer::{Exports, FrameInfo, Global, RuntimeError, Store, Value};

use super::flag::{FIRST_ROUTINE, SHIFT, WHY};
use super::trap::Why;

/// The hidden exports of one instance.
#[derive(Debug)]
pub(super) struct Hidden {
    why: Option<Global>,
    first_routine: u32,
    shift: i32,
}

impl Hidden {
    /// Those of an instance with these exports.
    pub(super) fn of(exports: &Exports, store: &mut Store) -> Self {
        let mut number = |name| match exports.get_global(name).map(|global| global.get(store)) {
            Ok(Value::I32(number)) => number,
            _ => 0,
        };
        let (first_routine, shift) = (number(FIRST_ROUTINE).cast_unsigned(), number(SHIFT));
        Self { why: exports.get_global(WHY).ok().cloned(), first_routine, shift }
    }

    /// Why the code trapped, if it did so by itself and not by a fault of the CPU. It is forgotten
    /// then: an instance whose `save` has trapped may go on.
    pub(super) fn take_why(&self, store: &mut Store) -> Option<Why> {
        let global = self.why.as_ref()?;
        let Value::I32(number) = global.get(store) else { return None };
        global.set(store, Value::I32(0)).expect("it is mutable and an i32");
        Why::of(number)
    }

    /// The calls that had not returned, the innermost first, without those of routines; each with
    /// its offset in the module.
    pub(super) fn frames<'e>(
        &self,
        error: &'e RuntimeError,
    ) -> impl Iterator<Item = (&'e FrameInfo, u32)> + use<'e> {
        let Self { first_routine, shift, .. } = *self;
        let own = error.trace().iter().filter(move |frame| frame.func_index() < first_routine);
        own.map(move |frame| {
            let offset = u32::try_from(frame.module_offset()).unwrap_or(u32::MAX);
            (frame, offset.saturating_add_signed(-shift))
        })
    }
}
