//! The search over straight code, which has no loop: no code may take longer than its budget plus 1
//! ms.
//!
//! The search tries long rows of one instruction, and mixtures of all instructions. It measures the
//! CPU time of the thread in a cycle, because a budget also counts CPU time. A row that takes too
//! long is tried again. Only if the row is too slow every time, the cause is the program and the
//! test fails.

use std::fmt::Write;
use std::time::{Duration, Instant};

use camshaft::plugin::module::compile::CompileService;
use camshaft::plugin::{Compiler, Limits, ModuleHash, Settings};
use camshaft::scan::Order;
use nix::time::{ClockId, clock_gettime};

use super::guest::Compiled;
use super::straight::{self, Piece, pieces};
use crate::long;
use crate::rig::{Rig, block_on, compile_service, points, wat};

/// Of a poll.
const BUDGET: Duration = Duration::from_micros(500);

/// What the invariant allows beyond it.
const MOST_OVER: Duration = Duration::from_millis(1);

/// Another time for whatever takes longer.
const ATTEMPTS: usize = 8;

/// A poll that is not to be stopped.
const AMPLE: Duration = Duration::from_secs(5);

/// A row is so long that it takes this time, if a function may be so long.
const LONG: Duration = Duration::from_micros(2500);

/// Bytes of the longest function: the limit of `plugin/module/size.rs`, with room for its head.
const MAX_BODY: usize = (1 << 20) - 1000;

/// How long the short form goes on.
const SHORT: Duration = Duration::from_secs(25);

const COMPILERS: [Compiler; 2] = [Compiler::Cranelift, Compiler::Singlepass];

/// What took up to 17 ms without a check in between; what compiles quickly is first.
const KNOWN: [&str; 9] = [
    "i32.store",
    "i32.load",
    "random_get_large",
    "table.fill_all",
    "elem.drop",
    "data.drop",
    "memory.size",
    "table.get",
    "table.set",
];

/// How a row went.
#[derive(Debug, Clone)]
struct Outcome {
    what: String,
    pieces: usize,
    /// Without a limit.
    whole: Duration,
    over: Duration,
}

struct Bench {
    rig: Rig,
    outcomes: Vec<Outcome>,
    /// Why rows were not tried, the last of each kind, and how often.
    refused: Vec<String>,
    /// Too quick to reach the budget however long.
    quick: usize,
}

impl Bench {
    fn new(limits: Limits) -> Self {
        let mut rig = Rig::new(points(), Vec::new());
        rig.limits = limits;
        // A tape for a report would be filled by calls of the host.
        rig.is_recorded = false;
        Self { rig, outcomes: Vec::new(), refused: Vec::new(), quick: 0 }
    }

    fn compile(&self, compiler: Compiler, module: &[u8]) -> Result<Compiled, String> {
        let hash = ModuleHash::of(module);
        let compile_service = CompileService { compiler, ..compile_service(self.rig.limits) };
        let artifact = block_on(compile_service.artifact(hash, module.into()));
        artifact.map(|artifact| (hash, artifact)).map_err(|refusal| refusal.to_string())
    }

    /// CPU time of the cycle in which the row is polled.
    fn time(&mut self, module: &Compiled, budget: Duration) -> Duration {
        let settings = Settings { poll_budget: budget, ..Settings::default() };
        let prepared = self.rig.instance("row", 0, module, settings).result;
        self.rig.order(Order::Install(Box::new(prepared.expect("it has no start"))));
        self.rig.step();
        let before = cpu_time();
        self.rig.step();
        let time = cpu_time() - before;
        let trap = self.rig.handle.latest.read().programs[0].trap.clone();
        let is_ours = |trap: &camshaft::plugin::Trap| trap.kind.contains("budget");
        assert!(trap.as_ref().is_none_or(|trap| is_ours(trap)), "{trap:?}");
        self.rig.order(Order::Remove(camshaft::process::seat::Seat(0)));
        self.rig.step();
        self.rig.samples_taken();
        self.rig.programs_returned();
        while self.rig.log.pop().is_ok() {}
        time
    }

    /// How far a row goes beyond the budget, at the least of some attempts.
    fn over(&mut self, module: &Compiled) -> Duration {
        let mut least = Duration::MAX;
        for attempt in 0..ATTEMPTS {
            least = least.min(self.time(module, BUDGET).saturating_sub(BUDGET));
            if least <= MOST_OVER {
                break;
            }
            // Whoever disturbs it may have ended by then: the pauses are 5 s in all.
            std::thread::sleep(Duration::from_millis(20 << attempt));
        }
        least
    }

    /// A row of `count` pieces, compiled.
    fn row(&self, piece: &Piece, count: usize, compiler: Compiler) -> Result<Compiled, String> {
        let module = self.module(piece, count);
        self.compile(compiler, &module)
    }

    fn module(&self, piece: &Piece, count: usize) -> Vec<u8> {
        let code: Vec<String> = (0..count).map(|n| piece.code(n)).collect();
        wat(&piece.module(&code.join("\n"), self.rig.limits.table_elements))
    }

    /// Tries rows of one instruction: as long as it takes, or as a function may be.
    fn try_piece(&mut self, piece: &Piece, compiler: Compiler) {
        let bytes = (self.module(piece, 65).len() - self.module(piece, 1).len()).div_ceil(64);
        let most = MAX_BODY / bytes.max(1);
        let mut each = Duration::ZERO;
        for count in [4, 256] {
            match self.row(piece, count.min(most), compiler) {
                Ok(module) => each = self.time(&module, AMPLE) / count as u32,
                Err(why) => return self.refused.push(format!("{}: {why}", piece.name)),
            }
            if each > BUDGET {
                break;
            }
        }
        if each * most as u32 <= BUDGET {
            self.quick += 1;
            return;
        }
        let mut count = (LONG.as_nanos() / each.as_nanos().max(1) + 4).min(most as u128) as usize;
        let module = loop {
            match self.row(piece, count, compiler) {
                Ok(module) => break module,
                // Too long for the compiler is as good as stopped.
                Err(why) if count < 100 => {
                    return self.refused.push(format!("{}: {why}", piece.name));
                }
                Err(_) => count /= 2,
            }
        };
        self.note(format!("{} {compiler:?}", piece.name), count, &module);
    }

    fn note(&mut self, what: String, pieces: usize, module: &Compiled) {
        let over = self.over(module);
        let whole = self.time(module, AMPLE);
        let outcome = Outcome { what, pieces, whole, over };
        if over > MOST_OVER {
            println!("  finding: {outcome:?}");
        }
        self.outcomes.push(outcome);
    }

    /// A mixture: pieces drawn by `random`, each some times in a row.
    fn try_mixture(&mut self, all: &[Piece], random: &mut fastrand::Rng, compiler: Compiler) {
        let seed = random.u64(..);
        let mut random = fastrand::Rng::with_seed(seed);
        let (target, mut code, mut count) = (random.usize(20_000..2_000_000), String::new(), 0);
        while code.len() < target {
            let piece = random.choice(all).expect("there are some");
            if piece.is_vector && compiler == Compiler::Singlepass {
                continue;
            }
            let longest = if random.u8(..) < 16 { 2000 } else { 40 };
            for _ in 0..random.usize(1..longest) {
                if code.len() >= target {
                    break;
                }
                code += &piece.code(count);
                count += 1;
            }
        }
        let module = wat(&straight::module(&code, self.rig.limits.table_elements, false));
        match self.compile(compiler, &module) {
            Ok(module) => self.note(format!("mixture {seed} {compiler:?}"), count, &module),
            Err(why) => self.refused.push(format!("mixture {seed}: {why}")),
        }
    }

    fn report(&mut self) -> String {
        self.outcomes.sort_by_key(|outcome| std::cmp::Reverse(outcome.over));
        let mut text = format!(
            "{} rows and mixtures, {} too quick for any budget, {} not compiled\n",
            self.outcomes.len(),
            self.quick,
            self.refused.len()
        );
        let shown = if long::is_long() { usize::MAX } else { 20 };
        for Outcome { what, pieces, whole, over } in self.outcomes.iter().take(shown) {
            let _ = writeln!(text, "  {what}: {over:.0?} over, of {whole:.0?} for {pieces}");
        }
        for why in self.refused.iter().take(shown) {
            let _ = writeln!(text, "  not compiled: {why}");
        }
        text
    }

    fn assert_in_time(mut self) {
        println!("{}", self.report());
        let late = self.outcomes.iter().filter(|outcome| outcome.over > MOST_OVER);
        let late: Vec<String> = late.map(|outcome| format!("{outcome:?}")).collect();
        assert!(late.is_empty(), "seed {}:\n{}", long::seed(), late.join("\n"));
    }
}

fn cpu_time() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).expect("every thread has one").into()
}

/// Limits under which a module has all that a piece may want. A mixture may take a frame of more
/// than the default stack.
fn limits() -> Limits {
    Limits { table_elements: 10_000, stack_bytes: 1 << 20, ..Limits::default() }
}

/// The compilers to try a piece with: in the short form one of them.
fn compilers(piece: &Piece, random: &mut fastrand::Rng) -> Vec<Compiler> {
    match (piece.is_vector, long::is_long()) {
        (true, _) => vec![Compiler::Cranelift],
        (false, true) => COMPILERS.to_vec(),
        (false, false) => vec![*random.choice(&COMPILERS).expect("there are two")],
    }
}

#[test]
fn no_row_of_an_instruction_goes_beyond_its_budget() {
    let mut bench = Bench::new(limits());
    let (started, time) = (Instant::now(), long::time(SHORT));
    let mut random = fastrand::Rng::with_seed(long::seed());
    let mut all = pieces();
    random.shuffle(&mut all);
    let place = |piece: &Piece| KNOWN.iter().position(|known| *known == piece.name);
    all.sort_by_key(|piece| place(piece).unwrap_or(KNOWN.len()));
    for piece in &all {
        for compiler in compilers(piece, &mut random) {
            if started.elapsed() < time {
                bench.try_piece(piece, compiler);
            }
        }
    }
    assert!(bench.outcomes.len() + bench.quick > 2, "most were refused");
    bench.assert_in_time();
}

#[test]
fn no_mixture_of_instructions_goes_beyond_its_budget() {
    let mut bench = Bench::new(limits());
    let (started, time) = (Instant::now(), long::time(SHORT / 2));
    let mut random = fastrand::Rng::with_seed(long::seed());
    // Such as end a mixture early, or leave its place in the table or the memory.
    let refused_passive = bench.compile(COMPILERS[0], &wat(PASSIVE)).is_err();
    let is_fit = |piece: &Piece| {
        let code = piece.code(0);
        !(refused_passive && (code.contains(" $d") || code.contains(" $e")))
            && !piece.name.contains("memory.init")
            && !piece.name.contains("table.init")
    };
    let all: Vec<Piece> = pieces().into_iter().filter(is_fit).collect();
    while started.elapsed() < time {
        for compiler in COMPILERS {
            bench.try_mixture(&all, &mut random, compiler);
        }
    }
    bench.assert_in_time();
}

const PASSIVE: &str = r#"(module (memory 1) (data "x") (func (export "poll") (data.drop 0)))"#;

/// With tables as large as a configuration may allow.
#[test]
fn no_operation_on_the_largest_table_goes_beyond_its_budget() {
    let is_allowed = |elements: u64| {
        let text = format!("[plugins]\ntable = {elements}\n");
        camshaft::config::parse(&text, std::path::Path::new("camshaft.toml")).is_ok()
    };
    assert!(is_allowed(1000) && !is_allowed(u64::from(u32::MAX)));
    let (mut good, mut bad) = (1000, u64::from(u32::MAX));
    while bad - good > 1 {
        let middle = u64::midpoint(good, bad);
        if is_allowed(middle) { good = middle } else { bad = middle }
    }
    println!("the largest table has {good} elements");
    let table_elements = u32::try_from(good).expect("it is below");
    let mut bench = Bench::new(Limits { table_elements, ..limits() });
    let mut random = fastrand::Rng::with_seed(long::seed());
    let is_one = |piece: &&Piece| match long::is_long() {
        true => piece.name.starts_with("table."),
        false => ["table.fill_0", "table.fill_all", "table.copy_all"].contains(&&*piece.name),
    };
    for piece in pieces().iter().filter(is_one) {
        let compilers = compilers(piece, &mut random);
        compilers.into_iter().for_each(|compiler| bench.try_piece(piece, compiler));
    }
    bench.assert_in_time();
}
