//! Starts the daemon: every part in the order in which they need each other, or none.
//!
//! What can go wrong here ends the start with one chain of reasons; later troubles are state. What
//! the parts say to each other from then on is in `daemon.rs`.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::audit::Audit;
use super::crash::Crashes;
use super::device::Devices;
use super::folder::PluginFolder;
use super::force::Forces;
use super::keep::Store;
use super::loader::Loader;
use super::record::Record;
use super::recovery::{self, Recovery};
use super::reload::{self, Cause, Reload};
use super::retain::Retain;
use super::roster::Roster;
use super::say::Told;
use super::stall::Stall;
use super::{Daemon, Event, TICK};
use crate::config::Config;
use crate::control::Receipt;
use crate::control::server::Socket;
use crate::driver::{self, Driver};
use crate::journal::Journal;
use crate::log;
use crate::patience::{self, PATIENCE};
use crate::plugin::cache::Cache;
use crate::plugin::compile::Workshop;
use crate::plugin::folder;
use crate::plugin::stop::Timekeeper;
use crate::plugin::versions::Versions;
use crate::plugin::world::{Line, LogSink, World};
use crate::scan::stats::Stats;
use crate::scan::{self, Reins, Snapshot, thread};
use crate::state::Folder;
use crate::supervisor::Supervisor;
use crate::systemd::{Notifier, Watchdog};
use crate::text::{counted, is_or_are};
use crate::variable::{Variable, Variables};

mod people;

use people::People;

/// Room for guests' log lines between two ticks, 1.2 MB: ten programs may say their burst at once.
const MAX_LINES: usize = 1024;

/// Room for events; folder and loader wait when it is full, and lose nothing.
const MAX_EVENTS: usize = 64;

/// Runs the daemon on `config` until SIGTERM or SIGINT.
///
/// With `no_plugins` it begins in recovery: none is run before an operator says so.
///
/// # Errors
/// Whatever keeps it from starting, and then nothing of it runs; or that the devices have not
/// confirmed their safe outputs at the end.
pub fn run(config: Config, no_plugins: bool) -> anyhow::Result<()> {
    // Dropped last: what is said on the way to the end is written.
    let (log, _writer) = log::start(&config.log)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        // The loop, and the control interface beside it; what blocks has threads of its own.
        .worker_threads(2)
        .enable_all()
        .build()
        .context("the runtime does not start")?;
    let outcome = runtime.block_on(start(config, log, no_plugins));
    // A preparation may hang in its budget; it ends with the process.
    runtime.shutdown_timeout(Duration::from_millis(100));
    outcome
}

async fn start(config: Config, log: log::Handle, no_plugins: bool) -> anyhow::Result<()> {
    // First of all: a signal during the start shall not leave half a daemon.
    let (events, inbox) = mpsc::channel(MAX_EVENTS);
    listen_to_signals(&events)?;
    let socket = Socket::bind(&config.control.socket, config.control.mode)?;
    let state = open_state(&config)?;
    let folder = state.as_ref().ok();
    let retain = Retain::load(&config, folder)?;
    let recovery = recovery::begin(folder, no_plugins, &config.recovery);
    let record = Record::new(open_journal(&state), folder.cloned());
    let built = build(config, log, events, socket, (retain, recovery, record)).await;
    // A start that is refused is an orderly end.
    let (daemon, people) = built.inspect_err(|_| recovery::end(folder))?;
    let outcome = daemon.live(inbox).await;
    people.leave().await;
    outcome
}

/// Builds the rest.
async fn build(
    config: Config,
    log: log::Handle,
    events: mpsc::Sender<Event>,
    socket: Socket,
    (retain, recovery, record): (Retain, Recovery, Record),
) -> anyhow::Result<(Daemon, People)> {
    let keeper = thread::timekeeper(&config.scan).context("the timekeeper does not start")?;
    let mut devices = Devices::new();
    let scanning = start_scan(&config, retain.restored(), keeper.clone(), &mut devices)?;
    let (scan, reins, samples, lines) = scanning;
    let workshop = workshop(&config);
    tokio::spawn(say_what_is_open(workshop.clone()));
    let loader = Loader::new(workshop, keeper, events.clone());
    introduce(&config);
    let folder = watch_folder(&config, &events).await?;
    let people = People::listen(socket, &config, &events);
    tick(&events, TICK, || Event::Tick);
    tokio::spawn(reload::watch_file(config.path.clone(), config.stamp, events.clone()));
    if !retain.initial().is_empty() {
        tick(&events, config.retain.flush, || Event::Flush);
    }
    let mut supervisor = Supervisor::new(config.plugins.restart);
    record.versions.recall(&mut supervisor);
    let daemon = Daemon {
        stall: Stall::new(&reins.position),
        supervisor,
        roster: Roster::default(),
        loader,
        feeds: Vec::new(),
        scan: Some(scan),
        reins,
        lines,
        stats: Stats::new(samples),
        crashes: Crashes::new(config.state.dir.join("crash")),
        devices,
        forces: Forces::default(),
        folder,
        retain,
        reset: None,
        store: Store::new(recovery.folder().map(|dir| Versions::new(dir.join("versions")))),
        recovery,
        reload: Reload::default(),
        askers: HashMap::new(),
        last_ticket: 0,
        notifier: Notifier::from_env(),
        watchdog: Watchdog::from_env(),
        started: Instant::now(),
        told: Told::default(),
        record,
        is_ready: false,
        audit: Audit::new(events),
        config,
        log,
    };
    Ok((daemon, people))
}

/// Turns signals into events. SIGUSR1 and SIGUSR2 would end the process by default; somebody's
/// stray one must not, so they are caught and do nothing. So is SIGXFSZ: a write beyond the limit
/// of a file's size (RLIMIT_FSIZE) then fails with EFBIG, an error of the disk like others.
fn listen_to_signals(events: &mpsc::Sender<Event>) -> anyhow::Result<()> {
    type Make = fn() -> Option<Event>;
    let all: [(SignalKind, Make); 6] = [
        (SignalKind::terminate(), || Some(Event::Stop)),
        (SignalKind::interrupt(), || Some(Event::Stop)),
        (SignalKind::hangup(), || Some(Event::Reload(Cause::Signal))),
        (SignalKind::user_defined1(), || None),
        (SignalKind::user_defined2(), || None),
        (SignalKind::from_raw(nix::libc::SIGXFSZ), || None),
    ];
    for (kind, make) in all {
        let mut signals = signal(kind).context("signals cannot be listened to")?;
        let events = events.clone();
        tokio::spawn(async move {
            while signals.recv().await.is_some() {
                if let Some(event) = make()
                    && events.send(event).await.is_err()
                {
                    break;
                }
            }
        });
    }
    Ok(())
}

type Scanning = (thread::Running, Reins, rtrb::Consumer<scan::stats::Sample>, rtrb::Consumer<Line>);

/// The state directory, or why there is none.
type State = Result<Arc<Folder>, String>;

/// Opens the state directory. Without one nothing outlives the daemon, which is an error only if
/// something should.
fn open_state(config: &Config) -> anyhow::Result<State> {
    let (dir, marked) = (config.state.dir.display(), config.retain.variables.len());
    let folder = config.state.dir.clone();
    match patience::wait(PATIENCE, move || Folder::open(&folder)) {
        Ok(folder) => {
            if let Some(trouble) = folder.trouble() {
                tracing::error!(
                    %dir,
                    trouble,
                    "state.dir: {dir} takes no writes ({trouble}): what is in it counts, and what \
                     is new is lost at the end; save the files and replace the disk"
                );
            }
            Ok(Ok(Arc::new(folder)))
        }
        Err(error) if marked == 0 => {
            let why = format!("{dir} cannot be used: {error}");
            tracing::warn!(
                %dir,
                %error,
                "state.dir: {why}; abnormal ends are not counted, and the history is kept in \
                 memory only"
            );
            Ok(Err(why))
        }
        Err(error) => Err(error).with_context(|| {
            let (variables, are) = (counted(marked, "variable"), is_or_are(marked));
            format!("state.dir: {dir} cannot be used, and {variables} {are} to be retained")
        }),
    }
}

/// `restored` are the variables that have another value than their initial one.
fn start_scan(
    config: &Config,
    restored: &[(String, Variable)],
    keeper: Arc<Timekeeper>,
    opened: &mut Devices,
) -> anyhow::Result<Scanning> {
    let mut devices: Vec<Box<dyn Driver>> = Vec::new();
    for (index, device) in config.devices.iter().enumerate() {
        let driver = driver::open(&device.driver, &config.points, index, opened.exports());
        let driver = driver.with_context(|| format!("device {} does not open", device.name))?;
        opened.add(&device.name, &*driver);
        devices.push(driver);
    }
    let mut variables = Variables::default();
    for (name, value) in config.variables.iter().chain(restored) {
        variables.write(name, *value).expect("the configuration has checked names and number");
    }
    variables.commit();
    let (queue, lines) = rtrb::RingBuffer::new(MAX_LINES);
    let log = LogSink::Queue { queue, lost: 0 };
    let world = World::new(Arc::clone(&config.points), variables, config.scan.period, log);
    let (ends, reins, samples) = scan::queues(&Snapshot::first(&world));
    let cargo = thread::Cargo { world: Box::new(world), devices, ends };
    let scan = thread::start(config.scan.clone(), cargo, keeper);
    Ok((scan.context("the scan does not start")?, reins, samples, lines))
}

/// Says once if this system lacks something that confines the compile worker. The daemon runs all
/// the same: each of these bounds what a defect of the compiler can do, and no module is known that
/// uses one.
async fn say_what_is_open(workshop: Workshop) {
    let open = workshop.confinement().await;
    if !open.is_empty() {
        let open = open.join("; ");
        tracing::warn!(
            %open,
            "the compile worker is not confined as it should be: {open}; its other limits hold"
        );
    }
}

fn workshop(config: &Config) -> Workshop {
    let folder = &config.plugins.cache;
    let place = folder.clone();
    let cache = patience::wait(PATIENCE, move || Cache::open(&place))
        .inspect_err(|error| {
            let folder = folder.display();
            tracing::warn!(
                %folder,
                %error,
                "plugins.cache: {folder} cannot be used ({error}); every start compiles"
            );
        })
        .ok();
    Workshop {
        // Not the path it was started by: an upgrade may have replaced that file since.
        program: "/proc/self/exe".into(),
        compiler: config.plugins.compiler,
        limits: config.plugins.limits,
        cache,
    }
}

/// The journal of receipts: on the disk, or in memory where that cannot be.
fn open_journal(state: &State) -> Journal<Receipt> {
    let folder = match state {
        Ok(folder) => folder.path().to_path_buf(),
        // It was told when the folder did not open.
        Err(why) => return Journal::in_memory(format!("in memory only; {why}")),
    };
    let place = folder.clone();
    let opened = patience::wait(PATIENCE, move || Journal::open(&place));
    let opened = opened.inspect(|journal: &Journal<Receipt>| {
        let (damaged, folder) = (journal.damaged(), folder.display());
        if damaged > 0 {
            let lines = counted(damaged, "line");
            tracing::warn!(
                %folder,
                damaged,
                "{lines} of the history in {folder} passed over as damaged or of another version: \
                 what was in them is forgotten, also if it was a quarantine"
            );
        }
    });
    opened.unwrap_or_else(|error| {
        let folder = folder.display();
        let why = format!("in memory only; {folder} cannot be used: {error}");
        tracing::warn!(%folder, %error, "the history is kept {why}");
        Journal::in_memory(why)
    })
}

/// Begins to watch the plugin folder, on a thread that may wait for its file system.
async fn watch_folder(
    config: &Config,
    events: &mpsc::Sender<Event>,
) -> anyhow::Result<PluginFolder> {
    let dir = config.plugins.dir.clone();
    let shown = dir.display().to_string();
    let events = events.clone();
    let report = move |change| {
        // Fails only when the daemon has stopped.
        let _ = events.blocking_send(Event::Folder(change));
    };
    let most = config.plugins.limits.module_bytes;
    let watch = tokio::task::spawn_blocking(move || folder::watch(dir, most, report)).await;
    watch
        .unwrap_or_else(|panic| Err(std::io::Error::other(panic)))
        .map(PluginFolder::new)
        .with_context(|| format!("plugins.dir: {shown} cannot be watched"))
}

/// Sends an event at once, and then at these intervals.
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

/// The first lines: what runs, where the control socket is, what to try next.
fn introduce(config: &Config) {
    let period = humantime::format_duration(config.scan.period);
    let (devices, points) = (config.devices.len(), config.points.len());
    let version = env!("CARGO_PKG_VERSION");
    let (file, folder) = (config.path.display(), config.plugins.dir.display());
    let socket = config.control.socket.display();
    tracing::info!(
        "camshaft {version} scans {} with {} every {period} ({file})",
        counted(devices, "device"),
        counted(points, "point")
    );
    tracing::info!("plugins are taken from {folder}; the control socket is {socket}");
    tracing::info!(
        "try in another terminal: camshaft status, camshaft points, or copy a .wasm file into \
         {folder}"
    );
}
