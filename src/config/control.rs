//! The section `[control]`: the socket through which the command line reaches the daemon.
//!
//! Without the key `socket`, the daemon makes its socket at the first path of the list
//! [`likely_sockets`]. The command line tries all paths of this list in order, unless `--socket` or
//! `CAMSHAFT_SOCKET` gives it a path. The socket itself is made in `control/server/socket.rs`.
//!
//! The section in a file:
//!
//! ```toml
//! [control]
//! socket = "/run/camshaft/control.sock"
//! mode = "0660"                 # the group may connect; default: "0600"
//! ```

use std::ffi::OsString;
use std::path::PathBuf;

use super::file::ControlFile;
use super::problem::ProblemReport;
use super::surroundings::{Surroundings, folder_in};
use super::word::ModeWord;

/// The section `[control]`: the path of the socket, and which users may connect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ControlSettings {
    /// Path of the unix socket.
    pub socket: PathBuf,
    /// File mode of the socket: with 0o600 only the owner can connect, and with 0o660 the owner and
    /// the group.
    pub mode: u32,
}

/// The longest socket path in bytes: the size of `sun_path` in `sockaddr_un`, without the final
/// zero.
const MOST_SOCKET_BYTES: usize = 107;

/// Returns the paths at which a client looks for a daemon, in this order. The last path is that of
/// a daemon that serves the whole machine. The list contains this path for every user, because a
/// user with a login session may want to reach that daemon.
pub fn likely_sockets() -> Vec<PathBuf> {
    sockets(&|name| std::env::var_os(name))
}

/// Returns the socket paths for an environment. The folders are, in this order: the folder of the
/// service (`RUNTIME_DIRECTORY`), the folder of the login session (`XDG_RUNTIME_DIR`), and the
/// folder of the machine (`/run/camshaft`). The list has at least one path.
fn sockets(env: &dyn Fn(&str) -> Option<OsString>) -> Vec<PathBuf> {
    let session = folder_in(env, "XDG_RUNTIME_DIR").map(|path| path.join("camshaft"));
    let folders = [folder_in(env, "RUNTIME_DIRECTORY"), session, Some("/run/camshaft".into())];
    let mut all: Vec<_> =
        folders.into_iter().flatten().map(|path| path.join("control.sock")).collect();
    all.dedup();
    all
}

/// Returns the settings of `[control]`. Reports a configured path that is too long for a socket.
pub(super) fn control(
    file: &ControlFile,
    here: &Surroundings<'_>,
    report: &ProblemReport<'_>,
) -> ControlSettings {
    let socket = here.path(&file.socket, sockets(here.env).remove(0));
    let bytes = socket.as_os_str().len();
    if let (Some(said), true) = (&file.socket, bytes > MOST_SOCKET_BYTES) {
        let right = format!("at most {MOST_SOCKET_BYTES} bytes, the limit of a socket's path");
        report.wrong_at(said, format!("a path of {bytes} bytes"), right);
    }
    let mode = match file.mode.as_ref().map(|said| said.value) {
        None | Some(ModeWord::Owner) => 0o600,
        Some(ModeWord::Group) => 0o660,
    };
    ControlSettings { socket, mode }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The paths of the socket depend on the environment.
    #[test]
    fn the_socket_is_where_the_surroundings_say() {
        fn check(service: Option<&str>, session: Option<&str>, expected: &[&str]) {
            let found = sockets(&|name: &str| {
                let value = if name == "RUNTIME_DIRECTORY" { service } else { session };
                value.map(OsString::from)
            });
            let expected: Vec<_> = expected.iter().map(PathBuf::from).collect();
            assert_eq!(found, expected, "{service:?} {session:?}");
        }
        let run = "/run/camshaft/control.sock";
        check(None, None, &[run]);
        check(None, Some("/run/user/7"), &["/run/user/7/camshaft/control.sock", run]);
        check(None, Some("relative"), &[run]);
        check(None, Some(""), &[run]);
        check(Some("/run/camshaft"), None, &[run]);
        check(Some("/run/a:/run/b"), None, &["/run/a/control.sock", run]);
    }
}
