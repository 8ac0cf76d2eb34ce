//! What differs between two configurations, and what of it can change while the daemon runs.
//!
//! For a reload: it applies what can change live and refuses the rest by name. Nothing is applied
//! here. Mind that grants hold ids of their own configuration's points: when a `device[...]`
//! differs, those of the new one mean nothing to the running scan.

use std::collections::BTreeSet;
use std::fmt;

use super::{Config, Device};
use crate::image::Point;
use crate::plugin::Grant;

/// The settings of a program that can change between two cycles. `order` cannot.
const LIVE_OF_PLUGIN: [&str; 5] = ["every", "poll_budget", "inputs", "outputs", "hold"];

/// One difference between two configurations. Displays as `plugin[tank].every changed`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The key, such as `scan.period`, or an entry, such as `device[plant]` (with its points).
    pub key: String,
    /// What became of it.
    pub how: How,
}

/// What became of a key or an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// The entry is new.
    Added,
    /// The entry is gone.
    Removed,
    /// It is another than before.
    Changed,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let how = match self.how {
            How::Added => "added",
            How::Removed => "removed",
            How::Changed => "changed",
        };
        write!(f, "{} {how}", self.key)
    }
}

impl Change {
    /// Whether it can be done while the daemon runs.
    pub fn is_live(&self) -> bool {
        let key = self.key.strip_prefix("plugin[").and_then(|rest| rest.rsplit_once(']'));
        let is_live =
            |key: &str| key.strip_prefix('.').is_none_or(|key| LIVE_OF_PLUGIN.contains(&key));
        self.key == "log.level" || key.is_some_and(|(_, key)| is_live(key))
    }
}

/// What differs, section by section. A plugin's entry that is new or gone is one difference,
/// whatever it says; so is the place of one in the order of polling, but only if it comes before
/// or after others than it did.
pub fn changes(old: &Config, new: &Config) -> Vec<Change> {
    let mut all = Vec::new();
    scan_and_plugins(old, new, &mut all);
    programs(old, new, &mut all);
    let devices = names(old, new, |config| config.devices.iter().map(|device| &device.name));
    all.extend(
        devices.into_iter().filter_map(|name| {
            entry(format!("device[{name}]"), device(old, name), device(new, name))
        }),
    );
    let variables = names(old, new, |config| config.variables.iter().map(|(name, _)| name));
    let find = |config: &Config, name: &str| {
        config.variables.iter().find(|(other, _)| other == name).map(|(_, value)| *value)
    };
    // Marking it is a change of the entry.
    let is_kept = |config: &Config, name: &str| {
        config.retain.variables.iter().any(|(other, _)| other == name)
    };
    let variable = |config, name| Some((find(config, name)?, is_kept(config, name)));
    all.extend(variables.into_iter().filter_map(|name| {
        entry(format!("variable[{name}]"), variable(old, name), variable(new, name))
    }));
    let (a, b) = (&old.retain, &new.retain);
    note(&mut all, "state.", [("dir", old.state.dir != new.state.dir)]);
    note(
        &mut all,
        "retain.",
        [("flush", a.flush != b.flush), ("on_corrupt", a.on_corrupt != b.on_corrupt)],
    );
    note(
        &mut all,
        "control.",
        [
            ("socket", old.control.socket != new.control.socket),
            ("mode", old.control.mode != new.control.mode),
        ],
    );
    note(&mut all, "crash.", [("record", old.crash != new.crash)]);
    note(
        &mut all,
        "log.",
        [("level", old.log.level != new.log.level), ("format", old.log.format != new.log.format)],
    );
    all
}

/// How an entry differs, if it does.
fn entry<T: PartialEq>(key: String, old: Option<T>, new: Option<T>) -> Option<Change> {
    let how = match (old, new) {
        (None, None) => return None,
        (None, Some(_)) => How::Added,
        (Some(_), None) => How::Removed,
        (Some(old), Some(new)) if old == new => return None,
        (Some(_), Some(_)) => How::Changed,
    };
    Some(Change { key, how })
}

fn note<const N: usize>(all: &mut Vec<Change>, section: &str, differing: [(&str, bool); N]) {
    let differing = differing.into_iter().filter(|(_, differs)| *differs);
    let change = |(key, _)| Change { key: format!("{section}{key}"), how: How::Changed };
    all.extend(differing.map(change));
}

fn scan_and_plugins(old: &Config, new: &Config, all: &mut Vec<Change>) {
    let (a, b) = (&old.scan, &new.scan);
    note(
        all,
        "scan.",
        [
            ("period", a.period != b.period),
            ("priority", a.priority != b.priority),
            ("cpu", a.cpus != b.cpus),
            ("lock_memory", a.lock_memory != b.lock_memory),
        ],
    );
    let (a, b) = (&old.plugins, &new.plugins);
    let (c, d) = (&a.limits, &b.limits);
    note(
        all,
        "plugins.",
        [
            ("dir", a.dir != b.dir),
            ("grant", a.grant_all != b.grant_all),
            ("poll_budget", a.poll_budget != b.poll_budget),
            ("init_budget", c.init_budget != d.init_budget),
            ("memory", c.memory_bytes != d.memory_bytes),
            ("table", c.table_elements != d.table_elements),
            ("stack", c.stack_bytes != d.stack_bytes),
            ("module", c.module_bytes != d.module_bytes),
            ("functions", c.functions != d.functions),
            ("log_rate", c.log_lines_per_s != d.log_lines_per_s),
            ("restart", a.restart != b.restart),
            ("swap", a.swap != b.swap),
            ("compiler", a.compiler != b.compiler),
            ("cache", a.cache != b.cache),
        ],
    );
}

fn programs(old: &Config, new: &Config, all: &mut Vec<Change>) {
    for name in names(old, new, |config| config.programs.iter().map(|(name, _)| name)) {
        let listed = |config: &Config| has(config, name).then_some(());
        all.extend(entry(format!("plugin[{name}]"), listed(old), listed(new)));
        if !has(old, name) || !has(new, name) {
            continue;
        }
        let (a, b) = (old.settings(name), new.settings(name));
        note(
            all,
            &format!("plugin[{name}]."),
            [
                ("order", before(name, old, new) != before(name, new, old)),
                ("every", a.every != b.every),
                ("poll_budget", a.poll_budget != b.poll_budget),
                ("inputs", granted(old, &a.inputs) != granted(new, &b.inputs)),
                ("outputs", granted(old, &a.outputs) != granted(new, &b.outputs)),
                ("hold", a.hold != b.hold),
            ],
        );
    }
}

/// Whether the plugin has an entry.
fn has(config: &Config, name: &str) -> bool {
    config.programs.iter().any(|(listed, _)| listed == name)
}

/// The entries in front of this one that the other configuration has as well, by name.
fn before<'c>(name: &str, config: &'c Config, other: &Config) -> BTreeSet<&'c str> {
    let listed = config.programs.iter().map(|(listed, _)| &**listed);
    listed.take_while(|listed| *listed != name).filter(|listed| has(other, listed)).collect()
}

/// The names of granted points, which mean the same in both configurations; `None` for all.
fn granted<'c>(config: &'c Config, grant: &Grant) -> Option<Vec<&'c str>> {
    match grant {
        Grant::All => None,
        Grant::Only(ids) => Some(ids.iter().map(|&id| &*config.points[id].name).collect()),
    }
}

/// A device with its points.
fn device<'c>(config: &'c Config, name: &str) -> Option<(&'c Device, Vec<&'c Point>)> {
    let index = config.devices.iter().position(|device| device.name == name)?;
    let points = config.points.iter().map(|(_, point)| point);
    Some((&config.devices[index], points.filter(|point| point.device == index).collect()))
}

/// All names of both configurations, each once: the old ones first.
fn names<'c, I: Iterator<Item = &'c String>>(
    old: &'c Config,
    new: &'c Config,
    of: impl Fn(&'c Config) -> I,
) -> Vec<&'c String> {
    let mut names: Vec<_> = of(old).collect();
    for name in of(new) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}
