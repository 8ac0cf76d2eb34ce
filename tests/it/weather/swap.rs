//! Swap after swap at a period of a millisecond.

use std::time::Instant;

use super::version;
use crate::daemon::{Daemon, Keys, LIMIT, Usage, beside_the_witness, unharmed, wait};

/// Swaps in one attempt; `CAMSHAFT_SWAPS` in the environment says otherwise.
const SWAPS: u32 = 1000;

#[test]
fn a_thousand_swaps_miss_no_poll_and_leave_nothing_behind() {
    let swaps = std::env::var("CAMSHAFT_SWAPS").ok().and_then(|n| n.parse().ok()).unwrap_or(SWAPS);
    let daemon = Daemon::start(Keys::default());
    let versions = [version(1), version(2)];
    for bytes in versions.iter().chain(&versions) {
        let hash = daemon.drop_in("version", bytes);
        daemon.wait_running("version", &hash);
    }
    wait("it is polled", LIMIT, || (daemon.plugin("version")?.polls > 10).then_some(()));
    let stale = daemon.witness().stale;
    beside_the_witness(&daemon, "a thousand swaps", |_| {
        let (mut usages, mut boundary, mut missed) = (Vec::new(), Vec::new(), 0);
        let started = Instant::now();
        for n in 0..swaps {
            let hash = daemon.drop_in("version", &versions[n as usize % 2]);
            let view = daemon.wait_running("version", &hash);
            // Its own times come with a later tick; these may be those of the swap before.
            let swap = view.last_swap.expect("there was one before");
            boundary.push(swap.boundary_us);
            missed += swap.missed_cycles;
            if n % (swaps / 10) == 0 {
                usages.push(daemon.usage());
            }
        }
        println!("  {swaps} swaps, {:.1?} each", started.elapsed() / swaps);
        boundary.sort_unstable();
        let (p50, max) = (boundary[boundary.len() / 2], boundary[boundary.len() - 1]);
        println!(
            "  from order to cycle: p50 {p50} us, max {max} us; {missed} cycles missed in between"
        );
        usages.iter().for_each(|usage| println!("  {usage:?}"));
        unharmed(&daemon);
        let seen = daemon.witness();
        assert_eq!(seen.broken, 0, "a count was lost or came twice: {seen:?}");
        assert_eq!(seen.stale, stale, "one of the versions was polled in every cycle: {seen:?}");
        // The least of some, because a look may fall into a preparation.
        let least = |some: &[Usage]| *some.iter().min_by_key(|usage| usage.rss_kib).unwrap();
        let (first, last) = (least(&usages[1..4]), least(&usages[7..]));
        assert!(last.rss_kib < first.rss_kib + 2048, "RSS grows: {first:?} to {last:?}");
        assert!(last.fds <= first.fds + 2, "descriptors leak: {first:?} to {last:?}");
        assert!(last.maps <= first.maps + 10, "mappings leak: {first:?} to {last:?}");
    });
}
