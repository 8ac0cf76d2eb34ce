//! Answers in HTTP form: the status and the JSON body of a response or of a refusal.
//!
//! The code in `route.rs` and `body.rs` makes a [`Refused`] if a request is malformed, has no route
//! or names an unknown plugin, if too many uploads are in progress, or if the daemon is stopping or
//! gives no answer in time. All other failures come from the daemon. This file only converts
//! answers to HTTP; it makes no decisions.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response as HttpResponse};
use serde::Serialize;

use super::super::{Code, DeployedBody, ErrorBody, Failure, Response};

/// A failure with its HTTP status. The status follows from the [`Code`] of the failure.
#[derive(Debug)]
pub(super) struct Refused {
    pub(super) status: StatusCode,
    pub(super) failure: Failure,
}

/// Returns the refusal of a malformed request; the HTTP status is 400.
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
            // Every view serializes to the JSON that `control/mod.rs` lists for its route.
            Self::Status(view) => json(ok, &view),
            Self::Plugins(views) => json(ok, &views),
            Self::Plugin(view) => json(ok, &view),
            Self::History(receipts) => json(ok, &receipts),
            Self::Versions(views) => json(ok, &views),
            Self::Points(views) => json(ok, &views),
            Self::Vars(views) => json(ok, &views),
            Self::Forces(views) => json(ok, &views),
            Self::Changes(views) => json(ok, &views),
            // The status 202 (accepted) means that the daemon must still read and start the module.
            Self::Deployed { name, hash } => {
                json(StatusCode::ACCEPTED, &DeployedBody { name, hash })
            }
            Self::Done => json(ok, &serde_json::json!({ "done": true })),
        }
    }
}

/// Returns an HTTP response whose body is one line of JSON.
pub(super) fn json(status: StatusCode, body: &impl Serialize) -> HttpResponse {
    let mut text = serde_json::to_vec(body)
        .expect("every key of a view is a text, and the depth of a view is finite");
    // After `curl` has shown the body, the line break puts the shell prompt on a new line.
    text.push(b'\n');
    let mut response = (status, text).into_response();
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}
