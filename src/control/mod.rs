//! How people reach a running daemon: requests, answers, and the HTTP that carries them.
//!
//! This file holds the words: [`Request`], [`Response`], [`Failure`]. What an answer looks like is
//! in `view.rs`; `server.rs` takes requests from a unix socket and passes each as a [`Call`] to the
//! daemon, `client.rs` makes them. Who answers a call decides what is true; nothing here knows.
//!
//! # The interface
//! HTTP/1.1 with JSON bodies on a unix socket, one request a connection. Who may open the socket
//! may do everything: its mode is the only permission. Each order is a [`Receipt`] with its user.
//!
//! | request | body | answer |
//! |---|---|---|
//! | `GET /v1` | | the list of routes |
//! | `GET /v1/status` | | [`StatusView`] |
//! | `GET /v1/plugins`, `/v1/plugins/NAME` | | list of [`PluginView`], or the one |
//! | `PUT /v1/plugins/NAME` | the module's bytes | 202 and `{"name":...,"hash":...}` |
//! | `DELETE /v1/plugins/NAME` | | `{"done":true}`: the file is gone, the program leaves |
//! | `POST /v1/plugins/NAME/hold` (`release`, `restart`) | | `{"done":true}` or [`PluginView`] |
//! | `GET /v1/history`, `/v1/plugins/NAME/history` | | [`Receipt`]s; also of a point or variable |
//! | `GET /v1/plugins/NAME/versions` | | list of [`VersionView`], the newest first |
//! | `POST /v1/plugins/NAME/rollback?to=HASH` | | 202: a kept version is back; `&even_bad=true` |
//! | `GET /v1/points` | | list of [`PointView`] |
//! | `PUT /v1/points/NAME` | `{"value":42.5}` | `{"done":true}` |
//! | `GET /v1/forces` | | list of [`ForceView`] |
//! | `PUT /v1/forces/NAME`, `DELETE` of it or all | [`ForceOrder`] | `{"done":true}` |
//! | `GET /v1/vars` | | list of [`VarView`] |
//! | `PUT /v1/vars/NAME` | `{"value":42.5}` | `{"done":true}`: the variable has that value |
//! | `DELETE /v1/retain` | | `{"done":true}`: retained variables have their initial values |
//! | `POST /v1/restart/cold` | | `{"done":true}`: others are forgotten, all programs start anew |
//! | `POST /v1/recover` | | `{"done":true}`: the end of recovery |
//! | `GET /v1/config/diff`, `POST /v1/config/reload` | | list of [`ChangeView`] |
//! | `POST /v1/devices/NAME/fault` (`DELETE`) | `{"kind":"freeze"}` | `{"done":true}` |
//!
//! A history is a list of journal [`Entry`]s, oldest first: the newest 1000, or fewer with
//! `?limit=20`. A module that was put lies in the folder; what becomes of it is in the plugin's
//! view. What fails is answered with `{"error":{"code":...,"message":...}}`, see [`Code`].
//!
//! ```sh
//! curl --unix-socket $XDG_RUNTIME_DIR/camshaft/control.sock http://camshaft/v1/status
//! ```

pub mod client;
mod force;
mod ordered;
mod receipt;
pub mod server;
mod version;
mod view;

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;

use axum::body::Bytes;
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use crate::image::{Value, exact};
use crate::journal::Entry;

pub use force::{
    DEFAULT_FORCE, ForceOrder, ForceView, MAX_FORCE, MAX_OWNER_BYTES, MAX_REASON_BYTES,
};
pub use ordered::{OrderKind, Ordered, Who};
pub use receipt::{By, Event, Receipt};
pub use version::{ProbationView, Soundness, VersionView};
pub use view::{
    ChangeView, DeviceView, HoldWord, PluginState, PluginView, PointView, RefusedView, RetainView,
    SafeView, StallView, StatusView, SwapView, VarView, Want,
};

/// Longest name of a plugin that can be deployed, in bytes. A file name may have 255; this leaves
/// room for `.wasm` and for the temporary name beside it.
pub const MAX_NAME_BYTES: usize = 128;

/// Receipts in one answer: more than anybody reads, and with the longest texts still less than a
/// client takes.
pub const MAX_RECEIPTS: usize = 1000;

/// What is asked of the daemon.
#[derive(Debug, Clone, PartialEq)]
pub enum Request {
    /// Everything about the daemon: [`Response::Status`].
    Status,
    /// All plugins: [`Response::Plugins`].
    Plugins,
    /// Take this program out and keep it out: [`Response::Done`] or [`Response::Plugin`].
    Hold {
        /// Of the plugin.
        name: String,
    },
    /// Let it run again, and forget its quarantine: [`Response::Done`] or [`Response::Plugin`].
    Release {
        /// Of the plugin.
        name: String,
    },
    /// Replace the instance by a new one: [`Response::Done`] or [`Response::Plugin`].
    Restart {
        /// Of the plugin.
        name: String,
    },
    /// Take every program out, give every variable its initial value, in memory and on disk, and
    /// start the programs anew: [`Response::Done`] once the variables have them.
    RestartCold,
    /// Give every retained variable its initial value, in memory and on disk: [`Response::Done`].
    ResetRetain,
    /// Let the plugins run that are held for recovery: [`Response::Done`].
    Recover,
    /// Read the configuration again: [`Response::Changes`], once what can change live has.
    Reload,
    /// What that would do: [`Response::Changes`].
    Diff,
    /// Put these bytes into the plugin folder as `NAME.wasm`: [`Response::Deployed`].
    Deploy {
        /// Of the plugin, without `.wasm`; the server has checked it with [`is_plugin_name`].
        name: String,
        /// The file's content; not empty, not longer than the server's limit.
        module: Bytes,
    },
    /// Put a kept version of the plugin into the folder: [`Response::Deployed`].
    Rollback {
        /// Of the plugin.
        name: String,
        /// How its hash begins; the newest other good one without it.
        to: Option<String>,
        /// Whether it may be one that is bad, and is let out of quarantine. The server has checked
        /// that `to` names it then.
        even_bad: bool,
    },
    /// The versions of a plugin: [`Response::Versions`].
    Versions {
        /// Of the plugin.
        name: String,
    },
    /// Delete the plugin's file: [`Response::Done`].
    Remove {
        /// Of the plugin.
        name: String,
    },
    /// What became of plugins: [`Response::History`].
    History {
        /// Of this plugin, or orders about this point, variable or device; `None` for all.
        name: Option<String>,
        /// As many of the newest; the server has checked that it is 1 to [`MAX_RECEIPTS`].
        limit: usize,
    },
    /// All points with their values: [`Response::Points`].
    Points,
    /// All variables: [`Response::Vars`].
    Vars,
    /// Give a simulated input a value: [`Response::Done`].
    Set {
        /// Name of the point.
        point: String,
        /// In the unit of the point.
        value: Value,
    },
    /// What is forced: [`Response::Forces`].
    Forces,
    /// Force a point: [`Response::Done`], once it is in force.
    Force {
        /// Name of the point.
        point: String,
        /// Its value, for how long, by whom and why.
        order: ForceOrder,
    },
    /// End a force: [`Response::Done`].
    Unforce {
        /// Name of the point; `None` for all that are forced.
        point: Option<String>,
    },
    /// Give a variable a value: [`Response::Done`], once it has it.
    SetVar {
        /// Of the variable.
        name: String,
        /// Of the variable's type.
        value: Value,
    },
    /// Let a simulated device fail: [`Response::Done`].
    Inject {
        /// Name of the device.
        device: String,
        /// An object whose `kind` is a text; what else there is belongs to the driver, which is the
        /// one to understand it.
        injection: serde_json::Value,
    },
    /// Let a simulated device be sound again: [`Response::Done`].
    Clear {
        /// Name of the device.
        device: String,
    },
}

/// What the daemon answers.
#[derive(Debug, Clone, PartialEq)]
#[allow(clippy::large_enum_variant, reason = "an answer is moved twice in its life")]
pub enum Response {
    /// To [`Request::Status`].
    Status(StatusView),
    /// To [`Request::Plugins`]; in the order of polling.
    Plugins(Vec<PluginView>),
    /// One plugin, as it is right after the request.
    Plugin(PluginView),
    /// To [`Request::History`]; oldest first.
    History(Vec<Entry<Receipt>>),
    /// To [`Request::Versions`]; those that are kept first, the newest first.
    Versions(Vec<VersionView>),
    /// To [`Request::Points`]; in the order of the configuration.
    Points(Vec<PointView>),
    /// To [`Request::Forces`]; in the order in which they were ordered.
    Forces(Vec<ForceView>),
    /// To [`Request::Vars`]; by name.
    Vars(Vec<VarView>),
    /// To [`Request::Deploy`]: the bytes lie in the folder and are on the disk.
    Deployed {
        /// The plugin's name.
        name: String,
        /// BLAKE3 of the bytes, 64 hexadecimal digits. When [`PluginView::file_hash`] is this, the
        /// daemon has seen the file.
        hash: String,
    },
    /// To [`Request::Reload`] and [`Request::Diff`]: how the file differs from what is in force.
    Changes(Vec<ChangeView>),
    /// It is done, or will be at the next cycle.
    Done,
}

/// Why a request was not carried out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// Which kind of failure, for programs.
    pub code: Code,
    /// What was found and what would be right, for people.
    pub message: String,
}

/// The kinds of failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Code {
    /// There is no such plugin, point, variable, device or route; HTTP 404.
    Unknown,
    /// The request makes no sense; HTTP 400, 405 or 413.
    Invalid,
    /// It makes sense, but not here or not now; HTTP 409.
    Refused,
    /// The daemon has too much to do or is stopping, try again; HTTP 503.
    Busy,
    /// A defect or a failing disk; HTTP 500.
    Internal,
}

impl Failure {
    /// A failure of this kind.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

/// How a request ended.
pub type Reply = Result<Response, Failure>;

/// A request on its way to the daemon.
#[derive(Debug)]
pub struct Call {
    /// What is asked.
    pub request: Request,
    /// Who asks, if it is an order; `None` also when the kernel does not say it.
    pub who: Option<Who>,
    /// Where the answer goes. Whoever asked may have left; then nobody takes it.
    pub reply: oneshot::Sender<Reply>,
}

/// The body of every answer that reports a failure.
#[derive(Debug, Serialize, Deserialize)]
struct ErrorBody {
    error: Failure,
}

/// The answer to `PUT /v1/plugins/NAME`.
#[derive(Debug, Serialize, Deserialize)]
struct DeployedBody {
    name: String,
    hash: String,
}

/// The body of `PUT /v1/points/NAME` and `PUT /v1/vars/NAME`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SetBody {
    #[serde(deserialize_with = "exact")]
    value: Value,
}

/// Whether a name can be typed on a command line and be the name of a file in the plugin folder:
/// letters, digits, `_`, `-` and `.`, with `-` and `.` not first. A name with a slash never leaves
/// the folder, because it is none.
pub fn is_plugin_name(name: &str) -> bool {
    name.len() <= MAX_NAME_BYTES
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte))
        && name.starts_with(|first: char| first.is_ascii_alphanumeric() || first == '_')
}

/// Where a client looks for a daemon, best first: where `config` puts the socket by default. An
/// operator with a session of his own may well mean the service of the machine, so that is the last
/// of them.
pub fn likely_sockets() -> Vec<PathBuf> {
    sockets(|name| std::env::var_os(name))
}

fn sockets(var: impl Fn(&str) -> Option<OsString>) -> Vec<PathBuf> {
    let folder = |name: &str| {
        // Of the several that systemd may list, the first is ours.
        let first = std::env::split_paths(&var(name)?).next()?;
        first.is_absolute().then_some(first)
    };
    let session = folder("XDG_RUNTIME_DIR").map(|path| path.join("camshaft"));
    let folders = [folder("RUNTIME_DIRECTORY"), session, Some("/run/camshaft".into())];
    let mut all: Vec<_> =
        folders.into_iter().flatten().map(|path| path.join("control.sock")).collect();
    all.dedup();
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_socket_is_where_the_surroundings_say() {
        fn check(service: Option<&str>, session: Option<&str>, expected: &[&str]) {
            let found = sockets(|name| {
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

    #[test]
    fn a_plugin_name_is_a_harmless_file_name() {
        fn check(name: &str, expected: bool) {
            assert_eq!(is_plugin_name(name), expected, "{name:?}");
        }
        check("tank-level_2.old", true);
        check("_x", true);
        check(&"x".repeat(MAX_NAME_BYTES), true);
        check(&"x".repeat(MAX_NAME_BYTES + 1), false);
        for name in ["", ".", "..", ".hidden", "-x", "a/b", "../x", "a b", "a\0b", "ä", "a\n"] {
            check(name, false);
        }
    }
}
