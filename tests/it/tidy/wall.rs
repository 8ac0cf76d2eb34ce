//! The rules about dependencies inside a module: the order of its parts, and no cycle between
//! files.
//!
//! Only code counts for these rules. A comment may name a file of a higher part. A file and the
//! folder with the same name count as one unit. So a file may use the files of its folder, and
//! these files may use the file.

use std::collections::{BTreeMap, BTreeSet};

use super::source::{paths, test_lines};
use super::{ROOMS, modules};

/// The modules that the code of a file names, from the root of the library on, by line.
fn named<'t>(path: &str, text: &'t str) -> impl Iterator<Item = (usize, bool, Vec<String>)> + 't {
    let own: Vec<String> = modules(path).into_iter().map(String::from).collect();
    let tests = test_lines(text);
    paths(text).into_iter().map(move |(line, path)| {
        let is_test = tests.get(line - 1).copied().unwrap_or(false);
        let ups = path.iter().take_while(|part| *part == "super").count();
        // A test module is one deeper than its file.
        let stays = (own.len() + usize::from(is_test)).saturating_sub(ups).min(own.len());
        let from = if ups > 0 { &own[..stays] } else { &[] };
        let rest = &path[ups.max(1)..];
        (line, is_test, from.iter().chain(rest).cloned().collect())
    })
}

/// A room of a module uses only rooms below it.
pub(super) fn rooms(path: &str, text: &str) -> Vec<String> {
    let own = modules(path);
    let floor = |house: &str, room: &str| {
        ROOMS.iter().find(|(at, name, _)| (*at, *name) == (house, room)).map(|(.., floor)| *floor)
    };
    if !ROOMS.iter().any(|(house, ..)| *house == own[0]) {
        return Vec::new();
    }
    // The file of the module itself stands below its rooms.
    let own_floor = match own.get(1) {
        None => -1,
        Some(room) => match floor(own[0], room) {
            Some(floor) => floor,
            None => return vec![format!("1: the room `{room}` of `{}` has no floor", own[0])],
        },
    };
    let mut findings = Vec::new();
    for (line, _, named) in named(path, text) {
        let [house, room, ..] = &named[..] else { continue };
        if house != own[0] || own.get(1) == Some(&room.as_str()) {
            continue;
        }
        if let Some(floor) = floor(house, room).filter(|floor| *floor >= own_floor) {
            findings.push(format!(
                "{line}: floor {own_floor} of `{house}` must not know `{room}` (floor {floor})"
            ));
        }
    }
    findings
}

/// The circles of neighbours, each once: `a -> b -> a`. Tests may go round.
pub(super) fn circles(files: &[(&str, &str)]) -> Vec<String> {
    let mut all = BTreeSet::new();
    let mut knows: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (path, _) in files {
        let own = modules(path);
        all.extend((1..=own.len()).map(|parts| own[..parts].join("::")));
    }
    for (path, text) in files {
        let own = modules(path);
        for (_, _, named) in named(path, text).filter(|(_, is_test, _)| !is_test) {
            let shared = own.iter().zip(&named).take_while(|(a, b)| *a == *b).count();
            if shared == 0 || shared == own.len() || shared == named.len() {
                continue;
            }
            let other = named[..=shared].join("::");
            if all.contains(&other) {
                knows.entry(own[..=shared].join("::")).or_default().insert(other);
            }
        }
    }
    let mut findings = Vec::new();
    let mut seen = BTreeSet::new();
    for module in knows.keys() {
        follow(module, &knows, &mut Vec::new(), &mut seen, &mut findings);
    }
    findings
}

/// Follows what `module` knows; `way` is how it was reached. Each module is followed once.
fn follow(
    module: &str,
    knows: &BTreeMap<String, BTreeSet<String>>,
    way: &mut Vec<String>,
    seen: &mut BTreeSet<String>,
    findings: &mut Vec<String>,
) {
    if let Some(begin) = way.iter().position(|other| other == module) {
        findings.push(format!("a circle: {} -> {module}", way[begin..].join(" -> ")));
        return;
    }
    if !seen.insert(module.to_string()) {
        return;
    }
    way.push(module.to_string());
    for next in knows.get(module).into_iter().flatten() {
        follow(next, knows, way, seen, findings);
    }
    way.pop();
}
