//! The stop flag in a guest's code: a compiler middleware.
//!
//! [`StopFlag`] adds hidden globals to a module and has every function, every turn of a loop and
//! every few hundred operators in between look at one of them, `stop`; when it is negative the
//! guest traps. It also puts calls in place of operations that have a routine (`routine.rs`). Who
//! makes `stop` negative, and when, is in `stop.rs`; how much work may lie between two looks, in
//! `stretch.rs`.
//!
//! Every trap made here is a division by zero, which the CPU reports by a signal. wasmer's own
//! `unreachable` must never be reached: `routine.rs` tells why.

use std::sync::{Arc, Mutex, PoisonError};

use wasmer::sys::wasmparser::{BlockType, HeapType, Ieee32, Ieee64, Operator};
use wasmer::sys::{FunctionMiddleware, MiddlewareError, MiddlewareReaderState, ModuleMiddleware};
use wasmer::{
    ExportIndex, GlobalInit, GlobalType, LocalFunctionIndex, ModuleInfo, Mutability, Type,
};

use super::checkpoint::GLOBAL;
use super::routine::{Extended, Operation};
use super::stretch::Stretch;
use super::trap::Why;
use super::wasm::START;

/// How the names of all hidden exports begin.
pub(super) const OURS: &str = "camshaft:";

/// The name under which the reason of a trap is exported: a number of [`Why`], or 0.
pub(super) const WHY: &str = "camshaft:why";

/// The name under which it is exported whether the memory was not allowed to grow when the guest
/// last asked for that: the value that `stop` had then, which tells the call, or 0.
pub(super) const GREW_NOT: &str = "camshaft:grew not";

/// The name under which the index of the first routine is exported.
pub(super) const FIRST_ROUTINE: &str = "camshaft:first routine";

/// The name under which [`Extended::shift`] is exported.
pub(super) const SHIFT: &str = "camshaft:shift";

/// Longest name of a function that an artifact keeps. wasmer copies it for every frame of a trap:
/// one of 20 kB in a deep recursion took 212 ms and 305 MB.
pub(super) const MAX_NAME: usize = 256;

/// Counts the forms that the added code has had, because compiled modules are kept: raise it with
/// every change here, in `routine.rs` or in `stretch.rs`.
pub(super) const FORM: u32 = 6;

/// The compiler middleware; one value for each compilation.
#[derive(Debug)]
pub(super) struct StopFlag {
    routines: Vec<Operation>,
    shift: i32,
    /// Filled in when wasmer transforms the module.
    module: Mutex<Option<Arc<Module>>>,
}

/// What the code of every function of a module is made with.
#[derive(Debug)]
struct Module {
    scratch: u32,
    why: u32,
    grew_not: u32,
    stop: u32,
    /// Functions below this index are the host's.
    imported: u32,
    /// Functions from this index on are routines.
    first_routine: u32,
    routines: Vec<Operation>,
    /// What each of the module's own functions returns.
    results: Vec<Box<[Type]>>,
}

impl StopFlag {
    /// For a module that was extended so.
    pub(super) fn new(extended: &Extended) -> Self {
        let (routines, shift) = (extended.routines.clone(), extended.shift);
        Self { routines, shift, module: Mutex::new(None) }
    }
}

impl ModuleMiddleware for StopFlag {
    fn transform_module_info(&self, info: &mut ModuleInfo) -> Result<(), MiddlewareError> {
        // Such names are ours alone; a module that has one means harm or nothing.
        info.exports.retain(|name, _| !name.starts_with(OURS));
        if let Some(start) = info.start_function.take() {
            info.exports.insert(START.into(), ExportIndex::Function(start));
        }
        shorten_names(info);
        // The guest's own, which a checkpoint takes along; the hidden ones come after them.
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
            // The last one, where the host looks for it.
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

/// Takes out of a module what only reports would need, or not even those: its name and its custom
/// sections, and the tails of long names of functions.
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

/// Adds the looks at the flag to one function.
#[derive(Debug)]
struct Checks {
    module: Arc<Module>,
    /// Its index among the module's own.
    function: u32,
    /// The operation that it is the routine of.
    routine: Option<Operation>,
    at_entry: bool,
    stretch: Stretch,
    /// Marks of this function so far.
    marks: i32,
}

impl Checks {
    fn new(module: Arc<Module>, function: u32) -> Self {
        let routine = (module.imported + function).checked_sub(module.first_routine);
        let routine = routine.map(|n| module.routines[n as usize]);
        Self { module, function, routine, at_entry: true, stretch: Stretch::default(), marks: 0 }
    }

    /// Ends the function by a trap. The code behind it is never reached; it makes the types right
    /// and keeps the way from joining the others, without a call of wasmer's `unreachable`.
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

    /// Returns zeros.
    fn leave<'a>(&self) -> impl Iterator<Item = Operator<'a>> {
        let results = &self.module.results[self.function as usize];
        results.iter().flat_map(|ty| zero(*ty)).chain([Operator::Return])
    }

    /// Looks at the flag and traps if the call is to end.
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

    /// A store that has to stand between two looks.
    ///
    /// Without it, Cranelift sees the load of the flag as redundant with an earlier one, of the
    /// function's entry, of another loop or further up in straight code, and removes it: what
    /// follows is never stopped. The marks make the stores of one function differ, lest they be
    /// redundant in turn.
    fn mark<'a>(&mut self) -> [Operator<'a>; 2] {
        self.marks = self.marks.wrapping_add(1);
        [
            Operator::I32Const { value: self.marks },
            Operator::GlobalSet { global_index: self.module.scratch },
        ]
    }

    /// The beginning of a loop, which looks at the flag at every turn. The mark stands outside,
    /// because inside it would cost a tight loop as much again.
    fn begin_loop<'a>(&mut self, begin: Operator<'a>) -> Vec<Operator<'a>> {
        self.mark().into_iter().chain([begin]).chain(self.check()).collect()
    }

    /// The growing of the memory. If that is refused the call is noted in which it was: a guest
    /// that ends itself in the same call has probably lacked memory, and its library seldom says
    /// so. One that ends itself in a later call, or after another growth, has not.
    fn grow<'a>(&self, grow: Operator<'a>) -> Vec<Operator<'a>> {
        let Module { scratch, grew_not, stop, .. } = *self.module;
        vec![
            grow,
            Operator::GlobalSet { global_index: scratch },
            // `stop` counts the calls, so nobody has to forget the note from one to the next.
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

    /// Whether an operation runs the host's code. A function without a loop may be nothing but a
    /// long row of these, so each is a place to look.
    fn leaves_the_guest(&self, operator: &Operator<'_>) -> bool {
        match operator {
            Operator::Call { function_index } => *function_index < self.module.imported,
            Operator::CallIndirect { .. }
            | Operator::MemoryGrow { .. }
            | Operator::TableGrow { .. } => true,
            _ => false,
        }
    }

    /// What stands in place of an operation that has a routine.
    ///
    /// The call comes first: wasmer gives the place of an operation in the module to the first of
    /// the operators that stand for it, and to the others that of the next operation.
    fn call_of_routine<'a>(&self, operation: Operation) -> Vec<Operator<'a>> {
        // They are in order.
        let place = self.module.routines.binary_search(&operation);
        let place = place.expect("a module is extended by a routine for each of its operations");
        let function_index = self.module.first_routine + place as u32;
        let mut code = vec![Operator::Call { function_index }];
        if operation == Operation::Unreachable {
            code.extend(self.leave());
        }
        code
    }

    /// What stands in place of one operator of the function.
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
                // It looks anyway, or is the end.
                Operator::Loop { .. } | Operator::Unreachable => {}
                // It is to keep its place in the module, see `call_of_routine`, so the look comes
                // behind it. Before that, calls can only go deeper, and the stack has an end.
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

/// The operators that put a zero of this type on the stack.
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
