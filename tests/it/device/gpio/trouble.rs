//! Chips that tell too many edges, or none.

use super::*;

pub fn a_storm_blinds_for_a_moment_only() {
    const LINES: u32 = 32;
    /// 384 edges, of which 256 are a storm.
    const EDGES: i128 = 12;
    // Longer than anything here may take: the levels are of no help.
    let (sim, mut bench) = counters(LINES, "60s");
    storm(&sim, LINES, EDGES);
    bench.until("all is counted", |bench| all_count(bench, LINES, EDGES));
    let started = Instant::now();
    (0..LINES).for_each(|offset| pull(&sim, offset, EDGES % 2 == 0));
    bench.until("one more is counted", |bench| all_count(bench, LINES, EDGES + 1));
    println!("one more edge of each line is seen {:?} after a storm", started.elapsed());
}

/// Somebody else has so many edges that the kernel has no interrupts left; `None` if it always has.
fn hog(sim: &Sim) -> Option<Vec<gpiocdev::Request>> {
    let mut requests = Vec::new();
    for offset in 0..sim.chips()[0].config().num_lines {
        let request = gpiocdev::Request::builder()
            .on_chip(sim.chips()[0].dev_path())
            .with_line(offset)
            .with_edge_detection(gpiocdev::line::EdgeDetection::BothEdges)
            .request();
        match request {
            Ok(request) => requests.push(request),
            Err(_) => return Some(requests),
        }
    }
    None
}

pub fn every_claim_asks_for_edges() {
    let bank = Bank::new(100, "hog");
    let hogged = gpiosim::builder().with_name("hog").with_bank(&bank).live().unwrap();
    let Some(requests) = hog(&hogged) else {
        return println!("this kernel always has interrupts left");
    };
    let sim = chip("irq");
    let points = [
        ("level", "in", "bool", "offset = 0"),
        ("rests", "in", "bool", "offset = 1, debounce = \"1ms\""),
        ("pulse", "in", "bool", "offset = 2, mode = \"latched\""),
    ];
    let mut bench = Bench::open(&toml("irq", &points));
    bench.until("the level is read", |bench| good(bench, "level", false));
    let state = |bench: &Bench, name: &str| part(bench, name).state;
    bench.until("the status knows", |bench| state(bench, "level").ends_with("polled"));
    for (name, key) in [("rests", "debounce"), ("pulse", "mode")] {
        let hint = format!("; `{key}` needs edges, which this chip perhaps does not report");
        assert!(state(&bench, name).ends_with(&hint), "{}", state(&bench, name));
    }
    drop(requests);
    drop(hogged);
    bench.until("the others have edges", |bench| {
        good(bench, "rests", false) && good(bench, "pulse", false)
    });
    assert!(state(&bench, "level").ends_with("polled"), "it is held as it is");
    drop(sim);
    bench.until("all are gone", |bench| bench.fault == Some(Fault::Disconnected));
    let _sim = chip("irq");
    bench.until("all are back", |bench| good(bench, "level", false));
    bench.until("with edges", |bench| state(bench, "level").ends_with("edges"));
}

/// A relay lets go while the scan stands, and is the scan's again with its next cycle.
pub fn a_line_is_safe_while_the_scan_stands() {
    let sim = chip("stall");
    let points = [("relay", "out", "bool", "offset = 2"), ("other", "out", "bool", "offset = 3")];
    let mut bench = Bench::open(
        &toml("stall", &points)
            .replace("name = \"other\"\n", "name = \"other\"\nsafe = \"hold\"\n"),
    );
    bench.driver.pace(Duration::from_millis(1));
    bench.driver.supervise(Duration::from_millis(100));
    bench.output("relay", Value::Bool(true));
    bench.output("other", Value::Bool(true));
    bench.until("both are on", |bench| bench.driver.is_confirmed() && is_high(&sim, 2));
    let stopped = Instant::now();
    while is_high(&sim, 2) {
        assert!(stopped.elapsed() < Duration::from_secs(20), "it is still on");
        std::thread::sleep(Duration::from_millis(1));
    }
    println!("the relay is off {:?} after the last cycle", stopped.elapsed());
    assert!(is_high(&sim, 3), "what holds stays");
    bench.cycle();
    assert!(!bench.is_confirmed("relay"), "the line cannot have it yet");
    bench.until("it is on again", |bench| is_high(&sim, 2) && bench.driver.is_confirmed());
}
