//! The client of the control socket: one function for each request of the command line.
//!
//! Each request has a connection of its own, and every answer is limited in size and time. What to
//! do with answers is decided by the caller. The interface is described in `mod.rs`, and the errors
//! are in `client/error.rs`.

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

/// Time limit of an exchange. The server and the daemon together take a little less, so the
/// server's own message about a lack of time arrives.
const EXCHANGE_TIME: Duration = Duration::from_secs(70);

/// Longest answer that is read, in bytes: the points of the largest configuration make about 2 MiB.
const MAX_ANSWER_BYTES: usize = 16 << 20;

/// A client of the daemon behind one of several sockets.
#[derive(Debug, Clone)]
pub struct Client {
    sockets: Vec<PathBuf>,
}

impl Client {
    /// A client that asks the first of `sockets` on which a daemon listens.
    pub fn new(sockets: Vec<PathBuf>) -> Self {
        Self { sockets }
    }

    /// Reads the state of the daemon.
    ///
    /// # Errors
    /// The daemon cannot be reached, or does not do it ([`Error`]). This holds for every function
    /// here.
    pub async fn status(&self) -> Result<StatusView, Error> {
        self.fetch("/v1/status").await
    }

    /// Lists all plugins.
    ///
    /// # Errors
    /// The daemon cannot be reached, or does not answer ([`Error`]).
    pub async fn plugins(&self) -> Result<Vec<PluginView>, Error> {
        self.fetch("/v1/plugins").await
    }

    /// Reads one plugin; `None` if no plugin has this name.
    ///
    /// # Errors
    /// The daemon cannot be reached, or does not answer ([`Error`]).
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
    /// The daemon cannot be reached, or refuses ([`Error`]).
    pub async fn versions(&self, name: &str) -> Result<Vec<VersionView>, Error> {
        self.fetch(&format!("/v1/plugins/{}/versions", escaped(name))).await
    }

    /// Lists all points.
    ///
    /// # Errors
    /// The daemon cannot be reached, or does not answer ([`Error`]).
    pub async fn points(&self) -> Result<Vec<PointView>, Error> {
        self.fetch("/v1/points").await
    }

    /// Lists all variables.
    ///
    /// # Errors
    /// The daemon cannot be reached, or does not answer ([`Error`]).
    pub async fn vars(&self) -> Result<Vec<VarView>, Error> {
        self.fetch("/v1/vars").await
    }

    /// Lists the newest `limit` receipts, oldest first, of one plugin or of all.
    ///
    /// # Errors
    /// The daemon cannot be reached, or refuses ([`Error`]).
    pub async fn history(
        &self,
        name: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Entry<Receipt>>, Error> {
        let whose = name.map(|name| format!("/plugins/{}", escaped(name))).unwrap_or_default();
        self.fetch(&format!("/v1{whose}/history?limit={limit}")).await
    }

    /// Does `action` to a plugin: `hold`, `release` or `restart`.
    ///
    /// # Errors
    /// The daemon cannot be reached, or refuses ([`Error`]).
    pub async fn act(&self, name: &str, action: &str) -> Result<(), Error> {
        let path = format!("/v1/plugins/{}/{action}", escaped(name));
        self.exchange(Method::POST, &path, Bytes::new()).await.map(drop)
    }

    /// Gives every variable its initial value and starts all programs again.
    ///
    /// # Errors
    /// The daemon cannot be reached, or refuses ([`Error`]).
    pub async fn restart_cold(&self) -> Result<(), Error> {
        self.exchange(Method::POST, "/v1/restart/cold", Bytes::new()).await.map(drop)
    }

    /// Gives every retained variable its initial value.
    ///
    /// # Errors
    /// The daemon cannot be reached, or refuses ([`Error`]).
    pub async fn reset_retain(&self) -> Result<(), Error> {
        self.exchange(Method::DELETE, "/v1/retain", Bytes::new()).await.map(drop)
    }

    /// Lets the daemon read the configuration again; returns its changes. Those that can be live
    /// are in force.
    ///
    /// # Errors
    /// The daemon cannot be reached, or the file is wrong ([`Error`]).
    pub async fn reload(&self) -> Result<Vec<ChangeView>, Error> {
        let answer = self.exchange(Method::POST, "/v1/config/reload", Bytes::new()).await?;
        self.parse(&answer)
    }

    /// Lists what a reload would change.
    ///
    /// # Errors
    /// The daemon cannot be reached, or the file is wrong ([`Error`]).
    pub async fn diff(&self) -> Result<Vec<ChangeView>, Error> {
        self.fetch("/v1/config/diff").await
    }

    /// Ends recovery.
    ///
    /// # Errors
    /// The daemon cannot be reached, or refuses ([`Error`]).
    pub async fn recover(&self) -> Result<(), Error> {
        self.exchange(Method::POST, "/v1/recover", Bytes::new()).await.map(drop)
    }

    /// Puts a module into the plugin folder; returns its hash, by which the daemon will know it.
    ///
    /// # Errors
    /// The daemon cannot be reached, or refuses ([`Error`]).
    pub async fn deploy(&self, name: &str, module: Bytes) -> Result<String, Error> {
        let path = format!("/v1/plugins/{}", escaped(name));
        let answer = self.exchange(Method::PUT, &path, module).await?;
        Ok(self.parse::<DeployedBody>(&answer)?.hash)
    }

    /// Puts a kept version back into the plugin folder; returns its hash. That is the version whose
    /// hash begins with `to`, or the newest other good one. It may be a bad one only with
    /// `even_bad`.
    ///
    /// # Errors
    /// The daemon cannot be reached, or refuses ([`Error`]).
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

    /// Deletes a plugin's file.
    ///
    /// # Errors
    /// The daemon cannot be reached, or refuses ([`Error`]).
    pub async fn remove(&self, name: &str) -> Result<(), Error> {
        let path = format!("/v1/plugins/{}", escaped(name));
        self.exchange(Method::DELETE, &path, Bytes::new()).await.map(drop)
    }

    /// Gives a simulated input a value.
    ///
    /// # Errors
    /// The daemon cannot be reached, or refuses ([`Error`]).
    pub async fn set(&self, point: &str, value: Value) -> Result<(), Error> {
        self.put(&format!("/v1/points/{}", escaped(point)), value).await
    }

    /// Gives a variable a value.
    ///
    /// # Errors
    /// The daemon cannot be reached, or refuses ([`Error`]).
    pub async fn set_var(&self, name: &str, value: Value) -> Result<(), Error> {
        self.put(&format!("/v1/vars/{}", escaped(name)), value).await
    }

    /// Lists the forces.
    ///
    /// # Errors
    /// The daemon cannot be reached, or does not answer ([`Error`]).
    pub async fn forces(&self) -> Result<Vec<ForceView>, Error> {
        self.fetch("/v1/forces").await
    }

    /// Forces a point.
    ///
    /// # Errors
    /// The daemon cannot be reached, or refuses ([`Error`]).
    pub async fn force(&self, point: &str, order: &ForceOrder) -> Result<(), Error> {
        let body = serde_json::to_vec(order).expect("an order is plain");
        let path = format!("/v1/forces/{}", escaped(point));
        self.exchange(Method::PUT, &path, body.into()).await.map(drop)
    }

    /// Ends the force of a point, or all forces.
    ///
    /// # Errors
    /// The daemon cannot be reached, or refuses ([`Error`]).
    pub async fn unforce(&self, point: Option<&str>) -> Result<(), Error> {
        let one = point.map(|point| format!("/{}", escaped(point))).unwrap_or_default();
        let path = format!("/v1/forces{one}");
        self.exchange(Method::DELETE, &path, Bytes::new()).await.map(drop)
    }

    /// Sends a value to a point or a variable.
    async fn put(&self, path: &str, value: Value) -> Result<(), Error> {
        let body = serde_json::to_vec(&SetBody { value }).expect("a value is plain");
        self.exchange(Method::PUT, path, body.into()).await.map(drop)
    }

    /// Lets a simulated device fail.
    ///
    /// # Errors
    /// The daemon cannot be reached, or refuses ([`Error`]).
    pub async fn inject(&self, device: &str, injection: &serde_json::Value) -> Result<(), Error> {
        let path = format!("/v1/devices/{}/fault", escaped(device));
        self.exchange(Method::POST, &path, injection.to_string().into()).await.map(drop)
    }

    /// Ends the simulated fault of a device.
    ///
    /// # Errors
    /// The daemon cannot be reached, or refuses ([`Error`]).
    pub async fn clear(&self, device: &str) -> Result<(), Error> {
        let path = format!("/v1/devices/{}/fault", escaped(device));
        self.exchange(Method::DELETE, &path, Bytes::new()).await.map(drop)
    }

    /// Sends a request that only reads, and parses the answer.
    async fn fetch<T: DeserializeOwned>(&self, path: &str) -> Result<T, Error> {
        let answer = self.exchange(Method::GET, path, Bytes::new()).await?;
        self.parse(&answer)
    }

    /// Parses an answer; its text may be that of a server that is no daemon.
    fn parse<T: DeserializeOwned>(&self, answer: &Answer) -> Result<T, Error> {
        serde_json::from_slice(&answer.body)
            .map_err(|error| Error::Strange(answer.socket.clone(), error.to_string()))
    }

    /// Sends one request; returns the answer if the daemon did what was asked.
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

    /// Connects to the first socket that takes a connection.
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

/// An answer, and the socket that it came from.
struct Answer {
    socket: PathBuf,
    body: Bytes,
}

type AnyError = Box<dyn std::error::Error + Send + Sync>;

/// Sends one request on a new connection and reads the answer; the caller sets the time limit.
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
        // The answer reports the errors of the connection as well, and more precisely.
        _ = connection => {}
    }
    answer.await
}

/// The words in place of an answer that has not come in time. The daemon may have obeyed an order
/// all the same.
fn silence(method: &Method) -> String {
    let doubt = match *method {
        Method::GET => "",
        _ => ", and whether it did what was asked is not known",
    };
    format!("none for {} s{doubt}", EXCHANGE_TIME.as_secs())
}

/// A name as part of a path: each byte that is not a letter, a digit, `_`, `-` or `.` by its
/// hexadecimal code.
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

    /// The sender of an order was told only that there is no answer, not that the order may have
    /// been obeyed.
    #[test]
    fn an_order_without_an_answer_may_have_been_obeyed() {
        assert_eq!(silence(&Method::GET), "none for 70 s");
        let doubt = "none for 70 s, and whether it did what was asked is not known";
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
