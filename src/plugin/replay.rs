//! Plays a tape: runs a module again on what a program was given, and compares what it does.
//!
//! In a replay, one function stands for every host function. It compares the call with the next one
//! on the tape, and gives the guest the recorded bytes and code. At the first difference it ends
//! the run. So a replay needs nothing of the plant: no points, no grants, no variables. How the
//! tape is made is in `tape.rs` and `record.rs`; what the ending means, in `crash.rs`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use wasmer::{
    ExternType, Function, FunctionEnv, FunctionEnvMut, ImportType, MemoryView, RuntimeError, Store,
    Value,
};

use super::backtrace::Frame;
use super::bind::Host;
use super::checkpoint::{Noted, Picture};
use super::compile::Artifact;
use super::guest::Guest;
use super::record::{CallError, MAX_MEMORY};
use super::stop::{BudgetSlot, Timekeeper, now_ns};
use super::tape::{Called, Section, Tag, Tape};
use super::wasm::Instance;
use super::{Limits, Refusal, Settings, Trap, offer};
use crate::process::call::Phase;
use crate::process::image::Points;
use crate::process::line::LogSink;
use crate::process::seat::Seat;
use crate::process::variable::Variables;
use crate::process::world::World;

/// CPU time for a call that kept its budget when it was recorded. This machine may be slower, and a
/// replay that takes another path must end too.
const GENEROUS: Duration = Duration::from_secs(10);

/// Bytes that are shown where two byte strings differ.
const SHOWN: usize = 16;

/// A recording of calls, to be played again.
#[derive(Debug)]
pub struct Recording {
    /// The checkpoint that the recording begins at; `None` begins with a new instance.
    pub noted: Option<Noted>,
    /// The calls from there on; the last is the one that trapped.
    pub sections: Vec<Section>,
    /// Whether the time of the last call was over.
    pub is_over: bool,
    /// CPU time of the last call.
    pub budget: Duration,
}

/// The first difference between a replay and its tape.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Divergence {
    /// The cycle of the difference; 0 before the first poll.
    pub cycle: u64,
    /// The kind of the call into the guest.
    pub phase: Phase,
    /// The number of the call to the host, counted from 1.
    pub call: usize,
    /// What the module did.
    pub did: String,
    /// What is on the tape instead.
    pub tape: String,
}

/// How a replay ended.
#[derive(Debug, Clone)]
pub enum Ending {
    /// With a trap, in the last section and after all calls on the tape.
    Trapped {
        /// The trap.
        trap: Arc<Trap>,
        /// The backtrace, from the innermost call on.
        frames: Vec<Frame>,
        /// Whether the time of the call was over.
        is_over: bool,
    },
    /// Everything on the tape was the same, and then the module did more than is on the tape.
    Beyond,
    /// The last call into the guest returned well, after this time.
    Returned(Duration),
    /// The module did something else.
    Diverged(Divergence),
}

/// The result of a replay.
#[derive(Debug)]
pub struct Played {
    /// How the replay ended.
    pub ending: Ending,
    /// Number of calls into the guest that were played.
    pub sections: usize,
    /// Number of calls to the host that were the same.
    pub calls: usize,
    /// The memory at the end.
    pub memory: Picture,
}

/// The player: answers a guest from the tape.
#[derive(Debug)]
pub(super) struct Player {
    sections: Vec<Section>,
    /// Calls into the guest so far.
    begun: usize,
    /// Calls to the host in the present call into the guest.
    made: usize,
    /// Calls to the host in all.
    calls: usize,
    /// The first difference, if there was one.
    divergence: Option<Divergence>,
    /// Whether the time of the last recorded call was over.
    is_over: bool,
    /// Whether the guest has gone on to do more than is on the tape.
    is_beyond: bool,
}

impl Player {
    /// Notes that a call into the guest begins.
    pub(super) fn begin(&mut self, phase: Phase) {
        self.begun += 1;
        self.made = 0;
        match self.section().map(|section| section.phase) {
            Some(recorded) if recorded == phase => {}
            Some(recorded) => self.diverge(format!("{phase} was run"), format!("{recorded}")),
            None => self.diverge(format!("{phase} was run"), "its end".into()),
        }
    }

    /// The next call into the guest with its number, counted from 1; `None` at the end or after a
    /// difference.
    fn next(&self) -> Option<(usize, &Section)> {
        let section = self.sections.get(self.begun)?;
        self.divergence.is_none().then_some((self.begun + 1, section))
    }

    /// Notes that the call has ended, with a trap or without. If calls are left on the tape, the
    /// guest has not made them.
    pub(super) fn end(&mut self, trap: Option<&Trap>) {
        let Some(section) = self.section() else { return };
        let is_last = self.begun == self.sections.len();
        let next = section.calls.get(self.made).map(describe);
        let stays_open = is_last && self.is_over && trap.is_some();
        match (trap, next) {
            (None, Some(next)) => self.diverge("it returned".into(), next),
            (Some(trap), Some(next)) if !stays_open => {
                self.diverge(format!("it trapped ({trap})"), next)
            }
            (Some(trap), None) if !is_last => {
                self.diverge(format!("it trapped ({trap})"), "a good end".into())
            }
            _ => {}
        }
    }

    /// The recorded call that is being played.
    fn section(&self) -> Option<&Section> {
        self.sections.get(self.begun.checked_sub(1)?)
    }

    /// Notes the first difference; later ones follow from it and are not noted.
    fn diverge(&mut self, did: String, tape: String) {
        if self.divergence.is_some() || self.is_beyond {
            return;
        }
        let section = self.section().or(self.sections.last());
        let (cycle, phase) = section.map_or((0, Phase::Init), |s| (s.cycle, s.phase));
        self.divergence = Some(Divergence { cycle, phase, call: self.made + 1, did, tape });
    }

    /// The recorded answer to a call to the host; `None` ends the guest.
    fn answer(&mut self, id: u8, words: Vec<u64>, memory: Option<&MemoryView<'_>>) -> Option<i32> {
        if self.divergence.is_some() || self.is_beyond {
            return None;
        }
        let is_last = self.begun == self.sections.len();
        let section = self.section()?;
        let did = Called { function: id, arguments: words, ..nothing() };
        let Some(called) = section.calls.get(self.made) else {
            match is_last && (self.is_over || section.is_cut) {
                true => self.is_beyond = true,
                false => self.diverge(called_it(&did), "no more calls".into()),
            }
            return None;
        };
        if (called.function, &called.arguments) != (id, &did.arguments) {
            let tape = describe(called);
            self.diverge(called_it(&did), tape);
            return None;
        }
        let code = called.code;
        if let Err((did, tape)) = exchange(called, memory) {
            let call = describe(called);
            self.diverge(format!("it called {call} {did}"), format!("{call} {tape}"));
            return None;
        }
        self.made += 1;
        self.calls += 1;
        Some(code)
    }
}

/// Compares the bytes that the host took from the guest's memory, and puts the recorded bytes
/// there. The error has two texts: what the guest has, and what is on the tape.
fn exchange(called: &Called, memory: Option<&MemoryView<'_>>) -> Result<(), (String, String)> {
    let lost = |_| ("has less memory".to_string(), "goes beyond it".to_string());
    let Some(memory) = memory else {
        return if called.taken.is_empty() && called.given.is_empty() {
            Ok(())
        } else {
            Err(("has no memory".into(), "has one".into()))
        };
    };
    for (at, bytes) in &called.taken {
        let mut present = vec![0; bytes.len()];
        memory.read(u64::from(*at), &mut present).map_err(lost)?;
        if present != *bytes {
            return Err((format!("with {}", hex(&present)), format!("with {}", hex(bytes))));
        }
    }
    for (at, bytes) in &called.given {
        memory.write(u64::from(*at), bytes).map_err(lost)?;
    }
    Ok(())
}

fn called_it(called: &Called) -> String {
    format!("it called {}", describe(called))
}

fn nothing() -> Called {
    Called { function: 0, arguments: vec![], taken: vec![], given: vec![], code: 0 }
}

fn hex(bytes: &[u8]) -> String {
    let mut text: String = bytes.iter().take(SHOWN).map(|byte| format!("{byte:02x}")).collect();
    if bytes.len() > SHOWN {
        text += &format!("… ({} bytes)", bytes.len());
    }
    text
}

/// A call as its author would write it.
pub fn describe(called: &Called) -> String {
    let Some(offer) = offer::offers().nth(called.function.into()) else {
        return format!("function {}", called.function);
    };
    let word = |(word, ty): (&u64, char)| match ty {
        'd' => format!("{}", f64::from_bits(*word)),
        _ => word.to_string(),
    };
    let arguments: Vec<_> =
        called.arguments.iter().zip(offer.parameters.chars()).map(word).collect();
    format!("{}({})", offer.name, arguments.join(", "))
}

/// The function of an import in a replay.
pub(super) fn function(
    import: &ImportType,
    store: &mut Store,
    host: &FunctionEnv<Host>,
) -> Option<Function> {
    let ExternType::Function(ty) = import.ty() else { return None };
    let tag = Tag::of(import.module(), import.name());
    let answer = move |mut context: FunctionEnvMut<'_, Host>, arguments: &[Value]| {
        let words = arguments.iter().map(bits).collect();
        let (host, store) = context.data_and_store_mut();
        let view = host.memory.as_ref().map(|memory| memory.view(&store));
        let player = host.player.as_mut();
        match player.and_then(|player| player.answer(tag.id, words, view.as_ref())) {
            Some(code) => Ok(vec![Value::I32(code)]),
            None => Err(RuntimeError::new("the replay is over")),
        }
    };
    Some(Function::new_with_env(store, host, ty.clone(), answer))
}

fn bits(value: &Value) -> u64 {
    match value {
        Value::I32(number) => number.cast_unsigned().into(),
        Value::I64(number) => number.cast_unsigned(),
        Value::F64(number) => number.to_bits(),
        // No offer takes any other type.
        _ => 0,
    }
}

/// Runs a module on a tape.
///
/// # Errors
/// When the module or the checkpoint does not fit the limits.
pub fn replay(
    artifact: &Artifact,
    recording: Recording,
    limits: &Limits,
    keeper: &Arc<Timekeeper>,
) -> Result<Played, Refusal> {
    let Recording { noted, sections, is_over, budget } = recording;
    let last = sections.len();
    let allowed = |n: usize| if n >= last && is_over { budget } else { GENEROUS };
    let points = Arc::new(Points::default());
    let guest = Guest::new(Seat(0), 0, &Settings::default(), &points, 0);
    let (begun, made, calls) = (0, 0, 0);
    let (divergence, is_beyond) = (None, false);
    let inits = sections.iter().filter(|section| section.phase == Phase::Init).count();
    let player = Player { sections, begun, made, calls, divergence, is_over, is_beyond };
    let host = Host { guest, memory: None, tape: Tape::default(), player: Some(player) };
    let (mut instance, exports) = Instance::make(&artifact.bytes, host, limits, keeper)?;
    let slot = keeper.slot();
    slot.shortest(budget);
    keeper.wake();
    let log = LogSink::List(Vec::new());
    let mut world = Box::new(World::new(points, Variables::default(), Duration::ZERO, log));
    let mut started = Instant::now();
    let mut result = Ok(());
    match noted {
        Some(noted) => {
            let (parts, store) = instance.parts();
            parts.put_back(store, &noted).map_err(|why| {
                Refusal::new(why, "a report counts for its own module and limits only")
            })?;
        }
        None => {
            let time = allowed(inits);
            (world, result) = instance.initialize(&exports, world, time);
        }
    }
    while result.is_ok()
        && let Some((number, phase)) = instance.host().player.as_ref().and_then(|player| {
            let (number, section) = player.next()?;
            (world.cycle, world.now) = (section.cycle, section.now);
            Some((number, section.phase))
        })
    {
        let time = allowed(number);
        started = Instant::now();
        slot.mark();
        (world, result) = step(&mut instance, phase, world, &slot, time);
    }
    Ok(played(instance, result, started.elapsed()))
}

type Step = (Box<World>, Result<(), Arc<Trap>>);

/// Makes one call into the guest. If the tape has a start that the module does not have, the player
/// finds the difference.
fn step(
    instance: &mut Instance,
    phase: Phase,
    world: Box<World>,
    slot: &BudgetSlot,
    time: Duration,
) -> Step {
    match phase {
        Phase::Init | Phase::Poll => instance.poll(world, slot, now_ns(), time),
        Phase::Save => {
            let (world, result) = instance.save(world, slot, now_ns(), time);
            (world, result.map(drop))
        }
        Phase::Restore => instance.restore(Vec::new(), world, slot, now_ns(), time),
    }
}

/// Judges how the replay ended.
fn played(mut instance: Instance, result: Result<(), Arc<Trap>>, took: Duration) -> Played {
    let fall = instance.fall().cloned();
    let (parts, store) = instance.parts();
    let memory = parts.picture(store, MAX_MEMORY);
    let player = instance.host().player.take();
    let player = player.expect("it was put there when the instance was made");
    let ending = match (player.divergence, result, fall) {
        (Some(divergence), ..) => Ending::Diverged(divergence),
        (None, Err(_), _) if player.is_beyond => Ending::Beyond,
        (None, Err(trap), Some(CallError { frames, is_over, .. })) => {
            Ending::Trapped { trap, frames, is_over }
        }
        (None, Err(trap), None) => Ending::Trapped { trap, frames: Vec::new(), is_over: false },
        (None, Ok(()), _) => Ending::Returned(took),
    };
    Played { ending, sections: player.begun, calls: player.calls, memory }
}
