//! What is wrong with a configuration is said before anything is touched, with its place.

use std::path::Path;

use crate::device::reports;

const GOOD: &str = r#"
[[device]]
name = "bus"
driver = "modbus"
connect = "rtu:///dev/ttyUSB0"
baud = 9600
unit = [{ name = "vfd", id = 3, turnaround = "5ms" }]
group = [{ name = "fast", unit = "vfd", table = "holding", period = "100ms", max = 16 }]
heartbeat = { unit = "vfd", address = 9, period = "1s" }
point = [
  { name = "speed", direction = "in", type = "i16", at = { group = "fast", ref = "48452" } },
  { name = "set", direction = "out", type = "u32", safe = 0, at = { unit = "vfd", address = 0x2000 } },
  { name = "online", direction = "in", type = "bool", at = { unit = "vfd", diagnostic = "online" } },
]
"#;

fn problems(text: &str) -> String {
    camshaft::config::parse(text, Path::new("bus.toml"))
        .map_or_else(|e| e.to_string(), |_| String::new())
}

#[test]
fn mistakes_name_their_place_and_a_remedy() {
    assert_eq!(problems(GOOD), "");
    let check = |from: &str, to: &str, expected: &str| {
        assert!(GOOD.contains(from), "{from}");
        let found = problems(&GOOD.replacen(from, to, 1));
        assert!(reports(&found, expected), "{found}\nnot: {expected}");
    };
    check("rtu:///dev/ttyUSB0", "/dev/ttyUSB0", "device[bus].connect: found \"/dev/ttyUSB0\"");
    check("rtu:///dev/ttyUSB0", "tcp://plc", "device[bus].baud: found `connect = \"tcp://plc\"`");
    check("9600", "96", "device[bus].baud: expected from 300 to 4000000, found 96");
    check("id = 3", "id = 248", "device[bus].unit[vfd].id: expected from 1 to 247, found 248");
    check("id = 3", "id = 256", "device[bus]");
    check("turnaround", "turnaruond", "did you mean `turnaround`?");
    check("5ms", "20s", "unit[vfd].turnaround: expected from 0s to 10s, found 20s");
    check("unit = \"vfd\", table", "unit = \"vdf\", table", "group[fast].unit: found \"vdf\"");
    check("max = 16", "max = 126", "group[fast].max: expected from 4 to 125, found 126");
    check("100ms", "0s", "group[fast].period: expected from 1ms to 1h, found 0s");
    check("group = \"fast\"", "group = \"slow\"", "point[speed].at.group: found \"slow\"");
    check("48452", "38452", "point[speed].at.ref: found \"38452\", which is in table input");
    check(
        "ref = \"48452\"",
        "ref = \"48452\", address = 1",
        "point[speed].at.ref: found both `ref` and `addr",
    );
    check("ref = \"48452\"", "address = 1, order = \"ABCD\"", "at.order: found \"ABCD\" for a i16");
    check("ref = \"48452\"", "address = 1, single = true", "at.single: found this key at an inp");
    check("0x2000 }", "0xffff }", "point[set].at.address: found 65535");
    check("0x2000 }", "0x2000, single = true }", "at.single: found `single` for 2 registers");
    check("0x2000 }", "0x2000, write = \"cyclic\" }", "point[set].at.refresh: found nothing");
    check("0x2000 }", "8 }", "point[set].at.address: found holding 9, which the heartbeat writes");
    check("diagnostic = \"online\"", "diagnostic = \"crc\"", "point[online].at.diagnostic: found");
    // In the line where it is.
    check("rtu:///dev/ttyUSB0", "/dev/ttyUSB0", "bus.toml:5: device[bus].connect: found");
    check("100ms", "0s", "bus.toml:8: device[bus].group[fast].period: found 0s");
    check("\"modbus\"", "\"modbus_tcp\"", "bus.toml:4: device[bus].driver: found \"modbus_tcp\"");
    check("\"modbus\"", "\"serial\"", "expected one of sim, file, gpio, modbus,");
    let bare = ", at = { group = \"fast\", ref = \"48452\" }";
    check(bare, "", "device[bus].point[speed].at: expected { group, found nothing");
}

/// Gateways take two or three connections.
#[test]
fn a_bus_is_one_device() {
    let second = GOOD.replace("\"bus\"", "\"second\"");
    let second = ["speed", "set", "online"].iter().fold(second, |toml, name| {
        toml.replace(&format!("name = \"{name}\""), &format!("name = \"other.{name}\""))
    });
    let other = second.replace("ttyUSB0", "ttyUSB1");
    assert_eq!(problems(&format!("{GOOD}{other}")), "");
    let found = problems(&format!("{GOOD}{second}"));
    assert!(reports(
        &found,
        "device[second].connect: found rtu:///dev/ttyUSB0, which device bus uses already"
    ));
    assert!(
        found.contains("expected a connection that no other device uses, or one device"),
        "{found}"
    );
}

#[test]
fn a_serial_line_is_not_planned_beyond_what_it_can_carry() {
    // At 9600 Bd one register takes 17 characters of 11 bits and two gaps: 27.5 ms with the pause.
    let faster = |period: &str| problems(&GOOD.replace("100ms", period));
    assert_eq!(faster("50ms"), "");
    let found = faster("30ms");
    assert!(found.contains("device[bus].group: expected a load of at most 80 %"), "{found}");
    assert!(found.contains("% on the serial line"), "{found}");
}
