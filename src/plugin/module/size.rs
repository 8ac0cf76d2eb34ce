//! The limits on the size of a module: the numbers of its functions, types, tables and other
//! entries, and for each function its length, its locals and its nesting of blocks. Operations on
//! passive segments are refused here too.
//!
//! Each entry of a module costs time in the compile worker. Each entry also costs memory in the
//! daemon for as long as an instance exists. Example: 2.5 million names of functions, in a file of
//! 15 MB, took 500 MB. So this file counts the entries of a section before they are parsed. The
//! contents of the entries are checked in `check.rs`. The limit on the stack of a function is in
//! `frame.rs`.

use wasmer::sys::wasmparser::{
    BinaryReaderError, CustomSectionReader, ElementItems, ElementSectionReader, FunctionBody,
    KnownCustom, Name, Operator, Payload, TableSectionReader,
};

use super::malformed;
use crate::plugin::{Limits, Refusal};

/// Longest body of a function, in bytes. The time to compile a body grows faster than its length.
/// The output of real compilers is far below this limit.
const MAX_BODY_BYTES: usize = 1 << 20;

/// Most locals of one function. More locals take more time to compile.
const MAX_LOCALS: u64 = 10_000;

/// Deepest nesting of blocks. Deeper blocks take more time to compile.
const MAX_NESTING: usize = 1_000;

/// Most entries of each of these kinds: types, imports, exports, globals, element segments and
/// custom sections. The number equals the default limit of functions, because some linkers export
/// all functions.
const MAX_ENTRIES: u32 = 20_000;

/// Most tables. Real modules have one to three tables. Each pair of tables may need a routine for
/// `table.copy`, so many tables could mean many routines.
const MAX_TABLES: u32 = 100;

/// Most data segments. Go makes tens of thousands of segments with a few bytes each: 21 026 in a
/// small plugin.
const MAX_DATA_SEGMENTS: u32 = 100_000;

/// The sums of the entries that were counted so far in this module.
#[derive(Debug, Default)]
pub(super) struct Size {
    table_elements: u64,
    segment_elements: u64,
    custom_sections: u64,
    function_names: u64,
}

impl Size {
    /// Counts the entries of one part of the module, and compares the counts with the limits.
    pub(super) fn take(&mut self, payload: &Payload<'_>, limits: &Limits) -> Result<(), Refusal> {
        match payload {
            Payload::TypeSection(types) => entries("types", types.count()),
            Payload::ImportSection(imports) => entries("imports", imports.count()),
            Payload::GlobalSection(globals) => entries("globals", globals.count()),
            Payload::ExportSection(exports) => entries("exports", exports.count()),
            Payload::DataSection(segments) => {
                at_most_entries("data segments", segments.count(), MAX_DATA_SEGMENTS)
            }
            Payload::FunctionSection(functions) => {
                let count = functions.count().into();
                at_most("functions", count, limits.functions.into(), "functions")
            }
            Payload::TableSection(tables) => self.take_tables(tables, limits),
            Payload::ElementSection(segments) => self.take_elements(segments, limits),
            Payload::CodeSectionEntry(body) => check_body(body),
            Payload::CustomSection(custom) => self.take_custom(custom, limits),
            _ => Ok(()),
        }
    }

    fn take_tables(
        &mut self,
        tables: &TableSectionReader<'_>,
        limits: &Limits,
    ) -> Result<(), Refusal> {
        at_most_entries("tables", tables.count(), MAX_TABLES)?;
        for table in tables.clone() {
            let initial = table.map_err(|error| malformed(&error))?.ty.initial;
            self.table_elements = self.table_elements.saturating_add(initial);
        }
        at_most("table elements", self.table_elements, limits.table_elements.into(), "table")
    }

    fn take_elements(
        &mut self,
        segments: &ElementSectionReader<'_>,
        limits: &Limits,
    ) -> Result<(), Refusal> {
        entries("element segments", segments.count())?;
        for segment in segments.clone() {
            let count = match segment.map_err(|error| malformed(&error))?.items {
                ElementItems::Functions(items) => items.count(),
                ElementItems::Expressions(_, items) => items.count(),
            };
            self.segment_elements += u64::from(count);
            let limit = limits.table_elements.into();
            at_most("elements in segments", self.segment_elements, limit, "table")?;
        }
        Ok(())
    }

    fn take_custom(
        &mut self,
        custom: &CustomSectionReader<'_>,
        limits: &Limits,
    ) -> Result<(), Refusal> {
        self.custom_sections += 1;
        entries("custom sections", u32::try_from(self.custom_sections).unwrap_or(u32::MAX))?;
        let KnownCustom::Name(names) = custom.as_known() else { return Ok(()) };
        // Names that cannot be parsed are no error, because no part of the host needs the names.
        for names in names.into_iter().map_while(Result::ok) {
            if let Name::Function(names) = names {
                self.function_names += u64::from(names.count());
            }
        }
        let limit = u64::from(limits.functions) + u64::from(MAX_ENTRIES);
        if self.function_names > limit {
            return Err(Refusal::new(
                format!("its name section has {} names of functions", self.function_names),
                format!(
                    "the limit is {limit} ({MAX_ENTRIES} more than plugins.functions); remove the \
                     name section"
                ),
            ));
        }
        Ok(())
    }
}

fn entries(what: &str, found: u32) -> Result<(), Refusal> {
    at_most_entries(what, found, MAX_ENTRIES)
}

fn at_most_entries(what: &str, found: u32, limit: u32) -> Result<(), Refusal> {
    if found <= limit {
        return Ok(());
    }
    Err(Refusal::new(format!("it has {found} {what}"), format!("the limit is {limit} (fixed)")))
}

/// Refuses a module whose count `found` is higher than a limit of the configuration. `key` is the
/// name of the limit in the configuration, without the prefix `plugins.`.
pub(super) fn at_most(what: &str, found: u64, limit: u64, key: &str) -> Result<(), Refusal> {
    if found <= limit {
        return Ok(());
    }
    Err(Refusal::new(
        format!("it has {found} {what}"),
        format!("the limit is {limit} (plugins.{key} in the configuration)"),
    ))
}

/// The number of locals of a function, without its parameters.
pub(super) fn locals(body: &FunctionBody<'_>) -> Result<u64, Refusal> {
    let mut locals = 0;
    for group in body.get_locals_reader().map_err(|error| malformed(&error))? {
        locals += u64::from(group.map_err(|error| malformed(&error))?.0);
    }
    Ok(locals)
}

/// Returns the name of an operation on passive segments, or `None` for any other operation. Modules
/// with such operations are refused. The reason: wasmer protects passive segments by a lock in the
/// instance. If the guest's stack overflows, this lock may never be released, and the next
/// operation on a passive segment then ends the whole process. Modules of clang, Rust, Zig,
/// AssemblyScript, Go and Emscripten have passive segments only if the memory is shared between
/// threads.
fn on_passive_segments(operator: &Operator<'_>) -> Option<&'static str> {
    match operator {
        Operator::MemoryInit { .. } => Some("memory.init"),
        Operator::DataDrop { .. } => Some("data.drop"),
        Operator::TableInit { .. } => Some("table.init"),
        Operator::ElemDrop { .. } => Some("elem.drop"),
        _ => None,
    }
}

fn check_body(body: &FunctionBody<'_>) -> Result<(), Refusal> {
    let bad = |error: BinaryReaderError| malformed(&error);
    let refused = |what: String, limit: &str| {
        let place = body.range().start;
        Refusal::new(format!("the function at offset {place:#x} {what}"), limit)
    };
    let len = body.as_bytes().len();
    if len > MAX_BODY_BYTES {
        return Err(refused(
            format!("has {len} bytes"),
            "the limit is 1 MiB (fixed); split the function",
        ));
    }
    let locals = locals(body)?;
    if locals > MAX_LOCALS {
        return Err(refused(format!("has {locals} locals"), "the limit is 10000 (fixed)"));
    }
    let mut depth = 0usize;
    for operator in body.get_operators_reader().map_err(bad)? {
        let operator = operator.map_err(bad)?;
        match operator {
            Operator::Block { .. } | Operator::Loop { .. } | Operator::If { .. } => depth += 1,
            Operator::End => depth = depth.saturating_sub(1),
            _ => {}
        }
        if let Some(name) = on_passive_segments(&operator) {
            return Err(refused(
                format!("uses {name}"),
                "passive segments are not supported; only modules with threads need passive \
                 segments, so build without a shared memory",
            ));
        }
        if depth > MAX_NESTING {
            return Err(refused(
                format!("nests more than {MAX_NESTING} blocks"),
                "the limit is 1000 (fixed)",
            ));
        }
    }
    Ok(())
}
