//! Tests of swaps in a whole daemon: thousands of swaps, one directly after the other, at a period
//! of 1 ms, and a restart during the compilation of other plugins.
//!
//! The swaps must not disturb the witness, and must not leave open files or memory mappings behind.
//! Swaps in the scan alone are tested in `swap.rs`.

use std::time::{Duration, Instant};

use camshaft::control::{PluginState, PluginView};

use super::version;
use crate::daemon::{Daemon, Keys, LIMIT, Usage, beside_the_witness, unharmed, wait};
use crate::evil::binary;
use crate::long;
use crate::rig::block_on;

/// Swaps in one attempt, at least.
const SWAPS: u32 = 2000;

#[test]
fn thousands_of_swaps_miss_no_poll_and_leave_nothing_behind() {
    let daemon = Daemon::start(Keys::default());
    let versions = [version(1), version(2)];
    for bytes in versions.iter().chain(&versions) {
        let hash = daemon.drop_in("version", bytes);
        daemon.wait_running("version", &hash);
    }
    wait("it is polled", LIMIT, || (daemon.plugin("version")?.polls > 10).then_some(()));
    let stale = daemon.witness().stale;
    beside_the_witness(&daemon, "thousands of swaps", |_| {
        let (mut usages, mut boundary, mut missed) = (Vec::new(), Vec::new(), 0);
        let (started, mut swaps) = (Instant::now(), 0);
        while swaps < SWAPS || started.elapsed() < long::time(Duration::ZERO) {
            let hash = daemon.drop_in("version", &versions[swaps as usize % 2]);
            let view = daemon.wait_running("version", &hash);
            // Its own times come with a later tick; these may be those of the swap before.
            let swap = view.last_swap.expect("there was one before");
            boundary.push(swap.boundary_us);
            missed += swap.missed_cycles;
            if swaps % (SWAPS / 10) == 0 {
                usages.push(daemon.usage());
            }
            swaps += 1;
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
        // What has a limit, such as the history in memory, is full by then.
        let (first, last) = (least(&usages[4..7]), least(&usages[7..]));
        assert!(last.rss_kib < first.rss_kib + 2048, "RSS grows: {first:?} to {last:?}");
        // Somebody may be asking at the moment of a look.
        let fewest = |some: &[Usage]| some.iter().map(|usage| (usage.fds, usage.maps)).min();
        let ((fds, maps), end) = (fewest(&usages[4..7]).unwrap(), fewest(&usages[7..]).unwrap());
        assert!(end.0 <= fds + 2, "descriptors leak: {fds} to {}", end.0);
        assert!(end.1 <= maps + 10, "mappings leak: {maps} to {}", end.1);
    });
}

/// So many divisions, each of which may trap, that a compilation takes seconds.
fn slow(number: u8) -> Vec<u8> {
    // i32.const 1, i32.const number, i32.div_s, drop
    let division = [0x41, 1, 0x41, number, 0x6d, 0x1a];
    let body = [&[0][..], &division.repeat(400), &[0x0b]].concat();
    binary(3000, &body)
}

/// A program whose code lies in the cache waited until others were compiled, with safe outputs.
#[test]
fn a_restart_waits_for_no_compilation_of_others() {
    let daemon = Daemon::start(Keys::default());
    let hash = daemon.drop_in("version", &version(1));
    let before = daemon.wait_running("version", &hash);
    let names = ["slow1", "slow2", "slow3"];
    for (number, name) in names.into_iter().enumerate() {
        daemon.drop_in(name, &slow(1 + number as u8));
    }
    for name in names {
        daemon.wait_for(name, "compiled", |view| view.state == PluginState::Preparing);
    }
    block_on(daemon.client.act("version", "restart")).unwrap();
    let is_another = |view: &PluginView| view.generation > before.generation && view.hash.is_some();
    daemon.wait_for("version", "restarted", is_another);
    let states = names.map(|name| daemon.plugin(name).unwrap().state);
    assert_eq!(states, [PluginState::Preparing; 3], "they are compiled, still");
    let swap = wait("its times", LIMIT, || {
        let swap = daemon.plugin("version")?.last_swap?;
        swap.cached.then_some(swap)
    });
    println!("  compiled after {} us", swap.compile_us);
    unharmed(&daemon);
}
