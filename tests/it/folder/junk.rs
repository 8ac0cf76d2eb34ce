//! Tests of a plugin folder with many other files.
//!
//! The watch examines a limited number of files. Other files must not hide a plugin. If there are
//! more plugins than the limit, the watch must report this.

use std::fs::{self, File};
use std::os::unix::fs::symlink;

use super::bench::Bench;

/// So many of them are refused by name.
const NAMED: usize = 64;

#[test]
fn links_to_nowhere_take_no_place() {
    let bench = Bench::with(|plugins| {
        for n in 0..600 {
            symlink("nowhere", plugins.join(format!("a{n:03}.wasm"))).unwrap();
        }
    });
    let mut reports: Vec<_> = (0..=NAMED).map(|_| bench.next()).collect();
    reports.retain(|report| !report.contains("refused: it cannot be read"));
    assert_eq!(reports, [format!("overlooked {}", 600 - NAMED)]);
    let mut bench = bench;
    fs::write(bench.plugin("zz"), "one").unwrap();
    bench.reports("zz is one");
    bench.is_quiet();
}

#[test]
fn twelve_thousand_other_files_hide_nothing() {
    let mut bench = Bench::with(|plugins| {
        (0..12_000).for_each(|n| drop(File::create(plugins.join(format!("other{n}"))).unwrap()));
        fs::write(plugins.join("zz.wasm"), "one").unwrap();
    });
    bench.reports("zz is one");
    bench.is_quiet();
}

#[test]
fn more_plugins_than_are_looked_at_are_counted() {
    let bench = Bench::with_a();
    for n in 0..3000 {
        symlink("nowhere", bench.plugins().join(format!("junk{n}.wasm"))).unwrap();
    }
    let is_last = |report: &str| report == format!("overlooked {}", 3000 - NAMED);
    while !is_last(&bench.next()) {}
}

#[test]
fn a_link_into_proc_is_refused() {
    let mut bench = Bench::with_a();
    for target in ["/proc/version", "/sys/kernel/profiling"] {
        symlink(target, bench.plugin("link")).unwrap();
        let why = "it changes during each reading, or has another length than its file size";
        bench.reports(&format!("link refused: {why}"));
        fs::remove_file(bench.plugin("link")).unwrap();
        bench.reports("link gone");
    }
    bench.is_quiet();
}

#[test]
fn a_name_in_capital_letters_is_named() {
    let mut bench = Bench::with_a();
    let loud = bench.plugins().join("X.WASM");
    fs::write(&loud, "one").unwrap();
    bench.reports("\"X.WASM\" refused: its name ends in .wasm, but not in small letters");
    fs::rename(&loud, bench.plugin("X")).unwrap();
    bench.reports("X is one");
    bench.reports("\"X.WASM\" gone");
    bench.is_quiet();
}
