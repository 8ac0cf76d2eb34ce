//! `camshaft history`: prints the journal, one line for each receipt (an event or an order), the
//! oldest line first.
//!
//! The daemon selects the receipts, and this file prints all of them. Times are those of the
//! daemon's wall clock in UTC, so they are equal for users in all time zones. The kinds of receipts
//! are described in `control/receipt.rs`.
//!
//! Example of a line:
//!
//! ```text
//! TIME (UTC)           PLUGIN  WHAT  VERSION       CYCLE  DETAILS
//! 2026-01-02 03:04:05  tank    held  3f2a1b0c9d8e  12345  by the operator
//! ```

use super::args::History;
use super::plugin::swap_times;
use super::screen::Screen;
use super::table::{Cell, Paint, Side, Style, Table};
use super::unit::short;
use super::{CommandResult, client};
use crate::control::{By, Event, Receipt, Who};
use crate::journal::Entry;
use crate::plugin::shadow::ShadowReport;

use Side::{Left, Right};

/// Runs the verb `camshaft history`.
pub(super) async fn history(
    History { name, limit, list }: History,
    screen: &mut Screen,
) -> CommandResult {
    let receipts = client(list.reach).history(name.as_deref(), limit).await?;
    Ok(screen.show(&receipts[..], list.json, table)?)
}

/// Returns the receipts as a table.
fn table(receipts: &[Entry<Receipt>], paint: Paint) -> String {
    if receipts.is_empty() {
        return "no history\n".into();
    }
    let mut table = Table::new([
        (Left, "TIME (UTC)"),
        (Left, "PLUGIN"),
        (Left, "WHAT"),
        (Left, "VERSION"),
        (Right, "CYCLE"),
        (Left, "DETAILS"),
    ]);
    for Entry { time, what: receipt, .. } in receipts {
        let (style, kind, details) = words(receipt);
        table.row([
            time.replace('T', " ").trim_end_matches('Z').into(),
            receipt.plugin.as_deref().map_or_else(|| "-".into(), Cell::from),
            Cell::styled(style, kind),
            receipt.hash.as_deref().map_or("-", short).into(),
            receipt.cycle.to_string().into(),
            details.into(),
        ]);
    }
    table.render(paint)
}

/// Returns the style of a receipt, the name of its event or order, and the details as a sentence.
fn words(receipt: &Receipt) -> (Style, &'static str, String) {
    let old = receipt.old_hash.as_deref().map(short);
    match &receipt.event {
        Event::Started { swap: times } => (Style::Good, "started", swap_times(times)),
        Event::Swapped { swap: times, shadow } => {
            let old = old.unwrap_or("another version");
            let details =
                format!("replaces {old}: {}{}", swap_times(times), tried(shadow.as_ref()));
            (Style::Good, "swapped", details)
        }
        Event::Restarted { swap: times } => (Style::Good, "restarted", swap_times(times)),
        Event::Refused { reason, remedy, count, shadow, who } => {
            let goes_on = old.map(|old| format!("; {old} continues")).unwrap_or_default();
            let (row, tried) = (in_a_row(*count), tried(shadow.as_ref()));
            let who = who.as_ref().map(|who| format!(", deployed by {who}")).unwrap_or_default();
            let details = format!("{reason}; {remedy}{goes_on}{row}{tried}{who}");
            (Style::Bad, "refused", details)
        }
        Event::Trapped { trap, count } => {
            (Style::Bad, "trapped", format!("{trap}{}", in_a_row(*count)))
        }
        Event::Reported { file } => {
            (Style::Plain, "reported", format!("`camshaft replay {file}` repeats the trap"))
        }
        Event::Quarantined { reason } => (Style::Bad, "quarantined", reason.clone()),
        Event::Held { by, who } => (Style::Warn, "held", by_whom(*by, who.as_ref())),
        Event::Released { by, who, .. } => (Style::Plain, "released", by_whom(*by, who.as_ref())),
        Event::Ordered(ordered) => {
            let style = if ordered.failed.is_some() { Style::Bad } else { Style::Plain };
            let version = receipt.hash.as_deref().map(short);
            (style, ordered.order.name(), ordered.sentence(version, old))
        }
        Event::Removed => (Style::Warn, "removed", "its file was deleted".into()),
        Event::Rollback => {
            let details = "the previous version runs again, with its state from before the swap";
            (Style::Bad, "rollback", details.into())
        }
        Event::StandsIn => {
            let old = old.unwrap_or("the file");
            (Style::Warn, "stands_in", format!("runs in place of {old}, which is bad"))
        }
        Event::Stopped => (
            Style::Warn,
            "stopped",
            "out of the scan; the outputs of the plugin become safe".into(),
        ),
    }
}

/// Returns the report of a shadow run as text; an empty text without a shadow run.
fn tried(shadow: Option<&ShadowReport>) -> String {
    shadow.map(|report| format!("; {report}")).unwrap_or_default()
}

/// Returns a text that says how often a refusal or trap has occurred in a row. If `count` is 0 or
/// 1, the text is empty.
fn in_a_row(count: u64) -> String {
    if count > 1 { format!(" (no. {count} in a row)") } else { String::new() }
}

/// Returns the text that says who gave the order: the configuration, or an operator.
fn by_whom(by: By, who: Option<&Who>) -> String {
    match (by, who) {
        (By::Operator, Some(who)) => format!("by {who}"),
        (By::Operator, None) => "by the operator".into(),
        (By::Configuration, _) => "by the configuration".into(),
    }
}
