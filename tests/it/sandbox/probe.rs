//! One attempt (a probe) of the search over depths.
//!
//! A program performs one operation at a certain depth of its stack, in a certain call. Afterwards
//! another program on another thread must still poll and trap as before; see `witness.rs`. A probe
//! can hang or end its process, so it runs in a child process (`child.rs`).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use camshaft::crash::{self, About, Verdict};
use camshaft::plugin::module::compile::CompileService;
use camshaft::plugin::shadow::Shadow;
use camshaft::plugin::trace::record::PostMortem;
use camshaft::plugin::{Compiler, Limits, ModuleHash, Settings, SwapPolicy};
use camshaft::process::seat::Seat;
use camshaft::scan::{self, Order, Return};
use serde::{Deserialize, Serialize};

use super::guest::{Call, Compiled, Guest, compilers, named, variables};
use super::operation::{Operation, Part, STACK};
use crate::rig::{PERIOD, Rig, block_on, compiled, points, wat};

/// How the guest is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Way {
    /// By a preparation, in its start section.
    Start,
    /// In its `_initialize`.
    Initialize,
    /// In its `init`.
    Init,
    /// By a scan.
    Poll,
    /// When a new version takes over; then the old one is polled on.
    Save,
    /// When it is the new one.
    Restore,
    /// In a shadow run.
    Shadow,
    /// In a shadow run, when the running version is asked for its state.
    ShadowSave,
    /// By a replay of the report of its `init`.
    ReplayInit,
    /// By a replay of the report of its poll.
    ReplayPoll,
}

pub const WAYS: [Way; 10] = [
    Way::Start,
    Way::Initialize,
    Way::Init,
    Way::Poll,
    Way::Save,
    Way::Restore,
    Way::Shadow,
    Way::ShadowSave,
    Way::ReplayInit,
    Way::ReplayPoll,
];

impl Way {
    fn call(self) -> Call {
        match self {
            Self::Start => Call::Start,
            Self::Initialize => Call::Initialize,
            Self::Init | Self::ReplayInit => Call::Init,
            Self::Poll | Self::Shadow | Self::ReplayPoll => Call::Poll,
            Self::Save | Self::ShadowSave => Call::Save,
            Self::Restore => Call::Restore,
        }
    }
}

/// How deep the stack is when the operation begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Depth {
    /// So many frames.
    Shallow(u32),
    /// So many frames less than the recursion alone needs to overflow the stack; negative for more.
    BeforeEnd(i32),
}

/// What is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Probe {
    pub compiler: Compiler,
    pub part: Part,
    /// Index into the operations of the part.
    pub operation: usize,
    pub way: Way,
    /// Index into the sizes of frames.
    pub size: usize,
    pub depth: Depth,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    /// How the guest ended, without the cycle; `None` if it returned.
    pub trap: Option<String>,
    /// Of a replay that ended otherwise than what it replays.
    pub replay: Option<String>,
}

/// Time for everything that is not to be stopped: no machine is so slow.
const AMPLE: Duration = Duration::from_secs(2);

/// Time for an endless loop.
const SHORT: Duration = Duration::from_millis(2);

/// A version that runs while another one is tried: it takes no state.
const OTHER: &str = r#"(module (memory (export "memory") 1) (func (export "poll")))"#;

/// A thread's place for probes.
pub struct Bench {
    rig: Rig,
    compile_service: CompileService,
    /// Two versions of each.
    guests: HashMap<(Part, Compiler, u32), (Arc<Guest>, Compiled)>,
    other: Compiled,
    /// Frames that overflow the stack.
    ends: HashMap<(Part, Compiler, usize), u32>,
}

fn settings(operation: &Operation) -> Settings {
    let budget = if operation.is_endless { SHORT } else { AMPLE };
    let swap = SwapPolicy { budget, shadow: 3, admit_ratio: 1.0, ..SwapPolicy::default() };
    Settings { poll_budget: budget, swap, ..Settings::default() }
}

impl Bench {
    pub fn new(compile_service: CompileService) -> Self {
        let other = compiled(&wat(OTHER), compile_service.limits).expect("it is good");
        let rig = Rig::new(points(), Vec::new());
        Self { rig, compile_service, guests: HashMap::new(), other, ends: HashMap::new() }
    }

    /// A guest of this part and version.
    pub fn guest(
        &mut self,
        part: Part,
        compiler: Compiler,
        version: u32,
    ) -> (Arc<Guest>, Compiled) {
        let compile_service = CompileService { compiler, ..self.compile_service.clone() };
        let made = self.guests.entry((part, compiler, version)).or_insert_with(|| {
            let guest = Arc::new(Guest::new(part, version));
            let hash = ModuleHash::of(&guest.bytes);
            let artifact = block_on(compile_service.artifact(hash, guest.bytes.clone().into()));
            (guest, (hash, artifact.unwrap_or_else(|refusal| panic!("{part:?}: {refusal}"))))
        });
        made.clone()
    }

    /// Has the modules of a part compiled before time counts.
    pub fn compile_ahead(&self, part: Part) {
        for &compiler in compilers(part) {
            for guest in [1, 2].map(|version| Guest::new(part, version)) {
                let compile_service = CompileService { compiler, ..self.compile_service.clone() };
                let hash = ModuleHash::of(&guest.bytes);
                let _ = block_on(compile_service.artifact(hash, guest.bytes.into()));
            }
        }
    }

    /// Whether a module is taken.
    ///
    /// # Errors
    /// Why it is not.
    pub fn try_to_compile(&self, guest: &Guest) -> Result<(), String> {
        let hash = ModuleHash::of(&guest.bytes);
        let artifact = block_on(self.compile_service.artifact(hash, guest.bytes.clone().into()));
        artifact.map(drop).map_err(|refusal| refusal.to_string())
    }

    /// Makes a probe.
    pub fn probe(&mut self, probe: Probe) -> Found {
        let (guest, compiled) = self.guest(probe.part, probe.compiler, 1);
        let depth = match probe.depth {
            Depth::Shallow(depth) => depth,
            Depth::BeforeEnd(less) => self.end(probe).saturating_add_signed(-less),
        };
        let operation = &guest.operations[probe.operation];
        let settings = settings(operation);
        let short = if operation.is_endless { SHORT } else { AMPLE };
        self.rig.limits.init_budget = short;
        let call = probe.way.call();
        let ready = variables(None, 0, 0, 0);
        let go = variables(Some(call), probe.operation, depth, probe.size);
        let make = |bench: &mut Self| bench.rig.instance("p", 0, &compiled, settings.clone());
        let found = match probe.way {
            Way::Start | Way::Initialize | Way::Init | Way::ReplayInit => {
                self.set(go);
                let preparation = make(self);
                let trap = preparation.result.err().map(|refusal| trap_in(&refusal.reason));
                let replay = probe.way == Way::ReplayInit;
                let post_mortem =
                    preparation.post_mortem.filter(|_| replay).map(|post_mortem| *post_mortem);
                let replay = post_mortem.and_then(|r| self.replay(probe, &guest, &settings, r));
                Found { trap, replay }
            }
            Way::Poll | Way::ReplayPoll => {
                let prepared = make(self).result.expect("its start does nothing");
                self.set(go);
                self.rig.order(Order::Install(Box::new(prepared)));
                self.polled(probe, &guest, &settings)
            }
            Way::Save | Way::Restore => {
                let prepared = make(self).result.expect("its start does nothing");
                self.rig.order(Order::Install(Box::new(prepared)));
                self.rig.step();
                let (_, newer) = self.guest(probe.part, probe.compiler, 2);
                let newer = self.rig.instance("p", 0, &newer, settings.clone());
                self.set(go);
                self.rig.order(Order::Install(Box::new(newer.result.expect("likewise"))));
                (0..3).for_each(|_| self.rig.step());
                let trap = self.refusal().map(|reason| trap_in(&reason));
                Found { trap, replay: None }
            }
            Way::Shadow | Way::ShadowSave => self.shadow(probe, go, &settings),
        };
        // Whoever is still there polls on, and is to be none the worse for it.
        self.set(ready);
        (0..3).for_each(|_| self.rig.step());
        self.rig.order(Order::Remove(Seat(0)));
        self.rig.step();
        self.drain();
        found
    }

    /// The depth at which the recursion alone overflows the stack.
    fn end(&mut self, probe: Probe) -> u32 {
        let key = (probe.part, probe.compiler, probe.size);
        if let Some(end) = self.ends.get(&key) {
            return *end;
        }
        let (mut good, mut bad) = (0, 1 << 20);
        while bad - good > 1 {
            let depth = good + (bad - good) / 2;
            let found = self.probe(Probe {
                operation: 0,
                way: Way::Init,
                depth: Depth::Shallow(depth),
                ..probe
            });
            match found.trap {
                None => good = depth,
                Some(trap) => {
                    assert!(trap.starts_with(STACK), "{trap}");
                    bad = depth;
                }
            }
        }
        self.ends.insert(key, bad);
        bad
    }

    /// Gives the variables their values, as the next preparation sees them.
    fn set(&mut self, values: [camshaft::process::variable::Variable; 4]) {
        self.rig.order(Order::SetVariables { ticket: 0, values: named(values) });
        // A program that runs is not to see them yet: this cycle takes it out first.
        self.rig.step();
    }

    /// The end of a program that was just installed.
    fn polled(&mut self, probe: Probe, guest: &Guest, settings: &Settings) -> Found {
        let mut found = Found { trap: None, replay: None };
        // Whatever else the scan has to do in a cycle with an order comes before it.
        for _ in 0..3 {
            self.rig.step();
        }
        while let Ok(thing) = self.rig.handle.returns.pop() {
            let Return::Program(program) = thing else { continue };
            let Some(trap) = program.trap() else { continue };
            found.trap = Some(without_cycle(&trap.to_string()));
            if probe.way == Way::ReplayPoll {
                let post_mortem = program.post_mortem().expect("it has trapped");
                found.replay = self.replay(probe, guest, settings, post_mortem);
            }
        }
        found
    }

    /// Why a version was not installed.
    fn refusal(&mut self) -> Option<String> {
        let things = std::iter::from_fn(|| self.rig.handle.returns.pop().ok());
        let reasons = things.filter_map(|thing| match thing {
            Return::Refused(_, refusal) => refusal.map(|refusal| refusal.reason),
            _ => None,
        });
        reasons.last()
    }

    fn drain(&mut self) {
        while self.rig.handle.returns.pop().is_ok() {}
        while self.rig.samples.pop().is_ok() || self.rig.log.pop().is_ok() {}
    }

    /// Replays the report of an end; says so if that ends otherwise.
    fn replay(
        &mut self,
        probe: Probe,
        guest: &Guest,
        settings: &Settings,
        post_mortem: PostMortem,
    ) -> Option<String> {
        let about = About {
            plugin: "p".into(),
            hash: ModuleHash::of(&guest.bytes),
            polls: 0,
            settings: settings.clone(),
            limits: Limits { init_budget: AMPLE, ..self.rig.limits },
            compiler: probe.compiler,
            path: "plugins/p.wasm".into(),
        };
        let module = Some(guest.bytes.clone());
        let report = crash::CrashReport::new(about, post_mortem, &self.rig.points, module);
        let mut bytes = Vec::new();
        report.write(&mut bytes).expect("a vector takes all");
        let report = crash::CrashReport::parse(&bytes).expect("it is whole");
        let judgement =
            crash::replay(&self.compile_service, &report, None, 10).expect("it can be played");
        (judgement.verdict != Verdict::Reproduced).then_some(judgement.words)
    }

    /// A shadow run: of the guest beside another program, or of another beside the guest.
    fn shadow(
        &mut self,
        probe: Probe,
        go: [camshaft::process::variable::Variable; 4],
        settings: &Settings,
    ) -> Found {
        let (_, guest) = self.guest(probe.part, probe.compiler, 1);
        let (running, tried) = match probe.way {
            Way::ShadowSave => (guest, self.guest(probe.part, probe.compiler, 2).1),
            _ => (self.other.clone(), guest),
        };
        let running = self.rig.instance("p", 0, &running, settings.clone());
        let tried = self.rig.instance("p", 0, &tried, settings.clone());
        self.rig.order(Order::Install(Box::new(running.result.expect("its start does nothing"))));
        self.set(go);
        let world = scan::rehearsal(self.rig.handle.latest.read(), PERIOD);
        let shadow = Shadow::new(tried.result.expect("likewise"), world);
        let (feed, frames) = shadow.feed();
        self.rig.order(Order::Shadow(feed));
        let wanted = Arc::new(());
        let (keeper, wants) = (Arc::clone(&self.rig.keeper), Arc::downgrade(&wanted));
        let thread = std::thread::spawn(move || shadow.run(frames, &keeper, &wants));
        while !thread.is_finished() {
            self.rig.step();
            self.drain();
            std::thread::sleep(Duration::from_micros(200));
        }
        let outcome = thread.join().expect("it does not panic");
        Found { trap: outcome.result.err().map(|why| trap_in(&why.reason)), replay: None }
    }
}

/// The trap that a refusal tells of.
fn trap_in(reason: &str) -> String {
    let behind = |words: &str| reason.split_once(words).map(|(_, trap)| trap);
    let trap = ["trapped: ", "failed: ", "shadow run: "].into_iter().find_map(behind);
    without_cycle(trap.unwrap_or(reason))
}

fn without_cycle(trap: &str) -> String {
    trap.rsplit_once(", cycle ").map_or(trap, |(trap, _)| trap).to_owned()
}
