//! `camshaft check`: configurations and modules, judged without running anything.
//!
//! The judging is done elsewhere: by the configuration's loader, and for modules by the compile
//! worker, because they may be hostile. This collects verdicts and prints them.

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::args::CONFIG;
use super::screen::Screen;
use super::table::Style;
use super::unit::bytes;
use super::{Exit, Failed, Outcome, workshop};
use crate::config;
use crate::plugin::check::Report;
use crate::plugin::{Limits, Refusal, read_module};
use crate::text::legible;

/// What was found about one file.
#[derive(Debug, Serialize)]
struct Finding {
    /// As it was named.
    file: String,
    /// Whether it can be used.
    ok: bool,
    #[serde(flatten)]
    verdict: Verdict,
}

#[derive(Debug, Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
enum Verdict {
    /// A configuration.
    Config {
        /// What is wrong; empty when nothing is.
        problems: Vec<config::Problem>,
        /// What is worth knowing although nothing is wrong.
        notes: Vec<String>,
        /// The same in words, a line for each.
        #[serde(skip)]
        text: String,
    },
    /// A module.
    Module {
        /// What it is, if it can be used.
        report: Option<Report>,
        /// Why not.
        refusal: Option<Refusal>,
    },
    /// No file.
    Unreadable {
        /// What the system said.
        error: String,
    },
}

/// Checks `files` and prints what was found.
pub(super) async fn check(files: &[PathBuf], json: bool, screen: &mut Screen) -> Outcome {
    let mut findings = Vec::new();
    for file in files {
        findings.push(examine(file).await?);
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
    // The message is empty because all has been said.
    match bad.iter().copied().find(is_config) {
        _ if bad.is_empty() => Ok(()),
        Some(_) => Err(Failed::new(Exit::Config, "")),
        None => Err(Failed::new(Exit::Failure, "")),
    }
}

async fn examine(file: &Path) -> Result<Finding, Failed> {
    let (ok, verdict) = if file.extension().is_some_and(|name| name == "toml") {
        config(file)
    } else {
        module(file).await?
    };
    Ok(Finding { file: file.display().to_string(), ok, verdict })
}

/// Loads a configuration as the daemon would.
fn config(file: &Path) -> (bool, Verdict) {
    match config::load(file) {
        Ok(config) => {
            let (problems, text) = (Vec::new(), String::new());
            (true, Verdict::Config { problems, notes: notes(&config), text })
        }
        Err(problems) => {
            let text = problems.to_string();
            (false, Verdict::Config { problems: problems.list, notes: Vec::new(), text })
        }
    }
}

/// What the machine does not have yet.
fn notes(config: &config::Config) -> Vec<String> {
    let dir = &config.plugins.dir;
    let shown = dir.display();
    let note = format!("plugins.dir: there is no {shown} yet; it is created at the start");
    (!dir.exists()).then_some(note).into_iter().collect()
}

/// Lets the compile worker look at a module, with the limits of the contract.
async fn module(file: &Path) -> Result<(bool, Verdict), Failed> {
    let workshop = workshop(Limits::default())?;
    let bytes = match read_module(file, &workshop.limits) {
        Ok(bytes) => bytes,
        Err(error) => return Ok((false, Verdict::Unreadable { error: error.to_string() })),
    };
    Ok(match workshop.check(&bytes).await {
        Ok(report) => (true, Verdict::Module { report: Some(report), refusal: None }),
        Err(refusal) => (false, Verdict::Module { report: None, refusal: Some(refusal) }),
    })
}

fn words(finding: &Finding, screen: &Screen) -> String {
    let file = legible(&finding.file);
    let good = screen.paint.with(Style::Good, "ok");
    let bad = screen.paint.with(Style::Bad, "bad");
    match &finding.verdict {
        Verdict::Config { text, .. } if !finding.ok => {
            let lines = text.lines().map(|line| format!("  {}\n", legible(line)));
            format!("{file}: {bad}\n{}", lines.collect::<String>())
        }
        Verdict::Config { notes, .. } => {
            let lines = notes.iter().map(|note| format!("  note: {}\n", legible(note)));
            format!("{file}: {good}\n{}", lines.collect::<String>())
        }
        Verdict::Module { report: Some(report), .. } => {
            format!("{file}: {good}; {}\n", legible(&describe(report)))
        }
        Verdict::Module { refusal: Some(refusal), .. } => {
            let Refusal { reason, remedy, .. } = refusal;
            format!("{file}: {bad}; {}\n  {}\n", legible(reason), legible(remedy))
        }
        Verdict::Unreadable { error } => format!("{file}: {bad}; {}\n", legible(error)),
        Verdict::Module { .. } => format!("{file}: {good}\n"),
    }
}

fn describe(report: &Report) -> String {
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

/// Whether the configuration of the quick start is here.
pub(super) fn is_config_here() -> bool {
    Path::new(CONFIG).exists()
}
