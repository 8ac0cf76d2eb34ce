//! The section `[state]`: where the daemon keeps what must outlive it.
//!
//! The directory itself is made and locked in `state.rs` of the base, and the daemon finds out
//! whether it may. The key is read in `file.rs`.

use std::path::PathBuf;

use super::file::Maybe;
use super::surroundings::Surroundings;

/// The section `[state]`: where the daemon keeps what must outlive it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateSettings {
    /// The folder, which no other daemon uses.
    pub dir: PathBuf,
}

/// The settings of `[state]`.
pub(super) fn state(dir: &Maybe<PathBuf>, here: &Surroundings<'_>) -> StateSettings {
    StateSettings { dir: here.path(dir, usual(here)) }
}

/// Default of `state.dir`: systemd's folder, else the user's, else the machine's. Root has no
/// folder in its home.
fn usual(here: &Surroundings<'_>) -> PathBuf {
    let home = || here.var("HOME").filter(|_| !here.is_root);
    here.var("STATE_DIRECTORY")
        .or_else(|| Some(here.var("XDG_STATE_HOME")?.join("camshaft")))
        .or_else(|| Some(home()?.join(".local/state/camshaft")))
        .unwrap_or_else(|| "/var/lib/camshaft".into())
}
