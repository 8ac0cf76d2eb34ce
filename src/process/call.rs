//! Calls between host and guest. The host is the daemon's code, and the guest is the WebAssembly
//! code of a program. A [`Phase`] is a call from the host into the guest; a `Code` is the result of
//! a call from the guest to the host.
//!
//! ```text
//! host ── init, poll, save or restore (Phase) ──▶ guest
//! host ◀── a function of the contract ─────────── guest
//! host ── result (Code) ────────────────────────▶ guest
//! ```
//!
//! The phase decides what the guest may do: for example, a guest may write outputs only in a poll.
//! The code in this file does not check or refuse calls. The reasons for a refusal are in
//! `refused.rs`. The functions of the contract are in `plugin/instance/abi.rs`.

use std::fmt;

use super::variable::Denied;

/// The kind of call that the host has made into the guest. The phase decides what the guest may do.
/// The tape in a crash report stores the phase as the number of the variant.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// The start of an instance: the start section, `_initialize` and `init`. The guest may write
    /// variables, but no outputs.
    #[default]
    Init = 0,
    /// A poll: the guest may write outputs and variables.
    Poll,
    /// The function `save` of the old version, during a swap: the guest may write only its state.
    Save,
    /// The function `restore` of the new version, during a swap: the guest may write variables, but
    /// no outputs.
    Restore,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Init => "its start",
            Self::Poll => "poll",
            Self::Save => "save",
            Self::Restore => "restore",
        })
    }
}

/// Longest state of one program, in bytes. The scan copies the state from the old to the new
/// version between two cycles. A copy of this length takes a tenth of a millisecond.
pub(crate) const MAX_STATE_BYTES: usize = 1 << 20;

/// The result of a call from the guest to the host. The guest gets the number of the variant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i32)]
pub(crate) enum Code {
    /// The call was carried out.
    Success = 0,
    /// A pointer, a length or a log level is wrong, a text is not UTF-8, a number is not finite or
    /// is out of range, or a limit is reached.
    Error = 1,
    /// The address is outside of the image.
    OutOfBounds = 2,
    /// No variable or point with this name or id exists.
    Unknown = 3,
    /// The variable or point exists, but has another type.
    OtherType = 4,
    /// The configuration does not grant this access to the plugin, another plugin owns the point,
    /// the point to write is an input, or the call is not allowed in this phase.
    Denied = 5,
}

impl From<Denied> for Code {
    fn from(denied: Denied) -> Self {
        match denied {
            Denied::NotGranted => Self::Denied,
            Denied::OtherType(_) => Self::OtherType,
            Denied::Quota | Denied::Limit => Self::Error,
        }
    }
}

/// The result of a function of the contract: `Ok` means [`Code::Success`], and `Err` contains the
/// error code.
pub(crate) type CallResult = Result<(), Code>;
