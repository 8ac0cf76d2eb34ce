//! What the settings depend on besides the file: its folder, the environment, the points in force.
//!
//! Which variable of the environment gives the default of which key stands beside the settings of
//! that key: `plugins.rs`, `state.rs`, `control.rs`.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::file::Maybe;
use crate::process::image::Points;

/// What the settings depend on besides the file: its folder, the environment, the points in force.
pub(super) struct Surroundings<'e> {
    /// The folder of the configuration file.
    pub(super) folder: PathBuf,
    /// Looks up an environment variable.
    pub(super) env: &'e dyn Fn(&str) -> Option<OsString>,
    /// The points in force, if a daemon runs already.
    pub(super) before: &'e Points,
    /// Whether the daemon runs as root. It is then the machine's own daemon, not that of a user,
    /// and its state directory is not in a home.
    pub(super) is_root: bool,
}

impl Surroundings<'_> {
    /// The path of a key, relative to the folder of the file, or the default.
    pub(super) fn path(&self, said: &Maybe<PathBuf>, default: PathBuf) -> PathBuf {
        said.as_ref().map_or(default, |said| self.folder.join(&said.value))
    }

    /// A folder from the environment.
    pub(super) fn var(&self, name: &str) -> Option<PathBuf> {
        folder_in(self.env, name)
    }
}

/// A folder from the environment. Relative paths do not count, as the XDG specification demands.
/// systemd may list several folders; the first is the daemon's.
pub(super) fn folder_in(env: &dyn Fn(&str) -> Option<OsString>, name: &str) -> Option<PathBuf> {
    let value = env(name)?;
    std::env::split_paths(&value).next().filter(|path| path.is_absolute())
}

/// The folder of a file; empty if the path has none.
pub(super) fn folder(path: &Path) -> PathBuf {
    path.parent().map(Path::to_owned).unwrap_or_default()
}
