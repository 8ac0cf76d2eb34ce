//! Tests of the rules themselves: each rule is applied to short texts.
//!
//! One text obeys the rule, and the rule must find nothing. Another text breaks the rule, and the
//! rule must report the break. The rules are in `tidy.rs` and in the other files of this folder.

use super::{
    FLOORS, INVARIANTS, Rule, circles, columns, drivers, file_name, file_size, floors,
    function_size, header, libraries, map, parts, rooms, strangers, unsafe_code, walls,
    without_example, words,
};

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
    check(floors, code, "use crate::{process::{Seat}, config::{self, Config}};", &["`config`"]);
    check(floors, "src/driver/sim.rs", "use crate::plugin::Trap;", &["`plugin` (floor 1)"]);
    check(floors, "src/recipe.rs", "use crate::control::View;", &["`control` (floor 5)"]);
    check(floors, "src/clock.rs", "use crate::stamp::now;", &["`stamp` (floor -1)"]);
    check(floors, "src/clock.rs", "use crate::process::image;", &["`process` (floor 0)"]);
    check(floors, "src/process/image.rs", "use crate::plugin::Trap;", &["`plugin` (floor 1)"]);
    check(floors, "src/process/image.rs", "use crate::text::legible;", &[]);
    check(floors, "src/main.rs", "fn main() { camshaft::cli::run() }", &[]);
    check(floors, "src/attic.rs", "", &["`attic` has no floor"]);
    check(floors, code, "use crate::attic::Box;", &["crate::attic has no floor"]);
    check(floors, "src/plugin/shadow.rs", "use super::super::process;", &["leaves `plugin`"]);
    check(floors, "src/plugin/shadow.rs", "use super::guest;", &[]);
    let test = "#[cfg(test)]\nmod tests {\n    use super::super::guest;\n}\n";
    check(floors, "src/plugin/shadow.rs", test, &[]);

    check(drivers, "src/config.rs", "use crate::driver::{Config, sim};", &["`sim`"]);
    check(drivers, "src/config.rs", "crate::driver::file::PERIOD", &["1: names the driver `file`"]);
    check(drivers, "src/config.rs", "use crate::{file, driver::export};", &[]);
    check(drivers, "src/driver/watchdog.rs", "use super::{Fault, gpio};", &["`gpio`"]);
    check(drivers, "src/driver/mod.rs", "\npub use sim::Tank;", &["2: names the driver `sim`"]);
    check(drivers, "src/driver/mod.rs", "pub mod sim;\n/// As in `sim::Tank`.", &[]);
    check(drivers, "src/driver/mqtt/line.rs", "use crate::driver::sim::Tank;", &["`sim`"]);
    check(drivers, "src/driver/sim/tank.rs", "use crate::driver::sim::Tank;", &[]);
    check(drivers, "src/driver/registry.rs", "use super::{gpio, sim};", &[]);
    check(drivers, "src/cli/modbus/work.rs", "use crate::driver::modbus::wire;", &[]);
    check(drivers, "src/cli/modbus.rs", "use crate::driver::mqtt::At;", &["`mqtt`"]);

    let client = "src/driver/modbus/client/bus.rs";
    check(walls, client, "use crate::driver::modbus::wire::table::Table;", &[]);
    check(
        walls,
        client,
        "use super::super::server::Show;",
        &["1: `src/driver/modbus/client` must"],
    );
    check(walls, client, "use crate::driver::modbus::{server::Show, wire};", &["`server`"]);
    check(walls, "src/driver/modbus/wire.rs", "use super::client::line;", &["`client`"]);
    check(
        walls,
        "src/driver/modbus/server.rs",
        "use crate::driver::modbus::client;",
        &["`client`"],
    );

    check(header, code, "//! One\n//! two\n//! three\n", &[]);
    check(header, code, "//! One\n//! two\nuse x;\n", &["has 2 lines"]);
    check(header, code, "use x;\n//! One\n//! two\n//! three\n", &["has 0 lines"]);
    check(header, code, &"//! more\n".repeat(41), &["has 41 lines"]);
    check(header, "src/config/tests.rs", "//! One.\n", &[]);
    check(header, "src/config/tests.rs", "use x;\n", &["has 0 lines"]);

    check(words, code, "/// Gives the order.\nfn run(handle: &ScanHandle) {}\n", &[]);
    check(words, code, "\n// Whoever asked has left.\n", &["2: `whoever`"]);
    check(words, code, "/// Likewise for outputs.\n", &["begins with `Likewise`"]);
    check(words, code, "/// The same for outputs.\n", &["begins with `The same`"]);
    check(words, code, "//! See `mod.rs`.\n", &["begins with `See`"]);
    check(words, code, "/// What it is.\n///\n/// The same holds for outputs.\n", &[]);
    check(words, code, "let text = \"nobody owns it\"; // it is said\n", &[]);
    check(
        words,
        code,
        "struct Reins;\nfn take_reins(x: Reins) {}\n",
        &["1: `reins`", "2: `reins`"],
    );
    check(words, code, "// The desk of the sensor.\nlet reinstall = 1;\n", &[]);

    check(columns, code, &format!("{}\n//{}", "ä".repeat(100), "x".repeat(99)), &["2: 101"]);

    check(file_size, code, &"x\n".repeat(400), &[]);
    check(file_size, code, &"x\n".repeat(401), &["401 lines"]);
    check(file_size, "src/config/tests.rs", &"x\n".repeat(401), &[]);
    let tests = "#[cfg(test)]\nmod tests {\n    const BRACE: char = '}';\n    fn x() {}\n}\n";
    check(file_size, code, &format!("{}{tests}", "x\n".repeat(400)), &[]);
    check(file_size, code, &format!("{tests}{}", "x\n".repeat(401)), &["401 lines"]);

    let long = |lines| format!("fn long(x: [u8; 4]) {{\n{}}}\n", "    \"}\"; // }\n".repeat(lines));
    check(function_size, "src/log.rs", &long(58), &[]);
    check(function_size, "src/log.rs", &long(59), &["1: `long` has 61 lines"]);
    check(function_size, code, &format!("\n{}", long(9)).replace("long", "cycle"), &["`cycle`"]);
    check(function_size, code, "trait T {\n    fn none(&self);\n    fn one(&self) {}\n}\n", &[]);

    let stop = "src/plugin/instance/stop.rs";
    check(unsafe_code, stop, "// SAFETY: it is alive.\n// Really.\nlet x = unsafe { y };", &[]);
    check(unsafe_code, stop, "// It is alive.\nlet x = unsafe { y };", &["2: unsafe without"]);
    check(unsafe_code, stop, "\nunsafe impl Send for X {}", &["2: unsafe without"]);
    check(unsafe_code, stop, "unsafe fn x() {}", &[]);
    check(unsafe_code, code, "// SAFETY: it is alive.\nunsafe { y }", &["2: unsafe code is not"]);
    check(unsafe_code, code, "#![allow(unsafe_code)]", &["1: unsafe code is not"]);
    check(unsafe_code, code, "// unsafe\nlet unsafe_word = \"unsafe\";", &[]);

    check(libraries, code, "use wasmer::Store;", &["1: names wasmer"]);
    check(libraries, "src/plugin/instance/wasm.rs", "use wasmer::Store;", &[]);
    check(libraries, code, "// as wasmer does\nlet x = \"wasmer\";", &[]);
    check(libraries, code, "use notify::Watcher;", &["1: names notify"]);
    check(libraries, code, "notify::recommended_watcher(x);", &["1: names notify"]);
    check(libraries, "src/plugin/module/folder/disk.rs", "use notify::Watcher;", &[]);
    check(libraries, code, "self.notify();", &[]);

    let guest = "src/plugin/instance/guest/refuse.rs";
    check(libraries, guest, "use wasmer::Store;", &["1: names wasmer"]);
    check(libraries, "src/plugin/mod.rs", "use wasmer::Store;", &["1: names wasmer"]);
    check(libraries, "src/plugin/module/versions.rs", "use wasmer::Store;", &["names wasmer"]);

    check(file_name, "src/plugin/helpers.rs", "", &["`helpers`"]);
    check(file_name, "src/common/mod.rs", "", &["`common`"]);
    check(file_name, code, "", &[]);
}

#[test]
fn the_map_must_name_every_invariant_and_every_module() {
    let rows = FLOORS.map(|(module, floor)| format!("//! | {floor} | [`{module}`] |\n")).concat();
    let invariants: String = INVARIANTS.iter().map(|n| format!("//! {n}. It holds.\n")).collect();
    let good = format!("//! # Floors\n{rows}//!\n//! # Invariants\n{invariants}");
    assert_eq!(map("src/lib.rs", &good), [""; 0]);
    let bad = good.replace("//! 7. It holds.\n", "").replace("`latest`", "`earliest`");
    let expected = ["1: invariant 7 is missing", "1: `latest` is not on floor -1 of the map"];
    assert_eq!(map("src/lib.rs", &bad), expected);
}

#[test]
fn a_driver_without_an_example_is_found() {
    let examples = ["[[device]]\ndriver = \"sim\"\n# driver = \"mqtt\"\n".to_owned()];
    assert_eq!(without_example(&["sim", "mqtt"], &examples), ["mqtt"]);
}

fn check_rooms(path: &str, text: &str, expected: &[&str]) {
    let found = rooms(path, text);
    assert_eq!(found.len(), expected.len(), "{path}: {text}\n{found:?}");
    for (found, expected) in found.iter().zip(expected) {
        assert!(found.contains(expected), "{found} lacks {expected}");
    }
}

#[test]
fn a_room_knows_lower_rooms_only() {
    let check = check_rooms;
    let tape = "src/plugin/trace/tape.rs";
    check(tape, "use crate::plugin::module::offer::Offer;\nuse super::record::Recorder;", &[]);
    check(tape, "\nuse crate::plugin::instance::wasm::Instance;", &["2: floor 1 of `plugin`"]);
    check(
        tape,
        "use crate::plugin::{Trap, instance::{stop, wasm}};",
        &["`instance`", "`instance`"],
    );
    check(tape, "fn x() { super::super::replay::replay() }", &["`replay` (floor 3)"]);
    check(tape, "// As crate::plugin::instance::stop says.", &[]);
    let test = "#[cfg(test)]\nmod tests {\n    use super::super::super::shadow::Frame;\n}\n";
    check(tape, test, &["3: floor 1 of `plugin` must not know `shadow`"]);
    check("src/plugin/shadow.rs", "use super::replay::Ending;", &["`replay` (floor 3)"]);
    check("src/plugin/shadow/run.rs", "use super::super::instance::stop;", &[]);
    check("src/plugin/mod.rs", "use crate::plugin::module::check;", &["1: floor -1 of `plugin`"]);
    check("src/plugin/attic.rs", "", &["the room `attic` of `plugin` has no floor"]);
    check("src/scan/mod.rs", "use crate::plugin::instance::program::Program;", &[]);
}

#[test]
fn a_part_of_the_daemon_knows_lower_parts_only() {
    let check = check_rooms;
    check("src/daemon/field/reset.rs", "use crate::daemon::plugins::Plugins;", &[]);
    check("src/daemon/plugins.rs", "use super::link::ScanLink;\nuse super::micros;", &[]);
    check("src/daemon/plugins.rs", "use super::field::Field;", &["`field` (floor 2)"]);
    check("src/daemon/link/stall.rs", "use super::super::plugins::Record;", &["`plugins`"]);
    check("src/daemon/stop.rs", "use super::view::Words;", &["`view` (floor 4)"]);
    check("src/daemon/more.rs", "", &["the room `more` of `daemon` has no floor"]);
}

#[test]
fn a_daemon_that_grows_is_found() {
    let daemon = |fields: usize, calls: usize, arm: &str| {
        format!(
            "struct Daemon {{\n{}}}\nfn follow_the_scan() {{\n{}}}\nfn live() {{\n    match event {{\n        \
             Event::Tick => self.follow_the_scan(),\n{arm}    }}\n    self.one();\n    self.two();\n}}\n",
            "    /// What: it is.\n    one: Part,\n".repeat(fields),
            "    self.call();\n".repeat(calls),
        )
    };
    let check = |text: &str, expected: &[&str]| {
        assert_eq!(parts("src/daemon.rs", text), expected, "{text}");
    };
    check(&daemon(8, 6, ""), &[]);
    check(&daemon(9, 6, ""), &["1: 9 fields; 8 are allowed"]);
    check(&daemon(1, 7, ""), &["5: 7 calls; 6 are allowed"]);
    let one = "        Event::Stop => {\n            self.stop();\n        }\n";
    check(&daemon(1, 1, one), &[]);
    let two = "        Event::Stop => {\n            self.follow_the_scan();\n            self.stop();\n        }\n";
    check(&daemon(1, 1, two), &["11: an arm of the loop is one call"]);
    check(
        "struct Demon;",
        &[
            "1: there is no `struct Daemon`",
            "1: there is no `follow_the_scan`",
            "1: there is no `live`",
        ],
    );
    assert!(parts("src/scan/mod.rs", "").is_empty());
}

#[test]
fn a_file_that_is_named_and_not_there_is_found() {
    let there = ["src/daemon/field/retain.rs", "src/daemon/field.rs", "src/retain.rs"];
    let check = |text: &str, expected: &[&str]| {
        let found = strangers("src/daemon/field.rs", text, &|path| there.contains(&path));
        assert_eq!(found, expected, "{text}");
    };
    check("//! See `retain.rs`, `field/retain.rs`, `daemon/field/retain.rs`.", &[]);
    check("//! It is `src/retain.rs`.\nlet x = `other.rs`;", &[]);
    check("\n/// As `daemon/retain.rs` says.", &["2: `daemon/retain.rs` is not there"]);
    check("let x = 1; // as in `reset.rs`", &["1: `reset.rs` is not there"]);
}

#[test]
fn a_circle_of_files_is_found() {
    let check = |files: &[(&str, &str)], expected: &[&str]| {
        assert_eq!(circles(files), expected, "{files:?}");
    };
    let one = ("src/process/one.rs", "use super::{two::{A as B, C}, three};");
    let two = ("src/process/two.rs", "fn x() -> crate::process::three::Y { y() }");
    let three = ("src/process/three.rs", "use std::fmt;\nuse super::one::Z;");
    check(&[one, two], &[]);
    let circle = "a circle: process::one -> process::three -> process::one";
    check(&[one, two, three], &[circle]);
    // A file and its parts may know each other; its parts among themselves may not.
    let whole = ("src/process/one.rs", "mod left;\nmod right;\nuse left::Left;");
    let left = ("src/process/one/left.rs", "use super::right::Right;\nuse super::Whole;");
    let right = ("src/process/one/right.rs", "use super::{Whole, left::Left};");
    let circle = "a circle: process::one::left -> process::one::right -> process::one::left";
    check(&[whole, left], &[]);
    check(&[whole, left, right], &[circle]);
    let tested = "#[cfg(test)]\nmod tests {\n    use super::super::left::Left;\n}\n";
    check(&[whole, left, ("src/process/one/right.rs", tested)], &[]);
}
