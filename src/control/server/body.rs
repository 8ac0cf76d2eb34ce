//! The parts of a request: the name in the path, the parameters in the query, and the body.
//!
//! This code limits the size of each part and the time to read each part, because a user who can
//! open the socket can send any bytes. The code in `route.rs` uses the parts.

use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::rejection::PathRejection;
use axum::extract::{FromRequestParts, Path};
use axum::http::StatusCode;
use axum::http::request::Parts;
use http_body_util::BodyExt;
use tokio::time::{Instant, timeout_at};

use super::super::{MAX_RECEIPTS, SetBody};
use super::answer::{Refused, invalid};
use crate::name::{Name, NameKind};
use crate::process::image::Value;

/// The largest JSON body, in bytes. The longest useful body, a fault with all its settings, has a
/// few hundred bytes.
const MAX_JSON_BYTES: u64 = 64 << 10;

/// The time limit for a JSON body, counted from the moment when the server begins to read the body.
/// A client on the same machine can send a JSON body with one write, so the body arrives fast. A
/// client that gets stuck is refused after this time.
const JSON_TIME: Duration = Duration::from_secs(2);

/// The time limit for the body of a module, counted from the moment when the server begins to read
/// the body. A busy machine can send the largest module in this time.
pub(super) const BODY_TIME: Duration = Duration::from_secs(30);

/// The server adds this time to the time that a body needs at [`LEAST_RATE`], because the machine
/// may be busy for a moment. A sender that has sent no byte is refused after this time. A sender
/// that has sent many bytes fast and then stops is refused later.
pub(super) const PATIENCE: Duration = Duration::from_secs(2);

/// The lowest average rate of a body, in bytes per second. A socket that is forwarded over a slow
/// radio link can reach this rate.
const LEAST_RATE: u64 = 16 << 10;

/// A name in the URL path that this code does not check against the naming rule. Routes use this
/// type for variables, because programs may create variables whose names do not obey the rule.
/// Routes also use this type to find an existing name in a list.
pub(super) struct AnyName(pub(super) String);

impl<S: Send + Sync> FromRequestParts<S> for AnyName {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refused> {
        let name: Result<Path<String>, PathRejection> =
            Path::from_request_parts(parts, state).await;
        match name {
            Ok(Path(name)) => Ok(Self(name)),
            Err(error) => Err(invalid(format!("the name in the path: {error}"))),
        }
    }
}

/// A name in the URL path that is checked against the naming rule of its kind: plugin, point or
/// device.
pub(super) struct Named<K>(pub(super) Name<K>);

impl<S: Send + Sync, K: NameKind> FromRequestParts<S> for Named<K> {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refused> {
        let AnyName(name) = AnyName::from_request_parts(parts, state).await?;
        let wrong = |error| invalid(format!("the name of {}: {error}", K::A_THING));
        name.parse().map(Self).map_err(wrong)
    }
}

/// Reads a body `{"value":...}`.
pub(super) async fn read_value(body: Body) -> Result<Value, Refused> {
    let body = read_json(body).await?;
    let SetBody { value } = serde_json::from_slice(&body).map_err(|error| {
        invalid(format!("the body must be {{\"value\":...}} with true, false or a number: {error}"))
    })?;
    Ok(value)
}

/// The query `?limit=20`: the largest number of receipts in the answer. Without a query, the limit
/// is [`MAX_RECEIPTS`].
pub(super) struct Limit(pub(super) usize);

impl<S: Send + Sync> FromRequestParts<S> for Limit {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refused> {
        let Some(query) = parts.uri.query() else { return Ok(Self(MAX_RECEIPTS)) };
        let limit = query.strip_prefix("limit=").and_then(|limit| limit.parse().ok());
        limit.filter(|limit| (1..=MAX_RECEIPTS).contains(limit)).map(Self).ok_or_else(|| {
            invalid(format!("expected ?limit=1 to ?limit={MAX_RECEIPTS}, found ?{query}"))
        })
    }
}

/// The query of a rollback, such as `?to=3f2a1b`: the first digits of a version's hash. With
/// `&even_bad=true`, the version may be bad.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct To {
    pub(super) to: Option<String>,
    pub(super) even_bad: bool,
}

impl To {
    /// Parses the query; returns `None` if the query is malformed. The digits `A` to `F` become `a`
    /// to `f`, because the daemon writes hashes with `a` to `f`.
    fn read(query: &str) -> Option<Self> {
        let (to, even_bad) = match query.split_once('&') {
            None => (query, false),
            Some((to, "even_bad=true")) => (to, true),
            Some(_) => return None,
        };
        let to = to.strip_prefix("to=").filter(|to| is_beginning(to))?.to_ascii_lowercase();
        Some(Self { to: Some(to), even_bad })
    }
}

/// Whether `digits` can be the beginning of a hash: the text is not empty and has only hexadecimal
/// digits.
fn is_beginning(digits: &str) -> bool {
    !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_hexdigit())
}

impl<S: Send + Sync> FromRequestParts<S> for To {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refused> {
        let Some(query) = parts.uri.query() else {
            return Ok(Self { to: None, even_bad: false });
        };
        Self::read(query).ok_or_else(|| {
            // The message shows the wrong digits if only the digits are wrong. Otherwise the
            // message shows the whole query.
            let digits = query.strip_prefix("to=").and_then(|rest| rest.split('&').next());
            invalid(match digits.filter(|digits| !is_beginning(digits)) {
                Some(digits) => format!(
                    "expected the first digits of a version's hash, such as 3f2a1b, found \
                     {digits:?}"
                ),
                None => format!("expected ?to=3f2a1b or ?to=3f2a1b&even_bad=true, found ?{query}"),
            })
        })
    }
}

/// Reads the bytes of a JSON body. The caller parses the bytes.
pub(super) async fn read_json(body: Body) -> Result<Bytes, Refused> {
    read(body, (MAX_JSON_BYTES, "fixed"), JSON_TIME).await
}

/// Reads the whole body within `time` and at [`LEAST_RATE`] or faster. If the body is longer than
/// `limit`, the function drops the bytes but still reads to the end, because a client reads the
/// answer only after it has sent the whole body. `set_by` is a text for the error message: the
/// configuration key of the limit, or `fixed`.
pub(super) async fn read(
    mut body: Body,
    (limit, set_by): (u64, &str),
    time: Duration,
) -> Result<Bytes, Refused> {
    let (started, mut bytes, mut length) = (Instant::now(), Vec::new(), 0);
    loop {
        // The allowed time grows with the received bytes, up to `time`: one more second for each 16
        // KiB.
        let allowed = time.min(PATIENCE + Duration::from_millis(length * 1000 / LEAST_RATE));
        let late = |_| Refused {
            status: StatusCode::REQUEST_TIMEOUT,
            ..invalid(format!(
                "the body was not complete after {allowed:?}; {length} bytes were received"
            ))
        };
        let frame = timeout_at(started + allowed, body.frame()).await.map_err(late)?;
        let Some(frame) = frame else { break };
        let frame = frame
            .map_err(|error| invalid(format!("the body could not be read to its end: {error}")))?;
        let Some(data) = frame.data_ref() else { continue };
        length += data.len() as u64;
        if length <= limit {
            bytes.extend_from_slice(data);
        // The body is too long, so the bytes received so far are not needed.
        } else {
            bytes = Vec::new();
        }
    }
    if length > limit {
        return Err(Refused {
            status: StatusCode::PAYLOAD_TOO_LARGE,
            ..invalid(format!("the body has {length} bytes; the limit is {limit} ({set_by})"))
        });
    }
    Ok(bytes.into())
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use hyper::body::Frame;

    use super::*;

    /// A body that sends its pieces, then sends nothing, and never ends.
    struct Stuck(Vec<&'static [u8]>);

    impl hyper::body::Body for Stuck {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            match self.0.pop() {
                Some(piece) => Poll::Ready(Some(Ok(Frame::data(piece.into())))),
                None => Poll::Pending,
            }
        }
    }

    #[test]
    fn a_version_is_named_by_a_hash() {
        fn check(query: &str, expected: Option<(&str, bool)>) {
            let found = To::read(query).map(|To { to, even_bad }| (to.unwrap(), even_bad));
            let expected = expected.map(|(to, even_bad)| (to.to_owned(), even_bad));
            assert_eq!(found, expected, "{query}");
        }
        check("to=3F2a", Some(("3f2a", false)));
        check("to=3f2a&even_bad=true", Some(("3f2a", true)));
        ["", "to=", "to=xyz", "even_bad=true", "to=3f&even_bad=1", "to=3f&even_bad=true&x=1"]
            .iter()
            .for_each(|query| check(query, None));
    }

    #[tokio::test]
    async fn a_body_has_a_limit_in_size_and_time() {
        async fn check(body: Body, expected: Result<&[u8], (u16, &str)>) {
            let found = read(body, (8, "here"), Duration::from_millis(20)).await;
            match (&found, expected) {
                (Ok(bytes), Ok(expected)) => assert_eq!(bytes, expected),
                (Err(Refused { status, failure }), Err(expected)) => {
                    assert_eq!((status.as_u16(), failure.message.as_str()), expected);
                }
                _ => panic!("{found:?} is not {expected:?}"),
            }
        }
        let late = |message| Err((408, message));
        check(Body::empty(), Ok(b"")).await;
        check(Body::from("12345678"), Ok(b"12345678")).await;
        let long = Err((413, "the body has 9 bytes; the limit is 8 (here)"));
        check(Body::from("123456789"), long).await;
        let words = "the body was not complete after 20ms; 0 bytes were received";
        check(Body::new(Stuck(vec![])), late(words)).await;
        let words = "the body was not complete after 20ms; 6 bytes were received";
        check(Body::new(Stuck(vec![b"123", b"456"])), late(words)).await;
        let words = "the body was not complete after 20ms; 2000 bytes were received";
        check(Body::new(Stuck(vec![&[0; 1000], &[0; 1000]])), late(words)).await;
    }

    /// A body that sends the same piece at each tick and never ends.
    struct Steady(&'static [u8], tokio::time::Interval);

    impl hyper::body::Body for Steady {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            context: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            let piece = self.0;
            self.1.poll_tick(context).map(|_| Some(Ok(Frame::data(piece.into()))))
        }
    }

    #[tokio::test]
    async fn a_sender_that_keeps_pace_has_the_whole_time_and_one_that_is_stuck_has_not() {
        async fn check(body: Body, time_ms: u64, expected: &str) {
            let time = Duration::from_millis(time_ms);
            let found = read(body, (u64::MAX, "here"), time).await.unwrap_err().failure.message;
            let expected = format!("the body was not complete after {expected}");
            assert!(found.starts_with(&expected), "{found}, not {expected}");
        }
        let steady =
            |piece| Body::new(Steady(piece, tokio::time::interval(Duration::from_millis(50))));
        tokio::join!(
            check(Body::new(Stuck(vec![])), 30_000, "2s; 0 bytes were received"),
            // For 16 KiB at the lowest rate the sender gets one more second.
            check(Body::new(Stuck(vec![&[0; 16 << 10]])), 30_000, "3s; 16384 bytes were received"),
            check(steady(b"drip"), 30_000, "2.0"),
            check(steady(&[0; 4 << 10]), 2500, "2.5s; "),
        );
    }
}
