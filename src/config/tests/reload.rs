//! Tests of a reload: a file is read while the points of another file are in use.
//!
//! The tests check which changes are live, and that programs never use an id or an address of
//! another point by mistake.

use super::*;
use crate::process::image::MAX_POINTS;

fn after(before: &Config, text: &str) -> Result<Config, Problems> {
    let env = |name: &str| (name == "HOME").then(|| "/home/jo".into());
    parse_with(text, Path::new("etc/c.toml"), &before.live.points, &env)
}

/// Reads `text` after `before`, and takes over the live changes. Returns the new configuration, the
/// live changes, and the changes that wait for a restart.
fn adopt(before: &Config, text: &str) -> (Config, Vec<String>, Vec<String>) {
    let new = after(before, text).unwrap_or_else(|problems| panic!("{problems}\n{text}"));
    let changes = changes(before, &new);
    let (live, fixed): (Vec<_>, Vec<_>) = changes.iter().partition(|change| change.is_live());
    let words = |all: Vec<&Change>| all.iter().map(ToString::to_string).collect();
    let mut config = before.clone();
    config.adopt(&new, &changes);
    (config, words(live), words(fixed))
}

fn numbers(config: &Config) -> Vec<(u16, &str, u32)> {
    config.live.points.iter().map(|(id, point)| (id.0, &*point.name, point.byte)).collect()
}

const A: &str = "name = 'a', direction = 'in', type = 'u8'";
const B: &str = "name = 'b', direction = 'in', type = 'u8', address = 1";
const C: &str = "name = 'c', direction = 'in', type = 'u8', address = 2";

/// A point has the same id as long as the daemon runs. The id of a removed point is not used again.
#[test]
fn points_keep_their_numbers_and_none_is_given_twice() {
    let first = good(&plant(&[A, B]));
    let (second, live, fixed) = adopt(&first, &plant(&[A, C]));
    assert_eq!((live, fixed), (vec!["device[d].points changed".to_string()], vec![]));
    assert_eq!(numbers(&second), [(0, "a", 0), (2, "c", 2)]);
    let text = plant(&[B, A, C]) + "[[plugin]]\nname = 'p'\ninputs = ['b', 'c']\n";
    let (third, ..) = adopt(&second, &text);
    // A program may have asked for the id of the point before its removal, and may use this id
    // later.
    assert_eq!(numbers(&third), [(0, "a", 0), (1, "b", 1), (2, "c", 2)]);
    let granted = vec![PointId(1), PointId(2)];
    assert_eq!(third.settings("p").inputs, Grant::Only(granted), "grants go by the numbers");
    // The last point is removed, but its id is not used for another point.
    let (fourth, ..) = adopt(&third, &plant(&[A, B]));
    assert_eq!(fourth.live.points.ids(), 3);
    const D: &str = "name = 'd', direction = 'in', type = 'u8', address = 2";
    let (fifth, ..) = adopt(&fourth, &plant(&[A, B, D]));
    assert_eq!(numbers(&fifth), [(0, "a", 0), (1, "b", 1), (3, "d", 2)]);
    let (sixth, ..) = adopt(&fifth, &plant(&[A, B, C]));
    assert_eq!(numbers(&sixth), [(0, "a", 0), (1, "b", 1), (2, "c", 2)]);
}

/// One reload removes a point, and the next reload adds the point again. Between the two reloads,
/// programs may use the address of the point.
#[test]
fn a_point_that_comes_back_elsewhere_or_otherwise_keeps_all_back() {
    let base = good(&plant(&[A, B]));
    let (without, live, _) = adopt(&base, &plant(&[A]));
    assert_eq!(live, ["device[d].points changed"]);
    let back = |point: &str| {
        let (config, live, fixed) = adopt(&without, &plant(&[A, point]));
        let points = fixed.into_iter().filter(|change| change.starts_with("point")).collect();
        (config.live.points.len(), live.len(), points)
    };
    let b = |kind: &str, at: &str| {
        format!("name = 'b', direction = 'in', type = {kind}, address = {at}")
    };
    let waits = |keys: &[&str]| {
        let keys = keys.iter().map(|key| format!("point[{key} changed"));
        (1, 0, keys.collect::<Vec<_>>())
    };
    assert_eq!(back(B), (2, 1, vec![]));
    assert_eq!(back(&b("'u8'", "2")), waits(&["b].address"]));
    assert_eq!(back(&b("'i8'", "1")), waits(&["b].type"]));
    let out = "name = 'b', direction = 'out', type = 'u8', address = 1, safe = 0";
    assert_eq!(back(out), waits(&["b].direction"]));
    // Programs that use the old address then write to the point that now has this address.
    assert_eq!(back(&B.replace("'b'", "'c'")), (2, 1, vec![]));
    let c = |at: &str| b("'u16'", at).replace("'b'", "'c'");
    assert_eq!(back(&c("1")), waits(&["c].address"]));
    assert_eq!(back(&c("2")), (2, 1, vec![]));
}

/// If a point changes its address, all changes except the log level wait for a restart.
#[test]
fn a_point_that_would_move_keeps_all_back() {
    let base = plant(&[A, "name = 'x', direction = 'in', type = 'u8'"]);
    let other = plant(&["name = 'n', direction = 'in', type = 'u8'", A]);
    let text = other + "[scan]\nperiod = '20ms'\n[log]\nlevel = 'warn'\n";
    let (config, live, fixed) = adopt(&good(&base), &text);
    assert_eq!(live, ["log.level changed"]);
    assert!(fixed.contains(&"point[a].address changed".to_string()), "{fixed:?}");
    assert!(fixed.contains(&"scan.period changed".to_string()), "{fixed:?}");
    assert_eq!(numbers(&config), [(0, "a", 0), (1, "x", 1)]);
    assert_eq!(config.live.scan.period, Duration::from_millis(10));
    let (_, _, fixed) = adopt(
        &good(&base),
        &base.replace("'in', type = 'u8' },\n]", "'out', type = 'i8', safe = 0 },\n]"),
    );
    let expected =
        ["point[x].direction changed", "point[x].type changed", "point[x].address changed"];
    assert_eq!(fixed[1..], expected);
}

/// A new point may use the address of a removed point only if direction, type and address are
/// equal.
#[test]
fn a_new_point_may_lie_where_one_was_only_if_it_is_the_same_by_address() {
    let base = good(&plant(&[A, B]));
    let renamed = B.replace("'b'", "'c'");
    let (config, live, fixed) = adopt(&base, &plant(&[A, &renamed]));
    assert_eq!((live, fixed), (vec!["device[d].points changed".to_string()], vec![]));
    assert_eq!(numbers(&config), [(0, "a", 0), (2, "c", 1)]);
    for (kind, address) in [("'u16'", "0"), ("'i8'", "1"), ("'bool'", "\"1.3\""), ("'u32'", "0")] {
        let other = format!("name = 'c', direction = 'in', type = {kind}, address = {address}");
        let (_, live, fixed) = adopt(&base, &plant(&[&other]));
        assert!(
            live.is_empty() && fixed.contains(&"point[c].address changed".to_string()),
            "{fixed:?}"
        );
    }
}

/// A new order of devices and a new size of an image are differences.
#[test]
fn the_order_and_the_bytes_of_devices_are_changes() {
    let device = |name: &str, byte: u8, more: &str| {
        format!(
            "[[device]]\nname = '{name}'\ndriver = 'sim'\n{more}point = [\n\
             {{ name = '{name}', direction = 'in', type = 'u8', address = {byte} }},\n]\n"
        )
    };
    let base = good(&(device("a", 0, "") + &device("b", 8, "")));
    let (config, live, fixed) = adopt(&base, &(device("b", 8, "") + &device("a", 0, "")));
    assert_eq!((live, fixed), (vec!["device.order changed".to_string()], vec![]));
    assert_eq!(config.live.points.devices(), ["b", "a"]);
    let longer = device("a", 0, "") + &device("b", 8, "input_bytes = 16\n");
    let (config, live, fixed) = adopt(&base, &longer);
    assert_eq!((live, fixed), (vec!["device.bytes changed".to_string()], vec![]));
    assert!(
        config.live.points.image_bytes(Direction::In) > base.live.points.image_bytes(Direction::In)
    );
}

/// Devices are added and removed live, and the points of the other devices have the same ids.
#[test]
fn devices_come_and_go_and_only_those_that_changed_are_named() {
    let second = "[[device]]\nname = 'e'\ndriver = 'sim'\npoint = [\n\
                  { name = 'y', direction = 'in', type = 'u8', address = 9 },\n]\n";
    let base = good(&(plant(&[A]) + second));
    let (config, live, fixed) = adopt(&base, second);
    assert_eq!((live, fixed), (vec!["device[d] removed".to_string()], vec![]));
    assert_eq!(
        (config.live.points.devices(), numbers(&config)),
        (&["e".to_string()][..], vec![(1, "y", 9)])
    );
    assert_eq!(config.live.points[PointId(1)].device, 0);
    let scaled = plant(&["name = 'a', direction = 'in', type = 'u8', scale = 2, unit = 'V'"]);
    let (config, live, _) = adopt(&config, &format!("{scaled}{second}"));
    assert_eq!(live, ["device[d] added"]);
    assert_eq!(numbers(&config), [(0, "a", 0), (1, "y", 9)]);
    let unscaled = plant(&["name = 'a', direction = 'in', type = 'u8', unit = 'V'"]);
    let (_, live, fixed) = adopt(&config, &format!("{unscaled}{second}"));
    assert_eq!((live, fixed), (vec!["device[d].points changed".to_string()], vec![]));
}

/// Ids are not used again, so after many reloads no id is free. The daemon must then be restarted.
#[test]
fn numbers_run_out_in_the_end() {
    let many = |from: usize, to: usize| {
        let points =
            (from..to).map(|n| format!("{{ name = 'p{n}', direction = 'in', type = 'bool' }},\n"));
        format!(
            "[[device]]\nname = 'd'\ndriver = 'sim'\npoint = [\n{}]\n",
            points.collect::<String>()
        )
    };
    let config = good(&many(0, MAX_POINTS - 1));
    let (config, ..) = adopt(&config, &many(MAX_POINTS - 1, MAX_POINTS));
    let problem = after(&config, &many(MAX_POINTS, MAX_POINTS + 1)).unwrap_err().to_string();
    assert!(problem.contains("including removed points"), "{problem}");
    assert!(after(&config, &many(0, 1)).is_ok(), "it has its number from before");
    assert!(after(&config, &many(MAX_POINTS - 1, MAX_POINTS)).is_ok());
}
