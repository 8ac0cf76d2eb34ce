//! Checks that a module keeps the contract and the limits, without compiling or running it.
//!
//! Most of this reads hostile bytes, so it runs in the compile worker only. Only [`stranger`] runs
//! in the daemon too: it looks at no more than the first bytes of a file. The order is from cheap
//! to expensive: header, counts (in `size.rs`) with sections, then full validation. Every refusal
//! says what would be right. What a refusal says about imports is in `check/import.rs`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use wasmer::sys::wasmparser::{
    BinaryReaderError, Encoding, ExternalKind, FuncType, Imports, MemoryType, Parser, Payload,
    TypeRef, Validator, WasmFeatures,
};

mod import;

use super::note::{self, Note};
use super::offer::{self, ENV};
use super::size::{Size, at_most};
use super::{frame, malformed};
use crate::plugin::{Compiler, Limits, Refusal};
use crate::text::first_of;
use import::{Hint, MAX_MISSING, nearest_offer, no_function, offered, remedy, signature};

/// Bytes of a page of linear memory.
const PAGE: u64 = 64 << 10;

/// The report about a good module, as `camshaft check` shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// The version of the contract that the module needs: 0 or 1.
    pub abi: u8,
    /// Number of functions that the module defines itself.
    pub functions: u32,
    /// Size of the linear memory at the start, in bytes.
    pub memory_bytes: u64,
    /// The module's imports, as `module.name`.
    pub imports: Vec<String>,
    /// The functions of the contract that the module exports.
    pub exports: Vec<String>,
    /// The probable mistakes in the valid module.
    pub notes: Vec<Note>,
}

/// The language features that this host runs.
fn features() -> WasmFeatures {
    WasmFeatures::MUTABLE_GLOBAL
        | WasmFeatures::SATURATING_FLOAT_TO_INT
        | WasmFeatures::SIGN_EXTENSION
        | WasmFeatures::REFERENCE_TYPES
        | WasmFeatures::MULTI_VALUE
        | WasmFeatures::BULK_MEMORY
        | WasmFeatures::SIMD
        | WasmFeatures::FLOATS
        | WasmFeatures::EXTENDED_CONST
        | WasmFeatures::GC_TYPES
}

/// Checks a module that `compiler` is to compile.
///
/// # Errors
/// The first reason to refuse it.
pub(super) fn check(bytes: &[u8], limits: &Limits, compiler: Compiler) -> Result<Report, Refusal> {
    header(bytes)?;
    let mut size = Size::default();
    let mut outline = Outline::default();
    for payload in Parser::new(0).parse_all(bytes) {
        let payload = payload.map_err(|error| malformed(&error))?;
        size.take(&payload, limits)?;
        outline.take(payload, limits)?;
    }
    let mut validator = Validator::new_with_features(features());
    validator.validate_all(bytes).map_err(|error| malformed(&error))?;
    frame::check(bytes, compiler)?;
    outline.imports_are_offered()?;
    outline.exports_are_right()?;
    Ok(Report { notes: note::notes(bytes), ..outline.report() })
}

/// How every module begins: with its magic number and its version.
const MODULE: &[u8] = b"\0asm\x01\0\0\0";

/// The refusal of bytes that do not begin with the magic number of a module; `None` if they do.
pub fn stranger(bytes: &[u8]) -> Option<Refusal> {
    if bytes.starts_with(&MODULE[..4]) { None } else { header(bytes).err() }
}

/// Refuses a file that does not begin like a module, and says what the file is instead.
fn header(bytes: &[u8]) -> Result<(), Refusal> {
    const REMEDY: &str = "copy a core WebAssembly module here";
    let text = bytes.trim_ascii_start();
    let reason = match bytes {
        [] => "the file is empty".to_string(),
        _ if bytes.starts_with(MODULE) => return Ok(()),
        [0, b'a', b's', b'm', _, _, 1, 0, ..] => {
            return Err(Refusal::new(
                "it is a WebAssembly component",
                "build a core module instead, for example without wasm-tools component",
            ));
        }
        [0, b'a', b's', b'm', _, _, _, _, ..] => "its WebAssembly version is not 1".to_string(),
        _ if MODULE.starts_with(bytes) => "the file is cut off within its header".to_string(),
        [0x7f, b'E', b'L', b'F', ..] => "it is an ELF file, made for this machine's CPU".into(),
        _ if text.starts_with(b"(module") || text.starts_with(b";;") => {
            return Err(Refusal::new(
                "it is WebAssembly text",
                "translate it with `wat2wasm FILE` and copy the result",
            ));
        }
        // The bytes of the file are not shown: a link may lead to a file that only the daemon may
        // read.
        _ => match kind(text) {
            Some(kind) => format!("it is {kind}, not a WebAssembly module"),
            None => "it does not start with \\0asm, as every WebAssembly module does".into(),
        },
    };
    Err(Refusal::new(reason, REMEDY))
}

/// The kind of file that users copy into the folder by mistake, found by its first bytes.
fn kind(bytes: &[u8]) -> Option<&'static str> {
    const KINDS: [(&[u8], &str); 6] = [
        (b"\x1f\x8b", "a gzip file"),
        (b"PK\x03\x04", "a zip archive"),
        (b"\xfd7zXZ", "an xz file"),
        (b"!<arch>", "an archive of object files"),
        (b"<!", "a web page"),
        (b"<html", "a web page"),
    ];
    KINDS.iter().find(|(start, _)| bytes.starts_with(start)).map(|(_, kind)| *kind)
}

/// The outline of a module, gathered from its sections.
#[derive(Debug, Default)]
struct Outline {
    types: Vec<FuncType>,
    /// Index into `types` for each function; imported functions come first.
    functions: Vec<u32>,
    imports: Vec<(String, String, TypeRef)>,
    exports: BTreeMap<String, (ExternalKind, u32)>,
    memories: Vec<MemoryType>,
    /// Number of functions that the module defines itself.
    own_functions: u32,
}

impl Outline {
    /// Takes in one section, and refuses what can be seen from it alone.
    fn take(&mut self, payload: Payload<'_>, limits: &Limits) -> Result<(), Refusal> {
        let bad = |error: BinaryReaderError| malformed(&error);
        match payload {
            Payload::Version { encoding: Encoding::Component, .. } => {
                return Err(Refusal::new("it is a WebAssembly component", "build a core module"));
            }
            Payload::TypeSection(types) => {
                for ty in types.into_iter_err_on_gc_types() {
                    self.types.push(ty.map_err(bad)?);
                }
            }
            Payload::ImportSection(imports) => {
                for imports in imports {
                    self.take_imports(imports.map_err(bad)?)?;
                }
            }
            Payload::FunctionSection(functions) => {
                self.own_functions = functions.count();
                for ty in functions {
                    self.functions.push(ty.map_err(bad)?);
                }
            }
            Payload::MemorySection(memories) => {
                for memory in memories {
                    self.take_memory(memory.map_err(bad)?, limits)?;
                }
            }
            Payload::ExportSection(exports) => {
                for export in exports {
                    let export = export.map_err(bad)?;
                    self.exports.insert(export.name.into(), (export.kind, export.index));
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn take_imports(&mut self, imports: Imports<'_>) -> Result<(), Refusal> {
        let Imports::Single(_, import) = imports else {
            return Err(Refusal::new("compact imports are used", "build without that proposal"));
        };
        if let TypeRef::Func(ty) = import.ty {
            self.functions.push(ty);
        }
        self.imports.push((import.module.into(), import.name.into(), import.ty));
        Ok(())
    }

    fn take_memory(&mut self, memory: MemoryType, limits: &Limits) -> Result<(), Refusal> {
        let refused = |what| Refusal::new(what, "one ordinary 32-bit memory is supported");
        if memory.memory64 {
            return Err(refused("it uses memory64"));
        }
        if memory.shared {
            return Err(refused("it uses threads (a shared memory)"));
        }
        self.memories.push(memory);
        if self.memories.len() > 1 {
            return Err(refused("it has more than one memory"));
        }
        let bytes = memory.initial.saturating_mul(PAGE);
        at_most("bytes of memory at the start", bytes, limits.memory_bytes, "memory")
    }

    /// Compares all imports with the offers, so that one refusal names all missing imports.
    fn imports_are_offered(&self) -> Result<(), Refusal> {
        let (mut wrong, mut hints) = (Vec::new(), Vec::new());
        for (module, name, ty) in &self.imports {
            let TypeRef::Func(ty) = ty else {
                wrong.push(format!("{} as {module}.{name}", no_function(ty)));
                hints.push((format!("{module}.{name}"), Hint::NoFunction));
                continue;
            };
            let wanted = signature(self.ty(*ty)?);
            let offer = offer::offers().find(|offer| offer.module == module && offer.name == name);
            let hint = match offer {
                Some(offer) if offered(offer) == wanted => continue,
                // An import beyond this number gets no hint, because the refusal does not show it,
                // and because a comparison with all offers takes time.
                _ if wrong.len() >= MAX_MISSING => Hint::None,
                Some(offer) => Hint::Is(offered(offer)),
                None => nearest_offer(module, name).map_or(Hint::None, Hint::Near),
            };
            wrong.push(format!("{module}.{name} {wanted}"));
            hints.push((format!("{module}.{name}"), hint));
        }
        match &*wrong {
            [] => Ok(()),
            [one] => Err(Refusal::new(format!("imports {one}"), remedy(&hints))),
            all => {
                let shown = first_of(all, MAX_MISSING);
                let reason = format!("{} imports are not offered: {shown}", all.len());
                Err(Refusal::new(reason, remedy(&hints)))
            }
        }
    }

    /// Checks the types of the contract's exports, and that `poll` and, if needed, a memory are
    /// there.
    fn exports_are_right(&self) -> Result<(), Refusal> {
        const POLL: &str = "poll";
        if !self.exports.contains_key(POLL) {
            return Err(Refusal::new(
                "it does not export `poll`",
                "export a function poll: () -> (); it is called once a cycle",
            ));
        }
        for name in [POLL, "init", "_initialize", "save", "restore"] {
            let Some(&(kind, index)) = self.exports.get(name) else { continue };
            let ty = match kind {
                ExternalKind::Func => self.functions.get(index as usize).copied(),
                _ => None,
            };
            let found = match ty {
                Some(ty) => signature(self.ty(ty)?),
                None => "not a function".into(),
            };
            if found != "() -> ()" {
                return Err(Refusal::new(
                    format!("its export `{name}` is {found}"),
                    "it must be a function () -> ()",
                ));
            }
        }
        if self.exports.contains_key("save") != self.exports.contains_key("restore") {
            return Err(Refusal::new(
                "it exports only one of `save` and `restore`",
                "export both or neither",
            ));
        }
        let has_memory = matches!(self.exports.get("memory"), Some((ExternalKind::Memory, _)));
        let pointed = self.imports.iter().find(|(module, name, _)| takes_pointer(module, name));
        if let (false, Some((module, name, _))) = (has_memory, pointed) {
            return Err(Refusal::new(
                format!("it imports {module}.{name}, which takes a pointer, but exports no memory"),
                "export the memory under the name `memory`",
            ));
        }
        Ok(())
    }

    fn ty(&self, index: u32) -> Result<&FuncType, Refusal> {
        self.types
            .get(index as usize)
            .ok_or_else(|| Refusal::new("a type index is out of range", "copy the whole file"))
    }

    fn report(&self) -> Report {
        let newer = |(_, name, _): &(String, String, TypeRef)| {
            offer::VERSION_1.iter().any(|offer| offer.name == name)
        };
        let known = ["_initialize", "init", "memory", "poll", "restore", "save"];
        Report {
            abi: self.imports.iter().any(newer).into(),
            functions: self.own_functions,
            memory_bytes: self.memories.first().map_or(0, |memory| memory.initial * PAGE),
            imports: self.imports.iter().map(|(m, n, _)| format!("{m}.{n}")).collect(),
            exports: known
                .iter()
                .filter(|n| self.exports.contains_key(**n))
                .map(|n| n.to_string())
                .collect(),
            notes: Vec::new(),
        }
    }
}

/// Whether an offered function needs the guest's memory.
fn takes_pointer(module: &str, name: &str) -> bool {
    const NO_POINTER: &[&str] = &[
        "emscripten_notify_memory_growth",
        "wasm_point_write_boolean",
        "wasm_point_write_double",
        "wasm_point_write_int",
        "proc_exit",
        "sched_yield",
    ];
    // `abort` takes a pointer, but works without a memory: then it has no message.
    !(NO_POINTER.contains(&name) || module == ENV && name == "abort")
}
