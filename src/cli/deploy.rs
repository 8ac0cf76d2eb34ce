//! The verbs `deploy`, `rollback` and `remove`: they change or delete the `.wasm` file of a plugin.
//!
//! ```text
//! order ─▶ daemon ─▶ watch the plugin (outcome.rs) ─┬▶ it runs; with --wait: wait for probation
//!                                                   └▶ it does not run: exit code 1
//! ```
//!
//! The daemon answers when the `.wasm` file has changed, before the program in the scan has
//! changed. For this reason, each verb watches the plugin until the outcome is known or a time
//! limit has passed. `outcome.rs` decides which states of the plugin are an outcome.
//!
//! Example of the output of `camshaft deploy`:
//!
//! ```text
//! tank: version 3f2a1b0c9d8e runs, on probation for 5s
//!   detect 12.0 ms, compile 310 ms, prepare 1.20 ms, boundary 45.0 us, cycles missed 0
//! ```

use std::cell::Cell;
use std::ffi::OsStr;
use std::fmt::Display;
use std::path::Path;
use std::time::{Duration, Instant};

use super::args::{Deploy, Named, Rollback, Waiting, plugin};
use super::outcome::{self, Fate, ORDER_TIME};
use super::plugin::swap_times;
use super::remark::{self, losses, refusals};
use super::screen::Screen;
use super::unit::short;
use super::{CommandResult, Exit, Failed, client};
use crate::control::client::Client;
use crate::control::{PluginState, PluginView};
use crate::file;
use crate::name::PluginName;
use crate::text::legible;

/// The largest `.wasm` file in bytes that `camshaft deploy` reads. No daemon accepts a larger
/// module. A daemon with a lower limit refuses the module and reports its own limit.
const MOST_MODULE_BYTES: u64 = 1 << 30;

/// The time after which the deploy assumes that another user has replaced the file. During this
/// time the file must contain no module, or a version that is neither the old version nor the
/// deployed version.
const REPLACED: Duration = Duration::from_secs(3);

/// Runs the verb `camshaft deploy`. If the version is in the scan before the deploy, the verb does
/// not wait for its first poll. With `--wait`, the verb waits for the end of the probation.
pub(super) async fn deploy(what: Deploy, screen: &mut Screen) -> CommandResult {
    let (client, shown) = (client(what.reach), what.file.display().to_string());
    let named = |error: &dyn Display| Failed::new(Exit::Failure, format!("{shown}: {error}"));
    let name = match what.name {
        Some(name) => name,
        None => name_of(&what.file).map_err(|why| named(&why))?,
    };
    let module =
        file::read_present(&what.file, MOST_MODULE_BYTES).map_err(|error| named(&error))?;
    let before = client.plugin(&name).await?;
    let hash = client.deploy(&name, module.into()).await?;
    let wait = Wait::new(&client, &name, &hash, &what.outcome, before.as_ref());
    let is_it = |view: &&PluginView| outcome::is_seated(view) && view.hash.as_ref() == Some(&hash);
    if let Some(view) = before.as_ref().filter(is_it) {
        let version = short(&hash);
        outcome::moves(&client, &name, &format!("version {version} to run")).await?;
        let (probation, lacks) = (on_probation(view), lacks(view));
        let already = match view.polls {
            0 => " is already in the scan, but was not polled yet",
            _ => " runs already",
        };
        screen.print(&format!("{name}: version {version}{already}{probation}\n{lacks}"))?;
        return wait.for_proof(view, screen).await;
    }
    wait.for_fate(screen).await
}

/// Returns the plugin name for a file: the name of the file without `.wasm`.
fn name_of(file: &Path) -> Result<PluginName, String> {
    let stem = file.file_stem().map(OsStr::to_string_lossy).unwrap_or_default();
    plugin(&stem).map_err(|why| {
        format!("the file name gives no plugin name: {why}; choose a name with --name")
    })
}

/// Runs the verb `camshaft rollback`.
pub(super) async fn roll_back(what: Rollback, screen: &mut Screen) -> CommandResult {
    let client = client(what.reach);
    let before = client.plugin(&what.name).await?;
    let hash = client.roll_back(&what.name, what.to.as_deref(), what.even_bad).await?;
    Wait::new(&client, &what.name, &hash, &what.outcome, before.as_ref()).for_fate(screen).await
}

/// Runs the verb `camshaft remove`, and waits until the plugin is out of the scan.
pub(super) async fn remove(Named { name, reach }: Named, screen: &mut Screen) -> CommandResult {
    let client = client(reach);
    client.remove(&name).await?;
    // The list contains a held plugin even if the plugin has no file.
    let is_out = |view: &PluginView| view.file_hash.is_none() && view.hash.is_none();
    let is_gone = |view: Option<&PluginView>| view.is_none_or(is_out).then_some(());
    match outcome::watch(&client, &name, ORDER_TIME, is_gone).await? {
        Ok(()) => Ok(screen.print(&format!("{name}: removed\n"))?),
        Err(seen) => {
            Err(outcome::too_late(&client, &name, "the plugin to leave the scan", seen.as_ref())
                .await)
        }
    }
}

/// A wait for the outcome of one version.
struct Wait<'w> {
    /// The daemon.
    client: &'w Client,
    /// Name of the plugin.
    name: &'w str,
    /// Hash of the version whose outcome is awaited.
    hash: &'w str,
    /// The options `--wait` and `--timeout`.
    how: &'w Waiting,
    /// Number of traps of the plugin before the order.
    traps: u64,
    /// Hash of the plugin's file before the order.
    before: Option<&'w str>,
}

impl<'w> Wait<'w> {
    /// Makes a wait for a version. `before` is the state of the plugin before the order.
    fn new(
        client: &'w Client,
        name: &'w str,
        hash: &'w str,
        how: &'w Waiting,
        before: Option<&'w PluginView>,
    ) -> Self {
        let traps = before.map_or(0, |view| view.traps);
        let before = before.and_then(|view| view.file_hash.as_deref());
        Self { client, name, hash, how, traps, before }
    }

    /// Waits until the version runs, until it is certain that it does not run, or until the time
    /// limit. With `--wait`, also waits for the end of the probation.
    async fn for_fate(self, screen: &mut Screen) -> CommandResult {
        let (name, version) = (self.name, short(self.hash));
        let wanted = format!("version {version} to run");
        let replaced = Cell::new(None);
        let judge = |view: Option<&PluginView>| {
            let view = view?;
            let fate = outcome::fate(view, self.hash, self.traps);
            Some((fate.or_else(|| self.replaced(view, &replaced))?, view.clone()))
        };
        let found = outcome::watch(self.client, name, self.how.timeout, judge).await?;
        let (fate, view) = match found {
            Ok(found) => found,
            Err(Some(seen)) if self.is_unpolled(&seen) => {
                outcome::moves(self.client, name, &wanted).await?;
                if self.how.wait {
                    let why = "it is in the scan, but was not polled yet";
                    return Err(failed(name, version, "is not proved", why));
                }
                return Ok(screen.print(&format!(
                    "{name}: version {version} is in the scan, but was not polled yet{}\n{}",
                    on_probation(&seen),
                    lacks(&seen)
                ))?);
            }
            Err(seen) => {
                let seen = seen.as_ref();
                return Err(outcome::too_late(self.client, name, &wanted, seen).await);
            }
        };
        match fate {
            Fate::Runs(swap) => {
                outcome::moves(self.client, name, &wanted).await?;
                let swap = swap.map(|swap| format!("  {}\n", swap_times(&swap)));
                screen.print(&format!(
                    "{name}: version {version} runs{}\n{}{}",
                    on_probation(&view),
                    swap.unwrap_or_default(),
                    lacks(&view)
                ))?;
                self.for_proof(&view, screen).await
            }
            Fate::Held => {
                let held = format!(
                    "in the file, but the plugin is held; `camshaft release {name}` lets the \
                     plugin run"
                );
                match self.how.wait {
                    false => Ok(screen.print(&format!("{name}: version {version} is {held}\n"))?),
                    true => Err(failed(name, version, "is not proved", &format!("it is {held}"))),
                }
            }
            Fate::Failed(reason) => Err(failed(name, version, "does not run", &reason)),
            Fate::Trapped(trap) => Err(failed(name, version, "has trapped", &trap)),
        }
    }

    /// Whether the version is in the scan but was not polled yet. This happens with a large value
    /// of `every`.
    fn is_unpolled(&self, view: &PluginView) -> bool {
        let is_it = view.hash.as_deref() == Some(self.hash);
        view.state == PluginState::Running && is_it && view.polls == 0
    }

    /// Returns a failure if another user has replaced the file. The function assumes this when, for
    /// the time [`REPLACED`], the file contains no module, or a version that is neither the old
    /// version nor the deployed version. `since` stores the time at which this content of the file
    /// was first seen.
    fn replaced(&self, view: &PluginView, since: &Cell<Option<Instant>>) -> Option<Fate> {
        let Some(why) = outcome::instead(view, self.hash, self.before) else {
            since.set(None);
            return None;
        };
        let first = since.get().unwrap_or_else(Instant::now);
        since.set(Some(first));
        (first.elapsed() >= REPLACED).then_some(Fate::Failed(why))
    }

    /// Waits for the end of the probation, if the user has given `--wait`.
    async fn for_proof(self, view: &PluginView, screen: &mut Screen) -> CommandResult {
        let (name, version) = (self.name, short(self.hash));
        let Some(left) = view.probation_left.filter(|_| self.how.wait) else { return Ok(()) };
        let period = self.client.status().await?.period_us;
        // A probation ends when its time and its number of polls are both reached, so the longer
        // one decides. The limit is `--timeout` plus twice this time, because the cycles may be
        // late.
        let polls = Duration::from_micros(period * u64::from(view.every) * left.polls);
        let limit = self.how.timeout + 2 * polls.max(Duration::from_millis(left.ms));
        let since = (view.generation, self.traps);
        let judge = |seen: Option<&PluginView>| outcome::proof(seen, self.hash, since);
        match outcome::watch(self.client, name, limit, judge).await? {
            Ok(Ok(view)) => {
                let lacks = lacks(&view);
                let but = if lacks.is_empty() { "" } else { ", but:" };
                Ok(screen.print(&format!("{name}: version {version} is proved{but}\n{lacks}"))?)
            }
            Ok(Err(why)) => Err(failed(name, version, "is not proved", &why)),
            Err(seen) => {
                let wanted = format!("version {version} to pass its probation");
                Err(outcome::too_late(self.client, name, &wanted, seen.as_ref()).await)
            }
        }
    }
}

/// Returns one line for each output that has no owner any more ([`losses`]), for each refused call,
/// and for each warning in `PluginView::notes`.
fn lacks(view: &PluginView) -> String {
    let notes = view.notes.iter().map(|note| format!("  note: {}\n", legible(note)));
    let lost = losses(view).into_iter().map(|loss| format!("  lost: {loss}\n"));
    let refused = refusals(view).into_iter().map(|refusal| format!("  refused: {refusal}\n"));
    lost.chain(refused).chain(notes).collect()
}

/// Returns the failure of a deploy or a rollback, with the reason.
fn failed(name: &str, version: &str, how: &str, why: &str) -> Failed {
    let message = format!("{name}: version {version} {how}: {}", legible(why));
    Failed::new(Exit::Failure, message)
}

/// Returns a text that says for how long a version is on probation or unproven. The word `unproven`
/// means that no older version could run again after a trap.
pub(super) fn on_probation(view: &PluginView) -> String {
    let what = if view.probation { "on probation" } else { "unproven" };
    match view.probation_left {
        Some(left) => format!(", {what} {}", remark::probation(left)),
        None => String::new(),
    }
}
