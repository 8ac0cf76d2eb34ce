//! One connection at work: the wire to the units, the side of the scan, and what one request comes
//! to.
//!
//! A job needs both ends, so they go through `exchange.rs` as one. The end of the connection ends
//! the job at once ([`Over`]); everything else that becomes of a request is an [`Outcome`], from
//! which `exchange.rs` draws the consequences. `transport.rs` has the bytes and the times.

use super::transport::Transport;
use crate::driver::link::Side;
use crate::driver::modbus::wire::request::{Reply, Request, WireError};

/// A connection, with the side of the scan that is served over it.
pub(super) struct Session<'s> {
    pub(super) transport: Transport,
    pub(super) side: &'s mut Side,
}

impl Session<'_> {
    /// Sends one request and waits for what becomes of it.
    ///
    /// # Errors
    /// When the connection has ended.
    pub(super) async fn transact(&mut self, request: &Request) -> Result<Outcome, Over> {
        match self.transport.transact(request).await {
            Ok(reply) => Ok(Outcome::Reply(reply)),
            Err(WireError::Closed(why)) => Err(Over(why)),
            Err(error) => Ok(Outcome::Failed(error)),
        }
    }
}

/// The end of the connection, with the reason.
#[derive(Debug)]
pub(super) struct Over(pub(super) String);

/// What a request has come to, on a connection that goes on.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The unit has done what it was asked.
    Reply(Reply),
    /// There is no valid reply, or the unit refuses.
    Failed(WireError),
}

impl Outcome {
    /// The reply, if there is one.
    pub(super) const fn reply(&self) -> Option<&Reply> {
        match self {
            Self::Reply(reply) => Some(reply),
            Self::Failed(_) => None,
        }
    }

    /// The reason why there is no reply, if there is none.
    pub(super) const fn error(&self) -> Option<&WireError> {
        match self {
            Self::Reply(_) => None,
            Self::Failed(error) => Some(error),
        }
    }
}
