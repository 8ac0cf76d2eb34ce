//! The field of the simulation: the points, two simulated devices, and their expected behaviour.
//!
//! [`Mirror`] computes the expected behaviour. It was written from the documentation of
//! `driver::Injection`, and not from the driver: it has plain lists instead of rings, and whole
//! images instead of spans. It cannot predict some values (noise, ramp, garbage). It takes these
//! values from the snapshot of the scan, and only checks what the documentation promises about
//! them.

use std::sync::Arc;
use std::time::Duration;

use camshaft::driver::{self, Command, Driver, Fault, Injection, sim};
use camshaft::process::image::{
    Direction, Inputs, Point, PointId, PointKind, Points, Quality, Safe, Value,
};

use crate::rig::point;

/// Programs by their place; each reads its orders from the input `cmd<n>`, point number n.
pub const PROGRAMS: usize = 8;

/// Inputs: an echo of an output, an echo of a bool, a ramp, noise. All belong to device 1.
pub const BACK: PointId = PointId(8);
pub const LAMP: PointId = PointId(9);
pub const RAMP: PointId = PointId(10);
pub const NOISE: PointId = PointId(11);

/// The first of eight outputs.
pub const OUT: u16 = 12;
pub const OUT_BYTES: usize = 24;
/// The outputs that are echoed.
const BACK_FROM: usize = 16;
const LAMP_FROM: usize = 15;

/// The largest and smallest value of noise and ramp.
const SWING: f64 = 100.0;

/// Points of a third device, which come and go. They lie behind all others, so that only raw writes
/// reach them.
pub const ANNEX_POINTS: u32 = 6;

/// Where that device stands.
pub const ANNEX: usize = 2;

fn annex_point(n: u32) -> Point {
    use Direction::{In, Out};
    let safe = |value| Safe::Value(value);
    let point = match n {
        0 => point("x0", Out, PointKind::U32, 24, 0, safe(Value::Int(77))),
        1 => point("x1", Out, PointKind::I16, 28, 0, Safe::Hold),
        2 => point("x2", Out, PointKind::Bool, 30, 2, safe(Value::Bool(true))),
        3 => point("x3", Out, PointKind::F64, 32, 0, safe(Value::Real(3.5))),
        4 => point("y0", In, PointKind::U32, 56, 0, Safe::Hold),
        5 => point("y1", In, PointKind::Bool, 60, 1, Safe::Hold),
        _ => unreachable!("there are no more"),
    };
    Point { device: ANNEX, ..point }
}

/// The points of the first two devices, and those of the third that `mask` names. Those that are
/// there `before` keep their ids.
pub fn with_annex(before: &Points, mask: u32) -> Arc<Points> {
    let base = before.iter().filter(|(_, point)| point.device != ANNEX);
    let mut all: Vec<_> = base.map(|(id, point)| (id, point.clone())).collect();
    let mut ids = before.ids();
    for n in (0..ANNEX_POINTS).filter(|n| mask >> n & 1 == 1) {
        let point = annex_point(n);
        let id = before.find(&point.name).unwrap_or_else(|| {
            ids += 1;
            PointId(ids as u16 - 1)
        });
        all.push((id, point));
    }
    let bytes = [Direction::In, Direction::Out].map(|direction| {
        let ours = all.iter().filter(|(_, point)| point.direction == direction);
        ours.map(|(_, point)| point.bytes().end).max().expect("the first two have some")
    });
    Arc::new(Points::numbered(all, ids, Vec::new(), bytes))
}

/// The third device: its inputs stand still, its outputs are taken.
pub fn annex(points: &Arc<Points>) -> Box<dyn Driver> {
    let config = driver::Config::Sim(Box::default());
    driver::open(&config, points, ANNEX, &driver::export::exports().1).expect("the annex is right")
}

pub fn points() -> Arc<Points> {
    use Direction::{In, Out};
    use Safe::Hold;
    let safe = |value| Safe::Value(value);
    let on = |device, point: Point| Point { device, ..point };
    let mut all: Vec<Point> = (0..PROGRAMS as u32)
        .map(|n| on(0, point(&format!("cmd{n}"), In, PointKind::U32, 4 * n, 0, Hold)))
        .collect();
    all.extend([
        on(1, point("back", In, PointKind::I32, 32, 0, Hold)),
        on(1, point("lamp", In, PointKind::Bool, 36, 3, Hold)),
        on(1, point("ramp", In, PointKind::I16, 40, 0, Hold)),
        on(1, point("noise", In, PointKind::F64, 48, 0, Hold)),
        // No safe value is 0, so that a 0 gives itself away. Two bools of two devices in one byte.
        // This one keeps its value for a while.
        on(
            0,
            Point {
                hold_for: Duration::from_millis(70),
                ..point("q0", Out, PointKind::U8, 0, 0, safe(Value::Int(11)))
            },
        ),
        on(0, point("q1", Out, PointKind::I16, 2, 0, safe(Value::Int(-222)))),
        on(0, point("q2", Out, PointKind::Bool, 1, 0, safe(Value::Bool(true)))),
        on(1, point("q3", Out, PointKind::Bool, 1, 5, Hold)),
        on(1, point("q4", Out, PointKind::I32, 4, 0, safe(Value::Int(44_444)))),
        on(1, point("q5", Out, PointKind::U32, 8, 0, Hold)),
        on(1, point("q6", Out, PointKind::F32, 12, 0, Hold)),
        on(1, point("q7", Out, PointKind::F64, 16, 0, safe(Value::Real(6.5)))),
    ]);
    Arc::new(Points::new(all, 56, OUT_BYTES))
}

pub fn devices(points: &Arc<Points>) -> Vec<Box<dyn Driver>> {
    let plant = sim::Config {
        signal: vec![
            sim::Signal::Ramp {
                point: "ramp".into(),
                period: Duration::from_secs(3),
                low: -SWING,
                high: SWING,
            },
            sim::Signal::Noise { point: "noise".into(), seed: 7, low: -SWING, high: SWING },
        ],
        loopback: vec![
            sim::Loopback { from: "q4".into(), to: "back".into() },
            sim::Loopback { from: "q3".into(), to: "lamp".into() },
        ],
        ..sim::Config::default()
    };
    [sim::Config::default(), plant]
        .into_iter()
        .enumerate()
        .map(|(n, config)| {
            driver::open(
                &driver::Config::Sim(Box::new(config)),
                points,
                n,
                &driver::export::exports().1,
            )
            .expect("the plant is right")
        })
        .collect()
}

/// Puts the bits of `point` from one image into another.
pub fn copy(point: &Point, from: &[u8], to: &mut [u8]) {
    for at in point.bytes() {
        to[at] = to[at] & !point.mask() | from[at] & point.mask();
    }
}

/// What device number `device` ought to do.
pub struct Mirror {
    points: Arc<Points>,
    device: usize,
    pub failure: Option<Injection>,
    /// What the sensors see, as far as it is known, addressed as the input image.
    field: Vec<u8>,
    /// The outputs that the plant has.
    has: Vec<u8>,
    /// The outputs of the last write that was taken, and when they last changed.
    sent: Vec<u8>,
    changed: Duration,
    /// When the outputs that the plant has were sent.
    arrived: Duration,
    /// Frames on their way while it is slow, with the time they were sent.
    late_in: Vec<(Duration, Vec<u8>)>,
    late_out: Vec<(Duration, Vec<u8>)>,
    /// What came over the slow wire last.
    received: Option<Vec<u8>>,
}

/// Takes the newest frame that is at least `delay` old.
fn due(
    frames: &mut Vec<(Duration, Vec<u8>)>,
    now: Duration,
    delay: Duration,
) -> Option<(Duration, Vec<u8>)> {
    let arrived = frames.iter().take_while(|(sent, _)| *sent + delay <= now).count();
    frames.drain(..arrived).next_back()
}

impl Mirror {
    pub fn new(points: &Arc<Points>, device: usize) -> Self {
        Self {
            points: Arc::clone(points),
            device,
            failure: None,
            field: vec![0; points.image_bytes(Direction::In)],
            has: vec![0; points.image_bytes(Direction::Out)],
            sent: vec![0; points.image_bytes(Direction::Out)],
            changed: Duration::ZERO,
            arrived: Duration::ZERO,
            late_in: Vec::new(),
            late_out: Vec::new(),
            received: None,
        }
    }

    /// Its points of one direction.
    pub fn ours(&self, direction: Direction) -> impl Iterator<Item = (PointId, &Point)> {
        let is_ours =
            move |point: &Point| point.device == self.device && point.direction == direction;
        self.points.iter().filter(move |(_, point)| is_ours(point))
    }

    /// Whether the command is taken.
    pub fn command(&mut self, now: Duration, command: &Command) -> bool {
        self.deliver(now);
        match command {
            Command::Set(id, value) => {
                let inputs: Vec<_> = self.ours(Direction::In).map(|(id, _)| id).collect();
                // All inputs of device 1 are driven.
                let good = self.device != 1 && inputs.contains(id);
                return good && self.points[*id].write(&mut self.field, *value).is_ok();
            }
            Command::Inject(injection) => self.fail(Some(*injection)),
            Command::Clear => self.fail(None),
        }
        true
    }

    fn fail(&mut self, failure: Option<Injection>) {
        if let Some(Injection::Slow { .. }) = self.failure {
            self.has.clone_from(&self.sent);
            self.arrived = self.changed;
        }
        self.late_in.clear();
        self.late_out.clear();
        self.received = None;
        self.failure = failure;
    }

    fn deliver(&mut self, now: Duration) {
        if let Some(Injection::Slow { delay }) = self.failure
            && let Some((sent, frame)) = due(&mut self.late_out, now, delay)
        {
            self.has = frame;
            self.arrived = sent;
        }
    }

    /// Brings `inputs` to what they ought to be; `seen` is what the scan says they are.
    pub fn read(&mut self, now: Duration, seen: &Inputs, inputs: &mut Inputs) -> Option<Fault> {
        self.deliver(now);
        if self.device == 1 {
            let (back, from) = (&self.points[BACK], &self.points[PointId(BACK_FROM as u16)]);
            self.field[back.bytes()].copy_from_slice(&self.has[from.bytes()]);
            let on = self.points[PointId(LAMP_FROM as u16)].read(&self.has);
            self.points[LAMP].write(&mut self.field, on).expect("a bool fits a bool");
        }
        match self.failure {
            None => self.show(&self.field, seen, inputs),
            Some(Injection::Disconnect) => self.worsen(Quality::NoComm, inputs),
            Some(Injection::Freeze) => self.worsen(Quality::Stale, inputs),
            Some(Injection::Slow { delay }) => {
                self.late_in.push((now, self.field.clone()));
                if let Some((_, frame)) = due(&mut self.late_in, now, delay) {
                    self.received = Some(frame);
                }
                match &self.received {
                    Some(received) => self.show(received, seen, inputs),
                    None => self.worsen(Quality::Stale, inputs),
                }
            }
            Some(Injection::Garbage { .. }) => self.babble(seen, inputs),
            Some(Injection::Hang { .. }) => unreachable!("it is no failure of the wire"),
        }
        for (id, _) in self.ours(Direction::In) {
            if inputs.quality[id.index()] == Quality::Good {
                inputs.good_at[id.index()] = now;
            }
        }
        (self.failure == Some(Injection::Disconnect)).then_some(Fault::Disconnected)
    }

    /// Good values; ramp and noise are only known to stay within their bounds.
    fn show(&self, from: &[u8], seen: &Inputs, inputs: &mut Inputs) {
        for (id, point) in self.ours(Direction::In) {
            inputs.quality[id.index()] = Quality::Good;
            if id != RAMP && id != NOISE {
                copy(point, from, &mut inputs.bytes);
                continue;
            }
            copy(point, &seen.bytes, &mut inputs.bytes);
            let value = match point.read(&seen.bytes) {
                Value::Int(value) => value as f64,
                Value::Real(value) => value,
                Value::Bool(_) => panic!("neither is a bool"),
            };
            assert!((-SWING..=SWING).contains(&value), "{} is {value}", point.name);
        }
    }

    /// The values stand still.
    fn worsen(&self, quality: Quality, inputs: &mut Inputs) {
        for (id, _) in self.ours(Direction::In) {
            inputs.quality[id.index()] = inputs.quality[id.index()].max(quality);
        }
    }

    /// Anything may come, and it passes for good unless it is not a number.
    fn babble(&self, seen: &Inputs, inputs: &mut Inputs) {
        for (id, point) in self.ours(Direction::In) {
            let quality = seen.quality[id.index()];
            assert!(quality == Quality::Good || (quality == Quality::Sensor && id == NOISE));
            inputs.quality[id.index()] = quality;
            if quality == Quality::Good {
                copy(point, &seen.bytes, &mut inputs.bytes);
            }
        }
    }

    pub fn write(&mut self, now: Duration, image: &[u8]) -> Option<Fault> {
        if self.failure == Some(Injection::Disconnect) {
            return Some(Fault::Disconnected);
        }
        let mut frame = vec![0; self.sent.len()];
        self.ours(Direction::Out).for_each(|(_, point)| copy(point, image, &mut frame));
        if frame != self.sent {
            self.sent = frame;
            self.changed = now;
        }
        match self.failure {
            Some(Injection::Slow { .. }) => {
                self.late_out.push((now, self.sent.clone()));
                self.deliver(now);
            }
            _ => {
                self.has.clone_from(&self.sent);
                self.arrived = self.changed;
            }
        }
        None
    }

    /// Whether the plant is known to have the newest outputs.
    pub fn is_confirmed(&self) -> bool {
        self.failure != Some(Injection::Disconnect) && self.arrived >= self.changed
    }
}
