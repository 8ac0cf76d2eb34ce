//! Notes on a configuration: entries that are valid but are probably mistakes.
//!
//! An example is two inputs that read the same register. `camshaft check` prints the notes. The
//! daemon starts with a configuration that has notes. An invalid entry is a
//! [`Problem`](super::Problem).
//!
//! The notes depend only on the configuration. `cli/check.rs` checks whether the machine has the
//! files and the rights.
//!
//! Example of a note:
//!
//! ```text
//! device[bus].point[b].at: holding 10 of unit u also belongs to point a
//! ```

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

use super::Config;
use super::device::Device;
use crate::driver;
use crate::process::grant::Grant;
use crate::process::image::{Direction, Point, PointId};
use crate::text::{first_of, nearest};

/// After this many notes on unknown names, further notes suggest no similar name. In a large file,
/// the comparison of all unknown names with all known names would take minutes.
const MAX_HINTS: usize = 16;

/// The largest number of outputs that one note names. The note gives only the number of the other
/// outputs.
const MAX_NAMED: usize = 8;

/// Returns all notes. Each note begins with the key that it concerns.
pub fn notes(config: &Config) -> Vec<String> {
    let kinds = [
        idle_devices,
        unused_entries,
        shared_claims,
        shared_places,
        unknown_names,
        unwritten_outputs,
        double_names,
    ];
    kinds.iter().flat_map(|kind| kind(config)).collect()
}

/// Finds devices that have no points and no other work. A heartbeat is an example of other work.
fn idle_devices(config: &Config) -> Vec<String> {
    let has_points = |index| config.live.points.iter().any(|(_, point)| point.device == index);
    let devices = config.live.devices.iter().enumerate();
    let idle = devices
        .filter(|(index, it)| !has_points(*index) && !it.driver.settings().works_without_points());
    let note = |name: &str| {
        format!(
            "device[{name}]: the device has no points and no other work, so the device has no \
             effect"
        )
    };
    idle.map(|(_, device)| note(&device.name)).collect()
}

/// Finds entries of a device, such as a Modbus unit, if no point uses the entry.
fn unused_entries(config: &Config) -> Vec<String> {
    let of = |device: &Device| {
        let name = device.name.clone();
        let keys = device.driver.settings().unused().into_iter();
        keys.map(move |key| format!("device[{name}].{key}: no point uses this entry"))
            .collect::<Vec<_>>()
    };
    config.live.devices.iter().flat_map(of).collect()
}

/// Finds pairs of devices that need a thing that only one device can have at a time. Examples are a
/// TCP port and an MQTT client id.
fn shared_claims(config: &Config) -> Vec<String> {
    let (mut owners, mut notes) = (HashMap::new(), Vec::new());
    for device in &config.live.devices {
        let Some((key, claim, fate)) = device.driver.settings().claim() else { continue };
        let name = &device.name;
        if let Some(other) = owners.get(&(key, claim.clone())) {
            notes.push(format!("device[{name}].{key}: device {other} also has {claim}; {fate}"));
        }
        owners.entry((key, claim)).or_insert(name);
    }
    notes
}

/// A point, the cells that it occupies in its device (such as register numbers), and a text that
/// describes these cells.
struct Spot {
    cells: Range<u32>,
    id: PointId,
    words: String,
}

/// Finds points that occupy the same cells, or cells that overlap. The points may belong to two
/// devices, for example if both devices use the same GPIO chip.
fn shared_places(config: &Config) -> Vec<String> {
    let mut all: BTreeMap<String, Vec<Spot>> = BTreeMap::new();
    for (index, device) in config.live.devices.iter().enumerate() {
        for (id, place) in device.driver.settings().locations(&config.live.points, index) {
            let driver::Location { within, cells, words } = place;
            all.entry(within).or_default().push(Spot { cells, id, words });
        }
    }
    let mut notes: Vec<_> = all.into_values().flat_map(|spots| meetings(config, spots)).collect();
    notes.sort();
    notes.into_iter().map(|(_, note)| note).collect()
}

/// Returns a note for each point whose cells overlap those of another point. The note has the key
/// of the point that is later in the file. The function first sorts `spots` by the start of the
/// cells. One pass is then enough: each point is compared with the earlier point whose cells reach
/// furthest.
fn meetings(config: &Config, mut spots: Vec<Spot>) -> Vec<(PointId, String)> {
    spots.sort_by_key(|spot| (spot.cells.start, spot.id));
    let (mut notes, mut furthest): (Vec<_>, Option<&Spot>) = (Vec::new(), None);
    for spot in &spots {
        if let Some(other) = furthest.filter(|other| other.cells.end > spot.cells.start) {
            notes.push(meeting(config, spot, other));
        }
        if furthest.is_none_or(|other| other.cells.end < spot.cells.end) {
            furthest = Some(spot);
        }
    }
    notes
}

/// Returns the note on two points whose cells overlap.
fn meeting(config: &Config, one: &Spot, two: &Spot) -> (PointId, String) {
    let (first, second) = if one.id < two.id { (one, two) } else { (two, one) };
    let other = &config.live.points[first.id].name;
    let key = key(config, &config.live.points[second.id]);
    let (words, theirs) = (&second.words, &first.words);
    let note = match second.cells == first.cells {
        true => format!("{key}.at: {words} also belongs to point {other}"),
        false => format!("{key}.at: {words} overlaps {theirs}, which belongs to point {other}"),
    };
    (second.id, note)
}

/// Returns the full key of a point for messages.
fn key(config: &Config, point: &Point) -> String {
    format!("device[{}].point[{}]", config.live.devices[point.device].name, point.name)
}

/// Finds names that a device publishes and that belong to no point and no `[[variable]]`.
fn unknown_names(config: &Config) -> Vec<String> {
    let points = config.live.points.iter().map(|(_, point)| &*point.name);
    let known: Vec<_> =
        points.chain(config.live.variables.iter().map(|(name, _)| &**name)).collect();
    let mut notes = Vec::new();
    for device in &config.live.devices {
        for (key, name) in device.driver.settings().shown() {
            let is_declared = || config.live.variables.iter().any(|(declared, _)| declared == name);
            if config.live.points.find(name).is_some() || is_declared() {
                continue;
            }
            let is_one_more = notes.len() >= MAX_HINTS;
            let near = if is_one_more { None } else { nearest(name, known.iter().copied()) };
            let hint = match near {
                Some(near) => format!("did you mean {near:?}?"),
                None => "its quality is bad until a program makes a variable with this name".into(),
            };
            let device = &device.name;
            notes.push(format!(
                "device[{device}].{key}: {name:?} is no point and no [[variable]]; {hint}"
            ));
        }
    }
    notes
}

/// Finds outputs that no program can write. Only with `grant = "none"` can there be such outputs.
fn unwritten_outputs(config: &Config) -> Vec<String> {
    if config.live.plugins.grant_all {
        return Vec::new();
    }
    let granted = config.live.programs.iter().filter_map(|(_, settings)| match &settings.outputs {
        Grant::Only(outputs) => Some(outputs),
        Grant::All => None,
    });
    let granted: std::collections::HashSet<_> = granted.flatten().copied().collect();
    let outputs = config.live.points.iter().filter(|(_, point)| point.direction == Direction::Out);
    let names = outputs.filter(|(id, _)| !granted.contains(id)).map(|(_, point)| &*point.name);
    let names: Vec<_> = names.collect();
    let note = format!(
        "plugins.grant: with \"none\", these outputs are always safe, because no [[plugin]] lists \
         them in `outputs`: {}",
        first_of(&names, MAX_NAMED)
    );
    if names.is_empty() { Vec::new() } else { vec![note] }
}

/// Finds variables that have the same name as a point.
fn double_names(config: &Config) -> Vec<String> {
    let double =
        config.live.variables.iter().filter(|(name, _)| config.live.points.find(name).is_some());
    let note = |name: &str| {
        format!(
            "variable[{name}]: a point has the same name, and `camshaft set`, `show` and `publish` \
             use the point, not the variable"
        )
    };
    double.map(|(name, _)| note(name)).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn check(text: &str, expected: &[&str]) {
        let config = crate::config::parse(text, Path::new("c.toml")).unwrap();
        assert_eq!(notes(&config), expected, "{text}");
    }

    fn point(name: &str, direction: &str, kind: &str, rest: &str) -> String {
        let ty = format!("type = '{kind}'");
        format!("[[device.point]]\nname = '{name}'\ndirection = '{direction}'\n{ty}\n{rest}\n")
    }

    fn device(name: &str, rest: &str, points: &[String]) -> String {
        format!("[[device]]\nname = '{name}'\n{rest}\n{}", points.concat())
    }

    const SIM: &str = "driver = 'sim'";

    /// A usual configuration has no notes.
    #[test]
    fn nothing_odd_is_no_note() {
        check("", &[]);
        let points = [point("a", "in", "bool", ""), point("b", "out", "bool", "")];
        check(&device("d", SIM, &points), &[]);
    }

    /// The example files have no notes.
    #[test]
    fn the_examples_are_as_they_should_be() {
        let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/config"));
        for file in std::fs::read_dir(folder).unwrap() {
            let path = file.unwrap().path();
            let text = std::fs::read_to_string(&path).unwrap();
            let config = crate::config::parse(&text, &path).unwrap();
            assert_eq!(notes(&config), Vec::<String>::new(), "{}", path.display());
        }
    }

    /// A device without points is noted, except for a device with other work.
    #[test]
    fn a_device_without_points_is_noted_unless_it_works() {
        let idle = "device[d]: the device has no points and no other work, so the device has no \
                    effect";
        check(&device("d", SIM, &[]), &[idle]);
        let bus = "driver = 'modbus'\nconnect = 'tcp://h'\nunit = [{ name = 'u', id = 1 }]\n";
        check(&device("d", bus, &[]), &[idle, "device[d].unit[u]: no point uses this entry"]);
        let beat = "heartbeat = { unit = 'u', address = 0, period = '1s' }";
        check(&device("d", &format!("{bus}{beat}"), &[]), &[]);
        let server = "driver = 'modbus_server'\nlisten = '127.0.0.1:1502'\n";
        check(&device("d", server, &[]), &[idle]);
        let broker = "driver = 'mqtt'\nconnect = 'mqtt://h'\nclient_id = 'c'\n";
        check(&device("d", broker, &[]), &[idle]);
        let will = "will = { topic = 't', payload = 'gone' }";
        check(&device("d", &format!("{broker}{will}"), &[]), &[]);
    }

    /// Returns the text of a bus with two groups, one of holding registers and one of coils. Each
    /// group has one point, and `points` are added.
    fn bus(points: &[String]) -> String {
        let unit = "unit = [{ name = 'u', id = 1 }]";
        let group = |table: &str| {
            format!("{{ name = '{table}', unit = 'u', table = '{table}', period = '1s' }}")
        };
        let groups = ["holding", "coil"].map(group).join(", ");
        let used = [
            point("used", "in", "bool", "at = { group = 'coil', address = 99 }"),
            point("used.too", "in", "u16", "at = { group = 'holding', address = 99 }"),
        ];
        let rest = format!("driver = 'modbus'\nconnect = 'tcp://h'\n{unit}\ngroup = [{groups}]");
        device("bus", &rest, &[&used, points].concat())
    }

    /// Two inputs with the same register are noted. A word and its single bits are not noted.
    #[test]
    fn two_inputs_in_one_place_are_noted() {
        let read = |name: &str, kind: &str, at: &str| {
            point(name, "in", kind, &format!("at = {{ group = 'holding', {at} }}"))
        };
        let note = |words: &str| format!("device[bus].point[b].at: {words}");
        let check = |a: &str, b: &str, expected: &[String]| {
            let [(kind, at), (other, too)] = [a, b].map(|it| it.split_once(' ').unwrap());
            let text = bus(&[read("a", kind, at), read("b", other, too)]);
            check(&text, &expected.iter().map(|note| &**note).collect::<Vec<_>>());
        };
        let (at, to) = (|n| format!("holding {n} of unit u"), "holding 10 to 11 of unit u");
        let same = note(&format!("{} also belongs to point a", at(10)));
        check("u16 address = 10", "i16 address = 10", &[same]);
        check("u16 address = 10", "u16 address = 11", &[]);
        let over = note(&format!("{} overlaps {to}, which belongs to point a", at(11)));
        check("u32 address = 10", "u16 address = 11", &[over]);
        let under = note(&format!("{to} overlaps {}, which belongs to point a", at(11)));
        check("u16 address = 11", "f32 address = 10", &[under]);
        // A status word is often configured twice: as a word, and as single bits.
        check("u16 address = 10", "bool address = 10, bit = 3", &[]);
        check("bool address = 10, bit = 4", "bool address = 10, bit = 3", &[]);
        let bit = note(&format!("bit 3 of {} also belongs to point a", at(10)));
        check("bool address = 10, bit = 3", "bool address = 10, bit = 3", &[bit]);
        let half = note(&format!("the high byte of {} also belongs to point a", at(10)));
        check("u8 address = 10, byte = 'hi'", "i8 address = 10, byte = 'hi'", &[half]);
    }

    /// An input may read the place of an output. Two outputs, or two inputs, with the same place
    /// are noted.
    #[test]
    fn an_output_that_is_read_back_is_none() {
        let write = point("a", "out", "u16", "safe = 0\nat = { unit = 'u', address = 10 }");
        let read = point("b", "in", "u16", "at = { group = 'holding', address = 10 }");
        check(&bus(&[write, read]), &[]);
        let file = |name, way| point(name, way, "u16", "at = { path = '/x' }");
        let out = |name| file(name, "out") + "safe = 0\n";
        check(&device("d", "driver = 'file'", &[out("a"), file("b", "in")]), &[]);
        let note = "device[d].point[b].at: /x also belongs to point a";
        check(&device("d", "driver = 'file'", &[out("a"), out("b")]), &[note]);
        check(&device("d", "driver = 'file'", &["a", "b"].map(|name| file(name, "in"))), &[note]);
    }

    /// A GPIO line has only one user, so each second use is noted.
    #[test]
    fn a_line_of_two_devices_is_noted_whatever_they_do_with_it() {
        let line = |name, way, at: &str| point(name, way, "bool", &format!("at = {{ {at} }}"));
        let both = |one: &str, two: &str| {
            let (one, two) = (line("a", "in", one), line("b", "out", two));
            device("c", "driver = 'gpio'", &[one]) + &device("d", "driver = 'gpio'", &[two])
        };
        let named = both("line = 'GPIO17'", "line = 'GPIO17'");
        check(&named, &["device[d].point[b].at: line \"GPIO17\" also belongs to point a"]);
        let numbered = both("chip = 'x', offset = 3", "chip = 'x', offset = 3");
        check(&numbered, &["device[d].point[b].at: line 3 of x also belongs to point a"]);
        check(&both("chip = 'x', offset = 3", "chip = 'y', offset = 3"), &[]);
    }

    /// Units and groups that no point uses are noted.
    #[test]
    fn what_is_never_used_is_noted() {
        let units = "unit = [{ name = 'u', id = 1 }, { name = 'v', id = 2 }]";
        let groups = "group = [{ name = 'g', unit = 'u', table = 'coil', period = '1s' }]";
        let bus = format!("driver = 'modbus'\nconnect = 'tcp://h'\n{units}\n{groups}");
        let (used, idle) =
            ("at = { group = 'g', address = 1 }", "device[d].unit[v]: no point uses this entry");
        check(&device("d", &bus, &[point("p", "in", "bool", used)]), &[idle]);
        let other = "at = { unit = 'u', diagnostic = 'online' }";
        let group = "device[d].group[g]: no point uses this entry";
        check(&device("d", &bus, &[point("p", "in", "bool", other)]), &[group, idle]);
    }

    /// Published names that do not exist are noted, with a similar name if there is one.
    #[test]
    fn names_that_nothing_has_are_noted() {
        let variable = "[[variable]]\nname = 'v'\ntype = 'int'\n";
        let plant = device("plant", SIM, &[point("tank.level", "in", "bool", "")]);
        let show = |names: &[&str]| {
            let entry = |(n, name): (usize, &&str)| {
                format!("{{ name = '{name}', table = 'discrete', address = {n} }}")
            };
            let list = names.iter().enumerate().map(entry).collect::<Vec<_>>().join(", ");
            let server = "driver = 'modbus_server'\nlisten = '127.0.0.1:1502'";
            let scada = device("scada", &format!("{server}\nshow = [{list}]"), &[]);
            format!("{variable}{plant}{scada}")
        };
        check(&show(&["tank.level", "v"]), &[]);
        let slip = "device[scada].show[1].name: \"tank.levl\" is no point and no [[variable]]; did \
                    you mean \"tank.level\"?";
        let made = "device[scada].show[2].name: \"recipe\" is no point and no [[variable]]; its \
                    quality is bad until a program makes a variable with this name";
        check(&show(&["v", "tank.levl", "recipe"]), &[slip, made]);
        let broker = "driver = 'mqtt'\nconnect = 'mqtt://h'\nclient_id = 'c'\n";
        let publish = "publish = [{ name = 'tank.levl', topic = 't' }]";
        let slip = "device[b].publish[0].name: \"tank.levl\" is no point and no [[variable]]; did \
                    you mean \"tank.level\"?";
        check(&(plant + &device("b", &format!("{broker}{publish}"), &[])), &[slip]);
    }

    /// Two servers on one port and two clients with one client id are noted.
    #[test]
    fn what_two_devices_claim_is_noted() {
        let server = "driver = 'modbus_server'\nlisten = '127.0.0.1:1502'\nshow = []";
        let point = |name| {
            point(name, "in", "bool", "at = { table = 'coil', address = 0, expires = 'never' }")
        };
        let two = |a: &str, b: &str| device("a", a, &[point("p")]) + &device("b", b, &[point("q")]);
        check(
            &two(server, server),
            &["device[b].listen: device a also has 127.0.0.1:1502; only one of the two devices \
                 gets the port"],
        );
        check(&two(server, &server.replace("1502", "1503")), &[]);
        check(&two(&server.replace("1502", "0"), &server.replace("1502", "0")), &[]);
        let broker = "driver = 'mqtt'\nconnect = 'mqtt://h'\nclient_id = 'c'\n\
                      birth = { topic = 't', payload = 'up' }";
        let note = "device[b].client_id: device a also has \"c\" at mqtt://h; when one \
                    of the two devices connects, the broker disconnects the other one";
        check(&(device("a", broker, &[]) + &device("b", broker, &[])), &[note]);
    }

    /// All outputs that no program can write are in one note.
    #[test]
    fn outputs_that_nobody_can_write_are_noted_once() {
        let outputs =
            |n| (0..n).map(|n| point(&format!("o{n}"), "out", "bool", "")).collect::<Vec<_>>();
        let plugin = "[[plugin]]\nname = 'p'\noutputs = ['o0']\n";
        let none = format!("[plugins]\ngrant = 'none'\n{plugin}");
        check(&(none.clone() + &device("d", SIM, &outputs(1))), &[]);
        check(&(plugin.to_owned() + &device("d", SIM, &outputs(3))), &[]);
        let note = "plugins.grant: with \"none\", these outputs are always safe, because no \
                    [[plugin]] lists them in `outputs`: o1, o2";
        check(&(none.clone() + &device("d", SIM, &outputs(3))), &[note]);
        let many = "plugins.grant: with \"none\", these outputs are always safe, because no \
                    [[plugin]] lists them in `outputs`: o1, o2, o3, o4, o5, o6, o7, o8 and 2 more";
        check(&(none + &device("d", SIM, &outputs(11))), &[many]);
    }

    /// A variable with the name of a point is noted.
    #[test]
    fn a_variable_with_a_points_name_is_noted() {
        let variable = "[[variable]]\nname = 'p'\ntype = 'int'\n";
        let note = "variable[p]: a point has the same name, and `camshaft set`, `show` and \
                    `publish` use the point, not the variable";
        check(&(variable.to_owned() + &device("d", SIM, &[point("p", "in", "bool", "")])), &[note]);
    }
}
