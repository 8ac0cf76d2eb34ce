//! Who an edge node is: the key `sparkplug`, and the names that its topics are made of.
//!
//! What is said on them is in `sparkplug.rs`. Which metrics there are stands in other keys, whose
//! names are looked at here as well: some are the specification's own.

use serde::Deserialize;

use crate::driver::OpenError;

/// The metric that is written to ask for a birth.
pub(in crate::driver::mqtt) const REBIRTH: &str = "Node Control/Rebirth";

/// The metric that joins a death to its birth.
pub(in crate::driver::mqtt) const BDSEQ: &str = "bdSeq";

/// The longest name of a node and the like, in bytes: three of them are a topic.
const MAX_NAME: usize = 256;

/// The key `sparkplug`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The group that the node is in.
    pub group: String,
    /// The node, unique in its group.
    pub node: String,
    /// The device whose metrics they are; without it they are the node's own.
    pub device: Option<String>,
    /// The host without which nothing is said.
    pub primary_host: Option<String>,
}

impl Config {
    /// The names become levels of topics.
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

    /// The topic of a message of this sort from or to the node, or its device if it has one.
    pub(super) fn topic(&self, sort: char, verb: &str) -> String {
        let Self { group, node, device, .. } = self;
        let device = device.as_ref().filter(|_| sort == 'D').map(|device| format!("/{device}"));
        format!("spBv1.0/{group}/{sort}{verb}/{node}{}", device.unwrap_or_default())
    }

    /// The sort of message that the metrics are in.
    pub(super) fn sort(&self) -> char {
        if self.device.is_some() { 'D' } else { 'N' }
    }

    pub(super) fn state_topic(&self) -> Option<String> {
        self.primary_host.as_ref().map(|host| format!("spBv1.0/STATE/{host}"))
    }
}

/// Whether a metric may have this name: it has one, and not one that the specification has taken.
pub(in crate::driver::mqtt) fn is_free(metric: &str) -> bool {
    !metric.is_empty() && metric != BDSEQ && metric != REBIRTH
}
