//! The audit trail: for each order of an operator, the user who gave the order, and the values
//! before and after the order.
//!
//! This file has only data types and their text. An [`Ordered`] is a part of [`super::Receipt`].
//! `server/peer.rs` finds out which user sent a request. `daemon/audit.rs` decides which requests
//! are orders, and which orders get a line in the history.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::text::{counted, legible};

/// The user whose process sent a request, as reported by the kernel. If the process was started
/// with `sudo`, the user is root.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Who {
    /// The number of the user (uid).
    pub uid: u32,
    /// The user's name on this system. `null` if the number has no name, or if the daemon did not
    /// get the name in time.
    pub name: Option<String>,
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => write!(f, "{} (uid {})", legible(name), self.uid),
            None => write!(f, "uid {}", self.uid),
        }
    }
}

/// The kind of an order, named after its command. Hold and release are not in this list: they have
/// separate kinds of receipts, `held` and `released`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OrderKind {
    /// The operator set a simulated input or a variable to a new value.
    Set,
    /// The operator forced a point.
    Force,
    /// The force of one point ended, or all forces ended.
    Unforce,
    /// A `.wasm` file was written into the plugin folder.
    Deploy,
    /// A stored version was put back into the plugin folder.
    Rollback,
    /// The file of a plugin was deleted.
    Remove,
    /// A program got a new instance of the same code.
    Restart,
    /// All programs restarted. Declared variables have their initial values; all other variables
    /// were deleted.
    RestartCold,
    /// The retained variables were reset to their initial values.
    ResetRetain,
    /// Recovery ended, so the plugins may run.
    Recover,
    /// The configuration file was read again.
    Reload,
    /// A simulated device was given a fault.
    Fault,
    /// The simulated fault of a device was ended.
    ClearFault,
}

impl OrderKind {
    /// Returns the text of the command for this order, such as `restart --cold`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Set => "set",
            Self::Force => "force",
            Self::Unforce => "unforce",
            Self::Deploy => "deploy",
            Self::Rollback => "rollback",
            Self::Remove => "remove",
            Self::Restart => "restart",
            Self::RestartCold => "restart --cold",
            Self::ResetRetain => "reset --retain",
            Self::Recover => "recover",
            Self::Reload => "reload",
            Self::Fault => "fault",
            Self::ClearFault => "fault --clear",
        }
    }
}

/// An order that was carried out, or that failed after it had already changed something.
///
/// A refused order has changed nothing and is not recorded. For a deploy or a rollback, the `hash`
/// of the receipt is the new version in the plugin folder. The receipt's `old_hash` is the version
/// that was in the folder before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ordered {
    /// The kind of order.
    pub order: OrderKind,
    /// The point, variable or device that the order was about; absent if the order has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// The value before the order, as text; absent if the order sets no value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub old: Option<String>,
    /// The value after the order, as text; absent if the order sets no value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub new: Option<String>,
    /// More details. For a force: its owner, duration and reason. For a reload: the changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub details: Option<String>,
    /// The user who gave the order. `null` if the cause was not a user. Such causes are a signal, a
    /// saved configuration file, and the end of a force's time.
    pub who: Option<Who>,
    /// The reason why the order failed after it had already changed something; absent after
    /// success.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<String>,
    /// The number of orders that this line of the history reports, usually 1. A line reports
    /// several orders if the same user gives orders of the same kind for the same target more often
    /// than `daemon/audit/rows.rs` allows.
    pub count: u64,
}

impl Ordered {
    /// Returns the order as a sentence without a full stop, for the log and the command line.
    /// `version` is the short hash of the version that the order put into the plugin folder.
    /// `before` is the short hash of the version that was in the folder before.
    pub fn sentence(&self, version: Option<&str>, before: Option<&str>) -> String {
        let by = self.who.as_ref().map(ToString::to_string);
        let mut text = match (&self.failed, by) {
            (None, None) => self.what(version, before),
            (None, Some(by)) if self.order == OrderKind::Force => {
                format!("{}; ordered by {by}", self.what(version, before))
            }
            (None, Some(by)) => format!("{} by {by}", self.what(version, before)),
            (Some(why), by) => {
                let target = self.target.iter().map(|target| format!(" {}", legible(target)));
                let by = by.map(|by| format!(" by {by}")).unwrap_or_default();
                let (name, target) = (self.order.name(), target.collect::<String>());
                format!("the order `{name}{target}`{by} has failed: {}", legible(why))
            }
        };
        if self.count > 1 {
            text += &format!(" ({} since the last entry)", counted(self.count, "such order"));
        }
        text
    }

    /// Returns the change that the order made, as text.
    fn what(&self, version: Option<&str>, before: Option<&str>) -> String {
        use OrderKind as Kind;
        let target = legible(self.target.as_deref().unwrap_or_default());
        let new = legible(self.new.as_deref().unwrap_or_default());
        let was = self.old.as_deref().or(before);
        let was = was.map(|old| format!(" (was {})", legible(old))).unwrap_or_default();
        let version = version.unwrap_or("unknown");
        let details = legible(self.details.as_deref().unwrap_or_default());
        match self.order {
            Kind::Set => format!("{target} is set to {new}{was}"),
            Kind::Force => format!("{target} is forced to {new}{was} {details}"),
            Kind::Unforce if self.who.is_none() => {
                format!("the force of {target} has ended; the force was {details}")
            }
            Kind::Unforce if target.is_empty() => "no point is forced any more".into(),
            Kind::Unforce => format!("{target} is not forced any more{was}"),
            Kind::Deploy => format!("version {version} is put into the folder{was}"),
            Kind::Rollback => format!("version {version} is put back into the folder{was}"),
            Kind::Remove => format!("the file is deleted{was}"),
            Kind::Restart => "the program is restarted".into(),
            Kind::RestartCold => "all programs are restarted cold".into(),
            Kind::ResetRetain => "the retained variables have their initial values".into(),
            Kind::Recover => "recovery is ended".into(),
            Kind::Reload => format!("the configuration is read again: {details}"),
            Kind::Fault => format!("{target} has the simulated fault {new}"),
            Kind::ClearFault => format!("{target} has no simulated fault any more"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_is_one_sentence() {
        fn check(ordered: &Ordered, expected: &str) {
            assert_eq!(ordered.sentence(Some("aa"), Some("bb")), expected);
        }
        let some = |text: &str| Some(text.to_owned());
        let ann = Some(Who { uid: 1000, name: some("ann") });
        let set = Ordered {
            order: OrderKind::Set,
            target: some("tank.level"),
            old: some("40"),
            new: some("45.5"),
            details: None,
            who: ann.clone(),
            failed: None,
            count: 1,
        };
        check(&set, "tank.level is set to 45.5 (was 40) by ann (uid 1000)");
        let often = Ordered { count: 7, who: Some(Who { uid: 7, name: None }), ..set.clone() };
        let often_text =
            "tank.level is set to 45.5 (was 40) by uid 7 (7 such orders since the last entry)";
        check(&often, often_text);
        let force = Ordered {
            order: OrderKind::Force,
            details: some("by bob for 1m: test"),
            ..set.clone()
        };
        let forced = "tank.level is forced to 45.5 (was 40) by bob for 1m: test";
        check(&force, &format!("{forced}; ordered by ann (uid 1000)"));
        let plain = Ordered { target: None, old: None, new: None, ..set };
        let deploy = Ordered { order: OrderKind::Deploy, ..plain.clone() };
        check(&deploy, "version aa is put into the folder (was bb) by ann (uid 1000)");
        let mended = Some("no\nroom".to_owned());
        let reload = Ordered { order: OrderKind::Reload, details: some("scan.period"), ..plain };
        let text = "the configuration is read again: scan.period by ann (uid 1000)";
        check(&reload, text);
        let unordered = Ordered { who: None, ..reload.clone() };
        check(&unordered, "the configuration is read again: scan.period");
        let failed = Ordered { failed: mended, ..reload };
        check(&failed, "the order `reload` by ann (uid 1000) has failed: no\\nroom");
    }
}
