//! Tests of the GPIO driver with chips of the kernel's gpio-sim, and without any chip.
//!
//! The tests with a chip are ignored in a normal run, because they need gpio-sim. On a kernel
//! without gpio-sim they start a virtual machine with another kernel.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use camshaft::driver::{Fault, Part};
use camshaft::process::image::{Quality, Value};
use gpiosim::{Bank, Level, Sim};
use thread_priority::{
    NormalThreadSchedulePolicy, RealtimeThreadSchedulePolicy, ThreadPriority, ThreadSchedulePolicy,
    set_thread_priority_and_policy, thread_native_id,
};

use super::{Bench, reports};

mod machine;
mod trouble;

/// Everything that needs a chip. On a machine without gpio-sim it runs in a Linux of its own.
#[test]
#[ignore = "needs the kernel's gpio-sim"]
fn lines_of_the_kernel() {
    if !machine::has_gpio_sim() {
        println!("this kernel has no gpio-sim; the same test runs in another one:");
        return machine::run_in_guest("device::gpio::lines_of_the_kernel");
    }
    println!("gpio-sim of Linux {}", machine::kernel());
    // Two chips of one name there cannot be, whoever else tests another clone here.
    let alone = fs::File::create(std::env::temp_dir().join("camshaft-gpio-sim.lock")).unwrap();
    alone.lock().unwrap();
    let all: [(&str, fn()); 15] = [
        ("levels_come_and_outputs_go", levels_come_and_outputs_go),
        ("nothing_is_touched_before_the_first_cycle", nothing_is_touched_before_the_first_cycle),
        (
            "a_chip_costs_one_request_for_each_direction",
            a_chip_costs_one_request_for_each_direction,
        ),
        ("more_lines_than_a_request_holds_are_two", more_lines_than_a_request_holds_are_two),
        ("every_pulse_is_seen_for_a_cycle", every_pulse_is_seen_for_a_cycle),
        ("a_counter_counts_each_edge_of_its_sort", a_counter_counts_each_edge_of_its_sort),
        ("a_counter_outlives_a_full_buffer", a_counter_outlives_a_full_buffer),
        ("a_storm_blinds_for_a_moment_only", trouble::a_storm_blinds_for_a_moment_only),
        ("every_claim_asks_for_edges", trouble::every_claim_asks_for_edges),
        ("a_line_is_safe_while_the_scan_stands", trouble::a_line_is_safe_while_the_scan_stands),
        ("bounces_do_not_count", bounces_do_not_count),
        ("a_line_in_use_leaves_the_others_alone", a_line_in_use_leaves_the_others_alone),
        ("a_chip_goes_and_comes_back", a_chip_goes_and_comes_back),
        ("a_reload_does_not_move_a_relay", a_reload_does_not_move_a_relay),
        ("the_last_value_is_there_at_the_end", the_last_value_is_there_at_the_end),
    ];
    let mut failed = Vec::new();
    for (name, test) in all {
        let started = Instant::now();
        // Each on a thread of its own, so that what one does to its thread is gone with it.
        let is_ok = std::thread::spawn(test).join().is_ok();
        println!("{name}: {} {:?}", if is_ok { "ok" } else { "FAILED" }, started.elapsed());
        if !is_ok {
            failed.push(name);
        }
    }
    assert!(failed.is_empty(), "{failed:?}");
}

/// A chip of eight lines, the last two with names.
fn chip(label: &str) -> Sim {
    let mut bank = Bank::new(8, label);
    bank.name(6, format!("{label}-six")).name(7, format!("{label}-seven"));
    gpiosim::builder().with_name(label).with_bank(&bank).live().unwrap()
}

fn pull(sim: &Sim, offset: u32, is_high: bool) {
    let level = if is_high { Level::High } else { Level::Low };
    sim.chips()[0].set_pull(offset, level).unwrap();
}

fn is_high(sim: &Sim, offset: u32) -> bool {
    sim.chips()[0].get_level(offset).unwrap() == Level::High
}

/// A device with these points: name, direction, type, the rest of `at` on this chip.
fn toml(label: &str, points: &[(&str, &str, &str, &str)]) -> String {
    let point = |(name, direction, kind, at): &(&str, &str, &str, &str)| {
        let chip = if at.starts_with("line") { "" } else { &format!("chip = \"{label}\", ") };
        format!(
            "[[device.point]]\nname = \"{name}\"\ndirection = \"{direction}\"\ntype = \"{kind}\"\n\
             at = {{ {chip}{at} }}\n"
        )
    };
    let head = "[[device]]\nname = \"board\"\ndriver = \"gpio\"\n";
    points.iter().map(point).fold(head.to_owned(), |all, point| all + &point)
}

/// An input of that number on this chip.
fn numbered(label: &str, offset: u32, kind: &str, more: &str) -> String {
    format!(
        "[[device.point]]\nname = \"p{offset}\"\ndirection = \"in\"\ntype = \"{kind}\"\n\
         at = {{ chip = \"{label}\", offset = {offset}{more} }}\n"
    )
}

fn parts(bench: &Bench) -> Vec<Part> {
    bench.driver.monitor().unwrap().parts()
}

/// What the status shows of a line; nothing until it has been told, which is after the scan was.
fn part(bench: &Bench, name: &str) -> Part {
    parts(bench).into_iter().find(|part| part.name == name).unwrap_or_default()
}

fn good(bench: &Bench, name: &str, value: bool) -> bool {
    bench.input(name) == (Value::Bool(value), Quality::Good)
}

fn levels_come_and_outputs_go() {
    let sim = chip("levels");
    let points = [
        ("plain", "in", "bool", "offset = 0"),
        ("low", "in", "bool", "offset = 1, active_low = true"),
        ("named", "in", "bool", "line = \"levels-six\""),
        ("relay", "out", "bool", "offset = 2"),
        ("inverse", "out", "bool", "offset = 3, active_low = true, drive = \"open_drain\""),
    ];
    // What an open drain lets go of needs somebody who pulls.
    pull(&sim, 3, true);
    let mut bench = Bench::open(&toml("levels", &points));
    bench.until("all is as pulled", |bench| {
        good(bench, "plain", false) && good(bench, "low", true) && good(bench, "named", false)
    });
    for (offset, name, expected) in [(0, "plain", true), (1, "low", false), (6, "named", true)] {
        pull(&sim, offset, true);
        bench.until(name, |bench| good(bench, name, expected));
    }
    bench.until("outputs are there", |bench| bench.driver.is_confirmed());
    assert!(!is_high(&sim, 2) && is_high(&sim, 3));
    bench.output("relay", Value::Bool(true));
    bench.output("inverse", Value::Bool(true));
    bench.cycle();
    bench.until("outputs are there", |bench| bench.driver.is_confirmed());
    assert!(is_high(&sim, 2) && !is_high(&sim, 3));
    bench.until("the status knows", |bench| parts(bench).iter().all(|part| part.ok));
    assert!(part(&bench, "plain").state.ends_with("line 0, edges"), "{:?}", parts(&bench));
    assert_eq!(bench.fault, None);
}

fn nothing_is_touched_before_the_first_cycle() {
    let sim = chip("early");
    let points = [("in", "in", "bool", "offset = 0"), ("safe", "out", "bool", "offset = 1")];
    let toml = toml("early", &points).replace("offset = 1", "offset = 1, active_low = true");
    let mut bench = Bench::open(&toml);
    let waits =
        |bench: &Bench| part(bench, "safe").state == "waits for the first cycle of the scan";
    let started = Instant::now();
    while !(parts(&bench).iter().any(|part| part.ok) && waits(&bench)) {
        assert!(started.elapsed() < super::PATIENCE, "{:?}", parts(&bench));
        std::thread::sleep(Duration::from_millis(1));
    }
    assert!(!is_high(&sim, 1), "it is still an input");
    bench.cycle();
    bench.until("it is an output", |bench| bench.driver.is_confirmed());
    assert!(is_high(&sim, 1), "false, and that is high");
}

/// How many requests for lines this process has.
fn requests() -> usize {
    let links = fs::read_dir("/proc/self/fd").unwrap().flatten();
    let targets = links.filter_map(|link| fs::read_link(link.path()).ok());
    targets.filter(|target| target.to_string_lossy().contains("gpio-line")).count()
}

fn a_chip_costs_one_request_for_each_direction() {
    let _sim = chip("whole");
    let points = [
        ("a", "in", "bool", "offset = 0, mode = \"latched\""),
        ("b", "in", "bool", "offset = 1, bias = \"pull_down\", debounce = \"1ms\""),
        ("c", "in", "u32", "offset = 2, mode = \"counter\""),
        ("d", "out", "bool", "offset = 3"),
        ("e", "out", "bool", "offset = 4, drive = \"open_source\""),
    ];
    let before = requests();
    let mut bench = Bench::open(&toml("whole", &points));
    bench.until("outputs are there", |bench| bench.driver.is_confirmed());
    bench.until("inputs are there", |bench| bench.input("c").1 == Quality::Good);
    assert_eq!(requests() - before, 2);
    drop(bench);
    assert_eq!(requests(), before);
}

/// A kernel that has no interrupts left for the second request reads its levels only.
fn more_lines_than_a_request_holds_are_two() {
    const LINES: u32 = 100;
    let bank = Bank::new(LINES, "wide");
    let sim = gpiosim::builder().with_name("wide").with_bank(&bank).live().unwrap();
    let inputs: String = (0..LINES).map(|offset| numbered("wide", offset, "bool", "")).collect();
    let before = requests();
    let mut bench = Bench::open(&(toml("wide", &[]) + &inputs));
    let name = |offset| format!("p{offset}");
    for is_odd in [true, false] {
        (0..LINES).for_each(|offset| pull(&sim, offset, (offset % 2 == 1) == is_odd));
        bench.until("all are as pulled", |bench| {
            (0..LINES).all(|offset| good(bench, &name(offset), (offset % 2 == 1) == is_odd))
        });
    }
    assert_eq!(requests() - before, 2);
    let polled = parts(&bench).iter().filter(|part| part.state.ends_with("polled")).count();
    println!("{polled} of {LINES} lines tell no edges");
}

fn every_pulse_is_seen_for_a_cycle() {
    const PULSES: usize = 100;
    let sim = chip("pulses");
    let points = [
        ("pulse", "in", "bool", "offset = 0, mode = \"latched\""),
        ("dip", "in", "bool", "offset = 1, mode = \"latched\", edge = \"falling\""),
    ];
    pull(&sim, 1, true);
    let mut bench = Bench::open(&toml("pulses", &points));
    bench.until("both rest", |bench| good(bench, "pulse", false) && good(bench, "dip", true));
    for n in 0..PULSES {
        // Far shorter than a cycle, and nobody looks meanwhile.
        pull(&sim, 0, true);
        pull(&sim, 0, false);
        pull(&sim, 1, false);
        pull(&sim, 1, true);
        bench.until(&format!("pulse {n}"), |bench| good(bench, "pulse", true));
        bench.until(&format!("pulse {n} is over"), |bench| good(bench, "pulse", false));
        bench.until(&format!("dip {n} is over"), |bench| good(bench, "dip", true));
    }
    // A scan that stands still sees what has happened meanwhile.
    pull(&sim, 1, false);
    pull(&sim, 1, true);
    std::thread::sleep(Duration::from_millis(100));
    bench.cycle();
    assert!(good(&bench, "dip", false));
}

fn a_counter_counts_each_edge_of_its_sort() {
    let sim = chip("counter");
    let points = [
        ("rising", "in", "u32", "offset = 0, mode = \"counter\""),
        ("falling", "in", "u32", "offset = 1, mode = \"counter\", edge = \"falling\""),
        ("both", "in", "u32", "offset = 2, mode = \"counter\", edge = \"both\""),
    ];
    let mut bench = Bench::open(&toml("counter", &points));
    let counted = |bench: &Bench, rising, falling| {
        let count = |name| bench.input(name);
        let good = |count| (Value::Int(count), Quality::Good);
        count("rising") == good(rising)
            && count("falling") == good(falling)
            && count("both") == good(rising + falling)
    };
    bench.until("it begins at 0", |bench| counted(bench, 0, 0));
    for n in 1..=50 {
        (0..3).for_each(|offset| pull(&sim, offset, true));
        bench.until(&format!("rise {n}"), |bench| counted(bench, n, n - 1));
        (0..3).for_each(|offset| pull(&sim, offset, false));
        bench.until(&format!("fall {n}"), |bench| counted(bench, n, n));
    }
}

/// The interrupts of our lines that the kernel has handled.
fn interrupts() -> u64 {
    let all = fs::read_to_string("/proc/interrupts").unwrap();
    let ours = all.lines().filter(|line| line.ends_with("camshaft board"));
    ours.filter_map(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok()).sum()
}

/// A chip of so many lines, with a counter of both edges at each; on one CPU with this thread.
fn counters(lines: u32, period: &str) -> (Sim, Bench) {
    let mut one = nix::sched::CpuSet::new();
    one.set(0).unwrap();
    nix::sched::sched_setaffinity(nix::unistd::Pid::from_raw(0), &one).unwrap();
    let bank = Bank::new(lines, "storm");
    let sim = gpiosim::builder().with_name("storm").with_bank(&bank).live().unwrap();
    let more = ", mode = \"counter\", edge = \"both\"";
    let points: String = (0..lines).map(|offset| numbered("storm", offset, "u32", more)).collect();
    let device = toml("storm", &[]) + &format!("period = \"{period}\"\n");
    let mut bench = Bench::open(&(device + &points));
    bench.until("all are there", |bench| all_count(bench, lines, 0));
    (sim, bench)
}

fn all_count(bench: &Bench, lines: u32, count: i128) -> bool {
    (0..lines)
        .all(|offset| bench.input(&format!("p{offset}")) == (Value::Int(count), Quality::Good))
}

/// So many edges at each of the first lines, while the driver's thread may not run but the kernel
/// may.
fn storm(sim: &Sim, lines: u32, edges: i128) {
    // Below the kernel's own threads that handle interrupts, which have 50.
    let fifo = ThreadSchedulePolicy::Realtime(RealtimeThreadSchedulePolicy::Fifo);
    let priority = ThreadPriority::Crossplatform(10.try_into().unwrap());
    set_thread_priority_and_policy(thread_native_id(), priority, fifo).unwrap();
    let started = Instant::now();
    for n in 0..edges {
        let before = interrupts();
        (0..lines).for_each(|offset| pull(sim, offset, n % 2 == 0));
        while interrupts() < before + u64::from(lines) {
            assert!(started.elapsed() < super::PATIENCE, "{n}: {} interrupts", interrupts());
        }
    }
    let other = ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Other);
    set_thread_priority_and_policy(thread_native_id(), ThreadPriority::Min, other).unwrap();
}

fn a_counter_outlives_a_full_buffer() {
    const LINES: u32 = 32;
    /// 1280 edges, 1024 of which the kernel keeps.
    const EDGES: i128 = 40;
    let (sim, mut bench) = counters(LINES, "10ms");
    storm(&sim, LINES, EDGES);
    bench.until("all is counted", |bench| all_count(bench, LINES, EDGES));
    let facts = |bench: &Bench, fact: &str| -> Vec<f64> {
        let facts = parts(bench).into_iter().flat_map(|part| part.facts);
        facts.filter(|(name, _)| name == fact).map(|fact| fact.1).collect()
    };
    let dropped = |bench: &Bench| facts(bench, "edges_dropped").iter().sum::<f64>();
    bench.until("some had no room", |bench| dropped(bench) > 0.0);
    println!("{} edges in a storm, {} had no room", EDGES * i128::from(LINES), dropped(&bench));
    // Each line has had a later edge, so nothing is unknown.
    assert_eq!(facts(&bench, "request_edges_dropped"), vec![dropped(&bench); LINES as usize]);
}

fn bounces_do_not_count() {
    let sim = chip("bounce");
    let points = [("c", "in", "u32", "offset = 0, mode = \"counter\", debounce = \"50ms\"")];
    let mut bench = Bench::open(&toml("bounce", &points));
    bench.until("it is there", |bench| bench.input("c").1 == Quality::Good);
    for _ in 0..20 {
        pull(&sim, 0, true);
        pull(&sim, 0, false);
    }
    pull(&sim, 0, true);
    bench.until("it counts one", |bench| bench.input("c").0 == Value::Int(1));
    bench.pass(Duration::from_millis(200));
    assert_eq!(bench.input("c").0, Value::Int(1));
}

fn a_line_in_use_leaves_the_others_alone() {
    let sim = chip("shared");
    let other = gpiocdev::Request::builder()
        .on_chip(sim.chips()[0].dev_path())
        .with_consumer("somebody else")
        .with_line(1)
        .as_output(gpiocdev::line::Value::Active)
        .request()
        .unwrap();
    let points = [
        ("a", "out", "bool", "offset = 0"),
        ("taken", "out", "bool", "offset = 1"),
        ("in", "in", "bool", "offset = 2"),
        ("absent", "in", "bool", "offset = 99"),
    ];
    let mut bench = Bench::open(&toml("shared", &points));
    bench.output("a", Value::Bool(true));
    bench.until("the others work", |bench| {
        bench.is_confirmed("a") && good(bench, "in", false) && is_high(&sim, 0)
    });
    assert!(!bench.is_confirmed("taken") && is_high(&sim, 1));
    assert_eq!(bench.input("absent").1, Quality::NoComm);
    let state = |bench: &Bench, name: &str| part(bench, name).state;
    let path = sim.chips()[0].dev_path().display().to_string();
    let expected = format!("{path} line 1 is in use by \"somebody else\"");
    bench.until("the status knows", |bench| state(bench, "taken") == expected);
    assert_eq!(state(&bench, "absent"), "there is no line 99 on \"shared\"");
    drop(other);
    bench.until("it is free", |bench| bench.is_confirmed("taken"));
    assert!(!is_high(&sim, 1) && is_high(&sim, 0));
}

fn a_chip_goes_and_comes_back() {
    let sim = chip("usb");
    let points = [("in", "in", "bool", "offset = 0"), ("out", "out", "bool", "offset = 1")];
    let mut bench = Bench::open(&toml("usb", &points));
    pull(&sim, 0, true);
    bench.until("it works", |bench| good(bench, "in", true) && bench.driver.is_confirmed());
    drop(sim);
    bench.until("it is gone", |bench| {
        bench.input("in") == (Value::Bool(true), Quality::NoComm) && !bench.is_confirmed("out")
    });
    bench.until("all of it", |bench| bench.fault == Some(Fault::Disconnected));
    bench.output("out", Value::Bool(true));
    bench.pass(Duration::from_millis(300));
    assert!(!bench.is_confirmed("out"));
    let sim = chip("usb");
    bench.until("it is back", |bench| good(bench, "in", false) && bench.driver.is_confirmed());
    assert!(is_high(&sim, 1), "with what the scan wants now");
    assert_eq!(bench.fault, None);
}

fn a_reload_does_not_move_a_relay() {
    let sim = chip("reload");
    let points = [("a", "out", "bool", "offset = 0"), ("b", "in", "bool", "offset = 1")];
    let mut old = Bench::open(&toml("reload", &points));
    old.output("a", Value::Bool(true));
    old.until("it is on", |bench| bench.driver.is_confirmed() && good(bench, "b", false));
    // The next one has a line more, which is free already.
    let more = [points[0], points[1], ("c", "out", "bool", "offset = 2")];
    let before = requests();
    let mut new = Bench::open(&toml("reload", &more));
    new.output("a", Value::Bool(true));
    new.output("c", Value::Bool(true));
    new.pass(Duration::from_millis(100));
    assert!(!new.driver.is_confirmed() && is_high(&sim, 0));
    drop(old);
    new.until("the next one has it", |bench| {
        bench.driver.is_confirmed() && good(bench, "b", false)
    });
    assert!(is_high(&sim, 0) && is_high(&sim, 2));
    assert_eq!(requests(), before, "all outputs in one request, all inputs in the other");
}

fn the_last_value_is_there_at_the_end() {
    let sim = chip("end");
    let mut bench = Bench::open(&toml("end", &[("out", "out", "bool", "offset = 0")]));
    bench.output("out", Value::Bool(true));
    bench.until("it is on", |bench| bench.driver.is_confirmed());
    assert!(is_high(&sim, 0));
    bench.output("out", Value::Bool(false));
    bench.cycle();
    drop(bench);
    assert!(!is_high(&sim, 0), "what was written last is what stays");
    // Nobody has the line any more.
    let points = [("in", "in", "bool", "offset = 0")];
    let mut bench = Bench::open(&toml("end", &points));
    bench.until("it is free", |bench| good(bench, "in", false));
}

#[test]
fn without_a_chip_it_goes_on_trying_and_says_why() {
    let points = [("in", "in", "bool", "offset = 0"), ("out", "out", "bool", "offset = 1")];
    let mut bench = Bench::open(&toml("no such chip", &points));
    bench.until("it has tried", |bench| bench.fault == Some(Fault::Disconnected));
    assert_eq!(bench.input("in"), (Value::Bool(false), Quality::NoComm));
    assert!(!bench.is_confirmed("out"));
    bench.until("the status says why", |bench| {
        let is_said = |part: &Part| part.state.starts_with("there is no chip \"no such chip\"");
        parts(bench).iter().all(|part| is_said(part) && !part.ok)
    });
    // Nobody waits for a chip at the end for longer than for any device.
    let started = Instant::now();
    drop(bench);
    assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
}

#[test]
fn mistakes_name_the_point() {
    let good =
        toml("soc", &[("a", "in", "bool", "offset = 0"), ("b", "out", "bool", "offset = 1")]);
    let check = |text: &str, expected: &str| {
        let problems = camshaft::config::parse(text, Path::new("g.toml")).unwrap_err();
        assert!(reports(&problems.to_string(), expected), "{problems}\nnot: {expected}");
    };
    let at = "g.toml:8: device[board].point[a].at";
    check(&good.replace("offset = 0", "ofset = 0"), "did you mean `offset`?");
    check(&good.replace("offset = 0", "offset = 0, mode = \"sometimes\""), at);
    check(&good.replace("offset = 0", "offset = -1"), at);
    check(
        &good.replace("offset = 0", "offset = 1"),
        "device[board].point[b].at: found the line that point a uses",
    );
    check(
        &good.replace("offset = 0", "offset = 0, debounce = \"1h\""),
        ".at.debounce: found 3600s",
    );
    check(&good.replace("\"gpio\"", "\"gpio\"\nperiod = \"1us\""), "period: found 1µs");
}
