//! Bad files: one row for each kind of mistake, with the exact text that a user reads.

use std::path::Path;

use super::{plant, read};
use crate::config::load;
use crate::image::MAX_POINTS;

/// Checks the whole report on `text`: its lines without the name of the file, in order.
#[track_caller]
fn check(text: &str, expected: &[&str]) {
    let problems = read(text).expect_err(text).to_string();
    let found: Vec<_> = problems.lines().map(|line| &line["etc/c.toml:".len()..]).collect();
    assert_eq!(found, expected, "{text}");
}

const LEVEL: &str = "name = 'level', direction = 'in', type = 'f64'";
const LAMP: &str = "name = 'lamp', direction = 'out', type = 'bool'";
const VALVE: &str = "name = 'valve', direction = 'out', type = 'u8', safe = 0";

#[test]
fn shadow_runs() {
    let right = "right would be above 0 and at most 1, such as 0.7";
    for (found, ratio) in [("0", "0.0"), ("1.5", "1.5"), ("-1", "-1"), ("NaN", "nan")] {
        check(
            &format!("[plugins.swap]\nadmit_ratio = {ratio}\n"),
            &[&format!("2: plugins.swap.admit_ratio: found {found}; {right}")],
        );
    }
    check(
        "[plugins.swap]\nshadow = 100001\nrequire_equal = 1\n",
        &[
            "2: plugins.swap.shadow: found 100001; right would be from 0 to 100000",
            "3: plugins.swap.require_equal: found 1; right would be true or false",
        ],
    );
}

#[test]
fn what_becomes_of_bad_inputs_and_of_outputs_that_nobody_owns() {
    let input = |more: &str| plant(&[&format!("{LEVEL}, {more}")]);
    let output = |more: &str| plant(&[&format!("{VALVE}, {more}")]);
    let check_one = |text: String, expected: &str| check(&text, &[expected]);
    check_one(
        input("on_bad = 'zero'"),
        "5: device[d].point[level].on_bad: found 'zero'; right would be \"keep\", true, false or a \
         number",
    );
    check_one(
        input("on_bad = true"),
        "5: device[d].point[level].on_bad: found true; right would be a number, for type f64",
    );
    check_one(
        input("stale_after = '2s', bad_after = '1s'"),
        "5: device[d].point[level].bad_after: found 1s; right would be at least `stale_after`, \
         which is 2s",
    );
    check_one(
        input("stale_after = '0s'"),
        "5: device[d].point[level].stale_after: found 0s; right would be from 100us to 1day",
    );
    check_one(
        input("hold_for = '1s'"),
        "5: device[d].point[level].hold_for: found `hold_for` on an input; right would be this key \
         on an output",
    );
    check_one(
        output("on_bad = 1"),
        "5: device[d].point[valve].on_bad: found `on_bad` on an output; right would be this key on \
         an input",
    );
    check_one(
        output("hold_for = '2h'"),
        "5: device[d].point[valve].hold_for: found 2h; right would be from 0s to 1h",
    );
    check_one(
        plant(&["name = 'lamp', direction = 'out', type = 'bool', safe = 'hold', hold_for = '1s'"]),
        "5: device[d].point[lamp].hold_for: found `hold_for` with safe = \"hold\"; right would be \
         this key with a value in `safe`, which it delays; \"hold\" is for ever",
    );
    check_one(
        input("at = { path = '/x' }"),
        "5: device[d].at: found an unknown key; right would be one of `name`, `driver`, \
         `input_start`, `input_bytes`, `output_start`, `output_bytes`, `point`, `tank`, `signal`, \
         `loopback`, `script`, `fault`, `initial`",
    );
}

#[test]
fn what_a_plugin_requires() {
    let text = |more: &str| plant(&[LEVEL, LAMP]) + "[[plugin]]\nname = 'p'\n" + more;
    check(
        &text("requires = ['lamp', 'levle']\nrequires_timeout = '2h'\n"),
        &[
            "10: plugin[p].requires: found \"lamp\", which is an output; right would be an input",
            "10: plugin[p].requires: found \"levle\", which is no point; right would be an input, \
             such as \"level\"",
            "11: plugin[p].requires_timeout: found 2h; right would be from 0s to 1h",
        ],
    );
    check(
        &text("requires_timeout = '1s'\n"),
        &["10: plugin[p].requires_timeout: found a timeout and nothing that is required; \
           right would be `requires` with the names of inputs beside it"],
    );
}

#[test]
fn keys_and_types() {
    check(
        "[scan]\nperid = '1ms'\n",
        &["2: scan.perid: found an unknown key; did you mean `period`?"],
    );
    check(
        "[control]\nport = 80\n[contrl]\n",
        &[
            "2: control.port: found an unknown key; right would be one of `socket`, `mode`",
            "3: contrl: found an unknown key; did you mean `control`?",
        ],
    );
    check("scan = 5\n", &["1: scan: found 5; right would be a table [scan]"]);
    check("[plugin]\n", &["1: plugin: found [plugin]; right would be a list of tables [[plugin]]"]);
    check(
        "[scan]\nlock_memory = 1\npriority = '5'\ncpu = 'all'\n[log]\nlevel = 'loud'\n",
        &[
            "2: scan.lock_memory: found 1; right would be true or false",
            "3: scan.priority: found '5'; right would be a whole number from 1 to 98",
            "4: scan.cpu: found 'all'; \
             right would be a CPU number such as 1, or a list such as [1, 2]",
            "6: log.level: found 'loud'; right would be one of error, warn, info, debug, trace",
        ],
    );
    check(
        "[scan]\nperiod = 10\n[plugins]\npoll_budget = '15'\nmemory = '16MB'\nstack = -1\n",
        &[
            "2: scan.period: found 10; right would be a duration such as \"10ms\" or \"500us\"",
            "4: plugins.poll_budget: found '15'; \
             right would be a duration such as \"10ms\" or \"500us\"",
            "5: plugins.memory: found '16MB'; \
             right would be a size such as \"16MiB\", \"64KiB\" or a number of bytes",
            "6: plugins.stack: found -1; \
             right would be a size such as \"16MiB\", \"64KiB\" or a number of bytes",
        ],
    );
    check(
        "[state]\ndir = 1\n[retain]\nflush = '1ms'\non_corrupt = 'zero'\ndir = '/x'\n\
         [[variable]]\nname = 'v'\ntype = 'int'\nretain = 'yes'\n",
        &[
            "2: state.dir: found 1; right would be a path in quotes",
            "4: retain.flush: found 1ms; right would be from 5ms to 1h",
            "5: retain.on_corrupt: found 'zero'; right would be \"cold\" or \"refuse\"",
            "6: retain.dir: found an unknown key; right would be one of `flush`, `on_corrupt`, \
             `on_readonly`",
            "10: variable[v].retain: found 'yes'; right would be true or false",
        ],
    );
    check(
        "[scan]\nperiod = \n",
        &["2:10: found string values must be quoted; right would be literal string"],
    );
    check("[scan]\n[log]\n[scan]\n", &["3:2: found duplicate key; right would be valid TOML"]);
    // This is one mistake, and the parser finds several.
    check(
        "[scan\nperiod = '1ms\ncpu = [1, ]]\n",
        &["1:6: found unclosed table; right would be `]`"],
    );
}

#[test]
fn ranges() {
    let check_one = |section: &str, line: &str, expected: &str| {
        check(&format!("[{section}]\n{line}\n"), &[&format!("2: {section}.{expected}")]);
    };
    check_one("scan", "period = '99us'", "period: found 99us; right would be from 100us to 1s");
    let stall = "stall: found 29ms; right would be from 30ms to 1m";
    check_one("scan", "stall = '29ms'", stall);
    let exit = "stall_exit: found 399ms; right would be from 400ms to 1h";
    check_one("scan", "stall_exit = '399ms'", exit);
    check_one("scan", "period = '11s'", "period: found 11s; right would be from 100us to 1s");
    check_one("scan", "priority = 99", "priority: found 99; right would be from 1 to 98");
    check_one(
        "scan",
        "cpu = [1024]",
        "cpu: found [1024]; right would be CPU numbers from 0 to 1023",
    );
    let plugins = |line: &str, expected: &str| check_one("plugins", line, expected);
    plugins("memory = '1KiB'", "memory: found 1KiB; right would be from 64KiB to 4GiB");
    plugins("stack = 100", "stack: found 100 bytes; right would be from 8KiB to 1MiB");
    plugins("functions = 0", "functions: found 0; right would be from 1 to 1000000");
    plugins("init_budget = '1h'", "init_budget: found 1h; right would be from 10us to 1m");
    plugins("poll_budget = '1us'", "poll_budget: found 1us; right would be from 10us to 10ms");
    plugins(
        "poll_budget = '11ms'",
        "poll_budget: found 11ms, longer than a cycle; right would be at most 10ms, the period",
    );
    plugins(
        "restart = { first = '2s', max = '1s' }",
        "restart.max: found 1s; right would be at least `first`, which is 2s",
    );
    plugins(
        "restart = { within = '0s' }",
        "restart.within: found 0s; right would be from 1s to 1h",
    );
    plugins("restart = { first = '0s' }", "restart.first: found 0s; right would be from 1ms to 1h");
    plugins(
        "restart = { first = '1ms', max = '1ms' }",
        "restart.max: found 1ms; right would be from 50ms to 1h",
    );
    let recovery = |line: &str, expected: &str| check_one("recovery", line, expected);
    recovery("ends = 101", "ends: found 101; right would be from 0 to 100");
    recovery("power_cuts = -1", "power_cuts: found -1; right would be a whole number, 0 or more");
    recovery("within = '0s'", "within: found 0s; right would be from 1s to 1day");
    plugins("restart = { traps = 0 }", "restart.traps: found 0; right would be from 1 to 100");
    check_one(
        "control",
        "mode = '0777'",
        "mode: found '0777'; right would be \"0600\" or \"0660\"",
    );
    check_one(
        "control",
        &format!("socket = '/{}'", "x".repeat(107)),
        "socket: found a path of 108 bytes; \
         right would be at most 107 bytes, the limit of a socket's path",
    );
}

#[test]
fn names() {
    let right =
        "right would be 1 to 128 of the characters A-Z a-z 0-9 _ - . with - and . not first";
    check("[[plugin]]\nname = 'a b'\n", &[&format!("2: plugin[a b].name: found \"a b\"; {right}")]);
    check(
        "[[variable]]\nname = ''\ntype = 'int'\n",
        &[&format!("2: variable[].name: found \"\"; {right}")],
    );
    check("[[plugin]]\nname = '.x'\n", &[&format!("2: plugin[.x].name: found \".x\"; {right}")]);
    check("[[plugin]]\n", &["1: plugin[#1].name: found nothing; right would be a name in quotes"]);
    check(
        "[[plugin]]\nname = 'a'\n[[plugin]]\nname = 'a'\n",
        &["4: plugin[a].name: found a second plugin \"a\", the first is on line 2; \
           right would be another name"],
    );
    check(
        "[[device]]\nname = 'a'\ndriver = 'sim'\n[[device]]\nname = 'a'\ndriver = 'sim'\n",
        &["5: device[a].name: found a second device \"a\", the first is on line 2; \
           right would be another name"],
    );
    check(
        &plant(&[LAMP, LAMP]),
        &["6: device[d].point[lamp].name: found a second point \"lamp\", the first is on line 5; \
           right would be another name"],
    );
    check(
        "[[variable]]\nname = 'a'\ntype = 'int'\n[[variable]]\nname = 'a'\ntype = 'int'\n",
        &["5: variable[a].name: found a second variable \"a\", the first is on line 2; \
           right would be another name"],
    );
}

#[test]
fn variables() {
    let check = |kind: &str, value: &str, expected: &str| {
        let text = format!("[[variable]]\nname = 'v'\ntype = '{kind}'\ninitial = {value}\n");
        check(
            &text,
            &[&format!("4: variable[v].initial: found {value}; right would be {expected}")],
        );
    };
    check("boolean", "1", "true or false, for type boolean");
    check("int", "1.5", "a whole number of 32 bits, for type int");
    check("int", "2147483648", "a whole number of 32 bits, for type int");
    check("double", "true", "a finite number, for type double");
    check("double", "'x'", "true, false or a number");
}

#[test]
fn points() {
    let check = |point: &str, expected: &str| {
        check(&plant(&[point]), &[&format!("5: device[d].point[p].{expected}")]);
    };
    check(
        "name = 'p', direction = 'up', type = 'bool'",
        "direction: found 'up'; right would be \"in\" or \"out\"",
    );
    check(
        "name = 'p', direction = 'out', type = 'i16'",
        "safe: found nothing; \
         right would be safe = a value or \"hold\", because an output of numbers has no default",
    );
    let safe = |kind: &str, rest: &str, expected: &str| {
        let point = format!("name = 'p', direction = 'out', type = '{kind}', {rest}");
        check(&point, &format!("safe: found {expected}"));
    };
    safe("u8", "safe = 256", "256; right would be a number that type u8 can hold");
    safe("u8", "safe = true", "true; right would be a number, for type u8");
    safe("bool", "safe = 1", "1; right would be true or false, for type bool");
    safe("bool", "safe = 'off'", "'off'; right would be true, false, a number or \"hold\"");
    safe(
        "u8",
        "scale = 0.1, safe = 26",
        "26; right would be a number that type u8 can hold once scale and offset are undone",
    );
    let input = "name = 'p', direction = 'in', type =";
    check(
        &format!("{input} 'bool', safe = false"),
        "safe: found `safe` on an input; right would be this key on an output",
    );
    check(
        "name = 'p', direction = 'out', type = 'bool', initial = true",
        "initial: found `initial` on an output; right would be this key on an input",
    );
    check(
        &format!("{input} 'u8', initial = -1"),
        "initial: found -1; right would be a number that type u8 can hold",
    );
    check(
        &format!("{input} 'u8', scale = 0"),
        "scale: found 0; right would be a finite number other than 0",
    );
    check(
        &format!("{input} 'bool', offset = 1"),
        "offset: found 1; right would be no scaling: the point is a bool",
    );
    check(
        &format!("{input} 'u16', address = 3.1"),
        "address: found 3.1; right would be a byte such as 3, or byte and bit such as \"3.1\"",
    );
    check(
        &format!("{input} 'u16', address = '3.1'"),
        "address: found 3.1; \
         right would be a byte address such as 3, because only a bool has a bit",
    );
    check(
        &format!("{input} 'u16', address = 65535"),
        "address: found 65535; \
         right would be at most 65534, so that it ends within the 65536 bytes of an image",
    );
}

#[test]
fn places() {
    let fixed = |name: &str, kind: &str, address: &str| {
        format!("name = '{name}', direction = 'in', type = '{kind}', address = '{address}'")
    };
    check(
        &plant(&[&fixed("a", "u16", "2"), &fixed("b", "bool", "3.7")]),
        &["6: device[d].point[b].address: found 3.7, which overlaps `a` on line 5; \
           right would be an address that is free, or none for an automatic one"],
    );
    let windowed = plant(&[&fixed("a", "u16", "3"), LEVEL])
        .replace("point = [", "input_start = 1\ninput_bytes = 3\npoint = [");
    check(
        &windowed,
        &[
            "7: device[d].point[a].address: found 3, outside its device; \
             right would be an address in bytes 1 to 3",
            "8: device[d].point[level]: found no free place for it in bytes 1 to 3 of its device; \
             right would be an address of its own, fewer points, or more bytes for the device",
        ],
    );
    check(
        "[[device]]\nname = 'd'\ndriver = 'sim'\noutput_start = 65530\noutput_bytes = 7\n",
        &["5: device[d].output_bytes: found 7; \
           right would be at most 6, the rest of an image of 65536 bytes"],
    );
    let many: Vec<_> = (0..=MAX_POINTS)
        .map(|n| format!("name = 'p{n}', direction = 'in', type = 'bool'"))
        .collect();
    check(
        &plant(&many.iter().map(|point| &**point).collect::<Vec<_>>()),
        &["8197: device.point: found point 8193; right would be at most 8192 points"],
    );
}

#[test]
fn drivers() {
    let check = |keys: &str, expected: &[&str]| {
        check(&format!("[[device]]\nname = 'd'\n{keys}"), expected);
    };
    check("driver = 'simm'\n", &["3: device[d].driver: found \"simm\"; right would be \"sim\""]);
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
        &["4: device[d].script.file: found nothing; right would be a value for this key"],
    );
    check(
        "driver = 'sim'\ninitial = { p = 1 }\npoint = [\n\
         { name = 'p', direction = 'in', type = 'u8', initial = 2 },\n\
         { name = 'q', direction = 'in', type = 'u8', initial = 'x' }]\n",
        &[
            "6: device[d].point[p].initial: found a value here and in the `initial` of the device; \
             right would be one of them",
            "7: device[d].point[q].initial: found 'x'; right would be true, false or a number",
        ],
    );
    check(
        "driver = 'sim'\ninitial = 5\n",
        &["4: device[d].initial: found invalid type: integer `5`; right would be a table"],
    );
}

#[test]
fn grants_and_budgets() {
    let device = plant(&[LEVEL, LAMP, VALVE]);
    let check = |programs: &str, expected: &[&str]| check(&format!("{device}{programs}"), expected);
    check(
        "[[plugin]]\nname = 'a'\noutputs = ['lamp']\n\
         [[plugin]]\nname = 'b'\noutputs = [\n'lamp']\n",
        &["15: plugin[b].outputs: found \"lamp\", already granted to a on line 11; \
           right would be one owner for each output"],
    );
    check(
        "[[plugin]]\nname = 'a'\noutputs = ['level', 'lmap', 'x']\ninputs = ['lamp']\n",
        &[
            "11: plugin[a].outputs: found \"level\", which is an input; right would be an output",
            "11: plugin[a].outputs: found \"lmap\", which is no point; \
             right would be an output, such as \"lamp\"",
            "11: plugin[a].outputs: found \"x\", which is no point; \
             right would be the name of an output from [[device.point]]",
            "12: plugin[a].inputs: found \"lamp\", which is an output; right would be an input",
        ],
    );
    check(
        "[[plugin]]\nname = 'a'\nvariables = ['x', '',\n'a*b', '**', '*', 'x*']\n",
        &[
            "11: plugin[a].variables: found \"\"; right would be a name of 1 to 128 bytes, or the \
             beginning of names with a * after it",
            "12: plugin[a].variables: found \"a*b\"; right would be a name of 1 to 128 bytes, or \
             the beginning of names with a * after it",
            "12: plugin[a].variables: found \"**\"; right would be a name of 1 to 128 bytes, or \
             the beginning of names with a * after it",
        ],
    );
    check(
        "[[variable]]\nname = 'v'\ntype = 'double'\ninitial = nan\n",
        &["12: variable[v].initial: found nan; right would be a finite number, for type double"],
    );
    check(
        "[[plugin]]\nname = 'a'\npoll_budget = '4ms'\nevery = 0\n\
         [[plugin]]\nname = 'b'\npoll_budget = '4001us'\n",
        &[
            "12: plugin[a].every: found 0; right would be from 1 to 1000000",
            "15: plugin[b].poll_budget: found poll budgets that add up to 8ms 1us; \
             right would be at most 8ms together, 80 % of the period",
        ],
    );
    check(
        "[[plugin]]\nname = 'a'\npoll_budget = '10001us'\n",
        &["11: plugin[a].poll_budget: found 10ms 1us, longer than a cycle; \
           right would be at most 10ms, the period"],
    );
}

#[test]
fn a_file_that_cannot_be_read() {
    let problems = load(Path::new("no/such.toml")).expect_err("there is none");
    let expected = "no/such.toml: found no readable file (No such file or directory (os error 2)); \
                    right would be a TOML file such as config/camshaft.toml";
    assert_eq!(problems.to_string(), expected);
}
