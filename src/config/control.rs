//! The section `[control]`: where people reach the daemon, and the places of its socket where no
//! configuration says another.
//!
//! There is one list of these places: the daemon makes the socket in the first of them, and the
//! command line looks in all. The socket itself is in `control/server/socket.rs`.

use std::ffi::OsString;
use std::path::PathBuf;

use super::file::ControlFile;
use super::problem::Report;
use super::surroundings::{Surroundings, folder_in};
use super::word::ModeWord;

/// The section `[control]`: how people reach the daemon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ControlSettings {
    /// Path of the unix socket.
    pub socket: PathBuf,
    /// File mode of the socket: 0o600, or 0o660 to let its group in.
    pub mode: u32,
}

/// Most bytes of a socket path: those of `sockaddr_un` less the final zero.
const MOST_SOCKET_BYTES: usize = 107;

/// Paths where a client looks for a daemon, the best first. The last one is that of the machine's
/// service, because an operator with a session may well mean that.
pub fn likely_sockets() -> Vec<PathBuf> {
    sockets(&|name| std::env::var_os(name))
}

/// The places that an environment names: the folder of the service, that of the session, and that
/// of the machine. There is at least one.
fn sockets(env: &dyn Fn(&str) -> Option<OsString>) -> Vec<PathBuf> {
    let session = folder_in(env, "XDG_RUNTIME_DIR").map(|path| path.join("camshaft"));
    let folders = [folder_in(env, "RUNTIME_DIRECTORY"), session, Some("/run/camshaft".into())];
    let mut all: Vec<_> =
        folders.into_iter().flatten().map(|path| path.join("control.sock")).collect();
    all.dedup();
    all
}

/// The settings of `[control]`.
pub(super) fn control(
    file: &ControlFile,
    here: &Surroundings<'_>,
    report: &Report<'_>,
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
