//! Routines: functions that the compile worker appends to a module. Each routine replaces an
//! operation that is dangerous if wasmer alone carries it out.
//!
//! The danger: wasmer carries out `unreachable`, `memory.copy`, `table.get` and similar operations
//! by calling its own code, and this code runs on the guest's stack. If such a call fails, the
//! following steps can stop the whole process:
//!
//! 1. wasmer takes a backtrace on the guest's stack.
//! 2. If the guest has nearly used up its stack, the stack overflows inside the backtrace.
//! 3. The signal handler resets the stack without running destructors. So a lock that all threads
//!    of the process use is never released.
//! 4. The next trap of any thread waits for this lock for ever.
//!
//! With wasmer 7.4.2, a module without any rights froze the scan in this way. So no call of
//! wasmer's own code on a guest's stack may fail.
//!
//! A routine therefore checks the bounds before it uses the operation. If the bounds are wrong, the
//! routine divides by zero, which is a trap. The CPU reports this trap by a signal, and the signal
//! handler runs on another stack. A routine also divides a long operation into pieces, and checks
//! the stop flag before each piece.
//!
//! The compiler middleware in `flag.rs` replaces each operation by a call of its routine.
//! Functions, tables and globals of the module keep their indices, and the module's code moves by a
//! fixed distance ([`Extended::shift`]). Operations on passive segments have no routine: `size.rs`
//! refuses modules that use them.

use std::collections::BTreeSet;

use wasm_encoder::{
    BlockType, Encode, Function, InstructionSink, RawSection, RefType, Section, ValType,
};
use wasmer::sys::wasmparser::{self, BinaryReader, BinaryReaderError, Operator, Parser, Payload};

use super::reason::Why;

/// Most bytes of memory that a routine writes between two checks of the stop flag. To write 64 KiB
/// of memory for the first time takes at most 0.1 ms.
const MEMORY_PIECE: i32 = 64 << 10;

/// Most table elements that a routine writes between two checks of the stop flag. The copy of one
/// element takes some nanoseconds. But if the size of a table is fixed, wasmer visits all its
/// elements after each piece. For 100 000 elements this takes 0.1 ms. For this reason
/// `plugins.table` can be at most 100 000.
const TABLE_PIECE: i32 = 1 << 10;

/// An operation that has a routine. A table is given by its index. A module has only one memory, so
/// a memory needs no index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Operation {
    Unreachable,
    MemoryFill,
    MemoryCopy,
    TableGet(u32),
    TableSet(u32),
    TableFill(u32),
    /// The first index is the destination table, the second index is the source table.
    TableCopy(u32, u32),
}

impl Operation {
    /// Returns the operation of this operator, if the operation has a routine.
    pub(super) fn of(operator: &Operator<'_>) -> Option<Self> {
        Some(match *operator {
            Operator::Unreachable => Self::Unreachable,
            Operator::MemoryFill { .. } => Self::MemoryFill,
            Operator::MemoryCopy { .. } => Self::MemoryCopy,
            Operator::TableGet { table } => Self::TableGet(table),
            Operator::TableSet { table } => Self::TableSet(table),
            Operator::TableFill { table } => Self::TableFill(table),
            Operator::TableCopy { dst_table, src_table } => Self::TableCopy(dst_table, src_table),
            _ => return None,
        })
    }

    /// Returns the reason to report if the routine of this operation traps.
    pub(super) fn why(self) -> Why {
        match self {
            Self::Unreachable => Why::Unreachable,
            Self::MemoryFill | Self::MemoryCopy => Why::OutsideMemory,
            _ => Why::OutsideTable,
        }
    }
}

/// A module after the routines were appended.
#[derive(Debug)]
pub(super) struct Extended {
    /// The bytes of the extended module.
    pub(super) module: Vec<u8>,
    /// The operations that have a routine. The routines are the last functions of the module, in
    /// the order of this list.
    pub(super) routines: Vec<Operation>,
    /// The distance, in bytes, by which all code begins later than in the original module. The
    /// distance is negative if the original module encodes the lengths of its sections in more
    /// bytes than needed. Go writes such modules.
    pub(super) shift: i32,
}

/// The data about a module that are needed to append routines.
#[derive(Debug, Default)]
struct Outline {
    /// Number of types in the original module. The first type that is added gets this number as its
    /// index.
    types: u32,
    /// The operations in the module's code that need a routine.
    operations: BTreeSet<Operation>,
    /// The element type of each table.
    tables: Vec<RefType>,
}

/// Appends the routines that a module needs. The module must be valid.
///
/// # Errors
/// The module cannot be parsed. A valid module never causes this error.
pub(super) fn extend(module: &[u8]) -> Result<Extended, BinaryReaderError> {
    let outline = Outline::of(module)?;
    let routines: Vec<_> = outline.operations.iter().copied().collect();
    let (mut types, mut functions, mut bodies) = (Vec::new(), Vec::new(), Vec::new());
    for (operation, ty) in routines.iter().zip(outline.types..) {
        outline.put_type(*operation, &mut types);
        ty.encode(&mut functions);
        body(*operation).encode(&mut bodies);
    }
    let mut extended = module[..HEADER].to_vec();
    let mut shift = 0;
    let mut reader = BinaryReader::new(&module[HEADER..], HEADER as u64);
    while !reader.eof() {
        let id = reader.read_u8()?;
        let len = reader.read_var_u32()? as usize;
        let mut content = BinaryReader::new(reader.read_bytes(len)?, reader.original_position());
        let more = match id {
            TYPES => &types,
            FUNCTIONS => &functions,
            CODE => &bodies,
            _ => &Vec::new(),
        };
        let mut data = Vec::with_capacity(len + more.len() + 5);
        if !more.is_empty() {
            (content.read_var_u32()? + routines.len() as u32).encode(&mut data);
        }
        let old = reader.original_position() - content.bytes_remaining() as u64;
        let (rest, count) = (content.read_bytes(content.bytes_remaining())?, data.len());
        data.extend_from_slice(rest);
        data.extend_from_slice(more);
        RawSection { id, data: &data }.append_to(&mut extended);
        if id == CODE {
            let new = extended.len() - (data.len() - count);
            shift = new as i64 - old.cast_signed();
        }
    }
    let shift = i32::try_from(shift).expect("the shift is short, because routines are short");
    Ok(Extended { module: extended, routines, shift })
}

/// Length of a module's magic number and version together, in bytes.
const HEADER: usize = 8;

/// Ids of sections, from the specification of the binary format.
const TYPES: u8 = 1;
const FUNCTIONS: u8 = 3;
const CODE: u8 = 10;

impl Outline {
    fn of(module: &[u8]) -> Result<Self, BinaryReaderError> {
        let mut outline = Self::default();
        for payload in Parser::new(0).parse_all(module) {
            match payload? {
                Payload::TypeSection(types) => outline.types = types.count(),
                Payload::TableSection(tables) => {
                    for table in tables {
                        let ty = table?.ty.element_type;
                        let is_extern = ty == wasmparser::RefType::EXTERNREF;
                        let ty = if is_extern { RefType::EXTERNREF } else { RefType::FUNCREF };
                        outline.tables.push(ty);
                    }
                }
                Payload::CodeSectionEntry(body) => {
                    for operator in body.get_operators_reader()? {
                        outline.operations.extend(Operation::of(&operator?));
                    }
                }
                _ => {}
            }
        }
        Ok(outline)
    }

    /// Writes the type of the routine for an operation. The parameters are the values that the
    /// operation takes from the stack, and the results are the values that the operation puts on
    /// the stack.
    fn put_type(&self, operation: Operation, to: &mut Vec<u8>) {
        const FUNCTION: u8 = 0x60;
        let element = |table: u32| ValType::Ref(self.tables[table as usize]);
        let (takes, leaves) = match operation {
            Operation::Unreachable => (vec![], vec![]),
            Operation::MemoryFill | Operation::MemoryCopy | Operation::TableCopy(..) => {
                (vec![ValType::I32; 3], vec![])
            }
            Operation::TableGet(table) => (vec![ValType::I32], vec![element(table)]),
            Operation::TableSet(table) => (vec![ValType::I32, element(table)], vec![]),
            Operation::TableFill(table) => {
                (vec![ValType::I32, element(table), ValType::I32], vec![])
            }
        };
        to.push(FUNCTION);
        takes.encode(to);
        leaves.encode(to);
    }
}

/// The memory or the table that a routine reads or changes.
#[derive(Debug, Clone, Copy)]
enum BulkTarget {
    Memory,
    Table(u32),
}

impl BulkTarget {
    /// Writes code that pushes the size of the memory or table on the stack, in bytes or elements,
    /// as an i64.
    fn size(self, code: &mut InstructionSink<'_>) {
        const LOG2_PAGE: i64 = 16;
        match self {
            Self::Memory => {
                code.memory_size(0).i64_extend_i32_u().i64_const(LOG2_PAGE).i64_shl();
            }
            Self::Table(table) => {
                code.table_size(table).i64_extend_i32_u();
            }
        }
    }

    /// Most bytes or elements that a routine writes between two checks of the stop flag.
    fn piece(self) -> i32 {
        match self {
            Self::Memory => MEMORY_PIECE,
            Self::Table(_) => TABLE_PIECE,
        }
    }

    /// Writes code that traps unless a range lies within the memory or table. The locals `start`
    /// and `length` contain the range, in bytes or elements. wasmer's code adds start and length in
    /// 32 bits, and fails if a range ends at 4 GiB. This code adds them in 64 bits, and a range
    /// within a memory never ends at 4 GiB, because a memory is smaller.
    fn within(self, code: &mut InstructionSink<'_>, start: u32, length: u32) {
        code.local_get(start).i64_extend_i32_u().local_get(length).i64_extend_i32_u().i64_add();
        self.size(code);
        code.i64_gt_u().if_(BlockType::Empty).unreachable().end();
    }
}

/// Makes the code of a routine. The operator `unreachable` in this code is a placeholder: the
/// middleware replaces it by the trap.
fn body(operation: Operation) -> Function {
    match operation {
        Operation::Unreachable => {
            let mut function = Function::new([]);
            function.instructions().unreachable().end();
            function
        }
        Operation::TableGet(table) => element(table, |code| {
            code.local_get(0).table_get(table);
        }),
        Operation::TableSet(table) => element(table, |code| {
            code.local_get(0).local_get(1).table_set(table);
        }),
        Operation::MemoryFill => fill(BulkTarget::Memory, |code| {
            code.memory_fill(0);
        }),
        Operation::TableFill(table) => fill(BulkTarget::Table(table), |code| {
            code.table_fill(table);
        }),
        Operation::MemoryCopy => copy([BulkTarget::Memory; 2], |code| {
            code.memory_copy(0, 0);
        }),
        Operation::TableCopy(to, from) => copy([to, from].map(BulkTarget::Table), |code| {
            code.table_copy(to, from);
        }),
    }
}

/// Makes a routine for one element of a table. Local 0 contains the index of the element.
fn element(table: u32, work: impl Fn(&mut InstructionSink<'_>)) -> Function {
    let mut function = Function::new([]);
    let code = &mut function.instructions();
    code.local_get(0).table_size(table).i32_ge_u();
    code.if_(BlockType::Empty).unreachable().end();
    work(code);
    code.end();
    function
}

/// Makes the routine `fill(destination, value, length)`, which fills the range from its start.
fn fill(place: BulkTarget, whole: impl Fn(&mut InstructionSink<'_>)) -> Function {
    let [destination, value, length, piece] = [0, 1, 2, 3];
    let mut function = Function::new([(1, ValType::I32)]);
    let code = &mut function.instructions();
    place.within(code, destination, length);
    code.loop_(BlockType::Empty);
    next_piece(code, place, length, piece);
    code.local_get(destination).local_get(value).local_get(piece);
    whole(code);
    code.local_get(destination).local_get(piece).i32_add().local_set(destination);
    code.local_get(length).br_if(0).end().end();
    function
}

/// Makes the routine `copy(destination, source, length)`. If the two ranges overlap, the direction
/// matters: the routine copies from the start or from the end, so that no piece is overwritten
/// before it is copied.
fn copy([to, from]: [BulkTarget; 2], whole: impl Fn(&mut InstructionSink<'_>)) -> Function {
    let [destination, source, length, piece] = [0, 1, 2, 3];
    let mut function = Function::new([(1, ValType::I32)]);
    let code = &mut function.instructions();
    to.within(code, destination, length);
    from.within(code, source, length);
    code.loop_(BlockType::Empty);
    next_piece(code, to, length, piece);
    code.local_get(destination).local_get(source).i32_le_u().if_(BlockType::Empty);
    code.local_get(destination).local_get(source).local_get(piece);
    whole(code);
    for place in [destination, source] {
        code.local_get(place).local_get(piece).i32_add().local_set(place);
    }
    code.else_();
    for place in [destination, source] {
        code.local_get(place).local_get(length).i32_add();
    }
    code.local_get(piece);
    whole(code);
    code.end().local_get(length).br_if(0).end().end();
    function
}

/// Writes code for `piece = min(length, most); length -= piece`.
fn next_piece(code: &mut InstructionSink<'_>, place: BulkTarget, length: u32, piece: u32) {
    let most = place.piece();
    code.local_get(length).i32_const(most);
    code.local_get(length).i32_const(most).i32_lt_u().select().local_set(piece);
    code.local_get(length).local_get(piece).i32_sub().local_set(length);
}

#[cfg(test)]
mod tests {
    use super::*;
    use wasmer::sys::wasmparser::Validator;

    const ALL: &str = r#"(module
        (import "env" "sched_yield" (func (result i32)))
        (memory 1) (table $f 4 funcref) (table $e 4 externref)
        (func (export "poll")
            (memory.fill (i32.const 0) (i32.const 1) (i32.const 2))
            (memory.copy (i32.const 0) (i32.const 1) (i32.const 2))
            (table.set $f (i32.const 0) (table.get $f (i32.const 1)))
            (table.set $e (i32.const 0) (ref.null extern))
            (table.fill $e (i32.const 0) (ref.null extern) (i32.const 2))
            (table.copy $e $e (i32.const 0) (i32.const 1) (i32.const 2))
            unreachable)
        (data (i32.const 0) "text"))"#;

    #[test]
    fn a_module_gets_one_routine_for_each_operation_and_stays_valid() {
        let module = wat::parse_str(ALL).unwrap();
        let extended = extend(&module).unwrap();
        use Operation::*;
        let expected = [
            Unreachable,
            MemoryFill,
            MemoryCopy,
            TableGet(0),
            TableSet(0),
            TableSet(1),
            TableFill(1),
            TableCopy(1, 1),
        ];
        assert_eq!(extended.routines, expected);
        Validator::new().validate_all(&extended.module).unwrap();
    }

    #[test]
    fn code_moves_by_the_shift_that_is_given() {
        fn bodies(module: &[u8]) -> Vec<u64> {
            let body = |payload| match payload {
                Payload::CodeSectionEntry(body) => Some(body.range().start),
                _ => None,
            };
            Parser::new(0).parse_all(module).filter_map(|p| body(p.unwrap())).collect()
        }
        let many = "(func unreachable) ".repeat(200);
        let texts = [ALL, "(module (func unreachable) (func))", &format!("(module {many})")];
        let mut modules = texts.map(|text| wat::parse_str(text).unwrap()).to_vec();
        modules.push(with_long_lengths(&modules[1]));
        for module in modules {
            let extended = extend(&module).unwrap();
            let (before, after) = (bodies(&module), bodies(&extended.module));
            assert!(after.len() > before.len());
            for (before, after) in before.iter().zip(after) {
                assert_eq!(before.cast_signed() + i64::from(extended.shift), after.cast_signed());
            }
        }
    }

    /// Returns the module with the length of each section encoded in five bytes.
    fn with_long_lengths(module: &[u8]) -> Vec<u8> {
        let mut long = module[..HEADER].to_vec();
        let mut reader = BinaryReader::new(&module[HEADER..], HEADER as u64);
        while !reader.eof() {
            long.push(reader.read_u8().unwrap());
            let len = reader.read_var_u32().unwrap();
            long.extend([0, 7, 14, 21].map(|bits| (len >> bits) as u8 & 0x7f | 0x80));
            long.push((len >> 28) as u8);
            long.extend_from_slice(reader.read_bytes(len as usize).unwrap());
        }
        long
    }

    #[test]
    fn a_module_without_such_operations_stays_as_it_is() {
        let module = wat::parse_str("(module (func (export \"poll\")))").unwrap();
        let extended = extend(&module).unwrap();
        assert_eq!((extended.module, extended.shift), (module, 0));
    }
}
