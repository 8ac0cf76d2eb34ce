//! Mistakes in the configuration, and the examples, which have none.

use std::path::Path;

use camshaft::config;

use super::{command, toml};
use crate::device::reports;

#[test]
fn the_examples_are_right() {
    for name in ["mqtt.toml", "sparkplug.toml"] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("config").join(name);
        let text = std::fs::read_to_string(&path).unwrap();
        config::parse(&text, &path).unwrap_or_else(|problems| panic!("{problems}"));
    }
}

#[test]
fn mistakes_have_a_remedy() {
    fn check(from: &str, to: &str, expected: &str) {
        let keys = r#"
        will = { topic = "status", payload = "off" }
        publish = [{ name = "tank.level", topic = "level", deadband = 0.5 }]"#;
        let good = toml(1883, keys, &command("speed", "f64", "1s", ""));
        let parse = |text: &str| config::parse(text, Path::new("/etc/m.toml"));
        parse(&good).unwrap_or_else(|problems| panic!("{problems}"));
        assert!(good.contains(from), "{from}");
        let found = parse(&good.replacen(from, to, 1)).unwrap_err().to_string();
        assert!(reports(&found, expected), "{found}\nnot: {expected}");
    }
    check("mqtt://", "http://", "connect: expected mqtt://, found \"http://127.0.0.1:1883\"");
    check("mqtt://", "mqtts://", "ca: expected the file with the certificates, found nothing");
    check(
        "keep_alive = \"1s\"",
        "version = \"4\"",
        "version: expected `5` or `3.1.1`, found unknown variant `4`",
    );
    check("keep_alive = \"1s\"", "keep_alive = \"10ms\"", "expected from 1s to 65535s");
    check(
        "keep_alive = \"1s\"",
        "ca = \"ca.pem\"",
        "ca: expected mqtts:// in `connect`, found a file",
    );
    check("\"bench\"", "\"\"", "client_id: found 0 bytes");
    check("topic = \"level\"", "topic = \"level/#\"", "publish[0].topic: found \"level/#\"");
    check("topic = \"level\",", "", "publish[0].topic: found \"\"");
    check("topic = \"level\"", "topic = \"set/speed\"", "point[speed].at.topic: found");
    check("deadband = 0.5", "deadband = -1.0", "publish[0].deadband: found -1.0");
    check("deadband = 0.5", "deadband = 1, every = \"1s\"", "publish[0].every");
    check("deadband = 0.5", "refresh = \"1ms\"", "publish[0].refresh: found 1ms");
    check("deadband = 0.5", "qos = 2", "publish[0].qos: expected 0 or 1, found 2");
    check("deadband = 0.5", "metric = \"a\"", "publish[0].metric");
    check("topic = \"status\"", "topic = \"$SYS/x\"", "will.topic: found \"$SYS/x\"");
    check("expires = \"1s\"", "expires = \"0s\"", "point[speed].at.expires: found 0ns");
    check("expires = \"1s\"", "expire = \"1s\"", "did you mean `expires`?");
    check(", expires = \"1s\"", "", "point[speed].at.expires: found nothing");
    let out = "safe = 0, direction = \"out\"";
    check("direction = \"in\"", out, "point[speed].at: expected an input, found an output");
    for path in ["", ".a", "a.", "a..b", "a\\tb"] {
        let json = format!("expires = \"1s\", json = \"{path}\"");
        check("expires = \"1s\"", &json, &format!("point[speed].at.json: found \"{path}\""));
    }
    let node = "sparkplug = { group = \"g/h\", node = \"n\" }";
    check("will = { topic = \"status\", payload = \"off\" }", node, "sparkplug.group: found");
    let node = "sparkplug = { group = \"g\", node = \"n\" }";
    check("will = { topic = \"status\", payload = \"off\" }", node, "at.topic: found a value");
}

#[test]
fn points_of_one_topic_have_one_subscription() {
    let parse = |keys: &str| {
        let point = |name: &str, keys: &str| {
            let at = format!("topic = \"t\", expires = \"1s\", json = {name:?}{keys}");
            format!("{{ name = {name:?}, direction = \"in\", type = \"f64\", at = {{ {at} }} }},")
        };
        let points = point("a", "") + &point("b", keys);
        config::parse(&toml(1883, "", &points), Path::new("/etc/m.toml"))
    };
    for good in ["", ", qos = 1", ", retained = false"] {
        parse(good).unwrap_or_else(|problems| panic!("{problems}"));
    }
    for (keys, expected) in [
        (", qos = 0", "point[b].at.qos: expected 1, as for a of the same topic, found 0"),
        (
            ", retained = true",
            "point[b].at.retained: expected false, as for a of the same topic, found true",
        ),
    ] {
        let found = parse(keys).unwrap_err().to_string();
        assert!(found.contains(expected), "{found}\nnot: {expected}");
    }
}

#[test]
fn variables_share_the_topics_of_points() {
    let parse = |set: &str, keys: &str| {
        let keys = format!("set = [{{ name = \"v\", topic = \"t\" {set} }}]\n{keys}");
        let at = "topic = \"t\", expires = \"1s\", qos = 0";
        let point =
            format!("{{ name = \"a\", direction = \"in\", type = \"f64\", at = {{ {at} }} }}");
        config::parse(&toml(1883, &keys, &point), Path::new("/etc/m.toml"))
    };
    parse(", qos = 0, json = \"a.b\"", "").unwrap_or_else(|problems| panic!("{problems}"));
    for (set, keys, expected) in [
        ("", "", "set[0].qos: expected 0, as for a of the same topic, found 1"),
        (", qos = 0, json = \"\"", "", "set[0].json: found \"\""),
        (", qos = 2", "", "set[0].qos: expected 0 or 1, found 2"),
        (", expires = \"1s\"", "", "expires"),
        ("", "publish = [{ name = \"p\", topic = \"t\" }]", "point[a].at.topic: found \"t\""),
    ] {
        let found = parse(set, keys).unwrap_err().to_string();
        assert!(reports(&found, expected), "{found}\nnot: {expected}");
    }
    let keys = "sparkplug = { group = \"g\", node = \"n\" }
        set = [{ name = \"v\", topic = \"t\" }]";
    let found = config::parse(&toml(1883, keys, ""), Path::new("/etc/m.toml"));
    assert!(reports(&found.unwrap_err().to_string(), "set: found a list"));
}

#[test]
fn the_metrics_of_sparkplug_itself_are_taken() {
    let parse = |publish: &str, at: &str| {
        let keys = format!(
            "sparkplug = {{ group = \"g\", node = \"n\" }}\npublish = [{{ name = \"a\" {publish} }}]"
        );
        let speed = format!(
            "{{ name = \"speed\", direction = \"in\", type = \"u8\", at = {{ expires = \"1s\" {at} }} }}"
        );
        config::parse(&toml(1883, &keys, &speed), Path::new("/etc/m.toml"))
    };
    parse("", "").unwrap_or_else(|problems| panic!("{problems}"));
    let found = parse("", ", json = \"a\"").unwrap_err().to_string();
    assert!(reports(&found, "point[speed].at.json: found a value"), "{found}");
    for taken in ["", "bdSeq", "Node Control/Rebirth"] {
        let metric = format!(", metric = {taken:?}");
        let found = parse(&metric, "").unwrap_err().to_string();
        assert!(reports(&found, &format!("publish[0].metric: found {taken:?}")), "{found}");
        let found = parse("", &metric).unwrap_err().to_string();
        let expected = format!(
            "point[speed].at.metric: expected a name other than bdSeq and Node Control/Rebirth, \
             which Sparkplug uses, found {taken:?}"
        );
        assert!(found.contains(&expected), "{found}");
    }
    let found = parse("", ", metric = \"a\"").unwrap_err().to_string();
    assert!(reports(&found, "publish[0].metric: found \"a\", which another metric has"), "{found}");
}
