//! SIGHUP: takes from the configuration what can change live, and refuses the rest by name.
//!
//! An invalid file changes nothing. Whatever happens, systemd hears READY again with the outcome.

use super::Daemon;
use crate::config::{self, Change, Config};
use crate::plugin::Settings;
use crate::scan::Order;

impl Daemon {
    pub(super) fn reload(&mut self) {
        self.notifier.reloading();
        let outcome = match config::load(&self.config.path) {
            Ok(new) => self.take_over(new),
            Err(problems) => {
                tracing::error!("the configuration stays as it was: {problems}");
                "reload refused, the old configuration stays".to_string()
            }
        };
        self.notifier.ready(&outcome);
    }

    /// Takes over what can change; says what was done.
    fn take_over(&mut self, new: Config) -> String {
        let changed = config::changes(&self.config, &new);
        // Grants are ids into the points of their own configuration: with other devices they would
        // mean other points.
        let points_differ = changed.iter().any(|change| change.key.starts_with("device["));
        let (live, fixed): (Vec<_>, Vec<_>) = changed.into_iter().partition(|change| {
            change.is_live() && !(points_differ && change.key.starts_with("plugin["))
        });
        for change in &fixed {
            let key = &*change.key;
            tracing::warn!(key, "{change}: that counts after a restart only, until then what was");
        }
        if live.iter().any(|change| change.key == "log.level") {
            self.log.set_level(&new.log.level);
            self.config.log.level = new.log.level.clone();
        }
        if live.iter().any(|change| change.key.starts_with("plugin[")) {
            self.take_settings(&new);
        }
        let list =
            |all: &[Change]| all.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let outcome = match (live.as_slice(), fixed.as_slice()) {
            ([], []) => "reloaded, nothing has changed".to_string(),
            (live, []) => format!("reloaded: {}", list(live)),
            ([], fixed) => format!("reloaded, but refused until a restart: {}", list(fixed)),
            (live, fixed) => {
                format!("reloaded: {}; refused until a restart: {}", list(live), list(fixed))
            }
        };
        tracing::info!("{outcome}");
        outcome
    }

    fn take_settings(&mut self, new: &Config) {
        let names: Vec<String> =
            self.supervisor.plugins().map(|(name, _)| name.to_string()).collect();
        let before: Vec<Settings> = names.iter().map(|name| self.settings(name)).collect();
        self.config.adopt_settings(new);
        for (name, before) in names.iter().zip(before) {
            let after = self.settings(name);
            if after == before {
                continue;
            }
            if after.hold != before.hold {
                self.hold_as_configured(name, after.hold);
            }
            if let Some(entry) = self.roster.get_mut(name) {
                entry.is_outdated = true;
            }
        }
    }

    /// Orders the settings that the scan does not have yet. When the queue is full, the next look
    /// goes on.
    pub(super) fn order_settings(&mut self) {
        for (name, entry) in self.roster.iter_mut().filter(|(_, entry)| entry.is_outdated) {
            let settings = Box::new(self.config.settings(name));
            if self.reins.orders.push(Order::Configure(entry.seat, settings)).is_err() {
                return;
            }
            entry.is_outdated = false;
        }
    }
}
