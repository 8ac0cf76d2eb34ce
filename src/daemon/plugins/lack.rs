//! Log lines about programs with a bad required input point. The outputs of such a program are safe
//! until all its required input points are good again.
//!
//! The scan decides which programs have a bad required input (`requires` in the configuration).
//! `log_lacks` only logs these programs.
//!
//! An example of a log line: `tank requires level, which is bad: the outputs of tank are safe until
//! this input is good again`.

use super::Plugins;
use crate::config::Config;
use crate::daemon::link::ScanLink;
use crate::process::image::Class;

impl Plugins {
    /// Logs which programs now have a bad required input, and which programs have good inputs
    /// again.
    pub(in crate::daemon) fn log_lacks(&mut self, config: &Config, link: &mut ScanLink) {
        let (news, logged) = (link.news(), &mut self.lacks);
        for (name, fact) in self.roster.seats.programs(news) {
            // Only a change is logged. `logged` has the programs whose bad input is already logged.
            let before = logged.contains(name);
            if fact.degraded && !before {
                let required = config.settings(name).requires;
                let bad = required.iter().filter(|id| {
                    let quality = news.inputs.quality.get(id.index());
                    quality.is_none_or(|quality| quality.class() == Class::Bad)
                });
                let bad: Vec<_> =
                    bad.filter_map(|id| Some(&*config.live.points.get(*id)?.name)).collect();
                let (are, back) = match bad.len() {
                    1 => ("is", "this input is good"),
                    _ => ("are", "these inputs are good"),
                };
                let bad = bad.join(", ");
                tracing::error!(
                    plugin = &**name,
                    bad,
                    "{name} requires {bad}, which {are} bad: the outputs of {name} are safe until \
                     {back} again"
                );
                logged.insert(name.clone());
            } else if !fact.degraded && before {
                tracing::info!(
                    plugin = &**name,
                    "{name}: all required inputs are good again; its outputs have the values of \
                     the program again"
                );
                logged.remove(name);
            }
        }
        // A removed plugin cannot get a good input, so its name is removed from `logged` here.
        logged.retain(|name| self.roster.get(name).is_some());
    }
}
