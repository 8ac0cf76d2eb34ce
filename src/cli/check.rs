//! `camshaft check`: checks configurations and modules without running a program.
//!
//! Configurations are checked with [`config::load`], as at the start of the daemon. Modules may be
//! hostile, so the compile worker checks them in a separate process. This file does the rest:
//! - selects the limits for the modules,
//! - checks whether each configured plugin has a file,
//! - prints the results.
//!
//! Example of the output:
//!
//! ```text
//! camshaft.toml: ok
//!   note: device[d]: it has no points and nothing else to do
//! tank.wasm: ok with the limits of camshaft.toml; ABI 1, 12 functions, 1.06 MiB of memory, ...
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::args::CONFIG;
use super::screen::Screen;
use super::table::Style;
use super::unit::bytes;
use super::{CommandResult, Exit, Failed, compile_service, outcome};
use crate::config::{self, Config, Problems};
use crate::patience::{self, PATIENCE};
use crate::plugin::module::check::ModuleReport;
use crate::plugin::module::compile::CompileService;
use crate::plugin::{Limits, Refusal, read_module};
use crate::text::{legible, nearest};

/// The largest number of directory entries that are read from a plugin folder. A daemon has far
/// fewer plugins.
const MAX_LISTED: usize = 100_000;

/// The result for one file.
#[derive(Debug, Serialize)]
struct Finding {
    /// Path of the file, as on the command line.
    file: String,
    /// Whether the file can be used.
    ok: bool,
    #[serde(flatten)]
    verdict: Verdict,
}

/// The kind of the file, and the results of its check.
#[derive(Debug, Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
enum Verdict {
    /// The file is a configuration.
    Config {
        /// The problems; empty if there are none.
        problems: Vec<config::Problem>,
        /// Notes on entries that are valid but are probably mistakes.
        notes: Vec<String>,
        /// The problems as text, one line each.
        #[serde(skip)]
        text: String,
    },
    /// The file is a module.
    Module {
        /// The configuration file with the limits for this module; `null` if the default limits
        /// were used.
        limits_of: Option<String>,
        /// Facts about the module, if the module can be used.
        report: Option<ModuleReport>,
        /// The reason why the module cannot be used.
        refusal: Option<Refusal>,
        /// Notes on the module: each is about something that is valid but is probably a mistake.
        notes: Vec<String>,
        /// The origin of the limits for this module, as text.
        #[serde(skip)]
        text: String,
    },
    /// The file cannot be read.
    Unreadable {
        /// The error of the system.
        error: String,
    },
}

/// For each configuration of this call: the configuration itself, or its problems.
type Loaded<'f> = BTreeMap<&'f Path, Result<Config, Problems>>;

/// The limits for the modules of this call.
struct Measure {
    compile_service: CompileService,
    /// The configuration file with these limits; `None` for the default limits.
    file: Option<String>,
    words: String,
}

/// Checks `files` and prints the results. Without `files`, checks the configuration of `--config`,
/// or `config/camshaft.toml`.
pub(super) async fn check(
    mut files: Vec<PathBuf>,
    config: Option<&Path>,
    json: bool,
    screen: &mut Screen,
) -> CommandResult {
    if files.is_empty() {
        files.push(config.unwrap_or(Path::new(CONFIG)).to_path_buf());
    }
    let mut loaded = Loaded::new();
    for file in files.iter().map(|file| &**file).filter(|file| is_config(file)).chain(config) {
        loaded.entry(file).or_insert_with(|| config::load(file));
    }
    let measure = measure(&files, config, &loaded)?;
    let mut findings = Vec::new();
    for file in &files {
        let (ok, verdict) = match loaded.get(&**file).filter(|_| is_config(file)) {
            Some(loaded) => judged(loaded),
            None => module(file, &measure).await,
        };
        findings.push(Finding { file: file.display().to_string(), ok, verdict });
    }
    if json {
        screen.json(&findings)?;
    } else {
        for finding in &findings {
            let text = words(finding, screen);
            screen.print(&text)?;
        }
    }
    let is_config = |finding: &&Finding| matches!(finding.verdict, Verdict::Config { .. });
    let bad: Vec<_> = findings.iter().filter(|finding| !finding.ok).collect();
    // The message is empty because the printed results already contain the problems.
    match bad.iter().copied().find(is_config) {
        _ if bad.is_empty() => Ok(()),
        Some(_) => Err(Failed::new(Exit::Config, "")),
        None => Err(Failed::new(Exit::Failure, "")),
    }
}

/// Whether a file is checked as a configuration. Other files are checked as modules.
fn is_config(file: &Path) -> bool {
    file.extension().is_some_and(|name| name == "toml")
}

/// Returns the limits for the modules. The limits come from the configuration `said`. Without
/// `said`, the limits come from the configuration among `files`, if `files` has exactly one
/// configuration and this one is correct. Otherwise the default limits are used.
///
/// # Errors
/// The configuration `said` is wrong. Or the system cannot tell the path of this program.
fn measure(files: &[PathBuf], said: Option<&Path>, loaded: &Loaded<'_>) -> Result<Measure, Failed> {
    let mut configs = files.iter().filter(|file| is_config(file));
    let (file, words) = match (said, configs.next(), configs.next()) {
        (Some(file), ..) => (Some(file), ""),
        (None, Some(only), None) => (Some(&**only), ", because the checked configuration is wrong"),
        (None, None, _) => (None, ""),
        (None, Some(_), Some(_)) => {
            (None, ", because several configurations are checked and --config does not choose one")
        }
    };
    let mut compile_service = compile_service(Limits::default())?;
    match file.map(|file| (file, &loaded[file])) {
        Some((file, Ok(config))) => {
            compile_service.limits = config.fixed.plugins.limits;
            compile_service.compiler = config.fixed.plugins.compiler;
            let file = file.display().to_string();
            let words = format!("with the limits of {file}");
            Ok(Measure { compile_service, file: Some(file), words })
        }
        Some((_, Err(problems))) if said.is_some() => Err(outcome::wrong(problems)),
        _ => Ok(Measure {
            compile_service,
            file: None,
            words: format!("with the default limits{words}"),
        }),
    }
}

/// Returns the result for a configuration, with its problems or its notes.
fn judged(loaded: &Result<Config, Problems>) -> (bool, Verdict) {
    match loaded {
        Ok(config) => {
            let (problems, text) = (Vec::new(), String::new());
            let mut notes = missing_files(config);
            notes.extend(config::notes(config));
            (true, Verdict::Config { problems, notes, text })
        }
        Err(problems) => {
            let (list, text) = (problems.list.clone(), problems.to_string());
            (false, Verdict::Config { problems: list, notes: Vec::new(), text })
        }
    }
}

/// Returns notes on configured plugins whose `.wasm` files do not exist on this machine. If the
/// plugin folder does not exist or cannot be read, returns one note about the folder.
fn missing_files(config: &Config) -> Vec<String> {
    let dir = &config.fixed.plugins.dir;
    let shown = dir.display();
    let place = dir.clone();
    let held = match patience::wait(PATIENCE, move || plugins_in(&place)) {
        Ok(held) => held,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return vec![format!(
                "plugins.dir: the folder {shown} does not exist; the daemon creates this folder \
                 when the daemon starts"
            )];
        }
        Err(error) => return vec![format!("plugins.dir: {shown} cannot be read: {error}")],
    };
    let declared: BTreeSet<&str> = config.live.programs.iter().map(|(name, _)| &**name).collect();
    let others: Vec<&str> =
        held.iter().map(|name| &**name).filter(|name| !declared.contains(name)).collect();
    let missing = config.live.programs.iter().filter(|(name, _)| !held.contains(&**name));
    let note = |name: &str| {
        let hint = match nearest(name, others.iter().copied()) {
            Some(near) => format!("; the folder has {near}.wasm, for which there is no [[plugin]]"),
            None => String::new(),
        };
        format!("plugin[{name}]: there is no {name}.wasm in {shown}{hint}")
    };
    missing.map(|(name, _)| note(name)).collect()
}

/// Returns the names of the plugins in a folder, without hidden files.
fn plugins_in(dir: &Path) -> io::Result<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    for entry in std::fs::read_dir(dir)?.take(MAX_LISTED) {
        let file = entry?.file_name();
        let name = file.to_str().and_then(|file| file.strip_suffix(".wasm"));
        names.extend(name.filter(|name| !name.starts_with('.')).map(str::to_owned));
    }
    Ok(names)
}

/// Checks a module with the compile worker.
async fn module(file: &Path, measure: &Measure) -> (bool, Verdict) {
    let Measure { compile_service, file: limits_of, words } = measure;
    let bytes = match read_module(file, &compile_service.limits) {
        Ok(bytes) => bytes,
        Err(error) => return (false, Verdict::Unreadable { error: error.to_string() }),
    };
    let (report, refusal) = match compile_service.check(&bytes).await {
        Ok(report) => (Some(report), None),
        Err(refusal) => (None, Some(refusal)),
    };
    let notes = report.iter().flat_map(|report| &report.notes).map(ToString::to_string).collect();
    let (ok, limits_of, text) = (report.is_some(), limits_of.clone(), words.clone());
    (ok, Verdict::Module { limits_of, report, refusal, notes, text })
}

/// Returns the result for one file as text.
fn words(finding: &Finding, screen: &Screen) -> String {
    let file = legible(&finding.file);
    let good = screen.paint.with(Style::Good, "ok");
    let bad = screen.paint.with(Style::Bad, "bad");
    match &finding.verdict {
        Verdict::Config { text, .. } if !finding.ok => {
            let lines = text.lines().map(|line| format!("  {}\n", legible(line)));
            format!("{file}: {bad}\n{}", lines.collect::<String>())
        }
        Verdict::Config { notes, .. } => format!("{file}: {good}\n{}", lines_of(notes)),
        Verdict::Module { report: Some(report), notes, text, .. } => {
            let (text, report) = (legible(text), legible(&describe(report)));
            format!("{file}: {good} {text}; {report}\n{}", lines_of(notes))
        }
        Verdict::Module { refusal: Some(refusal), text, .. } => {
            let Refusal { reason, remedy, .. } = refusal;
            let (text, reason, remedy) = (legible(text), legible(reason), legible(remedy));
            format!("{file}: {bad} {text}; {reason}\n  {remedy}\n")
        }
        Verdict::Unreadable { error } => format!("{file}: {bad}; {}\n", legible(error)),
        Verdict::Module { .. } => format!("{file}: {good}\n"),
    }
}

/// Returns the notes as text, one line each.
fn lines_of(notes: &[String]) -> String {
    notes.iter().map(|note| format!("  note: {}\n", legible(note))).collect()
}

/// Returns the facts of a module in one line.
fn describe(report: &ModuleReport) -> String {
    let imports = match report.imports.len() {
        0 => "imports nothing".into(),
        _ => format!("imports {}", report.imports.join(", ")),
    };
    let functions = match report.functions {
        1 => "1 function".into(),
        count => format!("{count} functions"),
    };
    format!(
        "ABI {}, {functions}, {} of memory, exports {}, {imports}",
        report.abi,
        bytes(report.memory_bytes),
        report.exports.join(", "),
    )
}

/// Whether `config/camshaft.toml` exists in the present folder. If the disk does not answer, the
/// result is true. The daemon then tries to read the file, and the error of this attempt is more
/// precise.
pub(super) fn is_config_here() -> bool {
    patience::wait(PATIENCE, || Ok(Path::new(CONFIG).exists())).unwrap_or(true)
}
