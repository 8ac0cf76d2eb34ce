//! What differs between two configurations, and what of it can change while the daemon runs.
//!
//! For a reload: it applies what can change live and refuses the rest by name. Nothing is applied
//! here. Mind that grants hold ids of their own configuration's points: when a `device[...]`
//! differs, those of the new one mean nothing to the running scan.

use super::{Config, Device};
use crate::image::Point;
use crate::plugin::Grant;

/// The settings of a program that can change between two cycles. `order` cannot.
const LIVE_OF_PLUGIN: [&str; 5] = ["every", "poll_budget", "inputs", "outputs", "hold"];

/// Whether a key of [`changed_keys`] can change while the daemon runs.
pub fn is_live(key: &str) -> bool {
    let plugin = key.strip_prefix("plugin[").and_then(|rest| rest.rsplit_once("]."));
    key == "log.level" || plugin.is_some_and(|(_, key)| LIVE_OF_PLUGIN.contains(&key))
}

/// The keys whose values differ, such as `scan.period`, `device[plant]` (with its points) or
/// `plugin[level].outputs`, section by section. An entry that is new or gone is compared with what
/// the plugin has without one.
pub fn changed_keys(old: &Config, new: &Config) -> Vec<String> {
    let mut keys = Vec::new();
    scan_and_plugins(old, new, &mut keys);
    programs(old, new, &mut keys);
    let devices = names(old, new, |config| config.devices.iter().map(|device| &device.name));
    keys.extend(
        devices
            .into_iter()
            .filter(|name| device(old, name) != device(new, name))
            .map(|name| format!("device[{name}]")),
    );
    let variables = names(old, new, |config| config.variables.iter().map(|(name, _)| name));
    let find = |config: &Config, name: &str| {
        config.variables.iter().find(|(other, _)| other == name).map(|(_, value)| *value)
    };
    keys.extend(
        variables
            .into_iter()
            .filter(|name| find(old, name) != find(new, name))
            .map(|name| format!("variable[{name}]")),
    );
    note(
        &mut keys,
        "control.",
        [
            ("socket", old.control.socket != new.control.socket),
            ("mode", old.control.mode != new.control.mode),
        ],
    );
    note(
        &mut keys,
        "log.",
        [("level", old.log.level != new.log.level), ("format", old.log.format != new.log.format)],
    );
    keys
}

fn note<const N: usize>(keys: &mut Vec<String>, section: &str, differing: [(&str, bool); N]) {
    let differing = differing.into_iter().filter(|(_, differs)| *differs);
    keys.extend(differing.map(|(key, _)| format!("{section}{key}")));
}

fn scan_and_plugins(old: &Config, new: &Config, keys: &mut Vec<String>) {
    let (a, b) = (&old.scan, &new.scan);
    note(
        keys,
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
        keys,
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
            ("compiler", a.compiler != b.compiler),
            ("cache", a.cache != b.cache),
        ],
    );
}

fn programs(old: &Config, new: &Config, keys: &mut Vec<String>) {
    for name in names(old, new, |config| config.programs.iter().map(|(name, _)| name)) {
        let (a, b) = (old.settings(name), new.settings(name));
        note(
            keys,
            &format!("plugin[{name}]."),
            [
                ("order", a.order != b.order),
                ("every", a.every != b.every),
                ("poll_budget", a.poll_budget != b.poll_budget),
                ("inputs", granted(old, &a.inputs) != granted(new, &b.inputs)),
                ("outputs", granted(old, &a.outputs) != granted(new, &b.outputs)),
                ("hold", a.hold != b.hold),
            ],
        );
    }
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
