//! `completions` and `man`: what a shell and a reader of man pages learn of the grammar.
//!
//! Both are made from the grammar in `args.rs`, so that neither says what the program does not do.
//! No daemon is asked.

use std::io::{self, Write};
use std::path::Path;

use clap::CommandFactory;

use super::Outcome;
use super::args::Args;

/// The verb `camshaft completions`.
pub(super) fn completions(shell: clap_complete::Shell) -> Outcome {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Args::command(), "camshaft", &mut script);
    Ok(io::stdout().write_all(&script)?)
}

/// The verb `camshaft man`: prints the page, or writes all pages into a folder.
pub(super) fn man(dir: Option<&Path>) -> Outcome {
    match dir {
        Some(dir) => Ok(clap_mangen::generate_to(Args::command(), dir)?),
        None => {
            let mut page = Vec::new();
            clap_mangen::Man::new(Args::command()).render(&mut page)?;
            Ok(io::stdout().write_all(&page)?)
        }
    }
}
