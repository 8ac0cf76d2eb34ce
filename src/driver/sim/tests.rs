//! Tests of the simulated device through the trait `Driver`, as the scan uses the device.
//!
//! The tests read no clock. They pass the time as a number, so every run gives the same values.

use super::*;
use crate::process::image::{Direction, Point, PointId, PointKind, Quality, Value};

/// The ids of the points of the test device. Each id is the index of its point in [`points`].
pub(super) const BOOL_IN: PointId = PointId(0);
pub(super) const INT_IN: PointId = PointId(1);
const F32_IN: PointId = PointId(2);
const F64_IN: PointId = PointId(3);
const BOOL_OUT: PointId = PointId(4);
const INT_OUT: PointId = PointId(5);
const F64_OUT: PointId = PointId(6);
const FOREIGN_IN: PointId = PointId(7);
const FOREIGN_OUT: PointId = PointId(8);

/// The points of the test device, which is device 0: some inputs and some outputs. One bool in each
/// direction belongs to device 1 and is in the same byte as a bool of device 0.
pub(super) fn points() -> Arc<Points> {
    let point = |name: &str, direction, kind, byte, bit, device| Point {
        byte,
        bit,
        device,
        ..Point::new(name, direction, kind)
    };
    use Direction::{In, Out};
    let all = vec![
        point("bool.in", In, PointKind::Bool, 1, 3, 0),
        point("int.in", In, PointKind::I16, 2, 0, 0),
        point("f32.in", In, PointKind::F32, 4, 0, 0),
        point("f64.in", In, PointKind::F64, 8, 0, 0),
        point("bool.out", Out, PointKind::Bool, 0, 6, 0),
        point("int.out", Out, PointKind::I16, 1, 0, 0),
        point("f64.out", Out, PointKind::F64, 3, 0, 0),
        point("foreign.in", In, PointKind::Bool, 1, 0, 1),
        point("foreign.out", Out, PointKind::Bool, 0, 0, 1),
    ];
    Arc::new(Points::new(all, 17, 12))
}

const INPUTS: [PointId; 4] = [BOOL_IN, INT_IN, F32_IN, F64_IN];

/// A device together with an input image and an output image.
struct Bench {
    points: Arc<Points>,
    device: Box<dyn Driver>,
    inputs: Inputs,
    outputs: Vec<u8>,
}

/// The time of the first call. Any value works, because a device measures its time from the first
/// call.
const START: Duration = Duration::from_secs(1_000_000);

fn at(millis: u64) -> Duration {
    START + Duration::from_millis(millis)
}

impl Bench {
    fn new(toml: &str) -> Self {
        let points = points();
        let config = crate::driver::Config::Sim(toml::from_str(toml).unwrap());
        let device =
            crate::driver::open(&config, &points, 0, &crate::driver::export::exports().1).unwrap();
        let inputs = Inputs::unread(&points);
        let outputs = vec![0; points.image_bytes(Direction::Out)];
        Self { points, device, inputs, outputs }
    }

    fn read(&mut self, millis: u64) -> Result<(), Fault> {
        self.device.read(at(millis), &mut self.inputs)
    }

    fn write(&mut self, millis: u64) -> Result<(), Fault> {
        self.device.write(at(millis), &self.outputs)
    }

    fn output(&mut self, id: PointId, value: Value) {
        self.points[id].write(&mut self.outputs, value).unwrap();
    }

    fn order(&mut self, millis: u64, command: Command) {
        self.device.command(at(millis), &command).unwrap();
    }

    fn set(&mut self, millis: u64, id: PointId, value: Value) -> Result<(), &'static str> {
        self.device.command(at(millis), &Command::Set(id, value))
    }

    fn value(&self, id: PointId) -> Value {
        self.points[id].read(&self.inputs.bytes)
    }

    fn quality(&self, id: PointId) -> Quality {
        self.inputs.quality[id.index()]
    }

    /// Checks that the input has this value and quality.
    #[track_caller]
    fn check(&self, id: PointId, value: Value, quality: Quality) {
        assert_eq!((self.value(id), self.quality(id)), (value, quality));
    }
}

pub(super) const TANK: &str = r#"
    tank = { level = "f64.in", inflow = "f64.out", drain_percent_per_s = 2.0,
             inflow_percent_per_s = 6.0, initial = 40.0 }
"#;

pub(super) const LOOP: &str = r#"
    loopback = [{ from = "int.out", to = "int.in" }, { from = "bool.out", to = "bool.in" },
                { from = "f64.out", to = "f64.in" }]
"#;

#[test]
fn the_first_read_shows_initial_values_and_touches_nothing_foreign() {
    let mut bench = Bench::new("initial = { \"bool.in\" = true, \"int.in\" = -7 }");
    bench.inputs.bytes[1] = 1;
    bench.read(0).unwrap();
    bench.check(BOOL_IN, Value::Bool(true), Quality::Good);
    bench.check(INT_IN, Value::Int(-7), Quality::Good);
    bench.check(F32_IN, Value::Real(0.0), Quality::Good);
    bench.check(FOREIGN_IN, Value::Bool(true), Quality::Waiting);
}

#[test]
fn signals_reach_points_of_every_sort() {
    let mut bench = Bench::new(
        r#"signal = [
            { point = "bool.in", shape = "square", period = "2s" },
            { point = "int.in", shape = "ramp", period = "10s", low = -100, high = 100 },
            { point = "f32.in", shape = "constant", value = 2.5 },
            { point = "f64.in", shape = "sine", period = "4s", low = 10, high = 20 },
        ]"#,
    );
    for (millis, on, ramp, sine) in [(0, true, -100, 15.0), (1000, false, -80, 20.0)] {
        bench.read(millis).unwrap();
        bench.check(BOOL_IN, Value::Bool(on), Quality::Good);
        bench.check(INT_IN, Value::Int(ramp), Quality::Good);
        bench.check(F32_IN, Value::Real(2.5), Quality::Good);
        bench.check(F64_IN, Value::Real(sine), Quality::Good);
    }
}

#[test]
fn the_valve_moves_the_tank() {
    let mut bench = Bench::new(TANK);
    let mut level_after = |valve: f64, seconds: u64| {
        bench.output(F64_OUT, Value::Real(valve));
        bench.write(seconds * 1000).unwrap();
        bench.read(seconds * 1000 + 60_000).unwrap();
        match bench.value(F64_IN) {
            Value::Real(level) => level,
            other => panic!("{other}"),
        }
    };
    assert_eq!(level_after(250.0, 0), 100.0, "a value above 100 opens the valve fully");
    assert!(level_after(-5.0, 60) < 20.0, "a value below 0 closes the valve");
    assert!((level_after(20.0, 6000) - 36.0).abs() < 0.01, "the level rests at 36");
}

#[test]
fn a_valve_that_is_told_nonsense_stays() {
    let mut bench = Bench::new(TANK);
    bench.output(F64_OUT, Value::Real(20.0));
    bench.write(0).unwrap();
    bench.read(600_000).unwrap();
    bench.outputs[3..11].copy_from_slice(&f64::NAN.to_le_bytes());
    bench.write(600_000).unwrap();
    bench.read(1_200_000).unwrap();
    assert!(matches!(bench.value(F64_IN), Value::Real(level) if (level - 36.0).abs() < 0.01));
}

#[test]
fn a_loopback_carries_bits_and_not_a_number_is_bad() {
    let mut bench = Bench::new(LOOP);
    bench.output(INT_OUT, Value::Int(-300));
    bench.output(BOOL_OUT, Value::Bool(true));
    bench.output(F64_OUT, Value::Real(1.5));
    bench.write(0).unwrap();
    bench.read(10).unwrap();
    bench.check(INT_IN, Value::Int(-300), Quality::Good);
    bench.check(BOOL_IN, Value::Bool(true), Quality::Good);
    bench.check(F64_IN, Value::Real(1.5), Quality::Good);
    assert_eq!(bench.inputs.bytes[1], 0b1000, "the device changes only its own bit");
    for nonsense in [f64::NAN, f64::INFINITY] {
        bench.outputs[3..11].copy_from_slice(&nonsense.to_le_bytes());
        bench.write(10).unwrap();
        bench.read(20).unwrap();
        bench.check(F64_IN, Value::Real(1.5), Quality::Sensor);
        bench.check(INT_IN, Value::Int(-300), Quality::Good);
    }
    bench.output(F64_OUT, Value::Real(2.5));
    bench.write(20).unwrap();
    bench.read(30).unwrap();
    bench.check(F64_IN, Value::Real(2.5), Quality::Good);
}

#[test]
fn what_is_set_holds_or_is_refused_with_a_reason() {
    let mut bench =
        Bench::new(&format!("{TANK}signal = [{{ point = \"int.in\", shape = \"noise\" }}]"));
    bench.set(0, BOOL_IN, Value::Bool(true)).unwrap();
    bench.set(0, F32_IN, Value::Int(3)).unwrap();
    bench.set(100_000, F64_IN, Value::Int(81)).unwrap();
    bench.read(100_000).unwrap();
    bench.check(F64_IN, Value::Real(81.0), Quality::Good);
    bench.read(110_000).unwrap();
    bench.check(BOOL_IN, Value::Bool(true), Quality::Good);
    bench.check(F32_IN, Value::Real(3.0), Quality::Good);
    assert!(matches!(bench.value(F64_IN), Value::Real(level) if (63.0..65.0).contains(&level)));

    let mut refused = |id, value, expected: &str| {
        let reason = bench.set(110_000, id, value).unwrap_err();
        assert!(reason.contains(expected), "{reason}");
    };
    refused(BOOL_OUT, Value::Bool(true), "an output");
    refused(FOREIGN_IN, Value::Bool(true), "does not belong to this device");
    refused(PointId(999), Value::Bool(true), "does not belong to this device");
    refused(INT_IN, Value::Int(1), "a signal, script or loopback drives");
    refused(BOOL_IN, Value::Int(1), "the type is wrong");
    refused(F32_IN, Value::Real(f64::NAN), "does not fit");
    refused(F64_IN, Value::Real(101.0), "between 0 and 100");
    refused(F64_IN, Value::Real(f64::NAN), "between 0 and 100");
    refused(F64_IN, Value::Bool(true), "must be a number");
}

#[test]
fn a_lost_device_keeps_values_and_says_so() {
    let mut bench = Bench::new(LOOP);
    assert!(!bench.device.is_confirmed(), "nothing written yet");
    bench.output(INT_OUT, Value::Int(5));
    bench.write(0).unwrap();
    bench.read(10).unwrap();
    assert!(bench.device.is_confirmed());

    bench.order(10, Command::Inject(Injection::Disconnect));
    assert!(!bench.device.is_confirmed());
    bench.output(INT_OUT, Value::Int(6));
    assert_eq!(bench.write(10), Err(Fault::Disconnected));
    assert_eq!(bench.read(20), Err(Fault::Disconnected));
    for id in INPUTS {
        assert_eq!(bench.quality(id), Quality::NoComm);
    }
    bench.check(INT_IN, Value::Int(5), Quality::NoComm);

    bench.order(20, Command::Clear);
    assert!(!bench.device.is_confirmed(), "the last write was lost");
    bench.read(30).unwrap();
    bench.check(INT_IN, Value::Int(5), Quality::Good);
    bench.write(30).unwrap();
    assert!(bench.device.is_confirmed());
    bench.read(40).unwrap();
    bench.check(INT_IN, Value::Int(6), Quality::Good);
}

#[test]
fn frozen_inputs_stand_while_the_plant_goes_on() {
    let mut bench = Bench::new(LOOP);
    bench.order(0, Command::Inject(Injection::Freeze));
    bench.read(0).unwrap();
    bench.check(INT_IN, Value::Int(0), Quality::Waiting);
    bench.order(0, Command::Clear);
    bench.read(0).unwrap();

    bench.order(0, Command::Inject(Injection::Freeze));
    bench.output(INT_OUT, Value::Int(5));
    bench.write(0).unwrap();
    assert!(bench.device.is_confirmed(), "outputs arrive");
    bench.read(10).unwrap();
    bench.check(INT_IN, Value::Int(0), Quality::Stale);
    bench.order(10, Command::Clear);
    bench.read(20).unwrap();
    bench.check(INT_IN, Value::Int(5), Quality::Good);
}

#[test]
fn a_slow_device_is_late_both_ways() {
    let mut bench = Bench::new(LOOP);
    bench.read(0).unwrap();
    let delay = Duration::from_millis(200);
    bench.order(0, Command::Inject(Injection::Slow { delay }));
    bench.output(INT_OUT, Value::Int(5));
    for millis in (0..1000).step_by(10) {
        bench.read(millis).unwrap();
        let expected = match millis {
            0..200 => (Value::Int(0), Quality::Stale),
            200..400 => (Value::Int(0), Quality::Good),
            _ => (Value::Int(5), Quality::Good),
        };
        assert_eq!((bench.value(INT_IN), bench.quality(INT_IN)), expected, "{millis} ms");
        // This output is in the same byte but belongs to another device. Its changes must not delay
        // the confirmation.
        bench.output(FOREIGN_OUT, Value::Bool(millis % 20 == 0));
        bench.write(millis).unwrap();
        assert_eq!(bench.device.is_confirmed(), millis >= 200, "{millis} ms");
    }
    // The value equals the present value in the plant, but another value was sent in between.
    bench.output(INT_OUT, Value::Int(6));
    bench.write(1000).unwrap();
    bench.output(INT_OUT, Value::Int(5));
    bench.write(1010).unwrap();
    bench.read(1200).unwrap();
    assert!(!bench.device.is_confirmed());
    bench.read(1210).unwrap();
    assert!(bench.device.is_confirmed());
    // Outputs that are on their way at the end of the failure arrive at once.
    bench.output(INT_OUT, Value::Int(7));
    bench.write(1220).unwrap();
    bench.order(1220, Command::Clear);
    assert!(bench.device.is_confirmed());
    bench.read(1230).unwrap();
    bench.check(INT_IN, Value::Int(7), Quality::Good);
}

#[test]
fn garbage_passes_for_good_except_what_is_not_a_number() {
    let mut bench = Bench::new("initial = { \"f64.in\" = 1.5 }");
    bench.read(0).unwrap();
    bench.order(0, Command::Inject(Injection::Garbage { seed: 1 }));
    let (mut bad, mut different) = (0, 0);
    for cycle in 1..2000 {
        let before = bench.inputs.clone();
        bench.read(cycle).unwrap();
        assert_eq!(bench.quality(INT_IN), Quality::Good);
        assert_eq!(bench.quality(BOOL_IN), Quality::Good);
        assert_eq!(bench.inputs.bytes[1] & !0b1000, 0, "garbage beside the point");
        different += i32::from(bench.inputs.bytes[2..4] != before.bytes[2..4]);
        for id in [F32_IN, F64_IN] {
            let bytes = bench.points[id].bytes();
            let Value::Real(number) = bench.value(id) else { panic!("a float") };
            assert!(number.is_finite());
            if bench.quality(id) == Quality::Sensor {
                bad += 1;
                assert_eq!(bench.inputs.bytes[bytes.clone()], before.bytes[bytes], "kept");
            }
        }
    }
    assert!((300..800).contains(&bad), "{bad} of 4000");
    assert!(different > 1900, "{different} of 2000");
    bench.order(2000, Command::Clear);
    bench.read(2000).unwrap();
    bench.check(F64_IN, Value::Real(1.5), Quality::Good);
}

#[test]
fn the_same_calls_give_the_same_inputs() {
    let run = |seed: u64| {
        let mut bench = Bench::new(&format!(
            "{TANK}fault = {{ kind = \"garbage\", after = \"1s\", for = \"1s\", seed = {seed} }}
            signal = [{{ point = \"int.in\", shape = \"noise\", seed = 4, high = 1000 }}]"
        ));
        bench.output(F64_OUT, Value::Real(50.0));
        let mut seen = Vec::new();
        for millis in (0..3000).step_by(10) {
            bench.read(millis).unwrap();
            bench.write(millis).unwrap();
            seen.push(bench.inputs.clone());
        }
        seen
    };
    let (one, again, other) = (run(1), run(1), run(2));
    assert_eq!(one, again);
    let differing = one.iter().zip(&other).filter(|(a, b)| a != b).count();
    assert_eq!(differing, 100, "the seed counts during the garbage only");
    assert_eq!(one[299], other[299]);
}

#[test]
fn a_planned_failure_comes_and_goes_unless_the_operator_decides() {
    const PLAN: &str = "fault = { kind = \"disconnect\", after = \"10s\", for = \"5s\" }";
    let failures = |bench: &mut Bench, times: [u64; 4]| times.map(|t| bench.read(t).is_err());
    const TIMES: [u64; 4] = [9_999, 10_000, 14_999, 15_000];

    let mut bench = Bench::new(PLAN);
    bench.read(0).unwrap();
    assert_eq!(failures(&mut bench, TIMES), [false, true, true, false]);

    let mut bench = Bench::new(PLAN);
    bench.order(0, Command::Clear);
    assert_eq!(failures(&mut bench, TIMES), [false; 4], "cancelled");

    let mut bench = Bench::new(PLAN);
    bench.order(0, Command::Inject(Injection::Disconnect));
    assert_eq!(failures(&mut bench, TIMES), [true; 4], "not ended by the plan");
}
