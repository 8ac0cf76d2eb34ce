//! How an answer is written: the HTTP status and the JSON body of a response or of a refusal.
//!
//! The routes and the parts of a request make a [`Refused`] where a request makes no sense; any
//! other failure comes from the daemon. Nothing is decided here. `route.rs` has the routes, and
//! `body.rs` reads what comes in.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response as HttpResponse};
use serde::Serialize;

use super::super::{Code, DeployedBody, ErrorBody, Failure, Response};

/// A failure with its HTTP status.
#[derive(Debug)]
pub(super) struct Refused {
    pub(super) status: StatusCode,
    pub(super) failure: Failure,
}

/// The refusal of a request that makes no sense.
pub(super) fn invalid(message: impl Into<String>) -> Refused {
    Failure::new(Code::Invalid, message).into()
}

impl From<Failure> for Refused {
    fn from(failure: Failure) -> Self {
        let status = match failure.code {
            Code::Unknown => StatusCode::NOT_FOUND,
            Code::Invalid => StatusCode::BAD_REQUEST,
            Code::Refused => StatusCode::CONFLICT,
            Code::Busy => StatusCode::SERVICE_UNAVAILABLE,
            Code::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self { status, failure }
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> HttpResponse {
        json(self.status, &ErrorBody { error: self.failure })
    }
}

impl IntoResponse for Response {
    fn into_response(self) -> HttpResponse {
        let ok = StatusCode::OK;
        match self {
            Self::Status(view) => json(ok, &view),
            Self::Plugins(views) => json(ok, &views),
            Self::Plugin(view) => json(ok, &view),
            Self::History(receipts) => json(ok, &receipts),
            Self::Versions(views) => json(ok, &views),
            Self::Points(views) => json(ok, &views),
            Self::Vars(views) => json(ok, &views),
            Self::Forces(views) => json(ok, &views),
            Self::Changes(views) => json(ok, &views),
            Self::Deployed { name, hash } => {
                json(StatusCode::ACCEPTED, &DeployedBody { name, hash })
            }
            Self::Done => json(ok, &serde_json::json!({ "done": true })),
        }
    }
}

/// An answer with this body, as one line of JSON.
pub(super) fn json(status: StatusCode, body: &impl Serialize) -> HttpResponse {
    let mut text = serde_json::to_vec(body).expect("views have text keys and finite depth");
    // People ask with curl, and the prompt of their shell belongs on a line of its own.
    text.push(b'\n');
    let mut response = (status, text).into_response();
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}
