//! The routes of the control interface: for each path and method, the request to the daemon.
//!
//! Each route is one short function that ends in [`ApiState::ask`]. The routes make no decisions:
//! the code in `daemon/answer.rs` decides. `body.rs` reads names and bodies. `answer.rs` writes the
//! answer. `server.rs` limits the time of whole connections.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{Method, StatusCode, Uri};
use axum::response::Response as HttpResponse;
use axum::routing::{MethodFilter, get, on, post, put};
use axum::{Router, routing::MethodRouter};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::timeout;

use super::super::{Call, Code, Failure, Request, Response, Who};
use super::answer::{Refused, invalid, json};
use super::body::{AnyName, BODY_TIME, Limit, Named, To, read, read_json, read_value};
use super::peer::{Names, Peer, name_of};
use crate::name::{OfDevice, OfPlugin, OfPoint, PluginName};

/// The time that the daemon has to answer a request. The slowest work is writing a file to a slow
/// memory card.
const ANSWER_TIME: Duration = Duration::from_secs(30);

/// The largest number of modules that the server receives at one time. Each module is in memory
/// until it is written to the disk. The number is more than one, so that one slow sender does not
/// block all others.
const MAX_UPLOADS: usize = 4;

/// If [`MAX_UPLOADS`] uploads are in progress, a further upload waits for this time. If none of
/// them has ended by then, the server refuses the further upload, and its sender must try again.
/// This time is longer than `PATIENCE` in `body.rs`, after which an upload ends if its sender has
/// sent no byte.
const TURN_TIME: Duration = Duration::from_secs(3);

/// The end of the error message if an order got no answer in time.
const DOUBT: &str = ", so the outcome of the order is unknown";

/// The state that all routes share, and the user of the request that is being served.
#[derive(Debug, Clone)]
pub(super) struct ApiState {
    /// The queue of requests to the daemon's loop.
    calls: mpsc::Sender<Call>,
    /// The most bytes that a module may have.
    module_bytes: u64,
    /// The slots for modules that are being received.
    uploads: Arc<Semaphore>,
    /// The names of users, by user number.
    names: Names,
    /// The user who sends the request; each request has its own copy of this state. `None` for a
    /// request that only reads, and if the user is not known.
    who: Option<Who>,
    /// Whether the request is an order. A request is an order if its method is not `GET`.
    is_order: bool,
}

impl FromRequestParts<Self> for ApiState {
    type Rejection = Infallible;

    /// Returns the shared state, with the user who sends the request. Only orders need the user, so
    /// the name is looked up only for orders.
    async fn from_request_parts(parts: &mut Parts, state: &Self) -> Result<Self, Infallible> {
        let peer = parts.extensions.get::<Option<Peer>>().copied().flatten();
        let is_order = parts.method != Method::GET;
        let who = match peer.filter(|_| is_order) {
            Some(peer) => Some(state.names.of(peer).await),
            None => None,
        };
        Ok(Self { who, is_order, ..state.clone() })
    }
}

impl ApiState {
    /// Returns the state for a server that sends its requests to `calls`. A module may have at most
    /// `module_bytes` bytes.
    pub(super) fn new(calls: mpsc::Sender<Call>, module_bytes: u64) -> Self {
        let uploads = Arc::new(Semaphore::new(MAX_UPLOADS));
        let (names, who, is_order) = (Names::start(name_of), None, false);
        Self { calls, module_bytes, uploads, names, who, is_order }
    }

    /// Passes a request to the daemon and returns the answer of the daemon.
    ///
    /// # Errors
    /// The daemon refuses the request, is stopping, or does not answer within [`ANSWER_TIME`]. In
    /// the last two cases the code is [`Code::Busy`].
    async fn ask(&self, request: Request) -> Result<Response, Refused> {
        self.ask_within(ANSWER_TIME, request).await
    }

    /// Does the work of [`ApiState::ask`], with `limit` as the time limit.
    async fn ask_within(&self, limit: Duration, request: Request) -> Result<Response, Refused> {
        let stopping = || Failure::new(Code::Busy, "the daemon is stopping");
        // A closed channel means that the main loop has ended, so the daemon is stopping.
        let exchange = async {
            let (reply, answer) = oneshot::channel();
            let call = Call { request, who: self.who.clone(), reply };
            self.calls.send(call).await.map_err(|_| stopping())?;
            answer.await.map_err(|_| stopping())?
        };
        let silent = |_| {
            let limit = limit.as_secs();
            let doubt = if self.is_order { DOUBT } else { "" };
            Failure::new(Code::Busy, format!("the daemon has not answered for {limit} s{doubt}"))
        };
        Ok(timeout(limit, exchange).await.map_err(silent)??)
    }
}

/// All routes with their purposes. The answer to `GET /v1` shows this list.
const ROUTES: [(&str, &str); 28] = [
    ("GET /v1", "this list"),
    ("GET /v1/status", "the state of the daemon, its devices and its plugins"),
    ("GET /v1/plugins", "all plugins"),
    ("GET /v1/plugins/NAME", "one plugin"),
    ("PUT /v1/plugins/NAME", "write the plugin's file; the body is the module"),
    ("DELETE /v1/plugins/NAME", "delete the plugin's file"),
    ("POST /v1/plugins/NAME/hold", "stop the program until it is released"),
    ("POST /v1/plugins/NAME/release", "end the hold or the quarantine of the plugin"),
    ("POST /v1/plugins/NAME/restart", "replace the program's instance by a new instance"),
    (
        "POST /v1/plugins/NAME/rollback",
        "put the last good version, or ?to=HASH, back into the file",
    ),
    ("GET /v1/plugins/NAME/versions", "the versions of the plugin, and whether each is good"),
    ("GET /v1/plugins/NAME/history", "the plugin's history, the newest 1000 entries or ?limit=20"),
    ("GET /v1/history", "the history of all plugins and orders"),
    ("GET /v1/points", "all points with their values"),
    ("PUT /v1/points/NAME", "set a simulated input; body {\"value\":42.5}"),
    ("GET /v1/forces", "all forced points"),
    ("PUT /v1/forces/NAME", "force a point; body {\"value\":1,\"owner\":\"ann\",\"for_ms\":60000}"),
    ("DELETE /v1/forces/NAME", "end the force of a point"),
    ("DELETE /v1/forces", "end every force"),
    ("GET /v1/vars", "all variables"),
    ("PUT /v1/vars/NAME", "set a variable; body {\"value\":42.5}"),
    ("DELETE /v1/retain", "set retained variables to their initial values, also on disk"),
    (
        "POST /v1/restart/cold",
        "set variables to initial values, delete undeclared variables, restart all programs",
    ),
    ("POST /v1/recover", "end recovery: let the plugins run"),
    (
        "POST /v1/config/reload",
        "read the configuration again; changes that need no restart become active",
    ),
    ("GET /v1/config/diff", "the changes that a reload would make"),
    ("POST /v1/devices/NAME/fault", "make a simulated device fail; body {\"kind\":\"freeze\"}"),
    ("DELETE /v1/devices/NAME/fault", "end the simulated fault of the device"),
];

/// Returns the router of all routes. Each route gets `state`.
pub(super) fn routes(state: ApiState) -> Router {
    Router::new()
        .route("/v1", get(index))
        .route("/v1/status", plain(|| Request::Status))
        .route("/v1/plugins", plain(|| Request::Plugins))
        .route("/v1/plugins/{name}", get(plugin).put(deploy).delete(remove))
        .route("/v1/plugins/{name}/hold", named(|name| Request::Hold { name }))
        .route("/v1/plugins/{name}/release", named(|name| Request::Release { name }))
        .route("/v1/plugins/{name}/restart", named(|name| Request::Restart { name }))
        .route("/v1/plugins/{name}/rollback", post(rollback))
        .route("/v1/plugins/{name}/versions", get(versions))
        .route("/v1/plugins/{name}/history", get(plugin_history))
        .route("/v1/history", get(history))
        .route("/v1/points", plain(|| Request::Points))
        .route("/v1/points/{name}", put(set))
        .route("/v1/forces", plain(|| Request::Forces).delete(unforce_all))
        .route("/v1/forces/{name}", put(force).delete(unforce))
        .route("/v1/vars", plain(|| Request::Vars))
        .route("/v1/vars/{name}", put(set_variable))
        .route("/v1/retain", order(MethodFilter::DELETE, || Request::ResetRetain))
        .route("/v1/restart/cold", order(MethodFilter::POST, || Request::RestartCold))
        .route("/v1/recover", order(MethodFilter::POST, || Request::Recover))
        .route("/v1/config/reload", order(MethodFilter::POST, || Request::Reload))
        .route("/v1/config/diff", plain(|| Request::Diff))
        .route("/v1/devices/{name}/fault", post(inject).delete(clear))
        .fallback(no_such_route)
        .method_not_allowed_fallback(wrong_method)
        .with_state(state)
}

/// Returns the handler of a `GET` request without parameters and body.
fn plain(request: fn() -> Request) -> MethodRouter<ApiState> {
    get(async move |state: ApiState| state.ask(request()).await)
}

/// Returns the handler of an order without parameters and body.
fn order(method: MethodFilter, request: fn() -> Request) -> MethodRouter<ApiState> {
    on(method, async move |state: ApiState| state.ask(request()).await)
}

/// Returns the handler of a `POST` request whose path has the name of a plugin.
fn named(request: fn(PluginName) -> Request) -> MethodRouter<ApiState> {
    post(async move |state: ApiState, Named(name): Named<OfPlugin>| state.ask(request(name)).await)
}

/// Serves `GET /v1`: the list of all routes with their purposes.
async fn index() -> HttpResponse {
    let routes: Vec<_> = ROUTES
        .iter()
        .map(|(route, what)| serde_json::json!({ "route": route, "what": what }))
        .collect();
    json(StatusCode::OK, &serde_json::json!({ "routes": routes }))
}

/// Serves one plugin by name. The answer is 404 if there is no plugin of this name.
async fn plugin(state: ApiState, AnyName(name): AnyName) -> Result<Response, Refused> {
    // The daemon has no separate request for one plugin: the number of plugins is small, so a
    // search in the full list is cheap.
    if let Response::Plugins(plugins) = state.ask(Request::Plugins).await?
        && let Some(plugin) = plugins.into_iter().find(|plugin| plugin.name == name)
    {
        return Ok(Response::Plugin(plugin));
    }
    Err(Failure::new(Code::Unknown, format!("there is no plugin {name:?}")).into())
}

/// Serves the history of the whole daemon, limited by the query `?limit=`.
async fn history(state: ApiState, Limit(limit): Limit) -> Result<Response, Refused> {
    state.ask(Request::History { name: None, limit }).await
}

/// Serves the history of one plugin. The name in the path may also be the name of a point, variable
/// or device.
async fn plugin_history(
    state: ApiState,
    AnyName(name): AnyName,
    Limit(limit): Limit,
) -> Result<Response, Refused> {
    state.ask(Request::History { name: Some(name), limit }).await
}

/// Receives a module and passes it to the daemon, which writes it into the plugin folder. Each
/// upload needs one of [`MAX_UPLOADS`] slots. An upload fails if no slot is free in time, or if its
/// body is empty, too long or too slow.
async fn deploy(
    state: ApiState,
    Named(name): Named<OfPlugin>,
    body: Body,
) -> Result<Response, Refused> {
    let Ok(_turn) = timeout(TURN_TIME, state.uploads.acquire()).await else {
        return Err(Failure::new(
            Code::Busy,
            format!(
                "the daemon receives {MAX_UPLOADS} other modules now, which is the limit; try again"
            ),
        )
        .into());
    };
    // The second value is the configuration key of the limit, for the error message.
    let limit = (state.module_bytes, "plugins.module in the configuration");
    let module = read(body, limit, BODY_TIME).await?;
    if module.is_empty() {
        return Err(invalid("the body is empty; send the bytes of the module as the body"));
    }
    state.ask(Request::Deploy { name, module }).await
}

/// Passes the order for a rollback to the daemon.
async fn rollback(
    state: ApiState,
    Named(name): Named<OfPlugin>,
    To { to, even_bad }: To,
) -> Result<Response, Refused> {
    state.ask(Request::Rollback { name, to, even_bad }).await
}

/// Serves the versions of a plugin.
async fn versions(state: ApiState, Named(name): Named<OfPlugin>) -> Result<Response, Refused> {
    state.ask(Request::Versions { name }).await
}

/// Passes the order to delete a plugin's file to the daemon.
async fn remove(state: ApiState, Named(name): Named<OfPlugin>) -> Result<Response, Refused> {
    state.ask(Request::Remove { name }).await
}

/// Reads the value for a simulated input and passes the order to the daemon.
async fn set(
    state: ApiState,
    Named(point): Named<OfPoint>,
    body: Body,
) -> Result<Response, Refused> {
    let value = read_value(body).await?;
    state.ask(Request::Set { point, value }).await
}

/// Reads an order to force a point and passes the order to the daemon, which checks the fields of
/// the order.
async fn force(
    state: ApiState,
    Named(point): Named<OfPoint>,
    body: Body,
) -> Result<Response, Refused> {
    let body = read_json(body).await?;
    let order = serde_json::from_slice(&body).map_err(|error| {
        let wanted = "the body must be an object such as {\"value\":true,\"owner\":\"ann\"}";
        invalid(format!("{wanted}: {error}"))
    })?;
    state.ask(Request::Force { point, order }).await
}

/// Passes the order to end the force of one point to the daemon.
async fn unforce(state: ApiState, Named(point): Named<OfPoint>) -> Result<Response, Refused> {
    state.ask(Request::Unforce { point: Some(point) }).await
}

/// Passes the order to end all forces to the daemon.
async fn unforce_all(state: ApiState) -> Result<Response, Refused> {
    state.ask(Request::Unforce { point: None }).await
}

/// Reads the value for a variable and passes the order to the daemon. The name is not checked here,
/// because programs may create variables whose names do not obey the naming rule.
async fn set_variable(
    state: ApiState,
    AnyName(name): AnyName,
    body: Body,
) -> Result<Response, Refused> {
    let value = read_value(body).await?;
    state.ask(Request::SetVar { name, value }).await
}

/// Reads the description of a simulated fault and passes the order to the daemon. The body must be
/// an object with a text `kind`; the driver checks all other fields.
async fn inject(
    state: ApiState,
    Named(device): Named<OfDevice>,
    body: Body,
) -> Result<Response, Refused> {
    let wanted = "the body must be an object such as {\"kind\":\"freeze\"}";
    let body = read_json(body).await?;
    let injection: serde_json::Value =
        serde_json::from_slice(&body).map_err(|error| invalid(format!("{wanted}: {error}")))?;
    if !injection.get("kind").is_some_and(serde_json::Value::is_string) {
        return Err(invalid(wanted));
    }
    state.ask(Request::Inject { device, injection }).await
}

/// Passes the order to end a simulated fault to the daemon.
async fn clear(state: ApiState, Named(device): Named<OfDevice>) -> Result<Response, Refused> {
    state.ask(Request::Clear { device }).await
}

/// Answers a request whose path is unknown. The HTTP status is 404.
async fn no_such_route(uri: Uri) -> Refused {
    let path = uri.path();
    Failure::new(Code::Unknown, format!("there is no route {path}; GET /v1 lists all routes"))
        .into()
}

/// Answers a request whose path is known but has no handler for this method. The HTTP status is
/// 405.
async fn wrong_method(method: Method, uri: Uri) -> Refused {
    let path = uri.path();
    Refused {
        status: StatusCode::METHOD_NOT_ALLOWED,
        ..invalid(format!("{path} does not accept {method}; GET /v1 lists its methods"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// This test covers an old fault. The daemon was busy for 30 s and carried out the order later,
    /// but the error message did not report that the order may still be carried out.
    #[tokio::test]
    async fn an_order_without_an_answer_may_have_been_obeyed() {
        async fn check(method: Method, expected: &str) {
            // The queue accepts the request, and no task answers it.
            let (calls, _taken) = mpsc::channel(1);
            let state = ApiState::new(calls, 1);
            let request = axum::http::Request::builder().method(method).body(()).unwrap();
            let (mut parts, ()) = request.into_parts();
            let state = ApiState::from_request_parts(&mut parts, &state).await.unwrap();
            let asked = state.ask_within(Duration::from_millis(1), Request::Reload).await;
            assert_eq!(asked.unwrap_err().failure.message, expected);
        }
        check(Method::GET, "the daemon has not answered for 0 s").await;
        let doubt = "the daemon has not answered for 0 s, so the outcome of the order is unknown";
        for method in [Method::PUT, Method::POST, Method::DELETE] {
            check(method, doubt).await;
        }
    }

    #[test]
    fn the_list_of_routes_names_each_one() {
        let (calls, _) = mpsc::channel(1);
        // The function panics if a route exists twice.
        let _ = routes(ApiState::new(calls, 1));
        let source =
            include_str!("route.rs").split_once("mod tests").expect("the file has a test module").0;
        for (route, _) in ROUTES {
            let (_, path) = route.split_once(' ').expect("a method and a path");
            let path = format!("\"{}\"", path.replace("NAME", "{name}"));
            assert!(source.contains(&path), "{route} is in the list and has no handler");
        }
    }
}
