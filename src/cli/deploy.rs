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
use super::remark::refusals;
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
    let runs = |view: &PluginView| view.state == PluginState::Running;
    if before.filter(runs).and_then(|view| view.hash).as_ref() == Some(&hash) {
        let version = show::short(&hash);
        return Ok(screen.print(&format!("{name}: version {version} runs already\n"))?);
    }
    wait_for_fate(&client, &name, &hash, what.timeout, screen).await
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
    wait_for_fate(&client, &what.name, &hash, what.timeout, screen).await
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
