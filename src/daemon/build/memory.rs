//! The opening of the state directory and its files, at the start of the daemon. The data in these
//! files outlives the daemon.
//!
//! ```text
//!   state directory ──▶ Retain (values) ──▶ Recovery (the start is recorded) ──▶ Record (history)
//! ```
//! Each step may wait for the disk, so the caller runs all steps on a thread that may block. The
//! contents of the files are described in `field/retain.rs`, `plugins/recovery.rs` and
//! `plugins/record.rs`.

use std::sync::Arc;

use anyhow::Context;

use crate::config::Config;
use crate::control::Receipt;
use crate::daemon::field::Retain;
use crate::daemon::plugins::{Beginning, Record, Recovery, recovery};
use crate::journal::Journal;
use crate::patience::{self, PATIENCE};
use crate::state::Folder;
use crate::text::{counted, is_or_are};

/// The data of earlier runs of the daemon, and the files in which this run is recorded.
pub(super) struct Memory {
    /// The retained variables and their files.
    pub(super) retain: Retain,
    /// Whether the daemon is in recovery, and the reason.
    pub(super) recovery: Recovery,
    /// The history of plugins, and the record of versions.
    pub(super) record: Record,
}

/// The state directory, or the reason why there is none.
type State = Result<Arc<Folder>, String>;

/// Opens the state directory and its files, and records the start of the daemon.
///
/// # Errors
/// The configuration has retained variables, but the state directory or the files of these
/// variables cannot be used. Or `retain.on_corrupt` or `retain.on_readonly` refuses the start.
pub(super) fn open(
    config: &Config,
    no_plugins: bool,
    beginning: &Arc<Beginning>,
) -> anyhow::Result<Memory> {
    let state = open_state(config)?;
    let folder = state.as_ref().ok();
    // The drop of the last reference to the folder releases the lock of the folder, and this may
    // hang. Therefore `beginning` also stores a reference to the folder, and drops this reference
    // last: at the end of the start, where a hang does no harm.
    folder.into_iter().for_each(|folder| beginning.is_in(folder));
    let retain = Retain::load(config, folder)?;
    let recovery = recovery::begin(folder, no_plugins, &config.fixed.recovery, beginning);
    let record = Record::new(open_journal(&state), folder.cloned());
    Ok(Memory { retain, recovery, record })
}

/// Opens the state directory. Without this directory, no data outlives the daemon. If the
/// directory cannot be opened and the configuration has retained variables, the daemon does not
/// start. Without retained variables, the daemon logs the problem and starts.
fn open_state(config: &Config) -> anyhow::Result<State> {
    let (dir, marked) = (config.fixed.state.dir.display(), config.fixed.retain.variables.len());
    let folder = config.fixed.state.dir.clone();
    match patience::wait(PATIENCE, move || Folder::open(&folder)) {
        Ok(folder) => {
            if let Some(trouble) = folder.trouble() {
                tracing::error!(
                    %dir,
                    trouble,
                    "state.dir: {dir} cannot be written ({trouble}): the daemon uses the retained \
                     values in this directory, and new retained values are lost when the daemon \
                     ends; save the files and replace the disk"
                );
            }
            Ok(Ok(Arc::new(folder)))
        }
        Err(error) if marked == 0 => {
            let why = format!("{dir} cannot be used: {error}");
            tracing::warn!(
                %dir,
                %error,
                "state.dir: {why}; the daemon does not count its abnormal ends, so they never lead \
                 to recovery; the history is in memory only"
            );
            Ok(Err(why))
        }
        Err(error) => Err(error).with_context(|| {
            let (variables, are) = (counted(marked, "variable"), is_or_are(marked));
            format!("state.dir: {dir} cannot be used, and {variables} {are} marked retain = true")
        }),
    }
}

/// Opens the journal of receipts on the disk. If the disk cannot be used, the journal is only in
/// memory.
fn open_journal(state: &State) -> Journal<Receipt> {
    let folder = match state {
        Ok(folder) => folder.path().to_path_buf(),
        // The reason was logged when the state directory could not be opened.
        Err(why) => return Journal::in_memory(format!("in memory only; {why}")),
    };
    let place = folder.clone();
    let opened = patience::wait(PATIENCE, move || Journal::open(&place));
    let opened = opened.inspect(|journal: &Journal<Receipt>| {
        let (damaged, folder) = (journal.damaged(), folder.display());
        if damaged > 0 {
            let lines = counted(damaged, "line");
            tracing::warn!(
                %folder,
                damaged,
                "the history in {folder} has {lines} that cannot be read (damaged, or from another \
                 release): the records in these lines are lost, also records of quarantines"
            );
        }
    });
    opened.unwrap_or_else(|error| {
        let folder = folder.display();
        let why = format!("in memory only; {folder} cannot be used: {error}");
        tracing::warn!(%folder, %error, "the history is {why}");
        Journal::in_memory(why)
    })
}
