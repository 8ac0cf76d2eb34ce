//! A scan for tests: real modules and simulated time.
//!
//! A [`Rig`] has a real scan and the daemon's ends of its queues. The test gives orders, runs
//! single cycles and reads the snapshot after each cycle. This file contains no tests; many other
//! files use it, and so does `benches/side_by_side.rs`.

use std::path::PathBuf;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use camshaft::driver::Driver;
use camshaft::plugin::instance::program::{NewProgram, Preparation, Prepared, Program};
use camshaft::plugin::instance::stop::Timekeeper;
use camshaft::plugin::module::compile::{Artifact, CompileService};
use camshaft::plugin::{Compiler, Generation, Limits, ModuleHash, Refusal, Settings};
use camshaft::process::image::{Direction, Point, PointKind, Points, Safe, Value};
use camshaft::process::line::{Line, LogSink};
use camshaft::process::seat::Seat;
use camshaft::process::variable::{Variable, Variables};
use camshaft::process::world::World;
use camshaft::scan::{self, Order, Reconfiguration, Return, Scan, ScanHandle, Snapshot, thread};

static RUNTIME: LazyLock<tokio::runtime::Runtime> =
    LazyLock::new(|| tokio::runtime::Runtime::new().expect("a runtime starts"));

/// Compiles with this build's own worker.
pub fn compile_service(limits: Limits) -> CompileService {
    CompileService {
        program: PathBuf::from(env!("CARGO_BIN_EXE_camshaft")),
        compiler: Compiler::Cranelift,
        limits,
        cache: None,
    }
}

/// A module by its hash, compiled.
pub fn compiled(module: &[u8], limits: Limits) -> Result<(ModuleHash, Artifact), Refusal> {
    let hash = ModuleHash::of(module);
    Ok((hash, block_on(compile_service(limits).artifact(hash, module.into()))?))
}

/// Runs a future of the compile service.
pub fn block_on<F: Future>(future: F) -> F::Output {
    RUNTIME.block_on(future)
}

/// Bytes of a module written as text.
pub fn wat(text: &str) -> Vec<u8> {
    wat::parse_str(text).expect("the test's module is valid text")
}

/// A point at a byte of the image; a `.1` of its name is its bit.
pub fn point(
    name: &str,
    direction: Direction,
    kind: PointKind,
    byte: u32,
    bit: u8,
    safe: Safe,
) -> Point {
    Point { byte, bit, safe, ..Point::new(name, direction, kind) }
}

/// Inputs `in.level` (f64 at 0) and `in.button` (8.0); outputs `out.valve` (f64 at 0, safe 7.5),
/// `out.motor` (8.0, safe false), `out.lamp` (8.1, hold), `out.count` (u32 at 12, safe 0).
pub fn points() -> Arc<Points> {
    use Direction::{In, Out};
    let off = Safe::Value(Value::Bool(false));
    let all = vec![
        point("in.level", In, PointKind::F64, 0, 0, Safe::Hold),
        point("in.button", In, PointKind::Bool, 8, 0, Safe::Hold),
        point("out.valve", Out, PointKind::F64, 0, 0, Safe::Value(Value::Real(7.5))),
        point("out.motor", Out, PointKind::Bool, 8, 0, off),
        point("out.lamp", Out, PointKind::Bool, 8, 1, Safe::Hold),
        point("out.count", Out, PointKind::U32, 12, 0, Safe::Value(Value::Int(0))),
    ];
    Arc::new(Points::new(all, 16, 16))
}

/// A scan with its handle.
pub struct Rig {
    pub scan: Scan,
    pub handle: ScanHandle,
    pub samples: rtrb::Consumer<camshaft::scan::stats::Sample>,
    pub keeper: Arc<Timekeeper>,
    pub points: Arc<Points>,
    pub limits: Limits,
    pub log: rtrb::Consumer<Line>,
    pub now: Duration,
    /// Whether programs are prepared for a report of their end.
    pub is_recorded: bool,
    generation: u64,
}

/// The scan period on the bench.
pub const PERIOD: Duration = Duration::from_millis(10);

/// New settings for one program, and nothing else that is new.
pub fn configure(seat: Seat, settings: Settings) -> Order {
    let settings = vec![(seat, settings)];
    Order::Reconfigure(Box::new(Reconfiguration {
        period: PERIOD,
        settings,
        ..Reconfiguration::default()
    }))
}

impl Rig {
    pub fn new(points: Arc<Points>, devices: Vec<Box<dyn Driver>>) -> Self {
        Self::with_variables(points, devices, &[])
    }

    /// The same with variables that are there from the start.
    pub fn with_variables(
        points: Arc<Points>,
        devices: Vec<Box<dyn Driver>>,
        restored: &[(&str, Variable)],
    ) -> Self {
        let (queue, log) = rtrb::RingBuffer::new(256);
        let sink = LogSink::Queue { queue, lost: 0 };
        let mut variables = Variables::default();
        for (name, value) in restored {
            variables.write(name, *value).expect("they are few, with good names");
        }
        variables.commit();
        let world = World::new(Arc::clone(&points), variables, PERIOD, sink);
        let first = Snapshot::first(&world);
        let (ends, handle, samples) = scan::queues(&first);
        let settings = thread::Settings {
            period: PERIOD,
            priority: None,
            cpus: Vec::new(),
            lock_memory: false,
            wake_latency: None,
            stall: Duration::ZERO,
            stall_exit: Duration::MAX,
        };
        let keeper = thread::timekeeper(&settings).expect("a thread starts");
        let scan = Scan::new(Box::new(world), devices, ends, Arc::clone(&keeper));
        let limits = Limits::default();
        let now = Duration::from_secs(1);
        Self {
            scan,
            handle,
            samples,
            keeper,
            points,
            limits,
            log,
            now,
            is_recorded: true,
            generation: 0,
        }
    }

    /// One cycle, a period after the last; the news of it.
    pub fn cycle(&mut self) -> Snapshot {
        self.step();
        self.handle.latest.read().clone()
    }

    /// One cycle, without a look at the news.
    pub fn step(&mut self) {
        self.now += PERIOD;
        self.scan.cycle(self.now);
    }

    /// Compiles and prepares a module.
    pub fn prepare(
        &mut self,
        name: &str,
        seat: u16,
        module: &[u8],
        settings: Settings,
    ) -> Result<Prepared, Refusal> {
        self.preparation(name, seat, module, settings)?.result
    }

    /// The same, with the guest's log lines.
    pub fn preparation(
        &mut self,
        name: &str,
        seat: u16,
        module: &[u8],
        settings: Settings,
    ) -> Result<Preparation, Refusal> {
        let compiled = compiled(module, self.limits)?;
        Ok(self.instance(name, seat, &compiled, settings))
    }

    /// The same for a module that was compiled before.
    pub fn instance(
        &mut self,
        name: &str,
        seat: u16,
        (hash, artifact): &(ModuleHash, Artifact),
        settings: Settings,
    ) -> Preparation {
        self.generation += 1;
        let mut world = scan::rehearsal(self.handle.latest.read(), PERIOD);
        world.is_recorded = self.is_recorded;
        let request = NewProgram {
            name: name.into(),
            seat: Seat(seat),
            hash: *hash,
            generation: Generation(self.generation),
            settings,
        };
        Program::prepare(request, artifact, world, &self.limits, &self.keeper)
    }

    /// Prepares a module that is good, and seats it in one cycle.
    pub fn install(&mut self, name: &str, seat: u16, text: &str, settings: Settings) -> Snapshot {
        let prepared = self.prepare(name, seat, &wat(text), settings).expect("the module is good");
        self.order(Order::Install(Box::new(prepared)));
        self.cycle()
    }

    pub fn order(&mut self, order: Order) {
        self.handle.orders.push(order).expect("the queue of orders has room");
    }

    /// Drops the measured times, and says how many there were.
    pub fn samples_taken(&mut self) -> usize {
        std::iter::from_fn(|| self.samples.pop().ok()).count()
    }

    /// Drops what came back, and says how many programs were among it.
    pub fn programs_returned(&mut self) -> usize {
        let mut programs = 0;
        while let Ok(thing) = self.handle.returns.pop() {
            programs += usize::from(matches!(thing, Return::Program(_)));
        }
        programs
    }

    /// The value of a point in a snapshot.
    pub fn value(&self, snapshot: &Snapshot, name: &str) -> Value {
        let point = &self.points[self.points.find(name).expect("the point exists")];
        match point.direction {
            Direction::In => point.read(&snapshot.inputs.bytes),
            Direction::Out => point.read(&snapshot.outputs),
        }
    }
}

/// A program that counts its polls in `out.count`.
pub const COUNTER: &str = r#"(module
  (import "env" "wasm_write_output" (func $write (param i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "poll")
    (i32.store (i32.const 16) (i32.add (i32.load (i32.const 16)) (i32.const 1)))
    (drop (call $write (i32.const 12) (i32.const 16) (i32.const 4)))))"#;
