//! Tests of files that are copied slowly into the plugin folder.
//!
//! During the copy, the incomplete file can look like a valid module that lacks half of its data.
//! The watch must wait until the file is complete.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::symlink;

use super::bench::Bench;

/// Each sentinel takes as long as a file needs to settle.
#[track_caller]
fn pause(bench: &mut Bench) {
    (0..4).for_each(|_| bench.is_quiet());
}

#[test]
fn a_file_that_is_open_for_writing_is_not_taken() {
    let mut bench = Bench::with_a();
    let mut file = File::create(bench.plugin("a")).unwrap();
    pause(&mut bench);
    for piece in ["first", "second", "third"] {
        file.write_all(piece.as_bytes()).unwrap();
        pause(&mut bench);
    }
    drop(file);
    bench.reports("a is firstsecondthird");
    bench.is_quiet();
}

#[test]
fn a_file_that_is_made_and_not_yet_written_is_not_taken() {
    let mut bench = Bench::new();
    let mut file = File::create(bench.plugin("a")).unwrap();
    pause(&mut bench);
    file.write_all(b"whole").unwrap();
    drop(file);
    bench.reports("a is whole");
    bench.is_quiet();
}

/// Through a link no events come: pieces settle, and one refusal is enough.
#[test]
fn after_a_refusal_a_growing_file_is_given_time() {
    let mut bench = Bench::new();
    symlink(bench.elsewhere("target"), bench.plugin("a")).unwrap();
    bench.reports("a refused: it cannot be read: No such file or directory (os error 2)");
    let mut file = File::create(bench.elsewhere("target")).unwrap();
    file.write_all(b"1").unwrap();
    bench.reports("a is 1");
    bench.watch.refused("a");
    bench.is_quiet();
    for piece in ["2", "3"] {
        file.write_all(piece.as_bytes()).unwrap();
        bench.watch.poke();
        pause(&mut bench);
    }
    bench.reports("a is 123");
    bench.is_quiet();
}

/// What was renamed in is whole, also while whoever wrote it still has it open.
#[test]
fn renamed_in_while_it_is_open() {
    let mut bench = Bench::with_a();
    let half = bench.plugin("a").with_extension("wasm.tmp");
    let mut file = File::create(&half).unwrap();
    file.write_all(b"two").unwrap();
    fs::rename(&half, bench.plugin("a")).unwrap();
    bench.reports("a is two");
    file.write_all(b"and three").unwrap();
    pause(&mut bench);
    drop(file);
    bench.reports("a is twoand three");
    bench.is_quiet();
}
