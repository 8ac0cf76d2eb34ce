//! The orders to hold, to release and to restart a plugin. `record.rs` records the holds and the
//! releases in the plugin's history.
//!
//! These functions decide nothing: the supervisor decides the effect of an order
//! (`supervisor/plugin.rs`). `control/receipt.rs` has the text of a history line.

use super::Plugins;
use crate::control::{By, Code, Failure, Who};
use crate::daemon::link::ScanLink;
use crate::plugin::Refusal;
use crate::supervisor::Released;

impl Plugins {
    /// Holds a plugin until an operator releases it.
    ///
    /// # Errors
    /// If there is no plugin of this name.
    pub(in crate::daemon) fn hold(
        &mut self,
        name: &str,
        who: Option<Who>,
        link: &mut ScanLink,
    ) -> Result<(), Failure> {
        // A swap that took place before the order is recorded first, so the history has the right
        // sequence.
        self.settle_swaps(link);
        self.known(name)?;
        self.supervisor.hold(name).map_err(refused)?;
        self.record.held(name, By::Operator, who.clone());
        self.recovery.forget(name);
        log_order(name, "held", who);
        Ok(())
    }

    /// Releases a plugin. If the plugin is on hold, the release ends only the hold. If the plugin
    /// is not on hold, the release ends the quarantine of its modules.
    ///
    /// # Errors
    /// If there is no plugin of this name and no module of this name in quarantine, or if a cold
    /// restart is under way (`is_emptying`).
    pub(in crate::daemon) fn release(
        &mut self,
        name: &str,
        who: Option<Who>,
        is_emptying: bool,
    ) -> Result<(), Failure> {
        if is_emptying {
            let message = "a cold restart is under way; try again after its end";
            return Err(Failure::new(Code::Busy, message));
        }
        // A module may be in quarantine although its file and its plugin are removed.
        if self.supervisor.quarantined(name).is_empty() {
            self.known(name)?;
        }
        let ended = self.supervisor.release(name).map_err(refused)?;
        self.record.released(name, By::Operator, ended == Released::Forgiven, who.clone());
        self.recovery.forget(name);
        log_order(name, "released", who);
        Ok(())
    }

    /// Restarts a plugin, and sets its counts of traps and refusals to zero.
    ///
    /// # Errors
    /// If there is no plugin of this name, if the plugin is held, or if it is in quarantine and has
    /// no other version that can run.
    pub(in crate::daemon) fn restart(&mut self, name: &str) -> Result<(), Failure> {
        self.known(name)?;
        self.supervisor.restart(name).map_err(refused)?;
        self.record.afresh(name);
        Ok(())
    }
}

/// Logs that a plugin is held or released, with the user who gave the order.
fn log_order(name: &str, what: &str, who: Option<Who>) {
    let who = who.map_or_else(|| "the operator".into(), |who| who.to_string());
    tracing::info!(plugin = name, who, "{name} is {what} by {who}");
}

/// Converts the supervisor's refusal into the failure of a request.
fn refused(refusal: Refusal) -> Failure {
    Failure::new(Code::Refused, refusal.to_string())
}
