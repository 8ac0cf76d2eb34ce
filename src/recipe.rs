//! Recipes: tests that run one plugin module (a .wasm file) offline, in virtual time, and compare
//! its results with the expected results. The verb `camshaft test` runs recipes.
//!
//! A recipe is a list of passes. `Player::play` runs a pass in these steps:
//!
//! ```text
//! set clock and inputs --> poll the module once --> compare outputs, variables, log messages
//! ```
//! Only the surroundings of the module are simulated. The module itself is compiled, limited and
//! stopped exactly as in the daemon. A budget is real CPU time and not virtual time. A recipe has
//! no devices, no other programs and no restarts: a trap ends the recipe.
//!
//! Three rules are not visible in the file format:
//! - `init` runs at time 0, with the declared variables. At this time all inputs are 0, and input
//!   points have bad quality, because no input was read yet.
//! - A log message of `init` belongs to the messages of the first pass.
//! - Input bytes that a pass does not set have the values of the previous pass.
//!
//! `recipe/file.rs` parses a recipe, and `recipe/report.rs` has the results.

mod file;
mod head;
mod named;
mod report;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;

use crate::plugin::instance::program::{NewProgram, Preparation, Program};
use crate::plugin::instance::stop::{BudgetSlot, Timekeeper, now_ns};
use crate::plugin::module::compile::{Artifact, CompileService};
use crate::plugin::{Generation, Limits, ModuleHash, Settings, read_module};
use crate::process::image::{Inputs, Quality, Value};
use crate::process::lent::Lent;
use crate::process::line::{Line, LogSink, Message};
use crate::process::refused::{Keeper, Why};
use crate::process::seat::Seat;
use crate::process::variable::{Variable, VariableKind};
use crate::process::world::World;
use crate::text::counted;

use file::{Pass, Recipe};
pub use report::{Failure, Mismatch, RecipeResult, TestReport};

/// The scan period that a module gets from `wasm_cycle`. The configuration of the quick start has
/// the same scan period. The times of passes need not be multiples of this period.
const PERIOD: Duration = Duration::from_millis(10);

/// Tests a module with recipes. Each recipe gets a new instance of the module. `budget` is the CPU
/// time that each poll may use.
///
/// # Errors
/// When a recipe or the module cannot be read, when the module cannot be compiled, or when the
/// timekeeper thread cannot start. It is no error if the module traps, or if its results differ
/// from the expected results of a recipe. The [`TestReport`] then counts this recipe as failed.
pub fn run(
    compile_service: &CompileService,
    module: &Path,
    recipes: &[PathBuf],
    budget: Duration,
) -> anyhow::Result<TestReport> {
    let read = |path: &PathBuf| Ok((path.display().to_string(), Recipe::read(path)?));
    let recipes = recipes.iter().map(read).collect::<anyhow::Result<Vec<_>>>()?;
    let name = module.display().to_string();
    let bytes = read_module(module, &compile_service.limits).with_context(|| name.clone())?;
    let hash = ModuleHash::of(&bytes);
    let artifact = compile_service.artifact_now(hash, bytes).with_context(|| name.clone())?;
    let keeper =
        Timekeeper::start(|| {}).context("the thread that measures CPU time cannot start")?;
    let stem = module.file_stem().unwrap_or_default().to_string_lossy();
    let bench = Bench {
        plugin: stem.into(),
        hash,
        artifact,
        limits: compile_service.limits,
        settings: Settings { poll_budget: budget, ..Settings::default() },
        keeper: Arc::new(keeper),
    };
    let outcomes = recipes.into_iter().map(|(name, recipe)| bench.play(name, recipe)).collect();
    Ok(TestReport::new(name, outcomes))
}

/// A compiled module with all settings that are needed to run it.
struct Bench {
    /// The name of the plugin: the name of the module's file without its extension.
    plugin: Arc<str>,
    /// The hash of the module.
    hash: ModuleHash,
    /// The machine code of the module.
    artifact: Artifact,
    /// The limits of an instance, such as its memory.
    limits: Limits,
    /// The settings of the program. Only the budget of a poll differs from the defaults.
    settings: Settings,
    /// The handle of the thread that stops a call when its budget is exceeded.
    keeper: Arc<Timekeeper>,
}

impl Bench {
    /// Runs a recipe on a new instance of the module.
    fn play(&self, name: String, recipe: Recipe) -> RecipeResult {
        let Recipe { points, variables, clear_outputs, passes } = recipe;
        let points = Arc::new(points);
        let world = || {
            let log = LogSink::List(Vec::new());
            Box::new(World::new(Arc::clone(&points), variables.clone(), PERIOD, log))
        };
        let request = NewProgram {
            name: Arc::clone(&self.plugin),
            seat: Seat(0),
            hash: self.hash,
            generation: Generation(1),
            settings: self.settings.clone(),
        };
        let mut outcome = RecipeResult::new(name, passes.len());
        let Preparation { result, lines, .. } =
            Program::prepare(request, &self.artifact, world(), &self.limits, &self.keeper);
        let mut prepared = match result {
            Ok(prepared) => prepared,
            Err(refusal) => {
                outcome.refuse(&refusal);
                return outcome;
            }
        };
        let mut world = world();
        world.log = LogSink::List(lines);
        // The table refuses none of these variables: in `Program::prepare`, `init` wrote them into
        // another table that had the same contents.
        prepared.bring_variables(&mut world.variables);
        world.variables.commit();
        let slot = self.keeper.slot();
        slot.shortest(self.settings.poll_budget);
        self.keeper.wake();
        let mut player = Player { program: prepared.program, world: Lent::new(world), slot };
        for (number, pass) in (1..).zip(&passes) {
            let failure = player.play(number, pass, clear_outputs);
            let is_over = failure.is_trap();
            outcome.add(failure);
            if is_over {
                break;
            }
        }
        outcome
    }
}

/// An instance that runs the passes of one recipe.
struct Player {
    program: Program,
    /// The images, variables and log messages that the program can access.
    world: Lent<World>,
    /// The slot in which the timekeeper watches the budget of this program.
    slot: BudgetSlot,
}

impl Player {
    /// Runs one pass and returns its mismatches. If all results are as expected, the list of
    /// mismatches in the returned value is empty.
    fn play(&mut self, number: u64, pass: &Pass, clear_outputs: bool) -> Failure {
        let mut mismatches = Vec::new();
        let world = &mut *self.world;
        world.now = pass.elapsed;
        world.cycle = number;
        latch(&mut world.inputs, &pass.inputs);
        if clear_outputs {
            world.outputs.fill(0);
        }
        for (name, value) in &pass.set_variables.0 {
            mismatches.extend(set(world, name, *value));
        }
        self.slot.mark();
        let result = self.program.poll(&mut self.world, &self.slot, now_ns());
        let world = &mut *self.world;
        let is_trapped = result.is_err();
        mismatches.extend(result.err().map(|trap| Mismatch::Trap { trap: trap.to_string() }));
        if let Some(expected) = &pass.expected_log_messages {
            mismatches.extend(compare_messages(expected, world));
        }
        if let LogSink::List(lines) = &mut world.log {
            lines.clear();
        }
        if !is_trapped {
            mismatches.extend(report::compare_outputs(&pass.expected_outputs, &world.outputs));
            for (name, expected) in &pass.expected_variables.0 {
                mismatches.extend(compare_variable(world, name, *expected));
            }
        }
        world.driven.copy_from_slice(&world.outputs);
        Failure { pass: number, elapsed: pass.elapsed, mismatches }
    }
}

/// Copies the input bytes of a pass to the start of the input image, and gives every input point
/// good quality.
fn latch(inputs: &mut Inputs, given: &[u8]) {
    inputs.bytes[..given.len()].copy_from_slice(given);
    inputs.quality.fill(Quality::Good);
}

/// Writes and commits a variable before the poll. The tested module sees no difference between this
/// write and a write by another program. The JSON form of the value decides the type of a new
/// variable. Returns a mismatch if the variable cannot be written.
fn set(world: &mut World, name: &str, value: Value) -> Option<Mismatch> {
    let kind = world.variables.read(name).map_or_else(|| apparent(value), Variable::kind);
    let written = match Variable::from_value(kind, value) {
        Some(variable) => world.variables.write(name, variable).is_ok(),
        None => false,
    };
    world.variables.commit();
    (!written).then(|| Mismatch::NotSet { name: name.into(), kind, value })
}

/// Returns the type that a new variable gets, which depends on the JSON form of its value.
fn apparent(value: Value) -> VariableKind {
    match value {
        Value::Bool(_) => VariableKind::Boolean,
        Value::Int(_) => VariableKind::Int,
        Value::Real(_) => VariableKind::Double,
    }
}

/// Compares a variable with the expected value. Returns a mismatch if the values differ or if the
/// variable does not exist. The notation of a number does not matter: an expected 3 is equal to the
/// double 3.0.
fn compare_variable(world: &World, name: &str, expected: Value) -> Option<Mismatch> {
    let got = world.variables.read(name);
    let wanted = got.and_then(|got| Variable::from_value(got.kind(), expected));
    let got = got.map(Value::from);
    (wanted.map(Value::from) != got || got.is_none()).then(|| Mismatch::Variable {
        name: name.into(),
        expected,
        got,
    })
}

/// Compares the log messages. Each message must be logged as often as it is in `expected`, and no
/// other message may be logged. The order does not matter.
fn compare_messages(expected: &[String], world: &World) -> Vec<Mismatch> {
    let LogSink::List(lines) = &world.log else { return Vec::new() };
    let mut missing: Vec<&String> = expected.iter().collect();
    let mut unexpected = Vec::new();
    // A refused call is compared only if it always shows a mistake in the program. For any other
    // refused call, the guest gets the error code and may handle it.
    let lines = lines.iter().filter(|line| match &line.message {
        Message::Refused(call) => is_of_note(call.why),
        Message::OthersRefused { .. } => false,
        Message::Said { .. } | Message::Dropped(_) => true,
    });
    for message in lines.map(words) {
        match missing.iter().position(|other| **other == message) {
            Some(found) => drop(missing.remove(found)),
            None => unexpected.push(Mismatch::Unexpected { message }),
        }
    }
    let missing = missing.into_iter().map(|message| Mismatch::Missing { message: message.clone() });
    missing.chain(unexpected).collect()
}

/// Whether a call that is refused for this reason always shows a mistake in the program. If not, a
/// program may make the call on purpose and handle the error code.
fn is_of_note(why: Why) -> bool {
    let is_point = matches!(why, Why::NoPoint | Why::NotFinite | Why::NotGranted | Why::Owned(_));
    is_point || matches!(why, Why::VariableQuota | Why::VariableNotGranted)
}

/// Returns the text with which `expected_log_messages` of a recipe names this log line. A text that
/// the host made is in parentheses.
fn words(line: &Line) -> String {
    match &line.message {
        Message::Said { text, .. } => text.as_str().into(),
        Message::Dropped(count) => {
            format!("({} over the log rate dropped)", counted(*count, "line"))
        }
        Message::Refused(call) => format!("({})", call.words(Keeper::Unknown)),
        Message::OthersRefused { .. } => "(more calls were refused)".into(),
    }
}
