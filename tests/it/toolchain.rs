//! Plugins as users build them, with real compilers, run in a real scan; and the demo plugins with
//! their recipes.

use std::path::{Path, PathBuf};
use std::process::Command;

use camshaft::plugin::Settings;
use camshaft::plugin::world::Message;
use camshaft::scan::Order;

use crate::rig::{Rig, points};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Where `tests/run` has put the peers that are no Debian packages.
pub fn peer(path: &str) -> PathBuf {
    let peers = std::env::var_os("CAMSHAFT_PEERS").map(PathBuf::from);
    peers.unwrap_or_else(|| root().join("target/peers")).join(path)
}

/// Builds a source of `tests/plugins` and runs it: it copies input byte 0, plus 1, to output byte 0
/// and logs once in `init`.
fn check(program: impl AsRef<std::ffi::OsStr>, arguments: &[&str], module: &str) {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join(module);
    let arguments = arguments.iter().map(|word| word.replace("OUT", output.to_str().unwrap()));
    let done = Command::new(program)
        .args(arguments)
        .current_dir(root().join("tests/plugins"))
        .env("ZIG_LOCAL_CACHE_DIR", folder.path())
        .env("ZIG_GLOBAL_CACHE_DIR", folder.path())
        .output()
        .expect("the compiler starts");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let bytes = std::fs::read(&output).unwrap();

    let mut rig = Rig::new(points(), Vec::new());
    let preparation = rig.preparation("add_one", 0, &bytes, Settings::default()).unwrap();
    let said = preparation.lines.iter().filter(|line| matches!(line.message, Message::Said { .. }));
    assert_eq!(said.count(), 1, "{module}: {:?}", preparation.lines);
    rig.order(Order::Install(Box::new(preparation.result.unwrap())));
    for _ in 0..3 {
        let news = rig.cycle();
        assert_eq!(news.outputs[0], 1, "{module}: {:?}", news.programs);
    }
}

#[test]
#[ignore = "needs clang with wasi-libc"]
fn cpp_with_a_libc() {
    let flags = "--target=wasm32-wasi -O2 -fno-exceptions -fno-rtti -mexec-model=reactor \
                 -stdlib=libc++ -o OUT add_one.cpp";
    check("clang++", &flags.split_whitespace().collect::<Vec<_>>(), "cpp.wasm");
}

#[test]
#[ignore = "needs Zig"]
fn zig() {
    let flags = "-m ziglang build-exe -target wasm32-freestanding -fno-entry -rdynamic \
                 -O ReleaseSmall -femit-bin=OUT add_one.zig";
    check(peer("python/bin/python"), &flags.split_whitespace().collect::<Vec<_>>(), "zig.wasm");
}

#[test]
#[ignore = "needs AssemblyScript"]
fn assemblyscript_with_its_own_flags_and_without_abort() {
    let compiler = peer("node_modules/.bin/asc");
    check(&compiler, &["add_one.ts", "-O", "-o", "OUT"], "as.wasm");
    let flags = ["add_one.ts", "-O", "--runtime", "stub", "--use", "abort=", "-o", "OUT"];
    check(&compiler, &flags, "as_without_abort.wasm");
}
