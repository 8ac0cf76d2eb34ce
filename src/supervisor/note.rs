//! The events that the supervisor reports, with the text for the log.
//!
//! This file only describes the events. The daemon logs each event and adds the event to the
//! plugin's history in the journal.

use std::fmt;
use std::time::Duration;

use super::Version;
use crate::plugin::{ModuleHash, Refusal};
use crate::text::counted;

/// The effect of a release: the end of a hold or of a quarantine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Released {
    /// The plugin was on hold, and the release ended the hold.
    FromHold,
    /// The plugin was not on hold, and the release ended the quarantine if there was one.
    Forgiven,
}

/// An event of one plugin that the daemon logs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Note {
    /// A snapshot shows this instance in the scan for the first time.
    Started(Version),
    /// The program trapped, and the supervisor will make another instance.
    Restarting {
        /// The number of traps within the window, including this trap.
        trap: u32,
        /// The number of traps that leads to quarantine.
        of: u32,
        /// The wait before the next instance may be created.
        delay: Duration,
    },
    /// No instance of a module could be created, and the supervisor will try again. It tries again
    /// if the machine caused the failure, or if the module ran before.
    Retrying {
        /// The module.
        hash: ModuleHash,
        /// The wait before the next attempt.
        delay: Duration,
    },
    /// The module trapped too often. Or it trapped on probation, and the supervisor cannot name a
    /// previous version that runs again. The module does not run until an operator releases it.
    Quarantined {
        /// The module.
        hash: ModuleHash,
        /// The number of traps within the window; 1 after a trap on probation.
        traps: u32,
    },
    /// The module ran before, but now too many attempts to create an instance failed. The limit is
    /// the number of traps that leads to quarantine. A stored version runs in place of the module,
    /// and the module is in quarantine.
    GivenUp {
        /// The module.
        hash: ModuleHash,
        /// A text that describes the failed attempts.
        why: String,
    },
    /// The file's module does not run, because it was put in quarantine earlier, for example before
    /// the start of the daemon.
    StillQuarantined {
        /// The module.
        hash: ModuleHash,
        /// Reason why the module is in quarantine.
        why: String,
    },
    /// An instance of a stored version is being created in place of the file's version. The attempt
    /// may still fail.
    TriedInstead {
        /// The module of the file, if the file could be read.
        of: Option<ModuleHash>,
        /// The module of which an instance is being created.
        hash: ModuleHash,
    },
    /// A stored version runs in place of the file's version.
    StandsIn {
        /// The module of the file, if the file could be read.
        of: Option<ModuleHash>,
        /// The module that runs.
        hash: ModuleHash,
    },
    /// A version trapped on probation, and the previous version runs again.
    RolledBack {
        /// The module that trapped; it is now in quarantine.
        from: ModuleHash,
        /// The module that runs now.
        to: ModuleHash,
    },
    /// An attempt to create an instance of a module failed. If a version runs, it continues.
    Refused {
        /// The module: the file's module, the module that ran last, or a stored good version.
        hash: ModuleHash,
        /// Reason why no instance could be created.
        refusal: Refusal,
    },
    /// The program has left the scan because of a stop order.
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
                "{hash} is still in quarantine and does not run ({why}); replace the file or \
                 release the plugin"
            ),
            Self::TriedInstead { of: Some(of), hash } => {
                write!(f, "the stored version {hash} starts instead of {of}")
            }
            Self::TriedInstead { of: None, hash } => {
                write!(
                    f,
                    "the stored version {hash} starts instead of the plugin file, which cannot \
                     be used"
                )
            }
            Self::StandsIn { of: Some(of), hash } => {
                write!(f, "the stored version {hash} runs instead of {of}")
            }
            Self::StandsIn { of: None, hash } => {
                write!(
                    f,
                    "the stored version {hash} runs instead of the plugin file, which cannot be \
                     used"
                )
            }
            Self::RolledBack { from, to } => write!(
                f,
                "rolled back to {to}, which continues with its state from before the swap; {from} \
                 is in quarantine until the file changes or the plugin is released"
            ),
            Self::Refused { hash, refusal } => write!(f, "{hash} is refused: {refusal}"),
            Self::Stopped => f.write_str("stopped"),
        }
    }
}
