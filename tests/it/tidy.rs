//! The rules of the house as a test: floors, headers, sizes, unsafe code, who names which library.
//!
//! Each rule is a function from a file's path and text to findings, and is itself tested with text
//! that breaks it. Rules look at words and braces only; the compiler and clippy do the rest. What a
//! rule has to let pass stands in a list here, with its reason.

use std::fs;
use std::path::Path;

/// Every module below `src/` with its floor. A module uses lower floors only; those on one floor do
/// not know each other.
const FLOORS: [(&str, u8); 21] = [
    ("main", 7),
    ("cli", 7),
    ("daemon", 6),
    ("control", 5),
    ("recipe", 5),
    ("crash", 5),
    ("config", 4),
    ("supervisor", 3),
    ("scan", 2),
    ("driver", 1),
    ("plugin", 1),
    ("log", 1),
    ("retain", 1),
    ("image", 0),
    ("variable", 0),
    ("clock", 0),
    ("latest", 0),
    ("journal", 0),
    ("systemd", 0),
    ("text", 0),
    ("state", 0),
];

/// Neighbours that know each other nevertheless.
const NEIGHBOURS: [(&str, &str); 2] = [
    // A variable's value can be shown and given as a point's.
    ("variable", "image"),
    // `main` is the other half of the command line.
    ("main", "cli"),
];

/// Files that may contain unsafe code.
const UNSAFE: [&str; 3] = ["src/plugin/stop.rs", "src/plugin/stop/proof.rs", "src/plugin/wasm.rs"];

/// Files that may name wasmer: to run modules, to compile them, and to check them.
const WASMER: [&str; 14] = [
    "src/plugin/bind.rs",
    "src/plugin/bulk.rs",
    "src/plugin/flag.rs",
    "src/plugin/cache.rs",
    "src/plugin/check.rs",
    "src/plugin/checkpoint.rs",
    "src/plugin/compile.rs",
    "src/plugin/record.rs",
    "src/plugin/replay.rs",
    "src/plugin/size.rs",
    "src/plugin/stop.rs",
    "src/plugin/tables.rs",
    "src/plugin/trap.rs",
    "src/plugin/wasm.rs",
];

/// Names that say nothing.
const EMPTY_NAMES: [&str; 9] =
    ["util", "utils", "common", "types", "helper", "helpers", "manager", "core", "misc"];

const MAX_COLUMNS: usize = 100;
const MAX_FILE_LINES: usize = 400;
const MAX_FUNCTION_LINES: usize = 70;
const MAX_CYCLE_LINES: usize = 10;
/// So many lines say what a file is for, what it does not do and where to look next.
const HEADER_LINES: std::ops::RangeInclusive<usize> = 3..=40;
/// A file of tests alone has said what it is for in its name.
const TEST_HEADER_LINES: std::ops::RangeInclusive<usize> = 1..=40;
/// The invariants of the design.
const INVARIANTS: usize = 10;

type Rule = fn(&str, &str) -> Vec<String>;

/// All rules. The first argument is the path from the root of the repository.
const RULES: [Rule; 9] =
    [floors, header, columns, file_size, function_size, unsafe_code, libraries, file_name, map];

#[test]
fn the_house_is_tidy() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    collect(&root.join("src"), &mut files);
    assert!(files.len() > 50, "{} files only", files.len());
    let mut findings = Vec::new();
    for file in &files {
        let text = fs::read_to_string(file).unwrap();
        let path = file.strip_prefix(root).unwrap().to_str().unwrap();
        for finding in RULES.iter().flat_map(|rule| rule(path, &text)) {
            findings.push(format!("{path}:{finding}"));
        }
    }
    assert!(findings.is_empty(), "{} findings\n{}", findings.len(), findings.join("\n"));
}

fn collect(folder: &Path, files: &mut Vec<std::path::PathBuf>) {
    let mut entries: Vec<_> = fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

/// The names of the modules that a file lies in: `src/plugin/folder/disk.rs` is in `plugin::folder`
/// and is `plugin::folder::disk`.
fn modules(path: &str) -> Vec<&str> {
    let path = path.strip_prefix("src/").unwrap_or(path);
    let path = path.strip_suffix(".rs").unwrap_or(path);
    path.strip_suffix("/mod").unwrap_or(path).split('/').collect()
}

fn floor(module: &str) -> Option<u8> {
    FLOORS.iter().find(|(name, _)| *name == module).map(|(_, floor)| *floor)
}

fn floors(path: &str, text: &str) -> Vec<String> {
    let modules = modules(path);
    let own = modules[0];
    if own == "lib" {
        return Vec::new(); // it knows all of them, and has no code
    }
    let Some(own_floor) = floor(own) else {
        return vec![format!("1: `{own}` has no floor; give it one in tests/it/tidy.rs")];
    };
    let mut findings = Vec::new();
    let library = if own == "main" { "camshaft::" } else { "crate::" };
    for (n, line) in uses(text, library) {
        for used in line {
            let knows = NEIGHBOURS.contains(&(own, &used)) || used == own;
            match floor(&used) {
                None => findings.push(format!("{n}: crate::{used} has no floor")),
                Some(floor) if floor >= own_floor && !knows => findings.push(format!(
                    "{n}: `{own}` (floor {own_floor}) must not know `{used}` (floor {floor})"
                )),
                Some(_) => {}
            }
        }
    }
    let tests = test_lines(text);
    for (n, line) in scrubbed(text).lines().enumerate() {
        let allowed = modules.len() - 1 + usize::from(tests[n]);
        if line.contains(&"super::".repeat(allowed + 1)) {
            findings.push(format!("{}: leaves `{own}` through `super`; say `crate`", n + 1));
        }
    }
    findings
}

/// The modules that follow `prefix`, which means this library, in comments too, by line.
fn uses(text: &str, prefix: &str) -> impl Iterator<Item = (usize, Vec<String>)> {
    let is_name = |c: char| c.is_ascii_lowercase() || c == '_';
    let name = move |text: &str| text.chars().take_while(|c| is_name(*c)).collect::<String>();
    let mut all = Vec::new();
    for (at, _) in text.match_indices(prefix) {
        if text[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_') {
            continue;
        }
        let line = text[..at].lines().count().max(1);
        let rest = &text[at + prefix.len()..];
        let Some(group) = rest.strip_prefix('{') else {
            all.push((line, vec![name(rest)]));
            continue;
        };
        // The names right behind the braces and commas of this depth.
        let (mut depth, mut names, mut expects) = (1, Vec::new(), true);
        for (at, c) in group.char_indices() {
            match c {
                '{' => depth += 1,
                '}' => depth -= 1,
                ',' if depth == 1 => expects = true,
                c if expects && is_name(c) => {
                    names.push(name(&group[at..]));
                    expects = false;
                }
                _ => {}
            }
            if depth == 0 {
                break;
            }
        }
        all.push((line, names));
    }
    all.into_iter()
}

fn header(path: &str, text: &str) -> Vec<String> {
    let lines = text.lines().take_while(|line| line.starts_with("//!")).count();
    // The map of the house is as long as the house is large.
    let is_map = text.contains("\n//! # Floors\n");
    let wanted = if modules(path).contains(&"tests") { TEST_HEADER_LINES } else { HEADER_LINES };
    if wanted.contains(&lines) || (is_map && lines > *wanted.end()) {
        return Vec::new();
    }
    vec![format!("1: its header has {lines} lines; {wanted:?} are wanted")]
}

fn columns(_: &str, text: &str) -> Vec<String> {
    let long = |(n, line): (usize, &str)| {
        let columns = line.chars().count();
        (columns > MAX_COLUMNS).then(|| format!("{}: {columns} columns", n + 1))
    };
    text.lines().enumerate().filter_map(long).collect()
}

fn file_size(path: &str, text: &str) -> Vec<String> {
    if modules(path).contains(&"tests") {
        return Vec::new();
    }
    let lines = test_lines(text).into_iter().filter(|is_test| !is_test).count();
    match lines > MAX_FILE_LINES {
        true => vec![format!("1: {lines} lines without tests; {MAX_FILE_LINES} are allowed")],
        false => Vec::new(),
    }
}

fn function_size(path: &str, text: &str) -> Vec<String> {
    let mut findings = Vec::new();
    for function in functions(text) {
        let Function { name, line, lines } = function;
        let is_cycle = path == "src/scan/mod.rs" && name == "cycle";
        let most = if is_cycle { MAX_CYCLE_LINES } else { MAX_FUNCTION_LINES };
        if lines > most {
            findings.push(format!("{line}: `{name}` has {lines} lines; {most} are allowed"));
        }
    }
    findings
}

fn unsafe_code(path: &str, text: &str) -> Vec<String> {
    let scrubbed = scrubbed(text);
    let original: Vec<&str> = text.lines().collect();
    let mut findings = Vec::new();
    for (n, line) in scrubbed.lines().enumerate() {
        let Some(rest) = after_word(line, "unsafe") else {
            if line.contains("allow(unsafe_code") && !UNSAFE.contains(&path) {
                findings.push(format!("{}: unsafe code is not allowed here", n + 1));
            }
            continue;
        };
        if !UNSAFE.contains(&path) {
            findings.push(format!("{}: unsafe code is not allowed here", n + 1));
        }
        // The body of an `unsafe fn` has blocks of its own.
        let is_declaration = rest.trim_start().starts_with("fn ");
        let above = original[..n].iter().rev().map(|line| line.trim_start());
        let mut comment = above.take_while(|line| line.starts_with("//"));
        if !is_declaration && !comment.any(|line| line.starts_with("// SAFETY: ")) {
            findings.push(format!("{}: unsafe without a SAFETY comment above it", n + 1));
        }
    }
    findings
}

fn libraries(path: &str, text: &str) -> Vec<String> {
    let scrubbed = scrubbed(text);
    let mut findings = Vec::new();
    for (n, line) in scrubbed.lines().enumerate() {
        if after_word(line, "wasmer").is_some() && !WASMER.contains(&path) {
            findings.push(format!("{}: names wasmer", n + 1));
        }
        let names_notify =
            after_word(line, "notify").is_some_and(|r| r.starts_with("::") || line.contains("use"));
        if names_notify && !path.starts_with("src/plugin/folder") {
            findings.push(format!("{}: names notify", n + 1));
        }
    }
    findings
}

fn file_name(path: &str, _: &str) -> Vec<String> {
    let empty = modules(path).into_iter().find(|name| EMPTY_NAMES.contains(name));
    empty.map(|name| format!("1: the name `{name}` says nothing")).into_iter().collect()
}

/// The map lists the invariants, and every module with its floor.
fn map(path: &str, text: &str) -> Vec<String> {
    if path != "src/lib.rs" {
        return Vec::new();
    }
    let mut findings = Vec::new();
    let (_, invariants) = text.split_once("//! # Invariants\n").unwrap_or_default();
    let invariants = invariants.split("\n//! # ").next().unwrap_or_default();
    for n in 1..=INVARIANTS {
        let start = format!("//! {n}. ");
        if !invariants.lines().any(|line| line.starts_with(&start)) {
            findings.push(format!("1: invariant {n} is missing"));
        }
    }
    for (module, floor) in FLOORS {
        let mut rows = text.lines().filter(|line| line.starts_with(&format!("//! | {floor} |")));
        if !rows.any(|row| row.contains(&format!("`{module}`"))) {
            findings.push(format!("1: `{module}` is not on floor {floor} of the map"));
        }
    }
    findings
}

/// What follows `word` in `line`, if it stands there as a word of its own.
fn after_word<'a>(line: &'a str, word: &str) -> Option<&'a str> {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word).find_map(|(at, _)| {
        let rest = &line[at + word.len()..];
        (!line[..at].ends_with(is_part) && !rest.starts_with(is_part)).then_some(rest)
    })
}

/// The text with comments, strings and characters blanked out; lines stay where they are.
fn scrubbed(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let end = at + literal(&bytes[at..], at.checked_sub(1).map(|before| bytes[before]));
        for byte in &mut out[at..end] {
            if *byte != b'\n' {
                *byte = b' ';
            }
        }
        at = end.max(at + 1);
    }
    String::from_utf8(out).expect("whole comments and literals were replaced")
}

/// How many bytes of comment, string or character `rest` begins with.
fn literal(rest: &[u8], before: Option<u8>) -> usize {
    let find = |needle: &[u8], from: usize| {
        let found = rest[from..].windows(needle.len()).position(|window| window == needle);
        found.map_or(rest.len(), |found| from + found)
    };
    let is_inside_a_word = before.is_some_and(|b| b.is_ascii_alphanumeric() || b == b'_');
    match rest {
        [b'/', b'/', ..] => find(b"\n", 0),
        [b'/', b'*', ..] => (find(b"*/", 2) + 2).min(rest.len()),
        [b'r', b'"' | b'#', ..] if !is_inside_a_word => {
            let hashes = rest[1..].iter().take_while(|byte| **byte == b'#').count();
            if rest.get(1 + hashes) != Some(&b'"') {
                return 0; // a raw identifier
            }
            let end = [b"\"".as_slice(), &rest[1..=hashes]].concat();
            (find(&end, 2 + hashes) + end.len()).min(rest.len())
        }
        [b'"', ..] => quoted(rest, b'"'),
        // Anything else with one quote is a lifetime.
        [b'\'', b'\\', ..] => quoted(rest, b'\''),
        [b'\'', _, b'\'', ..] => 3,
        [b'\'', first, ..] if !first.is_ascii() => quoted(rest, b'\''),
        _ => 0,
    }
}

/// The length of a literal up to its closing quote.
fn quoted(rest: &[u8], quote: u8) -> usize {
    let mut at = 1;
    while at < rest.len() && rest[at] != quote {
        at += if rest[at] == b'\\' { 2 } else { 1 };
    }
    (at + 1).min(rest.len())
}

struct Function {
    name: String,
    /// Where it begins, counted from 1.
    line: usize,
    /// From there to its closing brace.
    lines: usize,
}

/// Every function with a body.
fn functions(text: &str) -> Vec<Function> {
    let scrubbed = scrubbed(text);
    let mut found = Vec::new();
    for (at, _) in scrubbed.match_indices("fn ") {
        let rest = &scrubbed[at + 3..];
        let name: String = rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        let is_word = !scrubbed[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_');
        // A declaration ends before any body begins. An array type has a semicolon, in brackets.
        let mut brackets = 0;
        let body = rest.find(|c: char| {
            brackets += i32::from(c == '[') - i32::from(c == ']');
            c == '{' || (c == ';' && brackets == 0)
        });
        let Some(body) = body.filter(|body| rest[*body..].starts_with('{')) else { continue };
        if !is_word || name.is_empty() {
            continue;
        }
        let end = body + block(&rest[body..]);
        let line = scrubbed[..at].matches('\n').count() + 1;
        found.push(Function { name, line, lines: rest[..end].matches('\n').count() + 1 });
    }
    found
}

/// The length of the block in braces that `text` begins with.
fn block(text: &str) -> usize {
    let mut depth = 0;
    for (at, c) in text.char_indices() {
        depth += i32::from(c == '{') - i32::from(c == '}');
        if depth == 0 {
            return at + 1;
        }
    }
    text.len()
}

/// For each line, whether it belongs to a test module.
fn test_lines(text: &str) -> Vec<bool> {
    let scrubbed = scrubbed(text);
    let mut tests = vec![false; text.lines().count()];
    for (at, _) in scrubbed.match_indices("#[cfg(test)]\n") {
        let rest = &scrubbed[at..];
        let Some(end) = rest.find(['{', ';']) else { continue };
        let length = if rest[end..].starts_with('{') { end + block(&rest[end..]) } else { end };
        let first = scrubbed[..at].matches('\n').count();
        let last = first + rest[..length].matches('\n').count();
        tests[first..=last].fill(true);
    }
    tests
}

#[test]
fn every_rule_finds_what_breaks_it() {
    // The findings of one rule in one text, all of which must be there.
    let check = |rule: Rule, path: &str, text: &str, expected: &[&str]| {
        let found = rule(path, text);
        assert_eq!(found.len(), expected.len(), "{path}: {text}\n{found:?}");
        for (found, expected) in found.iter().zip(expected) {
            assert!(found.contains(expected), "{found} lacks {expected}");
        }
    };
    let code = "src/scan/mod.rs";

    check(floors, code, "use crate::plugin::Trap;\nuse crate::scan::Order;", &[]);
    check(floors, code, "\nuse crate::supervisor;", &["2: `scan` (floor 2) must not know"]);
    check(floors, code, "/// See [`crate::daemon::run`].", &["`daemon`"]);
    check(
        floors,
        code,
        "use crate::{image::{Point, Kind}, config::{self, Config}};",
        &["`config`"],
    );
    check(floors, "src/driver/sim.rs", "use crate::plugin::Trap;", &["`plugin` (floor 1)"]);
    check(floors, "src/recipe.rs", "use crate::control::View;", &["`control` (floor 5)"]);
    check(floors, "src/image.rs", "use crate::variable::Variable;", &["`variable` (floor 0)"]);
    check(floors, "src/main.rs", "fn main() { camshaft::cli::run() }", &[]);
    check(floors, "src/attic.rs", "", &["`attic` has no floor"]);
    check(floors, code, "use crate::attic::Box;", &["crate::attic has no floor"]);
    check(floors, "src/plugin/abi.rs", "use super::super::image;", &["leaves `plugin`"]);
    check(floors, "src/plugin/abi.rs", "use super::guest;", &[]);
    let test = "#[cfg(test)]\nmod tests {\n    use super::super::guest;\n}\n";
    check(floors, "src/plugin/abi.rs", test, &[]);

    check(header, code, "//! One\n//! two\n//! three\n", &[]);
    check(header, code, "//! One\n//! two\nuse x;\n", &["has 2 lines"]);
    check(header, code, "use x;\n//! One\n//! two\n//! three\n", &["has 0 lines"]);
    check(header, code, &"//! more\n".repeat(41), &["has 41 lines"]);
    check(header, "src/config/tests.rs", "//! One.\n", &[]);
    check(header, "src/config/tests.rs", "use x;\n", &["has 0 lines"]);

    check(columns, code, &format!("{}\n//{}", "ä".repeat(100), "x".repeat(99)), &["2: 101"]);

    check(file_size, code, &"x\n".repeat(400), &[]);
    check(file_size, code, &"x\n".repeat(401), &["401 lines"]);
    check(file_size, "src/config/tests.rs", &"x\n".repeat(401), &[]);
    let tests = "#[cfg(test)]\nmod tests {\n    const BRACE: char = '}';\n    fn x() {}\n}\n";
    check(file_size, code, &format!("{}{tests}", "x\n".repeat(400)), &[]);
    check(file_size, code, &format!("{tests}{}", "x\n".repeat(401)), &["401 lines"]);

    let long = |lines| format!("fn long(x: [u8; 4]) {{\n{}}}\n", "    \"}\"; // }\n".repeat(lines));
    check(function_size, "src/log.rs", &long(68), &[]);
    check(function_size, "src/log.rs", &long(69), &["1: `long` has 71 lines"]);
    check(function_size, code, &format!("\n{}", long(9)).replace("long", "cycle"), &["`cycle`"]);
    check(function_size, code, "trait T {\n    fn none(&self);\n    fn one(&self) {}\n}\n", &[]);

    let stop = "src/plugin/stop.rs";
    check(unsafe_code, stop, "// SAFETY: it is alive.\n// Really.\nlet x = unsafe { y };", &[]);
    check(unsafe_code, stop, "// It is alive.\nlet x = unsafe { y };", &["2: unsafe without"]);
    check(unsafe_code, stop, "\nunsafe impl Send for X {}", &["2: unsafe without"]);
    check(unsafe_code, stop, "unsafe fn x() {}", &[]);
    check(unsafe_code, code, "// SAFETY: it is alive.\nunsafe { y }", &["2: unsafe code is not"]);
    check(unsafe_code, code, "#![allow(unsafe_code)]", &["1: unsafe code is not"]);
    check(unsafe_code, code, "// unsafe\nlet unsafe_word = \"unsafe\";", &[]);

    check(libraries, code, "use wasmer::Store;", &["1: names wasmer"]);
    check(libraries, "src/plugin/wasm.rs", "use wasmer::Store;", &[]);
    check(libraries, code, "// as wasmer does\nlet x = \"wasmer\";", &[]);
    check(libraries, code, "use notify::Watcher;", &["1: names notify"]);
    check(libraries, code, "notify::recommended_watcher(x);", &["1: names notify"]);
    check(libraries, "src/plugin/folder/disk.rs", "use notify::Watcher;", &[]);
    check(libraries, code, "self.notify();", &[]);

    check(file_name, "src/plugin/helpers.rs", "", &["`helpers`"]);
    check(file_name, "src/common/mod.rs", "", &["`common`"]);
    check(file_name, code, "", &[]);
}

#[test]
fn the_map_must_name_every_invariant_and_every_module() {
    let rows = FLOORS.map(|(module, floor)| format!("//! | {floor} | [`{module}`] |\n")).concat();
    let invariants: String = (1..=INVARIANTS).map(|n| format!("//! {n}. It holds.\n")).collect();
    let good = format!("//! # Floors\n{rows}//!\n//! # Invariants\n{invariants}");
    assert_eq!(map("src/lib.rs", &good), [""; 0]);
    let bad = good.replace("//! 7. It holds.\n", "").replace("`latest`", "`earliest`");
    let expected = ["1: invariant 7 is missing", "1: `latest` is not on floor 0 of the map"];
    assert_eq!(map("src/lib.rs", &bad), expected);
}
