//! The supervisor decides which programs may run.
//!
//! The supervisor is a state machine. Its inputs are levels (states, not events): the content of
//! the plugin folder, the operator's wish (run or hold), and the newest snapshot of the scan. The
//! supervisor returns orders. If a level arrives twice, the second arrival changes nothing. A lost
//! level does no harm, because the next level has all facts. The instance numbers show to which
//! instance a fact belongs.
//!
//! The supervisor reads no clock, touches no file, compiles nothing and never waits for the scan.
//! If an order has no visible effect, the supervisor repeats the order after [`ORDER_REPEAT`]. The
//! scan rolls back a version that traps on probation, and the next snapshot reports the rollback.
//!
//! Next: `supervisor/plugin.rs` reconciles one plugin, `supervisor/history.rs` counts its traps.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::{Serialize, Serializer};

use crate::plugin::module::folder::MAX_PLUGINS;
use crate::plugin::{Generation, ModuleHash, Refusal, Trap};

mod admit;
mod history;
mod need;
mod note;
mod plugin;
mod quarantine;
#[cfg(test)]
mod tests;

pub use history::{OnQuarantine, RestartPolicy};
pub use note::{Note, Released};
use plugin::Plugin;
use quarantine::Quarantine;

/// The time after which an order without a visible effect is repeated: ten cycles of the usual 10
/// ms. This time is short enough for an order that met a full queue, and long enough for a slow
/// scan.
pub const ORDER_REPEAT: Duration = Duration::from_millis(100);

/// The largest number of entries in `Supervisor::plugins`: enough for `MAX_PLUGINS` plugins, as
/// many plugins that are leaving the scan, and as many names whose file is no module.
const MAX_ENTRIES: usize = 3 * MAX_PLUGINS;

/// The operator's wish for one plugin: run or hold. The default is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Want {
    /// Run the plugin, if the plugin folder has a file for it.
    #[default]
    Run,
    /// Keep the plugin out of the scan, even if the plugin folder has a file for it.
    Hold,
}

/// The state of a plugin, as the operator sees it. The supervisor computes the state from the
/// levels each time, so the state always agrees with the levels.
///
/// ```text
///           file            prepared            in the snapshot
///  Stopped ──────▶ Preparing ───────▶ Starting ─────────────────▶ Running
///                    ▲ ▲ │ will not load                              │ trap
///          new bytes │ │ ▼             restart_at                     ▼
///                    │ │ Refused    ┌──────────────────────────── Backoff
///                    │ └────────────┘                                 │ 5th trap
///                    │ new bytes, release, a version stands in        ▼
///                    └────────────────────────────────────────── Quarantined
/// ```
/// The old version stays Running while an instance of the new bytes is prepared, and if this
/// preparation fails. If the new bytes trap on probation, the old version is Running again, and the
/// new module is in quarantine. If the file is bad when the daemon starts, the version that ran
/// last runs. Unless `on_quarantine` is `safe`, a stored version runs in place of a module in
/// quarantine, or of a module that ran last and whose bytes are lost: the newest good version
/// without a later trap. A failed preparation leads to Backoff, like a trap, if the machine is the
/// reason or the module ran before. If a module that ran before fails as often as traps lead to
/// quarantine, a stored version runs, and the module is in quarantine. From every state: hold ▶
/// Stopping ▶ Held, and file removed ▶ Stopping ▶ Stopped. A release ends a hold; without a hold,
/// the release ends the quarantine. Then the plugin starts like a new file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "lowercase")]
pub enum State {
    /// The plugin folder has no file of that name.
    Stopped,
    /// The operator holds the plugin, and no instance of the plugin is in the scan.
    Held,
    /// An instance is being created, or its creation begins in the next step. The scan polls none.
    Preparing,
    /// An instance is ready and ordered into the scan, but no snapshot shows it yet.
    Starting,
    /// An instance is in the scan and polled. [`View::next`] may name the next version.
    Running,
    /// An instance trapped or could not be created. The next one is created at `restart_at`.
    Backoff {
        /// Monotonic time. In JSON: whole milliseconds.
        #[serde(rename = "restart_at_ms", serialize_with = "as_millis")]
        restart_at: Duration,
    },
    /// The file cannot be loaded (see [`View::refusal`]), and no older version can run.
    Refused,
    /// The file's module is in quarantine, and no other version can run.
    Quarantined,
    /// The plugin is ordered out of the scan, but the snapshot still shows an instance.
    Stopping,
}

/// One instance of one module: the module's hash and the instance's number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Version {
    /// The module of the instance.
    pub hash: ModuleHash,
    /// The number of the instance; each new instance has a higher number.
    pub generation: Generation,
}

/// The facts about one program in the scan. Each snapshot has the facts of all programs.
#[derive(Debug, Clone)]
pub struct Fact<'a> {
    /// The plugin's name.
    pub name: &'a str,
    /// The instance that is in the scan.
    pub generation: Generation,
    /// The trap of that instance. A trapped instance is not polled, and its output points are safe.
    pub trap: Option<Arc<Trap>>,
    /// The previous version, while the scan may still return to it.
    pub standby: Option<Generation>,
    /// The last instance that trapped on probation. If its number is above `generation`, the scan
    /// has returned from this instance to the instance `generation`. If its number is below
    /// `generation`, a later instance now runs.
    pub rolled_back: Option<(Generation, Arc<Trap>)>,
}

/// An order of the supervisor. The daemon executes each order and need not store it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Compile the module and create an instance, outside of the scan. The daemon always answers
    /// with [`Supervisor::prepared`]. The module is the file's module, the module that ran last, or
    /// a stored module (see [`Supervisor::set_stored`]).
    Prepare {
        /// The plugin.
        name: String,
        /// The module.
        hash: ModuleHash,
        /// The number of the new instance.
        generation: Generation,
    },
    /// Send the prepared instance to the scan, where it replaces the old instance. Repeated until a
    /// snapshot shows the instance, or until [`Action::Discard`]. The scan ignores a repeat.
    Install {
        /// The plugin.
        name: String,
        /// The instance.
        generation: Generation,
    },
    /// Take the plugin out of the scan. Repeated until a snapshot does not show it.
    Stop {
        /// The plugin.
        name: String,
    },
    /// Drop an instance that no snapshot has shown, or end the preparation of the instance.
    Discard {
        /// The plugin.
        name: String,
        /// The instance.
        generation: Generation,
    },
    /// Write one log line.
    Log {
        /// The plugin.
        name: String,
        /// The event to log.
        note: Note,
    },
}

/// The state of one plugin, as `camshaft status` shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct View<'a> {
    /// The operator's wish: run or hold.
    pub want: Want,
    /// The state, computed from the levels.
    #[serde(flatten)]
    pub state: State,
    /// The module of the file in the plugin folder, if the file could be read.
    pub file: Option<ModuleHash>,
    /// The instance in the scan, even if it has trapped.
    pub running: Option<Version>,
    /// The instance that is being created, or that is ordered into the scan.
    pub next: Option<Version>,
    /// The last module that ran and was not in quarantine. It is restarted if the file is bad.
    pub good: Option<ModuleHash>,
    /// Whether the file's module is in quarantine. Another version may run in its place.
    pub quarantined: bool,
    /// Reason why the file's module is in quarantine.
    pub quarantine: Option<&'a str>,
    /// The number of traps of the plugin since the supervisor has had an entry for it.
    pub traps: u64,
    /// The last trap.
    pub last_trap: Option<&'a Trap>,
    /// The module that had the last trap, if that module is known.
    pub trapped: Option<ModuleHash>,
    /// Reason why the program of the present file does not run.
    pub refusal: Option<&'a Refusal>,
    /// Whether the supervisor tries the refused file again without the operator.
    #[serde(skip)]
    pub is_tried_again: bool,
    /// The newest refusal of a version that would run in place of the file: the module, the reason,
    /// and whether the supervisor tries the module again without the operator.
    #[serde(skip)]
    pub other_refusal: Option<(ModuleHash, &'a Refusal, bool)>,
}

/// The supervisor: all plugins, and the next order for each of them.
#[derive(Debug)]
pub struct Supervisor {
    policy: RestartPolicy,
    plugins: BTreeMap<String, Plugin>,
    context: StepContext,
}

/// The data that all plugins share during one step.
#[derive(Debug, Default)]
struct StepContext {
    /// The number of the newest instance; the next instance gets the next number.
    generation: Generation,
    quarantine: Quarantine,
    /// The orders of this step. Between two steps, each call of `prepared` may add one order.
    actions: Vec<Action>,
}

impl Supervisor {
    /// Returns a supervisor without plugins.
    pub fn new(policy: RestartPolicy) -> Self {
        Self { policy, plugins: BTreeMap::new(), context: StepContext::default() }
    }

    /// Sets the policy for later restarts. Earlier decisions of the supervisor do not change.
    pub fn set_policy(&mut self, policy: RestartPolicy) {
        self.policy = policy;
    }

    /// Records the content of the plugin's file; `None` means that the folder has no file of that
    /// name. The caller has waited until the content did not change for some time.
    /// # Errors
    /// The limit on the number of plugins is reached, or the name breaks the rules.
    pub fn folder(&mut self, name: &str, file: Option<ModuleHash>) -> Result<(), Refusal> {
        match file {
            Some(hash) => self.entry(name)?.holds(plugin::File::Bytes(hash)),
            None => {
                if let Some(plugin) = self.plugins.get_mut(name) {
                    plugin.holds(plugin::File::Gone);
                }
            }
        }
        Ok(())
    }

    /// Records that the file of that name cannot be used, for example because it is too large or
    /// cannot be read. The running version continues.
    /// # Errors
    /// The limit on the number of plugins is reached, or the name breaks the rules.
    pub fn folder_refused(&mut self, name: &str, refusal: Refusal) -> Result<(), Refusal> {
        self.entry(name)?.holds(plugin::File::Unusable(refusal));
        Ok(())
    }

    /// Takes the plugin out of the scan until a release. The hold is also valid for a later file.
    /// # Errors
    /// The limit on the number of plugins is reached, or the name breaks the rules.
    pub fn hold(&mut self, name: &str) -> Result<(), Refusal> {
        self.entry(name)?.want = Want::Hold;
        Ok(())
    }

    /// Lets the plugin run again, and clears its backoff and failed attempts. If the plugin is on
    /// hold, the release ends only the hold, and a module in quarantine remains there. Without a
    /// hold, the release ends the quarantine.
    ///
    /// # Errors
    /// There is no such plugin, and no module of that name is in quarantine.
    pub fn release(&mut self, name: &str) -> Result<Released, Refusal> {
        match self.plugins.get_mut(name).map(Plugin::release) {
            Some(Want::Hold) => return Ok(Released::FromHold),
            None if self.context.quarantine.of(name).next().is_none() => return Err(unknown(name)),
            // The quarantine of a name remains when the file is removed.
            Some(Want::Run) | None => self.context.quarantine.release(name),
        }
        Ok(Released::Forgiven)
    }

    /// Ends the hold, and clears backoff and failed attempts. The quarantine of modules remains.
    pub fn let_go(&mut self, name: &str) {
        if let Some(plugin) = self.plugins.get_mut(name) {
            plugin.release();
        }
    }

    /// Restores a quarantine that began before the start of the daemon, with its reason.
    pub fn recall(&mut self, name: &str, hash: ModuleHash, why: String) {
        self.context.quarantine.add(name, hash, why);
    }

    /// Ends the quarantine of this module under that name, and allows a new attempt with it.
    pub fn release_version(&mut self, name: &str, hash: ModuleHash) {
        self.context.quarantine.release_one(name, hash);
        if let Some(plugin) = self.plugins.get_mut(name) {
            plugin.retry(hash);
        }
    }

    /// Whether this module is in quarantine under that name.
    pub fn is_quarantined(&self, name: &str, hash: ModuleHash) -> bool {
        self.context.quarantine.contains(name, hash)
    }

    /// Records the stored versions. `good` has the versions that passed their probation and have
    /// not trapped since then, best first. `ran` is the version that ran when the daemon ended.
    pub fn set_stored(&mut self, name: &str, good: Vec<ModuleHash>, ran: Option<ModuleHash>) {
        if let Some(plugin) = self.plugins.get_mut(name) {
            plugin.set_stored(good, ran);
        }
    }

    /// Orders a new instance of the plugin without a wait. A refused file is tried again.
    /// # Errors
    /// The plugin does not exist, is on hold, or is in quarantine without another version to run.
    pub fn restart(&mut self, name: &str) -> Result<(), Refusal> {
        let plugin = self.plugins.get_mut(name).ok_or_else(|| unknown(name))?;
        let view = plugin.view(name, &self.context, self.policy);
        if view.want == Want::Hold {
            return Err(Refusal::new(format!("{name} is held"), "release it first"));
        }
        let has_any = plugin.has_any(name, &self.context, self.policy);
        if view.state == State::Quarantined && !has_any {
            return Err(Refusal::new(format!("{name} is in quarantine"), "release the plugin"));
        }
        plugin.restart();
        Ok(())
    }

    /// Records the answer to [`Action::Prepare`]. A refusal can also arrive after
    /// [`Action::Install`], if the instance was lost or the scan refused the instance.
    pub fn prepared(&mut self, name: &str, generation: Generation, result: Result<(), Refusal>) {
        let made = result.is_ok();
        let expected =
            self.plugins.get_mut(name).is_some_and(|plugin| plugin.prepared(generation, result));
        if made && !expected {
            self.context.actions.push(Action::Discard { name: name.to_owned(), generation });
        }
    }

    /// Compares the wanted state with the actual state and returns orders. `now` is monotonic;
    /// `facts` are all facts of the newest snapshot. The daemon calls this function after each
    /// change of a level, and at least once in each [`ORDER_REPEAT`].
    pub fn step(&mut self, now: Duration, facts: &[Fact<'_>]) -> Vec<Action> {
        let facts: BTreeMap<&str, &Fact<'_>> = facts.iter().map(|fact| (fact.name, fact)).collect();
        for name in facts.keys() {
            // The scan has a program without an entry: the entry was dropped while the program was
            // in the queue. The new entry has no file, so the supervisor stops the program.
            if !self.plugins.contains_key(*name) && self.plugins.len() < MAX_ENTRIES {
                self.plugins.insert((*name).to_owned(), Plugin::default());
            }
        }
        let Self { policy, plugins, context } = self;
        plugins.retain(|name, plugin| {
            let mut turn = plugin::Turn { name, now, policy, context };
            plugin.step(facts.get(name.as_str()).copied(), &mut turn);
            !plugin.is_forgettable()
        });
        std::mem::take(&mut self.context.actions)
    }

    /// Returns the views of all plugins, sorted by name.
    pub fn plugins(&self) -> impl Iterator<Item = (&str, View<'_>)> {
        self.plugins
            .iter()
            .map(|(name, plugin)| (name.as_str(), plugin.view(name, &self.context, self.policy)))
    }

    /// Returns the view of one plugin; `None` if the supervisor has no entry for the plugin.
    pub fn plugin(&self, name: &str) -> Option<View<'_>> {
        self.plugins.get(name).map(|plugin| plugin.view(name, &self.context, self.policy))
    }

    fn entry(&mut self, name: &str) -> Result<&mut Plugin, Refusal> {
        if !self.plugins.contains_key(name) {
            self.has_room_for(name)?;
        }
        Ok(self.plugins.entry(name.to_owned()).or_default())
    }
}

fn unknown(name: &str) -> Refusal {
    Refusal::new(format!("there is no plugin {name:?}"), "`camshaft plugins` lists them")
}

fn as_millis<S: Serializer>(at: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(u64::try_from(at.as_millis()).unwrap_or(u64::MAX))
}
