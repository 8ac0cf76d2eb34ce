//! Checks that a module fulfils the contract with the daemon and the limits, without compiling or
//! running the module. The first check that fails returns a [`Refusal`].
//!
//! ```text
//! header ─▶ counts (size.rs) ─▶ sections ─▶ full validation ─▶ frames ─▶ imports ─▶ exports
//! ```
//!
//! The cheap checks come first, because a refused module then costs little time. Nearly all of this
//! code parses bytes from an untrusted file, so it runs in the compile worker only. The exception
//! is [`stranger`], which the daemon calls: it reads only the first bytes of a file.
//!
//! A [`Refusal`] has two texts, the reason and the remedy. For these checks, the texts are made in
//! five files:
//!
//! - `check.rs`: both texts about the first bytes of a file, the encoding of imports, the kind and
//!   the number of memories, the type indices, and the exports. For imports that are not offered,
//!   `check.rs` makes the reason only.
//! - `check/import.rs`: the remedy for imports that are not offered. `check/import.rs` also writes
//!   the function types and the kinds of imports as text, and `check.rs` puts this text into
//!   reasons.
//! - `size.rs`: both texts about sizes (the numbers of entries, the length, the locals and the
//!   nesting of a function, and the size of the memory), and about operations on passive segments.
//! - `frame.rs`: both texts about frames. A frame is the part of the guest's stack that one call of
//!   a function uses.
//! - `module/mod.rs`: both texts about malformed bytes.

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

/// Size of a page of linear memory, in bytes.
const PAGE: u64 = 64 << 10;

/// The report about a valid module. `camshaft check` shows this report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModuleReport {
    /// The version of the contract that the module needs: 0 or 1.
    pub abi: u8,
    /// Number of functions that the module defines. Imported functions are not counted.
    pub functions: u32,
    /// Size of the linear memory when the instance starts, in bytes.
    pub memory_bytes: u64,
    /// The module's imports. Each text is the name of the import module, a dot, and the name of the
    /// import, for example `env.wasm_log`.
    pub imports: Vec<String>,
    /// The names of the module's exports that belong to the contract: functions, and `memory`.
    pub exports: Vec<String>,
    /// The warnings about probable mistakes in the module.
    pub notes: Vec<Note>,
}

/// The WebAssembly proposals that this host supports.
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

/// Checks a module that `compiler` will compile, and returns a report about it.
///
/// # Errors
/// The refusal of the first check that fails.
pub(super) fn check(
    bytes: &[u8],
    limits: &Limits,
    compiler: Compiler,
) -> Result<ModuleReport, Refusal> {
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
    Ok(ModuleReport { notes: note::notes(bytes), ..outline.report() })
}

/// The first 8 bytes of every module: the magic number and the version of the binary format.
const MODULE: &[u8] = b"\0asm\x01\0\0\0";

/// Returns the refusal of bytes that do not begin with the magic number of a module. Returns `None`
/// for bytes that begin with the magic number.
pub fn stranger(bytes: &[u8]) -> Option<Refusal> {
    if bytes.starts_with(&MODULE[..4]) { None } else { header(bytes).err() }
}

/// Refuses a file that does not begin like a module. If the first bytes show the kind of the file,
/// the reason names this kind.
fn header(bytes: &[u8]) -> Result<(), Refusal> {
    const REMEDY: &str = "replace the file by a core WebAssembly module";
    let text = bytes.trim_ascii_start();
    let reason = match bytes {
        [] => "the file is empty".to_string(),
        _ if bytes.starts_with(MODULE) => return Ok(()),
        [0, b'a', b's', b'm', _, _, 1, 0, ..] => {
            return Err(Refusal::new(
                "it is a WebAssembly component",
                "build a core module, for example without the step `wasm-tools component`",
            ));
        }
        [0, b'a', b's', b'm', _, _, _, _, ..] => "its WebAssembly version is not 1".to_string(),
        _ if MODULE.starts_with(bytes) => "the file is cut off within its header".to_string(),
        [0x7f, b'E', b'L', b'F', ..] => "it is an ELF file, not a WebAssembly module".into(),
        _ if text.starts_with(b"(module") || text.starts_with(b";;") => {
            return Err(Refusal::new(
                "it is WebAssembly text",
                "translate it with `wat2wasm FILE` and copy the result",
            ));
        }
        // The refusal does not show the bytes of the file. A link in the plugin folder may lead to
        // a secret file that only the daemon may read.
        _ => match kind(text) {
            Some(kind) => format!("it is {kind}, not a WebAssembly module"),
            None => "it does not start with \\0asm, as every WebAssembly module does".into(),
        },
    };
    Err(Refusal::new(reason, REMEDY))
}

/// Returns the kind of a file, with an article, for the kinds of files that users copy into the
/// plugin folder by mistake. The first bytes of the file show its kind. Returns `None` for any
/// other kind.
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

/// The parts of a WebAssembly module that the checks need. [`Outline::take`] collects them section
/// by section.
#[derive(Debug, Default)]
struct Outline {
    types: Vec<FuncType>,
    /// The type of each function, as an index into `types`. Imported functions come first.
    functions: Vec<u32>,
    imports: Vec<(String, String, TypeRef)>,
    exports: BTreeMap<String, (ExternalKind, u32)>,
    memories: Vec<MemoryType>,
    /// Number of functions that the module defines. Imported functions are not counted.
    own_functions: u32,
}

impl Outline {
    /// Collects the data of one section. Refuses the module if this section alone shows an error.
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
            return Err(Refusal::new(
                "it uses compact imports",
                "build without the WebAssembly proposal for compact imports",
            ));
        };
        if let TypeRef::Func(ty) = import.ty {
            self.functions.push(ty);
        }
        self.imports.push((import.module.into(), import.name.into(), import.ty));
        Ok(())
    }

    fn take_memory(&mut self, memory: MemoryType, limits: &Limits) -> Result<(), Refusal> {
        let refused = |what| {
            Refusal::new(what, "only one memory is supported, with 32-bit addresses and not shared")
        };
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

    /// Compares all imports with the offers. One refusal counts all imports that are not offered,
    /// and names at most [`MAX_MISSING`] of them.
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
                // The refusal shows only [`MAX_MISSING`] imports. For further imports the check
                // does not search for a similar offer, because the search takes time.
                _ if wrong.len() >= MAX_MISSING => Hint::None,
                Some(offer) => Hint::Is(offered(offer)),
                None => nearest_offer(module, name).map_or(Hint::None, Hint::Near),
            };
            wrong.push(format!("{module}.{name} {wanted}"));
            hints.push((format!("{module}.{name}"), hint));
        }
        match &*wrong {
            [] => Ok(()),
            [one] => Err(Refusal::new(format!("unsupported import: {one}"), remedy(&hints))),
            all => {
                let shown = first_of(all, MAX_MISSING);
                let reason = format!("{} unsupported imports: {shown}", all.len());
                Err(Refusal::new(reason, remedy(&hints)))
            }
        }
    }

    /// Checks that the module exports `poll`, that the exported functions of the contract have the
    /// right types, and that `save` and `restore` are exported together. Also checks that the
    /// module exports a memory, if one of its imports takes a pointer.
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
                    "this export must be a function () -> ()",
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
        self.types.get(index as usize).ok_or_else(|| {
            Refusal::new(
                "a type index is out of range",
                "the file may be incomplete: copy the whole file",
            )
        })
    }

    fn report(&self) -> ModuleReport {
        let newer = |(_, name, _): &(String, String, TypeRef)| {
            offer::VERSION_1.iter().any(|offer| offer.name == name)
        };
        let known = ["_initialize", "init", "memory", "poll", "restore", "save"];
        ModuleReport {
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

/// Whether a module that imports this offered function must export its memory, because the function
/// takes a pointer.
fn takes_pointer(module: &str, name: &str) -> bool {
    const NO_POINTER: &[&str] = &[
        "emscripten_notify_memory_growth",
        "wasm_point_write_boolean",
        "wasm_point_write_double",
        "wasm_point_write_int",
        "proc_exit",
        "sched_yield",
    ];
    // `abort` takes pointers to its messages, but a module without a memory may import `abort` too.
    // The host then reports the abort without a message.
    !(NO_POINTER.contains(&name) || module == ENV && name == "abort")
}
