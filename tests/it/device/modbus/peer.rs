//! Against pymodbus: over TCP, on a serial line made of two terminals, and over TCP as on a line.
//!
//! What a unit says here is right, though late or a refusal; what is wrong by a seed is in
//! `../weather.rs`.

use std::net::TcpListener;
use std::time::Duration;

use camshaft::driver::Fault;
use camshaft::process::image::{Quality, Value};
use serde_json::{Value as Json, json};

use super::super::peer::Script;
use super::{Bench, GOOD, bench, fact, state};

/// A server in a process of its own, `tests/peers/modbus.py`.
struct Peer {
    script: Script,
    url: String,
}

impl Peer {
    /// Starts one that is reached by `tcp`, `rtu+tcp` or `rtu`.
    fn start(kind: &str) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        Self::start_at(kind, port)
    }

    fn start_at(kind: &str, port: u16) -> Self {
        let (script, url) = Script::serving("modbus.py", kind, port);
        Self { script, url }
    }

    fn tell(&mut self, order: &Json) -> Json {
        self.script.ask(order)
    }

    fn set(&mut self, table: &str, address: u16, values: Json) {
        self.tell(&json!({ "set": values, "unit": 1, "table": table, "address": address }));
    }

    fn get(&mut self, table: &str, address: u16, count: usize) -> Json {
        self.tell(&json!({ "get": count, "unit": 1, "table": table, "address": address }))
    }

    fn mood(&mut self, unit: u8, mood: Json) {
        self.tell(&json!({ "mood": mood, "unit": unit }));
    }

    /// Function codes of all requests to a unit until now.
    fn functions(&mut self, unit: u8) -> Vec<u64> {
        let asked = self.tell(&json!({ "asked": true }));
        let ours = asked.as_array().unwrap().iter().filter(|asked| asked[0] == unit);
        ours.map(|asked| asked[1].as_u64().unwrap()).collect()
    }
}

/// Two units with a register each that nobody writes, one that the first is to have, and how the
/// second can be reached.
const UNITS: &str = r#"
    timeout = "80ms"
    unit = [
      { name = "first", id = 1, probe = "500ms" },
      { name = "second", id = 2, probe = "500ms" },
    ]
    group = [
      { name = "one", unit = "first", table = "holding", period = "5ms" },
      { name = "two", unit = "second", table = "holding", period = "5ms" },
    ]
    point = [
      { name = "a", direction = "in", type = "u16", at = { group = "one", address = 100 },
        stale_after = "300ms", bad_after = "1s" },
      { name = "b", direction = "in", type = "u16", at = { group = "one", ref = "40201" } },
      { name = "two", direction = "in", type = "u16", at = { group = "two", address = 300 } },
      { name = "out", direction = "out", type = "u16", safe = 77,
        at = { unit = "first", address = 400, readback = true } },
      { name = "coil", direction = "out", type = "bool", safe = true,
        at = { unit = "first", address = 7 } },
      { name = "two.online", direction = "in", type = "bool",
        at = { unit = "second", diagnostic = "online" } },
    ]
"#;

/// A bench with both units behind this peer. A serial line carries less.
fn units(peer: &Peer, rest: &str) -> Bench {
    if !peer.url.starts_with("rtu://") {
        return bench(&peer.url, rest);
    }
    let slower = rest.replace("period = \"5ms\"", "period = \"20ms\"");
    bench(&peer.url, &format!("baud = 115200\n{slower}"))
}

fn is_all_read(bench: &Bench) -> bool {
    [("a", 100), ("b", 200), ("two", 300)]
        .into_iter()
        .all(|(name, value)| bench.input(name) == (Value::Int(value), GOOD))
}

#[test]
#[ignore = "needs pymodbus"]
fn values_and_outputs_on_every_kind_of_line() {
    for kind in ["tcp", "rtu", "rtu+tcp"] {
        let mut peer = Peer::start(kind);
        let mut bench = units(&peer, UNITS);
        // Nothing is written before the scan's first cycle, however often it was read.
        while peer.functions(1).len() < 20 {
            std::thread::sleep(Duration::from_millis(5));
        }
        assert!(peer.functions(1).iter().all(|function| *function == 3), "{kind}");
        bench.until("all is read", |bench| is_all_read(bench));
        bench.until("safe outputs are there", |bench| bench.driver.is_confirmed());
        assert_eq!(peer.get("holding", 400, 1), json!([77]), "{kind}");
        assert_eq!(peer.get("coil", 6, 3), json!([false, true, false]), "{kind}");
        bench.output("out", Value::Int(65535));
        bench.output("coil", Value::Bool(false));
        bench.until("they are there", |bench| bench.driver.is_confirmed());
        assert_eq!(peer.get("holding", 400, 1), json!([65535]), "{kind}");
        assert_eq!(peer.get("coil", 7, 1), json!([false]), "{kind}");
        peer.set("holding", 100, json!([4711]));
        bench.until("it changes", |bench| bench.input("a") == (Value::Int(4711), GOOD));
    }
}

#[test]
#[ignore = "needs pymodbus"]
fn every_type_in_every_order_is_what_pymodbus_holds() {
    let cases: [(&str, &str, &[&str], Json); 8] = [
        ("u16", "UINT16", &["AB", "BA"], json!(0x1234)),
        ("i16", "INT16", &["AB", "BA"], json!(-12345)),
        ("u32", "UINT32", &["ABCD", "CDAB", "BADC", "DCBA"], json!(0x1234_5678)),
        ("i32", "INT32", &["ABCD", "CDAB", "BADC", "DCBA"], json!(-123_456_789)),
        ("f32", "FLOAT32", &["ABCD", "CDAB", "BADC", "DCBA"], json!(-1234.5)),
        ("u64", "UINT64", &["ABCDEFGH", "GHEFCDAB", "BADCFEHG", "HGFEDCBA"], json!(1u64 << 63 | 7)),
        (
            "i64",
            "INT64",
            &["ABCDEFGH", "GHEFCDAB", "BADCFEHG", "HGFEDCBA"],
            json!(-1_234_567_890_123i64),
        ),
        ("f64", "FLOAT64", &["ABCDEFGH", "GHEFCDAB", "BADCFEHG", "HGFEDCBA"], json!(-1.25e-300)),
    ];
    let mut peer = Peer::start("tcp");
    let (mut points, mut expected, mut address) = (String::new(), Vec::new(), 10);
    for (kind, name, orders, value) in &cases {
        for order in *orders {
            let is_little = ["CDAB", "DCBA", "GHEFCDAB", "HGFEDCBA"].contains(order);
            let word_order = if is_little { "little" } else { "big" };
            let words = peer.tell(&json!({ "encode": value, "type": name, "order": word_order }));
            let words = words.as_array().unwrap().iter().map(|word| word.as_u64().unwrap() as u16);
            let is_swapped = ["BA", "BADC", "DCBA", "BADCFEHG", "HGFEDCBA"].contains(order);
            let words: Vec<_> =
                words.map(|w| if is_swapped { w.swap_bytes() } else { w }).collect();
            peer.set("input", address, json!(words));
            let at = format!("address = {address}, order = \"{order}\"");
            points += &format!(
                "{{ name = \"in.{kind}.{order}\", direction = \"in\", type = \"{kind}\", \
                 at = {{ group = \"g\", {at} }} }},\n\
                 {{ name = \"out.{kind}.{order}\", direction = \"out\", type = \"{kind}\", safe = 0, \
                 at = {{ unit = \"u\", {at} }} }},\n"
            );
            let value = match value.as_f64().filter(|_| kind.starts_with('f')) {
                Some(real) => Value::Real(real),
                None => Value::Int(
                    value.as_i64().map_or_else(|| value.as_u64().unwrap().into(), i128::from),
                ),
            };
            expected.push((format!("{kind}.{order}"), address, words.clone(), value));
            address += words.len() as u16;
        }
    }
    let units = r#"unit = [{ name = "u", id = 1 }]
        group = [{ name = "g", unit = "u", table = "input", period = "10ms" }]"#;
    let mut bench = bench(&peer.url, &format!("{units}\npoint = [\n{points}]"));
    bench.until("everything is read", |bench| {
        expected
            .iter()
            .all(|(name, .., value)| bench.input(&format!("in.{name}")) == (*value, GOOD))
    });
    for (name, .., value) in &expected {
        bench.output(&format!("out.{name}"), *value);
    }
    bench.until("everything is written", |bench| bench.driver.is_confirmed());
    for (name, address, words, _) in &expected {
        assert_eq!(peer.get("holding", *address, words.len()), json!(words), "{name}");
    }
}

#[test]
#[ignore = "needs pymodbus"]
fn a_dead_unit_beside_a_live_one_on_a_serial_line() {
    let mut peer = Peer::start("rtu");
    peer.mood(2, json!({ "wait": 3600 }));
    // On a line a silence costs twice the wait: 160 ms of every 3.2 s.
    let mut bench = units(&peer, UNITS);
    bench.until("it is known", |bench| state(bench, "second") == "offline");
    bench.until("programs see it", |bench| {
        bench.input("two") == (Value::Int(0), Quality::NoComm)
            && bench.input("two.online") == (Value::Bool(false), GOOD)
    });
    assert_eq!(bench.fault, None);
    let (before, dead_before) = (peer.functions(1).len(), peer.functions(2).len());
    bench.pass(Duration::from_secs(20));
    let (live, dead) = (peer.functions(1).len() - before, peer.functions(2).len() - dead_before);
    assert!((4..=9).contains(&dead), "{dead} probes in 20 s");
    assert!(live > 500, "{live} requests to the other one in 20 s");
    let load = fact(&bench, "second", "load_percent");
    assert!((0.0..=10.1).contains(&load), "{load} % of a window of 5 s");
    let share = dead as f64 * 0.17 / 20.0;
    assert!(share < 0.07, "{dead} probes are {share} of the bus");
    bench.output("out", Value::Int(5));
    bench.until("outputs of the other one pass", |bench| bench.is_confirmed("out"));
    peer.mood(2, json!({}));
    bench.until("it is back", |bench| bench.input("two") == (Value::Int(300), GOOD));
}

#[test]
#[ignore = "needs pymodbus"]
fn busy_and_refusals_of_a_real_server() {
    let mut peer = Peer::start("tcp");
    let beyond = UNITS.replace("ref = \"40201\"", "address = 5000");
    let mut bench = units(&peer, &beyond);
    bench.until("what does not exist is a mistake in the configuration", |bench| {
        bench.input("b").1 == Quality::Config && bench.input("a") == (Value::Int(100), GOOD)
    });
    peer.mood(1, json!({ "refuse": 6 }));
    peer.set("holding", 100, json!([1]));
    for quality in [Quality::Stale, Quality::NoComm] {
        bench.until("a busy unit says nothing", |bench| {
            assert_eq!(bench.input("a").0, Value::Int(100));
            bench.input("a").1 == quality
        });
    }
    bench.output("out", Value::Int(5));
    bench.pass(Duration::from_millis(300));
    assert!(!bench.is_confirmed("out"), "it was refused");
    peer.mood(1, json!({ "refuse": 4 }));
    bench.until("it has failed", |bench| bench.input("b").1 == Quality::Config);
    peer.mood(1, json!({}));
    bench.until("it is back", |bench| {
        bench.input("a") == (Value::Int(1), GOOD) && bench.is_confirmed("out")
    });
    assert_eq!(fact(&bench, "", "connections"), 1.0);
}

#[test]
#[ignore = "needs pymodbus"]
fn a_server_that_was_killed_is_found_again() {
    for kind in ["tcp", "rtu+tcp"] {
        let peer = Peer::start(kind);
        let mut bench = units(&peer, UNITS);
        bench.until("all is there", |bench| is_all_read(bench) && bench.driver.is_confirmed());
        let port = peer.url.rsplit(':').next().unwrap().parse().unwrap();
        drop(peer);
        bench.until("it is gone", |bench| {
            bench.fault == Some(Fault::Disconnected) && !bench.is_confirmed("out")
        });
        bench.until("values age", |bench| bench.input("a") == (Value::Int(100), Quality::NoComm));
        bench.output("out", Value::Int(8));
        bench.pass(Duration::from_millis(500));
        assert!(!bench.is_confirmed("out"), "nobody is there to take it");
        let mut peer = Peer::start_at(kind, port);
        bench.until("it is back", |bench| is_all_read(bench) && bench.driver.is_confirmed());
        assert_eq!(peer.get("holding", 400, 1), json!([8]), "{kind}");
        assert_eq!(peer.get("coil", 7, 1), json!([true]), "{kind}");
    }
}

#[test]
#[ignore = "needs pymodbus"]
fn an_adapter_that_was_unplugged_is_found_again() {
    let folder = tempfile::tempdir().unwrap();
    let link = folder.path().join("line");
    let plug = |peer: &mut Peer| {
        let _ = std::fs::remove_file(&link);
        std::os::unix::fs::symlink(peer.url.strip_prefix("rtu://").unwrap(), &link).unwrap();
        peer.url = format!("rtu://{}", link.display());
    };
    let mut peer = Peer::start("rtu");
    plug(&mut peer);
    let mut bench = units(&peer, UNITS);
    bench.until("all is there", |bench| is_all_read(bench) && bench.driver.is_confirmed());
    drop(peer);
    bench.until("it is gone", |bench| bench.fault == Some(Fault::Disconnected));
    bench.until("values age", |bench| bench.input("a") == (Value::Int(100), Quality::NoComm));
    assert!(!bench.is_confirmed("out"));
    let mut peer = Peer::start("rtu");
    plug(&mut peer);
    bench.until("it is back", |bench| is_all_read(bench) && bench.driver.is_confirmed());
    assert_eq!(peer.get("holding", 400, 1), json!([77]));
}

#[test]
#[ignore = "needs pymodbus"]
fn bits_and_parts_of_registers() {
    let mut peer = Peer::start("tcp");
    peer.set("discrete", 17, json!([true, false, true]));
    peer.set("coil", 5, json!([true]));
    peer.set("holding", 8, json!([0x8012, 0xfe01]));
    let mut bench = bench(
        &peer.url,
        r#"
        unit = [{ name = "u", id = 1 }]
        group = [
          { name = "d", unit = "u", table = "discrete", period = "10ms" },
          { name = "c", unit = "u", table = "coil", period = "10ms", max = 1 },
          { name = "h", unit = "u", table = "holding", period = "10ms" },
        ]
        point = [
          { name = "d17", direction = "in", type = "bool", at = { group = "d", ref = "10018" } },
          { name = "d18", direction = "in", type = "bool", at = { group = "d", address = 18 } },
          { name = "d19", direction = "in", type = "bool", at = { group = "d", address = 19 } },
          { name = "c5", direction = "in", type = "bool", at = { group = "c", ref = "00006" } },
          { name = "c6", direction = "in", type = "bool", at = { group = "c", address = 6 } },
          { name = "b15", direction = "in", type = "bool", at = { group = "h", address = 8, bit = 15 } },
          { name = "b0", direction = "in", type = "bool", at = { group = "h", address = 8, bit = 0 } },
          { name = "lo", direction = "in", type = "u8", at = { group = "h", address = 8, byte = "lo" } },
          { name = "hi", direction = "in", type = "i8", at = { group = "h", address = 9, byte = "hi" } },
        ]
        "#,
    );
    bench.until("all is as it was set", |bench| {
        let is = |name: &str, value| bench.input(name) == (value, GOOD);
        [("d17", true), ("d18", false), ("d19", true), ("c5", true), ("c6", false), ("b15", true)]
            .into_iter()
            .all(|(name, on)| is(name, Value::Bool(on)))
            && is("b0", Value::Bool(false))
            && is("lo", Value::Int(0x12))
            && is("hi", Value::Int(-2))
    });
}

#[test]
#[ignore = "needs pymodbus"]
fn late_replies_of_a_real_unit_are_never_mistaken() {
    for kind in ["tcp", "rtu"] {
        let mut peer = Peer::start(kind);
        let rest = UNITS.replace("id = 1", "id = 1, offline_after = 100");
        let mut bench = units(&peer, &format!("retries = 0\n{rest}"));
        bench.until("all is read", |bench| is_all_read(bench));
        for wait in [0.079, 0.1, 0.13, 0.17, 0.2] {
            peer.mood(1, json!({ "wait": wait }));
            let started = std::time::Instant::now();
            while started.elapsed() < Duration::from_millis(1500) {
                bench.cycle();
                for (name, value) in [("a", 100), ("b", 200)] {
                    assert_eq!(bench.input(name).0, Value::Int(value), "{kind}, {wait} s late");
                }
            }
        }
        peer.mood(1, json!({}));
        bench.until("all is well again", |bench| is_all_read(bench) && bench.driver.is_confirmed());
    }
}
