//! The control interface: how operators and scripts talk to a running daemon, by HTTP.
//!
//! This file defines the messages: [`Request`], [`Response`], [`Failure`]. The fields of answers
//! are in `status.rs` and the files beside it. `server.rs` passes each request from a unix socket
//! to the daemon as a [`Call`]. The daemon makes the answers. `client.rs` sends requests.
//!
//! # The interface
//! HTTP/1.1 with JSON bodies on a unix socket, one request per connection. The file mode of the
//! socket is the only access control. The history has a [`Receipt`] with the user of each order.
//!
//! | request | body | answer |
//! |---|---|---|
//! | `GET /v1` | | the list of routes |
//! | `GET /v1/status` | | [`StatusView`] |
//! | `GET /v1/plugins`, `/v1/plugins/NAME` | | list of [`PluginView`], or one [`PluginView`] |
//! | `PUT /v1/plugins/NAME` | WASM bytes | 202 and `{"name":...,"hash":...}`: the file is written |
//! | `DELETE /v1/plugins/NAME` | | `{"done":true}`: the file is deleted |
//! | `POST /v1/plugins/NAME/hold` (`release`, `restart`) | | `{"done":true}` or [`PluginView`] |
//! | `GET /v1/history`, `/v1/plugins/NAME/history` | | list of [`Receipt`]s |
//! | `GET /v1/plugins/NAME/versions` | | list of [`VersionView`], the newest first |
//! | `POST /v1/plugins/NAME/rollback?to=HASH&even_bad=true` | | 202, as for `PUT` of a module |
//! | `GET /v1/points` | | list of [`PointView`] |
//! | `PUT /v1/points/NAME` | `{"value":42.5}` | `{"done":true}` |
//! | `GET /v1/forces` | | list of [`ForceView`] |
//! | `PUT /v1/forces/NAME` | [`ForceOrder`] | `{"done":true}` |
//! | `DELETE /v1/forces`, `/v1/forces/NAME` | | `{"done":true}` |
//! | `GET /v1/vars` | | list of [`VarView`] |
//! | `PUT /v1/vars/NAME` | `{"value":42.5}` | `{"done":true}`: the variable has that value |
//! | `DELETE /v1/retain` | | `{"done":true}`: retained variables have their initial values |
//! | `POST /v1/restart/cold` | | `{"done":true}`: variables are reset, programs start again |
//! | `POST /v1/recover` | | `{"done":true}`: recovery has ended |
//! | `GET /v1/config/diff`, `POST /v1/config/reload` | | list of [`ChangeView`] |
//! | `POST /v1/devices/NAME/fault` (`DELETE`) | `{"kind":"freeze"}` | `{"done":true}` |
//!
//! A history has the newest 1000 journal entries ([`Entry`]), or fewer with `?limit=20`, oldest
//! first. A failed request has the answer `{"error":{"code":...,"message":...}}`, with a [`Code`].
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

/// The largest number of receipts in one answer. An operator seldom needs more. Even if each
/// receipt has the longest possible texts, an answer with this number of receipts is not too long
/// for the client.
pub const MAX_RECEIPTS: usize = 1000;

/// A request to the daemon. The doc of each variant names the answer after success. If the daemon
/// cannot carry out a request, the answer is a [`Failure`].
#[derive(Debug, Clone, PartialEq)]
pub enum Request {
    /// Reads the state of the daemon. The answer is [`Response::Status`].
    Status,
    /// Lists all plugins. The answer is [`Response::Plugins`].
    Plugins,
    /// Takes the plugin's program out of the scan until an operator or a reload releases the
    /// plugin. The answer is [`Response::Plugin`], or [`Response::Done`] if the plugin no longer
    /// exists.
    Hold {
        /// Name of the plugin.
        name: PluginName,
    },
    /// Ends the hold of a plugin. If the plugin is not held, ends its quarantine. The answer is
    /// [`Response::Plugin`], or [`Response::Done`] if the plugin no longer exists.
    Release {
        /// Name of the plugin.
        name: PluginName,
    },
    /// Replaces the program's instance by a new instance of the same code. The answer is
    /// [`Response::Plugin`], or [`Response::Done`] if the plugin no longer exists.
    Restart {
        /// Name of the plugin.
        name: PluginName,
    },
    /// Takes every program out of the scan, resets every declared variable to its initial value,
    /// and deletes all other variables. After that, the programs may start again. The answer is
    /// [`Response::Done`]. It is sent after the declared variables have their initial values in
    /// memory, and the retained variables also on the disk.
    RestartCold,
    /// Resets every retained variable to its initial value, in memory and on disk. The answer is
    /// [`Response::Done`].
    ResetRetain,
    /// Ends recovery: the plugins may run. The answer is [`Response::Done`].
    Recover,
    /// Reads the configuration file again. The answer is [`Response::Changes`], sent after all live
    /// changes are active.
    Reload,
    /// Lists the changes that a reload would make. The answer is [`Response::Changes`].
    Diff,
    /// Writes the bytes `module` into the plugin folder as `NAME.wasm`. The answer is
    /// [`Response::Deployed`].
    Deploy {
        /// Name of the plugin, without `.wasm`.
        name: PluginName,
        /// The content of the `.wasm` file. The server has checked that the content is not empty
        /// and not too long.
        module: Bytes,
    },
    /// Puts a stored version of the plugin into the plugin folder. The answer is
    /// [`Response::Deployed`].
    Rollback {
        /// Name of the plugin.
        name: PluginName,
        /// The first digits of the version's hash. `None` selects the newest good version except
        /// the present version.
        to: Option<String>,
        /// Whether the version may be bad ([`Soundness::Bad`]). If so, the rollback releases a bad
        /// version from quarantine. If this field is true, the server has checked that `to` is not
        /// `None`.
        even_bad: bool,
    },
    /// Lists the versions of a plugin. The answer is [`Response::Versions`].
    Versions {
        /// Name of the plugin.
        name: PluginName,
    },
    /// Deletes the plugin's file. The answer is [`Response::Done`].
    Remove {
        /// Name of the plugin.
        name: PluginName,
    },
    /// Lists the events of plugins and the orders of operators. The answer is
    /// [`Response::History`].
    History {
        /// The name of a plugin, point, variable or device. The answer has only the entries about
        /// this name. `None` selects all entries.
        name: Option<String>,
        /// The largest number of receipts in the answer; the newest are selected. The server has
        /// checked that the number is from 1 to [`MAX_RECEIPTS`].
        limit: usize,
    },
    /// Lists all points with their values. The answer is [`Response::Points`].
    Points,
    /// Lists all variables. The answer is [`Response::Vars`].
    Vars,
    /// Sets the value of an input point of a simulated device. The answer is [`Response::Done`].
    Set {
        /// Name of the point.
        point: PointName,
        /// The value, in the unit of the point.
        value: Value,
    },
    /// Lists all forces. The answer is [`Response::Forces`].
    Forces,
    /// Forces a point. The answer is [`Response::Done`], sent after the scan has taken over the
    /// force.
    Force {
        /// Name of the point.
        point: PointName,
        /// The forced value, the duration, the owner and the reason.
        order: ForceOrder,
    },
    /// Ends the force of one point, or all forces. The answer is [`Response::Done`].
    Unforce {
        /// Name of the point; `None` for all forced points.
        point: Option<PointName>,
    },
    /// Sets the value of a variable. The answer is [`Response::Done`], sent after the variable has
    /// the value.
    SetVar {
        /// Name of the variable.
        name: String,
        /// The new value, which must fit the type of the variable.
        value: Value,
    },
    /// Makes a simulated device fail. The answer is [`Response::Done`].
    Inject {
        /// Name of the device.
        device: DeviceName,
        /// A JSON object. Its field `kind` is a text that names the fault. The driver of the device
        /// interprets all other fields.
        injection: serde_json::Value,
    },
    /// Ends the simulated fault of a device. The answer is [`Response::Done`].
    Clear {
        /// Name of the device.
        device: DeviceName,
    },
}

/// The answer of the daemon to a request that was carried out.
#[derive(Debug, Clone, PartialEq)]
#[allow(clippy::large_enum_variant, reason = "an answer is moved only twice")]
pub enum Response {
    /// The answer to [`Request::Status`].
    Status(StatusView),
    /// The answer to [`Request::Plugins`], in the order in which the scan polls the programs.
    Plugins(Vec<PluginView>),
    /// One plugin, in its state directly after the request.
    Plugin(PluginView),
    /// The answer to [`Request::History`], oldest first.
    History(Vec<Entry<Receipt>>),
    /// The answer to [`Request::Versions`]. The list begins with the stored versions, the newest
    /// first. After them, the list has the versions of which the daemon has only a record, also the
    /// newest first.
    Versions(Vec<VersionView>),
    /// The answer to [`Request::Points`], in the order of the configuration.
    Points(Vec<PointView>),
    /// The answer to [`Request::Forces`], in the order in which the forces were ordered.
    Forces(Vec<ForceView>),
    /// The answer to [`Request::Vars`], sorted by name.
    Vars(Vec<VarView>),
    /// The answer to [`Request::Deploy`] and [`Request::Rollback`]. The file in the plugin folder
    /// is complete and is on the disk.
    Deployed {
        /// The name of the plugin.
        name: String,
        /// The BLAKE3 hash of the file's bytes, 64 hexadecimal digits. The daemon has read the new
        /// file as soon as [`PluginView::file_hash`] shows this hash.
        hash: String,
    },
    /// The answer to [`Request::Reload`] and [`Request::Diff`]: the differences between the
    /// configuration file and the configuration in force.
    Changes(Vec<ChangeView>),
    /// The daemon has carried out the request, or the scan carries it out in its next cycle.
    Done,
}

/// The reason why a request was not carried out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// The kind of failure, for scripts.
    pub code: Code,
    /// A message for people: what the daemon has found, and what it expects instead.
    pub message: String,
}

/// The kinds of failure, each with its HTTP status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Code {
    /// No plugin, point, variable, device or route has this name, or the named point is not forced.
    /// The HTTP status is 404.
    Unknown,
    /// The request is malformed or contradicts itself. The HTTP status is 400, 405, 408 or 413.
    Invalid,
    /// The request is well formed, but the daemon cannot carry it out in its present state. The
    /// HTTP status is 409.
    Refused,
    /// The daemon is overloaded, is stopping, or has not answered in time. A second try may
    /// succeed. The HTTP status is 503.
    Busy,
    /// The daemon has a defect, or its disk fails. The HTTP status is 500.
    Internal,
}

impl Failure {
    /// Returns a failure of this kind with this message.
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

/// The outcome of a request: a response or a failure.
pub type Reply = Result<Response, Failure>;

/// A request on its way from the server to the daemon's loop, with the channel for the answer.
#[derive(Debug)]
pub struct Call {
    /// The request of the client.
    pub request: Request,
    /// The user who sends an order. The field is `None` if the request only reads, or if the kernel
    /// does not report the user.
    pub who: Option<Who>,
    /// The channel for the answer. If the client has closed its connection, the answer is dropped.
    pub reply: oneshot::Sender<Reply>,
}

/// The body of every answer that reports a failure.
#[derive(Debug, Serialize, Deserialize)]
struct ErrorBody {
    error: Failure,
}

/// The JSON body of the answer to a deploy (`PUT /v1/plugins/NAME`) and to a rollback.
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
