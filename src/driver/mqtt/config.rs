//! The keys of a `[[device]]` that is a broker.
//!
//! What they may be, together and alone, is checked in `plan.rs` and `broker.rs`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use super::publish::Text;
use super::sparkplug;
use crate::driver::duration;

/// A `[[device]]` of this driver.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// `mqtt://host:port`, or `mqtts://` for TLS.
    pub connect: String,
    /// Our name; of two clients with the same one the broker throws one out.
    pub client_id: String,
    /// Who we are, if the broker asks.
    pub username: Option<String>,
    /// What proves it: the first line of this file.
    pub password_file: Option<PathBuf>,
    /// Whom to believe: certificates in PEM.
    pub ca: Option<PathBuf>,
    /// Our own certificate, if the broker asks.
    pub cert: Option<PathBuf>,
    /// Its private key.
    pub key: Option<PathBuf>,
    /// After so long without a word we ask whether the broker is there, and after as long again
    /// without an answer it is not. It waits half as long again for us (MQTT 5, 3.1.2.10). If it
    /// wants another time when it welcomes us, that counts.
    #[serde(default = "half_a_minute", with = "duration")]
    pub keep_alive: Duration,
    /// The longest that a connection takes to begin, and then the answer to a subscription.
    #[serde(default = "five_seconds", with = "duration")]
    pub connect_timeout: Duration,
    /// What the broker says when it loses us.
    pub will: Option<Message>,
    /// What we say first.
    pub birth: Option<Message>,
    /// Speak Sparkplug B instead of topics of one's own.
    pub sparkplug: Option<sparkplug::Config>,
    /// What is shown.
    #[serde(default)]
    pub publish: Vec<Publication>,
    /// How each command is heard.
    #[serde(default)]
    pub at: BTreeMap<String, At>,
}

fn half_a_minute() -> Duration {
    Duration::from_secs(30)
}

fn five_seconds() -> Duration {
    Duration::from_secs(5)
}

/// A fixed message.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Message {
    /// Where.
    pub topic: String,
    /// What.
    pub payload: String,
    /// At most once, or at least once.
    #[serde(default = "one")]
    pub qos: u8,
    /// Whether the broker keeps it for those who come later.
    #[serde(default)]
    pub retain: bool,
}

fn one() -> u8 {
    1
}

/// A value to be shown. Without `every` it is said when it changes.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Publication {
    /// Of the point or variable.
    pub name: String,
    /// Where; not with Sparkplug.
    pub topic: Option<String>,
    /// Its name in Sparkplug, if that is another.
    pub metric: Option<String>,
    /// At most once, or at least once.
    pub qos: Option<u8>,
    /// Whether the broker keeps it for those who come later.
    pub retain: Option<bool>,
    /// How it is written.
    pub payload: Option<Text>,
    /// A number has changed when it differs by more than this.
    pub deadband: Option<f64>,
    /// It is not said more often than this.
    #[serde(default, deserialize_with = "duration::some")]
    pub min_interval: Option<Duration>,
    /// It is said again after this, changed or not.
    #[serde(default, deserialize_with = "duration::some")]
    pub refresh: Option<Duration>,
    /// It is said so often, and not when it changes.
    #[serde(default, deserialize_with = "duration::some")]
    pub every: Option<Duration>,
}

/// The key `at` of a point.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct At {
    /// Where commands to it are heard; not with Sparkplug.
    pub topic: Option<String>,
    /// Its name in Sparkplug, if that is another.
    pub metric: Option<String>,
    /// At most once, or at least once.
    pub qos: Option<u8>,
    /// How long a command counts: from the instant that its sender gives it, and without one from
    /// when it came.
    #[serde(with = "duration")]
    pub expires: Duration,
    /// Whether a message counts that the broker has kept, which may be from last year. One that
    /// has been here does not count again.
    pub retained: Option<bool>,
}

impl Config {
    /// Relative paths count from this folder.
    pub(crate) fn settle(&mut self, folder: &Path) {
        let files = [&mut self.password_file, &mut self.ca, &mut self.cert, &mut self.key];
        for file in files.into_iter().flatten() {
            *file = folder.join(&*file);
        }
    }
}
