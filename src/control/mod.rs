//! The control interface: requests, answers, and HTTP between people and a running daemon.
//!
//! This file holds the vocabulary: [`Request`], [`Response`], [`Failure`]. The fields of answers
//! are in `status.rs` and its neighbours. `server.rs` passes each request from a unix socket as a
//! [`Call`] to the daemon, which makes all answers. `client.rs` sends requests.
//!
//! # The interface
//! HTTP/1.1 with JSON bodies on a unix socket, one request per connection. The mode of the socket
//! is the only permission: its users can do everything. Each order is a [`Receipt`] with its user.
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
//! `?limit=20`. A `PUT` module lies in the folder; what the daemon makes of it is in the plugin's
//! view. A failure is answered with `{"error":{"code":...,"message":...}}`, with a [`Code`].
//!
//! ```sh
//! curl --unix-socket $XDG_RUNTIME_DIR/camshaft/control.sock http://camshaft/v1/status
//! ```

pub mod client;
mod force;
mod ordered;
mod plugin;
mod point;
mod receipt;
pub mod server;
mod status;
mod version;

use std::fmt;

use axum::body::Bytes;
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use crate::journal::Entry;
use crate::name::{DeviceName, PluginName, PointName};
use crate::process::image::{Value, exact};

pub use force::{
    DEFAULT_FORCE, ForceOrder, ForceView, MAX_FORCE, MAX_OWNER_BYTES, MAX_REASON_BYTES,
};
pub use ordered::{OrderKind, Ordered, Who};
pub use plugin::{PluginState, PluginView, RefusedView, SwapView, Want};
pub use point::{HoldWord, PointView, SafeView, VarView};
pub use receipt::{By, Event, Receipt};
pub use status::{ChangeView, DeviceView, RetainView, StallView, StatusView};
pub use version::{ProbationView, Soundness, VersionView};

/// Most receipts in one answer: more than a person reads. Even with the longest texts they are
/// shorter than the longest answer that a client accepts.
pub const MAX_RECEIPTS: usize = 1000;

/// A request to the daemon. Each variant names its answer; any of them may fail with [`Failure`].
#[derive(Debug, Clone, PartialEq)]
pub enum Request {
    /// Read the state of the daemon: [`Response::Status`].
    Status,
    /// List all plugins: [`Response::Plugins`].
    Plugins,
    /// Take this program out of the scan and keep it out: [`Response::Done`] or
    /// [`Response::Plugin`].
    Hold {
        /// Name of the plugin.
        name: PluginName,
    },
    /// End this program's hold, or else its quarantine: [`Response::Done`] or [`Response::Plugin`].
    Release {
        /// Name of the plugin.
        name: PluginName,
    },
    /// Replace the program's instance by a new one: [`Response::Done`] or [`Response::Plugin`].
    Restart {
        /// Name of the plugin.
        name: PluginName,
    },
    /// Take every program out, give every variable its initial value, in memory and on disk, and
    /// start the programs again: [`Response::Done`] once the variables have their values.
    RestartCold,
    /// Give every retained variable its initial value, in memory and on disk: [`Response::Done`].
    ResetRetain,
    /// Run the plugins that are held for recovery: [`Response::Done`].
    Recover,
    /// Read the configuration again: [`Response::Changes`], once all changes that can be live are
    /// so.
    Reload,
    /// List what a reload would change: [`Response::Changes`].
    Diff,
    /// Put these bytes into the plugin folder as `NAME.wasm`: [`Response::Deployed`].
    Deploy {
        /// Name of the plugin, without `.wasm`.
        name: PluginName,
        /// The file's content; not empty, not longer than the server's limit.
        module: Bytes,
    },
    /// Put a kept version of the plugin into the folder: [`Response::Deployed`].
    Rollback {
        /// Name of the plugin.
        name: PluginName,
        /// First digits of the version's hash; `None` for the newest other good version.
        to: Option<String>,
        /// Whether the version may be a bad one, which is then released from quarantine. The server
        /// has checked that `to` is given in this case.
        even_bad: bool,
    },
    /// List the versions of a plugin: [`Response::Versions`].
    Versions {
        /// Name of the plugin.
        name: PluginName,
    },
    /// Delete the plugin's file: [`Response::Done`].
    Remove {
        /// Name of the plugin.
        name: PluginName,
    },
    /// List what happened to plugins and what operators ordered: [`Response::History`].
    History {
        /// Name of a plugin, or of a point, variable or device with orders about it; `None` for
        /// all.
        name: Option<String>,
        /// Most receipts in the answer, the newest; the server has checked that this is 1 to
        /// [`MAX_RECEIPTS`].
        limit: usize,
    },
    /// List all points with their values: [`Response::Points`].
    Points,
    /// List all variables: [`Response::Vars`].
    Vars,
    /// Give a simulated input a value: [`Response::Done`].
    Set {
        /// Name of the point.
        point: PointName,
        /// The value, in the unit of the point.
        value: Value,
    },
    /// List the forces: [`Response::Forces`].
    Forces,
    /// Force a point: [`Response::Done`], once the force is in force.
    Force {
        /// Name of the point.
        point: PointName,
        /// The value, for how long, by whom and why.
        order: ForceOrder,
    },
    /// End a force: [`Response::Done`].
    Unforce {
        /// Name of the point; `None` for all forced points.
        point: Option<PointName>,
    },
    /// Give a variable a value: [`Response::Done`], once the variable has it.
    SetVar {
        /// Name of the variable.
        name: String,
        /// The value, of the variable's type.
        value: Value,
    },
    /// Let a simulated device fail: [`Response::Done`].
    Inject {
        /// Name of the device.
        device: DeviceName,
        /// A JSON object whose `kind` is a text. The driver of the device reads its other fields.
        injection: serde_json::Value,
    },
    /// End the simulated fault of a device: [`Response::Done`].
    Clear {
        /// Name of the device.
        device: DeviceName,
    },
}

/// An answer of the daemon to a request that was carried out.
#[derive(Debug, Clone, PartialEq)]
#[allow(clippy::large_enum_variant, reason = "an answer is moved twice in its life")]
pub enum Response {
    /// Answer to [`Request::Status`].
    Status(StatusView),
    /// Answer to [`Request::Plugins`], in the order of polling.
    Plugins(Vec<PluginView>),
    /// One plugin, as it is right after the request.
    Plugin(PluginView),
    /// Answer to [`Request::History`], oldest first.
    History(Vec<Entry<Receipt>>),
    /// Answer to [`Request::Versions`]: first the kept versions, the newest first.
    Versions(Vec<VersionView>),
    /// Answer to [`Request::Points`], in the order of the configuration.
    Points(Vec<PointView>),
    /// Answer to [`Request::Forces`], in the order in which the forces were ordered.
    Forces(Vec<ForceView>),
    /// Answer to [`Request::Vars`], by name.
    Vars(Vec<VarView>),
    /// Answer to [`Request::Deploy`]: the bytes lie in the folder and are on the disk.
    Deployed {
        /// The plugin's name.
        name: String,
        /// BLAKE3 of the bytes, 64 hexadecimal digits. Once [`PluginView::file_hash`] is equal to
        /// it, the daemon has read the file.
        hash: String,
    },
    /// Answer to [`Request::Reload`] and [`Request::Diff`]: how the file differs from the
    /// configuration in force.
    Changes(Vec<ChangeView>),
    /// The request was carried out, or will be at the next cycle.
    Done,
}

/// The reason why a request was not carried out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// The kind of failure, for programs.
    pub code: Code,
    /// What was found and what would be right, for people.
    pub message: String,
}

/// The kinds of failure, each with its HTTP status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Code {
    /// No plugin, point, variable, device or route has this name; HTTP 404.
    Unknown,
    /// The request is malformed or contradicts itself; HTTP 400, 405, 408 or 413.
    Invalid,
    /// The request is well formed, but cannot be carried out here or now; HTTP 409.
    Refused,
    /// The daemon has too much to do or is stopping; another try may succeed; HTTP 503.
    Busy,
    /// A defect of the daemon or a failing disk; HTTP 500.
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

/// The end of a request: an answer or a failure.
pub type Reply = Result<Response, Failure>;

/// A request on its way from the server to the daemon's loop.
#[derive(Debug)]
pub struct Call {
    /// What the client asks for.
    pub request: Request,
    /// The user who sends an order; `None` for a request that only reads, and if the kernel does
    /// not say it.
    pub who: Option<Who>,
    /// Takes the answer. The client may have left; then the answer is dropped.
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
