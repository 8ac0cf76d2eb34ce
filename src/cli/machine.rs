//! Verbs for the whole machine: cold restart, reset of retained values, recovery, reload and diff.
//!
//! The daemon answers a cold restart or a reset after the variables have their new values. At that
//! time, programs may still be starting; `camshaft plugins` shows their states. The help in
//! `args.rs` and `help.rs` explains the verbs to the user.
//!
//! Example of the output of `camshaft restart --cold`:
//!
//! ```text
//! restarted cold: variables have their initial values, programs start
//! held, so not started: blink
//! ```

use super::args::List;
use super::remark::stall;
use super::screen::Screen;
use super::table::{Cell, Paint, Side, Style, Table};
use super::{CommandResult, client};
use crate::control::client::Client;
use crate::control::{ChangeView, PluginState, PluginView, Want};
use crate::text::legible;

/// Runs the verb `camshaft restart --cold`.
pub(super) async fn restart_cold(client: &Client, screen: &mut Screen) -> CommandResult {
    client.restart_cold().await?;
    let starts = starts(client, screen).await;
    Ok(screen.print(&format!("restarted cold: variables have their initial values, {starts}"))?)
}

/// Returns a text that says which programs start after the order. If the daemon does not answer the
/// request for its status, the text is only `programs start`. If the scan is stalled, the text also
/// reports the stall.
async fn starts(client: &Client, screen: &Screen) -> String {
    match client.status().await {
        Ok(view) => who(view.recovery.is_some(), &view.plugins) + &stall(&view, screen.paint),
        Err(_) => "programs start\n".into(),
    }
}

/// Returns a text that says which programs start, and which programs do not start and why.
fn who(is_recovering: bool, plugins: &[PluginView]) -> String {
    if is_recovering {
        return "no program starts before `camshaft recover`\n".into();
    }
    let why = |view: &PluginView| match (view.want, view.state) {
        (Want::Hold, _) => Some("held"),
        (Want::Run, PluginState::Quarantined) => Some("in quarantine"),
        (Want::Run, PluginState::Refused) => Some("refused"),
        (Want::Run, _) => None,
    };
    let mut text = "programs start\n".to_owned();
    for reason in ["held", "in quarantine", "refused"] {
        let out = plugins.iter().filter(|view| why(view) == Some(reason));
        let names = out.map(|view| legible(&view.name)).collect::<Vec<_>>().join(", ");
        if !names.is_empty() {
            text += &format!("{reason}, so not started: {names}\n");
        }
    }
    text
}

/// Runs the verb `camshaft reset --retain`.
pub(super) async fn reset_retain(client: &Client, screen: &mut Screen) -> CommandResult {
    client.reset_retain().await?;
    Ok(screen.print("retained variables have their initial values, also on disk\n")?)
}

/// Runs the verb `camshaft recover`.
pub(super) async fn recover(client: &Client, screen: &mut Screen) -> CommandResult {
    client.recover().await?;
    let starts = starts(client, screen).await;
    Ok(screen.print(&format!("recovery has ended: {starts}"))?)
}

/// Runs the verb `camshaft reload`.
pub(super) async fn reload(list: List, screen: &mut Screen) -> CommandResult {
    let changes = client(list.reach).reload().await?;
    Ok(screen.show(&changes[..], list.json, |changes, paint| table(changes, "IS", paint))?)
}

/// Runs the verb `camshaft diff`.
pub(super) async fn diff(list: List, screen: &mut Screen) -> CommandResult {
    let changes = client(list.reach).diff().await?;
    Ok(screen.show(&changes[..], list.json, |changes, paint| table(changes, "WOULD BE", paint))?)
}

/// Returns the changes of a configuration as a table. `head` is the heading of the last column:
/// `IS` after a reload, `WOULD BE` for `diff`.
fn table(changes: &[ChangeView], head: &'static str, paint: Paint) -> String {
    if changes.is_empty() {
        return "the file has no changes: its configuration is in force\n".into();
    }
    let mut table = Table::new([(Side::Left, "KEY"), (Side::Left, "CHANGE"), (Side::Left, head)]);
    for ChangeView { key, how, effect } in changes {
        let force = match (&**effect, &**how) {
            ("live", _) | ("device", "removed") => Cell::styled(Style::Good, "in force"),
            ("device", "added") => Cell::styled(Style::Good, "in force, the device is started"),
            ("device", _) => Cell::styled(Style::Good, "in force, the device is restarted"),
            _ => Cell::styled(Style::Warn, "in force after a restart of the daemon"),
        };
        table.row([Cell::from(key), Cell::from(how), force]);
    }
    table.render(paint)
}

#[cfg(test)]
mod tests {
    use super::super::outcome::tests::view;
    use super::*;

    /// The text names the programs that do not start, with the reason.
    #[test]
    fn a_cold_restart_says_who_stays_out() {
        let named = |name: &str, state, want| PluginView { name: name.into(), want, ..view(state) };
        let all = [
            named("a", PluginState::Running, Want::Run),
            named("b", PluginState::Held, Want::Hold),
            named("c", PluginState::Quarantined, Want::Run),
            named("d", PluginState::Quarantined, Want::Hold),
            named("e", PluginState::Refused, Want::Run),
        ];
        let expected = "programs start\nheld, so not started: b, d\nin quarantine, so not started: \
                        c\nrefused, so not started: e\n";
        assert_eq!(who(false, &all), expected);
        assert_eq!(who(false, &all[..1]), "programs start\n");
        let expected = "no program starts before `camshaft recover`\n";
        assert_eq!(who(true, &all), expected);
    }
}
