//! Verbs that concern the whole machine: a cold restart, a reset of retained values, the end of
//! recovery, its configuration.
//!
//! The daemon answers when the variables have their values; what becomes of each program then is in
//! `camshaft plugins`. What the verbs mean is said by the help, in `args.rs`.

use super::args::List;
use super::screen::Screen;
use super::table::{Cell, Paint, Side, Style, Table};
use super::{Outcome, client};
use crate::control::ChangeView;
use crate::control::client::Client;

/// `camshaft restart --cold`.
pub(super) async fn restart_cold(client: &Client, screen: &mut Screen) -> Outcome {
    client.restart_cold().await?;
    Ok(screen.print("restarted cold: variables have their initial values, programs start\n")?)
}

/// `camshaft reset --retain`.
pub(super) async fn reset_retain(client: &Client, screen: &mut Screen) -> Outcome {
    client.reset_retain().await?;
    Ok(screen.print("retained variables have their initial values, also on disk\n")?)
}

/// `camshaft recover`.
pub(super) async fn recover(client: &Client, screen: &mut Screen) -> Outcome {
    client.recover().await?;
    Ok(screen.print("recovery is over: plugins start\n")?)
}

/// `camshaft reload`.
pub(super) async fn reload(list: List, screen: &mut Screen) -> Outcome {
    let changes = client(list.reach).reload().await?;
    Ok(screen.show(&changes[..], list.json, |changes, paint| table(changes, "IS", paint))?)
}

/// `camshaft diff`.
pub(super) async fn diff(list: List, screen: &mut Screen) -> Outcome {
    let changes = client(list.reach).diff().await?;
    Ok(screen.show(&changes[..], list.json, |changes, paint| table(changes, "WOULD BE", paint))?)
}

/// Changes of the configuration, and whether they are in force or would be.
fn table(changes: &[ChangeView], head: &'static str, paint: Paint) -> String {
    if changes.is_empty() {
        return "the file says what is in force\n".into();
    }
    let mut table = Table::new([(Side::Left, "KEY"), (Side::Left, "CHANGE"), (Side::Left, head)]);
    for ChangeView { key, how, effect } in changes {
        let force = match (&**effect, &**how) {
            ("live", _) | ("device", "removed") => Cell::styled(Style::Good, "in force"),
            ("device", "added") => Cell::styled(Style::Good, "in force, the device begins"),
            ("device", _) => Cell::styled(Style::Good, "in force, the device begins anew"),
            _ => Cell::styled(Style::Warn, "in force after a restart of the daemon"),
        };
        table.row([Cell::from(key), Cell::from(how), force]);
    }
    table.render(paint)
}
