//! The list of hostile modules, each with the reaction that the daemon must show.
//!
//! A module that fails in a poll first writes 100 to the output `evil.mark`. The tests check that
//! this value never appears, because the writes of a failed poll must be dropped. The list also
//! contains the words that the operator must find in the log. `hostile.rs` runs these modules in a
//! daemon.

use camshaft::plugin::module::offer::{Offer, offers};

use crate::rig::wat;

/// What becomes of a module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It is not run at all.
    Refused,
    /// It is run, traps too often, and is run no more.
    Quarantined,
    /// It runs: whatever it does is bounded and hurts nobody.
    Runs,
}

/// One module.
pub struct Evil {
    pub name: String,
    pub bytes: Vec<u8>,
    pub fate: Fate,
    /// Words of the reason.
    pub words: Vec<&'static str>,
}

fn evil(name: &str, bytes: Vec<u8>, fate: Fate, words: &[&'static str]) -> Evil {
    Evil { name: name.into(), bytes, fate, words: words.to_vec() }
}

/// A module with `memory`, further `fields`, and a poll that marks and then runs `body`.
fn text(memory: &str, fields: &str, body: &str) -> String {
    format!(
        r#"(module
  (import "env" "wasm_write_output" (func $write (param i32 i32 i32) (result i32)))
  (import "env" "wasm_log" (func $log (param i32 i32 i32 i32 i32 i32) (result i32)))
  (import "env" "wasm_current_time" (func $time (param i32 i32) (result i32)))
  (import "env" "abort" (func $abort (param i32 i32 i32 i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") {memory})
  (data (i32.const 200) "flood")
  (global $n (mut i32) (i32.const 0))
  (func $mark (param i32)
    (i32.store (i32.const 0) (local.get 0))
    (drop (call $write (i32.const 24) (i32.const 0) (i32.const 4))))
  {fields}
  (func (export "poll")
    (global.set $n (i32.add (global.get $n) (i32.const 1)))
    {body}))"#
    )
}

/// Fails in a poll, by `body`.
fn poll(name: &str, memory: &str, fields: &str, body: &str, words: &[&'static str]) -> Evil {
    let body = format!("(call $mark (i32.const 100)) {body}");
    evil(name, wat(&text(memory, fields, &body)), Fate::Quarantined, words)
}

/// Fails before its first poll, by `fields`.
fn start(name: &str, memory: &str, fields: &str, words: &[&'static str]) -> Evil {
    evil(name, wat(&text(memory, fields, "")), Fate::Refused, words)
}

/// Runs, whatever it tries.
fn runs(name: &str, memory: &str, fields: &str, body: &str) -> Evil {
    evil(name, wat(&text(memory, fields, body)), Fate::Runs, &[])
}

const BUDGET: &[&str] = &["budget of 250us exceeded"];
const INIT: &[&str] = &["its start trapped: budget of", "exceeded", "plugins.init_budget"];

/// 100 000 log calls.
const FLOOD: &str = "(local.set $i (i32.const 100000))
  (loop $again
    (drop (call $log (i32.const 2) (i32.const 0) (i32.const 0) (i32.const 7)
                     (i32.const 200) (i32.const 5)))
    (br_if $again (local.tee $i (i32.sub (local.get $i) (i32.const 1)))))";

/// Everything that never returns.
pub fn endless() -> Vec<Evil> {
    let spin = "(loop (br 0))";
    let fill = |mib: u32| {
        format!("(loop (memory.fill (i32.const 0) (i32.const 1) (i32.const {})) (br 0))", mib << 20)
    };
    let table = "(type $f (func)) (table 1 1 funcref) (elem (i32.const 0) $self)
        (func $self (call_indirect (type $f) (i32.const 0)) (call_indirect (type $f) (i32.const 0)))";
    let flood = format!("(func $flood (local $i i32) {FLOOD})");
    let calls = "(loop (drop (call $time (i32.const 8) (i32.const 16))) (br 0))";
    let deep = "(func $deep (param i32) (result i32)
        (i32.add (i32.const 1) (call $deep (i32.add (local.get 0) (i32.const 1)))))";
    let tail = "(func $tail (return_call $tail))";
    vec![
        poll("loop-poll", "1", "", spin, BUDGET),
        start("loop-start", "1", &format!("(func $s {spin}) (start $s)"), INIT),
        start("loop-initialize", "1", &format!("(func (export \"_initialize\") {spin})"), INIT),
        start("loop-init", "1", &format!("(func (export \"init\") {spin})"), INIT),
        poll("fill-16m", "256", "", &fill(16), BUDGET),
        start("fill-init-16m", "256", &format!("(func (export \"init\") {})", fill(16)), INIT),
        poll("host-calls", "1", "", calls, BUDGET),
        poll("recursion", "1", deep, "(drop (call $deep (i32.const 0)))", &["stack overflow"]),
        poll("recursion-indirect", "1", table, "(call $self)", &["stack overflow"]),
        poll("memory-loop", "1", "", "(loop (drop (memory.grow (i32.const 1))) (br 0))", BUDGET),
        poll(
            "table-loop",
            "1",
            "(table $t 1 funcref)",
            "(loop (drop (table.grow $t (ref.null func) (i32.const 100))) (br 0))",
            BUDGET,
        ),
        poll("log-flood", "1", &flood, "(call $flood)", BUDGET),
        start("tail-calls", "1", tail, &["tail calls"]),
    ]
}

/// 64 MiB in one operation, for a host that allows as much memory.
pub fn large_fills() -> Vec<Evil> {
    let fill = "(loop (memory.fill (i32.const 0) (i32.const 1) (i32.const 67108864)) (br 0))";
    let copy = "(loop
        (memory.copy (i32.const 65536) (i32.const 0) (i32.const 67043328)) (br 0))";
    vec![
        poll("fill-64m", "1024", "", fill, BUDGET),
        poll("copy-64m", "1024", "", copy, BUDGET),
        start("fill-init-64m", "1024", &format!("(func (export \"init\") {fill})"), INIT),
    ]
}

/// Everything that traps of itself, or takes without end what is limited.
pub fn greedy() -> Vec<Evil> {
    let tenth = "(call $mark (i32.add (i32.const 90) (global.get $n)))
        (if (i32.eq (global.get $n) (i32.const 10)) (then (unreachable)))";
    let unreachable = text("1", "", tenth);
    let init_flood = format!("(func (export \"init\") (local $i i32) {FLOOD})");
    let a = "(func (export \"init\")
        (memory.fill (i32.const 1) (i32.const 97) (i32.const 16777215)))";
    let long = "(drop (call $log (i32.const 2) (i32.const 0) (i32.const 0) (i32.const 7)
                                 (i32.const 1) (i32.const 16777215)))
        (drop (call $log (i32.const 2) (i32.const 0) (i32.const 0) (i32.const 7)
                         (i32.const 0) (i32.const 16777216)))";
    let exit = "(call $exit (i32.const 3))";
    let abort = "(call $abort (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 2))";
    let divide = "(drop (i32.div_u (i32.const 1) (i32.sub (global.get $n) (global.get $n))))";
    let outside = "(drop (i32.load (i32.const 65536)))";
    let null = "(type $f (func)) (table 1 1 funcref)";
    let call_null = "(call_indirect (type $f) (i32.const 0))";
    vec![
        evil("unreachable-10th", wat(&unreachable), Fate::Quarantined, &["unreachable"]),
        poll("exit", "1", "", exit, &["proc_exit(3)"]),
        poll("abort", "1", "", abort, &["abort"]),
        poll("divide", "1", "", divide, &["divide by zero"]),
        poll("outside", "1", "", outside, &["out of bounds memory access"]),
        poll("call-null", "1", null, call_null, &["uninitialized element"]),
        runs("memory-grow", "1", "", "(drop (memory.grow (i32.const 8)))"),
        runs(
            "table-grow",
            "1",
            "(table $t 1 funcref)",
            "(drop (table.grow $t (ref.null func) (i32.const 1000)))",
        ),
        runs("log-init", "1", &init_flood, ""),
        runs("log-16m", "256", a, long),
        evil("pointers", pointers(), Fate::Runs, &[]),
    ]
}

/// Values that a careful program never passes.
const ODD: [u32; 10] = [0, 1, 7, 65_535, 65_536, 65_537, 0x7fff_ffff, 0x8000_0000, 0xffff_fff0, !0];

/// Calls every host function with odd arguments, one function in each poll. An answer that is
/// neither a code nor an error number traps.
fn pointers() -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(1);
    let (mut imports, mut tests, mut names) = (String::new(), String::new(), String::new());
    let returning: Vec<Offer> = offers().filter(|offer| offer.returns).collect();
    for (n, Offer { module, name, parameters, .. }) in returning.iter().enumerate() {
        let types: String = parameters.chars().map(|letter| format!("{} ", ty(letter))).collect();
        imports += &format!(
            "(import \"{module}\" \"{name}\" (func $f{n} (param {types}) (result i32)))\n"
        );
        tests += &format!("(func $t{n}\n");
        for round in 0..20 {
            let same = ODD.get(round).copied();
            let arguments: String = parameters
                .chars()
                .map(|letter| {
                    let odd = same.unwrap_or_else(|| ODD[random.usize(..ODD.len())]);
                    match letter {
                        'd' => format!("(f64.const {}) ", ["nan", "inf", "-1e308"][round % 3]),
                        _ => format!("({}.const {odd}) ", ty(letter)),
                    }
                })
                .collect();
            tests += &format!("  (call $see (call $f{n} {arguments}))\n");
        }
        tests += ")\n";
        names += &format!("$t{n} ");
    }
    let count = returning.len();
    wat(&format!(
        r#"(module
  {imports}
  (memory (export "memory") 1 1)
  (type $test (func))
  (table {count} {count} funcref)
  (elem (i32.const 0) {names})
  (global $n (mut i32) (i32.const 0))
  (func $see (param i32) (if (i32.gt_u (local.get 0) (i32.const 76)) (then (unreachable))))
  {tests}
  (func (export "poll")
    (call_indirect (type $test) (global.get $n))
    (global.set $n
      (i32.rem_u (i32.add (global.get $n) (i32.const 1)) (i32.const {count})))))"#
    ))
}

fn ty(letter: char) -> &'static str {
    match letter {
        'i' => "i32",
        'I' => "i64",
        'd' => "f64",
        other => panic!("{other} is no type of an offer"),
    }
}

/// What is no module of ours at all.
pub fn foreign() -> Vec<Evil> {
    let bad = |name: &str, text: &str, words: &[&'static str]| {
        evil(name, wat(text), Fate::Refused, words)
    };
    let poll = "(func (export \"poll\"))";
    let log = "(import \"env\" \"wasm_log\" (func (param i32 i32 i32 i32 i32 i32) (result i32)))";
    let with = |field: &str| format!("(module {field} {poll})");
    let mut all = vec![
        bad(
            "wrong-import",
            &with("(import \"env\" \"wasm_log\" (func (param i32)))"),
            &["env.wasm_log (i32) -> ()", "function as (i32, i32, i32, i32, i32, i32) -> i32"],
        ),
        bad(
            "unknown-import",
            &with("(import \"env\" \"foo\" (func (param i32)))"),
            &["env.foo (i32) -> ()", "the host offers the functions"],
        ),
        bad("other-module", &with("(import \"js\" \"now\" (func))"), &["js.now", "host offers"]),
        bad("import-memory", &with("(import \"env\" \"memory\" (memory 1))"), &["a memory as"]),
        bad("import-table", &with("(import \"env\" \"t\" (table 1 funcref))"), &["a table as"]),
        bad("import-global", &with("(import \"env\" \"g\" (global i32))"), &["a global as"]),
        bad("no-exports", "(module)", &["does not export `poll`"]),
        bad("poll-typed", "(module (func (export \"poll\") (param i32)))", &["`poll` is (i32)"]),
        bad(
            "poll-global",
            "(module (global (export \"poll\") i32 (i32.const 0)))",
            &["`poll` is not a function"],
        ),
        bad(
            "init-typed",
            &with("(func (export \"init\") (result i32) (i32.const 0))"),
            &["`init` is () -> i32"],
        ),
        bad("save-alone", &with("(func (export \"save\"))"), &["only one of `save` and `restore`"]),
        bad("memory-hidden", &with(&format!("{log} (memory 1)")), &["exports no memory"]),
        bad(
            "memory-table",
            &with(&format!("{log} (table (export \"memory\") 1 funcref)")),
            &["exports no memory"],
        ),
        bad("memory-large", &with("(memory 257)"), &["bytes of memory", "plugins.memory"]),
        bad("table-large", &with("(table 10001 funcref)"), &["table elements", "plugins.table"]),
        bad("memory64", &with("(memory i64 1)"), &["memory64"]),
        bad("threads", &with("(memory 1 1 shared)"), &["threads"]),
        bad("two-memories", &with("(memory 1) (memory 1)"), &["more than one memory"]),
        bad("gc", &with("(type (struct (field i32)))"), &["not a valid module", "GC"]),
        bad("exceptions", &with("(tag)"), &["not a valid module", "exceptions"]),
        bad("component", "(component)", &["component"]),
    ];
    let elf = std::fs::read(env!("CARGO_BIN_EXE_camshaft")).unwrap();
    let mut random = fastrand::Rng::with_seed(2);
    let noise: Vec<u8> = (0..4096).map(|_| random.u8(..)).collect();
    let raw = |name: &str, bytes: &[u8], words: &[&'static str]| {
        evil(name, bytes.to_vec(), Fate::Refused, words)
    };
    all.extend([
        raw("wat-text", with("").as_bytes(), &["WebAssembly text", "wat2wasm"]),
        raw("elf", &elf[..100_000], &["ELF"]),
        raw("empty", b"", &["empty"]),
        raw("noise", &noise, &["does not start with"]),
        raw("17-mib", &vec![0; 17 << 20], &["17825792 bytes", "raise the limit", "plugins.module"]),
    ]);
    all
}

/// Valid modules whose compilation would cost gigabytes or minutes.
pub fn monsters() -> Vec<Evil> {
    let million = binary(1_000_000, &[0x00, 0x0b]);
    let mut long = vec![0x00];
    long.extend(std::iter::repeat_n(0x01, 7_000_000));
    long.push(0x0b);
    let mut locals = vec![0x01];
    locals.extend(leb(50_000));
    locals.extend([0x7f, 0x0b]);
    let mut blocks = vec![0x00];
    blocks.extend(std::iter::repeat_n([0x02, 0x40], 100_000).flatten());
    blocks.extend(std::iter::repeat_n(0x0b, 100_001));
    let refused = |name: &str, bytes: Vec<u8>, words: &[&'static str]| {
        evil(name, bytes, Fate::Refused, words)
    };
    vec![
        refused("million-functions", million, &["1000000 functions", "limit is 20000"]),
        refused("long-function", binary(1, &long), &["has 7000002 bytes", "limit is 1 MiB"]),
        refused("many-locals", binary(1, &locals), &["50000 locals", "limit is 10000"]),
        refused("deep-blocks", binary(1, &blocks), &["nests more than 1000 blocks"]),
    ]
}

/// A module of `count` equal functions `() -> ()`, the first of which is `poll`.
pub fn binary(count: u32, body: &[u8]) -> Vec<u8> {
    let mut functions = leb(count);
    functions.extend(std::iter::repeat_n(0, count as usize));
    let mut code = leb(count);
    let entry = [leb(body.len() as u32), body.to_vec()].concat();
    (0..count).for_each(|_| code.extend(&entry));
    let mut module = b"\0asm\x01\0\0\0".to_vec();
    let sections: [(u8, &[u8]); 4] =
        [(1, &[1, 0x60, 0, 0]), (3, &functions), (7, b"\x01\x04poll\x00\x00"), (10, &code)];
    for (id, content) in sections {
        module.push(id);
        module.extend(leb(content.len() as u32));
        module.extend(content);
    }
    module
}

fn leb(mut number: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let low = (number & 0x7f) as u8;
        number >>= 7;
        bytes.push(if number == 0 { low } else { low | 0x80 });
        if number == 0 {
            return bytes;
        }
    }
}

/// A good module without names, whose one proper prefix that is valid ends before its data.
pub fn whole_and_prefix() -> (Vec<u8>, usize) {
    let text = |data: &str| {
        format!(
            r#"(module
  (import "env" "wasm_write_output" (func (param i32 i32 i32) (result i32)))
  (import "env" "wasm_cycle" (func (param i32 i32) (result i32)))
  (memory (export "memory") 1)
  (global (mut i32) (i32.const 0))
  (func (export "poll") (local i32)
    (drop (call 1 (i32.const 32) (i32.const 40)))
    (local.set 0 (i32.const 3))
    (loop (br_if 0 (local.tee 0 (i32.sub (local.get 0) (i32.const 1)))))
    (global.set 0 (i32.add (global.get 0) (i32.const 1)))
    (drop (call 0 (i32.const 28) (i32.const 32) (i32.const 4)))
    (drop (call 0 (i32.const 24) (i32.const 16) (i32.const 4))))
  {data})"#
        )
    };
    let whole = wat(&text("(data (i32.const 16) \"\\2a\\00\\00\\00\")"));
    let prefix = wat(&text(""));
    assert!(whole.starts_with(&prefix), "the data is the last section");
    (whole, prefix.len())
}
