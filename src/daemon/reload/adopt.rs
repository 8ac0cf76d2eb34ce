//! The take-over of a new configuration: the daemon's parts change at once, and the scan gets an
//! order to change between two cycles.
//!
//! `reload.rs` has already read, checked and compared the configuration, so this step cannot fail.
//! If a change is not live, the daemon logs the change, which then waits for a restart of the
//! daemon. The rules about live changes are in `config/change.rs`. The changes in the scan are in
//! `scan/reconfigure.rs`.

use tokio::sync::oneshot;

use super::{Flight, view};
use crate::config::{Change, Config, ConfigPlace};
use crate::control::{Reply, Response};
use crate::daemon::Daemon;
use crate::plugin::Settings;
use crate::process::variable::Variable;
use crate::scan::{Order, Reconfiguration, Slot};

impl Daemon {
    /// Takes over the live changes. Returns a text about the outcome, for systemd.
    pub(super) fn take_over(
        &mut self,
        new: &Config,
        changes: &[Change],
        reconfiguration: Reconfiguration,
        reply: Option<oneshot::Sender<Reply>>,
    ) -> String {
        // The new file is correct, so an earlier refusal has ended.
        self.reload.refused = None;
        let (live, fixed): (Vec<_>, Vec<_>) = changes.iter().partition(|change| change.is_live());
        for change in &fixed {
            tracing::warn!(
                key = %change.place,
                "{change}: takes effect only after a restart of the daemon"
            );
        }
        self.reload.waiting = fixed.iter().map(ToString::to_string).collect();
        let outcome = outcome(&live, &fixed);
        tracing::info!("{outcome}");
        // If declarations of variables wait for a restart, the scan must reserve the names of these
        // variables. If the new file no longer has such a declaration, the scan must end the
        // reservation. In both cases the scan needs an order.
        let has_reserved =
            fixed.iter().any(|change| matches!(change.place, ConfigPlace::Variable(_)));
        let had_reserved = !self.link.reserved.0.is_empty();
        if !live.is_empty() || has_reserved || had_reserved {
            self.adopt(new, changes, reconfiguration, reply);
        // The scan has nothing to change, so the caller gets its answer at once.
        } else if let Some(reply) = reply {
            let _ = reply.send(Ok(Response::Changes(changes.iter().map(view).collect())));
        }
        outcome
    }

    /// Makes the live changes in `Daemon::config` and in the daemon's parts, and orders the scan to
    /// make the same changes.
    fn adopt(
        &mut self,
        new: &Config,
        changes: &[Change],
        mut reconfiguration: Reconfiguration,
        reply: Option<oneshot::Sender<Reply>>,
    ) {
        // The settings of all plugins before the change, for the comparison below.
        let names: Vec<String> =
            self.plugins.supervisor.plugins().map(|(name, _)| name.to_string()).collect();
        let before: Vec<Settings> = names.iter().map(|name| self.config.settings(name)).collect();
        self.config.adopt(new, changes);
        // The scan reserves a variable if the new file declares the variable and the configuration
        // in force does not declare it.
        let declares = |(name, _): &&(String, Variable)| {
            !self.config.live.variables.iter().any(|(ours, _)| ours == name)
        };
        let waiting = new.live.variables.iter().filter(declares);
        reconfiguration.reserved =
            waiting.map(|(name, value)| (name.clone(), value.kind())).collect();
        self.link.reserved.0.clone_from(&reconfiguration.reserved);
        self.service.log.set_level(&self.config.live.log_level);
        self.plugins.supervisor.set_policy(self.config.live.plugins.restart);
        // For plugins with changed settings, a hold or a release is active at once. All other
        // settings go to the scan, if the plugin has a program in the scan.
        for (name, before) in names.iter().zip(before) {
            let after = self.config.settings(name);
            if after.hold != before.hold {
                self.plugins.hold_as_configured(
                    name,
                    after.hold,
                    self.field.is_emptying(),
                    &mut self.link,
                );
            }
            if after != before
                && let Some(entry) = self.plugins.roster.get(name)
            {
                reconfiguration.settings.push((entry.seat, after));
            }
        }
        // Each newly opened device has a new monitor, which the daemon must know.
        if let Some(device_set) = &reconfiguration.device_set {
            for (device, slot) in self.config.live.devices.iter().zip(&device_set.devices) {
                if let Slot::Opened(driver) = slot {
                    self.field.devices.add(&device.name, &**driver);
                }
            }
        }
        // The scan carries out all changes with one order, between two cycles. After the scan has
        // answered with this ticket, the code in `reload.rs` sends the answer to the caller.
        let ticket = self.link.next_ticket();
        (reconfiguration.ticket, reconfiguration.period) = (ticket, self.config.live.scan.period);
        reconfiguration.stall = self.config.live.scan.stall;
        let ordered = self.link.handle.orders.push(Order::Reconfigure(Box::new(reconfiguration)));
        debug_assert!(ordered.is_ok(), "`pursue_reload` has checked that the queue has room");
        let changes = changes.iter().map(view).collect();
        self.reload.flight = Some(Flight { ticket, reply, changes });
    }
}

/// Returns the text about a reload: the live changes, and the changes that wait for a restart.
fn outcome(live: &[&Change], fixed: &[&Change]) -> String {
    let list = |all: &[&Change]| all.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    match (live, fixed) {
        ([], []) => "reloaded, nothing has changed".to_string(),
        (live, []) => format!("reloaded: {}", list(live)),
        ([], fixed) => {
            format!("reloaded, but waiting for a restart of the daemon: {}", list(fixed))
        }
        (live, fixed) => {
            let (live, fixed) = (list(live), list(fixed));
            format!("reloaded: {live}; waiting for a restart of the daemon: {fixed}")
        }
    }
}
