//! The section `[state]`: the state directory, in which the daemon stores the data that it needs
//! after a restart.
//!
//! The data are, for example, the values of the retained variables and the journal. This file only
//! finds the path. `state.rs` of the crate makes and locks the directory, and reports errors such
//! as missing rights. The key is read in `file.rs`.
//!
//! The section in a file:
//!
//! ```toml
//! [state]
//! dir = "/var/lib/camshaft"     # default: depends on the environment
//! ```

use std::path::PathBuf;

use super::file::Maybe;
use super::surroundings::Surroundings;

/// The section `[state]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateSettings {
    /// The state directory. Two daemons must not use the same state directory.
    pub dir: PathBuf,
}

/// Returns the settings of `[state]`.
pub(super) fn state(dir: &Maybe<PathBuf>, here: &Surroundings<'_>) -> StateSettings {
    StateSettings { dir: here.path(dir, usual(here)) }
}

/// Returns the default of `state.dir`. These environment variables are tried in this order:
/// `STATE_DIRECTORY` (set by systemd), `XDG_STATE_HOME`, `HOME`. If none of them names a folder,
/// the default is `/var/lib/camshaft`. For root `HOME` is skipped, because a root daemon belongs to
/// the machine.
fn usual(here: &Surroundings<'_>) -> PathBuf {
    let home = || here.var("HOME").filter(|_| !here.is_root);
    here.var("STATE_DIRECTORY")
        .or_else(|| Some(here.var("XDG_STATE_HOME")?.join("camshaft")))
        .or_else(|| Some(home()?.join(".local/state/camshaft")))
        .unwrap_or_else(|| "/var/lib/camshaft".into())
}
