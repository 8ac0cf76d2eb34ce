//! One connection in use: the transport to the units, the link to the scan, and the outcome of one
//! request.
//!
//! A job needs the transport and the link, so `exchange.rs` passes both together as one
//! [`Session`]. If the connection ends, the job ends at once with [`Over`]. Every other result of a
//! request is an [`ExchangeResult`], and `exchange.rs` decides what the driver then does.
//! `transport.rs` sends and receives the bytes, and measures the timeouts and the pauses.

use super::transport::Transport;
use crate::driver::link::Side;
use crate::driver::modbus::wire::request::{Reply, UnitRequest, WireError};

/// An open connection: the transport to the units, and the link to the scan.
pub(super) struct Session<'s> {
    pub(super) transport: Transport,
    pub(super) side: &'s mut Side,
}

impl Session<'_> {
    /// Sends one request and waits for its outcome.
    ///
    /// # Errors
    /// When the connection has ended.
    pub(super) async fn transact(&mut self, request: &UnitRequest) -> Result<ExchangeResult, Over> {
        match self.transport.transact(request).await {
            Ok(reply) => Ok(ExchangeResult::Reply(reply)),
            Err(WireError::Closed(why)) => Err(Over(why)),
            Err(error) => Ok(ExchangeResult::Failed(error)),
        }
    }
}

/// The end of the connection. The text is the reason.
#[derive(Debug)]
pub(super) struct Over(pub(super) String);

/// The outcome of a request on a connection that has not ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum ExchangeResult {
    /// The unit has sent a valid reply, which is not an exception.
    Reply(Reply),
    /// There is no valid reply, the unit or a gateway has refused the request, the reply is
    /// doubtful, or the value that was read back differs.
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

    /// Returns the reason why the request has failed. Returns `None` if there is a reply.
    pub(super) const fn error(&self) -> Option<&WireError> {
        match self {
            Self::Reply(_) => None,
            Self::Failed(error) => Some(error),
        }
    }
}
