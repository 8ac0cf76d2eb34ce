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
