//! One connection in use: the transport to the units, the link to the scan, and the outcome of one
//! request.
//!
//! A job needs the transport and the link, so `exchange.rs` passes both together as one
//! [`Session`]. Every result of a request is an [`ExchangeResult`], also the end of the connection
//! during the request, and `exchange.rs` decides what the driver then does. `reopen.rs` makes a new
//! connection. If no new connection can be made, or if the driver gives up the connection, the job
//! ends at once with [`Over`]. `transport.rs` sends and receives the bytes, and measures the
//! timeouts and the pauses.

use super::refusal::Refusal;
use super::transport::Transport;
use crate::driver::link::Side;
use crate::driver::modbus::wire::error::WireError;
use crate::driver::modbus::wire::request::{Reply, UnitRequest};

/// A connection: the transport to the units, and the link to the scan.
pub(super) struct Session<'s> {
    pub(super) transport: Transport,
    pub(super) side: &'s mut Side,
}

impl Session<'_> {
    /// Sends one request and waits for its outcome.
    pub(super) async fn transact(&mut self, request: &UnitRequest) -> ExchangeResult {
        match self.transport.transact(request).await {
            Ok(reply) => ExchangeResult::Reply(reply),
            Err(error) => ExchangeResult::Failed(error),
        }
    }
}

/// The loss of the connection: the units cannot be reached, or do not answer over it. The text is
/// the reason.
#[derive(Debug)]
pub(super) struct Over(pub(super) String);

/// The outcome of a request.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum ExchangeResult {
    /// The unit has sent a valid reply, which is not an exception.
    Reply(Reply),
    /// There is no valid reply, the connection has ended, the unit or a gateway has refused the
    /// request, the reply is doubtful, or the value that was read back differs.
    Failed(WireError),
}

impl ExchangeResult {
    /// Returns the reply. Returns `None` if the request has failed.
    pub(super) const fn reply(&self) -> Option<&Reply> {
        match self {
            Self::Reply(reply) => Some(reply),
            Self::Failed(_) => None,
        }
    }

    /// Whether the connection has ended before the reply.
    pub(super) const fn is_closed(&self) -> bool {
        matches!(self, Self::Failed(WireError::Closed(_)))
    }

    /// Returns the reason why the request has failed. Returns `None` if there is a reply.
    pub(super) const fn error(&self) -> Option<&WireError> {
        match self {
            Self::Reply(_) => None,
            Self::Failed(error) => Some(error),
        }
    }

    /// Returns the error in words. Returns an empty text for a reply.
    pub(super) fn why(&self) -> String {
        self.error().map(ToString::to_string).unwrap_or_default()
    }

    /// Whether the driver treats the outcome as a missing reply. This is the case if no reply came,
    /// if the reply was invalid, if the connection has ended, or if a gateway does not reach the
    /// unit. It is not the case for a doubtful reply, for a different value that was read back, or
    /// if the request was too long for a frame.
    pub(super) fn is_silence(&self) -> bool {
        match self.error() {
            None | Some(WireError::Doubtful | WireError::Differs | WireError::TooLong) => false,
            Some(WireError::Exception(code)) => Refusal::of(*code) == Refusal::Absent,
            Some(_) => true,
        }
    }

    /// Whether the reply is missing or damaged, so that a repetition of the request can help. If
    /// the connection has ended, `Client::transact` has already repeated the request if this can
    /// help.
    pub(super) fn is_unclear(&self) -> bool {
        self.is_silence()
            && !matches!(self.error(), Some(WireError::Exception(_) | WireError::Closed(_)))
    }
}
