//! `camshaft status`: the state of the daemon, the scan, the devices and the plugins as text.
//!
//! The daemon counts and measures. This file adds labels, columns and units. The table of plugins
//! is in `plugin.rs`, and the lines about a stalled scan are in `remark.rs`. With `--json`, the
//! daemon's answer is printed as JSON, with all facts.
//!
//! Example of the first lines:
//!
//! ```text
//! config    config/camshaft.toml
//! socket    /run/camshaft/control.sock
//! period    10.0 ms
//! cycle     12345
//! overruns  0, cycles missed 0
//! ```

use std::time::Duration;

use tokio::signal::unix::SignalKind;

use super::args::List;
use super::plugin::table as plugins;
use super::remark::stall;
use super::screen::Screen;
use super::table::{Cell, Paint, Side, Style, Table};
use super::unit::{age_s, bytes, percentiles, time_us, value};
use super::{CommandResult, client};
use crate::control::client::Client;
use crate::control::{DeviceView, PluginState, StatusView};
use crate::process::image::Value;
use crate::text::{counted, first_of, is_or_are, legible};

use Side::{Left, Right};

/// Pause between two frames of `status --watch`. Two frames per second are fast enough to follow
/// changes, and slow enough to read.
const REDRAW: Duration = Duration::from_millis(500);

/// Runs the verb `camshaft status`.
pub(super) async fn status(list: List, screen: &mut Screen) -> CommandResult {
    let view = client(list.reach).status().await?;
    Ok(screen.show(&view, list.json, picture)?)
}

/// Runs the verb `camshaft status --watch`: redraws the status until Ctrl-C. If the daemon stops
/// after the first answer, the verb shows the error until a daemon answers again. If no daemon
/// answers the first request, the verb fails.
pub(super) async fn watch(client: &Client, screen: &mut Screen) -> CommandResult {
    let mut interrupt = tokio::signal::unix::signal(SignalKind::interrupt())?;
    let draw = async {
        let mut frame = picture(&client.status().await?, screen.paint);
        loop {
            screen.redraw(&frame)?;
            tokio::time::sleep(REDRAW).await;
            frame = match client.status().await {
                Ok(view) => picture(&view, screen.paint),
                Err(error) => format!("{error}\n"),
            };
        }
    };
    tokio::select! {
        result = draw => result,
        _ = interrupt.recv() => Ok(()),
    }
}

/// Returns the text of `camshaft status`.
fn picture(view: &StatusView, paint: Paint) -> String {
    let folder = if view.folder_ok { "" } else { " (LOST)" };
    let cache = view.cache.as_deref().unwrap_or("none");
    let cache_is = if view.cache_is_late { " (does not answer)" } else { "" };
    let mut text = format!(
        "camshaft {}, pid {}, up {}\n\n",
        legible(&view.version),
        view.pid,
        age_s(view.uptime_s)
    );
    let places = [
        ("config", legible(&view.config)),
        ("socket", legible(&view.socket)),
        ("plugins", legible(&view.folder) + &paint.with(Style::Bad, folder)),
        ("cache", legible(cache) + &paint.with(Style::Warn, cache_is)),
        ("state", legible(view.state.as_deref().unwrap_or("none: the directory cannot be used"))),
        ("period", time_us(view.period_us)),
        ("cycle", view.cycle.to_string()),
        ("overruns", format!("{}, cycles missed {}", view.overruns, view.missed)),
    ];
    text += &stall(view, paint);
    if let Some(why) = &view.config_refused {
        let label = paint.with(Style::Bad, "config  ");
        text += &format!("{label}  REFUSED, the last good configuration stays in force\n");
        why.lines().for_each(|line| text += &format!("{label}  {}\n", legible(line)));
    }
    if !view.config_waiting.is_empty() {
        let label = paint.with(Style::Warn, "config  ");
        let waiting = view.config_waiting.join(", ");
        text +=
            &format!("{label}  changes wait for a restart of the daemon: {}\n", legible(&waiting));
    }
    for (label, found) in places {
        text += &format!("{}  {found}\n", paint.with(Style::Dim, &format!("{label:<8}")));
    }
    text += &plugin_folder(view, paint);
    if view.samples_lost + view.log_lines_lost > 0 {
        let lost = [counted(view.samples_lost, "sample"), counted(view.log_lines_lost, "log line")]
            .join(", ");
        text += &format!("{}  {lost}\n", paint.with(Style::Warn, "lost    "));
    }
    if view.forces > 0 {
        let label = paint.with(Style::Warn, "forces  ");
        let are = is_or_are(view.forces);
        let points = counted(view.forces, "point");
        text += &format!("{label}  {points} {are} forced; see `camshaft forces`\n");
    }
    text += &machine(view, paint);
    if let Some(trouble) = &view.history_trouble {
        let label = paint.with(Style::Bad, "history ");
        text += &format!("{label}  not written: {}\n", legible(trouble));
    }
    text + "\n"
        + &times(view, paint)
        + "\n"
        + &devices(&view.devices, paint)
        + "\n"
        + &plugins(&view.plugins, paint)
}

/// Returns lines about problems of the plugin folder; an empty text without a problem.
fn plugin_folder(view: &StatusView, paint: Paint) -> String {
    let mut text = String::new();
    let mut line = |style, found: &str| {
        text += &format!("{}  {}\n", paint.with(style, "plugins "), legible(found));
    };
    if let Some(why) = &view.folder_trouble {
        let is_any = view.plugins.iter().any(|plugin| plugin.state == PluginState::Running);
        let runs = if is_any { "running programs continue; " } else { "" };
        line(Style::Bad, &format!("{runs}the folder {why}"));
    }
    if let Some(files) = &view.folder_overlooked {
        line(Style::Warn, &format!("the folder contains {files}"));
    }
    view.folder_ignored.iter().for_each(|file| line(Style::Warn, file));
    for name in &view.plugins_missing {
        let declared = "has a [[plugin]] in the configuration, but there is no";
        line(Style::Warn, &format!("{name}: {declared} {name}.wasm in the folder"));
    }
    text
}

/// Returns lines about recovery and retained variables; an empty text if there is neither.
fn machine(view: &StatusView, paint: Paint) -> String {
    let mut text = String::new();
    let mut line = |style, label: &str, found: &str| {
        text += &format!("{}  {}\n", paint.with(style, &format!("{label:<8}")), legible(found));
    };
    if let Some(reason) = &view.recovery {
        line(Style::Bad, "recovery", &format!("{reason}; `camshaft recover` lets plugins run"));
    }
    let Some(retain) = &view.retain else { return text };
    let (variables, writes) = (retain.variables, retain.writes);
    let (variables, writes) = (counted(variables, "variable"), counted(writes, "write"));
    let found = format!("{variables}, {writes}, {}", bytes(retain.bytes));
    line(Style::Dim, "retain", &found);
    if let (Some(seconds), Some(reason)) = (retain.failing_s, &retain.reason) {
        line(Style::Bad, "retain", &format!("writing has failed for {}: {reason}", age_s(seconds)));
    }
    if let Some(alarm) = &retain.alarm {
        line(Style::Bad, "retain", alarm);
    }
    text
}

/// Returns the table of the durations that the scan has measured: the lateness and the work of a
/// cycle.
fn times(view: &StatusView, paint: Paint) -> String {
    let head = [(Left, "SCAN"), (Right, "P50"), (Right, "P99"), (Right, "P99.9"), (Right, "MAX")];
    let mut table = Table::new(head);
    for (what, summary) in [("lateness", &view.lateness), ("work", &view.work)] {
        let [p50, p99, p999, max] = percentiles(summary).map(Cell::from);
        table.row([what.into(), p50, p99, p999, max]);
    }
    table.render(paint)
}

/// Returns the table of devices, and below it the table of their parts.
fn devices(views: &[DeviceView], paint: Paint) -> String {
    let head = [(Left, "DEVICE"), (Left, "DRIVER"), (Left, "STATE"), (Left, "OUTPUTS")];
    let mut table = Table::new(head);
    for view in views {
        let state = match &view.fault {
            None => Cell::styled(Style::Good, "ok"),
            Some(fault) => Cell::styled(Style::Bad, fault),
        };
        let outputs = match view.confirmed {
            true => "confirmed".into(),
            false if view.unconfirmed.is_empty() => "under way".into(),
            false => Cell::styled(Style::Warn, unconfirmed(&view.unconfirmed)),
        };
        table.row([Cell::from(&view.name), Cell::from(&view.driver), state, outputs]);
    }
    table.render(paint) + &parts(views, paint)
}

/// Returns the name of the first output that the device has not confirmed, and the number of the
/// other unconfirmed outputs.
fn unconfirmed(names: &[String]) -> String {
    match names.is_empty() {
        true => "unconfirmed".into(),
        false => format!("unconfirmed: {}", first_of(names, 1)),
    }
}

/// Returns a table of the parts of devices, such as Modbus units, sessions and files. Without
/// parts, returns an empty text.
fn parts(views: &[DeviceView], paint: Paint) -> String {
    let head = [(Left, "PART"), (Left, "OF"), (Left, "STATE"), (Left, "FACTS")];
    let mut table = Table::new(head);
    let all = views.iter().flat_map(|view| view.parts.iter().map(move |part| (view, part)));
    let mut is_empty = true;
    for (view, part) in all {
        is_empty = false;
        let style = if part.ok { Style::Plain } else { Style::Bad };
        // The text omits facts whose number is zero. The JSON output has all facts.
        let facts = part.facts.iter().filter(|(_, number)| *number != 0.0);
        let facts = facts.map(|(name, number)| format!("{name} {}", value(Value::Real(*number))));
        table.row([
            Cell::from(&part.name),
            Cell::from(&view.name),
            Cell::styled(style, legible(&part.state)),
            legible(&facts.collect::<Vec<_>>().join(", ")).into(),
        ]);
    }
    if is_empty { String::new() } else { format!("\n{}", table.render(paint)) }
}
