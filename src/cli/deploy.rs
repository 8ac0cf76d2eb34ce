//! `deploy`, `rollback` and `remove`: other bytes for a plugin or none, and what becomes of it.
//!
//! They change a file in the daemon's folder and then watch the plugin until its fate is known.

use std::fmt::Display;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::time::Duration;

use super::args::{Deploy, Named, Rollback};
use super::outcome::{self, Fate, ORDER_TIME};
use super::remark::{self, refusals};
use super::screen::Screen;
use super::{Exit, Failed, Outcome, client, show};
use crate::control::client::Client;
use crate::control::{PluginState, PluginView};
use crate::text::legible;

/// No daemon takes more; how much less the one that is asked takes, it says itself.
const MOST_MODULE_BYTES: u64 = 1 << 30;

/// `camshaft deploy`.
pub(super) async fn deploy(what: Deploy, screen: &mut Screen) -> Outcome {
    let (client, file) = (client(what.reach), what.file.display().to_string());
    let named = |error: &dyn Display| Failed::new(Exit::Failure, format!("{file}: {error}"));
    let name = match what.name.or_else(|| what.file.file_stem()?.to_str().map(String::from)) {
        Some(name) => name.strip_suffix(".wasm").map(String::from).unwrap_or(name),
        None => return Err(named(&"give the plugin a name with --name")),
    };
    let module = read(&what.file).map_err(|error| named(&error))?;
    let before = client.plugin(&name).await?;
    let hash = client.deploy(&name, module.into()).await?;
    let hopes = Hopes { limit: what.outcome.timeout, to_the_end: what.outcome.wait };
    let runs = |view: &PluginView| view.state == PluginState::Running;
    let same = |view: &PluginView| view.hash.as_ref() == Some(&hash);
    if let Some(view) = before.filter(|view| runs(view) && same(view)) {
        let version = show::short(&hash);
        screen
            .print(&format!("{name}: version {version} runs already{}\n", on_probation(&view)))?;
        return hopes.wait_for_proof(&client, &view, &hash, screen).await;
    }
    hopes.wait_for_fate(&client, &name, &hash, screen).await
}

/// The bytes of a module, wherever they come from: a pipe is as good as a file.
fn read(file: &Path) -> io::Result<Vec<u8>> {
    let mut module = Vec::new();
    File::open(file)?.take(MOST_MODULE_BYTES + 1).read_to_end(&mut module)?;
    if module.len() as u64 > MOST_MODULE_BYTES {
        let why = format!("it has more than {MOST_MODULE_BYTES} bytes");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, why));
    }
    Ok(module)
}

/// `camshaft rollback`.
pub(super) async fn roll_back(what: Rollback, screen: &mut Screen) -> Outcome {
    let client = client(what.reach);
    let hash = client.roll_back(&what.name, what.to.as_deref(), what.even_bad).await?;
    let hopes = Hopes { limit: what.outcome.timeout, to_the_end: what.outcome.wait };
    hopes.wait_for_fate(&client, &what.name, &hash, screen).await
}

/// `camshaft remove`.
pub(super) async fn remove(Named { name, reach }: Named, screen: &mut Screen) -> Outcome {
    let client = client(reach);
    client.remove(&name).await?;
    // One that is held is known without its file.
    let is_out = |view: &PluginView| view.file_hash.is_none() && view.hash.is_none();
    let is_gone = |view: Option<&PluginView>| view.is_none_or(is_out).then_some(());
    match outcome::watch(&client, &name, ORDER_TIME, is_gone).await? {
        Ok(()) => Ok(screen.print(&format!("{name}: removed\n"))?),
        Err(seen) => Err(outcome::too_late(&name, "it shall leave", seen.as_ref())),
    }
}

/// How long to wait, and for what.
#[derive(Debug, Clone, Copy)]
struct Hopes {
    /// For a program that shall run; and beyond the time that its probation takes.
    limit: Duration,
    /// Whether the end of the probation is waited for.
    to_the_end: bool,
}

impl Hopes {
    /// Waits until the bytes with this hash run, or it is known that they do not.
    async fn wait_for_fate(
        self,
        client: &Client,
        name: &str,
        hash: &str,
        screen: &mut Screen,
    ) -> Outcome {
        let version = show::short(hash);
        let judge = |view: Option<&PluginView>| {
            let view = view?;
            Some((outcome::fate(view, hash)?, view.clone()))
        };
        let found = outcome::watch(client, name, self.limit, judge).await?;
        let (fate, view) = found.map_err(|seen| {
            outcome::too_late(name, &format!("version {version} shall run"), seen.as_ref())
        })?;
        match fate {
            Fate::Runs(swap) => {
                let swap = swap.map(|swap| format!("  {}\n", show::swap(&swap)));
                let refused = refusals(&view);
                let refused = refused.iter().map(|refusal| format!("  refused: {refusal}\n"));
                screen.print(&format!(
                    "{name}: version {version} runs{}\n{}{}",
                    on_probation(&view),
                    swap.unwrap_or_default(),
                    refused.collect::<String>()
                ))?;
                self.wait_for_proof(client, &view, hash, screen).await
            }
            Fate::Held => Ok(screen.print(&format!(
                "{name}: version {version} is in place but held; \
                 `camshaft release {name}` lets it run\n"
            ))?),
            Fate::Failed(reason) => Err(failed(name, version, "does not run", &reason)),
        }
    }

    /// Waits for the end of the probation, if that is wanted.
    async fn wait_for_proof(
        self,
        client: &Client,
        view: &PluginView,
        hash: &str,
        screen: &mut Screen,
    ) -> Outcome {
        let Some(left) = view.probation_left.filter(|_| self.to_the_end) else { return Ok(()) };
        let (name, version) = (&view.name, show::short(hash));
        let limit = self.limit + Duration::from_millis(left.ms);
        let judge = |seen: Option<&PluginView>| outcome::proof(seen, hash, view.generation);
        match outcome::watch(client, name, limit, judge).await? {
            Ok(Ok(())) => Ok(screen.print(&format!("{name}: version {version} is proved\n"))?),
            Ok(Err(why)) => Err(failed(name, version, "has failed on probation", &why)),
            Err(seen) => {
                let wanted = format!("version {version} shall prove itself");
                Err(outcome::too_late(name, &wanted, seen.as_ref()))
            }
        }
    }
}

fn failed(name: &str, version: &str, how: &str, why: &str) -> Failed {
    let message = format!("{name}: version {version} {how}: {}", legible(why));
    Failed::new(Exit::Failure, message)
}

/// That a version may still be taken back, and until when.
fn on_probation(view: &PluginView) -> String {
    match view.probation_left.filter(|_| view.probation) {
        Some(left) => format!(", on probation {}", remark::probation(left)),
        None => String::new(),
    }
}
