//! Plays a tape (the record of a program's calls): runs the module again with the recorded answers
//! of the host, and compares the module's calls with the recorded calls.
//!
//! In a replay, the player (`trace/player.rs`) answers the calls of the guest to the host.
//! Exceptions are calls that a tape does not record, for example `proc_exit`. The player compares
//! each other call with the next call on the tape, and returns the recorded bytes and code to the
//! guest. At the first difference the player ends the replay. So a replay needs no data of the
//! plant: no points, no grants, no variables.
//!
//! This file makes the calls into the guest, one call for each section of the tape. `trace/tape.rs`
//! records a tape, and `trace/record.rs` takes the checkpoints from which a replay can begin.
//! `crash.rs` decides what the result of a replay means.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::instance::bind::Host;
use super::instance::guest::Guest;
use super::instance::stop::{BudgetSlot, Timekeeper, now_ns};
use super::instance::wasm::Instance;
use super::module::compile::Artifact;
use super::trace::backtrace::Frame;
use super::trace::checkpoint::{Noted, Picture};
use super::trace::player::{Divergence, Player};
use super::trace::record::{CallError, MAX_MEMORY};
use super::trace::tape::{Section, Tape};
use super::{Limits, Refusal, Settings, Trap};
use crate::process::call::Phase;
use crate::process::image::Points;
use crate::process::lent::Lent;
use crate::process::line::LogSink;
use crate::process::seat::Seat;
use crate::process::variable::Variables;
use crate::process::world::World;

/// The CPU time that a replay allows for a call that did not exceed its budget when it was
/// recorded. The time is long, because this machine may be slower than the machine of the
/// recording. A time limit is necessary, because a guest that does not repeat its recorded calls
/// might run for ever.
const GENEROUS: Duration = Duration::from_secs(10);

/// A recording of calls into a guest, for a replay.
#[derive(Debug)]
pub struct Recording {
    /// The checkpoint at which the recording begins. With `None` the replay begins with a new
    /// instance.
    pub noted: Option<Noted>,
    /// The recorded calls into the guest after the checkpoint, or all calls into a new instance.
    /// The last call is the call that trapped.
    pub sections: Vec<Section>,
    /// Whether the last recorded call had used up its budget.
    pub is_over: bool,
    /// CPU time budget of the last recorded call. If `is_over` is true, the replay gives the last
    /// call this budget.
    pub budget: Duration,
}

/// How a replay ended.
#[derive(Debug, Clone)]
pub enum Ending {
    /// The module trapped in the last section, after all recorded calls to the host. If the
    /// recorded call had used up its budget, the module may have trapped before some of these
    /// calls.
    Trapped {
        /// The trap.
        trap: Arc<Trap>,
        /// The backtrace, from the innermost call on.
        frames: Vec<Frame>,
        /// Whether the call had used up its budget.
        is_over: bool,
    },
    /// The module made all recorded calls, and then one further call to the host. This is no
    /// difference, because the last recorded call used up its budget or its section is incomplete.
    Beyond,
    /// The last call into the guest ended without a trap. The field has the wall time of this call.
    Returned(Duration),
    /// The module did something that differs from the tape, for example made another call.
    Diverged(Divergence),
}

/// The result of a replay.
#[derive(Debug)]
pub struct Played {
    /// How the replay ended.
    pub ending: Ending,
    /// Number of calls into the guest that have begun.
    pub sections: usize,
    /// Number of calls to the host that were equal to the recorded calls.
    pub calls: usize,
    /// The guest's memory at the end of the replay.
    pub memory: Picture,
}

/// Runs a module again with the recorded calls of a tape.
///
/// # Errors
/// When the artifact cannot be loaded or instantiated within `limits`, or when the checkpoint does
/// not fit the instance.
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
    let inits = sections.iter().filter(|section| section.phase == Phase::Init).count();
    let player = Some(Player::new(sections, is_over));
    let host = Host { guest, memory: None, tape: Tape::default(), player };
    let (mut instance, exports) = Instance::make(&artifact.bytes, host, limits, keeper)?;
    let slot = keeper.slot();
    slot.shortest(budget);
    keeper.wake();
    let log = LogSink::List(Vec::new());
    let world = World::new(points, Variables::default(), Duration::ZERO, log);
    let mut world = Lent::new(Box::new(world));
    let mut started = Instant::now();
    let mut result = Ok(());
    match noted {
        Some(noted) => {
            let (parts, store) = instance.parts();
            parts.put_back(store, &noted).map_err(|why| {
                Refusal::new(why, "use the module and the limits that the report names")
            })?;
        }
        None => {
            let time = allowed(inits);
            result = instance.initialize(&exports, &mut world, time);
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
        result = step(&mut instance, phase, &mut world, &slot, time);
    }
    Ok(played(instance, result, started.elapsed()))
}

/// Makes one call into the guest. The module's start calls (`init`) are already done. If the tape
/// nevertheless has a further start call, this function calls `poll`, and the player finds the
/// difference.
fn step(
    instance: &mut Instance,
    phase: Phase,
    world: &mut Lent<World>,
    slot: &BudgetSlot,
    time: Duration,
) -> Result<(), Arc<Trap>> {
    match phase {
        Phase::Init | Phase::Poll => instance.poll(world, slot, now_ns(), time),
        Phase::Save => instance.save(world, slot, now_ns(), time).map(drop),
        Phase::Restore => instance.restore(Vec::new(), world, slot, now_ns(), time),
    }
}

/// Determines how the replay ended, and makes the [`Played`].
fn played(mut instance: Instance, result: Result<(), Arc<Trap>>, took: Duration) -> Played {
    let fall = instance.fall().cloned();
    let (parts, store) = instance.parts();
    let memory = parts.picture(store, MAX_MEMORY);
    let player = instance.host().player.take();
    let player = player.expect("the instance of a replay has a player");
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
