//! The grammar of the command line, as types for the library clap.
//!
//! In this file, the `///` text of a verb, an argument or a flag is also its text in `--help`.
//! Help, shell completions and man pages are all generated from these types. The longer text below
//! the help of a verb is in `help.rs`.
//!
//! This file only parses. `cli.rs` calls the function of each verb. The functions are in the files
//! of their subjects, such as `point.rs`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args as Group, Parser, Subcommand};
use clap_complete::Shell;

use super::help::{
    CHECK_HELP, COMPLETIONS_HELP, DEPLOY_HELP, DIFF_HELP, FAULT_HELP, FORCE_HELP, HISTORY_HELP,
    RELEASE_HELP, RELOAD_HELP, REPLAY_HELP, RESET_HELP, RESTART_HELP, ROLLBACK_HELP, RUN_HELP,
    SET_HELP, TEST_HELP, VERSIONS_HELP,
};
use super::modbus::Modbus;
use super::value::{setting, value};
use crate::control::MAX_RECEIPTS;
use crate::name::{DeviceName, NoName, PluginName, PointName};
use crate::process::image::Value;

/// The configuration file, if the command line names none.
pub(super) const CONFIG: &str = "config/camshaft.toml";

/// Text below the general help.
const AFTER: &str = "\
Examples:
  camshaft                          run the daemon on config/camshaft.toml
  camshaft check my.toml tank.wasm  find mistakes without running anything
  camshaft status --watch           which programs run, and how fast
  camshaft deploy tank.wasm         the new code takes over between two cycles
  camshaft history tank             what happened to the plugin tank, and when
  camshaft fault plant freeze       make a simulated device fail, as an exercise

Exit codes:
  0   done
  1   failed; standard error says why
  2   the command line is wrong
  65  a file needs more time or memory than the verbs check, test and replay allow
  69  no daemon can be reached
  78  the configuration is wrong

Environment:
  CAMSHAFT_SOCKET  path of the control socket, if --socket is not given
  NO_COLOR         no colour even on a terminal";

/// A soft-PLC daemon: control programs are WebAssembly plugins, swapped while the machine runs.
#[derive(Debug, Parser)]
#[command(name = "camshaft", version, after_help = AFTER, max_term_width = 100)]
pub(super) struct Args {
    #[command(subcommand)]
    pub(super) verb: Option<Verb>,
}

/// How to find the daemon.
#[derive(Debug, Group)]
pub(super) struct Reach {
    /// Control socket of the daemon [default: $CAMSHAFT_SOCKET, or the default paths]
    #[arg(long, value_name = "PATH")]
    pub(super) socket: Option<PathBuf>,
}

/// One plugin of a daemon.
#[derive(Debug, Group)]
pub(super) struct Named {
    /// Name of the plugin: the name of its file without .wasm
    pub(super) name: PluginName,
    #[command(flatten)]
    pub(super) reach: Reach,
}

/// A list from a daemon.
#[derive(Debug, Group)]
pub(super) struct List {
    /// Print JSON, for scripts
    #[arg(long)]
    pub(super) json: bool,
    #[command(flatten)]
    pub(super) reach: Reach,
}

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Run the daemon until SIGTERM or Ctrl-C
    #[command(after_help = RUN_HELP)]
    Run {
        /// Configuration file of the daemon
        #[arg(default_value = CONFIG)]
        config: PathBuf,
        /// Run no plugin before `camshaft recover`: only scan and devices run, with safe outputs
        #[arg(long)]
        no_plugins: bool,
    },
    /// Check configurations and modules without running anything
    #[command(after_help = CHECK_HELP)]
    Check {
        /// Configurations and modules [default: the file of --config, or config/camshaft.toml]
        #[arg(value_name = "FILE")]
        files: Vec<PathBuf>,
        /// Compare modules with the limits of this configuration
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
        /// Print JSON, for scripts
        #[arg(long)]
        json: bool,
    },
    /// Show the state of the daemon: scan, devices, plugins
    Status {
        /// Redraw the status twice a second until Ctrl-C
        #[arg(long, conflicts_with = "json")]
        watch: bool,
        #[command(flatten)]
        list: List,
    },
    /// List the plugins, with the state and the problems of each
    Plugins(List),
    /// List what happened to plugins: starts, swaps, refusals, traps, quarantines, orders
    #[command(after_help = HISTORY_HELP)]
    History(History),
    /// Stop a program until `camshaft release`; the outputs of the program become safe
    Hold(Named),
    /// End the hold of a plugin, or the quarantine of a plugin that is not held
    #[command(after_help = RELEASE_HELP)]
    Release(Named),
    /// Replace a program's instance by a new instance of the same code, or restart all programs
    #[command(after_help = RESTART_HELP)]
    Restart {
        /// Name of the plugin: the name of its file without .wasm
        #[arg(required_unless_present = "cold", conflicts_with = "cold")]
        name: Option<PluginName>,
        /// Restart all programs, reset declared variables to initial values, delete all others
        #[arg(long)]
        cold: bool,
        #[command(flatten)]
        reach: Reach,
    },
    /// Give retained variables their initial values, also on disk
    #[command(after_help = RESET_HELP)]
    Reset {
        /// Reset the retained variables (required, to prevent a reset by mistake)
        #[arg(long, required = true)]
        retain: bool,
        #[command(flatten)]
        reach: Reach,
    },
    /// End recovery: let the plugins run
    Recover(Reach),
    /// Read the configuration file again, and apply the changes that need no daemon restart
    #[command(after_help = RELOAD_HELP)]
    Reload(List),
    /// Show the changes that `camshaft reload` would make
    #[command(after_help = DIFF_HELP)]
    Diff(List),
    /// Put a module into the plugin folder and wait for the outcome
    #[command(after_help = DEPLOY_HELP)]
    Deploy(Deploy),
    /// Go back to an earlier version of a plugin, and wait for the outcome
    #[command(after_help = ROLLBACK_HELP)]
    Rollback(Rollback),
    /// List the versions of a plugin: when each ran, for how long, and why it ended
    #[command(after_help = VERSIONS_HELP)]
    Versions {
        /// Name of the plugin
        name: PluginName,
        #[command(flatten)]
        list: List,
    },
    /// Delete a plugin's file; the program stops, and the outputs of the program become safe
    Remove(Named),
    /// List points with value, quality and owner
    Points(List),
    /// List variables
    Vars(List),
    /// Give a simulated input or a variable a value
    #[command(after_help = SET_HELP)]
    Set {
        /// Name of the point or variable
        name: String,
        /// true, false, on, off or a number (for a point, in the unit of the point)
        #[arg(allow_negative_numbers = true, value_parser = value)]
        value: Value,
        #[command(flatten)]
        reach: Reach,
    },
    /// Give a point a value for a limited time, which replaces that of the device or program
    #[command(after_help = FORCE_HELP)]
    Force(Force),
    /// End a force
    Unforce(Unforce),
    /// List the forced points: by whom, for how long and why
    Forces(List),
    /// Make a simulated device fail, or end its fault
    #[command(after_help = FAULT_HELP)]
    Fault {
        /// Name of the device
        device: DeviceName,
        /// disconnect, freeze, slow, garbage or hang
        #[arg(required_unless_present = "clear", conflicts_with = "clear")]
        kind: Option<String>,
        /// Settings of this kind of fault
        #[arg(value_name = "KEY=VALUE", value_parser = setting, conflicts_with = "clear")]
        settings: Vec<(String, serde_json::Value)>,
        /// End the fault of the device
        #[arg(long)]
        clear: bool,
        #[command(flatten)]
        reach: Reach,
    },
    /// Run a module offline against recipes, in virtual time
    #[command(after_help = TEST_HELP)]
    Test(Test),
    /// Repeat the cycles of a crash report offline: does the module trap at the same place?
    #[command(after_help = REPLAY_HELP)]
    Replay(Replay),
    /// Read, write and find Modbus units, without a daemon
    #[command(subcommand)]
    Modbus(Modbus),
    /// Print the completions for a shell
    #[command(after_help = COMPLETIONS_HELP)]
    Completions {
        /// Name of the shell
        shell: Shell,
    },
    /// Print the man page
    Man {
        /// Write the man page and one page for each verb into this folder, not to standard output
        #[arg(long, value_name = "FOLDER")]
        dir: Option<PathBuf>,
    },
}

/// What to force.
#[derive(Debug, Group)]
pub(super) struct Force {
    /// Name of the point, an input or an output
    pub(super) point: PointName,
    /// true, false, on, off or a number, in the unit of the point
    #[arg(allow_negative_numbers = true, value_parser = value)]
    pub(super) value: Value,
    /// How long the force lasts, at most 7 days
    #[arg(long = "for", value_name = "TIME", default_value = "15m",
        value_parser = humantime::parse_duration)]
    pub(super) lasting: Duration,
    /// Force until an operator ends the force, or the daemon ends
    #[arg(long, conflicts_with = "lasting")]
    pub(super) forever: bool,
    /// Person who is responsible for the force [default: the user who is logged in]
    #[arg(long)]
    pub(super) owner: Option<String>,
    /// Why the point is forced; `camshaft forces` shows this reason
    #[arg(long, default_value = "")]
    pub(super) reason: String,
    #[command(flatten)]
    pub(super) reach: Reach,
}

/// Which force to end.
#[derive(Debug, Group)]
pub(super) struct Unforce {
    /// Name of the point
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    pub(super) point: Option<PointName>,
    /// End every force
    #[arg(long)]
    pub(super) all: bool,
    #[command(flatten)]
    pub(super) reach: Reach,
}

/// What to run offline.
#[derive(Debug, Group)]
pub(super) struct Test {
    /// The module
    pub(super) module: PathBuf,
    /// Recipes: files with the inputs of the module and the expected outputs
    #[arg(required = true, value_name = "RECIPE")]
    pub(super) recipes: Vec<PathBuf>,
    /// CPU time for each poll
    #[arg(long, value_name = "TIME", default_value = "2500us",
        value_parser = humantime::parse_duration)]
    pub(super) budget: Duration,
    /// Allow the limits of this configuration instead of the defaults
    #[arg(long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// Print JSON, for scripts
    #[arg(long)]
    pub(super) json: bool,
}

/// What to run again.
#[derive(Debug, Group)]
pub(super) struct Replay {
    /// The crash report
    pub(super) report: PathBuf,
    /// File of the module, if the report does not contain the module
    #[arg(long, value_name = "FILE")]
    pub(super) module: Option<PathBuf>,
    /// Allow the limits of this configuration instead of the defaults
    #[arg(long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// How many of the last cycles to show
    #[arg(long, value_name = "N", default_value = "10")]
    pub(super) cycles: usize,
    /// Print JSON, for scripts
    #[arg(long)]
    pub(super) json: bool,
}

/// How long to wait for the outcome of a version.
#[derive(Debug, Group)]
pub(super) struct Waiting {
    /// Wait also for the end of the probation: exit code 1 if the version traps or is replaced
    #[arg(long)]
    pub(super) wait: bool,
    /// How long to wait until the version runs; --wait adds the time of the probation
    #[arg(long, default_value = "30s", value_parser = humantime::parse_duration)]
    pub(super) timeout: Duration,
}

/// What to deploy.
#[derive(Debug, Group)]
pub(super) struct Deploy {
    /// The module
    pub(super) file: PathBuf,
    /// Name of the plugin [default: the name of the file, without .wasm]
    #[arg(long, value_parser = plugin)]
    pub(super) name: Option<PluginName>,
    #[command(flatten)]
    pub(super) outcome: Waiting,
    #[command(flatten)]
    pub(super) reach: Reach,
}

/// What to go back to.
#[derive(Debug, Group)]
pub(super) struct Rollback {
    /// Name of the plugin
    pub(super) name: PluginName,
    /// First digits of the version's hash [default: the newest other good version in the store]
    #[arg(long, value_name = "HASH")]
    pub(super) to: Option<String>,
    /// Return to the version even if it is bad, and end the quarantine of this version
    #[arg(long, requires = "to")]
    pub(super) even_bad: bool,
    #[command(flatten)]
    pub(super) outcome: Waiting,
    #[command(flatten)]
    pub(super) reach: Reach,
}

/// Whose history, and how much of it.
#[derive(Debug, Group)]
pub(super) struct History {
    /// Name of a plugin, point, variable or device, present or removed [default: all]
    pub(super) name: Option<String>,
    /// How many of the newest entries to print, at most 1000
    #[arg(short = 'n', long, value_name = "N", default_value = "20", value_parser = limit)]
    pub(super) limit: usize,
    #[command(flatten)]
    pub(super) list: List,
}

/// Parses the name of a plugin, with or without `.wasm`.
pub(super) fn plugin(text: &str) -> Result<PluginName, NoName> {
    text.strip_suffix(".wasm").unwrap_or(text).parse()
}

/// Parses the number of receipts to list.
fn limit(text: &str) -> Result<usize, String> {
    let wanted = || format!("expected a number from 1 to {MAX_RECEIPTS}");
    text.parse().ok().filter(|limit| (1..=MAX_RECEIPTS).contains(limit)).ok_or_else(wanted)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    /// clap checks the grammar itself, for example for two flags with one name.
    #[test]
    fn the_grammar_is_sound() {
        Args::command().debug_assert();
    }

    /// `history -n` accepts only numbers from 1 to 1000.
    #[test]
    fn a_history_has_an_end() {
        fn check(text: &str, expected: Option<usize>) {
            assert_eq!(limit(text).ok(), expected, "{text}");
        }
        check("1", Some(1));
        check("1000", Some(1000));
        ["0", "1001", "-1", "all", ""].iter().for_each(|text| check(text, None));
    }
}
