//! A program: an instance of a plugin with its name, its seat (slot) in the scan and its settings.
//!
//! [`Program::prepare`] runs on a thread outside of the scan and may use the whole init budget. At
//! a swap, the scan calls [`Program::hand_over`] of the running program. From then on the scan owns
//! the new program and calls [`Program::poll`] in each cycle in which [`Program::is_due`] is true.
//! The supervisor decides which module is prepared, and when. The calls into wasmer are in
//! `wasm.rs`.

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

/// A request to prepare a program, with the identity and the settings of the new program.
#[derive(Debug, Clone)]
pub struct NewProgram {
    /// The plugin's name.
    pub name: Arc<str>,
    /// The program's seat in the scan.
    pub seat: Seat,
    /// The identity of the module: the hash of its bytes.
    pub hash: ModuleHash,
    /// The number that identifies the new instance.
    pub generation: Generation,
    /// The settings of the program: order, budgets, rights and swap policy.
    pub settings: Settings,
}

/// A program in the scan.
#[derive(Debug)]
pub struct Program {
    /// The plugin's name.
    pub name: Arc<str>,
    /// The program's seat in the scan.
    pub seat: Seat,
    /// The identity of the module: the hash of its bytes.
    pub hash: ModuleHash,
    /// The number that identifies this instance.
    pub generation: Generation,
    /// The settings of the program: order, budgets, rights and swap policy.
    pub settings: Settings,
    /// Number of polls of this instance without a trap.
    pub polls: u64,
    instance: Instance,
}

/// A program that is ready for its seat: its start (start section, `_initialize` and `init`) has
/// ended without a trap.
#[derive(Debug)]
pub struct Prepared {
    /// The program.
    pub program: Program,
    /// Variables that the program's start wrote, including writes that did not change the value.
    /// The writes become valid when the scan puts the program on its seat.
    pub variables: Vec<(String, Variable)>,
}

/// The facts about a program that has taken its seat: the size of its restored state, and counts of
/// variables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Takeover {
    /// Size of the state that the program restored, in bytes; `None` if the program began without a
    /// state.
    pub state_bytes: Option<u64>,
    /// Number of variables that existed before the program took its seat.
    pub variables_carried: u64,
    /// Number of new variables that the program's start has created.
    pub variables_new: u64,
    /// Number of variables for which the write of the program's start was lost. A write is lost if
    /// another program has meanwhile created the variable with another type, if the program may no
    /// longer write the variable, or if a limit on variables is reached.
    pub variables_dropped: u64,
}

impl Prepared {
    /// Writes into `variables` the values that the program's start wrote into its copy of the
    /// world. The caller commits these writes.
    ///
    /// Between its start and this call, another program may have created the variable with another
    /// type, the rights of this program may have changed, or a limit on variables may have been
    /// reached. In these cases the write is lost and the variable retains its value. The lost write
    /// is counted as a refused call, although the host had answered the start that the write
    /// succeeded. [`Program::report_lost_writes`] logs the lost writes.
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

/// Computes the seed of the guest's random numbers from the plugin's name. The same name gives the
/// same seed in every run of the daemon.
fn seed(name: &str) -> u64 {
    let hash = blake3::hash(name.as_bytes());
    u64::from_le_bytes(hash.as_bytes()[..8].try_into().expect("a hash has more than eight bytes"))
}

/// Returns the identity under which the programs of this plugin create and write variables.
pub fn maker(name: &str) -> Maker {
    Maker::program(seed(name))
}

/// The result of a call of `save`: the saved state, or the trap of this call.
pub type Saved = Result<Vec<u8>, Arc<Trap>>;

/// Makes the refusal of a swap in which `save` or `restore` has failed. `whose` names the failed
/// function.
pub(in crate::plugin) fn refused_hand_over(whose: &str, trap: &Trap) -> Refusal {
    let remedy = match &*trap.kind {
        kind if kind.starts_with("budget of ") => {
            "correct the plugin, or increase plugins.swap.budget"
        }
        kind if kind.starts_with(STATE_TOO_LONG) => {
            "let `save` write less data: only data that the new version cannot compute itself"
        }
        "stack overflow" => "correct the plugin, or increase plugins.stack",
        _ => "correct the plugin",
    };
    Refusal::new(format!("{whose} failed: {trap}"), remedy)
}

/// The result of a preparation, with the log lines of the guest.
#[derive(Debug)]
pub struct Preparation {
    /// The prepared program, or the refusal if the preparation failed.
    pub result: Result<Prepared, Refusal>,
    /// Log lines of the start section, `_initialize` and `init`.
    pub lines: Vec<Line>,
    /// The post-mortem data, if the start section, `_initialize` or `init` trapped and recording is
    /// switched on.
    pub post_mortem: Option<Box<PostMortem>>,
}

impl Program {
    /// Makes an instance of `artifact` and runs its start section, `_initialize` and `init` in
    /// `world`.
    ///
    /// `world` is a copy of the scan's world, so these calls cannot affect the scan. The log of
    /// this copy is a list, which this function moves into [`Preparation::lines`].
    pub fn prepare(
        request: NewProgram,
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
                        "start section, _initialize and init must return within plugins.init_budget"
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

    fn new(request: NewProgram, instance: Instance) -> Self {
        let NewProgram { name, seat, hash, generation, settings } = request;
        Self { name, seat, hash, generation, settings, polls: 0, instance }
    }

    /// Runs one poll. The time limit begins at `started_ns`, a time of the clock
    /// [`super::stop::now_ns`]. After a good poll, the world has the values that the program wrote.
    /// After a trap, the written values are discarded.
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

    /// Hands over from this program to the new version `to`. If both versions have `save` and
    /// `restore`, there are three steps: `save` of this program, the variable writes of the new
    /// version's start, and `restore` of the new version. Otherwise only the second step is done.
    /// `save` and `restore` together may use the CPU time of the new version's swap budget. The
    /// caller commits the writes to variables.
    ///
    /// # Errors
    /// The reason why the new version must not take over. On an error this program can continue,
    /// unless [`Program::is_spent`] is true. The doc of `Instance::save` states which changes by
    /// `save` are undone.
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

    /// Runs `save` and returns the state, for a shadow run. Returns `None` if the program does not
    /// have both `save` and `restore`. Afterwards the program can continue, unless
    /// [`Program::is_spent`] is true. The doc of `Instance::save` states which changes by `save`
    /// are undone.
    pub fn spare_state(&mut self, world: &mut Lent<World>, slot: &BudgetSlot) -> Option<Saved> {
        let budget = self.settings.swap.budget;
        self.hands_over().then(|| self.instance.save(world, slot, now_ns(), budget))
    }

    /// Runs `restore` of this program with the saved state of another version.
    pub(in crate::plugin) fn restore(
        &mut self,
        state: Vec<u8>,
        world: &mut Lent<World>,
        slot: &BudgetSlot,
    ) -> Result<(), Arc<Trap>> {
        self.instance.restore(state, world, slot, now_ns(), self.settings.swap.budget)
    }

    /// Returns the trap of the last failed call; `None` if no call has failed, or after a `save`
    /// that the host has undone.
    pub fn trap(&self) -> Option<&Arc<Trap>> {
        self.instance.fall().map(|fall| &fall.trap)
    }

    /// Whether a call into the program ended in the middle: its budget was used up, its stack was
    /// full, or a host function panicked. Such a program cannot be called any more.
    pub fn is_spent(&self) -> bool {
        self.instance.is_spent()
    }

    /// Whether the program failed because a call used up its budget.
    pub fn is_over(&self) -> bool {
        self.instance.fall().is_some_and(|fall| fall.is_over)
    }

    /// Returns the post-mortem data of the program, if the program has failed.
    pub fn post_mortem(self) -> Option<PostMortem> {
        self.instance.post_mortem()
    }

    /// Whether this instance has claimed the output `id` by a write.
    pub fn has_claimed(&mut self, id: PointId) -> bool {
        self.instance.guest().has_claimed(id)
    }

    /// Returns the outputs that this instance has claimed by a write.
    pub fn claimed(&mut self) -> Vec<PointId> {
        self.instance.guest().claimed()
    }

    /// Begins a list of the variables that the program's polls write. At the beginning, the list
    /// has the uncommitted writes of the hand-over, and the variables with an id in `earlier`.
    pub fn trace_variables(&mut self, variables: &Variables, earlier: &[u16]) {
        self.instance.guest().trace_variables(variables, earlier);
    }

    /// Returns the ids of the variables in the list that [`Program::trace_variables`] has begun,
    /// and ends the list.
    pub fn take_written(&mut self) -> Vec<u16> {
        self.instance.guest().take_written()
    }

    /// Returns the counts of the program's refused calls. Other threads may read the counts while
    /// the program runs.
    pub fn refused(&mut self) -> Arc<Tally> {
        Arc::clone(self.instance.guest().tally())
    }

    /// Logs the lost writes: writes of the program's start to variables that
    /// [`Prepared::bring_variables`] could not repeat.
    pub fn report_lost_writes(&mut self, world: &mut World) {
        self.instance.guest().report_lost_writes(world);
    }

    /// Replaces the settings. The caller must release outputs that the new settings no longer
    /// grant.
    pub fn configure(&mut self, settings: Settings, points: &Points) {
        let guest = self.instance.guest();
        guest.entitle(&settings, points);
        if self.settings != settings {
            guest.forget_refusals();
        }
        self.settings = settings;
    }

    /// Begins new counts of refused calls. The caller does this after a change of points or
    /// variables, because calls that were refused before may now succeed.
    pub fn forget_refusals(&mut self) {
        self.instance.guest().forget_refusals();
    }

    /// Returns the size of the program's linear memory in bytes.
    pub fn memory_bytes(&self) -> u64 {
        self.instance.memory_bytes()
    }

    /// Whether the program is polled in this cycle.
    pub fn is_due(&self, cycle: u64) -> bool {
        // The first comparison avoids the division for programs that are polled in every cycle,
        // which are most programs. The division takes as long as a small poll.
        self.settings.every <= 1 || cycle.is_multiple_of(u64::from(self.settings.every))
    }

    /// Returns the sort key for the order of polling: first the configured order, then the name.
    pub fn rank(&self) -> (u32, &str) {
        (self.settings.order, &self.name)
    }

    /// Returns the shortest budget that a call of `poll`, `save` or `restore` can have.
    pub fn shortest_budget(&self) -> Duration {
        self.settings.poll_budget.min(self.settings.swap.budget)
    }
}
