//! The audit trail: what an operator has ordered, who it was, and the value before and after.
//!
//! Plain data, a part of [`super::Receipt`]. Who the peer of a connection is is found out in
//! `server/peer.rs`; which requests are orders, and how many of them have a line, is decided in
//! `daemon/audit.rs`.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::text::{counted, legible};

/// The user whose process has sent a request, as the kernel knows it. Behind `sudo` that is root.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Who {
    /// The number of the user.
    pub uid: u32,
    /// The name that the system has for that number; `null` when it has none, or when it did not
    /// say so in time.
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

/// The kinds of orders, named as the command line names them. Orders to hold and to release are
/// not among them: they have receipts of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OrderKind {
    /// A simulated input or a variable has another value.
    Set,
    /// A point is forced.
    Force,
    /// A force is ended, or every one.
    Unforce,
    /// A module is put into the plugin folder.
    Deploy,
    /// A kept version is put into the plugin folder.
    Rollback,
    /// A plugin's file is deleted.
    Remove,
    /// A program has a new instance of the same code.
    Restart,
    /// All programs start anew, with declared variables at their initial values and no others.
    RestartCold,
    /// The retained variables have their initial values.
    ResetRetain,
    /// Plugins held for recovery may run.
    Recover,
    /// The configuration is read again.
    Reload,
    /// A simulated device fails.
    Fault,
    /// A simulated device is sound again.
    ClearFault,
}

impl OrderKind {
    /// The order as the command line names it.
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

/// An order that was carried out, or that has failed half done.
///
/// One that was refused has changed nothing and is not recorded. The version that a deploy or a
/// rollback puts into the folder is the receipt's `hash`, the file before it the `old_hash`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ordered {
    /// What was ordered.
    pub order: OrderKind,
    /// The point, variable or device that it is about; not there for others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// The value before, as text; not there when the order gives no value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub old: Option<String>,
    /// The value after, as text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub new: Option<String>,
    /// What else was said: for how long and why a point is forced, what a reload has changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub details: Option<String>,
    /// Who ordered it; `null` when nobody did in person: a signal, a configuration file that was
    /// saved, the end of the time for which a point was forced.
    pub who: Option<Who>,
    /// Why it was not carried out to its end; not there when it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<String>,
    /// How many orders this line stands for: this one, and those of the same kind, user and target
    /// since the line before, which came too often for a line each.
    pub count: u64,
}

impl Ordered {
    /// The order as a sentence without its end, for the log and the command line; with the digits
    /// of the version that it has put into the folder, and of the one that was there.
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

    /// What it has changed.
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
        let nobody = Ordered { who: None, ..reload.clone() };
        check(&nobody, "the configuration is read again: scan.period");
        let failed = Ordered { failed: mended, ..reload };
        check(&failed, "the order `reload` by ann (uid 1000) has failed: no\\nroom");
    }
}
