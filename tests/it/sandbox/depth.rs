//! The search near the end of the stack: can a trap at any depth harm another program?
//!
//! The search tries every operation of `operation.rs` at every depth near the end of the stack, in
//! steps of one frame. It repeats this in every exported function that the host calls, with both
//! compilers.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use camshaft::plugin::Compiler;

use super::child::{Prober, compile_service_in};
use super::guest::{Guest, SIZES, compilers};
use super::operation::{End, Operation, Part, STACK};
use super::probe::{Bench, Depth, Found, Probe, WAYS, Way};
use crate::long;

/// Frames from the end on which every operation is tried, and beyond it.
const FRAMES: std::ops::RangeInclusive<i32> = -2..=66;

/// How long the short form goes on.
const SHORT: Duration = Duration::from_secs(40);

/// Children at one time: as many as the machine of CI has CPUs.
const CHILDREN: usize = 2;

/// After so many findings the short form ends: each takes seconds.
const MAX_FINDINGS: usize = 8;

pub const PARTS: [Part; 4] = [Part::Common, Part::Vector, Part::Large, Part::Passive];

/// The modules whose operations are tried; one with passive segments only if this host takes such.
struct Guests(Vec<(Part, Guest)>);

impl Guests {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let taken = |guest: &Guest| {
            let bench = Bench::new(compile_service_in(folder.path()));
            match bench.try_to_compile(guest) {
                Ok(()) => true,
                Err(why) => {
                    assert!(why.contains("passive"), "it is refused for another reason: {why}");
                    println!("modules with passive segments are refused: {why}");
                    false
                }
            }
        };
        let all = PARTS.map(|part| (part, Guest::new(part, 1)));
        Self(all.into_iter().filter(|(part, g)| *part != Part::Passive || taken(g)).collect())
    }

    fn operation(&self, probe: &Probe) -> (&Guest, &Operation) {
        let (_, guest) = self.0.iter().find(|(part, _)| *part == probe.part).expect("it is there");
        (guest, &guest.operations[probe.operation])
    }

    /// The operation of this name, done at this depth in this call.
    fn named(&self, name: &str, way: Way, size: usize, before_end: i32) -> Vec<Probe> {
        let depth = Depth::BeforeEnd(before_end);
        let is_it = |(_, guest): &&(Part, Guest)| guest.operations.iter().any(|op| op.name == name);
        let Some((part, guest)) = self.0.iter().find(is_it) else { return Vec::new() };
        let operation = guest.operations.iter().position(|op| op.name == name).expect("found");
        let probe = |&compiler| Probe { compiler, part: *part, operation, way, size, depth };
        compilers(*part).iter().map(probe).collect()
    }

    /// Everything: some hundred thousand.
    fn all(&self) -> Vec<Probe> {
        let mut all = Vec::new();
        for (part, guest) in &self.0 {
            for operation in 0..guest.operations.len() {
                for (&compiler, way) in product(compilers(*part), &WAYS) {
                    for (size, before_end) in product(&[0, 1, 2, 3], &FRAMES.collect::<Vec<_>>()) {
                        let (part, depth) = (*part, Depth::BeforeEnd(*before_end));
                        let (way, size) = (*way, *size);
                        all.push(Probe { compiler, part, operation, way, size, depth });
                    }
                }
            }
        }
        all
    }
}

fn product<'a, A, B>(a: &'a [A], b: &'a [B]) -> impl Iterator<Item = (&'a A, &'a B)> {
    a.iter().flat_map(move |a| b.iter().map(move |b| (a, b)))
}

/// A probe that nobody fears.
pub fn harmless() -> Probe {
    Probe {
        compiler: Compiler::Cranelift,
        part: Part::Vector,
        operation: 0,
        way: Way::Poll,
        size: 1,
        depth: Depth::Shallow(10),
    }
}

/// What is wrong with a finding.
fn judge(guests: &Guests, probe: &Probe, found: &Found) -> Result<(), String> {
    let (guest, operation) = guests.operation(probe);
    let is_near = matches!(probe.depth, Depth::BeforeEnd(_));
    let trap = found.trap.as_deref();
    if is_near && trap.is_some_and(|trap| trap.starts_with(STACK)) {
        return Ok(());
    }
    // A running version whose `save` is cut off is lost, and the shadow run ends without a word.
    let is_cut_off = is_near || operation.is_endless || operation.name == "endless_recursion";
    if probe.way == Way::ShadowSave && is_cut_off && trap.is_none() {
        return Ok(());
    }
    let places = || guest.places(probe.operation, probe.compiler);
    let is_place = |place: &str| places().iter().any(|right| right == place);
    let is_right = match (&operation.end, trap) {
        (End::Returns, None) => true,
        (End::Trap(kind), Some(trap)) => trap.strip_prefix(kind).is_some_and(is_place),
        (End::Anywhere(kind), Some(trap)) => trap.starts_with(kind),
        _ => false,
    };
    match (is_right, &found.replay) {
        (false, _) => Err(format!("{:?}{:?} is expected, found {trap:?}", operation.end, places())),
        (true, Some(words)) if !is_near => Err(format!("its replay: {words}")),
        _ => Ok(()),
    }
}

/// What has been found, by what is wrong.
#[derive(Debug, Default)]
struct Findings {
    /// Probes made, by how they are called.
    made: BTreeMap<Way, usize>,
    /// By operation, call and compiler: how often, and the first with its words.
    wrong: BTreeMap<String, (usize, String)>,
    count: usize,
}

impl Findings {
    fn note(&mut self, guests: &Guests, probe: &Probe, result: Result<(), String>) {
        *self.made.entry(probe.way).or_default() += 1;
        let Err(why) = result else { return };
        let (_, operation) = guests.operation(probe);
        let Probe { compiler, way, size, depth, .. } = probe;
        let what = format!("{} {way:?} {compiler:?}", operation.name);
        let words = format!("frames of {} locals, {depth:?}: {why}", SIZES[*size]);
        println!("  finding: {what}, {words}");
        self.count += 1;
        self.wrong.entry(what).or_insert((0, words)).0 += 1;
    }

    fn report(&self) -> String {
        let mut text = String::new();
        for (what, (times, words)) in &self.wrong {
            let _ = writeln!(text, "{what}: {times} times, first {words}");
        }
        text
    }
}

/// Makes these probes, in this order, until the time is over or there are findings enough.
fn make(guests: &Guests, probes: &[Probe], time: Duration, most: usize) -> Findings {
    let findings = Mutex::new(Findings::default());
    let (next, started) = (AtomicUsize::new(0), Instant::now());
    let one_after_the_other = || {
        let folder = tempfile::tempdir().unwrap();
        let mut prober = Prober::start(folder.path());
        while started.elapsed() < time {
            let n = next.fetch_add(1, Ordering::Relaxed);
            let Some(probe) = probes.get(n) else { break };
            let found = prober.probe(*probe);
            let result = found.and_then(|found| judge(guests, probe, &found));
            let mut findings = findings.lock().unwrap();
            findings.note(guests, probe, result);
            if n % 20_000 == 19_999 {
                println!("  {} of {} after {:.0?}", n + 1, probes.len(), started.elapsed());
            }
            if findings.count >= most {
                break;
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..CHILDREN {
            scope.spawn(one_after_the_other);
        }
    });
    findings.into_inner().unwrap()
}

/// What froze or ended the daemon before: their error paths ran on the guest's stack.
fn known(guests: &Guests) -> Vec<Probe> {
    let known = [
        ("memory.copy_source", Way::Init),
        ("unreachable", Way::Init),
        ("table.get_outside", Way::Poll),
        ("endless_loop", Way::Poll),
        ("table.grow", Way::Poll),
        ("memory.init_source", Way::Save),
    ];
    let every = |(name, way)| [20, 40, 50].map(|before_end| guests.named(name, way, 0, before_end));
    known.into_iter().flat_map(every).flatten().collect()
}

#[test]
fn a_trap_is_the_same_in_both_compilers() {
    let guests = Guests::new();
    let mut probes: Vec<Probe> = guests.all();
    probes.retain(|probe| (probe.size, probe.depth) == (0, Depth::BeforeEnd(0)));
    probes.iter_mut().for_each(|probe| probe.depth = Depth::Shallow(3));
    // Each operation once in each compiler; with a replay of every poll.
    probes.retain(|probe| probe.way == Way::ReplayPoll);
    let findings = make(&guests, &probes, Duration::MAX, usize::MAX);
    println!("{} operations: {:?}", probes.len(), findings.made);
    assert!(findings.wrong.is_empty(), "\n{}", findings.report());
}

#[test]
fn no_trap_near_the_end_of_the_stack_harms_another_program() {
    let guests = Guests::new();
    let mut probes = guests.all();
    let count = probes.len();
    fastrand::Rng::with_seed(long::seed()).shuffle(&mut probes);
    let probes = [known(&guests), probes].concat();
    let most = if long::is_long() { usize::MAX } else { MAX_FINDINGS };
    let findings = make(&guests, &probes, long::time(SHORT), most);
    println!("of {count} probes these were made: {:?}", findings.made);
    assert!(findings.wrong.is_empty(), "seed {}\n{}", long::seed(), findings.report());
}
