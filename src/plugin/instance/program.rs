//! A program: an instance with its name, its seat in the scan and its settings.
//!
//! [`Program::prepare`] runs outside of the scan and may take as long as the init budget allows.
//! After the swap the scan owns the program and calls [`Program::poll`] once a cycle. This file
//! does not decide which module is prepared, or when: the supervisor does. The calls of wasmer are
//! in `wasm.rs`.

use std::sync::Arc;
use std::time::Duration;

use super::guest::Guest;
use super::stop::{BudgetSlot, Timekeeper, now_ns};
use super::wasm::{Instance, STATE_TOO_LONG, Unprepared};
use crate::plugin::module::compile::Artifact;
use crate::plugin::trace::record::PostMortem;
use crate::plugin::{Generation, Limits, ModuleHash, Refusal, Settings, Trap};
use crate::process::image::{PointId, Points};
use crate::process::lent::Lent;
use crate::process::line::{Line, LogSink};
use crate::process::refused::Tally;
use crate::process::seat::Seat;
use crate::process::variable::{Denied, Maker, Variable, Variables};
use crate::process::world::World;

/// A request to prepare a program: the identity and the settings of the new program.
#[derive(Debug, Clone)]
pub struct Request {
    /// The plugin's name.
    pub name: Arc<str>,
    /// The program's place in the scan.
    pub seat: Seat,
    /// The module's identity.
    pub hash: ModuleHash,
    /// The number of the new instance.
    pub generation: Generation,
    /// How the program takes part in the scan.
    pub settings: Settings,
}

/// A program in the scan.
#[derive(Debug)]
pub struct Program {
    /// The plugin's name.
    pub name: Arc<str>,
    /// The program's place in the scan.
    pub seat: Seat,
    /// The module's identity.
    pub hash: ModuleHash,
    /// The number of this instance.
    pub generation: Generation,
    /// How the program takes part in the scan.
    pub settings: Settings,
    /// Number of polls that returned well.
    pub polls: u64,
    instance: Instance,
}

/// A program that is ready to take its seat.
#[derive(Debug)]
pub struct Prepared {
    /// The program.
    pub program: Program,
    /// Variables that the program's `init` wrote, even if their values did not change. The writes
    /// are valid from the swap on.
    pub variables: Vec<(String, Variable)>,
}

/// The state and the variables that a program found when it took its seat.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Takeover {
    /// Size of the state that the program got, in bytes; `None` if it began without a state.
    pub state_bytes: Option<u64>,
    /// Number of variables that existed before.
    pub variables_carried: u64,
    /// Number of variables that the program's `init` has made.
    pub variables_new: u64,
    /// Number of variables that the program's `init` wrote in vain. The write did not become valid,
    /// because the variable has another type by now, or because the program may not write it any
    /// more.
    pub variables_dropped: u64,
}

impl Prepared {
    /// Writes the variables that the program's `init` has written, without committing them.
    ///
    /// Since `init`, another program may have made one of the variables with another type, or the
    /// rights may have changed. In these cases the variable keeps its value. The lost write is
    /// added to the program's refused calls, although `init` got the answer that the variable was
    /// written. [`Program::tell_lost_writes`] logs the lost writes.
    pub fn bring_variables(&mut self, variables: &mut Variables) -> Takeover {
        let carried = variables.len();
        let Program { settings, name: plugin, instance, .. } = &mut self.program;
        let (granted, maker) = (&settings.variables, maker(plugin));
        let mut dropped = 0;
        for (name, value) in &self.variables {
            let result = match granted.allows(name) {
                true => variables.write_as(maker, name, *value),
                false => Err(Denied::NotGranted),
            };
            if let Err(denied) = result {
                dropped += 1;
                instance.guest().note_lost_write(denied, name, value.kind());
            }
        }
        Takeover {
            state_bytes: None,
            variables_carried: carried as u64,
            variables_new: (variables.len() - carried) as u64,
            variables_dropped: dropped,
        }
    }
}

/// A number that stands for a plugin's name. The number of a name is the same in every run of the
/// daemon.
fn seed(name: &str) -> u64 {
    let hash = blake3::hash(name.as_bytes());
    u64::from_le_bytes(hash.as_bytes()[..8].try_into().expect("a hash has more than eight bytes"))
}

/// The maker that stands for the programs of this plugin when they make and write variables.
pub fn maker(name: &str) -> Maker {
    Maker::program(seed(name))
}

/// The result of `save`: the state, or how the call failed.
pub type Saved = Result<Vec<u8>, Arc<Trap>>;

/// The refusal of a version that must not take over, because `save` or `restore` has failed.
pub(in crate::plugin) fn refused_hand_over(whose: &str, trap: &Trap) -> Refusal {
    let remedy = match &*trap.kind {
        kind if kind.starts_with("budget of ") => {
            "mend the plugin, or give plugins.swap.budget more time"
        }
        kind if kind.starts_with(STATE_TOO_LONG) => {
            "let `save` write less, such as what cannot be found out anew"
        }
        "stack overflow" => "mend the plugin, or give plugins.stack more bytes",
        _ => "mend the plugin",
    };
    Refusal::new(format!("{whose} failed: {trap}"), remedy)
}

/// The result of a preparation, with the lines that the guest logged meanwhile.
#[derive(Debug)]
pub struct Preparation {
    /// The program, or why there is none.
    pub result: Result<Prepared, Refusal>,
    /// Log lines of the start section, `_initialize` and `init`.
    pub lines: Vec<Line>,
    /// The post-mortem of a guest whose start trapped.
    pub post_mortem: Option<Box<PostMortem>>,
}

impl Program {
    /// Makes an instance of `artifact` and runs its `init` in a world of its own.
    ///
    /// `world` is a copy of the latest world, and its log is a list.
    pub fn prepare(
        request: Request,
        artifact: &Artifact,
        world: Box<World>,
        limits: &Limits,
        keeper: &Arc<Timekeeper>,
    ) -> Preparation {
        let mut world = Lent::new(world);
        let seed = seed(&request.name);
        let lines_per_s = limits.log_lines_per_s;
        let guest = Guest::new(request.seat, seed, &request.settings, &world.points, lines_per_s);
        let made = Instance::prepare(&artifact.bytes, guest, &mut world, limits, keeper);
        let mut post_mortem = None;
        let result = match made {
            Ok(instance) => Ok(Prepared {
                variables: world.variables.written(),
                program: Self::new(request, instance),
            }),
            Err(Unprepared::Refused(refusal)) => Err(refusal),
            Err(Unprepared::Trapped(trap, left)) => {
                post_mortem = left;
                let remedy = match trap.kind.starts_with("budget of ") {
                    true => {
                        "start section, _initialize and init must return within \
                             plugins.init_budget"
                    }
                    false => "start section, _initialize and init must return without a trap",
                };
                Err(Refusal::new(format!("its start trapped: {trap}"), remedy))
            }
        };
        let lines = match &mut world.log {
            LogSink::List(lines) => std::mem::take(lines),
            LogSink::Queue { .. } => Vec::new(),
        };
        Preparation { result, lines, post_mortem }
    }

    fn new(request: Request, instance: Instance) -> Self {
        let Request { name, seat, hash, generation, settings } = request;
        Self { name, seat, hash, generation, settings, polls: 0, instance }
    }

    /// Runs one poll, which started at `started_ns` by [`super::stop::now_ns`]. If the poll
    /// returned well, the world has what the program wrote; otherwise the world has nothing of it.
    pub fn poll(
        &mut self,
        world: &mut Lent<World>,
        slot: &BudgetSlot,
        started_ns: u64,
    ) -> Result<(), Arc<Trap>> {
        let result = self.instance.poll(world, slot, started_ns, self.settings.poll_budget);
        self.polls += u64::from(result.is_ok());
        result
    }

    /// Lets a successor take over. If both versions have `save` and `restore`, the call first runs
    /// `save` of this program. The call then writes the variables of the successor's `init`, and
    /// last it runs the successor's `restore`. `save` and `restore` together must keep the
    /// successor's swap budget. Writes to variables stay uncommitted.
    ///
    /// # Errors
    /// The reason why the successor must not take over. On an error this program is as it was
    /// before, unless [`Program::is_spent`].
    pub fn hand_over(
        &mut self,
        to: &mut Prepared,
        world: &mut Lent<World>,
        slot: &BudgetSlot,
    ) -> Result<Takeover, Refusal> {
        if !self.instance.hands_over() || !to.program.instance.hands_over() {
            return Ok(to.bring_variables(&mut world.variables));
        }
        let (budget, started_ns) = (to.program.settings.swap.budget, now_ns());
        let saved = self.instance.save(world, slot, started_ns, budget);
        let state =
            saved.map_err(|trap| refused_hand_over("`save` of the running version", &trap))?;
        let mut takeover = to.bring_variables(&mut world.variables);
        takeover.state_bytes = Some(state.len() as u64);
        let restored = to.program.instance.restore(state, world, slot, started_ns, budget);
        restored.map_err(|trap| refused_hand_over("its `restore`", &trap))?;
        Ok(takeover)
    }

    /// Whether the program has `save` and `restore`.
    pub fn hands_over(&self) -> bool {
        self.instance.hands_over()
    }

    /// The state that the program would hand over now; `None` if it has no `save`. Afterwards the
    /// program is as it was before, unless [`Program::is_spent`].
    pub fn spare_state(&mut self, world: &mut Lent<World>, slot: &BudgetSlot) -> Option<Saved> {
        let budget = self.settings.swap.budget;
        self.hands_over().then(|| self.instance.save(world, slot, now_ns(), budget))
    }

    /// Restores the state of another version.
    pub(in crate::plugin) fn restore(
        &mut self,
        state: Vec<u8>,
        world: &mut Lent<World>,
        slot: &BudgetSlot,
    ) -> Result<(), Arc<Trap>> {
        self.instance.restore(state, world, slot, now_ns(), self.settings.swap.budget)
    }

    /// How the program failed, if it did.
    pub fn trap(&self) -> Option<&Arc<Trap>> {
        self.instance.fall().map(|fall| &fall.trap)
    }

    /// Whether a call into the program was cut off, so that it cannot be called any more.
    pub fn is_spent(&self) -> bool {
        self.instance.is_spent()
    }

    /// Whether the program failed because its time was over.
    pub fn is_over(&self) -> bool {
        self.instance.fall().is_some_and(|fall| fall.is_over)
    }

    /// The post-mortem of the program, if it failed.
    pub fn post_mortem(self) -> Option<PostMortem> {
        self.instance.post_mortem()
    }

    /// Whether this instance has claimed that output.
    pub fn has_claimed(&mut self, id: PointId) -> bool {
        self.instance.guest().has_claimed(id)
    }

    /// The outputs that this instance has claimed.
    pub fn claimed(&mut self) -> Vec<PointId> {
        self.instance.guest().claimed()
    }

    /// Begins to note which variables the program's polls write. The list starts with the variables
    /// that the program has just written in a hand-over and that are not committed yet. Variables
    /// with an id in `earlier` count as written by the program too.
    pub fn trace_variables(&mut self, variables: &Variables, earlier: &[u16]) {
        self.instance.guest().trace_variables(variables, earlier);
    }

    /// Ids of the variables that the program has written since [`Program::trace_variables`]. This
    /// call ends the noting.
    pub fn take_written(&mut self) -> Vec<u16> {
        self.instance.guest().take_written()
    }

    /// The refused calls of the program. Other threads may read them while it runs.
    pub fn refused(&mut self) -> Arc<Tally> {
        Arc::clone(self.instance.guest().tally())
    }

    /// Logs the writes of the program's `init` that were not valid any more when the program took
    /// its seat.
    pub fn tell_lost_writes(&mut self, world: &mut World) {
        self.instance.guest().tell_lost_writes(world);
    }

    /// Takes new settings. The caller must free outputs that are no longer granted.
    pub fn configure(&mut self, settings: Settings, points: &Points) {
        let guest = self.instance.guest();
        guest.entitle(&settings, points);
        if self.settings != settings {
            guest.forget_refusals();
        }
        self.settings = settings;
    }

    /// Begins new counts of refused calls. The caller does this when the points or variables have
    /// changed, because earlier refusals then say nothing about new calls.
    pub fn forget_refusals(&mut self) {
        self.instance.guest().forget_refusals();
    }

    /// Size of the program's linear memory in bytes.
    pub fn memory_bytes(&self) -> u64 {
        self.instance.memory_bytes()
    }

    /// Whether the program is polled in this cycle.
    pub fn is_due(&self, cycle: u64) -> bool {
        // The first test saves the division for most programs, which are polled in every cycle. A
        // division takes as long as a small poll.
        self.settings.every <= 1 || cycle.is_multiple_of(u64::from(self.settings.every))
    }

    /// The place in the order of polling: configured order, then name.
    pub fn rank(&self) -> (u32, &str) {
        (self.settings.order, &self.name)
    }

    /// The shortest budget of a call into the program.
    pub fn shortest_budget(&self) -> Duration {
        self.settings.poll_budget.min(self.settings.swap.budget)
    }
}
