//! The verbs `completions` and `man`: text for shells and man pages.
//!
//! Both texts are generated from the grammar in `args.rs`, so they always match the program. These
//! verbs need no daemon.

use std::io::{self, Write};
use std::path::Path;

use clap::CommandFactory;

use super::CommandResult;
use super::args::Args;

/// Runs the verb `camshaft completions`.
pub(super) fn completions(shell: clap_complete::Shell) -> CommandResult {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Args::command(), "camshaft", &mut script);
    Ok(io::stdout().write_all(&script)?)
}

/// Runs the verb `camshaft man`: prints the man page, or writes the pages of all verbs into a
/// folder.
pub(super) fn man(dir: Option<&Path>) -> CommandResult {
    match dir {
        Some(dir) => Ok(clap_mangen::generate_to(Args::command(), dir)?),
        None => {
            let mut page = Vec::new();
            clap_mangen::Man::new(Args::command()).render(&mut page)?;
            Ok(io::stdout().write_all(&page)?)
        }
    }
}
