//! Tests with hostile modules in the plugin folder of a running daemon.
//!
//! The modules and the expected reactions are listed in `evil.rs`. At the same time the daemon runs
//! the witness of `daemon/witness.rs`, a program that is polled every millisecond. The tests check
//! that no hostile module disturbs the witness.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use camshaft::control::{PluginState, PluginView};

use crate::daemon::{Daemon, Keys, LIMIT, SAFE_MARK, beside_the_witness, unharmed, wait};
use crate::evil::{self, Evil, Fate};
use crate::long;

/// What the daemon may use, whatever it is given.
const MAX_RSS_KIB: u64 = 100_000;

/// Drops one module and waits for its fate; asserts that status and log tell about it.
fn suffer(daemon: &Daemon, evil: &Evil, attempt: u32) -> PluginView {
    let name = format!("{}-{attempt}", evil.name);
    let hash = daemon.drop_in(&name, &evil.bytes);
    let state = match evil.fate {
        Fate::Refused => PluginState::Refused,
        Fate::Quarantined => PluginState::Quarantined,
        Fate::Runs => PluginState::Running,
    };
    let is_read = |view: &PluginView| match &view.file_hash {
        Some(file) => *file == hash,
        None => view.reason.is_some(), // refused unread
    };
    let view = daemon.wait_for(&name, &format!("{state:?}"), |view| {
        is_read(view) && view.state == state && (evil.fate != Fate::Runs || view.polls > 200)
    });
    let reason = view.reason.clone().unwrap_or_default();
    for word in &evil.words {
        assert!(reason.contains(word), "{name}: {word:?} is not in {reason:?}");
    }
    assert_eq!(view.file, format!("{name}.wasm"));
    if evil.fate != Fate::Runs {
        let words: Vec<&str> = [view.file.as_str()].into_iter().chain(evil.words.clone()).collect();
        daemon.wait_log(&name, &words);
        assert_eq!(daemon.witness().mark, SAFE_MARK, "{name}");
    }
    view
}

/// Takes one module away again.
fn remove(daemon: &Daemon, name: &str, fate: Fate) {
    daemon.remove(name);
    // One that runs goes on for a while, and would keep its outputs from the next.
    if fate == Fate::Runs {
        daemon.wait_gone(name);
    }
}

fn suffer_all(daemon: &Daemon, all: &[Evil], attempt: u32) -> BTreeMap<String, PluginView> {
    suffer_within(MAX_RSS_KIB, daemon, all, attempt)
}

/// The same where the daemon may use more.
fn suffer_within(
    most_kib: u64,
    daemon: &Daemon,
    all: &[Evil],
    attempt: u32,
) -> BTreeMap<String, PluginView> {
    let mut views = BTreeMap::new();
    for evil in all {
        let started = Instant::now();
        let view = suffer(daemon, evil, attempt);
        let reason = view.reason.as_deref().unwrap_or("runs");
        println!("  {} after {:.0?}: {:?}: {reason}", view.name, started.elapsed(), view.state);
        remove(daemon, &view.name, evil.fate);
        views.insert(evil.name.clone(), view);
    }
    let (usage, seen) = (daemon.usage(), daemon.witness());
    assert!(usage.peak_kib < most_kib, "{usage:?}");
    assert_eq!(seen.broken, 0, "an output of a poll that trapped was seen: {seen:?}");
    unharmed(daemon);
    views
}

#[test]
fn what_never_returns_is_stopped() {
    let daemon = Daemon::start(Keys::default());
    let all = evil::endless();
    beside_the_witness(&daemon, "endless", |attempt| {
        let views = suffer_all(&daemon, &all, attempt);
        for (evil, view) in all.iter().map(|evil| (evil, &views[&evil.name])) {
            let expected = if evil.fate == Fate::Quarantined { 3 } else { 0 };
            assert_eq!(view.traps, expected, "{view:#?}");
        }
        // Each of the three instances has its own allowance of a hundred.
        let flood = format!("log-flood-{attempt}");
        let lines = daemon.log().iter().filter(|l| l.message == format!("{flood}: flood")).count();
        assert!((1..=300).contains(&lines), "{lines} lines of the flood were logged");
        daemon.wait_log(&flood, &["log lines dropped"]);
    });
}

#[test]
fn fills_and_copies_of_64_mib_are_stopped() {
    let daemon = Daemon::start(Keys { plugins: "memory = \"128MiB\"", ..Keys::default() });
    let all = evil::large_fills();
    // They are allowed more than others, and so is a report of one.
    let most_kib = MAX_RSS_KIB + (128 << 10);
    beside_the_witness(&daemon, "large fills", |attempt| {
        suffer_within(most_kib, &daemon, &all, attempt);
    });
}

#[test]
fn what_traps_or_takes_without_end_is_bounded() {
    let daemon = Daemon::start(Keys::default());
    let all = evil::greedy();
    let mut traps = 0;
    beside_the_witness(&daemon, "greedy", |attempt| {
        let views = suffer_all(&daemon, &all, attempt);
        for view in views.values().filter(|view| view.state == PluginState::Running) {
            println!("  {}: {:?}", view.name, view.poll);
            assert_eq!(view.traps, 0, "{view:#?}");
        }
        let memory = views["memory-grow"].memory_bytes;
        assert!((1 << 20..=16 << 20).contains(&memory), "{memory} bytes");
        for name in ["log-init", "log-16m"] {
            let name = format!("{name}-{attempt}");
            let said: Vec<_> =
                daemon.log().into_iter().filter(|line| line.plugin == name).collect();
            assert!(
                said.iter().any(|line| line.message.contains("log lines dropped")),
                "{said:#?}"
            );
            let longest = said.iter().map(|line| line.message.len()).max().unwrap();
            assert!(longest <= name.len() + 2 + 1024 + 8, "a line of {longest} bytes");
        }
        traps += views["unreachable-10th"].traps;
        // Each instance was seen with what its ninth poll wrote for one cycle: the cycle of the
        // tenth, which trapped, had safe outputs already.
        assert_eq!(daemon.witness().marks, traps, "{:?}", daemon.witness());
    });
}

#[test]
fn what_is_no_module_of_ours_is_refused() {
    let daemon = Daemon::start(Keys::default());
    let all = evil::foreign();
    beside_the_witness(&daemon, "foreign", |attempt| {
        suffer_all(&daemon, &all, attempt);
    });
}

#[test]
fn monsters_are_refused() {
    let daemon = Daemon::start(Keys::default());
    let all = evil::monsters();
    beside_the_witness(&daemon, "monsters", |attempt| {
        suffer_all(&daemon, &all, attempt);
    });
}

/// Drops bytes and waits until the daemon is through with them: they run, they trapped, or they are
/// refused. Says whether they run.
fn settle(daemon: &Daemon, name: &str, bytes: &[u8]) -> (bool, PluginView) {
    let hash = daemon.drop_in(name, bytes);
    // What does not begin like a module has no hash; no such bytes run.
    let shown = bytes.starts_with(b"\0asm").then_some(&*hash);
    let view = daemon.wait_for(name, "through with these bytes", |view| {
        let is_read = view.file_hash.as_deref() == shown;
        is_read && (view.reason.is_some() || view.hash.as_deref() == Some(&hash))
    });
    (view.hash.as_deref() == Some(&hash), view)
}

#[test]
fn a_module_cut_at_any_byte_is_refused() {
    let daemon = Daemon::start(Keys::default());
    let (whole, prefix) = evil::whole_and_prefix();
    beside_the_witness(&daemon, "cut", |attempt| {
        let name = format!("cut-{attempt}");
        let valid: Vec<usize> =
            (0..whole.len()).filter(|&at| settle(&daemon, &name, &whole[..at]).0).collect();
        println!("  {} prefixes, of which {valid:?} run", whole.len());
        assert_eq!(valid, [prefix], "only a cut between sections leaves a module");
        assert!(settle(&daemon, &name, &whole).0, "the whole module runs in the end");
        wait("its data", LIMIT, || (daemon.witness().mark == 42).then_some(()));
        remove(&daemon, &name, Fate::Runs);
    });
}

/// A module as a C compiler makes it.
const TANK: &[u8] = include_bytes!("../../plugins/tank.wasm");

#[test]
fn a_compilers_module_cut_anywhere_harms_nobody() {
    /// A prime, so that the cuts fall everywhere in its sections.
    const STEP: usize = 17;
    let daemon = Daemon::start(Keys::default());
    beside_the_witness(&daemon, "cut tank", |attempt| {
        let name = format!("tank-{attempt}");
        let cuts = (0..TANK.len()).step_by(STEP);
        let valid: Vec<usize> = cuts.filter(|&at| settle(&daemon, &name, &TANK[..at]).0).collect();
        println!("  {} prefixes, of which {valid:?} run", TANK.len() / STEP);
        assert!(settle(&daemon, &name, TANK).0, "the whole module runs in the end");
        remove(&daemon, &name, Fate::Runs);
    });
}

#[test]
fn flipped_bits_harm_nobody() {
    /// Of each module, at least.
    const FLIPS: usize = 150;
    let daemon = Daemon::start(Keys::default());
    let (small, _) = evil::whole_and_prefix();
    let seed = long::seed();
    beside_the_witness(&daemon, "flips", |attempt| {
        let mut random = fastrand::Rng::with_seed(seed);
        for (name, whole) in [("small", small.as_slice()), ("tank", TANK)] {
            let name = format!("{name}-{attempt}");
            let (mut flips, mut running, mut stopped) = (0, 0, 0);
            let end = Instant::now() + long::time(Duration::ZERO) / 2;
            while flips < FLIPS || Instant::now() < end {
                flips += 1;
                let mut bytes = whole.to_vec();
                let at = random.usize(..bytes.len());
                bytes[at] ^= 1 << random.u8(..8);
                let (runs, view) = settle(&daemon, &name, &bytes);
                running += usize::from(runs);
                stopped += usize::from(view.reason.is_some());
            }
            println!("  seed {seed}: of {flips} {name}, {running} ran, {stopped} were stopped");
            assert!(running > 0 && stopped > 0, "some hit constants, some the structure");
            assert!(settle(&daemon, &name, whole).0, "the whole module runs in the end");
            remove(&daemon, &name, Fate::Runs);
        }
    });
}
