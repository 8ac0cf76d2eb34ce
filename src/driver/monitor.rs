//! The parts of a device that the status shows, for example the Modbus units on a bus or the
//! session with an MQTT broker.
//!
//! ```text
//!   device's thread --set--> Monitor <--parts-- daemon <-- `camshaft status`
//!   scan, device's thread --> Watchdog <--stall-- daemon
//! ```
//! The device's thread updates the parts at any time. The daemon reads the parts when a client asks
//! for the status. The scan does not use the parts. Therefore programs cannot read them; a value
//! that programs need must be an input.

use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use super::watchdog::Watchdog;
use crate::text::is_or_are;

/// One part of a device, as the status shows it.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Part {
    /// The name of the part. No other part of the device has this name.
    pub name: String,
    /// Whether the part works without trouble.
    pub ok: bool,
    /// The state of the part in a few words, such as `online`.
    pub state: String,
    /// The counters and measured values, in the order in which the status shows them. The name of a
    /// measured value ends with its unit, such as `rtt_p50_us`. In JSON, the list is one object,
    /// and these names are its keys.
    #[serde(with = "object")]
    pub facts: Vec<(String, f64)>,
}

/// Serializes a list of pairs as a JSON object, in the order of the list.
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
                f.write_str("an object in which all values are numbers")
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

/// A view of a device's parts and of its watchdog. All clones share the same parts and watchdog.
#[derive(Debug, Clone, Default)]
pub struct Monitor {
    /// The parts. The device's thread writes the parts; the daemon reads them.
    parts: Arc<Mutex<Vec<Part>>>,
    /// The watchdog. The scan and the device's thread write their state into the watchdog; the
    /// daemon reads the state. When the process ends, the daemon tells the watchdog to end all hold
    /// times.
    watchdog: Arc<Watchdog>,
}

impl Monitor {
    pub(super) fn new(watchdog: &Arc<Watchdog>) -> Self {
        Self { parts: Arc::default(), watchdog: Arc::clone(watchdog) }
    }

    /// Returns the parts that the device's thread has set last. While the scan is stalled, the list
    /// has an additional part with the name `scan`.
    pub fn parts(&self) -> Vec<Part> {
        let parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner).clone();
        parts.into_iter().chain(self.stall()).collect()
    }

    /// The watchdog with which the device supervises the scan.
    pub fn watchdog(&self) -> &Watchdog {
        &self.watchdog
    }

    /// Makes the additional part that reports a stalled scan; `None` if the scan is not stalled.
    fn stall(&self) -> Option<Part> {
        self.watchdog.is_tripped().then(|| {
            let (outputs, missing) = (self.watchdog.outputs(), self.watchdog.missing());
            let state = match (outputs, missing) {
                (0, _) => "stalled".to_owned(),
                (_, 0) => "stalled; outputs are safe and confirmed".to_owned(),
                _ => {
                    let are = is_or_are(missing);
                    format!(
                        "stalled; outputs are being made safe, of which {missing} {are} not yet \
                         CONFIRMED"
                    )
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
