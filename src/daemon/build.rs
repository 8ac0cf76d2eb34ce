//! Starts the daemon: every part in the order in which they need each other, or none.
//!
//! What can go wrong here ends the start with one chain of reasons; later troubles are state. What
//! the parts say to each other from then on is in `daemon.rs`.

use std::collections::HashMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::crash::Crashes;
use super::loader::Loader;
use super::record::Record;
use super::roster::Roster;
use super::say::Told;
use super::{Daemon, Event, TICK};
use crate::config::Config;
use crate::control::Receipt;
use crate::control::server::{self, Socket};
use crate::driver::{self, Driver};
use crate::journal::Journal;
use crate::log;
use crate::plugin::cache::Cache;
use crate::plugin::compile::Workshop;
use crate::plugin::folder;
use crate::plugin::stop::Timekeeper;
use crate::plugin::versions::Versions;
use crate::plugin::world::{Line, LogSink, World};
use crate::scan::stats::Stats;
use crate::scan::{self, Reins, Snapshot, thread};
use crate::supervisor::Supervisor;
use crate::systemd::{Notifier, Watchdog};
use crate::variable::Variables;

/// Room for guests' log lines between two ticks, 1.2 MB: ten programs may say their burst at once.
const MAX_LINES: usize = 1024;

/// Room for events; folder and loader wait when it is full, and lose nothing.
const MAX_EVENTS: usize = 64;

/// Room for requests of people; clients wait when it is full.
const MAX_CALLS: usize = 32;

/// Runs the daemon on `config` until SIGTERM or SIGINT.
///
/// # Errors
/// Whatever keeps it from starting, and then nothing of it runs; or that the devices have not
/// confirmed their safe outputs at the end.
pub fn run(config: Config) -> anyhow::Result<()> {
    let log = log::start(&config.log)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        // The loop, and the control interface beside it; what blocks has threads of its own.
        .worker_threads(2)
        .enable_all()
        .build()
        .context("the runtime does not start")?;
    let outcome = runtime.block_on(start(config, log));
    // A preparation may hang in its budget; it ends with the process.
    runtime.shutdown_timeout(Duration::from_millis(100));
    outcome
}

async fn start(config: Config, log: log::Handle) -> anyhow::Result<()> {
    // First of all: a signal during the start shall not leave half a daemon.
    let (events, inbox) = mpsc::channel(MAX_EVENTS);
    listen_to_signals(&events)?;
    let socket = Socket::bind(&config.control.socket, config.control.mode).await?;
    let keeper = thread::timekeeper(&config.scan).context("the timekeeper does not start")?;
    let (scan, reins, samples, lines) = start_scan(&config, Arc::clone(&keeper))?;
    let loader = Loader::new(workshop(&config)?, keeper, events.clone());
    introduce(&config);
    let folder = watch_folder(&config, &events)?;
    let (end, ended) = oneshot::channel();
    let control = listen_to_people(socket, &config, &events, ended);
    tick(&events);
    let is_root = nix::unistd::geteuid().is_root();
    let state = state_dir(|name| std::env::var_os(name), is_root);
    let daemon = Daemon {
        supervisor: Supervisor::new(config.plugins.restart),
        roster: Roster::default(),
        loader,
        scan: Some(scan),
        reins,
        lines,
        stats: Stats::new(samples),
        // Without a state folder a report is refused with this one's name.
        crashes: Crashes::new(
            state.clone().unwrap_or_else(|| "/var/lib/camshaft".into()).join("crash"),
        ),
        folder,
        folder_error: None,
        askers: HashMap::new(),
        last_ticket: 0,
        notifier: Notifier::from_env(),
        watchdog: Watchdog::from_env(),
        started: Instant::now(),
        pulse: (0, Instant::now()),
        told: Told::default(),
        record: Record::new(open_journal(state.as_deref())),
        versions: state.map(|folder| Versions::new(folder.join("versions"))),
        is_ready: false,
        config,
        log,
    };
    drop(events);
    let outcome = daemon.live(inbox).await;
    // Dropping the sender ends the server, which removes its socket.
    drop::<oneshot::Sender<()>>(end);
    let _ = control.await;
    outcome
}

/// Turns signals into events. SIGUSR1 and SIGUSR2 would end the process by default; somebody's
/// stray one must not, so they are caught and do nothing.
fn listen_to_signals(events: &mpsc::Sender<Event>) -> anyhow::Result<()> {
    type Make = fn() -> Option<Event>;
    let all: [(SignalKind, Make); 5] = [
        (SignalKind::terminate(), || Some(Event::Stop)),
        (SignalKind::interrupt(), || Some(Event::Stop)),
        (SignalKind::hangup(), || Some(Event::Reload)),
        (SignalKind::user_defined1(), || None),
        (SignalKind::user_defined2(), || None),
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

fn start_scan(config: &Config, keeper: Arc<Timekeeper>) -> anyhow::Result<Scanning> {
    let mut devices: Vec<Box<dyn Driver>> = Vec::new();
    for (index, device) in config.devices.iter().enumerate() {
        let opened = driver::open(&device.driver, &config.points, index);
        devices.push(opened.with_context(|| format!("device {} does not open", device.name))?);
    }
    let mut variables = Variables::default();
    for (name, value) in &config.variables {
        variables.write(name, *value).expect("the configuration has checked names and number");
    }
    variables.commit();
    let (queue, lines) = rtrb::RingBuffer::new(MAX_LINES);
    let log = LogSink::Queue { queue, lost: 0 };
    let world = World::new(Arc::clone(&config.points), variables, config.scan.period, log);
    let (ends, reins, samples) = scan::queues(&Snapshot::first(&world, devices.len()));
    let cargo = thread::Cargo { world: Box::new(world), devices, ends };
    let scan = thread::start(config.scan.clone(), cargo, keeper);
    Ok((scan.context("the scan does not start")?, reins, samples, lines))
}

fn workshop(config: &Config) -> anyhow::Result<Workshop> {
    let folder = &config.plugins.cache;
    let cache = Cache::open(folder)
        .inspect_err(|error| {
            let folder = folder.display();
            tracing::warn!(
                %folder,
                %error,
                "plugins.cache: {folder} cannot be used ({error}); every start compiles"
            );
        })
        .ok();
    Ok(Workshop {
        // Not the path it was started by: an upgrade may have replaced that file since.
        program: "/proc/self/exe".into(),
        compiler: config.plugins.compiler,
        limits: config.plugins.limits,
        cache,
    })
}

/// The journal of receipts: on the disk, or in memory where that cannot be.
fn open_journal(folder: Option<&Path>) -> Journal<Receipt> {
    let Some(folder) = folder else {
        let why = "in memory only; set STATE_DIRECTORY or HOME to give it a folder";
        tracing::warn!("the history is kept {why}");
        return Journal::in_memory(why);
    };
    Journal::open(folder).unwrap_or_else(|error| {
        let folder = folder.display();
        let why = format!("in memory only; {folder} cannot be used: {error}");
        tracing::warn!(%folder, %error, "the history is kept {why}");
        Journal::in_memory(why)
    })
}

/// Where a daemon keeps what must survive it: systemd's folder, the user's, or the machine's.
fn state_dir(var: impl Fn(&str) -> Option<OsString>, is_root: bool) -> Option<PathBuf> {
    let folder = |name: &str| {
        // Of the several that systemd may list, the first is ours.
        let first = std::env::split_paths(&var(name)?).next()?;
        first.is_absolute().then_some(first)
    };
    let users = || Some(folder("HOME")?.join(".local/state/camshaft"));
    folder("STATE_DIRECTORY")
        .or_else(|| Some(folder("XDG_STATE_HOME")?.join("camshaft")))
        .or_else(|| if is_root { Some("/var/lib/camshaft".into()) } else { users() })
}

fn watch_folder(config: &Config, events: &mpsc::Sender<Event>) -> anyhow::Result<folder::Watch> {
    let dir = &config.plugins.dir;
    let events = events.clone();
    let report = move |change| {
        // Fails only when the daemon has stopped.
        let _ = events.blocking_send(Event::Folder(change));
    };
    std::fs::create_dir_all(dir)
        .and_then(|()| folder::watch(dir.clone(), config.plugins.limits.module_bytes, report))
        .with_context(|| format!("plugins.dir: {} cannot be watched", dir.display()))
}

fn listen_to_people(
    socket: Socket,
    config: &Config,
    events: &mpsc::Sender<Event>,
    ended: oneshot::Receiver<()>,
) -> tokio::task::JoinHandle<()> {
    let (calls, mut inbox) = mpsc::channel(MAX_CALLS);
    let module_bytes = config.plugins.limits.module_bytes;
    let events = events.clone();
    tokio::spawn(async move {
        while let Some(call) = inbox.recv().await {
            if events.send(Event::Call(call)).await.is_err() {
                break;
            }
        }
    });
    let ended = async {
        // The sender is dropped, never used.
        let _ = ended.await;
    };
    tokio::spawn(server::serve(socket, module_bytes, calls, ended))
}

fn tick(events: &mpsc::Sender<Event>) {
    let events = events.clone();
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    tokio::spawn(async move {
        while events.send(Event::Tick).await.is_ok() {
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
        "camshaft {version} scans {devices} devices with {points} points every {period} ({file})"
    );
    tracing::info!("plugins are taken from {folder}; the control socket is {socket}");
    tracing::info!(
        "try in another terminal: camshaft status, camshaft points, or copy a .wasm file into \
         {folder}"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn state_lies_where_the_surroundings_say() {
        fn check(vars: &[(&str, &str)], expected: Option<&str>, as_root: &str) {
            let var = |name: &str| {
                let (_, value) = vars.iter().find(|(key, _)| *key == name)?;
                Some(OsString::from(value))
            };
            assert_eq!(state_dir(var, false), expected.map(PathBuf::from), "{vars:?}");
            assert_eq!(state_dir(var, true), Some(PathBuf::from(as_root)), "{vars:?}");
        }
        let (service, machine) = ("/var/lib/x", "/var/lib/camshaft");
        let home = ("HOME", "/h");
        check(&[], None, machine);
        check(&[home], Some("/h/.local/state/camshaft"), machine);
        check(&[home, ("XDG_STATE_HOME", "/s")], Some("/s/camshaft"), "/s/camshaft");
        check(&[home, ("XDG_STATE_HOME", "s")], Some("/h/.local/state/camshaft"), machine);
        let both = [("STATE_DIRECTORY", "/var/lib/x:/var/lib/x/plugins"), ("XDG_STATE_HOME", "/s")];
        check(&both, Some(service), service);
        check(&[("STATE_DIRECTORY", ""), ("HOME", "")], None, machine);
    }
}
