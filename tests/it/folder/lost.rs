//! Tests of a plugin folder whose name suddenly leads to another folder.
//!
//! If the new folder is empty, for example a mount point after an unmount, the plugin folder counts
//! as lost, and no plugin is removed. If the new folder has files, it is a deploy. The tests also
//! check how the loss ends.

use std::fs;
use std::path::Path;

use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

use super::bench::{Bench, LIMIT};
use crate::daemon::wait;

/// Lets two folders change their names, so that nobody sees either of them missing.
fn exchange(one: &Path, other: &Path) {
    renameat2(AT_FDCWD, one, AT_FDCWD, other, RenameFlags::RENAME_EXCHANGE).unwrap();
}

fn with_a_and_b() -> Bench {
    let bench = Bench::with_a();
    fs::write(bench.plugin("b"), "two").unwrap();
    bench.reports("b is two");
    fs::create_dir(bench.elsewhere("other")).unwrap();
    bench
}

#[test]
fn another_folder_without_plugins_is_a_lost_one() {
    let mut bench = with_a_and_b();
    // What may lie below a mount, and is no plugin.
    let other = bench.elsewhere("other");
    fs::write(other.join("OLD.WASM"), "old").unwrap();
    fs::write(other.join("no name.wasm"), "misnamed").unwrap();
    fs::create_dir(other.join("dir.wasm")).unwrap();
    std::os::unix::fs::symlink("nowhere", other.join("link.wasm")).unwrap();
    for _ in 0..2 {
        exchange(&bench.plugins(), &bench.elsewhere("other"));
        bench.reports("folder lost: Exchanged");
        fs::write(bench.plugins().join("lost+found"), "no plugin").unwrap();
        exchange(&bench.plugins(), &bench.elsewhere("other"));
        bench.reports("folder back");
        bench.is_quiet();
    }
}

#[test]
fn another_folder_with_files_is_a_deploy() {
    let mut bench = with_a_and_b();
    fs::write(bench.elsewhere("other").join("b.wasm"), "three").unwrap();
    exchange(&bench.plugins(), &bench.elsewhere("other"));
    bench.reports("b is three");
    bench.reports("a gone");
    bench.is_quiet();
}

#[test]
fn files_that_appear_end_the_loss() {
    let mut bench = with_a_and_b();
    exchange(&bench.plugins(), &bench.elsewhere("other"));
    bench.reports("folder lost: Exchanged");
    fs::write(bench.plugin("a"), "three").unwrap();
    bench.reports("folder back");
    bench.reports("a is three");
    bench.reports("b gone");
    bench.is_quiet();
}

#[test]
fn the_operator_ends_the_loss() {
    let mut bench = with_a_and_b();
    exchange(&bench.plugins(), &bench.elsewhere("other"));
    bench.reports("folder lost: Exchanged");
    // Of one plugin, and the others are still waited for.
    bench.watch.forget("b");
    bench.reports("b gone");
    fs::remove_dir(bench.elsewhere("other")).unwrap_err();
    bench.watch.accept();
    bench.reports("folder back");
    bench.reports("a gone");
    bench.is_quiet();

    let mut bench = Bench::with_a();
    fs::create_dir(bench.elsewhere("other")).unwrap();
    exchange(&bench.plugins(), &bench.elsewhere("other"));
    bench.reports("folder lost: Exchanged");
    bench.watch.forget("a");
    bench.reports("a gone");
    bench.reports("folder back");
    bench.is_quiet();
}

/// An empty folder that held nothing before is no lost one, and one that is emptied is emptied.
#[test]
fn an_empty_folder_may_be_what_is_wanted() {
    let mut bench = Bench::new();
    fs::create_dir(bench.elsewhere("other")).unwrap();
    let looks = Inotify::init(InitFlags::IN_NONBLOCK).unwrap();
    // Whoever lists a folder closes it then.
    looks.add_watch(&bench.elsewhere("other"), AddWatchFlags::IN_CLOSE_NOWRITE).unwrap();
    exchange(&bench.plugins(), &bench.elsewhere("other"));
    wait("a look at it", LIMIT, || looks.read_events().ok());
    bench.is_quiet();
    fs::remove_file(bench.plugin("sentinel1")).unwrap();
    bench.reports("sentinel1 gone");
}
