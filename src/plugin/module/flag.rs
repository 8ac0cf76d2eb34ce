//! The stop flag in a guest's code: a compiler middleware that inserts checks of this flag.
//!
//! [`StopFlag`] adds hidden globals to a module; one of them is the stop flag `stop`. The inserted
//! code checks `stop` at every function entry, at every turn of a loop, after each operator that
//! can call code of the host, and after every few hundred operators in between. If `stop` is
//! negative, the guest traps:
//!
//! ```text
//! if stop < 0 { 0 / 0 }      the division by zero is the trap
//! ```
//!
//! The middleware also replaces some operations by calls of routines (`routine.rs`). The thread
//! that makes `stop` negative is in `instance/stop.rs`. The distance between two checks is decided
//! in `stretch.rs`.
//!
//! Every trap of the inserted code is a division by zero, which the CPU reports by a signal. The
//! guest must never execute wasmer's own `unreachable`; the reason is in `routine.rs`.

use std::sync::{Arc, Mutex, PoisonError};

use wasmer::sys::wasmparser::{BlockType, HeapType, Ieee32, Ieee64, Operator};
use wasmer::sys::{FunctionMiddleware, MiddlewareError, MiddlewareReaderState, ModuleMiddleware};
use wasmer::{
    ExportIndex, GlobalInit, GlobalType, LocalFunctionIndex, ModuleInfo, Mutability, Type,
};

use super::reason::Why;
use super::routine::{Extended, Operation};
use super::stretch::Stretch;

/// The first characters of the names of all hidden exports.
pub(super) const OURS: &str = "camshaft:";

/// The name under which the compile worker exports a module's start function. The worker replaces
/// the start function by this export, so that the function does not run while wasmer makes the
/// instance. The host calls the function later, under the budget of `init`, when the instance has
/// its memory and can write log lines.
pub(in crate::plugin) const START: &str = "camshaft:start";

/// The first characters of the names under which this file exports the mutable globals of a module.
pub(in crate::plugin) const GLOBAL: &str = "camshaft:global:";

/// The name of the exported global with the reason of a trap. The value is a number of [`Why`], or
/// 0 if no routine has trapped. A check of the stop flag traps without a number.
pub(super) const WHY: &str = "camshaft:why";

/// The name of the exported global that records a refused growth of the memory. The value is the
/// number of the call in which the growth was refused; the global `stop` counts the calls. The
/// value is 0 if the guest's last growth succeeded, or if the guest has not tried to grow its
/// memory.
pub(super) const GREW_NOT: &str = "camshaft:grew not";

/// The name of the exported global with the index of the first routine.
pub(super) const FIRST_ROUTINE: &str = "camshaft:first routine";

/// The name of the exported global with [`Extended::shift`].
pub(super) const SHIFT: &str = "camshaft:shift";

/// Longest name of a function in an artifact, in bytes. wasmer copies the name for every frame of a
/// trap. In a test with a deep recursion, a name of 20 kB took 212 ms and 305 MB.
pub(super) const MAX_NAME: usize = 256;

/// The version of the inserted code. The cache stores artifacts under a key that contains this
/// number. So each change of the inserted code, here or in `routine.rs` or in `stretch.rs`, must
/// raise the number.
pub(super) const FORM: u32 = 6;

/// The compiler middleware. Each compilation has one value of this type.
#[derive(Debug)]
pub(super) struct StopFlag {
    routines: Vec<Operation>,
    shift: i32,
    /// The data for the inserted code. The thread that begins the compilation writes them when
    /// wasmer transforms the module. The threads that compile functions read them.
    module: Mutex<Option<Arc<Module>>>,
}

/// The indices of a module's globals and functions that the inserted code needs.
#[derive(Debug)]
struct Module {
    scratch: u32,
    why: u32,
    grew_not: u32,
    stop: u32,
    /// Number of imported functions. The functions whose index is lower than this number belong to
    /// the host.
    imported: u32,
    /// The index of the first routine. All functions from this index on are routines.
    first_routine: u32,
    routines: Vec<Operation>,
    /// The result types of each function that the module defines.
    results: Vec<Box<[Type]>>,
}

impl StopFlag {
    /// Makes the middleware for a module to which `routine.rs` has appended routines.
    pub(super) fn new(extended: &Extended) -> Self {
        let (routines, shift) = (extended.routines.clone(), extended.shift);
        Self { routines, shift, module: Mutex::new(None) }
    }
}

impl ModuleMiddleware for StopFlag {
    fn transform_module_info(&self, info: &mut ModuleInfo) -> Result<(), MiddlewareError> {
        // Only the host may use names with these first characters. So exports of the module under
        // such names are removed.
        info.exports.retain(|name, _| !name.starts_with(OURS));
        if let Some(start) = info.start_function.take() {
            info.exports.insert(START.into(), ExportIndex::Function(start));
        }
        shorten_names(info);
        // The loop exports the guest's mutable globals, because a checkpoint copies them. The
        // hidden globals are added after the loop, so they are not part of a checkpoint.
        for (index, global) in info.globals.iter().skip(info.num_imported_globals) {
            if global.mutability == Mutability::Var {
                let name = format!("{GLOBAL}{}", index.as_u32());
                info.exports.insert(name, ExportIndex::Global(index));
            }
        }
        let imported = u32::try_from(info.num_imported_functions).unwrap_or(u32::MAX);
        let functions = u32::try_from(info.functions.len()).unwrap_or(u32::MAX);
        let first_routine = functions - self.routines.len() as u32;
        let results = info.functions.values().skip(info.num_imported_functions);
        let results = results.map(|ty| info.signatures[*ty].results().into()).collect();
        let mut add = |name: Option<&str>, mutability, first: i32| {
            info.global_initializers.push(GlobalInit::I32Const(first));
            let index = info.globals.push(GlobalType::new(Type::I32, mutability));
            if let Some(name) = name {
                info.exports.insert(name.into(), ExportIndex::Global(index));
            }
            index.as_u32()
        };
        add(Some(FIRST_ROUTINE), Mutability::Const, first_routine.cast_signed());
        add(Some(SHIFT), Mutability::Const, self.shift);
        let module = Module {
            scratch: add(None, Mutability::Var, 0),
            why: add(Some(WHY), Mutability::Var, 0),
            grew_not: add(Some(GREW_NOT), Mutability::Var, 0),
            // `stop` must be the last global, because the host expects the flag there.
            stop: add(None, Mutability::Var, 0),
            imported,
            first_routine,
            routines: self.routines.clone(),
            results,
        };
        *self.module.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(module));
        Ok(())
    }

    fn generate_function_middleware<'a>(
        &self,
        function: LocalFunctionIndex,
    ) -> Box<dyn FunctionMiddleware<'a> + 'a> {
        let module = self.module.lock().unwrap_or_else(PoisonError::into_inner);
        let module = module.clone().expect("wasmer transforms the module before its functions");
        Box::new(Checks::new(module, function.as_u32()))
    }
}

/// Removes parts of a module that the daemon does not need: its name, its custom sections, and the
/// ends of long names of functions. These parts would only use memory.
fn shorten_names(info: &mut ModuleInfo) {
    info.name = None;
    info.custom_sections.clear();
    info.custom_sections_data.clear();
    for name in info.function_names.values_mut() {
        let end = (0..=MAX_NAME.min(name.len())).rev().find(|&end| name.is_char_boundary(end));
        name.truncate(end.unwrap_or(0));
        name.shrink_to_fit();
    }
}

/// Inserts the checks of the stop flag into one function.
#[derive(Debug)]
struct Checks {
    module: Arc<Module>,
    /// The index of the function among the functions that the module defines.
    function: u32,
    /// The operation that the function carries out, if the function is a routine.
    routine: Option<Operation>,
    /// Whether the next operator is the first of the function.
    at_entry: bool,
    stretch: Stretch,
    /// Number of marks ([`Checks::mark`]) that were inserted into this function so far.
    marks: i32,
}

impl Checks {
    fn new(module: Arc<Module>, function: u32) -> Self {
        let routine = (module.imported + function).checked_sub(module.first_routine);
        let routine = routine.map(|n| module.routines[n as usize]);
        Self { module, function, routine, at_entry: true, stretch: Stretch::default(), marks: 0 }
    }

    /// Code that ends the function by a trap. The operators after the division are never executed.
    /// The compiler needs these operators: each path must end, with results of the right types.
    /// wasmer's `unreachable` would also end the path, but must not be used here.
    fn trap<'a>(&self, why: Option<Why>) -> Vec<Operator<'a>> {
        let zero = Operator::I32Const { value: 0 };
        let why = why.map(|why| {
            let number = Operator::I32Const { value: why as i32 };
            [number, Operator::GlobalSet { global_index: self.module.why }]
        });
        let mut code: Vec<_> = why.into_iter().flatten().collect();
        code.extend([zero.clone(), zero, Operator::I32DivU, Operator::Drop]);
        code.extend(self.leave());
        code
    }

    /// Code that returns from the function with zeros as results.
    fn leave<'a>(&self) -> impl Iterator<Item = Operator<'a>> {
        let results = &self.module.results[self.function as usize];
        results.iter().flat_map(|ty| zero(*ty)).chain([Operator::Return])
    }

    /// Code that checks the stop flag, and traps if the flag is set.
    fn check<'a>(&mut self) -> Vec<Operator<'a>> {
        self.stretch.looked();
        let look = [
            Operator::GlobalGet { global_index: self.module.stop },
            Operator::I32Const { value: 0 },
            Operator::I32LtS,
            Operator::If { blockty: BlockType::Empty },
        ];
        look.into_iter().chain(self.trap(None)).chain([Operator::End]).collect()
    }

    /// Code for a store into a hidden global. This store must be between two checks of the flag.
    ///
    /// The reason is an optimization of Cranelift. If code loads a global twice without a store in
    /// between, Cranelift removes the second load. The first load may be at the function's entry,
    /// in another loop, or earlier in straight code. If Cranelift removes the load of the flag, the
    /// code after it can never be stopped. Each store in a function writes a different number,
    /// because Cranelift would also remove equal stores.
    fn mark<'a>(&mut self) -> [Operator<'a>; 2] {
        self.marks = self.marks.wrapping_add(1);
        [
            Operator::I32Const { value: self.marks },
            Operator::GlobalSet { global_index: self.module.scratch },
        ]
    }

    /// Code for the beginning of a loop that checks the flag at every turn. The mark is outside of
    /// the loop, because a mark inside would double the cost of the check in a short loop.
    fn begin_loop<'a>(&mut self, begin: Operator<'a>) -> Vec<Operator<'a>> {
        self.mark().into_iter().chain([begin]).chain(self.check()).collect()
    }

    /// Code that grows the memory. If the growth is refused, the code records the number of the
    /// present call in a hidden global. If the guest then aborts in the present call, the report of
    /// the trap says that the guest probably lacked memory. The libraries in guests seldom report a
    /// lack of memory. If the guest aborts in a later call, or after a growth that succeeded, the
    /// refused growth is not the cause.
    fn grow<'a>(&self, grow: Operator<'a>) -> Vec<Operator<'a>> {
        let Module { scratch, grew_not, stop, .. } = *self.module;
        vec![
            grow,
            Operator::GlobalSet { global_index: scratch },
            // `stop` contains the number of the call. So a number from an earlier call never equals
            // the present one, and the host need not erase it between calls.
            Operator::GlobalGet { global_index: stop },
            Operator::I32Const { value: 0 },
            Operator::GlobalGet { global_index: scratch },
            Operator::I32Const { value: -1 },
            Operator::I32Eq,
            Operator::Select,
            Operator::GlobalSet { global_index: grew_not },
            Operator::GlobalGet { global_index: scratch },
        ]
    }

    /// Whether the operator can call code of the host. The inserted code checks the flag after each
    /// operator that can, because a function without a loop may contain many of these operators.
    fn leaves_the_guest(&self, operator: &Operator<'_>) -> bool {
        match operator {
            Operator::Call { function_index } => *function_index < self.module.imported,
            Operator::CallIndirect { .. }
            | Operator::MemoryGrow { .. }
            | Operator::TableGrow { .. } => true,
            _ => false,
        }
    }

    /// Code that replaces an operation by a call of its routine.
    ///
    /// The call must be the first operator of this code. wasmer gives the first operator the offset
    /// that the replaced operation has in the module. The further operators get the offset of the
    /// next operation, which would be wrong in the report of a trap.
    fn call_of_routine<'a>(&self, operation: Operation) -> Vec<Operator<'a>> {
        // The list of routines is sorted, so a binary search finds the routine.
        let place = self.module.routines.binary_search(&operation);
        let place = place.expect("the extended module has a routine for each of its operations");
        let function_index = self.module.first_routine + place as u32;
        let mut code = vec![Operator::Call { function_index }];
        if operation == Operation::Unreachable {
            code.extend(self.leave());
        }
        code
    }

    /// Returns the code that replaces one operator of the function.
    fn replace<'a>(&mut self, operator: Operator<'a>) -> Vec<Operator<'a>> {
        let operation = Operation::of(&operator);
        match (operation, self.routine) {
            (Some(Operation::Unreachable), Some(routine)) => self.trap(Some(routine.why())),
            (Some(operation), None) => self.call_of_routine(operation),
            _ if matches!(operator, Operator::Loop { .. }) => self.begin_loop(operator),
            _ if matches!(operator, Operator::MemoryGrow { .. }) => self.grow(operator),
            _ => vec![operator],
        }
    }
}

impl<'a> FunctionMiddleware<'a> for Checks {
    fn feed(
        &mut self,
        operator: Operator<'a>,
        state: &mut MiddlewareReaderState<'a>,
    ) -> Result<(), MiddlewareError> {
        let mut is_due = false;
        if std::mem::take(&mut self.at_entry) {
            match operator {
                // No check is needed here: the code of a loop begins with a check, and
                // `unreachable` ends the function.
                Operator::Loop { .. } | Operator::Unreachable => {}
                // The call must keep its offset in the module (see `call_of_routine`), so the check
                // comes after the call. A function that first calls itself never reaches this
                // check. Such a function can only use up the stack, and a stack overflow ends the
                // guest.
                Operator::Call { .. } => is_due = true,
                _ => state.extend(self.check()),
            }
        }
        is_due |= self.stretch.take(&operator) || self.leaves_the_guest(&operator);
        state.extend(self.replace(operator));
        if is_due {
            state.extend(self.mark());
            state.extend(self.check());
        }
        Ok(())
    }
}

/// The operators that push a zero of this type on the stack.
fn zero<'a>(ty: Type) -> Vec<Operator<'a>> {
    vec![match ty {
        Type::I32 => Operator::I32Const { value: 0 },
        Type::I64 => Operator::I64Const { value: 0 },
        Type::F32 => Operator::F32Const { value: Ieee32::from(0.0) },
        Type::F64 => Operator::F64Const { value: Ieee64::from(0.0) },
        Type::V128 => return vec![Operator::I64Const { value: 0 }, Operator::I64x2Splat],
        Type::ExternRef => Operator::RefNull { hty: HeapType::EXTERN },
        _ => Operator::RefNull { hty: HeapType::FUNC },
    }]
}
