//! What the status shows of the parts of a device: units on a bus, a session with a broker.
//!
//! A driver's thread writes it at any time. The daemon reads it when a client asks for the status.
//! The scan does not use it: a value that programs need is an ordinary input.

use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use super::watchdog::Watchdog;
use crate::text::is_or_are;

/// One part of a device, as the status shows it.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Part {
    /// The name of the part, unique in the device.
    pub name: String,
    /// Whether the part works as it should.
    pub ok: bool,
    /// The state of the part in a few words, such as `online`.
    pub state: String,
    /// Counters and measured values, in the order in which they are shown. Each name ends with its
    /// unit, such as `rtt_p50_us`. In JSON they are one object.
    #[serde(with = "object")]
    pub facts: Vec<(String, f64)>,
}

/// Serializes a list of pairs as an object, in the order of the list.
mod object {
    use std::fmt;

    use serde::de::{Deserializer, MapAccess, Visitor};
    use serde::ser::Serializer;

    pub(super) fn serialize<S: Serializer>(
        facts: &[(String, f64)],
        to: S,
    ) -> Result<S::Ok, S::Error> {
        to.collect_map(facts.iter().map(|(name, value)| (name, value)))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Vec<(String, f64)>, D::Error> {
        struct Facts;
        impl<'de> Visitor<'de> for Facts {
            type Value = Vec<(String, f64)>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("names with numbers")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut facts = Vec::new();
                while let Some(fact) = map.next_entry()? {
                    facts.push(fact);
                }
                Ok(facts)
            }
        }
        from.deserialize_map(Facts)
    }
}

/// A view of a device's parts and of its watchdog. Clones share both.
#[derive(Debug, Clone, Default)]
pub struct Monitor {
    /// The device's thread writes, the daemon reads.
    parts: Arc<Mutex<Vec<Part>>>,
    /// The scan and the device's thread write what happens, the daemon reads. When the process
    /// ends, the daemon writes that no output is to hold.
    watchdog: Arc<Watchdog>,
}

impl Monitor {
    pub(super) fn new(watchdog: &Arc<Watchdog>) -> Self {
        Self { parts: Arc::default(), watchdog: Arc::clone(watchdog) }
    }

    /// The parts, as the device's thread set them last. While the scan stands, it is listed as one
    /// more part.
    pub fn parts(&self) -> Vec<Part> {
        let parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner).clone();
        parts.into_iter().chain(self.stall()).collect()
    }

    /// The device's watchdog on the scan.
    pub fn watchdog(&self) -> &Watchdog {
        &self.watchdog
    }

    /// The part that stands for the scan, while the scan stands.
    fn stall(&self) -> Option<Part> {
        self.watchdog.is_tripped().then(|| {
            let (outputs, missing) = (self.watchdog.outputs(), self.watchdog.missing());
            let state = match (outputs, missing) {
                (0, _) => "stands".to_owned(),
                (_, 0) => "stands; outputs are safe and confirmed".to_owned(),
                _ => {
                    let are = is_or_are(missing);
                    format!("stands; outputs are made safe, {missing} {are} not yet CONFIRMED")
                }
            };
            let trips = self.watchdog.trips() as f64;
            let facts = [("safe_outputs", outputs as f64), ("unconfirmed", missing as f64)];
            let facts = facts.into_iter().chain([("stalls", trips)]);
            let facts = facts.map(|(name, count)| (name.to_owned(), count)).collect();
            Part { name: "scan".into(), ok: false, state, facts }
        })
    }

    /// Replaces the parts. The device's thread calls this.
    pub(super) fn set(&self, parts: Vec<Part>) {
        *self.parts.lock().unwrap_or_else(PoisonError::into_inner) = parts;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_are_an_object_in_their_order() {
        let facts = vec![("requests".to_owned(), 3.0), ("load_percent".to_owned(), 0.5)];
        let part = Part { name: "u".into(), ok: true, state: "online".into(), facts };
        let text = serde_json::to_string(&part).unwrap();
        assert!(text.ends_with(r#""facts":{"requests":3.0,"load_percent":0.5}}"#), "{text}");
        assert_eq!(serde_json::from_str::<Part>(&text).unwrap(), part);
    }
}
