//! Tests with plugins that real compilers build, as users build them: C++, Zig, AssemblyScript and
//! Go.
//!
//! Each built module runs in a real scan and must read inputs, write outputs and log. The tests
//! also run the demo plugins of this repository with their recipes.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use camshaft::plugin::Settings;
use camshaft::process::line::Message;
use camshaft::scan::Order;

use crate::daemon::fan::{board, fan_is};
use crate::daemon::{Daemon, Keys, LIMIT, Plant, wait};
use crate::rig::{Rig, points};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Where `tests/run` has put the peers that are no Debian packages.
pub fn peer(path: &str) -> PathBuf {
    let peers = std::env::var_os("CAMSHAFT_PEERS").map(PathBuf::from);
    peers.unwrap_or_else(|| root().join("target/peers")).join(path)
}

/// Builds a source of `tests/plugins`. What the compiler keeps for the next time is not kept.
fn build(program: impl AsRef<OsStr>, arguments: &[&str], environment: &[(&str, &str)]) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("module.wasm");
    let arguments = arguments.iter().map(|word| word.replace("OUT", output.to_str().unwrap()));
    let done = Command::new(program)
        .args(arguments)
        .current_dir(root().join("tests/plugins"))
        .env("ZIG_LOCAL_CACHE_DIR", folder.path())
        .env("ZIG_GLOBAL_CACHE_DIR", folder.path())
        .env("GOCACHE", folder.path())
        .env("GOPATH", folder.path())
        // Go counts how it is used, there.
        .env("HOME", folder.path())
        .envs(environment.iter().copied())
        .output()
        .expect("the compiler starts");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    fs::read(&output).unwrap()
}

/// Builds a source and runs it: it copies input byte 0, plus 1, to output byte 0 and logs once in
/// `init`.
fn check(program: impl AsRef<OsStr>, arguments: &[&str], module: &str) {
    let bytes = build(program, arguments, &[]);
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

/// `add_one.go`, which adds `step` for output byte 40.
fn go(step: u8) -> Vec<u8> {
    // By its package: a script beside Python names the folder in which it was made.
    let flags = "-c|import go; go.main()|build|-buildmode=c-shared|-o|OUT|-ldflags";
    let flags: Vec<_> = flags.split('|').collect();
    let linker = format!("-X main.step={step} -X main.output=40");
    let arguments = [&flags[..], &[&linker, "add_one.go"]].concat();
    // Nothing of the user's settings, and nothing from the network.
    let environment = [
        ("GOOS", "wasip1"),
        ("GOARCH", "wasm"),
        ("GOENV", "off"),
        ("GOFLAGS", ""),
        ("GOPROXY", "off"),
        ("GOTOOLCHAIN", "local"),
    ];
    build(peer("python/bin/python"), &arguments, &environment)
}

/// Go brings a scheduler and a collector, and makes more than 20 000 data segments.
#[test]
#[ignore = "needs Go"]
fn go_with_its_runtime_is_run_collects_and_is_swapped() {
    let modules = [go(7), go(9)];
    let plant = Plant::new(Keys::default());
    let tables = board(&plant, "");
    // A collection takes 1.5 ms in one poll. Of 10 ms a budget is 2.5 ms if nothing is said, which is
    // no more than enough where the machine is slow.
    let tables = format!("[[plugin]]\nname = \"add_one\"\npoll_budget = \"5ms\"\n{tables}");
    plant.configure(Keys { tables: &tables, init_budget: "500ms", ..Keys::default() });
    let path = plant.path("camshaft.toml");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replace("period = \"1ms\"", "period = \"10ms\"")).unwrap();

    let daemon = Daemon::on(plant);
    for (module, step) in modules.iter().zip(["7", "9"]) {
        let hash = daemon.drop_in("add_one", module);
        daemon.wait_running("add_one", &hash);
        daemon.wait_log("add_one", &[&format!("add_one is ready, step {step}")]);
        wait("the fan is as wanted", LIMIT, || fan_is(&daemon, step).then_some(()));
        // 64 KiB for each poll: more than the memory limit, so the collector has run.
        let view = daemon.wait_for("add_one", "polled 300 times", |view| view.polls > 300);
        assert!(view.traps == 0 && view.refused.is_empty(), "{view:#?}");
    }
}
