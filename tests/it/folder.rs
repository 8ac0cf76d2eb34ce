//! Tests of the watch on the plugin folder, on a real file system.
//!
//! The tests do what people and tools do with files: copy, rename, truncate, link, delete. They
//! check which changes the watch reports, and that it reports no others. `folder/bench.rs` makes
//! the folder; special cases are in the other files of the folder `folder`.

use std::fs::{self, File, FileTimes};
use std::io::{self, Write};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant, SystemTime};

use camshaft::plugin::module::folder::{Change, publish, watch};

mod bench;
mod junk;
mod link;
mod lost;
mod upload;

use bench::{Bench, LIMIT, MAX_BYTES};

#[test]
fn what_is_there_at_the_start() {
    let bench = Bench::with(|plugins| {
        fs::write(plugins.join("a.wasm"), "one").unwrap();
        fs::write(plugins.join("b.wasm"), "two").unwrap();
        for ignored in [".c.wasm", "c.wasm.tmp", "c.wasm~", "c.wasm.part", ".c.wasm.swp", "README"]
        {
            fs::write(plugins.join(ignored), "three").unwrap();
        }
    });
    bench.reports("a is one");
    bench.reports("b is two");
    let mut bench = bench;
    bench.is_quiet();
}

#[test]
fn a_folder_that_cannot_be_made_is_an_error_at_the_start() {
    assert!(watch("/proc/nonexistent/plugins".into(), MAX_BYTES, |_| ()).is_err());
}

#[test]
fn created_and_written_in_pieces() {
    let mut bench = Bench::new();
    let mut file = File::create(bench.plugin("a")).unwrap();
    for piece in 0..8 {
        write!(file, "{piece}").unwrap();
    }
    drop(file);
    bench.reports("a is 01234567");
    bench.is_quiet();
}

#[test]
fn only_read() {
    let mut bench = Bench::with_a();
    for _ in 0..100 {
        fs::read(bench.plugin("a")).unwrap();
    }
    bench.is_quiet();
}

#[test]
fn truncated_and_rewritten() {
    let mut bench = Bench::with_a();
    fs::write(bench.plugin("a"), "two").unwrap();
    bench.reports("a is two");
    fs::write(bench.plugin("a"), "two").unwrap();
    bench.is_quiet();
}

#[test]
fn renamed_in_overtakes_what_has_to_settle() {
    let mut bench = Bench::new();
    fs::write(bench.elsewhere("new"), "one").unwrap();
    fs::write(bench.plugin("b"), "two").unwrap();
    fs::rename(bench.elsewhere("new"), bench.plugin("a")).unwrap();
    bench.reports("a is one");
    bench.reports("b is two");
    bench.is_quiet();
}

#[test]
fn written_beside_and_renamed_over() {
    let mut bench = Bench::with_a();
    let temporary = bench.plugin("a").with_extension("wasm.tmp");
    fs::write(&temporary, "two").unwrap();
    bench.is_quiet();
    fs::rename(&temporary, bench.plugin("a")).unwrap();
    bench.reports("a is two");
    bench.is_quiet();
}

#[test]
fn linked_in_and_written_through_the_other_name() {
    let bench = Bench::new();
    fs::write(bench.elsewhere("target"), "one").unwrap();
    fs::hard_link(bench.elsewhere("target"), bench.plugin("hard")).unwrap();
    bench.reports("hard is one");
    symlink(bench.elsewhere("target"), bench.plugin("soft")).unwrap();
    bench.reports("soft is one");
    fs::write(bench.elsewhere("target"), "two").unwrap();
    let mut both = [bench.next(), bench.next()];
    both.sort();
    assert_eq!(both, ["hard is two", "soft is two"]);
    let mut bench = bench;
    bench.is_quiet();
}

/// As configuration maps do it: the file is a link through a directory link that is switched.
#[test]
fn a_link_on_the_way_is_switched() {
    let bench = Bench::new();
    for (version, text) in [("v1", "one"), ("v2", "two")] {
        fs::create_dir(bench.elsewhere(version)).unwrap();
        fs::write(bench.elsewhere(version).join("a"), text).unwrap();
    }
    symlink("v1", bench.elsewhere("current")).unwrap();
    symlink(bench.elsewhere("current/a"), bench.plugin("a")).unwrap();
    bench.reports("a is one");
    symlink("v2", bench.elsewhere("next")).unwrap();
    fs::rename(bench.elsewhere("next"), bench.elsewhere("current")).unwrap();
    bench.reports("a is two");
}

#[test]
#[ignore = "needs python3"]
fn written_through_a_memory_map() {
    let python = |program: &str, path: &Path| {
        let status = Command::new("python3").arg("-c").arg(program).arg(path).status().unwrap();
        assert!(status.success());
    };
    let mut bench = Bench::new();
    let create = "import mmap, sys\n\
                  file = open(sys.argv[1], 'w+b')\n\
                  file.truncate(3)\n\
                  map = mmap.mmap(file.fileno(), 3)\n\
                  map[:] = b'one'\n\
                  map.close()";
    python(create, &bench.plugin("a"));
    bench.reports("a is one");
    let store = "import mmap, sys\n\
                 file = open(sys.argv[1], 'r+b')\n\
                 map = mmap.mmap(file.fileno(), 3)\n\
                 map[:] = b'two'\n\
                 map.flush()";
    python(store, &bench.plugin("a"));
    bench.reports("a is two");
    bench.is_quiet();
}

#[test]
fn moved_out_deleted_and_brought_back() {
    let mut bench = Bench::with_a();
    fs::rename(bench.plugin("a"), bench.elsewhere("a")).unwrap();
    bench.reports("a gone");
    fs::rename(bench.elsewhere("a"), bench.plugin("a")).unwrap();
    bench.reports("a is one");
    fs::remove_file(bench.plugin("a")).unwrap();
    bench.reports("a gone");
    bench.is_quiet();
}

#[test]
fn replaced_by_delete_and_create() {
    let mut bench = Bench::with_a();
    fs::remove_file(bench.plugin("a")).unwrap();
    fs::write(bench.plugin("a"), "two").unwrap();
    bench.reports("a is two");
    bench.is_quiet();
}

#[test]
fn touched_ten_thousand_times() {
    let mut bench = Bench::with_a();
    let file = File::options().write(true).open(bench.plugin("a")).unwrap();
    for _ in 0..10_000 {
        file.set_times(FileTimes::new().set_modified(SystemTime::now())).unwrap();
    }
    bench.is_quiet();
}

#[test]
fn ten_thousand_other_files_come_and_go() {
    let mut bench = Bench::with_a();
    let other = bench.plugin("a").with_file_name("other");
    for _ in 0..10_000 {
        File::create(&other).unwrap();
        fs::remove_file(&other).unwrap();
    }
    bench.is_quiet();
}

#[test]
fn the_folder_is_deleted_and_made_again() {
    let bench = Bench::with_a();
    let plugins = bench.plugins();
    fs::remove_dir_all(&plugins).unwrap();
    bench.reports("folder lost");
    fs::create_dir(&plugins).unwrap();
    bench.reports("folder lost: Exchanged");
    fs::write(bench.plugin("b"), "two").unwrap();
    bench.reports("folder back");
    bench.reports("b is two");
    bench.reports("a gone");
    events_come_soon(&bench);
}

/// So quickly that nobody may have seen it gone.
#[test]
fn the_folder_is_exchanged() {
    for _ in 0..5 {
        let bench = Bench::with_a();
        let plugins = bench.plugins();
        fs::remove_dir_all(&plugins).unwrap();
        fs::create_dir(&plugins).unwrap();
        fs::write(bench.plugin("b"), "two").unwrap();
        let mut reports = Vec::new();
        while reports.last().is_none_or(|last| last != "a gone") {
            reports.push(bench.next());
        }
        reports.retain(|report| !report.starts_with("folder"));
        assert_eq!(reports, ["b is two", "a gone"]);
        events_come_soon(&bench);
    }
}

#[test]
fn the_folder_is_moved_away_and_back() {
    let mut bench = Bench::with_a();
    let plugins = bench.plugins();
    fs::rename(&plugins, bench.elsewhere("plugins")).unwrap();
    bench.reports("folder lost");
    fs::rename(bench.elsewhere("plugins"), &plugins).unwrap();
    bench.reports("folder back");
    bench.is_quiet();
    events_come_soon(&bench);
}

/// If the rescan had to find them, these would take two seconds each.
#[track_caller]
fn events_come_soon(bench: &Bench) {
    let start = Instant::now();
    for n in 0..5 {
        let published =
            publish(&bench.plugins(), &"soon".parse().unwrap(), format!("{n}").as_bytes());
        published.expect("the folder is there");
        bench.reports(&format!("soon is {n}"));
    }
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
}

#[test]
fn events_come_soon_at_first() {
    events_come_soon(&Bench::new());
}

#[test]
fn a_poke_is_a_look() {
    let bench = Bench::with_a();
    fs::hard_link(bench.plugin("a"), bench.elsewhere("a")).unwrap();
    let start = Instant::now();
    for n in 0..5 {
        fs::write(bench.elsewhere("a"), format!("{n}")).unwrap();
        bench.watch.poke();
        bench.reports(&format!("a is {n}"));
    }
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
}

#[test]
fn what_is_no_regular_file_is_refused_and_never_opened() {
    let check = |make: &dyn Fn(&Path), reason: &str| {
        let bench = Bench::with_a();
        fs::remove_file(bench.plugin("a")).unwrap();
        make(&bench.plugin("a"));
        bench.reports(&format!("a refused: {reason}"));
        // Good bytes again are news after a refusal.
        let _ = fs::remove_dir(bench.plugin("a")).or_else(|_| fs::remove_file(bench.plugin("a")));
        fs::write(bench.plugin("a"), "one").unwrap();
        bench.reports("a is one");
    };
    check(&|path| fs::create_dir(path).unwrap(), "it is a directory");
    let fifo = |path: &Path| {
        nix::unistd::mkfifo(path, nix::sys::stat::Mode::S_IRWXU).unwrap();
    };
    check(&fifo, "it is a named pipe");
    let socket = |path: &Path| drop(std::os::unix::net::UnixListener::bind(path).unwrap());
    check(&socket, "it is a socket");
    check(&|path| symlink("/dev/zero", path).unwrap(), "it is a device");
    check(
        &|path| symlink("nowhere", path).unwrap(),
        "it cannot be read: No such file or directory (os error 2)",
    );
    check(
        &|path| symlink(path, path).unwrap(),
        "it cannot be read: Too many levels of symbolic links (os error 40)",
    );
    let large = |path: &Path| File::create(path).unwrap().set_len(MAX_BYTES + 1).unwrap();
    check(&large, "the file has 1048577 bytes");
}

#[test]
fn names_that_cannot_be_plugins_are_refused() {
    let mut bench = Bench::with_a();
    fs::write(bench.plugin("no good"), "x").unwrap();
    bench.reports("\"no good\" refused: \"no good\" is not a valid name for a plugin");
    fs::write(bench.plugin("A"), "x").unwrap();
    bench.reports("A refused: its name differs from a only in upper and lower case");
    fs::remove_file(bench.plugin("a")).unwrap();
    bench.reports("a gone");
    bench.reports("A is x");
    fs::remove_file(bench.plugin("no good")).unwrap();
    bench.reports("\"no good\" gone");
    bench.is_quiet();
}

#[test]
fn published_by_many_at_once() {
    let bench = Bench::new();
    let plugins = bench.plugins();
    std::thread::scope(|scope| {
        for letter in ["a", "b", "c", "d"] {
            let plugins = &plugins;
            scope.spawn(move || {
                let text = letter.repeat(100_000);
                for _ in 0..20 {
                    while let Err(error) = publish(plugins, &"p".parse().unwrap(), text.as_bytes())
                    {
                        assert_eq!(error.kind(), io::ErrorKind::WouldBlock, "{error}");
                        std::thread::yield_now();
                    }
                }
            });
        }
    });
    let last = fs::read(bench.plugin("p")).unwrap();
    loop {
        let Ok(Change::Present { bytes, .. }) = bench.changes.recv_timeout(LIMIT) else {
            panic!("the last version is not reported");
        };
        assert_eq!(bytes.len(), 100_000);
        assert!(bytes.iter().all(|byte| *byte == bytes[0]), "a mixture was published");
        if *bytes == *last {
            break;
        }
    }
    assert!(!plugins.join(".p.wasm.tmp").exists());
}

#[test]
fn dropping_the_watch_ends_its_thread() {
    let Bench { watch, changes, .. } = Bench::with_a();
    let start = Instant::now();
    drop(watch);
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
    let end = changes.recv_timeout(Duration::ZERO);
    assert!(matches!(end, Err(RecvTimeoutError::Disconnected)), "{end:?}");
}
