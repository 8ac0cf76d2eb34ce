//! The key `sparkplug`: the identity of an edge node, and the names of which its topics are made.
//!
//! What is sent on the topics is in `sparkplug.rs`. The metrics stand in other keys. Their names
//! are checked here too, because some names belong to the specification.

use serde::Deserialize;

use crate::driver::OpenError;

/// The metric that a host writes to ask for a birth.
pub(in crate::driver::mqtt) const REBIRTH: &str = "Node Control/Rebirth";

/// The metric that joins a death to its birth.
pub(in crate::driver::mqtt) const BDSEQ: &str = "bdSeq";

/// The maximum length of a group, node, device or host name, in bytes. Three of them are a topic.
const MAX_NAME: usize = 256;

/// The key `sparkplug`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The group of the node.
    pub group: String,
    /// The name of the node, unique in its group.
    pub node: String,
    /// The device that has the metrics. Without it, the node itself has them.
    pub device: Option<String>,
    /// The primary host. Nothing is sent while it is absent.
    pub primary_host: Option<String>,
}

impl Config {
    /// Checks the names, which become levels of topics.
    pub(in crate::driver::mqtt) fn check(&self) -> Result<(), OpenError> {
        let names = [
            ("group", Some(&self.group)),
            ("node", Some(&self.node)),
            ("device", self.device.as_ref()),
            ("primary_host", self.primary_host.as_ref()),
        ];
        for (key, name) in names {
            let is_wrong = |c: char| "/+#".contains(c) || c.is_control();
            if name.is_some_and(|name| {
                !(1..=MAX_NAME).contains(&name.len()) || name.contains(is_wrong)
            }) {
                let (key, found) = (format!("sparkplug.{key}"), format!("{name:?}"));
                return Err(OpenError::new(key, found, "a name without /, + and #"));
            }
        }
        Ok(())
    }

    /// The topic of a message of this sort ('N' or 'D') from or to the node, or its device if it
    /// has one.
    pub(super) fn topic(&self, sort: char, verb: &str) -> String {
        let Self { group, node, device, .. } = self;
        let device = device.as_ref().filter(|_| sort == 'D').map(|device| format!("/{device}"));
        format!("spBv1.0/{group}/{sort}{verb}/{node}{}", device.unwrap_or_default())
    }

    /// The sort of message that carries the metrics: 'D' with a device, 'N' without.
    pub(super) fn sort(&self) -> char {
        if self.device.is_some() { 'D' } else { 'N' }
    }

    /// The topic of the primary host's STATE, if there is a primary host.
    pub(super) fn state_topic(&self) -> Option<String> {
        self.primary_host.as_ref().map(|host| format!("spBv1.0/STATE/{host}"))
    }
}

/// Whether a metric may have this name: it is not empty, and the specification has not taken it.
pub(in crate::driver::mqtt) fn is_free(metric: &str) -> bool {
    !metric.is_empty() && metric != BDSEQ && metric != REBIRTH
}
