//! Compares two configurations: lists the differences, and which of them need a restart.
//!
//! Each difference has one of three effects:
//! - *live*: the running daemon applies the change between two cycles,
//! - *device*: the daemon starts, restarts or stops one device between two cycles,
//! - *restart*: the change waits until the daemon is restarted.
//!
//! A reload and `camshaft diff` use this list. This file applies no change: [`Config::adopt`] takes
//! over the live changes, and `daemon/reload.rs` passes them to the parts of the daemon.
//!
//! Example of the list, as `camshaft diff` prints it:
//!
//! ```text
//! KEY                 CHANGE   WOULD BE
//! scan.period         changed  in force
//! scan.cpu            changed  in force after a restart of the daemon
//! plugin[tank].every  changed  in force
//! device[plant]       added    in force, the device is started
//! ```

use std::collections::BTreeSet;
use std::fmt;

use super::Config;
use super::device::Device;
use crate::plugin::Settings;
use crate::process::grant::Grant;
use crate::process::image::{Direction, Point, Points};

/// One difference between two configurations. Its text form is, for example, `plugin[tank].every
/// changed`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The key or entry that differs.
    pub place: ConfigPlace,
    /// Whether the key or entry was added, removed or changed.
    pub how: How,
    /// What the daemon must do to apply the change.
    pub effect: Effect,
}

/// A place in a configuration: a key or an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConfigPlace {
    /// A key with its section, such as `scan.period`.
    Key(&'static str),
    /// The entry of this plugin, or one key of this entry.
    Plugin(String, Option<&'static str>),
    /// The entry of this device, or one key of this entry.
    Device(String, Option<&'static str>),
    /// One key of this point.
    Point(String, &'static str),
    /// The entry of this variable.
    Variable(String),
}

impl fmt::Display for ConfigPlace {
    /// Writes the name of a place, such as `plugin[tank].every`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key(key) => f.write_str(key),
            Self::Plugin(name, None) => write!(f, "plugin[{name}]"),
            Self::Plugin(name, Some(key)) => write!(f, "plugin[{name}].{key}"),
            Self::Device(name, None) => write!(f, "device[{name}]"),
            Self::Device(name, Some(key)) => write!(f, "device[{name}].{key}"),
            Self::Point(name, key) => write!(f, "point[{name}].{key}"),
            Self::Variable(name) => write!(f, "variable[{name}]"),
        }
    }
}

/// How a key or an entry differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// Only the new configuration has the entry.
    Added,
    /// Only the old configuration has the entry.
    Removed,
    /// Both configurations have the key or entry, with different values. A new point is reported as
    /// a change of its key `address` if it occupies bits of a point with another name, and the two
    /// points differ in type or address.
    Changed,
}

/// What the daemon must do to apply a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// The change takes effect with the next cycle.
    Live,
    /// The daemon starts, restarts or stops this device between two cycles. The other devices
    /// continue.
    Device,
    /// The daemon must be restarted.
    Restart,
}

impl fmt::Display for How {
    /// Writes the word in the column CHANGE of `camshaft diff` and `camshaft reload`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Added => "added",
            Self::Removed => "removed",
            Self::Changed => "changed",
        })
    }
}

impl fmt::Display for Effect {
    /// Writes the word for the JSON of `camshaft diff` and `camshaft reload`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Live => "live",
            Self::Device => "device",
            Self::Restart => "restart",
        })
    }
}

impl fmt::Display for Change {
    /// Writes the place and how it differs, such as `scan.period changed`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.place, self.how)
    }
}

impl Change {
    /// Whether the daemon can apply the change without a restart of the daemon.
    pub fn is_live(&self) -> bool {
        self.effect != Effect::Restart
    }
}

/// The first characters of the text forms of all places, in the order in which the differences are
/// listed.
const SECTIONS: [&str; 12] = [
    "scan",
    "plugins",
    "plugin[",
    "device",
    "point[",
    "variable[",
    "state",
    "retain",
    "recovery",
    "control",
    "crash",
    "log",
];

/// Returns all differences between `old` and `new`, section by section. An entry that was added or
/// removed is one difference, and its keys are not listed. The order of plugins and the order of
/// devices are compared only among those that both configurations have.
pub fn changes(old: &Config, new: &Config) -> Vec<Change> {
    let mut all = Vec::new();
    note(&mut all, Effect::Live, old.live.keys(&new.live), ConfigPlace::Key);
    note(&mut all, Effect::Restart, old.fixed.keys(&new.fixed), ConfigPlace::Key);
    programs(old, new, &mut all);
    devices(old, new, &mut all);
    variables(old, new, &mut all);
    if has_moved(&all) {
        // Programs know points by address. If a point has moved, an address refers to another
        // value. Every change that may depend on addresses therefore waits for a restart. Only the
        // log level cannot depend on addresses.
        for change in all.iter_mut().filter(|change| change.place != ConfigPlace::Key("log.level"))
        {
            change.effect = Effect::Restart;
        }
    }
    all.sort_by_cached_key(|change| {
        let place = change.place.to_string();
        SECTIONS.iter().position(|section| place.starts_with(section))
    });
    all
}

/// Whether a point has moved. A point has moved if its address, type or direction has changed. A
/// new point is treated as moved if it occupies bits of another point, and the two points differ in
/// type or address. The other point may have been removed by an earlier reload.
pub(super) fn has_moved(changes: &[Change]) -> bool {
    changes.iter().any(|change| matches!(change.place, ConfigPlace::Point(..)))
}

/// Whether a change that needs no restart concerns the devices: their settings, their order, their
/// points or the sizes of the images.
pub fn has_other_field(changes: &[Change]) -> bool {
    let is_field = |place: &ConfigPlace| {
        matches!(place, ConfigPlace::Device(..) | ConfigPlace::Key("device.order" | "device.bytes"))
    };
    changes.iter().any(|change| change.is_live() && is_field(&change.place))
}

/// Adds the differences of devices and points to `all`. Points are matched by name. For two points
/// with the same name, the direction, type and address are compared. A new point is also a
/// difference if it occupies bits of a point with another name, and the two points differ in type
/// or address.
fn devices(old: &Config, new: &Config, all: &mut Vec<Change>) {
    for name in names(old, new, |config| config.live.devices.iter().map(|device| &*device.name)) {
        let place = |key| ConfigPlace::Device(name.to_owned(), key);
        let (Some((a, theirs)), Some((b, ours))) = (device(old, name), device(new, name)) else {
            let listed = |config| device(config, name).map(drop);
            all.extend(entry(Effect::Device, place(None), listed(old), listed(new)));
            continue;
        };
        note(all, Effect::Device, [(None, a != b), (Some("points"), theirs != ours)], place);
    }
    // The order is compared only among the devices that both configurations have.
    let order = |config: &Config, other: &Config| -> Vec<String> {
        let (ours, theirs) = (config.live.points.devices(), other.live.points.devices());
        ours.iter().filter(|name| theirs.contains(name)).cloned().collect()
    };
    let bytes = |config: &Config| {
        [Direction::In, Direction::Out].map(|direction| config.live.points.image_bytes(direction))
    };
    let is_other_field = all.iter().any(|change| matches!(change.place, ConfigPlace::Device(..)));
    let keys = [
        ("device.order", order(old, new) != order(new, old)),
        // If a device or its points change, the size of an image can change too. The list then
        // contains only the difference of the device, and no difference of the size.
        ("device.bytes", !is_other_field && bytes(old) != bytes(new)),
    ];
    note(all, Effect::Live, keys, ConfigPlace::Key);
    for (_, point) in new.live.points.iter() {
        let Some((_, before)) = old.live.points.known(&point.name) else {
            let taken = [("address", is_on_another(point, &old.live.points))];
            note(all, Effect::Restart, taken, |key| ConfigPlace::Point(point.name.clone(), key));
            continue;
        };
        let keys = [
            ("direction", before.direction != point.direction),
            ("type", before.kind != point.kind),
            ("address", (before.byte, before.bit) != (point.byte, point.bit)),
        ];
        note(all, Effect::Restart, keys, |key| ConfigPlace::Point(point.name.clone(), key));
    }
}

/// Whether a new point occupies bits of another point and differs from that point in type or
/// address. A program that uses this address would then read or write a different value.
fn is_on_another(point: &Point, before: &Points) -> bool {
    let len = before.image_bytes(point.direction);
    let bytes = point.bytes().filter(|byte| *byte < len);
    let there = bytes.flat_map(|byte| before.at(point.direction, byte)).map(|id| &before[*id]);
    let gone = before.gone().filter(|gone| gone.direction == point.direction);
    let gone = gone.filter(|gone| gone.bytes().any(|byte| point.bytes().contains(&byte)));
    there.chain(gone).any(|other| {
        // Eight bools share one byte, so the comparison uses the bits.
        point.mask() & other.mask() != 0 && !point.is_in_place_of(other)
    })
}

/// Adds the differences of variables to `all`. A difference needs a restart if the old or the new
/// configuration retains the variable, or if the type of the variable changes.
fn variables(old: &Config, new: &Config, all: &mut Vec<Change>) {
    let find = |config: &Config, name: &str| {
        config.live.variables.iter().find(|(other, _)| other == name).map(|(_, value)| *value)
    };
    let is_kept = |config: &Config, name: &str| {
        config.fixed.retain.variables.iter().any(|(other, _)| other == name)
    };
    // The mark `retain` is compared together with the type and the value of the variable.
    let variable = |config, name: &str| Some((find(config, name)?, is_kept(config, name)));
    for name in names(old, new, |config| config.live.variables.iter().map(|(name, _)| &**name)) {
        let (a, b) = (variable(old, name), variable(new, name));
        // The writer of the retain files gets its list of variables at the start of the daemon. The
        // type of a variable cannot change while the daemon runs. So a change of the retained
        // variables or of a type needs a restart.
        let is_plain = |side: Option<(_, bool)>| side.is_none_or(|(_, is_kept)| !is_kept);
        let kinds = (a.map(|(value, _)| value.kind()), b.map(|(value, _)| value.kind()));
        let is_same_kind =
            matches!(kinds, (Some(a), Some(b)) if a == b) || a.is_none() || b.is_none();
        let effect = match is_plain(a) && is_plain(b) && is_same_kind {
            true => Effect::Live,
            false => Effect::Restart,
        };
        all.extend(entry(effect, ConfigPlace::Variable(name.to_owned()), a, b));
    }
}

/// Returns the difference of one entry; `None` if the entry is equal in both configurations. `old`
/// or `new` is `None` if that configuration does not have the entry.
fn entry<T: PartialEq>(
    effect: Effect,
    place: ConfigPlace,
    old: Option<T>,
    new: Option<T>,
) -> Option<Change> {
    let how = match (old, new) {
        (None, None) => return None,
        (None, Some(_)) => How::Added,
        (Some(_), None) => How::Removed,
        (Some(old), Some(new)) if old == new => return None,
        (Some(_), Some(_)) => How::Changed,
    };
    Some(Change { place, how, effect })
}

/// Adds one change for each key that differs. In `keys`, each key has a flag that is true if the
/// key differs.
fn note<K, const N: usize>(
    all: &mut Vec<Change>,
    effect: Effect,
    keys: [(K, bool); N],
    place: impl Fn(K) -> ConfigPlace,
) {
    let differing = keys.into_iter().filter(|(_, differs)| *differs);
    let change = |key| Change { place: place(key), how: How::Changed, effect };
    all.extend(differing.map(|(key, _)| change(key)));
}

/// Adds the differences of the entries `[[plugin]]` to `all`.
fn programs(old: &Config, new: &Config, all: &mut Vec<Change>) {
    for name in names(old, new, |config| config.live.programs.iter().map(|(name, _)| &**name)) {
        let place = |key| ConfigPlace::Plugin(name.to_owned(), key);
        let listed = |config: &Config| has(config, name).then_some(());
        all.extend(entry(Effect::Live, place(None), listed(old), listed(new)));
        if !has(old, name) || !has(new, name) {
            continue;
        }
        let (a, b) = (old.settings(name), new.settings(name));
        let keys = [
            ("order", before(name, old, new) != before(name, new, old)),
            ("every", a.every != b.every),
            ("poll_budget", a.poll_budget != b.poll_budget),
            ("inputs", granted(old, &a.inputs) != granted(new, &b.inputs)),
            ("outputs", granted(old, &a.outputs) != granted(new, &b.outputs)),
            ("variables", a.variables != b.variables),
            ("hold", a.hold != b.hold),
            ("requires", required(old, &a) != required(new, &b)),
            ("requires_timeout", a.requires_timeout != b.requires_timeout),
        ];
        note(all, Effect::Live, keys, |key| place(Some(key)));
    }
}

/// Whether `config` has an entry `[[plugin]]` with this name.
fn has(config: &Config, name: &str) -> bool {
    config.live.programs.iter().any(|(listed, _)| *listed == name)
}

/// Returns the names of all plugins whose entry in `config` is before the entry of `name`. Plugins
/// without an entry in `other` are left out.
fn before<'c>(name: &str, config: &'c Config, other: &Config) -> BTreeSet<&'c str> {
    let listed = config.live.programs.iter().map(|(listed, _)| &**listed);
    listed.take_while(|listed| *listed != name).filter(|listed| has(other, listed)).collect()
}

/// Returns the names of the points in `grant`; `None` means all points. Names are compared and not
/// ids, because names have the same meaning in both configurations.
fn granted<'c>(config: &'c Config, grant: &Grant) -> Option<Vec<&'c str>> {
    match grant {
        Grant::All => None,
        Grant::Only(ids) => Some(ids.iter().map(|&id| &*config.live.points[id].name).collect()),
    }
}

/// Returns the names of the required points.
fn required<'c>(config: &'c Config, settings: &Settings) -> Vec<&'c str> {
    settings.requires.iter().map(|&id| &*config.live.points[id].name).collect()
}

/// Returns the device `name` and its points. The points are sorted by name. The device index in the
/// points is set to 0, so that a new order of the devices is no difference here.
fn device<'c>(config: &'c Config, name: &str) -> Option<(&'c Device, Vec<Point>)> {
    let index = config.live.devices.iter().position(|device| device.name == name)?;
    let points = config.live.points.iter().filter(|(_, point)| point.device == index);
    let mut points: Vec<_> = points.map(|(_, p)| Point { device: 0, ..p.clone() }).collect();
    points.sort_by(|one, other| one.name.cmp(&other.name));
    Some((&config.live.devices[index], points))
}

/// Returns all names of both configurations, each name once. The names of `old` come first.
fn names<'c, I: Iterator<Item = &'c str>>(
    old: &'c Config,
    new: &'c Config,
    of: impl Fn(&'c Config) -> I,
) -> Vec<&'c str> {
    let mut names: Vec<_> = of(old).collect();
    for name in of(new) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}
