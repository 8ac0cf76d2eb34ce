//! The supervisor decides which programs may run.
//!
//! The supervisor is a pure function with a memory. Levels go in: the content of the folder, the
//! wish of the operator, the scan's newest snapshot. Orders come out. The same level twice changes
//! nothing, and a missed level does no harm, because generations tell instances apart.
//!
//! The supervisor reads no clock, touches no file and compiles nothing. It never waits for the
//! scan: an order without a visible effect is repeated after [`ORDER_REPEAT`]. The scan itself
//! rolls back a version that traps on probation; the supervisor learns that from a snapshot.
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

/// The time after which an order without visible effect is given again. It is ten cycles of the
/// usual 10 ms: a full order queue is retried soon, and a slow scan is not flooded with orders.
pub const ORDER_REPEAT: Duration = Duration::from_millis(100);

/// The largest number of entries: all plugins, as many plugins that are still leaving the scan
/// while others take their places, and as many whose file is no module.
const MAX_ENTRIES: usize = 3 * MAX_PLUGINS;

/// The wish of the operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Want {
    /// Run the plugin, if the folder holds a file for it.
    #[default]
    Run,
    /// Keep the plugin out of the scan, even if the folder holds a file for it.
    Hold,
}

/// The state of a plugin, as the operator sees it. It is computed from the levels each time, so it
/// cannot disagree with them.
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
/// New bytes are prepared beside a Running version, which stays Running if they fail. If they trap
/// on probation, the version before is Running again, and the new module is quarantined. In place
/// of a quarantined file, the newest kept version runs that was good and never trapped since,
/// unless `on_quarantine` is `safe`. That version goes through the same states. If the file is bad
/// at a start, the version runs that ran when the daemon ended, or a kept version if that one is
/// lost. A module is also in Backoff if it could not be made because of the machine, or although it
/// ran before. After as many attempts as traps lead to quarantine, a kept version may run, and the
/// other module is quarantined. From every state: hold ▶ Stopping ▶ Held, file gone ▶ Stopping ▶
/// Stopped. A release ends a hold or, if there is none, the quarantine. After it the plugin goes on
/// as if the file were new.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "lowercase")]
pub enum State {
    /// The folder holds no file of that name.
    Stopped,
    /// The operator has put the plugin on hold, and no instance of it is in the scan.
    Held,
    /// An instance is being compiled and made; no good instance is in the scan.
    Preparing,
    /// An instance is prepared and ordered into the scan, but no snapshot shows it yet.
    Starting,
    /// An instance is in the scan and polled. [`View::next`] may name a next version.
    Running,
    /// An instance trapped or could not be made; the next instance is made at `restart_at`.
    Backoff {
        /// Monotonic time; whole milliseconds in JSON.
        #[serde(rename = "restart_at_ms", serialize_with = "as_millis")]
        restart_at: Duration,
    },
    /// The file will not load, see [`View::refusal`], and there is no older version to run.
    Refused,
    /// The file's module is in quarantine and is not run again.
    Quarantined,
    /// The plugin is ordered out of the scan, but the snapshot still shows an instance.
    Stopping,
}

/// One instance of one module.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Version {
    /// The module of the instance.
    pub hash: ModuleHash,
    /// The number of the instance.
    pub generation: Generation,
}

/// The facts about one program in the scan's newest snapshot, which has every program in the scan.
#[derive(Debug, Clone)]
pub struct Fact<'a> {
    /// The plugin's name.
    pub name: &'a str,
    /// The instance that is in the scan.
    pub generation: Generation,
    /// The trap of that instance, after which it is not polled and its outputs are safe.
    pub trap: Option<Arc<Trap>>,
    /// The version before, as long as it may resume.
    pub standby: Option<Generation>,
    /// The last instance that trapped on probation. If it is newer than `generation`, this instance
    /// resumed. If it is older, this instance took over from the one that resumed.
    pub rolled_back: Option<(Generation, Arc<Trap>)>,
}

/// An order of the supervisor. The daemon carries it out and need not remember that it did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Compile and instantiate outside of the scan, and always answer with
    /// [`Supervisor::prepared`]. The hash is that of the file, of the version that ran last, or of
    /// a kept version: see [`Supervisor::keep`].
    Prepare {
        /// The plugin.
        name: String,
        /// The module.
        hash: ModuleHash,
        /// The number of the new instance.
        generation: Generation,
    },
    /// Send the prepared instance to the scan, where it replaces the plugin's old instance.
    /// Repeated until a snapshot shows it; a repeat of an order that was carried out is ignored.
    Install {
        /// The plugin.
        name: String,
        /// The instance.
        generation: Generation,
    },
    /// Take the plugin out of the scan. Repeated until no snapshot shows the plugin any more.
    Stop {
        /// The plugin.
        name: String,
    },
    /// Drop the instance if it is prepared but not sent, or stop making it.
    Discard {
        /// The plugin.
        name: String,
        /// The instance.
        generation: Generation,
    },
    /// Write one log line.
    Tell {
        /// The plugin.
        name: String,
        /// The event to log.
        note: Note,
    },
}

/// The state of one plugin, as status shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct View<'a> {
    /// The wish of the operator.
    pub want: Want,
    /// The state.
    #[serde(flatten)]
    pub state: State,
    /// The module in the folder, if the file could be read.
    pub file: Option<ModuleHash>,
    /// The instance in the scan, trapped or not.
    pub running: Option<Version>,
    /// The instance that is being made or ordered into the scan.
    pub next: Option<Version>,
    /// The module that ran last. It is restarted if the file is bad.
    pub good: Option<ModuleHash>,
    /// Whether the file's bytes are in quarantine. An older version may still run.
    pub quarantined: bool,
    /// Why the file's bytes are in quarantine.
    pub quarantine: Option<&'a str>,
    /// The number of traps since the supervisor has known the plugin.
    pub traps: u64,
    /// The last trap.
    pub last_trap: Option<&'a Trap>,
    /// The version that had the last trap, if it is known.
    pub trapped: Option<ModuleHash>,
    /// Why the present file was not taken over.
    pub refusal: Option<&'a Refusal>,
    /// Whether the supervisor tries the refused file again by itself.
    #[serde(skip)]
    pub is_tried_again: bool,
    /// The newest refusal of a version that would run in place of the file: the version, the
    /// reason, and whether the supervisor tries that version again by itself.
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

/// The step context: the data that all plugins share while they are reconciled.
#[derive(Debug, Default)]
struct StepContext {
    /// The last generation that was given out.
    generation: Generation,
    quarantine: Quarantine,
    /// The orders of this step. Between two steps there is at most one order for each late answer.
    actions: Vec<Action>,
}

impl Supervisor {
    /// A supervisor that knows no plugin yet.
    pub fn new(policy: RestartPolicy) -> Self {
        Self { policy, plugins: BTreeMap::new(), context: StepContext::default() }
    }

    /// Sets the policy by which plugins are restarted from now on. Earlier decisions stay.
    pub fn set_policy(&mut self, policy: RestartPolicy) {
        self.policy = policy;
    }

    /// Notes that the folder holds these settled bytes under that name, or no file.
    ///
    /// # Errors
    /// There is no room for one more plugin, or the name breaks the rules.
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

    /// Notes that the folder holds a file under that name that is too large or unreadable. As with
    /// every refusal, the running version is not touched.
    ///
    /// # Errors
    /// There is no room for one more plugin, or the name breaks the rules.
    pub fn folder_refused(&mut self, name: &str, refusal: Refusal) -> Result<(), Refusal> {
        self.entry(name)?.holds(plugin::File::Unusable(refusal));
        Ok(())
    }

    /// Takes the plugin out of the scan until a release. Its file may come later.
    ///
    /// # Errors
    /// There is no room for one more plugin, or the name breaks the rules.
    pub fn hold(&mut self, name: &str) -> Result<(), Refusal> {
        self.entry(name)?.want = Want::Hold;
        Ok(())
    }

    /// Lets the plugin run again, and forgets its backoff and refusals. If the plugin is on hold,
    /// the release ends only the hold: a module in quarantine stays there. If the plugin is not on
    /// hold, the release ends its quarantine.
    ///
    /// # Errors
    /// There is no such plugin, and no module of that name is in quarantine.
    pub fn release(&mut self, name: &str) -> Result<Released, Refusal> {
        match self.plugins.get_mut(name).map(Plugin::release) {
            Some(Want::Hold) => return Ok(Released::FromHold),
            None if self.context.quarantine.of(name).next().is_none() => return Err(unknown(name)),
            // The quarantine of a name outlives its file.
            Some(Want::Run) | None => self.context.quarantine.release(name),
        }
        Ok(Released::Forgiven)
    }

    /// Ends the hold. Modules in quarantine stay there.
    pub fn let_go(&mut self, name: &str) {
        if let Some(plugin) = self.plugins.get_mut(name) {
            plugin.release();
        }
    }

    /// Notes that these bytes were in quarantine under that name before the start, and why.
    pub fn recall(&mut self, name: &str, hash: ModuleHash, why: String) {
        self.context.quarantine.add(name, hash, why);
    }

    /// Ends the quarantine of these bytes under that name, and of no others.
    pub fn release_version(&mut self, name: &str, hash: ModuleHash) {
        self.context.quarantine.release_one(name, hash);
        if let Some(plugin) = self.plugins.get_mut(name) {
            plugin.retry(hash);
        }
    }

    /// Whether these bytes are in quarantine under that name.
    pub fn is_quarantined(&self, name: &str, hash: ModuleHash) -> bool {
        self.context.quarantine.contains(name, hash)
    }

    /// Notes which versions can be loaded beside the file's: `good` were good and never trapped
    /// since, best first; `ran` is the version that ran when the daemon ended.
    pub fn keep(&mut self, name: &str, good: Vec<ModuleHash>, ran: Option<ModuleHash>) {
        if let Some(plugin) = self.plugins.get_mut(name) {
            plugin.keep(good, ran);
        }
    }

    /// Makes a new instance of the plugin now. A refused file is tried again.
    ///
    /// # Errors
    /// There is no such plugin, it is on hold, or in quarantine without another version to run.
    pub fn restart(&mut self, name: &str) -> Result<(), Refusal> {
        let plugin = self.plugins.get_mut(name).ok_or_else(|| unknown(name))?;
        let view = plugin.view(name, &self.context, self.policy);
        if view.want == Want::Hold {
            return Err(Refusal::new(format!("{name} is held"), "release it first"));
        }
        let has_any = plugin.has_any(name, &self.context, self.policy);
        if view.state == State::Quarantined && !has_any {
            return Err(Refusal::new(format!("{name} is in quarantine"), "release it instead"));
        }
        plugin.restart();
        Ok(())
    }

    /// Takes the answer to [`Action::Prepare`]. A refusal may also follow [`Action::Install`], if
    /// the instance was lost or the scan did not take it.
    pub fn prepared(&mut self, name: &str, generation: Generation, result: Result<(), Refusal>) {
        let made = result.is_ok();
        let expected =
            self.plugins.get_mut(name).is_some_and(|plugin| plugin.prepared(generation, result));
        if made && !expected {
            self.context.actions.push(Action::Discard { name: name.to_owned(), generation });
        }
    }

    /// Compares the wanted state with the actual one and returns orders. `now` is monotonic;
    /// `facts` are all facts of the newest snapshot. The daemon calls this function after each
    /// change of a level, and at least every [`ORDER_REPEAT`].
    pub fn step(&mut self, now: Duration, facts: &[Fact<'_>]) -> Vec<Action> {
        let facts: BTreeMap<&str, &Fact<'_>> = facts.iter().map(|fact| (fact.name, fact)).collect();
        for name in facts.keys() {
            // The scan may run a program without an entry here, because its install order took
            // effect after its plugin was forgotten. The new entry has no file, so the program is
            // stopped.
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

    /// The views of all plugins, by name.
    pub fn plugins(&self) -> impl Iterator<Item = (&str, View<'_>)> {
        self.plugins
            .iter()
            .map(|(name, plugin)| (name.as_str(), plugin.view(name, &self.context, self.policy)))
    }

    /// The view of one plugin.
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
