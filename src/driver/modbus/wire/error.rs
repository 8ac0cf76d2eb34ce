//! The errors of one request: why it has no valid reply, and the meaning of exception codes.
//!
//! `request.rs` and `client/transport.rs` make these errors. `client/refusal.rs` decides what the
//! client does after an exception.

use std::borrow::Cow;
use std::fmt;

/// Reason why a request has no valid reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WireError {
    /// The unit has sent no reply before the timeout. Over Modbus TCP, an incomplete reply counts
    /// as no reply.
    Timeout,
    /// The unit, or the gateway before the unit, has refused the request with this exception code.
    Exception(u8),
    /// The checksum of the reply is wrong.
    Crc,
    /// The reply is incomplete or cannot belong to this request. The text is the reason.
    Garbage(Cow<'static, str>),
    /// The reply has the address of a different unit.
    WrongUnit {
        /// The address in the reply.
        found: u8,
        /// The address that the reply must have.
        expected: u8,
    },
    /// No reply to this request has come before the timeout, but a reply with a transaction number
    /// that no waiting request has.
    OtherTransaction {
        /// The number of the reply that came last.
        found: u16,
        /// The number of the request.
        expected: u16,
    },
    /// The line has given back the request as an echo, and no reply has come before the timeout.
    OnlyEcho,
    /// The request does not fit into a frame. It was not sent.
    TooLong,
    /// The reply may be the late reply to an earlier request.
    Doubtful,
    /// The driver has read an output back after a write, and the unit has not returned the written
    /// value.
    Differs,
    /// The connection has ended, and the client must make a new connection. The text is the reason.
    Closed(String),
}

impl fmt::Display for WireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Timeout => f.write_str("no answer within the time limit"),
            Self::Exception(code) => write!(f, "exception {code} ({})", exception(*code)),
            Self::Crc => f.write_str("an answer with a wrong checksum"),
            Self::Garbage(what) => write!(f, "an invalid answer: {what}"),
            Self::WrongUnit { found, expected } => {
                write!(f, "an invalid answer: unit {found} answers instead of unit {expected}")
            }
            Self::OtherTransaction { found, expected } => write!(
                f,
                "no answer with the transaction number {expected} of the request, but an answer \
                 with the number {found}"
            ),
            Self::OnlyEcho => f.write_str(
                "no answer within the time limit, only the echo of the request from the line",
            ),
            Self::TooLong => f.write_str("the request is too long for a frame"),
            Self::Doubtful => f.write_str(
                "an answer that is ignored, because it may belong to an earlier request",
            ),
            Self::Differs => {
                f.write_str("the value that was read back differs from the written value")
            }
            Self::Closed(why) => write!(f, "the connection has ended: {why}"),
        }
    }
}

impl std::error::Error for WireError {}

/// Returns the meaning of an exception code (Modbus application protocol 1.1b3, 7).
pub const fn exception(code: u8) -> &'static str {
    match code {
        1 => "illegal function",
        2 => "illegal data address",
        3 => "illegal data value",
        4 => "server device failure",
        5 => "acknowledge: the request needs a long time",
        6 => "server device busy",
        8 => "memory parity error",
        10 => "gateway path unavailable",
        11 => "gateway target device failed to respond",
        _ => "unknown",
    }
}
