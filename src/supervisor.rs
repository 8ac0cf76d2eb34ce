//! The supervisor decides which programs may run.
//!
//! It is a pure function with a memory. Levels go in: what the folder holds, what the operator
//! wants, what the scan's newest snapshot says. Orders come out. The same level twice changes
//! nothing, and a level that was missed does no harm, because generations tell instances apart.
//!
//! It reads no clock, touches no file and compiles nothing. It never waits for the scan: an order
//! without a visible effect is repeated after [`ORDER_REPEAT`]. The scan itself rolls back a
//! version that traps on probation, at once; the supervisor takes that as a fact like any other.
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
/// usual 10 ms: a full order queue is retried soon, and a slow scan is not flooded.
pub const ORDER_REPEAT: Duration = Duration::from_millis(100);

/// The largest number of entries: the plugins themselves, as many that are still leaving the scan
/// while others already take their places, and as many whose file is no module.
const MAX_ENTRIES: usize = 3 * MAX_PLUGINS;

/// What the operator wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Want {
    /// Run the plugin whatever the folder holds.
    #[default]
    Run,
    /// Keep the plugin out of the scan whatever the folder holds.
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
/// While Running, new bytes are prepared beside it: it stays Running, whatever comes of them. When
/// they trap on probation, the version before is Running again, and they are quarantined. The
/// newest kept version that was good and never trapped since stands in for a quarantined file,
/// unless `on_quarantine` is `safe`. It goes through the same states. After a start with a file
/// that is no good, the version that ran when the daemon ended stands in. If that is lost, a kept
/// version does. A module is in Backoff like a trapped one if the machine was the reason that it
/// could not be made, or if it ran before. After as many attempts as traps lead to quarantine, a
/// kept version may run, and then the other module is quarantined. From every state: hold ▶
/// Stopping ▶ Held, file gone ▶ Stopping ▶ Stopped. A release goes on as if the file had just come.
/// It ends a hold, or else the quarantine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "lowercase")]
pub enum State {
    /// The folder holds no file of that name.
    Stopped,
    /// The operator has put it on hold, and no instance of it is in the scan.
    Held,
    /// It is being compiled and instantiated; no good instance is in the scan.
    Preparing,
    /// It is prepared and ordered into the scan, but no snapshot shows it there yet.
    Starting,
    /// It is in the scan and polled. A next version may be on its way, see [`View::next`].
    Running,
    /// It trapped, or could not be made; the next instance is made at `restart_at`.
    Backoff {
        /// Monotonic time; whole milliseconds in JSON.
        #[serde(rename = "restart_at_ms", serialize_with = "as_millis")]
        restart_at: Duration,
    },
    /// The file will not load, see [`View::refusal`], and there is no older version to run.
    Refused,
    /// The file's module is in quarantine and is not run again.
    Quarantined,
    /// It is ordered out of the scan, but the snapshot still shows it there.
    Stopping,
}

/// One instance of one module.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Version {
    /// The module.
    pub hash: ModuleHash,
    /// The instance.
    pub generation: Generation,
}

/// What the scan's newest snapshot says about one program. A snapshot names every program that is
/// in the scan, trapped ones included.
#[derive(Debug, Clone)]
pub struct Fact<'a> {
    /// The plugin's name.
    pub name: &'a str,
    /// The instance that is in the scan.
    pub generation: Generation,
    /// The trap of that instance, if any: it is then no longer polled, and its outputs are safe.
    pub trap: Option<Arc<Trap>>,
    /// The version before, as long as that may resume.
    pub standby: Option<Generation>,
    /// The last instance that trapped on probation. If it is newer than `generation`, this instance
    /// resumed. If it is older, this instance took over from the one that resumed.
    pub rolled_back: Option<(Generation, Arc<Trap>)>,
}

/// An order of the supervisor. The daemon carries it out and need not remember that it did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Compile and instantiate off the scan, and always answer with [`Supervisor::prepared`]. The
    /// hash is that of the file, of the version that ran last, or of a kept one: see
    /// [`Supervisor::keep`].
    Prepare {
        /// The plugin.
        name: String,
        /// The module.
        hash: ModuleHash,
        /// The number of the new instance.
        generation: Generation,
    },
    /// Send the prepared instance to the scan, where it replaces the one of the same name. Repeated
    /// until a snapshot shows it; a repeat of an order that was carried out is ignored.
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
    /// Drop the instance if it is prepared and not sent yet; stop making it if that is under way.
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
    /// What the operator wants.
    pub want: Want,
    /// The state.
    #[serde(flatten)]
    pub state: State,
    /// The module in the folder, if the file could be read.
    pub file: Option<ModuleHash>,
    /// The instance in the scan, trapped or not.
    pub running: Option<Version>,
    /// The instance on its way into the scan.
    pub next: Option<Version>,
    /// The module that ran last; it is restarted when the file is no good.
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
    /// Whether the supervisor tries the file again by itself after that refusal.
    #[serde(skip)]
    pub is_tried_again: bool,
    /// The newest refusal of a version that would run in place of the file: the version, the
    /// reason, and whether the supervisor tries it again by itself.
    #[serde(skip)]
    pub other_refusal: Option<(ModuleHash, &'a Refusal, bool)>,
}

/// The supervisor: all plugins, and what each of them should do next.
#[derive(Debug)]
pub struct Supervisor {
    policy: RestartPolicy,
    plugins: BTreeMap<String, Plugin>,
    context: StepContext,
}

/// The step context: what the plugins share while they are reconciled.
#[derive(Debug, Default)]
struct StepContext {
    /// The last generation that was given out.
    generation: Generation,
    quarantine: Quarantine,
    /// The orders of this step. Between two steps it holds at most one for each late answer.
    actions: Vec<Action>,
}

impl Supervisor {
    /// A supervisor that knows no plugin yet.
    pub fn new(policy: RestartPolicy) -> Self {
        Self { policy, plugins: BTreeMap::new(), context: StepContext::default() }
    }

    /// Restarts plugins by this policy from now on. Earlier decisions stay.
    pub fn set_policy(&mut self, policy: RestartPolicy) {
        self.policy = policy;
    }

    /// Takes in that the folder holds these settled bytes under that name, or none.
    ///
    /// # Errors
    /// The plugin is one too many or misnamed.
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

    /// Takes in that the folder holds a file under that name that cannot be a module: it is too
    /// large or unreadable. As with every refusal, the running version is not touched.
    ///
    /// # Errors
    /// The plugin is one too many or misnamed.
    pub fn folder_refused(&mut self, name: &str, refusal: Refusal) -> Result<(), Refusal> {
        self.entry(name)?.holds(plugin::File::Unusable(refusal));
        Ok(())
    }

    /// Takes the plugin out of the scan until a release, by order. Its file may come later.
    ///
    /// # Errors
    /// The plugin is one too many or misnamed.
    pub fn hold(&mut self, name: &str) -> Result<(), Refusal> {
        self.entry(name)?.want = Want::Hold;
        Ok(())
    }

    /// Lets the plugin run again, as the operator wants; backoff and refusal are forgotten. For a
    /// plugin on hold the release ends the hold only: what was in quarantine before stays there.
    /// For a plugin that is not on hold the release ends its quarantine.
    ///
    /// # Errors
    /// There is no such plugin, and no module of that name is in quarantine.
    pub fn release(&mut self, name: &str) -> Result<Released, Refusal> {
        match self.plugins.get_mut(name).map(Plugin::release) {
            Some(Want::Hold) => return Ok(Released::FromHold),
            None if self.context.quarantine.of(name).next().is_none() => return Err(unknown(name)),
            // A quarantine outlives the file.
            Some(Want::Run) | None => self.context.quarantine.release(name),
        }
        Ok(Released::Forgiven)
    }

    /// Ends the hold; what is in quarantine stays there.
    pub fn let_go(&mut self, name: &str) {
        if let Some(plugin) = self.plugins.get_mut(name) {
            plugin.release();
        }
    }

    /// Takes in that these bytes were in quarantine under that name before the start, and why.
    pub fn recall(&mut self, name: &str, hash: ModuleHash, why: String) {
        self.context.quarantine.add(name, hash, why);
    }

    /// Gives these bytes, and no others, another chance under that name, as the operator wants.
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

    /// Takes in which versions can be loaded beside the file's: `good` were good and never trapped
    /// since, best first; `ran` is the version that ran when the daemon ended.
    pub fn keep(&mut self, name: &str, good: Vec<ModuleHash>, ran: Option<ModuleHash>) {
        if let Some(plugin) = self.plugins.get_mut(name) {
            plugin.keep(good, ran);
        }
    }

    /// Makes a new instance of the plugin now, by order. A refused file is tried again.
    ///
    /// # Errors There is no such plugin, it is on hold, or in quarantine without another version to
    /// run.
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

    /// Takes in the answer to [`Action::Prepare`]. A refusal may also follow [`Action::Install`],
    /// when the instance was lost or the scan did not take it.
    pub fn prepared(&mut self, name: &str, generation: Generation, result: Result<(), Refusal>) {
        let made = result.is_ok();
        let expected =
            self.plugins.get_mut(name).is_some_and(|plugin| plugin.prepared(generation, result));
        if made && !expected {
            self.context.actions.push(Action::Discard { name: name.to_owned(), generation });
        }
    }

    /// Compares the wanted state with the actual one and returns orders. `now` is monotonic;
    /// `facts` is the newest snapshot, complete. Call it whenever a level changed and at least
    /// every [`ORDER_REPEAT`].
    pub fn step(&mut self, now: Duration, facts: &[Fact<'_>]) -> Vec<Action> {
        let facts: BTreeMap<&str, &Fact<'_>> = facts.iter().map(|fact| (fact.name, fact)).collect();
        for name in facts.keys() {
            // The scan may run a program without an entry here: its install order took effect after
            // its plugin was forgotten. The new entry has no file, so the program is stopped like
            // any other.
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
