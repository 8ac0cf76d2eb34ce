//! Tests of the control socket and of the command line, without a real daemon.
//!
//! A [`Stage`] is a simulated daemon: it listens on a real socket and answers with fixed facts. The
//! client is tested in `control/client.rs`, the text of the commands in `control/command.rs`, and
//! hostile clients in `control/hostile.rs`.

mod client;
mod command;
mod hostile;

use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use camshaft::control::client::Client;
use camshaft::control::server::{Socket, serve};
use camshaft::control::{
    By, Call, Code, DeviceView, Event, Failure, PluginState, PluginView, PointView, Receipt, Reply,
    Request, Response, RetainView, StatusView, SwapView, VarView, Want,
};
use camshaft::driver::Delivery;
use camshaft::journal::Entry;
use camshaft::plugin::shadow::{Difference, ShadowReport};
use camshaft::plugin::{ModuleHash, Trap};
use camshaft::process::image::{Class, Direction, PointKind, Quality, Safe, Value};
use camshaft::process::variable::VariableKind;
use camshaft::scan::stats::Summary;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

/// Longest module that the played daemon takes.
const MODULE_BYTES: u64 = 1000;

/// What the played daemon knows.
#[derive(Default)]
struct Facts {
    /// Everything that was asked but looks at state.
    orders: Vec<Request>,
    plugins: Vec<PluginView>,
}

/// A played daemon behind a real socket.
struct Stage {
    folder: tempfile::TempDir,
    facts: Arc<Mutex<Facts>>,
    stop: Option<oneshot::Sender<()>>,
    server: JoinHandle<()>,
}

impl Stage {
    async fn set() -> Self {
        Self::with(answer).await
    }

    /// A daemon that answers with this function.
    async fn with(answer: fn(&mut Facts, Request) -> Reply) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let facts =
            Arc::new(Mutex::new(Facts { plugins: vec![tank(), blink()], ..Facts::default() }));
        let (calls, mut inbox) = mpsc::channel::<Call>(4);
        let known = Arc::clone(&facts);
        tokio::spawn(async move {
            while let Some(Call { request, reply, .. }) = inbox.recv().await {
                let _ =
                    reply.send(answer(&mut known.lock().expect("no test panics with it"), request));
            }
        });
        let socket = Socket::bind(&folder.path().join("control.sock"), 0o660).expect("a socket");
        let (stop, stopped) = oneshot::channel();
        let server = tokio::spawn(serve(socket, MODULE_BYTES, calls, async {
            let _ = stopped.await;
        }));
        Self { folder, facts, stop: Some(stop), server }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("control.sock")
    }

    fn client(&self) -> Client {
        Client::new(vec![self.path()])
    }

    fn facts(&self) -> MutexGuard<'_, Facts> {
        self.facts.lock().expect("no test panics with it")
    }

    /// Runs the binary against this daemon.
    async fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().await.expect("the binary runs")
    }

    fn command(&self, arguments: &[&str]) -> tokio::process::Command {
        let mut command = command(arguments);
        command.env("CAMSHAFT_SOCKET", self.path());
        command
    }

    /// Expects success with this text.
    async fn prints(&self, arguments: &[&str], expected: &str) {
        check(self.run(arguments).await, 0, expected, "");
    }

    /// Expects failure with this error.
    async fn fails(&self, arguments: &[&str], error: &str) {
        check(self.run(arguments).await, 1, "", &format!("error: {error}\n"));
    }
}

/// The binary with a clean environment.
fn command(arguments: &[&str]) -> tokio::process::Command {
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_camshaft"));
    command.args(arguments).env_clear().stdin(Stdio::null()).kill_on_drop(true);
    command
}

#[track_caller]
fn check(output: Output, code: i32, stdout: &str, stderr: &str) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let found = (output.status.code(), text(&output.stdout), text(&output.stderr));
    assert_eq!(found.1, stdout, "{found:#?}");
    assert_eq!(found.2, stderr, "{found:#?}");
    assert_eq!(found.0, Some(code));
}

/// What the daemon of most tests does.
fn answer(facts: &mut Facts, request: Request) -> Reply {
    let unknown = |name: &str| {
        Failure::new(Code::Unknown, format!("there is no plugin {name:?}; there are tank, blink"))
    };
    match &request {
        Request::Status => {
            let mut view = status(&facts.plugins);
            view.recovery.take_if(|_| facts.orders.contains(&Request::Recover));
            return Ok(Response::Status(view));
        }
        Request::Plugins => return Ok(Response::Plugins(facts.plugins.clone())),
        Request::Points => return Ok(Response::Points(points())),
        Request::Vars => return Ok(Response::Vars(vars())),
        Request::History { name, limit } => {
            let mut receipts = receipts();
            receipts.retain(|entry| {
                name.as_ref().is_none_or(|name| entry.what.plugin.as_deref() == Some(name))
            });
            receipts.drain(..receipts.len().saturating_sub(*limit));
            return Ok(Response::History(receipts));
        }
        _ => facts.orders.push(request.clone()),
    }
    match request {
        Request::Hold { name } => {
            let plugin = facts.plugins.iter_mut().find(|plugin| plugin.name == name);
            let plugin = plugin.ok_or_else(|| unknown(&name))?;
            (plugin.want, plugin.state) = (Want::Hold, PluginState::Held);
            Ok(Response::Plugin(plugin.clone()))
        }
        Request::Release { name } => {
            let plugin = facts.plugins.iter_mut().find(|plugin| plugin.name == name);
            let plugin = plugin.ok_or_else(|| unknown(&name))?;
            (plugin.want, plugin.state) = (Want::Run, PluginState::Running);
            Ok(Response::Done)
        }
        Request::Restart { name } => {
            let plugin = facts.plugins.iter_mut().find(|plugin| plugin.name == name);
            plugin.ok_or_else(|| unknown(&name))?.generation += 1;
            Ok(Response::Done)
        }
        Request::Remove { name } => {
            facts.plugins.retain(|plugin| plugin.name != name);
            Ok(Response::Done)
        }
        Request::Deploy { name, module } => Ok(deployed(facts, name.into(), &module)),
        Request::Set { point, .. } if point == "out.valve" => {
            let why = "out.valve is an output; only inputs of simulated devices can be set";
            Err(Failure::new(Code::Refused, why))
        }
        _ => Ok(Response::Done),
    }
}

/// Puts bytes in place; what they say becomes of them.
fn deployed(facts: &mut Facts, name: String, module: &[u8]) -> Response {
    let hash = format!("{:#}", ModuleHash::of(module));
    if !facts.plugins.iter().any(|plugin| plugin.name == name) {
        let fresh = PluginView {
            name: name.clone(),
            file: format!("{name}.wasm"),
            state: PluginState::Preparing,
            hash: None,
            ..tank()
        };
        facts.plugins.push(fresh);
    }
    let plugin = facts.plugins.iter_mut().find(|plugin| plugin.name == name);
    let plugin = plugin.expect("it was there or has been added");
    plugin.file_hash = Some(hash.clone());
    plugin.reason = None;
    match module {
        b"good" => {
            (plugin.state, plugin.hash) = (PluginState::Running, Some(hash.clone()));
            plugin.last_swap = Some(SwapView {
                detect_us: 12_300,
                compile_us: 3_410,
                prepare_us: 210,
                boundary_us: 6_100,
                missed_cycles: 0,
                cached: true,
                state_bytes: Some(4),
                ..SwapView::default()
            });
        }
        b"bad" => plugin.reason = Some("it is \x1b[31mtext\nnot a module".into()),
        _ => {}
    }
    Response::Deployed { name, hash }
}

fn summary(start: u64) -> Summary {
    let [p50_ns, p99_ns, p999_ns, max_ns] = [start, start * 3, start * 30, start * 300];
    Summary { count: 1000, p50_ns, p99_ns, p999_ns, max_ns }
}

fn tank() -> PluginView {
    PluginView {
        name: "tank".into(),
        file: "tank.wasm".into(),
        want: Want::Run,
        state: PluginState::Running,
        reason: None,
        quarantined: false,
        hash: Some("3f2a1b00".repeat(8)),
        file_hash: Some("3f2a1b00".repeat(8)),
        generation: 3,
        polls: 123_456,
        degraded: false,
        probation: false,
        probation_left: None,
        traps: 0,
        since_cycle: 17,
        restart_in_ms: None,
        memory_bytes: 131_072,
        budget_us: 2_500,
        every: 1,
        poll: summary(1_234),
        last_trap: None,
        trapped_hash: None,
        last_swap: None,
        denied: false,
        refused: Vec::new(),
        refused_others: 0,
        lost: Vec::new(),
        notes: Vec::new(),
        report: None,
    }
}

fn blink() -> PluginView {
    PluginView {
        name: "blink".into(),
        file: "blink.wasm".into(),
        state: PluginState::Backoff,
        reason: Some("unreachable in poll at offset 0x2a, cycle 99".into()),
        quarantined: false,
        hash: None,
        generation: 4,
        polls: 9,
        traps: 2,
        restart_in_ms: Some(400),
        memory_bytes: 0,
        every: 10,
        poll: Summary::default(),
        ..tank()
    }
}

fn status(plugins: &[PluginView]) -> StatusView {
    let device = |name: &str, fault: Option<&str>| DeviceView {
        name: name.into(),
        driver: "sim".into(),
        fault: fault.map(String::from),
        confirmed: fault.is_none(),
        unconfirmed: fault.iter().map(|_| "pump.run".to_owned()).collect(),
        parts: Vec::new(),
    };
    StatusView {
        version: "0.1.0".into(),
        pid: 4711,
        uptime_s: 7_500,
        config: "config/camshaft.toml".into(),
        config_refused: None,
        config_waiting: Vec::new(),
        socket: "/run/camshaft/control.sock".into(),
        folder: "plugins".into(),
        folder_ok: true,
        folder_trouble: None,
        folder_overlooked: None,
        folder_ignored: Vec::new(),
        plugins_missing: Vec::new(),
        cache: Some("/var/cache/camshaft".into()),
        cache_is_late: false,
        state: Some("/var/lib/camshaft".into()),
        recovery: Some("3 abnormal ends within 10m".into()),
        retain: Some(RetainView {
            variables: 3,
            writes: 1200,
            bytes: 240 << 10,
            failing_s: Some(7_500),
            reason: Some("No space left on device".into()),
            alarm: Some("retain.a: torn".into()),
        }),
        period_us: 10_000,
        cycle: 750_000,
        stalled: None,
        overruns: 2,
        missed: 3,
        lateness: summary(56_000),
        work: summary(31_000),
        samples_lost: 0,
        log_lines_lost: 0,
        forces: 0,
        history_trouble: None,
        devices: vec![device("plant", None), device("pump", Some("disconnected"))],
        plugins: plugins.to_vec(),
    }
}

fn points() -> Vec<PointView> {
    let input = PointView {
        name: "tank.level".into(),
        direction: Direction::In,
        kind: PointKind::F64,
        address: "0".into(),
        value: Value::Real(42.123_456),
        unit: "%".into(),
        description: String::new(),
        quality: Class::Good,
        reason: Quality::Good,
        opc_ua: 0,
        age_ms: None,
        delivery: Some(Delivery::Confirmed),
        safe: None,
        owner: None,
        device: "plant".into(),
    };
    let lost = PointView {
        name: "tank.temperature".into(),
        address: "8".into(),
        value: Value::Real(f64::NEG_INFINITY),
        unit: "°C".into(),
        quality: Class::Bad,
        reason: Quality::NoComm,
        opc_ua: 0x8031_0000,
        age_ms: Some(1500),
        delivery: None,
        ..input.clone()
    };
    let lamp = PointView {
        name: "lamp".into(),
        direction: Direction::Out,
        kind: PointKind::Bool,
        address: "8.1".into(),
        value: Value::Bool(true),
        unit: String::new(),
        safe: Some(Safe::Hold.into()),
        owner: Some("blink".into()),
        ..input.clone()
    };
    vec![input, lost, lamp]
}

fn vars() -> Vec<VarView> {
    let var = |name: &str, kind, value| VarView {
        name: name.into(),
        kind,
        value,
        retain: name == "setpoint",
        writer: (name == "setpoint").then(|| "tank".into()),
        writer_runs: true,
        set_by_operator: false,
        age_ms: (name == "setpoint").then_some(1_500),
    };
    vec![
        var("counter", VariableKind::Int, Value::Int(-7)),
        var("setpoint", VariableKind::Double, Value::Real(50.0)),
    ]
}

/// What a shadow run found: two differences in thirty polls.
fn tried() -> ShadowReport {
    ShadowReport {
        polls: 30,
        compared: 30,
        differing: 2,
        p99_ns: 12_340,
        differences: vec![Difference {
            point: "tank.valve".into(),
            cycle: 890,
            running: "5".into(),
            shadow: "6".into(),
        }],
        ..ShadowReport::default()
    }
}

/// One of each kind.
fn receipts() -> Vec<Entry<Receipt>> {
    let swap = SwapView {
        detect_us: 12_300,
        compile_us: 3_410,
        prepare_us: 210,
        boundary_us: 6_100,
        missed_cycles: 1,
        cached: false,
        ..SwapView::default()
    };
    let trap = Trap {
        kind: "unreachable".into(),
        function: Some("poll".into()),
        offset: Some(42),
        cycle: 990,
    };
    let (reason, remedy) = ("imports env.\x1b[2J".to_string(), "import less".to_string());
    let quarantined = Event::Quarantined { reason: "5 traps in a short time".into() };
    // Plugin, cycle, version, version before, event.
    let all = [
        ("tank", 17, "a", "", Event::Started { swap }),
        (
            "tank",
            900,
            "b",
            "a",
            Event::Swapped { swap: SwapView { cached: true, ..swap }, shadow: Some(tried()) },
        ),
        (
            "tank",
            950,
            "c",
            "b",
            Event::Refused { reason, remedy, count: 1, shadow: None, who: None },
        ),
        ("tank", 990, "b", "b", Event::Trapped { trap: trap.clone(), count: 1 }),
        ("tank", 991, "b", "b", Event::Restarted { swap: SwapView::default() }),
        ("tank", 990, "b", "b", Event::Trapped { trap, count: 8 }),
        ("tank", 1_050, "b", "b", quarantined),
        ("tank", 1_051, "b", "b", Event::Stopped),
        ("blink-led", 1_200, "", "", Event::Held { by: By::Configuration, who: None }),
        ("tank", 750_000, "", "", Event::Released { by: By::Operator, forgives: true, who: None }),
        ("tank", 750_010, "", "", Event::Removed),
    ];
    let hash = |letter: &str| (!letter.is_empty()).then(|| letter.repeat(64));
    let entry = |(index, (plugin, cycle, new, old, event)): (usize, (&str, _, _, _, _))| Entry {
        seq: 41 + index as u64,
        time: format!("2026-01-31T12:00:{index:02}.250Z"),
        what: Receipt {
            plugin: Some(plugin.into()),
            cycle,
            hash: hash(new),
            old_hash: hash(old),
            event,
        },
    };
    all.into_iter().enumerate().map(entry).collect()
}

/// Waits until `done`, but not for ever.
async fn eventually(what: &str, mut done: impl AsyncFnMut() -> bool) {
    let limit = tokio::time::Instant::now() + Duration::from_secs(20);
    while !done().await {
        assert!(tokio::time::Instant::now() < limit, "{what} does not come");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn write(folder: &Path, name: &str, content: &[u8]) -> String {
    let path = folder.join(name);
    std::fs::write(&path, content).expect("the disk has room");
    path.to_str().expect("a temporary folder has a plain name").into()
}
