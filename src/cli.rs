//! The command line: one short function for each verb.
//!
//! A verb that concerns a running daemon is a client of the daemon's control socket and does
//! nothing else. The grammar is in `cli/args.rs` and the help in `cli/help.rs`. The layout of
//! tables is in `cli/show.rs`, and waits for outcomes in `cli/outcome.rs`. Verbs for the whole
//! machine are in `cli/machine.rs`, those for forces in `cli/force.rs`. Verbs that read bytes from
//! outside run in a child process (`cli/offline.rs`).

mod args;
mod check;
mod deploy;
mod force;
mod help;
mod history;
mod machine;
mod modbus;
mod offline;
mod outcome;
mod release;
mod remark;
mod replay;
mod screen;
mod show;
mod table;
mod unit;
mod version;

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{CommandFactory, Parser};
use tokio::signal::unix::SignalKind;

use crate::config::{self, Problems};
use crate::control::client::{Client, Error};
use crate::control::{PluginState, PluginView};
use crate::plugin::module::compile::CompileService;
use crate::plugin::{Compiler, Limits};
use crate::process::image::{Quality, Value};
use crate::text::{legible, legible_lines, nearest};
use crate::{daemon, recipe};
use args::{Args, CONFIG, History, List, Named, Reach, Test, Verb};
pub use offline::CHILD_VERB;
use outcome::ORDER_TIME;
use screen::Screen;

/// Pause between two pictures of `status --watch`: quick enough to follow, slow enough to read.
const REDRAW: Duration = Duration::from_millis(500);

/// The exit code of the program; the help lists them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Exit {
    /// The reader of standard output has left, which is no failure.
    Unread = 0,
    Failure = 1,
    Usage = 2,
    /// `EX_DATAERR` of sysexits.h.
    TooMuch = 65,
    /// `EX_UNAVAILABLE` of sysexits.h.
    Unreachable = 69,
    /// `EX_CONFIG` of sysexits.h; systemd shows it by this name.
    Config = 78,
}

/// The failure of a verb.
#[derive(Debug)]
struct Failed {
    exit: Exit,
    /// Text that is printed after `error: `, unless it is empty.
    message: String,
}

/// The result of a verb that prints its output itself.
type Outcome = Result<(), Failed>;

impl Failed {
    fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into() }
    }
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        match &error {
            Error::Unreachable(_) => Self::new(Exit::Unreachable, error.to_string()),
            Error::Failed(_) | Error::Ended(_) | Error::Strange(..) => {
                Self::new(Exit::Failure, legible(&error.to_string()))
            }
        }
    }
}

impl From<io::Error> for Failed {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::new(Exit::Unread, ""),
            _ => Self::new(Exit::Failure, error.to_string()),
        }
    }
}

/// Parses the arguments, runs the verb, and reports the result.
pub fn main() -> ExitCode {
    let verb = Args::parse().verb;
    let bounds = verb.as_ref().and_then(offline::bounds);
    report(match bounds {
        Some(bounds) => bounds.and_then(offline::run_in_child),
        None => perform(verb).map(|()| ExitCode::SUCCESS),
    })
}

/// Runs the child process of an offline verb: as [`main`] does, but within bounds.
pub fn child() -> ExitCode {
    let (arguments, bounds) = offline::confine();
    let outcome = perform(Args::parse_from(arguments).verb);
    report(match outcome {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(failed) => Err(offline::explained(failed, &bounds)),
    })
}

/// Prints the failure of a verb, if any, and returns the exit code.
fn report(outcome: Result<ExitCode, Failed>) -> ExitCode {
    match outcome {
        Ok(code) => code,
        Err(Failed { exit, message }) => {
            if !message.is_empty() {
                screen::say_last(legible_lines(&message));
            }
            ExitCode::from(exit as u8)
        }
    }
}

/// Runs a verb in this process. Without a verb, it runs the daemon if the usual configuration
/// exists.
fn perform(verb: Option<Verb>) -> Outcome {
    match verb {
        None if check::is_config_here() => run(Path::new(CONFIG), false),
        None => Err(Failed::new(
            Exit::Usage,
            format!(
                "there is no {CONFIG} here to run; name a configuration with `camshaft run FILE`, \
                 or see `camshaft --help`"
            ),
        )),
        Some(Verb::Run { config, no_plugins }) => run(&config, no_plugins),
        Some(Verb::Test(what)) => test(&what),
        Some(Verb::Replay(what)) => replay::replay(&what),
        Some(Verb::Completions { shell }) => completions(shell),
        Some(Verb::Man { dir }) => man(dir.as_deref()),
        Some(verb) => {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(ask(verb))
        }
    }
}

/// The verbs that wait: for the daemon, a device, a compile worker or the user.
async fn ask(verb: Verb) -> Outcome {
    let mut screen = Screen::new();
    let screen = &mut screen;
    match verb {
        Verb::Check { files, config, json } => {
            check::check(files, config.as_deref(), json, screen).await
        }
        Verb::Status { watch: true, list } => watch(&client(list.reach), screen).await,
        Verb::Status { list, .. } => status(list, screen).await,
        Verb::Plugins(list) => plugins(list, screen).await,
        Verb::History(what) => history(what, screen).await,
        Verb::Points(list) => points(list, screen).await,
        Verb::Vars(list) => vars(list, screen).await,
        Verb::Hold(named) => hold(named, screen).await,
        Verb::Release(named) => release::release(named, screen).await,
        Verb::Restart { name: Some(name), reach, .. } => {
            restart(Named { name, reach }, screen).await
        }
        Verb::Restart { reach, .. } => machine::restart_cold(&client(reach), screen).await,
        Verb::Reset { reach, .. } => machine::reset_retain(&client(reach), screen).await,
        Verb::Recover(reach) => machine::recover(&client(reach), screen).await,
        Verb::Reload(list) => machine::reload(list, screen).await,
        Verb::Diff(list) => machine::diff(list, screen).await,
        Verb::Deploy(what) => deploy::deploy(what, screen).await,
        Verb::Rollback(what) => deploy::roll_back(what, screen).await,
        Verb::Versions { name, list } => version::versions(&name, list, screen).await,
        Verb::Remove(named) => deploy::remove(named, screen).await,
        Verb::Set { name, value, reach } => set(&name, value, &client(reach), screen).await,
        Verb::Force(what) => force::force(what, screen).await,
        Verb::Unforce(what) => force::unforce(what, screen).await,
        Verb::Forces(list) => force::forces(list, screen).await,
        Verb::Fault { device, kind, settings, reach, .. } => {
            force::fault(&device, kind, settings, &client(reach), screen).await
        }
        Verb::Modbus(verb) => modbus::modbus(verb, screen).await,
        Verb::Run { .. }
        | Verb::Test(_)
        | Verb::Replay(_)
        | Verb::Completions { .. }
        | Verb::Man { .. } => {
            unreachable!("these wait for nobody and are done by the caller")
        }
    }
}

/// The client for the socket of the command line, or of the environment, or of the usual places.
fn client(reach: Reach) -> Client {
    let said = || std::env::var_os("CAMSHAFT_SOCKET").filter(|path| !path.is_empty());
    Client::new(match reach.socket.or_else(|| said().map(PathBuf::from)) {
        Some(socket) => vec![socket],
        None => config::likely_sockets(),
    })
}

/// Runs the daemon until it is ordered to stop.
fn run(config: &Path, no_plugins: bool) -> Outcome {
    daemon::run(config, no_plugins).map_err(|error| match error.downcast::<Problems>() {
        Ok(problems) => outcome::wrong(&problems),
        Err(error) => failure(error),
    })
}

/// Runs a module against recipes.
fn test(what: &Test) -> Outcome {
    let Test { module, recipes, budget, config, json } = what;
    let compile_service = compile_service(limits(config.as_deref())?)?;
    let report = recipe::run(&compile_service, module, recipes, *budget).map_err(failure)?;
    Screen::new().show(&report, *json, |report, _| format!("{report}\n"))?;
    // The message is empty because the report says everything.
    if report.is_good() { Ok(()) } else { Err(Failed::new(Exit::Failure, "")) }
}

/// The limits of a configuration, or the default ones.
///
/// # Errors
/// The configuration is wrong.
fn limits(config: Option<&Path>) -> Result<Limits, Failed> {
    let Some(file) = config else { return Ok(Limits::default()) };
    let config = config::load(file).map_err(|problems| outcome::wrong(&problems))?;
    Ok(config.fixed.plugins.limits)
}

/// The compile service for verbs that work without a daemon.
fn compile_service(limits: Limits) -> Result<CompileService, Failed> {
    Ok(CompileService {
        program: std::env::current_exe()?,
        compiler: Compiler::default(),
        limits,
        cache: None,
    })
}

/// A failure with the chain of its causes.
fn failure(error: anyhow::Error) -> Failed {
    Failed::new(Exit::Failure, format!("{error:#}"))
}

async fn status(list: List, screen: &mut Screen) -> Outcome {
    let view = client(list.reach).status().await?;
    Ok(screen.show(&view, list.json, show::status)?)
}

/// Draws the status until Ctrl-C. If the daemon stops, the error is shown until it returns. If no
/// daemon answers at the beginning, that is an error.
async fn watch(client: &Client, screen: &mut Screen) -> Outcome {
    let mut interrupt = tokio::signal::unix::signal(SignalKind::interrupt())?;
    let draw = async {
        let mut frame = show::status(&client.status().await?, screen.paint);
        loop {
            screen.redraw(&frame)?;
            tokio::time::sleep(REDRAW).await;
            frame = match client.status().await {
                Ok(view) => show::status(&view, screen.paint),
                Err(error) => format!("{error}\n"),
            };
        }
    };
    tokio::select! {
        result = draw => result,
        _ = interrupt.recv() => Ok(()),
    }
}

async fn plugins(list: List, screen: &mut Screen) -> Outcome {
    let client = client(list.reach);
    if list.json {
        let views = client.plugins().await?;
        return Ok(screen.show(&views[..], true, show::plugins)?);
    }
    // While the scan stands, the numbers of programs mean nothing, so the text says that it stands.
    let view = client.status().await?;
    let text = remark::stall(&view, screen.paint) + &show::plugins(&view.plugins, screen.paint);
    Ok(screen.print(&text)?)
}

async fn history(History { name, limit, list }: History, screen: &mut Screen) -> Outcome {
    let receipts = client(list.reach).history(name.as_deref(), limit).await?;
    Ok(screen.show(&receipts[..], list.json, history::table)?)
}

async fn points(list: List, screen: &mut Screen) -> Outcome {
    let views = client(list.reach).points().await?;
    Ok(screen.show(&views[..], list.json, show::points)?)
}

async fn vars(list: List, screen: &mut Screen) -> Outcome {
    let views = client(list.reach).vars().await?;
    Ok(screen.show(&views[..], list.json, show::vars)?)
}

/// Holds a plugin and waits until it is out of the scan.
async fn hold(Named { name, reach }: Named, screen: &mut Screen) -> Outcome {
    let client = client(reach);
    client.act(&name, "hold").await?;
    let is_held = |view: &PluginView| (view.state == PluginState::Held).then_some(true);
    settle(&client, &name, "it shall be held", is_held, screen).await
}

/// Restarts a program and waits for another instance than the one before, or for the reason why
/// there is none.
async fn restart(Named { name, reach }: Named, screen: &mut Screen) -> Outcome {
    let client = client(reach);
    let before = client.plugin(&name).await?.map(|view| view.generation);
    client.act(&name, "restart").await?;
    let has_begun = |view: &PluginView| match (view.state, &view.reason) {
        (PluginState::Preparing, _) => None,
        (PluginState::Running, _) if Some(view.generation) != before => Some(true),
        (_, reason) => reason.is_some().then_some(false),
    };
    settle(&client, &name, "it shall start anew", has_begun, screen).await
}

/// Waits until `judge` finds that what was wanted is so, or will not be; prints the state.
async fn settle(
    client: &Client,
    name: &str,
    wanted: &str,
    judge: impl Fn(&PluginView) -> Option<bool>,
    screen: &mut Screen,
) -> Outcome {
    let judge = |view: Option<&PluginView>| Some((judge(view?)?, view.cloned()));
    let seen = match outcome::watch(client, name, ORDER_TIME, judge).await? {
        Ok((true, Some(view))) => {
            return Ok(screen.print(&format!("{name}: {}\n", show::name(view.state)))?);
        }
        Ok((_, seen)) | Err(seen) => seen,
    };
    Err(outcome::too_late(client, name, wanted, seen.as_ref()).await)
}

/// Sets a point or a variable. If both have the name, the point is meant.
async fn set(name: &str, value: Value, client: &Client, screen: &mut Screen) -> Outcome {
    let (points, vars) = (client.points().await?, client.vars().await?);
    let is_point = points.iter().any(|point| point.name == name);
    let is_var = vars.iter().any(|var| var.name == name);
    let note = if is_point && is_var { " (the point; a variable has that name too)" } else { "" };
    let result = match (is_point, is_var) {
        (true, _) => client.set(name, value).await,
        (false, true) => client.set_var(name, value).await,
        (false, false) => {
            let points = points.iter().map(|point| &*point.name);
            let remedy = match nearest(name, points.chain(vars.iter().map(|var| &*var.name))) {
                Some(near) => format!("did you mean {near:?}?"),
                None => "`camshaft points` and `camshaft vars` list them".into(),
            };
            let message = format!("there is no point or variable {name:?}; {remedy}");
            return Err(Failed::new(Exit::Failure, message));
        }
    };
    result.map_err(|error| {
        let failed = Failed::from(error);
        Failed { message: failed.message + note, ..failed }
    })?;
    screen.print(&format!("{name}: set to {value}{note}\n"))?;
    let point = points.iter().find(|point| point.name == name);
    match point.filter(|point| point.reason == Quality::Forced) {
        Some(_) => {
            Ok(screen.print(&format!("{name}: it is forced, and that counts until it ends\n"))?)
        }
        None => Ok(()),
    }
}

fn completions(shell: clap_complete::Shell) -> Outcome {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Args::command(), "camshaft", &mut script);
    Ok(io::stdout().write_all(&script)?)
}

fn man(dir: Option<&Path>) -> Outcome {
    match dir {
        Some(dir) => Ok(clap_mangen::generate_to(Args::command(), dir)?),
        None => {
            let mut page = Vec::new();
            clap_mangen::Man::new(Args::command()).render(&mut page)?;
            Ok(io::stdout().write_all(&page)?)
        }
    }
}
