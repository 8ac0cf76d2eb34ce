//! The client of the control socket: one function for each request of the command line.
//!
//! Each function opens a new connection, sends one HTTP request, and reads one answer. The client
//! limits the size of an answer and the time to wait for the answer. This file only sends and
//! reads: the code in `cli` decides what to show to the user. All requests are listed in
//! `control/mod.rs`. The errors are in `client/error.rs`.

use std::path::PathBuf;
use std::time::Duration;

use axum::body::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper::{Method, StatusCode, header};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::{
    ChangeView, Code, DeployedBody, ErrorBody, ForceOrder, ForceView, PluginView, PointView,
    Receipt, SetBody, StatusView, VarView, VersionView,
};
use crate::journal::Entry;
use crate::process::image::Value;

mod error;

pub use error::Error;
use error::{chain, is_cut_off};

/// The time limit of one exchange: send the request and read the answer. The time limits of the
/// server add up to less than 70 s. So if the daemon is slow, the error message of the server
/// arrives before this client stops waiting.
const EXCHANGE_TIME: Duration = Duration::from_secs(70);

/// The longest answer that the client reads, in bytes. The point list of the largest configuration
/// has about 2 MiB.
const MAX_ANSWER_BYTES: usize = 16 << 20;

/// A client that knows the paths of the sockets on which a daemon may listen.
#[derive(Debug, Clone)]
pub struct Client {
    sockets: Vec<PathBuf>,
}

impl Client {
    /// Returns a client for these socket paths. Each request goes to the first of `sockets` that
    /// accepts a connection.
    pub fn new(sockets: Vec<PathBuf>) -> Self {
        Self { sockets }
    }

    /// Reads the state of the daemon.
    ///
    /// # Errors
    /// The daemon cannot be reached, refuses, or gives no valid answer ([`Error`]).
    pub async fn status(&self) -> Result<StatusView, Error> {
        self.fetch("/v1/status").await
    }

    /// Lists all plugins.
    ///
    /// # Errors
    /// The daemon cannot be reached, refuses, or gives no valid answer ([`Error`]).
    pub async fn plugins(&self) -> Result<Vec<PluginView>, Error> {
        self.fetch("/v1/plugins").await
    }

    /// Reads one plugin; `None` if no plugin has this name.
    ///
    /// # Errors
    /// The daemon cannot be reached, refuses, or gives no valid answer ([`Error`]).
    pub async fn plugin(&self, name: &str) -> Result<Option<PluginView>, Error> {
        match self.fetch(&format!("/v1/plugins/{}", escaped(name))).await {
            Ok(view) => Ok(Some(view)),
            Err(Error::Failed(failure)) if failure.code == Code::Unknown => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Lists the versions of a plugin.
    ///
    /// # Errors
    /// The daemon cannot be reached, refuses, or gives no valid answer ([`Error`]).
    pub async fn versions(&self, name: &str) -> Result<Vec<VersionView>, Error> {
        self.fetch(&format!("/v1/plugins/{}/versions", escaped(name))).await
    }

    /// Lists all points.
    ///
    /// # Errors
    /// The daemon cannot be reached, refuses, or gives no valid answer ([`Error`]).
    pub async fn points(&self) -> Result<Vec<PointView>, Error> {
        self.fetch("/v1/points").await
    }

    /// Lists all variables.
    ///
    /// # Errors
    /// The daemon cannot be reached, refuses, or gives no valid answer ([`Error`]).
    pub async fn vars(&self) -> Result<Vec<VarView>, Error> {
        self.fetch("/v1/vars").await
    }

    /// Lists the newest `limit` receipts, the oldest of them first. If `name` is not `None`, the
    /// function lists only the receipts about the plugin, point, variable or device of this name.
    ///
    /// # Errors
    /// The daemon cannot be reached, refuses, or gives no valid answer ([`Error`]).
    pub async fn history(
        &self,
        name: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Entry<Receipt>>, Error> {
        let whose = name.map(|name| format!("/plugins/{}", escaped(name))).unwrap_or_default();
        self.fetch(&format!("/v1{whose}/history?limit={limit}")).await
    }

    /// Sends the order `action` for a plugin. The `action` is `hold`, `release` or `restart`.
    ///
    /// # Errors
    /// The daemon cannot be reached, refuses, or gives no valid answer ([`Error`]).
    pub async fn act(&self, name: &str, action: &str) -> Result<(), Error> {
        let path = format!("/v1/plugins/{}/{action}", escaped(name));
        self.exchange(Method::POST, &path, Bytes::new()).await.map(drop)
    }

    /// Resets every declared variable to its initial value, deletes all other variables, and
    /// restarts all programs.
    ///
    /// # Errors
    /// The daemon cannot be reached, refuses, or gives no valid answer ([`Error`]).
    pub async fn restart_cold(&self) -> Result<(), Error> {
        self.exchange(Method::POST, "/v1/restart/cold", Bytes::new()).await.map(drop)
    }

    /// Resets every retained variable to its initial value.
    ///
    /// # Errors
    /// The daemon cannot be reached, refuses, or gives no valid answer ([`Error`]).
    pub async fn reset_retain(&self) -> Result<(), Error> {
        self.exchange(Method::DELETE, "/v1/retain", Bytes::new()).await.map(drop)
    }

    /// Makes the daemon read its configuration file again. Returns all differences between the file
    /// and the configuration that was in force before the reload. Live changes are active when this
    /// function returns.
    ///
    /// # Errors
    /// The daemon cannot be reached, refuses the file, or gives no valid answer ([`Error`]).
    pub async fn reload(&self) -> Result<Vec<ChangeView>, Error> {
        let answer = self.exchange(Method::POST, "/v1/config/reload", Bytes::new()).await?;
        self.parse(&answer)
    }

    /// Lists the changes that a reload would make now. Nothing is changed.
    ///
    /// # Errors
    /// The daemon cannot be reached, refuses the file, or gives no valid answer ([`Error`]).
    pub async fn diff(&self) -> Result<Vec<ChangeView>, Error> {
        self.fetch("/v1/config/diff").await
    }

    /// Ends recovery, the state in which the daemon runs no plugin.
    ///
    /// # Errors
    /// The daemon cannot be reached, refuses, or gives no valid answer ([`Error`]).
    pub async fn recover(&self) -> Result<(), Error> {
        self.exchange(Method::POST, "/v1/recover", Bytes::new()).await.map(drop)
    }

    /// Puts a module into the plugin folder. Returns the hash of the module, which is the name of
    /// the new version.
    ///
    /// # Errors
    /// The daemon cannot be reached, refuses, or gives no valid answer ([`Error`]).
    pub async fn deploy(&self, name: &str, module: Bytes) -> Result<String, Error> {
        let path = format!("/v1/plugins/{}", escaped(name));
        let answer = self.exchange(Method::PUT, &path, module).await?;
        Ok(self.parse::<DeployedBody>(&answer)?.hash)
    }

    /// Puts a stored version back into the plugin folder. Returns the hash of this version. With
    /// `to`, the daemon selects the version whose hash begins with `to`. Without `to`, the daemon
    /// selects the newest good version except the present version. The daemon accepts a bad version
    /// only if `even_bad` is true; without `to`, `even_bad` has no effect.
    ///
    /// # Errors
    /// The daemon cannot be reached, refuses, or gives no valid answer ([`Error`]).
    pub async fn roll_back(
        &self,
        name: &str,
        to: Option<&str>,
        even_bad: bool,
    ) -> Result<String, Error> {
        let even_bad = if even_bad { "&even_bad=true" } else { "" };
        let query = to.map(|to| format!("?to={}{even_bad}", escaped(to))).unwrap_or_default();
        let path = format!("/v1/plugins/{}/rollback{query}", escaped(name));
        let answer = self.exchange(Method::POST, &path, Bytes::new()).await?;
        Ok(self.parse::<DeployedBody>(&answer)?.hash)
    }

    /// Deletes the file of a plugin from the plugin folder.
    ///
    /// # Errors
    /// The daemon cannot be reached, refuses, or gives no valid answer ([`Error`]).
    pub async fn remove(&self, name: &str) -> Result<(), Error> {
        let path = format!("/v1/plugins/{}", escaped(name));
        self.exchange(Method::DELETE, &path, Bytes::new()).await.map(drop)
    }

    /// Sets the value of a simulated input.
    ///
    /// # Errors
    /// The daemon cannot be reached, refuses, or gives no valid answer ([`Error`]).
    pub async fn set(&self, point: &str, value: Value) -> Result<(), Error> {
        self.put(&format!("/v1/points/{}", escaped(point)), value).await
    }

    /// Sets the value of a variable.
    ///
    /// # Errors
    /// The daemon cannot be reached, refuses, or gives no valid answer ([`Error`]).
    pub async fn set_var(&self, name: &str, value: Value) -> Result<(), Error> {
        self.put(&format!("/v1/vars/{}", escaped(name)), value).await
    }

    /// Lists all forces.
    ///
    /// # Errors
    /// The daemon cannot be reached, refuses, or gives no valid answer ([`Error`]).
    pub async fn forces(&self) -> Result<Vec<ForceView>, Error> {
        self.fetch("/v1/forces").await
    }

    /// Forces a point to the value in `order`.
    ///
    /// # Errors
    /// The daemon cannot be reached, refuses, or gives no valid answer ([`Error`]).
    pub async fn force(&self, point: &str, order: &ForceOrder) -> Result<(), Error> {
        let body = serde_json::to_vec(order).expect("every key of an order is a text");
        let path = format!("/v1/forces/{}", escaped(point));
        self.exchange(Method::PUT, &path, body.into()).await.map(drop)
    }

    /// Ends the force of one point. If `point` is `None`, all forces end.
    ///
    /// # Errors
    /// The daemon cannot be reached, refuses, or gives no valid answer ([`Error`]).
    pub async fn unforce(&self, point: Option<&str>) -> Result<(), Error> {
        let one = point.map(|point| format!("/{}", escaped(point))).unwrap_or_default();
        let path = format!("/v1/forces{one}");
        self.exchange(Method::DELETE, &path, Bytes::new()).await.map(drop)
    }

    /// Sends a `PUT` request with a value for a point or a variable.
    async fn put(&self, path: &str, value: Value) -> Result<(), Error> {
        let body = serde_json::to_vec(&SetBody { value }).expect("every key of the body is a text");
        self.exchange(Method::PUT, path, body.into()).await.map(drop)
    }

    /// Makes a simulated device fail. The JSON object `injection` describes the fault.
    ///
    /// # Errors
    /// The daemon cannot be reached, refuses, or gives no valid answer ([`Error`]).
    pub async fn inject(&self, device: &str, injection: &serde_json::Value) -> Result<(), Error> {
        let path = format!("/v1/devices/{}/fault", escaped(device));
        self.exchange(Method::POST, &path, injection.to_string().into()).await.map(drop)
    }

    /// Ends the simulated fault of a device.
    ///
    /// # Errors
    /// The daemon cannot be reached, refuses, or gives no valid answer ([`Error`]).
    pub async fn clear(&self, device: &str) -> Result<(), Error> {
        let path = format!("/v1/devices/{}/fault", escaped(device));
        self.exchange(Method::DELETE, &path, Bytes::new()).await.map(drop)
    }

    /// Sends a `GET` request and parses the answer.
    async fn fetch<T: DeserializeOwned>(&self, path: &str) -> Result<T, Error> {
        let answer = self.exchange(Method::GET, path, Bytes::new()).await?;
        self.parse(&answer)
    }

    /// Parses the JSON body of an answer. Parsing fails, for example, if the server on this socket
    /// is not a Camshaft daemon.
    fn parse<T: DeserializeOwned>(&self, answer: &Answer) -> Result<T, Error> {
        serde_json::from_slice(&answer.body)
            .map_err(|error| Error::Strange(answer.socket.clone(), error.to_string()))
    }

    /// Sends one request and reads the answer. Returns the answer if the HTTP status is 2xx. Any
    /// other status becomes an [`Error`].
    async fn exchange(&self, method: Method, path: &str, body: Bytes) -> Result<Answer, Error> {
        let (socket, stream) = self.connect().await?;
        let strange = |what: String| Error::Strange(socket.clone(), what);
        let silence = silence(&method);
        let (status, body) = timeout(EXCHANGE_TIME, converse(stream, method, path, body))
            .await
            .map_err(|_| strange(silence))?
            .map_err(|error| match is_cut_off(&*error) {
                true => Error::Ended(socket.clone()),
                false => strange(chain(&*error)),
            })?;
        if status.is_success() {
            return Ok(Answer { socket, body });
        }
        match serde_json::from_slice::<ErrorBody>(&body) {
            Ok(body) => Err(Error::Failed(body.error)),
            Err(_) => Err(strange(format!("HTTP status {status}"))),
        }
    }

    /// Connects to the first socket that accepts a connection. If no socket accepts a connection,
    /// the error lists each path with the reason.
    async fn connect(&self) -> Result<(PathBuf, UnixStream), Error> {
        let mut tried = Vec::new();
        for socket in &self.sockets {
            match UnixStream::connect(socket).await {
                Ok(stream) => return Ok((socket.clone(), stream)),
                Err(error) => tried.push((socket.clone(), error)),
            }
        }
        Err(Error::Unreachable(tried))
    }
}

/// The body of an answer, and the path of the socket on which the answer arrived.
struct Answer {
    socket: PathBuf,
    body: Bytes,
}

type AnyError = Box<dyn std::error::Error + Send + Sync>;

/// Sends one request on a new connection and reads the answer. The caller sets the time limit.
async fn converse(
    stream: UnixStream,
    method: Method,
    path: &str,
    body: Bytes,
) -> Result<(StatusCode, Bytes), AnyError> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let request = hyper::Request::builder()
        .method(method)
        .uri(path)
        .header(header::HOST, "camshaft")
        .body(Full::new(body))?;
    let answer = async move {
        let (head, body) = sender.send_request(request).await?.into_parts();
        let body = Limited::new(body, MAX_ANSWER_BYTES).collect().await?.to_bytes();
        Ok((head.status, body))
    };
    let mut answer = std::pin::pin!(answer);
    tokio::select! {
        result = &mut answer => return result,
        // If the connection ends first, the last line of this function still waits for `answer`.
        // The error of `answer` describes the failure better than the error of `connection`.
        _ = connection => {}
    }
    answer.await
}

/// Returns the error text for a request that got no answer in time. For an order, the text adds
/// that the outcome of the order is unknown: the daemon may have carried out the order.
fn silence(method: &Method) -> String {
    let doubt = match *method {
        Method::GET => "",
        _ => ", so the outcome of the order is unknown",
    };
    format!("no answer for {} s{doubt}", EXCHANGE_TIME.as_secs())
}

/// Escapes a name for use in a URL path. Letters, digits, `_`, `-` and `.` stay unchanged. Each
/// other byte becomes `%` and two hexadecimal digits, for example `%20` for a space.
fn escaped(name: &str) -> String {
    let mut path = String::new();
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || b"_-.".contains(&byte) {
            path.push(byte.into());
        } else {
            path.push_str(&format!("%{byte:02X}"));
        }
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An older Camshaft release reported only that there was no answer. For an order, the message
    /// must report in addition that the daemon may have carried out the order.
    #[test]
    fn an_order_without_an_answer_may_have_been_obeyed() {
        assert_eq!(silence(&Method::GET), "no answer for 70 s");
        let doubt = "no answer for 70 s, so the outcome of the order is unknown";
        assert_eq!([Method::PUT, Method::POST, Method::DELETE].map(|it| silence(&it)), [doubt; 3]);
    }

    #[test]
    fn names_are_escaped() {
        fn check(name: &str, expected: &str) {
            assert_eq!(escaped(name), expected);
        }
        check("tank.level-1_x", "tank.level-1_x");
        check("a/b?c d", "a%2Fb%3Fc%20d");
        check("ü", "%C3%BC");
    }
}
