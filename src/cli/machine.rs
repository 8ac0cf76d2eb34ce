//! Verbs that concern the whole machine: a cold restart, a reset of retained values, the end of
//! recovery.
//!
//! The daemon answers when the variables have their values; what becomes of each program then is in
//! `camshaft plugins`. What the verbs mean is said by the help, in `args.rs`.

use super::Outcome;
use super::screen::Screen;
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
