//! Tests of valid files: defaults, both examples, automatic addresses, grants, and differences.
//!
//! Files with mistakes are in `mistakes.rs`. Reloads with another file are in `reload.rs`.

use std::path::Path;
use std::time::Duration;

use super::*;
use crate::log;
use crate::plugin::{Compiler, Limits, RollbackState, SwapPolicy};
use crate::process::grant::Grant;
use crate::process::image::{Direction, MAX_IMAGE_BYTES, Point, PointId, PointKind, Safe, Value};
use crate::process::variable::Variable;
use crate::retain::{OnCorrupt, OnReadonly};
use crate::scan::thread;
use crate::supervisor::RestartPolicy;

mod bounds;
mod mistakes;
mod reload;

/// Reads `text` in an environment in which only `HOME` is set.
fn read(text: &str) -> Result<Config, Problems> {
    read_in(text, &[("HOME", "/home/jo")])
}

fn read_in(text: &str, env: &[(&str, &str)]) -> Result<Config, Problems> {
    let env = |name: &str| env.iter().find(|(set, _)| *set == name).map(|(_, value)| value.into());
    parse_with(text, Path::new("etc/c.toml"), &Points::default(), &env)
}

#[track_caller]
fn good(text: &str) -> Config {
    read(text).unwrap_or_else(|problems| panic!("{problems}\n{text}"))
}

/// Returns the text of a device with these points. Each point is an inline table without its
/// braces.
fn plant(points: &[&str]) -> String {
    let points = points.iter().map(|point| format!("  {{ {point} }},\n")).collect::<String>();
    format!("[[device]]\nname = 'd'\ndriver = 'sim'\npoint = [\n{points}]\n")
}

/// An empty file is valid, and each setting has its default.
#[test]
fn an_empty_file_has_every_default() {
    let config = good("");
    let scan = thread::Settings {
        period: Duration::from_millis(10),
        priority: None,
        cpus: vec![],
        lock_memory: false,
        wake_latency: None,
        stall: Duration::from_millis(200),
        stall_exit: Duration::from_secs(2),
    };
    assert_eq!(config.scan(), scan);
    let rules = PluginRules {
        grant_all: true,
        poll_budget: Duration::from_micros(2500),
        restart: RestartPolicy::default(),
        swap: SwapPolicy::default(),
    };
    assert_eq!(config.live.plugins, rules);
    let places = PluginPlaces {
        dir: "etc/plugins".into(),
        limits: Limits::default(),
        compiler: Compiler::Cranelift,
        cache: "/home/jo/.cache/camshaft".into(),
    };
    assert_eq!(config.fixed.plugins, places);
    let control = ControlSettings { socket: "/run/camshaft/control.sock".into(), mode: 0o600 };
    assert_eq!(config.fixed.control, control);
    assert_eq!(config.fixed.crash, CrashSettings { record: true });
    assert_eq!(config.log(), log::Settings::default());
    let retain = RetainSettings {
        variables: vec![],
        flush: Duration::from_secs(5),
        on_corrupt: OnCorrupt::Cold,
        on_readonly: OnReadonly::Start,
    };
    assert_eq!(config.fixed.retain, retain);
    assert_eq!(config.fixed.recovery, RecoverySettings::default());
    assert!(
        config.live.points.is_empty()
            && config.live.devices.is_empty()
            && config.live.programs.is_empty()
    );
}

/// The defaults of `stall` and `stall_exit` depend on the period and on each other.
#[test]
fn a_stall_is_twenty_cycles_and_the_exit_comes_well_after_it() {
    let check = |keys: &str, stall_ms, exit_ms| {
        let scan = good(&format!("[scan]\n{keys}")).live.scan;
        let ms = Duration::from_millis;
        assert_eq!((scan.stall, scan.stall_exit), (ms(stall_ms), ms(exit_ms)), "{keys}");
    };
    check("period = '1ms'", 100, 2000);
    check("period = '50ms'", 1000, 2000);
    check("period = '1s'", 20_000, 40_000);
    check("period = '1s'\nstall = '3s'", 3000, 6000);
    check("stall = '30ms'\nstall_exit = '60ms'", 30, 60);
    check("stall = '60s'\nstall_exit = '1h'", 60_000, 3_600_000);
}

/// A file with all keys of all sections, and with two variables.
const EVERY_KEY: &str = "\
         [scan]\nperiod = '1ms'\npriority = 98\ncpu = [3, 1, 3]\nlock_memory = true\n\
         wake_latency = '20us'\nstall = '70ms'\nstall_exit = '1s'\n\
         [plugins]\ndir = '/p'\ngrant = 'none'\npoll_budget = '20us'\ninit_budget = '1s'\n\
         memory = '64KiB'\ntable = 1\nstack = 8192\nmodule = '1 GiB'\n\
         code = '1MiB'\nfunctions = 2\nlog_rate = 3\n\
         restart = { first = '1s', max = '1m', traps = 9, within = '5m', on_quarantine = 'safe' }\n\
         swap = { budget = '600us', probation = '1m', polls = 7, rollback_state = 'snapshot',\n\
         shadow = 9, admit_ratio = 0.5, require_equal = true }\n\
         compiler = 'singlepass'\ncache = 'c'\n\
         [[variable]]\nname = 'v'\ntype = 'int'\n\
         [[variable]]\nname = 'k'\ntype = 'int'\ninitial = 7\nretain = true\n\
         [state]\ndir = 'st'\n[retain]\nflush = '5ms'\non_corrupt = 'refuse'\n\
         on_readonly = 'refuse'\n\
         [control]\nsocket = 's'\nmode = '0660'\n[crash]\nrecord = false\n\
         [log]\nlevel = 'trace'\nformat = 'json'\n";

/// The settings of the section `[scan]` in [`EVERY_KEY`].
fn every_key_of_scan() -> thread::Settings {
    thread::Settings {
        period: Duration::from_millis(1),
        priority: Some(98),
        cpus: vec![1, 3],
        lock_memory: true,
        wake_latency: Some(Duration::from_micros(20)),
        stall: Duration::from_millis(70),
        stall_exit: Duration::from_secs(1),
    }
}

/// Each key of each section changes its setting. If a key is read but changes no setting, the test
/// fails.
#[test]
fn every_key_is_heard() {
    let config = good(EVERY_KEY);
    assert_eq!(config.scan(), every_key_of_scan());
    let rules = PluginRules {
        grant_all: false,
        poll_budget: Duration::from_micros(20),
        restart: RestartPolicy {
            delay: Duration::from_secs(1),
            delay_max: Duration::from_secs(60),
            traps: 9,
            window: Duration::from_secs(300),
            on_quarantine: crate::supervisor::OnQuarantine::Safe,
        },
        swap: SwapPolicy {
            budget: Duration::from_micros(600),
            probation: Duration::from_secs(60),
            polls: 7,
            rollback_state: RollbackState::Snapshot,
            shadow: 9,
            admit_ratio: 0.5,
            require_equal: true,
        },
    };
    assert_eq!(config.live.plugins, rules);
    let places = PluginPlaces {
        dir: "/p".into(),
        limits: Limits {
            init_budget: Duration::from_secs(1),
            memory_bytes: 64 << 10,
            table_elements: 1,
            stack_bytes: 8 << 10,
            module_bytes: 1 << 30,
            code_bytes: 1 << 20,
            functions: 2,
            log_lines_per_s: 3,
        },
        compiler: Compiler::Singlepass,
        cache: "etc/c".into(),
    };
    assert_eq!(config.fixed.plugins, places);
    assert_eq!(config.fixed.control, ControlSettings { socket: "etc/s".into(), mode: 0o660 });
    assert_eq!(config.fixed.crash, CrashSettings { record: false });
    let retain = RetainSettings {
        variables: vec![("k".into(), Variable::Int(7))],
        flush: Duration::from_millis(5),
        on_corrupt: OnCorrupt::Refuse,
        on_readonly: OnReadonly::Refuse,
    };
    assert_eq!(
        (config.fixed.state.dir.clone(), config.fixed.retain.clone()),
        ("etc/st".into(), retain)
    );
    assert_eq!(
        config.log(),
        log::Settings { level: "trace".parse().unwrap(), format: log::Format::Json }
    );
}

/// The settings of recovery have the values of the keys in `[recovery]`.
#[test]
fn recovery_is_as_configured() {
    let config = good("[recovery]\nends = 0\npower_cuts = 7\nwithin = '1h'\n");
    let expected = RecoverySettings { ends: 0, power_cuts: 7, within: Duration::from_secs(3600) };
    assert_eq!(config.fixed.recovery, expected);
}

/// The default folders depend on the environment: of systemd, of a user, or of the machine.
#[test]
fn default_places_follow_the_environment() {
    let check = |env: &[(&str, &str)], cache: &str, socket: &str| {
        let config = read_in("", env).unwrap();
        assert_eq!(config.fixed.plugins.cache, Path::new(cache));
        assert_eq!(config.fixed.control.socket, Path::new(socket));
    };
    let run = "/run/camshaft/control.sock";
    check(&[], "/var/cache/camshaft", run);
    check(&[("XDG_CACHE_HOME", "/x"), ("HOME", "/h")], "/x/camshaft", run);
    check(&[("XDG_CACHE_HOME", "x"), ("HOME", "/h")], "/h/.cache/camshaft", run);
    check(&[("CACHE_DIRECTORY", "/c:/d"), ("XDG_CACHE_HOME", "/x")], "/c", run);
    check(&[("XDG_RUNTIME_DIR", "/u")], "/var/cache/camshaft", "/u/camshaft/control.sock");
    let both = [("RUNTIME_DIRECTORY", "/r"), ("XDG_RUNTIME_DIR", "/u")];
    check(&both, "/var/cache/camshaft", "/r/control.sock");
}

/// The example files in `config/` load, and have the settings that their comments promise.
#[test]
fn the_examples_load() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("config");
    let quick = load(&folder.join("camshaft.toml")).unwrap_or_else(|problems| panic!("{problems}"));
    assert_eq!(quick.fixed.plugins.dir, folder.join("../plugins"));
    let place = |name: &str| {
        let point = &quick.live.points[quick.live.points.find(name).unwrap()];
        (point.direction, point.kind, point.byte, point.bit, point.safe)
    };
    let (off, hold) = (Safe::Value(Value::Bool(false)), Safe::Hold);
    assert_eq!(place("tank.level"), (Direction::In, PointKind::F64, 0, 0, hold));
    assert_eq!(place("button.estop_ok"), (Direction::In, PointKind::Bool, 8, 2, hold));
    let shut = Safe::Value(Value::Real(0.0));
    assert_eq!(place("tank.inflow"), (Direction::Out, PointKind::F64, 0, 0, shut));
    assert_eq!(place("lamp"), (Direction::Out, PointKind::Bool, 8, 1, off));
    assert_eq!(quick.live.variables, [("tank.setpoint".to_owned(), Variable::Double(60.0))]);

    let path = folder.join("production.toml");
    let production = load(&path).unwrap_or_else(|problems| panic!("{problems}"));
    assert_eq!(production.fixed.plugins.cache, Path::new("/var/cache/camshaft"));
    assert_eq!(production.live.points.image_bytes(Direction::In), 16);
    assert_eq!(production.settings("stranger").outputs, Grant::Only(vec![]));
    assert!(production.settings("blink").hold);

    let path = folder.join("modbus.toml");
    let modbus = load(&path).unwrap_or_else(|problems| panic!("{problems}"));
    assert_eq!(modbus.live.devices[0].driver.driver(), "modbus");
}

/// A point without an address gets the next free address that is a multiple of its size.
#[test]
fn places_that_are_not_named_are_the_next_free_ones() {
    let text = plant(&[
        "name = 'a', direction = 'in', type = 'bool'",
        "name = 'b', direction = 'in', type = 'u32'",
        "name = 'c', direction = 'in', type = 'bool'",
        "name = 'd', direction = 'in', type = 'u16'",
        "name = 'e', direction = 'in', type = 'u8', address = 1",
        "name = 'f', direction = 'out', type = 'f64', safe = 'hold'",
    ]);
    let second = plant(&["name = 'g', direction = 'in', type = 'u8'"]).replace("'d'", "'e'");
    let config = good(&(text + &second));
    let places: Vec<_> =
        config.live.points.iter().map(|(_, point)| (&*point.name, point.byte, point.bit)).collect();
    let expected =
        [("a", 0, 0), ("b", 4, 0), ("c", 0, 1), ("d", 2, 0), ("e", 1, 0), ("f", 0, 0), ("g", 8, 0)];
    assert_eq!(places, expected);
    assert_eq!(config.live.points.image_bytes(Direction::In), 9);
    assert_eq!(config.live.points.image_bytes(Direction::Out), 8);
}

/// The test makes files with random devices, windows, types and addresses. The points of an
/// accepted file never overlap, and they are inside of their image.
#[test]
fn accepted_points_never_overlap() {
    let mut accepted = 0;
    for seed in 0..2000 {
        let mut random = fastrand::Rng::with_seed(seed);
        let Ok(config) = read(&random_config(&mut random)) else { continue };
        accepted += 1;
        let points: Vec<&Point> = config.live.points.iter().map(|(_, point)| point).collect();
        for (index, one) in points.iter().enumerate() {
            assert!(
                one.bytes().end <= config.live.points.image_bytes(one.direction),
                "seed {seed}"
            );
            for other in &points[..index] {
                let apart = one.direction != other.direction
                    || one.bytes().end <= other.bytes().start
                    || other.bytes().end <= one.bytes().start
                    || one.mask() & other.mask() == 0;
                assert!(apart, "seed {seed}: {one:?} {other:?}");
            }
        }
    }
    // Accepted and refused files must both occur often. Otherwise the test checks too little.
    assert!((500..1500).contains(&accepted), "{accepted} of 2000 accepted");
}

fn random_config(random: &mut fastrand::Rng) -> String {
    let kinds = ["bool", "u8", "i16", "u32", "f32", "i64", "f64"];
    let mut text = String::new();
    for device in 0..random.u32(1..4) {
        text += &format!("[[device]]\nname = 'd{device}'\ndriver = 'sim'\n");
        if random.u8(..) < 40 {
            text += &format!("input_start = {}\n", random.u32(..64));
        }
        if random.u8(..) < 40 {
            text += &format!("output_bytes = {}\n", random.u32(16..64));
        }
        for point in 0..random.u32(..12) {
            let kind = random.choice(kinds).unwrap();
            let direction = random.choice(["in", "out\"\nsafe = \"hold"]).unwrap();
            text += &format!(
                "[[device.point]]\nname = 'p{device}.{point}'\n\
                 type = '{kind}'\ndirection = \"{direction}\"\n"
            );
            match random.u8(..) {
                0..60 => text += &format!("address = {}\n", random.u32(..100)),
                60..80 if kind == "bool" => {
                    text += &format!("address = '{}.{}'\n", random.u32(..100), random.u32(..8));
                }
                _ => {}
            }
        }
    }
    text
}

/// For a file with random damage, `parse` never panics. If it fails, it returns at least one
/// problem.
#[test]
fn damaged_files_are_answered() {
    let original = include_bytes!("../../config/production.toml");
    for seed in 0..2000 {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut bytes = original.to_vec();
        for _ in 0..random.u32(1..6) {
            let (from, to) = (random.usize(..bytes.len()), random.usize(..bytes.len()));
            match random.u8(..4) {
                0 => bytes[to] = bytes[from],
                1 => bytes[to] = random.u8(b' '..=b'~'),
                2 => drop(bytes.remove(to)),
                _ => bytes.insert(to, random.u8(b'0'..=b'9')),
            }
        }
        if let Err(problems) = read(&String::from_utf8_lossy(&bytes)) {
            assert!(!problems.list.is_empty(), "seed {seed}");
        }
    }
}

/// A point fits into the last 8 bytes of an image. A further point is refused.
#[test]
fn the_whole_image_can_be_filled() {
    let device = |name: &str, bytes: u32| {
        format!("[[device]]\nname = '{name}'\ndriver = 'sim'\ninput_bytes = {bytes}\n")
    };
    let text = device("a", MAX_IMAGE_BYTES - 8) + &device("b", 8);
    let point = "[[device.point]]\nname = 'p'\ndirection = 'in'\ntype = 'f64'\n";
    assert_eq!(good(&(text.clone() + point)).live.points[PointId(0)].byte, MAX_IMAGE_BYTES - 8);
    let more = text + &device("c", 0) + point;
    let problems = read(&more).expect_err("there is no byte left").to_string();
    assert!(problems.contains("no free address in 0 bytes at 65536 of the device"), "{problems}");
}

/// The default of `state.dir` depends on the environment, and for root not on `HOME`.
#[test]
fn the_state_directory_follows_the_environment_and_the_user() {
    let check = |is_root: bool, vars: &[(&str, &str)], expected: &str| {
        let env = |name: &str| {
            vars.iter().find(|(set, _)| *set == name).map(|(_, value)| OsString::from(value))
        };
        let here =
            Surroundings { folder: PathBuf::new(), env: &env, before: &Points::default(), is_root };
        assert_eq!(state::state(&None, &here).dir, Path::new(expected), "{is_root} {vars:?}");
    };
    let home = ("HOME", "/h");
    check(false, &[], "/var/lib/camshaft");
    check(false, &[home], "/h/.local/state/camshaft");
    check(true, &[home], "/var/lib/camshaft");
    check(true, &[home, ("XDG_STATE_HOME", "/x")], "/x/camshaft");
    check(false, &[home, ("XDG_STATE_HOME", "/x")], "/x/camshaft");
    check(false, &[home, ("STATE_DIRECTORY", "/s:/s/plugins"), ("XDG_STATE_HOME", "/x")], "/s");
}

const THREE: [&str; 3] = [
    "name = 'i', direction = 'in', type = 'u8'",
    "name = 'x', direction = 'out', type = 'bool'",
    "name = 'y', direction = 'out', type = 'bool'",
];

/// A plugin gets the points of its lists. The outputs that no list names go to the other plugins,
/// or to no plugin.
#[test]
fn grants_follow_the_entries() {
    let text = plant(&THREE)
        + "[[plugin]]\nname = 'a'\noutputs = ['x']\ninputs = ['i']\n\
           [[plugin]]\nname = 'b'\nevery = 5\npoll_budget = '1ms'\n";
    let only = |ids: &[u16]| Grant::Only(ids.iter().map(|&id| PointId(id)).collect());
    for (grant, rest) in [("all", only(&[2])), ("none", only(&[]))] {
        let config = good(&format!("plugins.grant = '{grant}'\n{text}"));
        let a = config.settings("a");
        assert_eq!((a.order, a.every, a.inputs, a.outputs), (0, 1, only(&[0]), only(&[1])));
        let b = config.settings("b");
        assert_eq!((b.order, b.every, b.inputs, b.outputs), (1, 5, Grant::All, rest.clone()));
        assert_eq!(b.poll_budget, Duration::from_millis(1));
        let c = config.settings("c");
        assert_eq!((c.order, c.every, c.inputs, c.outputs), (2, 1, Grant::All, rest));
        assert_eq!((c.poll_budget, c.hold), (Duration::from_micros(2500), false));
    }
}

/// A plugin may write the variables of its list. The list may be empty, may contain the beginnings
/// of names, or may be absent.
#[test]
fn variables_are_granted_like_outputs() {
    let text = "[[plugin]]\nname = 'a'\nvariables = ['x', 'alarm.*']\n\
                [[plugin]]\nname = 'b'\nvariables = ['x']\n\
                [[plugin]]\nname = 'c'\n[[plugin]]\nname = 'd'\nvariables = []\n";
    let check = |grant: &str, plugin: &str, expected: [bool; 4]| {
        let config = good(&format!("plugins.grant = '{grant}'\n{text}"));
        let variables = config.settings(plugin).variables;
        let found = ["x", "alarm.high", "alarm", "other"].map(|name| variables.allows(name));
        assert_eq!(found, expected, "{plugin} with {grant}");
    };
    for grant in ["all", "none"] {
        check(grant, "a", [true, true, false, false]);
        check(grant, "b", [true, false, false, false]);
        check(grant, "d", [false; 4]);
    }
    // A plugin without a list of variables gets the variables that no list names, or no variables.
    // The result is equal for a plugin with an entry and for a plugin without an entry.
    for plugin in ["c", "no entry"] {
        check("all", plugin, [false, false, true, true]);
        check("none", plugin, [false; 4]);
    }
}

/// Checks the differences from one text to the other: first the live ones, then those that need a
/// restart.
#[track_caller]
fn check_changes(old: &str, new: &str, live: &[&str], fixed: &[&str]) {
    let changes = changes(&good(old), &good(new));
    let (found_live, found_fixed): (Vec<_>, Vec<_>) =
        changes.iter().partition(|change| change.is_live());
    let words = |all: Vec<&Change>| all.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(words(found_live), live);
    assert_eq!(words(found_fixed), fixed);
}

/// Returns a file with one device, one plugin and one variable.
fn one_of_each() -> String {
    plant(&THREE)
        + "[[plugin]]\nname = 'a'\noutputs = ['x']\n[[variable]]\nname = 'k'\ntype = 'int'\n"
}

/// A difference of an entry is listed with the name of the entry and the name of the key.
#[test]
fn changes_of_entries_are_named() {
    let base = one_of_each();
    let check = |from: &str, to: &str, live: &[&str], fixed: &[&str]| {
        check_changes(&base, &base.replace(from, to), live, fixed);
    };
    check("", "", &[], &[]);
    check("['x']", "['y']", &["plugin[a].outputs changed"], &[]);
    check("['x']", "['x']\nvariables = ['v*']", &["plugin[a].variables changed"], &[]);
    check(
        "'a'",
        "'a'\nhold = true\nevery = 2",
        &["plugin[a].every changed", "plugin[a].hold changed"],
        &[],
    );
    check("'u8'", "'u16'", &[], &["device[d].points changed", "point[i].type changed"]);
    check("'sim'", "'sim'\ninitial = { i = 1 }", &["device[d] changed"], &[]);
    check("['x']", "['x']\n[[variable]]\nname = 'v'\ntype = 'int'", &["variable[v] added"], &[]);
    check("'k'\ntype = 'int'", "'k'\ntype = 'double'", &[], &["variable[k] changed"]);
    check("'k'\ntype = 'int'", "'k'\ntype = 'int'\ninitial = 3", &["variable[k] changed"], &[]);
    check("'k'", "'k'\nretain = true", &[], &["variable[k] changed"]);
    // The two entries that both files have are in the same order.
    check("[[plugin]]", "[[plugin]]\nname = 'b'\n[[plugin]]", &["plugin[b] added"], &[]);
}

/// A difference of a section is listed with the name of the key. A new period also changes the
/// defaults that depend on the period.
#[test]
fn changes_of_sections_are_named() {
    let base = one_of_each();
    let check = |more: &str, live: &[&str], fixed: &[&str]| {
        check_changes(&base, &base.replace("['x']", &format!("['x']\n{more}")), live, fixed);
    };
    let state = "[state]\ndir = '/s'\n[retain]\nflush = '1s'\non_corrupt = 'refuse'\n\
                 on_readonly = 'refuse'\n[recovery]\nends = 1";
    let fixed = [
        "state.dir changed",
        "retain.flush changed",
        "retain.on_corrupt changed",
        "retain.on_readonly changed",
        "recovery changed",
    ];
    check(state, &[], &fixed);
    check(
        "[scan]\nperiod = '20ms'\n[log]\nlevel = 'warn'\nformat = 'text'",
        &[
            "scan.period changed",
            "scan.stall changed",
            "plugins.poll_budget changed",
            "plugins.swap changed",
            "plugin[a].poll_budget changed",
            "log.level changed",
        ],
        &["log.format changed"],
    );
}

/// If points have moved, every other change that may depend on addresses waits for a restart.
#[test]
fn a_point_that_moves_keeps_other_changes_back() {
    let base = one_of_each();
    let replaced = base.replace("'u8'", "'u16'") + "[scan]\nperiod = '20ms'\n[log]\nlevel = 'warn'";
    let changes_of_all = changes(&good(&base), &good(&replaced));
    let live: Vec<_> = changes_of_all.iter().filter(|change| change.is_live()).collect();
    assert_eq!(live.iter().map(ToString::to_string).collect::<Vec<_>>(), ["log.level changed"]);
    assert!(changes_of_all.iter().any(|change| change.place == ConfigPlace::Key("scan.period")));
}

/// The order of plugins is compared only among the plugins that both files have.
#[test]
fn the_order_of_plugins_counts_among_those_that_stay() {
    let three =
        "[[plugin]]\nname = 'a'\nevery = 2\n[[plugin]]\nname = 'b'\n[[plugin]]\nname = 'c'\n";
    let check = |new: &str, expected: &[&str]| {
        let changes = changes(&good(three), &good(new));
        assert_eq!(changes.iter().map(ToString::to_string).collect::<Vec<_>>(), expected);
    };
    check("[[plugin]]\nname = 'b'\n[[plugin]]\nname = 'c'\n", &["plugin[a] removed"]);
    check(
        "[[plugin]]\nname = 'c'\n[[plugin]]\nname = 'b'\n",
        &["plugin[a] removed", "plugin[b].order changed", "plugin[c].order changed"],
    );
}
