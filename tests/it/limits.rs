//! Tests of the keys `range`, `on_overflow` and `deadband` of outputs, with real programs and
//! points from a configuration. The keys of inputs are tested with a Modbus unit in
//! `device/modbus/limits.rs`, and with a simulated plant here.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use camshaft::config;
use camshaft::driver::export::exports;
use camshaft::driver::{self, Command};
use camshaft::plugin::Settings;
use camshaft::process::image::{Points, Quality, Value};
use camshaft::process::line::LogSink;
use camshaft::process::overlay::Force;
use camshaft::process::variable::{Variable, Variables};
use camshaft::process::world::World;
use camshaft::scan::Order;

use crate::rig::{PERIOD, Rig};

/// Outputs that a program writes by their names, `raw` and `clamped` that it writes as bytes, and
/// inputs of the plant.
const PLANT: &str = r#"
    [[device]]
    name = "plant"
    driver = "sim"
    loopback = [{ from = "motor", to = "motor.runs" }]
    initial = { "door.open" = true, "temperature" = 20 }
    point = [
      { name = "valve", direction = "out", type = "f64", address = 0, safe = 20, range = [0, 100],
        deadband = 0.5 },
      { name = "fan", direction = "out", type = "u16", address = 8, safe = 5, scale = 0.1,
        range = [5, 50], on_overflow = "clamp" },
      { name = "raw", direction = "out", type = "i16", address = 10, safe = 1, range = [0, 10] },
      { name = "clamped", direction = "out", type = "i16", address = 12, safe = 1,
        range = [0, 10], on_overflow = "clamp" },
      { name = "motor", direction = "out", type = "bool", address = 14, invert = true },
      { name = "idle", direction = "out", type = "u8", address = 15, safe = "hold",
        range = [10, 20] },
      { name = "motor.runs", direction = "in", type = "bool" },
      { name = "door.open", direction = "in", type = "bool", invert = true },
      { name = "temperature", direction = "in", type = "i16", nan = [0x8000], range = [-40, 150],
        deadband = 2 },
    ]
"#;

/// Writes the variable `want` to `valve` and `fan`, and as two bytes each to `raw` and `clamped`,
/// to the latter one byte at a time.
const WRITER: &str = r#"(module
  (import "env" "wasm_point_find" (func $find (param i32 i32 i32) (result i32)))
  (import "env" "wasm_point_write_double" (func $put (param i32 f64) (result i32)))
  (import "env" "wasm_write_output" (func $write (param i32 i32 i32) (result i32)))
  (import "env" "wasm_variable_read_double" (func $var (param i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 100) "valvefanwant")
  (func (export "init")
    (drop (call $find (i32.const 100) (i32.const 5) (i32.const 200)))
    (drop (call $find (i32.const 105) (i32.const 3) (i32.const 204))))
  (func (export "poll")
    (drop (call $var (i32.const 108) (i32.const 4) (i32.const 8)))
    (i32.store (i32.const 16) (i32.trunc_sat_f64_s (f64.load (i32.const 8))))
    (drop (call $put (i32.load (i32.const 200)) (f64.load (i32.const 8))))
    (drop (call $put (i32.load (i32.const 204)) (f64.load (i32.const 8))))
    (drop (call $write (i32.const 10) (i32.const 16) (i32.const 2)))
    (drop (call $write (i32.const 12) (i32.const 16) (i32.const 1)))
    (drop (call $write (i32.const 13) (i32.const 17) (i32.const 1)))))"#;

fn points(text: &str) -> Arc<Points> {
    let config = config::parse(text, Path::new("/limits.toml")).unwrap_or_else(|e| panic!("{e}"));
    config.live.points
}

struct Bench(Rig, u64);

impl Bench {
    fn new() -> Self {
        let config = config::parse(PLANT, Path::new("/limits.toml")).unwrap();
        let points = config.live.points;
        let device = driver::open(&config.live.devices[0].driver, &points, 0, &exports().1);
        let want = ("want", Variable::Double(10.0));
        let mut rig = Rig::with_variables(points, vec![device.unwrap()], &[want]);
        rig.install("writer", 0, WRITER, Settings::default());
        Self(rig, 0)
    }

    fn order(&mut self, order: impl FnOnce(u64) -> Order) {
        self.1 += 1;
        self.0.order(order(self.1));
    }

    fn value(&mut self, name: &str) -> Value {
        let news = self.0.handle.latest.read().clone();
        self.0.value(&news, name)
    }

    fn quality(&mut self, name: &str) -> Quality {
        let id = self.0.points.find(name).unwrap();
        self.0.handle.latest.read().inputs.quality[id.index()]
    }

    /// Lets the program want a value, and returns what the outputs then are.
    fn want(&mut self, want: f64) -> [Value; 4] {
        let values = vec![("want".to_string(), Variable::Double(want))];
        self.order(|ticket| Order::SetVariables { ticket, values });
        self.0.step();
        ["valve", "fan", "raw", "clamped"].map(|name| self.value(name))
    }

    fn set(&mut self, name: &str, value: Value) {
        let id = self.0.points.find(name).unwrap();
        let command = Command::Set(id, value);
        self.order(|ticket| Order::Command { ticket, device: 0, command });
        self.0.step();
    }
}

#[test]
fn no_value_outside_of_its_range_reaches_a_device() {
    use Value::{Int, Real};
    let mut bench = Bench::new();
    assert_eq!(bench.want(7.0), [Real(7.0), Real(7.0), Int(7), Int(7)]);
    assert_eq!(bench.want(11.0), [Real(11.0), Real(11.0), Int(7), Int(10)]);
    assert_eq!(bench.want(120.0), [Real(11.0), Real(50.0), Int(7), Int(10)]);
    assert_eq!(bench.want(-3.0), [Real(11.0), Real(5.0), Int(7), Int(0)]);
    assert_eq!(bench.want(f64::NAN), [Real(11.0), Real(5.0), Int(0), Int(0)]);
    assert_eq!(bench.want(f64::INFINITY), [Real(11.0), Real(5.0), Int(0), Int(0)]);
    assert_eq!(bench.want(9.0), [Real(9.0), Real(9.0), Int(9), Int(9)]);
}

#[test]
fn a_refused_value_is_told_with_its_point() {
    let mut bench = Bench::new();
    bench.want(120.0);
    let lines: Vec<_> = std::iter::from_fn(|| bench.0.log.pop().ok()).collect();
    let told: Vec<_> = lines.iter().map(|line| format!("{:?}", line.message)).collect();
    let about = |name: &str| {
        told.iter().filter(|line| line.contains("OutsideRange") && line.contains(name)).count()
    };
    assert_eq!(["valve", "raw", "fan", "clamped"].map(about), [1, 1, 0, 0], "{told:#?}");
}

#[test]
fn an_output_changes_by_more_than_its_deadband() {
    let mut bench = Bench::new();
    let mut check = |want: f64, expected: f64| {
        assert_eq!(bench.want(want)[0], Value::Real(expected), "{want}");
    };
    check(10.0, 10.0);
    check(10.3, 10.0);
    check(10.5, 10.0);
    check(10.6, 10.6);
    check(10.2, 10.6);
    check(20.4, 20.4);
    // The safe value is written although it is near.
    check(20.0, 20.0);
    check(20.3, 20.0);
    check(19.0, 19.0);
}

#[test]
fn a_forced_value_and_the_value_after_it_have_no_deadband() {
    let mut bench = Bench::new();
    bench.want(10.0);
    let point = bench.0.points.find("valve").unwrap();
    let raw = bench.0.points[point].raw_in_range(Value::Real(10.2)).unwrap();
    bench.order(|ticket| Order::Force { ticket, force: Force { point, raw, until: None } });
    bench.0.step();
    assert_eq!(bench.value("valve"), Value::Real(10.2));
    bench.order(|ticket| Order::Unforce { ticket, point: None });
    bench.0.step();
    assert_eq!(bench.value("valve"), Value::Real(10.0));
}

#[test]
fn a_plant_has_the_opposite_of_an_inverted_point() {
    let mut bench = Bench::new();
    bench.0.step();
    assert_eq!(bench.value("motor"), Value::Bool(false));
    assert_eq!(bench.value("motor.runs"), Value::Bool(true), "the plant has the opposite");
    assert_eq!(bench.value("door.open"), Value::Bool(true), "as `initial` says");
    bench.set("door.open", Value::Bool(false));
    assert_eq!(bench.value("door.open"), Value::Bool(false), "as the operator says");
}

#[test]
fn a_simulated_sensor_fails_like_a_real_one() {
    let mut bench = Bench::new();
    bench.0.step();
    let mut check = |set: i128, expected: i128, quality: Quality| {
        bench.set("temperature", Value::Int(set));
        let found = (bench.value("temperature"), bench.quality("temperature"));
        assert_eq!(found, (Value::Int(expected), quality), "{set}");
    };
    check(22, 20, Quality::Good);
    check(23, 23, Quality::Good);
    check(151, 23, Quality::Sensor);
    check(-32768, 23, Quality::Sensor);
    check(150, 150, Quality::Good);
}

#[test]
fn a_new_range_holds_at_once() {
    let old = points(PLANT);
    let new = points(&PLANT.replace("range = [5, 50]", "range = [5, 7]"));
    let log = LogSink::List(Vec::new());
    let mut world = World::new(Arc::clone(&old), Variables::default(), PERIOD, log);
    let (idle, fan) = (old.find("idle").unwrap(), old.find("fan").unwrap());
    assert_eq!(old[idle].read(&world.outputs), Value::Int(10), "0 is outside of the range");
    old[fan].write(&mut world.outputs, Value::Real(40.0)).unwrap();
    let raw = old[fan].raw_of(Value::Real(30.0)).unwrap();
    world.overlay.force(Force { point: fan, raw, until: None }).unwrap();
    world.owners[fan.index()] = Some(camshaft::process::seat::Seat(0));
    world.now = Duration::from_secs(1);
    world.drive();
    assert_eq!(old[fan].read(&world.driven), Value::Real(30.0));
    world.take_points(new);
    world.drive();
    assert_eq!(old[fan].read(&world.driven), Value::Real(7.0));
    assert!(world.overlay.forces().is_empty(), "the force is outside of the range");
}
