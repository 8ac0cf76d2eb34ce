//! The data, besides the text of the file, from which the settings are built: the folder of the
//! file, the environment, and the points in force.
//!
//! The environment gives the defaults of some paths. For example, `STATE_DIRECTORY` of systemd is
//! the default of `state.dir`. The files of the sections choose the variable for each key:
//! `plugins.rs`, `state.rs`, `control.rs`. This file only reads the variables.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::file::Maybe;
use crate::process::image::Points;

/// The data, besides the text of the file, from which the settings are built. Outside of the tests,
/// `parse_with` in `config.rs` sets all fields.
pub(super) struct Surroundings<'e> {
    /// The folder of the configuration file. Relative paths in the file start from this folder.
    pub(super) folder: PathBuf,
    /// Looks up an environment variable by its name.
    pub(super) env: &'e dyn Fn(&str) -> Option<OsString>,
    /// The points that the daemon uses now. The list is empty at the start of the daemon, and in
    /// the commands that need no daemon.
    pub(super) before: &'e Points,
    /// Whether the process runs as root. A root daemon belongs to the machine and not to a user, so
    /// the default of `state.dir` does not use `HOME`.
    pub(super) is_root: bool,
}

impl Surroundings<'_> {
    /// Returns the path that a key gives, or the default if the key is absent. A relative path
    /// starts from the folder of the configuration file.
    pub(super) fn path(&self, said: &Maybe<PathBuf>, default: PathBuf) -> PathBuf {
        said.as_ref().map_or(default, |said| self.folder.join(&said.value))
    }

    /// Returns the folder that an environment variable names, as [`folder_in`] finds it.
    pub(super) fn var(&self, name: &str) -> Option<PathBuf> {
        folder_in(self.env, name)
    }
}

/// Returns the folder that the environment variable `name` contains. systemd may list several
/// folders, separated by colons; the first folder is returned. If the variable is not set, or if
/// its first path is relative, the result is `None`. The XDG specification demands that relative
/// paths are ignored.
pub(super) fn folder_in(env: &dyn Fn(&str) -> Option<OsString>, name: &str) -> Option<PathBuf> {
    let value = env(name)?;
    std::env::split_paths(&value).next().filter(|path| path.is_absolute())
}

/// Returns the folder of a file; an empty path if `path` is only a file name.
pub(super) fn folder(path: &Path) -> PathBuf {
    path.parent().map(Path::to_owned).unwrap_or_default()
}
