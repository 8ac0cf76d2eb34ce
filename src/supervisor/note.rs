//! What the supervisor finds worth a log line, and in which words.
//!
//! It decides nothing and is told to nobody here: the daemon logs it and keeps a receipt.

use std::fmt;
use std::time::Duration;

use super::Version;
use crate::plugin::{ModuleHash, Refusal};
use crate::text::counted;

/// What a release has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Released {
    /// The hold.
    FromHold,
    /// The quarantine, if there was one: it was not held.
    Forgiven,
}

/// What is worth a log line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Note {
    /// Seen in the scan for the first time.
    Started(Version),
    /// Trapped; another instance is made.
    Restarting {
        /// Traps within the window, this one included.
        trap: u32,
        /// As many as lead to quarantine.
        of: u32,
        /// Time until then.
        delay: Duration,
    },
    /// A module could not be made, for no fault of it or though it ran before; another attempt
    /// follows.
    Retrying {
        /// The module.
        hash: ModuleHash,
        /// Time until then.
        delay: Duration,
    },
    /// Trapped too often: not run again until new bytes or a release.
    Quarantined {
        /// The module.
        hash: ModuleHash,
        /// Traps within the window.
        traps: u32,
    },
    /// Ran before, could not be made again so often as traps lead to quarantine, and a kept version
    /// has taken its place: in quarantine like that.
    GivenUp {
        /// The module.
        hash: ModuleHash,
        /// What became of the attempts.
        why: String,
    },
    /// Not run because its bytes are in quarantine from before.
    StillQuarantined {
        /// The module.
        hash: ModuleHash,
        /// What it did.
        why: String,
    },
    /// A version that is kept is made in place of the file's; whether it will run is not known yet.
    TriedInstead {
        /// The module of the file, if it could be read.
        of: Option<ModuleHash>,
        /// The module that is made.
        hash: ModuleHash,
    },
    /// A version that is kept runs in place of the file's.
    StandsIn {
        /// The module of the file, if it could be read.
        of: Option<ModuleHash>,
        /// The module that runs.
        hash: ModuleHash,
    },
    /// Trapped on probation: the version before runs again.
    RolledBack {
        /// The module that trapped; it is in quarantine.
        from: ModuleHash,
        /// The module that runs.
        to: ModuleHash,
    },
    /// Will not load; what runs is not touched.
    Refused {
        /// The module: the file's, or one that ran or was good before.
        hash: ModuleHash,
        /// Why.
        refusal: Refusal,
    },
    /// Out of the scan, as ordered.
    Stopped,
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Started(version) => {
                write!(f, "running {} as instance {}", version.hash, version.generation.0)
            }
            Self::Restarting { trap, of, delay } if delay.is_zero() => {
                write!(f, "trap {trap} of {of}, restarting at once")
            }
            Self::Restarting { trap, of, delay } => {
                write!(f, "trap {trap} of {of}, restarting in {delay:?}")
            }
            Self::Retrying { hash, delay } => write!(f, "trying {hash} again in {delay:?}"),
            Self::Quarantined { hash, traps } => write!(
                f,
                "quarantined {hash} after {}; replace the file or release the plugin",
                counted(*traps, "trap")
            ),
            Self::GivenUp { hash, why } => write!(
                f,
                "quarantined {hash}, because {why}; replace the file or release the plugin"
            ),
            Self::StillQuarantined { hash, why } => write!(
                f,
                "{hash} is in quarantine from before and not run ({why}); replace the file or \
                 release the plugin"
            ),
            Self::TriedInstead { of: Some(of), hash } => {
                write!(f, "{hash}, which ran before or is kept as good, is tried instead of {of}")
            }
            Self::TriedInstead { of: None, hash } => {
                write!(f, "{hash}, which ran before or is kept as good, is tried instead")
            }
            Self::StandsIn { of: Some(of), hash } => {
                write!(f, "{hash}, a version that is kept, runs instead of {of}")
            }
            Self::StandsIn { of: None, hash } => {
                write!(f, "{hash}, a version that is kept, runs instead")
            }
            Self::RolledBack { from, to } => write!(
                f,
                "rolled back to {to}, which goes on with its state; {from} is in quarantine until \
                 the file changes or the plugin is released"
            ),
            Self::Refused { hash, refusal } => write!(f, "{hash} is refused: {refusal}"),
            Self::Stopped => f.write_str("stopped"),
        }
    }
}
