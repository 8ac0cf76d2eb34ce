//! The stop flag in a guest's code: a compiler middleware that adds checks of it.
//!
//! [`StopFlag`] adds hidden globals to a module; one of them is the stop flag `stop`. The added
//! code checks `stop` at every function entry, at every turn of a loop, and after every few hundred
//! operators in between. If `stop` is negative, the guest traps. The middleware also replaces each
//! operation that has a routine by a call of the routine (`routine.rs`). Which thread makes `stop`
//! negative, and when, is in `instance/stop.rs`. How much work may lie between two checks is
//! decided in `stretch.rs`.
//!
//! Every trap of the added code is a division by zero, which the CPU reports by a signal. The guest
//! must never reach wasmer's own `unreachable`; the reason is in `routine.rs`.

use std::sync::{Arc, Mutex, PoisonError};

use wasmer::sys::wasmparser::{BlockType, HeapType, Ieee32, Ieee64, Operator};
use wasmer::sys::{FunctionMiddleware, MiddlewareError, MiddlewareReaderState, ModuleMiddleware};
use wasmer::{
    ExportIndex, GlobalInit, GlobalType, LocalFunctionIndex, ModuleInfo, Mutability, Type,
};

use super::reason::Why;
use super::routine::{Extended, Operation};
use super::stretch::Stretch;

/// The beginning of the names of all hidden exports.
pub(super) const OURS: &str = "camshaft:";

/// The name under which the compile worker exports a module's start function. So the start function
/// does not run during the instantiation. The host calls it afterwards, under the init budget, and
/// with a memory from which it can log.
pub(in crate::plugin) const START: &str = "camshaft:start";

/// The beginning of the names under which this file exports a module's own mutable globals.
pub(in crate::plugin) const GLOBAL: &str = "camshaft:global:";

/// The exported name of the global with the reason of a trap: a number of [`Why`], or 0.
pub(super) const WHY: &str = "camshaft:why";

/// The exported name of the global that says in which call the memory could not grow. The global
/// has the value that `stop` had in that call. The global is 0 if the guest's last growth
/// succeeded.
pub(super) const GREW_NOT: &str = "camshaft:grew not";

/// The exported name of the global with the index of the first routine.
pub(super) const FIRST_ROUTINE: &str = "camshaft:first routine";

/// The exported name of the global with [`Extended::shift`].
pub(super) const SHIFT: &str = "camshaft:shift";

/// Longest name of a function that an artifact keeps, in bytes. wasmer copies the name for every
/// frame of a trap: a name of 20 kB in a deep recursion took 212 ms and 305 MB.
pub(super) const MAX_NAME: usize = 256;

/// The version of the added code. Artifacts are kept on disk, so each change here, in `routine.rs`
/// or in `stretch.rs` must raise it.
pub(super) const FORM: u32 = 6;

/// The compiler middleware; one value for each compilation.
#[derive(Debug)]
pub(super) struct StopFlag {
    routines: Vec<Operation>,
    shift: i32,
    /// The numbers of the added globals. The thread that begins the compilation writes them when
    /// wasmer transforms the module; the threads that compile functions read them.
    module: Mutex<Option<Arc<Module>>>,
}

/// The numbers of a module's globals and functions that the added code of every function needs.
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
    /// The result types of each of the module's own functions.
    results: Vec<Box<[Type]>>,
}

impl StopFlag {
    /// A middleware for a module that was extended in this way.
    pub(super) fn new(extended: &Extended) -> Self {
        let (routines, shift) = (extended.routines.clone(), extended.shift);
        Self { routines, shift, module: Mutex::new(None) }
    }
}

impl ModuleMiddleware for StopFlag {
    fn transform_module_info(&self, info: &mut ModuleInfo) -> Result<(), MiddlewareError> {
        // Only the host uses names with this beginning, so an export of the module under such a
        // name is removed.
        info.exports.retain(|name, _| !name.starts_with(OURS));
        if let Some(start) = info.start_function.take() {
            info.exports.insert(START.into(), ExportIndex::Function(start));
        }
        shorten_names(info);
        // The loop exports the guest's own globals, because a checkpoint copies them. The hidden
        // globals are added after them.
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
            // `stop` is the last global, because the host looks for it there.
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

/// Removes parts of a module that only reports would use, or that nothing uses: its name, its
/// custom sections, and the ends of long names of functions.
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

/// Adds the checks of the flag to one function.
#[derive(Debug)]
struct Checks {
    module: Arc<Module>,
    /// The function's index among the module's own functions.
    function: u32,
    /// If the function is a routine, the operation that it carries out.
    routine: Option<Operation>,
    /// Whether the next operator is the first of the function.
    at_entry: bool,
    stretch: Stretch,
    /// Number of marks in this function so far.
    marks: i32,
}

impl Checks {
    fn new(module: Arc<Module>, function: u32) -> Self {
        let routine = (module.imported + function).checked_sub(module.first_routine);
        let routine = routine.map(|n| module.routines[n as usize]);
        Self { module, function, routine, at_entry: true, stretch: Stretch::default(), marks: 0 }
    }

    /// Code that ends the function by a trap. The operators after the trap are never reached. These
    /// operators make the types right and keep this path from joining other paths, without a call
    /// of wasmer's `unreachable`.
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

    /// Code that returns zeros.
    fn leave<'a>(&self) -> impl Iterator<Item = Operator<'a>> {
        let results = &self.module.results[self.function as usize];
        results.iter().flat_map(|ty| zero(*ty)).chain([Operator::Return])
    }

    /// Code that checks the flag, and traps if the call is to end.
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

    /// Code for a store that has to stand between two checks.
    ///
    /// Without this store, Cranelift takes the load of the flag for a repetition of an earlier
    /// load. The earlier load may be at the function's entry, in another loop, or further up in
    /// straight code. Cranelift removes the repeated load, and the code after it is never stopped.
    /// Each store in a function has another number, because Cranelift would remove equal stores
    /// too.
    fn mark<'a>(&mut self) -> [Operator<'a>; 2] {
        self.marks = self.marks.wrapping_add(1);
        [
            Operator::I32Const { value: self.marks },
            Operator::GlobalSet { global_index: self.module.scratch },
        ]
    }

    /// The beginning of a loop, which checks the flag at every turn. The mark stands outside,
    /// because inside it would double the cost of the check in a tight loop.
    fn begin_loop<'a>(&mut self, begin: Operator<'a>) -> Vec<Operator<'a>> {
        self.mark().into_iter().chain([begin]).chain(self.check()).collect()
    }

    /// Code that grows the memory. If the growth is refused, the code notes the number of the
    /// present call. A guest that ends itself in the same call has probably lacked memory, and its
    /// library seldom says so. A guest that ends itself in a later call, or after a good growth,
    /// has another reason.
    fn grow<'a>(&self, grow: Operator<'a>) -> Vec<Operator<'a>> {
        let Module { scratch, grew_not, stop, .. } = *self.module;
        vec![
            grow,
            Operator::GlobalSet { global_index: scratch },
            // `stop` counts the calls, so the note need not be erased from one call to the next.
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

    /// Whether an operation runs the host's code. The code checks the flag after each operation of
    /// this kind, because a function without a loop may be a long row of them.
    fn leaves_the_guest(&self, operator: &Operator<'_>) -> bool {
        match operator {
            Operator::Call { function_index } => *function_index < self.module.imported,
            Operator::CallIndirect { .. }
            | Operator::MemoryGrow { .. }
            | Operator::TableGrow { .. } => true,
            _ => false,
        }
    }

    /// Code in place of an operation that has a routine.
    ///
    /// The call comes first, because wasmer gives the operation's offset in the module to the first
    /// of the operators that replace the operation. The other operators get the offset of the next
    /// operation.
    fn call_of_routine<'a>(&self, operation: Operation) -> Vec<Operator<'a>> {
        // The routines are sorted.
        let place = self.module.routines.binary_search(&operation);
        let place = place.expect("a module is extended by a routine for each of its operations");
        let function_index = self.module.first_routine + place as u32;
        let mut code = vec![Operator::Call { function_index }];
        if operation == Operation::Unreachable {
            code.extend(self.leave());
        }
        code
    }

    /// Code in place of one operator of the function.
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
                // No check is needed: a loop checks the flag anyway, and `unreachable` ends the
                // path.
                Operator::Loop { .. } | Operator::Unreachable => {}
                // The call must keep its offset in the module (see `call_of_routine`), so the check
                // comes after it. Before that check, calls can only go deeper, and the stack is
                // limited.
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
