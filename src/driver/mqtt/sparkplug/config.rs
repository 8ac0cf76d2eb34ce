//! The key `sparkplug`: the names of the edge node. These names are parts of its topics.
//!
//! `sparkplug.rs` sends the messages on these topics. The metrics are configured in the keys
//! `publish` and `at`. This file also checks the names of metrics, because the specification
//! reserves some names.

use serde::Deserialize;

use crate::driver::OpenError;

/// The name of the metric that a host writes to request a birth.
pub(in crate::driver::mqtt) const REBIRTH: &str = "Node Control/Rebirth";

/// The name of the metric whose number is equal in the NDEATH and each NBIRTH of one connection.
pub(in crate::driver::mqtt) const BDSEQ: &str = "bdSeq";

/// The maximum length of a group, node, device or host name, in bytes. A topic contains up to three
/// of these names.
const MAX_NAME: usize = 256;

/// The keys of the table `sparkplug`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The name of the group that the node belongs to.
    pub group: String,
    /// The name of the node, unique in its group.
    pub node: String,
    /// The name of the Sparkplug device that has the metrics. `None` if the node has the metrics.
    pub device: Option<String>,
    /// The name of the primary host. The client sends nothing while this host is offline.
    pub primary_host: Option<String>,
}

impl Config {
    /// Checks the names, because each name becomes one level of a topic.
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
                return Err(OpenError::new(
                    key,
                    found,
                    format!("a name of 1 to {MAX_NAME} bytes without /, + and #"),
                ));
            }
        }
        Ok(())
    }

    /// Returns the topic for a kind of message. `sort` is 'N' for the node and 'D' for its device.
    /// Example: `spBv1.0/plant/NDATA/plc1`.
    pub(super) fn topic(&self, sort: char, verb: &str) -> String {
        let Self { group, node, device, .. } = self;
        let device = device.as_ref().filter(|_| sort == 'D').map(|device| format!("/{device}"));
        format!("spBv1.0/{group}/{sort}{verb}/{node}{}", device.unwrap_or_default())
    }

    /// Returns 'D' if a device has the metrics, and 'N' if the node has them.
    pub(super) fn sort(&self) -> char {
        if self.device.is_some() { 'D' } else { 'N' }
    }

    /// Returns the topic of the STATE messages of the primary host, if one is configured.
    pub(super) fn state_topic(&self) -> Option<String> {
        self.primary_host.as_ref().map(|host| format!("spBv1.0/STATE/{host}"))
    }
}

/// Whether a metric may have this name: it is not empty, and the specification does not reserve
/// this name.
pub(in crate::driver::mqtt) fn is_free(metric: &str) -> bool {
    !metric.is_empty() && metric != BDSEQ && metric != REBIRTH
}
