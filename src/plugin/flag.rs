//! The stop flag in a guest's code: a compiler middleware.
//!
//! [`StopFlag`] adds hidden globals to a module and has every function entry, every turn of a loop
//! and every call to the host look at one of them, `stop`; when it is negative the guest traps. Who
//! makes it negative, and when, is in `stop.rs`; how bulk operations are cut up, in `bulk.rs`.

use std::sync::{Mutex, PoisonError};

use wasmer::sys::wasmparser::{BlockType, Operator};
use wasmer::sys::{FunctionMiddleware, MiddlewareError, MiddlewareReaderState, ModuleMiddleware};
use wasmer::{
    ExportIndex, GlobalInit, GlobalType, LocalFunctionIndex, ModuleInfo, Mutability, Type,
};

use super::bulk;
use super::checkpoint::GLOBAL;
use super::wasm::START;

/// The hidden globals of one module, by index. `stop` is the last, where the host finds it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Hidden {
    pub(super) destination: u32,
    pub(super) source: u32,
    pub(super) length: u32,
    scratch: u32,
    stop: u32,
    /// Functions below this index are the host's.
    imported: u32,
}

impl Hidden {
    /// Looks at the flag and traps if the call is to end.
    pub(super) fn check<'a>(self) -> [Operator<'a>; 6] {
        [
            Operator::GlobalGet { global_index: self.stop },
            Operator::I32Const { value: 0 },
            Operator::I32LtS,
            Operator::If { blockty: BlockType::Empty },
            Operator::Unreachable,
            Operator::End,
        ]
    }

    /// Whether an operation runs the host's code. A function without a loop may be nothing but a
    /// long row of these, so each is a place to stop.
    fn leaves_the_guest(self, operator: &Operator<'_>) -> bool {
        match operator {
            Operator::Call { function_index } => *function_index < self.imported,
            Operator::CallIndirect { .. }
            | Operator::MemoryFill { .. }
            | Operator::MemoryCopy { .. }
            | Operator::MemoryInit { .. }
            | Operator::MemoryGrow { .. }
            | Operator::TableFill { .. }
            | Operator::TableCopy { .. }
            | Operator::TableInit { .. }
            | Operator::TableGrow { .. } => true,
            _ => false,
        }
    }

    /// The beginning of a loop, which looks at the flag at every turn.
    ///
    /// Without the store in front of it, Cranelift sees the load of the flag as redundant with an
    /// earlier one, of the function's entry or of another loop, and removes it: the loop is never
    /// stopped. `mark` makes the stores of one function differ, lest they be redundant in turn. The
    /// store stands outside because inside it would cost a tight loop as much again.
    pub(super) fn begin_loop(self, begin: Operator<'_>, mark: i32) -> Vec<Operator<'_>> {
        let store = [
            Operator::I32Const { value: mark },
            Operator::GlobalSet { global_index: self.scratch },
        ];
        store.into_iter().chain([begin]).chain(self.check()).collect()
    }
}

/// Counts the forms that the added code has had, because compiled modules are kept: raise it with
/// every change here or in `bulk.rs`.
pub(super) const FORM: u32 = 3;

/// The compiler middleware; one value for each compilation, because it remembers the module's
/// globals.
#[derive(Debug, Default)]
pub(super) struct StopFlag(Mutex<Option<Hidden>>);

impl ModuleMiddleware for StopFlag {
    fn transform_module_info(&self, info: &mut ModuleInfo) -> Result<(), MiddlewareError> {
        if let Some(start) = info.start_function.take() {
            info.exports.insert(START.into(), ExportIndex::Function(start));
        }
        // The guest's own, which a checkpoint takes along; the hidden ones come after them.
        for (index, global) in info.globals.iter().skip(info.num_imported_globals) {
            if global.mutability == Mutability::Var {
                let name = format!("{GLOBAL}{}", index.as_u32());
                info.exports.insert(name, ExportIndex::Global(index));
            }
        }
        let imported = u32::try_from(info.num_imported_functions).unwrap_or(u32::MAX);
        let mut add = || {
            info.global_initializers.push(GlobalInit::I32Const(0));
            info.globals.push(GlobalType::new(Type::I32, Mutability::Var)).as_u32()
        };
        let hidden = Hidden {
            destination: add(),
            source: add(),
            length: add(),
            scratch: add(),
            stop: add(),
            imported,
        };
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(hidden);
        Ok(())
    }

    fn generate_function_middleware<'a>(
        &self,
        _: LocalFunctionIndex,
    ) -> Box<dyn FunctionMiddleware<'a> + 'a> {
        let hidden = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Box::new(Checks {
            hidden: hidden.expect("wasmer transforms the module before its functions"),
            at_entry: true,
            loops: 0,
        })
    }
}

#[derive(Debug)]
struct Checks {
    hidden: Hidden,
    at_entry: bool,
    /// Loops of this function so far.
    loops: i32,
}

impl<'a> FunctionMiddleware<'a> for Checks {
    fn feed(
        &mut self,
        operator: Operator<'a>,
        state: &mut MiddlewareReaderState<'a>,
    ) -> Result<(), MiddlewareError> {
        if std::mem::take(&mut self.at_entry) {
            state.extend(self.hidden.check());
        }
        if self.hidden.leaves_the_guest(&operator) {
            state.extend(self.hidden.check());
        }
        match operator {
            Operator::Loop { .. } => {
                self.loops = self.loops.wrapping_add(1);
                state.extend(&self.hidden.begin_loop(operator, self.loops));
            }
            Operator::MemoryFill { mem } => state.extend(bulk::fill(self.hidden, mem)),
            Operator::MemoryCopy { dst_mem, src_mem } => {
                state.extend(bulk::copy(self.hidden, dst_mem, src_mem));
            }
            Operator::MemoryInit { data_index, mem } => {
                state.extend(bulk::init(self.hidden, data_index, mem));
            }
            _ => state.push_operator(operator),
        }
        Ok(())
    }
}
