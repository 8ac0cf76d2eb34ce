//! A real scan on its own thread, for the tests of `stall.rs`.
//!
//! The scan has the devices of a configuration, a program that writes all outputs, and a gate
//! (`gate.rs`) at which the scan can be stopped. This file contains no tests.

use std::path::Path;
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};

use camshaft::config;
use camshaft::driver::export::exports;
use camshaft::driver::{self, Driver, Monitor, Part};
use camshaft::plugin::instance::program::{NewProgram, Program};
use camshaft::plugin::{Generation, Limits, Settings};
use camshaft::process::line::LogSink;
use camshaft::process::seat::Seat;
use camshaft::process::variable::Variables;
use camshaft::process::world::World;
use camshaft::scan::{self, Order, ScanHandle, Snapshot, thread};

use super::gate::Gate;
use crate::rig::{compiled, wat};

pub const PERIOD: Duration = Duration::from_millis(5);
pub const STALL: Duration = Duration::from_millis(100);

/// The longest that anything takes, on a machine that does other things as well.
const PATIENCE: Duration = Duration::from_secs(20);

/// Writes 7 to each of the first four bytes of the output image.
const SEVENS: &str = r#"(module
  (import "env" "wasm_write_output" (func $write (param i32 i32 i32) (result i32)))
  (memory (export "memory") 1) (data (i32.const 0) "\07\07\07\07")
  (func (export "poll") (drop (call $write (i32.const 0) (i32.const 0) (i32.const 4)))))"#;

pub struct Line {
    handle: ScanHandle,
    monitor: Monitor,
    gate: Option<Gate>,
    stopped_at: Instant,
    /// Dropped last: it waits for the scan.
    _running: thread::Running,
}

impl Line {
    /// Starts the scan of the only device of `toml`, and seats the program.
    pub fn start(toml: &str, gate: Gate) -> Self {
        let config =
            config::parse(toml, Path::new("/stall.toml")).unwrap_or_else(|e| panic!("{e}"));
        let points = config.live.points;
        let (_shown, exports) = exports();
        let device = driver::open(&config.live.devices[0].driver, &points, 0, &exports).unwrap();
        let monitor = device.monitor().unwrap();
        // Behind the gate comes the device's `write` of the same cycle.
        let devices: Vec<Box<dyn Driver>> = vec![device, gate.driver()];
        let settings = thread::Settings {
            period: PERIOD,
            priority: None,
            cpus: Vec::new(),
            lock_memory: false,
            wake_latency: None,
            stall: STALL,
            stall_exit: Duration::MAX,
        };
        let (queue, _) = rtrb::RingBuffer::new(16);
        let log = LogSink::Queue { queue, lost: 0 };
        let world = World::new(Arc::clone(&points), Variables::default(), PERIOD, log);
        let (ends, mut handle, _) = scan::queues(&Snapshot::first(&world));
        let keeper = thread::timekeeper(&settings).unwrap();
        let cargo = thread::ScanParts { world: Box::new(world), devices, ends };
        let running = thread::start(settings, cargo, Arc::clone(&keeper)).unwrap();

        let limits = Limits::default();
        let (hash, artifact) = compiled(&wat(SEVENS), limits).unwrap();
        let world = scan::rehearsal(handle.latest.read(), PERIOD);
        let settings = Settings { poll_budget: PERIOD, ..Settings::default() };
        let request = NewProgram {
            name: "sevens".into(),
            seat: Seat(0),
            hash,
            generation: Generation(1),
            settings,
        };
        let program = Program::prepare(request, &artifact, world, &limits, &keeper);
        handle.orders.push(Order::Install(Box::new(program.result.unwrap()))).unwrap();
        Self { handle, monitor, gate: Some(gate), stopped_at: Instant::now(), _running: running }
    }

    /// What the status shows of the device's parts.
    pub fn parts(&self) -> Vec<Part> {
        self.monitor.parts()
    }

    /// The newest news.
    pub fn news(&mut self) -> &Snapshot {
        self.handle.latest.read()
    }

    /// Whether the scan believes that the device has the outputs of the latest cycle.
    pub fn is_confirmed(&mut self) -> bool {
        self.news().is_confirmed()
    }

    /// Stops the scan at the gate, and says in which cycle.
    pub fn stop(&mut self) -> u64 {
        self.gate.as_ref().unwrap().close();
        self.until("the scan is stopped", |line| line.gate.as_ref().unwrap().is_reached());
        self.stopped_at = Instant::now();
        self.news().cycle
    }

    /// For how long it has been stopped.
    pub fn stopped_for(&self) -> Duration {
        self.stopped_at.elapsed()
    }

    /// Lets it go on.
    pub fn go(&mut self) {
        self.gate.take().unwrap().open();
    }

    /// Waits until something is so.
    #[track_caller]
    pub fn until(&mut self, what: &str, mut is_so: impl FnMut(&mut Self) -> bool) {
        let started = Instant::now();
        while !is_so(self) {
            let parts = self.parts();
            assert!(started.elapsed() < PATIENCE, "{what}: not so; {parts:?}");
            sleep(Duration::from_millis(1));
        }
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        // A test that has failed may have left the scan before the gate, which would wait for ever.
        if let Some(gate) = self.gate.take() {
            gate.open();
        }
    }
}
