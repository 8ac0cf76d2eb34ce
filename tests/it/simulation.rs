//! A simulation with random faults: the real scan, the real supervisor, and simulated devices and
//! time.
//!
//! In every cycle the test checks the invariants of `src/lib.rs`. The files of the folder
//! `simulation`:
//! - `house.rs` makes the random events: new files, orders of the operator and faults of devices.
//! - `daemon.rs` plays the part of the daemon, and passes each order to the scan and to the model.
//! - `model.rs` computes what the scan should do, and `plant.rs` what the devices should do.
//! - `guest.rs` is the program that runs in the scan, and `version.rs` makes its versions.
//! - `invariants.rs` compares the scan with the model. `swaps.rs` checks swaps and rollbacks.
//! - `state.rs` checks what survives a trap and a kill. `shadows.rs` makes the shadow runs.
//!
//! A failed run prints its seed. This command repeats the run with the seed 7: `CAMSHAFT_SEED=7
//! cargo test --release --test it simulation`

mod daemon;
mod guest;
mod house;
mod invariants;
mod model;
pub mod plant;
mod shadows;
mod state;
mod swaps;
mod version;
mod wishes;

use std::collections::BTreeMap;
use std::sync::Arc;

use camshaft::plugin::Limits;

use crate::rig::{Rig, compiled, wat};
use guest::RAW;
use house::{House, Module};
use invariants::cycle;
use state::Disk;
use version::{VERSIONS, Version};

/// Fixed, so that two runs of the tests do the same.
const SEEDS: [u64; 7] = [1, 2, 3, 18, 110, 0xca25_4af7, 0x2026];
/// The daemon's lives of each seed. It is killed at the end of each but the last, and the next one
/// begins with what was retained.
const LIVES: u64 = 2;
/// Of each life; quiet times come on top.
const CYCLES: u64 = 20_000;
/// A quiet time comes after so many cycles.
const QUIET_EVERY: u64 = 2_000;
/// Longer than any wait of the supervisor.
const QUIET_CYCLES: u64 = 500;

#[test]
fn whatever_happens_the_invariants_hold_in_every_cycle() {
    let modules: Arc<[Module]> = VERSIONS.iter().map(|version| module(*version)).collect();
    if let Ok(seed) = std::env::var("CAMSHAFT_SEED") {
        println!("{:?}", lives(seed.parse().expect("CAMSHAFT_SEED is a number"), &modules));
        return;
    }
    let mut counts = BTreeMap::new();
    for seed in SEEDS {
        for (what, count) in lives(seed, &modules) {
            *counts.entry(what).or_insert(0) += count;
        }
    }
    println!("{counts:?}");
    // A world in which one of these hardly ever happens proves little about it.
    for what in EVENTS {
        let count = counts.get(*what).copied().unwrap_or(0);
        assert!(count >= 5, "too few: {count} x {what}");
    }
    // It takes a whole flood of orders in front of an install whose plugin is gone meanwhile.
    assert!(counts.contains_key("stranger"), "no stranger was ever seated");
}

/// Everything that must have happened.
const EVENTS: &[&str] = &[
    "busy author",
    "clear",
    "compiler killed",
    "configure",
    "configure on probation",
    "cycle",
    "degraded",
    "discard",
    "endless",
    "file",
    "file gone",
    "force",
    "flood",
    "hand-over",
    "hold",
    "inject",
    "install",
    "nobody takes anything back",
    "new point",
    "no number",
    "nonsense",
    "other field",
    "out on probation",
    "point gone",
    "played again",
    "power cut",
    "prepare",
    "proved",
    "queue full",
    "quiet",
    "refused",
    "release",
    "removed by nobody",
    "restart",
    "restart alone",
    "restart on probation",
    "retain",
    "rollback",
    "set variables",
    "settled gone",
    "settled held",
    "settled quarantined",
    "settled refused",
    "settled running",
    "shadow",
    "shadow begun",
    "stands in",
    "stop",
    "swap",
    "swap on probation",
    "tell",
    "tell of a rollback",
    "time skipped",
    "trap",
    "variable denied",
    "variables rolled back",
];

fn module(version: Version) -> Module {
    let bytes = wat(&version.wat(&RAW));
    let (hash, artifact) = compiled(&bytes, Limits::default()).expect("the module is good");
    Module { version, hash, artifact, bytes }
}

/// Says where it happened when an assertion fails.
struct Life {
    seed: u64,
    number: u64,
    house: House,
}

impl Drop for Life {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let cycle = self.house.model.world.cycle;
            println!("seed {}, life {}, cycle {cycle}", self.seed, self.number);
            self.house.events.iter().for_each(|event| println!("  {event}"));
        }
    }
}

/// A daemon that is killed and started again, and then halted. Gives how often what happened.
fn lives(seed: u64, modules: &Arc<[Module]>) -> BTreeMap<&'static str, u64> {
    let (mut disk, mut counts) = (Disk::new(), BTreeMap::new());
    for number in 1..=LIVES {
        let mut life = begin(seed, number, modules, disk);
        live(&mut life.house);
        if number == LIVES {
            halt(&mut life.house);
        }
        for (what, count) in std::mem::take(&mut life.house.counts) {
            *counts.entry(what).or_insert(0) += count;
        }
        disk = std::mem::replace(&mut life.house.disk, Disk::new());
    }
    counts
}

fn begin(seed: u64, number: u64, modules: &Arc<[Module]>, disk: Disk) -> Life {
    let points = plant::points();
    let mut rig = Rig::with_variables(Arc::clone(&points), plant::devices(&points), &disk.kept);
    // Every line counts here; how many may pass is tested elsewhere.
    rig.limits.log_lines_per_s = 1_000_000;
    let mut house = House::new(rig, Arc::clone(modules), seed ^ number << 40, disk);
    if number == LIVES {
        house.prefer_safe();
    }
    Life { seed, number, house }
}

fn live(house: &mut House) {
    for n in 1..=CYCLES {
        house.disturb();
        if !house.one_in(3) {
            house.pursue(house.rig.now);
        }
        cycle(house);
        if n % QUIET_EVERY == 0 {
            settle(house);
        }
    }
}

fn halt(house: &mut House) {
    while !house.halt() {
        cycle(house);
    }
    house.is_quiet = true;
    for _ in 0..100 {
        house.pursue(house.rig.now);
        cycle(house);
    }
    assert!(house.model.is_halted && house.model.seated.is_empty());
}

fn settle(house: &mut House) {
    house.calm_down();
    let mut actions = 0;
    for n in 0..QUIET_CYCLES {
        let count = house.pursue(house.rig.now);
        actions = if n < QUIET_CYCLES / 2 { 0 } else { actions + count };
        cycle(house);
    }
    house.assert_settled();
    assert_eq!(actions, 0, "still busy after {} quiet cycles", QUIET_CYCLES / 2);
    house.is_quiet = false;
}
