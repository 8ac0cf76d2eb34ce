//! Tests of files that the daemon refuses to run, because they are no valid modules or break a
//! limit.
//!
//! Each refusal must have a reason and a remedy, and must not disturb the log. Modules that were
//! damaged in a copy are tested in `refuse/damage.rs`. `refuse/forge.rs` builds modules that no
//! compiler makes.

mod damage;
mod forge;

use camshaft::plugin::module::compile::Artifact;
use camshaft::plugin::{Limits, ModuleHash, Refusal};

use crate::rig::{block_on, compile_service, wat};

fn compiled(bytes: Vec<u8>) -> Result<Artifact, Refusal> {
    block_on(compile_service(Limits::default()).artifact(ModuleHash::of(&bytes), bytes.into()))
}

/// A file that must be refused with these words.
fn check(bytes: impl Into<Vec<u8>>, reason: &str, remedy: &str) {
    let refusal = compiled(bytes.into()).expect_err(reason);
    assert_eq!((refusal.reason.as_str(), refusal.remedy.as_str()), (reason, remedy));
}

/// A module made of these fields and a good `poll`.
fn with_poll(fields: &str) -> Vec<u8> {
    wat(&format!("(module {fields} (func (export \"poll\")))"))
}

#[test]
fn what_is_no_module_is_named() {
    let copy = "replace the file by a core WebAssembly module";
    check("", "the file is empty", copy);
    check("\x7fELF\x02\x01\x01", "it is an ELF file, not a WebAssembly module", copy);
    let translate = "translate it with `wat2wasm FILE` and copy the result";
    check("\n (module (func))", "it is WebAssembly text", translate);
    check(";; a blinker\n(module)", "it is WebAssembly text", translate);
    let core = "build a core module, for example without the step `wasm-tools component`";
    check(wat("(component)"), "it is a WebAssembly component", core);
    check("\0asm\x02\0\0\0", "its WebAssembly version is not 1", copy);
    check("\0asm\x01", "the file is cut off within its header", copy);
    check("PK\x03\x04", "it is a zip archive, not a WebAssembly module", copy);
    check("\n<!DOCTYPE html>", "it is a web page, not a WebAssembly module", copy);
    // Its bytes are nobody's business: the file may be a link to one that only the daemon reads.
    let start = "it does not start with \\0asm, as every WebAssembly module does";
    check("root:$6$salt", start, copy);
    let large = vec![0; (16 << 20) + 1];
    check(
        large,
        "it has 16777217 bytes",
        "the limit is 16777216 (plugins.module in the configuration)",
    );
}

#[test]
fn imports_are_compared_with_what_is_offered() {
    let refusal = compiled(with_poll(r#"(import "env" "foo" (func (param i32)))"#)).unwrap_err();
    assert_eq!(refusal.reason, "unsupported import: env.foo (i32) -> ()");
    let all = "the host offers the functions of `camshaft.h` and of WASI preview 1";
    assert_eq!(refusal.remedy, all);
    let function = |module: &str, name: &str, ty: &str| {
        format!("(import \"{module}\" \"{name}\" (func {ty}))")
    };
    check(
        with_poll(&function("env", "wasm_log", "(param i32 f64) (result i32)")),
        "unsupported import: env.wasm_log (i32, f64) -> i32",
        "the host offers this function as (i32, i32, i32, i32, i32, i32) -> i32",
    );
    check(
        with_poll(&function("wasi_snapshot_preview1", "proc_exit", "(param i32) (result i32)")),
        "unsupported import: wasi_snapshot_preview1.proc_exit (i32) -> i32",
        "the host offers this function as (i32) -> ()",
    );
    let refusal = compiled(with_poll(&function("wasi_unstable", "fd_write", ""))).unwrap_err();
    assert_eq!(refusal.reason, "unsupported import: wasi_unstable.fd_write () -> ()");
    let near = "did you mean wasi_snapshot_preview1.fd_write (i32, i32, i32, i32) -> i32?";
    assert_eq!(refusal.remedy, near);
    // All that is missing is told at once, and what is near to each.
    let many: String = [
        function("env", "wasm_logg", "(param i32)"),
        function("env", "wasm_cycle", ""),
        function("gojs", "runtime.ticks", ""),
    ]
    .concat();
    let refusal = compiled(with_poll(&many)).unwrap_err();
    let reason = "3 unsupported imports: env.wasm_logg (i32) -> (), env.wasm_cycle () -> (), \
                  gojs.runtime.ticks () -> ()";
    assert_eq!(refusal.reason, reason);
    let near = "for env.wasm_logg, did you mean env.wasm_log (i32, i32, i32, i32, i32, i32) -> \
                i32?; the host offers env.wasm_cycle as (i32, i32) -> i32";
    assert_eq!(refusal.remedy, format!("{near}; {all}"));
    // A memory hid every function.
    let memory = "(import \"env\" \"memory\" (memory 1))";
    let both = [memory, &function("env", "wasm_logg", "(param i32)"), &function("x", "f", "")];
    let refusal = compiled(with_poll(&both.concat())).unwrap_err();
    let reason = "3 unsupported imports: a memory as env.memory, env.wasm_logg (i32) -> (), \
                  x.f () -> ()";
    assert_eq!(refusal.reason, reason);
    let remedy = "only functions can be imported, and env.memory is not a function: define and \
                  export your own memory; for env.wasm_logg, did you mean ";
    assert!(refusal.remedy.starts_with(remedy) && refusal.remedy.ends_with(all), "{refusal}");
    let many: String = (0..30).map(|n| function("x", &format!("f{n}"), "")).collect();
    let refusal = compiled(with_poll(&many)).unwrap_err();
    assert!(refusal.reason.ends_with("x.f7 () -> () and 22 more"), "{}", refusal.reason);
    let growth = function("env", "emscripten_notify_memory_growth", "(param i32)");
    assert!(compiled(with_poll(&growth)).is_ok());
    let own = "only functions can be imported; define and export your own memory";
    for (what, ty) in
        [("a memory", "memory 1"), ("a global", "global i32"), ("a table", "table 1 funcref")]
    {
        let text = format!("(import \"env\" \"x\" ({ty}))");
        check(with_poll(&text), &format!("unsupported import: {what} as env.x"), own);
    }
}

#[test]
fn exports_must_be_there_and_right() {
    let poll = "export a function poll: () -> (); it is called once a cycle";
    check("\0asm\x01\0\0\0", "it does not export `poll`", poll);
    check(wat("(module (func (export \"Poll\")))"), "it does not export `poll`", poll);
    let function = "this export must be a function () -> ()";
    let exports = |text: &str| wat(&format!("(module {text})"));
    let parameters = exports("(func (export \"poll\") (param i32 i64))");
    check(parameters, "its export `poll` is (i32, i64) -> ()", function);
    let result = exports("(func (export \"poll\") (result f32) unreachable)");
    check(result, "its export `poll` is () -> f32", function);
    let global = exports("(global (export \"poll\") i32 (i32.const 0))");
    check(global, "its export `poll` is not a function", function);
    for name in ["init", "_initialize", "save", "restore"] {
        let text = format!("(func (export \"{name}\") (param i32))");
        check(with_poll(&text), &format!("its export `{name}` is (i32) -> ()"), function);
    }
    for name in ["save", "restore"] {
        let text = format!("(func (export \"{name}\"))");
        let reason = "it exports only one of `save` and `restore`";
        check(with_poll(&text), reason, "export both or neither");
    }
    let import = "(import \"env\" \"wasm_cycle\" (func (param i32 i32) (result i32)))";
    for memory in ["", "(memory 1)", "(memory (export \"mem\") 1)", "(func (export \"memory\"))"] {
        check(
            with_poll(&format!("{import} {memory}")),
            "it imports env.wasm_cycle, which takes a pointer, but exports no memory",
            "export the memory under the name `memory`",
        );
    }
}

#[test]
fn features_that_are_not_there_are_named() {
    let remedy = "this host runs WebAssembly 2.0 with one 32-bit memory: build without threads, \
                  tail calls, exceptions and GC, and copy the whole file";
    let check_feature = |fields: &str, words: &str| {
        let refusal = compiled(with_poll(fields)).expect_err(fields);
        let start = format!("it is not a valid module: {words} (at offset 0x");
        assert!(refusal.reason.starts_with(&start), "{}", refusal.reason);
        assert_eq!(refusal.remedy, remedy);
    };
    let atomic = "(memory 1) (func (drop (i32.atomic.load (i32.const 0))))";
    check_feature(atomic, "threads support is not enabled");
    check_feature("(type (struct (field i32)))", "gc proposal not supported");
    check_feature("(func (param anyref))", "heap types not supported without the gc feature");
    check_feature("(tag)", "exceptions proposal not enabled");
    check_feature("(import \"env\" \"t\" (tag))", "exceptions proposal not enabled");
    let legacy = "legacy_exceptions feature required for try instruction";
    check_feature("(func try catch_all end)", legacy);
    check_feature("(func $f (return_call $f))", "tail calls support is not enabled");
    check_feature("(table i64 1 funcref)", "memory64 must be enabled for 64-bit tables");
    let ordinary = "only one memory is supported, with 32-bit addresses and not shared";
    check(with_poll("(memory i64 1)"), "it uses memory64", ordinary);
    check(with_poll("(memory 1 1 shared)"), "it uses threads (a shared memory)", ordinary);
    check(with_poll("(memory 1) (memory 1)"), "it has more than one memory", ordinary);
    let type_error = "type mismatch: values remaining on stack at end of block";
    let refusal = compiled(forge::poll(&[0x41, 0])).unwrap_err();
    assert_eq!(refusal.reason, format!("it is not a valid module: {type_error} (at offset 0x29)"));
}

/// What is allowed is compiled; what is refused is one more, or far more.
fn check_limit(name: &str, good: Vec<u8>, bad: Vec<u8>, reason: &str, remedy: &str) {
    if let Err(refusal) = compiled(good) {
        panic!("{name} at the limit: {refusal}");
    }
    check(bad, reason, remedy);
}

#[test]
fn nothing_in_a_module_is_without_a_limit() {
    let limit = "the limit is 20000 (fixed)";
    let of = |limit: u32, key: &str| {
        format!("the limit is {limit} (plugins.{key} in the configuration)")
    };
    let empty = [0, 0x0b];
    let (good, bad) = (forge::functions(20_000, &empty), forge::functions(1_000_000, &empty));
    check_limit("functions", good, bad, "it has 1000000 functions", &of(20_000, "functions"));
    let (good, bad) = (forge::many_types(20_000), forge::many_types(20_001));
    check_limit("types", good, bad, "it has 20001 types", limit);
    let (good, bad) = (forge::imports(20_000), forge::imports(150_000));
    check_limit("imports", good, bad, "it has 150000 imports", limit);
    let (good, bad) = (forge::exports(20_000), forge::exports(900_000));
    check_limit("exports", good, bad, "it has 900000 exports", limit);
    let (good, bad) = (forge::globals(20_000), forge::globals(20_001));
    check_limit("globals", good, bad, "it has 20001 globals", limit);
    let (good, bad) = (forge::segments(100_000), forge::segments(150_000));
    check_limit(
        "segments",
        good,
        bad,
        "it has 150000 data segments",
        "the limit is 100000 (fixed)",
    );
    let (good, bad) = (forge::customs(20_000), forge::customs(500_000));
    check_limit("customs", good, bad, "it has 20001 custom sections", limit);
    let (good, bad) = (forge::names(40_000), forge::names(2_500_000));
    let remedy = "the limit is 40000 (20000 more than plugins.functions); remove the name section";
    check_limit("names", good, bad, "its name section has 2500000 names of functions", remedy);
    let (good, bad) = (forge::elements(10_000), forge::elements(5_000_000));
    check_limit("elements", good, bad, "it has 5000000 elements in segments", &of(10_000, "table"));
    let table = |n: u32| with_poll(&format!("(table {n} funcref) (table 4000 funcref)"));
    check_limit(
        "tables",
        table(6000),
        table(6001),
        "it has 10001 table elements",
        &of(10_000, "table"),
    );
    let memory = |pages: u32| with_poll(&format!("(memory {pages})"));
    let reason = "it has 16842752 bytes of memory at the start";
    check_limit("memory", memory(256), memory(257), reason, &of(16 << 20, "memory"));
}

#[test]
fn no_function_is_without_a_limit() {
    let (good, bad) = (forge::poll(&[1; 1_000_000]), forge::poll(&vec![1; 7 << 20]));
    let reason = "the function at offset 0x2c has 7340034 bytes";
    check_limit("body", good, bad, reason, "the limit is 1 MiB (fixed); split the function");
    let (good, bad) = (forge::locals(10_000), forge::locals(50_000));
    let reason = "the function at offset 0x26 has 50000 locals";
    check_limit("locals", good, bad, reason, "the limit is 10000 (fixed)");
    let reason = "the function at offset 0x26 has 4294967295 locals";
    check(forge::locals(u32::MAX), reason, "the limit is 10000 (fixed)");
    let (good, bad) = (forge::nested(1000), forge::nested(100_000));
    let reason = "the function at offset 0x2a nests more than 1000 blocks";
    check_limit("nesting", good, bad, reason, "the limit is 1000 (fixed)");
}

#[test]
fn what_a_module_calls_things_cannot_disturb_the_log() {
    let name = format!("two\\0alines\\1b[31m{}", "x".repeat(5000));
    let refusal = compiled(with_poll(&format!("(import \"env\" \"{name}\" (func))"))).unwrap_err();
    assert!(
        refusal.reason.starts_with("unsupported import: env.two\\nlines\\u{1b}[31mxxx"),
        "{}",
        refusal.reason
    );
    assert!(refusal.reason.len() < 600 && refusal.reason.ends_with("x…"), "{}", refusal.reason);
}
