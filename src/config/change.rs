//! What differs between two configurations, and what of it can change while the daemon runs.
//!
//! For a reload and for `camshaft diff`. Nothing is applied here: [`Config::adopt`] takes over what
//! can change live, `daemon/reload.rs` carries it to those whom it concerns.

use std::collections::BTreeSet;
use std::fmt;

use super::{Config, Device};
use crate::image::Point;
use crate::plugin::Grant;

/// What can change between two cycles, beside plugins, devices and variables.
const LIVE: [&str; 6] = [
    "scan.period",
    "plugins.grant",
    "plugins.poll_budget",
    "plugins.restart",
    "plugins.swap",
    "log.level",
];

/// One difference between two configurations. Displays as `plugin[tank].every changed`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The key, such as `scan.period`, or an entry, such as `device[plant]`.
    pub key: String,
    /// What became of it.
    pub how: How,
    /// What it takes to do it.
    pub effect: Effect,
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

/// What it takes to do a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// It counts from the next cycle on.
    Live,
    /// This device begins anew, between two cycles; the others go on.
    Device,
    /// It counts after a restart of the daemon.
    Restart,
}

impl fmt::Display for How {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Added => "added",
            Self::Removed => "removed",
            Self::Changed => "changed",
        })
    }
}

impl fmt::Display for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Live => "live",
            Self::Device => "device",
            Self::Restart => "restart",
        })
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.key, self.how)
    }
}

impl Change {
    fn new(key: String, how: How) -> Self {
        let is_live = LIVE.contains(&&*key) || key.starts_with("plugin[");
        let effect = if is_live { Effect::Live } else { Effect::Restart };
        Self { key, how, effect }
    }

    /// Whether it can be done while the daemon runs.
    pub fn is_live(&self) -> bool {
        self.effect != Effect::Restart
    }
}

/// What differs, section by section. A plugin's entry that is new or gone is one difference,
/// whatever it says; so is the place of one in the order of polling, but only if it comes before
/// or after others than it did.
pub fn changes(old: &Config, new: &Config) -> Vec<Change> {
    let mut all = Vec::new();
    scan_and_plugins(old, new, &mut all);
    programs(old, new, &mut all);
    devices(old, new, &mut all);
    variables(old, new, &mut all);
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
    if is_replaced(&all) {
        // Programs know points by number and address. With others in the image these would mean
        // something else, so nothing that may have to do with them is taken over.
        for change in all.iter_mut().filter(|change| change.key != "log.level") {
            change.effect = Effect::Restart;
        }
    }
    all
}

/// Whether the points are others than before.
pub(super) fn is_replaced(changes: &[Change]) -> bool {
    changes.iter().any(|change| change.key.starts_with("device[") && !change.is_live())
}

fn devices(old: &Config, new: &Config, all: &mut Vec<Change>) {
    for name in names(old, new, |config| config.devices.iter().map(|device| &device.name)) {
        let key = format!("device[{name}]");
        let (Some((a, theirs)), Some((b, ours))) = (device(old, name), device(new, name)) else {
            let listed = |config| device(config, name).map(drop);
            all.extend(entry(key, listed(old), listed(new)));
            continue;
        };
        if theirs != ours {
            all.push(Change::new(format!("{key}.points"), How::Changed));
        }
        if a != b {
            all.push(Change { key, how: How::Changed, effect: Effect::Device });
        }
    }
}

fn variables(old: &Config, new: &Config, all: &mut Vec<Change>) {
    let find = |config: &Config, name: &str| {
        config.variables.iter().find(|(other, _)| other == name).map(|(_, value)| *value)
    };
    let is_kept = |config: &Config, name: &str| {
        config.retain.variables.iter().any(|(other, _)| other == name)
    };
    // Marking it is a change of the entry.
    let variable = |config, name: &str| Some((find(config, name)?, is_kept(config, name)));
    for name in names(old, new, |config| config.variables.iter().map(|(name, _)| name)) {
        let (a, b) = (variable(old, name), variable(new, name));
        // Who keeps values on the disk is told at the start which; and a value has one type.
        let is_plain = |side: Option<(_, bool)>| side.is_none_or(|(_, is_kept)| !is_kept);
        let kinds = (a.map(|(value, _)| value.kind()), b.map(|(value, _)| value.kind()));
        let is_same_kind =
            matches!(kinds, (Some(a), Some(b)) if a == b) || a.is_none() || b.is_none();
        let effect = match is_plain(a) && is_plain(b) && is_same_kind {
            true => Effect::Live,
            false => Effect::Restart,
        };
        let change = entry(format!("variable[{name}]"), a, b);
        all.extend(change.map(|change| Change { effect, ..change }));
    }
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
    Some(Change::new(key, how))
}

fn note<const N: usize>(all: &mut Vec<Change>, section: &str, differing: [(&str, bool); N]) {
    let differing = differing.into_iter().filter(|(_, differs)| *differs);
    let change = |(key, _)| Change::new(format!("{section}{key}"), How::Changed);
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
