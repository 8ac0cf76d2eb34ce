//! Tests of the rules for the source code: which module may use which other module, the size of
//! files and functions, headers, unsafe code, and which file may use which library.
//!
//! Each rule is a function from the path and the text of a file to a list of findings. Each rule is
//! itself tested with text that breaks it, in `tidy/broken.rs`. A rule looks only at words and
//! braces; the compiler and clippy check the rest. Exceptions to a rule are in lists in this file,
//! each with a reason.

use std::fs;
use std::path::{Path, PathBuf};

mod broken;
mod mention;
mod part;
mod source;
mod wall;
mod word;

use mention::strangers;
use part::parts;
use source::{Function, after_word, functions, scrubbed, test_lines};
use wall::{circles, rooms};
use word::words;

/// Every module below `src/` with its floor. A module uses lower floors only; those on one floor do
/// not know each other.
const FLOORS: [(&str, i8); 28] = [
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
    ("process", 0),
    // Short paths to two parts of `process`: src/lib.rs names them again.
    // The base.
    ("clock", -1),
    ("latest", -1),
    ("journal", -1),
    ("systemd", -1),
    ("text", -1),
    ("name", -1),
    ("logged", -1),
    ("stamp", -1),
    ("thread", -2),
    ("heap", -2),
    ("confine", -1),
    ("state", -1),
    ("file", -1),
    ("patience", -1),
];

/// Neighbours that know each other nevertheless.
const NEIGHBOURS: [(&str, &str); 2] = [
    // What lies in its folder may be anything.
    ("journal", "file"),
    // `main` is the other half of the command line.
    ("main", "cli"),
];

/// The rooms of modules that have some, with their floors. A room uses lower rooms only, and the
/// file of the module itself uses none.
const ROOMS: [(&str, &str, i8); 16] = [
    ("plugin", "replay", 3),
    ("plugin", "shadow", 3),
    ("plugin", "instance", 2),
    ("plugin", "trace", 1),
    ("plugin", "module", 0),
    ("daemon", "build", 5),
    ("daemon", "answer", 5),
    ("daemon", "reload", 4),
    ("daemon", "audit", 4),
    ("daemon", "view", 4),
    ("daemon", "stall", 4),
    ("daemon", "stop", 4),
    ("daemon", "service", 3),
    ("daemon", "field", 2),
    ("daemon", "plugins", 1),
    ("daemon", "link", 0),
];

/// Files that may contain unsafe code.
const UNSAFE: [&str; 4] = [
    "src/heap.rs",
    "src/plugin/instance/stop.rs",
    "src/plugin/instance/stop/proof.rs",
    "src/plugin/instance/wasm.rs",
];

/// Folders whose files may name wasmer: to check and compile modules, to run them, and to record
/// what they do.
const WASMER: [&str; 3] = ["src/plugin/module/", "src/plugin/instance/", "src/plugin/trace/"];

/// What may not name it there: the folder and the store of modules, and the host's side of a guest.
const WITHOUT_WASMER: [&str; 10] = [
    "src/plugin/module/folder",
    "src/plugin/module/offer",
    "src/plugin/module/versions",
    "src/plugin/instance/abi",
    "src/plugin/instance/guest",
    "src/plugin/instance/pace",
    "src/plugin/instance/program",
    "src/plugin/instance/rights",
    "src/plugin/instance/state",
    "src/plugin/instance/wasi",
];

/// The folders of the drivers. Only the list of drivers names them: a new driver is one folder and
/// one line there.
const DRIVERS: [&str; 5] = ["sim", "file", "gpio", "modbus", "mqtt"];

/// Files that name a driver nevertheless.
const NAMES_DRIVER: [(&str, &str); 1] = [
    // The verbs for a bus speak to a unit themselves, with what the driver speaks.
    ("src/cli/modbus", "modbus"),
];

/// Folders with the neighbours that they do not know.
const WALLS: [(&str, &[&str]); 3] = [
    // Both sides of Modbus know the wire; the wire knows no side, and no side the other.
    ("src/driver/modbus/wire", &["client", "server"]),
    ("src/driver/modbus/client", &["server"]),
    ("src/driver/modbus/server", &["client"]),
];

/// Names that say nothing.
const EMPTY_NAMES: [&str; 9] =
    ["util", "utils", "common", "types", "helper", "helpers", "manager", "core", "misc"];

const MAX_COLUMNS: usize = 100;
const MAX_FILE_LINES: usize = 400;
const MAX_FUNCTION_LINES: usize = 60;
const MAX_CYCLE_LINES: usize = 10;
/// So many lines say what a file is for, what it does not do and where to look next.
const HEADER_LINES: std::ops::RangeInclusive<usize> = 3..=40;
/// A file of tests alone has said what it is for in its name.
const TEST_HEADER_LINES: std::ops::RangeInclusive<usize> = 1..=40;
/// The invariants of the design that are kept, by their numbers there.
const INVARIANTS: [usize; 13] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13];

type Rule = fn(&str, &str) -> Vec<String>;

/// All rules. The first argument is the path from the root of the repository.
const RULES: [Rule; 14] = [
    floors,
    drivers,
    walls,
    header,
    columns,
    file_size,
    function_size,
    unsafe_code,
    libraries,
    file_name,
    map,
    words,
    rooms,
    parts,
];

#[test]
fn the_house_is_tidy() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    collect(&root.join("src"), &mut files);
    assert!(files.len() > 50, "{} files only", files.len());
    let text = |file: &PathBuf| fs::read_to_string(file).unwrap();
    let texts: Vec<_> = files.iter().map(text).collect();
    let path = |file: &PathBuf| file.strip_prefix(root).unwrap().to_str().unwrap().to_string();
    let paths: Vec<_> = files.iter().map(path).collect();
    let sources: Vec<_> =
        paths.iter().map(String::as_str).zip(texts.iter().map(String::as_str)).collect();
    let mut findings = circles(&sources);
    let is_there = |path: &str| root.join(path).exists();
    for (path, text) in sources {
        let of_rules = RULES.iter().flat_map(|rule| rule(path, text));
        for finding in of_rules.chain(strangers(path, text, &is_there)) {
            findings.push(format!("{path}:{finding}"));
        }
    }
    assert!(findings.is_empty(), "{} findings\n{}", findings.len(), findings.join("\n"));
}

#[test]
fn every_driver_has_an_example() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let files = fs::read_dir(root.join("config")).unwrap();
    let examples: Vec<_> =
        files.map(|file| fs::read_to_string(file.unwrap().path()).unwrap()).collect();
    let words = camshaft::driver::Config::DRIVERS;
    assert_eq!(without_example(words, &examples), [""; 0]);
    // The rule about the names of drivers knows all of them.
    for word in words {
        let is_known = DRIVERS.iter().any(|folder| word.starts_with(folder));
        assert!(is_known, "{word} is not in DRIVERS");
    }
}

/// The drivers that no example uses.
fn without_example<'d>(drivers: &[&'d str], examples: &[String]) -> Vec<&'d str> {
    let is_used = |driver: &str| {
        let line = format!("driver = \"{driver}\"");
        examples.iter().any(|text| text.lines().any(|found| found.starts_with(&line)))
    };
    drivers.iter().copied().filter(|driver| !is_used(driver)).collect()
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
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

/// The names of the modules that a file lies in: `src/plugin/module/folder.rs` is in
/// `plugin::module` and is `plugin::module::folder`.
fn modules(path: &str) -> Vec<&str> {
    let path = path.strip_prefix("src/").unwrap_or(path);
    let path = path.strip_suffix(".rs").unwrap_or(path);
    path.strip_suffix("/mod").unwrap_or(path).split('/').collect()
}

fn floor(module: &str) -> Option<i8> {
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

/// Whether a file is the module of this path without its ending, or lies in its folder.
fn is_in(path: &str, module: &str) -> bool {
    path.strip_prefix(module).is_some_and(|rest| rest == ".rs" || rest.starts_with('/'))
}

/// The list of drivers is the only file that names drivers, beside their own.
fn drivers(path: &str, text: &str) -> Vec<String> {
    let mut named: Vec<_> = uses(text, "crate::driver::").collect();
    match path.strip_prefix("src/driver/") {
        Some("registry.rs") => return Vec::new(),
        Some("mod.rs") => named.extend(scrubbed(text).lines().enumerate().map(|(n, line)| {
            let is_path =
                |driver: &&str| after_word(line, driver).is_some_and(|rest| rest.starts_with("::"));
            (
                n + 1,
                DRIVERS.iter().filter(|driver| is_path(driver)).map(ToString::to_string).collect(),
            )
        })),
        Some(file) if !file.contains('/') => named.extend(uses(text, "super::")),
        _ => {}
    }
    let is_allowed = |driver: &str| {
        is_in(path, &format!("src/driver/{driver}"))
            || NAMES_DRIVER.iter().any(|(file, known)| is_in(path, file) && *known == driver)
    };
    let all = named.into_iter().flat_map(|(n, names)| names.into_iter().map(move |name| (n, name)));
    let wrong = all.filter(|(_, name)| DRIVERS.contains(&&**name) && !is_allowed(name));
    wrong
        .map(|(n, name)| format!("{n}: names the driver `{name}`; `Settings` can ask it"))
        .collect()
}

/// Neighbours in a folder that must not know each other.
fn walls(path: &str, text: &str) -> Vec<String> {
    let mut findings = Vec::new();
    for (folder, strangers) in WALLS.iter().filter(|(folder, _)| is_in(path, folder)) {
        let above = &modules(folder)[..modules(folder).len() - 1];
        let up = "super::".repeat(modules(path).len() - above.len());
        let down = format!("crate::{}::", above.join("::"));
        for (n, names) in uses(text, &up).chain(uses(text, &down)) {
            for name in names.iter().filter(|name| strangers.contains(&&***name)) {
                findings.push(format!("{n}: `{folder}` must not know its neighbour `{name}`"));
            }
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
    let lies_in = |places: &[&str]| places.iter().any(|place| path.starts_with(place));
    let may_name_wasmer = lies_in(&WASMER) && !lies_in(&WITHOUT_WASMER);
    for (n, line) in scrubbed.lines().enumerate() {
        if after_word(line, "wasmer").is_some() && !may_name_wasmer {
            findings.push(format!("{}: names wasmer", n + 1));
        }
        let names_notify =
            after_word(line, "notify").is_some_and(|r| r.starts_with("::") || line.contains("use"));
        if names_notify && !path.starts_with("src/plugin/module/folder") {
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
    for n in INVARIANTS {
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
