//! The command line. Each verb, such as `camshaft deploy`, has one short function.
//!
//! ```text
//! main ─▶ parse (args.rs) ─▶ perform ─▶ the file of the verb ─▶ control socket ─▶ daemon
//!           check, test, replay: the same in a child process with limits (offline.rs)
//! ```
//!
//! A verb for a running daemon sends requests to the daemon's control socket and prints the
//! answers. The daemon makes all decisions. The grammar is in `cli/args.rs` and the help in
//! `cli/help.rs`. One file contains the verbs of one subject, and their tables: `cli/plugin.rs`,
//! `cli/point.rs`, `cli/force.rs`, `cli/machine.rs` and so on. The functions that wait for the
//! outcome of an order, such as a deploy, are in `cli/outcome.rs`.
//!
//! Verbs that read files of unknown origin run in a child process (`cli/offline.rs`).

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
use crate::patience::PATIENCE;
use crate::plugin::module::compile::CompileService;
use crate::plugin::{Compiler, Limits};
use crate::text::{legible, legible_lines};
use crate::{daemon, heap, recipe};
use args::{Args, CONFIG, Named, Reach, Test, Verb};
pub use offline::CHILD_VERB;
use screen::Screen;

/// The exit code of the program. `camshaft --help` lists the codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Exit {
    /// Standard output has no reader any more, as with `camshaft history | head`. This is no
    /// failure.
    Unread = 0,
    /// The verb failed. Standard error has the reason.
    Failure = 1,
    /// The command line is wrong.
    Usage = 2,
    /// The work on a file needs more time or memory than `check`, `test` and `replay` may use. The
    /// number is `EX_DATAERR` of sysexits.h.
    TooMuch = 65,
    /// No daemon answers. The number is `EX_UNAVAILABLE` of sysexits.h.
    Unreachable = 69,
    /// The configuration is wrong. The number is `EX_CONFIG` of sysexits.h, and systemd prints this
    /// name.
    Config = 78,
}

/// The failure of a verb: the exit code and the error message.
#[derive(Debug)]
struct Failed {
    exit: Exit,
    /// The text after `error: `. If the text is empty, nothing is printed.
    message: String,
}

/// The result of a verb. The verb prints its output before it returns, so a success has no content.
type CommandResult = Result<(), Failed>;

impl Failed {
    /// Makes a failure from an exit code and a message.
    fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into() }
    }
}

impl From<Error> for Failed {
    /// Selects the exit code for an error of [`Client`]. A message of the daemon may contain text
    /// from other sources, so its control codes are escaped.
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
    /// Selects the exit code for an I/O error, which usually occurs while the verb prints. A pipe
    /// whose reader has ended is not a failure.
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::new(Exit::Unread, ""),
            _ => Self::new(Exit::Failure, error.to_string()),
        }
    }
}

/// Parses the arguments, runs the verb, and reports the result. `main.rs` calls this function.
pub fn main() -> ExitCode {
    let verb = Args::parse().verb;
    let bounds = verb.as_ref().and_then(offline::bounds);
    report(match bounds {
        Some(bounds) => bounds.and_then(offline::run_in_child),
        None => perform(verb).map(|()| ExitCode::SUCCESS),
    })
}

/// Does the work of [`main`] in the child process of the verbs `check`, `test` and `replay`, with
/// limits on time and memory.
pub fn child() -> ExitCode {
    let (arguments, bounds) = offline::confine();
    let outcome = perform(Args::parse_from(arguments).verb);
    report(match outcome {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(failed) => Err(offline::explained(failed, &bounds)),
    })
}

/// Prints the failure of a verb, if there is one. Returns the exit code.
fn report(outcome: Result<ExitCode, Failed>) -> ExitCode {
    match outcome {
        Ok(code) => code,
        Err(Failed { exit, message }) => {
            if !message.is_empty() {
                screen::print_last(legible_lines(&message));
            }
            ExitCode::from(exit as u8)
        }
    }
}

/// Runs a verb in this process. A call without a verb runs the daemon if `config/camshaft.toml`
/// exists.
fn perform(verb: Option<Verb>) -> CommandResult {
    match verb {
        None if check::is_config_here() => run(Path::new(CONFIG), false),
        None => Err(Failed::new(
            Exit::Usage,
            format!(
                "there is no {CONFIG} in this folder; name a configuration with `camshaft run \
                 FILE`, or see `camshaft --help`"
            ),
        )),
        Some(Verb::Run { config, no_plugins }) => run(&config, no_plugins),
        Some(Verb::Test(what)) => test(&what),
        Some(Verb::Replay(what)) => replay::replay(&what),
        Some(Verb::Completions { shell }) => manual::completions(shell),
        Some(Verb::Man { dir }) => manual::man(dir.as_deref()),
        Some(verb) => {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let done = runtime.block_on(ask(verb));
            // A thread of the runtime may hang, for example in the resolver. Without this limit,
            // the drop of the runtime would wait for the thread without an end.
            runtime.shutdown_timeout(PATIENCE);
            done
        }
    }
}

/// Runs the verbs that may wait: for the daemon, for a device, for a compile worker or for Ctrl-C.
async fn ask(verb: Verb) -> CommandResult {
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
            unreachable!("the function `perform` runs each verb that does not wait")
        }
    }
}

/// Returns a client for the daemon. The socket is that of `--socket`, or else that of
/// `CAMSHAFT_SOCKET`. Otherwise the client tries the usual paths.
fn client(reach: Reach) -> Client {
    let said = || std::env::var_os("CAMSHAFT_SOCKET").filter(|path| !path.is_empty());
    Client::new(match reach.socket.or_else(|| said().map(PathBuf::from)) {
        Some(socket) => vec![socket],
        None => config::likely_sockets(),
    })
}

/// Runs the daemon until a signal stops it or its start fails.
fn run(config: &Path, no_plugins: bool) -> CommandResult {
    heap::limit();
    daemon::run(config, no_plugins).map_err(|error| match error.downcast::<Problems>() {
        Ok(problems) => outcome::wrong(&problems),
        Err(error) => failure(error),
    })
}

/// Runs a module against recipes, and prints the report.
fn test(what: &Test) -> CommandResult {
    let Test { module, recipes, budget, config, json } = what;
    let compile_service = compile_service(limits(config.as_deref())?)?;
    let report = recipe::run(&compile_service, module, recipes, *budget).map_err(failure)?;
    Screen::new().show(&report, *json, |report, _| format!("{report}\n"))?;
    // The message is empty because the report already contains the failures.
    if report.is_good() { Ok(()) } else { Err(Failed::new(Exit::Failure, "")) }
}

/// Returns the module limits of a configuration, or the default limits without a configuration.
///
/// # Errors
/// The configuration is wrong.
fn limits(config: Option<&Path>) -> Result<Limits, Failed> {
    let Some(file) = config else { return Ok(Limits::default()) };
    let config = config::load(file).map_err(|problems| outcome::wrong(&problems))?;
    Ok(config.fixed.plugins.limits)
}

/// Returns a compile service for the verbs that work without a daemon. The service has no cache of
/// compiled modules.
fn compile_service(limits: Limits) -> Result<CompileService, Failed> {
    Ok(CompileService {
        program: std::env::current_exe()?,
        compiler: Compiler::default(),
        limits,
        cache: None,
    })
}

/// Returns a failure whose message contains all causes of the error.
fn failure(error: anyhow::Error) -> Failed {
    Failed::new(Exit::Failure, format!("{error:#}"))
}
