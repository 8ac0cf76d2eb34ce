//! The start of the daemon. The start builds the parts of the daemon one after the other. The parts
//! that another part needs are built first.
//!
//! ```text
//!   config ──▶ open(): socket, files, devices, scan ──▶ prepare(): plugins ──▶ assemble()
//! ```
//! If a step fails, the start fails with one chain of reasons. Steps that may wait for a disk run
//! on separate threads, so SIGTERM or SIGINT can end the start at any step (`build/signal.rs`).
//! What the parts do after the start is described in `daemon.rs`.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::audit::Audit;
use super::field::{Devices, Field, Forces};
use super::link::{Reserved, ScanLink, Stall};
use super::plugins::{Beginning, Crashes, Loader, Owners, PluginFolder, Plugins, Roster, Store};
use super::reload::{self, Reload};
use super::service::{Logged, Service};
use super::stop::{STOPPED_BUT, halt, leave_in_time, unconfirmed};
use super::{Daemon, Event, TICK};
use crate::config::{self, Config};
use crate::control::server::Socket;
use crate::driver::{self, Driver, Plan};
use crate::heap::Trimming;
use crate::log::{self, LogWriter};
use crate::patience::{self, PATIENCE};
use crate::plugin::instance::stop::Timekeeper;
use crate::plugin::module::cache::Cache;
use crate::plugin::module::compile::CompileService;
use crate::plugin::module::folder;
use crate::plugin::module::versions::Versions;
use crate::process::line::{Line, LogSink};
use crate::process::variable::{Variable, Variables};
use crate::process::world::World;
use crate::scan::stats::Stats;
use crate::scan::{self, ScanHandle, Snapshot, thread};
use crate::supervisor::Supervisor;
use crate::systemd::{Notifier, Watchdog};
use crate::text::counted;
use crate::thread::runtime;

mod memory;
mod people;
mod signal;

use memory::Memory;
use people::People;
use signal::{Stop, off};

/// The largest number of programs' log lines in the queue: 1.2 MB, or the bursts of ten programs.
const MAX_LINES: usize = 1024;

/// The size of the event queue. If it is full, senders wait; no event is lost.
const MAX_EVENTS: usize = 64;

/// Runs the daemon with the configuration file at `path` until SIGTERM or SIGINT.
///
/// With `no_plugins` the daemon begins in recovery: it runs no plugin until an operator ends
/// recovery.
///
/// # Errors
/// The start fails, for example because of [`Problems`](crate::config::Problems); then no part
/// runs. Or, at the stop, a device has not confirmed its safe outputs.
pub fn run(path: &Path, no_plugins: bool) -> anyhow::Result<()> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    // These threads run the tasks beside the main loop, such as the control server. Blocking work
    // has other threads.
    builder.worker_threads(2);
    let runtime = runtime(builder).context("the runtime does not start")?;
    // The function drops the log writer last, so that the last log lines are still written.
    let mut writer = None;
    let outcome = runtime.block_on(live(path, no_plugins, &mut writer));
    // Preparations of modules may still run or hang. The end of the process ends them.
    runtime.shutdown_timeout(Duration::from_millis(100));
    outcome
}

/// Starts the daemon and runs it. A stop signal during the start ends the start.
async fn live(path: &Path, no_plugins: bool, writer: &mut Option<LogWriter>) -> anyhow::Result<()> {
    // The signal handlers are installed first, so that a signal can end the start in an orderly
    // way.
    let (events, inbox) = mpsc::channel(MAX_EVENTS);
    let stop = Stop::listen(&events)?;
    let (file, beginning) = (path.to_owned(), Arc::<Beginning>::default());
    let Some(config) = stop.or(pin!(off(move || config::load(&file)))).await else {
        *writer = Some(log::start(&log::Settings::default())?.1);
        return leave_early(&beginning);
    };
    let config = Arc::new(config??);
    let (log, log_writer) = log::start(&config.log())?;
    *writer = Some(log_writer);
    // If a signal stops a step, the future of the step is dropped last, because its drop may hang.
    let mut opening = pin!(open(Arc::clone(&config), no_plugins, Arc::clone(&beginning)));
    let Some(opened) = stop.or(opening.as_mut()).await else { return leave_early(&beginning) };
    let opened = opened?;
    let mut preparing = pin!(prepare(Arc::clone(&config), events.clone()));
    let Some(prepared) = stop.or(preparing.as_mut()).await else {
        return leave_scan(opened, &beginning).await;
    };
    let prepared = prepared.map_err(refused(&beginning))?;
    let (daemon, people) = assemble(Arc::unwrap_or_clone(config), log, events, opened, prepared);
    let outcome = daemon.live(inbox).await;
    people.leave().await;
    outcome
}

/// Returns a handler for a failed start. Before the parts are closed, the handler limits the time
/// of the exit and records an orderly end, because closing may hang.
fn refused(beginning: &Beginning) -> impl Fn(anyhow::Error) -> anyhow::Error {
    move |error| {
        leave_in_time(Some(format!("{error:#}")));
        beginning.end();
        error
    }
}

/// Ends a start whose scan does not run yet.
fn leave_early(beginning: &Beginning) -> anyhow::Result<()> {
    log_the_end();
    leave_in_time(None);
    beginning.end();
    Ok(())
}

/// Ends a start whose scan already runs. The outputs are safe, because no program has run. The
/// function waits until the devices have confirmed their outputs.
async fn leave_scan(mut opened: Opened, beginning: &Beginning) -> anyhow::Result<()> {
    log_the_end();
    let (scan, handle, ..) = &mut opened.scanning;
    let confirmed = halt(handle, drop).await;
    let trouble =
        (!confirmed).then(|| format!("{STOPPED_BUT} {}", unconfirmed(handle.latest.read())));
    leave_in_time(trouble.clone());
    beginning.end();
    if let Some(trouble) = trouble {
        // The thread of a scan that hangs never ends. The exit of the process ends it.
        scan.give_up();
        anyhow::bail!(trouble);
    }
    Ok(())
}

/// Reports to the log and to systemd that a signal has ended the start.
fn log_the_end() {
    const WORDS: &str = "stopping during the start: no program has run";
    Notifier::from_env().stopping(WORDS);
    tracing::info!("{WORDS}");
}

/// The parts that exist after the scan has started.
struct Opened {
    /// The control socket, which is bound. The daemon does not serve requests on the socket yet.
    socket: Socket,
    memory: Memory,
    keeper: Arc<Timekeeper>,
    devices: Devices,
    scanning: Scanning,
}

/// Opens everything that the scan needs, and starts the scan. Each part waits for its disk for at
/// most [`PATIENCE`]. If the caller drops the future, the opened parts are closed.
async fn open(
    config: Arc<Config>,
    no_plugins: bool,
    beginning: Arc<Beginning>,
) -> anyhow::Result<Opened> {
    let (path, mode) = (config.fixed.control.socket.clone(), config.fixed.control.mode);
    let socket = off(move || Socket::bind(&path, mode)).await??;
    let (all, begun, refused) = (Arc::clone(&config), Arc::clone(&beginning), refused(&beginning));
    let memory = off(move || memory::open(&all, no_plugins, &begun)).await;
    let memory = memory.flatten().map_err(&refused)?;
    let keeper = thread::timekeeper(&config.scan()).context("the timekeeper does not start");
    let keeper = keeper.map_err(&refused)?;
    let mut devices = Devices::new();
    let drivers = open_devices(&config, &mut devices).await.map_err(&refused)?;
    let scanning = start_scan(&config, memory.retain.restored(), keeper.clone(), drivers);
    let scanning = scanning.map_err(&refused)?;
    Ok(Opened { socket, memory, keeper, devices, scanning })
}

/// Makes the parts for plugins: the compile service and the watch of the plugin folder.
async fn prepare(
    config: Arc<Config>,
    events: mpsc::Sender<Event>,
) -> anyhow::Result<(CompileService, PluginFolder)> {
    let all = Arc::clone(&config);
    let compile_service = off(move || compile_service(&all)).await?;
    tokio::spawn(log_open_rights(compile_service.clone()));
    introduce(&config);
    Ok((compile_service, watch_folder(&config, &events).await?))
}

/// Puts the daemon together from its parts. The call waits for nothing.
fn assemble(
    config: Config,
    log: log::Handle,
    events: mpsc::Sender<Event>,
    opened: Opened,
    (compile_service, folder): (CompileService, PluginFolder),
) -> (Daemon, People) {
    let Opened { socket, memory, keeper, devices, scanning } = opened;
    let Memory { retain, recovery, record } = memory;
    let (scan, handle, samples, lines) = scanning;
    let loader = Loader::new(compile_service, keeper, events.clone());
    let people = People::listen(socket, &config, &events);
    tick(&events, TICK, || Event::Tick);
    tokio::spawn(reload::watch_file(config.path.clone(), config.stamp, events.clone()));
    if !retain.initial().is_empty() {
        tick(&events, config.fixed.retain.flush, || Event::Flush);
    }
    let mut supervisor = Supervisor::new(config.live.plugins.restart);
    record.versions.recall(&mut supervisor);
    let link = ScanLink {
        stall: Stall::new(&handle.position),
        scan: Some(scan),
        handle,
        lines,
        stats: Stats::new(samples),
        askers: HashMap::new(),
        last_ticket: 0,
        reserved: Reserved::default(),
    };
    let plugins = Plugins {
        supervisor,
        roster: Roster::default(),
        loader,
        feeds: Vec::new(),
        crashes: Crashes::new(config.fixed.state.dir.join("crash")),
        folder,
        store: Store::new(recovery.folder().map(|dir| Versions::new(dir.join("versions")))),
        record,
        recovery,
        owners: Owners::default(),
        lacks: BTreeSet::new(),
        trimming: Trimming::default(),
    };
    let field = Field { devices, forces: Forces::default(), retain, reset: None };
    let service = Service {
        log,
        notifier: Notifier::from_env(),
        watchdog: Watchdog::from_env(),
        started: Instant::now(),
        logged: Logged::default(),
        is_ready: false,
    };
    let (reload, audit) = (Reload::default(), Audit::new(events));
    let daemon = Daemon { config, link, plugins, field, service, reload, audit };
    (daemon, people)
}

/// A running scan with the daemon's ends of its queues: orders, durations, programs' log lines.
type Scanning =
    (thread::Running, ScanHandle, rtrb::Consumer<scan::stats::Sample>, rtrb::Consumer<Line>);

/// Devices that are not yet in the scan. A drop first asks all devices to leave, so that they leave
/// at the same time.
struct Drivers(Vec<Box<dyn Driver>>);

impl Drop for Drivers {
    fn drop(&mut self) {
        self.0.iter_mut().for_each(|driver| driver.leave());
    }
}

/// Plans every device on a thread that may wait for files, and then starts the device. If a plan
/// fails or is late, or if a device does not start, the start of the daemon fails.
async fn open_devices(config: &Arc<Config>, opened: &mut Devices) -> anyhow::Result<Drivers> {
    let mut drivers = Drivers(Vec::new());
    for (index, device) in config.live.devices.iter().enumerate() {
        let (all, exports) = (Arc::clone(config), opened.exports().clone());
        let plan = move || {
            let config = &all.live.devices[index].driver;
            driver::plan(config, &all.live.points, index, &exports, PATIENCE)
        };
        let driver = off(plan).await?.and_then(Plan::start);
        let driver = driver.with_context(|| format!("device {} does not open", device.name))?;
        opened.add(&device.name, &*driver);
        drivers.0.push(driver);
    }
    Ok(drivers)
}

/// Starts the scan. `restored` has the retained variables with their values from the disk. These
/// values replace the initial values.
fn start_scan(
    config: &Config,
    restored: &[(String, Variable)],
    keeper: Arc<Timekeeper>,
    mut drivers: Drivers,
) -> anyhow::Result<Scanning> {
    let mut variables = Variables::default();
    for (name, value) in config.live.variables.iter().chain(restored) {
        variables.write(name, *value).expect("the configuration has checked the variables");
    }
    variables.commit();
    let (queue, lines) = rtrb::RingBuffer::new(MAX_LINES);
    let log = LogSink::Queue { queue, lost: 0 };
    let world =
        World::new(Arc::clone(&config.live.points), variables, config.live.scan.period, log);
    let (ends, handle, samples) = scan::queues(&Snapshot::first(&world));
    let devices = std::mem::take(&mut drivers.0);
    let parts = thread::ScanParts { world: Box::new(world), devices, ends };
    let scan = thread::start(config.scan(), parts, keeper);
    Ok((scan.context("the scan does not start")?, handle, samples, lines))
}

/// Logs once which limits of the compile worker this system does not support. The daemon still
/// runs, because the limits only reduce the damage of a compiler defect, and no module that uses
/// such a defect is known.
async fn log_open_rights(compile_service: CompileService) {
    let open = compile_service.confinement().await;
    if !open.is_empty() {
        let open = open.join("; ");
        tracing::warn!(
            %open,
            "these limits of the compile worker have no effect on this system: {open}"
        );
    }
}

/// Makes the compile service. Without a usable cache, every start compiles all modules.
fn compile_service(config: &Config) -> CompileService {
    let folder = &config.fixed.plugins.cache;
    let place = folder.clone();
    let cache = patience::wait(PATIENCE, move || Cache::open(&place))
        .inspect_err(|error| {
            let folder = folder.display();
            tracing::warn!(
                %folder,
                %error,
                "plugins.cache: {folder} cannot be used ({error}); each start compiles all modules"
            );
        })
        .ok();
    CompileService {
        // Always the running release: an upgrade may have replaced the file at the program's path.
        program: "/proc/self/exe".into(),
        compiler: config.fixed.plugins.compiler,
        limits: config.fixed.plugins.limits,
        cache,
    }
}

/// Starts to watch the plugin folder, on a thread that may wait for its file system.
async fn watch_folder(
    config: &Config,
    events: &mpsc::Sender<Event>,
) -> anyhow::Result<PluginFolder> {
    let (dir, events) = (config.fixed.plugins.dir.clone(), events.clone());
    let shown = dir.display().to_string();
    let report = move |change| {
        // The send fails only after the daemon has stopped.
        let _ = events.blocking_send(Event::Folder(change));
    };
    let most = config.fixed.plugins.limits.module_bytes;
    let watch = tokio::task::spawn_blocking(move || folder::watch(dir, most, report)).await;
    watch
        .unwrap_or_else(|panic| Err(std::io::Error::other(panic)))
        .map(PluginFolder::new)
        .with_context(|| format!("plugins.dir: {shown} cannot be watched"))
}

/// Sends two events immediately, and then one event after each `period`.
fn tick(events: &mpsc::Sender<Event>, period: Duration, event: fn() -> Event) {
    let events = events.clone();
    let mut ticks = interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    tokio::spawn(async move {
        while events.send(event()).await.is_ok() {
            ticks.tick().await;
        }
    });
}

/// Logs the first lines: the configuration, the path of the control socket, and commands to try.
fn introduce(config: &Config) {
    let period = humantime::format_duration(config.live.scan.period);
    let (devices, points) = (config.live.devices.len(), config.live.points.len());
    let version = env!("CARGO_PKG_VERSION");
    let (file, folder) = (config.path.display(), config.fixed.plugins.dir.display());
    let socket = config.fixed.control.socket.display();
    tracing::info!(
        "camshaft {version} scans {} with {} every {period} ({file})",
        counted(devices, "device"),
        counted(points, "point")
    );
    tracing::info!("the plugin folder is {folder}; the control socket is {socket}");
    tracing::info!(
        "try in another terminal: camshaft status, camshaft points, or copy a .wasm file into \
         {folder}"
    );
}
