//! Views as text: aligned columns with units.
//!
//! Pure: a view in, text out. Programs get the same facts as the JSON of the view itself. The
//! layout of a table is in `table.rs`.

use super::remark::{remarks, stall};
use super::table::{Cell, Paint, Side, Style, Table};
use super::unit::{age_ms, age_s, bytes, time_ns, time_us, value};
use crate::control::{
    DeviceView, PluginState, PluginView, PointView, SafeView, StatusView, SwapView, VarView,
};
use crate::driver::Delivery;
use crate::process::image::{Class, Direction, Quality, Value};
use crate::scan::stats::Summary;
use crate::text::{counted, first_of, is_or_are, legible};

use Side::{Left, Right};

/// Digits of a hash that are shown: enough for people to recognise a version.
const HASH_DIGITS: usize = 12;

/// The text of `camshaft status`.
pub(super) fn status(view: &StatusView, paint: Paint) -> String {
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
        ("state", legible(view.state.as_deref().unwrap_or("none, it cannot be used"))),
        ("period", time_us(view.period_us)),
        ("cycle", view.cycle.to_string()),
        ("overruns", format!("{}, cycles missed {}", view.overruns, view.missed)),
    ];
    text += &stall(view, paint);
    if let Some(why) = &view.config_refused {
        let label = paint.with(Style::Bad, "config  ");
        text += &format!("{label}  REFUSED, the last good one stays in force\n");
        why.lines().for_each(|line| text += &format!("{label}  {}\n", legible(line)));
    }
    if !view.config_waiting.is_empty() {
        let label = paint.with(Style::Warn, "config  ");
        let waiting = view.config_waiting.join(", ");
        text += &format!("{label}  after a restart: {}\n", legible(&waiting));
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
        text += &format!("{label}  {points} {are} forced: camshaft forces\n");
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

/// Lines on the plugin folder, if there is a problem.
fn plugin_folder(view: &StatusView, paint: Paint) -> String {
    let mut text = String::new();
    let mut line = |style, found: &str| {
        text += &format!("{}  {}\n", paint.with(style, "plugins "), legible(found));
    };
    if let Some(why) = &view.folder_trouble {
        let is_any = view.plugins.iter().any(|plugin| plugin.state == PluginState::Running);
        let runs = if is_any { "what runs goes on; " } else { "" };
        line(Style::Bad, &format!("{runs}the folder {why}"));
    }
    if let Some(files) = &view.folder_overlooked {
        line(Style::Warn, &format!("the folder holds {files}"));
    }
    view.folder_ignored.iter().for_each(|file| line(Style::Warn, file));
    for name in &view.plugins_missing {
        let declared = "declared in the configuration, no file";
        line(Style::Warn, &format!("{name}: {declared} {name}.wasm in the folder"));
    }
    text
}

/// Lines on recovery and retained values, if the daemon has any.
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
        line(Style::Bad, "retain", &format!("failing for {}: {reason}", age_s(seconds)));
    }
    if let Some(alarm) = &retain.alarm {
        line(Style::Bad, "retain", alarm);
    }
    text
}

/// The table of the scan's times.
fn times(view: &StatusView, paint: Paint) -> String {
    let head = [(Left, "SCAN"), (Right, "P50"), (Right, "P99"), (Right, "P99.9"), (Right, "MAX")];
    let mut table = Table::new(head);
    for (what, summary) in [("lateness", &view.lateness), ("work", &view.work)] {
        let [p50, p99, p999, max] = four(summary);
        table.row([what.into(), p50, p99, p999, max]);
    }
    table.render(paint)
}

/// p50, p99, p99.9 and max, or dashes if there is no sample.
fn four(summary: &Summary) -> [Cell; 4] {
    let Summary { count, p50_ns, p99_ns, p999_ns, max_ns } = *summary;
    [p50_ns, p99_ns, p999_ns, max_ns]
        .map(|ns| if count == 0 { "-".into() } else { time_ns(ns).into() })
}

/// The table of devices, and below it that of their parts.
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

/// The first output that the device has not confirmed, and the number of further ones.
fn unconfirmed(names: &[String]) -> String {
    match names.is_empty() {
        true => "unconfirmed".into(),
        false => format!("unconfirmed: {}", first_of(names, 1)),
    }
}

/// A table of the devices' parts (units on a bus, sessions, files); empty if there are none.
fn parts(views: &[DeviceView], paint: Paint) -> String {
    let head = [(Left, "PART"), (Left, "OF"), (Left, "STATE"), (Left, "FACTS")];
    let mut table = Table::new(head);
    let all = views.iter().flat_map(|view| view.parts.iter().map(move |part| (view, part)));
    let mut is_empty = true;
    for (view, part) in all {
        is_empty = false;
        let style = if part.ok { Style::Plain } else { Style::Bad };
        // Facts whose number is zero are in the JSON only.
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

/// The text of `camshaft plugins`: a line for each plugin, and remarks below.
pub(super) fn plugins(views: &[PluginView], paint: Paint) -> String {
    if views.is_empty() {
        return "no plugins are known: copy a .wasm file into the folder, or camshaft deploy FILE; \
                camshaft status shows the folder, and whether it answers\n"
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
        let [p50, p99, _, max] = four(&view.poll);
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

/// The state in words, with its special conditions.
fn state(view: &PluginView) -> String {
    let other = view.file_hash.is_some() && view.hash != view.file_hash;
    match (view.state, view.restart_in_ms) {
        (PluginState::Backoff, Some(ms)) => {
            format!("backoff, {} left", time_us(ms.saturating_mul(1_000)))
        }
        (PluginState::Running, _) => {
            let special = [
                (other, ", not the file"),
                (view.degraded, ", degraded"),
                (view.denied, ", denied"),
                (view.probation, ", on probation"),
            ];
            let special = special.iter().filter(|(is_so, _)| *is_so).map(|(_, words)| *words);
            "running".to_owned() + &special.collect::<String>()
        }
        (state, _) => name(state).into(),
    }
}

/// A state as one word.
pub(super) fn name(state: PluginState) -> &'static str {
    match state {
        PluginState::Preparing => "preparing",
        PluginState::Running => "running",
        PluginState::Backoff => "backoff",
        PluginState::Quarantined => "quarantined",
        PluginState::Held => "held",
        PluginState::Refused => "refused",
    }
}

fn style(view: &PluginView) -> Style {
    match view.state {
        PluginState::Running if view.denied || view.degraded => Style::Warn,
        PluginState::Running => Style::Good,
        PluginState::Preparing | PluginState::Backoff | PluginState::Held => Style::Warn,
        PluginState::Quarantined | PluginState::Refused => Style::Bad,
    }
}

/// The first digits of a hash.
pub(super) fn short(hash: &str) -> &str {
    hash.get(..HASH_DIGITS).unwrap_or(hash)
}

/// The times of a swap on one line.
pub(super) fn swap(swap: &SwapView) -> String {
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

/// The text of `camshaft points`.
pub(super) fn points(views: &[PointView], paint: Paint) -> String {
    let mut table = Table::new([
        (Left, "POINT"),
        (Left, "DIR"),
        (Right, "VALUE"),
        (Left, "UNIT"),
        (Left, "QUALITY"),
        (Right, "AGE"),
        (Left, "TYPE"),
        (Right, "ADDRESS"),
        (Right, "SAFE"),
        (Left, "OWNER"),
        (Left, "DEVICE"),
    ]);
    for view in views {
        let safe = match view.safe {
            None => "-".into(),
            Some(SafeView::Hold(_)) => "hold".into(),
            Some(SafeView::Value(safe)) => value(safe),
        };
        table.row([
            Cell::from(&view.name),
            if view.direction == Direction::In { "in" } else { "out" }.into(),
            value(view.value).into(),
            Cell::from(&view.unit),
            quality(view),
            view.age_ms.map_or("-".into(), age_ms).into(),
            view.kind.to_string().into(),
            Cell::from(&view.address),
            safe.into(),
            view.owner.as_deref().unwrap_or("-").into(),
            Cell::from(&view.device),
        ]);
    }
    table.render(paint)
}

/// The quality of a value, with the reason if there is one; for an output, whether the device has
/// it.
fn quality(view: &PointView) -> Cell {
    let reason = view.reason.word();
    match view.quality {
        Class::Good if view.reason == Quality::Forced => Cell::styled(Style::Warn, reason),
        Class::Good if view.delivery == Some(Delivery::UnderWay) => "under way".into(),
        Class::Good if view.delivery == Some(Delivery::Unconfirmed) => {
            Cell::styled(Style::Warn, "unconfirmed")
        }
        Class::Good => reason.into(),
        Class::Uncertain => Cell::styled(Style::Warn, format!("uncertain, {reason}")),
        Class::Bad => Cell::styled(Style::Bad, format!("bad, {reason}")),
    }
}

/// The text of `camshaft vars`.
pub(super) fn vars(views: &[VarView], paint: Paint) -> String {
    if views.is_empty() {
        return "no variables\n".into();
    }
    let mut table = Table::new([
        (Left, "VARIABLE"),
        (Left, "TYPE"),
        (Right, "VALUE"),
        (Left, "RETAIN"),
        (Right, "WRITTEN"),
        (Left, "BY"),
    ]);
    for view in views {
        table.row([
            Cell::from(&view.name),
            view.kind.to_string().into(),
            value(view.value).into(),
            if view.retain { "yes" } else { "" }.into(),
            match view.age_ms {
                None => "-".into(),
                Some(0) => "now".into(),
                Some(ms) => format!("{} ago", age_ms(ms)).into(),
            },
            writer(view),
        ]);
    }
    table.render(paint)
}

/// The plugin or operator that wrote a variable last.
fn writer(view: &VarView) -> Cell {
    match &view.writer {
        Some(writer) if view.writer_runs => Cell::from(writer),
        Some(writer) => Cell::styled(Style::Warn, format!("{writer}, which does not run")),
        None if view.set_by_operator => "an operator".into(),
        None if view.age_ms.is_some() => Cell::styled(Style::Warn, "a plugin that is gone"),
        None => "-".into(),
    }
}
