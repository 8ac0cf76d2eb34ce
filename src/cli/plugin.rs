//! The verbs `plugins`, `hold` and `restart`: the table of plugins, and orders to existing plugins.
//!
//! The daemon decides the state of each plugin. Problems of a plugin are printed below the table,
//! as the sentences of `remark.rs`. The orders that change the code of a plugin are in `deploy.rs`.
//! The verb that ends a hold or a quarantine is in `release.rs`.
//!
//! Example of the table, without its last column, and of a remark:
//!
//! ```text
//! PLUGIN  STATE                  VERSION       POLLS  TRAPS      P50      P99      MAX   BUDGET
//! tank    running, on probation  3f2a1b0c9d8e    212      0  21.0 us  34.0 us  51.0 us  2.50 ms
//!
//! tank: on probation for 3s: if it traps, the previous version runs again
//! ```

use super::args::{List, Named};
use super::outcome::{self, ORDER_TIME};
use super::remark::{remarks, stall};
use super::screen::Screen;
use super::table::{Cell, Paint, Side, Style, Table};
use super::unit::{bytes, percentiles, short, time_us};
use super::{CommandResult, client};
use crate::control::client::Client;
use crate::control::{PluginState, PluginView, SwapView};
use crate::text::{counted, legible};

use Side::{Left, Right};

/// Runs the verb `camshaft plugins`.
pub(super) async fn plugins(list: List, screen: &mut Screen) -> CommandResult {
    let client = client(list.reach);
    if list.json {
        let views = client.plugins().await?;
        return Ok(screen.show(&views[..], true, table)?);
    }
    // While the scan is stalled, the numbers of the table are old. For this reason, the text begins
    // with the lines about the stall.
    let view = client.status().await?;
    let text = stall(&view, screen.paint) + &table(&view.plugins, screen.paint);
    Ok(screen.print(&text)?)
}

/// Runs the verb `camshaft hold`, and waits until the program is out of the scan, for at most
/// [`ORDER_TIME`].
pub(super) async fn hold(Named { name, reach }: Named, screen: &mut Screen) -> CommandResult {
    let client = client(reach);
    client.act(&name, "hold").await?;
    let is_held = |view: &PluginView| (view.state == PluginState::Held).then_some(true);
    settle(&client, &name, "the plugin to be held", is_held, screen).await
}

/// Runs the verb `camshaft restart NAME`. Waits until a new instance runs, or until the daemon
/// gives a reason why no new instance runs, for at most [`ORDER_TIME`].
pub(super) async fn restart(Named { name, reach }: Named, screen: &mut Screen) -> CommandResult {
    let client = client(reach);
    let before = client.plugin(&name).await?.map(|view| view.generation);
    client.act(&name, "restart").await?;
    let has_begun = |view: &PluginView| match (view.state, &view.reason) {
        (PluginState::Preparing, _) => None,
        (PluginState::Running, _) if Some(view.generation) != before => Some(true),
        (_, reason) => reason.is_some().then_some(false),
    };
    settle(&client, &name, "the plugin to start again", has_begun, screen).await
}

/// Waits until `judge` returns a result, or until [`ORDER_TIME`] is over. The result is true if the
/// order has succeeded, and false if it cannot succeed. After that, prints the state of the plugin,
/// or returns an error.
async fn settle(
    client: &Client,
    name: &str,
    wanted: &str,
    judge: impl Fn(&PluginView) -> Option<bool>,
    screen: &mut Screen,
) -> CommandResult {
    let judge = |view: Option<&PluginView>| Some((judge(view?)?, view.cloned()));
    let seen = match outcome::watch(client, name, ORDER_TIME, judge).await? {
        Ok((true, Some(view))) => {
            return Ok(screen.print(&format!("{name}: {}\n", view.state.name()))?);
        }
        Ok((_, seen)) | Err(seen) => seen,
    };
    Err(outcome::too_late(client, name, wanted, seen.as_ref()).await)
}

/// Returns the plugins as a table with one line for each plugin. The remarks are below the table.
pub(super) fn table(views: &[PluginView], paint: Paint) -> String {
    if views.is_empty() {
        return "no plugins: copy a .wasm file into the plugin folder, or enter `camshaft deploy \
                FILE`; `camshaft status` shows the folder, and whether its disk answers\n"
            .into();
    }
    let mut table = Table::new([
        (Left, "PLUGIN"),
        (Left, "STATE"),
        (Left, "VERSION"),
        (Right, "POLLS"),
        (Right, "TRAPS"),
        (Right, "P50"),
        (Right, "P99"),
        (Right, "MAX"),
        (Right, "BUDGET"),
        (Right, "MEMORY"),
    ]);
    for view in views {
        let [p50, p99, _, max] = percentiles(&view.poll).map(Cell::from);
        let hash = view.hash.as_deref().or(view.file_hash.as_deref()).unwrap_or("-");
        let traps = if view.traps > 0 { Style::Warn } else { Style::Plain };
        table.row([
            Cell::from(&view.name),
            Cell::styled(style(view), state(view)),
            short(hash).into(),
            view.polls.to_string().into(),
            Cell::styled(traps, view.traps.to_string()),
            p50,
            p99,
            max,
            time_us(view.budget_us).into(),
            bytes(view.memory_bytes).into(),
        ]);
    }
    let remarks = views
        .iter()
        .flat_map(|view| remarks(view).into_iter().map(move |remark| (&view.name, remark)));
    let mut text = table.render(paint);
    for (index, (name, remark)) in remarks.enumerate() {
        let gap = if index == 0 { "\n" } else { "" };
        let name = paint.with(Style::Warn, &legible(name));
        text += &format!("{gap}{name}: {remark}\n");
    }
    text
}

/// Returns the state as text, with conditions such as `degraded` or `on probation`.
fn state(view: &PluginView) -> String {
    let other = view.file_hash.is_some() && view.hash != view.file_hash;
    match (view.state, view.restart_in_ms) {
        (PluginState::Backoff, Some(ms)) => {
            format!("backoff, {} left", time_us(ms.saturating_mul(1_000)))
        }
        (PluginState::Running, _) => {
            let special = [
                (other, ", not the file's version"),
                (view.degraded, ", degraded"),
                (view.denied, ", denied"),
                (view.probation, ", on probation"),
            ];
            let special = special.iter().filter(|(is_so, _)| *is_so).map(|(_, words)| *words);
            "running".to_owned() + &special.collect::<String>()
        }
        (state, _) => state.name().into(),
    }
}

/// Returns the style of the state: red for a plugin that cannot run, yellow for one that needs
/// attention, and green for one that runs.
fn style(view: &PluginView) -> Style {
    match view.state {
        PluginState::Running if view.denied || view.degraded => Style::Warn,
        PluginState::Running => Style::Good,
        PluginState::Preparing | PluginState::Backoff | PluginState::Held => Style::Warn,
        PluginState::Quarantined | PluginState::Refused => Style::Bad,
    }
}

/// Returns the durations of a swap, its missed cycles and the size of its state in one line.
pub(super) fn swap_times(swap: &SwapView) -> String {
    let state = swap.state_bytes.map(|bytes| format!(", {} of state", counted(bytes, "byte")));
    format!(
        "detect {}, compile {}{}, prepare {}, boundary {}, cycles missed {}{}",
        time_us(swap.detect_us),
        time_us(swap.compile_us),
        if swap.cached { " (cached)" } else { "" },
        time_us(swap.prepare_us),
        time_us(swap.boundary_us),
        swap.missed_cycles,
        state.unwrap_or_default()
    )
}
