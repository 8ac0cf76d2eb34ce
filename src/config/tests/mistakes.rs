//! Tests of files with mistakes: one row for each kind of mistake, with the exact message.
//!
//! A message begins with its line in the file. The rows contain the whole report, so the test also
//! fails if one mistake causes two messages.

use std::path::Path;

use super::{plant, read};
use crate::config::load;
use crate::process::image::MAX_POINTS;

/// Checks the whole report on `text`: its lines in order, without the name of the file.
#[track_caller]
fn check(text: &str, expected: &[&str]) {
    let problems = read(text).expect_err(text).to_string();
    let found: Vec<_> = problems.lines().map(|line| &line["etc/c.toml:".len()..]).collect();
    assert_eq!(found, expected, "{text}");
}

const LEVEL: &str = "name = 'level', direction = 'in', type = 'f64'";
const LAMP: &str = "name = 'lamp', direction = 'out', type = 'bool'";
const VALVE: &str = "name = 'valve', direction = 'out', type = 'u8', safe = 0";

/// Mistakes in the keys of a shadow run.
#[test]
fn shadow_runs() {
    let right = "expected above 0 and at most 1, such as 0.7";
    for (found, ratio) in [("0", "0.0"), ("1.5", "1.5"), ("-1", "-1"), ("NaN", "nan")] {
        check(
            &format!("[plugins.swap]\nadmit_ratio = {ratio}\n"),
            &[&format!("2: plugins.swap.admit_ratio: {right}, found {found}")],
        );
    }
    check(
        "[plugins.swap]\nshadow = 100001\nrequire_equal = 1\n",
        &[
            "2: plugins.swap.shadow: expected from 0 to 100000, found 100001",
            "3: plugins.swap.require_equal: expected true or false, found 1",
        ],
    );
}

/// Mistakes in the keys for bad inputs and for outputs without an owner.
#[test]
fn what_becomes_of_bad_inputs_and_of_outputs_that_nobody_owns() {
    let input = |more: &str| plant(&[&format!("{LEVEL}, {more}")]);
    let output = |more: &str| plant(&[&format!("{VALVE}, {more}")]);
    let check_one = |text: String, expected: &str| check(&text, &[expected]);
    check_one(
        input("on_bad = 'zero'"),
        "5: device[d].point[level].on_bad: expected \"keep\", true, false or a number, found \
         'zero'",
    );
    check_one(
        input("on_bad = true"),
        "5: device[d].point[level].on_bad: expected a number, for type f64, found true",
    );
    check_one(
        input("stale_after = '2s', bad_after = '1s'"),
        "5: device[d].point[level].bad_after: expected at least `stale_after`, which is 2s, found \
         1s",
    );
    check_one(
        input("stale_after = '0s'"),
        "5: device[d].point[level].stale_after: expected from 100us to 1day, found 0s",
    );
    check_one(
        input("hold_for = '1s'"),
        "5: device[d].point[level].hold_for: expected this key only on an output, found `hold_for` \
         on an input",
    );
    check_one(
        output("on_bad = 1"),
        "5: device[d].point[valve].on_bad: expected this key only on an input, found `on_bad` on \
         an output",
    );
    check_one(
        output("hold_for = '2h'"),
        "5: device[d].point[valve].hold_for: expected from 0s to 1h, found 2h",
    );
    check_one(
        plant(&["name = 'lamp', direction = 'out', type = 'bool', safe = 'hold', hold_for = '1s'"]),
        "5: device[d].point[lamp].hold_for: expected this key only with a value in `safe`, because \
         with \"hold\" the output is never made safe, found `hold_for` with safe = \"hold\"",
    );
    check_one(
        input("at = { path = '/x' }"),
        "5: device[d].at: expected one of `name`, `driver`, `input_start`, `input_bytes`, \
         `output_start`, `output_bytes`, `point`, `tank`, `signal`, `loopback`, `script`, `fault`, \
         `initial`, found an unknown key",
    );
}

/// Mistakes in the keys for required inputs.
#[test]
fn what_a_plugin_requires() {
    let text = |more: &str| plant(&[LEVEL, LAMP]) + "[[plugin]]\nname = 'p'\n" + more;
    check(
        &text("requires = ['lamp', 'levle']\nrequires_timeout = '2h'\n"),
        &[
            "10: plugin[p].requires: expected an input, found \"lamp\", which is an output",
            "10: plugin[p].requires: expected an input, such as \"level\", found \"levle\", which \
             is no point",
            "11: plugin[p].requires_timeout: expected from 0s to 1h, found 2h",
        ],
    );
    check(
        &text("requires_timeout = '1s'\n"),
        &["10: plugin[p].requires_timeout: expected also the key `requires` with names of \
           inputs, found a timeout without `requires`"],
    );
}

/// Unknown keys and values of a wrong type.
#[test]
fn keys_and_types() {
    check(
        "[scan]\nperid = '1ms'\n",
        &["2: scan.perid: found an unknown key; did you mean `period`?"],
    );
    check(
        "[control]\nport = 80\n[contrl]\n",
        &[
            "2: control.port: expected one of `socket`, `mode`, found an unknown key",
            "3: contrl: found an unknown key; did you mean `control`?",
        ],
    );
    check("scan = 5\n", &["1: scan: expected a table [scan], found 5"]);
    check("[plugin]\n", &["1: plugin: expected a list of tables [[plugin]], found [plugin]"]);
    check(
        "[scan]\nlock_memory = 1\npriority = '5'\ncpu = 'all'\n[log]\nlevel = 'loud'\n",
        &[
            "2: scan.lock_memory: expected true or false, found 1",
            "3: scan.priority: expected a whole number from 1 to 98, found '5'",
            "4: scan.cpu: expected a CPU number such as 1, or a list such as [1, 2], found 'all'",
            "6: log.level: expected one of error, warn, info, debug, trace, found 'loud'",
        ],
    );
    check(
        "[scan]\nperiod = 10\n[plugins]\npoll_budget = '15'\nmemory = '16MB'\nstack = -1\n",
        &[
            "2: scan.period: expected a duration such as \"10ms\" or \"500us\", found 10",
            "4: plugins.poll_budget: expected a duration such as \"10ms\" or \"500us\", found '15'",
            "5: plugins.memory: expected a size such as \"16MiB\", \"64KiB\" or a number of bytes, \
             found '16MB'",
            "6: plugins.stack: expected a size such as \"16MiB\", \"64KiB\" or a number of bytes, \
             found -1",
        ],
    );
    check(
        "[state]\ndir = 1\n[retain]\nflush = '1ms'\non_corrupt = 'zero'\ndir = '/x'\n\
         [[variable]]\nname = 'v'\ntype = 'int'\nretain = 'yes'\n",
        &[
            "2: state.dir: expected a path in quotes, found 1",
            "4: retain.flush: expected from 5ms to 1h, found 1ms",
            "5: retain.on_corrupt: expected \"cold\" or \"refuse\", found 'zero'",
            "6: retain.dir: expected one of `flush`, `on_corrupt`, `on_readonly`, found an unknown \
             key",
            "10: variable[v].retain: expected true or false, found 'yes'",
        ],
    );
    check(
        "[scan]\nperiod = \n",
        &["2:10: expected literal string, found string values must be quoted"],
    );
    check("[scan]\n[log]\n[scan]\n", &["3:2: expected valid TOML, found duplicate key"]);
    // The parser finds several mistakes in the syntax, and only the first one is reported.
    check("[scan\nperiod = '1ms\ncpu = [1, ]]\n", &["1:6: expected `]`, found unclosed table"]);
}

/// Values outside of the range of their key.
#[test]
fn ranges() {
    let check_one = |section: &str, line: &str, expected: &str| {
        check(&format!("[{section}]\n{line}\n"), &[&format!("2: {section}.{expected}")]);
    };
    check_one("scan", "period = '99us'", "period: expected from 100us to 1s, found 99us");
    let stall = "stall: expected from 30ms to 1m, found 29ms";
    check_one("scan", "stall = '29ms'", stall);
    let exit = "stall_exit: expected from 400ms to 1h, found 399ms";
    check_one("scan", "stall_exit = '399ms'", exit);
    check_one("scan", "period = '11s'", "period: expected from 100us to 1s, found 11s");
    check_one("scan", "priority = 99", "priority: expected from 1 to 98, found 99");
    check_one("scan", "cpu = [1024]", "cpu: expected CPU numbers from 0 to 1023, found [1024]");
    let plugins = |line: &str, expected: &str| check_one("plugins", line, expected);
    plugins("memory = '1KiB'", "memory: expected from 64KiB to 4GiB, found 1KiB");
    plugins("stack = 100", "stack: expected from 8KiB to 1MiB, found 100 bytes");
    plugins("functions = 0", "functions: expected from 1 to 1000000, found 0");
    plugins("init_budget = '1h'", "init_budget: expected from 10us to 1m, found 1h");
    plugins("poll_budget = '1us'", "poll_budget: expected from 10us to 10ms, found 1us");
    plugins(
        "poll_budget = '11ms'",
        "poll_budget: expected at most 10ms, the period, found 11ms, longer than a cycle",
    );
    plugins(
        "restart = { first = '2s', max = '1s' }",
        "restart.max: expected at least `first`, which is 2s, found 1s",
    );
    plugins("restart = { within = '0s' }", "restart.within: expected from 1s to 1h, found 0s");
    plugins("restart = { first = '0s' }", "restart.first: expected from 1ms to 1h, found 0s");
    plugins(
        "restart = { first = '1ms', max = '1ms' }",
        "restart.max: expected from 50ms to 1h, found 1ms",
    );
    let recovery = |line: &str, expected: &str| check_one("recovery", line, expected);
    recovery("ends = 101", "ends: expected from 0 to 100, found 101");
    recovery("power_cuts = -1", "power_cuts: expected a whole number, 0 or more, found -1");
    recovery("within = '0s'", "within: expected from 1s to 1day, found 0s");
    plugins("restart = { traps = 0 }", "restart.traps: expected from 1 to 100, found 0");
    check_one("control", "mode = '0777'", "mode: expected \"0600\" or \"0660\", found '0777'");
    check_one(
        "control",
        &format!("socket = '/{}'", "x".repeat(107)),
        "socket: expected at most 107 bytes, the limit of a socket's path, found a path of 108 \
         bytes",
    );
}

/// Names that are not well-formed, missing or not unique.
#[test]
fn names() {
    let right = "expected 1 to 128 of the characters A-Z a-z 0-9 _ - . beginning with a letter, a \
                 digit or _";
    check("[[plugin]]\nname = 'a b'\n", &[&format!("2: plugin[a b].name: {right}, found \"a b\"")]);
    check(
        "[[variable]]\nname = ''\ntype = 'int'\n",
        &[&format!("2: variable[].name: {right}, found \"\"")],
    );
    check("[[plugin]]\nname = '.x'\n", &[&format!("2: plugin[.x].name: {right}, found \".x\"")]);
    check("[[plugin]]\n", &["1: plugin[#1].name: expected a name in quotes, found nothing"]);
    // If one key of an entry is wrong, the other keys of this entry are still checked.
    check(
        &plant(&["name = 'a b', direction = 'out', type = 'u8'"]),
        &[
            &format!("5: device[d].point[a b].name: {right}, found \"a b\""),
            "5: device[d].point[a b].safe: expected safe = a value or \"hold\", because a numeric \
             output has no default, found nothing",
        ],
    );
    check(
        "[[variable]]\nname = '-v'\ntype = 'int'\ninitial = true\n",
        &[
            &format!("2: variable[-v].name: {right}, found \"-v\""),
            "4: variable[-v].initial: expected a whole number of 32 bits, for type int, found true",
        ],
    );
    check(
        "[[plugin]]\nname = 'a'\n[[plugin]]\nname = 'a'\n",
        &["4: plugin[a].name: expected another name, found a second plugin \"a\", the first is \
           on line 2"],
    );
    check(
        "[[device]]\nname = 'a'\ndriver = 'sim'\n[[device]]\nname = 'a'\ndriver = 'sim'\n",
        &["5: device[a].name: expected another name, found a second device \"a\", the first is \
           on line 2"],
    );
    check(
        &plant(&[LAMP, LAMP]),
        &["6: device[d].point[lamp].name: expected another name, found a second point \"lamp\", \
           the first is on line 5"],
    );
    check(
        "[[variable]]\nname = 'a'\ntype = 'int'\n[[variable]]\nname = 'a'\ntype = 'int'\n",
        &["5: variable[a].name: expected another name, found a second variable \"a\", the first \
           is on line 2"],
    );
}

/// First values that do not fit the type of a variable.
#[test]
fn variables() {
    let check = |kind: &str, value: &str, expected: &str| {
        let text = format!("[[variable]]\nname = 'v'\ntype = '{kind}'\ninitial = {value}\n");
        check(&text, &[&format!("4: variable[v].initial: expected {expected}, found {value}")]);
    };
    check("boolean", "1", "true or false, for type boolean");
    check("int", "1.5", "a whole number of 32 bits, for type int");
    check("int", "2147483648", "a whole number of 32 bits, for type int");
    check("double", "true", "a finite number, for type double");
    check("double", "'x'", "true, false or a number");
}

/// Checks the problems of a file with one device, whose only point is `p`.
#[track_caller]
fn check_point(point: &str, expected: &str) {
    check(&plant(&[point]), &[&format!("5: device[d].point[p].{expected}")]);
}

/// The beginning of an input's entry, up to its type.
const INPUT: &str = "name = 'p', direction = 'in', type =";

/// Mistakes in the entry of a point.
#[test]
fn points() {
    let check = check_point;
    check(
        "name = 'p', direction = 'up', type = 'bool'",
        "direction: expected \"in\" or \"out\", found 'up'",
    );
    check(
        "name = 'p', direction = 'out', type = 'i16'",
        "safe: expected safe = a value or \"hold\", because a numeric output has no default, \
         found nothing",
    );
    let safe = |kind: &str, rest: &str, expected: &str| {
        let point = format!("name = 'p', direction = 'out', type = '{kind}', {rest}");
        check(&point, &format!("safe: expected {expected}"));
    };
    safe("u8", "safe = 256", "a number in the range of type u8, found 256");
    safe("u8", "safe = true", "a number, for type u8, found true");
    safe("bool", "safe = 1", "true or false, for type bool, found 1");
    safe("bool", "safe = 'off'", "true, false, a number or \"hold\", found 'off'");
    safe(
        "u8",
        "scale = 0.1, safe = 26",
        "a number whose raw value (without scale and offset) fits type u8, found 26",
    );
    check(
        &format!("{INPUT} 'bool', safe = false"),
        "safe: expected this key only on an output, found `safe` on an input",
    );
    check(
        "name = 'p', direction = 'out', type = 'bool', initial = true",
        "initial: expected this key only on an input, found `initial` on an output",
    );
    check(
        &format!("{INPUT} 'u8', initial = -1"),
        "initial: expected a number in the range of type u8, found -1",
    );
    check(
        &format!("{INPUT} 'u8', scale = 0"),
        "scale: expected a finite number other than 0, found 0",
    );
    check(
        &format!("{INPUT} 'bool', offset = 1"),
        "offset: expected no `scale` and no `offset`, because the point is a bool, found 1",
    );
}

/// Addresses that a point cannot have.
#[test]
fn addresses() {
    let check = check_point;
    check(
        &format!("{INPUT} 'u16', address = 3.1"),
        "address: expected a byte address such as 3, or byte and bit such as \"3.1\", found 3.1",
    );
    check(
        &format!("{INPUT} 'u16', address = '3.1'"),
        "address: expected a byte address such as 3, because only a point of type bool has a bit, \
         found 3.1",
    );
    check(
        &format!("{INPUT} 'u16', address = 65535"),
        "address: expected at most 65534, so that the point ends within the 65536 bytes of an \
         image, found 65535",
    );
}

/// Addresses that overlap or are outside of the device's window, and too many points.
#[test]
fn places() {
    let fixed = |name: &str, kind: &str, address: &str| {
        format!("name = '{name}', direction = 'in', type = '{kind}', address = '{address}'")
    };
    check(
        &plant(&[&fixed("a", "u16", "2"), &fixed("b", "bool", "3.7")]),
        &["6: device[d].point[b].address: expected a free address, or no key `address`, so that \
           the daemon chooses the address, found 3.7, which overlaps `a` on line 5"],
    );
    let windowed = plant(&[&fixed("a", "u16", "3"), LEVEL])
        .replace("point = [", "input_start = 1\ninput_bytes = 3\npoint = [");
    check(
        &windowed,
        &[
            "7: device[d].point[a].address: expected an address in bytes 1 to 3, found 3, outside \
             the window of its device",
            "8: device[d].point[level]: expected a key `address` for this point, fewer points, or \
             more bytes for the device, found no free address in bytes 1 to 3 of the device",
        ],
    );
    check(
        "[[device]]\nname = 'd'\ndriver = 'sim'\noutput_start = 65530\noutput_bytes = 7\n",
        &["5: device[d].output_bytes: expected at most 6, the rest of an image of 65536 bytes, \
           found 7"],
    );
    let many: Vec<_> = (0..=MAX_POINTS)
        .map(|n| format!("name = 'p{n}', direction = 'in', type = 'bool'"))
        .collect();
    check(
        &plant(&many.iter().map(|point| &**point).collect::<Vec<_>>()),
        &["8197: device.point: expected at most 8192 points, found point 8193"],
    );
}

/// Mistakes in the keys of a driver.
#[test]
fn drivers() {
    let check = |keys: &str, expected: &[&str]| {
        check(&format!("[[device]]\nname = 'd'\n{keys}"), expected);
    };
    check("driver = 'simm'\n", &["3: device[d].driver: expected \"sim\", found \"simm\""]);
    check(
        "driver = 'sim'\ninput_strat = 3\ntnk = {}\nscript = { fil = 'x' }\n",
        &[
            "4: device[d].input_strat: found an unknown key; did you mean `input_start`?",
            "5: device[d].tnk: found an unknown key; did you mean `tank`?",
            "6: device[d].script.fil: found an unknown key; did you mean `file`?",
        ],
    );
    check(
        "driver = 'sim'\nscript = { repeat = true }\n",
        &["4: device[d].script.file: expected a value for this key, found nothing"],
    );
    check(
        "driver = 'sim'\ninitial = { p = 1 }\npoint = [\n\
         { name = 'p', direction = 'in', type = 'u8', initial = 2 },\n\
         { name = 'q', direction = 'in', type = 'u8', initial = 'x' }]\n",
        &[
            "6: device[d].point[p].initial: expected the value in only one of the two places, \
             found a value here and in the `initial` of the device",
            "7: device[d].point[q].initial: expected true, false or a number, found 'x'",
        ],
    );
    check(
        "driver = 'sim'\ninitial = 5\n",
        &["4: device[d].initial: expected a table, found invalid type: integer `5`"],
    );
}

/// Mistakes in the lists and budgets of plugins.
#[test]
fn grants_and_budgets() {
    let device = plant(&[LEVEL, LAMP, VALVE]);
    let check = |programs: &str, expected: &[&str]| check(&format!("{device}{programs}"), expected);
    check(
        "[[plugin]]\nname = 'a'\noutputs = ['lamp']\n\
         [[plugin]]\nname = 'b'\noutputs = [\n'lamp']\n",
        &["15: plugin[b].outputs: expected one owner for each output, found \"lamp\", already \
           granted to a on line 11"],
    );
    check(
        "[[plugin]]\nname = 'a'\noutputs = ['level', 'lmap', 'x']\ninputs = ['lamp']\n",
        &[
            "11: plugin[a].outputs: expected an output, found \"level\", which is an input",
            "11: plugin[a].outputs: expected an output, such as \"lamp\", found \"lmap\", which is \
             no point",
            "11: plugin[a].outputs: expected the name of an output from [[device.point]], found \
             \"x\", which is no point",
            "12: plugin[a].inputs: expected an input, found \"lamp\", which is an output",
        ],
    );
    check(
        "[[plugin]]\nname = 'a'\nvariables = ['x', '',\n'a*b', '**', '*', 'x*']\n",
        &[
            "11: plugin[a].variables: expected a name of 1 to 128 bytes, or the beginning of a \
             name and then *, such as \"tank.*\", found \"\"",
            "12: plugin[a].variables: expected a name of 1 to 128 bytes, or the beginning of a \
             name and then *, such as \"tank.*\", found \"a*b\"",
            "12: plugin[a].variables: expected a name of 1 to 128 bytes, or the beginning of a \
             name and then *, such as \"tank.*\", found \"**\"",
        ],
    );
    check(
        "[[variable]]\nname = 'v'\ntype = 'double'\ninitial = nan\n",
        &["12: variable[v].initial: expected a finite number, for type double, found nan"],
    );
    check(
        "[[plugin]]\nname = 'a'\npoll_budget = '4ms'\nevery = 0\n\
         [[plugin]]\nname = 'b'\npoll_budget = '4001us'\n",
        &[
            "12: plugin[a].every: expected from 1 to 1000000, found 0",
            "15: plugin[b].poll_budget: expected at most 8ms together, 80 % of the period, found \
             poll budgets that add up to 8ms 1us",
        ],
    );
    check(
        "[[plugin]]\nname = 'a'\npoll_budget = '10001us'\n",
        &["11: plugin[a].poll_budget: expected at most 10ms, the period, found 10ms 1us, longer \
           than a cycle"],
    );
}

/// A file that does not exist is reported, with the reason and without a line.
#[test]
fn a_file_that_cannot_be_read() {
    let problems = load(Path::new("no/such.toml")).expect_err("there is none");
    let expected = "no/such.toml: expected a TOML file such as config/camshaft.toml, found no \
                    readable file (No such file or directory (os error 2))";
    assert_eq!(problems.to_string(), expected);
}
