//! `deploy` and `rollback`: other bytes for a plugin, and what becomes of them.
//!
//! Both put a file into the daemon's folder and then watch the plugin until its fate is known.

use std::fmt::Display;
use std::time::Duration;

use super::args::{Deploy, Rollback};
use super::outcome::{self, Fate};
use super::remark::refusals;
use super::screen::Screen;
use super::{Exit, Failed, Outcome, client, show};
use crate::control::client::Client;
use crate::control::{PluginState, PluginView};
use crate::text::legible;

/// `camshaft deploy`.
pub(super) async fn deploy(what: Deploy, screen: &mut Screen) -> Outcome {
    let (client, file) = (client(what.reach), what.file.display().to_string());
    let named = |error: &dyn Display| Failed::new(Exit::Failure, format!("{file}: {error}"));
    let name = match what.name.or_else(|| what.file.file_stem()?.to_str().map(String::from)) {
        Some(name) => name.strip_suffix(".wasm").map(String::from).unwrap_or(name),
        None => return Err(named(&"give the plugin a name with --name")),
    };
    let module = std::fs::read(&what.file).map_err(|error| named(&error))?;
    let before = client.plugin(&name).await?;
    let hash = client.deploy(&name, module.into()).await?;
    let runs = |view: &PluginView| view.state == PluginState::Running;
    if before.filter(runs).and_then(|view| view.hash).as_ref() == Some(&hash) {
        let version = show::short(&hash);
        return Ok(screen.print(&format!("{name}: version {version} runs already\n"))?);
    }
    wait_for_fate(&client, &name, &hash, what.timeout, screen).await
}

/// `camshaft rollback`.
pub(super) async fn roll_back(what: Rollback, screen: &mut Screen) -> Outcome {
    let client = client(what.reach);
    let hash = client.roll_back(&what.name, what.to.as_deref()).await?;
    wait_for_fate(&client, &what.name, &hash, what.timeout, screen).await
}

/// Waits until the bytes with this hash run, or it is known that they do not.
async fn wait_for_fate(
    client: &Client,
    name: &str,
    hash: &str,
    limit: Duration,
    screen: &mut Screen,
) -> Outcome {
    let version = show::short(hash);
    let judge = |view: Option<&PluginView>| {
        let view = view?;
        Some((outcome::fate(view, hash)?, refusals(view)))
    };
    let found = outcome::watch(client, name, limit, judge).await?;
    let (found, refused) = match found {
        Ok((fate, refused)) => (Ok(fate), refused),
        Err(seen) => (Err(seen), Vec::new()),
    };
    let refused = refused.iter().map(|refusal| format!("  refused: {refusal}\n"));
    let refused: String = refused.collect();
    let text = match found {
        Ok(Fate::Runs(Some(swap))) => {
            format!("{name}: version {version} runs\n  {}\n{refused}", show::swap(&swap))
        }
        Ok(Fate::Runs(None)) => format!("{name}: version {version} runs\n{refused}"),
        Ok(Fate::Held) => format!(
            "{name}: version {version} is in place but held; \
             `camshaft release {name}` lets it run\n"
        ),
        Ok(Fate::Failed(reason)) => {
            let message = format!("{name}: version {version} does not run: {}", legible(&reason));
            return Err(Failed::new(Exit::Failure, message));
        }
        Err(seen) => {
            let wanted = format!("version {version} shall run");
            return Err(outcome::too_late(name, &wanted, seen.as_ref()));
        }
    };
    Ok(screen.print(&text)?)
}
