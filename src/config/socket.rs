//! The places of the control socket where no configuration says another.
//!
//! There is one list: the daemon makes the socket in its first place, and the command line looks in
//! all of them. A configuration that names a place is read in `check.rs`.

use std::ffi::OsString;
use std::path::PathBuf;

/// Paths where a client looks for a daemon, the best first. The last one is that of the machine's
/// service, because an operator with a session may well mean that.
pub fn likely_sockets() -> Vec<PathBuf> {
    sockets(&|name| std::env::var_os(name))
}

/// The places that an environment names: the folder of the service, that of the session, and that
/// of the machine. There is at least one.
pub(super) fn sockets(env: &dyn Fn(&str) -> Option<OsString>) -> Vec<PathBuf> {
    let session = folder(env, "XDG_RUNTIME_DIR").map(|path| path.join("camshaft"));
    let folders = [folder(env, "RUNTIME_DIRECTORY"), session, Some("/run/camshaft".into())];
    let mut all: Vec<_> =
        folders.into_iter().flatten().map(|path| path.join("control.sock")).collect();
    all.dedup();
    all
}

/// A folder from the environment. Relative paths do not count, as the XDG specification demands.
/// systemd may list several folders; the first is the daemon's.
pub(super) fn folder(env: &dyn Fn(&str) -> Option<OsString>, name: &str) -> Option<PathBuf> {
    let value = env(name)?;
    std::env::split_paths(&value).next().filter(|path| path.is_absolute())
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
