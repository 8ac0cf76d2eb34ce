//! The audit trail: what an operator ordered, which user it was, and the value before and after.
//!
//! This is plain data, a part of [`super::Receipt`]. `server/peer.rs` finds out the user at the
//! other end of a connection. `daemon/audit.rs` decides which requests are orders, and how many of
//! them get a line.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::text::{counted, legible};

/// The user whose process sent a request, as the kernel knows it. For a process behind `sudo` that
/// is root.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Who {
    /// Number of the user.
    pub uid: u32,
    /// Name that the system has for this number; `null` if there is none, or none in time.
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

/// The kinds of orders, named as on the command line. Hold and release are not among them: they
/// have receipts of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OrderKind {
    /// A simulated input or a variable got another value.
    Set,
    /// A point was forced.
    Force,
    /// A force was ended, or all were.
    Unforce,
    /// A module was put into the plugin folder.
    Deploy,
    /// A kept version was put into the plugin folder.
    Rollback,
    /// A plugin's file was deleted.
    Remove,
    /// A program got a new instance of the same code.
    Restart,
    /// All programs start again. Declared variables have their initial values, and others are gone.
    RestartCold,
    /// The retained variables got their initial values.
    ResetRetain,
    /// The plugins that were held for recovery may run.
    Recover,
    /// The configuration was read again.
    Reload,
    /// A simulated device was given a fault.
    Fault,
    /// The simulated fault of a device was ended.
    ClearFault,
}

impl OrderKind {
    /// The order as it is written on the command line.
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

/// An order that was carried out, or that failed half done.
///
/// An order that was refused changed nothing and is not recorded. The version that a deploy or a
/// rollback puts into the folder is the receipt's `hash`, and the file before it is `old_hash`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ordered {
    /// The kind of order.
    pub order: OrderKind,
    /// The point, variable or device of the order; absent in other orders.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// The value before, as text; absent if the order gives no value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub old: Option<String>,
    /// The value after, as text; absent if the order gives no value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub new: Option<String>,
    /// Details of the order: for how long and why a point is forced, or what a reload changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub details: Option<String>,
    /// The user who ordered it. `null` if no user did: a signal, a configuration file that was
    /// saved, or the end of a force's time.
    pub who: Option<Who>,
    /// The reason why the order failed half done; absent if it did not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<String>,
    /// Number of orders that this line stands for. That is this order, and those of the same kind,
    /// user and target since the line before, which came too often for a line each.
    pub count: u64,
}

impl Ordered {
    /// The order as a sentence without its end, for the log and the command line. `version` and
    /// `before` are the digits of the version that the order put into the folder and of the one
    /// before it.
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
            text += &format!(" ({} since the last line)", counted(self.count, "such order"));
        }
        text
    }

    /// The change that the order made, in words.
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
                format!("the force of {target} is over, {details}")
            }
            Kind::Unforce if target.is_empty() => "no point is forced any more".into(),
            Kind::Unforce => format!("{target} is not forced any more{was}"),
            Kind::Deploy => format!("version {version} is put into the folder{was}"),
            Kind::Rollback => format!("version {version} is put back into the folder{was}"),
            Kind::Remove => format!("the file is deleted{was}"),
            Kind::Restart => "the program is restarted".into(),
            Kind::RestartCold => "the machine is restarted cold".into(),
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
            "tank.level is set to 45.5 (was 40) by uid 7 (7 such orders since the last line)";
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
