//! A call between host and program: the phase of a call into the guest, and the result code of a
//! call that the guest makes.
//!
//! What a program may do depends on the [`Phase`]: the call into the guest that is running. This
//! file checks and refuses nothing. The reasons for a refusal are in `refused.rs`. The functions of
//! the contract are in `plugin/instance/abi.rs`.

use std::fmt;

use super::variable::Denied;

/// The call that the host has made into the guest. The phase decides what the guest may do. A tape
/// stores the number of each phase.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Start section, `_initialize` and `init`: output writes are refused.
    #[default]
    Init = 0,
    /// A poll: the guest may write outputs and variables.
    Poll,
    /// `save`: the guest may write only the state.
    Save,
    /// `restore`: the guest may write variables, but no outputs.
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

/// Longest state of one program, in bytes. To copy a state of this length between two cycles takes
/// a tenth of a millisecond.
pub(crate) const MAX_STATE_BYTES: usize = 1 << 20;

/// The result of a call, as the guest gets it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i32)]
pub(crate) enum Code {
    /// The call was carried out.
    Success = 0,
    /// A bad pointer, length or level, a text that is not UTF-8, or a limit that is reached.
    Error = 1,
    /// The address is out of bounds of the image.
    OutOfBounds = 2,
    /// No variable or point has this name or id.
    Unknown = 3,
    /// The variable or point exists with another type.
    OtherType = 4,
    /// The access is not granted to this plugin, or another plugin owns the point.
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

/// The result of a function of the contract: `Ok` means success, and `Err` has any other code.
pub(crate) type Outcome = Result<(), Code>;
