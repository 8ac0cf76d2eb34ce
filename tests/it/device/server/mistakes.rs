//! What is wrong in a server's table of the configuration is told with its place.
//!
//! One mistake at a time is made in a configuration that is right. What can be wrong with any
//! device is in `src/config`.

use super::SCADA;
use crate::device::reports;

#[test]
fn mistakes_name_their_place() {
    let check = |from: &str, to: &str, expected: &str| {
        assert!(SCADA.contains(from), "{from}");
        let text = SCADA.replacen(from, to, 1);
        let problems = camshaft::config::parse(&text, std::path::Path::new("s.toml")).unwrap_err();
        assert!(reports(&problems.to_string(), expected), "{problems}\nnot: {expected}");
    };
    check(
        "address = 2, type",
        "address = 1, type",
        "device[scada].show[1].address: found input 1, which show[0] (tank.level) occupies",
    );
    check(
        "bit = 15",
        "bit = 0",
        "show[4].address: found input 5, which show[3] (motor.run) occupies",
    );
    check(
        "address = 16, type = \"f64\"",
        "address = 65533, type = \"f64\"",
        "show[8].address: found 65533, where the value would end after 65535",
    );
    check(
        "quality = 2 }",
        "quality = 1 }",
        "show[10].quality: found discrete 1, which show[10] (door) occupies",
    );
    check(
        "type = \"i32\"",
        "order = \"ABCD\"",
        "show[7].type: expected the type that the value has in registers, found nothing",
    );
    check(
        "type = \"i32\"",
        "type = \"i32\", order = \"AB\"",
        "show[7].order: expected ABCD, CDAB, BADC, DCBA, found \"AB\" for a i32",
    );
    check(
        "table = \"discrete\", address = 0",
        "table = \"discrete\", address = 0, type = \"u16\"",
        "show[9].type: found a u16 in a table of bits",
    );
    check("scale = 0.1 }", "scale = 0 }", "show[2].scale: found scale 0");
    check(
        "address = 4, type = \"i16\", scale = 0.1",
        "address = 4, type = \"bool\", bit = 1",
        "show[2].type: found bool for tank.level, which is a f64",
    );
    check("quality = 32,", "", "show[13].on_bad: found \"keep\" without `quality`");
    check(
        "on_bad = -1",
        "on_bad = 40000",
        "show[14].on_bad: expected a value that fits the type of this entry, found 40000",
    );
    check("on_bad = -1", "on_bad = \"zero\"", "show");
    check(
        "table = \"coil\", address = 1,",
        "table = \"coil\", address = 0,",
        "point[scada.stop].at.address: found coil 0, which the command scada.start occupies",
    );
    check(
        "{ name = \"nobody\", table = \"input\", address = 40, type = \"u16\" }",
        "{ name = \"door\", table = \"holding\", address = 106, type = \"bool\", bit = 1 }",
        "point[scada.auto].at.address: found holding 106, which show[17] (door) occupies",
    );
    check(
        "expires = \"700ms\"",
        "expires = \"1ms\"",
        "point[scada.pulse].at.expires: expected from 10ms to 1day, found 1ms",
    );
    check("expires = \"700ms\", ", "", "point[scada.pulse].at.expires: found nothing");
    check("\"700ms\"", "\"soon\"", "\"never\" or a duration such as \"10s\"");
    check(
        "max = 100,",
        "max = 10000,",
        "point[scada.setpoint].at.max: expected a number that fits type u16, found 10000",
    );
    check(
        "min = -1.5",
        "min = 1.6",
        "point[scada.ramp].at.min: expected at most 1.5, the value of `max`, found 1.6",
    );
    check(
        "table = \"coil\", address = 0,",
        "table = \"input\", address = 0,",
        "point[scada.start].at.table: found \"input\", which cannot be written",
    );
    check(
        "\"scada.start\", direction = \"in\"",
        "\"scada.start\", direction = \"out\"",
        "point[scada.start].at: expected direction = \"in\", found an output",
    );
    check(
        "max_clients = 3",
        "max_clients = 0",
        "device[scada].max_clients: expected from 1 to 64, found 0",
    );
    check("\"60s\"", "\"1ms\"", "device[scada].idle: expected from 100ms to 1day, found 1ms");
    check(
        "unit = 1",
        "unit = 1\nallow = [\"10.0.0.0/33\"]",
        "\"10.0.0.0/33\" is not an address or a network",
    );
    check("127.0.0.1:0", "localhost", "device[scada].listen");
    check("unit = 1", "units = 1", "did you mean `unit`?");
}
