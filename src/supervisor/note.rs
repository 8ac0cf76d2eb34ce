//! The events that the supervisor reports, and their text in the log.
//!
//! A note decides nothing, and this file writes it nowhere: the daemon logs it and adds it to the
//! plugin's history in the journal.

use std::fmt;
use std::time::Duration;

use super::Version;
use crate::plugin::{ModuleHash, Refusal};
use crate::text::counted;

/// The state that a release has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Released {
    /// The hold: the plugin was on hold.
    FromHold,
    /// The quarantine, if there was one. The plugin was not on hold.
    Forgiven,
}

/// An event of one plugin that is worth a log line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Note {
    /// A snapshot shows this version in the scan for the first time.
    Started(Version),
    /// The program trapped, and another instance will be made.
    Restarting {
        /// The number of traps within the window, this one included.
        trap: u32,
        /// The number of traps that leads to quarantine.
        of: u32,
        /// The time until the next instance may be made.
        delay: Duration,
    },
    /// A module could not be made, and another attempt follows, because the module is not the
    /// reason or because it ran before.
    Retrying {
        /// The module.
        hash: ModuleHash,
        /// The time until the next attempt.
        delay: Duration,
    },
    /// The module trapped too often. It is not run again until the file has new bytes or the
    /// operator releases the plugin.
    Quarantined {
        /// The module.
        hash: ModuleHash,
        /// The number of traps within the window.
        traps: u32,
    },
    /// The module ran before, and then it could not be made in as many attempts as traps lead to
    /// quarantine. A kept version has taken its place, and the module is in quarantine.
    GivenUp {
        /// The module.
        hash: ModuleHash,
        /// The reason: how the attempts failed.
        why: String,
    },
    /// The module is not run, because its bytes are in quarantine from before.
    StillQuarantined {
        /// The module.
        hash: ModuleHash,
        /// Why the module is in quarantine.
        why: String,
    },
    /// A kept version is being made in place of the file's version. It is not known yet whether it
    /// will run.
    TriedInstead {
        /// The module of the file, if it could be read.
        of: Option<ModuleHash>,
        /// The module that is made.
        hash: ModuleHash,
    },
    /// A kept version runs in place of the file's version.
    StandsIn {
        /// The module of the file, if it could be read.
        of: Option<ModuleHash>,
        /// The module that runs.
        hash: ModuleHash,
    },
    /// A version trapped on probation, and the version before runs again.
    RolledBack {
        /// The module that trapped; it is now in quarantine.
        from: ModuleHash,
        /// The module that runs.
        to: ModuleHash,
    },
    /// A module will not load. The running version is not touched.
    Refused {
        /// The module: that of the file, or one that ran or was good before.
        hash: ModuleHash,
        /// Why it will not load.
        refusal: Refusal,
    },
    /// The program left the scan, as ordered.
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
