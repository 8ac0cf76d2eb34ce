//! The command line: one short function for each verb.
//!
//! A verb that concerns a running daemon is a client of the daemon's control socket and does
//! nothing else. The grammar is in `cli/args.rs` and the help in `cli/help.rs`. A verb and its
//! table stand in one file, named after what the verb is about: `cli/plugin.rs`, `cli/point.rs`,
//! `cli/force.rs`, `cli/machine.rs` and so on. Waits for outcomes are in `cli/outcome.rs`. Verbs
//! that read bytes from outside run in a child process (`cli/offline.rs`).

mod args;
mod check;
mod deploy;
mod force;
mod help;
mod history;
mod machine;
mod manual;
mod modbus;
mod offline;
mod outcome;
mod plugin;
mod point;
mod release;
mod remark;
mod replay;
mod screen;
mod status;
mod table;
mod unit;
mod value;
mod version;

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;

use crate::config::{self, Problems};
use crate::control::client::{Client, Error};
use crate::plugin::module::compile::CompileService;
use crate::plugin::{Compiler, Limits};
use crate::text::{legible, legible_lines};
use crate::{daemon, recipe};
use args::{Args, CONFIG, Named, Reach, Test, Verb};
pub use offline::CHILD_VERB;
use screen::Screen;

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
        Some(Verb::Completions { shell }) => manual::completions(shell),
        Some(Verb::Man { dir }) => manual::man(dir.as_deref()),
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
        Verb::Status { watch: true, list } => status::watch(&client(list.reach), screen).await,
        Verb::Status { list, .. } => status::status(list, screen).await,
        Verb::Plugins(list) => plugin::plugins(list, screen).await,
        Verb::History(what) => history::history(what, screen).await,
        Verb::Points(list) => point::points(list, screen).await,
        Verb::Vars(list) => point::vars(list, screen).await,
        Verb::Hold(named) => plugin::hold(named, screen).await,
        Verb::Release(named) => release::release(named, screen).await,
        Verb::Restart { name: Some(name), reach, .. } => {
            plugin::restart(Named { name, reach }, screen).await
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
        Verb::Set { name, value, reach } => point::set(&name, value, &client(reach), screen).await,
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
            unreachable!("the caller runs these itself: they do not wait")
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
