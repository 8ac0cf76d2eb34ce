//! The hidden exports of a compiled module: values that describe the host's added code.
//!
//! `flag.rs` adds the hidden exports when the module is compiled. After a trap, the host reads
//! these values to find out why the code trapped. The host also uses the values to convert each
//! address in the code to an offset in the original module. (The original module is the module
//! before `routine.rs` extended it.) `instance/trap.rs` makes the message for the operator.

use wasmer::{ExportIndex, Exports, FrameInfo, Global, Module, RuntimeError, Store, Value};

use super::flag::{FIRST_ROUTINE, GREW_NOT, OURS, SHIFT, WHY};
use super::reason::Why;

/// The hidden exports of one instance.
#[derive(Debug)]
pub(in crate::plugin) struct Hidden {
    why: Option<Global>,
    grew_not: Option<Global>,
    /// The index of the first routine. The functions with this index or a higher index are
    /// routines, which the host has added.
    first_routine: u32,
    /// The distance, in bytes, by which the code begins later than in the original module.
    shift: i32,
    /// The compiled module, which lists the exported functions.
    module: Module,
}

impl Hidden {
    /// Finds the hidden exports of an instance: `exports` are all exports of an instance of
    /// `module`.
    pub(in crate::plugin) fn of(module: &Module, exports: &Exports, store: &mut Store) -> Self {
        let mut number = |name| match exports.get_global(name).map(|global| global.get(store)) {
            Ok(Value::I32(number)) => number,
            _ => 0,
        };
        let (first_routine, shift) = (number(FIRST_ROUTINE).cast_unsigned(), number(SHIFT));
        let global = |name| exports.get_global(name).ok().cloned();
        let (why, grew_not, module) = (global(WHY), global(GREW_NOT), module.clone());
        Self { why, grew_not, first_routine, shift, module }
    }

    /// Returns the reason why a routine has trapped; `None` if no routine has trapped. The call
    /// also erases the reason in the instance. Otherwise an instance that continues after a trap of
    /// its `save` would report the old reason at its next trap.
    pub(in crate::plugin) fn take_why(&self, store: &mut Store) -> Option<Why> {
        let global = self.why.as_ref()?;
        let Value::I32(number) = global.get(store) else { return None };
        global
            .set(store, Value::I32(0))
            .expect("the hidden global with the reason is a mutable i32");
        Why::of(number)
    }

    /// Returns the number of the call in which the guest's last attempt to grow its memory was
    /// refused. Returns 0 if the last attempt succeeded, or if there was no attempt.
    pub(in crate::plugin) fn lacked_memory_in(&self, store: &mut Store) -> i32 {
        match self.grew_not.as_ref().map(|global| global.get(store)) {
            Some(Value::I32(call)) => call,
            _ => 0,
        }
    }

    /// The maximum size of the memory in bytes; `None` if the module declares no maximum.
    pub(in crate::plugin) fn most_memory(&self) -> Option<u64> {
        let memory = self.module.info().memories.values().next()?;
        memory.maximum.map(|pages| pages.bytes().0 as u64)
    }

    /// The name under which the guest exports the function with this index; `None` if the guest
    /// does not export it. Hidden exports are left out.
    pub(in crate::plugin) fn export_of(&self, function: u32) -> Option<&str> {
        let exports = self.module.info().exports.iter();
        let is_it = |index: &ExportIndex| match index {
            ExportIndex::Function(index) => index.as_u32() == function,
            _ => false,
        };
        let mut found = exports.filter(|(_, index)| is_it(index));
        found.find(|(name, _)| !name.starts_with(OURS)).map(|(name, _)| &**name)
    }

    /// Lists the calls that had not returned when the guest trapped. The innermost call comes
    /// first, and calls of routines are left out. The second value of each pair is the offset of
    /// the call in the original module.
    pub(in crate::plugin) fn frames<'e>(
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
