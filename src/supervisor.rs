//! The supervisor decides who may run.
//!
//! It is a pure function with a memory: levels go in (what the folder holds, what the operator
//! wants, what the scan's newest snapshot says), orders come out. The same level twice changes
//! nothing and one that was never seen is not missed: generations tell instances apart.
//!
//! It deliberately reads no clock, touches no file and compiles nothing. It never waits for the
//! scan: an order that has no visible effect is repeated after [`ORDER_REPEAT`]. A version that
//! traps on probation is taken back by the scan itself, at once; here that is a fact like others.
//!
//! Next: `supervisor/plugin.rs` reconciles one plugin, `supervisor/history.rs` counts its traps.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::{Serialize, Serializer};

use crate::plugin::folder::MAX_PLUGINS;
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

/// An order without visible effect is given again after this time: ten cycles of the usual 10 ms,
/// so a full order queue is retried soon and a slow scan is not flooded.
pub const ORDER_REPEAT: Duration = Duration::from_millis(100);

/// Entries in all: the plugins themselves, as many that are still leaving the scan while others
/// already take their places, and as many whose file is no module.
const MAX_ENTRIES: usize = 3 * MAX_PLUGINS;

/// What the operator wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Want {
    /// Run whatever the folder holds.
    #[default]
    Run,
    /// Run nothing, whatever the folder holds.
    Hold,
}

/// What is so, as the operator sees it. It is read off the levels at every look, so it cannot
/// disagree with them.
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
///
///  While Running, new bytes are prepared beside it: it stays Running, whatever comes of them. When
///  they trap on probation the version before is Running again, and they are quarantined.
///  What stands in for a quarantined file is the newest kept version that was good and never
///  trapped since, unless `on_quarantine` is `safe`; it goes through the same states. After a start
///  it is also what ran when the daemon ended if the file is no good, or a kept one without that.
///  What could not be made by accident, or ran before, is in Backoff like a trapped one. After as
///  many attempts as traps lead to quarantine, a kept version may run, and puts the other there.
///  From every state: hold ▶ Stopping ▶ Held, file gone ▶ Stopping ▶ Stopped. A release goes on as
///  if the file had just come; what is in quarantine while it is held stays there until another.
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "lowercase")]
pub enum State {
    /// The folder holds no file of that name.
    Stopped,
    /// The operator wants it so; nothing is in the scan.
    Held,
    /// Being compiled and instantiated; nothing good is in the scan.
    Preparing,
    /// Prepared and ordered into the scan, not yet seen there.
    Starting,
    /// In the scan, polled. A next version may be on its way, see [`View::next`].
    Running,
    /// Trapped; a new instance is made at `restart_at`.
    Backoff {
        /// Monotonic time; as whole milliseconds in JSON.
        #[serde(rename = "restart_at_ms", serialize_with = "as_millis")]
        restart_at: Duration,
    },
    /// The file will not load, see [`View::refusal`], and nothing older is there to run.
    Refused,
    /// The file's module trapped too often and is not run again.
    Quarantined,
    /// Ordered out of the scan, still seen there.
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

/// What the scan's newest snapshot says about one program. A snapshot names every program that
/// is in the scan, trapped ones included.
#[derive(Debug, Clone)]
pub struct Fact<'a> {
    /// The plugin's name.
    pub name: &'a str,
    /// The instance that is in the scan.
    pub generation: Generation,
    /// Set when that instance has trapped: it is polled no more and its outputs are safe.
    pub trap: Option<Arc<Trap>>,
    /// Its predecessor, as long as that may resume.
    pub standby: Option<Generation>,
    /// The last instance that trapped on probation. If it is newer, this one resumed; if it is
    /// older, this one took over from the one that resumed.
    pub rolled_back: Option<(Generation, Arc<Trap>)>,
}

/// What is to be done. The daemon does it and need not remember that it did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Compile and instantiate off the scan, then answer with [`Supervisor::prepared`], always.
    /// The hash is that of the file, of the version that ran last, or of a kept one: see
    /// [`Supervisor::keep`].
    Prepare {
        /// The plugin.
        name: String,
        /// The module.
        hash: ModuleHash,
        /// The number of the new instance.
        generation: Generation,
    },
    /// Send the prepared instance to the scan, where it replaces the one of the same name.
    /// Repeated until a snapshot shows it: nothing is to be done if it was sent before.
    Install {
        /// The plugin.
        name: String,
        /// The instance.
        generation: Generation,
    },
    /// Take the plugin out of the scan. Repeated until no snapshot shows it any more.
    Stop {
        /// The plugin.
        name: String,
    },
    /// Drop the instance if it is prepared and not sent yet; abandon its making if that is under
    /// way.
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
        /// What happened.
        note: Note,
    },
}

/// One plugin as status shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct View<'a> {
    /// What the operator wants.
    pub want: Want,
    /// What is so.
    #[serde(flatten)]
    pub state: State,
    /// The bytes that the folder holds, if they could be read.
    pub file: Option<ModuleHash>,
    /// The instance in the scan, trapped or not.
    pub running: Option<Version>,
    /// The instance on its way into the scan.
    pub next: Option<Version>,
    /// The module that ran last; it is restarted when the file is no good.
    pub good: Option<ModuleHash>,
    /// Whether the file's bytes are in quarantine. An older version may still run.
    pub quarantined: bool,
    /// Why they are.
    pub quarantine: Option<&'a str>,
    /// Traps since the plugin is known.
    pub traps: u64,
    /// The last of them.
    pub last_trap: Option<&'a Trap>,
    /// The version that trapped then, if that is known.
    pub trapped: Option<ModuleHash>,
    /// Why the file as it is now was not taken over.
    pub refusal: Option<&'a Refusal>,
    /// Whether the file is tried again by itself after that.
    #[serde(skip)]
    pub is_tried_again: bool,
    /// The version that could not be made last, of those that would run in place of the file, why,
    /// and whether it is tried again by itself.
    #[serde(skip)]
    pub other_refusal: Option<(ModuleHash, &'a Refusal, bool)>,
}

/// Who may run. See the module's head.
#[derive(Debug)]
pub struct Supervisor {
    policy: RestartPolicy,
    plugins: BTreeMap<String, Plugin>,
    context: StepContext,
}

/// What the plugins share while they are reconciled.
#[derive(Debug, Default)]
struct StepContext {
    /// The last generation that was given out.
    generation: Generation,
    quarantine: Quarantine,
    /// Orders of this step. Between two steps it holds at most one for each late answer.
    actions: Vec<Action>,
}

impl Supervisor {
    /// A supervisor that knows no plugin yet.
    pub fn new(policy: RestartPolicy) -> Self {
        Self { policy, plugins: BTreeMap::new(), context: StepContext::default() }
    }

    /// From now on plugins are restarted by this one. What is decided stays so.
    pub fn set_policy(&mut self, policy: RestartPolicy) {
        self.policy = policy;
    }

    /// The folder holds these settled bytes under that name, or none.
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

    /// The folder holds something under that name that cannot be a module: too large, unreadable.
    /// As with every refusal, what runs is not touched.
    ///
    /// # Errors
    /// The plugin is one too many or misnamed.
    pub fn folder_refused(&mut self, name: &str, refusal: Refusal) -> Result<(), Refusal> {
        self.entry(name)?.holds(plugin::File::Unusable(refusal));
        Ok(())
    }

    /// The operator wants the plugin out of the scan until a release. The file may come later.
    ///
    /// # Errors
    /// The plugin is one too many or misnamed.
    pub fn hold(&mut self, name: &str) -> Result<(), Refusal> {
        self.entry(name)?.want = Want::Hold;
        Ok(())
    }

    /// The operator wants the plugin to run; backoff and refusal are forgotten. Where it is held
    /// the hold ends, and no more than that: what was in quarantine before it still is. Where it is
    /// not, quarantine is forgotten as well.
    ///
    /// # Errors
    /// There is no such plugin, and nothing of that name is in quarantine.
    pub fn release(&mut self, name: &str) -> Result<Released, Refusal> {
        match self.plugins.get_mut(name).map(Plugin::release) {
            Some(Want::Hold) => return Ok(Released::FromHold),
            None if self.context.quarantine.of(name).next().is_none() => return Err(unknown(name)),
            // A quarantine outlives the file.
            Some(Want::Run) | None => self.context.quarantine.release(name),
        }
        Ok(Released::Forgiven)
    }

    /// The plugin is not held any more; what is in quarantine stays there.
    pub fn let_go(&mut self, name: &str) {
        if let Some(plugin) = self.plugins.get_mut(name) {
            plugin.release();
        }
    }

    /// These bytes were in quarantine under that name before the daemon was started, for this
    /// reason.
    pub fn recall(&mut self, name: &str, hash: ModuleHash, why: String) {
        self.context.quarantine.add(name, hash, why);
    }

    /// The operator wants these bytes to have another chance under that name, and no others.
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

    /// These versions can be loaded though the file has other bytes. `good` are those that were
    /// good and never trapped since, best first; `ran` is the one that ran when the daemon ended.
    pub fn keep(&mut self, name: &str, good: Vec<ModuleHash>, ran: Option<ModuleHash>) {
        if let Some(plugin) = self.plugins.get_mut(name) {
            plugin.keep(good, ran);
        }
    }

    /// The operator wants a new instance of the same plugin, now. A refused file is tried again.
    ///
    /// # Errors
    /// There is no such plugin, or it is held or in quarantine.
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

    /// The answer to [`Action::Prepare`]. A refusal may also follow [`Action::Install`], when the
    /// instance was lost or the scan did not take it.
    pub fn prepared(&mut self, name: &str, generation: Generation, result: Result<(), Refusal>) {
        let made = result.is_ok();
        let expected =
            self.plugins.get_mut(name).is_some_and(|plugin| plugin.prepared(generation, result));
        if made && !expected {
            self.context.actions.push(Action::Discard { name: name.to_owned(), generation });
        }
    }

    /// Compares what is wanted with what is so. `now` is monotonic, `facts` is the newest
    /// snapshot, complete. Call it whenever a level changed and at least every [`ORDER_REPEAT`].
    pub fn step(&mut self, now: Duration, facts: &[Fact<'_>]) -> Vec<Action> {
        let facts: BTreeMap<&str, &Fact<'_>> = facts.iter().map(|fact| (fact.name, fact)).collect();
        for name in facts.keys() {
            // Somebody runs whom nobody knows: an order that took effect after its plugin was
            // forgotten. The entry has no file, so it is stopped like any other.
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

    /// All plugins by name.
    pub fn plugins(&self) -> impl Iterator<Item = (&str, View<'_>)> {
        self.plugins
            .iter()
            .map(|(name, plugin)| (name.as_str(), plugin.view(name, &self.context, self.policy)))
    }

    /// One plugin.
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
